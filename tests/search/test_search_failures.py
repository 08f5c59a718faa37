"""What fails in a search, and what is said of it.

Where a test has two searches, the second is scikit-learn's, of the same arguments.
"""

import re
from collections import Counter

import numpy as np
import pytest
from conftest import WEIGHT, X, small
from search_cases import (
    CLASSIFIER,
    DIVERGES,
    REGRESSOR,
    SEARCHES,
    SPACE,
    assert_same_results,
    assert_same_search,
    assert_trained,
    both,
    error_of,
    every_halving,
    every_search,
    labels,
    search_of,
    warnings_of,
    y,
)
from sklearn.base import BaseEstimator
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit

from skgd import MiniBatchRegressor


def told_of(caught):
    """Return what warnings tell of fits that fail, but for where the error was."""
    lines = "\n".join(text for _, text in caught).splitlines()
    return [line for line in lines if re.search(r"fits failed|set to|non-finite", line)]


@every_search
def test_fits_that_fail_are_told_once(kind):
    """One that diverges gets error_score, a warning that counts, and the last rank."""
    model = small(MiniBatchRegressor, optimizer="sgd")
    space = {"lr": [0.01, 1e6, 0.001], "shuffle": [True, False]}
    pair = both(kind, model, space)
    caught = [warnings_of(search, X, y) for search in pair]
    assert_same_search(*pair)
    assert told_of(caught[0]) == told_of(caught[1])
    assert caught[0][0][0] is FitFailedWarning
    assert "ValueError: Training diverged in epoch" in caught[0][0][1]
    results = pair[0].cv_results_
    failed = results["param_lr"] == 1e6
    assert np.isnan(results["mean_test_score"][failed]).all()
    assert np.isfinite(results["mean_test_score"][~failed]).all()
    last = results["rank_test_score"][failed]
    assert (last == last.max()).all()
    assert results["rank_test_score"][~failed].max() < last.min()
    assert pair[0].best_params_["lr"] != 1e6


@pytest.mark.parametrize("bad", [{"lr": [0.01, 1e6]}, {"lr": [0.01, -1.0]}])
def test_a_score_for_fits_that_fail(bad):
    """error_score takes the place of their scores, of every metric."""
    model = small(MiniBatchRegressor, optimizer="sgd")
    for scoring in (None, ["r2", "neg_mean_absolute_error"], "a function"):
        settings = {"scoring": scoring, "refit": False, "error_score": -7.5}
        if scoring == "a function":
            settings["scoring"] = lambda model, rows, targets: {"one": 1, "two": 2}
        pair = both("grid", model, bad, return_train_score=True, **settings)
        for search in pair:
            message = r"2 fits failed out of a total of 4(.|\n)*set to -7\.5"
            with pytest.warns(FitFailedWarning, match=message):
                search.fit(X, y)
        assert_same_results(*pair)
        for key, values in pair[0].cv_results_.items():
            if key.startswith("split"):
                assert values[1] == -7.5
        assert pair[0].cv_results_["mean_score_time"][1] == 0


def test_candidates_of_bad_values_leave_the_others_together():
    """Only they are fitted one at a time, for the error that scikit-learn reports."""
    search, other = both("grid", REGRESSOR, {"lr": [0.1, -1.0, 0.01]})
    caught = [warnings_of(one, X, y) for one in (search, other)]
    assert caught[0] == caught[1]
    assert "The 'lr' parameter of MiniBatchRegressor must be" in caught[0][0][1]
    groups = {tuple(group.candidates): group for group in search.groups_}
    assert groups[0, 2].together
    assert groups[0, 2].reason == ""
    assert not groups[1,].together
    assert groups[1,].reason.startswith("a parameter is")


def test_scores_that_fail_are_nan():
    """A scorer that raises, or gives NaN, for some models: the others have scores."""

    def raises(model, rows, targets):
        if model.lr > 0.05:
            raise ValueError("no score for this one")
        return 1.0

    def gives_nan(model, rows, targets):
        return np.nan if model.lr > 0.05 else 1.0

    for scoring in (raises, gives_nan):
        pair = both("grid", REGRESSOR, SPACE, scoring=scoring, return_train_score=True)
        caught = [warnings_of(search, X, y) for search in pair]
        categories = [Counter(category for category, _ in some) for some in caught]
        assert categories[0] == categories[1]
        assert told_of(caught[0]) == told_of(caught[1]) != []
        assert_same_search(*pair)
        bad = pair[0].cv_results_["param_lr"] == 0.1
        assert pair[0].cv_results_["rank_test_score"][bad].tolist() == [3, 3]
        assert_trained(pair[0], together=True)


def test_models_that_have_not_settled_are_counted():
    """One ConvergenceWarning has their number, and the last fit one of its own."""
    search, other = both("grid", small(MiniBatchRegressor, tol=1e-9), SPACE)
    told = [text for _, text in warnings_of(search, X, y)]
    assert len(told) == 2
    assert "Of 8 models, 8 stopped after max_iter epochs" in told[0]
    assert told[1].startswith("Training stopped after max_iter=3 epochs")
    assert len(warnings_of(other, X, y)) == 4 * 2 + 1


class NoScore(BaseEstimator):
    """What can be fitted, and nothing else."""

    def fit(self, X, y=None):
        return self


class Uncertain(KFold):
    """Says another number of folds than it has."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 2


def bad_metric(model, rows, targets):
    """Return a score by name."""
    return {"one": 1.0}


TWO = {"scoring": {"acc": "accuracy", "rec": "recall"}}
FAULTS = {
    "no such parameter": ({"no_such": [1]}, {}),
    "no such parameter of a step": ({"lr__deep": [1]}, {}),
    "a number": ({"lr": 0.1}, {}),
    "no value": ({"lr": []}, {}),
    "a text": ({"lr": "0.1"}, {}),
    "a matrix": ({"lr": np.ones((3, 2))}, {}),
    "no dict": ([{"lr": [0.1]}, 0], {}),
    "neither dict nor list": (0, {}),
    "no grids": ([], {}),
    "no folds": (SPACE, {"cv": []}),
    "uncertain folds": (SPACE, {"cv": Uncertain(3)}),
    "one fold": (SPACE, {"cv": 1}),
    "too many folds": (SPACE, {"cv": 1000}),
    "no such scoring": (SPACE, {"scoring": "no_such"}),
    "no such metric": (SPACE, {"scoring": ["no_such"], "refit": False}),
    "metrics twice": (SPACE, {"scoring": ["r2", "r2"], "refit": "r2"}),
    "no metrics": (SPACE, {"scoring": [], "refit": False}),
    "no metric to refit": (SPACE, {**TWO, "refit": True}),
    "the wrong metric to refit": (SPACE, {**TWO, "refit": "recall"}),
    "no such key": (SPACE, {"scoring": bad_metric, "refit": "two"}),
    "no key": (SPACE, {"scoring": bad_metric}),
    "a text for a score": (SPACE, {"scoring": lambda model, rows, targets: "good"}),
    "an index too large": (SPACE, {"refit": lambda results: 4}),
    "an index too small": (SPACE, {"refit": lambda results: -1}),
    "no index": (SPACE, {"refit": lambda results: None}),
    "all fits are refused": ({"lr": [-1.0, -2.0]}, {}),
    "all fits are refused and scored": ({"lr": [-1.0]}, {"error_score": 0.0}),
    "raise": ({"lr": [0.1, -1.0]}, {"error_score": "raise"}),
    "n_jobs": (SPACE, {"n_jobs": "two"}),
    "refit": (SPACE, {"refit": 3.5}),
    "cv": (SPACE, {"cv": "five"}),
    "verbose": (SPACE, {"verbose": -1}),
    "pre_dispatch": (SPACE, {"pre_dispatch": 1.5}),
    "error_score": (SPACE, {"error_score": "zero"}),
    "return_train_score": (SPACE, {"return_train_score": "yes"}),
    "scoring": (SPACE, {"scoring": 3}),
}


@pytest.mark.parametrize(("space", "settings"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_told_in_scikit_learns_words(space, settings):
    """The error has the type and the message of GridSearchCV's."""
    search, other = both("grid", CLASSIFIER, space, **settings)
    assert error_of(search, X, labels) == error_of(other, X, labels)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("random", {"n_iter": 0}),
        ("random", {"random_state": "zero"}),
        ("halving grid", {"factor": 0}),
        ("halving grid", {"resource": 1}),
        ("halving grid", {"max_resources": 0}),
        ("halving grid", {"max_resources": "all"}),
        ("halving grid", {"min_resources": "few"}),
        ("halving grid", {"aggressive_elimination": "yes"}),
        ("halving grid", {"scoring": ["r2"]}),
        ("halving random", {"n_candidates": 0}),
        ("halving random", {"n_candidates": "all"}),
        ("halving grid", {"resource": "no_such"}),
        ("halving random", {"resource": "lr", "max_resources": 100}),
        ("halving grid", {"max_resources": "auto"}),
        ("halving grid", {"min_resources": 15, "max_resources": 14}),
        ("halving grid", {"cv": KFold(shuffle=True)}),
        ("halving random", {"cv": ShuffleSplit()}),
        ("halving random", {"n_candidates": "exhaust", "min_resources": "exhaust"}),
        ("halving grid", {"resource": "n_samples", "max_resources": 3}),
    ],
    ids=str,
)
def test_what_is_wrong_with_other_searches_is_told_likewise(kind, settings):
    """The parameters of drawing and of halving are checked as scikit-learn's."""
    search, other = both(kind, CLASSIFIER, SPACE, **settings)
    kind_of_error, message = error_of(search, X, labels)
    assert (kind_of_error, message) == error_of(other, X, labels)
    assert issubclass(kind_of_error, ValueError)


DATA_FAULTS = {
    "more targets": (CLASSIFIER, (X, labels[:50])),
    "no targets": (CLASSIFIER, (X,)),
    "NaN everywhere": (CLASSIFIER, (X * np.nan, labels)),
    "text": (CLASSIFIER, (np.full((60, 2), "a"), labels)),
    "continuous labels": (CLASSIFIER, (X, y)),
    "NaN for targets": (REGRESSOR, (X, y * np.nan)),
    "one class": (CLASSIFIER, (X, np.zeros(60, int))),
    "no rows": (REGRESSOR, (np.empty((0, 3)), [])),
    "no score": (NoScore(), (X, y)),
    "no estimator": ("model", (X, y)),
    "a class": (MiniBatchRegressor, (X, y)),
}


@pytest.mark.parametrize(("estimator", "data"), DATA_FAULTS.values(), ids=DATA_FAULTS)
def test_what_is_wrong_with_data_is_told_in_scikit_learns_words(estimator, data):
    """The error has the type and the message of GridSearchCV's, traces included."""
    searches = [cls(estimator, {}, cv=2) for cls in SEARCHES["grid"][:2]]
    assert error_of(searches[0], *data) == error_of(searches[1], *data)


@every_halving
def test_halving_needs_rows(kind):
    """No rows are too few."""
    settings = {"resource": "n_samples", "min_resources": "smallest"}
    search = both(kind, CLASSIFIER, SPACE, max_resources="auto", **settings)[0]
    with pytest.raises(ValueError, match="you might have passed an empty dataset X"):
        search.fit(np.empty((0, 3)), [])


def test_all_that_diverge_is_an_error():
    """No model is left to choose from, and the message says what happened."""
    for settings in ({}, {"error_score": 0.0}):
        search = search_of(REGRESSOR, DIVERGES, **settings)
        message = r"All the 2 fits failed(.|\n)*ValueError: Training diverged in epoch"
        with pytest.raises(ValueError, match=message):
            search.fit(X, y)
    search.set_params(error_score="raise")
    with pytest.raises(ValueError, match=r"^Training diverged in epoch"):
        search.fit(X, y)


def test_weights_that_are_none_are_told():
    """Too few, negative ones and NaN are refused in the words of a fit."""
    for weight in (WEIGHT[:50], -WEIGHT, np.full(60, np.nan)):
        search, other = both("grid", CLASSIFIER, SPACE)
        weights = {"sample_weight": weight}
        assert error_of(search, X, labels, **weights) == error_of(
            other, X, labels, **weights
        )


@pytest.mark.parametrize("max_bytes", [0, -1, True, "x", 1.5, np.nan])
@every_search
def test_max_bytes_is_a_number_of_bytes(kind, max_bytes):
    """Anything else is refused by name, and before anything is trained."""
    search = both(kind, REGRESSOR, SPACE)[0].set_params(max_bytes=max_bytes)
    message = "The 'max_bytes' parameter of .* must be .* Got "
    with pytest.raises(ValueError, match=message + re.escape(repr(max_bytes))):
        search.fit(X, y)


@pytest.mark.parametrize("max_bytes", [1, np.int64(5000), 10**9])
def test_max_bytes_changes_no_score(max_bytes):
    """Stacks may be cut to single models, or not at all."""
    space = {"lr": [0.001, 0.01, 0.1], "random_state": [0, 1]}
    whole = search_of(REGRESSOR, space, cv=3).fit(X, y)
    cut = search_of(REGRESSOR, space, cv=3).set_params(max_bytes=max_bytes).fit(X, y)
    assert_same_results(whole, cut)


def test_a_search_that_failed_before_can_be_put_right():
    """It keeps nothing of a fit that raised."""
    search = search_of(REGRESSOR, {"lr": [-1.0]})
    with pytest.raises(ValueError, match="All the 2 fits failed"):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")
    search.set_params(param_grid=SPACE).fit(X, y)
    assert_same_search(search, GridSearchCV(REGRESSOR, SPACE, cv=KFold(2)).fit(X, y))


def fails_at_a_step(t):
    """Raise what no estimator of ours would."""
    raise KeyError("no such step")


def test_any_error_of_a_candidate_is_its_own():
    """A schedule that raises fails its candidates, and groups_ says what it raised."""
    space = {"lr_schedule": ["constant", fails_at_a_step]}
    search, other = both("grid", REGRESSOR, space, refit=False)
    for one in (search, other):
        with (
            pytest.warns(FitFailedWarning, match="2 fits failed"),
            pytest.warns(UserWarning, match="non-finite"),
        ):
            one.fit(X, y)
    assert_same_results(search, other)
    together, apart = search.groups_
    assert (together.together, together.candidates) == (True, [0])
    assert apart.reason == "KeyError: 'no such step'"
