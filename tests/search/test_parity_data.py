"""Weights, targets and rows of all kinds: the scores are scikit-learn's."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    OPTIMIZERS,
    WEIGHT,
    X,
    Y,
    every_depth,
    every_engine,
    every_optimizer,
    every_task,
    layers_of,
    on_both_engines,
    small,
)
from covering import every_pair
from parity_cases import (
    COUNTS,
    FAILED,
    FRAME,
    LABELS,
    LR,
    PAIR,
    SEVERAL_LABELS,
    THREE,
    UNEQUAL,
    classifier,
    compared,
    likelihood,
    regressor,
    scores_of,
    y,
)
from scipy import sparse
from sklearn.model_selection import KFold

import skgd._training.csr
import skgd._training.loop
from skgd import VectorizedGridSearchCV

pytestmark = pytest.mark.usefixtures("one_thread")


# Weights and targets

ZEROS = np.where(np.arange(60) % 4 == 0, 0, WEIGHT)


@on_both_engines
@every_pair(
    every_task,
    pytest.mark.parametrize("weight", [WEIGHT, ZEROS], ids=["above zero", "some zero"]),
    every_engine,
)
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


@on_both_engines
@pytest.mark.parametrize("name", WIDE_SETTINGS)
def test_wide_sparse_rows(name, epochs):
    """Steps that touch some columns only are taken by the models of a fold at once.

    But for averages, in which all columns count.
    """
    model = classifier(**WIDE_SETTINGS[name])
    grid = {"alpha": [0.001, 0.1], "l1_ratio": [0.0, 0.5], **LR}
    compared(model, grid, WIDE, LABELS, scoring=likelihood, cv=2)
    assert (max(epochs) > 1) == (name != "averaged")


@on_both_engines
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


@on_both_engines
@every_pair(
    every_depth,
    pytest.mark.parametrize("name", OPTIMIZERS),
    every_engine,
)
def test_scores_in_float32(name, hidden):
    """They are the oracle's to what rounding can do, with the same winner."""
    params = {**OPTIMIZERS[name], "lr": OPTIMIZERS[name]["lr"] / 10}
    model = regressor(**params, hidden_layer_sizes=hidden)
    rows = X.astype(np.float32)
    grid = {"alpha": [0.01, 0.3], "random_state": [0, 1]}
    found = compared(model, grid, rows, y, cv=UNEQUAL, tolerance=FLOAT32)
    assert layers_of(found.best_estimator_)[0][0].dtype == np.float32


def test_float32_asked_for():
    """The dtype is searched like any other parameter."""
    grid = [  # in both, the same rate would score alike
        {"dtype": ["float32"], "lr": [0.01, 0.05]},
        {"dtype": ["float64"], "lr": [0.02, 0.1]},
    ]
    found = compared(regressor(), grid, X, y, tolerance=FLOAT32)
    assert len(found.groups_) == 2
