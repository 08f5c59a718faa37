"""The searches as their users see them: scikit-learn's promises, and our own.

Where a test has two searches, the second is scikit-learn's, of the same arguments.
"""

import os
import pickle
import re
import signal
import threading
import time
import tracemalloc
import warnings
import weakref
from collections import Counter
from copy import deepcopy
from itertools import chain, count, pairwise

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import (
    RAW,
    TASKS,
    WEIGHT,
    X,
    Y,
    every_class,
    every_task,
    fitted_state,
    frozen,
    global_state,
    small,
)
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import ThreadingBackend
from scipy.stats import loguniform, randint, uniform
from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    TransformerMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.callback import ProgressBar
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import (
    ConvergenceWarning,
    FitFailedWarning,
    NotFittedError,
    UnsetMetadataPassedError,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    make_scorer,
    mean_absolute_error,
    r2_score,
    recall_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    LeaveOneGroupOut,
    LeavePGroupsOut,
    ParameterGrid,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_interrupts import interrupted_at, some_moments
from torch.utils._python_dispatch import TorchDispatchMode

import skgd._search.stacks
from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
    WeightTrajectory,
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
every_sampling = pytest.mark.parametrize("kind", ["random", "halving random"])


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


# What a search has found


@every_search
@every_class
def test_a_search_has_what_scikit_learns_has(kind, cls):
    """Every fitted attribute is there, of the same type, with the same numbers."""
    search, other = fit_both(kind, small(cls), SPACE, X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=True)
    added = {"groups_", "loss_curves_", "max_bytes"}
    assert set(vars(search)) - set(vars(other)) == added
    for name in set(vars(other)) - {"best_estimator_", "cv", "_checked_cv_orig"}:
        assert type(getattr(search, name)) is type(getattr(other, name)), name
    assert search.refit_time_ >= 0


@every_search
def test_results_are_named_and_typed(kind):
    """Parameters are masked arrays of their kind; scores are float64, ranks int32."""
    space = {"lr": [0.001, 0.1], "early_stopping": [True], "batch_size": [7, 20]}
    search = both(kind, CLASSIFIER, space, return_train_score=True)[0]
    results = search.fit(X, labels).cv_results_
    kinds = {"lr": "f", "early_stopping": "b", "batch_size": "i"}
    for name, letter in kinds.items():
        assert type(results[f"param_{name}"]) is np.ma.MaskedArray
        assert results[f"param_{name}"].dtype.kind == letter
    assert results["rank_test_score"].dtype == np.int32
    scores = [
        f"{name}_{part}_score"
        for name in ("split0", "split1", "mean", "std")
        for part in ("test", "train")
    ]
    times = [
        f"{name}_{part}_time" for name in ("mean", "std") for part in ("fit", "score")
    ]
    for key in scores + times:
        assert type(results[key]) is np.ndarray
        assert results[key].dtype == np.float64
        assert (results[key] >= 0).all()
    assert type(results["params"]) is list


def test_parameters_that_a_grid_of_the_list_lacks_are_masked():
    """Each candidate has values of its own grid only."""
    grids = [{"lr": [0.001, 0.1], "momentum": [0.5]}, {"alpha": [0.1]}, {}]
    search, other = fit_both(
        "grid", small(MiniBatchRegressor, optimizer="sgd"), grids, X, y
    )
    assert_same_search(search, other)
    masks = {
        name: search.cv_results_[f"param_{name}"].mask.tolist()
        for name in ("lr", "momentum", "alpha")
    }
    assert masks["lr"] == masks["momentum"] == [False, False, True, True]
    assert masks["alpha"] == [True, True, False, True]
    assert search.cv_results_["params"][3] == {}
    assert_trained(search, together=True)


@every_sampling
def test_distributions_of_the_list_are_masked(kind):
    """A drawn candidate has values of the distributions it was drawn from."""
    spaces = [
        {"lr": loguniform(1e-3, 1e-1), "early_stopping": [False]},
        {"alpha": uniform(0, 1), "batch_size": [7, 20]},
    ]
    search, other = fit_both(kind, REGRESSOR, spaces, X, y)
    assert_same_search(search, other)
    results = search.cv_results_
    assert np.array_equal(results["param_lr"].mask, ~results["param_alpha"].mask)


def test_values_of_a_grid_may_be_anything():
    """Tuples, None, texts and lists of unlike length stay as they are."""
    space = [
        {"hidden_layer_sizes": [(), (3,), (3, 2), [2]], "random_state": [0]},
        {"class_weight": [None, "balanced", {0: 1.0, 1: 2.0}], "batch_size": [None, 7]},
        {"activation": ["tanh", np.str_("relu")], "lr": [np.float32(0.1), 1]},
    ]
    search, other = fit_both("grid", CLASSIFIER, space, X, labels)
    assert_same_search(search, other)
    assert search.cv_results_["param_hidden_layer_sizes"].dtype == object
    assert search.cv_results_["param_hidden_layer_sizes"][2] == (3, 2)
    assert_trained(search, together=True)


def test_seeds_may_be_searched_none_included():
    """None is a seed like another, and stays None among the parameters."""
    search = search_of(REGRESSOR, {"random_state": [0, None, 1]}).fit(X, y)
    assert search.cv_results_["param_random_state"].tolist() == [0, None, 1]
    assert_trained(search, together=True)


def test_a_range_and_an_array_are_grids():
    """Values may come in any sequence of one dimension."""
    space = {"max_iter": range(1, 4), "lr": np.array([0.001, 0.1])}
    assert_same_search(*fit_both("grid", REGRESSOR, space, X, y))


@pytest.mark.parametrize("kind", ["grid", "random"])
def test_one_candidate_is_a_search_too(kind):
    """The best of one is that one, fitted to all rows."""
    own = {} if kind == "grid" else {"n_iter": 1}
    search, other = fit_both(kind, REGRESSOR, {"lr": [0.01]}, X, y, **own)
    assert_same_search(search, other)
    assert fitted_state(search.best_estimator_) == fitted_state(
        small(MiniBatchRegressor, lr=0.01).fit(X, y)
    )


def test_the_empty_grid_is_the_estimator_itself():
    """It has one candidate without parameters."""
    search, other = fit_both("grid", CLASSIFIER, {}, X, labels)
    assert_same_search(search, other)
    assert search.cv_results_["params"] == [{}]


def test_ties_have_the_same_rank():
    """Candidates of the same score share the better rank, and the first is best."""
    space = {"lr": [1e-9, 0.1, 0.1]}
    search, other = fit_both("grid", REGRESSOR, space, X, y, return_train_score=True)
    assert_same_search(search, other)
    assert search.cv_results_["rank_test_score"].tolist() == [3, 1, 1]
    assert search.best_index_ == 1
    for key in ("split0_test_score", "split1_train_score"):
        assert search.cv_results_[key][1] == search.cv_results_[key][2]


@pytest.mark.parametrize("seed", range(5))
def test_parameters_without_effect_tie(seed):
    """Candidates that are the same model share a rank, and the first is best."""
    space = {"momentum": [0.5, 0.6, 0.7, 0.8, 0.9]}  # which Adam has none of
    cv = KFold(3, shuffle=True, random_state=seed)
    search, other = fit_both(
        "grid", small(MiniBatchRegressor, lr=0.1), space, X, y, cv=cv
    )
    assert_same_search(search, other)
    assert search.cv_results_["rank_test_score"].tolist() == [1] * 5


def test_means_do_not_weight_the_folds():
    """Mean and deviation over unequal folds are plain ones."""
    few = np.arange(60) < 15
    cv = [(few, ~few), (np.flatnonzero(~few), np.flatnonzero(few))]
    search, other = fit_both(
        "grid", CLASSIFIER, SPACE, X, labels, cv=cv, return_train_score=True
    )
    assert_same_search(search, other)
    results = search.cv_results_
    for part in ("test", "train"):
        splits = [results[f"split{n}_{part}_score"] for n in range(2)]
        np.testing.assert_allclose(results[f"mean_{part}_score"], np.mean(splits, 0))
        np.testing.assert_allclose(results[f"std_{part}_score"], np.std(splits, 0))


def test_train_scores_are_there_if_asked_for():
    """Without return_train_score no key has the word."""
    results = search_of(REGRESSOR).fit(X, y).cv_results_
    assert not [key for key in results if "train" in key]


@every_sampling
def test_a_seed_repeats_the_draws(kind):
    """The same random_state draws the same candidates; another one, others."""
    space = {"lr": loguniform(1e-3, 1e-1), "batch_size": randint(4, 9)}
    first, other = fit_both(kind, REGRESSOR, space, X, y)
    assert_same_search(first, other)
    again = clone(first).fit(X, y)
    assert again.cv_results_["params"] == first.cv_results_["params"]
    assert again.best_score_ == first.best_score_
    again.set_params(random_state=1).fit(X, y)
    assert again.cv_results_["params"] != first.cv_results_["params"]


def test_more_draws_than_there_are_warn():
    """A space of lists is searched whole, with scikit-learn's warning."""
    search = both("random", REGRESSOR, SPACE, n_iter=9)[0]
    with pytest.warns(UserWarning, match="parameters 4 is smaller than n_iter=9"):
        search.fit(X, y)
    found = search.cv_results_["params"]
    assert len(found) == 4
    assert all(params in found for params in ParameterGrid(SPACE))


class Once:
    """Folds that are given once, and never again."""

    def __init__(self, n_splits):
        self.n_splits, self.splits = n_splits, iter(KFold(n_splits).split(X))

    def split(self, X=None, y=None, groups=None):
        yield from self.splits

    def get_n_splits(self, X=None, y=None, groups=None):
        return self.n_splits


SPLITTERS = {
    "a number": lambda: 3,
    "None": lambda: None,
    "a generator": lambda: KFold(3, shuffle=True, random_state=0).split(X),
    "a list": lambda: list(KFold(3).split(X)),
    "given once": lambda: Once(3),
    "shuffled": lambda: ShuffleSplit(2, test_size=0.3, random_state=0),
    "stratified": lambda: StratifiedKFold(2),
    "stratified and shuffled": lambda: StratifiedShuffleSplit(2, random_state=0),
}


@pytest.mark.parametrize("splitter", SPLITTERS.values(), ids=SPLITTERS)
def test_folds_are_what_cv_gives(splitter):
    """Any splitter is asked once, and all candidates see the same folds."""
    search = search_of(CLASSIFIER, cv=splitter()).fit(X, labels)
    other = GridSearchCV(CLASSIFIER, SPACE, cv=splitter()).fit(X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=True)


def test_folds_without_a_seed_are_the_same_for_all_candidates():
    """Two candidates of the same numbers have the same scores on shuffled folds."""
    cv = KFold(3, shuffle=True)
    search = search_of(REGRESSOR, {"lr": [0.1, 0.01, 0.1]}, cv=cv).fit(X, y)
    for n in range(3):
        first, _, last = search.cv_results_[f"split{n}_test_score"]
        assert first == pytest.approx(last, rel=1e-10)


GROUP_SPLITTERS = [
    ("grid", LeaveOneGroupOut()),
    ("grid", LeavePGroupsOut(2)),
    ("grid", GroupShuffleSplit(2, random_state=0)),
    ("random", GroupKFold(3)),
    ("halving grid", GroupKFold(2)),
    ("halving random", GroupKFold(2)),
]


@pytest.mark.parametrize(("kind", "cv"), GROUP_SPLITTERS, ids=str)
def test_groups_reach_the_splitter(kind, cv):
    """Without them a splitter of groups raises, as ever."""
    pair = both(kind, REGRESSOR, SPACE, cv=cv)
    for search in pair:
        with pytest.raises(ValueError, match="'groups' parameter should not be None"):
            search.fit(X, y)
        search.fit(X, y, groups=GROUPS)
    assert_same_search(*pair)


@pytest.mark.parametrize(("cls", "target"), TASKS.values(), ids=TASKS)
def test_every_task_is_searched(cls, target):
    """Two targets, texts for labels, and more classes than two are no other case."""
    space = {"lr": [0.001, 0.1], "hidden_layer_sizes": [(), (3,)]}
    assert_same_search(*fit_both("grid", small(cls), space, X, target))


def test_several_labels_are_searched():
    """Targets of 0 and 1, a column for each label, are scored as rows."""
    several = np.column_stack([labels, X[:, 0] > 0]).astype(int)
    assert_same_search(*fit_both("grid", CLASSIFIER, SPACE, X, several))


def test_times_are_shares_of_the_time_of_all():
    """They are not negative, and sum up to no more than the search took."""
    began = time.perf_counter()
    search = search_of(REGRESSOR).fit(X, y)
    spent = time.perf_counter() - began
    results = search.cv_results_
    parts = [results[f"mean_{part}_time"] for part in ("fit", "score")]
    assert (np.array(parts) > 0).all()
    assert 2 * np.sum(parts) + search.refit_time_ < spent


# Scores


def absolute_error(model, rows, targets):
    """Return a score that is best at 0."""
    return -mean_absolute_error(targets, model.predict(rows))


def several_numbers(model, rows, targets):
    """Return several scores by name."""
    predicted = model.predict(rows)
    (tn, fp), (fn, tp) = confusion_matrix(targets, predicted, labels=[0, 1])
    return {"tn": tn, "fp": fp, "fn": fn, "tp": tp, "accuracy": (tn + tp) / len(rows)}


SCORINGS = {
    "a word": ({"scoring": "roc_auc"}, False),
    "a scorer": ({"scoring": make_scorer(accuracy_score)}, False),
    "a function": ({"scoring": absolute_error}, False),
    "a list": ({"scoring": ["accuracy", "recall"], "refit": "recall"}, True),
    "a tuple": ({"scoring": ("accuracy", "neg_log_loss"), "refit": False}, True),
    "a dict": (
        {"scoring": {"auc": "roc_auc", "mae": absolute_error}, "refit": "mae"},
        True,
    ),
    "a function of several": ({"scoring": several_numbers, "refit": "fp"}, True),
}


@pytest.mark.parametrize(("settings", "several"), SCORINGS.values(), ids=SCORINGS)
def test_a_search_scores_by_what_it_is_given(settings, several):
    """Every form of scoring gives the same keys, scorer_ and score()."""
    search, other = fit_both("grid", CLASSIFIER, SPACE, X, labels, **settings)
    assert_same_results(search, other)
    assert search.multimetric_ is other.multimetric_ is several
    assert words_of(search.scorer_) == words_of(other.scorer_)
    if settings.get("refit", True):
        assert_same_search(search, other)
        assert search.score(X, labels) == pytest.approx(other.score(X, labels))
    else:
        assert not hasattr(search, "best_index_")


def test_several_metrics_are_those_of_as_many_searches():
    """A metric has the numbers that a search by it alone has."""
    names = ["accuracy", "recall"]
    together = search_of(CLASSIFIER, scoring=names, refit="recall").fit(X, labels)
    for name in names:
        alone = search_of(CLASSIFIER, scoring=name).fit(X, labels)
        for key, values in alone.cv_results_.items():
            if key.endswith("_score"):
                as_one_of = together.cv_results_[key.replace("_score", f"_{name}")]
                assert np.array_equal(values, as_one_of)
    assert together.best_params_ == alone.best_params_
    assert together.best_score_ == alone.best_score_
    assert together.score(X, labels) == alone.score(X, labels)


def test_a_function_scores_like_the_word():
    """One metric, or several, are the same by name and by function."""

    def recall(model, rows, targets):
        return recall_score(targets, model.predict(rows))

    def recalls(model, rows, targets):
        return {"recall": recall(model, rows, targets), "one": 1}

    word = search_of(CLASSIFIER, scoring="recall").fit(X, labels)
    function = search_of(CLASSIFIER, scoring=recall).fit(X, labels)
    several = search_of(CLASSIFIER, scoring=recalls, refit="recall").fit(X, labels)
    assert word.best_index_ == function.best_index_ == several.best_index_
    assert word.best_score_ == function.best_score_ == several.best_score_
    scores = {search.score(X, labels) for search in (word, function, several)}
    assert len(scores) == 1


def test_the_score_of_a_search_is_that_of_its_scoring():
    """Without scoring it is the estimator's own."""
    plain = search_of(REGRESSOR).fit(X, y)
    assert plain.score(X, y) == plain.best_estimator_.score(X, y)
    by_error = search_of(REGRESSOR, scoring="neg_mean_absolute_error").fit(X, y)
    assert by_error.score(X, y) == absolute_error(by_error.best_estimator_, X, y)


def keeps(kept):
    """Return a scorer that keeps the models it is given."""

    def scoring(model, rows, targets):
        kept.append(model)
        return model.score(rows, targets)

    return scoring


def changes_rows(model, rows, targets):
    """Return by how much a model is worse without the first feature."""
    score = model.score(rows, targets)
    rows[:, 0] = 0
    return score - model.score(rows, targets)


def changes_the_model(model, rows, targets):
    """Return by how much a model is better than its bias."""
    score = model.score(rows, targets)
    model.coef_ = np.zeros_like(model.coef_)
    return score - model.score(rows, targets)


def fits_again(model, rows, targets):
    """Return the score of a model that has seen the rows."""
    return model.fit(rows, targets).score(rows, targets)


def looks_at_the_weights(model, rows, targets):
    """Return a number of the fitted attributes."""
    return float(np.abs(model.coef_).sum() + model.t_ + model.n_iter_ + len(rows))


def looks_at_few_rows(model, rows, targets):
    """Return a number of predictions of a part, and of a copy."""
    return model.predict(rows[:3]).sum() + model.predict(np.array(rows)).sum()


def takes_a_copy(model, rows, targets):
    """Return a number of a copy that goes on."""
    other = pickle.loads(pickle.dumps(deepcopy(model)))
    return other.score(rows, targets) + other.partial_fit(rows, targets).loss_


@pytest.mark.parametrize(
    "scoring",
    [
        changes_rows,
        changes_the_model,
        fits_again,
        looks_at_the_weights,
        looks_at_few_rows,
        takes_a_copy,
    ],
)
def test_a_scorer_may_do_what_it_likes(scoring):
    """It is given a fitted model of its own, and rows of its own."""
    rows = X.copy()
    search, other = fit_both("grid", REGRESSOR, SPACE, rows, y, scoring=scoring)
    assert_same_search(search, other)
    assert np.array_equal(rows, X)


@every_class
def test_models_that_a_scorer_keeps_are_fitted_ones(cls):
    """Each is what a fit to the rows of its fold would be, and goes on."""
    kept = []
    search = search_of(small(cls), scoring=keeps(kept)).fit(X, labels)
    assert len(kept) == 4 * 2
    for model in kept:
        alone = [
            clone(model).fit(X[train], labels[train]) for train, _ in KFold(2).split(X)
        ]
        distances = [np.abs(model.coef_ - one.coef_).max() for one in alone]
        nearest = alone[int(np.argmin(distances))]
        assert min(distances) < 1e-12
        assert set(vars(model)) == set(vars(nearest))
        for one in (model, nearest):
            one.partial_fit(X[:20], labels[:20])
        np.testing.assert_allclose(model.coef_, nearest.coef_, rtol=1e-8)
    assert len({(model.lr, model.alpha, model.loss_) for model in kept}) == 4 * 2
    assert search.n_splits_ == 2


def test_weights_reach_fits_and_scores():
    """sample_weight is cut by fold for the fit, and for scorers that take it."""
    weights = {"sample_weight": WEIGHT}
    pair = fit_both("grid", REGRESSOR, SPACE, X, y, fit_params=weights)
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)
    unweighted = search_of(REGRESSOR).fit(X, y)
    score = unweighted.cv_results_["mean_test_score"]
    assert not np.isclose(pair[0].cv_results_["mean_test_score"], score).any()


@pytest.mark.parametrize("container", [list, pd.Series, np.float32])
def test_weights_come_in_any_container(container):
    """A list, a column or float32 are cut like an array."""
    weights = {"sample_weight": container(WEIGHT)}
    pair = fit_both("grid", CLASSIFIER, SPACE, X, labels, fit_params=weights)
    assert_same_search(*pair)


def test_a_scorer_that_takes_no_weights_is_told_of():
    """The warning is scikit-learn's, and names the metric among several."""

    def half(targets, predicted):
        return 0.5

    search = search_of(CLASSIFIER, scoring=make_scorer(half))
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(X, labels, sample_weight=WEIGHT)
    scoring = {"half": make_scorer(half), "accuracy": "accuracy"}
    search.set_params(scoring=scoring, refit=False)
    message = r"The scoring half=.* does not support sample_weight"
    with pytest.warns(UserWarning, match=message):
        search.fit(X, labels, sample_weight=WEIGHT)


@every_class
def test_a_weight_is_so_many_rows(cls):
    """Rows of whole-number weights score as repeated rows do, with whole batches."""
    weight = np.random.default_rng(0).integers(0, 4, 60)
    again = np.repeat(np.arange(60), weight)
    groups = np.arange(60) % 3
    model = small(cls, batch_size=None)
    pair = [
        search_of(model, cv=LeaveOneGroupOut()).fit(
            X, labels, groups=groups, sample_weight=weight
        ),
        search_of(model, cv=LeaveOneGroupOut()).fit(
            X[again], labels[again], groups=groups[again]
        ),
    ]
    assert_same_results(*pair)
    np.testing.assert_allclose(*[s.best_estimator_.coef_ for s in pair], rtol=1e-8)


def test_a_fold_without_weight():
    """Weights that are zero in a fold fail its fits, with no other warning."""
    weight = np.repeat([0.0, 1.0], 30)
    pair = both("grid", REGRESSOR, SPACE, refit=False, error_score=-1.0)
    caught = [warnings_of(one, X, y, sample_weight=weight) for one in pair]
    assert Counter(caught[0]) == Counter(caught[1])
    assert_same_results(*pair)


# The best


def test_without_refit_nothing_predicts():
    """best_params_ are there, and the words of the errors are scikit-learn's."""
    pair = fit_both("grid", CLASSIFIER, SPACE, X, labels, refit=False)
    search, other = pair
    assert search.best_params_ == other.best_params_
    assert search.best_score_ == other.best_score_
    absent = {"best_estimator_", "refit_time_", "classes_", "n_features_in_"}
    assert not any(hasattr(search, name) for name in absent)
    for name in ("predict", "predict_proba", "decision_function", "transform"):
        errors = []
        for one in pair:
            with pytest.raises(AttributeError, match=f"no attribute '{name}'") as error:
                getattr(one, name)
            cause = error.value.__cause__
            assert type(cause) is AttributeError
            errors.append((words_of(error.value), words_of(cause)))
        assert errors[0] == errors[1]
    with pytest.raises(AttributeError, match=r"`refit=False`\. score is available"):
        search.score(X, labels)


@every_search
def test_an_unfitted_search_says_so(kind):
    """Methods raise NotFittedError; what it has by the estimator is told before."""
    search = both(kind, CLASSIFIER, SPACE)[0]
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError, match=f"This {type(search).__name__}"):
            getattr(search, name)(X)
    with pytest.raises(NotFittedError):
        search.score(X, labels)
    assert not hasattr(search, "classes_")
    assert not hasattr(search, "n_features_in_")
    assert not hasattr(search, "transform")


def test_a_function_chooses_the_best():
    """refit is given all results, and there is no best_score_ then."""
    seen = []

    def last(results):
        seen.append(results)
        return int(results["mean_test_score"].argmin())

    pair = fit_both("grid", REGRESSOR, SPACE, X, y, refit=last)
    assert_same_search(*pair)
    search = pair[0]
    assert list(seen[0]) == list(search.cv_results_)
    assert search.best_index_ == search.cv_results_["mean_test_score"].argmin()
    assert not hasattr(search, "best_score_")
    several = search_of(
        CLASSIFIER,
        scoring={"acc": "accuracy", "rec": "recall"},
        refit=lambda results: results["mean_test_rec"].argmin(),
    )
    several.fit(X, labels)
    assert several.best_index_ == several.cv_results_["mean_test_rec"].argmin()
    assert not hasattr(several, "best_score_")


@every_search
@every_task
def test_the_best_is_a_fit_of_its_parameters(kind, cls, y):
    """best_estimator_ has the bits of the estimator with best_params_."""
    search = both(kind, small(cls), SPACE)[0].fit(X, y)
    alone = small(cls, **search.best_params_).fit(X, y)
    assert fitted_state(search.best_estimator_) == fitted_state(alone)
    assert np.array_equal(search.predict(X), alone.predict(X))
    assert search.n_features_in_ == 4
    assert search.score(X, y) == alone.score(X, y)
    if cls is MiniBatchClassifier:
        assert search.classes_.tolist() == np.unique(y).tolist()
        for name in ("predict_proba", "predict_log_proba", "decision_function"):
            assert np.array_equal(getattr(search, name)(X), getattr(alone, name)(X))
        assert is_classifier(search)
    else:
        assert not hasattr(search, "classes_")
        assert is_regressor(search)


def test_probabilities_are_those_that_the_loss_has():
    """A search has predict_proba by its estimator, and once fitted by the best."""
    hinge = small(MiniBatchClassifier, loss="hinge")
    search = search_of(hinge, {"loss": ["log_loss"]})
    assert not hasattr(search, "predict_proba")
    search.fit(X, labels)
    assert search.predict_proba(X).shape == (60, 2)
    search = search_of(CLASSIFIER, {"loss": ["hinge"]})
    assert hasattr(search, "predict_proba")
    search.fit(X, labels)
    assert not hasattr(search, "predict_proba")
    message = "'VectorizedGridSearchCV' has no attribute 'predict_proba'"
    with pytest.raises(AttributeError, match=message) as error:
        search.predict_proba(X)
    assert type(error.value.__cause__) is AttributeError


@every_search
def test_what_the_estimator_lacks_the_search_lacks(kind):
    """score_samples is none of ours."""
    search = both(kind, CLASSIFIER, SPACE)[0].fit(X, labels)
    with pytest.raises(AttributeError, match="no attribute 'score_samples'") as error:
        search.score_samples(X)
    cause = "'MiniBatchClassifier' object has no attribute 'score_samples'"
    assert str(error.value.__cause__) == cause


# What fails


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
    frame = pd.DataFrame(RAW, columns=list("abcd"))
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


# In scikit-learn's tools


@every_search
def test_a_clone_is_unfitted(kind):
    """A clone has the parameters, the estimator as a clone, and nothing fitted."""
    search = both(kind, CLASSIFIER, SPACE)[0].set_params(max_bytes=10**6)
    other = clone(search.fit(X, labels))
    assert not hasattr(other, "cv_results_")
    assert other.estimator is not search.estimator
    assert set(search.get_params(deep=False)) <= set(vars(other))
    assert other.max_bytes == 10**6
    assert_same_results(search, other.fit(X, labels), rtol=0)


@every_search
def test_a_pickle_is_the_search(kind):
    """Unfitted it can be fitted; fitted it predicts, and has all it had."""
    search = both(kind, CLASSIFIER, SPACE)[0]
    before = pickle.loads(pickle.dumps(search))
    search.fit(X, labels)
    after = pickle.loads(pickle.dumps(search))
    assert set(vars(after)) == set(vars(search))
    assert_same_results(search, after, rtol=0)
    assert after.groups_ == search.groups_
    assert np.array_equal(after.predict_proba(X), search.predict_proba(X))
    assert_same_results(search, before.fit(X, labels), rtol=0)
    assert_same_results(search, after.fit(X, labels), rtol=0)


def test_a_fitted_search_keeps_no_data():
    """A pickle holds results and the best, nothing of rows or of other models."""
    rows = np.random.default_rng(0).normal(size=(4000, 20))
    model = small(MiniBatchRegressor, batch_size=1000)
    search = search_of(model, {"lr": [0.1, 0.01]}).fit(rows, rows[:, 0])
    assert len(pickle.dumps(search)) < 20_000


@every_search
def test_parameters_are_reached_by_name(kind):
    """get_params and set_params reach the search and its estimator."""
    search, other = both(kind, CLASSIFIER, SPACE)
    names = set(search.get_params()) - set(other.get_params())
    assert names == {"max_bytes"}
    assert search.get_params()["estimator__lr"] == CLASSIFIER.lr
    search.set_params(estimator__max_iter=1, cv=3, max_bytes=7)
    assert search.estimator.max_iter == 1
    assert (search.cv, search.max_bytes) == (3, 7)
    with pytest.raises(ValueError, match="Invalid parameter 'grid'"):
        search.set_params(grid=SPACE)


@every_search
def test_a_search_is_shown_like_scikit_learns(kind):
    """repr has the changed parameters; HTML has the estimator, once fitted the best."""
    pipeline = Pipeline([("scale", StandardScaler()), ("model", Ridge())])
    models = [small(MiniBatchRegressor, batch_size=size) for size in (None, 2)]
    space = {"model": models}
    own = {"resource": "n_samples"} if kind.startswith("halving") else {}
    own |= {"n_iter": 2} if kind == "random" else {}
    own |= {"n_candidates": 2, "max_resources": 60} if kind == "halving random" else {}
    pair = both(kind, pipeline, space, scoring="r2", **own)
    texts = [" ".join(words_of(repr(one)).split()) for one in pair]
    assert texts[0] == texts[1]
    html = pair[0]._repr_html_()
    assert "<div>Ridge</div>" in html
    assert type(pair[0]).__name__ in html
    pair[0].fit(X, y)
    html = pair[0]._repr_html_()
    assert "<div>Ridge</div>" not in html
    assert "<div>MiniBatchRegressor</div>" in html


def test_max_bytes_is_shown():
    """repr has it where it is not None."""
    assert "max_bytes" not in repr(search_of(REGRESSOR))
    assert "max_bytes=7" in repr(search_of(REGRESSOR).set_params(max_bytes=7))


def test_a_search_is_validated_like_an_estimator():
    """Cross validation of a search has the scores of scikit-learn's."""
    search, other = both("grid", CLASSIFIER, SPACE)
    expected = cross_val_score(other, X, labels, cv=3)
    np.testing.assert_allclose(cross_val_score(search, X, labels, cv=3), expected)
    found = cross_validate(search, X, labels, cv=3, return_estimator=True)
    for fitted, (train, _) in zip(
        found["estimator"], StratifiedKFold(3).split(X, labels), strict=True
    ):
        alone = clone(search).fit(X[train], labels[train])
        assert_same_results(fitted, alone, rtol=0)
    predicted = [cross_val_predict(one, X, labels, cv=3) for one in (search, other)]
    assert np.array_equal(*predicted)


@pytest.mark.parametrize("outer", [GridSearchCV, VectorizedGridSearchCV])
def test_a_search_may_be_searched(outer):
    """Its own parameters, and those of its estimator, are those of an estimator."""
    space = {"estimator__batch_size": [4, 8]}
    pair = [
        outer(inner, space, cv=KFold(2)).fit(X, labels)
        for inner in both("grid", CLASSIFIER, SPACE)
    ]
    assert_same_results(*pair)
    assert np.array_equal(pair[0].predict(X), pair[1].predict(X))
    if outer is VectorizedGridSearchCV:
        assert_trained(pair[0], together=False)
        word = "VectorizedGridSearchCV is not an estimator of skgd"
        assert {group.reason for group in pair[0].groups_} == {word}


def test_estimators_of_others_are_fitted_one_at_a_time():
    """The search is then scikit-learn's, curves and all."""
    space = {"C": [0.1, 1.0, 10.0]}
    search, other = fit_both("grid", LogisticRegression(), space, X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=False)
    [reason] = {group.reason for group in search.groups_}
    assert reason == "LogisticRegression is not an estimator of skgd"
    assert [[len(one) for one in some] for some in search.loss_curves_] == [[0, 0]] * 3


class Subclass(MiniBatchClassifier):
    """One of ours with a method changed."""

    def fit(self, X, y, **params):
        return super().fit(X, 1 - y, **params)


def test_subclasses_are_fitted_one_at_a_time():
    """What a subclass has changed is not known, and so is called."""
    search, other = fit_both("grid", small(Subclass), SPACE, X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=False)


def test_without_targets():
    """Clusterers and densities are searched without y, by their score or any other."""
    space = {"n_clusters": [2, 3, 4]}
    model = KMeans(random_state=0, n_init=1)
    assert_same_search(*fit_both("grid", model, space, X))
    assert_same_search(
        *fit_both("grid", model, space, X, labels, scoring="adjusted_rand_score")
    )
    search = search_of(
        KernelDensity(),
        {"bandwidth": [0.01, 0.1, 1.0]},
        scoring=lambda model, rows: 42 if model.bandwidth == 0.1 else 0,
    )
    search.fit(X)
    assert search.best_params_ == {"bandwidth": 0.1}
    assert search.best_score_ == 42
    assert not hasattr(search, "predict")
    assert np.array_equal(
        search.score_samples(X), search.best_estimator_.score_samples(X)
    )


class Spam(ClassifierMixin, BaseEstimator):
    """Notes what fit is given beside the data."""

    def __init__(self, foo=0):
        self.foo = foo

    def fit(self, X, y, spam=None, number=None, pair=None):
        assert len(spam) == len(X) == len(y)
        assert isinstance(pair, tuple)
        self.number_, self.classes_ = number, np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def transform(self, X):
        return X + self.foo

    def inverse_transform(self, X):
        return X - self.foo


def test_fit_parameters_are_cut_by_fold():
    """What has a row for each of X is; a number or a pair of arrays is not."""
    space = {"foo": [1, 2]}
    given = {"spam": np.ones(60), "number": 42, "pair": (X[:5], y[:5])}
    search, other = fit_both("grid", Spam(), space, X, labels, fit_params=given)
    assert_same_search(search, other)
    assert search.best_estimator_.number_ == 42
    np.testing.assert_allclose(search.inverse_transform(search.transform(X)), X)


def test_what_a_fit_is_given_beside_weights():
    """Held-out rows and starting weights are handed on, one fit at a time."""
    held_out = {"X_val": X[:9], "y_val": y[:9]}
    start = {"coef_init": np.ones(4)}
    for given in (held_out, start, {**held_out, "sample_weight": WEIGHT}):
        pair = fit_both("grid", REGRESSOR, SPACE, X, y, fit_params=given)
        assert_same_search(*pair)
        assert_trained(pair[0], together=False)
        [reason] = {group.reason for group in pair[0].groups_}
        assert reason == "fit is given more than sample_weight"


def test_a_search_of_ones_own():
    """A subclass says in _run_search what is tried, in several calls."""

    class TwoGrids(VectorizedGridSearchCV):
        def _run_search(self, evaluate_candidates):
            first = evaluate_candidates(ParameterGrid({"lr": [0.001, 0.1]}))
            assert len(first["params"]) == 2
            evaluate_candidates(ParameterGrid({"alpha": [0.0, 0.1]}))

    search = TwoGrids(REGRESSOR, {}, cv=KFold(2)).fit(X, y)
    grids = [{"lr": [0.001, 0.1]}, {"alpha": [0.0, 0.1]}]
    assert_same_search(search, search_of(REGRESSOR, grids).fit(X, y))
    assert_trained(search, together=True)


CHECKED = VectorizedGridSearchCV(
    MiniBatchClassifier(batch_size=None, max_iter=20, tol=None, random_state=0),
    {"lr": [0.01, 0.1]},
    cv=2,
    error_score="raise",
)
FAILS_TOO = {  # with GridSearchCV of the same estimator
    "check_supervised_y_no_nan": "the splitter refuses infinite labels in its words",
}


@parametrize_with_checks([CHECKED], expected_failed_checks=lambda _: FAILS_TOO)
def test_scikit_learn_accepts_a_search(estimator, check):
    """Every check passes but what scikit-learn's own search fails too."""
    check(estimator)


# Metadata routing


@pytest.fixture
def routing():
    """Turn the routing of metadata on."""
    with config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize("of_score", [True, False])
@every_search
def test_weights_go_where_they_are_asked_for(kind, of_score, routing):
    """Fits and scores get them if they have asked."""
    model = small(MiniBatchClassifier).set_fit_request(sample_weight=True)
    model.set_score_request(sample_weight=of_score)
    weights = {"sample_weight": WEIGHT}
    pair = fit_both(kind, model, SPACE, X, labels, fit_params=weights)
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)
    if of_score:
        scores = [one.score(X, labels, sample_weight=WEIGHT) for one in pair]
        assert scores[0] == pytest.approx(scores[1])
        assert scores[0] != pair[0].score(X, labels)


def test_each_metric_has_weights_of_its_own(routing):
    """A scorer may ask for them by another name, among scorers that do not ask."""
    scorer = make_scorer(mean_absolute_error, greater_is_better=False)
    scorer.set_score_request(sample_weight="other")
    r2 = make_scorer(r2_score).set_score_request(sample_weight=False)
    scoring = {"mae": scorer, "r2": r2}
    model = small(MiniBatchRegressor).set_fit_request(sample_weight=True)
    given = {"sample_weight": WEIGHT, "other": 4 - WEIGHT}
    pair = fit_both(
        "grid", model, SPACE, X, y, fit_params=given, scoring=scoring, refit="mae"
    )
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)


def test_groups_go_to_the_splitter_by_routing(routing):
    """A splitter of groups asks for them by itself."""
    model = small(MiniBatchClassifier).set_fit_request(sample_weight=False)
    given = {"groups": GROUPS}
    pair = fit_both("grid", model, SPACE, X, labels, fit_params=given, cv=GroupKFold(3))
    assert_same_search(*pair)


def test_weights_reach_the_steps_of_a_pipeline_by_routing(routing):
    """Each step gets them as it has asked."""
    pipeline = Pipeline(
        [
            ("scale", StandardScaler().set_fit_request(sample_weight=True)),
            ("model", small(MiniBatchRegressor).set_fit_request(sample_weight=True)),
        ]
    )
    pipeline[-1].set_score_request(sample_weight=True)
    weights = {"sample_weight": WEIGHT}
    space = {"model__lr": [0.01, 0.1]}
    pair = fit_both("grid", pipeline, space, RAW, y, fit_params=weights)
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)


def test_what_nobody_asked_for_is_refused(routing):
    """The errors of routing are scikit-learn's."""
    pair = both("grid", CLASSIFIER, SPACE)
    errors = [error_of(one, X, labels, sample_weight=WEIGHT) for one in pair]
    assert errors[0] == errors[1]
    assert errors[0][0] is UnsetMetadataPassedError
    errors = [error_of(one, X, labels, no_such=WEIGHT) for one in pair]
    assert errors[0] == errors[1]


def test_a_search_hands_on_requests(routing):
    """Its own routing is that of scikit-learn's, and a validation of it uses it."""
    model = small(MiniBatchRegressor).set_fit_request(sample_weight=True)
    model.set_score_request(sample_weight=True)
    pair = both("grid", model, SPACE, cv=GroupKFold(2))
    requests = [words_of(one.get_metadata_routing()) for one in pair]
    assert requests[0] == requests[1]
    given = {"sample_weight": WEIGHT, "groups": GROUPS}
    scores = [
        cross_validate(one, X, y, params=given, cv=GroupKFold(2), error_score="raise")
        for one in pair
    ]
    np.testing.assert_allclose(scores[0]["test_score"], scores[1]["test_score"])


def test_score_takes_nothing_without_routing():
    """More than X and y needs the routing turned on."""
    search = search_of(REGRESSOR).fit(X, y)
    with pytest.raises(ValueError, match="is only supported if"):
        search.score(X, y, sample_weight=WEIGHT)


# Halving


ROUNDS = {
    "exhaust": {"min_resources": "exhaust", "max_resources": 18},
    "smallest": {"min_resources": "smallest", "max_resources": 9},
    "too few": {"min_resources": "smallest", "max_resources": 2},
    "aggressive": {
        "min_resources": 2,
        "max_resources": 6,
        "aggressive_elimination": True,
    },
    "not aggressive": {"min_resources": 2, "max_resources": 6},
}
MANY = {"lr": np.logspace(-3, -1, 5).tolist(), "alpha": [0.0, 0.1]}


@pytest.mark.parametrize("settings", ROUNDS.values(), ids=ROUNDS)
@pytest.mark.parametrize("resource", ["max_iter", "n_samples"])
def test_halving_goes_scikit_learns_rounds(resource, settings):
    """Rounds, resources and candidates of each round are those of the other search."""
    if resource == "n_samples":
        settings = {
            name: 5 * value if type(value) is int else value
            for name, value in settings.items()
        }
        settings["max_resources"] = min(settings["max_resources"], 60)
    settings = {**settings, "resource": resource, "factor": 3}
    # rounding is no gradient
    model = small(MiniBatchRegressor, batch_size=None, epsilon=1e-3)
    search, other = fit_both("halving grid", model, MANY, X, y, **settings)
    assert_same_search(search, other)
    for name in (
        "n_iterations_",
        "n_required_iterations_",
        "n_possible_iterations_",
        "n_resources_",
        "n_candidates_",
        "n_remaining_candidates_",
        "min_resources_",
        "max_resources_",
    ):
        assert getattr(search, name) == getattr(other, name), name
    for key in ("iter", "n_resources"):
        assert type(search.cv_results_[key]) is np.ndarray
    assert_trained(search, together=True)


@every_halving
def test_the_best_of_a_round_go_on(kind):
    """Whoever was dropped scored less, and the best is one of the last round."""
    scores = np.random.default_rng(0)

    def scoring(model, rows, targets):
        return scores.random()

    own = {} if kind == "halving grid" else {"n_candidates": 10}
    search = both(kind, REGRESSOR, MANY, scoring=scoring, max_resources=8, **own)[0]
    search.fit(X, y)
    results = search.cv_results_
    rounds = [{} for _ in search.n_candidates_]
    for n, params, score in zip(
        results["iter"], results["params"], results["mean_test_score"], strict=True
    ):
        rounds[n][params["lr"], params["alpha"]] = score
    assert [len(one) for one in rounds] == search.n_candidates_
    for now, then in pairwise(rounds):
        dropped = [score for name, score in now.items() if name not in then]
        assert max(dropped) < min(now[name] for name in then)
    assert search.best_score_ == max(rounds[-1].values())
    assert results["iter"][search.best_index_] == len(rounds) - 1


@pytest.mark.parametrize(
    ("space", "n_candidates"),
    [({"lr": [0.01, 0.1]}, 2), ({"lr": loguniform(1e-3, 1e-1)}, 10)],
    ids=["lists", "a distribution"],
)
def test_halving_draws_no_more_than_there_are(space, n_candidates):
    """Lists are drawn from without return."""
    warnings.filterwarnings("ignore", "The total space of parameters 2 is smaller")
    search = both("halving random", REGRESSOR, space, n_candidates=10)[0].fit(X, y)
    assert search.n_candidates_[0] == n_candidates


def test_halving_draws_what_resources_allow():
    """n_candidates="exhaust" spends all in the last round."""
    search, other = fit_both(
        "halving random",
        REGRESSOR,
        {"lr": loguniform(1e-3, 1e-1)},
        X,
        y,
        n_candidates="exhaust",
        min_resources=1,
        max_resources=8,
    )
    assert_same_search(search, other)
    assert search.n_candidates_[0] == 8
    assert search.n_resources_[-1] == 8


def test_resources_are_parameters_of_the_candidates():
    """Each has the resource of its round among its parameters."""
    search = both("halving grid", REGRESSOR, SPACE)[0].fit(X, y)
    results = search.cv_results_
    for given, params, value in zip(
        results["n_resources"],
        results["params"],
        results["param_max_iter"],
        strict=True,
    ):
        assert given == params["max_iter"] == value
    lengths = [[len(one) for one in some] for some in search.loss_curves_]
    assert lengths == [[n] * 2 for n in results["n_resources"]]


def test_a_resource_that_is_searched_is_refused():
    """A parameter is either searched or the resource."""
    search = both("halving grid", REGRESSOR, {"max_iter": [1, 2]})[0]
    with pytest.raises(ValueError, match="Cannot use parameter max_iter as the"):
        search.fit(X, y)


# Groups and curves


REASONS = {
    "max_time": (
        small(MiniBatchRegressor, max_time=1e9),
        "max_time is a limit of a single fit",
    ),
    "callbacks": (
        small(MiniBatchRegressor).set_callbacks(WeightTrajectory()),
        "its callbacks look at single fits",
    ),
    "others": (Ridge(), "Ridge is not an estimator of skgd"),
}


@pytest.mark.parametrize(("model", "reason"), REASONS.values(), ids=REASONS)
def test_groups_tell_why_fits_were_made_one_at_a_time(model, reason):
    """One reason, and scores as ever."""
    space = {"alpha": [0.0, 0.1]}
    search = search_of(model, space).fit(X, y)
    assert_trained(search, together=False)
    assert {group.reason for group in search.groups_} == {reason}
    assert_same_results(search, GridSearchCV(model, space, cv=KFold(2)).fit(X, y))


def test_groups_tell_what_candidates_have_in_common():
    """Numbers of one model are in one group; what changes shapes parts groups."""
    space = {
        "hidden_layer_sizes": [(), (3,)],
        "lr": [0.01, 0.1],
        "alpha": [0, 0.1],
        "batch_size": [8],
        "random_state": [0, 1],
    }
    search = search_of(CLASSIFIER, space).fit(X, labels)
    assert_trained(search, together=True)
    assert [group.params for group in search.groups_] == [
        {"hidden_layer_sizes": (), "batch_size": 8},
        {"hidden_layer_sizes": (3,), "batch_size": 8},
    ]
    for group in search.groups_:
        assert group.reason == ""
        assert isinstance(group.candidates, list)
        for number in group.candidates:
            params = search.cv_results_["params"][number]
            assert group.params.items() <= params.items()


def test_groups_part_what_can_be_stacked_from_what_cannot():
    """Of one grid some are trained together and some are not."""
    search = search_of(CLASSIFIER, {"max_time": [None, 1e9], "lr": [0.01, 0.1]})
    search.fit(X, labels)
    together, apart = sorted(search.groups_, key=lambda group: not group.together)
    params = search.cv_results_["params"]
    assert {params[n]["max_time"] for n in together.candidates} == {None}
    assert {params[n]["max_time"] for n in apart.candidates} == {1e9}
    assert (together.reason, apart.reason) == (
        "",
        "max_time is a limit of a single fit",
    )
    assert len(together.candidates) == len(apart.candidates) == 2


def test_groups_of_data_that_are_refused():
    """A hole in a row fails the fits that see it, and the others have their scores."""
    bad = X.copy()
    bad[0] = np.nan
    search, other = both("grid", REGRESSOR, SPACE, refit=False)
    caught = [warnings_of(one, bad, y) for one in (search, other)]
    assert caught[0] == caught[1]
    assert_same_results(search, other)
    assert_trained(search, together=False)
    reasons = {group.reason for group in search.groups_}
    assert len(reasons) == 1
    assert reasons.pop() == "ValueError: Input X contains NaN."


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_groups_of_a_fold_that_is_refused(n_jobs):
    """One class in a fold alone makes that fit fail, whoever does the work."""
    first = np.arange(60) < 30
    target = np.where(first, 0, labels)
    search, other = both("grid", CLASSIFIER, {"lr": [0.1]}, refit=False)
    search.set_params(n_jobs=n_jobs)
    with parallel_config("threading"):
        caught = [warnings_of(one, X, target) for one in (search, other)]
    assert caught[0] == caught[1]
    assert "1 fits failed out of a total of 2" in caught[0][0][1]
    assert_same_results(search, other)
    assert_trained(search, together=False)


@every_search
def test_groups_hold_every_candidate_once(kind):
    """In all rounds of halving too, also if parameters part them."""
    space = {"lr": [0.01, 0.1], "batch_size": [7, None], "max_time": [None, 1e9]}
    search = both(kind, REGRESSOR, space)[0].fit(X, y)
    places = sorted(chain.from_iterable(group.candidates for group in search.groups_))
    assert places == list(range(len(search.cv_results_["params"])))
    for group in search.groups_:
        for number in group.candidates:
            params = search.cv_results_["params"][number]
            assert group.params.items() <= params.items()
            assert group.together == (params["max_time"] is None)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("max_time", [None, 1e9], ids=["together", "one at a time"])
def test_loss_curves_are_those_of_the_fits(early_stopping, max_time):
    """A list for each candidate holds the curve of each split."""
    model = small(
        MiniBatchRegressor,
        early_stopping=early_stopping,
        max_time=max_time,
        tol=1e-2,
        n_iter_no_change=2,
        max_iter=40,
    )
    search = search_of(model, {"lr": [0.001, 0.3]}, cv=KFold(3)).fit(X, y)
    assert len(search.loss_curves_) == 2
    for params, curves in zip(
        search.cv_results_["params"], search.loss_curves_, strict=True
    ):
        assert len(curves) == 3
        for curve, (train, _) in zip(curves, KFold(3).split(X), strict=True):
            alone = clone(model).set_params(**params).fit(X[train], y[train])
            assert isinstance(curve, np.ndarray)
            assert len(curve) == alone.n_iter_
            np.testing.assert_allclose(curve, alone.loss_curve_, rtol=1e-10)
    assert len(set(map(len, chain.from_iterable(search.loss_curves_)))) > 1


def test_loss_curves_of_models_that_diverge():
    """They end where the training did; refused parameters have none."""
    model = small(MiniBatchRegressor, optimizer="sgd")
    search = search_of(model, {"lr": [0.01, 1e6, -1.0]})
    caught = warnings_of(search, X, y)
    assert "4 fits failed out of a total of 6" in caught[0][1]
    lengths = [[len(one) for one in some] for some in search.loss_curves_]
    assert lengths[0] == [3, 3]
    assert 0 < min(lengths[1]) <= max(lengths[1]) <= 3
    assert lengths[2] == [0, 0]


# What it shows


def test_silence_is_the_default(capsys):
    """verbose=0 prints nothing."""
    search_of(REGRESSOR).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_verbose_tells_how_far_it_is(capsys):
    """1 tells the number of fits, 2 the models that are done, 3 every stack."""
    space = {**SPACE, "batch_size": [8, 10]}
    first = "Fitting 2 folds for each of 8 candidates, totalling 16 fits"
    models = ["8 of 16 models trained", "16 of 16 models trained"]
    stack = "Stack of 8 models, epoch 3 of 3, done, # s"
    told = []
    for verbose in (1, 2, 3):
        search_of(REGRESSOR, space, verbose=verbose).fit(X, y)
        lines = capsys.readouterr().out.splitlines()
        told.append([re.sub(r"\d+[.]\d s", "# s", line) for line in lines])
    assert told[0] == [first]
    assert told[1] == [first, *models]
    assert told[2] == [first, stack, models[0], stack, models[1]]


@pytest.mark.parametrize("watched", [False, True])
def test_verbose_tells_every_few_seconds_how_many_are_in_training(
    watched, capsys, monkeypatch
):
    """A line comes after so many seconds, not an epoch; models stop meanwhile."""
    ticks = count()
    monkeypatch.setattr(
        "skgd._search.evaluation.perf_counter", lambda: float(next(ticks))
    )
    model = small(MiniBatchRegressor, tol=1e-1, n_iter_no_change=10, max_iter=90)
    model.set_params(lr_schedule="constant")
    search = search_of(model, {"lr": [0.02, 0.5]}, verbose=3, refit=False)
    if watched:
        search.set_callbacks(Recorder())
    search.fit(X, y)
    told = re.findall(
        r"Stack of 4 models, epoch (\d+) of 90, (\d) of them in training, \d+[.]0 s",
        capsys.readouterr().out,
    )
    epochs, going = zip(*[map(int, pair) for pair in told], strict=True)
    n_epochs = max(map(len, chain.from_iterable(search.loss_curves_)))
    assert 1 < len(epochs) <= n_epochs / 3
    assert going[-1] < 4
    assert sorted(going, reverse=True) == list(going)


def test_an_estimator_that_tells_its_epochs_is_silent_in_a_stack(capsys):
    """The search tells of it instead; the refit is a fit like any other."""
    model = small(MiniBatchRegressor, verbose=True)
    search_of(model, {"lr": [0.1]}).fit(X, y)
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("path", ["", "minibatchregressor__"])
def test_many_groups_are_told_beforehand(path, capsys):
    """The sentence names what makes them; a few groups are not worth one."""
    model = make_pipeline(REGRESSOR) if path else REGRESSOR
    for sizes, expected in ([8, 9, 10, 11, 12], True), ([8, 9, 10, 11], False):
        space = {f"{path}batch_size": sizes, f"{path}lr": [0.1]}
        search_of(model, space, verbose=1, refit=False).fit(X, y)
        assert (
            f"The 5 candidates make 5 groups, each trained in turn, for they differ in "
            f"{path}batch_size: a few values" in capsys.readouterr().out
        ) is expected
    space = {f"{path}batch_size": [8, 9, 10, 11, 12], f"{path}lr": [0.1, 0.2]}
    search_of(model, space, verbose=1, refit=False).fit(X, y)
    assert "groups" not in capsys.readouterr().out


@pytest.mark.parametrize("return_train_score", [True, False])
def test_verbose_tells_scores_of_single_fits(return_train_score, capsys):
    """Fits made one at a time are told as by GridSearchCV."""
    settings = {"verbose": 3, "return_train_score": return_train_score}
    model = small(MiniBatchRegressor, max_time=1e9)
    search, other = both("grid", model, SPACE, **settings)
    search.fit(X, y)
    ours = capsys.readouterr().out
    other.fit(X, y)
    theirs = capsys.readouterr().out
    without_times = [re.sub(r"(total time=).*", "", text) for text in (ours, theirs)]
    assert without_times[0] == without_times[1]
    assert ours.count("score=") == 8


def test_halving_tells_its_rounds(capsys):
    """The lines of HalvingGridSearchCV are there."""
    search, other = both("halving grid", REGRESSOR, SPACE, verbose=1)
    search.fit(X, y)
    ours = capsys.readouterr().out
    other.fit(X, y)
    assert ours == capsys.readouterr().out


def test_a_progress_bar_shows_models_and_epochs(capsys, monkeypatch):
    """A bar for each stack goes through its epochs, and all end at 100 %."""
    monkeypatch.setenv("COLUMNS", "200")
    search = search_of(REGRESSOR, {**SPACE, "batch_size": [8, 10]})
    search.set_callbacks(ProgressBar()).fit(X, y)
    told = capsys.readouterr().out
    assert told.count("VectorizedGridSearchCV - 8 models #") == 2
    assert told.count("VectorizedGridSearchCV - epochs of 8 models #0") == 2
    assert "VectorizedGridSearchCV - search" in told
    assert "refit-with-best-params | MiniBatchRegressor - fit" in told
    lines = [line for line in told.splitlines() if " - " in line]
    assert all("100%" in line for line in lines), told
    assert not hasattr(search.best_estimator_, "_skl_callbacks")


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_progress_bar_of_the_estimator_is_the_searchs(in_pipeline, capsys):
    """It shows what one set on the search does, and stays where it was set."""
    bar, plain = ProgressBar(), small(MiniBatchRegressor)
    watched = small(MiniBatchRegressor).set_callbacks(bar)
    path, of_two = "", [plain, watched]
    if in_pipeline:
        path, of_two = "minibatchregressor__", [make_pipeline(one) for one in of_two]
    space = {f"{path}lr": [0.01, 0.1]}
    expected, search = (search_of(one, space) for one in of_two)
    expected.set_callbacks(ProgressBar()).fit(X, y)
    told = re.sub(r"[\d:]+", "", capsys.readouterr().out)
    search.fit(X, y)
    assert re.sub(r"[\d:]+", "", capsys.readouterr().out) == told
    assert "VectorizedGridSearchCV - search" in told
    assert_trained(search, together=True)
    assert_same_results(search, expected, rtol=0)
    assert watched._skl_callbacks == [bar]
    assert not hasattr(search, "_skl_callbacks")
    search.fit(X, y)


def test_a_progress_bar_and_a_recorder_of_the_estimator_both_work(capsys):
    """The one watches the search, the other every fit."""
    recorder = WeightTrajectory()
    model = small(MiniBatchRegressor).set_callbacks(ProgressBar(), recorder)
    search = search_of(model, {"lr": [0.01, 0.1]}).set_callbacks(ProgressBar())
    search.fit(X, y)
    assert len(recorder.trajectories_) == 2 * 2 + 1
    assert "refit-with-best-params" in capsys.readouterr().out
    assert search.best_estimator_._skl_callbacks == [recorder]
    assert len(search._skl_callbacks) == 1


class Recorder:
    """Notes every call of a callback's hooks."""

    def __init__(self):
        self.calls, self.metadata = [], []

    def note(self, hook, estimator, context):
        self.calls.append((hook, type(estimator), context.task_name))

    def setup(self, estimator, context):
        self.note("setup", estimator, context)

    def on_fit_task_begin(self, estimator, context, *, metadata=None):
        self.note("begin", estimator, context)
        self.metadata.append((context.task_name, metadata))

    def on_fit_task_end(self, estimator, context):
        self.note("end", estimator, context)

    def teardown(self, estimator, context):
        self.note("teardown", estimator, context)


@every_search
def test_callbacks_change_nothing(kind):
    """A search that is looked on at finds the same, and keeps nothing of it."""
    plain, watched = both(kind, REGRESSOR, SPACE)[0], both(kind, REGRESSOR, SPACE)[0]
    recorder = Recorder()
    watched.set_callbacks(recorder).fit(X, y)
    assert_same_results(watched, plain.fit(X, y), rtol=0)
    assert set(vars(watched)) - set(vars(plain)) == {"_skl_callbacks"}


@pytest.mark.parametrize(
    "space",
    [SPACE, {"max_time": [None, 1e9]}, {"lr": [0.1, -1.0]}],
    ids=["together", "mixed", "refused"],
)
@every_search
def test_tasks_of_a_search_begin_and_end(kind, space):
    """Callbacks see the search as their estimator; every task that begins ends."""
    recorder = Recorder()
    search = both(kind, REGRESSOR, space)[0].set_callbacks(recorder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*(fits failed|non-finite|total space)")
        search.fit(X, y)
    begun = Counter(call[2] for call in recorder.calls if call[0] == "begin")
    ended = Counter(call[2] for call in recorder.calls if call[0] == "end")
    assert begun == ended
    assert begun["fit"] >= 1
    assert begun["refit-with-best-params"] == 1
    assert {call[1] for call in recorder.calls} == {type(search)}
    hooks = [call[0] for call in recorder.calls]
    assert (hooks[0], hooks[-1]) == ("setup", "teardown")
    assert hooks.count("setup") == hooks.count("teardown") == 1


def test_tasks_are_stacks_and_their_epochs():
    """A stack of models is a task, and every epoch of it one below."""
    recorder = Recorder()
    search = search_of(REGRESSOR).set_callbacks(recorder).fit(X, y)
    begun = Counter(call[2] for call in recorder.calls if call[0] == "begin")
    assert begun["epoch"] == 3
    assert begun["8 models"] == begun["epochs of 8 models"] == 1
    recorder.calls.clear()
    search.set_params(max_bytes=1).fit(X, y)
    begun = Counter(call[2] for call in recorder.calls if call[0] == "begin")
    assert begun["epoch"] == 3 * 8
    assert begun["epochs of 1 models"] == 8


def test_callbacks_are_told_of_weights():
    """The metadata of the fit and of the refit hold sample_weight."""
    recorder = Recorder()
    search = search_of(REGRESSOR).set_callbacks(recorder)
    search.fit(X, y, sample_weight=WEIGHT)
    told = dict(recorder.metadata)
    for name in ("fit", "refit-with-best-params"):
        assert told[name]["sample_weight"] is WEIGHT


def test_callbacks_of_the_estimator_see_every_fit():
    """WeightTrajectory has one path a fit, in the order of the candidates."""
    recorder = WeightTrajectory()
    model = small(MiniBatchRegressor).set_callbacks(recorder)
    search = search_of(model, {"lr": [0.01, 0.1]}).fit(X, y)
    assert len(recorder.trajectories_) == 2 * 2 + 1
    last = recorder.trajectories_[-1].weights[-1]
    assert np.array_equal(last[:-1], search.best_estimator_.coef_)
    assert_trained(search, together=False)


# Workers


@pytest.fixture(scope="module")
def loky():
    """Processes of joblib for n_jobs=2, ended after the tests of this file."""
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.fixture
def two_threads():
    """Two threads of joblib."""
    with parallel_config("threading"):
        yield


WORK = {
    "one group": (REGRESSOR, SPACE, {}),
    "one candidate": (REGRESSOR, {"lr": [0.1]}, {"cv": KFold(3)}),
    "groups": (CLASSIFIER, {**SPACE, "batch_size": [7, 8, None]}, {"cv": 3}),
    "one at a time": (small(MiniBatchClassifier, max_time=1e9), SPACE, {}),
    "a pipeline": (
        Pipeline([("scale", StandardScaler()), ("model", clone(CLASSIFIER))]),
        {"model__lr": [0.01, 0.1], "scale__with_mean": [True, False]},
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy"},
    ),
    "pre_dispatch": (REGRESSOR, SPACE, {"pre_dispatch": "all"}),
}


def assert_workers_change_nothing(model, space, settings):
    """Assert that a search by workers finds what the search alone finds."""
    alone = search_of(model, space, n_jobs=1, **settings).fit(X, labels)
    search = search_of(model, space, n_jobs=2, **settings).fit(X, labels)
    assert_same_results(search, alone)
    assert search.best_params_ == alone.best_params_
    assert frozen(search.predict(X)) == frozen(alone.predict(X))
    grouped = [
        sorted((*g.candidates, g.together) for g in one.groups_)
        for one in (search, alone)
    ]
    assert grouped[0] == grouped[1]
    for one, other in zip(
        chain.from_iterable(search.loss_curves_),
        chain.from_iterable(alone.loss_curves_),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-10)


@pytest.mark.parametrize(("model", "space", "settings"), WORK.values(), ids=WORK)
def test_threads_find_the_same(model, space, settings, two_threads):
    """Results do not depend on how many threads there are."""
    assert_workers_change_nothing(model, space, settings)


class OneByOne(ThreadingBackend):
    """Gives results when all are done, as joblib-spark and Ray do."""

    supports_return_generator = False


def test_backends_that_give_all_results_at_once():
    """A backend need not be able to hand on results as they come."""
    joblib.register_parallel_backend("one by one", OneByOne)
    with parallel_config("one by one"):
        assert_workers_change_nothing(*WORK["groups"])


def test_a_worker_that_is_killed_is_told(loky):
    """The error says so, and the next search has new workers."""
    here = os.getpid()

    def kills(model, rows, targets):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    search = search_of(REGRESSOR, n_jobs=2, scoring=kills)
    with pytest.raises(
        TerminatedWorkerError, match=r"unexpectedly terminated(.|\n)*SIGKILL"
    ):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")
    search.set_params(scoring=None).fit(X, y)
    assert_same_results(search, search_of(REGRESSOR).fit(X, y))


@pytest.mark.parametrize(("model", "space", "settings"), WORK.values(), ids=WORK)
def test_processes_find_the_same(model, space, settings, loky):
    """Results do not depend on how many processes there are."""
    assert_workers_change_nothing(model, space, settings)


@every_halving
def test_processes_halve_the_same(kind, loky):
    """States travel to workers and back between rounds."""
    alone = both(kind, REGRESSOR, MANY, n_jobs=1)[0].fit(X, y)
    search = both(kind, REGRESSOR, MANY, n_jobs=2)[0].fit(X, y)
    assert_same_results(search, alone)


def test_large_data_are_mapped_by_workers(loky):
    """More than a megabyte reaches them as a read-only map, and they train on it."""
    rows = np.random.default_rng(0).normal(size=(1500, 100))
    model = small(MiniBatchRegressor, batch_size=500)
    alone = search_of(model).fit(rows, rows[:, 0])
    search = search_of(model, n_jobs=2).fit(rows, rows[:, 0])
    assert_same_results(search, alone)


def test_a_progress_bar_sees_all_workers(loky, capsys, monkeypatch):
    """It shows the models of each process, and all end at 100 %."""
    monkeypatch.setenv("COLUMNS", "200")
    search = search_of(REGRESSOR, {**SPACE, "max_time": [None, 1e9]}, n_jobs=2)
    search.set_callbacks(ProgressBar()).fit(X, y)
    told = capsys.readouterr().out
    assert told.count("VectorizedGridSearchCV - 4 models #") == 2
    assert told.count(" | MiniBatchRegressor - fit") == 8 + 1
    lines = [line for line in told.splitlines() if " - " in line]
    assert all("100%" in line for line in lines), told


def test_verbose_counts_the_models_of_workers(loky, capsys):
    """The lines of verbose=2 are those of the process that asked."""
    search_of(REGRESSOR, n_jobs=2, verbose=2).fit(X, y)
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == ["4 of 8 models trained", "8 of 8 models trained"]


def test_errors_of_workers_are_raised(loky):
    """What a fit raises in another process is raised here, as alone."""
    search = search_of(REGRESSOR, DIVERGES, n_jobs=2, error_score="raise")
    with pytest.raises(ValueError, match=r"^Training diverged in epoch"):
        search.fit(X, y)


def test_an_interrupt_while_workers_work(loky):
    """Ctrl-C raises KeyboardInterrupt at once."""

    def sleeps(model, rows, targets):
        time.sleep(60)
        return 0.0

    search = search_of(REGRESSOR, n_jobs=2, scoring=sleeps)
    press = threading.Timer(1, os.kill, [os.getpid(), signal.SIGINT])
    began = time.perf_counter()
    press.start()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    press.join()
    assert time.perf_counter() - began < 50
    assert not hasattr(search, "cv_results_")


def test_workers_of_dask_find_the_same():
    """Two processes of a cluster give the results of this one."""
    distributed = pytest.importorskip("distributed")
    space = {**SPACE, "batch_size": [7, 8], "max_time": [None, 1e9]}
    alone = search_of(CLASSIFIER, space).fit(X, labels)

    def where(model, rows, targets):
        return float(os.getpid())

    with (
        distributed.LocalCluster(
            n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        parallel_config("dask"),
    ):
        pids = set(client.run(os.getpid).values())
        search = search_of(CLASSIFIER, space).fit(X, labels)
        places = search_of(CLASSIFIER, space, scoring=where, refit=False)
        places.fit(X, labels)
    assert_same_search(search, alone)
    assert search.groups_ == alone.groups_
    seen = {
        places.cv_results_[f"split{n}_test_score"][m]
        for n in range(2)
        for m in range(16)
    }
    assert {int(pid) for pid in seen} == pids
    assert len(pids) == 2


# Memory, and Ctrl-C


class LiveBytes(TorchDispatchMode):
    """Count the bytes of the tensors that operations make, and how many at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor):
                self.see(one.untyped_storage())
        return out

    def see(self, storage):
        place, size = storage.data_ptr(), storage.nbytes()
        if place not in self.known and size:
            self.known.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, place, size)

    def forget(self, place, size):
        self.known.discard(place)
        self.now -= size


def one_number(model, rows, targets):
    """Return a weight."""
    return model.coef_[0]


def many(n_candidates, **params):
    """Return a search of so many candidates, in small stacks, that keeps no model."""
    model = small(MiniBatchRegressor, max_iter=2, batch_size=15)
    space = {"lr": np.logspace(-4, -1, n_candidates)}
    search = search_of(model, space, scoring=one_number, refit=False)
    return search.set_params(**params)


def test_tensors_take_no_more_memory_for_more_candidates():
    """Those of a stack are let go before the next is trained."""
    peaks = []
    for n_candidates in (100, 500):
        with LiveBytes() as live:
            many(n_candidates, max_bytes=20_000).fit(X, y)
        peaks.append(live.peak)
    assert 0 < peaks[0] < 100_000
    assert peaks[1] < 1.3 * peaks[0]


def test_two_thousand_candidates_take_the_memory_of_their_results():
    """What grows with the candidates is a few kilobytes for each."""
    peaks = []
    for n_candidates in (100, 2000):
        tracemalloc.start()
        search = many(n_candidates).fit(X, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 10_000 * (2000 - 100)
    assert len(search.loss_curves_) == len(search.cv_results_["params"]) == 2000
    assert_trained(search, together=True)


def test_an_interrupt_at_any_moment_ends_the_search():
    """It raises KeyboardInterrupt and leaves the process as it was."""
    settings = {"return_train_score": True, "refit": False, "cv": KFold(5)}
    search = search_of(small(MiniBatchRegressor, max_iter=2), **settings)
    for _ in "ab":  # the first call fills caches
        with interrupted_at() as total:
            search.fit(X, y)
    expected, before = clone(search).fit(X, y), global_state()
    for moment in some_moments(total[0], 12):
        one = clone(search)
        with pytest.raises(KeyboardInterrupt), interrupted_at(moment):
            one.fit(X, y)
        assert not hasattr(one, "cv_results_")
        assert global_state() == before
        assert_same_results(one.fit(X, y), expected, rtol=0)


# Odd scorers, schedules and steps


def test_an_accuracy_that_is_turned_round_is_turned_round():
    """The worst candidate wins where a scorer counts accuracy as a loss."""
    scorer = make_scorer(accuracy_score, greater_is_better=False)
    search, other = both("grid", CLASSIFIER, SPACE, scoring=scorer)
    assert_same_results(search.fit(X, labels), other.fit(X, labels))
    assert_trained(search, together=True)


def test_training_rows_are_scored_as_a_pipeline_transforms_them():
    """TargetEncoder makes something else of them while it is fitted."""
    rows = np.digitize(X[:, :2], [-0.5, 0.5]).astype(str)
    pipeline = make_pipeline(TargetEncoder(cv=KFold(2)), REGRESSOR)
    space = {f"minibatchregressor__{name}": values for name, values in SPACE.items()}
    search, other = both("grid", pipeline, space, return_train_score=True)
    assert_same_results(search.fit(rows, y), other.fit(rows, y))
    assert_trained(search, together=True)


def test_halving_goes_on_with_the_features_that_it_began_with():
    """Steps before the last that draw at random are not drawn again."""
    fits = []

    class Draws(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            fits.append(len(X))
            self.signs_ = np.random.default_rng().choice([-1, 1], X.shape[1])
            return self

        def transform(self, X):
            return X * self.signs_

    pipeline = make_pipeline(Draws(), REGRESSOR)
    lrs = {"minibatchregressor__lr": [0.3, 0.1, 0.03, 0.01]}
    search, _ = both("halving grid", pipeline, lrs)
    search.set_params(resource="minibatchregressor__max_iter", refit=False).fit(X, y)
    plain = both("halving grid", REGRESSOR, {"lr": lrs["minibatchregressor__lr"]})[0]
    plain.set_params(refit=False).fit(X, y)
    assert fits == [30, 30]
    np.testing.assert_allclose(  # the sign of a feature changes nothing else
        search.cv_results_["mean_test_score"],
        plain.cv_results_["mean_test_score"],
        rtol=1e-8,
    )


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


@pytest.mark.parametrize(
    "container",
    [list, pd.DataFrame, torch.from_numpy, lambda X: (X * 100).astype(int)],
    ids=["list", "frame", "tensor", "ints"],
)
def test_rows_are_checked_once_for_all_splits(container, monkeypatch):
    """No split gets a copy of X, whatever holds it."""
    joined = []
    from_engine = skgd._search.stacks.train

    def noting(data, *args):
        joined.append(data.x.shape[0])
        return from_engine(data, *args)

    monkeypatch.setattr("skgd._search.stacks.train", noting)
    search, _ = both("grid", REGRESSOR, SPACE, refit=False, cv=KFold(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ints are not standardised
        search.fit(container(X), y)
    assert joined == [len(X)]
    assert_trained(search, together=True)


def sorted_error(y_true, y_pred):
    """Return an error, and leave the targets in another order."""
    error = mean_absolute_error(y_true, y_pred)
    y_true.sort()
    return error


def test_a_metric_may_spoil_what_it_is_given():
    """Each candidate is scored on rows of its own, if not by scikit-learn's metrics."""
    search, other = both("grid", REGRESSOR, SPACE, scoring=make_scorer(sorted_error))
    assert_same_results(search.fit(X, y), other.fit(X, y))
    assert_trained(search, together=True)


class _Noting:
    """Notes the tasks that began and have not ended."""

    def __init__(self):
        self.open = Counter()

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.open[context.task_name] += 1

    def on_fit_task_end(self, estimator, context):
        self.open[context.task_name] -= 1
        return False

    def teardown(self, estimator, context):
        pass


def test_all_tasks_end_where_nothing_is_left_to_train():
    """An iteration of halving may repeat one of as many epochs."""
    noting = _Noting()
    search, _ = both("halving grid", REGRESSOR, {"lr": [0.1, 0.03, 0.01, 0.003]})
    search.set_params(aggressive_elimination=True, min_resources=4)
    search.set_callbacks(noting).fit(X, y)
    assert not +noting.open
    assert noting.open["epoch"] == 0


def test_our_fit_is_the_one_that_counts():
    """It is found before any that scikit-learn's searches may get."""
    for ours, _, _ in SEARCHES.values():
        assert ours.fit.__module__ in (
            "skgd._search.searches",
            HalvingGridSearchCV.__module__,
        )
        bases = [base.__name__ for base in ours.__mro__]
        assert bases.index("_VectorizedSearch") < bases.index("BaseSearchCV")
