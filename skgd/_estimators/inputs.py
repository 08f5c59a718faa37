"""What callers hand in, checked; and what they get back, in their own container.

X may be anything that scikit-learn takes as an array or a data frame, a sparse matrix,
or a torch tensor on any device. What leaves this room is an array, a CSR matrix or a
tensor of finite floats, not copied where it need not be, and targets on the host.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils.validation import validate_data
from torch import Tensor

from skgd._estimators.blocks import check_in_memory
from skgd._estimators.checks import (
    check_numeric,
    check_places,
    check_text,
    check_unmasked,
    checked_targets,
    columns_of,
    conversion_of,
)
from skgd._estimators.collections import check_computed
from skgd._machine.arrays import Array
from skgd._machine.devices import device_named, to_numpy, to_tensor
from skgd._training.csr import csr

Matrix = Any  # Array | csr_array | csr_matrix | Tensor


def checked_rows(estimator: Any, X: Any, dtypes: list[Any]) -> Matrix:
    """Return the rows to predict, of one of the dtypes, or raise ValueError."""
    if isinstance(X, Tensor):
        return _checked_tensor(estimator, X, dtypes, first=False)
    if _are_columns(X, dtypes) and _is_like_first(estimator, X) and are_plain(X):
        return X
    check_in_memory("X", X)
    with conversion_of("X", X):
        X = check_numeric("X", in_its_shape("X", X))
        rows = validate_data(
            estimator, X, dtype=dtypes, accept_sparse="csr", reset=False
        )
    return _native(rows)


def checked_rows_and_targets(
    estimator: Any, X: Any, y: Any, dtypes: list[Any], *, numeric: bool, first: bool
) -> tuple[Matrix, Array]:
    """Return the rows to train on, and their targets, or raise ValueError.

    The first call of an estimator notes the number of features and their names, later
    ones are held against them.
    """
    if _are_plain_columns(estimator, X, y, dtypes, first=first):
        if first:
            estimator.n_features_in_ = X.shape[1]
        return X, y
    y = in_its_shape("y", on_host("y", y))
    check_unmasked("y", y)
    if isinstance(X, Tensor):
        rows = _checked_tensor(estimator, X, dtypes, first=first)
    else:
        check_in_memory("X", X)
        with conversion_of("X", X):
            X = check_numeric("X", in_its_shape("X", X))
            dtypes = _dtypes_of_frame(X, dtypes)
            rows = validate_data(
                estimator, X, dtype=dtypes, accept_sparse="csr", reset=first
            )
    targets = checked_targets(y, rows.shape[0], numeric=numeric)
    return rows if isinstance(rows, Tensor) else _native(rows), _dense(targets)


def rows_of_table(table: Any, dtype: Any) -> Array:
    """Return a table of pyarrow's, whose columns are known, as rows of finite numbers.

    Column by column: a whole table would become float64 on the way. They lie so, too:
    who copies them lays them out as rows, which costs no more than to copy rows.
    """
    columns = np.empty((table.num_columns, table.num_rows), dtype)
    with conversion_of("X", table), np.errstate(all="ignore"):
        for column, values in zip(columns, table.itercolumns(), strict=True):
            parts = [part.to_numpy(zero_copy_only=False) for part in values.chunks]
            np.concatenate(parts, out=column, casting="unsafe")
        if not isfinite(columns.sum()) and not np.isfinite(columns).all():
            place = int(np.argmin(np.isfinite(columns).all(axis=1)))
            name = table.column_names[place]
            raise ValueError(f"X contains NaN or infinity, in column {name!r}.")
    return columns.T


def in_its_shape(name: str, values: Any) -> Any:
    """Return a sparse matrix whose entries lie in its shape, and all else as it is."""
    if not issparse(values):
        return values
    matrix = values.tocsr() if values.format == "lil" else values  # it says where
    check_places(name, matrix)
    return matrix


def are_plain(*arrays: Array) -> bool:
    """Return whether scikit-learn's checks would let arrays pass as they are.

    They take longer than the prediction of a row. What is unlike this goes to them.
    """
    with np.errstate(all="ignore"):  # a sum may overflow
        return all(
            array.dtype.kind in "biuf"
            and array.dtype.isnative
            and array.size > 0
            and (array.dtype.kind != "f" or isfinite(array.sum()))
            for array in arrays
        )


def _are_columns(X: Any, dtypes: list[Any]) -> bool:
    """Return whether X is an array of two axes, of one of the dtypes."""
    return type(X) is np.ndarray and X.ndim == 2 and X.dtype in dtypes


def _is_like_first(estimator: Any, X: Array) -> bool:
    """Return whether an array has the columns of the first one."""
    n_features = getattr(estimator, "n_features_in_", None)
    has_names = hasattr(estimator, "feature_names_in_")
    return X.shape[1] == n_features and not has_names


def _are_plain_columns(
    estimator: Any, X: Any, y: Any, dtypes: list[Any], *, first: bool
) -> bool:
    """Return whether rows and a column of targets are arrays that need no checks."""
    return (
        _are_columns(X, dtypes)
        and type(y) is np.ndarray
        and y.shape == X.shape[:1]
        and (first or _is_like_first(estimator, X))
        and are_plain(X, y)
    )


def _dtypes_of_frame(X: Any, dtypes: list[Any]) -> list[Any]:
    """Return float32 alone, if it will do and all columns of a frame are of it.

    scikit-learn sees no dtype of NumPy in the frames of polars, the tables of pyarrow
    and the nullable columns of pandas, and would turn them into the first one.
    """
    columns, float32 = {str(dtype) for _, dtype in columns_of(X)}, np.dtype(np.float32)
    of_float32 = columns in ({"Float32"}, {"float"}, {"float[pyarrow]"})
    return [float32] if of_float32 and float32 in dtypes else dtypes


# Held-out rows are compared by so many of each, evenly spread, at the most.
_COMPARED = 256

# A column is far where its median is so many widths of the middle half away, or that
# half so many times as wide or narrow; further for few rows of few columns, by chance.
_FAR, _WIDE = 2.0, 5.0

# Fewer rows than these may lie anywhere.
_FEWEST_COMPARED = 10


@np.errstate(all="ignore")  # numbers may be as large as their dtype lets them
def unlikeness(X: Matrix, X_val: Matrix) -> str:
    """Return what is to be said of held-out rows that lie far from X, if they do.

    A Pipeline that scales X and passes X_val on as it is makes such rows. Outliers, a
    drift of some columns, and few rows do not: medians and quartiles are compared, and
    a third of the columns must be far. Columns whose middle half is one value, such as
    rare words, tell nothing; of sparse rows, the stored values are one column.
    """
    some, held_out = _compared(X, issparse(X)), _compared(X_val, issparse(X))
    if min(len(some), len(held_out)) < _FEWEST_COMPARED:
        return ""
    q1, median, q3 = np.quantile(some, [0.25, 0.5, 0.75], axis=0)
    q1_val, median_val, q3_val = np.quantile(held_out, [0.25, 0.5, 0.75], axis=0)
    width, width_val = q3 - q1, q3_val - q1_val
    if issparse(X):  # what is stored is away from zero, and may be a single value
        width = np.maximum(width, np.abs(median))
        width_val = np.maximum(width_val, np.abs(median_val))
    tells = width > 0
    n_tell = int(tells.sum())
    by_chance = 1 + 2 / np.sqrt(len(held_out) * max(1, n_tell))
    far = np.abs(median_val - median) > _FAR * by_chance * width
    far |= width_val > _WIDE * by_chance * width
    far |= (width_val > 0) & (width > _WIDE * by_chance * width_val)
    far &= tells
    n_far = int(far.sum())
    if n_far < max(1, min(2, n_tell), n_tell / 3):
        return ""
    first = int(np.argmax(far))
    what = "its stored values" if issparse(X) else f"{n_far} of {n_tell} columns"
    return (
        f"X_val must be like X. Got {what} far from there, the first with a median of "
        f"{median_val[first]:.3g}, and {median[first]:.3g} in X. A Pipeline transforms "
        'X_val like X if it is made with transform_input=["X_val"] and its last step '
        "asks for X_val and y_val by set_fit_request; without one, transform it like X."
    )


def _compared(rows: Matrix, sparse: bool) -> Array:
    """Return some rows, far from each other; or their stored values as one column."""
    n_rows = rows.shape[0]
    indices = np.linspace(0, n_rows - 1, min(n_rows, _COMPARED)).astype(np.int64)
    some = take_rows(rows, indices)
    if sparse:
        values = some.data if issparse(some) else np.ravel(some)
        return np.asarray(values[values != 0, np.newaxis])
    return to_numpy(some) if isinstance(some, Tensor) else _dense(some)


def take_rows(X: Matrix, indices: npt.NDArray[np.int64]) -> Matrix:
    """Return some of the rows, in the same container."""
    if isinstance(X, Tensor):
        return X[torch.from_numpy(indices).to(X.device)]
    return X[indices]


def like_input(values: Tensor, X: Any) -> Array:
    """Return what was computed from X: an array, or if asked for, X's own kind.

    scikit-learn's ``set_config(array_api_dispatch=True)`` asks for it.
    """
    if isinstance(X, Tensor) and get_config()["array_api_dispatch"]:
        return values.clone()  # type: ignore[return-value]
    return to_numpy(values)


def labels_like_input(labels: Array, X: Any) -> Array:
    """Return labels likewise; those that are not numbers stay an array."""
    if not isinstance(X, Tensor) or labels.dtype.kind not in "biuf":
        return labels
    if not get_config()["array_api_dispatch"]:
        return labels
    return to_tensor(labels, X.device)  # type: ignore[return-value]


def _checked_tensor(
    estimator: Any, X: Tensor, dtypes: list[Any], *, first: bool
) -> Tensor:
    """Return a tensor that scikit-learn's checks would have let pass."""
    _check_dense("X", X)
    if X.ndim != 2:
        msg = (
            f"X must be a tensor of shape (n_samples, n_features). Got shape "
            f"{tuple(X.shape)}; Reshape your data with X.reshape(-1, 1) for a single "
            "feature, or X.reshape(1, -1) for a single sample."
        )
        raise ValueError(msg)
    if X.is_complex():
        raise ValueError("Complex data not supported: X must hold real numbers.")
    for axis, what in enumerate(("sample", "feature")):
        if X.shape[axis] == 0:
            msg = (
                f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) while a "
                "minimum of 1 is required."
            )
            raise ValueError(msg)
    validate_data(estimator, X, reset=first, skip_check_array=True)
    names = {str(np.dtype(dtype)): dtype for dtype in dtypes}
    name = str(X.dtype).removeprefix("torch.")
    rows = X.detach()
    if name not in names:
        rows = rows.to(getattr(torch, str(np.dtype(dtypes[0]))))
    if not (torch.isfinite(rows.sum()) or torch.isfinite(rows).all()):
        raise ValueError("Input X contains NaN or infinity.")
    return rows


def on_host(name: str, values: Any) -> Any:
    """Return a tensor as an array, and all else as it is, if it is in memory."""
    if not isinstance(values, Tensor):
        check_computed(name, values)
        check_text(name, values)
        return values
    _check_dense(name, values)
    known = values.double() if values.dtype == torch.bfloat16 else values  # to NumPy
    return known.numpy(force=True)


def for_scikit_learn(name: str, values: Any) -> Any:
    """Return a tensor as an array, unless scikit-learn is to compute with tensors."""
    return values if get_config()["array_api_dispatch"] else on_host(name, values)


def starts_on_host(starts: Mapping[str, Any]) -> dict[str, Any]:
    """Return starting weights likewise, those of a network layer by layer."""
    return {
        name: [on_host(name, one) for one in start]
        if isinstance(start, list | tuple)
        else on_host(name, start)
        for name, start in starts.items()
    }


def _check_dense(name: str, values: Tensor) -> None:
    """Refuse a tensor that is more, or less, than numbers that lie in memory."""
    if values.layout != torch.strided or values.is_quantized or values.is_meta:
        msg = (
            f"{name} must be a dense tensor of numbers. Got layout {values.layout}, "
            f"dtype {values.dtype} and device {values.device}."
        )
        raise TypeError(msg)


def dtype_of(rows: Matrix) -> np.dtype[Any]:
    """Return the dtype in NumPy's terms."""
    if isinstance(rows, Tensor):
        return np.dtype(str(rows.dtype).removeprefix("torch."))
    dtype: np.dtype[Any] = rows.dtype
    return dtype


def device_of(rows: Matrix, name: str) -> torch.device:
    """Return where to compute: where a tensor lies, else on the device of that name."""
    return rows.device if isinstance(rows, Tensor) else device_named(name)


def to_device(rows: Matrix, device: torch.device) -> Any:
    """Return the rows as a tensor, or a sparse matrix, where to compute."""
    if issparse(rows):
        return csr(rows, device)
    return rows.to(device) if isinstance(rows, Tensor) else to_tensor(rows, device)


def _native(rows: Any) -> Matrix:
    """Return the rows in this machine's byte order."""
    native: Matrix = rows.astype(rows.dtype.newbyteorder("="), copy=False)
    return native


def _dense(targets: Any) -> Array:
    """Return the targets as an array; those of several labels may come sparse."""
    array: Array = targets.toarray() if hasattr(targets, "toarray") else targets
    return array
