"""The compiled loops take the steps of the torch engine, from the same start."""

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from compiled_cases import lets_others_run, table_of
from conftest import SHARED
from covering import every_pair

from skgd._compiled import loops
from skgd._compiled.loops import bind
from skgd._compiled.problem import Csr, Problem
from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import initialise_
from skgd._equations.losses import LOSSES, loss_named
from skgd._equations.network import new_like, new_network
from skgd._equations.optimizers import OPTIMIZERS
from skgd._training.batches import Data, batch_sizes
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.steps import bind_models, n_parts
from skgd._training.stepwise import bind_stepwise
from skgd._training.takers import Ahead
from skgd._training.target_scale import on_scales

N, I = 53, 4  # rows and features
CLASSES = {
    *("binary_log_loss", "hinge", "modified_huber", "multinomial_log_loss"),
    *("perceptron", "squared_hinge"),
}
PER_MODEL = {
    "lr": 0.05,
    "momentum": 0.9,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "epsilon": 1e-3,
    "alpha": 0.05,
    "l1_ratio": 0.3,
}


class Case(NamedTuple):
    """What is trained."""

    loss: str = "squared_error"
    hidden: tuple[int, ...] = ()
    n_outputs: int = 1
    activation: str = "tanh"
    optimizer: str = "sgd"
    batch_size: int = 8
    last_batch: str = "keep"
    fit_intercept: bool = True
    is_weighted: bool = False
    average: int = 0
    max_grad_norm: float | None = None
    scales: tuple[float, ...] | None = None
    per_model: Mapping[str, float] = MappingProxyType({})
    dtype: torch.dtype = torch.float64


def data_of(case):
    """Return rows with targets that the loss is for, and weights if there are any."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, I)), rng.normal(size=(case.n_outputs, N))
    if case.loss in CLASSES:
        y = rng.integers(max(2, case.n_outputs), size=(1, N))
    elif case.loss in ("poisson", "gamma", "tweedie"):
        y = np.exp(y)
    weight = rng.random((1, N)) + 0.1 if case.is_weighted else None
    x, y, weight = (
        None if array is None else torch.tensor(array, dtype=case.dtype)
        for array in (x, y, weight)
    )
    scales = None if case.scales is None else np.array([case.scales])
    return Data(x, y, weight, scales=scales)


class Start(NamedTuple):
    """A model before training, on torch, with its hyperparameters."""

    data: Data
    models: Models
    shared: Shared
    per_model: dict[str, np.ndarray]
    sizes: list[int]  # of the batches of an epoch


def start_of(case):
    data = data_of(case)
    shared = SHARED._replace(
        loss=case.loss,
        activation=case.activation,
        negative_slope=0.1,
        optimizer=case.optimizer,
        nesterov=case.optimizer == "nesterov",
        batch_size=case.batch_size,
        last_batch=case.last_batch,
        max_iter=2,
        max_grad_norm=case.max_grad_norm,
        average=case.average,
        delta=0.3,
        quantile=0.7,
    )
    values = PER_MODEL | ({"momentum": 0.0} if case.optimizer == "sgd" else {})
    per_model = {k: np.array([v]) for k, v in ({**values, **case.per_model}).items()}
    sizes = (I, *case.hidden, case.n_outputs)
    network = new_network(1, sizes, case.fit_intercept, data.x)
    generator = np.random.default_rng(1)
    initialise_(network, ACTIVATIONS[case.activation](0.1), [generator])
    entry = OPTIMIZERS[case.optimizer]
    models = Models(
        network,
        {name: new_like(network) for name in entry.state_names},
        [generator],
        average=new_like(network) if case.average else None,
    )
    if data.scales is not None and not case.hidden:
        loss = loss_named(case.loss, shared.power)
        per_model = on_scales(per_model, data.scales, loss)
    sizes = batch_sizes(N, case.batch_size, case.last_batch)
    return Start(data, models, shared, per_model, sizes)


def orders_of(start, n_epochs=2):
    """Return the rows of some epochs, (epochs, n_epoch)."""
    rng = np.random.default_rng(2)
    n_epoch = sum(start.sizes)
    draws = [rng.permutation(N) for _ in range(n_epochs)]
    return np.array(
        [np.append(rows, rng.integers(N, size=N))[:n_epoch] for rows in draws]
    )


def trained_by_torch(case, start, orders):
    """Train the models, and return the losses of all steps, (steps, r)."""
    data, models, shared, per_model, sizes = start
    counts = [None] * len(sizes)
    steps = sizes, sizes, counts, len(sizes)
    ahead = Ahead(data, models, shared, per_model, per_model, *steps, None)
    taker = bind_stepwise(ahead)
    return np.concatenate([taker.take([rows], [0]).losses[:, 0] for rows in orders])


def problem_of(case, start, x=None):
    """Return a problem of the arrays of the models themselves."""
    data, models, shared, _, _ = start
    network = models.parameters
    layers = network.layers
    delta = np.full(case.n_outputs, shared.delta)
    if data.scales is not None:
        delta = shared.delta / data.scales[0]
    number = np.full(case.n_outputs, shared.quantile)
    number = number if case.loss == "quantile" else delta
    number = np.full(case.n_outputs, shared.power) if case.loss == "tweedie" else number
    flat = network.flat.numpy()
    return Problem(
        x=data.x.numpy() if x is None else x,
        y=data.y.numpy(),
        weight=None if data.weight is None else data.weight[0].numpy(),
        sizes=(I, *case.hidden, case.n_outputs),
        flat=flat,
        n_weights=network.n_weights,
        weights_at=tuple(w.storage_offset() for w, _ in layers),
        biases_at=tuple(b.storage_offset() for _, b in layers if b is not None),
        columns_first=False,
        state=tuple(state.flat.numpy() for state in models.optimizer_state.values()),
        average=None if models.average is None else models.average.flat.numpy(),
        loss=case.loss,
        activation=case.activation,
        optimizer=case.optimizer,
        negative_slope=shared.negative_slope,
        loss_number=number.astype(flat.dtype),
        max_grad_norm=case.max_grad_norm,
        batch_size=min(case.batch_size, N),
        n_parts=n_parts(data.scales),
    )


def scalars_of(start, n_steps):
    """Return the scalars of the first steps, (steps or 1, p, k)."""
    data, models, shared, per_model, sizes = start
    bound = bind_models(data, models, shared, per_model, len(sizes))
    of_steps = bound.scalars.of_steps(models.t, n_steps)
    return table_of(of_steps, models.parameters.flat.numpy().dtype)


def trained_by_loop(case, start, orders, x=None):
    """Train the models, and return the losses of all steps, and the norms of epochs."""
    problem = problem_of(case, start, x)
    n_epochs, n_epoch = orders.shape
    n_steps = len(start.sizes) * n_epochs
    scalars = scalars_of(start, n_steps)
    losses = np.full((n_steps, problem.n_parts), np.nan, problem.flat.dtype)
    norms = np.full((n_epochs, scalars.shape[1], 2), np.nan, problem.flat.dtype)
    bind(problem).take(orders.ravel(), n_epoch, scalars, losses, norms)
    return losses, norms


def arrays_of(models):
    """Return all that training changes."""
    networks = [models.parameters, *models.optimizer_state.values()]
    networks += [] if models.average is None else [models.average]
    return [network.flat.numpy() for network in networks]


def assert_alike(case, rtol=1e-12, x=None):
    """Assert that the loop does what torch does, of rows that may lie otherwise."""
    one, other = start_of(case), start_of(case)
    orders = orders_of(one)
    expected = trained_by_torch(case, one, orders)
    losses, _ = trained_by_loop(case, other, orders, x)

    np.testing.assert_allclose(losses, expected, rtol=rtol, atol=rtol)
    for array, wanted in zip(
        arrays_of(other.models), arrays_of(one.models), strict=True
    ):
        np.testing.assert_allclose(array, wanted, rtol=rtol, atol=rtol)


DEPTHS = {"linear": (), "one hidden layer": (5,), "two": (6, 5)}
every_depth = pytest.mark.parametrize("hidden", DEPTHS.values(), ids=DEPTHS)


@every_depth
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss, hidden):
    """With weights, at any depth, one output or several."""
    for n_outputs in (1, 3):
        if loss != "multinomial_log_loss" or n_outputs > 1:
            assert_alike(Case(loss, hidden, n_outputs, is_weighted=n_outputs > 1))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_row_by_row(loss):
    """Plain descent by single rows, whose loop is one of each loss."""
    of_outputs = [n for n in (1, 3) if loss != "multinomial_log_loss" or n > 1]
    flags = product(of_outputs, (0, 3), (False, True), (False, True))
    for n_outputs, average, is_weighted, has_bias in flags:
        case = Case(loss, (), n_outputs, batch_size=1, average=average)
        case = case._replace(is_weighted=is_weighted, fit_intercept=has_bias)
        assert_alike(case)
    assert_alike(case._replace(dtype=torch.float32), rtol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    """In two hidden layers."""
    assert_alike(Case(hidden=(6, 5), activation=activation, n_outputs=2))


@every_depth
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, hidden):
    """With both penalties and without, with and without intercepts."""
    for penalty in ({}, {"alpha": 0.0}, {"l1_ratio": 0.0}):
        assert_alike(Case(hidden=hidden, optimizer=optimizer, per_model=penalty))
    assert_alike(Case(hidden=hidden, optimizer=optimizer, fit_intercept=False))


@every_pair(
    every_depth,
    pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"]),
    pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 20, N]),
)
def test_every_batch_size(batch_size, last_batch, hidden):
    """And every way to end an epoch."""
    for n_outputs, loss in ((1, "squared_error"), (3, "multinomial_log_loss")):
        case = Case(
            loss,
            hidden,
            n_outputs,
            batch_size=batch_size,
            last_batch=last_batch,
            is_weighted=last_batch == "keep",
        )
        assert_alike(case)


@every_depth
def test_the_average_and_clipping(hidden):
    """Are those of torch, together and for each batch size."""
    for batch_size in (1, 8, 32):
        assert_alike(
            Case(
                hidden=hidden,
                batch_size=batch_size,
                average=3,
                max_grad_norm=0.2,
                optimizer="adam",
            )
        )
        assert_alike(
            Case(hidden=hidden, batch_size=batch_size, average=3, max_grad_norm=0.2)
        )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_outputs_with_penalties_of_their_own(optimizer):
    """Of a linear model on targets of several scales, with a delta for each."""
    for batch_size in (1, 8, 32):
        assert_alike(
            Case(
                "huber",
                (),
                3,
                optimizer=optimizer,
                scales=(0.5, 1.0, 20.0),
                batch_size=batch_size,
            )
        )


def test_targets_of_several_scales():
    """The losses of a network are told for each."""
    assert_alike(Case("huber", (5,), 3, scales=(0.5, 1.0, 20.0)))


@every_depth
def test_float32(hidden):
    """Is another loop, which rounds as torch does, but for the last digits."""
    case = Case("multinomial_log_loss", hidden, 3, optimizer="adam", is_weighted=True)
    assert_alike(case._replace(dtype=torch.float32), rtol=2e-5)


@every_depth
@pytest.mark.parametrize("n_rows", [4, 5, 8, 16])
def test_blocks_of_any_length(n_rows, hidden, monkeypatch):
    """What a batch is cut into for the cache changes nothing."""
    monkeypatch.setattr(loops, "_NUMBERS_OF_BLOCK", 0)
    monkeypatch.setattr(loops, "_FEWEST_ROWS", n_rows)
    monkeypatch.setattr(loops, "_MOST_ROWS", n_rows)
    for batch_size in (20, N):
        case = Case("multinomial_log_loss", hidden, 3, batch_size=batch_size)
        assert_alike(case._replace(is_weighted=True, last_batch="keep"))


@every_depth
def test_a_large_batch_of_float32_loses_no_digits(hidden):
    """The step is by the mean, whatever the number of rows: here all are alike."""
    n, dtype, sizes = 100_000, np.float32, (1, *hidden, 1)
    network = new_network(1, sizes, True, torch.empty(0))
    flat, ones = network.flat.numpy(), np.ones((n, 1), dtype)
    flat[:] = 0.5
    alike = problem_of(Case(hidden=hidden), start_of(Case(hidden=hidden)))._replace(
        x=ones,
        y=ones.T * 20,
        sizes=sizes,
        flat=flat,
        n_weights=network.n_weights,
        weights_at=tuple(w.storage_offset() for w, _ in network.layers),
        biases_at=tuple(b.storage_offset() for _, b in network.layers),
        activation="identity",
        loss_number=ones[0],
    )
    scalars = table_of({"lr": np.full((1, 1), 0.1)}, dtype)
    of_all, of_one = flat.copy(), flat.copy()
    for vector, n_batch in ((of_all, n), (of_one, 1)):
        losses, norms = np.empty((1, 1), dtype), np.empty((0, 1, 2), dtype)
        loop = bind(alike._replace(flat=vector, batch_size=n_batch))
        loop.take(np.arange(n_batch), n_batch, scalars, losses, norms)

    np.testing.assert_allclose(of_all, of_one, rtol=3e-5)


def ways_of_lying(x):
    """Return rows that lie otherwise, by name."""
    read_only = x.copy()
    read_only.flags.writeable = False
    wide, long = np.zeros((N, 3 * I)), np.zeros((3 * N, I))
    wide[:, I : 2 * I], long[::3] = x, x
    odd = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    odd[:] = x
    return {
        "by column": np.asfortranarray(x),
        "read-only": read_only,
        "some columns": wide[:, I : 2 * I],
        "every third row": long[::3],
        "every third column": np.repeat(x, 3, 1)[:, ::3],
        "in reverse": x[::-1, ::-1].copy()[::-1, ::-1],
        "at an odd address": odd,
    }


@every_depth
@pytest.mark.parametrize("way", ways_of_lying(np.zeros((N, I))))
def test_rows_may_lie_in_any_way(way, hidden):
    """Rows are read where they are, in whatever order and place."""
    case = Case("multinomial_log_loss", hidden, 3)
    x = ways_of_lying(data_of(case).x.numpy())[way]
    for batch_size in (1, 8):
        assert_alike(case._replace(batch_size=batch_size), x=x)


@pytest.mark.parametrize("of_starts", [np.int32, np.int64])
@pytest.mark.parametrize("of_columns", [np.int32, np.int64])
def test_sparse_rows_of_a_network(of_columns, of_starts):
    """They are made dense row by row; entries at the same place add up."""
    case = Case("multinomial_log_loss", (5,), 3)
    x = data_of(case).x.numpy()
    values = np.repeat(x / 2, 2, 1).ravel()
    columns = np.tile(np.repeat(np.arange(I, dtype=of_columns), 2), N)
    starts = np.arange(0, len(values) + 1, 2 * I, dtype=of_starts)
    assert_alike(case, x=Csr(values, columns, starts))


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("scales", [None, (0.5, 1.0, 20.0)])
@every_depth
def test_norms_are_those_of_the_penalty(hidden, scales, batch_size):
    """|w|^2 and |w|_1 of all weights or of each output's, as epochs begin."""
    case = Case("huber", hidden, 3, scales=scales, batch_size=batch_size)
    start = start_of(case)
    orders = orders_of(start, n_epochs=3)
    norms, told = [], []
    for rows in orders:
        weights = [[w[0] for w, _ in start.models.parameters.layers]]
        if scales and not hidden:
            weights = weights[0][0].split(1)
        of_owners = [
            [sum(float(w.norm(p) ** p) for w in some) for p in (2, 1)]
            for some in weights
        ]
        norms.append(of_owners)
        told += list(trained_by_loop(case, start, rows[np.newaxis])[1])

    np.testing.assert_allclose(told, norms, rtol=1e-12)


@every_depth
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_an_epoch_in_pieces_is_the_epoch(batch_size, optimizer, hidden):
    """To the last bit, and norms are told only where an epoch begins."""
    case = Case(hidden=hidden, batch_size=batch_size, optimizer=optimizer, average=2)
    one, other = start_of(case), start_of(case)
    [rows] = orders = orders_of(one, n_epochs=1)
    losses, norms = trained_by_loop(case, one, orders)
    scalars, take = scalars_of(other, len(losses)), bind(problem_of(case, other)).take
    in_pieces, norms_of_piece = np.empty_like(losses), np.empty_like(norms)
    for first in range(0, len(losses), 3):
        some = slice(first, first + 3)
        some_rows = rows[first * batch_size : (first + 3) * batch_size]
        of_piece = norms_of_piece if first == 0 else norms[:0]
        of_steps = scalars if len(scalars) == 1 else scalars[some]
        take(some_rows, N, of_steps, in_pieces[some], of_piece)

    np.testing.assert_array_equal(in_pieces, losses)
    np.testing.assert_array_equal(norms_of_piece, norms)
    for array, wanted in zip(
        arrays_of(other.models), arrays_of(one.models), strict=True
    ):
        np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
@pytest.mark.parametrize("batch_size", [1, 8, 20])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_none_are_not_lost(value, batch_size, hidden):
    """A loss and the weights say so, as on torch."""
    case = Case("squared_error", hidden, activation="relu", batch_size=batch_size)
    one, other = start_of(case), start_of(case)
    one.data.x[7] = other.data.x[7] = value
    orders = orders_of(one)
    expected = trained_by_torch(case, one, orders)
    losses, _ = trained_by_loop(case, other, orders)

    np.testing.assert_array_equal(np.isfinite(losses), np.isfinite(expected))
    assert not np.isfinite(losses).all()
    assert not np.isfinite(arrays_of(other.models)[0]).all()


@pytest.mark.parametrize("loss", ["huber", "multinomial_log_loss"])
def test_a_linear_model_is_a_network_of_one_layer(loss, monkeypatch):
    """Many outputs and features are multiplied by BLAS, to the same result."""
    for name in ("_BLAS_OUTPUTS", "_BLAS_WEIGHTS", "_BLAS_ROWS"):
        monkeypatch.setattr(loops, name, 0)
    for batch_size in (1, 8, N):
        assert_alike(Case(loss, (), 3, optimizer="adam", batch_size=batch_size))
    assert_alike(Case("huber", (), 3, scales=(0.5, 1.0, 20.0)))


@every_depth
def test_other_threads_run_while_steps_are_taken(hidden):
    """So several fits in as many threads keep as many cores busy."""
    case = Case(hidden=hidden, batch_size=1)
    start = start_of(case)
    take = bind(problem_of(case, start)).take
    rows = np.arange(10**6 if hidden == () else 10**5) % N

    assert lets_others_run(take, rows, scalars_of(start, 1))
