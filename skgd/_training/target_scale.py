"""Targets on a scale of their own: what training sees of y, and what it comes to.

A step of an adaptive optimizer knows nothing of the scale of the targets, and neither
does a tolerance. So training sees, for each output,

    y' = (y - shift) / scale,

of mean 0 and standard deviation 1; or, for a loss of log link, of mean 1 with a shift
of 0. Its prediction z' stands for z = shift + scale z', or z = log(scale) + z'. So the
last layer's weights are w = factor w', with a factor of ``scale``, or 1.

Every loss is homogeneous in what is scaled: loss(y, z) = unit loss(y', z'), where

    unit = scale^2          squared_error, huber, squared_epsilon_insensitive
    unit = scale            absolute_error, epsilon_insensitive, quantile, poisson
    unit = scale^(2 - p)    tweedie, of power p
    unit = 1                gamma

if ``delta`` is measured in scales as well, delta' = delta / scale. (Poisson's is
scale (exp(z') - y' + y' log(y') - y' z'), for the terms in log(scale) cancel.) The
exponent of the scale is the loss's *degree*. What is minimised of a linear model,

    J  =  loss(y, z) + ridge / 2 |w|_2^2 + lasso |w|_1
       =  unit ( loss(y', z') + ridge' / 2 |w'|_2^2 + lasso' |w'|_1 ),

is therefore the documented objective with

    ridge' = ridge factor^2 / unit,    lasso' = lasso factor / unit,

for each output its own. The weights of a network are penalised as they are trained, for
no one scale is that of its hidden layers.

Plain descent on the squared error takes the same steps in w whatever the scale: by
lr' = lr, w' moves by lr dJ'/dw' = (lr / scale) dJ/dw.

Dimension key: o outputs, n samples, f folds of models, m models.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from skgd._equations.losses import Loss, loss_named
from skgd._equations.optimizers import PerModel
from skgd._machine.arrays import Array, Floats
from skgd._machine.devices import numbers_like
from skgd._machine.ranks import ALONE, Ranks

LastLayer = tuple[Array, Array]  # w (o, i) and bias (o,)


# A stream of targets that come one by one has a scale after so many.
_FEWEST_ROWS = 10


class TargetScale(NamedTuple):
    """How the targets of every output are moved and scaled for training.

    Outputs that are quantiles of one target share one scale: all is (1,), not (o,).
    """

    shift: Floats  # (o,)
    scale: Floats  # (o,)
    known: npt.NDArray[np.bool_]  # (o,), False until targets have differed
    seen: Floats  # (o, 3), before: how many, the sum of y - shift, that of its squares
    log_link: bool
    rest: Floats  # (o,), of the shift, below its last digit


def scale_of(
    targets: Floats,
    weight: Floats | None,
    *,
    log_link: bool,
    fit_intercept: bool,
    before: TargetScale | None = None,
    ranks: Ranks = ALONE,
) -> TargetScale:
    """Return the scale of targets (o, n), of rows of some weights (n,).

    What was known ``before`` stays. Targets that are all alike have no scale of their
    own: it is 1, and unknown, until some differ from each other, or ten of several
    calls have differed. Without an intercept nothing can be shifted, and nothing scaled
    by a log link. With ranks, the rows are those of all of them.
    """
    if weight is not None:
        targets, weight = targets[:, weight > 0], weight[weight > 0]
        lowest, highest = _range(weight, ranks)
        if lowest == highest:
            weight = None  # as alike as without any, to the last bit
    if before is None:
        before = _unknown(len(targets), log_link)
    n_rows = int(ranks.sum(np.array([targets.shape[1]])).item())
    if not n_rows or before.known.all():
        return before
    shift, scale, rest = before.shift.copy(), before.scale.copy(), before.rest.copy()
    known, seen = before.known.copy(), before.seen.copy()
    for o in np.flatnonzero(~known):
        y = targets[o]
        lowest, highest = _range(y, ranks)
        if log_link:
            mean = _mean(y, weight, ranks)
            known[o] = fit_intercept and mean > 0
            scale[o] = mean if known[o] else 1.0
        elif lowest < highest:
            shift[o] = _mean(y, weight, ranks) if fit_intercept else 0.0
            deviations = y - shift[o]
            scale[o], known[o] = _deviation(deviations, weight, ranks), True
            rest[o] = _mean(deviations, weight, ranks) if fit_intercept else 0.0
        else:
            if fit_intercept and not seen[o, 0]:
                shift[o] = lowest
            seen[o] += n_rows * (lowest - shift[o]) ** np.arange(3)
            n, total, squares = seen[o]
            mean = total / n if fit_intercept else 0.0
            variance = squares / n - mean**2
            if n >= _FEWEST_ROWS and 0 < variance < np.inf:
                shift[o], scale[o], known[o] = shift[o] + mean, np.sqrt(variance), True
    return TargetScale(shift, scale, known, seen, log_link, rest)


def _unknown(n_outputs: int, log_link: bool) -> TargetScale:
    """Return what is known before any target."""
    zeros, ones = np.zeros(n_outputs), np.ones(n_outputs)
    unknown, seen = np.zeros(n_outputs, bool), np.zeros((n_outputs, 3))
    return TargetScale(zeros, ones, unknown, seen, log_link, zeros.copy())


def is_same(scale: TargetScale, other: TargetScale) -> bool:
    """Return whether training sees targets alike on both."""
    pairs = zip(scale[:2], other[:2], strict=True)
    alike = all(np.array_equal(one, another) for one, another in pairs)
    return alike and scale.log_link == other.log_link


def _range(values: Floats, ranks: Ranks) -> tuple[float, float]:
    """Return the lowest and the highest of some values, of all ranks."""
    lowest, highest = values.min(initial=np.inf), values.max(initial=-np.inf)
    below, above = ranks.highest(np.array([-lowest, highest])).tolist()
    return -below, above


def _average(values: Floats, weight: Floats | None, ranks: Ranks) -> float:
    """Return the mean over the rows of all ranks."""
    if ranks is ALONE:
        return float(np.average(values, weights=weight))
    if weight is None:
        total, count = ranks.sum(np.array([values.sum(), len(values)]))
    else:
        total, count = ranks.sum(np.array([values @ weight, weight.sum()]))
    return float(total / count)


def _mean(y: Floats, weight: Floats | None, ranks: Ranks) -> float:
    """Return the mean, by way of shares of the largest: the sum might overflow."""
    lowest, highest = _range(y, ranks)
    if lowest == highest:
        return lowest
    largest = max(-lowest, highest)
    return _average(y / largest, weight, ranks) * largest


def _deviation(deviations: Floats, weight: Floats | None, ranks: Ranks) -> float:
    """Return the root of their mean square, likewise."""
    lowest, highest = _range(deviations, ranks)
    largest = max(-lowest, highest)
    squares = np.square(deviations / largest)
    return float(np.sqrt(_average(squares, weight, ranks))) * largest


def on_scale(targets: Floats, scale: TargetScale | None) -> Floats:
    """Return targets (o, n) as training sees them.

    Their mean is 0 to the last digit, however far away they are: a bias whose gradient
    is nothing but rounding is moved by Adam all the same.
    """
    if scale is None:
        return targets
    shifted: Floats = targets - scale.shift[:, np.newaxis]
    shifted -= scale.rest[:, np.newaxis]
    shifted /= scale.scale[:, np.newaxis]
    return shifted


def link_of(scale: TargetScale) -> tuple[Floats, Floats]:
    """Return the offset and factor (o,) of predictions, z = offset + factor z'."""
    if scale.log_link:
        return np.log(scale.scale), np.ones_like(scale.scale)
    return scale.shift, scale.scale


def layer_of_y(layer: LastLayer, scale: TargetScale) -> LastLayer:
    """Return a last layer in the units of y."""
    (w, bias), (offset, factor) = layer, link_of(scale)
    return (
        (w * factor[:, np.newaxis]).astype(w.dtype, copy=False),
        (offset + bias * factor).astype(bias.dtype, copy=False),
    )


def layer_on_scale(layer: LastLayer, scale: TargetScale) -> LastLayer:
    """Return a last layer that is in the units of y as training sees it."""
    (w, bias), (offset, factor) = layer, link_of(scale)
    return (
        (w / factor[:, np.newaxis]).astype(w.dtype, copy=False),
        ((bias - offset) / factor).astype(bias.dtype, copy=False),
    )


def prediction_of_y(z: Tensor, scale: TargetScale | None) -> Tensor:
    """Return predictions (m, o, n) of training in the units of y."""
    if scale is None:
        return z
    offset, factor = (numbers_like(part, z).unsqueeze(1) for part in link_of(scale))
    return torch.addcmul(offset, z, factor)


def units_of(scales: Floats, loss: Loss) -> Floats:
    """Return what the loss of each output is multiplied by to be in the units of y."""
    with np.errstate(over="ignore", under="ignore"):
        units: Floats = scales**loss.degree
    return units


def delta_on_scales(
    delta: float, scales: Floats | None, like: Tensor
) -> float | Tensor:
    """Return ``delta`` on scales (..., o), to be laid over predictions (..., o, b)."""
    if scales is None:
        return delta
    return numbers_like(delta / scales, like).unsqueeze(-1)


def on_scales(per_model: PerModel, scales: Floats, loss: Loss) -> PerModel:
    """Return hyperparameters of linear models on the scales of their targets, (m, o).

    Those of the penalty are (m, o) where they differ between the outputs of a model.
    """
    factor = np.ones_like(scales) if loss.log_link else scales
    with np.errstate(over="ignore", under="ignore"):
        ratio = scales ** ((0 if loss.log_link else 2) - loss.degree)  # factor^2 / unit
        alpha = per_model["alpha"][:, np.newaxis] * ratio
    lasso = per_model["l1_ratio"] * per_model["alpha"]
    if _alike(alpha) and (_alike(factor) or not lasso.any()):
        alpha, factor = alpha[:, 0], factor[:, 0]
    return {**per_model, "alpha": alpha, "factor": factor}


def weight_of_penalty(loss: str, scale: TargetScale, delta: float) -> float:
    """Return how many times as much L2 counts as with targets of deviation 1.

    Losses that grow like the error, and Huber's beyond ``delta``, grow with the scale,
    and the penalty of a linear model with its square.
    """
    if scale.log_link:
        return 1.0
    scales = scale.scale
    if loss == "huber":
        return float(np.maximum(1.0, scales / max(delta, 1.0)).max())
    return float((scales ** (2 - loss_named(loss).degree)).max())


def _alike(values: Floats) -> bool:
    """Return whether the outputs of each model have the same number, (m, o)."""
    return bool((values == values[:, :1]).all())


def by_output(per_model: PerModel) -> PerModel:
    """Return hyperparameters of which some are (m, o) as those of m * o models.

    The outputs of a linear model have no weights in common.
    """
    shape = per_model["alpha"].shape
    if len(shape) == 1:
        return per_model
    return {
        name: np.broadcast_to(
            values if values.ndim == 2 else values[:, np.newaxis], shape
        ).ravel()
        for name, values in per_model.items()
    }
