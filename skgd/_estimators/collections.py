"""Collections of Dask: their partitions, and what is predicted of them.

Nothing here imports dask unless a collection has come in: who made it has done so.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from skgd._machine.arrays import Array

# What Dask calls arrays and data frames; a Series is a frame of one column.
_KINDS = (
    ("dask.array", "Array"),
    ("dask.dataframe", "DataFrame"),
    ("dask.dataframe", "Series"),
)


def is_collection(X: Any) -> bool:
    """Return whether X is an array or a data frame of Dask's."""
    if "dask" not in sys.modules:
        return False
    modules = [(sys.modules.get(module), kind) for module, kind in _KINDS]
    kinds = [getattr(module, kind, None) for module, kind in modules]
    return isinstance(X, tuple(kind for kind in kinds if kind is not None))


def check_computed(name: str, values: Any) -> None:
    """Refuse a collection where rows in memory are asked for: it may well be large."""
    if is_collection(values):
        msg = (
            f"{name} must be in memory. Got a Dask {type(values).__name__}; call its "
            "compute() if it fits."
        )
        raise TypeError(msg)


def _is_array(collection: Any) -> bool:
    return hasattr(collection, "chunks")


def cut_alike(X: Any, y: Any, sample_weight: Any = None) -> list[Any]:
    """Return X, y and weights if there are any, with all columns in one partition.

    They must have the same partitions. Arrays whose chunks are known are cut as X.
    """
    given = {"X": X, "y": y}
    if sample_weight is not None:
        given["sample_weight"] = sample_weight
    cut = {name: _cut(name, one, X) for name, one in given.items()}
    for name, one in cut.items():
        if n_partitions(one) != n_partitions(cut["X"]):
            msg = (
                f"X and {name} must be cut into the same partitions. Got "
                f"{n_partitions(cut['X'])} and {n_partitions(one)}; cut them alike, by "
                "rechunk or repartition."
            )
            raise ValueError(msg)
    return list(cut.values())


def n_partitions(collection: Any) -> int:
    """Return how many partitions a collection has."""
    if _is_array(collection):
        return int(collection.numblocks[0])
    return int(collection.npartitions)


def _cut(name: str, collection: Any, X: Any) -> Any:
    """Return a collection with all columns in one partition, cut as X if known."""
    if not is_collection(collection):
        msg = (
            f"{name} must be a Dask array or data frame, as the others are. Got "
            f"{type(collection).__name__}; dask.array.from_array makes one."
        )
        raise TypeError(msg)
    if not _is_array(collection):
        return collection
    rows = collection.chunks[0]
    if _is_array(X) and not np.isnan([*X.chunks[0], *rows]).any():
        if len(X) != len(collection):
            msg = (
                f"Found input variables with inconsistent numbers of samples: X has "
                f"{len(X)} and {name} {len(collection)}."
            )
            raise ValueError(msg)
        rows = X.chunks[0]
    whole = dict.fromkeys(range(1, collection.ndim), -1)
    return collection.rechunk({0: rows, **whole})


def computed(*values: Any) -> tuple[Any, ...]:
    """Return what collections hold, and all else as it is."""
    from dask import compute

    return tuple(compute(*values))


def lazily(model: Any, method: str, X: Any) -> Any:
    """Return what a method predicts for a collection, as a collection like X.

    Of a data frame it is one with the index of X, or a Series if it is one column. What
    the method refuses of a row like those of X, it refuses here at once.
    """
    from dask import delayed

    once = delayed(
        model, pure=True
    )  # sent to a worker once, and not with every partition
    if not _is_array(X):
        from dask.dataframe.dispatch import make_meta
        from dask.dataframe.utils import meta_nonempty

        like = _in_a_frame(model, method, meta_nonempty(make_meta(X)))
        return X.map_partitions(
            _of_a_frame, once, method, like.iloc[:0], meta=like.iloc[:0]
        )
    like = getattr(model, method)(np.ones((1, *X.shape[1:]), X.dtype))[:0]
    whole = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    columns = tuple((n,) for n in like.shape[1:])
    return whole.map_blocks(
        _of_an_array,
        once,
        method,
        like,
        dtype=like.dtype,
        chunks=whole.chunks[:1] + columns,
        drop_axis=() if columns else 1,
        meta=like,
    )


def _of_an_array(part: Any, model: Any, method: str, none: Array) -> Array:
    """Return what is predicted for the rows of a partition, which may have none."""
    values: Array = getattr(model, method)(part) if part.shape[0] else none
    return values


def _of_a_frame(part: Any, model: Any, method: str, none: Any) -> Any:
    return _in_a_frame(model, method, part) if len(part) else none


def _in_a_frame(model: Any, method: str, part: Any) -> Any:
    """Return what is predicted for a data frame, by its index."""
    from pandas import DataFrame, Series

    values = getattr(model, method)(part)
    if values.ndim == 1:
        return Series(values, index=part.index)
    classes = getattr(model, "classes_", [])
    columns = classes if len(classes) == values.shape[1] else None
    return DataFrame(values, index=part.index, columns=columns)
