"""Which columns a batch touches, listed by marks: without a search, and in order.

The mark of a column is a bit in a word. Once the entries of a batch are marked, the
columns are listed, word by word, and so is how many come before those of a word: that,
and the marks below its own, are the rank of a column.

Which words have a mark, all are looked through for, where a batch has many entries: so
columns come in ascending order, and memory is read fastest so. Where it has few, words
are noted as they come: it would take longer to look through all.

All that is here takes a fourth of a byte for each column of the rows.

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

_BITS = 64  # of a word
_TOGETHER = 4  # columns are listed so many at once
_FEW = 4  # entries are few, if so many times as many are less than the words


class Touched(NamedTuple):
    """The marks of a batch, and what is listed of them."""

    words: Any  # (i / 64,), a bit for each column
    marked: Any  # (i / 64 + 1,), the words that have a mark
    before: Any  # (i / 64 + 1,), how many columns come before those of such a word
    columns: Any  # (k + 3,)


def new_touched(i: int, most: int, dtype: Any) -> tuple[Array, ...]:
    """Return the arrays of batches that touch so many columns at the most."""
    words = np.zeros(-(-i // _BITS), np.uint64)
    marked, before = np.empty((2, words.size + 1), np.uint32)
    return words, marked, before, np.empty(most + _TOGETHER - 1, dtype)


def of_touched(columns: str) -> tuple[Any, ...]:
    """Return their kinds."""
    kinds = nb.types.uint64, nb.types.uint32, nb.types.uint32
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
def are_few(touched: Touched, n_entries: Any) -> bool:
    """Return whether a batch has so few entries that words are noted one by one."""
    return n_entries * Place(_FEW) < Place(touched.words.size)


@fast
def mark(touched: Touched, column: Any) -> None:
    """Mark a column."""
    touched.words[_word_of(column)] |= _bit_of(column)


@fast
def mark_and_note(touched: Touched, column: Any, n_words: Any) -> Any:
    """Mark a column, and note its word after n others; return how many there are then.

    A word is noted in any case, and the next one over it if it was before: to guess
    whether it was would take longer.
    """
    word = _word_of(column)
    n_words_then = n_words + Place(touched.words[word] == 0)
    touched.marked[n_words] = word
    mark(touched, column)
    return n_words_then


@fast
def note_all(touched: Touched) -> Any:
    """Note the words that have a mark, in order; return how many there are."""
    n = Place(0)
    for word in range(Place(touched.words.size)):
        touched.marked[n] = word
        n += Place(touched.words[word] != 0)
    return n


@fast
def rank_of(touched: Touched, column: Any) -> Any:
    """Return the place of a column among those that are listed."""
    word = _word_of(column)
    below = touched.words[word] & (_bit_of(column) - Place(1))
    return Place(touched.before[word]) + _n_ones(below)


@fast
def _list_columns_of(touched: Touched, word: Any, k: Any) -> Any:
    """List the columns of a word after k others; return how many there are then.

    They are listed four at a time, up to three too many, which the next ones replace.
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
def list_columns(touched: Touched, n_words: Any) -> Any:
    """List the columns that are marked; return how many there are."""
    k = Place(0)
    for n in range(n_words):
        word = Place(touched.marked[n])
        touched.before[word] = k
        k = _list_columns_of(touched, word, k)
    return k


@fast
def wipe(touched: Touched, n_words: Any) -> None:
    """Wipe the marks off."""
    for n in range(n_words):
        touched.words[Place(touched.marked[n])] = 0
