"""Bad input: a clear error, and the estimator and its random stream as they were."""

import datetime
import decimal
import re
import warnings
from fractions import Fraction
from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import (
    N_ROWS,
    RAW,
    TASKS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    every_class,
    every_depth,
    every_minimiser,
    every_optimizer,
    every_task,
    fitted_state,
    frozen,
    layers_of,
    small,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import (
    ConvergenceWarning,
    FitFailedWarning,
    NotFittedError,
)
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_class_weight

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV

y = Y[:, 0]
labels = TASKS["three classes"][1]
TARGET = {MiniBatchRegressor: y, MiniBatchClassifier: labels}
ONES = np.ones(len(X))


def stream(cls, **params):
    """Return an estimator that has seen some rows of a stream, whose state is full."""
    params = {"record_batch_loss": True, **params}
    model = small(cls, **params)
    if cls is MiniBatchRegressor:
        return model.partial_fit(X, y)
    return model.partial_fit(X, labels, classes=[-1, 0, 1])


def assert_refused(method, *args, match=None, error=ValueError, **kwargs):
    """Assert that a method raises, and that nothing of its estimator has changed."""
    before = frozen(vars(method.__self__))
    with pytest.raises(error, match=match):
        method(*args, **kwargs)
    assert frozen(vars(method.__self__)) == before


# Parameters

NOT_A_BOOL = [None, 0, 1, "yes", 1.0, [True]]
NOT_A_NUMBER = [None, "0.1", True, 1j, [0.1], np.array([0.1, 0.2]), decimal.Decimal(1)]
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
    "dtype": ["float16", "float", "double", float, np.float32, torch.float32, 32],
    "verbose": [None, -1, "yes", 1.0, [1]],
}
BAD_OF_ONE_CLASS = {
    MiniBatchRegressor: {
        "delta": [0, -0.1, *NOT_A_NUMBER, *NOT_FINITE, *BEYOND_FLOAT],
        "quantile": [0, 1, 1.0, -0.1, *NOT_A_NUMBER, *NOT_FINITE],
        "normalize_y": NOT_A_BOOL,
    },
    MiniBatchClassifier: {
        "class_weight": [1, True, "even", (1, 2), 0.5, ONES, [1, 2], [None], {1}],
    },
}
EACH_BAD_PARAMETER_OF_ONE_CLASS = [
    pytest.param(cls, name, value, id=f"{name}={value!r}"[:60])
    for cls, parameters in BAD_OF_ONE_CLASS.items()
    for name, values in parameters.items()
    for value in values
]
EACH_BAD_PARAMETER = [
    pytest.param(
        name,
        value,
        id=re.sub(r"\s+(at 0x\w+)?", " ", f"{name}={value!r}")[:60],
    )
    for name, values in BAD_PARAMETERS.items()
    for value in values
]


@every_class
def test_every_parameter_has_bad_values_here(cls):
    """The table of bad values has every parameter."""
    assert {*BAD_PARAMETERS, *BAD_OF_ONE_CLASS[cls]} == set(cls().get_params())


@every_class
@pytest.mark.parametrize(("name", "value"), EACH_BAD_PARAMETER)
def test_a_bad_parameter_is_refused_in_one_sentence(cls, name, value):
    """fit and partial_fit say which parameter, what it must be, and what it is."""
    sentence = (
        f"^The {name!r} parameter of {cls.__name__} must be [^\n]+[.] "
        f"Got {re.escape(repr(value))} instead[.]$"
    )
    new, seen = small(cls, **{name: value}), stream(cls).set_params(**{name: value})
    assert_refused(new.fit, X, TARGET[cls], match=sentence)
    assert_refused(seen.fit, X, TARGET[cls], match=sentence)
    assert_refused(seen.partial_fit, X, TARGET[cls], match=sentence)


@pytest.mark.parametrize(("cls", "name", "value"), EACH_BAD_PARAMETER_OF_ONE_CLASS)
def test_a_bad_parameter_of_one_class_is_refused_likewise(cls, name, value):
    """So it is with the parameters that the other class does not have."""
    test_a_bad_parameter_is_refused_in_one_sentence(cls, name, value)


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
@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in GOOD_PARAMETERS.items() for value in values],
)
def test_numbers_of_any_kind_and_the_bounds_themselves_are_taken(cls, name, value):
    """What is inside the ranges is trained with, whatever library it comes from."""
    model = small(cls, **{name: value}).fit(X, TARGET[cls])
    assert np.isfinite(model.loss_)


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


# Rows


def with_one(value, array=X, dtype=float):
    """Return a copy of the array with the value in one place."""
    array = array.astype(dtype)
    array[(3,) + (1,) * (array.ndim - 1)] = value
    return array


def tensor(array):
    """Return the array as a tensor of its own memory."""
    return torch.tensor(array)


FRAME = pd.DataFrame(X, columns=list("abcd"))
DATES = pd.date_range("2020-01-01", periods=len(X))
CATEGORIES = pd.Categorical(["u", "v"] * 30)


def text(shown, column=None):
    """Return the pattern of the sentence about text in X."""
    where = "" if column is None else f" in column {column!r}"
    got = re.escape(f"Got the text {shown}{where}; use sklearn.preprocessing.OneHot")
    return f"X must hold numbers. {got}"


BAD_ROWS = {
    "nan": (with_one(np.nan), "NaN"),
    "inf": (with_one(np.inf), "infinity"),
    "-inf": (with_one(-np.inf), "infinity"),
    "None in one place": (with_one(None, dtype=object), "NaN"),
    "no rows": (X[:0], "0 sample"),
    "no columns": (X[:, :0], "0 feature"),
    "an empty list": ([], "Expected 2D array"),
    "ragged": ([[1.0, 2], [3]] * 30, "inhomogeneous"),
    "one row as a vector": (X[0], "Expected 2D array, got 1D"),
    "1-D": (X[:, 0], "Expected 2D array, got 1D"),
    "3-D": (X[np.newaxis], "dim 3|3D"),
    "a number": (1.0, "Expected 2D array, got scalar"),
    "nothing": (None, "X must hold numbers, a row for each sample. Got None"),
    "text": (np.full(X.shape, "a"), text("'a'", 0)),
    "text in a list": ([["1", "b"]] * 60, text("'b'", 1)),
    "text among numbers": (with_one("a", dtype=object), text("'a'", 1)),
    "long text": (np.full(X.shape, "a" * 99), text("'" + "a" * 59, 0)),
    "bytes": (np.full(X.shape, b"a"), text("b'a'", 0)),
    "<NA>": (with_one(pd.NA, dtype=object), "X must have no missing values. Got <NA>"),
    "complex": (X + 1j, "Complex data not supported: X must hold real numbers"),
    "dates": (np.full(X.shape, np.datetime64("2020-01-01")), "datetime64|numbers"),
    "durations": (np.full(X.shape, np.timedelta64(1, "D")), "timedelta64|numbers"),
    "longdouble beyond float64": (X * np.longdouble("1e400"), "infinity|too large"),
    "ints beyond float64": ([[10**400] * 4] * len(X), "int too large"),
    "text beyond float64": (np.full(X.shape, "1e400"), "infinity"),
    "masked": (np.ma.masked_greater(X, 2), "X must have no masked entries"),
    "records": (np.zeros(len(X), "f8,f8"), "X must hold numbers"),
    "records in a table": (np.zeros(X.shape, [("a", "f8")]), "X must hold numbers"),
    "dates in a list": ([[np.datetime64("2020-01-01")] * 4] * 60, "must hold numbers"),
    "dates as objects": ([[datetime.date(2020, 1, 1)] * 4] * 60, "must hold numbers"),
    "a dict": ({"a": X[:, 0]}, "must hold numbers"),
    "a set": ({1, 2}, "must hold numbers"),
    "a function": (len, "must hold numbers"),
    "an iterator": (iter(X), "must hold numbers"),
    "a word": ("X", text("'X'")),
    "a table of vectors": ([[[1, 2]] * 4] * len(X), "dim 3"),
    "nan of fractions": (
        with_one(np.nan, with_one(Fraction(1), dtype=object), object),
        "NaN",
    ),
    "a series": (pd.Series(X[:, 0]), "2-dimensional container"),
    "a frame with dates": (FRAME.assign(b=DATES), "X must hold numbers"),
    "a frame with durations": (FRAME.assign(b=DATES - DATES[0]), "X must hold number"),
    "a frame with periods": (FRAME.assign(b=DATES.to_period("D")), "must hold number"),
    "a frame with text": (FRAME.assign(b="text"), text("'text'", "b")),
    "a frame with a gap": (FRAME.assign(b=pd.array([1, None] * 30)), "NaN"),
    "a frame of categories": (FRAME.assign(b=CATEGORIES), text("'u'", "b")),
    "complex in a frame": (FRAME.assign(b=1j), "Complex data"),
    "polars with dates": (pl.DataFrame({"a": DATES}), "X must hold numbers"),
    "polars with a gap": (pl.DataFrame({"a": [1, None] * 30}), "NaN"),
    "polars with text": (pl.DataFrame({"a": ["u"] * 60}), text("'u'", "a")),
    "polars with lists": (pl.DataFrame({"a": [[1, 2]] * 60}), "sequence"),
    "polars of categories": (
        pl.DataFrame({"a": ["u"] * 60}).cast(pl.Categorical),
        text("'u'", "a"),
    ),
    "pyarrow with dates": (pa.table({"a": DATES}), "X must hold numbers. Got dtype ti"),
    "pyarrow with a gap": (pa.table({"a": [1, None] * 30}), "NaN"),
    "pyarrow with text": (
        pa.table({"a": ["1"] * 60, "b": ["u"] * 60}),
        text("'u'", "b"),
    ),
    "pyarrow of categories": (
        pa.table({"a": pa.array(["u"] * 60).dictionary_encode()}),
        text("'u'", "a"),
    ),
    "a tensor of nan": (tensor(with_one(np.nan)), "NaN or infinity"),
    "a tensor of inf": (tensor(with_one(-np.inf)), "NaN or infinity"),
    "a tensor without rows": (tensor(X)[:0], "0 sample"),
    "a tensor without columns": (tensor(X)[:, :0], "0 feature"),
    "a tensor of 0 axes": (tensor(1.0), "X must be a tensor of shape"),
    "a tensor of 1 axis": (tensor(X)[0], "X must be a tensor of shape"),
    "a tensor of 3 axes": (tensor(X)[None], "X must be a tensor of shape"),
    "a complex tensor": (tensor(X + 1j), "Complex data .* X"),
    "a meta tensor": (tensor(X).to("meta"), "X must be a dense tensor"),
    "a list of tensors": ([tensor(1.0)] * 60, "Expected 2D array"),
}
DIFFERENT_WIDTH = {
    "narrower": (X[:, :3], "3 features"),
    "wider": (np.hstack([X, X]), "8 features"),
}
SPARSE = {"sparse array": sparse.csr_array(X), "sparse matrix": sparse.csr_matrix(X)}


def broken(kind, place, n_columns=4):
    """Return rows of a sparse format with an entry in a column that is not there.

    SciPy checks what it is given, and not what is changed later.
    """
    rows = sparse.csr_array(X)
    rows.resize(len(X), n_columns)
    rows = rows.asformat(kind)
    if kind == "lil":
        rows.rows[3][1] = place
    elif kind == "coo":
        rows.coords[1][7] = place
    elif kind == "csc":  # its indices are rows
        rows.indices[7] = place if place < 0 else len(X)
    else:
        rows.indices[7] = place
    return rows


@pytest.mark.parametrize("n_columns", [4, 5000], ids=["narrow", "wide"])
@pytest.mark.parametrize("place", [-1, 5000, 2**30])
@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "lil"])
@every_class
def test_entries_outside_of_a_sparse_matrix_are_refused(cls, kind, place, n_columns):
    """They would be taken for entries of other rows, or of other arrays."""
    rows, match = broken(kind, place, n_columns), "X must have its entries in its shape"
    empty, y = rows.__class__(rows.shape), TARGET[cls]
    new, seen = small(cls), small(cls).fit(empty, y)
    assert_refused(new.fit, rows, y, match=match)
    assert_refused(seen.fit, rows, y, match=match)
    assert_refused(seen.partial_fit, rows, y, match=match)
    assert_refused(seen.predict, rows, match=match)
    assert_refused(new.fit, empty, y, X_val=rows, y_val=y, match=f"In X_val.*{match}")
    search = VectorizedGridSearchCV(small(cls), {"lr": [0.1]}, cv=2)
    assert_refused(search.fit, rows, y, match=match)


@pytest.mark.parametrize("starts", [{3: 1000}, {3: 0}, {-1: 1000}, {0: 1}], ids=str)
def test_rows_that_are_no_pieces_of_the_entries_are_refused(starts):
    """So is a sparse matrix whose rows begin elsewhere."""
    rows = sparse.csr_array(X)
    for row, start in starts.items():
        rows.indptr[row] = start
    model, match = stream(MiniBatchRegressor), "X must have an indptr that rises from 0"
    assert_refused(model.fit, rows, y, match=match)
    assert_refused(model.partial_fit, rows, y, match=match)
    assert_refused(model.predict, rows, match=match)


def test_labels_outside_of_a_sparse_matrix_are_refused():
    """Several labels a row may come sparse as well."""
    several = sparse.csr_array(SEVERAL)
    several.indices[0] = 2
    model, match = small(MiniBatchClassifier), "y must have its entries in its shape"
    assert_refused(model.fit, X, several, match=match)


def test_spare_entries_of_a_sparse_matrix_are_not_looked_at():
    """What lies behind the last row belongs to none."""
    rows = sparse.csr_array(X)
    rows.indices = np.append(rows.indices, 99)
    rows.data = np.append(rows.data, 99.0)
    spared = small(MiniBatchRegressor).fit(rows, y)
    assert np.array_equal(spared.coef_, small(MiniBatchRegressor).fit(X, y).coef_)


# Names of columns that the stream has not seen are another matter.
ignore_names = pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")


@ignore_names
@every_class
@every_depth
@pytest.mark.parametrize(("rows", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows_are_refused(cls, hidden, rows, message):
    """fit, partial_fit and predict refuse rows that are not a table of numbers."""
    new = small(cls, hidden_layer_sizes=hidden)
    seen = stream(cls, hidden_layer_sizes=hidden)
    how = {"match": message, "error": (TypeError, ValueError)}
    assert_refused(new.fit, rows, TARGET[cls], **how)
    assert_refused(seen.fit, rows, TARGET[cls], **how)
    assert_refused(seen.partial_fit, rows, TARGET[cls], **how)
    assert_refused(seen.predict, rows, **how)


@every_class
@pytest.mark.parametrize(
    ("rows", "n_features"),
    [(X[:, :3], 3), (np.hstack([X, X]), 8)],
    ids=["fewer", "more"],
)
def test_rows_of_another_width_are_refused(cls, rows, n_features):
    """partial_fit, warm fits and predict want the features of the first call."""
    model, match = stream(cls, warm_start=True), f"{n_features} features, but"
    assert_refused(model.partial_fit, rows, TARGET[cls], match=match)
    assert_refused(model.fit, rows, TARGET[cls], match=match)
    assert_refused(model.predict, rows, match=match)


@every_class
def test_prediction_needs_a_fit(cls):
    """Before any fit the methods that predict say that there was none."""
    model = small(cls)
    methods = [model.predict]
    if cls is MiniBatchClassifier:
        methods += [
            model.decision_function,
            model.predict_proba,
            model.predict_log_proba,
        ]
    for method in methods:
        assert_refused(method, X, match="is not fitted yet", error=NotFittedError)


# Targets

BAD_TARGETS = {
    "too few": (y[:-1], "inconsistent numbers of samples"),
    "too many": (np.append(y, 1), "inconsistent numbers of samples"),
    "none": (None, "requires y|y cannot be None"),
    "nan": (with_one(np.nan, y), "NaN"),
    "inf": (with_one(np.inf, y), "infinity"),
    "<NA>": (with_one(pd.NA, y, object), "y must have no missing values. Got <NA>"),
    "<NA> and text": (pd.Series(["a", pd.NA] * 30), "y must have no missing|NaN"),
    "nan among objects": (with_one(np.nan, y, object), "y must have no missing value"),
    "NaT among objects": ([pd.NaT, DATES[0]] * 30, "y must have no missing values"),
    "complex": (y + 1j, "Complex data not supported: y must hold real numbers"),
    "a word": ("text", "y must have an entry for every row of X. Got 'text'"),
    "empty": ([], r"y must have an entry for every row of X. Got shape \(0,\)"),
    "an empty array": (y[:0], "y must have an entry for every row of X"),
    "3-D": (np.ones((len(X), 2, 2)), "dim 3|1d array"),
    "no columns": (
        np.empty((len(X), 0)),
        r"y must have an entry .* Got shape \(60, 0\)",
    ),
    "ragged": ([[1, 2], [3]] * 30, "inhomogeneous"),
    "a row": (y[np.newaxis], "inconsistent numbers of samples"),
    "vectors of several lengths": ([np.ones(2), np.ones(3)] * 30, "inhomogeneous"),
    "a set": (set(range(60)), "y must have an entry for every row of X"),
    "a dict": (dict.fromkeys(range(60)), "y must have an entry for every row of X"),
    "a function": (len, "y must have an entry for every row of X"),
    "an iterator": (iter(y), "y must have an entry for every row of X"),
    "masked": (np.ma.masked_greater(labels, 0), "y must have no masked entries"),
    "a series with a gap": (pd.Series(pd.array([1, None] * 30)), "NaN"),
    "infinity among ints": ([1, np.inf] * 30, "infinity"),
    "a tensor too short": (tensor(labels)[1:], "inconsistent numbers of samples"),
    "a tensor of nan": (tensor(with_one(np.nan, y)), "NaN"),
    "a complex tensor": (tensor(y + 1j), "Complex data"),
    "a tensor of 0 axes": (tensor(1), "y must have an entry for every row of X"),
    "a tensor of 3 axes": (tensor(labels)[:, None, None], "dim 3"),
    "a sparse tensor": (tensor(Y).to_sparse(), "y must be a dense tensor"),
    "a meta tensor": (tensor(labels).to("meta"), "y must be a dense tensor"),
}
BAD_NUMBERS = {
    "text": (np.full(len(X), "a"), "y must hold numbers"),
    "text objects": (
        np.full(len(X), "a", dtype=object),
        "y must hold numbers. Got the text 'a'",
    ),
    "dates": (np.full(len(X), np.datetime64("2020-01-01")), "y must hold numbers"),
    "longdouble beyond float64": (y * np.longdouble("1e400"), "too large for float64"),
    "ints beyond float64": ([10**400] * 60, "int too large"),
    "None": ([None] * 60, "y holds .* NaN"),
    "text of numbers": (["1.5"] * 60, "y must hold numbers"),
    "bytes": ([b"a", b"b"] * 30, "y must hold numbers"),
    "records": (np.zeros(60, "f8,f8"), "y must hold numbers"),
    "durations": (np.full(60, np.timedelta64(1, "D")), "y must hold numbers"),
    "dates as objects": ([datetime.date(2020, 1, 1)] * 60, "must hold numbers"),
    "dates in a series": (pd.Series(DATES), "y must hold numbers"),
    "dates in polars": (pl.Series(DATES), "y must hold numbers"),
    "categories": (pd.Series(CATEGORIES), "y must hold numbers. Got the text 'u'"),
}
BAD_LABELS = {
    "continuous": (y, "Unknown label type: continuous"),
    "two columns": (np.column_stack([labels, labels]), "should be a 1d array"),
    "numbers and text": (with_one("a", labels, object), "labels of one kind|class"),
    "ints beyond float64": ([10**400] * 60, "Unknown label type"),
    "ints as objects": (labels.astype(object), "Unknown label type"),
    "None": ([None] * 60, "labels of one kind"),
    "text and None": (["a", None] * 30, "labels of one kind"),
    "bytes": ([b"a", b"b"] * 30, "labels represented as bytes"),
    "NaT": (np.where(labels > 0, DATES, np.datetime64("NaT")), "y must hold lab.* NaT"),
    "NaT in a series": (
        pd.Series([pd.NaT, DATES[0]] * 30),
        "y must hold labels. G.* NaT",
    ),
    "NaT in polars": (pl.Series([None, DATES[0]] * 30), "y must hold labels. Got NaT"),
    "a duration of NaT": (
        np.array([1, "NaT"] * 30, "m8[s]"),
        "y must hold labels. Got N",
    ),
    "decimals": ([decimal.Decimal(1), decimal.Decimal(2)] * 30, "Unknown label type"),
    "2 and 0, several a row": ((Y > 3) * 2, "y must hold 0 and 1|one label"),
    "1 and -1, several a row": ((Y > 3) * 2 - 1, "y must hold 0 and 1|one label"),
    "text, several a row": ((Y > 3).astype(str), "should be a 1d array"),
    "three labels, several a row": (np.digitize(Y, [0, 3]), "should be a 1d array"),
    "several a row with a gap": (np.where(Y > 3, 1, np.nan), "NaN"),
}
EACH_BAD_TARGET = [
    pytest.param(cls, bad, match, id=f"{cls.__name__}-{name}")
    for cls, own in (
        (MiniBatchRegressor, BAD_NUMBERS),
        (MiniBatchClassifier, BAD_LABELS),
    )
    for name, (bad, match) in {**BAD_TARGETS, **own}.items()
]


@pytest.mark.parametrize(("cls", "bad", "match"), EACH_BAD_TARGET)
def test_bad_targets_are_refused(cls, bad, match):
    """fit and partial_fit refuse targets that are not what the class learns."""
    new, seen = small(cls), stream(cls)
    how = {"match": match, "error": (TypeError, ValueError)}
    assert_refused(new.fit, X, bad, **how)
    assert_refused(new.fit, tensor(X), bad, **how)
    assert_refused(seen.fit, X, bad, **how)
    assert_refused(seen.partial_fit, X, bad, **how)


@pytest.mark.parametrize(
    "bad", [["a", None] * 30, labels.astype(object), ["a", "d"] * 30], ids=str
)
def test_labels_unlike_the_text_of_a_stream_are_refused(bad):
    """Text may lie in arrays of objects, which may hold anything."""
    text = np.array(["a", "b", "c"] * 20, object)
    model = small(MiniBatchClassifier).partial_fit(X, text, classes=["a", "b", "c"])
    match = "labels of one kind|Unknown label type|not among the classes"
    assert_refused(model.partial_fit, X, np.array(bad, object), match=match)
    assert_refused(model.set_params(warm_start=True).fit, X, bad, match=match)


@every_class
@pytest.mark.parametrize("bad", [1.0, np.array(1)], ids=["float", "array"])
def test_a_single_number_is_no_target(cls, bad):
    """A number for all rows is refused, by the error that scikit-learn raises."""
    model = stream(cls)
    assert_refused(model.fit, X, bad, error=(TypeError, ValueError))
    assert_refused(model.partial_fit, X, bad, error=(TypeError, ValueError))


def test_a_stream_keeps_its_number_of_targets():
    """partial_fit and warm fits want as many targets as the first call had."""
    one = stream(MiniBatchRegressor, warm_start=True)
    two = small(MiniBatchRegressor, warm_start=True).fit(X, Y)
    for model, other in ((one, Y), (two, y)):
        assert_refused(model.partial_fit, X, other, match="begin anew")
        assert_refused(model.fit, X, other, match="begin anew")


@every_class
def test_a_stream_keeps_its_layers(cls):
    """Other hidden layers than the fitted ones need a new fit."""
    model = stream(cls, warm_start=True).set_params(hidden_layer_sizes=(3,))
    assert_refused(model.partial_fit, X, TARGET[cls], match="begin anew")
    assert_refused(model.fit, X, TARGET[cls], match="begin anew")


# Classes


@pytest.mark.parametrize("one", [[0], ["a"], [True]], ids=str)
def test_one_class_is_refused(one):
    """A classifier needs two classes, in y or in classes."""
    new, seen = small(MiniBatchClassifier), stream(MiniBatchClassifier)
    assert_refused(new.fit, X, one * len(X), match="one class")
    assert_refused(seen.fit, X, one * len(X), match="one class")
    assert_refused(new.partial_fit, X, one * len(X), classes=one, match="one class")


def test_the_first_call_of_a_stream_names_the_classes():
    """Without classes the first partial_fit is refused, whatever y holds."""
    new = small(MiniBatchClassifier)
    assert_refused(new.partial_fit, X, labels, match="classes must be passed")


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ([], "two classes"),
        (3, "1d array"),
        ("text", "1d array"),
        ([[-1, 0, 1]], "1d array"),
        ([-1, 0, 1, np.nan], "NaN"),
        ([-1, 0, 1, None], "label"),
        ([-1, 0, 1, "a"], "label|among the classes"),
    ],
    ids=str,
)
def test_bad_classes_are_refused(bad, match):
    """classes are a list of labels, all of one kind."""
    new = small(MiniBatchClassifier)
    assert_refused(new.partial_fit, X, labels, classes=bad, match=match)


@pytest.mark.parametrize(
    "unseen",
    [labels + 1, labels.astype(str), np.where(labels > 0, "a", "b"), labels == 0],
    ids=["another number", "text of them", "text", "bool"],
)
def test_an_unseen_class_is_refused(unseen):
    """Labels that the first call did not name are told, in streams and warm fits."""
    if unseen.dtype == bool:
        unseen = unseen * 7
    model, match = stream(MiniBatchClassifier, warm_start=True), "not among the classes"
    assert_refused(model.partial_fit, X, unseen, match=match)
    assert_refused(model.fit, X, unseen, match=match)
    new = small(MiniBatchClassifier)
    assert_refused(new.partial_fit, X, unseen, classes=[-1, 0, 1], match=match)


@pytest.mark.parametrize(
    "other", [[0, 1], [-1, 0, 1, 2], [-1, 0, 2], ["-1", "0", "1"], ["a", None]], ids=str
)
def test_other_classes_later_are_refused(other):
    """Later calls name the classes of the first one or none."""
    model, match = (
        stream(MiniBatchClassifier),
        "classes must be those of the first call|classes must hold labels of one kind",
    )
    assert_refused(model.partial_fit, X, labels, classes=other, match=match)


# Weights

BAD_WEIGHTS = {
    "negative": (with_one(-1, ONES), "[Nn]egative"),
    "all negative": (-ONES, "[Nn]egative"),
    "all zero": (0 * ONES, "non-zero"),
    "zero": (0, "non-zero"),
    "nan": (with_one(np.nan, ONES), "NaN"),
    "inf": (with_one(np.inf, ONES), "infinity"),
    "too few": (ONES[1:], "sample_weight.*shape|1D array"),
    "too many": (np.append(ONES, 1), "sample_weight.*shape|1D array"),
    "2-D": (ONES[:, np.newaxis], "In sample_weight: .* 1D array"),
    "none": (
        [],
        r"sample_weight must have an entry for every row of X. Got shape \(0,",
    ),
    "text": (["a"] * len(X), "sample_weight must hold numbers. Got the text 'a'"),
    "text among numbers": (
        with_one("a", ONES, object),
        "sample_weight must hold numbers. Got the text 'a'",
    ),
    "<NA>": (
        with_one(pd.NA, ONES, object),
        "sample_weight must have no missing values",
    ),
    "complex": (ONES * 1j, "Complex data not supported: sample_weight must"),
    "ragged": ([[1, 2], [3]] * 30, "In sample_weight: .* inhomogeneous"),
    "a sum beyond float64": (ONES * 1e308, "sample_weight must have a finite sum"),
    "a number that is none": (np.nan, "sample_weight must have a finite sum"),
    "a negative number": (-1, "Negative values .*sample_weight"),
    "ints beyond float64": ([10**400] * 60, "sample_weight .*int too large"),
    "False for all": ([False] * 60, "non-zero"),
    "None for all": ([None] * 60, "sample_weight contains NaN"),
    "a word": ("balanced", "sample_weight must hold numbers. Got the text 'balanced'"),
    "a dict": ({0: 1, 1: 2}, "sample_weight must hold numbers"),
    "a set": ({0, 1}, "sample_weight must hold numbers"),
    "a function": (len, "sample_weight must hold numbers"),
    "records": (np.ones(60, "f8,f8"), "sample_weight must hold numbers"),
    "dates": (np.full(60, np.datetime64("2020-01-01")), "sample_weight must hold numb"),
    "durations": (np.full(60, np.timedelta64(1, "D")), "sample_weight must hold numbe"),
    "dates in a series": (pd.Series(DATES), "sample_weight must hold numbers"),
    "dates in polars": (pl.Series(DATES), "sample_weight must hold numbers"),
    "dates in pyarrow": (pa.array(DATES), "sample_weight must hold numbers"),
    "a series with a gap": (pd.Series(pd.array([1, None] * 30)), "sample_weight .*NaN"),
    "masked": (np.ma.masked_equal(WEIGHT, 1), "sample_weight must have no masked"),
    "sparse": (sparse.csr_array(ONES[np.newaxis]), "Sparse data .* sample_weight"),
    "a negative tensor": (tensor(-ONES), "Negative values .*sample_weight"),
    "a tensor of nan": (tensor(ONES * np.nan), "sample_weight contains NaN"),
    "a tensor too short": (tensor(ONES[1:]), "sample_weight.shape"),
    "a tensor of 2 axes": (tensor(ONES)[:, None], "1D array"),
    "a complex tensor": (tensor(ONES * 1j), "Complex data"),
    "a sparse tensor": (tensor(ONES).to_sparse(), "sample_weight must be a dense"),
    "a meta tensor": (tensor(ONES).to("meta"), "sample_weight must be a dense"),
}


@every_class
@pytest.mark.parametrize(("weight", "match"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights_are_refused(cls, weight, match):
    """Weights are a finite number for each row, 0 or more, and not all 0."""
    new, seen = small(cls), stream(cls)
    how = {"match": match, "error": (TypeError, ValueError)}
    assert_refused(new.fit, X, TARGET[cls], sample_weight=weight, **how)
    assert_refused(seen.fit, X, TARGET[cls], sample_weight=weight, **how)
    if match != "non-zero":  # a stream has other rows to come
        assert_refused(seen.partial_fit, X, TARGET[cls], sample_weight=weight, **how)
    held_out = {"X_val": X, "y_val": TARGET[cls], "sample_weight_val": weight}
    how["match"] = rf"(?s)sample_weight_val: .*({match})"
    assert_refused(seen.fit, X, TARGET[cls], **held_out, **how)


# Held-out rows


@every_class
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("X_val",), "no y_val"),
        (("y_val",), "no X_val"),
        (("sample_weight_val",), "no X_val and no y_val"),
        (("X_val", "sample_weight_val"), "no y_val"),
        (("y_val", "sample_weight_val"), "no X_val"),
    ],
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_part_of_a_held_out_set_is_refused(cls, given, missing, early_stopping):
    """X_val and y_val come together, and weights of them not alone."""
    parts = {"X_val": X, "y_val": TARGET[cls], "sample_weight_val": ONES}
    model = stream(cls).set_params(early_stopping=early_stopping)
    held_out = {name: parts[name] for name in given}
    match = f"X_val and y_val must be given together. Got {missing};"
    assert_refused(model.fit, X, TARGET[cls], match=match, **held_out)


@ignore_names
@every_class
@pytest.mark.parametrize(("rows", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_held_out_rows_are_refused(cls, rows, message):
    """What X must be, X_val must be, and the error says which of them it is."""
    model = stream(cls)
    match = "Got no X_val" if rows is None else f"(?s)In X_val.*({message})"
    how = {"match": match, "error": (TypeError, ValueError)}
    held_out = {"X_val": rows, "y_val": TARGET[cls]}
    assert_refused(model.fit, X, TARGET[cls], **held_out, **how)


@pytest.mark.parametrize(("cls", "bad", "match"), EACH_BAD_TARGET)
def test_bad_held_out_targets_are_refused(cls, bad, match):
    """What y must be, y_val must be."""
    model = stream(cls).set_params(early_stopping=True)
    held_out = {"X_val": X, "y_val": bad, "error": (TypeError, ValueError)}
    if bad is None:
        match = "Got no y_val"
    assert_refused(model.fit, X, TARGET[cls], match=match, **held_out)


def names_of(columns):
    """Return the rows as a frame with such columns."""
    return pd.DataFrame(X, columns=columns)


UNLIKE_THE_TRAINING_ROWS = {
    "narrower": (X, {"X_val": X[:, :3]}, "In X_val.*3 features, but"),
    "wider": (X, {"X_val": np.hstack([X, X])}, "In X_val.*8 features, but"),
    "a wide tensor": (X, {"X_val": tensor(X)[:, :1]}, "In X_val.*1 features, but"),
    "other names": (
        FRAME,
        {"X_val": names_of(list("abcz"))},
        "(?s)In X_val.*feature names should match",
    ),
    "another order": (
        FRAME,
        {"X_val": names_of(list("bacd"))},
        "(?s)In X_val.*feature names should match",
    ),
    "beyond its float32": (X.astype("f4"), {"X_val": with_one(1e39)}, "In X_val.*inf"),
}
EACH_UNLIKE = [
    *[
        pytest.param(cls, *unlike, id=f"{cls.__name__}-{name}")
        for cls in TARGET
        for name, unlike in UNLIKE_THE_TRAINING_ROWS.items()
    ],
    *[
        pytest.param(cls, X, {"y_val": bad}, match, id=f"{cls.__name__}-{match}")
        for cls, bad, match in (
            (MiniBatchRegressor, Y, r"y must have 1 target\(s\).* Got 2"),
            (MiniBatchClassifier, labels + 1, "y holds 2, not among the classes"),
            (MiniBatchClassifier, labels.astype(str), "y holds '-1', '0', '1', not"),
            (MiniBatchClassifier, (Y > 3).astype(int), "y must hold one label a row"),
        )
    ],
]


@pytest.mark.parametrize(("cls", "rows", "unlike", "match"), EACH_UNLIKE)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_held_out_rows_are_like_those_to_train_on(
    cls, rows, unlike, match, early_stopping
):
    """Held-out rows have the features and the kind of target of the others."""
    model = stream(cls).set_params(early_stopping=early_stopping)
    held_out = {"X_val": rows, "y_val": TARGET[cls], **unlike}
    assert_refused(model.fit, rows, TARGET[cls], match=match, **held_out)


def one_counts(rows):
    """Return weights that are 0 but for one row."""
    weight = np.zeros(len(rows))
    weight[0] = 1
    return weight


@every_class
@pytest.mark.parametrize("fraction", [1e-9, 0.001, 0.999, 1 - 1e-9])
def test_a_split_without_enough_rows_is_refused(cls, fraction):
    """Fewer than two rows to judge by, or none to train on, are told."""
    model = stream(cls).set_params(early_stopping=True, validation_fraction=fraction)
    match = "validation_fraction|validation set must have at least 2 rows"
    assert_refused(model.fit, X, TARGET[cls], match=match)


@every_class
@pytest.mark.parametrize("n_rows", [1, 2, 3, 10])
def test_a_set_too_small_to_split_is_refused(cls, n_rows):
    """A tenth of so few rows is no validation set."""
    model = stream(cls).set_params(early_stopping=True, batch_size=1)
    match = "validation|one class"
    assert_refused(model.fit, X[:n_rows], TARGET[cls][:n_rows], match=match)


@every_class
def test_a_split_of_which_a_part_does_not_count_is_refused(cls):
    """Weights above 0 are needed in both parts."""
    model = stream(cls).set_params(early_stopping=True)
    match = "sample_weight must be above 0 for some of the rows"
    assert_refused(model.fit, X, TARGET[cls], one_counts(X), match=match)


@pytest.mark.parametrize(
    "classes", [np.arange(60) == 7, np.arange(60) // 2], ids=["a row", "too many"]
)
def test_classes_that_cannot_be_held_out_are_refused(classes):
    """Every class must have a row in both parts."""
    model = stream(MiniBatchClassifier).set_params(early_stopping=True)
    match = "early_stopping=True must hold out validation_fraction=0.1 of the 60 rows"
    assert_refused(model.fit, X, classes.astype(int), match=match)


NO_SCORES = [None, "high", [1.0], np.ones(2), 1j, True]


@every_class
@pytest.mark.parametrize("score", NO_SCORES, ids=repr)
def test_a_scorer_must_give_a_number(cls, score):
    """What is no number cannot be compared: training by it is refused."""
    model = stream(cls)
    model.set_params(early_stopping=True, scoring=lambda estimator, X, y: score)
    assert_refused(model.fit, X, TARGET[cls], match="scoring must give a number")


def test_a_score_that_a_single_row_does_not_have_is_refused():
    """R2 of one row is no number."""
    model = stream(MiniBatchRegressor).set_params(early_stopping=True)
    with pytest.warns(UserWarning, match="R[^2]2 score is not well-defined"):
        assert_refused(model.fit, X, y, X_val=X[:1], y_val=y[:1], match="scoring must")


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


NO_FACTORS = [None, "half", -1, np.nan, np.inf, [1], 1j, np.ones(2), 10**400, ()]
NO_FACTORS += [torch.tensor(0.5), decimal.Decimal(1)]


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


def test_a_stream_cannot_balance_its_classes():
    """The error names the function that gives the weights."""
    model = stream(MiniBatchClassifier).set_params(class_weight="balanced")
    assert_refused(model.partial_fit, X, labels, match="compute_class_weight")


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


SEVERAL = (Y > 3).astype(int)


@pytest.mark.parametrize(
    ("first", "classes", "later", "match"),
    [
        (SEVERAL, None, labels, "y must hold several labels a row.* Got one label"),
        (labels, [-1, 0, 1], SEVERAL, "y must hold one label a row.* Got several"),
        (SEVERAL, None, SEVERAL[:, [0, 1, 1]], "classes must be those of the first"),
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


@pytest.mark.parametrize("cls", TARGET)
def test_a_hundred_bad_inputs_of_each_class_are_tried(cls):
    """Data, weights, held-out rows and combinations; the parameters come on top."""
    own = BAD_NUMBERS if cls is MiniBatchRegressor else BAD_LABELS
    tables = [BAD_ROWS, BAD_TARGETS, own, BAD_WEIGHTS, NO_FACTORS, NO_SCORES]
    assert sum(map(len, tables)) >= 100


# Numbers that the precision of the computation cannot hold


@every_class
@every_depth
def test_rows_too_large_for_float32_are_refused(cls, hidden):
    """What is finite in float64 but not in float32 is told, not computed with."""
    params = {"hidden_layer_sizes": hidden, "dtype": "float32"}
    new, seen, large = small(cls, **params), stream(cls, **params), with_one(1e39)
    match = "infinity|too large"
    assert_refused(new.fit, large, TARGET[cls], match=match)
    assert_refused(seen.partial_fit, large, TARGET[cls], match=match)
    assert_refused(seen.predict, large, match=match)


def test_targets_too_large_for_float32_are_refused():
    """So are targets."""
    params = {"dtype": "float32"}
    new, seen = (
        small(MiniBatchRegressor, **params),
        stream(MiniBatchRegressor, **params),
    )
    large, match = with_one(1e39, y), "too large for float32"
    assert_refused(new.fit, X, large, match=match)
    assert_refused(seen.partial_fit, X, large, match=match)


@every_class
def test_weights_too_large_for_float32(cls):
    """A stream uses weights as given and refuses such; fit takes their proportions."""
    seen, heavy = stream(cls, dtype="float32"), ONES * 1e39
    match = "infinity|too large"
    assert_refused(seen.partial_fit, X, TARGET[cls], sample_weight=heavy, match=match)
    fitted = small(cls, dtype="float32").fit(X, TARGET[cls], sample_weight=heavy)
    plain = small(cls, dtype="float32").fit(X, TARGET[cls])
    np.testing.assert_allclose(fitted.coef_, plain.coef_, rtol=1e-6)


@every_class
def test_starting_weights_too_large_for_float32_are_refused(cls):
    """So are starting weights, by their name."""
    model = small(cls, dtype="float32").fit(X, TARGET[cls])
    large = np.full(model.coef_.shape, 1e39)
    assert_refused(model.fit, X, TARGET[cls], coef_init=large, match="coef_init")


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


# Memory

NO_MEMORY = {
    "CPU": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "NumPy": MemoryError("Unable to allocate 7.28 TiB for an array"),
}
TOO_LARGE = {
    "units": (
        {"hidden_layer_sizes": (50, 5)},
        1,
        "hidden_layer_sizes must be so small",
    ),
    "a whole batch": (
        {"hidden_layer_sizes": (9,), "batch_size": None},
        20,
        "batch_size=None must be so small .* Got 1200 rows of 10",
    ),
    "a large batch": (
        {"batch_size": 1100},
        20,
        "batch_size=1100 must .* Got 1100 rows",
    ),
    "features": ({}, 1, "X must have so few features .* Got 4 features"),
}


@every_class
@pytest.mark.parametrize("error", NO_MEMORY.values(), ids=NO_MEMORY)
@pytest.mark.parametrize(
    ("params", "n_times", "match"), TOO_LARGE.values(), ids=TOO_LARGE
)
def test_training_without_memory_names_what_to_lower(
    cls, error, params, n_times, match, monkeypatch
):
    """It is a MemoryError, wherever the memory is, and nothing has changed."""

    def train(*args):
        raise error

    rows, y = np.tile(X, (n_times, 1)), np.tile(two_of(TARGET[cls]), n_times)
    new = small(cls, **params)
    classes = {} if cls is MiniBatchRegressor else {"classes": [0, 1]}
    seen = clone(new).partial_fit(rows, y, **classes)
    for name in ("train", "train_on_chunk"):
        monkeypatch.setattr(f"skgd._estimators.base.{name}", train)
    how = {"match": match, "error": MemoryError}
    assert_refused(new.fit, rows, y, **how)
    assert_refused(seen.fit, rows, y, **how)
    assert_refused(seen.partial_fit, rows, y, **how)


def two_of(target):
    """Return targets of one output: numbers, or two classes."""
    return (target > 0).astype(int) if target.dtype.kind == "i" else target


@every_class
@pytest.mark.parametrize(
    "sizes", [(10**15,), (2**62,), (2**40, 2**40)], ids=["bytes", "one", "two"]
)
def test_more_units_than_any_memory_holds_are_refused(cls, sizes):
    """So many weights, or so many bytes of them, cannot even be counted."""
    new, seen = small(cls, hidden_layer_sizes=sizes), stream(cls, warm_start=True)
    seen.set_params(hidden_layer_sizes=sizes)
    how = {"match": "hidden_layer_sizes must be so small", "error": MemoryError}
    assert_refused(new.fit, X, TARGET[cls], **how)
    assert_refused(seen.fit, X, TARGET[cls], **how)
    assert_refused(seen.partial_fit, X, TARGET[cls], **how)


def test_another_error_of_torch_is_told_as_it_is(monkeypatch):
    """Only what is said of memory is said in other words."""

    def train(*args):
        raise RuntimeError("an error of ours")

    monkeypatch.setattr("skgd._estimators.base.train", train)
    model = small(MiniBatchRegressor)
    assert_refused(model.fit, X, y, match="^an error of ours$", error=RuntimeError)


@every_class
@pytest.mark.parametrize("max_bytes", [None, 10**12])
def test_a_stack_without_memory_names_max_bytes(cls, max_bytes, monkeypatch):
    """The search ends: one fit at a time would be another search."""

    def train(*args):
        raise NO_MEMORY["CPU"]

    monkeypatch.setattr("skgd._search.stacks.train", train)
    grid = {"lr": [0.01, 0.1]}
    search = VectorizedGridSearchCV(small(cls), grid, cv=2, max_bytes=max_bytes)
    match = f"max_bytes must be so small .* Got {max_bytes}, for 4 models"
    with pytest.raises(MemoryError, match=match):
        search.fit(X, TARGET[cls])


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@every_class
def test_a_candidate_without_memory_gets_the_error_score(cls):
    """It fails alone, as it would in a search of scikit-learn, and says what it was."""
    grid = {"hidden_layer_sizes": [(3,), (10**15,)], "lr": [0.1]}
    search = VectorizedGridSearchCV(small(cls), grid, cv=2, refit=False)
    with pytest.warns(FitFailedWarning, match=r"MemoryError: hidden_layer_sizes must"):
        search.fit(X, TARGET[cls])
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    with pytest.raises(MemoryError, match="hidden_layer_sizes must be so small"):
        search.set_params(error_score="raise").fit(X, TARGET[cls])


# What a refused call leaves behind

REFUSED = {
    "nan": {"X": with_one(np.nan)},
    "no rows": {"X": X[:0], "y": []},
    "narrow": {"X": X[:, :2]},
    "too few targets": {"y": [1] * 5},
    "nan targets": {"y": with_one(np.nan, y)},
    "negative weights": {"sample_weight": -ONES},
    "too few weights": {"sample_weight": ONES[1:]},
    "text": {"X": np.full(X.shape, "a")},
    "three targets": {"y": np.column_stack([Y, y])},
    "an unseen class": {"y": np.where(labels > 0, "a", "b")},
}


@every_optimizer
@every_depth
@every_task
def test_a_refused_batch_leaves_the_stream_as_it_was(cls, y, hidden, optimizer):
    """After refused calls the stream goes on, bit by bit, as if they never were."""
    params = {**optimizer, "lr": 0.01, "hidden_layer_sizes": hidden}
    params.update(last_batch="fill", record_batch_loss=True)
    classes = {} if cls is MiniBatchRegressor else {"classes": np.unique(y)}
    spared = small(cls, **params).partial_fit(X, y, **classes)
    model = small(cls, **params).partial_fit(X, y, **classes)
    for bad in REFUSED.values():
        assert_refused(model.partial_fit, **{"X": X, "y": y, **bad})
    model.partial_fit(X, y)
    spared.partial_fit(X, y)
    assert fitted_state(model) == fitted_state(spared)


@every_depth
@every_class
def test_a_refused_fit_leaves_the_seed_as_it_was(cls, hidden):
    """Only fits that happen draw from a RandomState that is given as a seed."""
    seed = np.random.RandomState(0)
    model = small(cls, hidden_layer_sizes=hidden, random_state=seed)
    start = {"coef_init" if hidden else "coefs_init": [1]}
    assert_refused(model.fit, X * np.nan, TARGET[cls], match="NaN")
    assert_refused(model.fit, X, TARGET[cls], -ONES, match="[Nn]egative")
    assert_refused(model.fit, X, TARGET[cls], match="other kind", **start)
    model.set_params(batch_size=0)
    assert_refused(model.fit, X, TARGET[cls], match="batch_size")


# Divergence


def diverged(lr):
    """Return the pattern of the error: the epoch, the rate and what to do."""
    rate = re.escape(f"lr={lr!r}")
    return rf"diverged in epoch \d+: .*{rate}.*lower it.*standardise X"


@pytest.mark.parametrize("batch_size", [None, 1, 8])
@pytest.mark.parametrize("lr", [0.1, 1.0, 10, 1e4])
@pytest.mark.filterwarnings("ignore:Training ended with a loss")  # at lr=1e-9
@every_depth
def test_divergence_ends_fit(lr, batch_size, hidden):
    """On raw features the error names lr, the epoch and scaling; nothing is kept."""
    params = {"optimizer": "sgd", "lr": lr, "batch_size": batch_size, "max_iter": 200}
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, **params)
    match = diverged(lr)
    assert_refused(model.fit, RAW, y, match=match)
    model.set_params(lr=1e-9).fit(RAW, y)
    model.set_params(lr=lr)
    assert_refused(model.fit, RAW, y, match=match)
    model.set_params(warm_start=True)
    assert_refused(model.fit, RAW, y, match=match)


@pytest.mark.parametrize(
    "params",
    [
        {"lr": 10},
        {"lr": 1e4},
        {"lr": 1e300},
        {"lr": 10, "dtype": "float32"},
        {"lr": 1e39, "dtype": "float32"},
        {"lr": 2, "momentum": 0.99},
        {"lr": 2, "momentum": 0.99, "nesterov": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("tol", [None, 1e-4])
@every_depth
def test_divergence_ends_fit_on_scaled_features_too(params, tol, hidden):
    """Steps too large for any data diverge, whatever stops a fit otherwise."""
    model = small(MiniBatchRegressor, optimizer="sgd", tol=tol, **params)
    model.set_params(hidden_layer_sizes=hidden, max_iter=200)
    assert_refused(model.fit, X, y, match=diverged(params["lr"]))


# What else is said of an end that is not refused.
OTHERWISE = "times that of the best constant prediction|weights that training began"


def still(cls, hidden, rows, y, **starts):
    """Return an estimator whose steps have no size, and so the loss of its start."""
    model = small(cls, hidden_layer_sizes=hidden, optimizer="sgd", lr=1e-300, alpha=0)
    model.set_params(batch_size=None, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, y, **starts)


def words_of_fit(model, rows, y):
    """Return what a fit says, and whether it raised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(rows, y)
        except ValueError as error:
            return [str(error)], True
    return [str(warning.message) for warning in caught], False


@pytest.mark.parametrize("early_stopping", [False, True], ids=["to the end", "early"])
@pytest.mark.parametrize("rows", [X, RAW], ids=["scaled", "raw"])
@every_depth
@every_optimizer
def test_every_divergence_is_told(optimizer, hidden, rows, early_stopping):
    """What ends not finite, or 10 times above the loss of a constant, has said so."""
    n_told = 0
    for cls, lr, (batch_size, max_iter) in product(
        (MiniBatchRegressor, MiniBatchClassifier),
        (0.1, 1.0, 10.0, 1e4),
        ((None, 2), (1, 2), (16, 10)),
    ):
        y = TARGET[cls]
        params = {**optimizer, "lr": lr, "batch_size": batch_size, "max_iter": max_iter}
        model = small(cls, **params, hidden_layer_sizes=hidden)
        model.set_params(early_stopping=early_stopping)
        words, raised = words_of_fit(model, rows, y)
        told = [bool(re.search(f"{diverged(lr)}|{OTHERWISE}", text)) for text in words]
        assert all(told), words
        n_told += any(told)
        if raised:
            continue
        coefs, intercepts = layers_of(model)
        assert all(np.isfinite(array).all() for array in [*coefs, *intercepts])
        if not told:
            names = ["coefs_", "intercepts_"] if hidden else ["coef_", "intercept_"]
            fitted = {f"{name}init": getattr(model, name) for name in names}
            end = still(cls, hidden, rows, y, **fitted).loss_
            # (it was judged without the rows held out)
            assert end <= 20 * still(cls, (), rows, y).loss_, params
    assert n_told > 0


@pytest.mark.parametrize("batch_size", [None, 1, 8])
def test_rare_outliers_are_no_divergence(batch_size):
    """A loss that is far above that of the first rows, as it was at the start."""
    wild = np.where(np.arange(N_ROWS) == N_ROWS - 1, 1e4, y)
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e-4, shuffle=False)
    model.set_params(batch_size=batch_size, max_iter=20).fit(X, wild)
    assert model.loss_ < model.loss_curve_[0]


def test_rows_in_the_order_of_their_targets_are_no_divergence():
    """The first rows have next to no loss, and what diverges is seen in them too."""
    rng = np.random.default_rng(0)
    rows, amounts = (
        rng.normal(size=(5000, 3)),
        np.sort(np.exp(3 * rng.normal(size=5000))),
    )
    model = small(MiniBatchRegressor, batch_size=100).fit(rows, amounts)
    assert model.loss_ < 1.1 * model.loss_curve_[0]
    for order in (slice(None), slice(None, None, -1)):
        model.set_params(optimizer="sgd", lr=100.0)
        with pytest.raises(ValueError, match=diverged(100.0)):
            model.fit(rows[order], amounts[order])


@pytest.mark.parametrize("given", [False, True], ids=["split", "given"])
@pytest.mark.parametrize("lr", [1e160, 1e300])
def test_divergence_before_any_judgement_ends_fit(lr, given):
    """There are no best weights to return to, so this is an error, and no warning."""
    params = {"optimizer": "sgd", "lr": lr, "early_stopping": True}
    model = small(MiniBatchRegressor, **params)
    held_out = {"X_val": X, "y_val": y} if given else {}
    assert_refused(model.fit, X, y, match=diverged(lr), **held_out)


def test_divergence_leaves_the_seed_as_it_was():
    """A RandomState given as a seed is where it was before the fit that diverged."""
    seed = np.random.RandomState(0)
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e4, random_state=seed)
    assert_refused(model.fit, RAW, y, match="diverged")


def test_the_epoch_of_divergence_is_that_of_the_fit():
    """The epoch named is the last one trained, also where fewer were asked for."""
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1, batch_size=None)
    model.set_params(max_iter=1000)
    with pytest.raises(ValueError, match="diverged in epoch") as error:
        model.fit(RAW, y)
    epoch = int(re.search(r"epoch (\d+)", str(error.value))[1])
    assert 2 < epoch < 1000
    with pytest.raises(ValueError, match=f"diverged in epoch {epoch - 1}:"):
        clone(model).set_params(max_iter=epoch - 1).fit(RAW, y)


@every_depth
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_ends_a_stream(hidden, dtype):
    """The step that leaves the numbers is refused, and a smaller one may follow."""
    params = {"optimizer": "sgd", "hidden_layer_sizes": hidden, "dtype": dtype}
    model = small(MiniBatchRegressor, **params, lr=1e-3).partial_fit(X, y)
    model.set_params(lr=1e6)
    match = diverged(1e6)

    def go_on():
        for _ in range(1000):
            model.partial_fit(X, y)

    with pytest.raises(ValueError, match=match):
        go_on()
    assert np.isfinite(model.predict(X)).all()
    assert_refused(model.partial_fit, X, y, match=match)
    fresh = small(
        MiniBatchRegressor, **params, lr=1e300 if dtype == "float64" else 1e30
    )
    assert_refused(fresh.partial_fit, X * 1e5, y, match="diverged")


@every_minimiser
@every_task
def test_large_but_stable_targets_and_penalties_do_not_diverge(cls, y, optimizer):
    """Penalties of any strength shrink weights to zero, and raise nothing."""
    for l1_ratio in (0, 0.5, 1):
        model = small(cls, **{**optimizer, "lr": 0.01}, alpha=1e6, l1_ratio=l1_ratio)
        assert np.abs(model.fit(X, y).coef_).max() < 1e-4


@pytest.mark.parametrize("n_iter_no_change", [1, 3, 5])
@every_optimizer
def test_a_settled_model_that_trains_on_does_not_diverge(optimizer, n_iter_no_change):
    """The noise of the batches around a minimum is growth, but no divergence."""
    params = {**optimizer, "lr": optimizer["lr"] / 3, "tol": 1e-4, "max_iter": 1000}
    params.update(n_iter_no_change=n_iter_no_change, warm_start=True)
    for seed in range(20):
        model = small(MiniBatchRegressor, **params, random_state=seed)
        for _ in range(3):
            model.fit(X, y)
        assert model.loss_ < 1


def test_a_linear_regression_far_from_zero_is_no_divergence():
    """An objective that starts high and falls is no error."""
    model = small(MiniBatchRegressor, optimizer="sgd", lr=0.1, max_iter=100)
    model.set_params(normalize_y=False).fit(X, 1e6 * y)
    assert model.loss_ < 0.2 * model.loss_curve_[0]


# Training that goes well, though it may look otherwise

OVERLAPPING = np.where(Y[:, 0] + 2 * np.sin(50 * X[:, 0]) > 3, "yes", "no")


@every_depth
@pytest.mark.parametrize("lr", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("loss", MiniBatchClassifier._losses)
def test_classes_that_overlap_are_no_divergence(loss, optimizer, lr, hidden):
    """Also not by a perceptron, whose loss is 0 before it knows anything."""
    model = MiniBatchClassifier(loss=loss, optimizer=optimizer, lr=lr / 4)
    model.set_params(lr_schedule="constant", tol=1e-4, n_iter_no_change=10)
    model.set_params(hidden_layer_sizes=hidden, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, OVERLAPPING)
    assert model.score(X, OVERLAPPING) > 0.6


@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_to_begin_at_the_optimum_is_no_divergence(lr):
    """Adam wavers around it, and is told nothing but that it has not settled."""
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    model = MiniBatchRegressor(lr=lr, random_state=0, tol=None, max_iter=30)
    model.fit(X, X @ weights, coef_init=weights, intercept_init=[0.0])
    assert model.score(X, X @ weights) > 0.9


def test_targets_of_another_scale_are_no_divergence():
    """A warm start, or a stream, goes on where the numbers are larger than before."""
    warm = MiniBatchRegressor(warm_start=True, tol=None, max_iter=5, random_state=0)
    warm.fit(X, y).fit(X, 1000 * y)
    assert warm.loss_curve_[-1] < warm.loss_curve_[5]
    stream = MiniBatchRegressor(random_state=0).partial_fit(X, np.zeros(N_ROWS))
    stream.partial_fit(X, 2000 * y)
    assert np.isfinite(stream.coef_).all()


@pytest.mark.parametrize("lr", [1.01, 1.05, 1.15])
def test_an_adaptive_rate_is_divided_before_it_diverges(lr):
    """Whole-batch descent above its bound grows slowly; a fifth of the rate settles."""
    rows = np.ones((4, 1))
    model = MiniBatchRegressor(optimizer="sgd", lr=2 * lr, batch_size=None, alpha=0)
    model.set_params(fit_intercept=False, max_iter=1000, lr_schedule="adaptive")
    model.fit(rows, np.ones(4))
    assert model.coef_[0] == pytest.approx(1, abs=1e-2)


def test_a_column_of_labels_does_not_name_the_classes():
    """A first chunk of a stream must, also where its labels are a column."""
    model = small(MiniBatchClassifier)
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X, labels[:, np.newaxis])


@every_class
def test_an_error_of_a_scorer_is_told_whatever_its_kind(cls):
    """Some errors cannot be made again from a sentence."""

    def scoring(estimator, rows, y):
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "no text")

    model = stream(cls).set_params(early_stopping=True, scoring=scoring)
    assert_refused(model.fit, X, TARGET[cls], match="In scoring: .* no text")
