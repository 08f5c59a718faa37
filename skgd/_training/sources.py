"""Rows become batches, whatever holds them: a ``Source`` gives rows by their indices.

A batch comes about in three stages. Its rows are *fetched*, together with those of the
next batches where batches are small; what was fetched for it is *gathered* into its
arrays; and targets and weights are *finished*. (A shuffled copy of the whole of X would
cost more than training.)

Dimension key: n all samples, f folds, i features, o outputs, b samples of the batch.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from skgd._equations.contraction import Call
from skgd._training.batches import Data, all_rows, batches_of
from skgd._training.csr import Csr, fill_dense_, is_wide, take_rows

Gather = Callable[[Tensor], object]
Fetch = Callable[[Tensor], Sequence[Tensor]]

# Small batches are fetched so many numbers at a time, if that is several batches.
_NUMBERS_AHEAD, _SEVERAL = 2**15, 8


class Source(Protocol):
    """Rows that are taken by their indices."""

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and of features."""

    @property
    def dtype(self) -> torch.dtype:
        """That of the numbers."""

    @property
    def device(self) -> torch.device:
        """Where rows are taken to."""

    @property
    def whole(self) -> Tensor | None:
        """All rows (n, i), if they are an array."""

    def take(self, indices: Tensor, *, out: Tensor) -> None:
        """Write rows (b,) into an array (b, i)."""


class DenseRows(NamedTuple):
    """The rows of an array."""

    x: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        n_rows, n_features = self.x.shape
        return n_rows, n_features

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def whole(self) -> Tensor | None:
        return self.x

    def take(self, indices: Tensor, *, out: Tensor) -> None:
        torch.index_select(self.x, 0, indices, out=out)


class SparseRows(NamedTuple):
    """The rows of a sparse matrix of a few thousand features, made dense when taken."""

    x: Csr

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.x.values.dtype

    @property
    def device(self) -> torch.device:
        return self.x.values.device

    @property
    def whole(self) -> Tensor | None:
        return None

    def take(self, indices: Tensor, *, out: Tensor) -> None:
        fill_dense_(out, take_rows(self.x, indices))


class WideRows(SparseRows):
    """Those of more features: they stay sparse, and the first layer takes them."""


def source_of(x: Tensor | Csr) -> Source:
    """Return rows as a source."""
    if isinstance(x, Tensor):
        return DenseRows(x)
    return WideRows(x) if is_wide(x) else SparseRows(x)


class Batch(NamedTuple):
    """The arrays of a mini-batch; with a leading axis f if each fold has its own."""

    x: Tensor | None  # (i, b); None where the first layer takes the rows itself
    y: Tensor  # (o, b)
    share: Tensor  # (o, b), what a sample counts in the batch's mean: weight / rows
    # Given the rows of at most so many batches, (n,) or (f, n), returns for each what
    # is fetched for it: its rows, (b,) or (f * b,), or its numbers themselves.
    n_ahead: int
    fetch: Fetch
    # Given what is fetched for the batch, these fill x, y and share.
    gathers: list[Gather]
    # And these finish y and share.
    finishes: list[Call]


def bind_batch(
    data: Data,
    n_outputs: int,
    n_rows: int,
    n_folds: int = 1,
    counts: tuple[int, ...] | None = None,
    n_batches: int = 1,
    share_of_row: Tensor | None = None,
    n_in_all: int | None = None,
) -> Batch:
    """Return the arrays of a batch of ``n_rows``, and the calls that fill them.

    All models see the same rows unless there are several folds. ``counts`` says how
    many rows of each fold count, the first ones; None is all. The whole set is not
    gathered: its arrays are views of the data, or where only some of the rows count,
    they are gathered here, once. With ``n_batches``, the arrays hold so many batches;
    with ``share_of_row``, a row counts so much, whatever the number of rows. With rows
    of other ranks, the batch has ``n_in_all``.
    """
    whole = is_whole(data, n_rows, n_in_all)
    n_folds = n_sets(data, whole, n_folds)
    gathering = _Gathering(data, whole, n_folds, n_rows * n_batches, [])
    x = gathering.inputs()
    finishes: list[Call] = []
    y = gathering.targets()
    if y.shape[1] < n_outputs:  # class numbers
        classes, y = y, y.new_empty(len(y), n_outputs, y.shape[2])
        finishes.append(one_hot(classes, out=y))
    if share_of_row is None:
        share_of_row = shares_in_mean(data.y, n_rows, counts, n_in_all)
    share = y.new_empty(y.shape).copy_(share_of_row)
    if data.weight is not None:
        weight = gathering.weights(data.weight)
        finishes.append(partial(share.copy_, weight))
        finishes.append(partial(share.mul_, share_of_row))
    if whole:  # nothing changes from step to step
        for call in finishes:
            call()
        finishes.clear()
    if n_folds == 1:
        x, y, share = None if x is None else x[0], y[0], share[0]
    fetch = partial(batches_of, size=gathering.n_rows)
    return Batch(x, y, share, sys.maxsize, fetch, gathering.gathers, finishes)


class _Gathering(NamedTuple):
    """How arrays get the rows of a batch: those of the whole set here, others later."""

    data: Data
    whole: bool  # whether the batch is the whole set
    n_folds: int
    n_rows: int  # of each fold
    gathers: list[Gather]  # what fills the arrays whenever there is a batch

    def inputs(self) -> Tensor | None:
        """Return the array (f, i, b) of the inputs, unless they are wide and sparse."""
        source = source_of(self.data.x)
        if isinstance(source, WideRows):
            return None
        x = source.whole
        if x is None or not self._is_all:
            x = self.data.y.new_empty(self.n_folds * self.n_rows, source.shape[1])
            self._fill(partial(source.take, out=x))
        return x.view(-1, self.n_rows, source.shape[1]).mT

    def targets(self) -> Tensor:
        """Return the array (f, o, b) of the targets, or (f, 1, b) of class numbers."""
        y = self.data.y
        if y.ndim == 3:
            return self._of_folds(y)
        return self._columns(y).view(len(y), -1, self.n_rows).transpose(0, 1)

    def weights(self, weight: Tensor) -> Tensor:
        """Return the array (f, 1, b) of the samples' weights."""
        if len(weight) > 1:  # every fold has weights of its own
            return self._of_folds(weight.unsqueeze(1))
        return self._columns(weight).view(-1, 1, self.n_rows)

    @property
    def _is_all(self) -> bool:
        """Whether arrays of the data are those of the batch."""
        return self.whole and self.data.rows is None

    def _columns(self, array: Tensor) -> Tensor:
        """Return some columns of an array, (o, f * b)."""
        if self._is_all:
            return array
        batch = array.new_empty(len(array), self.n_folds * self.n_rows)
        self._fill(partial(torch.index_select, array, 1, out=batch))
        return batch

    def _of_folds(self, array: Tensor) -> Tensor:
        """Return some of what every fold has of its own, (f, o, b) of (f, o, n)."""
        batch = array.new_empty(*array.shape[:2], self.n_rows)
        self._fill(partial(_gather_by_fold_, batch, array))
        return batch

    def _fill(self, gather: Gather) -> None:
        """Let an array be filled for each batch, or now if it is the whole set."""
        if self.whole:
            rows = torch.from_numpy(all_rows(self.data).ravel())
            gather(rows.to(self.data.y.device))
        else:
            self.gathers.append(gather)


def one_hot(y: Tensor, *, out: Tensor) -> Call:
    """Return the call that makes class numbers (..., 1, b) one-hot, (..., o, b)."""
    n_outputs = out.shape[-2]
    classes = torch.arange(n_outputs, dtype=y.dtype, device=y.device).view(-1, 1)
    return partial(torch.eq, y, classes, out=out)


def is_whole(data: Data, n_rows: int, n_in_all: int | None = None) -> bool:
    """Return whether a batch is the whole set, of all ranks."""
    return n_rows == data.n_samples and n_in_all in (None, data.n_in_all)


def n_sets(data: Data, whole: bool, n_folds: int) -> int:
    """Return how many folds have batches of their own: the whole set may be one."""
    return 1 if whole and (data.rows is None or data.rows.ndim == 1) else n_folds


def bind_batch_ahead(
    data: Data,
    n_outputs: int,
    n_rows: int,
    n_batches: int,
    n_in_all: int | None = None,
) -> Batch | None:
    """Return the arrays of a batch whose rows are fetched together with the next ones'.

    To gather the rows of a small batch takes longer than to compute with them, and
    hardly longer for many such batches. They are laid out batch by batch, so that each
    is then one piece to copy. None where batches are too large for that, or too few.
    """
    size = n_rows * (data.x.shape[1] + n_outputs * (1 if data.weight is None else 2))
    n_ahead = min(n_batches, _NUMBERS_AHEAD // size)
    if n_ahead < _SEVERAL or n_rows == data.n_samples:
        return None
    several = bind_batch(data, n_outputs, n_rows, n_batches=n_ahead, n_in_all=n_in_all)
    if several.x is None:
        return None
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
    copies: list[Call] = [
        partial(some.view(part.shape).copy_, part)
        for some, part in zip(pieces.split_with_sizes(sizes, dim=1), parts, strict=True)
    ]

    def fetch(rows: Tensor) -> Sequence[Tensor]:
        """Return the pieces of so many batches, to be used before the next call."""
        missing = n_ahead * n_rows - len(rows)
        full = F.pad(rows, (0, missing)) if missing else rows
        for gather in several.gathers:
            gather(full)
        for call in [*several.finishes, *copies]:
            call()
        return pieces[: len(rows) // n_rows].unbind()

    share_of_row = share[0] if share else several.share[:, :n_rows].contiguous()
    return Batch(x.mT, y, share_of_row, n_ahead, fetch, [piece.copy_], [])


def shares_in_mean(
    like: Tensor,
    n_rows: int,
    counts: tuple[int, ...] | None,
    n_in_all: int | None = None,
) -> Tensor:
    """Return what a row counts in the mean over its batch, (1,) or (f, 1, b)."""
    if counts is None:
        return like.new_full((1,), 1 / (n_in_all or n_rows))
    shares = like.new_zeros(len(counts), 1, n_rows)
    for share, count in zip(shares, counts, strict=True):
        share[:, :count] = 1 / max(1, count)
    return shares


def _gather_by_fold_(out: Tensor, array: Tensor, rows: Tensor) -> None:
    """Write each fold's part of an array, (f, o, n), of its rows, (f * b,) or all."""
    rows = rows.view(-1, 1, out.shape[2]).expand(out.shape)
    torch.gather(array, 2, rows, out=out)
