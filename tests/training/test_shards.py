"""Which rows of which partition each batch sees, wherever the partitions lie."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skgd._machine.ranks import ALONE
from skgd._training.shards import (
    Shard,
    bind_order,
    far_apart,
    rows_among_first,
    shard_of,
    sizes_here,
    split_shard,
)

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=8)


def sorted_rows(lengths):
    """Return the partition of every row in the order of places, by sorting them all."""
    places = [(j + 0.5) / n for n in lengths for j in range(n)]
    partitions = [p for p, n in enumerate(lengths) for _ in range(n)]
    return np.array([p for _, p in sorted(zip(places, partitions, strict=True))], int)


@given(lengths, st.integers(1, 50))
def test_quotas_are_those_of_sorting_all_rows(lengths, batch_size):
    """Batches have their rows, partitions too, and no batch owes any."""
    assume(sum(lengths))
    n_rows = sum(lengths)
    firsts = np.minimum(np.arange(0, n_rows + batch_size, batch_size), n_rows)
    order = sorted_rows(lengths)
    counts = rows_among_first(lengths, range(len(lengths)), firsts)
    for first, count in zip(firsts, counts.T, strict=True):
        assert count.tolist() == np.bincount(order[:first], None, len(lengths)).tolist()
    quotas = np.diff(counts, axis=1)
    assert (quotas >= 0).all()
    assert quotas.sum(0).tolist() == np.diff(firsts).tolist()
    assert quotas.sum(1).tolist() == lengths


def test_a_batch_has_its_share_of_every_partition():
    """To within a row and a half, of partitions as large as they come."""
    lengths = np.random.default_rng(0).integers(1, 10**7, 30)
    firsts = np.arange(1, 50) * (lengths.sum() // 60)
    counts = rows_among_first(lengths, range(len(lengths)), firsts)
    shares = lengths[:, np.newaxis] * firsts / lengths.sum()
    assert counts.sum(0).tolist() == firsts.tolist()
    assert np.abs(counts - shares).max() < 1.5


def test_one_number_in_between_moves_nothing():
    """It is the order of the numbers that counts."""
    shard = shard_of(ALONE, [(7, 3), (2, 5)])
    assert (shard.lengths, shard.mine) == ((5, 3), (1, 0))


def test_numbers_are_each_partitions_own():
    """The same one twice is an error."""
    with pytest.raises(ValueError, match="numbers of their own"):
        shard_of(ALONE, [(1, 3), (1, 5)])


@given(lengths, st.sampled_from(["keep", "drop", "fill"]), st.booleans(), st.randoms())
def test_the_rows_of_a_batch_do_not_depend_on_where_partitions_lie(
    lengths, last_batch, shuffle, random
):
    """Partitions on two ranks, in any order, give the batches that they give on one."""
    assume(sum(lengths))
    n_rows = sum(lengths)
    n_full, rest = divmod(n_rows, 7)
    sizes = [7] * n_full
    sizes += {"keep": [rest], "drop": [], "fill": [7]}[last_batch] if rest else []
    if not sizes:
        return
    everywhere = list(range(len(lengths)))
    random.shuffle(everywhere)
    cut = random.randrange(len(lengths) + 1)

    def batches(mine):
        """Return the (partition, row) pairs of every batch, of some partitions."""
        shard = Shard(ALONE, tuple(lengths), tuple(mine))
        if not mine:
            return [set()] * len(sizes)
        pairs = [(p, j) for p in mine for j in range(lengths[p])]
        draw = bind_order(shard, sum(sizes), shuffle=shuffle)
        rows = draw(np.random.default_rng(0))
        cuts = np.cumsum(sizes_here(shard, sizes))
        assert cuts[-1] == len(rows)
        return [
            sorted(pairs[row] for row in batch) for batch in np.split(rows, cuts[:-1])
        ]

    whole = batches(range(len(lengths)))
    parts = [batches(everywhere[:cut]), batches(everywhere[cut:])]
    for size, together, *apart in zip(sizes, whole, *parts, strict=True):
        assert len(together) == size
        assert together == sorted([*apart[0], *apart[1]])
    if last_batch == "keep":
        assert len({pair for batch in whole for pair in batch}) == n_rows


def test_two_epochs_have_other_orders():
    """Every partition is permuted anew, and none like another."""
    shard, generator = Shard(ALONE, (50, 50), (0, 1)), np.random.default_rng(0)
    draw = bind_order(shard, 100, shuffle=True)
    one, two = draw(generator), draw(generator)
    orders = [rows[rows // 50 == p] % 50 for rows in (one, two) for p in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4
    for order in orders:
        assert sorted(order) == list(range(50))


def test_rows_far_apart_are_some_of_each_partition():
    """Every third row, from the first one on."""
    rows, shard = far_apart(Shard(ALONE, (4, 7, 1), (2, 1)), 3)
    assert rows.tolist() == [0, 1, 4, 7]
    assert shard.lengths == (2, 3, 1)


@given(lengths, st.integers(0, 60), st.randoms())
def test_what_is_held_out_keeps_the_shares_of_all_kinds(lengths, n_held_out, random):
    """To within a row; and of partitions, it is a part of each that is large enough."""
    assume(sum(lengths))
    n_held_out = min(n_held_out, sum(lengths))
    kinds = np.array([random.randrange(3) for _ in range(sum(lengths))])
    shard = Shard(ALONE, tuple(lengths), tuple(range(len(lengths))))
    split = split_shard(shard, kinds, 3, n_held_out, 0)
    assert sorted([*split.rows, *split.held_out]) == list(range(sum(lengths)))
    assert len(split.held_out) == n_held_out == sum(split.shard_held_out.lengths)
    assert sum(split.shard.lengths) == len(split.rows)
    of_kinds = np.bincount(kinds[split.held_out], minlength=3)
    shares = np.bincount(kinds, minlength=3) * n_held_out / sum(lengths)
    assert np.abs(of_kinds - shares).max() <= 1.5
