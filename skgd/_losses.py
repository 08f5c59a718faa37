"""Losses: value and gradient in the raw prediction ``z``, and the inverse link.

Dimension key: m models, o outputs, b samples of the mini-batch.

A loss is a function that returns the calls (see ``_contraction``) which fill ``value``
(mob) with terms whose sum over o is the loss of a sample, and ``dz`` (mob) with the
derivative of that loss in ``z`` (mob). The target ``y`` is (ob), or (mob) where every
model has a batch of its own. The mean over the batch and the sample weights are the
business of ``_training``.

Everything is computed from the raw prediction, never from the logarithm of a
probability, so values and gradients stay exact however certain a model is.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from skgd._contraction import Call

# Beyond this, log(1 + exp(z)) and z are the same number in float64 too. (torch's own
# default, 20, leaves an error of 2e-9.)
_SOFTPLUS_IS_LINEAR = 50


class Loss(NamedTuple):
    """What is minimised, and how a raw prediction becomes a prediction."""

    calls: Callable[[Tensor, Tensor, Tensor, Tensor], list[Call]]
    inverse_link: Callable[[Tensor], Tensor]  # of z (mob)
    log_inverse_link: Callable[[Tensor], Tensor] | None = None  # of probabilities


def squared_error(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """(z - y)^2 / 2: half the squared error, as in all of scikit-learn."""
    half = z.new_full((1,), 0.5)
    return [
        partial(torch.sub, z, y, out=dz),
        partial(torch.mul, dz, dz, out=value),
        partial(value.mul_, half),
    ]


def binary_log_loss(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """softplus(z) - y z: minus the log-likelihood of y in {0, 1} under sigmoid(z)."""
    softplus: Callable[..., Tensor] = torch.nn.functional.softplus
    return [
        partial(softplus, z, 1, _SOFTPLUS_IS_LINEAR, out=value),
        partial(value.addcmul_, y, z, value=-1),
        partial(torch.sigmoid, z, out=dz),
        partial(dz.sub_, y),
    ]


def multinomial_log_loss(z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> list[Call]:
    """-y . log_softmax(z): minus the log-likelihood of a one-hot y under softmax(z)."""
    return [
        partial(torch.log_softmax, z, 1, out=dz),
        partial(torch.mul, dz, y, out=value),
        partial(value.neg_),
        partial(dz.exp_),
        partial(dz.sub_, y),
    ]


LOSSES = {
    "squared_error": Loss(squared_error, lambda z: z),
    "binary_log_loss": Loss(
        binary_log_loss, torch.sigmoid, torch.nn.functional.logsigmoid
    ),
    "multinomial_log_loss": Loss(
        multinomial_log_loss,
        partial(torch.softmax, dim=1),
        partial(torch.log_softmax, dim=1),
    ),
}
