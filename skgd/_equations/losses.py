"""Losses: value and gradient in the raw prediction ``z``, and the inverse link.

Dimension key: m models, o outputs, b samples of the mini-batch.

A loss is a function that returns the calls (see ``contraction``) which fill ``value``
(mob) with terms whose sum over o is the loss of a sample, and ``dz`` (mob) with the
derivative of that loss in ``z`` (mob). The target ``y`` is (ob); of a class it is 0 or
1. Where every fold has a batch of its own, z is (fcob), see ``network``, and y (f1ob):
o is the last axis but one all the same. The mean over the batch and the sample weights
are the business of ``steps``.

Everything is computed from the raw prediction, never from the logarithm of a
probability, so values and gradients stay exact however certain a model is. A sum whose
terms would cancel is written as one function of their difference.

At a kink the gradient is that of scikit-learn's SGD estimators: 0 in regression, the
slope of the losing side in classification, since a linear model starts at z = 0 and
must leave it. Numbers enter the calls as tensors of one element, as in
``activations``, except where torch takes a plain one as quickly. ``delta`` may be a
tensor that broadcasts to z, a number for each target (see ``target_scale``).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from skgd._equations.contraction import Call

# A count so many times below the mean, exp(-40), is none: the last digit of the Poisson
# loss is the same in float64 too.
_COUNT_IS_ZERO = 40.0

Calls = Callable[[Tensor, Tensor, Tensor, Tensor], list[Call]]


class Loss(NamedTuple):
    """What is minimised, and how a raw prediction becomes a prediction."""

    calls: Calls
    inverse_link: Callable[[Tensor], Tensor] | None  # of z (mob); None has no meaning
    log_inverse_link: Callable[[Tensor], Tensor] | None = None  # of probabilities
    degree: int = 0  # the power of c by which it grows where targets grow by c
    log_link: bool = False  # whether z is the logarithm of what is predicted


def squared_error(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """(z - y)^2 / 2: half the squared error, as in all of scikit-learn."""
    zero = z.new_zeros(1)
    return [
        partial(torch.sub, z, y, out=dz),
        partial(torch.addcmul, zero, dz, dz, value=0.5, out=value),
    ]


def absolute_error(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """|z - y|."""
    return [
        partial(torch.sub, z, y, out=value),
        partial(torch.sign, value, out=dz),
        partial(value.abs_),
    ]


def huber(delta: float | Tensor) -> Calls:
    """r^2 / 2 up to |r| = delta, delta (|r| - delta / 2) beyond, of r = z - y.

    Both are c (r - c / 2), where c is r cut off at +-delta.
    """

    def calls(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
        return [
            partial(torch.sub, z, y, out=value),
            partial(torch.clamp, value, -delta, delta, out=dz),
            partial(value.add_, dz, alpha=-0.5),
            partial(value.mul_, dz),
        ]

    return calls


def epsilon_insensitive(delta: float | Tensor) -> Calls:
    """max(0, |z - y| - delta): the absolute error beyond ``delta``."""

    def calls(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
        return [
            *_beyond(delta, z, y, value, dz),
            partial(torch.sign, value, out=dz),
            partial(value.abs_),
        ]

    return calls


def squared_epsilon_insensitive(delta: float | Tensor) -> Calls:
    """max(0, |z - y| - delta)^2, without a half, as SGD's."""

    def calls(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
        return [
            *_beyond(delta, z, y, dz, value),
            partial(torch.mul, dz, dz, out=value),
            partial(dz.add_, dz),
        ]

    return calls


def _beyond(
    delta: float | Tensor, z: Tensor, y: Tensor, out: Tensor, some: Tensor
) -> list[Call]:
    """Return the calls that write r - c: r = z - y, and c is r cut off at +-delta."""
    return [
        partial(torch.sub, z, y, out=out),
        partial(torch.clamp, out, -delta, delta, out=some),
        partial(out.sub_, some),
    ]


def pinball(quantile: float) -> Calls:
    """``quantile`` (y - z) below the target, (1 - ``quantile``) (z - y) above it."""

    def calls(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
        return [
            partial(torch.sub, z, y, out=value),
            partial(torch.sign, value, out=dz),  # -1, 0 or 1
            partial(torch.clamp, dz, -quantile, 1 - quantile, out=dz),
            partial(value.mul_, dz),
        ]

    return calls


def poisson(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """exp(z) - y + y log(y) - y z: half the deviance of a count of mean exp(z).

    That is y (exp(t) - 1 - t), and y (exp(t) - 1) the gradient, of t = z - log(y). With
    y = 0 they are exp(z), which is what comes out where t is cut off.
    """
    log_y, scale = torch.empty_like(y), torch.empty_like(z)
    most = z.new_full((1,), _COUNT_IS_ZERO)
    least_count = (-most).exp()
    return [
        partial(torch.log, y, out=log_y),
        partial(torch.sub, z, log_y, out=value),
        partial(value.clamp_max_, most),
        partial(torch.exp, z, out=scale),
        partial(scale.mul_, least_count),
        partial(torch.maximum, scale, y, out=scale),
        partial(torch.expm1, value, out=dz),
        partial(torch.sub, dz, value, out=value),
        partial(value.mul_, scale),
        partial(dz.mul_, scale),
    ]


def gamma(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """y exp(-z) - 1 + z - log(y): half the deviance of a gamma of mean exp(z).

    That is exp(t) - 1 - t, and 1 - exp(t) the gradient, of t = log(y) - z.
    """
    log_y = torch.empty_like(y)
    return [
        partial(torch.log, y, out=log_y),
        partial(torch.sub, log_y, z, out=value),
        partial(torch.expm1, value, out=dz),
        partial(torch.sub, dz, value, out=value),
        partial(dz.neg_),
    ]


def binary_log_loss(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """log(1 + exp(z)) - y z: minus the log-likelihood of y under sigmoid(z).

    That is log(exp(-y z) + exp(z - y z)), where nothing cancels.
    """
    zero = z.new_zeros(1)
    return [
        partial(torch.addcmul, zero, y, z, value=-1, out=dz),
        partial(torch.add, z, dz, out=value),
        partial(torch.logaddexp, dz, value, out=value),
        partial(torch.sigmoid, z, out=dz),
        partial(dz.sub_, y),
    ]


def multinomial_log_loss(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """-y . log_softmax(z): minus the log-likelihood of a one-hot y under softmax(z)."""
    return [
        partial(torch.log_softmax, z, -2, out=value),
        partial(value.mul_, y),
        partial(value.neg_),
        partial(torch.softmax, z, -2, out=dz),
        partial(dz.sub_, y),
    ]


# In the margin losses a class y in {0, 1} has the sign s = 2 y - 1, and s z is how far
# the raw prediction lies on the right side.


def hinge(margin: float) -> Calls:
    """max(0, margin - s z): of the support vector machine; at margin 0, perceptron."""

    def calls(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
        slope = torch.empty_like(y)  # -s
        zero, one, wanted = z.new_zeros(1), z.new_ones(1), z.new_full((1,), margin)
        return [
            partial(torch.add, one, y, alpha=-2, out=slope),
            partial(torch.addcmul, wanted, slope, z, out=value),
            partial(torch.ge, value, zero, out=dz),
            partial(dz.mul_, slope),
            partial(torch.relu_, value),
        ]

    return calls


def squared_hinge(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """max(0, 1 - s z)^2, without a half, as SGD's."""
    slope = torch.empty_like(y)  # -2 s
    one, two = z.new_ones(1), z.new_full((1,), 2.0)
    return [
        partial(torch.add, two, y, alpha=-4, out=slope),
        partial(torch.addcmul, one, slope, z, value=0.5, out=dz),
        partial(torch.relu_, dz),
        partial(torch.mul, dz, dz, out=value),
        partial(dz.mul_, slope),
    ]


def modified_huber(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """max(0, 1 - s z)^2 down to s z = -1, -4 s z below (Zhang, 2004).

    Both are c (2 a - c), where c is a = 1 - s z cut off at 0 and 2.
    """
    slope = torch.empty_like(y)  # -s
    zero, one, two = z.new_zeros(1), z.new_ones(1), z.new_full((1,), 2.0)
    return [
        partial(torch.add, one, y, alpha=-2, out=slope),
        partial(torch.addcmul, two, slope, z, value=2, out=value),  # 2 a
        partial(torch.clamp, value, 0.0, 4.0, out=dz),  # 2 c
        partial(value.add_, dz, alpha=-0.5),
        partial(torch.addcmul, zero, value, dz, value=0.5, out=value),
        partial(dz.mul_, slope),
    ]


def clipped(z: Tensor) -> Tensor:
    """Return (z + 1) / 2, cut off at 0 and 1: modified_huber's probabilities."""
    return (z.clamp(-1, 1) + 1) / 2


def log_clipped(z: Tensor) -> Tensor:
    """Return their logarithm; -inf is the right one where they are 0."""
    return clipped(z).log()


def _identity(z: Tensor) -> Tensor:
    return z


SQUARED_ERROR = Loss(squared_error, _identity, degree=2)
ABSOLUTE_ERROR = Loss(absolute_error, _identity, degree=1)
POISSON = Loss(poisson, torch.exp, degree=1, log_link=True)
GAMMA = Loss(gamma, torch.exp, degree=0, log_link=True)
BINARY_LOG_LOSS = Loss(binary_log_loss, torch.sigmoid, torch.nn.functional.logsigmoid)
MULTINOMIAL_LOG_LOSS = Loss(
    multinomial_log_loss,
    partial(torch.softmax, dim=-2),
    partial(torch.log_softmax, dim=-2),
)
HINGE = Loss(hinge(1.0), None)
SQUARED_HINGE = Loss(squared_hinge, None)
PERCEPTRON = Loss(hinge(0.0), None)
MODIFIED_HUBER = Loss(modified_huber, clipped, log_clipped)

LOSSES: dict[str, Callable[[float | Tensor, float], Loss]] = {
    "absolute_error": lambda delta, quantile: ABSOLUTE_ERROR,
    "binary_log_loss": lambda delta, quantile: BINARY_LOG_LOSS,
    "epsilon_insensitive": lambda delta, quantile: Loss(
        epsilon_insensitive(delta), _identity, degree=1
    ),
    "gamma": lambda delta, quantile: GAMMA,
    "hinge": lambda delta, quantile: HINGE,
    "huber": lambda delta, quantile: Loss(huber(delta), _identity, degree=2),
    "modified_huber": lambda delta, quantile: MODIFIED_HUBER,
    "multinomial_log_loss": lambda delta, quantile: MULTINOMIAL_LOG_LOSS,
    "perceptron": lambda delta, quantile: PERCEPTRON,
    "poisson": lambda delta, quantile: POISSON,
    "quantile": lambda delta, quantile: Loss(pinball(quantile), _identity, degree=1),
    "squared_epsilon_insensitive": lambda delta, quantile: Loss(
        squared_epsilon_insensitive(delta), _identity, degree=2
    ),
    "squared_error": lambda delta, quantile: SQUARED_ERROR,
    "squared_hinge": lambda delta, quantile: SQUARED_HINGE,
}


def loss_named(name: str) -> Loss:
    """Return an entry of the table for its links and degree, no matter the numbers."""
    return LOSSES[name](1.0, 0.5)
