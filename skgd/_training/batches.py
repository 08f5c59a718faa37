"""Which rows each model sees at each step; the last batch; folds.

"Batch" means mini-batch. The order of the rows is drawn by a NumPy generator on the
host, the same on every device.

Models that see the same rows in the same order are a *fold*, and its rows are gathered
once for all of them. Folds take their steps together, so all have as many steps an
epoch. The last batch of some may be shorter than that of others: it is padded with
rows that count nothing.

Dimension key: n all samples, m models, f folds, i features, o outputs, b samples of the
batch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._machine.arrays import Floats, Indices
from skgd._training.csr import Csr
from skgd._training.shards import Shard, far_apart


class Data(NamedTuple):
    """The training set, or a held-out one."""

    # (n, i), a row a sample.
    x: Tensor | Csr
    # (o, n), or (f, o, n), those of each fold; or (1, n) where it holds class numbers
    # and o is above one. Several quantiles are outputs that are views of one target.
    y: Tensor
    # (1, n), sample weights; or (f, n), those of each fold.
    weight: Tensor | None
    # Those that count, where others share the arrays: (n,), or (f, n), those of each
    # fold, the shorter ones padded.
    rows: Indices | None = None
    # (f,), how many they are without the padding.
    counts: Sequence[int] | None = None
    # (f, o), of the targets, if they have any: see target_scale.
    scales: Floats | None = None
    # Where other ranks have other rows of the set: which of all those that count lie
    # here. There is one fold then.
    shard: Shard | None = None
    # Where the rows do not lie in memory: x, y and weight have room for some of them.
    windows: "Windows | None" = None

    @property
    def n_samples(self) -> int:
        """The number of rows that count, in the largest fold."""
        if self.windows is not None:
            return self.windows.n_samples
        return self.x.shape[0] if self.rows is None else self.rows.shape[-1]

    @property
    def n_in_all(self) -> int:
        """The same, of all ranks."""
        return self.n_samples if self.shard is None else self.shard.n_in_all

    def is_all(self, n_rows: int, n_in_all: int | None = None) -> bool:
        """Return whether so many rows are all that there are, and stay as they are.

        Of all ranks it is so many.
        """
        whole = n_rows == self.n_samples and n_in_all in (None, self.n_in_all)
        return whole and self.windows is None


class Part(NamedTuple):
    """Some rows as they are read."""

    x: Floats  # (n, i)
    y: Floats  # (o, n), or (1, n) class numbers
    weight: Floats | None  # (n,)


class Windows(NamedTuple):
    """Rows that are read anew in every epoch, block by block, and mixed by windows.

    Blocks are what can be read by itself: a row group of a file, or what a function
    returns. See ``windows``.
    """

    lengths: Indices  # (k,), the rows of each block
    n_at_once: int  # rows of a window
    # Gives the rows of blocks, which come in this order, some at a time.
    read: Callable[[Indices], Iterator[Part]]
    # A few targets and weights that stand for those of all rows; and some of the rows.
    digest: Data
    some: Data

    @property
    def n_samples(self) -> int:
        """The rows of an epoch."""
        return int(self.lengths.sum())


def batch_sizes(n_samples: int, batch_size: int | None, last_batch: str) -> list[int]:
    """Return the number of rows of every batch of an epoch.

    Where the batch size does not divide the number of samples, the rows that remain
    make a short batch ("keep"), are left out ("drop"), or are topped up ("fill"). None,
    or more than there are samples, is the whole set.
    """
    if not n_samples:
        return []
    size = int(min(batch_size or n_samples, n_samples))  # torch takes no NumPy int
    full, remainder = divmod(n_samples, size)
    last = {"keep": [remainder], "drop": [], "fill": [size]}[last_batch]
    return [size] * full + (last if remainder else [])


def all_rows(data: Data) -> Indices:
    """Return the rows that count."""
    return np.arange(data.x.shape[0]) if data.rows is None else data.rows


def some_rows(data: Data, stride: int) -> Data:
    """Return every so-manieth of the rows that count."""
    if data.shard is not None:
        indices, shard = far_apart(data.shard, stride)
        return data._replace(rows=all_rows(data)[indices], shard=shard)
    rows, counts = all_rows(data)[..., ::stride].copy(), data.counts
    if counts is not None:
        counts = [-(-count // stride) for count in counts]
    return data._replace(rows=rows, counts=counts)


def padded(rows_of_folds: Sequence[Indices], length: int) -> Indices:
    """Return the rows of several folds as (f, length), the last of each repeated."""
    return np.stack(
        [np.pad(rows, (0, length - len(rows)), mode="edge") for rows in rows_of_folds]
    )


def batches_of(rows: Tensor, size: int) -> Sequence[Tensor]:
    """Return rows (n,) batch by batch, (b,), or rows (f, n), (f * b,)."""
    batches = torch.split(rows, size, dim=-1) if size else [rows]
    return batches if rows.ndim == 1 else [batch.flatten() for batch in batches]


def weights_in_all(data: Data) -> list[float]:
    """Return what the rows of each fold count in all, 1 where they count nothing."""
    if data.shard is not None:
        here = 1.0 * data.n_samples
        if data.weight is not None:
            here = float(data.weight[0, all_rows(data)].sum())
        [in_all] = data.shard.ranks.sum(np.array([here])).tolist()
        return [in_all or 1.0]
    if data.rows is None and data.weight is None:
        return [float(data.n_samples)]
    rows = np.atleast_2d(all_rows(data))
    counts = data.counts or [rows.shape[1]] * len(rows)
    if data.weight is None:
        return [float(count) for count in counts]
    weights = data.weight.expand(len(rows), -1)
    parts = zip(weights, rows, counts, strict=True)
    return [float(one[some[:count]].sum()) or 1.0 for one, some, count in parts]


def select_folds(data: Data, folds: Sequence[int]) -> Data:
    """Return the data of some of the folds, without padding that they do not need."""
    chosen, rows, counts, weight = list(folds), data.rows, data.counts, data.weight
    y = data.y
    if y.ndim == 3:
        y = y[chosen] if len(chosen) > 1 else y[chosen[0]]
    scales = None if data.scales is None else data.scales[chosen]
    if weight is not None and len(weight) > 1:
        weight = weight[chosen]
    if rows is not None and rows.ndim == 2:
        rows = rows[chosen]
        if counts is not None:
            counts = [counts[fold] for fold in folds]
            rows = rows[:, : max(counts)]
            counts = counts if len(set(counts)) > 1 else None
        rows = rows[0] if len(rows) == 1 else rows
    return data._replace(y=y, rows=rows, counts=counts, weight=weight, scales=scales)


def counts_in_batches(data: Data, sizes: Sequence[int]) -> list[tuple[int, ...] | None]:
    """Return how many rows of each fold count in each batch; None where all do."""
    if data.counts is None:
        return [None] * len(sizes)
    starts = np.append(0, np.cumsum(sizes)[:-1])
    counts = [
        tuple(np.clip(np.subtract(data.counts, start), 0, size).tolist())
        for start, size in zip(starts, sizes, strict=True)
    ]
    return [
        None if set(count) == {size} else count
        for count, size in zip(counts, sizes, strict=True)
    ]
