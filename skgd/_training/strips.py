"""A batch that is larger than the cache, in strips of its rows.

Forward and backward pass are made for one strip after the other, in the same arrays,
and gradients add up. So X comes from memory once a step, and not twice, and what a step
needs besides is the units of one strip, not those of all rows.

Dimension key: n all samples, f folds, i features, o outputs, b samples of the strip.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from skgd._equations.contraction import Call
from skgd._training.batches import Data, all_rows, batches_of
from skgd._training.sources import (
    Batch,
    bind_batch,
    is_whole,
    n_sets,
    one_hot,
    shares_in_mean,
    source_of,
)

# The numbers of a strip, of its rows and of the units of one model: so many stay in a
# cache. And its fewest rows, for products of fewer are slow.
_NUMBERS, _FEWEST_ROWS = 2**19, 128

# Arrays of every unit and row, about: sum, value and their gradients.
_ARRAYS_OF_UNITS = 4


def rows_of_a_strip(n_features: int, units: Sequence[int]) -> int:
    """Return the number of rows of a strip, given the units of all layers.

    It depends on the shape of one model only, for the masks of dropout are drawn strip
    by strip, and are the same in company and on every device.
    """
    return max(_FEWEST_ROWS, _NUMBERS // (n_features + _ARRAYS_OF_UNITS * sum(units)))


def bind_strips(
    data: Data,
    n_outputs: int,
    n_rows: int,
    size: int,
    n_folds: int = 1,
    counts: tuple[int, ...] | None = None,
    n_in_all: int | None = None,
) -> list[Batch]:
    """Return a batch of ``n_rows`` as strips: batches of ``size`` of its rows.

    They have their arrays in common, so a strip only notes its rows when the batch is
    gathered, and is filled when it is finished. Of the whole set, inputs that are an
    array are viewed. A row counts what it does in the mean over the whole batch, which
    has ``n_in_all`` with the rows of other ranks.
    """
    whole = is_whole(data, n_rows, n_in_all)
    n_folds = n_sets(data, whole, n_folds)
    viewed = whole and data.rows is None and source_of(data.x).whole is not None
    shares = shares_in_mean(data.y, n_rows, counts, n_in_all)
    share_of_row = shares if counts is None else shares.new_ones(1)
    alike = {
        n: bind_batch(data, n_outputs, n, n_folds, share_of_row=share_of_row)
        for n in (size, n_rows % size)
        if n
    }
    strips = []
    for start in range(0, n_rows, size):
        part = slice(start, min(start + size, n_rows))
        strip = alike[part.stop - start]
        if viewed:
            strip = _viewed(strip, data, part, share_of_row)
        else:
            strip = _noting(strip, data, part, n_folds, whole=whole)
        if counts is not None:
            count = strip.share.copy_ if data.weight is None else strip.share.mul_
            strip.finishes.append(partial(count, shares[..., part]))
        strips.append(strip._replace(fetch=partial(batches_of, size=n_rows)))
    return strips


def _viewed(strip: Batch, data: Data, part: slice, share_of_row: Tensor) -> Batch:
    """Return a part of the whole set: its inputs are a view, the rest is copied."""
    x, y = source_of(data.x).whole, data.y[:, part]
    assert x is not None
    is_target = len(y) == len(strip.y)  # or a class number
    fill = partial(strip.y.copy_, y) if is_target else one_hot(y, out=strip.y)
    finishes: list[Call] = [fill]
    if data.weight is not None:
        finishes.append(partial(strip.share.copy_, data.weight[:, part]))
        finishes.append(partial(strip.share.mul_, share_of_row))
    return strip._replace(x=x[part].mT, gathers=[], finishes=finishes)


def _noting(
    strip: Batch, data: Data, part: slice, n_folds: int, *, whole: bool
) -> Batch:
    """Return a strip that notes its rows, a part of those of each fold, to fill it."""
    size = part.stop - part.start
    rows = torch.empty(n_folds, size, dtype=torch.int64, device=data.y.device)

    def note(batch: Tensor) -> None:
        rows.copy_(batch.view(n_folds, -1)[:, part])

    if whole:  # nothing changes from step to step
        note(torch.from_numpy(all_rows(data)))
    fills: list[Call] = [partial(gather, rows.view(-1)) for gather in strip.gathers]
    finishes = [*fills, *strip.finishes]
    return strip._replace(gathers=[] if whole else [note], finishes=finishes)
