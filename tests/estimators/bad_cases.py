"""What the tests of bad input share: refusals, and an estimator whose state is full."""

import datetime
import decimal
import re
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import TASKS, X, Y, frozen, small

from skgd import MiniBatchClassifier, MiniBatchRegressor

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
    "an iterator": (iter(X), "X must be rows.* runs once"),
    "a word": ("X", r"X must be rows. Got 'X'; .* skgd.Blocks.from_parquet"),
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

# Names of columns that the stream has not seen are another matter.
ignore_names = pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")

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
    "NaT": (
        np.where(labels > 0, DATES, np.datetime64("NaT", "D")),
        "y must hold lab.* NaT",
    ),
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

NO_SCORES = [None, "high", [1.0], np.ones(2), 1j, True]

NO_FACTORS = [None, "half", -1, np.nan, np.inf, [1], 1j, np.ones(2), 10**400, ()]
NO_FACTORS += [torch.tensor(0.5), decimal.Decimal(1)]

SEVERAL = (Y > 3).astype(int)
