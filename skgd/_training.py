"""Train m models: epochs, mini-batches, stopping. The only loop over time.

What is *shared* by the models of one call changes shapes or control flow; what is *per
model* are numbers, one for each. A model that stops, or whose objective is no longer a
number, leaves the stack with the weights it has, and the others go on: company changes
nothing.

Within an epoch nothing is copied from the device to the host.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, isfinite
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._activations import ACTIVATIONS
from skgd._batches import Data, Gather, batch_sizes, bind_batch, rows_of_epoch
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
from skgd._optimizers import (
    OPTIMIZERS,
    Floats,
    PerModel,
    Vectors,
    elastic_net,
    variant,
)
from skgd._tensors import numbers_like, threads_for

# Training has diverged when its objective is so many times the loss at the start, or so
# many where that is below 1, and has grown for some epochs in a row or training ends.
FAR_ABOVE_START = 100.0
EPOCHS_OF_GROWTH = 3

# Steps that are laid out in advance, with their rows and numbers.
_STEPS_AT_ONCE = 4096

# The loss at the start is the mean over the batches that hold its first samples.
_SAMPLES_AT_START = 32


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
    since: int = 0  # of these, before the optimizer began to keep what it keeps
    start: float | None = None  # the loss before the first step, once known


@dataclass
class History:
    """What is told about the training of one model."""

    objective: list[float] = field(default_factory=list)  # of every epoch
    batch_loss: list[Floats] = field(default_factory=list)  # (steps,) of every epoch
    converged: bool = False  # stopped by tol
    diverged: bool = False

    # What the stopping rules remember.
    start: float = 0.0  # the loss before training
    best: float = inf
    waiting: int = 0  # epochs without improvement, in a row
    growing: int = 0  # epochs of growth, in a row


class _Step(NamedTuple):
    """A training step for batches of one size, bound to its arrays."""

    gathers: list[Gather]
    calls: list[Call]
    loss: Tensor  # (m,), the mean loss of the batch before the step


def train(
    data: Data, models: Models, shared: Shared, per_model: PerModel
) -> list[History]:
    """Train the models in place until each has stopped, and tell how it went."""
    sizes = batch_sizes(len(data.x), shared.batch_size, shared.last_batch)
    with threads_for(max(sizes) * models.parameters.n_weights):
        histories = _train(data, models, shared, per_model, sizes)
    for history, finite in zip(histories, _finite(models.parameters), strict=True):
        history.diverged |= not finite
    return histories


def _train(
    data: Data, models: Models, shared: Shared, per_model: PerModel, sizes: list[int]
) -> list[History]:
    """Train epoch by epoch, on batches of the given sizes."""
    histories = [History(start=models.start or 0.0) for _ in per_model["lr"]]
    running = list(range(len(histories)))  # the models that are still in the stack
    stack = models
    run_epoch = _bind_epoch(data, stack, shared, per_model, sizes)
    for epoch in range(1, shared.max_iter + 1):
        batch_loss, objectives = run_epoch()
        if shared.verbose:
            print(
                f"Epoch {epoch}, objective {' '.join(f'{j:.6g}' for j in objectives)}"
            )
        goes_on = []
        for place, model in enumerate(running):
            history, losses = histories[model], batch_loss[:, place]
            if epoch == 1 and models.start is None:
                first = losses[: max(1, _SAMPLES_AT_START // sizes[0])]
                history.start = float(first.mean())
            if shared.record_batch_loss:
                history.batch_loss.append(losses)
            goes_on.append(_goes_on(history, objectives[place], shared))
        if not any(goes_on):
            break
        if not all(goes_on):  # in a smaller stack
            _put(models, running, stack)
            stack = _take(stack, [place for place, on in enumerate(goes_on) if on])
            running = [model for model, on in zip(running, goes_on, strict=True) if on]
            per_model = {name: number[goes_on] for name, number in per_model.items()}
            run_epoch = _bind_epoch(data, stack, shared, per_model, sizes)
    _put(models, running, stack)
    for model in running:
        histories[model].diverged |= _ends_far_above_start(histories[model])
    return histories


def _goes_on(history: History, objective: float, shared: Shared) -> bool:
    """Add the objective of an epoch to a model's history, and judge by it."""
    curve = history.objective
    history.growing = history.growing + 1 if curve and objective > curve[-1] else 0
    curve.append(objective)
    far_above_start = objective > FAR_ABOVE_START * _scale(history)
    history.diverged = not isfinite(objective) or (
        far_above_start and history.growing >= EPOCHS_OF_GROWTH
    )
    if shared.tol is not None:
        better = objective < history.best - shared.tol
        history.waiting = 0 if better else history.waiting + 1
        patient = history.waiting < shared.n_iter_no_change
        history.converged = not (patient or _only_grows(history))
    history.best = min(history.best, objective)
    if history.converged and _is_worse(history, shared):
        history.converged, history.diverged = False, True
    return not (history.converged or history.diverged)


def _scale(history: History) -> float:
    """Return the loss that counts as the start, not too small to multiply."""
    return max(history.start, 1.0)


def _is_worse(history: History, shared: Shared) -> bool:
    """Return whether training that has settled did so well above its start.

    Not just above it: data that are not standardised may make Adam do no better.
    """
    return history.objective[-1] > 10 * history.start + (shared.tol or 0.0)


def _only_grows(history: History) -> bool:
    """Return whether all of the wait was growth, of more than 1% of what was gained.

    That is no rest: the objective may yet come down again, or go on up to divergence.
    """
    lost = history.objective[-1] - history.best
    gained = history.start - history.best
    return history.growing >= max(history.waiting, EPOCHS_OF_GROWTH) and (
        lost > 0.01 * max(gained, 0.0)
    )


def _ends_far_above_start(history: History) -> bool:
    """Return whether training ends there unsettled; a first epoch may be rough."""
    far = FAR_ABOVE_START if len(history.objective) > 1 else FAR_ABOVE_START**3
    return history.objective[-1] > far * _scale(history)


def _take(models: Models, places: Sequence[int]) -> Models:
    """Return a copy of the models at the given places of the stack."""
    index = torch.tensor(places, device=models.parameters.flat.device)
    generators = models.generators
    if len(generators) > 1:
        generators = [generators[place] for place in places]
    return Models(
        take(models.parameters, index),
        {name: take(kept, index) for name, kept in models.kept.items()},
        generators,
        models.t,
        models.since,
    )


def _put(models: Models, places: Sequence[int], stack: Models) -> None:
    """Write the models of a stack back to their places among all."""
    models.t = stack.t
    if stack is models:
        return
    index = torch.tensor(places, device=models.parameters.flat.device)
    put_(models.parameters, index, stack.parameters)
    for name, kept in models.kept.items():
        put_(kept, index, stack.kept[name])


def _finite(network: Network) -> list[bool]:
    """Return which models have finite parameters only."""
    finite = [torch.isfinite(array).flatten(1).all(1) for array in arrays(network)]
    return torch.stack(finite).all(0).tolist()


def _bind_epoch(
    data: Data, models: Models, shared: Shared, per_model: PerModel, sizes: list[int]
) -> Callable[[], tuple[Floats, list[float]]]:
    """Return the function that trains for one epoch.

    It returns the loss of every batch, (steps, m), and the objective of every model:
    the mean of these losses, each taken before its step, plus the penalty at the start
    of the epoch.
    """
    n_samples = len(data.x)
    shares = np.array(sizes) / sum(sizes)
    gradients = new_like(models.parameters)
    update = _bind_update(models, gradients, shared, per_model)
    penalty = _bind_penalty(models.parameters, per_model)
    step_of = {
        size: _bind_step(data, models, gradients, update.calls, shared, size)
        for size in set(sizes)
    }
    # A few thousand steps at a time: their rows, losses and numbers are many tensors.
    starts = range(0, len(sizes), _STEPS_AT_ONCE)
    blocks = [sizes[start : start + _STEPS_AT_ONCE] for start in starts]
    whole = sizes == [n_samples]  # the whole set is not gathered
    rows_of_blocks = [0] if whole else [sum(block) for block in blocks]

    def draw_rows() -> Tensor:
        """Return the rows of an epoch in order: (n,), or (m, n), each model's own."""
        if whole:
            return torch.empty(0)
        draws = [
            rows_of_epoch(generator, n_samples, sum(sizes), shuffle=shared.shuffle)
            for generator in models.generators
        ]
        rows = torch.from_numpy(draws[0] if len(draws) == 1 else np.stack(draws))
        return rows.to(data.x.device)

    def take_steps(block: list[int], rows: Tensor, batch_loss: Tensor) -> None:
        """Take the steps of a block, and write their losses, (steps, m)."""
        batches = [rows] if whole else rows.split_with_sizes(block, dim=-1)
        if rows.ndim == 2:
            batches = [batch.flatten() for batch in batches]
        numbers_of_steps = update.numbers_of_steps(models.t, len(block))
        for size, batch, numbers, loss in zip(
            block, batches, numbers_of_steps, batch_loss.unbind(), strict=True
        ):
            step = step_of[size]
            for gather in step.gathers:
                gather(batch)
            if numbers is not None:
                update.lay(numbers)
            for call in step.calls:
                call()
            loss.copy_(step.loss)
        models.t += len(block)

    def run_epoch() -> tuple[Floats, list[float]]:
        rows = draw_rows()
        penalties = penalty().clone()
        batch_loss = data.x.new_empty(len(sizes), len(per_model["lr"]))
        for block, some_rows, some_losses in zip(
            blocks,
            rows.split_with_sizes(rows_of_blocks, dim=-1),
            batch_loss.split_with_sizes([len(block) for block in blocks]),
            strict=True,
        ):
            take_steps(block, some_rows, some_losses)
        losses = batch_loss.cpu().numpy()
        return losses, (shares @ losses + penalties.cpu().numpy()).tolist()

    return run_epoch


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
    equation = "mob,ob->m" if batch.share.ndim == 2 else "mob,mob->m"
    calls: list[Call] = [
        *batch.calls,
        *predict,
        *LOSSES[shared.loss].calls(z, batch.y, value, dz),
        contraction(equation, value, batch.share, out=loss),
        partial(dz.mul_, batch.share),  # the mean over b is taken here, once
        *backward(dz, inputs, layers, gradients.layers, activation),
        *update,
    ]
    return _Step(batch.gathers, calls, loss)


class _Update(NamedTuple):
    """The optimizer's part of a step, and the numbers that it reads at each step."""

    calls: list[Call]
    numbers_of_steps: Callable[[int, int], Sequence[Tensor | None]]  # after t, so many
    lay: Callable[[Tensor], object]  # spreads (numbers, m) over the flat vector


def _bind_update(
    models: Models, gradients: Network, shared: Shared, per_model: PerModel
) -> _Update:
    """Return the optimizer's calls, bound to the flat vectors of all models."""
    optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    parameters = models.parameters
    flat = parameters.flat
    n_models = len(per_model["lr"])
    owner = owners(parameters) if n_models > 1 else flat.new_zeros(1, dtype=torch.int64)

    def table(t: int, n_steps: int) -> Tensor:
        """Return the numbers of the steps after t: (steps, numbers, m)."""
        steps_kept = np.arange(n_steps) + t + 1 - models.since
        steps = optimizer.numbers(per_model, steps_kept)
        stacked = np.stack(list(steps.values()), axis=1)
        return numbers_like(stacked, flat)

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
    ridge, lasso = elastic_net(per_model)
    total, norm = flat.new_zeros(len(ridge)), flat.new_zeros(len(ridge))
    calls: list[Call] = [partial(total.zero_)]
    if ridge.any():
        half_ridge = numbers_like(ridge / 2, flat)
        calls.append(partial(norm.zero_))
        for w, _ in layers:
            calls.append(contraction("moi,moi->m", w, w, out=norm, plus=norm))
        calls.append(partial(total.addcmul_, half_ridge, norm))
    if lasso.any():
        whole_lasso = numbers_like(lasso, flat)
        calls.append(partial(norm.zero_))
        for w, _ in layers:
            size, ones = torch.empty_like(w), torch.ones_like(w[0])
            calls.append(partial(torch.abs, w, out=size))
            calls.append(contraction("moi,oi->m", size, ones, out=norm, plus=norm))
        calls.append(partial(total.addcmul_, whole_lasso, norm))

    def penalty() -> Tensor:
        for call in calls:
            call()
        return total

    return penalty
