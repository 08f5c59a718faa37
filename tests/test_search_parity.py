"""The searches say what scikit-learn's say, over the same estimator, grid and folds.

Each comparison fits both, and asserts as well how the candidates were trained: together
where they can be, for fits one at a time are scikit-learn's own.
"""

import re
import warnings
from copy import deepcopy
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    OPTIMIZERS,
    RAW,
    TASKS,
    WEIGHT,
    X,
    Y,
    every_class,
    every_depth,
    every_optimizer,
    every_task,
    real_devices,
    small,
)
from scipy import sparse
from scipy.stats import loguniform
from sklearn import config_context, metrics
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    LeaveOneGroupOut,
    ParameterGrid,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    StandardScaler,
    TargetEncoder,
)

import skgd._training.csr
import skgd._training.loop
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


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Compute in one thread: waking others takes longer than these small fits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def epochs(monkeypatch):
    """Give a list that gets the number of models of every epoch that is trained."""
    trained = []
    bind_epoch = skgd._training.loop.bind_epoch

    def bind(stack, *args):
        run_epoch = bind_epoch(stack, *args)

        def run():
            trained.append(len(stack.members))
            return run_epoch()

        return run

    monkeypatch.setattr(skgd._training.loop, "bind_epoch", bind)
    return trained


# Losses and optimizers

POSITIVE = np.exp((y - y.mean()) / 3)
RATES_AND_PENALTY = [LR, {"alpha": [0.1]}]
TARGETS = {"poisson": np.round(2 * POSITIVE), "gamma": POSITIVE}


@every_depth
@pytest.mark.parametrize("loss", MiniBatchRegressor._losses)
def test_every_loss_of_numbers(loss, hidden):
    """Scores of regressors are the oracle's, whatever is minimised."""
    model = regressor(loss=loss, hidden_layer_sizes=hidden)
    compared(model, RATES_AND_PENALTY, X, TARGETS.get(loss, y), refit=False)


@pytest.mark.parametrize(
    ("labels", "hidden"), [(LABELS, ()), (THREE, (5,))], ids=["two", "three"]
)
@pytest.mark.parametrize("loss", MiniBatchClassifier._losses)
def test_every_loss_of_classes(loss, labels, hidden):
    """Scores of classifiers are the oracle's, whatever is minimised."""
    model = classifier(loss=loss, hidden_layer_sizes=hidden)
    scoring = likelihood if loss == "log_loss" else "f1_macro"
    compared(model, RATES_AND_PENALTY, X, labels, scoring=scoring, refit=False)


@every_task
@every_optimizer
def test_the_learning_rate_and_the_penalty_are_searched(cls, y, optimizer):
    """Any optimizer trains models of other rates and penalties together."""
    lr = optimizer["lr"]
    penalties = {"alpha": [0.01, 0.1], "l1_ratio": [0.2, 0.5]}
    grid = [{"lr": [lr / 10, lr / 3]}, {"lr": [lr / 10], **penalties}]
    compared(small(cls, **optimizer), grid, X, y, refit=False)


NUMBERS_OF = {
    "sgd": {"momentum": [0.0, 0.5, 0.9]},
    "momentum": {"momentum": [0.0, 0.5, 0.9], "alpha": [0.01, 0.1]},
    "nesterov": {"momentum": [0.0, 0.5, 0.9], "alpha": [0.01, 0.1]},
    "adagrad": {"epsilon": [1e-8, 0.1, 1.0]},
    "rmsprop": {"beta_2": [0.0, 0.9, 0.99], "epsilon": [1e-8, 0.1]},
    "adam": {"beta_1": [0.0, 0.9], "beta_2": [0.9, 0.99], "epsilon": [1e-8, 0.1]},
    "adamw": {"beta_1": [0.0, 0.9], "beta_2": [0.9, 0.99], "alpha": [0.1, 1]},
}


@every_depth
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_numbers_of_an_optimizer_are_searched(name, hidden):
    """Momentum, both betas and epsilon are each model's own."""
    params = {**OPTIMIZERS[name], "lr": OPTIMIZERS[name]["lr"] / 10}
    model = regressor(**params, hidden_layer_sizes=hidden)
    found = compared(model, NUMBERS_OF[name], X, y, refit=False)
    assert len(found.groups_) == 1


# Seeds


@every_class
def test_several_seeds_are_searched(cls):
    """Models of unlike seeds are one group, and each has its own random stream."""
    y_of = {MiniBatchRegressor: y, MiniBatchClassifier: LABELS}[cls]
    model = small(cls, hidden_layer_sizes=(5,), dropout=0.2, last_batch="fill")
    found = compared(model, {"random_state": [0, 1, 2], **LR}, X, y_of, cv=UNEQUAL)
    assert len(found.groups_) == 1
    seeds = scores_of(found).reshape(3, 2, 3)
    assert (seeds[0] != seeds[1]).any()


def test_a_random_state_instance_draws_a_seed_and_does_not_move():
    """Every fit begins with a copy of the instance, as every clone does."""
    instance = np.random.RandomState(3)
    model = regressor(hidden_layer_sizes=(5,), random_state=instance)
    compared(model, LR, X, y)
    assert instance.randint(2**31) == np.random.RandomState(3).randint(2**31)


def test_random_state_instances_are_searched():
    """Instances in a grid, seeds and NumPy's integers beside them, are told apart."""
    states = [np.random.RandomState(3), np.random.RandomState(4), 3, np.int64(4)]
    found = compared(regressor(hidden_layer_sizes=(5,)), {"random_state": states}, X, y)
    assert len(found.groups_) == 1


def test_no_seed_is_a_seed_like_any_other():
    """Where nothing is drawn at random, random_state=None gives the same scores."""
    model = regressor(random_state=None, batch_size=None)
    compared(model, LR, X, y)
    compared(model, {"random_state": [None, 0], **LR}, X, y)


def test_without_a_seed_the_search_runs():
    """With random_state=None models are trained together on whatever is drawn."""
    model = classifier(random_state=None, hidden_layer_sizes=(5,), dropout=0.1)
    found = VectorizedGridSearchCV(model, LR, cv=3).fit(X, THREE)
    assert [group.together for group in found.groups_] == [True]
    assert np.isfinite(scores_of(found)).all()


# Batches

# By some sizes 51 rows make whole batches, by others 52 do.


@pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"])
@pytest.mark.parametrize("batch_size", [1, 7, 17, 25, 26, 50, 51, None])
def test_batches_of_folds_of_unequal_size(batch_size, last_batch):
    """Batches are those of every fold alone, also where folds differ in size."""
    model = regressor(batch_size=batch_size, last_batch=last_batch, max_iter=2)
    compared(model.set_params(hidden_layer_sizes=(4,)), LR, X, y, cv=PAIR)


@pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"])
@pytest.mark.parametrize("batch_size", [52, 1000])
def test_batches_larger_than_the_rows(batch_size, last_batch):
    """They are the whole training set, and the oracle's warning tells of it."""
    model = regressor(batch_size=batch_size, last_batch=last_batch)
    compared(model, LR, X, y, cv=PAIR, warns={UserWarning})


def test_rows_in_the_order_that_they_come_in():
    """Without shuffling, and with, models are trained on the oracle's batches."""
    grid = {"shuffle": [True, False], "batch_size": [7, 16], **LR}
    found = compared(regressor(), grid, X, y, cv=UNEQUAL)
    assert len(found.groups_) == 4


# Splitters

GROUPS = np.repeat([0, 1, 2, 3], [5, 10, 15, 30])
_rng = np.random.default_rng(1)
_order = _rng.permutation(60)
_half = np.arange(60) < 30
SPLITTERS = {
    "folds": KFold(4, shuffle=True, random_state=0),
    "folds drawn once": KFold(4, shuffle=True, random_state=np.random.RandomState(0)),
    "classes": StratifiedKFold(4, shuffle=True, random_state=1),
    "shuffled": ShuffleSplit(3, test_size=0.35, random_state=0),
    "some rows": ShuffleSplit(3, train_size=0.5, test_size=0.2, random_state=0),
    "groups": GroupKFold(3),
    "each group": LeaveOneGroupOut(),
    "given": PredefinedSplit(np.repeat([-1, 0, 1, 2], [10, 5, 20, 25])),
    "repeated": RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
    "in time": TimeSeriesSplit(4),
    "one": [(np.arange(40), np.arange(40, 60))],
    "unequal": [
        (_order[:20], _order[20:]),
        (_order[20:], _order[:20]),
        (_order[7:59], _order[:7]),
    ],
    "lists": [(list(range(30)), list(range(30, 60))), (list(range(9, 60)), [1, 2, 3])],
    "rows that repeat": [(_rng.integers(0, 60, 60), _order[:20]) for _ in range(3)],
    "overlapping": [(_order[:50], _order), (_order[10:], _order)],
    "masks": [(_half, ~_half), (~_half, _half)],
}


@pytest.mark.parametrize("name", SPLITTERS)
def test_every_splitter(name):
    """Rows are split, and weights with them, as any splitter or list of splits says."""
    fit_params = {"sample_weight": WEIGHT}
    if "group" in name:
        fit_params["groups"] = GROUPS
    model = classifier(hidden_layer_sizes=(4,), batch_size=7)
    scoring = likelihood
    cv = SPLITTERS[name]
    compared(model, LR, X, LABELS, cv=cv, scoring=scoring, fit_params=fit_params)


def test_the_default_of_cv():
    """Without ``cv`` there are five folds, of classes alike for a classifier."""
    compared(regressor(), LR, X, y, cv=None)
    assert compared(classifier(), LR, X, THREE, cv=None).n_splits_ == 5


# Grids of everything


def slow_start(t):
    """Return a factor of the learning rate that grows with the step."""
    return min(1.0, t / 10)


GRIDS = {
    "layers": {"hidden_layer_sizes": [(), (4,), [4], 4, (3, 2)], **LR},
    "activations": {"activation": ["relu", "tanh"], "hidden_layer_sizes": [3, 4], **LR},
    "losses": {"loss": ["squared_error", "huber"], "delta": [0.1, 1.0], **LR},
    "optimizers": {"optimizer": ["sgd", "adam", "adamw", "adagrad", "rmsprop"], **LR},
    "epochs": {"max_iter": [1, 3, 5], **LR},
    "warm-up": {"warmup_steps": [0, 5], "lr_schedule": ["constant", "cosine"], **LR},
    "averages": {"average": [False, True, 4, 100], **LR},
    "dropout": {"dropout": [0.0, 0.1, 0.5], "hidden_layer_sizes": [(8,)], **LR},
    "norms": {"max_grad_norm": [None, 0.1, 1.0], **LR},
    "intercepts": {"fit_intercept": [True, False], "hidden_layer_sizes": [(), 4], **LR},
    "batches": {"batch_size": [5, 16, None], "last_batch": ["keep", "drop"], **LR},
    "dtypes": {"dtype": [None, "float64"], **LR},
}


@pytest.mark.parametrize("name", GRIDS)
def test_what_changes_shapes_or_control_flow_makes_groups(name):
    """Candidates unlike in these are trained group by group, each together."""
    grid = GRIDS[name]
    found = compared(regressor(), grid, X, y, refit=False)
    n_groups = len(ParameterGrid({k: v for k, v in grid.items() if k != "lr"}))
    assert len(found.groups_) == n_groups
    for group in found.groups_:
        assert set(group.params) == set(grid) - {"lr"}
        for number in group.candidates:
            candidate = found.cv_results_["params"][number]
            assert group.params.items() <= candidate.items()


def test_a_list_of_grids():
    """Parameters that some candidates lack are masked, and have their defaults."""
    grid = [
        {"lr": [0.01, 0.02], "batch_size": [8]},
        {"alpha": [0.1, 0.2], "hidden_layer_sizes": [(), (3,)]},
        {"optimizer": ["sgd"], "momentum": [0.3, 0.6]},
        {},
    ]
    found = compared(regressor(), grid, X, y)
    # batch_size=8 is the estimator's own: its candidates are in the group of the last.
    assert len(found.groups_) == 3


def test_candidates_that_are_alike():
    """A value may be in a grid twice, and an estimator may have been fitted before."""
    model = regressor(warm_start=True).fit(X, y)
    grid = {"lr": [0.01, 0.01, 0.05], "batch_size": [8, np.int64(8)]}
    found = compared(model, grid, X, y)
    assert len(found.groups_) == 1


SCHEDULES = ["adaptive", "constant", "cosine", "invscaling", "one_cycle", "optimal"]


@pytest.mark.parametrize(("tol", "hidden"), [(None, ()), (0.05, (5,))])
@pytest.mark.parametrize("schedule", [*SCHEDULES, "step", slow_start])
def test_every_schedule(schedule, tol, hidden):
    """The learning rates of a schedule start from each model's own numbers."""
    model = classifier(
        lr_schedule=schedule,
        decay_every=2,
        tol=tol,
        n_iter_no_change=1,
        max_iter=6,
        hidden_layer_sizes=hidden,
        optimizer="sgd",
        batch_size=16,
    )
    grid = [{"lr": [0.01, 0.1, 1.0]}, {"alpha": [0.01, 0.1]}]
    warns = {ConvergenceWarning, *FAILED}
    compared(model, grid, X, THREE, scoring=likelihood, refit=False, warns=warns)


def test_schedules_are_searched():
    """Schedules, functions among them, are a parameter like any other."""
    grid = {"lr_schedule": ["adaptive", "step", "optimal", slow_start], **LR}
    found = compared(regressor(decay_every=1), grid, X, y)
    assert len(found.groups_) == 4


OTHER_VALUES = {  # than those of the small estimators
    "activation": "tanh",
    "alpha": 0.1,
    "average": True,
    "batch_size": 16,
    "beta_1": 0.5,
    "beta_2": 0.9,
    "class_weight": "balanced",
    "decay": 0.5,
    "decay_every": 1,
    "delta": 0.5,
    "device": "auto",
    "dropout": 0.3,
    "dtype": "float64",
    "early_stopping": True,
    "epsilon": 0.1,
    "fit_intercept": False,
    "hidden_layer_sizes": (3,),
    "init": "he_normal",
    "l1_ratio": 0.5,
    "last_batch": "drop",
    "loss": "huber",
    "lr": 0.02,
    "lr_schedule": "invscaling",
    "max_grad_norm": 0.1,
    "max_iter": 2,
    "max_time": 1e6,
    "momentum": 0.5,
    "n_iter_no_change": 1,
    "negative_slope": 0.3,
    "nesterov": True,
    "normalize_y": False,
    "optimizer": "sgd",
    "power_t": 0.3,
    "quantile": 0.2,
    "random_state": 5,
    "record_batch_loss": True,
    "scoring": "neg_max_error",
    "shuffle": False,
    "tol": 1.0,
    "validation_fraction": 0.3,
    "verbose": True,
    "warm_start": True,
    "warmup_steps": 4,
}

# What makes a parameter matter, and which ones only change how it is done.
MATTERS = {
    "decay": {"lr_schedule": "step", "decay_every": 1},
    "decay_every": {"lr_schedule": "step"},
    "delta": {"loss": "huber"},
    "last_batch": {"batch_size": 7},
    "momentum": {"optimizer": "sgd"},
    "n_iter_no_change": {"tol": 1.0},
    "negative_slope": {"activation": "leaky_relu"},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9},
    "power_t": {"lr_schedule": "invscaling"},
    "quantile": {"loss": "quantile"},
    "scoring": {"early_stopping": True, "optimizer": "rmsprop", "max_iter": 8},
    "tol": {"n_iter_no_change": 1},
    "validation_fraction": {"early_stopping": True},
}
INDIFFERENT = {
    "device",
    "dtype",
    "max_time",
    "record_batch_loss",
    "verbose",
    "warm_start",
}


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, name)
        for cls in (MiniBatchRegressor, MiniBatchClassifier)
        for name in cls().get_params()
    ],
)
def test_every_parameter_is_searched(cls, name):
    """Whatever is searched beside the learning rate, the scores are the oracle's."""
    model = small(cls, hidden_layer_sizes=(4,), **MATTERS.get(name, {}))
    default, other = getattr(model, name), OTHER_VALUES[name]
    y_of, scoring = y, "r2"
    if cls is MiniBatchClassifier:
        other = {"loss": "hinge", "scoring": "neg_log_loss"}.get(name, other)
        y_of, scoring = LABELS, "roc_auc" if name == "loss" else likelihood
    grid = [
        {"lr": [0.01, 0.05], name: [default]},
        {"lr": [0.01, 0.05], name: [other]},
    ]
    if name == "lr":
        grid = {"lr": [default, other]}
    elif name in INDIFFERENT:  # equal scores have no best one
        grid[1]["lr"] = [0.02, 0.1]
    found = compared(
        model,
        grid,
        X,
        y_of,
        scoring=scoring,
        cv=2,
        refit=False,
        apart=None,
        warns={ConvergenceWarning},
    )
    reasons = {group.reason for group in found.groups_}
    timed = {"max_time is a limit of a single fit"} if name == "max_time" else set()
    assert reasons == {""} | timed
    if name not in INDIFFERENT:
        one, two = np.array_split(scores_of(found), 2)
        assert not np.array_equal(one, two)


# Stopping


@every_depth
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adagrad"])
def test_models_stop_each_at_its_own_epoch(name, hidden):
    """A model that has settled is left as it is, and the stack becomes smaller."""
    model = regressor(
        **{**OPTIMIZERS[name], "batch_size": 16, "max_iter": 20},
        tol=0.05,
        n_iter_no_change=2,
        hidden_layer_sizes=hidden,
        last_batch="fill",
    )
    lr = OPTIMIZERS[name]["lr"]
    grid = {"lr": np.geomspace(lr / 100, lr, 4), "random_state": [0, 1]}
    found = compared(model, grid, X, y, cv=UNEQUAL, warns={ConvergenceWarning})
    assert len(found.groups_) == 1
    lengths = {len(curve) for curves in found.loss_curves_ for curve in curves}
    assert len(lengths) > 3
    for place in (0, 3, 6):
        candidate = clone(model).set_params(**found.cv_results_["params"][place])
        for curve, (rows, _) in zip(found.loss_curves_[place], UNEQUAL, strict=True):
            caught(partial(candidate.fit, X[rows], y[rows]))
            np.testing.assert_allclose(curve, candidate.loss_curve_, rtol=1e-8)


@pytest.mark.parametrize("schedule", ["adaptive", "invscaling"])
def test_schedules_and_stopping_rules_meet(schedule):
    """Rates that each model slows down for itself go with it into a smaller stack."""
    model = classifier(
        lr_schedule=schedule,
        tol=0.01,
        n_iter_no_change=1,
        max_iter=25,
        batch_size=16,
        optimizer="sgd",
    )
    grid = {"lr": [0.01, 0.1, 1.0, 10.0]}
    scoring = likelihood
    found = compared(
        model, grid, X, THREE, cv=PAIR, scoring=scoring, warns={ConvergenceWarning}
    )
    lengths = {len(curve) for curves in found.loss_curves_ for curve in curves}
    assert len(lengths) > 3


def half_wrong(estimator, X, y):
    """Return a score of rows by their predictions."""
    return -np.mean(estimator.predict(X) != y)


EARLY = {
    "regressor's score": (regressor, y, None, None),
    "regressor's loss": (regressor, y, "loss", WEIGHT),
    "a metric of numbers": (regressor, y, "neg_mean_absolute_error", WEIGHT),
    "two targets": (regressor, Y, "r2", WEIGHT),
    "classifier's score": (classifier, LABELS, None, WEIGHT),
    "classifier's loss": (classifier, THREE, "loss", None),
    "probabilities": (classifier, THREE, "neg_log_loss", WEIGHT),
    "raw predictions": (classifier, LABELS, "roc_auc", None),
    "a function": (classifier, LABELS, half_wrong, None),
    "several labels": (classifier, SEVERAL_LABELS, None, None),
}


@pytest.mark.parametrize("name", EARLY)
def test_held_out_rows_end_the_training_of_each_model(name):
    """Each model keeps the weights by which the rows held out of its fold did best."""
    make, y, scoring, weight = EARLY[name]
    model = make(
        early_stopping=True,
        scoring=scoring,
        validation_fraction=0.2,
        tol=1e-3,
        n_iter_no_change=2,
        max_iter=8,
        batch_size=16,
        hidden_layer_sizes=(4,),
    )
    fit_params = {} if weight is None else {"sample_weight": weight}
    grid = {"lr": [0.003, 0.3], "random_state": [0, 1]}
    found = compared(
        model,
        grid,
        X,
        y,
        cv=UNEQUAL,
        fit_params=fit_params,
        warns={ConvergenceWarning},
    )
    assert len(found.groups_) == 1
    lengths = {len(curve) for curves in found.loss_curves_ for curve in curves}
    assert len(lengths) > 1


def test_held_out_rows_and_the_rest_of_the_parameters():
    """Averages, class weights, schedules and whole batches keep their best weights."""
    model = classifier(early_stopping=True, validation_fraction=0.2, max_iter=6)
    grid = {
        "average": [False, 4],
        "class_weight": [None, "balanced"],
        "batch_size": [7, None],
        **LR,
    }
    scoring = likelihood
    fit_params = {"sample_weight": WEIGHT}
    compared(model, grid, X, THREE, scoring=scoring, fit_params=fit_params, cv=2)


# Weights and targets

ZEROS = np.where(np.arange(60) % 4 == 0, 0, WEIGHT)


@every_task
@pytest.mark.parametrize("weight", [WEIGHT, ZEROS], ids=["above zero", "some zero"])
def test_sample_weights_are_split_like_the_rows(cls, y, weight):
    """Weights count in training, relative to their mean in a fold, and in the score."""
    model = small(cls, batch_size=7)
    grid = {"alpha": [0.01, 0.1], **LR}
    found = compared(
        model, grid, X, y, fit_params={"sample_weight": weight}, cv=UNEQUAL
    )
    without = VectorizedGridSearchCV(model, grid, cv=UNEQUAL).fit(X, y)
    assert not np.array_equal(scores_of(found), scores_of(without))


def test_a_fold_without_weight_fails():
    """Weights that are all zero are refused in the fold that has them."""
    weights = {"sample_weight": np.where(np.arange(60) < 30, 0, WEIGHT)}
    cv = [(np.arange(30), np.arange(30, 60)), (np.arange(10, 60), np.arange(10))]
    reason = "ValueError: "
    params = {"cv": cv, "fit_params": weights, "scoring": "neg_mean_squared_error"}
    compared(regressor(), LR, X, y, apart=reason, warns=FAILED, **params)


@pytest.mark.parametrize("weight", [None, WEIGHT, ZEROS], ids=["none", "some", "zero"])
@pytest.mark.parametrize("labels", [LABELS, THREE], ids=["two", "three"])
def test_classes_are_weighted_by_fold(labels, weight):
    """Balanced classes are those of the training rows of each split."""
    classes = np.unique(labels).tolist()
    given = dict(zip(classes, [1.0, 3.0, 0.5], strict=False))
    grid = {"class_weight": [None, "balanced", given], **LR}
    cv = [(np.arange(35), np.arange(35, 60)), (np.arange(20, 60), np.arange(20))]
    found = compared(
        classifier(),
        grid,
        X,
        labels,
        cv=cv,
        scoring=likelihood,
        fit_params={"sample_weight": weight},
    )
    assert len(found.groups_) == 3


def test_weights_of_several_labels():
    """Every label may have weights of its own."""
    weights = [None, "balanced", [{0: 1.0, 1: 2.0}, {0: 3.0, 1: 1.0}]]
    compared(classifier(), {"class_weight": weights, **LR}, X, SEVERAL_LABELS)


def test_a_fold_may_lack_a_class():
    """Folds that know other classes than others do are trained apart from them."""
    labels = np.repeat(["a", "b", "c"], [25, 15, 20])
    model = classifier(hidden_layer_sizes=(4,))
    compared(model, LR, X, labels, cv=KFold(3))
    cv = [(np.r_[0:40], np.r_[40:60]), (np.r_[25:60], np.r_[:25]), (np.r_[:60:2],) * 2]
    compared(model, LR, X, labels, cv=cv)


def test_a_fold_of_one_class_fails():
    """What the estimator refuses is reported as the oracle reports it."""
    labels = np.repeat(["a", "b"], 30)
    cv = [(np.arange(30), np.arange(30, 60)), (np.arange(10, 50), np.arange(10))]
    reason = "ValueError: "
    compared(classifier(), LR, X, labels, cv=cv, apart=reason, warns=FAILED)


TARGETS_OF_ALL_KINDS = {
    "a column": (regressor, y[:, np.newaxis]),
    "two targets": (regressor, Y),
    "integers": (regressor, np.round(y).astype(int)),
    "strings": (classifier, LABELS),
    "objects": (classifier, LABELS.astype(object)),
    "booleans": (classifier, LABELS == "yes"),
    "numbers": (classifier, THREE * 1.0),
    "several labels": (classifier, SEVERAL_LABELS),
    "a list": (classifier, LABELS.tolist()),
}


@every_depth
@pytest.mark.parametrize("name", TARGETS_OF_ALL_KINDS)
def test_targets_of_all_kinds(name, hidden):
    """What is learned may be numbers, labels, or several of either."""
    make, targets = TARGETS_OF_ALL_KINDS[name]
    compared(make(hidden_layer_sizes=hidden), LR, X, targets, cv=PAIR)


# Kinds of X

COUNTS = sparse.random(60, 12, density=0.3, format="csr", random_state=0)
FRAME = pd.DataFrame(X, columns=list("abcd"), index=np.arange(60)[::-1] * 2)
KINDS_OF_X = {
    "an array in columns": np.asfortranarray(X),
    "a view": np.repeat(X, 2, axis=1)[:, ::2],
    "integers": np.round(X * 10).astype(int),
    "a list": X.tolist(),
    "a frame": FRAME,
    "csr": COUNTS,
    "csc": COUNTS.tocsc(),
    "a sparse array": sparse.csr_array(COUNTS),
    "lil": COUNTS.tolil(),
    "a tensor": torch.from_numpy(X),
}


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "held out"])
@pytest.mark.parametrize("name", KINDS_OF_X)
def test_rows_of_all_kinds(name, early_stopping):
    """Rows may come in any container that the estimators take."""
    model = regressor(hidden_layer_sizes=(4,), early_stopping=early_stopping)
    model.set_params(scoring="loss")
    compared(model, LR, KINDS_OF_X[name], y, cv=PAIR)


def test_tables_of_rows_and_labels():
    """Frames and series are split by position, whatever their index."""
    labels = pd.Series(LABELS, index=FRAME.index, dtype="category")
    found = compared(classifier(), LR, FRAME, labels)
    assert found.feature_names_in_.tolist() == list("abcd")
    weight = pd.Series(WEIGHT, index=FRAME.index)
    targets = pd.DataFrame(Y, index=FRAME.index)
    compared(regressor(), LR, FRAME, targets, fit_params={"sample_weight": weight})


def test_tensors_of_rows_and_targets():
    """Tensors are computed with where they are, here on the CPU."""
    compared(regressor(), LR, torch.from_numpy(X), torch.from_numpy(y))


WIDE = sparse.random(60, 5000, density=0.01, format="csr", random_state=0)
WIDE_SETTINGS = {
    "plain": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam"},
    "topped up": {"optimizer": "sgd", "last_batch": "fill", "batch_size": 7},
    "network": {"hidden_layer_sizes": (3,)},
    "averaged": {"average": 10, "optimizer": "sgd"},
    "held out": {"early_stopping": True, "scoring": "loss"},
}


@pytest.mark.parametrize("name", WIDE_SETTINGS)
def test_wide_sparse_rows(name, epochs):
    """Steps that touch some columns only are taken by the models of a fold at once.

    But for averages, in which all columns count.
    """
    model = classifier(**WIDE_SETTINGS[name])
    grid = {"alpha": [0.001, 0.1], "l1_ratio": [0.0, 0.5], **LR}
    compared(model, grid, WIDE, LABELS, scoring=likelihood, cv=2)
    assert (max(epochs) > 1) == (name != "averaged")


@every_optimizer
def test_any_optimizer_on_wide_sparse_rows(optimizer, monkeypatch):
    """Every optimizer updates the columns of a wide layer as it does alone."""
    monkeypatch.setattr(skgd._training.csr, "NARROW", 5)
    params = {**optimizer, "lr": optimizer["lr"] / 10}
    model = regressor(**params, lr_schedule="invscaling")
    compared(model, {"alpha": [0.01, 0.1], "random_state": [0, 1]}, COUNTS, y, cv=PAIR)


def test_what_wide_sparse_rows_do_not_have_is_refused_alike():
    """A norm of gradients fails there, and candidates without it go on."""
    found = compared(
        regressor(),
        {"max_grad_norm": [None, 1.0], **LR},
        WIDE,
        y,
        cv=2,
        apart=None,
        warns=FAILED,
    )
    assert sorted(group.together for group in found.groups_) == [False, True]


# In float32 an addition in another order moves a weight by 6e-8 of itself, and the few
# dozen steps of these fits leave 1e-6 of it. Scores of regressors, which are continuous
# in the weights, are within 1e-4; labels of rows near a boundary may change.
FLOAT32 = 1e-4


@every_depth
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scores_in_float32(name, hidden):
    """They are the oracle's to what rounding can do, with the same winner."""
    params = {**OPTIMIZERS[name], "lr": OPTIMIZERS[name]["lr"] / 10}
    model = regressor(**params, hidden_layer_sizes=hidden)
    rows = X.astype(np.float32)
    grid = {"alpha": [0.01, 0.3], "random_state": [0, 1]}
    found = compared(model, grid, rows, y, cv=UNEQUAL, tolerance=FLOAT32)
    assert found.best_estimator_._layers()[0][0].dtype == np.float32


def test_float32_asked_for():
    """The dtype is searched like any other parameter."""
    grid = [  # in both, the same rate would score alike
        {"dtype": ["float32"], "lr": [0.01, 0.05]},
        {"dtype": ["float64"], "lr": [0.02, 0.1]},
    ]
    found = compared(regressor(), grid, X, y, tolerance=FLOAT32)
    assert len(found.groups_) == 2


# Pipelines

FITTED = []  # the parameter of a Shift for each of its fits


class Shift(TransformerMixin, BaseEstimator):
    """Adds a number to all features, and notes down that it was fitted."""

    def __init__(self, by=0.0):
        self.by = by

    def fit(self, X, y=None):
        FITTED.append(self.by)
        return self

    def transform(self, X):
        return X + self.by


class Subclass(MiniBatchRegressor):
    """An estimator that may do anything else than its base."""


class OtherPipeline(Pipeline):
    """Likewise."""


def scaled(model, **params):
    """Return a pipeline of a scaler and the model."""
    return Pipeline([("scale", StandardScaler()), ("model", model)], **params)


def nested(model):
    """Return pipelines within a pipeline, before its last step and in its place."""
    before = Pipeline([("scale", StandardScaler()), ("clip", MinMaxScaler())])
    last = Pipeline([("pick", SelectKBest(k=3)), ("net", model)])
    return Pipeline([("before", before), ("last", last)])


TABLE = pd.DataFrame(RAW, columns=list("abcd")).assign(e=list("xyz") * 20)
OF_COLUMNS = ColumnTransformer(
    [("numbers", StandardScaler(), list("abc")), ("words", OneHotEncoder(), ["e"])]
)

LR_OF_MODEL = {f"model__{name}": values for name, values in LR.items()}
PIPELINES = {
    "a scaler": (scaled(classifier()), RAW, LR_OF_MODEL),
    "the model alone": (Pipeline([("model", classifier())]), X, LR_OF_MODEL),
    "nested": (nested(classifier()), RAW, {"last__net__lr": [0.01, 0.05]}),
    "columns": (
        Pipeline([("columns", OF_COLUMNS), ("model", classifier())]),
        TABLE,
        LR_OF_MODEL,
    ),
    "no step": (
        Pipeline([("scale", "passthrough"), ("model", classifier())]),
        X,
        LR_OF_MODEL,
    ),
    "frames within": (
        scaled(classifier()).set_output(transform="pandas"),
        RAW,
        LR_OF_MODEL,
    ),
    "a parameter of a step": (
        scaled(classifier()),
        X,
        {"scale__with_mean": [True, False], **LR_OF_MODEL},
    ),
    "a parameter of a nested step": (
        nested(classifier()),
        RAW,
        {"last__pick__k": [1, 3], "last__net__lr": [0.01, 0.05]},
    ),
    "a parameter in columns": (
        Pipeline([("columns", OF_COLUMNS), ("model", classifier())]),
        TABLE,
        {"columns__numbers__with_std": [True, False], **LR_OF_MODEL},
    ),
    "another step": (
        scaled(classifier()),
        X,
        {
            "scale": [StandardScaler(), MinMaxScaler(), "passthrough", None],
            **LR_OF_MODEL,
        },
    ),
    "another model": (
        scaled(classifier()),
        RAW,
        {"model": [classifier(), classifier(hidden_layer_sizes=(3,))], **LR_OF_MODEL},
    ),
    "its shapes": (
        scaled(classifier()),
        RAW,
        {
            "model__hidden_layer_sizes": [(), (3,)],
            "scale__with_std": [True, False],
            "model__random_state": [0, 1],
        },
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_that_end_in_a_model(name):
    """Steps before the last see training rows only, and every test row after them."""
    pipeline, rows, grid = PIPELINES[name]
    scoring = likelihood
    compared(pipeline, grid, rows, THREE, scoring=scoring, return_train_score=True)


def test_training_rows_are_scored_as_they_are_transformed():
    """Not as ``fit_transform`` gave them to the model, which may be something else."""
    letters = pd.DataFrame({"a": np.repeat(list("abcdef"), 10)})
    cv = KFold(3, shuffle=True, random_state=0)
    pipeline = Pipeline([("encode", TargetEncoder(cv=cv)), ("model", regressor())])
    params = {"cv": cv, "return_train_score": True}
    compared(pipeline, LR_OF_MODEL, letters, y, **params)


def test_steps_of_one_setting_are_fitted_once_a_split():
    """Not for every candidate, though it be in another group."""
    pipeline = Pipeline([("shift", Shift()), ("model", regressor())])
    grid = {
        "shift__by": [0.0, 1.0],
        "model__batch_size": [8, 16],
        "model__lr": [0.01, 0.1],
    }
    compared(pipeline, grid, X, y)
    FITTED.clear()
    search = VectorizedGridSearchCV(pipeline, grid, cv=3, refit=False).fit(X, y)
    assert sorted(FITTED) == [0.0] * 3 + [1.0] * 3
    assert len(search.groups_) == 4


def test_steps_are_cached(tmp_path):
    """A pipeline with a memory uses it."""
    pipeline = scaled(classifier(), memory=joblib.Memory(tmp_path, verbose=0))
    grid = {"scale__with_mean": [True, False], **LR_OF_MODEL}
    compared(pipeline, grid, RAW, LABELS)


def test_weights_reach_the_last_step():
    """Parameters of fit go to the step that they are named for."""
    pipeline, weights = scaled(regressor()), {"model__sample_weight": WEIGHT}
    found = compared(pipeline, LR_OF_MODEL, RAW, y, fit_params=weights)
    without = VectorizedGridSearchCV(pipeline, LR_OF_MODEL, cv=2).fit(RAW, y)
    assert not np.array_equal(scores_of(found), scores_of(without))
    both = {"last__net__sample_weight": WEIGHT, "before__scale__sample_weight": WEIGHT}
    grid = {"last__net__lr": [0.01, 0.05]}
    compared(nested(classifier()), grid, RAW, THREE, fit_params=both)


def test_held_out_rows_of_a_pipeline():
    """Rows are held out of what the steps before the last have made of them."""
    model = classifier(early_stopping=True, max_iter=8, tol=0.01, n_iter_no_change=1)
    grid = {"model__lr": [0.01, 0.1, 1.0], "model__scoring": ["loss", None]}
    compared(scaled(model), grid, RAW, LABELS, warns={ConvergenceWarning})


def test_metadata_is_routed():
    """Weights that are asked for by name reach the models and the scorers."""
    with config_context(enable_metadata_routing=True):
        model = regressor().set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        weights = {"sample_weight": WEIGHT}
        compared(model, LR, X, y, fit_params=weights)
        pipeline = scaled(model)
        pipeline.named_steps["scale"].set_fit_request(sample_weight=True)
        compared(pipeline, LR_OF_MODEL, RAW, y, fit_params=weights)
        groups = {"groups": GROUPS}
        compared(model, LR, X, y, cv=GroupKFold(3), fit_params={**weights, **groups})


# What is fitted one at a time


APART = {
    "another estimator": (
        TransformedTargetRegressor(regressor()),
        {"regressor__lr": [0.01, 0.05]},
        "TransformedTargetRegressor",
    ),
    "a subclass": (Subclass(**regressor().get_params()), LR, "Subclass"),
    "another pipeline": (
        OtherPipeline([("model", regressor())]),
        LR_OF_MODEL,
        "OtherPipeline",
    ),
}


@pytest.mark.parametrize("name", APART)
def test_what_may_do_anything_is_fitted_one_at_a_time(name):
    """Estimators that are not skgd's own are left to scikit-learn."""
    model, grid, kind = APART[name]
    found = compared(model, grid, X, y, apart=None)
    reason = f"{kind} is not an estimator of skgd"
    assert {(g.together, g.reason) for g in found.groups_} == {(False, reason)}


def test_other_models_in_the_place_of_the_last_step():
    """Each candidate is trained in the way that its last step has."""
    grid = [
        {"model": [classifier()], "model__lr": [0.01, 0.05]},
        {"model": [LogisticRegression()], "model__C": [0.1, 1.0]},
        {"model": [scaled(classifier())]},
        {"scale": ["passthrough"]},
    ]
    found = compared(scaled(classifier()), grid, X, THREE, apart=None)
    reasons = {n: group.reason for group in found.groups_ for n in group.candidates}
    foreign = "LogisticRegression is not an estimator of skgd"
    others = "the steps of the pipeline are others"
    assert [reasons[n] for n in range(6)] == ["", "", foreign, foreign, others, ""]


def test_other_keywords_of_fit():
    """Rows to validate by are given to each fit, one at a time."""
    fit_params = {"X_val": X[:20], "y_val": y[:20]}
    reason = "fit is given more than sample_weight"
    compared(regressor(), LR, X, y, fit_params=fit_params, apart=reason)


# Scores


def accuracy(estimator, X, y):
    """Return the share of right labels."""
    return float(np.mean(estimator.predict(X) == y))


def two_scores(estimator, X, y):
    """Return two scores by name."""
    return {"accuracy": accuracy(estimator, X, y), "size": float(len(X))}


def needs_a_scaler(estimator, X, y):
    """Return a score that looks at the first step of a pipeline."""
    return estimator.score(X, y) + float(estimator.named_steps["scale"].mean_[0])


def refuses_some(estimator, X, y):
    """Return a score, but of models that learn fast."""
    if estimator.lr > 0.02:
        raise ValueError("too fast")
    return accuracy(estimator, X, y)


def best_of_the_first_two(results):
    """Return the place of the candidate that is refitted."""
    return int(np.argmax(results["mean_test_accuracy"][:2]))


LOG_LOSS = make_scorer(
    metrics.log_loss, response_method="predict_proba", greater_is_better=False
)
SCORINGS = {
    "none": {},
    "a name": {"scoring": "balanced_accuracy"},
    "probabilities": {"scoring": "neg_log_loss"},
    "raw predictions": {"scoring": "roc_auc"},
    "a metric": {"scoring": make_scorer(metrics.f1_score, pos_label="yes")},
    "a metric of probabilities": {"scoring": LOG_LOSS},
    "a function": {"scoring": accuracy},
    "a list": {"scoring": ["accuracy", "roc_auc"], "refit": "roc_auc"},
    "a tuple": {"scoring": ("accuracy", "neg_log_loss"), "refit": False},
    "a dict": {
        "scoring": {"right": "accuracy", "loss": LOG_LOSS, "own": accuracy},
        "refit": "loss",
    },
    "a choice": {
        "scoring": {"accuracy": "accuracy", "loss": LOG_LOSS},
        "refit": best_of_the_first_two,
    },
    "a function of several": {"scoring": two_scores, "refit": "accuracy"},
    "a function and a choice": {"scoring": two_scores, "refit": best_of_the_first_two},
    "no refit": {"scoring": "roc_auc", "refit": False},
}


@pytest.mark.parametrize("name", SCORINGS)
def test_every_scoring(name):
    """Any scorer judges models that were trained together, on test and training rows.

    Its estimator is the model, or the whole pipeline.
    """
    params = {**SCORINGS[name], "return_train_score": True}
    compared(classifier(), LR, X, LABELS, **params)
    compared(scaled(classifier()), LR_OF_MODEL, RAW, LABELS, **params)


def test_scores_of_three_classes_and_several_labels():
    """Scorers ask for what the models of one fold predict."""
    for scoring in ("roc_auc_ovr", "f1_macro", "neg_log_loss"):
        compared(classifier(), LR, X, THREE, scoring=scoring)
    for scoring in ("f1_micro", "roc_auc", "average_precision"):
        compared(classifier(), LR, X, SEVERAL_LABELS, scoring=scoring)
    for scoring in ("r2", "neg_root_mean_squared_error", "explained_variance"):
        compared(regressor(), LR, X, Y, scoring=scoring)


def test_scorers_see_the_whole_pipeline():
    """A function of our own may look at any step, as it was fitted in the split."""
    compared(scaled(regressor()), LR_OF_MODEL, RAW, y, scoring=needs_a_scaler)


def test_scorers_are_given_the_weights_of_their_rows():
    """Scorers that take weights get them, of test and of training rows."""
    scoring = {"mae": "neg_mean_absolute_error", "r2": "r2"}
    compared(
        regressor(),
        LR,
        X,
        y,
        scoring=scoring,
        refit="r2",
        return_train_score=True,
        fit_params={"sample_weight": WEIGHT},
        cv=PAIR,
    )


def test_scorers_may_fail():
    """A score that cannot be had is nan, or a number, and a warning says so."""
    hinge = classifier(loss="hinge")
    compared(hinge, LR, X, LABELS, scoring="neg_log_loss", warns={UserWarning})
    compared(
        hinge,
        LR,
        X,
        LABELS,
        scoring="neg_log_loss",
        error_score=0.0,
        warns={UserWarning},
    )
    scoring = {"right": "accuracy", "picky": refuses_some}
    params = {"scoring": scoring, "refit": "right", "return_train_score": True}
    compared(classifier(), LR, X, LABELS, warns={UserWarning}, **params)


def test_scorers_see_a_fitted_model():
    """What ``fit`` leaves is there: weights, curves, names, and room for more."""

    def of_weights(estimator, X, y):
        sizes = [abs(coef).sum() for coef in estimator.coefs_]
        sizes += [abs(intercept).sum() for intercept in estimator.intercepts_]
        curves = estimator.loss_curve_ + estimator.validation_scores_
        names = estimator.feature_names_in_.tolist() + estimator.classes_.tolist()
        numbers = [estimator.n_iter_, estimator.t_, estimator.loss_, len(names)]
        return float(np.sum(sizes + curves + numbers))

    model = classifier(hidden_layer_sizes=(3,), early_stopping=True, max_iter=5)
    compared(model, {"alpha": [0.01, 0.1], **LR}, FRAME, LABELS, scoring=of_weights)

    def trains_on(estimator, X, y):
        before = estimator.score(X, y)
        return before - estimator.partial_fit(X, y).score(X, y)

    compared(regressor(), LR, X, y, scoring=trains_on)


def test_predictions_of_a_scorer_are_those_of_the_model_alone():
    """A scorer may ask for other rows than those of the split."""

    def shifted(estimator, X, y):
        return -float(np.mean((estimator.predict(X + 1) - y) ** 2))

    compared(regressor(), LR, X, y, scoring=shifted)
    compared(scaled(regressor()), LR_OF_MODEL, X, y, scoring=shifted)


# Randomized search


@pytest.mark.parametrize("seed", [0, 1])
def test_candidates_are_drawn_from_distributions(seed):
    """The candidates are the oracle's, and so are their scores."""
    distributions = {
        "lr": loguniform(1e-3, 1e-1),
        "alpha": loguniform(1e-4, 1.0),
        "batch_size": [8, 16],
        "momentum": [0.0, 0.9],
    }
    compared(
        regressor(optimizer="sgd"),
        distributions,
        X,
        y,
        search=VectorizedRandomizedSearchCV,
        n_iter=9,
        random_state=seed,
    )


def test_candidates_are_drawn_from_several_distributions():
    """A list of distributions, the steps of a pipeline and several scores."""
    distributions = [
        {"model__lr": loguniform(1e-3, 1e-1), "scale": ["passthrough"]},
        {"model__alpha": loguniform(1e-4, 1.0), "model__random_state": [0, 1, 2]},
    ]
    compared(
        scaled(classifier(hidden_layer_sizes=(3,))),
        distributions,
        RAW / 100,
        LABELS,
        search=VectorizedRandomizedSearchCV,
        n_iter=6,
        random_state=np.random.RandomState(0),
        scoring=["accuracy", "roc_auc"],
        refit="roc_auc",
    )


# What fails

SGD = {"optimizer": "sgd", "max_iter": 4}
DIVERGING = {"lr": [0.01, 1e6, 0.02]}


@every_depth
@pytest.mark.parametrize("error_score", [np.nan, -7.5])
def test_a_model_that_diverges_gets_the_error_score(error_score, hidden):
    """A warning counts the fits that failed, and the others are as they were."""
    model = regressor(**SGD, hidden_layer_sizes=hidden)
    params = {"error_score": error_score, "return_train_score": True}
    found = compared(model, DIVERGING, X, y, warns=FAILED, **params)
    scores = scores_of(found)
    np.testing.assert_equal(scores[1], [error_score] * 2)
    assert found.best_index_ != 1
    without = VectorizedGridSearchCV(model, {"lr": [0.01, 0.02]}, cv=2).fit(X, y)
    np.testing.assert_allclose(scores[[0, 2]], scores_of(without), rtol=1e-12)
    search = VectorizedGridSearchCV(model, DIVERGING, cv=2, **params)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        _fit_quietly(search)


def _fit_quietly(search):
    """Fit a search whose nan scores are expected."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more of the t", UserWarning)
        search.fit(X, y)


@pytest.mark.parametrize("params", [{"early_stopping": True}, {"tol": 0.01}])
def test_a_model_that_diverges_among_some_that_stop(params):
    """With held-out rows it warns and keeps its best weights, without it fails."""
    model = regressor(**{**SGD, "max_iter": 12}, n_iter_no_change=2, **params)
    grid = {"lr": [0.003, 0.1, 1e6, 1e200]}
    warns = {ConvergenceWarning, *FAILED}
    compared(model, grid, X, y, cv=PAIR, warns=warns, scoring="neg_mean_squared_error")


def test_a_diverging_model_of_several_scores():
    """Every score of it is the error score, whoever computes them."""
    params = {"error_score": -1.0, "return_train_score": True}
    for scoring in (["r2", "neg_mean_squared_error"], two_scores_of_numbers):
        search = {"scoring": scoring, "refit": "r2", **params}
        compared(regressor(**SGD), DIVERGING, X, y, warns=FAILED, **search)
        grid = {"model__lr": DIVERGING["lr"]}
        compared(scaled(regressor(**SGD)), grid, X, y, warns=FAILED, **search)


def two_scores_of_numbers(estimator, X, y):
    """Return two scores by name."""
    return {"r2": estimator.score(X, y), "size": float(len(X))}


@pytest.mark.parametrize("grid", [DIVERGING, {"lr": [0.01, -1]}])
@pytest.mark.parametrize("pipeline", [False, True], ids=["alone", "in a pipeline"])
def test_errors_are_raised_if_asked_for(grid, pipeline):
    """With error_score="raise" the search ends with the error of the fit."""
    model = regressor(**SGD)
    if pipeline:
        model, grid = scaled(model), {f"model__{k}": v for k, v in grid.items()}
    messages = []
    for cls in (VectorizedGridSearchCV, GridSearchCV):
        with pytest.raises(ValueError, match=r"diverged|must be") as raised:
            cls(model, grid, cv=2, error_score="raise").fit(X, y)
        messages.append(str(raised.value)[:60])
    assert messages[0] == messages[1]


INVALID = {
    "lr": {"lr": [0.01, -1, 0.05]},
    "a word for lr": {"lr": [0.01, "fast", 0.05]},
    "none for alpha": {"alpha": [None, 0.1]},
    "a truth for alpha": {"alpha": [True, 0.1]},
    "seed": {"random_state": [0, -5, 1]},
    "batch_size": {"batch_size": [8, 0], **LR},
    "loss": {"loss": ["squared_error", "log_loss"], **LR},
    "layers": {"hidden_layer_sizes": [(), (0,), "many"], **LR},
    "schedule": {"lr_schedule": ["constant", lambda t: -1.0], **LR},
    "tol": {"tol": [None, -1], **LR},
    "dtype": {"dtype": ["float64", "float16"], **LR},
    "device": {"device": ["cpu", "abacus"], **LR},
}


@pytest.mark.parametrize("name", INVALID)
def test_values_that_are_refused(name):
    """An invalid value fails the fits of its candidates, and no others."""
    found = compared(regressor(), INVALID[name], X, y, apart=None, warns=FAILED)
    failed = np.isnan(scores_of(found)).any(1)
    assert failed.any()
    assert not failed.all()
    for group in found.groups_:
        assert set(failed[group.candidates]) == {not group.together}


def test_values_that_are_refused_in_a_pipeline():
    """So it is where the model is the last step."""
    grid = {"model__lr": [0.01, -1, 0.05], "scale__with_mean": [True, False]}
    found = compared(scaled(regressor()), grid, X, y, apart=None, warns=FAILED)
    together = [n for g in found.groups_ if g.together for n in g.candidates]
    assert sorted(together) == [0, 1, 4, 5]


def test_steps_that_fail():
    """A step that refuses its parameters fails the fits that have it."""
    pipeline = Pipeline([("pick", SelectKBest()), ("model", classifier())])
    grid = {"pick__k": [2, -1], **LR_OF_MODEL}
    found = compared(pipeline, grid, X, LABELS, apart=None, warns=FAILED)
    apart = [n for g in found.groups_ if not g.together for n in g.candidates]
    assert sorted(apart) == [1, 3]


def broken_later(t):
    """Return a factor of the learning rate of the first steps."""
    return 1 / max(0, 8 - t)


def score_of_slow_ones(estimator, X, y):
    """Return the score of a model with a small learning rate."""
    if estimator.lr > 0.02:
        raise LookupError("too fast")
    return estimator.score(X, y)


@pytest.mark.parametrize("pipeline", [False, True], ids=["alone", "in a pipeline"])
@pytest.mark.parametrize("name", ["lr_schedule", "scoring"])
def test_functions_that_raise_anything(name, pipeline):
    """An error of any kind in a function that a fit calls fails that fit."""
    model = regressor(early_stopping=True)
    function = broken_later if name == "lr_schedule" else score_of_slow_ones
    grid = {name: [getattr(model, name), function], **LR}
    if pipeline:
        model, grid = scaled(model), {f"model__{k}": v for k, v in grid.items()}
    found = compared(model, grid, X, y, apart=None, warns=FAILED)
    kept = [n for g in found.groups_ if g.together for n in g.candidates]
    assert sorted(kept) == [0, 2]


@pytest.mark.parametrize("cls", [VectorizedGridSearchCV, GridSearchCV])
def test_a_parameter_that_does_not_exist(cls):
    """The searches refuse it, whatever error_score is."""
    with pytest.raises(ValueError, match="Invalid parameter 'speed'"):
        cls(regressor(), {"speed": [1]}, cv=3).fit(X, y)


@pytest.mark.parametrize(
    "grid", [{"lr": [1e6]}, {"lr": [-1, -2]}], ids=["diverge", "refused"]
)
def test_all_fits_fail(grid):
    """The searches raise the same error, with all causes, if no fit succeeds."""
    messages = []
    for cls in (VectorizedGridSearchCV, GridSearchCV):
        with pytest.raises(ValueError, match=r"All the \d fits failed") as raised:
            cls(regressor(**SGD), grid, cv=2).fit(X, y)
        messages.append(str(raised.value).strip().splitlines()[0])
    assert messages[0] == messages[1]


@pytest.mark.parametrize("place", [0, 59])
def test_rows_that_are_refused(place):
    """A row that is not finite fails the fits that train on it."""
    rows = X.copy()
    rows[place] = np.nan
    cv = [(np.arange(40), np.arange(40, 50)), (np.arange(20, 60), np.arange(1, 20))]
    reason = "ValueError: "
    params = {"cv": cv, "refit": False}
    compared(regressor(), LR, rows, y, apart=reason, warns=FAILED, **params)


def test_targets_that_are_refused():
    """A target that the loss does not take fails the fits that train on it."""
    targets = POSITIVE.copy()
    targets[0] = -1
    grid = {"loss": ["gamma", "squared_error"], **LR}
    found = compared(regressor(), grid, X, targets, apart=None, warns=FAILED)
    assert {group.params["loss"]: group.together for group in found.groups_} == {
        "gamma": False,
        "squared_error": True,
    }


# Company


@every_task
@every_depth
def test_permuted_candidates_have_permuted_scores(cls, y, hidden):
    """It does not matter in which order candidates come."""
    model = small(cls, hidden_layer_sizes=hidden, dropout=0.1)
    grid = [
        {name: [value] for name, value in params.items()}
        for params in ParameterGrid({"random_state": [0, 1], "alpha": [0, 0.1], **LR})
    ]
    order = np.random.default_rng(0).permutation(len(grid))
    one = VectorizedGridSearchCV(model, grid, cv=UNEQUAL).fit(X, y)
    other = VectorizedGridSearchCV(model, [grid[n] for n in order], cv=UNEQUAL).fit(
        X, y
    )
    np.testing.assert_allclose(scores_of(one)[order], scores_of(other), rtol=1e-10)


@every_optimizer
def test_company_changes_nothing(optimizer):
    """A candidate among many has the scores that it has alone."""
    model = regressor(**optimizer, tol=0.01, n_iter_no_change=1)
    model.set_params(max_iter=10, batch_size=16)
    lr = optimizer["lr"]
    grid = {"lr": lr * np.geomspace(1e-3, 1, 6), "random_state": [0, 1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        many = VectorizedGridSearchCV(model, grid, cv=UNEQUAL).fit(X, y)
        for number in (0, 6, 11):
            params = many.cv_results_["params"][number]
            alone = [{name: [value] for name, value in params.items()}]
            one = VectorizedGridSearchCV(model, alone, cv=UNEQUAL).fit(X, y)
            np.testing.assert_allclose(
                scores_of(many)[number], scores_of(one)[0], rtol=1e-10
            )


# Slices and workers


@pytest.mark.parametrize("max_bytes", [1, 10_000, 10**9])
def test_slices_of_any_size_give_the_same_scores(max_bytes, epochs):
    """A budget of bytes cuts the stack, down to one model at a time."""
    model = classifier(hidden_layer_sizes=(4,), dropout=0.1, batch_size=7)
    grid = {"random_state": [0, 1], **LR}
    params = {"cv": UNEQUAL, "scoring": likelihood, "refit": False}
    whole = VectorizedGridSearchCV(model, grid, **params).fit(X, THREE)
    epochs.clear()
    cut = compared(model, grid, X, THREE, max_bytes=max_bytes, **params)
    np.testing.assert_allclose(scores_of(cut), scores_of(whole), rtol=1e-10)
    if max_bytes == 1:
        assert set(epochs) == {1}


def test_slices_of_models_that_stop():
    """Slices train until their own models have stopped."""
    model = regressor(**{**OPTIMIZERS["sgd"], "max_iter": 20, "batch_size": 16})
    model.set_params(tol=0.05, n_iter_no_change=1, early_stopping=True)
    grid = {"lr": [0.003, 0.03, 0.3], "random_state": [0, 1]}
    warns = {ConvergenceWarning}
    compared(model, grid, X, y, cv=PAIR, warns=warns, max_bytes=20_000)


MIXED = [
    {"model__lr": [0.01, 0.03, 0.05], "model__batch_size": [8, 16]},
    {"model": [Ridge()], "scale__with_mean": [True, False]},
]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_give_the_same_scores(backend):
    """Slices and single fits are spread over workers, of any backend of joblib."""
    with joblib.parallel_config(backend, n_jobs=2):
        found = compared(scaled(regressor()), MIXED, RAW, y, apart=None)
    assert sorted(group.together for group in found.groups_) == [
        False,
        False,
        True,
        True,
    ]
    alone = VectorizedGridSearchCV(scaled(regressor()), MIXED, cv=2).fit(RAW, y)
    np.testing.assert_allclose(scores_of(found), scores_of(alone), rtol=1e-10)


# Successive halving

EPOCHS = {"resource": "max_iter", "max_resources": 9, "factor": 3}
FOUR = {"lr": [0.003, 0.02], "alpha": [0.01, 0.3]}
NINE = {"lr": [0.003, 0.01, 0.03], "alpha": [0.01, 0.1, 0.3]}
HALVING = {
    "adam": {},
    "whole batches": {"batch_size": None, "lr": 0.1},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    "adagrad": {"optimizer": "adagrad"},
    "rmsprop": {"optimizer": "rmsprop"},
    "adamw": {"optimizer": "adamw"},
    "network": {"hidden_layer_sizes": (5,)},
    "dropout": {"hidden_layer_sizes": (5,), "dropout": 0.2},
    "averaged": {"average": True},
    "averaged later": {"average": 10},
    "falling": {"lr_schedule": "invscaling"},
    "by epochs": {"lr_schedule": "step", "decay_every": 2},
    "optimal": {"lr_schedule": "optimal"},
    "a function": {"lr_schedule": slow_start},
    "warm-up": {"warmup_steps": 20},
    "topped up": {"last_batch": "fill", "batch_size": 7},
    "dropped": {"last_batch": "drop", "batch_size": 7},
    "in order": {"shuffle": False},
    "clipped": {"max_grad_norm": 0.5},
}
ANEW = {
    "cosine": {"lr_schedule": "cosine"},
    "one_cycle": {"lr_schedule": "one_cycle"},
    "held out": {"early_stopping": True, "scoring": "loss"},
}


def halved(estimator, grid, X, y, search=VectorizedHalvingGridSearchCV, **params):
    """Return our search, having asserted that it says what the oracle says."""
    params = {"random_state": 0, **EPOCHS, **params}
    return compared(estimator, grid, X, y, search=search, **params)


@pytest.mark.parametrize("name", HALVING)
def test_survivors_go_on_as_if_trained_anew(name):
    """Weights, moments and random streams go on: the scores are the oracle's."""
    params = {"factor": 2, "max_resources": 8, "cv": PAIR, "refit": False}
    found = halved(regressor(**HALVING[name]), FOUR, X, y, **params)
    assert found.n_candidates_ == [4, 2, 1]
    assert found.n_resources_ == [2, 4, 8]


@pytest.mark.parametrize("name", ANEW)
def test_survivors_are_trained_anew_where_they_must_be(name):
    """Schedules over all epochs, and held-out rows, make other trainings."""
    halved(regressor(**ANEW[name]), FOUR, X, y, factor=2, max_resources=8, cv=PAIR)


def test_survivors_train_the_rest_of_the_epochs_only(epochs):
    """Each rung costs the epochs that it has more than the one before."""
    model, params = regressor(), {"cv": 3, "refit": False, "random_state": 0, **EPOCHS}
    HalvingGridSearchCV(model, NINE, **params).fit(X, y)
    assert sum(epochs) == 3 * (9 * 1 + 3 * 3 + 1 * 9)
    epochs.clear()
    VectorizedHalvingGridSearchCV(model, NINE, **params).fit(X, y)
    assert sum(epochs) == 3 * (9 * 1 + 3 * 2 + 1 * 6)
    epochs.clear()
    model.set_params(lr_schedule="cosine")
    VectorizedHalvingGridSearchCV(model, NINE, **params).fit(X, y)
    assert sum(epochs) == 3 * (9 * 1 + 3 * 3 + 1 * 9)


@every_depth
@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
@pytest.mark.parametrize("cls", [MiniBatchRegressor, MiniBatchClassifier])
def test_survivors_that_have_stopped_remain_so(cls, schedule, hidden):
    """The stopping rules go on too, and slowed rates with them."""
    y_of = {MiniBatchRegressor: y, MiniBatchClassifier: THREE}[cls]
    model = small(
        cls,
        tol=0.05,
        n_iter_no_change=1,
        lr_schedule=schedule,
        hidden_layer_sizes=hidden,
        optimizer="sgd",
        batch_size=16,
    )
    grid = {"lr": [0.003, 0.03, 0.1], "momentum": [0.0, 0.5]}
    scoring = "r2" if cls is MiniBatchRegressor else likelihood
    found = halved(
        model,
        grid,
        X,
        y_of,
        cv=PAIR,
        factor=2,
        max_resources=12,
        min_resources=3,
        scoring=scoring,
        warns={ConvergenceWarning},
    )
    lengths = {len(curve) for curves in found.loss_curves_ for curve in curves}
    if schedule == "constant":
        assert not lengths <= {3, 6, 12}


def test_survivors_of_unlike_groups_and_seeds():
    """Survivors come from several groups, seeds and slices, and go on together."""
    grid = {
        "batch_size": [8, 16],
        "random_state": [0, 1],
        "momentum": [0.0, 0.9],
        "lr": [0.003, 0.01],
    }
    model = regressor(optimizer="sgd", hidden_layer_sizes=(3,))
    found = halved(model, grid, X, y, factor=2, max_resources=8, cv=UNEQUAL)
    sliced = halved(
        model, grid, X, y, factor=2, max_resources=8, cv=UNEQUAL, max_bytes=5000
    )
    np.testing.assert_allclose(scores_of(found), scores_of(sliced), rtol=1e-10)


def test_schedules_compete():
    """Of candidates of one rung, some go on and others are trained anew."""
    grid = {"lr_schedule": ["constant", "cosine", "step"], "lr": [0.01, 0.03, 0.1]}
    halved(regressor(decay_every=2), grid, X, y)


def test_halving_of_pipelines(epochs):
    """The resource may be a parameter of the last step."""
    grid = {"model__lr": [0.003, 0.01, 0.03], "scale__with_mean": [True, False]}
    pipeline = scaled(regressor())
    halved(pipeline, grid, RAW, y, resource="model__max_iter")
    epochs.clear()
    search = VectorizedHalvingGridSearchCV(
        pipeline, grid, cv=3, refit=False, **{**EPOCHS, "resource": "model__max_iter"}
    ).fit(RAW, y)
    rungs = zip(search.n_candidates_, np.diff([0, *search.n_resources_]), strict=True)
    assert sum(epochs) == 3 * sum(n * more for n, more in rungs)


def test_halving_of_classes_weights_and_scores():
    """Weights, class weights and scorers are those of every rung."""
    grid = {"lr": [0.003, 0.03, 0.1], "class_weight": [None, "balanced"]}
    fit_params = {"sample_weight": WEIGHT}
    model = classifier(hidden_layer_sizes=(3,))
    scoring = likelihood
    halved(model, grid, X, THREE, scoring=scoring, fit_params=fit_params)
    halved(model, grid, COUNTS, THREE, scoring=accuracy, aggressive_elimination=True)


def test_halving_by_rows():
    """More and more rows are another training each time."""
    grid = {"lr": [0.003, 0.01, 0.03], "alpha": [0.01, 0.1]}
    resource = {"resource": "n_samples", "max_resources": "auto"}
    halved(regressor(), grid, X, y, **resource)
    halved(classifier(), grid, X, LABELS, scoring=likelihood, **resource)


def test_halving_by_another_parameter():
    """Any parameter may be the resource; only epochs go on."""
    grid = {"lr": [0.003, 0.01, 0.03], "alpha": [0.01, 0.1]}
    model = regressor(hidden_layer_sizes=1)
    halved(model, grid, X, y, resource="hidden_layer_sizes")


def test_halving_of_what_fails():
    """Candidates that diverge are not among the survivors, and stay apart."""
    grid = {"lr": [0.003, 0.01, 0.03, 1e6, 0.02, -1.0]}
    found = halved(regressor(optimizer="sgd"), grid, X, y, apart=None, warns=FAILED)
    assert found.best_params_["lr"] < 1


def leaps(t):
    """Return what leads far away in the second step, and back from the third on."""
    return 1e3 if t == 2 else 1.0


def test_survivors_that_have_failed_begin_anew():
    """A rung that has failed is no place to go on from, nor is the one before it.

    Candidates with an error score better than the others' scores survive.
    """
    model = regressor(optimizer="sgd", batch_size=None, lr_schedule=leaps)
    grid = {"lr": [0.3, 0.02, 0.01, 1e-3, 1e-4, 1e-5]}
    rungs = {"factor": 2, "min_resources": 1, "max_resources": 8}
    params = {"error_score": 1.0, "refit": False, **rungs}
    found = halved(model, grid, X, y, warns=FAILED, **params)
    means = found.cv_results_["mean_test_score"]
    assert 1 in means[6:9]
    assert 1 not in means[9:]


def test_most_of_the_candidates_fail():
    """Without better ones, candidates that fail survive, and fail again."""
    grid = {"lr": [0.01, 1e5, 1e6, 1e7]}
    model, params = regressor(optimizer="sgd"), {"factor": 2, "max_resources": 8}
    halved(model, grid, X, y, warns=FAILED, **params)


@pytest.mark.parametrize("options", [{}, {"n_candidates": 7}, {"factor": 2}])
def test_halving_of_candidates_that_are_drawn(options):
    """Candidates are drawn like the oracle's, and survivors go on."""
    distributions = {
        "lr": loguniform(1e-3, 1e-1),
        "alpha": loguniform(1e-4, 1.0),
        "batch_size": [8, 16],
    }
    search = VectorizedHalvingRandomSearchCV
    halved(regressor(), distributions, X, y, search=search, **options)


# Devices


@real_devices
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("as_tensor", [False, True], ids=["array", "tensor"])
def test_a_search_on_every_device(device, as_tensor, early_stopping):
    """Folds and candidates are trained where they are told to be, or where X lies."""
    model = small(
        MiniBatchClassifier,
        hidden_layer_sizes=(5,),
        optimizer="sgd",
        device=device,
        early_stopping=early_stopping,
        scoring="loss",
    )
    rows = torch.from_numpy(X).to(device) if as_tensor else X
    grid = {"lr": [0.01, 0.1, 0.3], "alpha": [0.0, 0.1], "batch_size": [7, None]}
    labels = TASKS["three classes"][1]
    cv = KFold(7)  # of unequal sizes
    ours = VectorizedGridSearchCV(model, grid, cv=cv).fit(rows, labels)
    theirs = GridSearchCV(model, grid, cv=cv).fit(X, labels)
    assert all(group.together for group in ours.groups_)
    assert_same_search(ours, theirs, X)
