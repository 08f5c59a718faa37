"""Losses: value and gradient in the raw prediction ``z``, and the inverse link.

A loss records (see ``tape``) what fills ``value`` (mob) with terms whose sum over o is
the loss of a sample, and ``dz`` (mob) with the derivative of that loss in ``z`` (mob).
The target ``y`` is (ob); of a class it is 0 or 1. Where every fold has a batch of its
own, z is (fcob), see ``network``, and y (f1ob): o is the last axis but one all the
same. The mean over the batch and the sample weights are the business of ``steps``.

Everything is computed from the raw prediction, never from the logarithm of a
probability, so values and gradients stay exact however certain a model is. A sum whose
terms would cancel is written as one function of their difference. Until they are
filled for good, ``value`` and ``dz`` hold what a formula needs on its way.

At a kink the gradient is that of scikit-learn's SGD estimators: 0 in regression, the
slope of the losing side in classification, since a linear model starts at z = 0 and
must leave it. Numbers enter the calls as tensors of one element, as in
``activations``, except where torch takes a plain one as quickly. ``delta`` may be a
tensor that broadcasts to z, a number for each target (see ``target_scale``), and the
quantile a tuple, one for each output.
"""

from collections.abc import Callable
from functools import partial
from math import log, nan
from typing import NamedTuple

import torch
from torch import Tensor

from skgd._equations.tape import Tape

# A count so many times below the mean, exp(-40), is none: the last digit of the Poisson
# loss is the same in float64 too.
_COUNT_IS_ZERO = 40.0

# So near to 1 or 2 a power is as good as at this distance: float32 knows no nearer one.
_NEAREST_POWER = 1e-6

RecordLoss = Callable[[Tape, Tensor, Tensor, Tensor, Tensor], None]
Quantile = float | tuple[float, ...]


def mean_over_models(z: Tensor) -> Tensor:
    """Return the mean of z (mob), (1ob)."""
    return z.mean(0, keepdim=True)


def log_mean_exp(z: Tensor) -> Tensor:
    """Return log( mean_m( exp(z) ) ), (1ob): nothing of it under- or overflows."""
    return torch.logsumexp(z, 0, keepdim=True) - log(len(z))


def logit_of_mean(z: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of p = mean_m( sigmoid(z) ), (1ob)."""
    log_sigmoid = torch.nn.functional.logsigmoid
    return log_mean_exp(log_sigmoid(z)) - log_mean_exp(log_sigmoid(-z))


def log_of_mean_softmax(z: Tensor) -> Tensor:
    """Return log( mean_m( softmax(z) ) ), (1ob), whose softmax is that mean."""
    return log_mean_exp(torch.log_softmax(z, dim=-2))


def middle_of_clipped(z: Tensor) -> Tensor:
    """Return 2 p - 1 of p = mean_m( clipped(z) ), (1ob), which lies in [-1, 1]."""
    return z.clamp(-1, 1).mean(0, keepdim=True)


class Loss(NamedTuple):
    """What is minimised, and how a raw prediction becomes a prediction."""

    record: RecordLoss  # on a tape, given z, y, value and dz
    inverse_link: Callable[[Tensor], Tensor] | None  # of z (mob); None has no meaning
    log_inverse_link: Callable[[Tensor], Tensor] | None = None  # of probabilities
    degree: float = 0  # the power of c by which it grows where targets grow by c
    log_link: bool = False  # whether z is the logarithm of what is predicted
    # Of the scores of several models for classes, (mob), those of which the mean of
    # their probabilities follows, (1ob); without probabilities, the mean itself.
    joint: Callable[[Tensor], Tensor] = mean_over_models


def squared_error(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
    """r^2 / 2, of r = z - y: half the squared error, as in all of scikit-learn."""
    zero = z.new_zeros(1)
    r = tape(torch.sub, z, y, out=dz)
    tape(torch.addcmul, zero, r, r, value=0.5, out=value)


def absolute_error(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
    """|r|, of r = z - y."""
    r = tape(torch.sub, z, y, out=value)
    tape(torch.sign, r, out=dz)
    tape(r.abs_)


def huber(delta: float | Tensor) -> RecordLoss:
    """r^2 / 2 up to |r| = delta, delta (|r| - delta / 2) beyond, of r = z - y.

    Both are c (r - c / 2), where c is r cut off at +-delta, and c is the derivative.
    """

    def loss(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
        r = tape(torch.sub, z, y, out=value)
        c = tape(torch.clamp, r, -delta, delta, out=dz)
        rest = tape(r.add_, c, alpha=-0.5)  # r - c / 2
        tape(rest.mul_, c)

    return loss


def epsilon_insensitive(delta: float | Tensor) -> RecordLoss:
    """max(0, |z - y| - delta): the absolute error beyond ``delta``."""

    def loss(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
        beyond = _beyond(tape, delta, z, y, out=value, cut=dz)
        tape(torch.sign, beyond, out=dz)
        tape(beyond.abs_)

    return loss


def squared_epsilon_insensitive(delta: float | Tensor) -> RecordLoss:
    """max(0, |z - y| - delta)^2, without a half, as SGD's."""

    def loss(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
        beyond = _beyond(tape, delta, z, y, out=dz, cut=value)
        tape(torch.mul, beyond, beyond, out=value)
        tape(beyond.add_, beyond)

    return loss


def _beyond(
    tape: Tape, delta: float | Tensor, z: Tensor, y: Tensor, *, out: Tensor, cut: Tensor
) -> Tensor:
    """Record r - c, where r = z - y, and c is r cut off at +-delta."""
    r = tape(torch.sub, z, y, out=out)
    c = tape(torch.clamp, r, -delta, delta, out=cut)
    return tape(r.sub_, c)


def pinball(quantile: Quantile) -> RecordLoss:
    """``quantile`` (y - z) below the target, (1 - ``quantile``) (z - y) above it."""

    def loss(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
        share: float | Tensor = 0.0
        if isinstance(quantile, tuple):
            share = z.new_tensor(quantile).unsqueeze(-1)  # (o1)
        else:
            share = quantile
        r = tape(torch.sub, z, y, out=value)
        sign = tape(torch.sign, r, out=dz)  # -1, 0 or 1
        slope = tape(torch.clamp, sign, -share, 1 - share, out=dz)
        tape(r.mul_, slope)

    return loss


def poisson(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
    """exp(z) - y + y log(y) - y z: half the deviance of a count of mean exp(z).

    That is y (exp(t) - 1 - t), and y (exp(t) - 1) the gradient, of t = z - log(y). With
    y = 0 they are exp(z), which is what comes out where t is cut off at 40, and y at
    exp(z - 40).
    """
    most = z.new_full((1,), _COUNT_IS_ZERO)
    least_share = (-most).exp()
    log_y = tape(torch.log, y, out=torch.empty_like(y))
    t = tape(torch.sub, z, log_y, out=value)
    t = tape(t.clamp_max_, most)
    mean = tape(torch.exp, z, out=torch.empty_like(z))
    least = tape(mean.mul_, least_share)
    count = tape(torch.maximum, least, y, out=least)
    growth = tape(torch.expm1, t, out=dz)  # exp(t) - 1
    rest = tape(torch.sub, growth, t, out=value)
    tape(rest.mul_, count)
    tape(growth.mul_, count)


def gamma(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
    """y exp(-z) - 1 + z - log(y): half the deviance of a gamma of mean exp(z).

    That is exp(t) - 1 - t, and 1 - exp(t) the gradient, of t = log(y) - z.
    """
    log_y = tape(torch.log, y, out=torch.empty_like(y))
    t = tape(torch.sub, log_y, z, out=value)
    growth = tape(torch.expm1, t, out=dz)  # exp(t) - 1
    tape(torch.sub, growth, t, out=value)
    tape(growth.neg_)


def tweedie(power: float) -> RecordLoss:
    """y^(2-p) / ((1-p)(2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p), of m = exp(z).

    Half the deviance of a variance that grows as m^p, of powers 1 < p < 2. With
    a = p - 1, b = 2 - p and t = z - log(y), it is y^b (g(b t) / b + g(-a t) / a) of
    g(x) = exp(x) - 1 - x, and y^b (exp(b t) - exp(-a t)) the gradient. With y = 0 they
    are exp(b z) / b and exp(b z), which is what comes out where b t is cut off at 40.
    """
    a = min(max(power - 1, _NEAREST_POWER), 1 - _NEAREST_POWER)
    b = 1 - a

    def loss(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
        most, minus_a = z.new_full((1,), _COUNT_IS_ZERO / b), z.new_full((1,), -a)
        b_of_1, one_over_b = z.new_full((1,), b), z.new_full((1,), 1 / b)
        log_y = tape(torch.log, y, out=torch.empty_like(y))
        least = tape(torch.sub, z, most, out=torch.empty_like(z))
        log_y = tape(torch.maximum, least, log_y, out=least)
        t = tape(torch.sub, z, log_y, out=dz)
        bt = tape(torch.mul, t, b_of_1, out=value)
        at = tape(torch.mul, t, minus_a, out=torch.empty_like(z))
        growth = tape(torch.expm1, bt, out=dz)
        fall = tape(torch.expm1, at, out=torch.empty_like(z))
        rest = tape(torch.sub, growth, bt, out=value)
        rest_of_fall = tape(torch.sub, fall, at, out=at)
        tape(rest.mul_, one_over_b)
        tape(rest.add_, rest_of_fall, alpha=1 / a)
        tape(growth.sub_, fall)
        scale = tape(log_y.mul_, b_of_1)
        tape(scale.exp_)
        tape(rest.mul_, scale)
        tape(growth.mul_, scale)

    return loss


def binary_log_loss(
    tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor
) -> None:
    """log(1 + exp(z)) - y z: minus the log-likelihood of y under p = sigmoid(z).

    That is log(exp(-y z) + exp(z - y z)), where nothing cancels; the gradient is p - y.
    """
    zero = z.new_zeros(1)
    minus_yz = tape(torch.addcmul, zero, y, z, value=-1, out=dz)
    z_minus_yz = tape(torch.add, z, minus_yz, out=value)
    tape(torch.logaddexp, minus_yz, z_minus_yz, out=value)
    p = tape(torch.sigmoid, z, out=dz)
    tape(p.sub_, y)


def multinomial_log_loss(
    tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor
) -> None:
    """-y . log(p): minus the log-likelihood of a one-hot y under p = softmax(z).

    The gradient is p - y.
    """
    log_p = tape(torch.log_softmax, z, -2, out=value)
    likelihood = tape(log_p.mul_, y)
    tape(likelihood.neg_)
    p = tape(torch.softmax, z, -2, out=dz)
    tape(p.sub_, y)


# In the margin losses a class y in {0, 1} has the sign s = 2 y - 1, and s z is how far
# the raw prediction lies on the right side.


def hinge(margin: float) -> RecordLoss:
    """max(0, a) of a = margin - s z: of the support vector machine, or perceptron."""

    def loss(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
        zero, one, wanted = z.new_zeros(1), z.new_ones(1), z.new_full((1,), margin)
        minus_s = tape(torch.add, one, y, alpha=-2, out=torch.empty_like(y))
        a = tape(torch.addcmul, wanted, minus_s, z, out=value)
        is_wrong = tape(torch.ge, a, zero, out=dz)
        tape(is_wrong.mul_, minus_s)
        tape(a.relu_)

    return loss


def squared_hinge(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
    """max(0, 1 - s z)^2, without a half, as SGD's."""
    one, two = z.new_ones(1), z.new_full((1,), 2.0)
    minus_2s = tape(torch.add, two, y, alpha=-4, out=torch.empty_like(y))
    short = tape(torch.addcmul, one, minus_2s, z, value=0.5, out=dz)  # 1 - s z
    short = tape(short.relu_)
    tape(torch.mul, short, short, out=value)
    tape(short.mul_, minus_2s)


def modified_huber(tape: Tape, z: Tensor, y: Tensor, value: Tensor, dz: Tensor) -> None:
    """max(0, 1 - s z)^2 down to s z = -1, -4 s z below (Zhang, 2004).

    Both are c (2 a - c), and -2 s c the gradient, where c is a = 1 - s z cut off at 0
    and 2.
    """
    zero, one, two = z.new_zeros(1), z.new_ones(1), z.new_full((1,), 2.0)
    minus_s = tape(torch.add, one, y, alpha=-2, out=torch.empty_like(y))
    twice_a = tape(torch.addcmul, two, minus_s, z, value=2, out=value)
    twice_c = tape(torch.clamp, twice_a, 0.0, 4.0, out=dz)
    rest = tape(twice_a.add_, twice_c, alpha=-0.5)  # 2 a - c
    tape(torch.addcmul, zero, rest, twice_c, value=0.5, out=value)
    tape(twice_c.mul_, minus_s)


def clipped(z: Tensor) -> Tensor:
    """Return (z + 1) / 2, cut off at 0 and 1: modified_huber's probabilities."""
    return (z.clamp(-1, 1) + 1) / 2


def log_clipped(z: Tensor) -> Tensor:
    """Return their logarithm; -inf is the right one where they are 0."""
    return clipped(z).log()


def _identity(z: Tensor) -> Tensor:
    return z


def without_crossings(quantile: Quantile) -> Callable[[Tensor], Tensor]:
    """Return the link that gives larger quantiles of a sample larger predictions.

    The raw ones are sorted, the rearrangement of Chernozhukov, Fernandez-Val and
    Galichon (2010). Never is the sum of their pinball losses larger after it: but for
    terms that no new order changes, it is minus the sum of quantile times prediction.
    """
    if not isinstance(quantile, tuple):
        return _identity
    places = places_of(quantile)
    return lambda z: z.sort(-2).values[..., places, :]


def places_of(quantiles: tuple[float, ...]) -> list[int]:
    """Return the place that each of the quantiles has in ascending order."""
    ascending = sorted(quantiles)
    return [ascending.index(quantile) for quantile in quantiles]


SQUARED_ERROR = Loss(squared_error, _identity, degree=2)
ABSOLUTE_ERROR = Loss(absolute_error, _identity, degree=1)
POISSON = Loss(poisson, torch.exp, degree=1, log_link=True)
GAMMA = Loss(gamma, torch.exp, degree=0, log_link=True)
BINARY_LOG_LOSS = Loss(
    binary_log_loss,
    torch.sigmoid,
    torch.nn.functional.logsigmoid,
    joint=logit_of_mean,
)
MULTINOMIAL_LOG_LOSS = Loss(
    multinomial_log_loss,
    partial(torch.softmax, dim=-2),
    partial(torch.log_softmax, dim=-2),
    joint=log_of_mean_softmax,
)
HINGE = Loss(hinge(1.0), None)
SQUARED_HINGE = Loss(squared_hinge, None)
PERCEPTRON = Loss(hinge(0.0), None)
MODIFIED_HUBER = Loss(modified_huber, clipped, log_clipped, joint=middle_of_clipped)

LOSSES: dict[str, Callable[[float | Tensor, Quantile, float], Loss]] = {
    "absolute_error": lambda delta, quantile, power: ABSOLUTE_ERROR,
    "binary_log_loss": lambda delta, quantile, power: BINARY_LOG_LOSS,
    "epsilon_insensitive": lambda delta, quantile, power: Loss(
        epsilon_insensitive(delta), _identity, degree=1
    ),
    "gamma": lambda delta, quantile, power: GAMMA,
    "hinge": lambda delta, quantile, power: HINGE,
    "huber": lambda delta, quantile, power: Loss(huber(delta), _identity, degree=2),
    "modified_huber": lambda delta, quantile, power: MODIFIED_HUBER,
    "multinomial_log_loss": lambda delta, quantile, power: MULTINOMIAL_LOG_LOSS,
    "perceptron": lambda delta, quantile, power: PERCEPTRON,
    "poisson": lambda delta, quantile, power: POISSON,
    "quantile": lambda delta, quantile, power: Loss(
        pinball(quantile), without_crossings(quantile), degree=1
    ),
    "squared_epsilon_insensitive": lambda delta, quantile, power: Loss(
        squared_epsilon_insensitive(delta), _identity, degree=2
    ),
    "squared_error": lambda delta, quantile, power: SQUARED_ERROR,
    "squared_hinge": lambda delta, quantile, power: SQUARED_HINGE,
    "tweedie": lambda delta, quantile, power: Loss(
        tweedie(power), torch.exp, degree=2 - power, log_link=True
    ),
}


def loss_named(name: str, power: float = nan) -> Loss:
    """Return an entry of the table for its links and degree.

    These depend on no number, but for the degree of "tweedie" on its ``power``.
    """
    return LOSSES[name](1.0, 0.5, power)
