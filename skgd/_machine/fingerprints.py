"""A fingerprint tells values apart: by all of their numbers, however these lie.

It is SHA-256, so two values with the same one are the same. An array is read in pieces,
from memory or from the file that it maps, and is copied as a whole nowhere.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from skgd._machine.arrays import Array
from skgd._machine.devices import to_numpy

# So many bytes are read at once, of what lies otherwise than row by row.
_BYTES_AT_ONCE = 2**20


def fingerprint(value: Any) -> str:
    """Return the fingerprint of a value, 64 characters; TypeError if it has none.

    Values are None, bools, numbers, text, arrays of any strides, tensors, the sparse
    matrices of SciPy, and tuples, lists and dicts of these. Their types count, and so
    do shapes and dtypes.
    """
    digest = sha256()
    for piece in _pieces(value):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[Any]:
    """Give the bytes of a value, none of which another value has."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool | int | float | complex | str):
        yield from _text(f"{kind} {value!r}")
    elif isinstance(value, bytes):
        yield from _text(f"{kind} of {len(value)}")
        yield value
    elif isinstance(value, tuple | list):
        yield from _text(f"{kind} of {len(value)}")
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, dict):
        yield from _text(f"{kind} of {len(value)}")
        for pair in value.items():
            yield from _pieces(pair)
    elif isinstance(value, torch.Tensor):
        yield from _pieces_of_array(to_numpy(value.detach()))
    elif isinstance(value, np.ndarray | np.generic):
        yield from _pieces_of_array(np.asarray(value))
    elif hasattr(value, "indptr"):
        yield from _text(f"{value.format} of {value.shape}")
        for array in (value.data, value.indices, value.indptr):
            yield from _pieces_of_array(array)
    else:
        raise TypeError(f"A {kind} has no fingerprint.")


def _text(text: str) -> Iterator[bytes]:
    """Give a text, after its length."""
    encoded = text.encode("utf-8", "surrogatepass")
    yield len(encoded).to_bytes(8, "little")
    yield encoded


def _pieces_of_array(array: Array) -> Iterator[Any]:
    """Give what an array is, then its numbers row by row, some rows at a time."""
    yield from _text(f"{array.dtype.str} of {array.shape}")
    if array.dtype.hasobject:
        for item in array.flat:
            yield from _pieces(item)
        return
    rows = np.atleast_1d(array)
    of_row = max(1, rows[:1].nbytes)
    at_once = len(rows) if rows.flags.c_contiguous else _BYTES_AT_ONCE // of_row
    for start in range(0, len(rows), max(1, at_once)):
        some = np.ascontiguousarray(rows[start : start + max(1, at_once)])
        if some.size:
            yield some.reshape(-1).view(np.uint8)
