"""Rows become batches: gathered batch by batch, or some small batches at a time.

A shuffled copy of the whole of X costs more than training.

Dimension key: n all samples, f folds, i features, o outputs, b samples of the batch.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from skgd._equations.contraction import Call
from skgd._training.batches import Data, all_rows, batches_of
from skgd._training.csr import Csr, fill_dense_, is_wide, take_rows

Gather = Callable[[Tensor], object]
Fetch = Callable[[Tensor], Sequence[Tensor]]
Floats = npt.NDArray[np.float64]

# Small batches are fetched so many numbers at a time, if that is several batches.
_NUMBERS_AHEAD, _SEVERAL = 2**15, 8


class Batch(NamedTuple):
    """The arrays of a mini-batch; with a leading axis f if each fold has its own."""

    x: Tensor | None  # (i, b); None where X is wide and sparse
    y: Tensor  # (o, b)
    share: Tensor  # (o, b), what a sample counts in the batch's mean: weight / rows
    gathers: list[Gather]  # given what is fetched for the batch, fill x, y and share
    calls: list[Call]  # then finish y and share
    n_ahead: int  # the batches that are fetched at a time, at the most
    fetch: Fetch  # given their rows, (n,) or (f, n), returns for each of them its own,


def bind_batch(
    data: Data,
    n_outputs: int,
    n_rows: int,
    n_folds: int = 1,
    counts: tuple[int, ...] | None = None,
    n_batches: int = 1,
) -> Batch:
    """Return the arrays of a batch of ``n_rows``, and the calls that fill them.

    All models see the same rows unless there are several folds. ``counts`` says how
    many rows of each fold count, the first ones; None is all. The whole set is not
    gathered: its arrays are views of the data, or where only some of the rows count,
    they are gathered here, once. With ``n_batches``, the arrays hold so many batches.
    """
    gathers: list[Gather] = []
    calls: list[Call] = []
    whole = n_rows == data.n_samples
    share_of_row = _shares(data.y, n_rows, counts)
    n_gathered = n_rows * n_batches
    if whole and (data.rows is None or data.rows.ndim == 1):
        n_folds = 1  # there is but one whole set

    def gathered(array: Tensor, axis: int) -> Tensor:
        """Return the array, or one of a batch's rows that a gather will fill."""
        if whole and data.rows is None:
            return array
        if whole:
            rows = torch.from_numpy(all_rows(data).ravel())
            return array.index_select(axis, rows.to(array.device))
        shape = list(array.shape)
        shape[axis] = n_folds * n_gathered
        batch = array.new_empty(shape)
        gathers.append(partial(torch.index_select, array, axis, out=batch))
        return batch

    def gathered_by_fold(array: Tensor) -> Tensor:
        """Return some of what every fold has of its own, (f, o, b) of (f, o, n)."""
        batch = array.new_empty(*array.shape[:2], n_gathered)
        gather = partial(_gather_by_fold_, batch, array)
        if whole:
            gather(torch.from_numpy(all_rows(data)).to(array.device))
        else:
            gathers.append(gather)
        return batch

    x = None
    if isinstance(data.x, Tensor):
        x = gathered(data.x, 0)
    elif not is_wide(data.x):
        x = data.y.new_empty(n_folds * n_gathered, data.x.n_features)
        fill = partial(_fill_with_rows_, x, data.x)
        gathers.append(fill)
        if whole:
            fill(torch.from_numpy(all_rows(data).ravel()))
            gathers.clear()
    if x is not None:
        x = x.view(-1, n_gathered, data.x.shape[1]).mT
    if data.y.ndim == 2:
        y = gathered(data.y, 1).view(len(data.y), -1, n_gathered).transpose(0, 1)
    else:
        y = gathered_by_fold(data.y)
    if y.shape[1] < n_outputs:  # class numbers become one-hot, a batch at a time
        one_hot = y.new_empty(len(y), n_outputs, n_gathered)
        classes = torch.arange(n_outputs, dtype=y.dtype, device=y.device).view(-1, 1)
        calls.append(partial(torch.eq, y, classes, out=one_hot))
        y = one_hot
    share = y.new_empty(y.shape).copy_(share_of_row)
    if data.weight is not None:
        if len(data.weight) == 1:
            weight = gathered(data.weight, 1).view(-1, 1, n_gathered)
        else:  # every fold has weights of its own
            weight = gathered_by_fold(data.weight.unsqueeze(1))
        calls.append(partial(share.copy_, weight))
        calls.append(partial(share.mul_, share_of_row))
    if whole:  # nothing changes from step to step
        for call in calls:
            call()
        calls.clear()
    fetch = partial(batches_of, size=n_gathered)
    if n_folds == 1:
        first = None if x is None else x[0]
        return Batch(first, y[0], share[0], gathers, calls, sys.maxsize, fetch)
    return Batch(x, y, share, gathers, calls, sys.maxsize, fetch)


def bind_batch_ahead(
    data: Data, n_outputs: int, n_rows: int, n_batches: int
) -> Batch | None:
    """Return the arrays of a batch whose rows are fetched together with the next ones'.

    To gather the rows of a small batch takes longer than to compute with them, and
    hardly longer for many such batches. They are laid out batch by batch, so that each
    is then one piece to copy. None where batches are too large for that, or too few.
    """
    size = n_rows * (data.x.shape[1] + n_outputs * (1 if data.weight is None else 2))
    n_ahead = min(n_batches, _NUMBERS_AHEAD // size)
    if n_ahead < _SEVERAL or n_rows == data.n_samples or is_wide(data.x):
        return None
    several = bind_batch(data, n_outputs, n_rows, n_batches=n_ahead)
    assert several.x is not None
    of_outputs = [several.y]
    if data.weight is not None:  # else all rows count alike, in every batch
        of_outputs.append(several.share)
    parts = [several.x.mT.view(n_ahead, n_rows, -1)]
    parts += [
        array.view(n_outputs, n_ahead, n_rows).transpose(0, 1) for array in of_outputs
    ]
    sizes = [part[0].numel() for part in parts]
    pieces = data.y.new_empty(n_ahead, size)
    piece = data.y.new_empty(size)
    x, y, *share = (
        some.view(part.shape[1:])
        for some, part in zip(piece.split_with_sizes(sizes), parts, strict=True)
    )
    calls: list[Call] = [
        partial(some.view(part.shape).copy_, part)
        for some, part in zip(pieces.split_with_sizes(sizes, dim=1), parts, strict=True)
    ]

    def fetch(rows: Tensor) -> Sequence[Tensor]:
        """Return the pieces of so many batches, to be used before the next call."""
        missing = n_ahead * n_rows - len(rows)
        full = F.pad(rows, (0, missing)) if missing else rows
        for gather in several.gathers:
            gather(full)
        for call in [*several.calls, *calls]:
            call()
        return pieces[: len(rows) // n_rows].unbind()

    share_of_row = share[0] if share else several.share[:, :n_rows].contiguous()
    return Batch(x.mT, y, share_of_row, [piece.copy_], [], n_ahead, fetch)


def _shares(like: Tensor, n_rows: int, counts: tuple[int, ...] | None) -> Tensor:
    """Return what a row counts in the mean over its batch, (1,) or (f, 1, b)."""
    if counts is None:
        return like.new_full((1,), 1 / n_rows)
    shares = like.new_zeros(len(counts), 1, n_rows)
    for share, count in zip(shares, counts, strict=True):
        share[:, :count] = 1 / max(1, count)
    return shares


def _gather_by_fold_(out: Tensor, array: Tensor, rows: Tensor) -> None:
    """Write each fold's part of an array, (f, o, n), of its rows, (f * b,) or all."""
    rows = rows.view(-1, 1, out.shape[2]).expand(out.shape)
    torch.gather(array, 2, rows, out=out)


def _fill_with_rows_(out: Tensor, x: Csr, rows: Tensor) -> None:
    """Write some rows of a sparse matrix into a dense array."""
    fill_dense_(out, take_rows(x, rows))
