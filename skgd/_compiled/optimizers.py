"""Optimizers: how a gradient becomes a step, and the shrink steps, for one weight.

As ``_equations.optimizers``, where the scalars come from: ``step(w, g, ..., c)`` is the
weight after a step, with the state after it if there is one; ``c`` are the scalars of
the step. A bias is a weight without a penalty, and so is its row of scalars.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from skgd._compiled.arithmetic import clamp, lerp, num, where
from skgd._compiled.jit import exact, fast


class Scalars(NamedTuple):
    """What a step reads; what an optimizer has not is such that it does nothing."""

    lr: float
    momentum: float
    epsilon: float
    new_1: float
    new_2: float
    shrink: float
    threshold: float
    lr_ridge: float
    half_ridge: float
    lr_lasso: float
    half_lasso: float
    decay: float
    share: float  # of the step's weights in their average


COLUMNS = Scalars._fields
NEUTRAL = [1.0 if name in ("shrink", "decay") else 0.0 for name in COLUMNS]


@fast
def scalars_at(c: Any) -> Scalars:
    """Return a row of the table."""
    return Scalars(
        *(c[0], c[1], c[2], c[3], c[4], c[5], c[6]),
        *(c[7], c[8], c[9], c[10], c[11], c[12]),
    )


@fast
def without_penalty(c: Scalars) -> Scalars:
    """Return the scalars of a bias."""
    zero, one = num(c.lr, 0), num(c.lr, 1)
    return Scalars(
        *(c.lr, c.momentum, c.epsilon, c.new_1, c.new_2),
        *(one, zero, zero, zero, zero, zero, one, c.share),
    )


@fast
def with_lr(c: Scalars, lr: float) -> Scalars:
    """Return the scalars of a weight with another learning rate."""
    return Scalars(
        *(lr, c.momentum, c.epsilon, c.new_1, c.new_2, c.shrink, c.threshold),
        *(c.lr_ridge, c.half_ridge, c.lr_lasso, c.half_lasso, c.decay, c.share),
    )


@exact
def _soft_threshold(w: float, threshold: float) -> float:
    """Return a weight nearer to zero by the threshold, zero itself at the most."""
    return w - clamp(w, -threshold, threshold)


@exact
def _descend(w: float, move: float, c: Scalars) -> float:
    """w <- shrink soft(w - lr move, threshold)."""
    w = w - c.lr * move
    if c.threshold > 0:
        w = _soft_threshold(w, c.threshold)
    return w * c.shrink


@exact
def sgd(w: float, g: float, c: Scalars) -> float:
    """w <- w - lr g."""
    return _descend(w, g, c)


@exact
def momentum(w: float, g: float, velocity: float, c: Scalars) -> tuple[float, float]:
    """velocity <- momentum velocity + g; w <- w - lr velocity."""
    velocity = c.momentum * velocity + g
    return _descend(w, velocity, c), velocity


@exact
def nesterov(w: float, g: float, velocity: float, c: Scalars) -> tuple[float, float]:
    """w <- w - lr (g + momentum velocity), which looks a step ahead."""
    velocity = c.momentum * velocity + g
    return _descend(w, g + c.momentum * velocity, c), velocity


@exact
def _descend_adaptively(w: float, move: float, root: float, c: Scalars) -> float:
    """w <- soft(w - pace move, p lasso) / (1 + p ridge), p the pace of the penalty.

    Both paces are lr over a divisor: root + epsilon, and for the penalty at least
    (ridge |w| + lasso) / 2. Divisions take most of the time, so there are none for a
    penalty that is not there.
    """
    divisor = root + c.epsilon
    least = abs(w) * c.half_ridge + c.half_lasso
    divisor_w = where(least > divisor, least, divisor)
    w = w - move * (c.lr / divisor)
    if c.lr_lasso > 0:
        w = _soft_threshold(w, c.lr_lasso / divisor_w)
    if c.lr_ridge > 0:
        w = w * (divisor_w / (divisor_w + c.lr_ridge))
    return w


@exact
def adagrad(w: float, g: float, squares: float, c: Scalars) -> tuple[float, float]:
    """sum_of_squares <- sum_of_squares + g^2; w <- w - lr g / (its root + epsilon)."""
    squares = squares + g * g
    return _descend_adaptively(w, g, np.sqrt(squares), c), squares


@exact
def rmsprop(w: float, g: float, moment_2: float, c: Scalars) -> tuple[float, float]:
    """w <- w - lr g / (sqrt(moment_2) + epsilon)."""
    moment_2 = lerp(moment_2, g * g, c.new_2)
    return _descend_adaptively(w, g, np.sqrt(moment_2), c), moment_2


@exact
def adam(
    w: float, g: float, moment_1: float, moment_2: float, c: Scalars
) -> tuple[float, float, float]:
    """moment_1 <- beta_1 moment_1 + (1 - beta_1) g, and likewise moment_2 of g^2.

    w <- w - lr moment_1 / (sqrt(moment_2) + epsilon).
    """
    moment_1 = lerp(moment_1, g, c.new_1)
    moment_2 = lerp(moment_2, g * g, c.new_2)
    w = _descend_adaptively(w, moment_1, np.sqrt(moment_2), c)
    return w, moment_1, moment_2


@exact
def adamw(
    w: float, g: float, moment_1: float, moment_2: float, c: Scalars
) -> tuple[float, float, float]:
    """w <- soft(decay w - step of Adam, threshold)."""
    w, moment_1, moment_2 = adam(c.decay * w, g, moment_1, moment_2, c)
    return _soft_threshold(w, c.threshold), moment_1, moment_2


class Optimizer(NamedTuple):
    """How a gradient becomes a step."""

    state_names: tuple[str, ...]
    step: Callable[..., Any]


_MOMENTS = ("moment_1", "moment_2")

OPTIMIZERS = {
    "sgd": Optimizer((), sgd),
    "momentum": Optimizer(("velocity",), momentum),
    "nesterov": Optimizer(("velocity",), nesterov),
    "adagrad": Optimizer(("sum_of_squares",), adagrad),
    "rmsprop": Optimizer(("moment_2",), rmsprop),
    "adam": Optimizer(_MOMENTS, adam),
    "adamw": Optimizer(_MOMENTS, adamw),
}
