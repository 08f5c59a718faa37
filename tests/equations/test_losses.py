"""Losses against torch.nn.functional and scikit-learn, gradients against autograd.

Every test is parametrised over the package's own table, so that a loss is tested by
being in it. Targets, delta and quantile are such that kinks are hit exactly.
"""

import re
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from covering import every_pair
from sklearn._loss import loss as sklearn_losses
from sklearn._loss.tests.test_loss import test_loss_on_specific_values as specific
from sklearn.linear_model import SGDClassifier, _sgd_fast
from torch.distributions import Exponential, Poisson

from skgd._equations.losses import LOSSES
from skgd._equations.tape import Tape
from skgd._estimators.checks import TARGETS, check_domain
from skgd._estimators.parameters import LOSSES_OF_CLASSES
from skgd._estimators.targets import Classes

DELTA, QUANTILE, POWER = NUMBERS = 0.25, 0.75, 1.5
CLASSES = {
    "binary_log_loss",
    "hinge",
    "modified_huber",
    "multinomial_log_loss",
    "perceptron",
    "squared_hinge",
}
ELEMENTWISE = [name for name in LOSSES if name != "multinomial_log_loss"]
DTYPES = [torch.float32, torch.float64]


def margin_loss(z, y, margin):
    """Return max(0, margin - s z), by torch's way of ranking z and 0."""
    zero = torch.zeros_like(z)
    return F.margin_ranking_loss(z, zero, 2 * y - 1, margin, reduction="none")


def unlikelihood(distribution, z, y):
    """Return how much less likely y is at the mean exp(z) than at its own."""
    there, at_best = distribution(z.exp()), distribution(y.clamp_min(1e-300))
    return at_best.log_prob(y) - there.log_prob(y)


def tweedie_deviance(z, y):
    """Return half of it as an integral over means, by its defining differential.

    That is (y - m) / m^p dm from the mean exp(z) to y, or with m = exp(u), of smooth
    (y - m) m^(1 - p) du, by Gauss and Legendre.
    """
    far = -2 * 40.0  # below which nothing is left of a target of 0
    end = y.clamp_min(np.exp(far)).log()
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(200))
    u = z[..., None] + (end - z)[..., None] * (nodes + 1) / 2
    slopes = (y[..., None] - u.exp()) * ((1 - POWER) * u).exp()
    return (end - z) / 2 * (slopes @ weights)


# The loss of every sample and output, (mob), of z and y (mob); summed over o, (m1b), of
# the multinomial loss.
ORACLES = {
    "absolute_error": lambda z, y: F.l1_loss(z, y, reduction="none"),
    "binary_log_loss": lambda z, y: F.binary_cross_entropy_with_logits(
        z, y, reduction="none"
    ),
    "epsilon_insensitive": lambda z, y: F.relu(
        F.l1_loss(z, y, reduction="none") - DELTA
    ),
    "gamma": lambda z, y: unlikelihood(lambda mean: Exponential(1 / mean), z, y),
    "hinge": lambda z, y: margin_loss(z, y, 1.0),
    "huber": lambda z, y: F.huber_loss(z, y, reduction="none", delta=DELTA),
    "modified_huber": lambda z, y: 2 * F.huber_loss(
        margin_loss(z, y, 1.0), torch.zeros_like(z), reduction="none", delta=2.0
    ),
    "multinomial_log_loss": lambda z, y: F.cross_entropy(
        z, y, reduction="none"
    ).unsqueeze(1),
    "perceptron": lambda z, y: margin_loss(z, y, 0.0),
    "poisson": lambda z, y: unlikelihood(Poisson, z, y),
    "quantile": lambda z, y: torch.maximum(
        QUANTILE * (y - z), (1 - QUANTILE) * (z - y)
    ),
    "squared_epsilon_insensitive": lambda z, y: F.relu(
        F.l1_loss(z, y, reduction="none") - DELTA
    ).square(),
    "squared_error": lambda z, y: F.mse_loss(z, y, reduction="none") / 2,
    "squared_hinge": lambda z, y: margin_loss(z, y, 1.0).square(),
    "tweedie": tweedie_deviance,
}  # fmt: skip

# scikit-learn's own: a class of sklearn._loss, or of its SGD estimators.
SKLEARN = {
    "absolute_error": sklearn_losses.AbsoluteError(),
    "binary_log_loss": sklearn_losses.HalfBinomialLoss(),
    "epsilon_insensitive": _sgd_fast.EpsilonInsensitive(DELTA),
    "gamma": sklearn_losses.HalfGammaLoss(),
    "hinge": _sgd_fast.Hinge(1.0),
    "huber": sklearn_losses.HuberLoss(delta=DELTA),
    "modified_huber": _sgd_fast.ModifiedHuber(),
    "perceptron": _sgd_fast.Hinge(0.0),
    "poisson": sklearn_losses.HalfPoissonLoss(),
    "quantile": sklearn_losses.PinballLoss(quantile=QUANTILE),
    "squared_epsilon_insensitive": _sgd_fast.SquaredEpsilonInsensitive(DELTA),
    "squared_error": sklearn_losses.HalfSquaredError(),
    "squared_hinge": _sgd_fast.SquaredHinge(1.0),
    "tweedie": sklearn_losses.HalfTweedieLoss(power=POWER),
}

# Raw predictions, kinks among them: y, y +- delta, the margins, and the start.
GRID = [-1e4, -700, -37, -1.5, -1, -0.25, 0, 0.25, 0.5, 0.75, 1, 2, 3, 37, 700, 1e4]


def targets(name, shape, seed=1):
    """Return random targets that suit the loss; a class is one-hot over the outputs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if name == "multinomial_log_loss":
        return F.one_hot(noise.argmax(-2), shape[-2]).mT.to(torch.float64)
    if name in CLASSES:
        return (noise > 0).to(torch.float64)
    amounts = noise.exp()
    of_name = {"poisson": amounts.round(), "tweedie": amounts.round(), "gamma": amounts}
    return of_name.get(name, noise)


def some_targets(name):
    """Return a few targets that suit the loss, the end of its domain among them."""
    if name in CLASSES:
        return [0.0, 1.0]
    if name in ("poisson", "tweedie"):
        return [0.0, 1.0, 3.0]
    return [0.5, 3.0] if name == "gamma" else [0.5, -3.0]


def written(name, z, y, delta=DELTA, quantile=QUANTILE, power=POWER):
    """Return what the package writes for a loss: value and gradient, both (mob)."""
    value, dz = torch.full_like(z, torch.nan), torch.full_like(z, torch.nan)
    tape = Tape()
    LOSSES[name](delta, quantile, power).record(tape, z, y, value, dz)
    tape.replay()
    return value, dz


def on_grid(name, dtype=torch.float64):
    """Return all pairs of some targets and raw predictions, (1, 1, b) and (1, b)."""
    y, z = np.meshgrid(some_targets(name), GRID)
    return (
        torch.tensor(z, dtype=dtype).view(1, 1, -1),
        torch.tensor(y, dtype=dtype).view(1, -1),
    )


def by_sklearn(name, z, y):
    """Return scikit-learn's value and gradient for arrays (b,), in float64."""
    loss = SKLEARN[name]
    if hasattr(loss, "py_loss"):
        sign = 2 * y - 1 if name in CLASSES else y
        pairs = list(zip(z, sign, strict=True))
        return (
            np.array([loss.py_loss(*pair) for pair in pairs]),
            np.array([loss.py_dloss(*pair) for pair in pairs]),
        )
    value, dz = loss.loss_gradient(y, z)
    if name in TARGETS:  # where scikit-learn leaves out what depends on y alone
        value = value + loss.constant_to_optimal_zero(y)
    if name == "tweedie":  # it multiplies a target of 0 by an inf
        never = (y == 0) & (z == -1e4)
        value, dz = np.where(never, 0, value), np.where(never, 0, dz)
    return value, dz


def raw_predictions(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_every_loss_has_an_oracle():
    """A new loss is tested by being in the table."""
    assert set(ORACLES) == set(LOSSES)
    assert set(SKLEARN) == set(ELEMENTWISE)


@every_pair(
    pytest.mark.parametrize(
        "own", [False, True], ids=["same rows", "rows of their own"]
    ),
    pytest.mark.parametrize("n_models", [1, 3]),
    pytest.mark.parametrize("n_outputs", [1, 4]),
    pytest.mark.parametrize("name", LOSSES),
)
def test_the_gradient_is_the_derivative_of_the_loss(name, n_outputs, n_models, own):
    """Weighted values and gradients are torch's and autograd's, model by model."""
    shape = (n_models, n_outputs, 7)
    z = raw_predictions(shape).requires_grad_()
    y = targets(name, shape if own else shape[1:])
    weight = raw_predictions((n_models, 1, 7), seed=2).abs()
    expected = (ORACLES[name](z, y.expand(shape)) * weight).sum(1)
    (expected_dz,) = torch.autograd.grad(expected.sum(), z)
    value, dz = written(name, z.detach(), y)
    value, dz = value * weight.expand(shape), dz * weight.expand(shape)

    torch.testing.assert_close(value.sum(1), expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dz, expected_dz, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_outputs", [1, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_passes_gradcheck(name, n_outputs):
    """The gradient agrees with finite differences of the value, not only autograd."""

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z, y):
            value, dz = written(name, z, y)
            ctx.save_for_backward(dz)
            return value.sum(1)

        @staticmethod
        def backward(ctx, upstream):
            (dz,) = ctx.saved_tensors
            return dz * upstream.unsqueeze(1), None

    z = raw_predictions((2, n_outputs, 5)).requires_grad_()

    assert torch.autograd.gradcheck(Ours.apply, (z, targets(name, (n_outputs, 5))))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_value_and_gradient_are_scikit_learns(name):
    """Both are scikit-learn's, factors, constants and far predictions included.

    So are SGD's gradients at a kink. sklearn._loss takes one end of what is allowed
    there, which is left to the test below.
    """
    z, y = on_grid(name)
    expected, expected_dz = by_sklearn(name, z.flatten().numpy(), y.flatten().numpy())
    value, dz = written(name, z, y)

    # exp(700) has the rounding of 700 + log(y), a hundred times that of its own.
    np.testing.assert_allclose(value[0, 0], expected, rtol=2e-13, atol=2e-15)
    same = (z != y)[0, 0] if name in ("absolute_error", "quantile") else slice(None)
    np.testing.assert_allclose(
        dz[0, 0][same], expected_dz[same], rtol=2e-13, atol=1e-15
    )


def test_the_multinomial_loss_is_scikit_learns():
    """Likewise for softmax, where scikit-learn wants class numbers."""
    z, y = raw_predictions((1, 4, 9)), targets("multinomial_log_loss", (4, 9))
    expected, expected_dz = sklearn_losses.HalfMultinomialLoss(
        n_classes=4
    ).loss_gradient(y.argmax(0).double().numpy(), np.ascontiguousarray(z[0].T.numpy()))
    value, dz = written("multinomial_log_loss", z, y)

    np.testing.assert_allclose(value[0].sum(0), expected, rtol=1e-13)
    np.testing.assert_allclose(dz[0].T, expected_dz, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_gradient_lies_between_the_one_sided_derivatives(name):
    """At kinks too: every loss is convex, so its secants enclose the gradient."""
    z, y = on_grid(name)
    near = (z.abs() < 5).flatten()
    z, y = z[..., near], y[..., near]
    step = 2.0**-20
    (before, _), (value, dz), (after, _) = (
        written(name, z + shift, y) for shift in (-step, 0, step)
    )
    rounding = 2e-15 * (1 + value) / step

    assert (dz >= (value - before) / step - rounding).all()
    assert (dz <= (after - value) / step + rounding).all()


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name in CLASSES])
def test_a_linear_model_leaves_its_start(name):
    """At z = 0 the gradient leads to the side of the class: the perceptron's too."""
    _, dz = written(name, torch.zeros(1, 1, 2), torch.tensor([[0.0, 1.0]]))

    assert dz[0, 0, 0] > 0 > dz[0, 0, 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_far_predictions_are_exact(name, dtype):
    """At +-1e4 nothing is lost in either precision; inf is where exp overflows."""
    z, y = on_grid(name, dtype)
    far = (z.abs() == 1e4).flatten()
    z, y = z[..., far], y[..., far]
    expected, expected_dz = by_sklearn(
        name, z.flatten().double().numpy(), y.flatten().double().numpy()
    )
    value, dz = written(name, z, y)

    assert value.dtype == dz.dtype == dtype
    rtol = 4 * torch.finfo(dtype).eps
    np.testing.assert_allclose(value[0, 0], expected, rtol=rtol)
    np.testing.assert_allclose(dz[0, 0], expected_dz, rtol=rtol)


@pytest.mark.parametrize("of_folds", [False, True])
def test_several_quantiles_are_the_outputs(of_folds):
    """Each has value and gradient of its own, of the one target; folds' models too."""
    z, y, quantiles = (
        raw_predictions((2, 3, 7)),
        raw_predictions((1, 7)),
        (0.9, 0.1, 0.5),
    )
    expected = [
        written("quantile", z[:, [n]], y, quantile=q) for n, q in enumerate(quantiles)
    ]
    arrays = (z[:, None], y.expand(2, 1, 3, 7)) if of_folds else (z, y.expand(3, 7))
    got = written("quantile", *arrays, quantile=quantiles)
    for one, of_each in zip(got, zip(*expected, strict=True), strict=True):
        assert torch.equal(one.reshape(2, 3, 7), torch.cat(of_each, dim=1))


@pytest.mark.parametrize(
    "quantiles", [(0.1, 0.5, 0.9), (0.9, 0.1, 0.5), (0.5, 0.9, 0.1)]
)
def test_larger_quantiles_get_larger_predictions(quantiles):
    """Of every sample, whatever their order: the link is a sort, by no index."""
    z = raw_predictions((2, 3, 50))
    link = LOSSES["quantile"](DELTA, quantiles, POWER).inverse_link
    by_quantile = dict(zip(quantiles, link(z).unbind(1), strict=True))
    ascending = torch.stack([by_quantile[q] for q in (0.1, 0.5, 0.9)], dim=1)
    assert torch.equal(
        ascending, torch.stack([z.amin(1), z.median(1).values, z.amax(1)], dim=1)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_certain_classes_are_exact(dtype):
    """Of softmax outputs 1e4 apart a right one costs 0, a wrong one its margin."""
    z = torch.tensor([[[1e4, -1e4, 1e4, -1e4], [0, 0, 0, 0]]], dtype=dtype)
    y = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]], dtype=dtype)
    value, dz = written("multinomial_log_loss", z, y)

    assert value.sum(1).tolist() == [[0, 0, 1e4, 1e4]]
    assert dz.tolist() == [[[0, 0, 1, -1], [0, 0, -1, 1]]]


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_number_is_told(name):
    """A raw prediction that is nan makes a value of nan, which ends the training."""
    y = targets(name, (2, 5))
    value, _ = written(name, torch.full((1, 2, 5), torch.nan, dtype=y.dtype), y)

    assert value.isnan().any(1).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_calls_are_replayed(name):
    """They read z and y anew at every step, and leave them as they are."""
    z, y = raw_predictions((2, 3, 5)), targets(name, (3, 5))
    value, dz = torch.empty_like(z), torch.empty_like(z)
    tape = Tape()
    LOSSES[name](*NUMBERS).record(tape, z, y, value, dz)
    for seed in (2, 3):
        new_z, new_y = raw_predictions((2, 3, 5), seed), targets(name, (3, 5), seed)
        z.copy_(new_z)
        y.copy_(new_y)
        tape.replay()
        expected, expected_dz = written(name, new_z, new_y)

        assert torch.equal(value, expected)
        assert torch.equal(dz, expected_dz)
        assert torch.equal(z, new_z)
        assert torch.equal(y, new_y)


# scikit-learn's table of values to reproduce, extreme ones above all.
NAMES = {
    type(loss): name for name, loss in SKLEARN.items() if not hasattr(loss, "py_loss")
} | {sklearn_losses.HalfMultinomialLoss: "multinomial_log_loss"}
ROWS = [
    row
    for row in specific.pytestmark[0].args[1]
    if type(row[0]) in NAMES and getattr(row[0].closs, "power", 1.5) < 2
]


def test_scikit_learns_table_is_found():
    """It has 20 rows for two classes and 4 for more."""
    names = [NAMES[type(row[0])] for row in ROWS]

    assert names.count("binary_log_loss") == 20
    assert names.count("multinomial_log_loss") == 4
    assert len(names) == 33


@pytest.mark.parametrize(("loss", "y", "z", "expected", "expected_dz", "_"), ROWS)
def test_scikit_learns_table_of_values(loss, y, z, expected, expected_dz, _):
    """Every row of its test comes out, to 12 digits of the value."""
    name = NAMES[type(loss)]
    if name == "multinomial_log_loss":
        y = np.arange(loss.n_classes) == y
    if name in TARGETS:
        expected = expected + loss.constant_to_optimal_zero(np.array([y]))[0]
    value, dz = written(
        name,
        torch.tensor(z, dtype=torch.float64).view(1, -1, 1),
        torch.tensor(y, dtype=torch.float64).view(-1, 1),
        getattr(loss.closs, "delta", DELTA),
        getattr(loss.closs, "quantile", QUANTILE),
    )

    # The table has 0 for numbers below 1e-100, and one wrong sign of 1e-16.
    assert value.sum().item() == pytest.approx(expected, rel=1e-12, abs=1e-100)
    if expected_dz is not None:
        assert dz.item() == pytest.approx(expected_dz, rel=1e-12, abs=2e-16)


@pytest.mark.parametrize("z", [-745.0, -40.0, -3.0, 0.0, 3.0, 22.0, 30.0, 45.0, 60.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_small_log_losses_keep_their_digits(y, z):
    """The loss is log(1 + exp(-+z)) to the last digits of float64, on either side."""
    value, _ = written(
        "binary_log_loss",
        torch.tensor([[[z]]], dtype=torch.float64),
        torch.tensor([[y]], dtype=torch.float64),
    )

    assert value.item() == pytest.approx(
        np.logaddexp(0, z if y == 0 else -z), rel=1e-15
    )


def deviance(name, z, y):
    """Return the half deviance and its derivative, computed with fifty digits."""
    power = Decimal(POWER)
    with localcontext() as context:
        context.prec = 50
        z, y = Decimal(z), Decimal(y)
        if name == "gamma":
            ratio = y / z.exp()
            return float(ratio - 1 - ratio.ln()), float(1 - ratio)
        if name == "tweedie":
            mean, a, b = z.exp(), 1 - power, 2 - power
            value = y**b / (a * b) - y * mean**a / a + mean**b / b
            return float(value), float(mean**b - y * mean**a)
        return float(z.exp() - y + y * (y.ln() - z)), float(z.exp() - y)


@pytest.mark.parametrize("away", [-1.0, -1e-2, -1e-5, 1e-5, 1e-2, 1.0, 39.0, 41.0])
@pytest.mark.parametrize("y", [0.125, 3.0, 1e3, 1e9])
@pytest.mark.parametrize("name", TARGETS)
def test_deviances_keep_their_digits(name, y, away):
    """Near the optimum too, where the terms of the formula cancel."""
    z = float(np.log(y)) + away
    expected, expected_dz = deviance(name, z, y)
    value, dz = written(
        name,
        torch.tensor([[[z]]], dtype=torch.float64),
        torch.tensor([[y]], dtype=torch.float64),
    )

    rtol = 4e-15 * max(1, abs(z)) / min(1, abs(away))  # the rounding of log(y)
    assert value.item() == pytest.approx(expected, rel=rtol, abs=0)
    assert dz.item() == pytest.approx(expected_dz, rel=rtol, abs=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TARGETS)
def test_deviances_are_never_negative(name, dtype):
    """Nor is one above zero where the prediction is the target."""
    y = torch.logspace(-3, 6, 1001, dtype=dtype)
    at_optimum = written(name, y.log().view(1, 1, -1), y.view(1, -1))
    steps = torch.logspace(-7, 0, 99, dtype=dtype)
    z = y.log() + torch.cat([-steps, steps])[:, None]
    value, _ = written(name, z[:, None], y.view(1, -1))

    assert all((array == 0).all() for array in at_optimum)
    assert (value >= 0).all()


LINKS = {name: loss.link for name, loss in SKLEARN.items() if hasattr(loss, "link")} | {
    "multinomial_log_loss": sklearn_losses.HalfMultinomialLoss(n_classes=4).link
}


@pytest.mark.parametrize("name", LINKS)
def test_the_inverse_link_is_scikit_learns(name):
    """A raw prediction becomes a prediction as in scikit-learn's loss."""
    z = raw_predictions((2, 4, 9))
    predicted = LOSSES[name](*NUMBERS).inverse_link(z)
    expected = LINKS[name].inverse(np.ascontiguousarray(z.mT.numpy()).reshape(-1, 4))

    np.testing.assert_allclose(predicted.mT.reshape(-1, 4), expected, rtol=1e-13)


def two_classes(z, dtype=torch.float64):
    """Return the raw predictions of both classes, (1, 2, b)."""
    z = torch.tensor(z, dtype=dtype)
    return torch.stack([-z, z])[None]


def test_the_probabilities_of_modified_huber_are_those_of_sgd():
    """They are SGDClassifier's, of a raw prediction for each of two classes."""
    z = np.array([-1e4, -1, -0.5, 0, 0.3, 1, 1e4])
    sgd = SGDClassifier(loss="modified_huber").fit([[0], [1]], [0, 1])
    sgd.coef_, sgd.intercept_ = np.array([[1.0]]), np.array([0.0])
    probabilities = LOSSES["modified_huber"](*NUMBERS).inverse_link(two_classes(z))

    np.testing.assert_allclose(
        probabilities[0].T, sgd.predict_proba(z[:, None]), rtol=1e-15
    )


WITH_LOGS = [
    name for name in LOSSES if LOSSES[name](*NUMBERS).log_inverse_link is not None
]


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_loss_can_predict(name):
    """Numbers need a link; of classes, three losses have no probabilities."""
    loss = LOSSES[name](*NUMBERS)
    margins = {"hinge", "perceptron", "squared_hinge"}

    assert (loss.inverse_link is None) == (name in margins)
    assert (loss.log_inverse_link is not None) == (name in CLASSES - margins)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WITH_LOGS)
def test_probabilities_and_their_logs_agree(name, dtype):
    """They sum to 1, and the logs are theirs, without nan, however certain."""
    z = two_classes([-1e4, -30, -1, -0.9, 0, 0.3, 1, 5, 1e4], dtype)
    loss = LOSSES[name](*NUMBERS)
    probability, log_probability = loss.inverse_link(z), loss.log_inverse_link(z)

    torch.testing.assert_close(probability.sum(1), torch.ones(1, 9, dtype=dtype))
    torch.testing.assert_close(log_probability.exp(), probability)
    assert (log_probability.isfinite() | (probability == 0)).all()


@pytest.mark.parametrize("name", ["binary_log_loss", "multinomial_log_loss"])
def test_the_logs_of_vanishing_probabilities_are_finite(name):
    """A probability below all numbers has a logarithm still."""
    loss = LOSSES[name](*NUMBERS)

    assert torch.isfinite(loss.log_inverse_link(two_classes([-1e4, 1e4]))).all()


@pytest.mark.parametrize("missing", [2.0**-40, 2.0**-10, 0.3])
def test_modified_hubers_log_probabilities_keep_their_digits(missing):
    """Nothing is lost on the way, near 1 or near 0."""
    z = two_classes([1 - 2 * missing])
    log_probability = LOSSES["modified_huber"](*NUMBERS).log_inverse_link(z)
    expected = [np.log(missing), np.log1p(-missing)]

    np.testing.assert_allclose(log_probability[0, :, 0], expected, rtol=1e-14)


@pytest.mark.parametrize("y", [-1.0, -1e-300, 0.0, 1e-300, 0.5, 2.0])
@pytest.mark.parametrize("name", sorted(set(LINKS) - CLASSES))
def test_the_domain_is_scikit_learns(name, y):
    """A loss of numbers takes the targets that scikit-learn's own takes."""
    numbers = np.array([1.0, y])
    if SKLEARN[name].in_y_true_range(numbers):
        check_domain(name, numbers)
    else:
        with pytest.raises(ValueError, match=f"^For loss='{name}', y must be .* Got"):
            check_domain(name, numbers)


@pytest.mark.parametrize(
    ("loss", "y", "said"),
    [
        ("gamma", [[3.0, -2.0]], "above 0. Got numbers from -2.0 to 3.0."),
    ],
)
def test_what_is_said_of_the_domain(loss, y, said):
    """The sentence names y, the loss, what it must be, and what it got."""
    with pytest.raises(
        ValueError, match=re.escape(f"For loss={loss!r}, y must be {said}")
    ):
        check_domain(loss, np.array(y))


@pytest.mark.parametrize("z", [[0.3, -1.2, 2.0], [-800.0, -790.0], [40.0, 45.0, 38.0]])
def test_the_scores_of_several_models_are_those_of_their_mean_probability(z):
    """Against the logit of it in 400 digits, also where doubles would be 0 or 1."""
    with localcontext() as context:
        context.prec = 400
        p = [1 / (1 + (-Decimal(one)).exp()) for one in z]
        mean = sum(p) / len(p)
        logit = float((mean / (1 - mean)).ln())
        log_p = float(mean.ln())
    column = torch.tensor(z, dtype=torch.float64).view(-1, 1, 1)
    binary = LOSSES["binary_log_loss"](*NUMBERS)
    score = binary.joint(column)
    three = LOSSES["multinomial_log_loss"](*NUMBERS)
    scores = three.joint(torch.cat([column, torch.zeros_like(column)], dim=1))

    assert score.shape == (1, 1, 1)
    assert score.item() == pytest.approx(logit, rel=1e-13)
    assert binary.log_inverse_link(score).item() == pytest.approx(log_p, rel=1e-12)
    of_three = three.log_inverse_link(scores)[0, 0].item()
    assert of_three == pytest.approx(log_p, rel=1e-12, abs=1e-16)
    assert (scores[0, 0] - scores[0, 1]).item() == pytest.approx(logit, rel=1e-13)


@pytest.mark.parametrize("name", LOSSES_OF_CLASSES)
def test_every_loss_with_probabilities_has_the_scores_of_their_mean(name):
    """What the scores of several models are by definition; without, they are means."""
    entry = Classes(np.arange(4), several_a_row=False).loss_entry(name)
    loss, z = LOSSES[entry](*NUMBERS), raw_predictions((3, 4, 9))
    link = loss.inverse_link or (lambda z: z)
    torch.testing.assert_close(link(loss.joint(z))[0], link(z).mean(0))
