"""Searches to compare: our four and scikit-learn's, their data and their words."""

import re
import warnings
from itertools import chain

import numpy as np
import pytest
from conftest import TASKS, X, Y, small
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
)

from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
)

y = Y[:, 0]
two_classes, three_classes = TASKS["two classes"][1], TASKS["three classes"][1]
labels = (two_classes == "yes").astype(int)
GROUPS = np.arange(len(X)) % 5

REGRESSOR, CLASSIFIER = small(MiniBatchRegressor), small(MiniBatchClassifier)
SPACE = {"lr": [0.001, 0.1], "alpha": [0.0, 0.1]}
DIVERGES = {"optimizer": ["sgd"], "lr": [1e6]}

HALVING = {"resource": "max_iter", "max_resources": 6, "factor": 2, "random_state": 0}
SEARCHES = {
    "grid": (VectorizedGridSearchCV, GridSearchCV, {}),
    "random": (
        VectorizedRandomizedSearchCV,
        RandomizedSearchCV,
        {"n_iter": 4, "random_state": 0},
    ),
    "halving grid": (VectorizedHalvingGridSearchCV, HalvingGridSearchCV, HALVING),
    "halving random": (
        VectorizedHalvingRandomSearchCV,
        HalvingRandomSearchCV,
        {**HALVING, "n_candidates": 4},
    ),
}
every_search = pytest.mark.parametrize("kind", SEARCHES)
every_halving = pytest.mark.parametrize("kind", ["halving grid", "halving random"])


def both(kind, estimator, space, **params):
    """Return our search and scikit-learn's of the same arguments, of two folds."""
    ours, theirs, own = SEARCHES[kind]
    params = {"cv": KFold(2), **own, **params}
    return ours(estimator, space, **params), theirs(clone(estimator), space, **params)


def search_of(estimator, space=SPACE, **params):
    """Return our search of a grid, of two folds."""
    return both("grid", estimator, space, **params)[0]


def fit_both(kind, estimator, space, *data, fit_params=None, **params):
    """Return both searches of the same arguments, fitted to the same data."""
    pair = both(kind, estimator, space, **params)
    return tuple(search.fit(*data, **(fit_params or {})) for search in pair)


def assert_same_results(search, other, rtol=1e-8):
    """Assert that two searches have the same cv_results_ but for times."""
    results, others = search.cv_results_, other.cv_results_
    assert list(results) == list(others)
    for key, values in results.items():
        expected = others[key]
        assert type(values) is type(expected), key
        if key == "params":
            assert list(map(repr, values)) == list(map(repr, expected))
            continue
        assert (values.dtype, values.shape) == (expected.dtype, expected.shape), key
        if isinstance(values, np.ma.MaskedArray):
            assert np.array_equal(values.mask, expected.mask)
            pair = [list(map(repr, one.compressed())) for one in (values, expected)]
            assert pair[0] == pair[1], key
        elif not key.endswith("_time"):
            np.testing.assert_allclose(values, expected, rtol, 1e-12, err_msg=key)


def assert_same_search(search, other):
    """Assert that two searches have found the same, and predict the same."""
    assert_same_results(search, other)
    for name in vars(other):
        if name.endswith("_") and not name.startswith("_"):
            assert hasattr(search, name), name
    assert search.best_params_ == other.best_params_
    assert search.best_index_ == other.best_index_
    if hasattr(other, "best_score_"):
        assert search.best_score_ == pytest.approx(other.best_score_, rel=1e-8)
    assert search.n_splits_ == other.n_splits_
    assert search.multimetric_ is other.multimetric_
    if hasattr(other, "best_estimator_"):
        assert type(search.best_estimator_) is type(other.best_estimator_)
        assert np.array_equal(search.predict(X), other.predict(X))


def assert_trained(search, together):
    """Assert that all candidates were trained so, each in one group."""
    assert {group.together for group in search.groups_} == {together}
    places = sorted(chain.from_iterable(group.candidates for group in search.groups_))
    assert places == list(range(len(search.cv_results_["params"])))


def words_of(text):
    """Return a text in which our searches are called like scikit-learn's.

    Addresses of objects and numbers of lines are left out.
    """
    return re.sub(r"0x\w+|line \d+", "", str(text).replace("Vectorized", ""))


def error_of(search, *data, **fit_params):
    """Return the type and the words of the error of a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            search.fit(*data, **fit_params)
        except Exception as error:
            return type(error), words_of(error)
    raise AssertionError("nothing was raised")


def warnings_of(search, *data, **fit_params):
    """Fit a search, and return the categories and the words of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(*data, **fit_params)
    return [(one.category, words_of(one.message)) for one in caught]


MANY = {"lr": np.logspace(-3, -1, 5).tolist(), "alpha": [0.0, 0.1]}
