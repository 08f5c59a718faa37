"""Shards: rows that lie on several ranks, and which of them each batch sees.

Rows lie together in *partitions*, which are numbered in the whole. A rank has some of
them: its shard. Each epoch goes through all rows of all partitions in one order:

    row j of the n rows of a partition stands at (j + 1/2) / n,

ties by the number of the partition, and a batch is the next rows of that order. So
each batch has its share of every partition, to within a row or so. The rows of a
partition are permuted beforehand, by a stream that is keyed by the epoch and the number
of the partition. Which rows a batch has therefore depends on the partitions alone, not
on the number of ranks or on which of them lies where.

A place is rounded to a double, so that it is the same number everywhere. (Shares by
cumulative floors are no such rule: where a partition has fewer rows than an epoch has
steps, some would be negative.)

Dimension key: p partitions of a shard, l distinct lengths, s steps.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from skgd._machine.arrays import Array, Floats, Indices
from skgd._machine.generators import rows_of_epoch
from skgd._machine.ranks import Ranks

# Numbers of an array of lengths and steps that are computed at once.
_NUMBERS_AT_ONCE = 2**18

_Integers = npt.NDArray[np.int64]
T = TypeVar("T")


class Shard(NamedTuple):
    """Which rows of all these are: some partitions of a whole."""

    ranks: Ranks
    lengths: tuple[int, ...]  # rows of every partition, of all ranks, by its number
    mine: tuple[int, ...]  # the numbers of those that lie here, in the order of rows
    mean_weight: float = 1.0  # what the rows of all ranks count on average

    @property
    def n_in_all(self) -> int:
        """The number of rows, of all ranks."""
        return sum(self.lengths)

    @property
    def lengths_here(self) -> list[int]:
        """Rows of the partitions that lie here."""
        return [self.lengths[number] for number in self.mine]


def shard_of(ranks: Ranks, partitions: Sequence[tuple[int, int]]) -> Shard:
    """Return a shard, given the numbers and lengths of its partitions.

    Numbers may have gaps: it is their order that counts.
    """
    of_all = sorted(pair for some in ranks.gather(list(partitions)) for pair in some)
    numbers = [number for number, _ in of_all]
    if len(set(numbers)) < len(numbers):
        msg = f"Partitions must have numbers of their own. Got {numbers}."
        raise ValueError(msg)
    mine = tuple(numbers.index(number) for number, _ in partitions)
    return Shard(ranks, tuple(length for _, length in of_all), mine)


def rows_among_first(
    lengths: Sequence[int] | Indices,
    mine: Sequence[int],
    firsts: Sequence[int] | Indices,
) -> Indices:
    """Return how many of the first rows, in the order of places, are of which, (p, s).

    That is for some partitions (p,) of those of all lengths, and for each number of
    first rows (s,). Beyond all rows, the order begins again.
    """
    distinct, which = np.unique(lengths, return_inverse=True)
    n_alike = np.bincount(which)
    rounds, rest = np.divmod(np.asarray(firsts, np.int64), max(1, np.sum(lengths)))
    of_mine = which[np.asarray(mine, np.intp)]
    # how many partitions of each length come before each of these, (p, l)
    earlier = np.empty((len(of_mine), len(distinct)), np.int64)
    for row, number in zip(earlier, mine, strict=True):
        row[:] = np.bincount(which[:number], minlength=len(distinct))
    counts = np.empty((len(of_mine), len(rest)), np.int64)
    n_at_once = max(1, _NUMBERS_AT_ONCE // len(distinct))
    for start in range(0, len(rest), n_at_once):
        some = slice(start, start + n_at_once)
        last = _last_place(distinct, n_alike, rest[some])
        before = _rows_up_to(np.nextafter(last, 0), distinct)
        at_it = _rows_up_to(last, distinct) - before  # 0 or 1
        missing = rest[some] - n_alike @ before
        counts[:, some] = before[of_mine]
        counts[:, some] += at_it[of_mine] * (earlier @ at_it < missing)
    counts += rounds * distinct[of_mine, np.newaxis]
    return counts


@np.errstate(divide="ignore")  # partitions may have no rows
def _rows_up_to(place: Floats, lengths: _Integers) -> _Integers:
    """Return how many rows stand at a place or before it, (l, s)."""
    n = lengths[:, np.newaxis]
    rows: _Integers = np.floor(place * n + 0.5).astype(np.int64)
    rows -= (rows - 0.5) / n > place  # where that was rounded up
    rows += (rows + 0.5) / n <= place
    return rows


def _last_place(lengths: _Integers, n_alike: Indices, firsts: _Integers) -> Floats:
    """Return the first place with so many rows at it or before it, (s,), by bisection.

    It is where so many would be if rows had no length, but for half a row of each
    partition. Doubles above 0 are in the order of their bits.
    """
    n_partitions, n_rows = n_alike.sum(), max(1, n_alike @ lengths)
    below = np.maximum(0, (firsts - n_partitions) / n_rows).view(np.int64)
    above = np.minimum(1, (firsts + n_partitions) / n_rows).view(np.int64)
    while np.any(above - below > 1):
        middle = (below + above) // 2
        enough = n_alike @ _rows_up_to(middle.view(np.float64), lengths) >= firsts
        above, below = np.where(enough, middle, above), np.where(enough, below, middle)
    last: Floats = above.view(np.float64)
    return last


def sizes_here(shard: Shard, sizes: Sequence[int]) -> list[int]:
    """Return how many rows of each batch lie here."""
    counts = rows_among_first(shard.lengths, shard.mine, np.cumsum(sizes).tolist())
    of_steps: list[int] = np.diff(counts.sum(0), prepend=0).tolist()
    return of_steps


def bind_order(
    shard: Shard, n_rows: int, *, shuffle: bool
) -> Callable[[np.random.Generator], Indices]:
    """Return the function that draws the rows here of an epoch, in their order.

    The epoch has ``n_rows`` of all ranks, perhaps less or more than there are: those
    beyond are drawn at random from each partition, once more. All ranks hand in
    generators that are alike, and draw one number of it.
    """
    lengths = shard.lengths_here
    counts = rows_among_first(shard.lengths, shard.mine, [n_rows])[:, 0].tolist()
    starts = (np.cumsum(lengths) - lengths).tolist()
    parts = sorted(zip(shard.mine, starts, lengths, counts, strict=True))
    places = [(np.arange(count) + 0.5) / length for _, _, length, count in parts]
    order = np.argsort(np.concatenate(places), kind="stable")  # ties by number

    def draw(generator: np.random.Generator) -> Indices:
        key = int(generator.integers(2**63))
        rows: list[Indices] = []
        for number, start, length, count in parts:
            stream = np.random.default_rng([key, number])
            rows.append(start + rows_of_epoch(stream, length, count, shuffle=shuffle))
        if len(rows) == 1:
            return rows[0]
        return np.concatenate(rows)[order]

    return draw


def far_apart(shard: Shard, stride: int) -> tuple[Indices, Shard]:
    """Return every so-manieth row of each partition here, as a shard of its own."""
    starts = np.cumsum([0, *shard.lengths_here])
    rows = [np.arange(start, stop, stride) for start, stop in pairwise(starts)]
    lengths = tuple(-(-length // stride) for length in shard.lengths)
    return np.concatenate(rows), shard._replace(lengths=lengths)


class Split(NamedTuple):
    """Which rows of a shard are trained on, and which are held out."""

    rows: Indices
    held_out: Indices
    shard: Shard
    shard_held_out: Shard


def split_shard(
    shard: Shard, kinds: Indices, n_kinds: int, n_held_out: int, seed: int
) -> Split:
    """Return the rows to hold out, so many of all ranks, each kind in its share.

    Of every kind they are the first rows in the order of places, once each partition is
    permuted by a stream that is keyed by the seed and its number.
    """
    cuts = np.cumsum(shard.lengths_here)[:-1]
    kinds_of = np.split(kinds, cuts)
    here = [np.bincount(some, minlength=n_kinds) for some in kinds_of]
    counts = np.stack(parts_of_all(shard, here))  # (p, kinds)
    of_kinds = rows_among_first(counts.sum(0), range(n_kinds), [n_held_out])
    everywhere = range(len(counts))
    taken = np.concatenate(
        [
            rows_among_first(lengths, everywhere, n)
            for lengths, n in zip(counts.T, of_kinds, strict=True)
        ],
        axis=1,
    )
    is_held_out = [
        _first_of_kinds(some, taken[number], np.random.default_rng([seed, number]))
        for number, some in zip(shard.mine, kinds_of, strict=True)
    ]
    held_out = np.concatenate(is_held_out)
    n_taken = taken.sum(1)
    return Split(
        np.flatnonzero(~held_out),
        np.flatnonzero(held_out),
        shard._replace(lengths=tuple((np.array(shard.lengths) - n_taken).tolist())),
        shard._replace(lengths=tuple(n_taken.tolist())),
    )


def _first_of_kinds(
    kinds: Indices, n_of_kinds: Indices, stream: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return which rows are the first of their kind, so many, once permuted."""
    are_first = np.zeros(len(kinds), bool)
    order = stream.permutation(len(kinds))
    for kind, n in enumerate(n_of_kinds):
        of_kind = order[kinds[order] == kind]
        are_first[of_kind[:n]] = True
    return are_first


def parts_of_all(shard: Shard, parts: Sequence[T]) -> list[T]:
    """Return what belongs to each partition, of all ranks, in the order of numbers.

    ``parts`` belong to those that lie here.
    """
    here = list(zip(shard.mine, parts, strict=True))
    of_all = [pair for some in shard.ranks.gather(here) for pair in some]
    of_all.sort(key=lambda pair: pair[0])
    return [part for _, part in of_all]


def in_order_of_partitions(shard: Shard, values: Array) -> Array:
    """Return values of the rows of all ranks, (n, ...), partition after partition."""
    cuts = np.cumsum(shard.lengths_here)[:-1]
    parts = np.split(values, cuts) if shard.mine else []
    return np.concatenate(parts_of_all(shard, parts))
