"""Activations: a table of the value and the derivative, for one number.

As ``_equations.activations``: ``value(z, slope)`` is h, what a unit makes of its sum z,
and ``derivative(z, h, slope)`` is dh/dz. ``slope`` is ``negative_slope``, for the one
that reads it.
"""

from collections.abc import Callable
from math import erfc, pi, sqrt
from typing import NamedTuple

from skgd._compiled.arithmetic import (
    exp,
    expm1,
    lerp,
    logaddexp,
    num,
    sigmoid,
    tanh,
    where,
)
from skgd._compiled.jit import exact


class Activation(NamedTuple):
    """What a hidden layer does to each of its units."""

    value: Callable[[float, float], float]
    derivative: Callable[[float, float, float], float]


# In terms of the value.


@exact
def _identity(z: float, slope: float) -> float:
    return z


@exact
def _identity_derivative(z: float, h: float, slope: float) -> float:
    return num(z, 1)


@exact
def _relu(z: float, slope: float) -> float:
    return where(z <= 0, num(z, 0), z)


@exact
def _relu_derivative(z: float, h: float, slope: float) -> float:
    return where(h > 0, num(z, 1), num(z, 0))


@exact
def _tanh(z: float, slope: float) -> float:
    return tanh(z)


@exact
def _tanh_derivative(z: float, h: float, slope: float) -> float:
    """1 - h^2."""
    return num(z, 1) - h * h


@exact
def _logistic(z: float, slope: float) -> float:
    return sigmoid(z)


@exact
def _logistic_derivative(z: float, h: float, slope: float) -> float:
    """h (1 - h)."""
    return h - h * h


@exact
def _elu(z: float, slope: float) -> float:
    """z above zero and exp(z) - 1 below."""
    below = expm1(z)
    return where(z <= 0, below, z)


@exact
def _elu_derivative(z: float, h: float, slope: float) -> float:
    """min(h + 1, 1)."""
    return where(h > 0, num(z, 1), h + num(z, 1))


@exact
def _leaky_relu(z: float, slope: float) -> float:
    """z where it is positive, ``slope`` z elsewhere."""
    return where(z <= 0, slope * z, z)


@exact
def _leaky_relu_derivative(z: float, h: float, slope: float) -> float:
    return where(h > 0, num(z, 1), slope)


# Klambauer et al. (2017): the numbers at which SELU keeps mean 0 and variance 1.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_LIMIT = _SELU_SCALE * _SELU_ALPHA


@exact
def _selu(z: float, slope: float) -> float:
    """scale z above zero and scale alpha (exp(z) - 1) below."""
    below = num(z, _SELU_LIMIT) * expm1(z)
    return where(z <= 0, below, num(z, _SELU_SCALE) * z)


@exact
def _selu_derivative(z: float, h: float, slope: float) -> float:
    """scale above zero; scale alpha exp(z), which is h + scale alpha, elsewhere."""
    return where(h > 0, num(z, _SELU_SCALE), h + num(z, _SELU_LIMIT))


# In terms of the sum.


@exact
def _softplus(z: float, slope: float) -> float:
    """log(1 + exp(z))."""
    return logaddexp(z, num(z, 0))


@exact
def _softplus_derivative(z: float, h: float, slope: float) -> float:
    return sigmoid(z)


@exact
def _silu(z: float, slope: float) -> float:
    """s z, where s = sigmoid(z)."""
    return sigmoid(z) * z


@exact
def _silu_derivative(z: float, h: float, slope: float) -> float:
    """h + s (1 - h)."""
    return lerp(h, num(z, 1), sigmoid(z))


@exact
def _gelu(z: float, slope: float) -> float:
    """z P, where P = erfc(-z / sqrt(2)) / 2 is the normal distribution's."""
    P = num(z, erfc(z * num(z, -sqrt(1 / 2)))) * num(z, 1 / 2)
    return P * z


@exact
def _gelu_derivative(z: float, h: float, slope: float) -> float:
    """P + z p, where p = exp(-z^2 / 2) / sqrt(2 pi) is the density."""
    twice_P = num(z, erfc(z * num(z, -sqrt(1 / 2))))
    bell = exp(num(z, -1 / 2) * z * z)  # sqrt(2 pi) p
    return (twice_P + num(z, sqrt(2 / pi)) * bell * z) * num(z, 1 / 2)


@exact
def _mish(z: float, slope: float) -> float:
    """z t, where t = tanh(softplus(z))."""
    return tanh(logaddexp(z, num(z, 0))) * z


@exact
def _mish_derivative(z: float, h: float, slope: float) -> float:
    """t + s z (1 - t^2), where s = sigmoid(z)."""
    t = tanh(logaddexp(z, num(z, 0)))
    return t + sigmoid(z) * ((num(z, 1) - t * t) * z)


ACTIVATIONS = {
    "elu": Activation(_elu, _elu_derivative),
    "gelu": Activation(_gelu, _gelu_derivative),
    "identity": Activation(_identity, _identity_derivative),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_derivative),
    "logistic": Activation(_logistic, _logistic_derivative),
    "mish": Activation(_mish, _mish_derivative),
    "relu": Activation(_relu, _relu_derivative),
    "selu": Activation(_selu, _selu_derivative),
    "silu": Activation(_silu, _silu_derivative),
    "softplus": Activation(_softplus, _softplus_derivative),
    "tanh": Activation(_tanh, _tanh_derivative),
}
