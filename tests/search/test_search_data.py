"""Data in any container, and pipelines.

Where a test has two searches, the second is scikit-learn's, of the same arguments.
"""

import warnings
from copy import deepcopy

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import RAW, WEIGHT, X, frozen, global_state
from search_cases import (
    CLASSIFIER,
    REGRESSOR,
    SPACE,
    assert_same_results,
    assert_same_search,
    assert_trained,
    both,
    every_search,
    fit_both,
    labels,
    search_of,
    two_classes,
    y,
)
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

import skgd._search.stacks

# Data and their containers

CONTAINERS = {
    "lists": (X.tolist(), labels.tolist()),
    "frames": (pd.DataFrame(X, columns=list("abcd")), pd.Series(labels)),
    "frames of another index": (
        pd.DataFrame(X, index=range(160, 100, -1)),
        pd.Series(labels, index=range(160, 100, -1)),
    ),
    "csr": (scipy.sparse.csr_array(X * (X > 0)), labels),
    "csc": (scipy.sparse.csc_array(X * (X > 0)), labels),
    "coo": (scipy.sparse.coo_array(X * (X > 0)), labels),
    "float32": (X.astype(np.float32), labels.astype(np.int8)),
    "Fortran order": (np.asfortranarray(X), labels),
    "strides": (np.repeat(X, 2, axis=0)[::2], np.repeat(labels, 2)[::2]),
    "integers": ((10 * X).astype(int), labels),
    "a column": (X, labels.reshape(-1, 1)),
    "texts": (X, two_classes.astype(object)),
}


@pytest.mark.parametrize(("rows", "targets"), CONTAINERS.values(), ids=CONTAINERS)
def test_data_come_in_any_container(rows, targets):
    """The search cuts it like scikit-learn's, and does not modify it."""
    before = deepcopy((rows, targets))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A column-vector y was passed")
        search, other = fit_both("grid", CLASSIFIER, SPACE, rows, targets)
    rtol = 1e-8 if getattr(rows, "dtype", None) != np.float32 else 1e-6
    assert_same_results(search, other, rtol)
    assert search.best_params_ == other.best_params_
    assert np.array_equal(search.predict(rows), other.predict(rows))
    assert_trained(search, together=True)
    for now, then in zip((rows, targets), before, strict=True):
        if scipy.sparse.issparse(now):
            now, then = now.toarray(), then.toarray()
        assert frozen(np.asarray(now)) == frozen(np.asarray(then))


def test_rows_of_tensors():
    """A tensor is cut like an array."""
    rows = torch.from_numpy(X)
    search = search_of(CLASSIFIER).fit(rows, labels)
    assert_same_results(search, search_of(CLASSIFIER).fit(X, labels))
    assert_trained(search, together=True)


def test_read_only_data(tmp_path):
    """Arrays that cannot be written to, and maps of a file, are searched alike."""
    expected = search_of(REGRESSOR).fit(X, y, sample_weight=WEIGHT)
    fixed = [array.copy() for array in (X, y, WEIGHT)]
    for array in fixed:
        array.setflags(write=False)
    joblib.dump([X, y, WEIGHT], tmp_path / "data.joblib")
    mapped = joblib.load(tmp_path / "data.joblib", mmap_mode="r")
    assert isinstance(mapped[0], np.memmap)
    for rows, targets, weight in (fixed, mapped):
        search = search_of(REGRESSOR).fit(rows, targets, sample_weight=weight)
        assert_same_results(search, expected, rtol=0)


@every_search
def test_nothing_that_is_given_is_changed(kind):
    """Data, weights, the estimator and the space stay as they are."""
    model, space = clone(CLASSIFIER), deepcopy(SPACE)
    given = [array.copy() for array in (X, labels, WEIGHT)]
    before = [frozen(array) for array in given]
    search = both(kind, model, space)[0]
    params = frozen(search.get_params(deep=False) | {"estimator": None})
    search.fit(given[0], given[1], sample_weight=given[2])
    assert [frozen(array) for array in given] == before
    assert search.estimator is model
    assert frozen(vars(model)) == frozen(vars(CLASSIFIER))
    assert space == SPACE
    assert frozen(search.get_params(deep=False) | {"estimator": None}) == params


@every_search
def test_the_process_is_left_as_it_was(kind):
    """No generator, thread count, handler or setting differs after a search."""
    search = both(kind, REGRESSOR, {"random_state": [0, 1], "lr": [0.1, 0.2]})[0]
    search.fit(X, y)  # which imports what is imported late
    before = global_state()
    search.fit(X, y)
    assert global_state() == before


def test_a_random_state_is_drawn_from_as_in_scikit_learn():
    """A RandomState of the search goes on; one of the estimator is cloned."""
    pairs = []
    for number in range(2):
        state = np.random.RandomState(0)
        search = both("random", REGRESSOR, SPACE, random_state=state)[number]
        search.fit(X, y)
        pairs.append((search, frozen(state)))
    assert_same_search(pairs[0][0], pairs[1][0])
    assert pairs[0][1] == pairs[1][1]


@pytest.mark.parametrize(
    "container",
    [list, pd.DataFrame, torch.from_numpy, lambda X: (X * 100).astype(int)],
    ids=["list", "frame", "tensor", "ints"],
)
def test_rows_are_checked_once_for_all_splits(container, monkeypatch):
    """No split gets a copy of X, whatever holds it."""
    joined = []
    from_engine = skgd._estimators.fits.train

    def noting(data, *args):
        joined.append(data.x.shape[0])
        return from_engine(data, *args)

    monkeypatch.setattr("skgd._estimators.fits.train", noting)
    search, _ = both("grid", REGRESSOR, SPACE, refit=False, cv=KFold(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ints are not standardised
        search.fit(container(X), y)
    assert joined == [len(X)]
    assert_trained(search, together=True)


# Pipelines


class Sees(TransformerMixin, BaseEstimator):
    """Notes down what it is given."""

    seen = []  # noqa: RUF012

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y=None):
        self.seen.append(("fit", type(X), len(X), type(y)))
        self.n_rows_ = len(X)
        return self

    def transform(self, X):
        self.seen.append(("transform", type(X), len(X), None))
        return self.factor * X


def test_frames_pass_through_to_the_steps():
    """A step before the last is fitted once a fold and setting, to frames of rows."""
    frame, column = pd.DataFrame(X, columns=list("abcd")), pd.Series(y)
    pipeline = Pipeline([("see", Sees()), ("model", clone(REGRESSOR))])
    space = {"see__factor": [1.0, 2.0], "model__lr": [0.001, 0.01, 0.1]}
    Sees.seen.clear()
    search = search_of(pipeline, space, cv=KFold(3), refit=False).fit(frame, column)
    fits = [call for call in Sees.seen if call[0] == "fit"]
    assert fits == [("fit", pd.DataFrame, 40, pd.Series)] * (2 * 3)
    assert {call[1] for call in Sees.seen} == {pd.DataFrame}
    assert_trained(search, together=True)
    other = GridSearchCV(pipeline, space, cv=KFold(3), refit=False).fit(frame, column)
    assert_same_results(search, other)


class Doubles(TransformerMixin, BaseEstimator):
    """Learns nothing, and has nothing fitted to show for it."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return 2 * X


def test_steps_that_learn_nothing():
    """A transformer without fitted attributes does not part the candidates."""
    pipeline = make_pipeline(StandardScaler(), Doubles(), clone(CLASSIFIER))
    space = {"minibatchclassifier__lr": [0.01, 0.1]}
    search, other = fit_both("grid", pipeline, space, RAW, labels)
    assert_same_search(search, other)
    assert_trained(search, together=True)


def mixed_frame():
    """Return a frame with a column of texts and holes in the numbers."""
    frame = pd.DataFrame(RAW.copy(), columns=list("abcd"))  # pandas 2 would share it
    frame.loc[::7, "a"] = np.nan
    frame["e"] = np.where(X[:, 0] > 0, "left", "right")
    return frame


def test_a_whole_pipeline_is_searched():
    """Parameters of any step, steps themselves, and columns by name are searched."""
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list("abcd")),
            (
                "texts",
                FunctionTransformer(lambda some: (some == "left").astype(float)),
                ["e"],
            ),
        ]
    )
    pipeline = Pipeline([("columns", columns), ("model", clone(CLASSIFIER))])
    space = {
        "columns__numbers__simpleimputer__strategy": ["mean", "median"],
        "columns__numbers__standardscaler": [StandardScaler(), MinMaxScaler()],
        "model__lr": [0.01, 0.1],
    }
    frame = mixed_frame()
    search, other = fit_both("grid", pipeline, space, frame, labels)
    assert_same_results(search, other)
    assert repr(search.best_params_) == repr(other.best_params_)
    assert np.array_equal(search.predict(frame), other.predict(frame))
    assert search.feature_names_in_.tolist() == list("abcde")
    assert search.n_features_in_ == 5
    assert_trained(search, together=True)
    for step in space["columns__numbers__standardscaler"]:
        assert not hasattr(step, "n_features_in_")  # the grid's own is not fitted
    found = search.cv_results_["param_columns__numbers__standardscaler"]
    assert found.dtype == object
    assert not any(hasattr(step, "n_features_in_") for step in found)


@every_search
def test_last_steps_are_searched(kind):
    """Estimators in a grid are cloned, and set up by parameters of the same grid."""
    pipeline = Pipeline([("scale", StandardScaler()), ("model", None)])
    models = [clone(CLASSIFIER), LogisticRegression()]
    space = [{"model": models}, {"model": [models[0]], "model__lr": [0.1]}]
    if kind.startswith("halving"):
        space = {"model": [models[0]], "model__lr": [0.1, 0.01]}
        pipeline.set_params(model=clone(CLASSIFIER))
    own = {"resource": "model__max_iter"} if kind.startswith("halving") else {}
    own |= {"n_candidates": 2} if kind == "halving random" else {}
    own |= {"n_iter": 3} if kind == "random" else {}
    search, other = fit_both(
        kind, pipeline, space, RAW, labels, scoring="accuracy", **own
    )
    assert_same_results(search, other)
    assert vars(models[0]) == vars(CLASSIFIER)
    assert not hasattr(models[1], "coef_")
    assert search.best_estimator_[-1] is not models[0]


def test_fit_parameters_of_steps():
    """Weights for the last step are cut by fold, others get what is theirs."""
    pipeline = Pipeline([("scale", StandardScaler()), ("model", clone(REGRESSOR))])
    space = {"model__lr": [0.01, 0.1]}
    for names in (["model"], ["scale"], ["model", "scale"]):
        weights = {f"{name}__sample_weight": WEIGHT for name in names}
        pair = fit_both("grid", pipeline, space, RAW, y, fit_params=weights)
        assert_same_search(*pair)
        assert_trained(pair[0], together=True)


def test_a_search_inside_a_pipeline():
    """A search is a last step like another, and sees transformed rows."""
    search, other = both("grid", CLASSIFIER, SPACE)
    pair = [
        make_pipeline(StandardScaler(), one).fit(RAW, labels) for one in (search, other)
    ]
    assert_same_results(pair[0][-1], pair[1][-1])
    assert np.array_equal(pair[0].predict(RAW), pair[1].predict(RAW))
    assert np.array_equal(pair[0].predict_proba(RAW), pair[1].predict_proba(RAW))


def test_names_of_columns_are_those_of_the_best():
    """feature_names_in_ is there for frames only."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    search = search_of(REGRESSOR).fit(frame, y)
    assert search.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        search.predict(frame[["b", "a", "c", "d"]])
    assert not hasattr(search_of(REGRESSOR).fit(X, y), "feature_names_in_")


def test_transformers_may_give_frames():
    """With set_output of pandas the last step sees names, of the folds too."""
    seen = []

    def names(model, rows, targets):
        seen.append(model[-1].feature_names_in_.tolist())
        return model.score(rows, targets)

    pipeline = Pipeline([("scale", StandardScaler()), ("model", clone(REGRESSOR))])
    frame = pd.DataFrame(RAW, columns=list("abcd"))
    with config_context(transform_output="pandas"):
        pair = fit_both("grid", pipeline, {"model__lr": [0.01, 0.1]}, frame, y)
        search = search_of(pipeline, {"model__lr": [0.01, 0.1]}, scoring=names)
        search.fit(frame, y)
        assert_same_results(*pair)
        assert np.array_equal(pair[0].predict(frame), pair[1].predict(frame))
    assert seen == [list("abcd")] * 4
    assert search.best_estimator_[-1].feature_names_in_.tolist() == list("abcd")
