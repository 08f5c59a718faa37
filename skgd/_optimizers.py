"""Optimizers: how a gradient becomes a step, and the shrink steps of the penalties.

Everything here acts on flat vectors that hold all parameters of all models, weights
first (see ``_network.Network``), so a step is a few calls at any depth.

Hyperparameters may differ between models and change from step to step. ``numbers``
works them out on the host, in float64, for many steps at once; ``_training`` lays those
of one step over the flat vectors, or leaves them scalars where there is one model.

Penalties are shrink steps, not part of the gradient: at a large ``lr * alpha`` a
gradient step overshoots without bound, and only a shrink step gives exact zeros. The
minimum of the objective stays where a step leads nowhere only if weights shrink at the
*pace* at which the gradient moves them: what multiplies a gradient that has long been
constant. With pace p, gradient g of the loss, and penalty
``ridge / 2 |w|_2^2 + lasso |w|_1``, a step is

    w  <-  soft(w - p g, p lasso) / (1 + p ridge),

where soft(w, a) brings w nearer to zero by a, and at most to zero: the proximal step of
the elastic net. To divide by 1 + p ridge, and not to multiply by max(0, 1 - p ridge),
keeps the minimum in place where p ridge is above 1 as well, as it is for Adam at every
weight smaller than ``lr``.

For plain descent p is ``lr``. Momentum adds up a constant gradient to
1 / (1 - momentum) times itself. Adam has a pace for every parameter,
lr / (sqrt(second moment) + epsilon). That pace is huge where there has been no
gradient, at a unit that was off or a feature that was zero, and such a weight would be
gone in one step. At the minimum the gradient of the loss is as large as that of the
penalty, ridge |w| + lasso. So for the penalty the divisor is at least half of this: the
minimum stays where it is, and no penalty moves a weight by more than 2 lr a step.

(L2 by way of the gradient, as in torch's Adam, has the same minimum but no exact zeros.
AdamW shrinks all parameters at the pace ``lr``, and so has another minimum.)

References
----------
Momentum and Nesterov's: Sutskever et al. (2013), in the form of torch.optim.SGD.
Adam: Kingma and Ba (2015), algorithm 1.
The proximal step of the elastic net: Parikh and Boyd (2014), section 6.5.3; at an
adaptive pace: Yun, Lozano and Yang (2021), algorithm 1.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from skgd._contraction import Call

Floats = npt.NDArray[np.float64]
PerModel = Mapping[str, Floats]  # hyperparameters, each of shape (m,)
Numbers = dict[str, Floats]  # (steps, m), or (1, m) if all steps are alike


class Vectors(NamedTuple):
    """The flat vectors of a step: all parameters of all models."""

    parameters: Tensor
    weights: Tensor  # the part of the parameters that a penalty sees, a view
    gradient: Tensor
    kept: Mapping[str, Tensor]  # what the optimizer carries from step to step


class Optimizer(NamedTuple):
    """How a gradient becomes a step."""

    keeps: tuple[str, ...]
    numbers: Callable[[PerModel, npt.NDArray[np.int64]], Numbers]  # of steps t, from 1
    calls: Callable[[Vectors, Mapping[str, Tensor]], list[Call]]  # given the numbers


def elastic_net(per_model: PerModel) -> tuple[Floats, Floats]:
    """Return the strengths of the penalty's two parts, L2 and L1, each (m,)."""
    alpha, l1_ratio = per_model["alpha"], per_model["l1_ratio"]
    return alpha * (1 - l1_ratio), alpha * l1_ratio


def _over_weights(number: Tensor, n_weights: int) -> Tensor:
    """Return the part of a number's flat vector that lies over the weights."""
    return number if number.numel() == 1 else number[:n_weights]


def _soft_threshold(w: Tensor, threshold: Tensor) -> list[Call]:
    """Bring the weights nearer to zero by the threshold, to zero itself at the most."""
    lower, cut = torch.empty_like(threshold), torch.empty_like(w)
    return [
        partial(torch.neg, threshold, out=lower),
        partial(torch.clamp, w, lower, threshold, out=cut),
        partial(w.sub_, cut),
    ]


def _sgd_numbers(per_model: PerModel, steps: npt.NDArray[np.int64]) -> Numbers:
    lr, momentum = per_model["lr"], per_model["momentum"]
    pace = lr / (1 - momentum)
    ridge, lasso = elastic_net(per_model)
    numbers = {"lr": lr, "momentum": momentum}
    if ridge.any():
        numbers["shrink"] = 1 / (1 + pace * ridge)
    if lasso.any():
        numbers["threshold"] = pace * lasso
    return {name: number[np.newaxis] for name, number in numbers.items()}


def _descend(
    vectors: Vectors, move: Tensor, number: Mapping[str, Tensor]
) -> list[Call]:
    """Return the calls of: subtract lr * move, soft-threshold and shrink weights."""
    parameters, w = vectors.parameters, vectors.weights
    calls: list[Call] = [partial(parameters.addcmul_, move, number["lr"], value=-1)]
    if "threshold" in number:
        calls += _soft_threshold(w, _over_weights(number["threshold"], len(w)))
    if "shrink" in number:
        calls.append(partial(w.mul_, _over_weights(number["shrink"], len(w))))
    return calls


def _plain(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    return _descend(vectors, vectors.gradient, number)


def _momentum(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    velocity, gradient = vectors.kept["velocity"], vectors.gradient
    return [
        # velocity = momentum velocity + g
        partial(velocity.mul_, number["momentum"]),
        partial(velocity.add_, gradient),
        *_descend(vectors, velocity, number),
    ]


def _nesterov(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    velocity, gradient = vectors.kept["velocity"], vectors.gradient
    return [
        # velocity = momentum velocity + g
        partial(velocity.mul_, number["momentum"]),
        partial(velocity.add_, gradient),
        # look ahead: g + momentum velocity
        partial(gradient.addcmul_, velocity, number["momentum"]),
        *_descend(vectors, gradient, number),
    ]


def _adam_numbers(per_model: PerModel, steps: npt.NDArray[np.int64]) -> Numbers:
    t = steps[:, np.newaxis]
    beta_1, beta_2 = per_model["beta_1"], per_model["beta_2"]
    # The corrections of both moments for their start at zero, as two numbers instead
    # of two vectors: the order of computation at the end of section 2 of the paper.
    correction = np.sqrt(1 - beta_2**t)
    numbers = {
        "lr": per_model["lr"] * correction / (1 - beta_1**t),
        "epsilon": per_model["epsilon"] * correction,
        "new_1": np.broadcast_to(1 - beta_1, correction.shape),
        "new_2": np.broadcast_to(1 - beta_2, correction.shape),
    }
    if per_model["alpha"].any():
        ridge, lasso = elastic_net(per_model)
        numbers["ridge"] = np.broadcast_to(ridge, correction.shape)
        numbers["lasso"] = np.broadcast_to(lasso, correction.shape)
        numbers["penalty_lr"] = per_model["lr"] * correction
        numbers["half_ridge"] = ridge / 2 * correction
        numbers["half_lasso"] = lasso / 2 * correction
    return numbers


def _adam(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    parameters, w, gradient, kept = vectors
    moment_1, moment_2 = kept["moment_1"], kept["moment_2"]
    root, pace = torch.empty_like(parameters), torch.empty_like(parameters)
    calls: list[Call] = [
        # moment_1 = beta_1 moment_1 + (1 - beta_1) g
        partial(moment_1.lerp_, gradient, number["new_1"]),
        # moment_2 = beta_2 moment_2 + (1 - beta_2) g^2
        partial(torch.mul, gradient, gradient, out=pace),
        partial(moment_2.lerp_, pace, number["new_2"]),
        # pace = lr / (sqrt(moment_2) + epsilon)
        partial(torch.sqrt, moment_2, out=root),
        partial(root.add_, number["epsilon"]),
        partial(torch.div, number["lr"], root, out=pace),
    ]
    if "ridge" not in number:
        return [*calls, partial(parameters.addcmul_, moment_1, pace, value=-1)]

    names = "penalty_lr", "ridge", "lasso", "half_ridge", "half_lasso"
    lr, ridge, lasso, half_ridge, half_lasso = (
        _over_weights(number[name], len(w)) for name in names
    )
    size, slow, some = (torch.empty_like(w) for _ in range(3))
    return [
        *calls,
        # slow = lr / max(root, (ridge |w| + lasso) / 2), the penalty's pace
        partial(torch.abs, w, out=size),
        partial(torch.addcmul, half_lasso, size, half_ridge, out=size),
        partial(torch.maximum, root[: len(w)], size, out=size),
        partial(torch.div, lr, size, out=slow),
        partial(parameters.addcmul_, moment_1, pace, value=-1),
        partial(torch.mul, slow, lasso, out=some),
        *_soft_threshold(w, some),
        partial(torch.addcmul, w.new_ones(1), slow, ridge, out=some),
        partial(w.div_, some),
    ]


OPTIMIZERS = {
    "sgd": Optimizer((), _sgd_numbers, _plain),
    "momentum": Optimizer(("velocity",), _sgd_numbers, _momentum),
    "nesterov": Optimizer(("velocity",), _sgd_numbers, _nesterov),
    "adam": Optimizer(("moment_1", "moment_2"), _adam_numbers, _adam),
}


def variant(optimizer: str, nesterov: bool, per_model: PerModel) -> str:
    """Return the entry of the table that the parameters of an estimator ask for.

    Models that keep no velocity do without the vector for it, unless they are trained
    beside models that have one: with momentum 0 both are the same step.
    """
    if optimizer == "sgd" and per_model["momentum"].any():
        return "nesterov" if nesterov else "momentum"
    return optimizer
