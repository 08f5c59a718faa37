"""Train m models: epochs, mini-batches, validation. The only loop over time.

What is *shared* by the models of one call changes shapes or control flow; what is *per
model* are numbers, one for each. A model that stops, or whose objective is no longer a
number, leaves the stack with the weights it has, and the others go on: company changes
nothing.

Within an epoch nothing is copied from the device to the host.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from time import monotonic
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
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
    Numbers,
    PerModel,
    Vectors,
    elastic_net,
    variant,
)
from skgd._schedules import Schedule, learning_rates
from skgd._stopping import (
    ADAPTIVE_DIVISOR,
    SMALLEST_LR,
    History,
    judge,
    judge_end,
)
from skgd._tensors import numbers_like, threads_for

# Steps that are laid out in advance, with their rows and numbers.
_STEPS_AT_ONCE = 4096

# The loss at the start is the mean over the batches that hold its first samples.
_SAMPLES_AT_START = 32

# Held-out rows whose loss is computed at once.
_HELD_OUT_AT_ONCE = 4096


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
    dropout: float = 0.0
    delta: float = 0.1
    quantile: float = 0.5
    max_grad_norm: float | None = None
    average: int = 0  # the step from which weights are averaged; 0 is never
    lr_schedule: str | Callable[[int], float] = "constant"
    power_t: float = 0.5
    decay: float = 0.1
    decay_every: int = 30
    warmup_steps: int = 0
    horizon: int = 1  # epochs that a schedule is laid out for

    @property
    def adaptive(self) -> bool:
        """Whether a model that has settled goes on at a smaller learning rate."""
        return self.lr_schedule == "adaptive"


@dataclass
class Models:
    """The models in training: all that one epoch hands to the next."""

    parameters: Network
    kept: dict[str, Network]  # what the optimizer keeps: velocity, moments
    generators: Sequence[np.random.Generator]  # one for all models, or one for each
    t: int = 0  # steps taken
    since: int = 0  # of these, before the optimizer began to keep what it keeps
    start: float | None = None  # the loss before the first step, once known
    average: Network | None = None  # the mean of the weights over steps
    slowed: Floats | None = None  # (m,), what an adaptive lr has been multiplied by

    @property
    def answer(self) -> Network:
        """What predicts: the mean of the weights if there is one."""
        return self.parameters if self.average is None else self.average


class Validation(NamedTuple):
    """Held-out rows, and what is made of them."""

    data: Data
    score: Callable[[Network, int], float] | None  # of one model, the higher better
    stops: bool  # whether training stops, and returns to the best weights, by them


class Watch(Protocol):
    """Who looks on while models train, and may end it for all: they say why, or ''.

    They are given the models that are still in the stack, and read them only.
    """

    def before_epoch(self) -> None: ...

    def before_step(self) -> None: ...

    def after_step(self, models: Models, loss: Tensor) -> str:
        """Take note of a step, and of the mean loss of its batch before it, (m,)."""

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        """Take note of an epoch; the histories are in the order of the stack."""


class _Step(NamedTuple):
    """A training step for batches of one size, bound to its arrays."""

    gathers: list[Gather]
    calls: list[Call]
    loss: Tensor  # (m,), the mean loss of the batch before the step


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
    with threads_for(max(sizes) * models.parameters.n_weights):
        histories = _train(data, models, shared, per_model, sizes, validation, watch)
    for history, is_finite in zip(histories, finite(models.answer), strict=True):
        history.diverged |= not is_finite
    return histories


def objectives(
    data: Data, network: Network, shared: Shared, per_model: PerModel
) -> Floats:
    """Return the objective of every model over all of the data, (m,)."""
    mean_loss = _bind_mean_loss(data, network, shared)
    penalty = _bind_penalty(network, per_model)
    losses: Floats = np.array(mean_loss()) + penalty().cpu().numpy()
    return losses


def _train(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    sizes: list[int],
    validation: Validation | None,
    watch: Watch | None,
) -> list[History]:
    """Train epoch by epoch, on batches of the given sizes."""
    began = monotonic()
    histories = [History(start=models.start) for _ in per_model["lr"]]
    running = list(range(len(histories)))  # the models that are still in the stack
    stack = models
    stops_early = validation is not None and validation.stops
    best = _take(models, running) if stops_early else None
    run_epoch = _bind_epoch(data, stack, shared, per_model, sizes, watch)
    validate = _bind_validation(validation, stack, shared)
    for _ in range(shared.max_iter):
        if watch is not None:
            watch.before_epoch()
        epoch, held_out = run_epoch(), validate()
        for place, model in enumerate(running):
            history = histories[model]
            history.t.append(stack.t)
            history.seconds.append(monotonic() - began)
            _add_epoch(history, epoch, held_out, place, shared, sizes[0])
            judge(history, stops_early, shared.tol, shared.n_iter_no_change)
            if history.converged and shared.adaptive:
                history.converged = not _slow_down(stack, history, per_model, place)
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
    models.t = stack.t
    for model in running:
        judge_end(histories[model])
    if best is not None:
        seen = [n for n, history in enumerate(histories) if isfinite(history.best)]
        _put(models, seen, _take(best, seen))
    return histories


def _add_epoch(
    history: History,
    epoch: _Epoch,
    held_out: _HeldOut,
    place: int,
    shared: Shared,
    batch_size: int,
) -> None:
    """Add an epoch to the history of the model at one place of the stack."""
    losses = epoch.batch_loss[:, place]
    if history.start is None:
        first = losses[: max(1, _SAMPLES_AT_START // batch_size)]
        history.start = float(first.mean())
    if shared.record_batch_loss:
        history.batch_loss.append(losses)
    history.objective.append(epoch.objective[place])
    if held_out.loss is not None:
        history.validation_loss.append(held_out.loss[place])
    if held_out.score is not None:
        history.score.append(held_out.score[place])


def _slow_down(
    models: Models, history: History, per_model: PerModel, place: int
) -> bool:
    """Divide the learning rate of a model that has settled, if it is not tiny yet."""
    assert models.slowed is not None
    if per_model["lr"][place] * models.slowed[place] <= SMALLEST_LR:
        return False
    models.slowed[place] /= ADAPTIVE_DIVISOR
    history.waiting = 0
    return True


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
        models.since,
        average=None if average is None else take(average, index),
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


def finite(network: Network) -> list[bool]:
    """Return which models have finite parameters only."""
    each = [torch.isfinite(array).flatten(1).all(1) for array in arrays(network)]
    return torch.stack(each).all(0).tolist()


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
    schedule = _schedule(shared, epoch_steps=len(sizes))
    update = _bind_update(models, gradients, shared, per_model, schedule)
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
        places = draws[0] if len(draws) == 1 else np.stack(draws)
        rows = places if data.rows is None else data.rows[places]
        return torch.from_numpy(rows).to(data.x.device)

    def take_steps(block: list[int], rows: Tensor, batch_loss: Tensor) -> str:
        """Take the steps of a block, write their losses, and say who ended it."""
        batches = [rows] if whole else rows.split_with_sizes(block, dim=-1)
        if rows.ndim == 2:
            batches = [batch.flatten() for batch in batches]
        numbers_of_steps = update.numbers_of_steps(models.t, len(block))
        for size, batch, numbers, loss in zip(
            block, batches, numbers_of_steps, batch_loss.unbind(), strict=True
        ):
            step = step_of[size]
            if watch is not None:
                watch.before_step()
            for gather in step.gathers:
                gather(batch)
            if numbers is not None:
                update.lay(numbers)
            for call in step.calls:
                call()
            loss.copy_(step.loss)
            models.t += 1
            ended = "" if watch is None else watch.after_step(models, loss)
            if ended:
                return ended
        return ""

    def run_epoch() -> _Epoch:
        rows, t, ended = draw_rows(), models.t, ""
        penalties = penalty().clone()
        batch_loss = data.x.new_empty(len(sizes), len(per_model["lr"]))
        for block, some_rows, some_losses in zip(
            blocks,
            rows.split_with_sizes(rows_of_blocks, dim=-1),
            batch_loss.split_with_sizes([len(block) for block in blocks]),
            strict=True,
        ):
            ended = take_steps(block, some_rows, some_losses)
            if ended:
                break
        n_steps = models.t - t
        losses = batch_loss[:n_steps].cpu().numpy()
        shares = np.array(sizes[:n_steps]) / sum(sizes[:n_steps])
        objective = shares @ losses + penalties.cpu().numpy()
        return _Epoch(losses, objective.tolist(), ended)

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
    loss_function = LOSSES[shared.loss](shared.delta, shared.quantile)

    batch = bind_batch(data, n_outputs, n_rows, own)
    masks, draws = _dropout(models, shared.dropout, n_rows)
    passed = forward(layers, batch.x, activation, masks)
    z = passed.z
    value, dz = torch.empty_like(z), torch.empty_like(z)
    loss = z.new_empty(n_models)
    equation = "mob,ob->m" if batch.share.ndim == 2 else "mob,mob->m"
    calls: list[Call] = [
        *batch.calls,
        *draws,
        *passed.calls,
        *loss_function.calls(z, batch.y, value, dz),
        contraction(equation, value, batch.share, out=loss),
        partial(dz.mul_, batch.share),  # the mean over b is taken here, once
        *backward(dz, passed, layers, gradients.layers, activation).calls,
        *_clip(gradients, shared.max_grad_norm),
        *update,
    ]
    return _Step(batch.gathers, calls, loss)


def _schedule(shared: Shared, epoch_steps: int) -> Schedule:
    """Return how the learning rate changes, given the number of steps of an epoch."""
    return Schedule(
        kind=shared.lr_schedule,
        power_t=shared.power_t,
        decay=shared.decay,
        decay_every=shared.decay_every,
        warmup_steps=shared.warmup_steps,
        epoch_steps=epoch_steps,
        total_steps=shared.horizon * epoch_steps,
    )


class _Update(NamedTuple):
    """The optimizer's part of a step, and the numbers that it reads at each step."""

    calls: list[Call]
    numbers_of_steps: Callable[[int, int], Sequence[Tensor | None]]  # after t, so many
    lay: Callable[[Tensor], object]  # spreads (numbers, m) over the flat vector


def _bind_update(
    models: Models,
    gradients: Network,
    shared: Shared,
    per_model: PerModel,
    schedule: Schedule,
) -> _Update:
    """Return the optimizer's calls, bound to the flat vectors of all models."""
    optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    parameters, average = models.parameters, models.average
    flat = parameters.flat
    n_models = len(per_model["lr"])
    owner = owners(parameters) if n_models > 1 else flat.new_zeros(1, dtype=torch.int64)

    def numbers(t: int, n_steps: int) -> Numbers:
        """Return the numbers of the steps after t."""
        steps = np.arange(n_steps) + t + 1
        lr = learning_rates(schedule, per_model, steps)
        if models.slowed is not None:
            lr = lr * models.slowed
        numbers = optimizer.numbers(per_model, lr, steps - models.since)
        if average is not None:
            numbers["share"] = _share_of_average(steps, shared.average)
        return numbers

    def table(t: int, n_steps: int) -> Tensor:
        """Return them as one tensor, (steps, numbers, m); one step if all are alike."""
        rows = list(numbers(t, n_steps).values())
        shape = (max(map(len, rows)), n_models)
        stacked = np.stack([np.broadcast_to(row, shape) for row in rows], axis=1)
        return numbers_like(stacked, flat)

    names = list(numbers(models.t, 1))
    laid = flat.new_empty(len(names), len(owner))
    constant = not callable(schedule.kind) and len(table(models.t, 2)) == 1

    def lay(numbers: Tensor) -> None:
        torch.index_select(numbers, 1, owner, out=laid)

    def numbers_of_steps(t: int, n_steps: int) -> Sequence[Tensor | None]:
        if not constant:
            return table(t, n_steps).unbind()
        changed = table(t, 1)[0] if shared.adaptive else None
        return [changed, *[None] * (n_steps - 1)]

    lay(table(models.t, 1)[0])
    kept = {name: network.flat for name, network in models.kept.items()}
    vectors = Vectors(flat, flat[: parameters.n_weights], gradients.flat, kept)
    number = dict(zip(names, laid, strict=True))
    calls = optimizer.calls(vectors, number)
    if average is not None:
        calls.append(partial(average.flat.lerp_, flat, number["share"]))
    return _Update(calls, numbers_of_steps, lay)


def _dropout(
    models: Models, dropout: float, n_rows: int
) -> tuple[list[Tensor], list[Call]]:
    """Return the masks of the hidden layers, and the calls that draw them anew.

    They are drawn on the host, layer by layer, the same on every device; one generator
    serves all models alike, or each model has its own. What stays is scaled up, so that
    its mean does not change (Srivastava et al. 2014, section 10).
    """
    if not dropout:
        return [], []
    masks: list[Tensor] = []
    calls: list[Call] = []
    for w, _ in models.parameters.layers[:-1]:
        mask = w.new_empty(len(models.generators), w.shape[1], n_rows)
        masks.append(mask[0] if len(mask) == 1 else mask)
        for generator, one in zip(models.generators, mask, strict=True):
            calls.append(partial(_draw, generator, dropout, one))
    return masks, calls


def _draw(generator: np.random.Generator, dropout: float, mask: Tensor) -> None:
    """Fill a mask with 0, at the rate of the dropout, and with 1 / (1 - dropout)."""
    stays = generator.random(mask.shape, np.float32) >= dropout
    mask.copy_(torch.from_numpy(stays)).mul_(1 / (1 - dropout))


def _share_of_average(steps: npt.NDArray[np.int64], start: int) -> Floats:
    """Return what each step's weights count in their mean since a step, (steps, 1)."""
    return 1.0 / np.maximum(steps - start + 1, 1)[:, np.newaxis]


def _clip(gradients: Network, max_norm: float | None) -> list[Call]:
    """Return the calls that shorten each model's gradient to a norm, where longer.

    As torch.nn.utils.clip_grad_norm_ does: the norm is that over all layers.
    """
    if max_norm is None:
        return []
    flat = gradients.flat
    n_models = len(gradients.layers[0].w)
    norm = flat.new_zeros(n_models)
    factor = torch.empty_like(norm)
    calls: list[Call] = [partial(norm.zero_)]
    for w, bias in gradients.layers:
        calls.append(contraction("moi,moi->m", w, w, out=norm, plus=norm))
        if bias is not None:
            calls.append(contraction("mo,mo->m", bias, bias, out=norm, plus=norm))
    calls += [
        partial(norm.sqrt_),
        partial(norm.add_, flat.new_full((1,), 1e-6)),
        partial(torch.div, flat.new_full((1,), max_norm), norm, out=factor),
        partial(factor.clamp_, max=1.0),
    ]
    if n_models == 1:
        return [*calls, partial(flat.mul_, factor)]
    laid = torch.empty_like(flat)
    return [
        *calls,
        partial(torch.index_select, factor, 0, owners(gradients), out=laid),
        partial(flat.mul_, laid),
    ]


def _bind_validation(
    validation: Validation | None, models: Models, shared: Shared
) -> Callable[[], _HeldOut]:
    """Return the function that tells how the models do on held-out rows."""
    if validation is None:
        return _HeldOut
    mean_loss = _bind_mean_loss(validation.data, models.answer, shared)
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


def _bind_mean_loss(
    data: Data, network: Network, shared: Shared
) -> Callable[[], list[float]]:
    """Return the function that gives every model's mean loss on some data, (m,)."""
    n_outputs = network.layers[-1].w.shape[1]
    activation = ACTIVATIONS[shared.activation](shared.negative_slope)
    loss_function = LOSSES[shared.loss](shared.delta, shared.quantile)
    rows = torch.from_numpy(np.arange(len(data.x)) if data.rows is None else data.rows)
    rows = rows.to(data.x.device)
    sizes = batch_sizes(len(rows), _HELD_OUT_AT_ONCE, "keep")
    total = len(rows) if data.weight is None else float(data.weight[0, rows].sum())

    def bound(n_rows: int) -> _Step:
        """Return the forward pass and the loss of so many rows."""
        batch = bind_batch(data, n_outputs, n_rows, None)
        passed = forward(network.layers, batch.x, activation)
        z = passed.z
        value, dz = torch.empty_like(z), torch.empty_like(z)
        loss = z.new_empty(len(z))
        calls = [
            *batch.calls,
            *passed.calls,
            *loss_function.calls(z, batch.y, value, dz),
            contraction("mob,ob->m", value, batch.share, out=loss),
        ]
        return _Step(batch.gathers, calls, loss)

    pass_of = {size: bound(size) for size in set(sizes)}

    def mean_loss() -> list[float]:
        loss = torch.zeros_like(pass_of[sizes[0]].loss)
        for size, batch in zip(sizes, rows.split_with_sizes(sizes), strict=True):
            step = pass_of[size]
            for gather in step.gathers:
                gather(batch)
            for call in step.calls:
                call()
            loss += step.loss * size
        return (loss / total).tolist()

    return mean_loss


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
