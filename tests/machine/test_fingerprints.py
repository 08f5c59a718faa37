"""Values have the same fingerprint if they are the same, and only then."""

import tracemalloc
from hashlib import sha256
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import sparse

from skgd._machine.fingerprints import fingerprint

A = np.random.default_rng(0).normal(size=(30, 4))
S = sparse.random(30, 5, density=0.3, format="csr", rng=0)

ALIKE = {
    "column by column": np.asfortranarray(A),
    "every second row": np.repeat(A, 2, axis=0)[::2],
    "backwards": A[::-1].copy()[::-1],
    "a part of another": np.pad(A, 3)[3:-3, 3:-3],
    "read only": np.frombuffer(A.tobytes()).reshape(A.shape),
    "a tensor": torch.from_numpy(A),
    "a tensor of other strides": torch.from_numpy(np.asfortranarray(A)),
}


@pytest.mark.parametrize("other", ALIKE.values(), ids=ALIKE)
def test_how_numbers_lie_does_not_count(other, monkeypatch):
    """An array has one fingerprint, in whichever pieces it is read."""
    assert fingerprint(other) == fingerprint(A)
    monkeypatch.setattr("skgd._machine.fingerprints._BYTES_AT_ONCE", 70)
    assert fingerprint(other) == fingerprint(A)


def test_values_that_differ_are_told_apart():
    """By a bit, a type, a shape, a place; and nothing runs into its neighbour."""
    flipped = A.copy()
    flipped.view(np.uint8)[7, 3] ^= 1
    values = [
        *(None, True, 1, 1.0, "1", b"1", "", [], (), {}, [[]], np.nan, -0.0, 0.0),
        *(A, flipped, A[::-1], A.T, A.ravel(), A.astype("f4"), A.astype(">f8")),
        *(A[:0], A[:, :0], np.array(3.0), np.float32(3), np.array([3.0])),
        *(np.array(["ab", "c"], object), np.array(["a", "bc"], object)),
        *(np.array(["ab", "c"]), np.array([1, "1"], object), ["ab", "c"], ["a", "bc"]),
        *(np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-01"], "M8[s]")),
        *(S, 2 * S, S.tocsc(), S[:, ::-1].tocsr(), sparse.csr_array((30, 6))),
        *({"a": 1}, {"a": 2}, {"b": 1}, {1: "a"}, [A, None], [None, A], [A, A]),
    ]
    found = [fingerprint(value) for value in values]
    alike = [n for n, m in combinations(range(len(found)), 2) if found[n] == found[m]]
    assert alike == []


def test_it_stays_what_it_is():
    """That of a file of another process is compared with it: nothing random is in it.

    SHA-256 of what an array is, and of its bytes.
    """
    told = f"{A.dtype.str} of {A.shape}".encode()
    expected = sha256(len(told).to_bytes(8, "little") + told + A.tobytes())
    assert fingerprint(A) == expected.hexdigest()


def test_a_mapped_file_is_not_copied(tmp_path):
    """Nor is an array whose columns lie together."""
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=(100_000, 10), order="F")
    mapped[:] = np.arange(10)
    tracemalloc.start()
    try:
        fingerprint(mapped)
        fingerprint(mapped.T)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < mapped.nbytes / 2


def test_what_is_no_value_has_none():
    """A function has none: nothing tells whether two do the same."""
    with pytest.raises(TypeError, match="function has no fingerprint"):
        fingerprint([1, lambda: None])
