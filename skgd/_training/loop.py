"""Train m models: epochs, mini-batches, validation. The only loop over time.

A model that stops, or whose objective is no longer a number, keeps the weights that it
has, and the others go on: company changes nothing. When enough have stopped, the others
go on in a smaller stack. Models that see the same rows in the same order are a fold
(see ``batches``), and all folds of a stack have as many models, so a stopped one may
stay in it to fill up its fold.

Within an epoch nothing is copied from the device to the host, but for the places of
sparse rows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from math import isfinite, nan
from time import monotonic
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from skgd._equations.network import Network, finite, put_, take
from skgd._equations.optimizers import Floats, PerModel
from skgd._machine.threads import threads_for
from skgd._training.batches import (
    Data,
    Rows,
    all_rows,
    batch_sizes,
    counts_in_batches,
    padded,
    rows_of_epoch,
    take_folds,
    weights_in_all,
)
from skgd._training.composed import Composed, bind_composed
from skgd._training.constants import losses_of_constants
from skgd._training.csr import Csr, is_wide
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.sources import Fetch
from skgd._training.steps import (
    Step,
    Update,
    bind_mean_loss,
    bind_penalty,
    bind_step,
    bind_update,
    n_parts,
    schedule_of,
)
from skgd._training.stopping import (
    ADAPTIVE_DIVISOR,
    SMALLEST_LR,
    History,
    Stream,
    Untrained,
    Verdict,
    begin_with,
    judge,
    judge_chunk,
    judge_end,
    judge_peak,
    peak_of,
)
from skgd._training.target_scale import on_scales, units_of

Places = Sequence[int]  # in a stack of models

# Steps that are laid out in advance, with their rows and numbers.
_STEPS_AT_ONCE = 4096

# A stack becomes a smaller one where it can shrink to this share of its models.
_WORTH_SHRINKING = 0.75

# Rows by whose loss it is judged, before and after, whether training has diverged: at
# the least and at the most, and with how many numbers.
_FEWEST_JUDGED, _MOST_JUDGED, _NUMBERS_JUDGED = 128, 1024, 2**18


class Validation(NamedTuple):
    """Held-out rows, and what is made of them."""

    data: Data
    score: Callable[[Network, Places, Places], list[float]] | None  # of some places of
    # the stack, and the models in them; the higher the better
    stops: bool  # whether training stops, and returns to the best weights, by them


class Watch(Protocol):
    """Who looks on while models train, and may end it for all: they say why, or ''.

    They are given the models that are still in the stack, and read them only.
    """

    wants_steps: bool  # whether it is told before and after each step; if not, it is
    # told after steps, the last of some that were taken at once

    def before_epoch(self) -> None: ...

    def before_step(self) -> None: ...

    def after_step(self, models: Models, loss: Tensor) -> str:
        """Take note of a step, and of the mean loss of its batch before it, (m, r)."""

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        """Take note of an epoch; the histories are in the order of the stack."""


class _Epoch(NamedTuple):
    """What an epoch has to tell."""

    batch_loss: Floats  # (steps, m, r)
    loss: Floats  # (m, r)
    penalty: Floats  # (m, r)
    units: Floats  # (m, r), what all of these count in the units of y
    ended: str  # who ended it from outside, if anyone


class _HeldOut(NamedTuple):
    """How the models do on held-out rows after an epoch; None without such rows."""

    loss: Floats | None = None  # (m, r)
    score: list[float] | None = None  # (m,)


def train(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    validation: Validation | None = None,
    watch: Watch | None = None,
    histories: list[History] | None = None,
) -> list[History]:
    """Train the models in place until each has stopped, and tell how it went.

    Where ``histories`` are given, training goes on from there.
    """
    sizes = batch_sizes(data.n_samples, shared.batch_size, shared.last_batch)
    with threads_for(max(sizes) * _multiply_adds(data, models.parameters)):
        some = _some_rows(data, models.parameters)
        if histories is None:
            histories = _new_histories(data, models, shared, some)
            if _goes_on(models):
                begun = _losses(some, models.parameters, shared)
                for history, loss in zip(histories, begun, strict=True):
                    history.untrained = history.untrained._replace(initial=loss)
        _train(data, models, shared, per_model, sizes, histories, validation, watch)
        ends = _losses(some, models.predicting, shared)
        _judge_ends(histories, ends, finite(models.predicting))
    return histories


def train_on_chunk(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    stream: Stream,
    watch: Watch | None = None,
) -> History:
    """Train one model in place on the next rows of a stream.

    Of a stream nothing is known but what has come. Its loss may jump when its targets
    do, and that of a single row says little, so a model has diverged only if its loss
    is no number, or is far above those of constants, and far above all it was before it
    grew: from the first half of the batches to the second, or for some calls in a row.
    """
    sizes = batch_sizes(data.n_samples, shared.batch_size, shared.last_batch)
    with threads_for(max(sizes) * _multiply_adds(data, models.parameters)):
        history = History()
        epoch = _train(data, models, shared, per_model, sizes, [history], None, watch)
        assert epoch is not None
        [loss] = history.loss if all(finite(models.predicting)) else [nan]
        judge_chunk(history, loss)
        peak = peak_of(epoch.batch_loss, stream.then(loss))
        if peak > 0:  # next to never: what it is held against is computed now
            [known] = _new_histories(data, models, shared)
            history.untrained = known.untrained
            judge_peak(history, peak)
    return history


def _goes_on(models: Models) -> bool:
    """Return whether training begins with weights that were trained, or given."""
    drawn = models.t == 0 and len(models.parameters.layers) > 1
    return not drawn and bool(models.parameters.flat.any())


def _new_histories(
    data: Data, models: Models, shared: Shared, some: Data | None = None
) -> list[History]:
    """Return histories that know what losses are held against.

    Losses are those of all rows, or at the end of ``some``. A few rows may make most of
    either, so they are held against what is larger.
    """
    n_models, n_outputs, _ = models.parameters.layers[-1].w.shape
    losses = np.array(losses_of_constants(data, shared, n_outputs))
    if some is not None and some.n_samples < data.n_samples:
        losses = np.maximum(losses, losses_of_constants(some, shared, n_outputs))
    best, at_zero = (one.repeat(n_models // len(one)).tolist() for one in losses)
    pairs = zip(best, at_zero, strict=True)
    return [History(untrained=Untrained(one, other)) for one, other in pairs]


def _judge_ends(
    histories: Sequence[History], losses: Sequence[float], finite: Sequence[bool]
) -> None:
    """Judge each model by the loss that it ends with, and whether it is finite."""
    for history, loss, is_finite in zip(histories, losses, finite, strict=True):
        judge_end(history, loss if is_finite else nan)


def _some_rows(data: Data, network: Network) -> Data:
    """Return some rows of the data, far from each other: fewer of wide ones.

    How far is the same for all folds, so those of unlike length may be judged by a few
    rows more than alone.
    """
    n_outputs = network.layers[-1].w.shape[1]
    n_rows = _NUMBERS_JUDGED // max(data.x.shape[1], n_outputs)
    n_rows = max(_FEWEST_JUDGED, min(n_rows, _MOST_JUDGED))
    step = max(1, data.n_samples // n_rows)
    some, counts = all_rows(data)[..., ::step].copy(), data.counts
    if counts is not None:
        counts = [-(-count // step) for count in counts]
    return data._replace(rows=some, counts=counts)


def _losses(data: Data, network: Network, shared: Shared) -> list[float]:
    """Return every model's loss over the rows, as it counts in the objective, (m,)."""
    losses = bind_mean_loss(data, network, shared)().sum(1)
    in_all, in_rows = weights_in_all(data), weights_in_all(data._replace(weight=None))
    mean_weights = np.divide(in_all, in_rows)
    weighted = losses.reshape(len(mean_weights), -1) * mean_weights[:, np.newaxis]
    as_list: list[float] = weighted.ravel().tolist()
    return as_list


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
    """Return the objective of every model over all of the data, in units of y, (m,)."""
    per_model = _on_scales(data, network, shared, per_model)
    mean_loss = bind_mean_loss(data, network, shared)
    penalty = bind_penalty(network, per_model, n_parts(data.scales))
    return in_units_of_y(mean_loss() + penalty().cpu().numpy(), data, shared)


def _on_scales(
    data: Data, network: Network, shared: Shared, per_model: PerModel
) -> PerModel:
    """Return the hyperparameters as they are on the scales of the targets."""
    if data.scales is None or len(network.layers) > 1:
        return per_model
    n_in_fold = len(network.layers[0].w) // len(data.scales)
    return on_scales(per_model, data.scales.repeat(n_in_fold, 0), shared.loss)


def in_units_of_y(parts: Floats, data: Data, shared: Shared) -> Floats:
    """Return losses of all models (m, r) in the units of y, (m,)."""
    told: Floats = (parts * _units(data, shared, len(parts))).sum(1)
    return told


def _units(data: Data, shared: Shared, n_models: int) -> Floats:
    """Return what the parts of the losses of all models count in units of y, (m, r)."""
    if data.scales is None:
        return np.ones((n_models, 1))
    units = units_of(data.scales, shared.loss)
    return units.repeat(n_models // len(units), 0)


def _train(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    sizes: list[int],
    histories: list[History],
    validation: Validation | None,
    watch: Watch | None,
) -> _Epoch | None:
    """Train epoch by epoch, on batches of the given sizes, and write the histories.

    Returns the last epoch.
    """
    spent = max((h.seconds[-1] for h in histories if h.seconds), default=0.0)
    began = monotonic() - spent
    members = list(range(len(histories)))  # the models by their places in the stack
    going = [place for place in members if histories[place].goes_on]
    running = going  # the models at these places
    stack = models if going == members else _take(models, members)
    stops_early = validation is not None and validation.stops
    best = _take(models, members) if stops_early else None
    run_epoch = _bind_epoch(data, stack, shared, per_model, sizes, watch)
    validate = _bind_validation(validation, stack, shared)
    if best is not None and going:
        begun = validate(going, running)
        for place, model in zip(going, running, strict=True):
            _begin_with(histories[model], begun, place, models)
    epoch = None
    for _ in range(shared.max_iter if going else 0):
        if watch is not None:
            watch.before_epoch()
        epoch, held_out = run_epoch(), validate(going, running)
        for place, model in zip(going, running, strict=True):
            history = histories[model]
            history.t.append(stack.t)
            history.seconds.append(monotonic() - began)
            _add_epoch(history, epoch, held_out, place, shared, len(sizes))
            adapts = shared.adaptive and _slows_down(stack, per_model, place)
            judge(history, stops_early, shared.tol, shared.n_iter_no_change, adapts)
            if history.verdict is Verdict.SLOWED:
                _slow_down(stack, place)
        if best is not None:
            improved = [
                place for place in going if histories[members[place]].memory.improved
            ]
            _put(best, [members[place] for place in improved], stack, improved)
        if shared.verbose:
            print(_line(histories[running[0]], shared.max_iter))
        ended = epoch.ended
        if watch is not None:
            ended = watch.after_epoch(stack, [histories[n] for n in running]) or ended
        goes_on = [histories[model].goes_on for model in running]
        if ended or not any(goes_on):
            for model in running:
                histories[model].ended = ended if histories[model].goes_on else ""
            break
        if not all(goes_on):
            stopped = [p for p, on in zip(going, goes_on, strict=True) if not on]
            going = [p for p, on in zip(going, goes_on, strict=True) if on]
            _put(models, [members[place] for place in stopped], stack, stopped)
            folds, kept = _smaller_stack(going, len(members), len(stack.generators))
            # Those that have stopped keep their weights in ``models``, which the others
            # therefore leave at the first stop, and else where it is worth a new stack.
            if stack is models or len(kept) <= _WORTH_SHRINKING * len(members):
                going = [kept.index(place) for place in going]
                members = [members[place] for place in kept]
                stack = _take(stack, kept, folds)
                per_model = {name: number[kept] for name, number in per_model.items()}
                data = take_folds(data, folds)
                sizes = batch_sizes(
                    data.n_samples, shared.batch_size, shared.last_batch
                )
                if validation is not None:
                    validation = validation._replace(
                        data=take_folds(validation.data, folds)
                    )
                run_epoch = _bind_epoch(data, stack, shared, per_model, sizes, watch)
                validate = _bind_validation(validation, stack, shared)
            running = [members[place] for place in going]
    _put(models, running, stack, going)
    models.t, models.epochs = stack.t, stack.epochs
    if best is not None:
        seen = [n for n, history in enumerate(histories) if isfinite(history.best)]
        _put(models, seen, best, seen)
    return epoch


def _smaller_stack(
    going: Places, n_models: int, n_folds: int
) -> tuple[list[int], list[int]]:
    """Return the folds of a smaller stack, and its places in the present one.

    It holds the places that are going. Each of its folds is as long as the longest
    one, for which others of the fold stay.
    """
    length = n_models // n_folds
    of_folds = [range(fold * length, (fold + 1) * length) for fold in range(n_folds)]
    still = set(going)
    longest = max(sum(place in still for place in fold) for fold in of_folds)
    folds = [n for n, fold in enumerate(of_folds) if still.intersection(fold)]
    kept: list[int] = []
    for n in folds:
        going_first = sorted(of_folds[n], key=lambda place: place not in still)
        kept += sorted(going_first[:longest])
    return folds, kept


def _add_epoch(
    history: History,
    epoch: _Epoch,
    held_out: _HeldOut,
    place: int,
    shared: Shared,
    n_steps: int,
) -> None:
    """Add an epoch to the history of the model at one place of the stack."""
    units = epoch.units[place]
    if shared.record_batch_loss:
        history.batch_loss.append((epoch.batch_loss[:, place] * units).sum(1))
    history.cut_short = len(epoch.batch_loss) < n_steps
    loss, objective = epoch.loss[place], epoch.loss[place] + epoch.penalty[place]
    history.loss.append(float(loss.sum()))
    history.objective.append(float(objective.sum()))
    history.loss_curve.append(float((objective * units).sum()))
    if held_out.loss is not None:
        history.validation_loss.append(float(held_out.loss[place].sum()))
        told = float((held_out.loss[place] * units).sum())
        history.validation_loss_curve.append(told)
    if held_out.score is not None:
        history.score.append(held_out.score[place])


def _begin_with(
    history: History, held_out: _HeldOut, place: int, models: Models
) -> None:
    """Let the best so far be what the model at a place does before it is trained on."""
    assert held_out.loss is not None
    value = loss = float(held_out.loss[place].sum())
    if held_out.score is not None:
        value = -held_out.score[place]
    else:
        loss = 0.0
    begin_with(history, value, loss, models.t, anew=models.t == 0)


def _slows_down(models: Models, per_model: PerModel, place: int) -> bool:
    """Return whether the learning rate of a model may be divided, not tiny yet."""
    assert models.slowed is not None
    return bool(per_model["lr"][place] * models.slowed[place] > SMALLEST_LR)


def _slow_down(models: Models, place: int) -> None:
    """Divide the learning rate of a model."""
    assert models.slowed is not None
    models.slowed[place] /= ADAPTIVE_DIVISOR


def _line(history: History, n_epochs: int) -> str:
    """Return what is printed of an epoch, its columns below those of the last one."""
    epoch, last = str(len(history.objective)), str(n_epochs)
    parts = [f"Epoch {epoch:>{len(last)}} of {last}"]
    for name, curve in (
        ("objective", history.loss_curve),
        ("validation loss", history.validation_loss_curve),
        ("validation score", history.score),
    ):
        if curve:
            parts.append(f"{name} {curve[-1]:#10.6g}")
    parts.append(f"{history.seconds[-1]:7.2f} s")
    return ", ".join(parts)


def _take(models: Models, places: Places, folds: Sequence[int] | None = None) -> Models:
    """Return a copy of the models at the given places, of some folds or all."""
    index = _index(places, models)
    generators, average = models.generators, models.average
    return Models(
        take(models.parameters, index),
        {name: take(kept, index) for name, kept in models.optimizer_state.items()},
        generators if folds is None else [generators[fold] for fold in folds],
        models.t,
        models.epochs,
        models.optimizer_begun,
        average=None if average is None else take(average, index),
        average_begun=models.average_begun,
        slowed=None if models.slowed is None else models.slowed[list(places)],
        schedule_begun=models.schedule_begun,
    )


def _put(models: Models, into: Places, stack: Models, places: Places) -> None:
    """Write the models at some places of a stack to their places among all."""
    if stack is models or not places:
        return
    index, taken = _index(into, models), _take(stack, places)
    put_(models.parameters, index, taken.parameters)
    for name, kept in models.optimizer_state.items():
        put_(kept, index, taken.optimizer_state[name])
    if models.average is not None and taken.average is not None:
        put_(models.average, index, taken.average)
    if models.slowed is not None and taken.slowed is not None:
        models.slowed[list(into)] = taken.slowed


def _index(places: Places, models: Models) -> Tensor:
    """Return places as a tensor where the models are."""
    return torch.tensor(places, device=models.parameters.flat.device)


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
    n_samples, n_models = data.n_samples, len(per_model["lr"])
    n_folds = len(models.generators)
    units = _units(data, shared, n_models)
    schedule = schedule_of(shared, models, epoch_steps=len(sizes))
    on_scale = _on_scales(data, models.parameters, shared, per_model)
    decays = shared.optimizer == "adamw"  # weights, by lr * alpha on any scale
    numbers = per_model if decays else on_scale
    update = bind_update(models, shared, numbers, schedule, data.x)
    penalty = bind_penalty(models.parameters, on_scale, n_parts(data.scales))
    whole = sizes == [n_samples]  # the whole set is not gathered
    counts = counts_in_batches(data, sizes)
    if shared.last_batch == "fill" and not whole:  # all batches of all folds are full
        counts = [None] * len(sizes)
    blocks = _bind_blocks(data, models, shared, update, sizes, counts, watch)
    rows_in_steps = np.array(  # (steps, f)
        [count or [size] * n_folds for size, count in zip(sizes, counts, strict=True)]
    )
    rows_in_epoch = rows_in_steps.sum(0).tolist()
    shares_of_steps = rows_in_steps / rows_in_steps.sum(0)

    def draw_rows() -> Tensor:
        """Return the rows of an epoch in order: (n,), or (f, n), each fold's own."""
        if whole:
            return torch.from_numpy(all_rows(data)).to(data.y.device)
        draws = [
            _rows_of_fold(data, fold, generator, n_rows, shuffle=shared.shuffle)
            for fold, (generator, n_rows) in enumerate(
                zip(models.generators, rows_in_epoch, strict=True)
            )
        ]
        rows = draws[0] if n_folds == 1 else padded(draws, sum(sizes))
        return torch.from_numpy(rows).to(data.y.device)

    def run_epoch() -> _Epoch:
        rows, t, ended = draw_rows(), models.t, ""
        penalties = penalty()
        batch_loss = data.y.new_empty(len(sizes), n_models, n_parts(data.scales))
        for block, some_rows, some_losses in zip(
            blocks,
            rows.split_with_sizes([block.n_rows for block in blocks], dim=-1),
            batch_loss.split_with_sizes([block.n_steps for block in blocks]),
            strict=True,
        ):
            ended = block.take(some_rows, some_losses)
            if ended:
                break
        if update.wide is not None:
            update.wide.settle()
        n_steps = models.t - t
        models.epochs += 1
        losses = batch_loss[:n_steps].cpu().numpy()
        shares = shares_of_steps
        if n_steps < len(sizes):
            shares = rows_in_steps[:n_steps] / rows_in_steps[:n_steps].sum(0)
        of_folds = losses.reshape(n_steps, n_folds, -1)
        mean = np.einsum("tf,tfc->fc", shares, of_folds)  # t: steps, c: (models, parts)
        loss = mean.reshape(losses.shape[1:])
        penalty_parts = penalties.cpu().numpy().astype(float)
        return _Epoch(losses, loss, penalty_parts, units, ended)

    return run_epoch


# Of some steps in a row: what fetches their batches, and how many rows at a time.
Fetches = list[tuple[Fetch, int]]


class _Block(NamedTuple):
    """Steps in a row."""

    n_steps: int
    n_rows: int
    take: Callable[[Tensor, Tensor], str]  # given their rows, (n,) or (f, n), and where
    # to write their losses, (steps, m, r), takes the steps and says who ended them


def _bind_blocks(
    data: Data,
    models: Models,
    shared: Shared,
    update: Update,
    sizes: list[int],
    counts: list[tuple[int, ...] | None],
    watch: Watch | None,
) -> list[_Block]:
    """Return the steps of an epoch: those that are composed, then one by one."""
    blocks: list[_Block] = []
    composed = None
    if not (watch and watch.wants_steps):
        composed = bind_composed(data, models, shared, update, sizes)
    if composed is not None:
        take = partial(_take_composed, models, composed, watch)
        n_rows = composed.length * sizes[0]
        blocks += [_Block(composed.length, n_rows, take)] * composed.n_blocks
    n_composed = sum(block.n_steps for block in blocks)
    keys = list(zip(sizes, counts, strict=True))[n_composed:]
    step_of = {
        key: bind_step(data, models, update, shared, *key, n_batches)
        for key, n_batches in Counter(keys).items()
    }
    # A few thousand steps at a time: their rows, losses and numbers are many tensors.
    for start in range(0, len(keys), _STEPS_AT_ONCE):
        some = keys[start : start + _STEPS_AT_ONCE]
        steps = [step_of[key] for key in some]
        sizes_of_some = [size for size, _ in some]
        fetches = _fetches(steps, sizes_of_some)
        take = partial(_take_steps, models, update, steps, fetches, watch)
        blocks.append(_Block(len(steps), sum(sizes_of_some), take))
    return blocks


def _take_composed(
    models: Models,
    composed: Composed,
    watch: Watch | None,
    rows: Tensor,
    batch_loss: Tensor,
) -> str:
    """Take the steps of a block as one, write their losses, and say who ended it."""
    composed.take(rows, batch_loss, models.t)
    models.t += len(batch_loss)
    return "" if watch is None else watch.after_step(models, batch_loss[-1])


def _take_steps(
    models: Models,
    update: Update,
    steps: list[Step],
    fetches: Fetches,
    watch: Watch | None,
    rows: Tensor,
    batch_loss: Tensor,
) -> str:
    """Take the steps of a block one by one, likewise."""
    before_step = watch.before_step if watch and watch.wants_steps else None
    after_step = watch.after_step if watch else None
    batches: Iterable[Tensor] = _fetched(fetches, rows)
    if update.wide is not None:
        batches = list(batches)
        update.wide.see(batches)
    numbers_of_steps = update.begin(models.t, len(steps))
    for step, batch, numbers, loss in zip(
        steps, batches, numbers_of_steps, batch_loss.unbind(), strict=True
    ):
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


def _fetches(steps: Sequence[Step], sizes: Sequence[int]) -> Fetches:
    """Return what fetches the batches of these steps, as many at a time as it takes."""
    fetches: Fetches = []
    runs = groupby(zip(steps, sizes, strict=True), key=lambda pair: id(pair[0]))
    for _, run in runs:
        (step, size), *others = run
        n_batches = 1 + len(others)
        for start in range(0, n_batches, step.n_ahead):
            n_rows = size * min(step.n_ahead, n_batches - start)
            fetches.append((step.fetch, n_rows))
    return fetches


def _fetched(fetches: Fetches, rows: Tensor) -> Iterator[Tensor]:
    """Yield what is fetched for each batch, some batches ahead of it."""
    parts = rows.split_with_sizes([n_rows for _, n_rows in fetches], dim=-1)
    for (fetch, _), part in zip(fetches, parts, strict=True):
        yield from fetch(part)


def _rows_of_fold(
    data: Data,
    fold: int,
    generator: np.random.Generator,
    n_rows: int,
    *,
    shuffle: bool,
) -> Rows:
    """Return the rows of an epoch of one fold in order."""
    count = data.n_samples if data.counts is None else data.counts[fold]
    places = rows_of_epoch(generator, count, n_rows, shuffle=shuffle)
    if data.rows is None:
        return places
    rows: Rows = (data.rows if data.rows.ndim == 1 else data.rows[fold])[places]
    return rows


def _bind_validation(
    validation: Validation | None, stack: Models, shared: Shared
) -> Callable[[Places, Places], _HeldOut]:
    """Return the function that tells how the models at some places do on held-out rows.

    It is given the places, and which models are in them.
    """
    if validation is None:
        return lambda places, models: _HeldOut()
    mean_loss = bind_mean_loss(validation.data, stack.predicting, shared)
    score = validation.score

    def validate(places: Places, models: Places) -> _HeldOut:
        losses = mean_loss()
        if score is None:
            return _HeldOut(losses)
        scores = [nan] * len(losses)
        finite = {  # scikit-learn's metrics refuse predictions that are not
            place: model
            for place, model in zip(places, models, strict=True)
            if np.isfinite(losses[place]).all()
        }
        found = score(stack.predicting, list(finite), list(finite.values()))
        for place, value in zip(finite, found, strict=True):
            scores[place] = value
        return _HeldOut(losses, scores)

    return validate
