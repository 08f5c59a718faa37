"""Losses: value and gradient in the raw prediction ``z``, for one number.

As ``_equations.losses``: ``loss(z, y, number)`` is the value for one output of a
sample, and its derivative in z. ``number`` is what some read: ``delta``, the quantile
or the power.

The multinomial log loss is one of all outputs of a sample together. Its entry is that
of several samples, (o, b) one after the other in a vector.

Dimension key: o outputs, b samples.
"""

from collections.abc import Callable

import numpy as np

from skgd._compiled.arithmetic import (
    clamp,
    exp,
    expm1,
    log,
    log1p,
    num,
    sign,
    where,
)
from skgd._compiled.jit import exact

# As in _equations: a count so many times below the mean, exp(-40), is none.
_COUNT_IS_ZERO = 40.0
# Likewise: so near to 1 or 2 a power is as good as at this distance.
_NEAREST_POWER = 1e-6

Pair = tuple[float, float]  # the value and the gradient
ScalarLoss = Callable[[float, float, float], Pair]


@exact
def squared_error(z: float, y: float, number: float) -> Pair:
    """r^2 / 2, of r = z - y."""
    r = z - y
    return num(z, 0.5) * r * r, r


@exact
def absolute_error(z: float, y: float, number: float) -> Pair:
    """|r|, of r = z - y."""
    r = z - y
    return abs(r), sign(r)


@exact
def huber(z: float, y: float, delta: float) -> Pair:
    """c (r - c / 2), where c is r = z - y cut off at +-delta, and the derivative."""
    r = z - y
    c = clamp(r, -delta, delta)
    return c * (r - num(z, 0.5) * c), c


@exact
def epsilon_insensitive(z: float, y: float, delta: float) -> Pair:
    """max(0, |z - y| - delta)."""
    beyond = _beyond(z, y, delta)
    return abs(beyond), sign(beyond)


@exact
def squared_epsilon_insensitive(z: float, y: float, delta: float) -> Pair:
    """max(0, |z - y| - delta)^2."""
    beyond = _beyond(z, y, delta)
    return beyond * beyond, beyond + beyond


@exact
def _beyond(z: float, y: float, delta: float) -> float:
    """r - c, where r = z - y, and c is r cut off at +-delta."""
    r = z - y
    return r - clamp(r, -delta, delta)


@exact
def pinball(z: float, y: float, quantile: float) -> Pair:
    """``quantile`` (y - z) below the target, (1 - ``quantile``) (z - y) above it."""
    r = z - y
    slope = clamp(sign(r), -quantile, num(z, 1) - quantile)
    return r * slope, slope


@exact
def poisson(z: float, y: float, number: float) -> Pair:
    """y (exp(t) - 1 - t), and y (exp(t) - 1) the gradient, of t = z - log(y)."""
    t = z - log(y)
    t = where(t > num(z, _COUNT_IS_ZERO), num(z, _COUNT_IS_ZERO), t)
    least = exp(z) * num(z, np.exp(-_COUNT_IS_ZERO))
    count = where(least > y, least, y)
    growth = expm1(t)  # exp(t) - 1
    return (growth - t) * count, growth * count


@exact
def gamma(z: float, y: float, number: float) -> Pair:
    """exp(t) - 1 - t, and 1 - exp(t) the gradient, of t = log(y) - z."""
    t = log(y) - z
    growth = expm1(t)  # exp(t) - 1
    return growth - t, -growth


@exact
def tweedie(z: float, y: float, power: float) -> Pair:
    """y^b (g(b t) / b + g(-a t) / a), and y^b (exp(b t) - exp(-a t)) the gradient.

    Of g(x) = exp(x) - 1 - x, t = z - log(y), a = p - 1 and b = 2 - p.
    """
    one, nearest = num(z, 1), num(z, _NEAREST_POWER)
    a = clamp(power - one, nearest, one - nearest)
    b = one - a
    log_y, least = log(y), z - num(z, _COUNT_IS_ZERO) / b
    log_y = where(least > log_y, least, log_y)
    bt, at = b * (z - log_y), -a * (z - log_y)
    growth, fall, scale = expm1(bt), expm1(at), exp(b * log_y)
    return ((growth - bt) / b + (fall - at) / a) * scale, (growth - fall) * scale


@exact
def binary_log_loss(z: float, y: float, number: float) -> Pair:
    """log(exp(-y z) + exp(z - y z)); the gradient is p - y, of p = sigmoid(z).

    Both are functions of exp(-|z|), for the exponents differ by z.
    """
    one, e = num(z, 1), exp(-abs(z))
    minus_yz = -y * z
    z_minus_yz = z + minus_yz
    larger = where(minus_yz > z_minus_yz, minus_yz, z_minus_yz)
    p = where(z > 0, one, e) / (one + e)
    return larger + log1p(e), p - y


# In the margin losses a class y in {0, 1} has the sign s = 2 y - 1.


@exact
def _margin_loss(z: float, y: float, margin: float) -> Pair:
    """max(0, a) of a = margin - s z."""
    minus_s = num(z, 1) - num(z, 2) * y
    a = margin + minus_s * z
    is_wrong = where(a >= 0, num(z, 1), num(z, 0))
    return where(a <= 0, num(z, 0), a), is_wrong * minus_s


@exact
def hinge(z: float, y: float, number: float) -> Pair:
    """max(0, 1 - s z)."""
    return _margin_loss(z, y, num(z, 1))


@exact
def squared_hinge(z: float, y: float, number: float) -> Pair:
    """max(0, 1 - s z)^2."""
    minus_s = num(z, 1) - num(z, 2) * y
    a = num(z, 1) + minus_s * z
    short = where(a <= 0, num(z, 0), a)
    return short * short, short * (num(z, 2) * minus_s)


@exact
def perceptron(z: float, y: float, number: float) -> Pair:
    """max(0, -s z)."""
    return _margin_loss(z, y, num(z, 0))


@exact
def modified_huber(z: float, y: float, number: float) -> Pair:
    """c (2 a - c), and -2 s c the gradient, of c, a = 1 - s z cut off at 0 and 2."""
    minus_s = num(z, 1) - num(z, 2) * y
    twice_a = num(z, 2) + num(z, 2) * minus_s * z
    twice_c = clamp(twice_a, num(z, 0), num(z, 4))
    rest = twice_a - num(z, 0.5) * twice_c  # 2 a - c
    return num(z, 0.5) * rest * twice_c, twice_c * minus_s


LOSSES: dict[str, ScalarLoss] = {
    "absolute_error": absolute_error,
    "binary_log_loss": binary_log_loss,
    "epsilon_insensitive": epsilon_insensitive,
    "gamma": gamma,
    "hinge": hinge,
    "huber": huber,
    "modified_huber": modified_huber,
    "perceptron": perceptron,
    "poisson": poisson,
    "quantile": pinball,
    "squared_epsilon_insensitive": squared_epsilon_insensitive,
    "squared_error": squared_error,
    "squared_hinge": squared_hinge,
    "tweedie": tweedie,
}
