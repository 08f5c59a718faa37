"""Bad parameters and starting weights: a clear error, and the estimator as it was."""

import decimal
import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from bad_cases import (
    FRAME,
    NO_FACTORS,
    ONES,
    SEVERAL,
    TARGET,
    assert_refused,
    labels,
    stream,
    text,
    with_one,
    y,
)
from conftest import X, Y, assert_same_layers, every_class, small
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_class_weight

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV

# Parameters

NOT_A_BOOL = [None, 0, 1, "yes", 1.0, [True]]
NOT_A_SCALAR = [None, "0.1", True, 1j, decimal.Decimal(1)]
NOT_A_NUMBER = [*NOT_A_SCALAR, [0.1], np.array([0.1, 0.2])]
NOT_AN_INT = ["3", 2.0, True, 1j, [3], np.float64(3)]
NOT_A_CHOICE = ["", "nonsense", 1, True, ["adam"], b"adam"]
NOT_FINITE = [float("nan"), float("inf"), -float("inf"), np.float32("nan")]
BEYOND_FLOAT = [10**400, Fraction(10**400)]
BEYOND_INT64 = [2**63, 10**30, 10**400]

BAD_PARAMETERS = {
    "loss": [None, *NOT_A_CHOICE],
    "hidden_layer_sizes": [
        *(None, 0, -1, 2.0, True, "8", {8}, {8: 8}),
        *((8, 0), (8, -1), (2.5,), (True,), (None,), ("8",), ((8,),), [[8, 8]]),
        *(np.array([2.0]), np.array([[3]]), float("inf")),
        *(10**30, [10**30], (3, 2**63), (10**400,)),
    ],
    "activation": [None, "RELU", *NOT_A_CHOICE],
    "negative_slope": [-0.1, 1.1, *NOT_A_NUMBER, *NOT_FINITE],
    "init": [None, "Glorot", "zeros", *NOT_A_CHOICE],
    "dropout": [-0.1, 1, 1.0, *NOT_A_NUMBER, *NOT_FINITE],
    "fit_intercept": NOT_A_BOOL,
    "optimizer": [None, "Adam", "momentum", *NOT_A_CHOICE],
    "lr": [0, 0.0, -0.1, *NOT_A_NUMBER, *NOT_FINITE, *BEYOND_FLOAT],
    "lr_schedule": [None, "Cosine", "plateau", *NOT_A_CHOICE],
    "power_t": [-0.5, *NOT_A_NUMBER, *NOT_FINITE, *BEYOND_FLOAT],
    "decay": [0, -0.1, 1.1, *NOT_A_NUMBER, *NOT_FINITE],
    "decay_every": [None, 0, -1, *NOT_AN_INT, *NOT_FINITE, *BEYOND_INT64],
    "warmup_steps": [None, -1, *NOT_AN_INT, *NOT_FINITE, *BEYOND_INT64],
    "momentum": [-0.1, 1, 1.0, 2, *NOT_A_NUMBER, *NOT_FINITE],
    "nesterov": NOT_A_BOOL,
    "beta_1": [-0.1, 1, 1.0, *NOT_A_NUMBER, *NOT_FINITE],
    "beta_2": [-0.1, 1, 1.0, *NOT_A_NUMBER, *NOT_FINITE],
    "epsilon": [0, -1e-8, *NOT_A_NUMBER, *NOT_FINITE, *BEYOND_FLOAT],
    "max_grad_norm": [0, -1.0, *NOT_A_NUMBER[1:], *NOT_FINITE, *BEYOND_FLOAT],
    "average": [None, -1, 1.0, "yes", [True], *BEYOND_INT64],
    "alpha": [-1e-4, *NOT_A_NUMBER, *NOT_FINITE, *BEYOND_FLOAT],
    "l1_ratio": [-0.1, 1.1, *NOT_A_NUMBER, *NOT_FINITE],
    "batch_size": [0, -1, 0.5, "auto", *NOT_AN_INT, *NOT_FINITE],
    "last_batch": [None, "Keep", *NOT_A_CHOICE],
    "shuffle": NOT_A_BOOL,
    "max_iter": [None, 0, -1, *NOT_AN_INT, *NOT_FINITE, *BEYOND_INT64],
    "n_models": [None, 0, -1, *NOT_AN_INT, *NOT_FINITE, *BEYOND_INT64],
    "max_time": [0, -1.0, *NOT_A_NUMBER[1:], *NOT_FINITE, *BEYOND_FLOAT],
    "tol": [-1e-9, *NOT_A_NUMBER[1:], *NOT_FINITE, *BEYOND_FLOAT],
    "n_iter_no_change": [None, 0, -1, *NOT_AN_INT, *NOT_FINITE, *BEYOND_INT64],
    "early_stopping": NOT_A_BOOL,
    "validation_fraction": [0, 1, 1.0, -0.1, *NOT_A_NUMBER, *NOT_FINITE],
    "scoring": [
        *(1, True, ["r2"], {"r2": "r2"}, "", "nonsense", "Loss", "R2", b"r2"),
    ],
    "warm_start": NOT_A_BOOL,
    "record_batch_loss": NOT_A_BOOL,
    "random_state": [
        *(-1, 2**32, 1.0, "0", True, [0], float("nan")),
        *(np.random.default_rng(0), np.random),
    ],
    "device": [
        *(None, 0, "", "gpu", "tpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:0 "),
        *("cpu:0", "cuda\n", "meta", torch.device("cpu")),
    ],
    "engine": [None, "Torch", "cython", *NOT_A_CHOICE],
    "dtype": ["float16", "float", "double", float, np.float32, torch.float32, 32],
    "verbose": [None, -1, "yes", 1.0, [1]],
}
BAD_OF_ONE_CLASS = {
    MiniBatchRegressor: {
        "delta": [0, -0.1, *NOT_A_NUMBER, *NOT_FINITE, *BEYOND_FLOAT],
        "quantile": [
            *(0, 1, 1.0, -0.1, *NOT_A_SCALAR, *NOT_FINITE, (), [0.5, 1], [0.5, 0.5]),
            *([[0.1, 0.2]], np.full((1, 1), 0.5), ["0.5"], {0.1, 0.2}),
        ],
        "power": [1, 2, 0, 3.0, *NOT_A_NUMBER, *NOT_FINITE],
        "normalize_y": NOT_A_BOOL,
    },
    MiniBatchClassifier: {
        "class_weight": [1, True, "even", (1, 2), 0.5, ONES, [1, 2], [None], {1}],
    },
}


@every_class
def test_every_parameter_has_bad_values_here(cls):
    """The table of bad values has every parameter."""
    assert {*BAD_PARAMETERS, *BAD_OF_ONE_CLASS[cls]} == set(cls().get_params())


def assert_each_is_refused(cls, name, values):
    """Assert that no value is taken, by a new estimator or one that has learned."""
    learned = stream(cls)
    for value in values:
        sentence = (
            f"^The {name!r} parameter of {cls.__name__} must be [^\n]+[.] "
            f"Got {re.escape(repr(value))} instead[.]$"
        )
        new, seen = small(cls, **{name: value}), learned.set_params(**{name: value})
        assert_refused(new.fit, X, TARGET[cls], match=sentence)
        assert_refused(seen.fit, X, TARGET[cls], match=sentence)
        assert_refused(seen.partial_fit, X, TARGET[cls], match=sentence)


@every_class
@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_bad_values_of_a_parameter_are_refused_in_one_sentence(cls, name):
    """fit and partial_fit say which parameter, what it must be, and what it is."""
    assert_each_is_refused(cls, name, BAD_PARAMETERS[name])


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls in BAD_OF_ONE_CLASS for name in BAD_OF_ONE_CLASS[cls]],
)
def test_those_of_a_parameter_of_one_class_are_refused_likewise(cls, name):
    """So it is with the parameters that the other class does not have."""
    assert_each_is_refused(cls, name, BAD_OF_ONE_CLASS[cls][name])


@pytest.mark.parametrize("power", [0, 1, 2])
def test_a_power_at_a_bound_is_told_which_loss_it_is(power):
    """Who brings 0, 1 or 2 from TweedieRegressor is told the losses."""
    model = small(MiniBatchRegressor, loss="tweedie", power=power)
    losses = "0, 1 and 2 are loss='squared_error', 'poisson' and 'gamma'"
    assert_refused(model.fit, X, Y[:, 0] ** 2, match=losses)


@every_class
def test_parameters_are_checked_before_the_data(cls):
    """A wrong parameter is told even if nothing else is right."""
    model = stream(cls).set_params(lr=-1)
    assert_refused(model.fit, "no rows", None, match="The 'lr' parameter")
    assert_refused(model.partial_fit, "no rows", None, match="The 'lr' parameter")


GOOD_PARAMETERS = {
    "hidden_layer_sizes": [3, [3], (3, 2), np.array([3, 2]), (np.int64(3),)],
    "negative_slope": [0, 1, 0.5],
    "fit_intercept": [False, np.bool_(True)],
    "lr": [1, np.float32(0.1), 1e-300],
    "max_grad_norm": [10**300],
    "momentum": [0, 0.999],
    "beta_1": [0, 0.5],
    "epsilon": [1, 1e-300],
    "alpha": [0, 10, 1e10],
    "l1_ratio": [0, 1],
    "batch_size": [None, 1, np.int32(7)],
    "max_iter": [1, np.int64(2)],
    "n_models": [1, np.int64(2)],
    "n_iter_no_change": [2**63 - 1],
    "decay_every": [2**63 - 1],
    "warmup_steps": [2**63 - 1],
    "average": [2**63 - 1],
    "tol": [None],
    "random_state": [None, 0, 2**32 - 1, np.int64(3), np.random.RandomState(0)],
    "verbose": [False, np.bool_(False), 0],
    "dtype": [None, "float32", "float64"],
}


@every_class
@pytest.mark.parametrize("name", GOOD_PARAMETERS)
def test_numbers_of_any_kind_and_the_bounds_themselves_are_taken(cls, name):
    """What is inside the ranges is trained with, whatever library it comes from."""
    for value in GOOD_PARAMETERS[name]:
        model = small(cls, **{name: value}).fit(X, TARGET[cls])
        assert np.isfinite(model.loss_), value


@every_class
@pytest.mark.parametrize("kind", ["constant", "cosine", "one_cycle", "step"])
def test_a_training_without_end_is_ended_by_the_clock(cls, kind):
    """Schedules are laid out over the largest number of epochs as over others."""
    model = small(cls, max_iter=2**63 - 1, max_time=0.01, lr_schedule=kind)
    assert np.isfinite(model.fit(X, TARGET[cls]).loss_)


@every_class
@pytest.mark.parametrize("size", [61, 10**30, 10**400], ids=["61", "1e30", "1e400"])
def test_a_batch_of_more_rows_than_there_are_is_all_of_them(cls, size):
    """However many more: fit says so, and a stream, whose chunks vary, does not."""
    model, y = small(cls, batch_size=size), TARGET[cls]
    with pytest.warns(UserWarning, match="is larger than the 60 rows of X"):
        model.fit(X, y)
    assert_same_layers(model, small(cls, batch_size=None).fit(X, y), rtol=0)
    model.partial_fit(X, y)


@every_class
def test_an_int_that_python_does_not_write_is_refused_as_well(cls):
    """More than 4300 digits are no text."""
    model = small(cls, max_iter=10**5000)
    match = "'max_iter' parameter .* Got an int too long to write instead"
    assert_refused(model.fit, X, TARGET[cls], match=match)


# Devices


@pytest.mark.parametrize(
    ("device", "there"),
    [
        ("cuda", torch.cuda.is_available()),
        ("cuda:0", torch.cuda.is_available()),
        ("cuda:99", False),
        ("mps", torch.backends.mps.is_available()),
    ],
)
@every_class
def test_a_device_that_is_not_there_is_refused(cls, device, there):
    """The error names the device, and fit, partial_fit and predict all say so."""
    if there:
        pytest.skip(f"{device} is on this machine")
    message = f"device='{device}' was asked for, but "
    new, seen = small(cls, device=device), stream(cls).set_params(device=device)
    assert_refused(new.fit, X, TARGET[cls], match=message)
    assert_refused(seen.fit, X, TARGET[cls], match=message)
    assert_refused(seen.partial_fit, X, TARGET[cls], match=message)
    assert_refused(seen.predict, X, match=message)


# Parameters that do not fit each other, or the data


@every_class
def test_a_stream_does_not_stop_early(cls):
    """The error has the sentences of both estimators of scikit-learn."""
    new, seen = small(cls, early_stopping=True), stream(cls)
    seen.set_params(early_stopping=True)
    for model in (new, seen):
        for sentence in (
            "partial_fit does not support early_stopping=True",
            "early_stopping should be False with partial_fit",
        ):
            assert_refused(model.partial_fit, X, TARGET[cls], match=sentence)


@every_class
def test_the_optimal_schedule_needs_a_penalty(cls):
    """It divides by alpha."""
    params = {"lr_schedule": "optimal", "alpha": 0}
    new, seen = small(cls, **params), stream(cls).set_params(**params)
    match = "alpha must be above 0 with lr_schedule='optimal'"
    assert_refused(new.fit, X, TARGET[cls], match=match)
    assert_refused(seen.fit, X, TARGET[cls], match=match)
    assert_refused(seen.partial_fit, X, TARGET[cls], match=match)


@every_class
@pytest.mark.parametrize("factor", NO_FACTORS, ids=lambda value: repr(value)[:20])
def test_a_callable_schedule_must_give_factors(cls, factor):
    """What is no finite number of 0 or more is told, with the step."""
    seen = stream(cls).set_params(lr_schedule=lambda t: 1 if t < 9 else factor)
    match = "lr_schedule must return a finite number .* for step"
    assert_refused(seen.fit, X, TARGET[cls], match=f"{match} 9")
    assert_refused(seen.partial_fit, X, TARGET[cls], match=match)


BAD_FOR_A_LOSS = {
    "negative counts": ("poisson", y, "loss='poisson', y must be 0 or more"),
    "one negative count": ("poisson", with_one(-1e-9, abs(y)), "must be 0 or more"),
    "negative amounts": ("gamma", y, "loss='gamma', y must be above 0"),
    "no amount": ("gamma", with_one(0, abs(y)), "loss='gamma', y must be above 0"),
    "an amount below 0": ("tweedie", y, "loss='tweedie', y must be 0 or more"),
    "too small an amount for float32": ("gamma", abs(y) * 1e-50, "must be above 0"),
}


@pytest.mark.parametrize(
    ("loss", "bad", "match"), BAD_FOR_A_LOSS.values(), ids=BAD_FOR_A_LOSS
)
def test_targets_that_a_loss_does_not_take_are_refused(loss, bad, match):
    """Deviances of counts and of amounts are told apart from other numbers."""
    params = {"loss": loss, "dtype": "float32", "lr": 0.001}
    new = small(MiniBatchRegressor, **params)
    seen = small(MiniBatchRegressor, **params).partial_fit(X, abs(y) + 1)
    assert_refused(new.fit, X, bad, match=match)
    assert_refused(seen.fit, X, bad, match=match)
    assert_refused(seen.partial_fit, X, bad, match=match)
    held_out = {"X_val": X, "y_val": bad}
    assert_refused(seen.fit, X, abs(y) + 1, match=f"In X_val.*{match}", **held_out)


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "perceptron"])
def test_losses_without_probabilities_say_so(loss, method):
    """The methods are not there, before and after a fit, and the error has why."""
    for model in (small(MiniBatchClassifier, loss=loss), stream(MiniBatchClassifier)):
        model.set_params(loss=loss)
        assert not hasattr(model, method)
        message = f"no {method} with loss='{loss}'.*use loss='log_loss' or"
        with pytest.raises(AttributeError, match=message):
            getattr(model, method)
        with pytest.raises(AttributeError, match=message):
            getattr(MiniBatchClassifier, method)(model, X)


BAD_CLASS_WEIGHTS = {
    "unknown labels": ({5: 1}, "class_weight=.*are not in class_weight"),
    "labels of another kind": ({"a": 1}, "class_weight=.*are not in class_weight"),
    "a label between": ({0.5: 1}, "class_weight=.*are not in class_weight"),
    "some unknown": ({0: 1, 5: 1}, "class_weight=.*are not in class_weight"),
    "all zero": ({-1: 0, 0: 0, 1: 0}, "class_weight=.*non-zero"),
    "a sum beyond float64": (dict.fromkeys((-1, 0, 1), 1e308), "a finite sum"),
    "a list for one label": ([{0: 1}], "class_weight must be a single dict"),
    **{
        f"a weight of {str(bad)[:9]}": (
            {0: bad},
            "class_weight must give each class a finite number .* for the class 0",
        )
        for bad in (-1, np.nan, np.inf, "a", None, 1j, [1], True, 10**400, -np.inf)
    },
}


@pytest.mark.parametrize(
    ("weights", "match"), BAD_CLASS_WEIGHTS.values(), ids=BAD_CLASS_WEIGHTS
)
def test_bad_class_weights_are_refused(weights, match):
    """Weights of classes are finite numbers of 0 or more, of classes that there are."""
    new = small(MiniBatchClassifier, class_weight=weights)
    seen = stream(MiniBatchClassifier).set_params(class_weight=weights)
    assert_refused(new.fit, X, labels, match=match)
    assert_refused(seen.fit, X, labels, match=match)
    assert_refused(seen.partial_fit, X, labels, match=match)


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ({0: 1}, "class_weight=.*list of dicts"),
        ([{0: 1}], "class_weight=.*number of outputs"),
        ([{0: 1, 1: -3}, {0: 1}], "class_weight must give each class"),
        ([{5: 1}, {6: 1}], "class_weight=.*are not in class_weight"),
        ([{0: 0, 1: 0}] * 2, "class_weight=.*non-zero"),
    ],
    ids=str,
)
def test_bad_class_weights_of_several_labels_are_refused(weights, match):
    """Several labels a row want a dict each."""
    several = (Y > 3).astype(int)
    model = small(MiniBatchClassifier).partial_fit(X, several)
    model.set_params(class_weight=weights)
    assert_refused(model.fit, X, several, match=match)
    assert_refused(model.partial_fit, X, several, match=match)


def test_classes_without_rows_cannot_be_balanced():
    """A warm fit without rows of a class is told so."""
    model = stream(MiniBatchClassifier, warm_start=True, class_weight=None)
    model.set_params(class_weight="balanced")
    some = labels != 0
    assert_refused(model.fit, X[some], labels[some], match="class_weight='balanced'")


def test_held_out_classes_count_as_in_training():
    """Rows held out need not have every class for the classes to be balanced."""
    model = small(MiniBatchClassifier, class_weight="balanced", early_stopping=True)
    some = labels != 0
    model.fit(X, labels, X_val=X[some], y_val=labels[some])
    weight = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    weight = weight[labels + 1]
    expected = log_loss(
        labels[some], model.predict_proba(X)[some], labels=[-1, 0, 1],
        sample_weight=weight[some],
    )  # fmt: skip
    best = int(np.argmax(model.validation_scores_))
    assert model.validation_loss_curve_[best] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "classes", "later", "match"),
    [
        (SEVERAL, None, labels, "y must hold several labels a row.* Got one label"),
        (labels, [-1, 0, 1], SEVERAL, "y must hold one label a row.* Got several"),
        (SEVERAL, None, SEVERAL[:, [0, 1, 1]], "2 labels a row known before"),
    ],
    ids=["several, then one", "one, then several", "more labels"],
)
def test_a_stream_keeps_its_kind_of_labels(first, classes, later, match):
    """A stream of one label a row stays one, and so does one of several."""
    model = small(MiniBatchClassifier, warm_start=True)
    model.partial_fit(X, first, classes=classes)
    assert_refused(model.partial_fit, X, later, match=match)
    assert_refused(model.fit, X, later, match=match)


@pytest.mark.parametrize("classes", [[0, 1, 2], ["a", "b"], [1, 0], [[0, 1]]], ids=str)
def test_classes_of_several_labels_are_their_places(classes):
    """Other classes than 0 to the number of labels are refused."""
    model = small(MiniBatchClassifier)
    match = "classes must be the places of the 2 labels"
    assert_refused(model.partial_fit, X, SEVERAL, classes=classes, match=match)


# Starting weights

BAD_STARTS = {
    "wrong length": ((), {"coef_init": [1, 2, 3]}, r"coef_init .* shape \(1, 4\)"),
    "wrong shape": ((), {"coef_init": np.ones((4, 1))}, "coef_init .* shape"),
    "two outputs": ((), {"coef_init": np.ones((2, 4))}, "coef_init .* shape"),
    "two biases": ((), {"intercept_init": [1, 2]}, r"intercept_init .* shape \(1,\)"),
    "nan": ((), {"coef_init": [1, 2, 3, np.nan]}, "coef_init .* finite"),
    "inf": ((), {"intercept_init": np.inf}, "intercept_init .* finite"),
    "None in it": ((), {"coef_init": [1, 2, 3, None]}, "coef_init .* numbers"),
    "text": ((), {"coef_init": ["a"] * 4}, "coef_init"),
    "complex": ((), {"coef_init": [1j] * 4}, "coef_init"),
    "ragged": ((), {"coef_init": [[1, 2], [3]]}, "coef_init"),
    "of a network": ((), {"coefs_init": [np.ones((4, 1))]}, "must start a network"),
    "biases of one": ((), {"intercepts_init": [[1]]}, "must start a network"),
    "of a linear model": (
        (5,),
        {"coef_init": [1] * 4},
        "must start a linear model",
    ),
    "a bias of one": ((5,), {"intercept_init": 1}, "must start a linear model"),
    "a layer too few": (
        (5,),
        {"coefs_init": [np.ones((4, 5))]},
        "list of 2 arrays.* Got 1",
    ),
    "a bias too few": (
        (5,),
        {"intercepts_init": [[1] * 5]},
        "list of 2 arrays.* Got 1",
    ),
    "layers transposed": (
        (5,),
        {"coefs_init": [np.ones((5, 4)), np.ones((1, 5))]},
        "coefs_init .* shape",
    ),
    "a wrong layer": (
        (5,),
        {"coefs_init": [np.ones((4, 5)), np.ones((6, 1))]},
        "coefs_init .* shape",
    ),
    "a wrong bias": (
        (5,),
        {"intercepts_init": [[1] * 5, [1, 2]]},
        "intercepts_init .* sh",
    ),
    "nan in a layer": (
        (5,),
        {"coefs_init": [np.ones((4, 5)), np.full((5, 1), np.nan)]},
        "coefs_init .* finite",
    ),
    "a number for layers": ((5,), {"coefs_init": 3}, "coefs_init"),
    "a number for biases": ((5,), {"intercepts_init": 3}, "intercepts_init"),
    "a word for layers": ((5,), {"coefs_init": "ab"}, "coefs_init"),
    "a ragged layer": (
        (5,),
        {"coefs_init": [[[1, 2], [3]], np.ones((5, 1))]},
        "coefs_init",
    ),
}


@pytest.mark.parametrize(
    ("hidden", "start", "match"), BAD_STARTS.values(), ids=BAD_STARTS
)
def test_bad_starting_weights_are_refused_by_name(hidden, start, match):
    """Starting weights have the kind and shapes of the fitted ones, and are finite."""
    new = small(MiniBatchRegressor, hidden_layer_sizes=hidden)
    seen = stream(MiniBatchRegressor, hidden_layer_sizes=hidden)
    assert_refused(new.fit, X, y, match=match, **start)
    assert_refused(seen.fit, X, y, match=match, **start)


@pytest.mark.parametrize(
    ("hidden", "start"),
    [((), {"intercept_init": 1}), ((2,), {"intercepts_init": [[1, 1], [1]]})],
    ids=["linear", "network"],
)
def test_biases_that_are_left_out_have_no_start(hidden, start):
    """fit_intercept=False and starting intercepts contradict each other."""
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, fit_intercept=False)
    assert_refused(model.fit, X, y, match="fit_intercept=False", **start)


# Searches

BAD_FOR_A_SEARCH = {
    "None": ({"X": None}, "X must hold numbers, a row for each sample. Got None"),
    "text": ({"X": FRAME.assign(b="text")}, text("'text'", "b")),
    "complex": ({"y": labels + 1j}, "Complex data not supported: y must hold real num"),
    "<NA>": ({"y": pd.Series([1, pd.NA] * 30, dtype=object)}, "y must have no missing"),
    "<NA> and text": (
        {"y": with_one(pd.NA, labels.astype(str), object)},
        "y must have",
    ),
    "NaT": ({"y": np.array(["NaT", 1] * 30, "m8[s]")}, "labels. Got NaT|hold numbers"),
    "text weights": (
        {"sample_weight": ["a"] * 60},
        "sample_weight must hold numbers. Got the text 'a'",
    ),
    "a parameter": (
        {"grid": {"max_iter": [10**30]}},
        "'max_iter' parameter .* 2[*][*]",
    ),
}


@every_class
@pytest.mark.parametrize("piped", [False, True], ids=["alone", "in a pipeline"])
@pytest.mark.parametrize(
    ("given", "match"), BAD_FOR_A_SEARCH.values(), ids=BAD_FOR_A_SEARCH
)
def test_a_search_says_what_no_fit_takes(cls, piped, given, match):
    """In the sentences of a fit, whoever meets it first."""
    model, step = small(cls), f"{cls.__name__.lower()}__" if piped else ""
    given = {"X": X, "y": TARGET[cls], "grid": {"lr": [0.1]}, **given}
    rows, y, grid = given.pop("X"), given.pop("y"), given.pop("grid")
    search = VectorizedGridSearchCV(
        make_pipeline("passthrough", model) if piped else model,
        {f"{step}{name}": values for name, values in grid.items()},
        cv=2,
    )
    given = {f"{step}{name}": value for name, value in given.items()}
    with pytest.raises(ValueError, match=f"(?s){match}"):
        search.fit(rows, y, **given)
