"""Activations: a table of the value, the derivative, and the initial weights that suit.

``z`` is the sum that a unit receives, ``h`` the value that it makes of it. Both are
recorded (see ``tape``): ``value(tape, z, h)`` fills ``h``, and
``derivative(tape, z, h, d)`` fills ``d`` with dh/dz; each gives back what it fills.

Most derivatives are functions of ``h`` alone, so the value is written over the sum and
the forward pass keeps one array per layer: ``h`` is ``z``. Where the derivative needs
the sum, or is cheaper by it, ``keeps_sum`` says that ``h`` is an array of its own.

None is off by more than rounding, near zero or far from it: ``erfc(-z)``, for example,
stands where ``1 + erf(z)`` would lose all of its digits below zero.

Numbers enter the calls as tensors of one element: torch takes three times as long to
wrap a Python number as it does to multiply a small array.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from skgd._equations.tape import Tape


class Activation(NamedTuple):
    """What a hidden layer does to each of its units."""

    value: Callable[[Tape, Tensor, Tensor], Tensor]
    derivative: Callable[[Tape, Tensor, Tensor, Tensor], Tensor]
    init: str  # the entry of ``initialisers.INITIALISERS`` that suits it
    keeps_sum: bool = False  # whether h is an array of its own, for z to remain


def _number(value: float, like: Tensor) -> Tensor:
    return like.new_full((1,), value)


# In terms of the value. Here h is z, so the calls that change h change the sum.

IDENTITY = Activation(
    value=lambda tape, z, h: h,
    derivative=lambda tape, z, h, d: tape(d.fill_, 1.0),
    init="glorot_uniform",
)
RELU = Activation(
    value=lambda tape, z, h: tape(h.relu_),
    derivative=lambda tape, z, h, d: tape(torch.gt, h, _number(0.0, h), out=d),
    init="glorot_uniform",
)
TANH = Activation(  # 1 - h^2
    value=lambda tape, z, h: tape(h.tanh_),
    derivative=lambda tape, z, h, d: tape(
        torch.addcmul, _number(1.0, h), h, h, value=-1, out=d
    ),
    init="glorot_uniform",
)
LOGISTIC = Activation(  # h (1 - h)
    value=lambda tape, z, h: tape(h.sigmoid_),
    derivative=lambda tape, z, h, d: tape(torch.addcmul, h, h, h, value=-1, out=d),
    init="glorot_uniform",
)


def _elu_derivative(tape: Tape, z: Tensor, h: Tensor, d: Tensor) -> Tensor:
    """min(h + 1, 1)."""
    one = _number(1.0, h)
    exponential = tape(torch.add, h, one, out=d)  # exp(z), below zero
    return tape(torch.clamp_max, exponential, one, out=d)


ELU = Activation(  # z above zero and exp(z) - 1 below
    value=lambda tape, z, h: tape(torch.nn.functional.elu_, h),
    derivative=_elu_derivative,
    init="glorot_uniform",
)


def leaky_relu(negative_slope: float) -> Activation:
    """z where it is positive, ``negative_slope`` z elsewhere, for a slope in [0, 1]."""

    def value(tape: Tape, z: Tensor, h: Tensor) -> Tensor:
        return tape(torch.nn.functional.leaky_relu_, h, negative_slope)

    def derivative(tape: Tape, z: Tensor, h: Tensor, d: Tensor) -> Tensor:
        slope = _number(negative_slope, h)
        sign = tape(torch.sign, h, out=d)  # -1, 0 or 1
        return tape(torch.clamp_min, sign, slope, out=d)  # slope, slope or 1

    return Activation(value, derivative, init="glorot_uniform")


# Klambauer et al. (2017): the numbers at which SELU keeps mean 0 and variance 1.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


def _selu_derivative(tape: Tape, z: Tensor, h: Tensor, d: Tensor) -> Tensor:
    """scale above zero; scale alpha exp(z), which is h + scale alpha, elsewhere."""
    scale, limit = _number(_SELU_SCALE, h), _number(_SELU_SCALE * _SELU_ALPHA, h)
    is_positive = torch.empty_like(h, dtype=torch.bool)
    tape(torch.gt, h, _number(0.0, h), out=is_positive)
    below = tape(torch.add, h, limit, out=d)
    return tape(torch.where, is_positive, scale, below, out=d)


SELU = Activation(  # scale z above zero and scale alpha (exp(z) - 1) below
    value=lambda tape, z, h: tape(torch.selu_, h),
    derivative=_selu_derivative,
    init="lecun_normal",
)


# In terms of the sum, which the value leaves as it is.


def _softplus(tape: Tape, z: Tensor, h: Tensor) -> Tensor:
    """log(1 + exp(z)); torch's softplus is that only up to a threshold."""
    return tape(torch.logaddexp, z, _number(0.0, z), out=h)


SOFTPLUS = Activation(  # the derivative is sigmoid(z)
    value=_softplus,
    derivative=lambda tape, z, h, d: tape(torch.sigmoid, z, out=d),
    init="glorot_uniform",
    keeps_sum=True,
)


def _silu(tape: Tape, z: Tensor, h: Tensor) -> Tensor:
    """s z, where s = sigmoid(z)."""
    s = tape(torch.sigmoid, z, out=h)
    return tape(s.mul_, z)


def _silu_derivative(tape: Tape, z: Tensor, h: Tensor, d: Tensor) -> Tensor:
    """h + s (1 - h)."""
    s = tape(torch.sigmoid, z, out=d)
    return tape(torch.lerp, h, _number(1.0, h), s, out=d)


SILU = Activation(_silu, _silu_derivative, init="glorot_uniform", keeps_sum=True)


def _gelu(tape: Tape, z: Tensor, h: Tensor) -> Tensor:
    """z P, where P = erfc(-z / sqrt(2)) / 2 is the normal distribution's."""
    scaled = tape(torch.mul, z, _number(-sqrt(1 / 2), z), out=h)
    twice_P = tape(scaled.erfc_)
    P = tape(twice_P.mul_, _number(1 / 2, z))
    return tape(P.mul_, z)


def _gelu_derivative(tape: Tape, z: Tensor, h: Tensor, d: Tensor) -> Tensor:
    """P + z p, where p = exp(-z^2 / 2) / sqrt(2 pi) is the density."""
    scaled = tape(torch.mul, z, _number(-sqrt(1 / 2), z), out=d)
    twice_P = tape(scaled.erfc_)
    exponent = torch.empty_like(z)
    tape(torch.addcmul, _number(0.0, z), z, z, value=-1 / 2, out=exponent)
    bell = tape(exponent.exp_)  # sqrt(2 pi) p
    twice = tape(twice_P.addcmul_, bell, z, value=sqrt(2 / pi))
    return tape(twice.mul_, _number(1 / 2, z))


GELU = Activation(_gelu, _gelu_derivative, init="glorot_uniform", keeps_sum=True)


def _mish(tape: Tape, z: Tensor, h: Tensor) -> Tensor:
    """z t, where t = tanh(softplus(z))."""
    softplus = _softplus(tape, z, h)
    t = tape(softplus.tanh_)
    return tape(t.mul_, z)


def _mish_derivative(tape: Tape, z: Tensor, h: Tensor, d: Tensor) -> Tensor:
    """t + s z (1 - t^2), where s = sigmoid(z)."""
    s, rest = torch.empty_like(z), torch.empty_like(z)
    softplus = _softplus(tape, z, d)
    t = tape(softplus.tanh_)
    rest = tape(torch.addcmul, _number(1.0, z), t, t, value=-1, out=rest)  # 1 - t^2
    rest = tape(rest.mul_, z)
    s = tape(torch.sigmoid, z, out=s)
    return tape(t.addcmul_, s, rest)


MISH = Activation(_mish, _mish_derivative, init="glorot_uniform", keeps_sum=True)


ACTIVATIONS: dict[str, Callable[[float], Activation]] = {
    "elu": lambda negative_slope: ELU,
    "gelu": lambda negative_slope: GELU,
    "identity": lambda negative_slope: IDENTITY,
    "leaky_relu": leaky_relu,
    "logistic": lambda negative_slope: LOGISTIC,
    "mish": lambda negative_slope: MISH,
    "relu": lambda negative_slope: RELU,
    "selu": lambda negative_slope: SELU,
    "silu": lambda negative_slope: SILU,
    "softplus": lambda negative_slope: SOFTPLUS,
    "tanh": lambda negative_slope: TANH,
}
