"""A large batch in strips of its rows: the same step, in the memory of one strip."""

from functools import partial

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from conftest import SHARED
from covering import every_pair

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import initialise_
from skgd._equations.network import arrays, new_like, new_network
from skgd._machine.devices import CPU
from skgd._training.batches import Data
from skgd._training.csr import csr
from skgd._training.loop import train
from skgd._training.models import Models
from skgd._training.steps import bind_models, bind_step
from skgd._training.strips import rows_of_a_strip

WHOLE_BATCH = SHARED._replace(batch_size=None, max_iter=4)
SIZES = {"linear": (4, 3), "network": (4, 6, 5, 3)}
N_ROWS = 23
ROWS_OF_STRIPS = [1, 7, 22, 23]
NEVER = 10**9

every_network = pytest.mark.parametrize("kind", SIZES)


@pytest.fixture
def cut(monkeypatch):
    """Return what sets the number of rows of a strip."""

    def cut(n_rows):
        monkeypatch.setattr(
            "skgd._training.steps.rows_of_a_strip", lambda *shape: n_rows
        )

    return cut


def per_model_of(n_models, **changes):
    """Return the numbers of so many models of unlike rates."""
    values = {"lr": 0.1, "alpha": 1e-2, "momentum": 0.0, "l1_ratio": 0.3, **changes}
    numbers = {name: np.full(n_models, value) for name, value in values.items()}
    numbers["lr"] /= np.arange(1, n_models + 1)
    return numbers


def data_of(*, classes=False, weighted=False, sparse=False):
    """Return rows of four features, with three targets or classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_ROWS, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(3, N_ROWS, generator=generator, dtype=torch.float64)
    if classes:
        y = torch.randint(3, (1, N_ROWS), generator=generator).double()
    weight = torch.rand(1, N_ROWS, generator=generator).double() if weighted else None
    rows = csr(scipy.sparse.csr_array(x.numpy()), CPU) if sparse else x
    return Data(rows, y, weight)


def new_models(data, sizes, shared, n_models, seeds=(0,)):
    """Return models before training."""
    network = new_network(n_models, sizes, True, data.y)
    generators = [np.random.default_rng(seed) for seed in seeds]
    initialise_(network, ACTIVATIONS[shared.activation](0.0), generators)
    average = new_like(network) if shared.average else None
    return Models(network, {}, generators, average=average)


def trained(data, sizes, shared, n_models=2, seeds=(0,), **numbers):
    """Return the parameters after training, and the losses of all batches."""
    models = new_models(data, sizes, shared, n_models, seeds)
    histories = train(data, models, shared, per_model_of(n_models, **numbers))
    losses = [np.concatenate(history.batch_loss) for history in histories]
    return models.predicting.flat.clone(), np.array(losses)


def assert_same(some, others):
    """Compare parameters and losses, to rounding."""
    torch.testing.assert_close(some[0], others[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(some[1], others[1], rtol=1e-12)


def loss_of_torch(layers, data):
    """Return the mean loss over all rows, by torch, of parameters w, bias, w, ..."""
    h = data.x
    pairs = list(zip(layers[::2], layers[1::2], strict=True))
    for n, (w, bias) in enumerate(pairs):
        h = F.linear(torch.tanh(h) if n else h, w, bias)
    if len(data.y) == 1:
        each = F.cross_entropy(h, data.y[0].long(), reduction="none")
    else:
        each = F.mse_loss(h, data.y.T, reduction="none").sum(1) / 2
    return (each if data.weight is None else each * data.weight[0]).mean()


@every_pair(
    pytest.mark.parametrize("n_rows", ROWS_OF_STRIPS),
    pytest.mark.parametrize("weighted", [False, True], ids=["all alike", "weighted"]),
    pytest.mark.parametrize("classes", [False, True], ids=["numbers", "classes"]),
    every_network,
)
def test_strips_add_up_to_the_gradient_of_the_batch(
    kind, classes, weighted, n_rows, cut
):
    """It is autograd's, of the mean over all rows, and so is the loss."""
    cut(n_rows)
    loss = "multinomial_log_loss" if classes else "squared_error"
    shared = WHOLE_BATCH._replace(loss=loss)
    data = data_of(classes=classes, weighted=weighted)
    models = new_models(data, SIZES[kind], shared, 2)
    models.parameters.flat.add_(0.1)  # a linear model starts at 0
    bound = bind_models(data, models, shared, per_model_of(2), 1)
    for model in range(2):
        step = bind_step(bound, N_ROWS)
        own = [
            array[model].clone().requires_grad_()
            for layer in models.parameters.layers
            for array in layer
        ]
        expected = loss_of_torch(own, data)
        expected.backward()
        step.calls.replay()
        torch.testing.assert_close(
            step.loss[model, 0], expected.detach(), rtol=1e-12, atol=0
        )
        gradients = [array for layer in bound.gradients.layers for array in layer]
        for ours, theirs in zip(gradients, own, strict=True):
            torch.testing.assert_close(ours[model], theirs.grad, rtol=1e-12, atol=1e-14)


WAYS = {
    "whole": {},
    "batches": {"batch_size": 10},
    "filled": {"batch_size": 10, "last_batch": "fill"},
    "clipped": {"max_grad_norm": 0.5},
    "averaged": {"average": 2},
}


@every_pair(
    pytest.mark.parametrize("n_rows", [1, 7]),
    pytest.mark.parametrize(
        ("sparse", "weighted"), [(False, True), (True, False)], ids=["dense", "sparse"]
    ),
    pytest.mark.parametrize("way", WAYS),
    every_network,
)
def test_strips_change_nothing(kind, way, sparse, weighted, n_rows, cut):
    """Training is that of uncut batches, whatever the number of rows of a strip."""
    data = data_of(weighted=weighted, sparse=sparse)
    shared = WHOLE_BATCH._replace(**WAYS[way])
    cut(NEVER)
    whole = trained(data, SIZES[kind], shared)
    cut(n_rows)
    assert_same(trained(data, SIZES[kind], shared), whole)


@pytest.mark.parametrize("n_rows", [1, 7])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("weighted", [False, True], ids=["all alike", "weighted"])
def test_folds_in_strips_are_those_trained_alone(
    weighted, batch_size, dropout, n_rows, cut
):
    """Each fold has rows, counts and masks of its own, however short it is."""
    cut(n_rows)
    data = data_of(weighted=weighted)
    shared = WHOLE_BATCH._replace(batch_size=batch_size, dropout=dropout)
    counts = [13, 11]
    rows = np.array([np.r_[0:13], np.r_[12:23, 22, 22]])
    stack = data._replace(rows=rows, counts=counts)
    flat, losses = trained(stack, SIZES["network"], shared, seeds=(0, 1))
    models = new_models(data, SIZES["network"], shared, 2, (0, 1))
    models.parameters.flat.copy_(flat)
    for fold, count in enumerate(counts):
        one = data._replace(rows=rows[fold, :count])
        alone = new_models(data, SIZES["network"], shared, 1, (fold,))
        numbers = {name: v[fold : fold + 1] for name, v in per_model_of(2).items()}
        [history] = train(one, alone, shared, numbers)
        both = arrays(models.parameters), arrays(alone.parameters)
        for ours, theirs in zip(*both, strict=True):
            torch.testing.assert_close(ours[fold], theirs[0], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(
            losses[fold], np.concatenate(history.batch_loss), rtol=1e-10
        )


@pytest.mark.parametrize("n_rows", ROWS_OF_STRIPS)
def test_masks_are_the_same_where_batches_are_not_cut(n_rows, cut, monkeypatch):
    """Another device takes a batch as a whole, with the masks of its strips."""
    cut(n_rows)
    data, shared = data_of(), WHOLE_BATCH._replace(dropout=0.4)
    in_strips = trained(data, SIZES["network"], shared)
    monkeypatch.setattr("skgd._training.steps._strips_pay", lambda device: False)
    assert_same(trained(data, SIZES["network"], shared), in_strips)


def test_the_number_of_rows_is_that_of_one_model(monkeypatch):
    """Company draws the same masks: it does not count, and neither do the rows."""
    seen = []
    monkeypatch.setattr(
        "skgd._training.steps.rows_of_a_strip",
        lambda *shape: seen.append(shape) or rows_of_a_strip(*shape),
    )
    for n_models in (1, 3):
        trained(data_of(), SIZES["network"], WHOLE_BATCH, n_models)
    assert set(map(str, seen)) == {"(4, [6, 5, 3])"}


@pytest.mark.parametrize("of_stack", [False, True], ids=["one set", "rows of a fold"])
@pytest.mark.parametrize("batch_size", [None, 20_000])
@every_network
def test_a_step_holds_the_units_of_one_strip(kind, batch_size, of_stack, cut):
    """However many the rows: no array of it is as long as the batch, but its rows."""
    cut(100)
    n_rows = 30_000
    data = Data(torch.randn(n_rows, 4), torch.randn(3, n_rows), None)
    if of_stack:
        data = data._replace(rows=np.arange(0, n_rows - 2))
    models = new_models(data, SIZES[kind], WHOLE_BATCH, 1)
    bound = bind_models(data, models, WHOLE_BATCH, per_model_of(1), 1)
    step = bind_step(bound, batch_size or data.n_samples)
    of_data = {array.untyped_storage().data_ptr() for array in (data.x, data.y)}
    held = {
        array.untyped_storage().data_ptr(): array.untyped_storage().nbytes()
        for array in tensors_of(step.calls)
        if array.is_floating_point()
    }
    assert of_data & set(held) or batch_size or of_stack
    numbers = sum(size for at, size in held.items() if at not in of_data) // 4
    assert numbers < 100 * 10 * sum(SIZES[kind])


def tensors_of(calls):
    """Yield the arrays that calls are bound to."""
    for call in calls:
        while isinstance(call, partial):
            yield from (a for a in call.args if isinstance(a, torch.Tensor))
            yield from (
                a for a in call.keywords.values() if isinstance(a, torch.Tensor)
            )
            call = call.func
        owner = getattr(call, "__self__", None)
        if isinstance(owner, torch.Tensor):
            yield owner
