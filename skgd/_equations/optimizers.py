"""Optimizers: how a gradient becomes a step, and the shrink steps of the penalties.

Everything here acts on flat vectors that hold all parameters of all models, weights
first (see ``network.Network``), so a step is a few calls at any depth.

Hyperparameters may differ between models and change from step to step. ``numbers``
works them out on the host, in float64, for many steps at once, from the learning rates
of ``schedules``; ``steps`` lays those of one step over the flat vectors, or leaves
them scalars where there is one model. Where nothing changes they have a single row, and
are laid once for all steps.

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
1 / (1 - momentum) times itself. Adagrad, RMSprop and Adam have a pace for every
parameter, lr / (root + epsilon), where the root is that of the sum or of a mean of its
squared gradients. That pace is huge where there has been no gradient, at a unit that
was off or a feature that was zero, and such a weight would be gone in one step. At the
minimum the gradient of the loss is as large as that of the penalty, ridge |w| + lasso.
So for the penalty the divisor is at least half of this: the minimum stays where it is,
and no penalty moves a weight by more than 2 lr a step. (RMSprop's mean of squares
starts at zero and is not corrected for it, so its first steps are longer, and so must
be those of the penalty: what its mean has seen of a constant gradient is halved. L2 by
way of the gradient, as in torch.optim, has the same minimum but no exact zeros.)

AdamW is the exception: it is here as it is known, with L1 beside it. It shrinks all
weights at the pace ``lr``, whatever the pace of their gradients,

    w  <-  soft(max(0, 1 - lr ridge) w - step of Adam, lr lasso),

and so comes to rest elsewhere than at the minimum of the objective.

References
----------
Momentum and Nesterov's: Sutskever et al. (2013), in the form of torch.optim.SGD.
Adagrad: Duchi, Hazan and Singer (2011), the diagonal case of figure 1.
RMSprop: Tieleman and Hinton (2012), lecture 6.5 of their course on neural networks.
Adam: Kingma and Ba (2015), algorithm 1.
AdamW: Loshchilov and Hutter (2019), algorithm 2.
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

from skgd._equations.contraction import Call

Floats = npt.NDArray[np.float64]
PerModel = Mapping[str, Floats]  # hyperparameters, each of shape (m,); or, of linear
# models with penalties of their own for each output, (m * o,)
Steps = npt.NDArray[np.int64]  # the numbers t of some steps, from 1
Numbers = dict[str, Floats]  # (steps, m), or (1, m) if all steps are alike


class Vectors(NamedTuple):
    """The flat vectors of a step: all parameters of all models."""

    parameters: Tensor
    weights: Tensor  # the part of the parameters that a penalty sees, a view
    gradient: Tensor
    state: Mapping[str, Tensor]  # what the optimizer carries from step to step


class Optimizer(NamedTuple):
    """How a gradient becomes a step."""

    reads: tuple[str, ...]  # the hyperparameters, but for those of the penalty
    state_names: tuple[str, ...]
    numbers: Callable[[PerModel, Floats, Steps], Numbers]  # given the learning rates
    calls: Callable[[Vectors, Mapping[str, Tensor]], list[Call]]  # given the numbers


def elastic_net(per_model: PerModel) -> tuple[Floats, Floats]:
    """Return the strengths of the penalty's two parts, L2 and L1, each (m,).

    ``factor`` is what a weight is multiplied by to be in the units of y, if not 1, and
    ``alpha`` is then that of L2: see ``target_scale``.
    """
    alpha, l1_ratio = per_model["alpha"], per_model["l1_ratio"]
    lasso = alpha * l1_ratio
    if "factor" in per_model:
        lasso = lasso / per_model["factor"]
    return alpha * (1 - l1_ratio), lasso


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


def _in_rows(numbers: Mapping[str, Floats]) -> Numbers:
    """Return numbers of as many rows: one for each step, or one if all are alike."""
    zeros = np.zeros(np.broadcast_shapes(*(row.shape for row in numbers.values())))
    return {name: row + zeros for name, row in numbers.items()}


def _sgd_numbers(per_model: PerModel, lr: Floats, steps: Steps) -> Numbers:
    momentum = per_model["momentum"]
    pace = lr / (1 - momentum)
    ridge, lasso = elastic_net(per_model)
    numbers = {"lr": lr, "momentum": momentum}
    if ridge.any():
        numbers["shrink"] = 1 / (1 + pace * ridge)
    if lasso.any():
        numbers["threshold"] = pace * lasso
    return _in_rows(numbers)


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
    velocity, gradient = vectors.state["velocity"], vectors.gradient
    return [
        # velocity = momentum velocity + g
        partial(velocity.mul_, number["momentum"]),
        partial(velocity.add_, gradient),
        *_descend(vectors, velocity, number),
    ]


def _nesterov(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    velocity, gradient = vectors.state["velocity"], vectors.gradient
    return [
        # velocity = momentum velocity + g
        partial(velocity.mul_, number["momentum"]),
        partial(velocity.add_, gradient),
        # look ahead: g + momentum velocity
        partial(gradient.addcmul_, velocity, number["momentum"]),
        *_descend(vectors, gradient, number),
    ]


def _penalty_numbers(per_model: PerModel, lr: Floats, seen: Floats | float) -> Numbers:
    """Return what a penalty at adaptive paces needs.

    A constant gradient g has brought the root to ``seen * g``, or further.
    """
    if not per_model["alpha"].any():
        return {}
    ridge, lasso = elastic_net(per_model)
    numbers = {"lr_ridge": lr * ridge, "half_ridge": ridge / 2 * seen}
    if lasso.any():
        numbers |= {"lr_lasso": lr * lasso, "half_lasso": lasso / 2 * seen}
    return numbers


def _descend_adaptively(
    vectors: Vectors, move: Tensor, root: Tensor, number: Mapping[str, Tensor]
) -> list[Call]:
    """Return the calls of: subtract pace * move, and take the penalty at that pace."""
    parameters, w = vectors.parameters, vectors.weights
    pace = torch.empty_like(parameters)
    calls: list[Call] = [
        # pace = lr / (root + epsilon)
        partial(root.add_, number["epsilon"]),
        partial(torch.div, number["lr"], root, out=pace),
    ]
    if "lr_ridge" not in number:
        return [*calls, partial(parameters.addcmul_, move, pace, value=-1)]

    over_weights = {name: _over_weights(each, len(w)) for name, each in number.items()}
    half_ridge, lr_ridge = over_weights["half_ridge"], over_weights["lr_ridge"]
    size, some = torch.empty_like(w), torch.empty_like(w)
    # size = max(root + epsilon, (ridge |w| + lasso) / 2), and the penalty's pace
    # is lr / size
    calls += [partial(torch.abs, w, out=size), partial(size.mul_, half_ridge)]
    if "half_lasso" in number:
        calls.append(partial(size.add_, over_weights["half_lasso"]))
    calls.append(partial(torch.maximum, root[: len(w)], size, out=size))
    calls.append(partial(parameters.addcmul_, move, pace, value=-1))
    if "lr_lasso" in number:
        calls.append(partial(torch.div, over_weights["lr_lasso"], size, out=some))
        calls += _soft_threshold(w, some)
    return [
        *calls,
        # w = w / (1 + pace ridge)
        partial(torch.div, lr_ridge, size, out=some),
        partial(some.add_, w.new_ones(1)),
        partial(w.div_, some),
    ]


def _adagrad_numbers(per_model: PerModel, lr: Floats, steps: Steps) -> Numbers:
    numbers = {"lr": lr, "epsilon": per_model["epsilon"]}
    return _in_rows({**numbers, **_penalty_numbers(per_model, lr, 1.0)})


def _adagrad(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    gradient, total = vectors.gradient, vectors.state["sum_of_squares"]
    root = torch.empty_like(total)
    return [
        # sum_of_squares = sum_of_squares + g^2
        partial(total.addcmul_, gradient, gradient),
        # w = w - lr g / (sqrt(sum_of_squares) + epsilon)
        partial(torch.sqrt, total, out=root),
        *_descend_adaptively(vectors, gradient, root, number),
    ]


def _second_moment(
    gradient: Tensor, moment_2: Tensor, root: Tensor, number: Mapping[str, Tensor]
) -> list[Call]:
    """Return the calls of: the mean of squares takes in the gradient, and its root."""
    return [
        # moment_2 = beta_2 moment_2 + (1 - beta_2) g^2
        partial(torch.mul, gradient, gradient, out=root),
        partial(moment_2.lerp_, root, number["new_2"]),
        partial(torch.sqrt, moment_2, out=root),
    ]


def _rmsprop_numbers(per_model: PerModel, lr: Floats, steps: Steps) -> Numbers:
    numbers = {
        "lr": lr,
        "epsilon": per_model["epsilon"],
        "new_2": 1 - per_model["beta_2"],
    }
    seen = np.sqrt(1 - per_model["beta_2"] ** steps[:, np.newaxis])
    return _in_rows({**numbers, **_penalty_numbers(per_model, lr, seen)})


def _rmsprop(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    gradient, moment_2 = vectors.gradient, vectors.state["moment_2"]
    root = torch.empty_like(moment_2)
    return [
        *_second_moment(gradient, moment_2, root, number),
        # w = w - lr g / (sqrt(moment_2) + epsilon)
        *_descend_adaptively(vectors, gradient, root, number),
    ]


def _moments_numbers(
    per_model: PerModel, lr: Floats, steps: Steps
) -> tuple[Numbers, Floats]:
    """Return the numbers of Adam without a penalty, and the correction of its root."""
    t = steps[:, np.newaxis].astype(float)  # a power that does not depend on the shape
    beta_1, beta_2 = per_model["beta_1"], per_model["beta_2"]
    # The corrections of both moments for their start at zero, as two numbers instead
    # of two vectors: the order of computation at the end of section 2 of the paper.
    correction = np.sqrt(1 - beta_2**t)
    numbers = {
        "lr": lr * correction / (1 - beta_1**t),
        "epsilon": per_model["epsilon"] * correction,
        "new_1": 1 - beta_1,
        "new_2": 1 - beta_2,
    }
    return numbers, correction


def _adam_numbers(per_model: PerModel, lr: Floats, steps: Steps) -> Numbers:
    numbers, correction = _moments_numbers(per_model, lr, steps)
    penalty = _penalty_numbers(per_model, lr * correction, correction)
    return _in_rows({**numbers, **penalty})


def _adam(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    gradient = vectors.gradient
    moment_1, moment_2 = vectors.state["moment_1"], vectors.state["moment_2"]
    root = torch.empty_like(moment_2)
    return [
        # moment_1 = beta_1 moment_1 + (1 - beta_1) g
        partial(moment_1.lerp_, gradient, number["new_1"]),
        *_second_moment(gradient, moment_2, root, number),
        # w = w - lr moment_1 / (sqrt(moment_2) + epsilon)
        *_descend_adaptively(vectors, moment_1, root, number),
    ]


def _adamw_numbers(per_model: PerModel, lr: Floats, steps: Steps) -> Numbers:
    numbers, _ = _moments_numbers(per_model, lr, steps)
    ridge, lasso = elastic_net(per_model)
    if ridge.any():
        numbers["decay"] = np.maximum(0, 1 - lr * ridge)
    if lasso.any():
        numbers["threshold"] = lr * lasso
    return _in_rows(numbers)


def _adamw(vectors: Vectors, number: Mapping[str, Tensor]) -> list[Call]:
    w, calls = vectors.weights, _adam(vectors, number)
    if "decay" in number:
        calls = [partial(w.mul_, _over_weights(number["decay"], len(w))), *calls]
    if "threshold" in number:
        calls += _soft_threshold(w, _over_weights(number["threshold"], len(w)))
    return calls


_SGD, _ADAM = ("lr", "momentum"), ("lr", "beta_1", "beta_2", "epsilon")
_RMSPROP, _ADAGRAD = ("lr", "beta_2", "epsilon"), ("lr", "epsilon")
_MOMENTS = ("moment_1", "moment_2")

OPTIMIZERS = {
    "sgd": Optimizer(_SGD, (), _sgd_numbers, _plain),
    "momentum": Optimizer(_SGD, ("velocity",), _sgd_numbers, _momentum),
    "nesterov": Optimizer(_SGD, ("velocity",), _sgd_numbers, _nesterov),
    "adagrad": Optimizer(_ADAGRAD, ("sum_of_squares",), _adagrad_numbers, _adagrad),
    "rmsprop": Optimizer(_RMSPROP, ("moment_2",), _rmsprop_numbers, _rmsprop),
    "adam": Optimizer(_ADAM, _MOMENTS, _adam_numbers, _adam),
    "adamw": Optimizer(_ADAM, _MOMENTS, _adamw_numbers, _adamw),
}


def variant(optimizer: str, nesterov: bool, per_model: PerModel) -> str:
    """Return the entry of the table that the parameters of an estimator ask for.

    Models that keep no velocity do without the vector for it, unless they are trained
    beside models that have one: with momentum 0 both are the same step.
    """
    if optimizer == "sgd" and per_model["momentum"].any():
        return "nesterov" if nesterov else "momentum"
    return optimizer
