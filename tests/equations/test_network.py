"""Forward against torch.nn.functional.linear, backward against autograd."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import NEGATIVE_SLOPE, TORCH_ACTIVATIONS
from covering import every_pair
from scipy import sparse, stats
from torch import nn

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import INITIALISERS, initialise_
from skgd._equations.network import (
    Layer,
    Network,
    arrays,
    backward,
    forward,
    gradient,
    in_rows,
    new_like,
    new_network,
    output,
    raw_prediction,
    select,
    write_,
    write_rows_,
)
from skgd._equations.tape import Tape

SIZES = [(5, 2), (5, 4, 1), (5, 7, 3, 2)]


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


def of_rows(tape, layers, x, activation, masks=()):
    """Record the forward pass, the first layer's product included."""
    return forward(tape, layers, output(tape, layers[0], x), activation, masks)


def learn(tape, dz, passed, layers, gradients, activation, x):
    """Record the backward pass, the gradient of the first layer's weights included."""
    dz_first = backward(tape, dz, passed, layers, gradients, activation)
    gradient(tape, dz_first, x, out=gradients[0].w)
    return dz_first


def oracle(layers, x, activation, masks=(), z_first=None):
    """Return the prediction (mob), one model and one F.linear at a time."""
    z = []
    for m in range(len(layers[0].w)):
        h = None if x is None else of_model(x, m).T
        for n, (w, bias) in enumerate(layers):
            if n > 0:
                h = TORCH_ACTIVATIONS[activation](h)
                h = h * of_model(masks[n - 1], m).T if masks else h
            if n == 0 and z_first is not None:
                h = z_first[m].T
            else:
                h = F.linear(h, w[m], None if bias is None else bias[m])
        z.append(h.T)
    return torch.stack(z)


def of_model(array, m):
    """Return what model m sees of an array with or without an axis of models."""
    return array if array.ndim == 2 else array[m]


def new_masks(masked, sizes, n_models, n_rows=6):
    """Return masks of dropout at p=0.4 for all hidden layers, or none."""
    generator = torch.Generator().manual_seed(3)
    leading = {"no masks": None, "one mask": (), "own masks": (n_models,)}[masked]
    if leading is None:
        return []
    shapes = [(*leading, units, n_rows) for units in sizes[1:-1]]
    return [(torch.rand(s, generator=generator) > 0.4).double() / 0.6 for s in shapes]


def with_gradients(layers):
    """Return a copy of the layers that autograd follows."""
    return [
        Layer(*(a if a is None else a.clone().requires_grad_() for a in layer))
        for layer in layers
    ]


@every_pair(
    pytest.mark.parametrize("activation", ACTIVATIONS),
    pytest.mark.parametrize("masked", ["no masks", "one mask", "own masks"]),
    pytest.mark.parametrize("given", ["rows", "own rows", "first layer"]),
    pytest.mark.parametrize(
        ("n_models", "fit_intercept"), [(1, True), (3, True), (3, False)]
    ),
    pytest.mark.parametrize("sizes", SIZES, ids=str),
)
def test_forward_and_backward_are_autograds(
    sizes, n_models, fit_intercept, given, masked, activation
):
    """Predictions are F.linear's and gradients autograd's, whatever ran before."""
    network = random_network(n_models, sizes, fit_intercept)
    layers = network.layers
    table_entry = ACTIVATIONS[activation](NEGATIVE_SLOPE)
    masks = new_masks(masked, sizes, n_models)
    x = z_first = None
    if given == "first layer":
        generator = torch.Generator().manual_seed(1)
        z_first = torch.randn(n_models, sizes[1], 6, generator=generator).double()
    else:
        x = random_input(n_models, own=given == "own rows")

    arguments = [x, z_first, *masks]
    bound = [a if a is None else torch.full_like(a, torch.nan) for a in arguments]
    tape = Tape()
    z = bound[1] if x is None else output(tape, layers[0], bound[0])
    passed = forward(tape, layers, z, table_entry, bound[2:])
    dz = torch.randn(passed.z.shape, generator=torch.Generator().manual_seed(2))
    dz = dz.double()
    gradients = new_like(network)
    gradients.flat.fill_(torch.nan)
    dz_first = backward(tape, dz, passed, layers, gradients.layers, table_entry)
    if x is not None:
        gradient(tape, dz_first, bound[0], out=gradients.layers[0].w)
    tape.replay()
    for array, values in zip(bound, arguments, strict=True):
        if values is not None:
            array.copy_(values)
    tape.replay()

    leaves = with_gradients(layers)
    if z_first is not None:
        z_first.requires_grad_()
    z = oracle(leaves, x, activation, masks, z_first)
    (z * dz).sum().backward()
    torch.testing.assert_close(passed.z, z.detach(), rtol=1e-12, atol=1e-12)
    if z_first is not None:
        torch.testing.assert_close(dz_first, z_first.grad, rtol=1e-12, atol=1e-12)
        assert gradients.layers[0].w.isnan().all()
        gradients.layers[0].w.zero_()
        leaves[0].w.grad = torch.zeros_like(leaves[0].w)
        if fit_intercept:
            leaves[0].bias.grad = z_first.grad.sum(2)
    for layer, leaf in zip(gradients.layers, leaves, strict=True):
        for ours, autograds in zip(layer, leaf, strict=True):
            if ours is not None:
                torch.testing.assert_close(ours, autograds.grad, rtol=1e-12, atol=1e-12)


def test_the_first_layer_is_the_prediction_of_a_linear_model():
    """Handed in, it is z itself, and the gradient of z is that of the first layer."""
    network, activation = random_network(2, (5, 3)), ACTIVATIONS["relu"](0.0)
    z_first = torch.ones(2, 3, 6).double()
    tape = Tape()
    passed = forward(tape, network.layers, z_first, activation)
    dz = torch.ones_like(z_first)
    gradients = new_like(network)
    dz_first = backward(tape, dz, passed, network.layers, gradients.layers, activation)

    tape.replay()

    assert passed.z is z_first
    assert dz_first is dz
    assert (gradients.layers[0].bias == 6).all()  # the sum of six ones
    assert not gradients.layers[0].w.any()


def test_every_hidden_layer_has_a_mask_or_none_has():
    """One mask for two hidden layers is refused."""
    network, activation = random_network(1, (5, 4, 3, 2)), ACTIVATIONS["relu"](0.0)

    with pytest.raises(ValueError, match="zip"):
        of_rows(Tape(), network.layers, random_input(1), activation, [torch.ones(4, 6)])


@pytest.mark.parametrize("activation", ["tanh", "mish"])
def test_backward_passes_gradcheck(activation):
    """The gradients of a deep network agree with finite differences."""
    network = random_network(2, (5, 7, 3, 2))
    layers, x = network.layers, random_input(2)
    activation = ACTIVATIONS[activation](0.0)

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *parameters):
            for array, value in zip(arrays(network), parameters, strict=True):
                array.copy_(value)
            tape = Tape()
            ctx.passed = of_rows(tape, layers, x, activation)
            tape.replay()
            return ctx.passed.z

        @staticmethod
        def backward(ctx, dz):
            into = new_like(network)
            dz = dz.contiguous()
            tape = Tape()
            learn(tape, dz, ctx.passed, layers, into.layers, activation, x)
            tape.replay()
            return tuple(arrays(into))

    parameters = [array.clone().requires_grad_() for array in arrays(network)]

    assert torch.autograd.gradcheck(Ours.apply, parameters)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("masked", ["no masks", "one mask", "own masks"])
def test_models_do_not_see_each_other(masked, activation):
    """Numbers that are not numbers in one model leave the others' bits alone."""
    network, x = random_network(3, (5, 4, 2)), random_input(3)
    activation = ACTIVATIONS[activation](NEGATIVE_SLOPE)
    masks = new_masks(masked, (5, 4, 2), 3)
    tape = Tape()
    passed = of_rows(tape, network.layers, x, activation, masks)
    gradients = new_like(network)
    dz = torch.ones_like(passed.z)
    into = gradients.layers
    dz_first = learn(tape, dz, passed, network.layers, into, activation, x)
    tape.replay()
    seen = [passed.z, dz_first, *arrays(gradients)]
    before = [array.clone() for array in seen]
    for array in arrays(network):
        array[1] = torch.nan
    tape.replay()

    for then, now in zip(before, seen, strict=True):
        assert torch.equal(then[[0, 2]], now[[0, 2]])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_models_together_equal_models_apart(activation):
    """Each of three models predicts and learns as it does alone, masks and all."""
    sizes = (5, 7, 3, 2)
    together, x = random_network(3, sizes), random_input(3, own=True)
    masks = new_masks("own masks", sizes, 3)
    dz = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(2)).double()
    table_entry = ACTIVATIONS[activation](NEGATIVE_SLOPE)

    def learned(network, x, masks, dz):
        tape = Tape()
        passed = of_rows(tape, network.layers, x, table_entry, masks)
        into = new_like(network)
        learn(tape, dz, passed, network.layers, into.layers, table_entry, x)
        tape.replay()
        return [passed.z, *arrays(into)]

    stacked = learned(together, x, masks, dz)
    for m in range(3):
        one = slice(m, m + 1)
        network = select(together, torch.tensor([m]))
        alone = learned(network, x[one], [mask[one] for mask in masks], dz[one])
        expected = [array[one] for array in stacked]
        torch.testing.assert_close(alone, expected, rtol=1e-12, atol=1e-12)


def test_the_flat_vector_is_the_layers():
    """Every parameter is a view of the flat vector, the weights before n_weights."""
    network = random_network(2, (5, 4, 3))
    flat = network.flat
    inside = flat[: network.n_weights].data_ptr(), flat[network.n_weights :].data_ptr()
    network.flat.fill_(7)

    assert all((array == 7).all() for array in arrays(network))
    assert all(inside[0] <= w.data_ptr() < inside[1] for w, _ in network.layers)
    assert all(bias.data_ptr() >= inside[1] for _, bias in network.layers)


def test_select_and_write_move_whole_models():
    """Models selected and written elsewhere are the same models."""
    network = random_network(4, (5, 3, 2))
    target = new_like(network)
    write_(target, torch.tensor([1, 0]), select(network, torch.tensor([3, 2])))

    for source, copied in zip(arrays(network), arrays(target), strict=True):
        assert torch.equal(copied[[1, 0]], source[[3, 2]])
        assert not copied[[2, 3]].any()


@pytest.mark.parametrize("columns_first", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_models_in_rows_lie_as_they_do_alone(sizes, fit_intercept, columns_first):
    """A row is the vector of the model selected; written back, they are the same."""
    like = torch.empty(0).double()
    network = new_network(3, sizes, fit_intercept, like, columns_first=columns_first)
    for n, array in enumerate(arrays(network)):
        array.copy_(torch.arange(array.numel()).view(array.shape) + 1000 * n + 1)

    rows = in_rows(network)

    for slot, row in enumerate(rows):
        assert torch.equal(row, select(network, torch.tensor([slot])).flat)
    before = network.flat.clone()
    rows += 0.5
    assert torch.equal(network.flat, before)  # they are copies
    write_rows_(network, rows)
    for slot, row in enumerate(rows):
        written = select(network, torch.tensor([slot]))
        parameters = torch.cat([array.flatten() for array in arrays(written)])
        alone = Network(row, written.layout)
        expected = torch.cat([array.flatten() for array in arrays(alone)])
        assert torch.equal(parameters, expected)
    assert torch.equal(network.flat != 0, before != 0)  # nothing between the arrays


def test_a_linear_model_starts_at_zero():
    """Without hidden layers nothing is drawn."""
    network = new_network(1, (5, 2), True, torch.empty(0))
    generator = np.random.default_rng(0)
    initialise_(network, ACTIVATIONS["relu"](0.0), [generator])

    assert not network.flat.any()
    assert generator.random() == np.random.default_rng(0).random()


# What torch.nn.init has for each entry of skgd's table of initialisers.
TORCH_INIT = {
    "glorot_normal": nn.init.xavier_normal_,
    "glorot_uniform": nn.init.xavier_uniform_,
    "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "he_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "lecun_normal": partial(nn.init.kaiming_normal_, nonlinearity="linear"),
    "lecun_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="linear"),
}


def torchs_weights(name, units_out, units_in):
    """Return the weights that torch draws for a layer."""
    generator = torch.Generator().manual_seed(0)
    w = torch.empty(units_out, units_in, dtype=torch.float64)
    return TORCH_INIT[name](w, generator=generator).numpy()


def test_every_initialiser_has_an_oracle():
    """A new initialiser is tested by being in the table."""
    assert TORCH_INIT.keys() == INITIALISERS.keys()


@pytest.mark.parametrize("name", INITIALISERS)
def test_an_initialiser_draws_from_the_distribution_of_torchs(name):
    """Draws are spread as torch.nn.init's for a layer of unlike units in and out."""
    ours = INITIALISERS[name](np.random.default_rng(0), 900, 400)
    torchs = torchs_weights(name, 400, 900)

    assert ours.shape == torchs.shape
    assert ours.std() == pytest.approx(torchs.std(), rel=0.005)
    assert stats.ks_2samp(ours.ravel(), torchs.ravel()).pvalue > 0.01
    if "uniform" in name:
        assert np.abs(ours).max() == pytest.approx(np.abs(torchs).max(), rel=1e-4)


@pytest.mark.parametrize("init", ["auto", *INITIALISERS])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_layers_start_from_the_initialiser_asked_for(activation, init):
    """ "auto" is the activation's own, and Glorot's for the last; a name is for all."""
    network = new_network(1, (300, 400, 200), True, torch.empty(0).double())
    table_entry = ACTIVATIONS[activation](0.0)
    initialise_(network, table_entry, [np.random.default_rng(0)], init)
    names = [table_entry.init, "glorot_uniform"] if init == "auto" else [init, init]

    for name, (w, bias) in zip(names, network.layers, strict=True):
        pvalue = stats.ks_2samp(w.flatten(), torchs_weights(name, *w[0].shape).ravel())
        assert pvalue.pvalue > 0.01
        assert not bias.any()


@pytest.mark.parametrize(
    ("activation", "hidden"),
    [
        ("relu", [0.30006802263971943, -0.5043720396356873]),
        ("tanh", [0.30006802263971943, -0.5043720396356873]),
    ],
)
def test_a_seed_gives_the_weights_that_it_gave_before(activation, hidden):
    """A fit of an earlier version can be repeated: its draws are written down here."""
    network = new_network(1, (3, 2, 1), True, torch.empty(0).double())
    initialise_(network, ACTIVATIONS[activation](0.0), [np.random.default_rng(0)])
    (w, _), (w_out, _) = network.layers

    assert w[0, 0, :2].tolist() == hidden
    assert w_out[0, 0].tolist() == [0.3016115206482439, 0.6491142981231095]


def test_selu_keeps_mean_and_variance_through_many_layers():
    """The initial weights that suit it make it normalise itself, as its paper says."""
    network = new_network(1, [400] * 11, True, torch.empty(0).double())
    activation = ACTIVATIONS["selu"](0.0)
    initialise_(network, activation, [np.random.default_rng(0)])
    tape = Tape()
    passed = of_rows(tape, network.layers, random_input(1, 400, 300), activation)
    tape.replay()
    h = passed.hidden[-1].h

    assert h.mean().item() == pytest.approx(0, abs=0.05)
    assert h.var().item() == pytest.approx(1, rel=0.1)


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


@pytest.mark.parametrize("sizes", [(5, 2), (5, 4, 2)], ids=str)
@pytest.mark.parametrize("n_rows", [1, 4096, 4097])
def test_rows_that_are_no_tensor_come_by_their_first_layer(n_rows, sizes):
    """Of sparse rows, the first layer's output is handed in part by part."""
    network = random_network(2, sizes)
    x = random_input(1, n_rows=n_rows)

    def z_first(rows):
        return oracle(network.layers[:1], torch.from_numpy(rows.toarray()).T, "relu")

    rows = sparse.csr_array(x.T.numpy())
    z = raw_prediction(network.layers, rows, ACTIVATIONS["relu"](0.0), z_first)

    torch.testing.assert_close(z, oracle(network.layers, x, "relu"))
