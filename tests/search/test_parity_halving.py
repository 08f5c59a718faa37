"""Successive halving: survivors that go on are those of scikit-learn, trained anew."""

import numpy as np
import pytest
from conftest import RAW, WEIGHT, X, every_depth, every_engine, on_both_engines, small
from covering import every_pair
from parity_cases import (
    COUNTS,
    FAILED,
    LABELS,
    PAIR,
    THREE,
    UNEQUAL,
    accuracy,
    classifier,
    compared,
    likelihood,
    regressor,
    scaled,
    scores_of,
    slow_start,
    y,
)
from scipy.stats import loguniform
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV

from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedHalvingGridSearchCV,
    VectorizedHalvingRandomSearchCV,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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


@on_both_engines
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


@on_both_engines
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


@on_both_engines
@every_pair(
    every_depth,
    pytest.mark.parametrize("schedule", ["constant", "adaptive"]),
    pytest.mark.parametrize("cls", [MiniBatchRegressor, MiniBatchClassifier]),
    every_engine,
)
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


@on_both_engines
def test_survivors_of_unlike_groups_and_seeds():
    """Survivors come from several groups, seeds and slices, and go on together."""
    grid = {
        "batch_size": [8, 16],
        "random_state": [0, 1],
        "momentum": [0.0, 0.9],
        "lr": [0.003, 0.01],
    }
    model = regressor(optimizer="sgd", hidden_layer_sizes=(3,))
    params = {"factor": 2, "max_resources": 8, "cv": UNEQUAL, "random_state": 0}
    found = halved(model, grid, X, y, **params)
    params = {**EPOCHS, **params, "max_bytes": 5000}
    sliced = VectorizedHalvingGridSearchCV(model, grid, **params).fit(X, y)
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
