"""Activations: a table of the value, and of the derivative in terms of the value.

Each derivative is a function of the activation's own output ``h``, so the forward pass
keeps one array per layer. Both are lists of calls bound to their arrays, to be replayed
at every step: ``value(z)`` turns ``z`` into ``h`` in place, ``derivative(h, d)`` writes
dh/dz into ``d``.

Numbers enter the calls as tensors of one element: torch takes three times as long to
wrap a Python number as it does to multiply a small array.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

Call = Callable[[], object]


class Activation(NamedTuple):
    """What a hidden layer does to each of its units."""

    value: Callable[[Tensor], list[Call]]
    derivative: Callable[[Tensor, Tensor], list[Call]]
    variance: Callable[[int, int], float]  # of initial weights, by units in and out


def glorot(units_in: int, units_out: int) -> float:
    """Glorot and Bengio (2010), eq. 12: keeps the scale of signals and of gradients."""
    return 2.0 / (units_in + units_out)


def he(units_in: int, units_out: int) -> float:
    """He et al. (2015), eq. 10: keeps it where half of the units are cut to zero."""
    return 2.0 / units_in


def _number(value: float, like: Tensor) -> Tensor:
    return like.new_full((1,), value)


IDENTITY = Activation(
    value=lambda z: [],
    derivative=lambda h, d: [partial(d.fill_, 1.0)],
    variance=glorot,
)
RELU = Activation(
    value=lambda z: [partial(torch.relu_, z)],
    derivative=lambda h, d: [partial(torch.gt, h, _number(0.0, h), out=d)],
    variance=he,
)
TANH = Activation(  # 1 - h^2
    value=lambda z: [partial(torch.tanh_, z)],
    derivative=lambda h, d: [
        partial(torch.addcmul, _number(1.0, h), h, h, value=-1, out=d)
    ],
    variance=glorot,
)
LOGISTIC = Activation(  # h (1 - h)
    value=lambda z: [partial(torch.sigmoid_, z)],
    derivative=lambda h, d: [partial(torch.addcmul, h, h, h, value=-1, out=d)],
    variance=glorot,
)


def leaky_relu(negative_slope: float) -> Activation:
    """z where it is positive, ``negative_slope`` z elsewhere, for a slope in [0, 1]."""

    def derivative(h: Tensor, d: Tensor) -> list[Call]:
        slope = _number(negative_slope, h)
        return [
            partial(torch.sign, h, out=d),  # -1, 0 or 1
            partial(torch.clamp_min, d, slope, out=d),  # slope, slope or 1
        ]

    def value(z: Tensor) -> list[Call]:
        return [partial(torch.nn.functional.leaky_relu_, z, negative_slope)]

    return Activation(value, derivative, variance=he)


ACTIVATIONS: dict[str, Callable[[float], Activation]] = {
    "identity": lambda negative_slope: IDENTITY,
    "leaky_relu": leaky_relu,
    "logistic": lambda negative_slope: LOGISTIC,
    "relu": lambda negative_slope: RELU,
    "tanh": lambda negative_slope: TANH,
}
