"""Which rows each model sees at each step; the last batch; gathering the rows.

"Batch" means mini-batch. The order of the rows is drawn by a NumPy generator on the
host, the same on every device; the rows themselves are gathered batch by batch into one
small array. (A shuffled copy of the whole of X costs more than training on it.)

Dimension key: n all samples, m models, i features, o outputs, b samples of the batch.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from skgd._contraction import Call
from skgd._sparse import Csr, fill_dense_, is_wide, take_rows

Gather = Callable[[Tensor], object]
Rows = npt.NDArray[np.int64]


class Data(NamedTuple):
    """The training set, or a held-out one."""

    x: Tensor | Csr  # (n, i), a row a sample
    y: Tensor  # (o, n); or (1, n) where it holds class numbers and o is above one
    weight: Tensor | None  # (1, n), sample weights
    rows: Rows | None = None  # those that count, where others share the arrays

    @property
    def n_samples(self) -> int:
        """The number of rows that count."""
        return self.x.shape[0] if self.rows is None else len(self.rows)


class Batch(NamedTuple):
    """The arrays of a mini-batch; with a leading axis m if each model has its own."""

    x: Tensor | None  # (i, b); None where X is wide and sparse
    y: Tensor  # (o, b)
    share: Tensor  # (o, b), what a sample counts in the batch's mean: weight / rows
    gathers: list[Gather]  # given the rows, (b,) or (m * b,), fetch them from the data
    calls: list[Call]  # then finish y and share


def batch_sizes(n_samples: int, batch_size: int | None, last_batch: str) -> list[int]:
    """Return the number of rows of every batch of an epoch.

    Where the batch size does not divide the number of samples, the rows that remain
    make a short batch ("keep"), are left out ("drop"), or are topped up ("fill"). None,
    or more than there are samples, is the whole set.
    """
    size = min(batch_size or n_samples, n_samples)
    full, remainder = divmod(n_samples, size)
    last = {"keep": [remainder], "drop": [], "fill": [size]}[last_batch]
    return [size] * full + (last if remainder else [])


def all_rows(data: Data) -> Rows:
    """Return the rows that count."""
    return np.arange(data.x.shape[0]) if data.rows is None else data.rows


def rows_of_epoch(
    generator: np.random.Generator, n_samples: int, n_rows: int, *, shuffle: bool
) -> Rows:
    """Return the rows of one pass over the data, in the order they are seen.

    They are as many as the batches hold: the last ones are left out where that is less
    than the whole set, and drawn at random from it, once more, where it is more.
    """
    rows = generator.permutation(n_samples) if shuffle else np.arange(n_samples)
    if n_rows > n_samples:
        extra = generator.integers(n_samples, size=n_rows - n_samples)
        return np.append(rows, extra)
    return rows[:n_rows]


def bind_batch(data: Data, n_outputs: int, n_rows: int, own: int | None) -> Batch:
    """Return the arrays of a batch of ``n_rows``, and the calls that fill them.

    ``own`` is the number of models if each sees rows of its own, None if all see the
    same ones. The whole set is not gathered: its arrays are views of the data, or where
    only some of the rows count, they are gathered here, once.
    """
    gathers: list[Gather] = []
    calls: list[Call] = []
    whole = n_rows == data.n_samples
    m = own or 1

    def gathered(array: Tensor, axis: int) -> Tensor:
        """Return the array, or one of a batch's rows that a gather will fill."""
        if whole and data.rows is None:
            return array
        if whole:
            return array.index_select(
                axis, torch.from_numpy(data.rows).to(array.device)
            )
        shape = list(array.shape)
        shape[axis] = m * n_rows
        batch = array.new_empty(shape)
        gathers.append(partial(torch.index_select, array, axis, out=batch))
        return batch

    x = None
    if isinstance(data.x, Tensor):
        x = gathered(data.x, 0)
    elif not is_wide(data.x):
        x = data.y.new_empty(m * n_rows, data.x.n_features)
        fill = partial(_fill_with_rows_, x, data.x)
        gathers.append(fill)
        if whole:
            fill(torch.from_numpy(all_rows(data)))
            gathers.clear()
    if x is not None:
        x = x.view(-1, n_rows, data.x.shape[1]).mT
    y = gathered(data.y, 1).view(len(data.y), -1, n_rows).transpose(0, 1)
    if len(data.y) < n_outputs:  # class numbers become one-hot, a batch at a time
        one_hot = y.new_empty(len(y), n_outputs, n_rows)
        classes = torch.arange(n_outputs, dtype=y.dtype, device=y.device).view(-1, 1)
        calls.append(partial(torch.eq, y, classes, out=one_hot))
        y = one_hot
    share = y.new_full(y.shape, 1 / n_rows)
    if data.weight is not None:
        weight = gathered(data.weight, 1).view(-1, 1, n_rows)
        calls.append(partial(share.copy_, weight))
        calls.append(partial(share.mul_, y.new_full((1,), 1 / n_rows)))
    if whole:  # nothing changes from step to step
        for call in calls:
            call()
        calls.clear()
    if own is None or whole:
        return Batch(None if x is None else x[0], y[0], share[0], gathers, calls)
    return Batch(x, y, share, gathers, calls)


def _fill_with_rows_(out: Tensor, x: Csr, rows: Tensor) -> None:
    """Write some rows of a sparse matrix into a dense array."""
    fill_dense_(out, take_rows(x, rows))
