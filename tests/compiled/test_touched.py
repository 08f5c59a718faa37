"""The columns that batches touch, against those that NumPy finds."""

from typing import Any

import numba as nb
import numpy as np
import pytest

from skgd._compiled.touched import (
    Touched,
    list_columns,
    mark,
    mark_and_note,
    new_touched,
    note_all,
    rank_of,
    wipe,
)


@nb.njit
def columns_and_ranks(touched: Touched, columns: Any, ranks: Any, noted: bool) -> Any:
    """Fill the ranks of the columns of entries, and return those that are listed."""
    n_words = np.uintp(0)
    for column in columns:
        if noted:
            n_words = mark_and_note(touched, np.uintp(column), n_words)
        else:
            mark(touched, np.uintp(column))
    if not noted:
        n_words = note_all(touched)
    k = list_columns(touched, n_words)
    for n in range(columns.size):
        ranks[n] = rank_of(touched, np.uintp(columns[n]))
    wipe(touched, n_words)
    return touched.columns[:k].copy()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("noted", [False, True])
def test_columns_and_their_ranks_are_those_of_numpy(noted: bool, dtype: Any) -> None:
    """Whatever was touched before: all of few, the last ones, none, far from others."""
    rng, n_columns = np.random.default_rng(0), 1_000
    touched = Touched(*new_touched(n_columns, n_columns, dtype))
    batches = np.arange(300), np.arange(n_columns), [n_columns - 1], [0, 64, 63], []
    some = (rng.integers(0, n_columns, size) for size in (1, 20, 700))
    for columns in map(rng.permutation, (*batches, *some)):
        columns = columns.astype(dtype)
        ranks = np.empty(len(columns), int)

        listed = columns_and_ranks(touched, columns, ranks, noted)

        expected = np.unique(columns)
        np.testing.assert_array_equal(np.sort(listed), expected)
        np.testing.assert_array_equal(listed[ranks], columns)
        if not noted:
            np.testing.assert_array_equal(listed, expected)
    assert not touched.words.any()
