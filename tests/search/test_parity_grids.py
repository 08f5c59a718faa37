"""Any parameter may be searched: the scores are scikit-learn's."""

import numpy as np
import pytest
from conftest import (
    OPTIMIZERS,
    RAW,
    X,
    every_class,
    every_depth,
    every_optimizer,
    every_task,
    small,
)
from parity_cases import (
    FAILED,
    LABELS,
    LR,
    POSITIVE,
    THREE,
    UNEQUAL,
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
from sklearn.model_selection import ParameterGrid

from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedRandomizedSearchCV,
)
from skgd._estimators.parameters import LOSSES_OF_CLASSES, LOSSES_OF_NUMBERS

pytestmark = pytest.mark.usefixtures("one_thread")


# Losses and optimizers

RATES_AND_PENALTY = [LR, {"alpha": [0.1]}]
COUNTS = np.round(2 * POSITIVE)
TARGETS = {"poisson": COUNTS, "tweedie": COUNTS, "gamma": POSITIVE}


@every_depth
@pytest.mark.parametrize("loss", LOSSES_OF_NUMBERS)
def test_every_loss_of_numbers(loss, hidden):
    """Scores of regressors are the oracle's, whatever is minimised."""
    model = regressor(loss=loss, hidden_layer_sizes=hidden)
    compared(model, RATES_AND_PENALTY, X, TARGETS.get(loss, y), refit=False)


@pytest.mark.parametrize(
    ("labels", "hidden"), [(LABELS, ()), (THREE, (5,))], ids=["two", "three"]
)
@pytest.mark.parametrize("loss", LOSSES_OF_CLASSES)
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


# Grids of everything

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
    "engine": "torch",
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
    "n_models": 2,
    "n_iter_no_change": 1,
    "negative_slope": 0.3,
    "nesterov": True,
    "normalize_y": False,
    "optimizer": "sgd",
    "power": 1.1,
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
    "power": {"loss": "tweedie"},
    "power_t": {"lr_schedule": "invscaling"},
    "quantile": {"loss": "quantile"},
    "scoring": {"early_stopping": True, "optimizer": "rmsprop", "max_iter": 8},
    "tol": {"n_iter_no_change": 1},
    "validation_fraction": {"early_stopping": True},
}
APART = {
    "max_time": "max_time is a limit of a single fit",
    "n_models": "n_models makes each an ensemble, a stack of its own",
}
INDIFFERENT = {
    "device",
    "dtype",
    "engine",
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
    y_of, scoring = POSITIVE if name == "power" else y, "r2"
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
    assert reasons == {"", APART.get(name, "")}
    if name not in INDIFFERENT:
        one, two = np.array_split(scores_of(found), 2)
        assert not np.array_equal(one, two)


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
