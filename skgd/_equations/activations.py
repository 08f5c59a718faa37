"""Activations: a table of the value, the derivative, and the initial weights that suit.

``z`` is the sum that a unit receives, ``h`` the value that it makes of it. Value and
derivative are lists of calls bound to their arrays, to be replayed at every step:
``value(z, h)`` fills ``h``, and ``derivative(z, h, d)`` writes dh/dz into ``d``.

Most derivatives are functions of ``h`` alone, so the value is written over the sum and
the forward pass keeps one array per layer: ``h`` is ``z``. Where the derivative needs
the sum, or is cheaper by it, ``keeps_sum`` says that ``h`` is an array of its own.

None is off by more than rounding, near zero or far from it: ``erfc(-z)``, for example,
stands where ``1 + erf(z)`` would lose all of its digits below zero.

Numbers enter the calls as tensors of one element: torch takes three times as long to
wrap a Python number as it does to multiply a small array.
"""

from collections.abc import Callable
from functools import partial
from math import pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

Call = Callable[[], object]


class Activation(NamedTuple):
    """What a hidden layer does to each of its units."""

    value: Callable[[Tensor, Tensor], list[Call]]
    derivative: Callable[[Tensor, Tensor, Tensor], list[Call]]
    init: str  # the entry of ``initialisers.INITIALISERS`` that suits it
    keeps_sum: bool = False  # whether h is an array of its own, for z to remain


def _number(value: float, like: Tensor) -> Tensor:
    return like.new_full((1,), value)


# In terms of the value. Here h is z, so the calls that change h change the sum.

IDENTITY = Activation(
    value=lambda z, h: [],
    derivative=lambda z, h, d: [partial(d.fill_, 1.0)],
    init="glorot_uniform",
)
RELU = Activation(
    value=lambda z, h: [partial(torch.relu_, h)],
    derivative=lambda z, h, d: [partial(torch.gt, h, _number(0.0, h), out=d)],
    init="glorot_uniform",
)
TANH = Activation(  # 1 - h^2
    value=lambda z, h: [partial(torch.tanh_, h)],
    derivative=lambda z, h, d: [
        partial(torch.addcmul, _number(1.0, h), h, h, value=-1, out=d)
    ],
    init="glorot_uniform",
)
LOGISTIC = Activation(  # h (1 - h)
    value=lambda z, h: [partial(torch.sigmoid_, h)],
    derivative=lambda z, h, d: [partial(torch.addcmul, h, h, h, value=-1, out=d)],
    init="glorot_uniform",
)
ELU = Activation(  # z above zero and exp(z) - 1 below; the derivative is min(h + 1, 1)
    value=lambda z, h: [partial(torch.nn.functional.elu_, h)],
    derivative=lambda z, h, d: [
        partial(torch.add, h, _number(1.0, h), out=d),
        partial(torch.clamp_max, d, _number(1.0, h), out=d),
    ],
    init="glorot_uniform",
)


def leaky_relu(negative_slope: float) -> Activation:
    """z where it is positive, ``negative_slope`` z elsewhere, for a slope in [0, 1]."""

    def value(z: Tensor, h: Tensor) -> list[Call]:
        return [partial(torch.nn.functional.leaky_relu_, h, negative_slope)]

    def derivative(z: Tensor, h: Tensor, d: Tensor) -> list[Call]:
        slope = _number(negative_slope, h)
        return [
            partial(torch.sign, h, out=d),  # -1, 0 or 1
            partial(torch.clamp_min, d, slope, out=d),  # slope, slope or 1
        ]

    return Activation(value, derivative, init="glorot_uniform")


# Klambauer et al. (2017): the numbers at which SELU keeps mean 0 and variance 1.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


def _selu_derivative(z: Tensor, h: Tensor, d: Tensor) -> list[Call]:
    """scale above zero; scale alpha exp(z), which is h + scale alpha, elsewhere."""
    positive = torch.empty_like(h, dtype=torch.bool)
    limit = _number(_SELU_SCALE * _SELU_ALPHA, h)
    return [
        partial(torch.gt, h, _number(0.0, h), out=positive),
        partial(torch.add, h, limit, out=d),
        partial(torch.where, positive, _number(_SELU_SCALE, h), d, out=d),
    ]


SELU = Activation(  # scale z above zero and scale alpha (exp(z) - 1) below
    value=lambda z, h: [partial(torch.selu_, h)],
    derivative=_selu_derivative,
    init="lecun_normal",
)


# In terms of the sum, which the value leaves as it is.


def _softplus(z: Tensor, out: Tensor) -> Call:
    """log(1 + exp(z)); torch's softplus is that only up to a threshold."""
    return partial(torch.logaddexp, z, _number(0.0, z), out=out)


SOFTPLUS = Activation(  # the derivative is sigmoid(z)
    value=lambda z, h: [_softplus(z, h)],
    derivative=lambda z, h, d: [partial(torch.sigmoid, z, out=d)],
    init="glorot_uniform",
    keeps_sum=True,
)
SILU = Activation(  # s z for s = sigmoid(z); the derivative is h + s (1 - h)
    value=lambda z, h: [partial(torch.sigmoid, z, out=h), partial(h.mul_, z)],
    derivative=lambda z, h, d: [
        partial(torch.sigmoid, z, out=d),
        partial(torch.lerp, h, _number(1.0, h), d, out=d),
    ],
    init="glorot_uniform",
    keeps_sum=True,
)


def _gelu(z: Tensor, h: Tensor) -> list[Call]:
    """z P(z), where P(z) = erfc(-z / sqrt(2)) / 2 is the normal distribution's."""
    return [
        partial(torch.mul, z, _number(-sqrt(1 / 2), z), out=h),
        partial(h.erfc_),
        partial(h.mul_, _number(1 / 2, z)),
        partial(h.mul_, z),
    ]


def _gelu_derivative(z: Tensor, h: Tensor, d: Tensor) -> list[Call]:
    """P(z) + z p(z), where p(z) = exp(-z^2 / 2) / sqrt(2 pi) is the density."""
    bell = torch.empty_like(z)
    return [
        partial(torch.mul, z, _number(-sqrt(1 / 2), z), out=d),
        partial(d.erfc_),  # 2 P(z)
        partial(torch.addcmul, _number(0.0, z), z, z, value=-1 / 2, out=bell),
        partial(bell.exp_),
        partial(d.addcmul_, bell, z, value=sqrt(2 / pi)),
        partial(d.mul_, _number(1 / 2, z)),
    ]


GELU = Activation(_gelu, _gelu_derivative, init="glorot_uniform", keeps_sum=True)


def _mish(z: Tensor, h: Tensor) -> list[Call]:
    """z t, where t = tanh(softplus(z))."""
    return [_softplus(z, h), partial(h.tanh_), partial(h.mul_, z)]


def _mish_derivative(z: Tensor, h: Tensor, d: Tensor) -> list[Call]:
    """t + z sigmoid(z) (1 - t^2)."""
    sigmoid, rest = torch.empty_like(z), torch.empty_like(z)
    return [
        _softplus(z, d),
        partial(d.tanh_),
        partial(torch.addcmul, _number(1.0, z), d, d, value=-1, out=rest),
        partial(rest.mul_, z),
        partial(torch.sigmoid, z, out=sigmoid),
        partial(d.addcmul_, sigmoid, rest),
    ]


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
