"""Activations against torch.nn.functional, and their derivatives against autograd."""

import pytest
import torch
import torch.nn.functional as F
from conftest import NEGATIVE_SLOPE, TORCH_ACTIVATIONS

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.tape import Tape

MAGNITUDES = [1e-8, 1e-3, 0.1, 0.5, 1, 2, 3.5, 5, 8, 12, 22, 30, 100, 1e4]
ARGUMENTS = [-z for z in reversed(MAGNITUDES)] + [0.0] + MAGNITUDES

# The same to the last digit where torch's own formula cancels, or nearly.
EXACT = {
    **{name: TORCH_ACTIVATIONS[name] for name in ("mish", "silu", "softplus")},
    "gelu": lambda z: z * torch.special.log_ndtr(z).exp(),
}


def computed(activation, z):
    """Return value and derivative by tapes that have run on other numbers before."""
    at = torch.full_like(z, torch.nan)
    h = torch.empty_like(at) if activation.keeps_sum else at
    d = torch.empty_like(at)
    forward, backward = Tape(), Tape()
    assert activation.value(forward, at, h) is h
    assert activation.derivative(backward, at, h, d) is d
    forward.replay()
    backward.replay()
    at.copy_(z)
    forward.replay()
    value = h.clone()
    backward.replay()
    return value, d


def expected(function, z):
    """Return torch's value and autograd's derivative."""
    z = z.clone().requires_grad_()
    h = function(z)
    (d,) = torch.autograd.grad(h.sum(), z)
    return h.detach(), d


def test_every_activation_has_an_oracle():
    """A new activation is tested by being in the table."""
    assert set(TORCH_ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_derivative_are_torchs(name):
    """They are torch.nn.functional's and autograd's, at 0, near it and far from it."""
    z = torch.tensor(ARGUMENTS, dtype=torch.float64)
    ours = computed(ACTIVATIONS[name](NEGATIVE_SLOPE), z)
    theirs = expected(TORCH_ACTIVATIONS[name], z)

    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_float32_is_as_good_as_its_digits(name):
    """In float32 they are the exact ones of the same argument, rounded a few times."""
    z = torch.tensor(ARGUMENTS, dtype=torch.float32)
    ours = [a.double() for a in computed(ACTIVATIONS[name](NEGATIVE_SLOPE), z)]
    theirs = list(expected(TORCH_ACTIVATIONS[name], z.double()))

    torch.testing.assert_close(ours, theirs, rtol=3e-6, atol=3e-7)


@pytest.mark.parametrize("name", EXACT)
def test_nothing_cancels_far_below_zero(name):
    """Values and derivatives that are almost zero have all their digits."""
    z = torch.linspace(-30, -3, 50, dtype=torch.float64)
    value, derivative = computed(ACTIVATIONS[name](NEGATIVE_SLOPE), z)
    true_value, true_derivative = expected(EXACT[name], z)

    assert (true_value != 0).all()
    assert (true_derivative != 0).all()
    torch.testing.assert_close(value, true_value, rtol=1e-12, atol=0)
    torch.testing.assert_close(derivative, true_derivative, rtol=1e-12, atol=0)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
def test_leaky_relu_spans_relu_to_identity(slope):
    """The derivative of leaky_relu is right at both ends of the slope's range."""
    z = torch.tensor([-3.0, -0.5, 0.5, 3.0], dtype=torch.float64)
    _, ours = computed(ACTIVATIONS["leaky_relu"](slope), z)
    _, autograds = expected(lambda z: F.leaky_relu(z, slope), z)

    assert torch.equal(ours, autograds)
