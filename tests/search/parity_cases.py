"""The searches say what scikit-learn's say, over the same estimator, grid and folds.

Each comparison fits both, and asserts as well how the candidates were trained: together
where they can be, for fits one at a time are scikit-learn's own.
"""

import re
import warnings
from copy import deepcopy

import numpy as np
import pandas as pd
from conftest import TASKS, X, Y, small
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
)

y, LABELS, THREE = Y[:, 0], TASKS["two classes"][1], TASKS["three classes"][1]
SEVERAL_LABELS = (Y.mean(0) < Y).astype(int)
LR = {"lr": [0.01, 0.05]}

# Folds of 51 and 52 rows to train on have as many batches of most sizes: they make one
# stack. One of 40 rows does not belong to it.
PAIR = list(KFold(7).split(X))[3:5]
UNEQUAL = [*PAIR, (np.arange(20, 60), np.arange(20))]

ORACLES = {
    VectorizedGridSearchCV: GridSearchCV,
    VectorizedRandomizedSearchCV: RandomizedSearchCV,
    VectorizedHalvingGridSearchCV: HalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV: HalvingRandomSearchCV,
}

# In float64: a stack sums in another order than a model alone, no more.
TOLERANCE = 1e-8

# What scikit-learn says where fits fail: how many, and that scores are nan.
FAILED = {FitFailedWarning, UserWarning}


def regressor(**params):
    """Return a regressor that stops for want of progress, if at all."""
    return small(MiniBatchRegressor, **{"lr_schedule": "constant", **params})


def classifier(**params):
    """Return such a classifier."""
    return small(MiniBatchClassifier, **{"lr_schedule": "constant", **params})


def likelihood(estimator, X, y, sample_weight=None):
    """Return the mean log-likelihood of the labels, a score without jumps."""
    log_p = estimator.predict_log_proba(X)
    of_labels = log_p[np.arange(len(y)), np.searchsorted(estimator.classes_, y)]
    return np.average(of_labels, weights=sample_weight)


def caught(run):
    """Return what a call gives, and its warnings: their kinds and first lines."""
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        result = run()
    return result, {
        (record.category, str(record.message).strip().splitlines()[0])
        for record in records
    }


def without_convergence(warned):
    """Return warnings but for those that our search sums up in one."""
    return {(kind, text) for kind, text in warned if kind is not ConvergenceWarning}


def compared(
    estimator,
    grid,
    X,
    y,
    *,
    search=VectorizedGridSearchCV,
    apart="",
    warns=frozenset(),
    tolerance=TOLERANCE,
    fit_params=None,
    max_bytes=None,
    **params,
):
    """Return our search, fitted, having asserted that it says what the oracle says.

    ``apart`` is how the reason begins why all candidates are fitted one at a time, ""
    if they are trained together, or None if the caller asserts this. ``warns`` are the
    kinds of warnings that may come.
    """
    params = {"cv": 2, **params}
    ours = search(clone(estimator), grid, max_bytes=max_bytes, **deepcopy(params))
    theirs = ORACLES[search](clone(estimator), grid, **deepcopy(params))
    fit_params = fit_params or {}
    _, expected = caught(lambda: theirs.fit(X, y, **fit_params))
    _, got = caught(lambda: ours.fit(X, y, **fit_params))
    assert without_convergence(got) == without_convergence(expected)
    assert {kind for kind, _ in without_convergence(got)} <= set(warns)
    if "Halving" not in search.__name__:  # which warns of its last iteration
        settled = without_convergence(got) == got
        assert settled == (without_convergence(expected) == expected)
    assert_same_search(ours, theirs, X, tolerance)
    evaluated = [number for group in ours.groups_ for number in group.candidates]
    assert sorted(evaluated) == list(range(len(ours.cv_results_["params"])))
    for group in ours.groups_:
        assert bool(group.reason) != group.together
        if apart is not None:
            assert group.together == (not apart), group
            assert group.reason.startswith(apart)
    return ours


def assert_same_search(ours, theirs, X, tolerance=TOLERANCE):
    """Assert that two fitted searches say the same, but for times and rounding."""
    close = {"rtol": tolerance, "atol": tolerance}
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, expected in theirs.cv_results_.items():
        got = ours.cv_results_[name]
        assert type(got) is type(expected)
        if name == "params":
            assert got == expected
            continue
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        if name.startswith("param_"):
            assert np.array_equal(got.mask, expected.mask)
            assert got.compressed().tolist() == expected.compressed().tolist()
        elif name.endswith("_time"):
            assert (got >= 0).all()
        elif name.startswith("rank_"):
            means = theirs.cv_results_[name.replace("rank", "mean")]
            assert_same_ranks(got, expected, means, tolerance)
        else:
            np.testing.assert_allclose(got, expected, err_msg=name, **close)
    added = {"groups_", "loss_curves_"}
    assert fitted_names(ours) == fitted_names(theirs) | added
    properties = {"n_features_in_", "classes_"}
    for name in fitted_names(theirs) | properties:
        assert hasattr(ours, name) == hasattr(theirs, name), name
    told_apart = {"cv_results_", "best_estimator_", "scorer_", "refit_time_"}
    for name in (fitted_names(theirs) | properties) - told_apart:
        if name == "best_score_":
            np.testing.assert_allclose(ours.best_score_, theirs.best_score_, **close)
        elif hasattr(theirs, name):
            np.testing.assert_equal(getattr(ours, name), getattr(theirs, name), name)
    assert kinds_of(ours.scorer_) == kinds_of(theirs.scorer_)
    if hasattr(theirs, "best_estimator_"):
        assert type(ours.best_estimator_) is type(theirs.best_estimator_)
        for method in ("predict", "decision_function", "predict_proba"):
            assert hasattr(ours, method) == hasattr(theirs, method)
            if hasattr(theirs, method):
                assert_same_values(getattr(ours, method)(X), getattr(theirs, method)(X))


def fitted_names(search):
    """Return the names of the public fitted attributes."""
    names = {name for name in vars(search) if re.fullmatch(r"[a-z]\w*_", name)}
    return names - {"callbacks_"}


def kinds_of(scorer):
    """Return the kind of a scorer, or of each of several."""
    if isinstance(scorer, dict):
        return {name: type(one) for name, one in scorer.items()}
    return type(scorer)


def assert_same_ranks(got, expected, means, tolerance):
    """Assert that ranks are the same, but among means that differ by rounding only."""
    if not np.array_equal(got, expected):
        means = np.nan_to_num(means, nan=np.nanmin(means) - 1)[np.argsort(got)]
        assert (np.diff(means) <= tolerance * np.maximum(1, abs(means[1:]))).all()


def assert_same_values(got, expected):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)
    else:
        assert np.array_equal(got, expected)


def scores_of(search):
    """Return the scores of the splits, (candidates, splits)."""
    results = search.cv_results_
    splits = range(search.n_splits_)
    return np.transpose([results[f"split{n}_test_score"] for n in splits])


POSITIVE = np.exp((y - y.mean()) / 3)

GROUPS = np.repeat([0, 1, 2, 3], [5, 10, 15, 30])


def slow_start(t):
    """Return a factor of the learning rate that grows with the step."""
    return min(1.0, t / 10)


COUNTS = sparse.random(60, 12, density=0.3, format="csr", random_state=0)
FRAME = pd.DataFrame(X, columns=list("abcd"), index=np.arange(60)[::-1] * 2)


def scaled(model, **params):
    """Return a pipeline of a scaler and the model."""
    return Pipeline([("scale", StandardScaler()), ("model", model)], **params)


LR_OF_MODEL = {f"model__{name}": values for name, values in LR.items()}


def accuracy(estimator, X, y):
    """Return the share of right labels."""
    return float(np.mean(estimator.predict(X) == y))
