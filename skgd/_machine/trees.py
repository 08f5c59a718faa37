"""Trees of values as bytes, and back: no code in them, and nothing unchecked.

A tree is None, bools, numbers, text, NumPy's arrays and scalars, and random streams, in
lists, tuples and dicts. It comes back as it was: the same types, the same bits. The
bytes are

    magic       8 bytes, which tell what this is
    format      4 bytes, an unsigned int, as all numbers here with the lowest byte first
    length      4 bytes, of the head
    head        JSON in ASCII: [arrays, tree], the former as [dtype, shape, order] each
    arrays      one after the other, their numbers and nothing between them
    checksum    32 bytes, SHA-256 of all before it

In the JSON an object of one key that begins with "$" is what JSON has no word for:
{"$array": 3} is the fourth array. Each array is named once.

Whoever reads it believes nothing: the checksum and all lengths are compared before an
array is made, and memory is taken for no more than the bytes that are there. A checksum
is no signature: it tells a file that is damaged, and not one that is forged; so what
reads a tree must hold against any tree.
"""

import json
import re
import struct
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from math import isfinite, prod
from typing import Any, NoReturn

import numpy as np

from skgd._machine.arrays import Array
from skgd._machine.generators import stream_at, written

# A byte that is no ASCII, and line ends of two kinds: what a transfer as text spoils.
MAGIC = b"\x93SKGD\r\n\x1a"
FORMAT = 1
_FRONT = struct.Struct("<8sII")
_N_CHECKSUM = 32

# At the most: of the head in bytes, of lists in lists, and of ints in bits.
_LONGEST_HEAD, _DEEPEST, _MOST_BITS = 2**26, 32, 4096

# Lists of at least so many floats, or ints of 64 bits, are kept as an array.
_LONG_LIST = 8

# The dtypes of arrays, but for text: bools, ints, floats and points in time.
_DTYPES = re.compile(
    r"\|b1|\|[iu]1|<[iu][248]|<f[248]"
    r"|<[mM]8(?:\[(?:[1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_TEXT = re.compile(r"\|S[1-9][0-9]{0,7}|<U[1-9][0-9]{0,7}")


def encode(tree: Any) -> bytes:
    """Return a tree as bytes; TypeError for what is no tree, see ``is_tree``."""
    arrays: list[Array] = []
    as_json = _as_json(tree, arrays, 0)
    table = [[one.dtype.str, one.shape, _order_of(one)] for one in arrays]
    head = json.dumps([table, as_json], separators=(",", ":"), allow_nan=False).encode()
    if len(head) > _LONGEST_HEAD:
        raise TypeError(f"A tree of {len(head)} bytes without arrays is too large.")
    front = _FRONT.pack(MAGIC, FORMAT, len(head))
    content = [one.tobytes(_order_of(one)) for one in arrays]
    digest = sha256()
    for part in (front, head, *content):
        digest.update(part)
    return b"".join([front, head, *content, digest.digest()])


def is_tree(value: Any) -> bool:
    """Return whether a value can be encoded."""
    try:
        _as_json(value, [], 0)
    except TypeError:
        return False
    return True


def decode(data: bytes) -> Any:
    """Return the tree of these bytes; ValueError for any others."""
    head, content = _head_and_content(memoryview(data))
    try:
        table, as_json = json.loads(
            str(head, "ascii"),
            object_pairs_hook=_without_repeats,
            parse_constant=_damaged,
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("Its head is no JSON of a table and a tree.") from error
    arrays = _arrays_in(table, content)
    tree = _from_json(as_json, arrays, 0)
    if arrays:
        _damaged("an array that nothing names")
    return tree


def _head_and_content(data: memoryview) -> tuple[memoryview, memoryview]:
    """Return the head and the bytes of the arrays, if all is there and undamaged."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise ValueError("It does not begin as a file of skgd does.")
    if len(data) < _FRONT.size + _N_CHECKSUM:
        raise ValueError(f"It is damaged: it ends after {len(data)} bytes.")
    _, number, n_head = _FRONT.unpack_from(data)
    if number > FORMAT:
        msg = (
            f"It is of format {number}, of a later version of skgd, or damaged; this "
            f"version reads formats up to {FORMAT}. Install a later one."
        )
        raise ValueError(msg)
    if sha256(data[:-_N_CHECKSUM]).digest() != data[-_N_CHECKSUM:]:
        raise ValueError("It is damaged: its checksum, SHA-256, is another one.")
    body = data[_FRONT.size : -_N_CHECKSUM]
    if number < 1 or n_head > min(len(body), _LONGEST_HEAD):
        _damaged("a wrong format or length")
    return body[:n_head], body[n_head:]


def _damaged(what: str) -> NoReturn:
    raise ValueError(f"It holds {what}, which nothing here has written.")


# To JSON


def _as_json(value: Any, arrays: list[Array], depth: int) -> Any:
    """Return a value as JSON has it, and append to the arrays those in it."""
    if depth > _DEEPEST:
        raise TypeError(f"A tree must be at most {_DEEPEST} deep.")
    kind = type(value)
    if _is_plain(value):
        return value
    if kind is float:
        return {"$float": repr(value)}
    if kind is list and _is_long(value):
        return {"$list": _added(np.array(value), arrays)}
    if kind is list or kind is tuple:
        items = [_as_json(item, arrays, depth + 1) for item in value]
        return items if kind is list else {"$tuple": items}
    if kind is dict:
        return _object_of(value, arrays, depth + 1)
    if kind is np.ndarray:
        return _as_json_array(value, arrays)
    if isinstance(value, np.generic):
        return {"$scalar": _added(np.asarray(value), arrays)}
    if kind is np.random.Generator or kind is np.random.RandomState:
        state = _as_json(written(value), arrays, depth + 1)
        return {"$generator" if kind is np.random.Generator else "$old": state}
    raise TypeError(f"A tree has no place for a {kind.__name__}.")


def _is_plain(value: Any) -> bool:
    """Return whether JSON has a word for a value that holds no others."""
    kind = type(value)
    return (
        value is None
        or kind in (bool, str)
        or (kind is int and value.bit_length() <= _MOST_BITS)
        or (kind is float and isfinite(value))
    )


def _is_long(values: list[Any]) -> bool:
    """Return whether a list is one of many floats, or of many ints of 64 bits."""
    if len(values) < _LONG_LIST:
        return False
    kinds = set(map(type, values))
    return kinds == {float} or (
        kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63
    )


def _object_of(values: dict[Any, Any], arrays: list[Array], depth: int) -> Any:
    """Return a dict as an object, by its keys if these are plain text."""
    if all(type(key) is str and not key.startswith("$") for key in values):
        return {key: _as_json(item, arrays, depth) for key, item in values.items()}
    pairs = [
        [_as_json(part, arrays, depth + 1) for part in pair] for pair in values.items()
    ]
    return {"$dict": pairs}


def _as_json_array(array: Array, arrays: list[Array]) -> Any:
    if array.dtype != object:
        return {"$array": _added(array, arrays)}
    if array.ndim != 1 or not all(type(item) is str for item in array):
        raise TypeError("A tree has no place for an array of objects that are no text.")
    texts = [item.encode("utf-8", "surrogatepass") for item in array]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    joined = np.frombuffer(b"".join(texts), np.uint8)
    return {"$texts": [_added(joined, arrays), _added(ends, arrays)]}


def _added(array: Array, arrays: list[Array]) -> int:
    """Append an array, lowest byte first, and return its number."""
    dtype = array.dtype
    if dtype.kind in "biufmMSU":
        dtype = dtype.newbyteorder("<")
    if not (_DTYPES.fullmatch(dtype.str) or _TEXT.fullmatch(dtype.str)):
        raise TypeError(f"A tree has no place for an array of {dtype}.")
    arrays.append(array.astype(dtype, order="K", copy=False))
    return len(arrays) - 1


def _order_of(array: Array) -> Any:
    """Return "F" for what lies column by column, "C" for all else."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


# From JSON


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _damaged("a key twice")
    return found


def _arrays_in(table: Any, content: memoryview) -> dict[int, Array]:
    """Return the arrays by number, views of the content, all of which is in them."""
    if type(table) is not list:
        _damaged("no table")
    described = [_described(entry) for entry in table]
    lengths = [dtype.itemsize * prod(shape) for dtype, shape, _ in described]
    if sum(lengths) != len(content):
        _damaged("arrays of another length than it says")
    arrays, start = {}, 0
    for number, (dtype, shape, order) in enumerate(described):
        stop = start + lengths[number]
        flat = np.frombuffer(content[start:stop], dtype)
        arrays[number], start = flat.reshape(shape, order=order), stop
    return arrays


def _described(entry: Any) -> tuple[np.dtype[Any], list[int], Any]:
    """Return dtype, shape and order of an array, as the table has them."""
    match entry:
        case [str() as dtype, list() as shape, "C" | "F" as order] if (
            (_DTYPES.fullmatch(dtype) or _TEXT.fullmatch(dtype))
            and len(shape) <= 8
            and all(type(one) is int and 0 <= one < 2**40 for one in shape)
            and prod(one or 1 for one in shape) < 2**48
        ):
            return np.dtype(dtype), shape, order
    _damaged("an array of another kind")


def _from_json(value: Any, arrays: dict[int, Array], depth: int) -> Any:
    """Return the value that JSON stands for; its arrays are taken from those given."""
    if depth > _DEEPEST:
        _damaged("too deep a tree")
    if type(value) is list:
        return [_from_json(item, arrays, depth + 1) for item in value]
    if type(value) is float and not isfinite(value):
        _damaged("a number too large")
    if type(value) is int and value.bit_length() > _MOST_BITS:
        _damaged("a number too large")
    if type(value) is not dict:
        return value
    if any(key.startswith("$") for key in value):
        if len(value) > 1:
            _damaged("two values in one")
        [(kind, content)] = value.items()
        return _special(kind, content, arrays, depth + 1)
    return {key: _from_json(item, arrays, depth + 1) for key, item in value.items()}


def _special(kind: str, content: Any, arrays: dict[int, Array], depth: int) -> Any:
    """Return a value that JSON has no word for."""
    match kind, content:
        case "$array", int():
            return _taken(content, arrays).copy(order="K")
        case "$scalar", int():
            if (array := _taken(content, arrays)).ndim == 0:
                return array[()]
        case "$list", int():
            array = _taken(content, arrays)
            if array.ndim == 1 and array.dtype.str in ("<f8", "<i8"):
                return array.tolist()
        case "$texts", [int() as joined, int() as ends]:
            return _texts(_taken(joined, arrays), _taken(ends, arrays))
        case "$float", "nan" | "inf" | "-inf":
            return float(content)
        case "$tuple", list():
            return tuple(_from_json(item, arrays, depth) for item in content)
        case "$dict", list():
            return dict(_pairs(content, arrays, depth))
        case "$generator" | "$old", dict():
            state = _from_json(content, arrays, depth)
            return stream_at(state, old=kind == "$old")
    _damaged(f"a value of the kind {kind[:20]!r}")


def _taken(number: int, arrays: dict[int, Array]) -> Array:
    """Return the array of a number, once, if it holds what its dtype can."""
    if type(number) is not int or number not in arrays:
        _damaged("an array that is not there, or twice")
    array = arrays.pop(number)
    of_bytes = array.ravel(order="K")
    if array.dtype.kind == "b" and (of_bytes.view(np.uint8) > 1).any():
        _damaged("bools that are neither")
    if array.dtype.kind == "U" and (of_bytes.view("<u4") > 0x10FFFF).any():
        _damaged("text of no characters")
    return array


def _texts(joined: Array, ends: Array) -> Array:
    """Return an array of texts, from their bytes and where each of these ends."""
    if joined.dtype != np.uint8 or ends.dtype != np.int64 or joined.ndim != 1:
        _damaged("texts of another kind")
    starts = np.concatenate([[0], ends.ravel()])
    if ends.ndim != 1 or (np.diff(starts) < 0).any() or starts[-1] != len(joined):
        _damaged("texts that end elsewhere")
    content, texts = joined.tobytes(), np.empty(len(ends), object)
    for n, (start, stop) in enumerate(pairwise(starts)):
        texts[n] = content[start:stop].decode("utf-8", "surrogatepass")
    return texts


def _pairs(
    pairs: list[Any], arrays: dict[int, Array], depth: int
) -> Iterator[tuple[Any, Any]]:
    """Yield the items of a dict whose keys are no plain text."""
    seen = set()
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2:
            _damaged("a dict of no pairs")
        key, item = (_from_json(part, arrays, depth + 1) for part in pair)
        if not _is_key(key) or key in seen:
            _damaged("a key twice, or one that is none")
        seen.add(key)
        yield key, item


def _is_key(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_is_key, value))
    return value is None or isinstance(value, bool | int | float | str | np.generic)
