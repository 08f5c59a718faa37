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
    with_marks: Any  # (i / 64 + 1,), the words that have a mark
    before: Any  # (i / 64,), how many columns come before those of such a word
    columns: Any  # (k + 3,)


def new_touched(i: int, most: int, dtype: Any) -> tuple[Array, ...]:
    """Return the arrays of batches that touch so many columns at the most."""
    n_flags = -(-i // (_BITS * _WORDS))
    words, flags = np.zeros(n_flags * _WORDS, np.uint64), np.zeros(n_flags, np.uint8)
    with_marks, before = np.empty((2, words.size + 1), np.uint32)
    columns = np.empty(most + _TOGETHER - 1, dtype)
    return words, flags, with_marks, before, columns


def of_touched(columns: str) -> tuple[Any, ...]:
    """Return their kinds."""
    kinds = nb.types.uint64, nb.types.uint8, nb.types.uint32, nb.types.uint32
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
def _list_words(touched: Touched) -> Any:
    """Fill the words that have a mark, in order; return how many there are.

    Each word is written, and the next one over it if it has none: to guess which have
    one would take longer.
    """
    n = Place(0)
    for flag in range(Place(touched.flags.size)):
        if touched.flags[flag]:
            touched.flags[flag] = 0
            for k in range(Place(_WORDS)):
                word = flag * Place(_WORDS) + k
                touched.with_marks[n] = word
                n += Place(touched.words[word] != 0)
    return n


@fast
def _list_columns_of(touched: Touched, word: Any, k: Any) -> Any:
    """Fill the columns of a word after k others; return how many there are then.

    There are too many of them, written over by the next, up to a multiple of four.
    """
    marks = touched.words[word]
    end = k + _n_ones(marks)
    while k < end:
        for n in range(Place(_TOGETHER)):
            touched.columns[k + n] = word * Place(_BITS) + _lowest_one(marks)
            marks &= marks - Place(1)
        k += Place(_TOGETHER)
    return end


@fast
def list_columns(touched: Touched) -> tuple[Any, Any]:
    """Fill the columns that are marked; return how many, and how many words have one."""
    n_words, k = _list_words(touched), Place(0)
    for n in range(n_words):
        word = Place(touched.with_marks[n])
        touched.before[word] = k
        k = _list_columns_of(touched, word, k)
    return k, n_words


@fast
def wipe(touched: Touched, n_words: Any) -> None:
    """Wipe the marks off."""
    for n in range(n_words):
        touched.words[Place(touched.with_marks[n])] = 0
