"""Activations against torch.nn.functional, and their derivatives against autograd."""

import pytest
import torch
import torch.nn.functional as F

from skgd._activations import ACTIVATIONS

ORACLES = {
    "identity": lambda z: z,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.2),
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


def value_of(name, z):
    """Return the package's activation of a copy of z."""
    h = z.clone()
    for call in ACTIVATIONS[name](0.2).value(h):
        call()
    return h


def test_every_activation_has_an_oracle():
    """A new activation is tested by being in the table."""
    assert set(ORACLES) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_value_is_torchs(name):
    """The value is torch.nn.functional's, at large arguments too."""
    z = torch.tensor([[-1e4, -30, -1, -1e-3, 1e-3, 1, 30, 1e4]], dtype=torch.float64)

    torch.testing.assert_close(value_of(name, z), ORACLES[name](z))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_is_autograds(name):
    """The derivative, computed from the value, is autograd's of the oracle."""
    z = torch.linspace(-4, 4, 50, dtype=torch.float64).view(1, 5, 10).requires_grad_()
    (expected,) = torch.autograd.grad(ORACLES[name](z).sum(), z)
    h = value_of(name, z.detach())
    d = torch.empty_like(h)
    for call in ACTIVATIONS[name](0.2).derivative(h, d):
        call()

    torch.testing.assert_close(d, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
def test_leaky_relu_spans_relu_to_identity(slope):
    """The derivative of leaky_relu is right at both ends of the slope's range."""
    z = torch.tensor([-3.0, -0.5, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(F.leaky_relu(z, slope).sum(), z)
    activation = ACTIVATIONS["leaky_relu"](slope)
    h, d = z.detach().clone(), torch.empty(4, dtype=torch.float64)
    for call in activation.value(h) + activation.derivative(h, d):
        call()

    assert torch.equal(d, expected)
