"""Input that is odd but valid: the fit is that of the plain array of the same numbers.

Rows are whole numbers from 0 to 255, which every dtype here holds.
"""

import decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import WEIGHT, X, Y, every_class, fitted_state, frozen
from conftest import small as small_of_three_epochs
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV

y = Y[:, 0]
whole = np.round(4 * X)
whole -= whole.min()
labels = (y > 3).astype(int)


def small(cls, **params):
    """Return an estimator that trains for one epoch of three batches."""
    return small_of_three_epochs(cls, batch_size=20, max_iter=1, **params)


class OnlyAnArray:
    """What has nothing but a shape and the conversion to an array."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape

    def __array__(self, dtype=None, copy=None):
        """Return the array."""
        return np.array(self.array, dtype=dtype)

    def __len__(self):
        """Return the number of rows."""
        return len(self.array)


def cast(dtype):
    """Return the function that casts to a dtype."""
    return lambda array, tmp_path: array.astype(dtype)


def as_objects(kind):
    """Return the function that makes an object of every number."""
    return lambda array, tmp_path: np.vectorize(kind, otypes=[object])(array)


def as_tensor(dtype):
    """Return the function that makes a tensor of a dtype."""
    return lambda array, tmp_path: torch.tensor(array, dtype=dtype)


def as_memmap(array, tmp_path, mode="r"):
    """Return a memory map of a file of its own."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode=mode)


def unaligned(array, tmp_path):
    """Return the array in memory that begins at an odd byte."""
    raw = np.frombuffer(b"-" + array.tobytes(), dtype=np.uint8)[1:]
    return raw.view(array.dtype).reshape(array.shape)


def read_only(array, tmp_path):
    """Return a copy of the array that cannot be written."""
    array = array.copy()
    array.flags.writeable = False
    return array


ARRAYS = {
    "C order": lambda a, tmp_path: np.ascontiguousarray(a),
    "Fortran order": lambda a, tmp_path: np.asfortranarray(a),
    "rows backwards": lambda a, tmp_path: a[::-1].copy()[::-1],
    "every other row": lambda a, tmp_path: np.repeat(a, 2, axis=0)[::2],
    "unaligned": unaligned,
    "read-only": read_only,
    "memory map": as_memmap,
    "memory map, copied on writing": lambda a, tmp_path: as_memmap(a, tmp_path, "c"),
    "big-endian": cast(">f8"),
    "big-endian ints": cast(">i4"),
    "float16": cast("float16"),
    "longdouble": cast("longdouble"),
    **{name: cast(name) for name in ("int8", "int16", "int32", "int64")},
    **{name: cast(name) for name in ("uint8", "uint16", "uint32", "uint64")},
    "objects of float": as_objects(float),
    "objects of int": as_objects(int),
    "fractions": as_objects(lambda number: Fraction(int(number))),
    "decimals": as_objects(lambda number: decimal.Decimal(int(number))),
    "a list": lambda a, tmp_path: a.tolist(),
    "a list of ints": lambda a, tmp_path: a.astype(int).tolist(),
    "a tuple": lambda a, tmp_path: tuple(a.tolist()),
    "a list of arrays": lambda a, tmp_path: list(a),
    "a mask of nothing": lambda a, tmp_path: np.ma.masked_array(a),
    "an __array__": lambda a, tmp_path: OnlyAnArray(a),
}
TENSORS = {
    "tensor of float64": as_tensor(torch.float64),
    "tensor of float16": as_tensor(torch.float16),
    "tensor of bfloat16": as_tensor(torch.bfloat16),
    "tensor of int16": as_tensor(torch.int16),
    "tensor of int64": as_tensor(torch.int64),
    "tensor of uint8": as_tensor(torch.uint8),
    "tensor with strides": lambda a, tmp_path: torch.tensor(np.repeat(a, 2, 0))[::2],
    "tensor with a gradient": lambda a, tmp_path: torch.tensor(a, requires_grad=True),
    "result with a gradient": lambda a, tmp_path: 1 * torch.tensor(a).requires_grad_(),
    "tensor of inference": lambda a, tmp_path: inference_tensor(a),
}
FRAMES = {
    "pandas": lambda a, tmp_path: pd.DataFrame(a, columns=list("abcd")),
    "pandas without names": lambda a, tmp_path: pd.DataFrame(a),
    "pandas of ints": lambda a, tmp_path: pd.DataFrame(a.astype(int)),
    "pandas, rows renamed": lambda a, tmp_path: pd.DataFrame(a, index=-np.arange(60)),
    "pandas nullable Int64": lambda a, tmp_path: pd.DataFrame(a).astype("Int64"),
    "pandas nullable UInt8": lambda a, tmp_path: pd.DataFrame(a).astype("UInt8"),
    "pandas nullable Float64": lambda a, tmp_path: pd.DataFrame(a).astype("Float64"),
    "pandas categories": lambda a, tmp_path: pd.DataFrame(a).astype("category"),
    "pandas objects": lambda a, tmp_path: pd.DataFrame(a).astype(object),
    "pandas, every column another": lambda a, tmp_path: pd.DataFrame(a).astype(
        {0: "float32", 1: "int8", 2: "Int64", 3: "category"}
    ),
    "polars": lambda a, tmp_path: pl.DataFrame(a, schema=list("abcd")),
    "polars of ints": lambda a, tmp_path: pl.DataFrame(a.astype("int16")),
    "polars decimals": lambda a, tmp_path: pl.DataFrame(a).cast(pl.Decimal(10, 2)),
    "polars, several dtypes": lambda a, tmp_path: pl.DataFrame(a).cast(
        {"column_0": pl.UInt8, "column_1": pl.Float32}
    ),
    "pyarrow": lambda a, tmp_path: arrow_table(a),
    "pyarrow of ints": lambda a, tmp_path: arrow_table(a.astype("int16")),
    "pyarrow in pieces": lambda a, tmp_path: pa.concat_tables(
        [arrow_table(a[:7]), arrow_table(a[7:])]
    ),
    "pyarrow in pandas": lambda a, tmp_path: pd.DataFrame(a).astype("double[pyarrow]"),
}
ROWS = {
    "columns backwards": lambda a, tmp_path: a[:, ::-1].copy()[:, ::-1],
    "every other column": lambda a, tmp_path: np.repeat(a, 2, axis=1)[:, ::2],
    "a list of tuples": lambda a, tmp_path: list(map(tuple, a)),
    "tensor transposed": lambda a, tmp_path: torch.tensor(a.T.copy()).T,
    **ARRAYS,
    **TENSORS,
    **FRAMES,
}
VECTORS = {
    **ARRAYS,
    **TENSORS,
    "series": lambda a, tmp_path: pd.Series(a),
    "series, rows renamed": lambda a, tmp_path: pd.Series(a, index=-np.arange(60)),
    "series of nullable Int64": lambda a, tmp_path: pd.Series(a).astype("Int64"),
    "series of float32": lambda a, tmp_path: pd.Series(a).astype("float32"),
    "series of polars": lambda a, tmp_path: pl.Series(a),
    "series of polars of ints": lambda a, tmp_path: pl.Series(a.astype("int32")),
    "pyarrow array": lambda a, tmp_path: pa.array(a),
    "pyarrow array in pieces": lambda a, tmp_path: pa.chunked_array([a[:7], a[7:]]),
}


def arrow_table(array):
    """Return the columns of an array as those of a table of pyarrow."""
    return pa.table(dict(zip("abcd", array.T, strict=True)))


def names_of(odd):
    """Return the names of the columns, if they have names."""
    names = getattr(odd, "column_names", getattr(odd, "columns", None))
    named = names is not None and all(isinstance(name, str) for name in names)
    return list(names) if named else None


def inference_tensor(array):
    """Return a tensor that was made in inference mode."""
    with torch.inference_mode():
        return torch.tensor(array)


def plain(odd):
    """Return the numbers of odd input as an array that is not."""
    if isinstance(odd, torch.Tensor):
        return odd.detach().double().numpy()
    return np.asarray(odd)


def fitted_bytes(model):
    """Return what the fit has written but for the names of columns, frozen."""
    copied = clone(model)
    state = {k: v for k, v in vars(model).items() if k != "feature_names_in_"}
    copied.__dict__.update(state)
    return fitted_state(copied)


def assert_same_fit(model, odd, expected, **weights):
    """Assert that odd rows and targets are learned and predicted as the plain ones."""
    before = [frozen(plain(one)) for one in (*odd, *weights.values())]
    fitted = clone(model).fit(*odd, **weights)
    weights = {name: plain(weight) for name, weight in weights.items()}
    same = clone(model).fit(*expected, **weights)
    assert fitted_bytes(fitted) == fitted_bytes(same)
    rtol = 1e-5 if expected[0].dtype == np.float32 else 1e-12
    prediction, other = fitted.predict(odd[0]), same.predict(expected[0])
    assert (prediction.dtype, type(prediction)) == (other.dtype, np.ndarray)
    np.testing.assert_allclose(prediction, other, rtol=rtol)
    assert [frozen(plain(one)) for one in (*odd[: len(before)],)] == before[: len(odd)]


@every_class
@pytest.mark.parametrize("kind", ROWS.values(), ids=ROWS)
def test_odd_rows_are_learned_like_plain_ones(cls, kind, tmp_path):
    """The weights are those of the plain rows, bit by bit, and nothing is written."""
    target = y if cls is MiniBatchRegressor else labels
    odd = kind(whole, tmp_path)
    assert_same_fit(small(cls), (odd, target), (whole, target))


@every_class
@pytest.mark.parametrize("kind", ROWS.values(), ids=ROWS)
def test_odd_rows_of_a_stream_are_learned_like_plain_ones(cls, kind, tmp_path):
    """So it is with partial_fit, after a batch of another kind."""
    odd = kind(whole, tmp_path)
    names = names_of(odd)
    first = X if names is None else pd.DataFrame(X, columns=names)
    seen, same = small(cls), small(cls)
    classes = {} if cls is MiniBatchRegressor else {"classes": [0, 1]}
    seen.partial_fit(first, labels, **classes).partial_fit(odd, labels)
    same.partial_fit(X, labels, **classes).partial_fit(whole, labels)
    assert fitted_bytes(seen) == fitted_bytes(same)


@every_class
@pytest.mark.parametrize("kind", ROWS.values(), ids=ROWS)
def test_what_is_plain_is_what_scikit_learns_checks_let_pass(
    cls, kind, tmp_path, monkeypatch
):
    """A stream and its predictions are the same if every array goes through them."""
    odd, states = kind(whole, tmp_path), []
    classes = {} if cls is MiniBatchRegressor else {"classes": [0, 1]}
    for plain in (True, False):
        if not plain:
            monkeypatch.setattr("skgd._estimators.inputs.are_plain", lambda *_: False)
        names = names_of(odd)
        seen = small(cls).partial_fit(odd, labels, **classes)
        seen.partial_fit(odd, labels)
        states.append((fitted_bytes(seen), frozen(seen.predict(odd)), names is None))
    assert states[0] == states[1]


@every_class
@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "pyarrow in pieces"])
def test_frames_are_searched_scored_and_predicted_with_their_names(cls, kind, tmp_path):
    """The names of the columns are known after a fit, and asked for by what follows."""
    target = y if cls is MiniBatchRegressor else labels
    frame = FRAMES[kind](whole, tmp_path)
    model = small(cls, early_stopping=True)
    model.fit(frame, target, X_val=frame, y_val=target)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert np.isfinite(model.score(frame, target))
    search = VectorizedGridSearchCV(small(cls), {"lr": [0.01, 0.1]}, cv=3)
    plain = clone(search).fit(whole, target)
    assert search.fit(frame, target).feature_names_in_.tolist() == list("abcd")
    assert all(group.together for group in search.groups_)
    scores = [one.cv_results_["mean_test_score"] for one in (search, plain)]
    np.testing.assert_allclose(*scores, rtol=1e-12)
    for fitted in (model, search):
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            predicted = fitted.predict(whole)
        np.testing.assert_allclose(fitted.predict(frame), predicted, rtol=1e-12)
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.predict(pd.DataFrame(whole, columns=list("abdc")))


FLOAT32 = {
    "plain": lambda a: a.astype("float32"),
    "big-endian": lambda a: a.astype(">f4"),
    "Fortran order": lambda a: np.asfortranarray(a, "float32"),
    "tensor": lambda a: torch.tensor(a, dtype=torch.float32),
    "pandas": lambda a: pd.DataFrame(a).astype("float32"),
    "pandas nullable": lambda a: pd.DataFrame(a).astype("Float32"),
    "polars": lambda a: pl.DataFrame(a).cast(pl.Float32),
    "pyarrow": lambda a: arrow_table(a.astype("float32")),
    "pyarrow in pandas": lambda a: pd.DataFrame(a).astype("float[pyarrow]"),
}


@pytest.mark.parametrize("kind", FLOAT32.values(), ids=FLOAT32)
def test_float32_of_any_container_is_computed_in_float32(kind):
    """float32 stays float32, whatever holds it."""
    expected = whole.astype(np.float32)
    assert_same_fit(small(MiniBatchRegressor), (kind(whole), y), (expected, y))


def test_bits_are_numbers():
    """Rows of True and False are rows of 1 and 0."""
    bits, numbers = X > 0, (X > 0).astype(float)
    kinds = [
        bits,
        bits.tolist(),
        torch.tensor(bits),
        pd.DataFrame(bits),
        pd.DataFrame(bits).astype("boolean"),
        pl.DataFrame(bits),
        arrow_table(bits),
    ]
    for odd in kinds:
        assert_same_fit(small(MiniBatchRegressor), (odd, y), (numbers, y))


def test_a_row_that_is_repeated_without_memory_is_rows():
    """Strides of 0 are rows like others."""
    row = np.broadcast_to(X[0], X.shape)
    assert_same_fit(small(MiniBatchRegressor), (row, y), (row.copy(), y))
    expanded = torch.tensor(X[:1]).expand(60, 4)
    assert_same_fit(small(MiniBatchRegressor), (expanded, y), (row.copy(), y))


# Targets


@pytest.mark.parametrize("kind", VECTORS.values(), ids=VECTORS)
def test_odd_targets_are_learned_like_plain_ones(kind, tmp_path):
    """Numbers to regress on may be of any dtype and container."""
    numbers = whole[:, 0]
    odd = kind(numbers, tmp_path)
    assert_same_fit(small(MiniBatchRegressor), (X, odd), (X, numbers))


@pytest.mark.parametrize("kind", ROWS.values(), ids=ROWS)
def test_odd_tables_of_targets_are_learned_like_plain_ones(kind, tmp_path):
    """So may several targets."""
    odd = kind(whole, tmp_path)
    assert_same_fit(small(MiniBatchRegressor), (X, odd), (X, whole))


LABELS = {
    "text": ["no", "yes"],
    "bool": [False, True],
    "negative": [-7, -3],
    "with a gap": [-1, 1000],
    "beyond 32 bits": [2**31, 2**40],
    "far apart": [-(2**62), 2**62],
    "float": [0.0, 1.0],
    "float16": np.array([-1, 2], "float16"),
    "uint8": np.array([3, 255], "uint8"),
    "uint64": np.array([2**63, 2**63 + 1], "uint64"),
    "big-endian": np.array([3, 4], ">i8"),
    "text objects": np.array(["a", "b"], object),
    "wide text": ["", "a label of several words, with \N{GREEK SMALL LETTER ALPHA}"],
}
CONTAINERS = {
    "array": np.asarray,
    "list": lambda a: a.tolist(),
    "series": pd.Series,
    "categories": lambda a: pd.Series(a, dtype="category"),
    "polars": lambda a: pl.Series(a.tolist()),
    "pyarrow": lambda a: pa.array(a.tolist()),
}


# What the containers themselves do not take.
NOT_IN = {
    "categories": {"float16", "big-endian"},
    "polars": {"float16", "uint64"},
    "pyarrow": {"float16", "uint64"},
}


@pytest.mark.parametrize(
    ("container", "pair"),
    [
        pytest.param(container, pair, id=f"{name} in {kind}")
        for kind, container in CONTAINERS.items()
        for name, pair in LABELS.items()
        if name not in NOT_IN.get(kind, ())
    ],
)
def test_labels_are_learned_like_0_and_1(pair, container):
    """The weights depend on nothing but the order of the labels."""
    named = np.asarray(pair)[labels]
    model = small(MiniBatchClassifier).fit(X, container(named))
    same = small(MiniBatchClassifier).fit(X, labels)
    assert np.array_equal(model.coef_, same.coef_)
    assert model.classes_.tolist() == np.asarray(pair).tolist()
    predicted = np.asarray(pair)[same.predict(X)]
    assert model.predict(X).tolist() == predicted.tolist()


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.uint8, torch.bool, torch.float32, torch.bfloat16]
)
def test_labels_may_be_a_tensor(dtype):
    """Labels of a tensor come back as an array where dispatch is off."""
    model = small(MiniBatchClassifier).fit(X, torch.tensor(labels).to(dtype))
    same = small(MiniBatchClassifier).fit(X, labels)
    assert np.array_equal(model.coef_, same.coef_)
    assert isinstance(model.classes_, np.ndarray)
    assert model.predict(torch.tensor(X)).tolist() == same.predict(X).tolist()


@pytest.mark.parametrize(
    "container",
    [
        *(np.asarray, lambda a: a.tolist(), torch.tensor, pd.DataFrame, pl.DataFrame),
        *(lambda a: a.astype(float), lambda a: a.astype(bool), np.asfortranarray),
        *(lambda a: torch.tensor(a).bool(), lambda a: torch.tensor(a).double()),
    ],
)
def test_several_labels_may_be_in_any_container(container):
    """0 and 1 of any kind are several labels a row."""
    several = (Y > 3).astype(int)
    model = small(MiniBatchClassifier).fit(X, container(several))
    same = small(MiniBatchClassifier).fit(X, several)
    assert np.array_equal(model.coef_, same.coef_)
    assert model.predict(X).tolist() == same.predict(X).tolist()


def test_a_column_of_labels_is_taken_with_a_warning():
    """As in scikit-learn, a column is flattened, and a warning says so."""
    same = small(MiniBatchClassifier).fit(X, labels)
    for column in (labels[:, None], torch.tensor(labels)[:, None]):
        with pytest.warns(DataConversionWarning, match="column-vector y"):
            model = small(MiniBatchClassifier).fit(X, column)
        assert fitted_bytes(model) == fitted_bytes(same)


def test_a_column_of_targets_is_a_table_with_one():
    """A regressor predicts the shape that it was given."""
    model = small(MiniBatchRegressor).fit(X, y[:, None])
    same = small(MiniBatchRegressor).fit(X, y)
    assert np.array_equal(model.coef_, same.coef_[None])
    assert np.array_equal(model.predict(X), same.predict(X)[:, None])


# Weights


@every_class
@pytest.mark.parametrize("kind", VECTORS.values(), ids=VECTORS)
def test_odd_weights_count_like_plain_ones(cls, kind, tmp_path):
    """Weights may be of any dtype and container."""
    odd = kind(WEIGHT, tmp_path)
    target = y if cls is MiniBatchRegressor else labels
    same = small(cls).fit(X, target, sample_weight=WEIGHT)
    assert fitted_bytes(small(cls).fit(X, target, odd)) == fitted_bytes(same)


def test_a_number_for_all_rows_is_a_weight():
    """In a fit it changes nothing; so it is with True for some rows."""
    same = small(MiniBatchRegressor).fit(X, y, np.ones(60))
    assert fitted_bytes(small(MiniBatchRegressor).fit(X, y, 3)) == fitted_bytes(same)
    some = y > 3
    same = small(MiniBatchRegressor).fit(X, y, some.astype(float))
    for bits in (some, some.tolist(), torch.tensor(some), pl.Series(some)):
        model = small(MiniBatchRegressor).fit(X, y, bits)
        assert fitted_bytes(model) == fitted_bytes(same)


# Held-out rows


@pytest.mark.parametrize("kind", ROWS.values(), ids=ROWS)
@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X_val must be like X:UserWarning")
def test_odd_held_out_rows_are_judged_like_plain_ones(kind, tmp_path):
    """Held-out rows may be of another kind than those to train on."""
    model = small(MiniBatchRegressor, early_stopping=True)
    held_out = {"X_val": kind(whole, tmp_path), "y_val": list(y)}
    held_out["sample_weight_val"] = torch.tensor(WEIGHT)
    odd = clone(model).fit(X, y, **held_out)
    same = model.fit(X, y, X_val=whole, y_val=y, sample_weight_val=WEIGHT)
    np.testing.assert_allclose(odd.coef_, same.coef_, rtol=1e-12)
    scores = odd.validation_scores_, same.validation_scores_
    np.testing.assert_allclose(*scores, rtol=1e-10)


def test_sixty_four_odd_inputs_are_tried():
    """As many as in the survey of what other estimators take."""
    assert len(ROWS) + len(LABELS) + len(FLOAT32) >= 64
