"""However models are batched, split, stopped and sliced, scores are scikit-learn's."""

import warnings
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from conftest import (
    OPTIMIZERS,
    RAW,
    TASKS,
    WEIGHT,
    X,
    Y,
    every_depth,
    every_engine,
    every_optimizer,
    every_task,
    on_both_engines,
    real_devices,
    small,
)
from covering import every_pair
from parity_cases import (
    GROUPS,
    LABELS,
    LR,
    PAIR,
    SEVERAL_LABELS,
    THREE,
    UNEQUAL,
    assert_same_search,
    caught,
    classifier,
    compared,
    likelihood,
    regressor,
    scaled,
    scores_of,
    y,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    ParameterGrid,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

from skgd import MiniBatchClassifier, VectorizedGridSearchCV

pytestmark = [pytest.mark.usefixtures("one_thread"), on_both_engines]


# Batches

# By some sizes 51 rows make whole batches, by others 52 do.


@every_pair(
    pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"]),
    pytest.mark.parametrize("batch_size", [1, 7, 17, 25, 26, 50, 51, None]),
    every_engine,
)
def test_batches_of_folds_of_unequal_size(batch_size, last_batch):
    """Batches are those of every fold alone, also where folds differ in size."""
    model = regressor(batch_size=batch_size, last_batch=last_batch, max_iter=2)
    compared(model.set_params(hidden_layer_sizes=(4,)), LR, X, y, cv=PAIR)


@every_pair(
    pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"]),
    pytest.mark.parametrize("batch_size", [52, 1000]),
    every_engine,
)
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


# Stopping


@every_pair(
    every_depth,
    pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adagrad"]),
    every_engine,
)
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
    grid = [{"lr": [0.003, 0.3]}, {"lr": [0.3], "random_state": [1]}]
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


# Company


@every_pair(
    every_task,
    every_depth,
    every_engine,
)
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
def test_workers_give_the_same_scores(backend, loky):
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


# Devices


@real_devices
@every_pair(
    pytest.mark.parametrize("early_stopping", [False, True]),
    pytest.mark.parametrize("as_tensor", [False, True], ids=["array", "tensor"]),
    every_engine,
)
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
    ours = VectorizedGridSearchCV(model, grid, cv=PAIR).fit(rows, labels)
    theirs = GridSearchCV(model, grid, cv=PAIR).fit(X, labels)
    assert all(group.together for group in ours.groups_)
    assert_same_search(ours, theirs, X)
