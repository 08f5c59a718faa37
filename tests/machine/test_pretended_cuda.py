"""Fits on a CUDA device that is pretended: those on the CPU, and how often they wait.

Every optimizer, schedule, loss, activation and option is fitted once.
"""

from itertools import count

import numpy as np
import pytest
import torch
from conftest import (
    N_FEATURES,
    N_ROWS,
    OPTIMIZERS,
    TASKS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    every_class,
    small,
)
from pretended_cuda import CUDA, pretended_cuda
from scipy import sparse
from sklearn.base import clone

import skgd._equations.activations
import skgd._equations.optimizers
import skgd._equations.schedules
from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
    VectorizedRandomizedSearchCV,
)
from skgd._estimators import checkpoints
from skgd._estimators.parameters import LOSSES_OF_CLASSES, LOSSES_OF_NUMBERS

y, two = Y[:, 0], TASKS["two classes"][1]
labels = TASKS["three classes"][1]
SEVERAL = (Y > 3).astype(int)
LOSSES = {
    MiniBatchRegressor: LOSSES_OF_NUMBERS,
    MiniBatchClassifier: LOSSES_OF_CLASSES,
}
TARGETS = {MiniBatchRegressor: abs(y) + 1, MiniBatchClassifier: labels}

# Every row has an entry in each of a few places among very many.
COLUMNS = np.random.default_rng(0).integers(5000, size=X.size)
ROWS = {
    "dense": X,
    "sparse": sparse.csr_array(X * (abs(X) > 0.5)),
    "wide": sparse.csr_array(
        (X.ravel(), (np.repeat(np.arange(N_ROWS), N_FEATURES), COLUMNS)), (N_ROWS, 5000)
    ),
}

NETWORK = {"hidden_layer_sizes": (5, 3)}
SGD = {"optimizer": "sgd", "lr": 0.01}


def half(t):
    return 0.5


def accuracy(estimator, X, y):
    return float((estimator.predict(X) == y).mean())


R, C = MiniBatchRegressor, MiniBatchClassifier

# Name: the class, the kind of rows, and parameters.
FITS = {
    **{
        f"{name}, {rows}": (cls, rows, {**params, "lr": 0.01, **hidden})
        for name, params in OPTIMIZERS.items()
        for cls, rows, hidden in ((C, "dense", NETWORK), (R, "wide", {}))
    },
    **{
        f"lr_schedule={kind}": (R, "dense", {"lr_schedule": kind, "max_iter": 5})
        for kind in ["adaptive", *skgd._equations.schedules.SCHEDULES]
    },
    "lr_schedule=a function": (R, "dense", {"lr_schedule": half}),
    **{
        f"{cls.__name__}, loss={loss}": (cls, "dense", {"loss": loss, "lr": 0.01})
        for cls, losses in LOSSES.items()
        for loss in losses
    },
    **{
        f"activation={name}": (R, "dense", {"activation": name, **NETWORK})
        for name in skgd._equations.activations.ACTIVATIONS
    },
    "lasso": (R, "dense", {"alpha": 0.01, "l1_ratio": 0.5}),
    "wide lasso": (C, "wide", {**SGD, "alpha": 0.01, "l1_ratio": 0.5}),
    "lasso of a network": (C, "sparse", {"l1_ratio": 0.5, **NETWORK}),
    "wide network": (C, "wide", {**SGD, **NETWORK, "dropout": 0.3}),
    "average": (R, "dense", {"average": 5}),
    "wide average": (R, "wide", {**SGD, "average": True}),
    "warm-up": (C, "dense", {"warmup_steps": 5}),
    "dropout": (C, "dense", {"dropout": 0.3, **NETWORK}),
    "scored": (C, "dense", {"early_stopping": True, "max_iter": 6}),
    "scored by a function": (C, "dense", {"early_stopping": True, "scoring": accuracy}),
    "held out": (R, "sparse", {"early_stopping": True, "scoring": "loss"}),
    "wide scored": (C, "wide", {"early_stopping": True, "max_iter": 6}),
    "settled": (R, "dense", {"tol": 0.1, "n_iter_no_change": 1, "max_iter": 1000}),
    "topped up": (R, "dense", {"last_batch": "fill", "batch_size": 7}),
    "dropped": (R, "sparse", {"last_batch": "drop", "batch_size": 7}),
    "whole": (R, "dense", {"batch_size": None, "max_iter": 10}),
    "one row": (C, "sparse", {"batch_size": 1}),
    "not shuffled": (R, "sparse", {"shuffle": False}),
    "clipped": (C, "dense", {"max_grad_norm": 0.1}),
    "recorded": (R, "dense", {"record_batch_loss": True}),
    "float32": (R, "wide", {"dtype": "float32"}),
    "targets as they are": (R, "dense", {"normalize_y": False}),
    "no intercept": (C, "dense", {"fit_intercept": False, **NETWORK}),
    "a clock": (R, "dense", {"max_time": 1000}),
    "balanced": (C, "dense", {"class_weight": "balanced"}),
    "an init": (C, "dense", {"init": "he_normal", **NETWORK}),
    "delta": (R, "dense", {"loss": "huber", "delta": 1.0}),
    "quantile": (R, "dense", {"loss": "quantile", "quantile": 0.9}),
    "quantiles": (R, "dense", {"loss": "quantile", "quantile": (0.9, 0.2), **NETWORK}),
    "power": (R, "dense", {"loss": "tweedie", "power": 1.2}),
    "ensemble": (C, "dense", {"n_models": 2, **NETWORK}),
}


def test_what_cuda_refuses_is_refused():
    """Two devices do not meet, but for numbers, and no array is made of a tensor."""
    here, index = torch.ones(3), torch.tensor([0, 2])
    with pretended_cuda() as device:
        there = here.to("cuda:0")
        for meet in (
            lambda: there + here,
            lambda: there.index_select(0, index),
            lambda: torch.add(here, here, out=there),
            lambda: here[index.to("cuda:0")],
        ):
            with pytest.raises(RuntimeError, match="on the same device"):
                meet()
        for make in (np.asarray, lambda tensor: tensor.numpy()):
            with pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\)"):
                make(there)
        device.waits.clear()
        assert (there + torch.tensor(1.0))[index].tolist() == [2, 2]
        assert there.sum().item() == 3
    assert device.waits.total() == 3  # the index, the list and the number


def assert_same_fit(there, here, rows):
    """Assert that two estimators have come to the same, and predict it.

    Where a gradient is all but 0, Adam divides its rounding by itself.
    """
    pair = [getattr(one, "estimators_", [one]) for one in (there, here)]
    for models in zip(*pair, strict=True):
        assert_same_layers(*models, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(there.loss_curve_, here.loss_curve_, rtol=1e-9)
    predicted, expected = there.predict(rows), here.predict(rows)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(predicted, expected, rtol=1e-9)
    else:
        assert np.array_equal(predicted, expected)


@pytest.mark.parametrize(("cls", "kind", "params"), FITS.values(), ids=FITS)
def test_a_fit_is_that_on_the_cpu(cls, kind, params):
    """No two devices meet, and the end is the same; so it is of a stream."""
    rows, y, params = ROWS[kind], TARGETS[cls], {"batch_size": 16, **params}
    here = small(cls, engine="torch", **params).fit(rows, y)  # as there
    with pretended_cuda():
        there = small(cls, device="cuda", **params).fit(rows, y)
        assert_same_fit(there, here, rows)
        if not ({"early_stopping", "class_weight"} & {*params}):
            assert_same_fit(there.partial_fit(rows, y), here.partial_fit(rows, y), rows)


@every_class
def test_every_option_is_among_these_fits(cls):
    """A parameter that is added to an estimator is fitted with here."""
    used = {name for _, _, params in FITS.values() for name in params}
    kept = {
        "device",
        "engine",
        "random_state",
        "verbose",
        "warm_start",
        "power_t",
        "decay",
    }
    kept |= {"decay_every", "momentum", "nesterov", "beta_1", "beta_2", "epsilon"}
    kept |= {"negative_slope", "validation_fraction"}  # numbers of what is fitted
    assert set(cls().get_params()) <= used | kept


@pytest.mark.parametrize(
    ("cls", "y"), [(R, Y), (C, two), (C, SEVERAL)], ids=["two targets", "two", "labels"]
)
@pytest.mark.parametrize("kind", ROWS)
def test_every_kind_of_target_is_learned_there(cls, y, kind):
    """Several targets, two classes, and several labels a row."""
    here = small(cls, **NETWORK).fit(ROWS[kind], y)
    with pretended_cuda():
        there = small(cls, device="cuda", **NETWORK).fit(ROWS[kind], y)
        assert_same_fit(there, here, ROWS[kind])


def test_no_float64_comes_to_the_device_in_a_fit_of_float32():
    """Not every device has it."""
    rows = ROWS["wide"].astype("f4"), X.astype("f4")
    params = {"early_stopping": True, "average": True, "lr_schedule": "adaptive"}
    with pretended_cuda() as device:
        small(C, device="cuda", l1_ratio=0.5, **NETWORK).fit(rows[0], labels, WEIGHT)
        small(C, device="cuda", **params, **NETWORK).fit(rows[1], labels)
        small(R, device="cuda", **NETWORK).fit(rows[1], y).predict(rows[1])
    assert torch.float32 in device.dtypes
    assert torch.float64 not in device.dtypes


# Searches

GRID = {"lr": [0.01, 0.1], "alpha": [1e-4, 0.1]}
STACKS = {
    "dense": ("dense", NETWORK),
    "stopped early": (
        "dense",
        {"early_stopping": True, "lr_schedule": "adaptive", "n_iter_no_change": 1},
    ),
    "sparse": ("sparse", {"average": True}),
    "wide": ("wide", SGD),
}


@pytest.mark.parametrize(("kind", "params"), STACKS.values(), ids=STACKS)
def test_a_search_is_that_on_the_cpu(kind, params):
    """Candidates and splits that are trained together get the same scores."""
    rows = ROWS[kind]
    search = VectorizedGridSearchCV(small(C, **params), GRID, cv=3)
    here = clone(search).fit(rows, labels)
    with pretended_cuda():
        there = search.set_params(estimator__device="cuda").fit(rows, labels)
        assert_same_fit(there.best_estimator_, here.best_estimator_, rows)
    assert [g.together for g in there.groups_] == [g.together for g in here.groups_]
    for split in range(3):
        name = f"split{split}_test_score"
        np.testing.assert_allclose(there.cv_results_[name], here.cv_results_[name])
    for curves in zip(there.loss_curves_, here.loss_curves_, strict=True):
        np.testing.assert_allclose(*curves, rtol=1e-9)


def test_what_survives_goes_on_there():
    """Successive halving takes the state of survivors to the device again."""
    search = VectorizedHalvingGridSearchCV(
        small(C, **NETWORK), GRID, cv=3, resource="max_iter", max_resources=6, factor=2
    )
    here = clone(search).fit(X, labels)
    with pretended_cuda():
        there = search.set_params(estimator__device="cuda").fit(X, labels)
        assert_same_fit(there.best_estimator_, here.best_estimator_, X)
    names = [name for name in here.cv_results_ if name.endswith("test_score")]
    for name in names:
        np.testing.assert_allclose(there.cv_results_[name], here.cv_results_[name])


# Tensors of the device


def sent(*arrays):
    """Return the arrays as tensors of the device."""
    return [torch.from_numpy(array).to(CUDA) for array in arrays]


@every_class
def test_tensors_of_the_device_are_taken_for_every_array(cls):
    """Rows are computed with where they lie; what was fitted lies on the host."""
    arrays = X, TARGETS[cls], WEIGHT
    held_out = ("X_val", "y_val", "sample_weight_val")
    here = small(cls, early_stopping=True)
    here.fit(*arrays, **dict(zip(held_out, arrays, strict=True)))
    with pretended_cuda():
        there, tensors = small(cls, early_stopping=True), sent(*arrays)
        there.fit(*tensors, **dict(zip(held_out, tensors, strict=True)))
        assert_same_fit(there, here, X)
        assert isinstance(there.predict(tensors[0]), np.ndarray)
        assert np.array_equal(there.predict(tensors[0]), there.predict(X))
        assert there.score(*tensors) == pytest.approx(here.score(*arrays), rel=1e-12)
        for model, (rows, targets, weight) in ((there, tensors), (here, arrays)):
            model.set_params(early_stopping=False)
            model.partial_fit(rows, targets, sample_weight=weight)
        assert_same_fit(there, here, X)


@every_class
@pytest.mark.parametrize("params", [{}, NETWORK], ids=["linear", "network"])
def test_starting_weights_may_lie_on_the_device(cls, params):
    """They are those of ``coef_init`` and the like as arrays."""
    fitted, y = small(cls, random_state=1, **params).fit(X, TARGETS[cls]), TARGETS[cls]
    names = ["coefs_", "intercepts_"] if params else ["coef_", "intercept_"]
    starts = {f"{name}init": getattr(fitted, name) for name in names}
    here = small(cls, **params).fit(X, y, **starts)
    with pretended_cuda():
        sent_starts = {
            name: sent(*start) if params else sent(start)[0]
            for name, start in starts.items()
        }
        there = small(cls, **params).fit(X, y, **sent_starts)
    assert_same_fit(there, here, X)


def test_classes_may_lie_on_the_device():
    """Those of a stream, named in the first call and again."""
    here, classes = small(C), np.unique(labels)
    here.partial_fit(X, labels, classes=classes).partial_fit(X, labels)
    with pretended_cuda():
        [classes] = sent(classes)
        there = small(C).partial_fit(X, labels, classes=classes)
        there.partial_fit(X, labels, classes=classes)
    assert_same_fit(there, here, X)


SEARCHES = {
    "grid": (VectorizedGridSearchCV, GRID, {}),
    "random": (VectorizedRandomizedSearchCV, GRID, {"n_iter": 2}),
    "halving": (VectorizedHalvingGridSearchCV, GRID, {"factor": 2}),
    "random halving": (VectorizedHalvingRandomSearchCV, GRID, {"factor": 2}),
}


@every_class
@pytest.mark.parametrize(("search", "grid", "params"), SEARCHES.values(), ids=SEARCHES)
def test_searches_take_tensors_of_the_device(cls, search, grid, params):
    """Rows, targets and weights, in fit and in score."""
    arrays = X, TARGETS[cls], WEIGHT
    if search is not VectorizedGridSearchCV:
        params = {"random_state": 0, **params}
    if search is VectorizedHalvingRandomSearchCV:
        params = {"n_candidates": 4, **params}
    search = search(small(cls, batch_size=4), grid, cv=3, **params)
    here = clone(search).fit(X, TARGETS[cls], sample_weight=WEIGHT)
    with pretended_cuda():
        rows, targets, weight = sent(*arrays)
        there = search.fit(rows, targets, sample_weight=weight)
        assert_same_fit(there.best_estimator_, here.best_estimator_, X)
        assert there.score(rows, targets) == pytest.approx(here.score(*arrays[:2]))
    scores = [one.cv_results_["mean_test_score"] for one in (there, here)]
    np.testing.assert_allclose(*scores)
    assert all(group.together for group in there.groups_)


@pytest.mark.parametrize("scoring", ["accuracy", accuracy, "neg_log_loss"])
def test_a_search_scores_by_labels_on_the_host(scoring):
    """Scorers of scikit-learn, and of the caller, are given arrays as targets."""
    search = VectorizedGridSearchCV(small(C), GRID, cv=3, scoring=scoring)
    here = clone(search).fit(X, labels)
    with pretended_cuda():
        rows, targets = sent(X, labels)
        there = search.fit(rows, targets)
        assert there.score(rows, targets) == pytest.approx(here.score(X, labels))
    scores = [one.cv_results_["mean_test_score"] for one in (there, here)]
    np.testing.assert_allclose(*scores)


# Waits


def waits_of_an_epoch(cls, kind, n_steps, params):
    """Return what the host waits for in the third epoch, and in the fourth."""
    waits = []
    for max_iter in (2, 3, 4):
        model = small(cls, device="cuda", **params)
        model.set_params(max_iter=max_iter, batch_size=N_ROWS // n_steps)
        with pretended_cuda() as device:
            model.fit(ROWS[kind], TARGETS[cls])
        waits.append(device.waits)
    return waits[1] - waits[0], waits[2] - waits[1]


# Name: the class, the kind of rows, parameters, and how often the host waits an epoch
# at the most: to send the order of the rows and the numbers of the steps, and to ask
# for the losses and for the objective.
WAITS = {
    "linear": (R, "dense", SGD, 4),
    "adam": (R, "dense", {}, 4),
    "network": (C, "dense", NETWORK, 4),
    "lasso": (C, "dense", {"l1_ratio": 0.5}, 4),
    "average": (C, "dense", {"average": True}, 4),
    "clipped": (C, "dense", {"max_grad_norm": 0.1}, 4),
    "schedule": (R, "dense", {"lr_schedule": "cosine"}, 4),
    "function": (R, "dense", {"lr_schedule": half}, 4),
    "adaptive": (R, "dense", {"lr_schedule": "adaptive"}, 4),
    "recorded": (R, "dense", {"record_batch_loss": True}, 4),
    "clock": (R, "dense", {"max_time": 1000}, 4),
    "scored": (C, "dense", {"early_stopping": True}, 12),
    "held out": (R, "dense", {"early_stopping": True, "scoring": "loss"}, 8),
}


@pytest.mark.parametrize(("cls", "kind", "params", "most"), WAITS.values(), ids=WAITS)
def test_no_step_waits(cls, kind, params, most):
    """An epoch of many steps waits as often as one of few, a fixed number of times.

    With early stopping, epochs that did best wait for their weights to be kept.
    """
    of_few, of_many = (waits_of_an_epoch(cls, kind, n, params) for n in (3, 15))
    assert max(waits.total() for waits in of_few + of_many) <= most < 15
    if "early_stopping" not in params:
        assert of_few[0] == of_few[1] == of_many[0] == of_many[1]


@pytest.mark.parametrize(
    ("cls", "kind", "params", "of_a_step"),
    [
        (C, "sparse", NETWORK, {"to the device": 2, "to the host": 1}),
        (R, "wide", SGD, {"to the device": 2}),
        (C, "wide", {}, {"to the device": 2, "nonzero": 1, "bincount": 1}),
        (C, "dense", {**NETWORK, "dropout": 0.1}, {"to the device": 2}),
    ],
    ids=["sparse", "a wide unit", "a wide layer", "dropout"],
)
def test_steps_that_wait_do_so_a_few_times(cls, kind, params, of_a_step):
    """The places of sparse rows are looked up, and masks are drawn, on the host."""
    [few, _], [many, _] = (waits_of_an_epoch(cls, kind, n, params) for n in (3, 5))
    assert many - few == {what: 2 * times for what, times in of_a_step.items()}


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("dense", {**NETWORK, "dropout": 0.3, "average": 3, "early_stopping": True}),
        ("wide", {**SGD, "l1_ratio": 0.5, "alpha": 0.1}),
    ],
    ids=["dense", "wide"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_checkpoint_is_gone_on_from_there(kind, params, tmp_path, monkeypatch):
    """It holds arrays of the host, whose numbers come back to the device."""
    rows, y, path = ROWS[kind], TARGETS[R], tmp_path / "run"
    model = small(R, engine="torch", max_iter=3, batch_size=16, **params)
    here, write, calls = (
        clone(model).fit(rows, y),
        checkpoints.write_atomically,
        count(),
    )

    def killing(path, data):
        write(path, data)
        if next(calls) == 5:
            raise SystemExit

    monkeypatch.setattr(checkpoints, "write_atomically", killing)
    with pretended_cuda():
        model.set_params(device="cuda")
        with pytest.raises(SystemExit):
            clone(model).fit(rows, y, checkpoint=path, checkpoint_seconds=0)
        assert_same_fit(clone(model).fit(rows, y, checkpoint=path), here, rows)
