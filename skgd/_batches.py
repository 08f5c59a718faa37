"""Which rows each model sees at each step; the last batch; gathering the rows.

"Batch" means mini-batch. The order of the rows is drawn by a NumPy generator on the
host, the same on every device; the rows themselves are gathered batch by batch into one
small array. (A shuffled copy of the whole of X costs more than training on it.)

Dimension key: n all samples, m models, i features, o outputs, b samples of the batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]


class Data(NamedTuple):
    """The training set."""

    x: Tensor  # (n, i), a row a sample
    y: Tensor  # (o, n); or (1, n) where it holds class numbers and o is above one
    weight: Tensor | None  # (1, n), sample weights


class Batch(NamedTuple):
    """The arrays of a mini-batch; with a leading axis m if each model has its own."""

    x: Tensor  # (i, b)
    y: Tensor  # (o, b)
    share: Tensor  # (o, b), what a sample counts in the batch's mean: weight / rows
    fill: Callable[[Tensor], None]  # gathers the rows (b,) or (m, b) into the arrays


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
    """Return the arrays of a batch of ``n_rows`` and the function that fills them.

    ``own`` is the number of models if each sees rows of its own, None if all see the
    same ones. The whole set is not gathered: its arrays are views of the data.
    """
    whole = n_rows == data.x.shape[0]
    m = own or 1
    if whole:
        x, y, weight = data
    else:
        x = data.x.new_empty(m * n_rows, data.x.shape[1])
        y = data.y.new_empty(data.y.shape[0], m * n_rows)
        weight = None if data.weight is None else data.y.new_empty(1, m * n_rows)

    target = y_of_models = y.view(-1, m, n_rows).transpose(0, 1)
    share = y.new_full((m, n_outputs, n_rows), 1 / n_rows)
    one_row = y.new_full((1,), 1 / n_rows)
    if n_outputs > y.shape[0]:  # class numbers become one-hot, a batch at a time
        target = y.new_empty(m, n_outputs, n_rows)
        classes = torch.arange(n_outputs, dtype=y.dtype, device=y.device).view(-1, 1)

    def spread() -> None:
        if target is not y_of_models:
            torch.eq(y_of_models, classes, out=target)
        if weight is not None:
            share.copy_(weight.view(m, 1, n_rows))
            share.mul_(one_row)

    def fill(rows: Tensor) -> None:
        if own is not None:
            rows = rows.reshape(-1)
        torch.index_select(data.x, 0, rows, out=x)
        torch.index_select(data.y, 1, rows, out=y)
        if data.weight is not None:
            torch.index_select(data.weight, 1, rows, out=weight)
        spread()

    if whole:
        spread()
        return Batch(x.mT, target[0], share[0], lambda rows: None)
    inputs = x.view(m, n_rows, -1).mT
    if own is None:
        return Batch(inputs[0], target[0], share[0], fill)
    return Batch(inputs, target, share, fill)
