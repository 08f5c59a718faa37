"""Which columns a batch touches, in ascending order: without a search, by marks.

The mark of a column is a bit in a word. Once the entries of a batch are marked, the
columns are listed, word by word, and so is how many come before those of a word: that,
and the marks below its own, are the rank of a column. There are far more words than few
rows touch, so a flag tells whether any of some words in a row has a mark: the others
are neither read nor, when the marks are wiped off, written.

All that is here takes less than a fourth of a byte for each column of the rows.

Dimension key: i columns of the rows, k of these that a batch touches.
"""

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from llvmlite import ir

from skgd._compiled.arithmetic import Place
from skgd._compiled.jit import fast, intrinsic
from skgd._compiled.problem import Array
from skgd._compiled.sparse import array_of

_BITS, _WORDS = 64, 16  # of a word, and of a flag
_TOGETHER = 4  # columns are listed so many at once


class Touched(NamedTuple):
    """The marks of a batch, and what is listed of them."""

    words: Any  # (i / 64,), a bit for each column
    flags: Any  # (i / 1024,), whether any of 16 words has a mark
    before: Any  # (i / 64,), how many columns come before a word's, where flagged
    columns: Any  # (k + 3,)


def new_touched(i: int, most: int, dtype: Any) -> tuple[Array, ...]:
    """Return the arrays of batches that touch so many columns at the most."""
    n_flags = -(-i // (_BITS * _WORDS))
    words, flags = np.zeros(n_flags * _WORDS, np.uint64), np.zeros(n_flags, np.uint8)
    before = np.empty(words.size, np.uint32)
    return words, flags, before, np.empty(most + _TOGETHER - 1, dtype)


def of_touched(columns: str) -> tuple[Any, ...]:
    """Return their kinds."""
    kinds = nb.types.uint64, nb.types.uint8, nb.types.uint32
    return *map(array_of, kinds), array_of(nb.from_dtype(np.dtype(columns)))


@intrinsic
def _n_ones(_: Any, word: Any) -> Any:
    """Return how many bits are set."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return word(word), code


@intrinsic
def _lowest_one(_: Any, word: Any) -> Any:
    """Return the place of the lowest bit that is set, of 0 how many bits there are."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.IntType(1)(0))

    return word(word), code


@fast
def _word_of(column: Any) -> Any:
    return column // Place(_BITS)


@fast
def _bit_of(column: Any) -> Any:
    return Place(1) << column % Place(_BITS)


@fast
def mark(touched: Touched, column: Any) -> None:
    """Mark a column."""
    word = _word_of(column)
    touched.words[word] |= _bit_of(column)
    touched.flags[word // Place(_WORDS)] = 1


@fast
def rank_of(touched: Touched, column: Any) -> Any:
    """Return how many columns come before one, once they are listed."""
    word = _word_of(column)
    below = touched.words[word] & (_bit_of(column) - Place(1))
    return Place(touched.before[word]) + _n_ones(below)


@fast
def _list_word(touched: Touched, word: Any, k: Any) -> Any:
    """List the columns of a word after k others; return how many there are then.

    Too many are listed, and written over, rather than to stop at any number of them.
    """
    bits = touched.words[word]
    end = k + _n_ones(bits)
    for begin in range(k, end, Place(_TOGETHER)):
        for n in range(Place(_TOGETHER)):
            column = word * Place(_BITS) + _lowest_one(bits)
            touched.columns[begin + n] = column
            bits &= bits - Place(1)
    return end


@fast
def _words_of(flag: Any) -> Any:
    return range(flag * Place(_WORDS), (flag + Place(1)) * Place(_WORDS))


@fast
def list_columns(touched: Touched) -> Any:
    """Fill the columns that are marked, in order; return how many there are."""
    k = Place(0)
    for flag in range(Place(touched.flags.size)):
        if touched.flags[flag]:
            for word in _words_of(flag):
                touched.before[word] = k
                k = _list_word(touched, word, k)
    return k


@fast
def wipe(touched: Touched) -> None:
    """Wipe all marks off."""
    for flag in range(Place(touched.flags.size)):
        if touched.flags[flag]:
            touched.flags[flag] = 0
            for word in _words_of(flag):
                touched.words[word] = 0
