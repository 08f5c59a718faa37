"""Losses against torch.nn.functional and scikit-learn, gradients against autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn._loss.loss import HalfBinomialLoss, HalfMultinomialLoss, HalfSquaredError

from skgd._losses import LOSSES

# The loss of every sample, (m, b), of z (mob) and y (ob).
ORACLES = {
    "squared_error": lambda z, y: F.mse_loss(
        z, y.expand_as(z), reduction="none"
    ).sum(1) / 2,
    "binary_log_loss": lambda z, y: F.binary_cross_entropy_with_logits(
        z, y.expand_as(z), reduction="none"
    ).sum(1),
    "multinomial_log_loss": lambda z, y: F.cross_entropy(
        z, y.argmax(0).expand(len(z), -1), reduction="none"
    ),
}  # fmt: skip

SKLEARN = {
    "squared_error": (HalfSquaredError(), np.array([-2.0, 0.0, 0.5, 3e4])),
    "binary_log_loss": (HalfBinomialLoss(), np.array([0.0, 0.0, 1.0, 1.0])),
}


def targets(name, n_outputs, n_rows):
    """Return targets (ob) that suit the loss."""
    generator = torch.Generator().manual_seed(1)
    if name == "squared_error":
        return torch.randn(n_outputs, n_rows, generator=generator, dtype=torch.float64)
    if name == "binary_log_loss":
        drawn = torch.randint(2, (n_outputs, n_rows), generator=generator)
        return drawn.to(torch.float64)
    classes = torch.randint(n_outputs, (n_rows,), generator=generator)
    return F.one_hot(classes, n_outputs).T.to(torch.float64)


def value_and_gradient(name, z, y):
    """Return what the package writes for a loss: (m, b) and (mob)."""
    value, dz = torch.empty_like(z), torch.empty_like(z)
    for call in LOSSES[name].calls(z, y, value, dz):
        call()
    return value.sum(1), dz


def raw_predictions(n_models, n_outputs, n_rows):
    generator = torch.Generator().manual_seed(0)
    shape = (n_models, n_outputs, n_rows)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_every_loss_has_an_oracle():
    """A new loss is tested by being in the table."""
    assert set(ORACLES) == set(LOSSES)


@pytest.mark.parametrize("n_models", [1, 3])
@pytest.mark.parametrize("n_outputs", [1, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_derivative_of_the_loss(name, n_outputs, n_models):
    """Value and gradient are torch's and autograd's, for every model and output."""
    z, y = raw_predictions(n_models, n_outputs, 7), targets(name, n_outputs, 7)
    z.requires_grad_()
    expected = ORACLES[name](z, y)
    (expected_dz,) = torch.autograd.grad(expected.sum(), z)
    value, dz = value_and_gradient(name, z.detach(), y)

    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dz, expected_dz, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_outputs", [1, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_passes_gradcheck(name, n_outputs):
    """The gradient agrees with finite differences of the value, not only autograd."""

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z, y):
            value, dz = value_and_gradient(name, z, y)
            ctx.save_for_backward(dz)
            return value

        @staticmethod
        def backward(ctx, upstream):
            (dz,) = ctx.saved_tensors
            return dz * upstream.unsqueeze(1), None

    z = raw_predictions(2, n_outputs, 5).requires_grad_()

    assert torch.autograd.gradcheck(Ours.apply, (z, targets(name, n_outputs, 5)))


@pytest.mark.parametrize("name", SKLEARN)
def test_value_and_gradient_are_scikit_learns(name):
    """Loss and gradient are those of scikit-learn's own loss, its factor included."""
    loss, y = SKLEARN[name]
    z = np.array([-1.5, 40.0, -700.0, 1e4])
    expected, expected_dz = loss.loss_gradient(y, z)
    value, dz = value_and_gradient(
        name, torch.tensor(z).view(1, 1, -1), torch.tensor(y).view(1, -1)
    )

    np.testing.assert_allclose(value[0], expected, rtol=1e-14)
    np.testing.assert_allclose(dz[0, 0], expected_dz, rtol=1e-14, atol=1e-15)


def test_the_multinomial_loss_is_scikit_learns():
    """Likewise for softmax, where scikit-learn wants class numbers."""
    z, y = raw_predictions(1, 4, 9), targets("multinomial_log_loss", 4, 9)
    expected = HalfMultinomialLoss(n_classes=4).loss(
        y.argmax(0).double().numpy(), np.ascontiguousarray(z[0].T.numpy())
    )
    value, _ = value_and_gradient("multinomial_log_loss", z, y)

    np.testing.assert_allclose(value[0], expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["binary_log_loss", "multinomial_log_loss"])
def test_certain_predictions_are_exact(name, dtype):
    """At raw predictions of +-1e4 a right one costs 0, a wrong one its margin."""
    n_outputs = 1 if name == "binary_log_loss" else 2
    z = torch.tensor([[1e4, -1e4, 1e4, -1e4]], dtype=dtype)
    y = torch.tensor([[1.0, 0.0, 0.0, 1.0]], dtype=dtype)
    if n_outputs == 2:  # softmax of (z, 0) is sigmoid(z)
        z, y = torch.cat([z, torch.zeros_like(z)]), torch.cat([y, 1 - y])
    value, dz = value_and_gradient(name, z[None], y)

    assert value[0].tolist() == [0, 0, 1e4, 1e4]
    assert dz[0, 0].tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize("z", [-40.0, -3.0, 0.0, 3.0, 22.0, 30.0, 45.0, 60.0])
def test_softplus_is_exact_where_torchs_default_is_not(z):
    """The loss of class 0 is log(1 + exp(z)), to the last digits of float64."""
    value, _ = value_and_gradient(
        "binary_log_loss",
        torch.tensor([[[z]]], dtype=torch.float64),
        torch.zeros(1, 1, dtype=torch.float64),
    )

    assert value.item() == pytest.approx(np.logaddexp(0, z), rel=1e-15)


@pytest.mark.parametrize("name", ["binary_log_loss", "multinomial_log_loss"])
def test_the_log_of_the_inverse_link_is_finite(name):
    """Log-probabilities agree with probabilities where these do not vanish."""
    loss = LOSSES[name]
    z = torch.tensor([[[-1e4, -30, 0, 5], [1e4, 2, 0, 1]]], dtype=torch.float64)
    log_probability, probability = loss.log_inverse_link(z), loss.inverse_link(z)
    seen = probability > 1e-30

    assert torch.isfinite(log_probability).all()
    torch.testing.assert_close(log_probability[seen].exp(), probability[seen])
