"""Whose fault an error in a search is: one of ours comes out, whatever it is.

After an error of the data, the parameters or a function of the user's, a search goes on
as scikit-learn's does: one fit at a time.
"""

import re
import threading
import time
import warnings

import numpy as np
import pytest
from conftest import TASKS, X, Y, small
from joblib import parallel_config
from search_cases import (
    CLASSIFIER,
    REGRESSOR,
    SPACE,
    assert_same_results,
    both,
    error_of,
    search_of,
)
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchRegressor

y, labels = Y[:, 0], TASKS["three classes"][1]

# Ours

STEPWISE = {f"minibatchregressor__{name}": values for name, values in SPACE.items()}
EARLY = small(MiniBatchRegressor, early_stopping=True)
SEARCHED = {
    "candidates": lambda: search_of(REGRESSOR),
    "a pipeline": lambda: search_of(
        make_pipeline(StandardScaler(), REGRESSOR), STEPWISE
    ),
    "early stopping": lambda: search_of(EARLY),
    "halving": lambda: both("halving grid", REGRESSOR, SPACE)[0],
    "two workers": lambda: search_of(REGRESSOR, n_jobs=2),
}
INNER = [
    "skgd._search.stacks._effect",
    "skgd._search.stacks._shape",
    "skgd._search.stacks._outcomes",
    "skgd._estimators.fits.data_of",
    "skgd._estimators.fits.train",
    "skgd._estimators.fits.read_state",
    "skgd._estimators.fits.record_epochs_",
    "skgd._estimators.fits.attributes_of_state",
    "skgd._estimators.base.warn_of_ending",
    "skgd._training.loop.bind_epochs",
    "skgd._training.loop.judge",
    "skgd._training.in_turn.bind_compiled",
    "skgd._training.scalars.learning_rates",
    "skgd._estimators.predictions.raw_prediction",
]


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, TypeError])
@pytest.mark.parametrize("inner", INNER)
def test_an_error_of_ours_is_raised(inner, kind, monkeypatch):
    """It is no reason to fit one at a time, nor a fit that has failed."""

    def broken(*args, **kwargs):
        raise kind("planted")

    monkeypatch.setattr(inner, broken)
    assert error_of(search_of(REGRESSOR), X, y) == (kind, "planted")


@pytest.mark.parametrize("searched", SEARCHED.values(), ids=SEARCHED)
@pytest.mark.parametrize(
    "inner", ["skgd._estimators.fits.train", "skgd._search.stacks._outcomes"]
)
def test_an_error_of_ours_is_raised_whatever_is_searched(inner, searched, monkeypatch):
    """In any kind of search, from its workers as well."""

    def broken(*args, **kwargs):
        raise ValueError("planted")

    monkeypatch.setattr(inner, broken)
    threads = threading.active_count()
    with parallel_config("threading"):
        assert error_of(searched(), X, y) == (ValueError, "planted")
    until = time.monotonic() + 10  # those that are left set the filters of warnings
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.01)


# Theirs


class Refuses(Exception):
    """An error that no one knows."""


def fails_later(t):
    if t > 3:
        raise Refuses("at step 4")
    return 1.0


def scores_not(model, rows, targets):
    raise KeyError("no score")


class Breaks(TransformerMixin, BaseEstimator):
    """A step of a pipeline that fails."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        raise RuntimeError("no columns")


STEPS = {"minibatchregressor__lr": [0.1, 0.01]}
THEIRS = {
    "a schedule raises": (REGRESSOR, {"lr_schedule": ["constant", fails_later]}, y),
    "a schedule is no number": (REGRESSOR, {"lr_schedule": [lambda t: "a"]}, y),
    "a scorer raises": (EARLY, {"scoring": ["loss", scores_not]}, y),
    "a scorer gives text": (EARLY, {"scoring": ["r2", lambda *args: "a"]}, y),
    "a scorer gives no number": (EARLY, {"scoring": [lambda *args: np.nan]}, y),
    "a metric for a scorer": (EARLY, {"scoring": ["r2", accuracy_score]}, y),
    "a step raises": (make_pipeline(Breaks(), REGRESSOR), STEPS, y),
    "too few rows to hold out": (EARLY, {"validation_fraction": [0.01, 0.1]}, y),
    "targets below 0": (REGRESSOR, {"loss": ["poisson", "huber"]}, y),
    "unknown classes": (CLASSIFIER, {"class_weight": [{9: 1}, None]}, labels),
    "no device": (REGRESSOR, {"device": ["cuda:99", "cpu"]}, y),
    "divergence": (REGRESSOR, {"optimizer": ["sgd", "adam"], "lr": [1e200]}, y),
}


def fits_that_failed(search, target):
    """Fit a search, and return how many fits failed, in its words."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        texts = []
        try:
            search.fit(X, target)
        except ValueError as error:  # all of them
            texts = [str(error)]
    texts += [str(warning.message) for warning in told]
    return [word for text in texts for word in re.findall(r"\d+ fits failed", text)]


@pytest.mark.parametrize("error_score", [np.nan, -7.0])
@pytest.mark.parametrize(("model", "space", "target"), THEIRS.values(), ids=THEIRS)
def test_an_error_of_theirs_is_scikit_learns_to_handle(
    model, space, target, error_score
):
    """Fits that fail have error_score, and the others are what they are."""
    pair = both("grid", model, space, refit=False, error_score=error_score)
    failed = [fits_that_failed(search, target) for search in pair]
    assert failed[0] == failed[1] != []
    if hasattr(pair[1], "cv_results_"):
        assert_same_results(*pair)


@pytest.mark.parametrize(("model", "space", "target"), THEIRS.values(), ids=THEIRS)
def test_an_error_of_theirs_is_raised_as_it_is(model, space, target):
    """With error_score="raise", of the same type and words as from scikit-learn's."""
    pair = both("grid", model, space, refit=False, error_score="raise")
    kinds = [error_of(search, X, target) for search in pair]
    assert kinds[0] == kinds[1]


def test_a_callback_that_raises_leaves_its_candidates_to_single_fits():
    """It looks at epochs of stacks, which scikit-learn's search has not."""

    class Raises:
        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch":
                raise Refuses("an epoch")

        def on_fit_task_end(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

    search = search_of(REGRESSOR).set_callbacks(Raises()).fit(X, y)
    assert_same_results(search, search_of(REGRESSOR).fit(X, y))
    [group] = search.groups_
    assert (group.together, group.reason) == (False, "Refuses: an epoch")


def test_warnings_that_are_errors_fail_the_fit_that_warns():
    """A fit that has not settled has then failed, and no other one."""
    for search in both("grid", small(MiniBatchRegressor, tol=1e-9), SPACE):
        search.set_params(error_score="raise")
        with pytest.raises(ConvergenceWarning):  # pytest makes them errors
            search.fit(X, y)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_stack_without_memory_names_what_to_lower(error, monkeypatch):
    """It is the caller's to say how much memory a stack may take."""

    def exhausted(*args, **kwargs):
        raise error

    monkeypatch.setattr("skgd._estimators.fits.train", exhausted)
    with pytest.raises(MemoryError, match="max_bytes"):
        search_of(REGRESSOR).fit(X, y)
