"""Steps on sparse rows in the compiled loops, against those of the torch engine."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from compiled_cases import lets_others_run, table_of
from conftest import SHARED
from covering import every_pair

from skgd._compiled.csr import bind_csr, takes_csr
from skgd._compiled.losses import LOSSES
from skgd._compiled.problem import Csr, Problem
from skgd._equations.network import new_like, new_network
from skgd._equations.optimizers import OPTIMIZERS, variant
from skgd._training.batches import Data, batch_sizes
from skgd._training.csr import csr
from skgd._training.epochs import bind_epochs
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.objective import penalty_on_scales
from skgd._training.stack import new_stack
from skgd._training.steps import bind_models, n_parts
from skgd._training.stopping import History, Untrained

N_ROWS, N_COLUMNS, N_EPOCHS = 41, 60, 3
SETTINGS = {
    "batch_size": 8,
    "shuffle": False,
    "max_iter": N_EPOCHS,
    "delta": 0.7,
    "quantile": 0.3,
}
PER_MODEL = {
    "lr": 0.03,
    "momentum": 0.0,
    "beta_1": 0.8,
    "beta_2": 0.95,
    "epsilon": 1e-6,
    "alpha": 0.05,
    "l1_ratio": 0.0,
}


def sparse_rows(dtype: Any = np.float64, index: Any = np.int32) -> sp.csr_matrix:
    """Return rows of which some are empty, and some have a column twice."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, N_ROWS)
    lengths[[0, 11]] = 0
    starts = np.append(0, np.cumsum(lengths))
    columns = rng.integers(0, N_COLUMNS - 5, starts[-1])
    columns[starts[2]] = columns[starts[2] + 1] = columns[starts[3] - 1]
    values = rng.normal(size=starts[-1])
    values[::10] = 0.0
    rows = sp.csr_matrix((N_ROWS, N_COLUMNS), dtype=dtype)
    rows.data, rows.indices = values.astype(dtype), columns.astype(index)
    rows.indptr = starts.astype(index)
    return rows


def targets_of(loss: str, o: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    if loss == "multinomial_log_loss":
        return rng.integers(0, o, (1, N_ROWS)).astype(float)
    if loss in ("poisson", "gamma", "tweedie"):
        return rng.integers(0, 3, (o, N_ROWS)) + float(loss == "gamma")
    if loss.endswith(("log_loss", "hinge", "modified_huber", "perceptron")):
        return rng.integers(0, 2, (o, N_ROWS)).astype(float)
    return rng.normal(size=(o, N_ROWS))


class Case(NamedTuple):
    """A linear model on sparse rows, for either engine."""

    data: Data
    models: Models
    shared: Shared
    per_model: dict[str, np.ndarray]

    @property
    def sizes(self) -> list[int]:
        return batch_sizes(N_ROWS, self.shared.batch_size, self.shared.last_batch)


def case(
    o: int = 1,
    *,
    wide: bool = True,
    weighted: bool = False,
    bias: bool = True,
    scaled: bool = False,
    dtype: Any = np.float64,
    index: Any = np.int32,
    **settings: Any,
) -> Case:
    """Return a problem; settings are shared, or of the model."""
    numbers = {n: np.array([settings.pop(n, v)]) for n, v in PER_MODEL.items()}
    shared = SHARED._replace(**{**SETTINGS, **settings})
    rng = np.random.default_rng(2)
    y = torch.from_numpy(targets_of(shared.loss, o).astype(dtype))
    weight = torch.from_numpy(rng.exponential(size=(1, N_ROWS)).astype(dtype))
    data = Data(
        csr(sparse_rows(dtype, index), torch.device("cpu")),
        y,
        weight if weighted else None,
        scales=np.array([[0.5, 1.0, 3.0][:o]]) if scaled else None,
    )
    network = new_network(1, (N_COLUMNS, o), bias, y, columns_first=wide)
    w = network.layers[0].w
    w.copy_(torch.from_numpy(rng.normal(size=tuple(w.shape)) / 3))
    name = variant(shared.optimizer, shared.nesterov, numbers)
    state = {one: new_like(network) for one in OPTIMIZERS[name].state_names}
    models = Models(
        network,
        state,
        [np.random.default_rng(3)],
        average=new_like(network) if shared.average else None,
    )
    return Case(data, models, shared, numbers)


def on_torch(one: Case) -> np.ndarray:
    """Train on torch, and return the losses of the batches."""
    histories = [History(untrained=Untrained(1.0, 1.0))]
    stack = new_stack(one.models, histories, one.per_model, one.data, None)
    run = bind_epochs(stack, one.shared, None)
    return np.concatenate([run(1, [0])[0].batch_loss[:, 0] for _ in range(N_EPOCHS)])


def problem_of(one: Case) -> Problem:
    """Return what the compiled loops are given."""
    x, network, shared = one.data.x, one.models.parameters, one.shared
    w, bias = network.layers[0]
    o = w.shape[1]
    name = variant(shared.optimizer, shared.nesterov, one.per_model)
    deltas = shared.delta / (
        np.ones(o) if one.data.scales is None else one.data.scales[0]
    )
    number = np.full(o, shared.quantile) if shared.loss == "quantile" else deltas
    number = np.full(o, shared.power) if shared.loss == "tweedie" else number
    average = one.models.average
    return Problem(
        x=Csr(x.values.numpy(), x.columns.numpy(), x.starts),
        y=one.data.y.numpy(),
        weight=None if one.data.weight is None else one.data.weight[0].numpy(),
        sizes=(N_COLUMNS, o),
        flat=network.flat.numpy(),
        n_weights=network.n_weights,
        weights_at=(w.storage_offset(),),
        biases_at=() if bias is None else (bias.storage_offset(),),
        columns_first=network.layout.columns_first,
        state=tuple(
            one.models.optimizer_state[n].flat.numpy()
            for n in OPTIMIZERS[name].state_names
        ),
        average=None if average is None else average.flat.numpy(),
        loss=shared.loss,
        activation="relu",
        optimizer=name,
        negative_slope=0.0,
        loss_number=number.astype(network.flat.numpy().dtype),
        max_grad_norm=shared.max_grad_norm,
        batch_size=min(shared.batch_size or N_ROWS, N_ROWS),
        n_parts=n_parts(one.data.scales),
    )


def scalars_of(one: Case) -> np.ndarray:
    """Return the scalars of all steps."""
    on_scale = penalty_on_scales(
        one.data, one.models.parameters, one.shared, one.per_model
    )
    numbers = one.per_model if one.shared.optimizer == "adamw" else on_scale
    n_steps = len(one.sizes)
    bound = bind_models(one.data, one.models, one.shared, numbers, n_steps)
    of_steps = bound.scalars.of_steps(0, n_steps * N_EPOCHS)
    return table_of(of_steps, one.models.parameters.flat.numpy().dtype)


def on_loops(one: Case) -> tuple[np.ndarray, np.ndarray]:
    """Train by the compiled loops, and return losses and norms."""
    problem, scalars = problem_of(one), scalars_of(one)
    assert takes_csr(problem)
    n_steps, n_epoch = len(one.sizes) * N_EPOCHS, sum(one.sizes)
    losses = np.empty((n_steps, problem.n_parts), problem.flat.dtype)
    norms = np.empty((N_EPOCHS, scalars.shape[1], 2), problem.flat.dtype)
    rows = np.tile(np.arange(n_epoch), N_EPOCHS)
    loop = bind_csr(problem)
    loop.take(rows, n_epoch, scalars, losses, norms)
    loop.settle()
    return losses, norms


def vectors(models: Models) -> list[torch.Tensor]:
    networks = [models.parameters, *models.optimizer_state.values()]
    return [n.flat for n in [*networks, models.average] if n is not None]


def assert_same(o: int = 1, *, tolerance: float = 1e-12, **settings: Any) -> None:
    """Train on both engines, and compare all that is left."""
    one, other = case(o, **settings), case(o, **settings)
    before = one.models.parameters.flat.clone()
    expected = on_torch(one)
    losses, _ = on_loops(other)

    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(losses, expected, **close)
    for mine, torchs in zip(vectors(other.models), vectors(one.models), strict=True):
        torch.testing.assert_close(mine, torchs, **close)
    assert (one.models.parameters.flat - before).abs().max() > 1e-3


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these rows be wide."""
    monkeypatch.setattr("skgd._training.csr.NARROW", N_COLUMNS - 1)


@pytest.mark.parametrize("loss", [*LOSSES, "multinomial_log_loss"])
def test_every_loss_is_that_of_torch(loss: str) -> None:
    """Of one output or several, by plain descent and lazily, with weights or not."""
    for o, optimizer in ((1, "sgd"), (3, "adam")):
        if loss != "multinomial_log_loss" or o > 1:
            assert_same(o, loss=loss, optimizer=optimizer, weighted=o > 1)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_that_of_torch(name: str, l1_ratio: float) -> None:
    """Lazy or owing, with either penalty, and with one of its own for each output."""
    settings = {"optimizer": name}
    if name in ("momentum", "nesterov"):
        settings = {"momentum": 0.8, "nesterov": name == "nesterov"}
    for scaled in (False, True):
        assert_same(3, l1_ratio=l1_ratio, scaled=scaled, **settings)
    assert_same(1, l1_ratio=l1_ratio, **settings)


FURTHER: dict[str, dict[str, Any]] = {
    "row by row": {"batch_size": 1},
    "whole batches": {"batch_size": None},
    "left out": {"last_batch": "drop"},
    "averages": {"average": 4},
    "no intercept": {"bias": False},
    "no penalty": {"alpha": 0.0},
    "a huge penalty": {"alpha": 1e9},
    "a rate that falls": {"lr_schedule": "invscaling"},
    "indices of 64 bits": {"index": np.int64},
    "poisson, scaled": {"loss": "poisson", "scaled": True},
}


@every_pair(
    pytest.mark.parametrize("l1_ratio", [0.0, 0.3]),
    pytest.mark.parametrize("optimizer", ["sgd", "adam"]),
    pytest.mark.parametrize("settings", FURTHER.values(), ids=FURTHER),
)
def test_steps_are_those_of_torch(
    settings: dict[str, Any], optimizer: str, l1_ratio: float
) -> None:
    """Whatever the batches, averages, rates and indices."""
    assert_same(2, optimizer=optimizer, l1_ratio=l1_ratio, **settings)


@pytest.mark.parametrize("batch_size", [1, 8, None])
def test_lazy_steps_on_very_many_columns_are_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    """Whether a batch touches few of them or many, for one owner or several."""
    monkeypatch.setattr("test_csr.N_COLUMNS", 2_000)
    for settings in ({}, {"scaled": True}):
        assert_same(3, optimizer="adam", batch_size=batch_size, **settings)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.3])
def test_plain_descent_on_narrow_rows_is_that_of_torch(
    monkeypatch: pytest.MonkeyPatch, l1_ratio: float
) -> None:
    """Where torch makes them dense; with as many owners as outputs, and averages."""
    monkeypatch.setattr("skgd._training.csr.NARROW", N_COLUMNS)
    for settings in ({}, {"scaled": True}, {"average": 2}, {"batch_size": 1}):
        assert_same(3, wide=False, l1_ratio=l1_ratio, **settings)


def test_numbers_of_32_bits_are_those_of_torch() -> None:
    """To their precision."""
    for optimizer in ("sgd", "adam"):
        for l1_ratio in (0.0, 0.3):
            settings = {"optimizer": optimizer, "l1_ratio": l1_ratio}
            assert_same(2, dtype=np.float32, tolerance=2e-5, **settings)


def test_arrays_may_be_read_only() -> None:
    """The rows of a memory map are trained on as any others."""
    one, other = case(2), case(2)
    problem = problem_of(one)
    for array in (*problem.x, problem.y, problem.loss_number):
        array.flags.writeable = False
    on_loops(one)
    on_loops(other)

    assert torch.equal(one.models.parameters.flat, other.models.parameters.flat)


@pytest.mark.parametrize("owners", [1, 3])
def test_norms_are_those_of_numpy(owners: int) -> None:
    """At the start of each epoch, of all weights or of those of each output."""
    settings = {"scaled": True, "l1_ratio": 0.3} if owners > 1 else {}
    one, again = case(3, **settings), case(3, **settings)
    _, norms = on_loops(one)
    problem, scalars = problem_of(again), scalars_of(again)
    loop, n_steps = bind_csr(problem), len(again.sizes)
    for epoch, (squares, sizes) in enumerate(norms.transpose(0, 2, 1)):
        w = again.models.parameters.layers[0].w[0].numpy()
        w = w if owners > 1 else w.reshape(1, -1)
        np.testing.assert_allclose(squares, np.linalg.norm(w, axis=1) ** 2)
        np.testing.assert_allclose(sizes, np.abs(w).sum(1))
        own = slice(epoch * n_steps, (epoch + 1) * n_steps) if len(scalars) > 1 else ...
        losses, none = np.empty((n_steps, problem.n_parts)), np.empty((0, owners, 2))
        loop.take(np.arange(N_ROWS), N_ROWS, scalars[own], losses, none)
        loop.settle()


@pytest.mark.parametrize("l1_ratio", [0.0, 0.3])
def test_where_an_epoch_is_cut_changes_no_bit(l1_ratio: float) -> None:
    """If it is settled at its end, for debts go on from one piece to the next."""
    flats = []
    for cuts in ((N_ROWS,), (8, 24, N_ROWS)):
        one = case(2, l1_ratio=l1_ratio)
        problem, scalars = problem_of(one), scalars_of(one)
        owing, none = bind_csr(problem), np.empty((0, 1, 2))
        for begin, end in zip((0, *cuts), cuts, strict=False):
            losses = np.empty((-(-(end - begin) // 8), 1))
            owing.take(np.arange(begin, end), N_ROWS, scalars[:1], losses, none)
        owing.settle()
        flats.append(one.models.parameters.flat)

    assert torch.equal(*flats)


def test_which_problems_are_for_sparse_steps() -> None:
    """Not networks, clipped gradients, dense rows or steps that move all weights."""
    wide, narrow = problem_of(case()), problem_of(case(wide=False))

    assert takes_csr(wide)
    assert takes_csr(narrow)
    assert takes_csr(wide._replace(optimizer="adam"))
    assert not takes_csr(narrow._replace(optimizer="adam"))
    assert not takes_csr(wide._replace(max_grad_norm=1.0))
    assert not takes_csr(wide._replace(sizes=(N_COLUMNS, 5, 1)))
    assert not takes_csr(wide._replace(x=np.zeros((N_ROWS, N_COLUMNS))))


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_other_threads_run_while_steps_are_taken(optimizer: str) -> None:
    """In both loops, that of plain descent and that of the others."""
    one = case(optimizer=optimizer, batch_size=1)
    take = bind_csr(problem_of(one)).take
    rows = np.arange(2 * 10**5) % N_ROWS

    assert lets_others_run(take, rows, scalars_of(one))
