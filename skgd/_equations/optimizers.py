"""Optimizers: how a gradient becomes a step, and the shrink steps of the penalties.

Everything here acts on flat vectors that hold all parameters of all models, weights
first (see ``network.Network``), so a step is a few calls at any depth.

Hyperparameters may differ between models and change from step to step. ``scalars``
works out what the steps read, on the host, in float64, for many steps at once, from the
learning rates of ``schedules``. Those of one step are *laid* over the flat vectors, or
left scalars where there is one model, and ``record`` reads them there. Where nothing
changes they have a single row, and are laid once for all steps.

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
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._equations.schedules import Steps
from skgd._equations.tape import Tape
from skgd._machine.arrays import Floats

# Hyperparameters, each of shape (m,); or, of linear models with penalties of their own
# for each output, (m * o,).
PerModel = Mapping[str, Floats]
ScalarsOfSteps = dict[str, Floats]  # each (steps, m), or (1, m) if all steps are alike
Laid = Mapping[str, Tensor]  # those of one step, over the flat vector or (1,)


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
    scalars: Callable[[PerModel, Floats, Steps], ScalarsOfSteps]  # given the rates
    record: Callable[[Tape, Vectors, Laid], None]


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


def _in_rows(scalars: Mapping[str, Floats]) -> ScalarsOfSteps:
    """Return scalars of as many rows: one for each step, or one if all are alike."""
    zeros = np.zeros(np.broadcast_shapes(*(rows.shape for rows in scalars.values())))
    return {name: rows + zeros for name, rows in scalars.items()}


def _over_weights(scalar: Tensor, w: Tensor) -> Tensor:
    """Return the part of a laid scalar that lies over the weights."""
    return scalar if scalar.numel() == 1 else scalar[: len(w)]


def _soft_threshold(tape: Tape, w: Tensor, threshold: Tensor) -> None:
    """Bring the weights nearer to zero by the threshold, to zero itself at the most."""
    lower = tape(torch.neg, threshold, out=torch.empty_like(threshold))
    cut = tape(torch.clamp, w, lower, threshold, out=torch.empty_like(w))
    tape(w.sub_, cut)


def _sgd_scalars(per_model: PerModel, lr: Floats, steps: Steps) -> ScalarsOfSteps:
    momentum = per_model["momentum"]
    pace = lr / (1 - momentum)
    ridge, lasso = elastic_net(per_model)
    scalars = {"lr": lr, "momentum": momentum}
    if ridge.any():
        scalars["shrink"] = 1 / (1 + pace * ridge)
    if lasso.any():
        scalars["threshold"] = pace * lasso
    return _in_rows(scalars)


def _descend(tape: Tape, vectors: Vectors, move: Tensor, laid: Laid) -> None:
    """w <- shrink soft(w - lr move, threshold)."""
    parameters, w = vectors.parameters, vectors.weights
    tape(parameters.addcmul_, move, laid["lr"], value=-1)
    if "threshold" in laid:
        _soft_threshold(tape, w, _over_weights(laid["threshold"], w))
    if "shrink" in laid:
        tape(w.mul_, _over_weights(laid["shrink"], w))


def _plain(tape: Tape, vectors: Vectors, laid: Laid) -> None:
    """w <- w - lr g."""
    _descend(tape, vectors, vectors.gradient, laid)


def _velocity(tape: Tape, vectors: Vectors, laid: Laid) -> Tensor:
    """velocity <- momentum velocity + g."""
    velocity = vectors.state["velocity"]
    tape(velocity.mul_, laid["momentum"])
    return tape(velocity.add_, vectors.gradient)


def _momentum(tape: Tape, vectors: Vectors, laid: Laid) -> None:
    """w <- w - lr velocity."""
    velocity = _velocity(tape, vectors, laid)
    _descend(tape, vectors, velocity, laid)


def _nesterov(tape: Tape, vectors: Vectors, laid: Laid) -> None:
    """w <- w - lr (g + momentum velocity), which looks a step ahead."""
    velocity = _velocity(tape, vectors, laid)
    ahead = tape(vectors.gradient.addcmul_, velocity, laid["momentum"])
    _descend(tape, vectors, ahead, laid)


def _penalty_scalars(
    per_model: PerModel, lr: Floats, seen: Floats | float
) -> ScalarsOfSteps:
    """Return what a penalty at adaptive paces needs.

    A constant gradient g has brought the root to ``seen * g``, or further.
    """
    if not per_model["alpha"].any():
        return {}
    ridge, lasso = elastic_net(per_model)
    scalars = {"lr_ridge": lr * ridge, "half_ridge": ridge / 2 * seen}
    if lasso.any():
        scalars |= {"lr_lasso": lr * lasso, "half_lasso": lasso / 2 * seen}
    return scalars


def _descend_adaptively(
    tape: Tape, vectors: Vectors, move: Tensor, root: Tensor, laid: Laid
) -> None:
    """w <- soft(w - pace move, p lasso) / (1 + p ridge), p the pace of the penalty.

    Both paces are lr over a divisor: root + epsilon, and for the penalty at least
    (ridge |w| + lasso) / 2.
    """
    parameters, w = vectors.parameters, vectors.weights
    divisor = tape(root.add_, laid["epsilon"])
    pace = tape(torch.div, laid["lr"], divisor, out=torch.empty_like(parameters))
    if "lr_ridge" not in laid:
        tape(parameters.addcmul_, move, pace, value=-1)
        return

    over_w = {name: _over_weights(scalar, w) for name, scalar in laid.items()}
    least, some = torch.empty_like(w), torch.empty_like(w)
    size = tape(torch.abs, w, out=least)
    least = tape(size.mul_, over_w["half_ridge"])
    if "half_lasso" in laid:
        least = tape(least.add_, over_w["half_lasso"])
    divisor_w = tape(torch.maximum, divisor[: len(w)], least, out=least)
    tape(parameters.addcmul_, move, pace, value=-1)
    if "lr_lasso" in laid:
        p_lasso = tape(torch.div, over_w["lr_lasso"], divisor_w, out=some)
        _soft_threshold(tape, w, p_lasso)
    p_ridge = tape(torch.div, over_w["lr_ridge"], divisor_w, out=some)
    growth = tape(p_ridge.add_, w.new_ones(1))  # 1 + p ridge
    tape(w.div_, growth)


def _adagrad_scalars(per_model: PerModel, lr: Floats, steps: Steps) -> ScalarsOfSteps:
    scalars = {"lr": lr, "epsilon": per_model["epsilon"]}
    return _in_rows({**scalars, **_penalty_scalars(per_model, lr, 1.0)})


def _adagrad(tape: Tape, vectors: Vectors, laid: Laid) -> None:
    """sum_of_squares <- sum_of_squares + g^2; w <- w - lr g / (its root + epsilon)."""
    g, sum_of_squares = vectors.gradient, vectors.state["sum_of_squares"]
    root = torch.empty_like(sum_of_squares)
    tape(sum_of_squares.addcmul_, g, g)
    tape(torch.sqrt, sum_of_squares, out=root)
    _descend_adaptively(tape, vectors, g, root, laid)


def _root_of_moment_2(tape: Tape, vectors: Vectors, laid: Laid) -> Tensor:
    """moment_2 <- beta_2 moment_2 + (1 - beta_2) g^2; gives back its root."""
    g, moment_2 = vectors.gradient, vectors.state["moment_2"]
    root = torch.empty_like(moment_2)
    square = tape(torch.mul, g, g, out=root)
    tape(moment_2.lerp_, square, laid["new_2"])
    return tape(torch.sqrt, moment_2, out=root)


def _rmsprop_scalars(per_model: PerModel, lr: Floats, steps: Steps) -> ScalarsOfSteps:
    scalars = {
        "lr": lr,
        "epsilon": per_model["epsilon"],
        "new_2": 1 - per_model["beta_2"],
    }
    seen = np.sqrt(1 - per_model["beta_2"] ** steps[:, np.newaxis])
    return _in_rows({**scalars, **_penalty_scalars(per_model, lr, seen)})


def _rmsprop(tape: Tape, vectors: Vectors, laid: Laid) -> None:
    """w <- w - lr g / (sqrt(moment_2) + epsilon)."""
    root = _root_of_moment_2(tape, vectors, laid)
    _descend_adaptively(tape, vectors, vectors.gradient, root, laid)


def _moments_scalars(
    per_model: PerModel, lr: Floats, steps: Steps
) -> tuple[ScalarsOfSteps, Floats]:
    """Return the scalars of Adam without a penalty, and the correction of its root."""
    t = steps[:, np.newaxis].astype(float)  # a power that does not depend on the shape
    beta_1, beta_2 = per_model["beta_1"], per_model["beta_2"]
    # The corrections of both moments for their start at zero, as two numbers instead
    # of two vectors: the order of computation at the end of section 2 of the paper.
    correction = np.sqrt(1 - beta_2**t)
    scalars = {
        "lr": lr * correction / (1 - beta_1**t),
        "epsilon": per_model["epsilon"] * correction,
        "new_1": 1 - beta_1,
        "new_2": 1 - beta_2,
    }
    return scalars, correction


def _adam_scalars(per_model: PerModel, lr: Floats, steps: Steps) -> ScalarsOfSteps:
    scalars, correction = _moments_scalars(per_model, lr, steps)
    penalty = _penalty_scalars(per_model, lr * correction, correction)
    return _in_rows({**scalars, **penalty})


def _adam(tape: Tape, vectors: Vectors, laid: Laid) -> None:
    """moment_1 <- beta_1 moment_1 + (1 - beta_1) g, and likewise moment_2 of g^2.

    w <- w - lr moment_1 / (sqrt(moment_2) + epsilon).
    """
    moment_1 = vectors.state["moment_1"]
    tape(moment_1.lerp_, vectors.gradient, laid["new_1"])
    root = _root_of_moment_2(tape, vectors, laid)
    _descend_adaptively(tape, vectors, moment_1, root, laid)


def _adamw_scalars(per_model: PerModel, lr: Floats, steps: Steps) -> ScalarsOfSteps:
    scalars, _ = _moments_scalars(per_model, lr, steps)
    ridge, lasso = elastic_net(per_model)
    if ridge.any():
        scalars["decay"] = np.maximum(0, 1 - lr * ridge)
    if lasso.any():
        scalars["threshold"] = lr * lasso
    return _in_rows(scalars)


def _adamw(tape: Tape, vectors: Vectors, laid: Laid) -> None:
    """w <- soft(decay w - step of Adam, threshold)."""
    w = vectors.weights
    if "decay" in laid:
        tape(w.mul_, _over_weights(laid["decay"], w))
    _adam(tape, vectors, laid)
    if "threshold" in laid:
        _soft_threshold(tape, w, _over_weights(laid["threshold"], w))


_SGD, _ADAM = ("lr", "momentum"), ("lr", "beta_1", "beta_2", "epsilon")
_RMSPROP, _ADAGRAD = ("lr", "beta_2", "epsilon"), ("lr", "epsilon")
_MOMENTS = ("moment_1", "moment_2")

OPTIMIZERS = {
    "sgd": Optimizer(_SGD, (), _sgd_scalars, _plain),
    "momentum": Optimizer(_SGD, ("velocity",), _sgd_scalars, _momentum),
    "nesterov": Optimizer(_SGD, ("velocity",), _sgd_scalars, _nesterov),
    "adagrad": Optimizer(_ADAGRAD, ("sum_of_squares",), _adagrad_scalars, _adagrad),
    "rmsprop": Optimizer(_RMSPROP, ("moment_2",), _rmsprop_scalars, _rmsprop),
    "adam": Optimizer(_ADAM, _MOMENTS, _adam_scalars, _adam),
    "adamw": Optimizer(_ADAM, _MOMENTS, _adamw_scalars, _adamw),
}

# Of what they carry, the sums or means of squares: gradients of the other sign make the
# same ones.
OF_SQUARES = ("sum_of_squares", "moment_2")

# What "sgd" is with momentum: entries that an estimator asks for by its parameters.
VARIANTS_OF_SGD = ("momentum", "nesterov")


def variant(optimizer: str, nesterov: bool, per_model: PerModel) -> str:
    """Return the entry of the table that the parameters of an estimator ask for.

    Models that keep no velocity do without the vector for it, unless they are trained
    beside models that have one: with momentum 0 both are the same step.
    """
    if optimizer == "sgd" and per_model["momentum"].any():
        return "nesterov" if nesterov else "momentum"
    return optimizer
