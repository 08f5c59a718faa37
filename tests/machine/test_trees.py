"""A tree comes back from its bytes as it was, and from no other bytes."""

import json
import struct
from collections import Counter, OrderedDict
from hashlib import sha256
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from skgd._machine.trees import FORMAT, MAGIC, decode, encode, is_tree


def exact(value):
    """Return a value to compare by ==, which tells types and bits, and orders."""
    match value:
        case np.ndarray() if value.dtype == object:
            return "array", "O", value.shape, [exact(item) for item in value]
        case np.ndarray() | np.generic():
            array = np.asarray(value)
            return type(value), array.dtype.str, array.shape, array.tobytes()
        case dict():
            return "dict", [(exact(k), exact(v)) for k, v in value.items()]
        case list() | tuple():
            return type(value), [exact(item) for item in value]
        case float():
            return "float", struct.pack("<d", value)
        case np.random.Generator():
            return "generator", exact(value.bit_generator.state)
        case np.random.RandomState():
            return "old", exact(value.get_state(legacy=False))
    return type(value), value


LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    npst.arrays(
        npst.scalar_dtypes().filter(
            lambda dtype: dtype.kind in "biuUSmM" or dtype.str in ("<f2", "<f4", "<f8")
        ),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ).filter(is_tree),
    st.lists(st.floats(), min_size=8).map(list),
    st.lists(st.integers(-(2**70), 2**70), min_size=8),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.text(), inner),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.none()), inner),
    ),
    max_leaves=10,
)


def in_little_endian(value):
    """Return the value, its arrays with the lowest byte first."""
    match value:
        case np.ndarray():
            return value.astype(value.dtype.newbyteorder("<"))
        case list() | tuple():
            return type(value)(map(in_little_endian, value))
        case dict():
            return {key: in_little_endian(item) for key, item in value.items()}
    return value


@given(TREES)
def test_a_tree_comes_back_as_it_was(tree):
    """To the type and the bit."""
    assert exact(decode(encode(tree))) == exact(in_little_endian(tree))


SINGLE = {
    "infinite": [inf, -inf, -0.0, 5e-324, 0.1, 1e308],
    "many floats": [inf, -0.0, nan, *range(3), *map(float, range(9))],
    "a long list": [0.1, inf, -inf, -0.0, nan, 1.0, 2.0, 3.0],
    "many ints": [*range(9), 2**63 - 1, -(2**63)],
    "large ints": [2**63, *range(9)],
    "a large int": 2**4000,
    "bools among ints": [True, *range(9)],
    "keys of all kinds": {0: 1, True: 2, "a": 3, None: 4, (1, "b"): 5, 2.5: 6},
    "keys of NumPy": {np.int64(3): 1, np.str_("a"): 2, np.datetime64("2020-01-01"): 3},
    "a key like ours": {"$array": 0},
    "scalars": [
        np.float32(0.1),
        np.bool_(True),
        np.uint8(3),
        np.datetime64("NaT", "s"),
    ],
    "texts": np.array(["a", "", "\u00e9\U0001f600", "\ud800", "a\0"], object),
    "no texts": np.array([], object),
    "text": ["", "\ud800", "\0", "a\nb", '"\\'],
    "a generator": np.random.default_rng(3),
    "an old one": np.random.RandomState(3),
    "an old one by PCG64": np.random.RandomState(np.random.PCG64(3)),
    "a generator by MT19937": np.random.Generator(np.random.MT19937(3)),
    "empty": [[], (), {}, "", np.empty((0, 3)), np.empty((3, 0), "<i2")],
}


@pytest.mark.parametrize("value", SINGLE.values(), ids=SINGLE)
def test_a_value_comes_back_as_it_was(value):
    """To the type and the bit, also where JSON has no word for it."""
    assert exact(decode(encode({"tree": value}))["tree"]) == exact(value)


@pytest.mark.parametrize(
    ("old", "draw"),
    [
        (np.random.default_rng(3), "random"),
        (np.random.RandomState(3), "normal"),
    ],
)
def test_a_stream_goes_on_where_it_was(old, draw):
    """Its next numbers are those that it would have drawn anyway."""
    getattr(old, draw)(size=5)
    new = decode(encode(old))
    for size in (None, 700):
        drawn = getattr(new, draw)(size=size)
        np.testing.assert_array_equal(drawn, getattr(old, draw)(size=size))


@pytest.mark.parametrize(
    "array",
    [
        *(np.arange(6.0).reshape(2, 3).T, np.arange(24).reshape(2, 3, 4)[:, ::2]),
        *(np.arange(5, dtype=">i4"), np.array(["b", "aa"], ">U3"), np.arange(6)[::-1]),
        *(np.array(["2020-01-01"], ">M8[25s]"), np.array(3.0), np.float16([1, nan])),
    ],
    ids=repr,
)
def test_an_array_is_ours_alone(array):
    """It has the values, lies as it lay, and can be written on."""
    back = decode(encode(array))
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable
    assert back.flags.owndata or back.base.flags.owndata
    assert back.flags.f_contiguous >= array.flags.f_contiguous
    assert back.dtype == array.dtype.newbyteorder("<")


def test_the_bytes_are_the_same_every_time():
    """No clock and no address is in them."""
    tree = {"a": [1, 2.5], "b": np.arange(3), "c": np.random.default_rng(0)}
    assert encode(tree) == encode(decode(encode(tree)))


class _Int(int):
    pass


_circle: list = []
_circle.append(_circle)


@pytest.mark.parametrize(
    "value",
    [
        *({1}, b"bytes", len, object(), int, 1j, _Int(3), Counter("a"), OrderedDict()),
        *(np.array([1, "a"], object), np.array([["a"]], object), np.array([1j])),
        *(np.longdouble(3), np.zeros(1, "i4,f8"), np.ma.array([1])),
        *({frozenset(): 1}, 2**5000, _circle, np.random.Generator(np.random.SFC64(0))),
        np.array(["a"], np.dtypes.StringDType()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_tree_is_refused(value):
    """With a TypeError, wherever it stands."""
    assert not is_tree([value])
    with pytest.raises(TypeError, match=r"tree|written down"):
        encode({"a": (value,)})


# Bytes of others


def sealed(head, content=b"", number=FORMAT, length=None):
    """Return bytes with the checksum that is right for them."""
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    length = len(head) if length is None else length
    data = struct.pack("<8sII", MAGIC, number, length) + head + content
    return data + sha256(data).digest()


F8, U1, B1 = ["<f8", [1], "C"], ["<U1", [1], "C"], ["|b1", [1], "C"]
ONE = {"$array": 0}
MT = {"bit_generator": "MT19937", "has_gauss": 0, "gauss": 0.0}
PCG = {"bit_generator": "PCG64", "has_uint32": 0, "uinteger": 0}
KEY = ["<u4", [624], "C"]
FORGED = {
    "no head": sealed(b""),
    "no JSON": sealed(b"[[],"),
    "no table": sealed({"tree": 0}),
    "a table of nothing": sealed([0, 0]),
    "three parts": sealed([[], 0, 0]),
    "no ASCII": sealed('[[],"\u00e9"]'.encode()),
    "NaN": sealed(b"[[],NaN]"),
    "infinity": sealed(b"[[],-Infinity]"),
    "a number too large": sealed(b"[[],1e999]"),
    "an int too large": sealed(b"[[]," + b"9" * 2000 + b"]"),
    "an int of very many digits": sealed(b"[[]," + b"9" * 100_000 + b"]"),
    "a key twice": sealed(b'[[],{"a":0,"a":1}]'),
    "deep lists": sealed(b"[[]," + b"[" * 40 + b"]" * 40 + b"]"),
    "very deep lists": sealed(b"[[]," + b"[" * 10**5 + b"]" * 10**5 + b"]"),
    "very deep objects": sealed(b"[[]," + b'{"a":' * 10**5 + b"0" + b"}" * 10**5),
    "a head beyond the end": sealed([[], 0], length=10**6),
    "a head of 4 GB": sealed([[], 0], length=2**32 - 1),
    "format 0": sealed([[], 0], number=0),
    "content that is too short": sealed([[F8], ONE], bytes(7)),
    "content that is too long": sealed([[F8], ONE], bytes(9)),
    "content that nobody has": sealed([[], 0], bytes(8)),
    "an array that is not there": sealed([[F8], {"$array": 1}], bytes(8)),
    "an array twice": sealed([[F8], [ONE, ONE]], bytes(8)),
    "an array that is not named": sealed([[F8], 0], bytes(8)),
    "an array named True": sealed([[F8, F8], [ONE, {"$array": True}]], bytes(16)),
    "a negative length": sealed([[["<f8", [-1], "C"]], ONE]),
    "lengths that cancel": sealed([[["<f8", [-1], "C"], F8], ONE]),
    "a huge array": sealed([[["<f8", [2**60], "C"]], ONE]),
    "a huge empty array": sealed([[["<f8", [0, 2**39, 2**39], "C"]], ONE]),
    "very many axes": sealed([[["<f8", [1] * 70, "C"]], ONE], bytes(8)),
    "a dtype of objects": sealed([[["|O", [1], "C"]], ONE], bytes(8)),
    "a structured dtype": sealed([[["i4,i4", [1], "C"]], ONE], bytes(8)),
    "bytes the other way round": sealed([[[">f8", [1], "C"]], ONE], bytes(8)),
    "long text": sealed([[["<U999999999", [0], "C"]], ONE]),
    "an order of its own": sealed([[["<f8", [1], "A"]], ONE], bytes(8)),
    "text of no characters": sealed([[U1], ONE], b"\xff\xff\xff\x7f"),
    "a bool that is neither": sealed([[B1], ONE], b"\x02"),
    "a scalar of two": sealed([[["<f8", [2], "C"]], {"$scalar": 0}], bytes(16)),
    "a list of text": sealed([[U1], {"$list": 0}], bytes(4)),
    "a list of lists": sealed([[["<f8", [1, 1], "C"]], {"$list": 0}], bytes(8)),
    "texts that end too early": sealed(
        [[["|u1", [2], "C"], ["<i8", [1], "C"]], {"$texts": [0, 1]}],
        b"ab" + struct.pack("<q", 1),
    ),
    "texts that run backwards": sealed(
        [[["|u1", [2], "C"], ["<i8", [3], "C"]], {"$texts": [0, 1]}],
        b"ab" + struct.pack("<qqq", 2, 1, 2),
    ),
    "texts that are no UTF-8": sealed(
        [[["|u1", [1], "C"], ["<i8", [1], "C"]], {"$texts": [0, 1]}],
        b"\xff" + struct.pack("<q", 1),
    ),
    "an unknown kind": sealed([[], {"$object": "os.system"}]),
    "two kinds at once": sealed([[], {"$tuple": [], "a": 0}]),
    "a float of words": sealed([[], {"$float": "1.5"}]),
    "a tuple of no list": sealed([[], {"$tuple": "ab"}]),
    "a dict of no pairs": sealed([[], {"$dict": [[1]]}]),
    "a dict with a key twice": sealed([[], {"$dict": [[1, 0], [1.0, 0]]}]),
    "a dict with a list as key": sealed([[], {"$dict": [[[], 0]]}]),
    "a stream of nothing": sealed([[], {"$generator": {}}]),
    "a stream of an array": sealed([[F8], {"$generator": ONE}], bytes(8)),
    "a stream of another kind": sealed(
        [[], {"$generator": {**PCG, "bit_generator": "system"}}]
    ),
    "a stream that is too large": sealed(
        [[], {"$generator": {**PCG, "state": {"state": 2**128, "inc": 1}}}]
    ),
    "a place beyond the drawn numbers": sealed(
        [[KEY], {"$old": {**MT, "state": {"key": ONE, "pos": 625}}}], bytes(2496)
    ),
    "a place before the drawn numbers": sealed(
        [[KEY], {"$old": {**MT, "state": {"key": ONE, "pos": -1}}}], bytes(2496)
    ),
}


@pytest.mark.parametrize("data", FORGED.values(), ids=FORGED)
def test_what_encode_does_not_write_is_refused(data):
    """Also where the checksum is right."""
    with pytest.raises(ValueError, match=r"It|A random stream|codec"):
        decode(data)


def test_the_forged_ones_are_nearly_right():
    """What ``sealed`` makes is read where it is right, so each is refused for cause."""
    assert decode(sealed([[F8], [ONE, {"$tuple": []}]], bytes(8))) == [0.0, ()]
    right = {**PCG, "state": {"state": 2**127, "inc": 1}}
    assert decode(sealed([[], {"$generator": right}])).random() >= 0
    right = {**MT, "state": {"key": ONE, "pos": 624}}
    assert decode(sealed([[KEY], {"$old": right}], bytes(2496))).rand() >= 0


def test_what_is_wrong_is_told():
    """Another file, a damaged one, and one of a later version are three things."""
    data = encode({"a": np.arange(3)})
    with pytest.raises(ValueError, match="does not begin as a file of skgd"):
        decode(b"\x80\x04" + data)
    with pytest.raises(ValueError, match="ends after 20 bytes"):
        decode(data[:20])
    with pytest.raises(ValueError, match="damaged: its checksum"):
        decode(data[:-1])
    with pytest.raises(ValueError, match="format 2, of a later version"):
        decode(sealed([[], 0], number=2))
