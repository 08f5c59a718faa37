"""The best constant prediction, and its loss: what any model must beat.

A loss has no scale of its own: whether it is large can be said beside what could have
been had without looking at X. The constant is that of the textbook, for each output:
the mean for squared errors, the median for absolute ones, the quantile, the logarithm
of the mean; of classes it follows from their shares p, and so does its loss:

    log_loss                        -p log(p), and -(1-p) log(1-p) of a sigmoid
    hinge                           2 min(p, 1-p), at z = +-1
    squared_hinge, modified_huber   4 p (1-p), at z = 2p - 1

(Huber's and the insensitive losses have no closed form. The mean, or the median, is
near enough: the losses compared differ by a factor of ten or more.) The perceptron's
loss is 0 at z = 0, and as large as the weights for any other model: beside it nothing
is large.

Dimension key: o outputs, n samples, f folds of models.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf, log

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from skgd._equations.losses import LOSSES, loss_named
from skgd._equations.tape import Tape
from skgd._machine.arrays import Floats, Indices
from skgd._machine.devices import numbers_like
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.batches import Data
from skgd._training.hyperparameters import Shared
from skgd._training.shards import Shard, far_apart, in_order_of_partitions
from skgd._training.target_scale import delta_on_scales

# Rows by which a constant is found, and numbers of a loss that are computed at once:
# for one more, torch would wake other threads.
_ROWS_OF_A_CENTRE, _NUMBERS_AT_ONCE = 2**14, 2**15 - 1

# Of the losses of classes: the loss of the best constant, given the shares, and that of
# z = 0; for each output of its own, or of all outputs together.
_OF_SHARES: Mapping[str, Callable[[Floats], Floats]] = {
    "binary_log_loss": lambda p: entr(p) + entr(1 - p),
    "multinomial_log_loss": entr,
    "hinge": lambda p: 2 * np.minimum(p, 1 - p),
    "squared_hinge": lambda p: 4 * p * (1 - p),
    "modified_huber": lambda p: 4 * p * (1 - p),
    "perceptron": lambda p: np.full(p.shape, inf),
}
_AT_ZERO: Mapping[str, Callable[[int], float]] = {
    "binary_log_loss": lambda n_outputs: n_outputs * log(2),
    "multinomial_log_loss": log,
    "hinge": float,
    "squared_hinge": float,
    "modified_huber": float,
    "perceptron": lambda n_outputs: inf,
}

_MEDIAN = ("absolute_error", "epsilon_insensitive", "quantile")


def losses_of_constants(
    data: Data, shared: Shared, n_outputs: int
) -> tuple[Floats, Floats]:
    """Return the loss of the best constant, and that of predicting z = 0, (f,) each.

    They are what counts in the objective: means over all rows, times their weights.
    """
    targets = _targets_of_folds(data)
    of_folds = [_losses(shared, n_outputs, data.shard, *of_fold) for of_fold in targets]
    best, at_zero = np.array(of_folds).T
    return best, at_zero


# Of a fold: targets (o, n), weights (n,), and the scales of the targets (o,).
_Targets = tuple[Tensor, Tensor | None, Floats | None]


def _targets_of_folds(data: Data) -> Iterator[_Targets]:
    """Give the targets of each fold, one after the other, of the rows that count."""
    several: Sequence[Indices | None] = [None]
    if data.rows is not None:
        several = list(np.atleast_2d(data.rows))
    for fold, rows in enumerate(several):
        y = data.y[fold] if data.y.ndim == 3 else data.y
        weight = None
        if data.weight is not None:
            weight = data.weight[fold if len(data.weight) > 1 else 0]
        if rows is not None:
            count = None if data.counts is None else data.counts[fold]
            index = torch.from_numpy(rows[:count]).to(y.device)
            y = y.index_select(1, index)
            weight = None if weight is None else weight[index]
        yield y, weight, None if data.scales is None else data.scales[fold]


def _losses(
    shared: Shared,
    n_outputs: int,
    shard: Shard | None,
    y: Tensor,
    weight: Tensor | None,
    scales: Floats | None,
) -> tuple[float, float]:
    """Return both losses of a fold."""
    ranks = ALONE if shard is None else shard.ranks
    if shared.loss in _OF_SHARES:
        in_all, shares = _shares(y, weight, n_outputs, ranks)
        best = float(_OF_SHARES[shared.loss](shares).sum())
        return in_all * best, in_all * _AT_ZERO[shared.loss](n_outputs)
    n_rows = y.shape[1] if shard is None else shard.n_in_all
    centre = _centre(shared, *_some(y, weight, shard))
    constants = numbers_like(np.array([centre, np.zeros_like(centre)]), y)
    delta = delta_on_scales(shared.delta, scales, y)
    at_once = max(1, _NUMBERS_AT_ONCE // constants.numel())
    summed = [
        _summed(
            shared,
            y[:, start : start + at_once],
            None if weight is None else weight[start : start + at_once],
            constants.unsqueeze(2),
            delta,
        )
        for start in range(0, y.shape[1], at_once)
    ]
    best, at_zero = ranks.sum(np.sum(summed, axis=0)) / n_rows
    return best, at_zero


def _on_host(array: Tensor) -> Floats:
    """Return an array on the host, in float64."""
    values: Floats = array.cpu().numpy().astype(float)
    return values


def _shares(
    y: Tensor, weight: Tensor | None, n_outputs: int, ranks: Ranks
) -> tuple[float, Floats]:
    """Return the mean weight of the rows, and the share of the outputs in it, (o,)."""
    classes = _on_host(y)
    weights = np.ones(y.shape[1]) if weight is None else _on_host(weight)
    if len(classes) < n_outputs:
        [numbers] = classes.astype(np.int64)
        in_classes: Floats = np.bincount(numbers, weights, n_outputs).astype(float)
    else:
        in_classes = classes @ weights
    sums = np.append([len(weights), weights.sum()], in_classes)
    n_rows, total, *of_classes = ranks.sum(sums)
    return total / n_rows, np.clip(np.array(of_classes) / (total or 1.0), 0, 1)


def _some(
    y: Tensor, weight: Tensor | None, shard: Shard | None
) -> tuple[Floats, Floats | None]:
    """Return a part of very many rows, which is enough to find the best constant.

    Of rows that lie on several ranks, some of each partition.
    """
    if shard is None:
        stride = max(1, y.shape[1] // _ROWS_OF_A_CENTRE)
        targets = _on_host(y[:, ::stride])
        return targets, None if weight is None else _on_host(weight[::stride])
    rows, some = far_apart(shard, max(1, shard.n_in_all // _ROWS_OF_A_CENTRE))
    index = torch.from_numpy(rows).to(y.device)
    targets = in_order_of_partitions(some, _on_host(y[:, index]).T).T
    if weight is None:
        return targets, None
    return targets, in_order_of_partitions(some, _on_host(weight[index]))


def _centre(shared: Shared, targets: Floats, weights: Floats | None) -> Floats:
    """Return the best constant for some rows, before the inverse link, (o,)."""
    if weights is not None and not weights.any():
        return np.zeros(len(targets))
    if shared.loss in _MEDIAN:
        shares = shared.quantile if shared.loss == "quantile" else 0.5
        alike = np.ones(targets.shape[1]) if weights is None else weights
        of_outputs = zip(targets, np.broadcast_to(shares, len(targets)), strict=True)
        return np.array([_quantile(one, q, alike) for one, q in of_outputs])
    mean: Floats = np.average(targets, axis=1, weights=weights)
    if loss_named(shared.loss).log_link:
        return np.log(mean, where=mean > 0, out=np.zeros_like(mean))
    return mean


def _quantile(values: Floats, q: float, weights: Floats) -> float:
    """Return the value below which lies a share q of the weights."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    place = np.searchsorted(below, q * below[-1])
    return float(values[order[place]])


def _summed(
    shared: Shared,
    y: Tensor,
    weight: Tensor | None,
    constants: Tensor,
    delta: float | Tensor,
) -> list[float]:
    """Return the loss of constants (k, o, 1), summed over rows and outputs, (k,)."""
    z = constants.expand(-1, -1, y.shape[1]).contiguous()
    value, tape = torch.empty_like(z), Tape()
    LOSSES[shared.loss](delta, shared.quantile, shared.power).record(
        tape, z, y, value, torch.empty_like(z)
    )
    tape.replay()
    if weight is not None:
        value.mul_(weight)
    sums: list[float] = value.sum((1, 2)).tolist()
    return sums
