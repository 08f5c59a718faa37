"""Train m models until each has stopped: the only loop over time.

A model that stops, or whose objective is no longer a number, keeps the weights that it
has, and the others go on: company changes nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import isfinite, nan
from time import monotonic

from skgd._equations.network import finite
from skgd._equations.optimizers import PerModel
from skgd._machine.arrays import Floats
from skgd._machine.threads import threads_for, threads_of_torch
from skgd._training.batches import Data
from skgd._training.engines import multiply_adds_of_step
from skgd._training.epochs import Epoch, HeldOutLosses, bind_epochs, bind_validation
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models, select_models, write_models_
from skgd._training.objective import units_in_y
from skgd._training.progress import (
    Keeper,
    Keeping,
    Point,
    Progress,
    go_on_,
    steps_in,
    vectors_of,
    write_vectors_,
)
from skgd._training.stack import Stack, Validation, new_stack, without_stopped
from skgd._training.stopping import (
    ADAPTIVE_DIVISOR,
    SMALLEST_LR,
    History,
    Stream,
    Verdict,
    begin_with,
    judge,
    judge_chunk,
    judge_end,
    judge_peak,
    peak_of,
)
from skgd._training.takers import Watch
from skgd._training.untrained import (
    judged_rows,
    losses_of_constants_by_model,
    losses_over,
    losses_untrained,
)


def train(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    validation: Validation | None = None,
    watch: Watch | None = None,
    histories: list[History] | None = None,
    kept: Progress | None = None,
    keeper: Keeper | None = None,
) -> list[History]:
    """Train the models in place until each has stopped, and tell how it went.

    Where ``histories`` are given, training goes on from there. That of one model goes
    on from the progress that was ``kept``, and a ``keeper`` may keep it.
    """
    with _threads(data, models, shared):
        some = judged_rows(data, models.parameters)
        if kept is not None:
            go_on_(models, shared.engine, kept)
            histories = [kept.history]
            if shared.verbose:
                print(_line_of_kept(kept, _epochs_left(shared, kept)))
        if histories is None:
            untrained = losses_untrained(data, models, shared, some)
            histories = [History(untrained=losses) for losses in untrained]
        stack = new_stack(models, histories, per_model, data, validation)
        _run_epochs(stack, models, shared, histories, watch, kept, keeper)
        losses = losses_over(some, models.predicting, shared)
        of_numbers = finite(models.predicting)
        for history, loss, is_finite in zip(histories, losses, of_numbers, strict=True):
            judge_end(history, loss if is_finite else nan)
    return histories


def train_on_chunk(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    streams: Sequence[Stream],
    validation: Validation | None = None,
    watch: Watch | None = None,
) -> list[History]:
    """Train models in place on the next rows of a stream, once judged by some.

    Of a stream nothing is known but what has come. Its loss may jump when its targets
    do, and that of a single row says little, so a model has diverged only if its loss
    is no number, or is far above those of constants, and far above all it was before it
    grew: from the first half of the batches to the second, or for some calls in a row.
    Each remembers what its losses were, its own ``streams``.
    """
    with _threads(data, models, shared):
        histories = [History() for _ in streams]
        if validation is not None:
            judged = new_stack(models, histories, per_model, data, validation)
            units = units_in_y(validation.data, shared, len(histories))
            held_out = bind_validation(judged, shared)(judged)
            for slot, history in enumerate(histories):
                _record_held_out(history, slot, held_out, units)
        stack = new_stack(models, histories, per_model, data, None)
        epoch = _run_epochs(stack, models, shared, histories, watch)
        assert epoch is not None
        of_numbers = finite(models.predicting)
        for slot, (history, stream) in enumerate(zip(histories, streams, strict=True)):
            [loss] = history.loss if of_numbers[slot] else [nan]
            judge_chunk(history, loss)
            losses = epoch.batch_loss[:, slot : slot + 1]
            peak = peak_of(losses, stream.after([loss]))
            if peak > 0:  # next to never: what it is held against is computed now
                untrained = losses_of_constants_by_model(data, models, shared)
                history.untrained = untrained[slot]
                judge_peak(history, peak)
    return histories


def _threads(
    data: Data, models: Models, shared: Shared
) -> AbstractContextManager[None]:
    """Return the context of as many threads as the products of a batch can use.

    A loop is one thread, and what is computed between its steps is small.
    """
    if shared.engine == "numba":
        return threads_of_torch(1)
    return threads_for(multiply_adds_of_step(data, models.parameters.layout, shared))


def _run_epochs(
    stack: Stack,
    everyone: Models,
    shared: Shared,
    histories: Sequence[History],
    watch: Watch | None,
    kept: Progress | None = None,
    keeper: Keeper | None = None,
) -> Epoch | None:
    """Train epoch by epoch until all models have stopped, and write the histories.

    ``everyone`` is where all models end, those of the stack and those that have
    stopped. Returns the last epoch.
    """
    began = monotonic() - _seconds_so_far(histories, kept)
    run_epochs = bind_epochs(stack, shared, watch)
    validate = bind_validation(stack, shared)
    best = _best_so_far(stack, everyone, histories, validate, kept)
    keeping = _bind_keeping(keeper, stack, shared, histories, best, began)
    point = None if kept is None else kept.point
    remaining = _epochs_left(shared, kept) if stack.going else 0
    over, epoch = False, None
    if remaining:
        _keep_start(keeper, keeping, kept)
    while remaining and not over:
        if watch is not None:
            watch.before_epoch()
        before = monotonic()
        at_most = min(remaining, _epochs_to_come(stack, shared, histories, watch))
        epochs = run_epochs(at_most, stack.going, point, keeping)
        point, held_out = None, validate(stack)
        took = (monotonic() - before) / len(epochs)
        times = [before - began + n * took for n in range(1, len(epochs) + 1)]
        _judge_epochs(stack, shared, histories, epochs, held_out, times)
        remaining -= len(epochs)
        if best is not None:
            _write_improved_(best, stack, histories)
        epoch = epochs[-1]
        over = _is_over(stack, histories, epoch, watch)
        smaller = stack if over else without_stopped(stack, everyone, histories)
        if smaller.models is not stack.models:
            run_epochs = bind_epochs(smaller, shared, watch)
            validate = bind_validation(smaller, shared)
        stack = smaller
        is_last = over or not remaining
        if keeping is not None and (is_last or _any_due(keeping, stack, epoch.ended)):
            keeping.keep(None)
    stack.write_to_(everyone, stack.going)
    everyone.t, everyone.epochs = stack.models.t, stack.models.epochs
    if best is not None:
        seen = [n for n, history in enumerate(histories) if isfinite(history.best)]
        write_models_(everyone, seen, best, seen)
    return epoch


def _best_so_far(
    stack: Stack,
    everyone: Models,
    histories: Sequence[History],
    validate: Callable[[Stack], HeldOutLosses],
    kept: Progress | None,
) -> Models | None:
    """Return the models that training may return to: at first, what it begins with."""
    if stack.validation is None or not stack.validation.stops:
        return None
    best = select_models(everyone, range(len(histories)))
    if kept is not None:
        write_vectors_(best, kept.best)
    else:
        begun = validate(stack) if stack.going else HeldOutLosses()
        _begin_with(histories, begun, stack)
    return best


def _seconds_so_far(histories: Sequence[History], kept: Progress | None) -> float:
    """Return the seconds that training has taken before."""
    if kept is not None:
        return kept.seconds
    return max((one.seconds[-1] for one in histories if one.seconds), default=0)


def _epochs_left(shared: Shared, kept: Progress | None) -> int:
    """Return how many epochs are to be trained for, at the most."""
    if kept is None:
        return shared.max_iter
    history = kept.history
    is_over = history.ended or not history.goes_on
    return 0 if is_over else shared.max_iter - len(history.objective)


def _bind_keeping(
    keeper: Keeper | None,
    stack: Stack,
    shared: Shared,
    histories: Sequence[History],
    best: Models | None,
    began: float,
) -> Keeping | None:
    """Return who is told how far the one model of a stack is, if anyone."""
    if keeper is None:
        return None
    [history], models = histories, stack.models
    [stream] = models.generators

    def keep(point: Point | None) -> None:
        progress = Progress(
            history,
            shared.engine,
            models.t - steps_in(point),
            models.epochs,
            stream,
            vectors_of(models),
            {} if best is None else vectors_of(best),
            monotonic() - began,
            point,
        )
        keeper.keep(progress)

    return Keeping(keeper.is_due, keep)


def _keep_start(
    keeper: Keeper | None, keeping: Keeping | None, kept: Progress | None
) -> None:
    """Keep what training begins with: it fails before the first step, if it does.

    What it goes on from is kept as it was: the steps taken of its epoch are not counted
    by the models before these go on.
    """
    if keeper is not None and kept is not None:
        keeper.keep(kept)
    elif keeping is not None:
        keeping.keep(None)


def _any_due(keeping: Keeping, stack: Stack, ended: str) -> bool:
    """Return whether any rank wants to keep the end of an epoch: all do it then."""
    due, shard = keeping.is_due(ended), stack.data.shard
    return due if shard is None else shard.ranks.any(due)


def _epochs_to_come(
    stack: Stack, shared: Shared, histories: Sequence[History], watch: Watch | None
) -> int:
    """Return how many epochs no rule can end before, and nobody looks on in between.

    (A model that diverges may be trained for a few more: it is not kept.)
    """
    if stack.validation is not None or (watch is not None and watch.wants_epochs):
        return 1
    if shared.tol is None:
        return shared.max_iter
    waiting = max(histories[number].memory.waiting for number in stack.running)
    return max(1, shared.n_iter_no_change - waiting)


def _write_improved_(best: Models, stack: Stack, histories: Sequence[History]) -> None:
    """Keep the weights of the models that have become better in the last epoch."""
    members = stack.members
    improved = [s for s in stack.going if histories[members[s]].memory.improved]
    stack.write_to_(best, improved)


def _is_over(
    stack: Stack, histories: Sequence[History], epoch: Epoch, watch: Watch | None
) -> bool:
    """Return whether no model goes on, or who looks on has ended it for all."""
    running, ended = [histories[number] for number in stack.running], epoch.ended
    if watch is not None:
        ended = watch.after_epoch(stack.models, running) or ended
    # No generators here: an interrupt that meets one when it closes would be lost.
    if not ended and [history for history in running if history.goes_on]:
        return False
    for history in running:
        history.ended = ended if history.goes_on else ""
    return True


def _begin_with(
    histories: Sequence[History], held_out: HeldOutLosses, stack: Stack
) -> None:
    """Let the best so far be what the models do before they are trained on."""
    for slot, number in zip(stack.going, stack.running, strict=True):
        assert held_out.loss is not None
        value = loss = float(held_out.loss[slot].sum())
        if held_out.score is not None:
            value = -held_out.score[slot]
        else:
            loss = 0.0
        t = stack.models.t
        begin_with(histories[number], value, loss, t, anew=t == 0)


def _judge_epochs(
    stack: Stack,
    shared: Shared,
    histories: Sequence[History],
    epochs: Sequence[Epoch],
    held_out: HeldOutLosses,
    seconds: Sequence[float],
) -> None:
    """Record epochs one after the other, and judge by each, until none goes on.

    What has ended a training has the last word, whatever comes of later epochs.
    """
    pairs = zip(stack.going, stack.running, strict=True)
    running = [(slot, histories[number]) for slot, number in pairs]
    for epoch, time in zip(epochs, seconds, strict=True):
        running = [pair for pair in running if pair[1].goes_on]
        if not running:
            break
        for slot, history in running:
            history.seconds.append(time)
            _judge_epoch(stack, shared, slot, history, epoch, held_out)
        if shared.verbose:
            print(_line(running[0][1], shared.max_iter))


def _judge_epoch(
    stack: Stack,
    shared: Shared,
    slot: int,
    history: History,
    epoch: Epoch,
    held_out: HeldOutLosses,
) -> None:
    """Record an epoch of the model in a slot of the stack, and judge it by it."""
    _record(history, slot, shared, epoch, held_out)
    slowed, adapts = stack.models.slowed, False
    if slowed is not None and shared.tol is not None:
        adapts = bool(stack.per_model["lr"][slot] * slowed[slot] > SMALLEST_LR)
    stops = stack.validation is not None and stack.validation.stops
    judge(history, stops, shared.tol, shared.n_iter_no_change, adapts)
    if slowed is not None and history.verdict is Verdict.SLOWED:
        slowed[slot] /= ADAPTIVE_DIVISOR


def _record(
    history: History, slot: int, shared: Shared, epoch: Epoch, held_out: HeldOutLosses
) -> None:
    """Add an epoch to the record of the model in a slot of the stack."""
    history.t.append(epoch.t)
    if shared.record_batch_loss:
        of_model = epoch.batch_loss[:, slot] * epoch.units[slot]
        history.batch_loss.append(of_model.sum(1))
    history.cut_short = epoch.cut_short
    history.loss.append(epoch.loss.item(slot))
    history.objective.append(epoch.objective.item(slot))
    history.loss_curve.append(epoch.in_units_of_y.item(slot))
    _record_held_out(history, slot, held_out, epoch.units)


def _record_held_out(
    history: History, slot: int, held_out: HeldOutLosses, units: Floats
) -> None:
    """Add to the record how held-out rows do, if there are any."""
    if held_out.loss is not None:
        history.validation_loss.append(float(held_out.loss[slot].sum()))
        in_units = float((held_out.loss[slot] * units[slot]).sum())
        history.validation_loss_curve.append(in_units)
    if held_out.score is not None:
        history.score.append(held_out.score[slot])


def _line_of_kept(kept: Progress, n_left: int) -> str:
    """Return what is printed of training that goes on from where it was kept."""
    epoch, step = len(kept.history.objective), steps_in(kept.point)
    if not n_left:
        return f"The checkpoint holds a training that has ended, in epoch {epoch}"
    place = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
    return f"Training goes on from the checkpoint, after {place}"


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
