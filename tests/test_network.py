"""Forward against torch.nn.functional.linear, backward against autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skgd._activations import ACTIVATIONS
from skgd._network import (
    arrays,
    backward,
    forward,
    initialise_,
    new_like,
    new_network,
    owners,
    put_,
    raw_prediction,
    take,
)

SIZES = [(5, 2), (5, 4, 1), (5, 7, 3, 2)]
TORCH = {
    "identity": lambda z: z,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.1),
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


def random_network(n_models, sizes, fit_intercept=True):
    network = new_network(n_models, sizes, fit_intercept, torch.empty(0).double())
    generator = torch.Generator().manual_seed(0)
    for array in arrays(network):
        array.copy_(torch.randn(array.shape, generator=generator, dtype=torch.float64))
    return network


def random_input(n_models, n_features=5, n_rows=6, own=False):
    """Return a batch (ib) for all models or, of their own, (mib)."""
    generator = torch.Generator().manual_seed(1)
    shape = (n_models, n_features, n_rows) if own else (n_features, n_rows)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def oracle(layers, x, activation):
    """Return the prediction (mob), one model and one F.linear at a time."""
    z = []
    for m in range(len(layers[0].w)):
        h = (x if x.ndim == 2 else x[m]).T
        for n, (w, bias) in enumerate(layers):
            h = F.linear(h, w[m], None if bias is None else bias[m])
            if n < len(layers) - 1:
                h = TORCH[activation](h)
        z.append(h.T)
    return torch.stack(z)


def replay(calls):
    for call in calls:
        call()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n_models", [1, 3])
@pytest.mark.parametrize("sizes", SIZES)
def test_forward_and_backward_are_autograds(
    sizes, n_models, fit_intercept, own, activation
):
    """Predictions are F.linear's, and gradients of all parameters autograd's."""
    network = random_network(n_models, sizes, fit_intercept)
    x = random_input(n_models, own=own)
    table_entry = ACTIVATIONS[activation](0.1)
    calls, inputs, z = forward(network.layers, x, table_entry)
    replay(calls)

    leaves = [
        type(layer)(*(a if a is None else a.clone().requires_grad_() for a in layer))
        for layer in network.layers
    ]
    expected = oracle(leaves, x, activation)
    torch.testing.assert_close(z, expected.detach(), rtol=1e-12, atol=1e-12)

    dz = torch.randn(z.shape, generator=torch.Generator().manual_seed(2)).double()
    (expected * dz).sum().backward()
    gradients = new_like(network)
    replay(backward(dz, inputs, network.layers, gradients.layers, table_entry))
    for gradient, leaf in zip(gradients.layers, leaves, strict=True):
        for ours, autograds in zip(gradient, leaf, strict=True):
            if ours is not None:
                torch.testing.assert_close(ours, autograds.grad, rtol=1e-12, atol=1e-12)


def test_backward_passes_gradcheck():
    """The gradients of a deep network agree with finite differences."""
    network = random_network(2, (5, 7, 3, 2))
    x = random_input(2)
    activation = ACTIVATIONS["tanh"](0.0)

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *parameters):
            for array, value in zip(arrays(network), parameters, strict=True):
                array.copy_(value)
            calls, ctx.inputs, z = forward(network.layers, x, activation)
            replay(calls)
            return z

        @staticmethod
        def backward(ctx, dz):
            gradients = new_like(network)
            dz = dz.contiguous()
            layers = network.layers
            replay(backward(dz, ctx.inputs, layers, gradients.layers, activation))
            return tuple(arrays(gradients))

    parameters = [array.clone().requires_grad_() for array in arrays(network)]

    assert torch.autograd.gradcheck(Ours.apply, parameters)


def test_models_do_not_see_each_other():
    """Numbers that are not numbers in one model leave the others' bits alone."""
    network, x = random_network(3, (5, 4, 2)), random_input(3)
    activation = ACTIVATIONS["relu"](0.0)
    calls, inputs, z = forward(network.layers, x, activation)
    gradients = new_like(network)
    dz = torch.ones_like(z)
    calls += backward(dz, inputs, network.layers, gradients.layers, activation)
    replay(calls)
    before = [z.clone(), *(array.clone() for array in arrays(gradients))]
    for array in arrays(network):
        array[1] = torch.nan
    replay(calls)

    for then, now in zip(before, [z, *arrays(gradients)], strict=True):
        assert torch.equal(then[[0, 2]], now[[0, 2]])


def test_the_flat_vector_is_the_layers():
    """Every parameter is a view of the flat vector, the weights before n_weights."""
    network = random_network(2, (5, 4, 3))
    flat = network.flat
    inside = flat[: network.n_weights].data_ptr(), flat[network.n_weights :].data_ptr()
    network.flat.fill_(7)

    assert all((array == 7).all() for array in arrays(network))
    assert all(inside[0] <= w.data_ptr() < inside[1] for w, _ in network.layers)
    assert all(bias.data_ptr() >= inside[1] for _, bias in network.layers)


def test_owners_name_the_model_of_every_parameter():
    """Each parameter's place in the flat vector holds the number of its model."""
    network = random_network(3, (5, 4, 2))
    for array in arrays(network):
        for m in range(3):
            array[m] = m

    assert torch.equal(owners(network).double(), network.flat)


def test_take_and_put_move_whole_models():
    """Models taken out and put back elsewhere are the same models."""
    network = random_network(4, (5, 3, 2))
    target = new_like(network)
    put_(target, torch.tensor([1, 0]), take(network, torch.tensor([3, 2])))

    for source, copied in zip(arrays(network), arrays(target), strict=True):
        assert torch.equal(copied[[1, 0]], source[[3, 2]])
        assert not copied[[2, 3]].any()


def test_a_linear_model_starts_at_zero():
    """Without hidden layers nothing is drawn."""
    network = new_network(1, (5, 2), True, torch.empty(0))
    generator = np.random.default_rng(0)
    initialise_(network, ACTIVATIONS["relu"](0.0), [generator])

    assert not network.flat.any()
    assert generator.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(
    ("activation", "variance"), [("relu", 2 / 300), ("tanh", 2 / 700)]
)
def test_initial_weights_have_the_variance_of_the_papers(activation, variance):
    """Hidden weights have He's or Glorot's variance, biases are zero."""
    network = new_network(1, (300, 400, 300), True, torch.empty(0).double())
    initialise_(network, ACTIVATIONS[activation](0.0), [np.random.default_rng(0)])
    (w, bias), (w_out, _) = network.layers

    assert w.var().item() == pytest.approx(variance, rel=0.02)
    assert w_out.var().item() == pytest.approx(2 / 700, rel=0.02)
    assert not bias.any()


def test_every_dtype_starts_from_the_same_draw():
    """float32 weights are the float64 ones, rounded."""
    draws = []
    for dtype in torch.float32, torch.float64:
        network = new_network(2, (5, 4, 2), True, torch.empty(0, dtype=dtype))
        initialise_(network, ACTIVATIONS["relu"](0.0), [np.random.default_rng(0)])
        draws.append(torch.cat([w.flatten() for w, _ in network.layers]))

    assert torch.equal(draws[0], draws[1].float())


@pytest.mark.parametrize("n_rows", [1, 4096, 4097])
def test_a_prediction_in_parts_is_the_whole(n_rows):
    """Rows predicted in parts, for memory's sake, equal the oracle's."""
    network = random_network(2, (5, 4, 2))
    x = random_input(1, n_rows=n_rows).T.contiguous()
    z = raw_prediction(network.layers, x, ACTIVATIONS["relu"](0.0))

    torch.testing.assert_close(z, oracle(network.layers, x.T, "relu"))
