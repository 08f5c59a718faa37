"""Train m models: epochs, mini-batches, validation. The only loop over time.

A model that stops, or whose objective is no longer a number, leaves the stack with the
weights it has, and the others go on: company changes nothing.

Within an epoch nothing is copied from the device to the host, but for the places of
sparse rows.
"""

from collections.abc import Callable, Sequence
from math import isfinite, nan
from time import monotonic
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from skgd._batches import Data, Rows, all_rows, batch_sizes, rows_of_epoch
from skgd._network import Network, finite, new_like, new_network, put_, take
from skgd._optimizers import Floats, PerModel
from skgd._sparse import Csr, is_wide
from skgd._steps import (
    Models,
    Shared,
    bind_mean_loss,
    bind_penalty,
    bind_step,
    bind_update,
    schedule_of,
)
from skgd._stopping import (
    ADAPTIVE_DIVISOR,
    SMALLEST_LR,
    History,
    judge,
    judge_end,
)
from skgd._tensors import threads_for

# Steps that are laid out in advance, with their rows and numbers.
_STEPS_AT_ONCE = 4096

# Rows by whose loss it is judged, before and after, whether training has diverged.
_JUDGED_ROWS = 1024


class Validation(NamedTuple):
    """Held-out rows, and what is made of them."""

    data: Data
    score: Callable[[Network, int], float] | None  # of one model, the higher better
    stops: bool  # whether training stops, and returns to the best weights, by them


class Watch(Protocol):
    """Who looks on while models train, and may end it for all: they say why, or ''.

    They are given the models that are still in the stack, and read them only.
    """

    wants_steps: bool  # whether it is told before each step, and not only after

    def before_epoch(self) -> None: ...

    def before_step(self) -> None: ...

    def after_step(self, models: Models, loss: Tensor) -> str:
        """Take note of a step, and of the mean loss of its batch before it, (m,)."""

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        """Take note of an epoch; the histories are in the order of the stack."""


class _Epoch(NamedTuple):
    """What an epoch has to tell."""

    batch_loss: Floats  # (steps, m)
    objective: list[float]  # (m,)
    ended: str  # who ended it from outside, if anyone


class _HeldOut(NamedTuple):
    """How the models do on held-out rows after an epoch; None without such rows."""

    loss: list[float] | None = None  # (m,)
    score: list[float] | None = None  # (m,)


def train(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    validation: Validation | None = None,
    watch: Watch | None = None,
) -> list[History]:
    """Train the models in place until each has stopped, and tell how it went."""
    sizes = batch_sizes(data.n_samples, shared.batch_size, shared.last_batch)
    with threads_for(max(sizes) * _multiply_adds(data, models.parameters)):
        guess = _loss_of_guesses(data, models.parameters, shared)
        begun = _losses_of_some(data, models.parameters, shared)
        histories = [History(start=max(guess, loss)) for loss in begun]
        _train(data, models, shared, per_model, sizes, histories, validation, watch)
        ends = _losses_of_some(data, models.answer, shared)
        _judge_ends(histories, ends, finite(models.answer))
    return histories


def train_on_chunk(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    watch: Watch | None = None,
) -> list[History]:
    """Train the models in place on the next rows of a stream, which began with a loss.

    What was said of these rows is judged less closely, for there are calls to come: by
    the loss before each step, and by guesses only where it is far above the first one.
    """
    assert models.start is not None
    sizes = batch_sizes(data.n_samples, shared.batch_size, shared.last_batch)
    with threads_for(max(sizes) * _multiply_adds(data, models.parameters)):
        histories = [History(start=models.start) for _ in per_model["lr"]]
        _train(data, models, shared, per_model, sizes, histories, None, watch)
        ends, ended_well = [h.objective[-1] for h in histories], finite(models.answer)
        _judge_ends(histories, ends, ended_well)
        if any(history.diverged for history in histories):
            guess = _loss_of_guesses(data, models.parameters, shared)
            for history in histories:
                history.start, history.diverged = max(models.start, guess), False
            _judge_ends(histories, ends, ended_well)
    return histories


def _judge_ends(
    histories: Sequence[History], losses: Sequence[float], finite: Sequence[bool]
) -> None:
    """Judge each model by the loss that it ends with, and whether it is finite."""
    for history, loss, is_finite in zip(histories, losses, finite, strict=True):
        judge_end(history, loss if is_finite else nan)


def _loss_of_guesses(data: Data, network: Network, shared: Shared) -> float:
    """Return the largest loss of guessing 0, 1 or -1 for every row.

    A start counts as no better than that: a model that begins well does not diverge
    when it gets worse. Guesses need no look at X, so their loss is taken over all rows,
    for a few targets may make most of it.
    """
    n_outputs = network.layers[-1].w.shape[1]
    nothing = data.y.new_zeros(1).expand(data.x.shape[0], 1)
    guesses = new_network(3, (1, n_outputs), True, data.y)
    [(_, biases)] = guesses.layers
    assert biases is not None
    biases.copy_(biases.new_tensor([[0.0], [1.0], [-1.0]]).expand_as(biases))
    return max(_losses(data._replace(x=nothing), guesses, shared, all_rows(data)))


def _losses_of_some(data: Data, network: Network, shared: Shared) -> list[float]:
    """Return every model's loss over some rows, (m,), far from each other."""
    rows = all_rows(data)
    some = rows[:: max(1, len(rows) // _JUDGED_ROWS)]
    return _losses(data, network, shared, some)


def _losses(data: Data, network: Network, shared: Shared, rows: Rows) -> list[float]:
    """Return every model's loss over the rows, as it counts in the objective, (m,)."""
    losses = bind_mean_loss(data._replace(rows=rows), network, shared)()
    if data.weight is None:
        return losses
    return [float(data.weight[0, rows].mean()) * loss for loss in losses]


def _multiply_adds(data: Data, network: Network) -> int:
    """Return the multiply-adds of a forward pass of one row, about."""
    if not isinstance(data.x, Csr):
        return network.n_weights
    w = network.layers[0].w
    entries_of_a_row = len(data.x.values) // max(1, data.x.shape[0])
    first = entries_of_a_row if is_wide(data.x) else data.x.n_features
    return network.n_weights + w[:, :, 0].numel() * (first - data.x.n_features)


def objectives(
    data: Data, network: Network, shared: Shared, per_model: PerModel
) -> Floats:
    """Return the objective of every model over all of the data, (m,)."""
    mean_loss = bind_mean_loss(data, network, shared)
    penalty = bind_penalty(network, per_model)
    losses: Floats = np.array(mean_loss()) + penalty().cpu().numpy()
    return losses


def _train(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    sizes: list[int],
    histories: list[History],
    validation: Validation | None,
    watch: Watch | None,
) -> None:
    """Train epoch by epoch, on batches of the given sizes, and write the histories."""
    began = monotonic()
    running = list(range(len(histories)))  # the models that are still in the stack
    stack = models
    stops_early = validation is not None and validation.stops
    best = _take(models, running) if stops_early else None
    run_epoch = _bind_epoch(data, stack, shared, per_model, sizes, watch)
    validate = _bind_validation(validation, stack, shared)
    if best is not None and models.t > 0:  # what has been trained may be the best
        _begin_with(histories, validate(), models.t)
    for _ in range(shared.max_iter):
        if watch is not None:
            watch.before_epoch()
        epoch, held_out = run_epoch(), validate()
        for place, model in enumerate(running):
            history = histories[model]
            history.t.append(stack.t)
            history.seconds.append(monotonic() - began)
            _add_epoch(history, epoch, held_out, place, shared, len(sizes))
            adapts = shared.adaptive and _slows_down(stack, per_model, place)
            judge(history, stops_early, shared.tol, shared.n_iter_no_change, adapts)
            if history.slowed:
                _slow_down(stack, place)
        if best is not None:
            improved = [n for n, m in enumerate(running) if histories[m].improved]
            if improved:
                _put(best, [running[n] for n in improved], _take(stack, improved))
        if shared.verbose:
            print(_line(histories, running))
        ended = epoch.ended
        if watch is not None:
            watched = [histories[model] for model in running]
            ended = watch.after_epoch(stack, watched) or ended
        goes_on = [histories[model].goes_on for model in running]
        if ended or not any(goes_on):
            for model in running:
                histories[model].ended = ended if histories[model].goes_on else ""
            break
        if not all(goes_on):  # in a smaller stack
            _put(models, running, stack)
            stack = _take(stack, [place for place, on in enumerate(goes_on) if on])
            running = [model for model, on in zip(running, goes_on, strict=True) if on]
            per_model = {name: number[goes_on] for name, number in per_model.items()}
            run_epoch = _bind_epoch(data, stack, shared, per_model, sizes, watch)
            validate = _bind_validation(validation, stack, shared)
    _put(models, running, stack)
    models.t, models.epochs = stack.t, stack.epochs
    if best is not None:
        seen = [n for n, history in enumerate(histories) if isfinite(history.best)]
        if seen:
            _put(models, seen, _take(best, seen))


def _add_epoch(
    history: History,
    epoch: _Epoch,
    held_out: _HeldOut,
    place: int,
    shared: Shared,
    n_steps: int,
) -> None:
    """Add an epoch to the history of the model at one place of the stack."""
    if shared.record_batch_loss:
        history.batch_loss.append(epoch.batch_loss[:, place])
    history.cut_short = len(epoch.batch_loss) < n_steps
    history.objective.append(epoch.objective[place])
    if held_out.loss is not None:
        history.validation_loss.append(held_out.loss[place])
    if held_out.score is not None:
        history.score.append(held_out.score[place])


def _begin_with(histories: Sequence[History], held_out: _HeldOut, t: int) -> None:
    """Let the best so far be what the models do before they are trained on."""
    losses = held_out.loss or []
    values, losses_of_ties = losses, [0.0] * len(losses)
    if held_out.score is not None:
        values, losses_of_ties = [-score for score in held_out.score], losses
    for history, value, loss in zip(histories, values, losses_of_ties, strict=True):
        if isfinite(value):
            history.best, history.best_loss, history.best_t = value, loss, t


def _slows_down(models: Models, per_model: PerModel, place: int) -> bool:
    """Return whether the learning rate of a model may be divided, not tiny yet."""
    assert models.slowed is not None
    return bool(per_model["lr"][place] * models.slowed[place] > SMALLEST_LR)


def _slow_down(models: Models, place: int) -> None:
    """Divide the learning rate of a model."""
    assert models.slowed is not None
    models.slowed[place] /= ADAPTIVE_DIVISOR


def _line(histories: Sequence[History], running: Sequence[int]) -> str:
    """Return what is printed of an epoch, one number for each model."""
    curves = {
        "objective": [histories[model].objective for model in running],
        "validation loss": [histories[model].validation_loss for model in running],
        "validation score": [histories[model].score for model in running],
    }
    parts = [f"Epoch {len(histories[running[0]].objective)}"]
    for name, values in curves.items():
        if values[0]:
            parts.append(f"{name} {' '.join(f'{curve[-1]:.6g}' for curve in values)}")
    return ", ".join(parts)


def _take(models: Models, places: Sequence[int]) -> Models:
    """Return a copy of the models at the given places of the stack."""
    index = torch.tensor(
        places, dtype=torch.int64, device=models.parameters.flat.device
    )
    generators, average = models.generators, models.average
    if len(generators) > 1:
        generators = [generators[place] for place in places]
    return Models(
        take(models.parameters, index),
        {name: take(kept, index) for name, kept in models.kept.items()},
        generators,
        models.t,
        models.epochs,
        models.since,
        average=None if average is None else take(average, index),
        averaged_since=models.averaged_since,
        slowed=None if models.slowed is None else models.slowed[list(places)],
    )


def _put(models: Models, places: Sequence[int], stack: Models) -> None:
    """Write the models of a stack to their places among all."""
    if stack is models or not places:
        return
    index = torch.tensor(places, device=models.parameters.flat.device)
    put_(models.parameters, index, stack.parameters)
    for name, kept in models.kept.items():
        put_(kept, index, stack.kept[name])
    if models.average is not None and stack.average is not None:
        put_(models.average, index, stack.average)
    if models.slowed is not None and stack.slowed is not None:
        models.slowed[list(places)] = stack.slowed


def _bind_epoch(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    sizes: list[int],
    watch: Watch | None,
) -> Callable[[], _Epoch]:
    """Return the function that trains for one epoch.

    The objective that it tells is the mean of the losses of the batches, each taken
    before its step, plus the penalty at the start of the epoch.
    """
    n_samples = data.n_samples
    gradients = new_like(models.parameters)
    schedule = schedule_of(shared, models, epoch_steps=len(sizes))
    update = bind_update(models, gradients, shared, per_model, schedule, data.x)
    penalty = bind_penalty(models.parameters, per_model)
    step_of = {
        size: bind_step(data, models, gradients, update, shared, size)
        for size in set(sizes)
    }
    # A few thousand steps at a time: their rows, losses and numbers are many tensors.
    starts = range(0, len(sizes), _STEPS_AT_ONCE)
    blocks = [sizes[start : start + _STEPS_AT_ONCE] for start in starts]
    whole = sizes == [n_samples]  # the whole set is not gathered
    rows_of_blocks = [sum(block) for block in blocks]
    everything = torch.from_numpy(all_rows(data)).to(data.y.device)

    before_step = watch.before_step if watch and watch.wants_steps else None
    after_step = watch.after_step if watch else None

    def draw_rows() -> Tensor:
        """Return the rows of an epoch in order: (n,), or (m, n), each model's own."""
        if whole:
            return everything
        draws = [
            rows_of_epoch(generator, n_samples, sum(sizes), shuffle=shared.shuffle)
            for generator in models.generators
        ]
        places = draws[0] if len(draws) == 1 else np.stack(draws)
        rows = places if data.rows is None else data.rows[places]
        return torch.from_numpy(rows).to(data.y.device)

    def take_steps(block: list[int], rows: Tensor, batch_loss: Tensor) -> str:
        """Take the steps of a block, write their losses, and say who ended it."""
        batches = list(rows.split_with_sizes(block, dim=-1))
        if rows.ndim == 2:
            batches = [batch.flatten() for batch in batches]
        numbers_of_steps = update.begin(models.t, len(block))
        for size, batch, numbers, loss in zip(
            block, batches, numbers_of_steps, batch_loss.unbind(), strict=True
        ):
            step = step_of[size]
            if before_step is not None:
                before_step()
            for gather in step.gathers:
                gather(batch)
            if numbers is not None:
                update.lay(numbers)
            for call in step.calls:
                call()
            loss.copy_(step.loss)
            models.t += 1
            if after_step is not None:
                ended = after_step(models, loss)
                if ended:
                    return ended
        return ""

    def run_epoch() -> _Epoch:
        rows, t, ended = draw_rows(), models.t, ""
        penalties = penalty().clone()
        batch_loss = data.y.new_empty(len(sizes), len(per_model["lr"]))
        for block, some_rows, some_losses in zip(
            blocks,
            rows.split_with_sizes(rows_of_blocks, dim=-1),
            batch_loss.split_with_sizes([len(block) for block in blocks]),
            strict=True,
        ):
            ended = take_steps(block, some_rows, some_losses)
            if ended:
                break
        if update.wide is not None:
            update.wide.settle()
        n_steps = models.t - t
        losses = batch_loss[:n_steps].cpu().numpy()
        shares = np.array(sizes[:n_steps]) / sum(sizes[:n_steps])
        models.epochs += 1
        objective = shares @ losses + penalties.cpu().numpy()
        return _Epoch(losses, objective.tolist(), ended)

    return run_epoch


def _bind_validation(
    validation: Validation | None, models: Models, shared: Shared
) -> Callable[[], _HeldOut]:
    """Return the function that tells how the models do on held-out rows."""
    if validation is None:
        return _HeldOut
    mean_loss = bind_mean_loss(validation.data, models.answer, shared)
    score = validation.score

    def validate() -> _HeldOut:
        losses = mean_loss()
        if score is None:
            return _HeldOut(losses)
        scores = [  # scikit-learn's metrics refuse predictions that are not finite
            score(models.answer, place) if isfinite(loss) else nan
            for place, loss in enumerate(losses)
        ]
        return _HeldOut(losses, scores)

    return validate
