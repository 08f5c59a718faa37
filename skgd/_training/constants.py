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

from collections.abc import Callable, Mapping
from math import inf, log

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from skgd._equations.losses import LOSSES, loss_named
from skgd._equations.tape import Tape
from skgd._machine.arrays import Floats, Indices
from skgd._machine.devices import numbers_like
from skgd._training.batches import Data, all_rows
from skgd._training.hyperparameters import Shared
from skgd._training.target_scale import delta_on_scales

# Rows by which a constant is found, and numbers of a loss that are computed at once.
_ROWS_OF_A_CENTRE, _NUMBERS_AT_ONCE = 2**14, 2**16

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
    rows = np.atleast_2d(all_rows(data))
    counts = data.counts or [rows.shape[1]] * len(rows)
    of_folds = [
        _losses(data, shared, n_outputs, fold, some[:count])
        for fold, (some, count) in enumerate(zip(rows, counts, strict=True))
    ]
    best, at_zero = np.array(of_folds).T
    return best, at_zero


def _losses(
    data: Data, shared: Shared, n_outputs: int, fold: int, rows: Indices
) -> tuple[float, float]:
    """Return both losses of some rows of a fold."""
    y = data.y[fold] if data.y.ndim == 3 else data.y
    weight = None
    if data.weight is not None:
        weight = data.weight[fold if len(data.weight) > 1 else 0]
    if shared.loss in _OF_SHARES:
        in_all, shares = _shares(y, weight, n_outputs, rows)
        best = float(_OF_SHARES[shared.loss](shares).sum())
        return in_all * best, in_all * _AT_ZERO[shared.loss](n_outputs)
    scales = None if data.scales is None else data.scales[fold]
    delta = delta_on_scales(shared.delta, scales, y)
    centre = numbers_like(_centre(shared, y, weight, rows), y).unsqueeze(1)
    best, at_zero = np.sum(
        [
            _summed(shared, y, weight, few, (centre, torch.zeros_like(centre)), delta)
            for few in np.array_split(rows, 1 + rows.size * len(y) // _NUMBERS_AT_ONCE)
        ],
        axis=0,
    )
    return best / len(rows), at_zero / len(rows)


def _of_rows(array: Tensor, rows: Indices) -> Floats:
    """Return some columns on the host, in float64."""
    index = torch.from_numpy(rows).to(array.device)
    values: Floats = array.index_select(-1, index).cpu().numpy().astype(float)
    return values


def _shares(
    y: Tensor, weight: Tensor | None, n_outputs: int, rows: Indices
) -> tuple[float, Floats]:
    """Return the mean weight of the rows, and the share of the outputs in it, (o,)."""
    classes = _of_rows(y, rows)
    weights = np.ones(len(rows)) if weight is None else _of_rows(weight, rows)
    total = float(weights.sum()) or 1.0
    if len(classes) < n_outputs:
        [numbers] = classes.astype(np.int64)
        in_classes: Floats = np.bincount(numbers, weights, n_outputs).astype(float)
    else:
        in_classes = classes @ weights
    return float(weights.mean()), np.clip(in_classes / total, 0, 1)


def _centre(shared: Shared, y: Tensor, weight: Tensor | None, rows: Indices) -> Floats:
    """Return the best constant for some rows, before the inverse link, (o,).

    A part of very many rows is enough to find it.
    """
    some = rows[:: max(1, len(rows) // _ROWS_OF_A_CENTRE)]
    targets = _of_rows(y, some)
    weights = np.ones(len(some)) if weight is None else _of_rows(weight, some)
    if not weights.any():
        return np.zeros(len(targets))
    if shared.loss in _MEDIAN:
        q = shared.quantile if shared.loss == "quantile" else 0.5
        return np.array([_quantile(one, q, weights) for one in targets])
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
    rows: Indices,
    constants: tuple[Tensor, Tensor],
    delta: float | Tensor,
) -> list[float]:
    """Return the loss of every constant (o, 1), summed over some rows and outputs."""
    index = torch.from_numpy(rows).to(y.device)
    targets = y.index_select(1, index)
    value, dz = torch.empty_like(targets), torch.empty_like(targets)
    entry, sums = LOSSES[shared.loss](delta, shared.quantile), []
    for constant in constants:
        z = constant.expand_as(targets).contiguous()
        tape = Tape()
        entry.record(tape, z, targets, value, dz)
        tape.replay()
        if weight is not None:
            value.mul_(weight[index])
        sums.append(float(value.sum()))
    return sums
