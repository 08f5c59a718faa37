"""Train m models: epochs, mini-batches, stopping. The only loop over time.

What is *shared* by the models of one call changes shapes or control flow; what is *per
model* are numbers, one for each. A model that stops, or whose objective is no longer a
number, leaves the stack with the weights it has, and the others go on: company changes
nothing.

Within an epoch nothing is copied from the device to the host.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from skgd._activations import ACTIVATIONS
from skgd._batches import Data, bind_batch, rows_of_epoch
from skgd._contraction import Call, contraction
from skgd._losses import LOSSES
from skgd._network import (
    Network,
    arrays,
    backward,
    forward,
    new_like,
    owners,
    put_,
    take,
)
from skgd._optimizers import OPTIMIZERS, PerModel, Vectors, variant

Floats = npt.NDArray[np.float64]

# A fit has diverged when its objective is this many times the first one, or this many
# where the first is below 1, and has grown for so many epochs in a row.
FAR_ABOVE_START = 1e3
EPOCHS_OF_GROWTH = 3


class Shared(NamedTuple):
    """Hyperparameters that all models trained together have in common."""

    loss: str
    activation: str
    negative_slope: float
    optimizer: str
    nesterov: bool
    batch_size: int | None
    last_batch: str
    shuffle: bool
    max_iter: int
    tol: float | None
    n_iter_no_change: int
    record_batch_loss: bool
    verbose: bool


@dataclass
class Models:
    """The models in training: all that one epoch hands to the next."""

    parameters: Network
    kept: dict[str, Network]  # what the optimizer keeps: velocity, moments
    generators: Sequence[np.random.Generator]  # one for all models, or one for each
    t: int = 0  # steps taken


@dataclass
class History:
    """What is told about the training of m models."""

    n_iter: npt.NDArray[np.int64]  # (m,), epochs that the model took part in
    t: npt.NDArray[np.int64]  # (m,), its steps, earlier calls included
    converged: npt.NDArray[np.bool_]  # (m,), stopped by tol
    diverged: npt.NDArray[np.bool_]  # (m,)
    objective: list[Floats] = field(default_factory=list)  # (m,) an epoch, then nan
    batch_loss: list[Floats] = field(default_factory=list)  # (steps, m) an epoch


class _Step(NamedTuple):
    """A training step for batches of one size, bound to its arrays."""

    fill: Callable[[Tensor], None]
    calls: list[Call]
    loss: Tensor  # (m,), the mean loss of the batch before the step


def train(data: Data, models: Models, shared: Shared, per_model: PerModel) -> History:
    """Train the models in place until each has stopped, and tell how it went."""
    n_models = len(per_model["lr"])
    history = History(
        n_iter=np.zeros(n_models, np.int64),
        t=np.zeros(n_models, np.int64),
        converged=np.zeros(n_models, bool),
        diverged=np.zeros(n_models, bool),
    )
    running = np.arange(n_models)  # the models that are still in the stack
    stack = models
    run_epoch = _bind_epoch(data, stack, shared, per_model)
    best = np.full(n_models, np.inf)
    previous = np.full(n_models, np.inf)
    limit = np.full(n_models, np.inf)
    waiting = np.zeros(n_models, np.int64)  # epochs without improvement, in a row
    growing = np.zeros(n_models, np.int64)  # epochs of growth, in a row

    for epoch in range(1, shared.max_iter + 1):
        batch_loss, objective = run_epoch()
        if shared.record_batch_loss:
            history.batch_loss.append(_among(n_models, running, batch_loss))
        history.objective.append(_among(n_models, running, objective))
        if shared.verbose:
            print(
                f"Epoch {epoch}, objective {', '.join(f'{j:.6g}' for j in objective)}"
            )

        if epoch == 1:
            limit[:] = FAR_ABOVE_START * np.maximum(objective, 1.0)
        growing[running] = np.where(
            objective > previous[running], growing[running] + 1, 0
        )
        diverged = ~np.isfinite(objective) | (
            (objective > limit[running]) & (growing[running] >= EPOCHS_OF_GROWTH)
        )
        stopped = np.zeros(len(running), bool)
        if shared.tol is not None:
            better = objective <= best[running] - shared.tol
            waiting[running] = np.where(better, 0, waiting[running] + 1)
            stopped = (waiting[running] >= shared.n_iter_no_change) & ~diverged
        best[running] = np.fmin(best[running], objective)
        previous[running] = objective

        history.n_iter[running], history.t[running] = epoch, stack.t
        history.converged[running], history.diverged[running] = stopped, diverged
        done = stopped | diverged
        if done.all():
            break
        if done.any():  # the others go on, in a smaller stack
            _put(models, running, stack)
            stack, running = _take(stack, np.flatnonzero(~done)), running[~done]
            per_model = {name: number[~done] for name, number in per_model.items()}
            run_epoch = _bind_epoch(data, stack, shared, per_model)

    _put(models, running, stack)
    history.diverged |= ~_finite(models.parameters)
    return history


def _among(n_models: int, running: npt.NDArray[np.int64], values: Floats) -> Floats:
    """Return the values of the running models among those of all; others are nan."""
    if len(running) == n_models:
        return values
    everyone = np.full((*values.shape[:-1], n_models), np.nan)
    everyone[..., running] = values
    return everyone


def _take(models: Models, places: npt.NDArray[np.int64]) -> Models:
    index = torch.from_numpy(places).to(models.parameters.flat.device)
    generators = models.generators
    if len(generators) > 1:
        generators = [generators[place] for place in places]
    return Models(
        take(models.parameters, index),
        {name: take(kept, index) for name, kept in models.kept.items()},
        generators,
        models.t,
    )


def _put(models: Models, places: npt.NDArray[np.int64], stack: Models) -> None:
    models.t = max(models.t, stack.t)
    if stack is models:
        return
    index = torch.from_numpy(places).to(models.parameters.flat.device)
    put_(models.parameters, index, stack.parameters)
    for name, kept in models.kept.items():
        put_(kept, index, stack.kept[name])


def _finite(network: Network) -> npt.NDArray[np.bool_]:
    """Return which models have finite parameters only."""
    finite = [torch.isfinite(array).flatten(1).all(1) for array in arrays(network)]
    return torch.stack(finite).all(0).cpu().numpy()


def _bind_epoch(
    data: Data, models: Models, shared: Shared, per_model: PerModel
) -> Callable[[], tuple[Floats, Floats]]:
    """Return the function that trains for one epoch.

    It returns the loss of every batch, (steps, m), and the objective, (m,): the mean of
    these losses, each taken before its step, plus the penalty at the epoch's start.
    """
    gradients = new_like(models.parameters)
    update = _bind_update(models, gradients, shared, per_model)
    penalty = _bind_penalty(models.parameters, per_model)
    n_models = len(per_model["lr"])

    @cache
    def step_of(n_rows: int) -> _Step:
        return _bind_step(data, models, gradients, update.calls, shared, n_rows)

    def run_epoch() -> tuple[Floats, Floats]:
        batches = _draw_batches(data.x, models.generators, shared)
        batch_loss = data.x.new_empty(len(batches), n_models)
        penalty_before = penalty()
        numbers_of_steps = update.numbers_of_steps(models.t, len(batches))
        for (n_rows, rows), numbers, loss in zip(
            batches, numbers_of_steps, batch_loss.unbind(), strict=True
        ):
            step = step_of(n_rows)
            if rows is not None:
                step.fill(rows)
            if numbers is not None:
                update.lay(numbers)
            for call in step.calls:
                call()
            loss.copy_(step.loss)
        models.t += len(batches)
        n_rows_seen = np.array([n_rows for n_rows, _ in batches], np.float64)
        losses = batch_loss.cpu().numpy().astype(np.float64)
        mean_loss = n_rows_seen @ losses / n_rows_seen.sum()
        return losses, mean_loss + penalty_before.cpu().numpy()

    return run_epoch


def _draw_batches(
    x: Tensor, generators: Sequence[np.random.Generator], shared: Shared
) -> list[tuple[int, Tensor | None]]:
    """Return the size and the rows, (b,) or (m, b), of every batch of an epoch."""
    n_samples = x.shape[0]
    batch_size = min(shared.batch_size or n_samples, n_samples)
    if batch_size == n_samples:
        return [(n_samples, None)]  # the whole set: nothing to draw or to gather
    draws = [
        rows_of_epoch(
            generator,
            n_samples,
            batch_size,
            last_batch=shared.last_batch,
            shuffle=shared.shuffle,
        )
        for generator in generators
    ]
    rows = torch.from_numpy(draws[0] if len(draws) == 1 else np.stack(draws))
    return [
        (batch.shape[-1], batch)
        for batch in torch.split(rows.to(x.device), batch_size, dim=-1)
    ]


def _bind_step(
    data: Data,
    models: Models,
    gradients: Network,
    update: list[Call],
    shared: Shared,
    n_rows: int,
) -> _Step:
    """Return the step for batches of ``n_rows``: forward, loss, backward, update."""
    layers = models.parameters.layers
    n_models, n_outputs, _ = layers[-1].w.shape
    own = n_models if len(models.generators) > 1 else None
    activation = ACTIVATIONS[shared.activation](shared.negative_slope)

    batch = bind_batch(data, n_outputs, n_rows, own)
    predict, inputs, z = forward(layers, batch.x, activation)
    value, dz = torch.empty_like(z), torch.empty_like(z)
    loss = z.new_empty(n_models)
    equation = "mob,ob->m" if own is None else "mob,mob->m"
    calls: list[Call] = [
        *predict,
        *LOSSES[shared.loss].calls(z, batch.y, value, dz),
        contraction(equation, value, batch.share, out=loss),
        partial(dz.mul_, batch.share),  # the mean over b is taken here, once
        *backward(dz, inputs, layers, gradients.layers, activation),
        *update,
    ]
    return _Step(batch.fill, calls, loss)


class _Update(NamedTuple):
    """The optimizer's part of a step, and the numbers that it reads at each step."""

    calls: list[Call]
    numbers_of_steps: Callable[[int, int], Sequence[Tensor | None]]  # after t, so many
    lay: Callable[[Tensor], object]  # spreads (numbers, m) over the flat vector


def _bind_update(
    models: Models, gradients: Network, shared: Shared, per_model: PerModel
) -> _Update:
    optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    parameters = models.parameters
    flat = parameters.flat
    n_models = len(per_model["lr"])
    owner = owners(parameters) if n_models > 1 else flat.new_zeros(1, dtype=torch.int64)

    def table(t: int, n_steps: int) -> Tensor:
        """Return the numbers of the steps after t: (steps, numbers, m)."""
        steps = optimizer.numbers(per_model, np.arange(t + 1, t + 1 + n_steps))
        stacked = np.stack(list(steps.values()), axis=1)
        return torch.from_numpy(stacked).to(flat.device, flat.dtype)

    names = list(optimizer.numbers(per_model, np.arange(1, 2)))
    laid = flat.new_empty(len(names), len(owner))
    first = table(models.t, 2)
    constant = len(first) == 1

    def lay(numbers: Tensor) -> None:
        torch.index_select(numbers, 1, owner, out=laid)

    def numbers_of_steps(t: int, n_steps: int) -> Sequence[Tensor | None]:
        return [None] * n_steps if constant else table(t, n_steps).unbind()

    lay(first[0])
    kept = {name: network.flat for name, network in models.kept.items()}
    vectors = Vectors(flat, flat[: parameters.n_weights], gradients.flat, kept)
    calls = optimizer.calls(vectors, dict(zip(names, laid, strict=True)))
    return _Update(calls, numbers_of_steps, lay)


def _bind_penalty(parameters: Network, per_model: PerModel) -> Callable[[], Tensor]:
    """Return the function that gives the penalty of each model, (m,)."""
    flat, layers = parameters.flat, parameters.layers
    alpha, l1_ratio = per_model["alpha"], per_model["l1_ratio"]
    half_ridge = torch.from_numpy(alpha * (1 - l1_ratio) / 2).to(flat)
    lasso = torch.from_numpy(alpha * l1_ratio).to(flat)
    squares, absolutes = torch.zeros_like(half_ridge), torch.zeros_like(lasso)
    calls: list[Call] = []
    if half_ridge.any():
        calls.append(partial(squares.zero_))
        for w, _ in layers:
            calls.append(contraction("moi,moi->m", w, w, out=squares, plus=squares))
    if lasso.any():
        sizes = [torch.empty_like(w) for w, _ in layers]
        calls.append(partial(absolutes.zero_))
        for (w, _), size in zip(layers, sizes, strict=True):
            ones = torch.ones_like(w[0])
            calls.append(partial(torch.abs, w, out=size))
            calls.append(
                contraction("moi,oi->m", size, ones, out=absolutes, plus=absolutes)
            )

    def penalty() -> Tensor:
        for call in calls:
            call()
        return half_ridge * squares + lasso * absolutes

    return penalty
