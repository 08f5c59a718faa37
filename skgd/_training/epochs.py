"""Epochs of a stack: their rows, steps and losses, and held-out rows after them."""

from collections.abc import Callable, Sequence
from math import nan
from typing import NamedTuple, Protocol

import numpy as np

from skgd._machine.arrays import Floats, Indices
from skgd._machine.generators import copied, rows_of_epoch
from skgd._training.batches import (
    Data,
    all_rows,
    batch_sizes,
    counts_in_batches,
    padded,
)
from skgd._training.hyperparameters import Shared
from skgd._training.in_turn import bind_in_turn
from skgd._training.models import Models
from skgd._training.objective import bind_mean_loss, penalty_on_scales, units_in_y
from skgd._training.progress import (
    Keeping,
    Point,
    check_in_epoch,
    drawn,
    steps_in,
)
from skgd._training.shards import bind_order, sizes_here
from skgd._training.stack import Stack
from skgd._training.stepwise import bind_stepwise
from skgd._training.takers import Ahead, TakeEpochs, Taken, Taker, Watch
from skgd._training.windows import bind_windows

# Who takes the steps, by the engine.
TAKERS: dict[str, Callable[[Ahead], Taker]] = {
    "numba": bind_in_turn,
    "torch": bind_stepwise,
}


class Epoch(NamedTuple):
    """What an epoch has to tell."""

    batch_loss: Floats  # (steps, m, r)
    # Of each model, (m,): its loss, its objective, and the latter in the units of y.
    # (So many lists of short epochs would have Python collect garbage, for 0.1 s.)
    loss: Floats
    objective: Floats
    in_units_of_y: Floats
    units: Floats  # (m, r), what parts of a loss count in the units of y
    t: int  # steps taken at its end
    cut_short: bool  # whether not all of its steps were taken
    ended: str  # who ended it from outside, if anyone


class HeldOutLosses(NamedTuple):
    """How the models do on held-out rows after an epoch; None without such rows."""

    loss: Floats | None = None  # (m, r)
    score: list[float] | None = None  # (m,)


class RunEpochs(Protocol):
    """Trains for some epochs, one or a few that it is asked, as ``Take`` is."""

    def __call__(
        self,
        at_most: int,
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> list[Epoch]: ...


def bind_epochs(stack: Stack, shared: Shared, watch: Watch | None) -> RunEpochs:
    """Return the function that trains for some epochs.

    The objective that an epoch tells is the mean of the losses of the batches, each
    taken before its step, plus the penalty at the start of the epoch.
    """
    data, models, per_model = stack.data, stack.models, stack.per_model
    in_all = batch_sizes(data.n_in_all, shared.batch_size, shared.last_batch)
    sizes = in_all if data.shard is None else sizes_here(data.shard, in_all)
    counts = counts_in_batches(data, sizes)
    if shared.last_batch == "fill" and sizes != [data.n_samples]:
        counts = [None] * len(sizes)  # all batches of all folds are full
    units = units_in_y(data, shared, len(stack.members))
    on_scale = penalty_on_scales(data, models.parameters, shared, per_model)
    decays = shared.optimizer == "adamw"  # weights, by lr * alpha on any scale
    numbers = per_model if decays else on_scale
    steps = sizes, in_all, counts, len(in_all)
    ahead = Ahead(data, models, shared, numbers, on_scale, *steps, watch)
    rows_in_steps = _rows_in_steps(in_all, counts, len(models.generators))
    shares = rows_in_steps / rows_in_steps.sum(0)
    if data.windows is None:
        take_epochs = _bind_in_memory(ahead, rows_in_steps)
    else:
        take_epochs = bind_windows(ahead, TAKERS[shared.engine])

    def run_epochs(
        at_most: int,
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> list[Epoch]:
        if point is not None:
            check_in_epoch(point, len(in_all), units.shape, data.windows is not None)
        t, taken = models.t, take_epochs(at_most, going, point, keeping)
        epochs = _told(taken, t, shares, units)
        models.epochs += len(epochs)
        return epochs

    return run_epochs


def _bind_in_memory(ahead: Ahead, rows_in_steps: Indices) -> TakeEpochs:
    """Return what takes the steps of some epochs, of rows that all lie in memory."""
    taker = TAKERS[ahead.shared.engine](ahead)
    draw_rows = _bind_rows(
        ahead.data, ahead.models, ahead.shared, ahead.in_all, rows_in_steps
    )

    def take_epochs(
        at_most: int,
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> Taken:
        n_epochs = min(at_most, taker.at_once) if point is None else 1

        def draw() -> list[Indices]:
            return [draw_rows(going) for _ in range(n_epochs)]

        if keeping is None and point is None:
            return taker.take(draw(), going)
        [stream] = ahead.models.generators
        rows, before = drawn(stream, draw, point)

        def told(point: Point) -> Point | None:
            is_end = steps_in(point) == n_epochs * ahead.epoch_steps
            return None if is_end else point._replace(streams=(before,))

        return taker.take(rows, going, point, keeping and keeping.in_terms_of(told))

    return take_epochs


def _rows_in_steps(
    sizes: list[int], counts: list[tuple[int, ...] | None], n_folds: int
) -> Indices:
    """Return how many rows of each fold count in each step, (t, f)."""
    rows = np.full((len(sizes), n_folds), sizes[0])
    rows[-1] = sizes[-1]  # all others are alike
    if counts.count(None) < len(counts):
        for of_step, count in zip(rows, counts, strict=True):
            of_step[:] = of_step if count is None else count
    return rows


def _told(taken: Taken, t: int, shares: Floats, units: Floats) -> list[Epoch]:
    """Return what some epochs after t have to tell; one that is cut short is alone.

    ``shares`` are what the steps of an epoch count in the mean of each fold, (t, f).
    """
    n_steps = min(len(shares), len(taken.losses))
    cut_short = n_steps < len(shares)
    if cut_short:
        shares = shares[:n_steps] / shares[:n_steps].sum(0)
    by_epoch = taken.losses.reshape(-1, n_steps, *taken.losses.shape[1:])
    loss = _mean_losses(by_epoch, shares)
    objective = loss + taken.penalties
    in_units = objective * units
    sums = zip(_in_all(loss), _in_all(objective), _in_all(in_units), strict=True)
    return [
        Epoch(losses, *told, units, t + n * n_steps, cut_short, taken.ended)
        for n, (losses, told) in enumerate(zip(by_epoch, sums, strict=True), start=1)
    ]


def _in_all(parts: Floats) -> Floats:
    """Return the sums (e, m) over the parts (e, m, r) of losses."""
    sums: Floats = parts[:, :, 0] if parts.shape[2] == 1 else parts.sum(2)
    return sums


def _mean_losses(losses: Floats, shares: Floats) -> Floats:
    """Return the means (e, m, r) of losses (e, t, m, r), by shares of steps (t, f)."""
    if len(shares) == 1:
        return losses[:, 0].astype(float)
    of_folds = losses.reshape(*losses.shape[:2], shares.shape[1], -1)
    mean = (of_folds * shares[:, :, np.newaxis]).sum(1)  # over the steps
    by_model: Floats = mean.reshape(len(losses), *losses.shape[2:])
    return by_model


def _bind_rows(
    data: Data, models: Models, shared: Shared, sizes: list[int], in_steps: Indices
) -> Callable[[Sequence[int]], Indices]:
    """Return the function that draws the rows of an epoch, so many of each fold.

    They come in order: (n,), or (f, n), each fold's own. It is told the slots of the
    models that go on: where none of a fold does, its generator stays where it is.
    """
    if sizes == [data.n_in_all]:  # the whole set is not gathered
        return lambda going: all_rows(data)
    if data.shard is not None:
        [generator] = models.generators
        draw = bind_order(data.shard, sum(sizes), shuffle=shared.shuffle)
        if data.rows is None:
            return lambda going: draw(generator)
        rows = data.rows
        return lambda going: rows[draw(generator)]
    n_rows, n_models = in_steps.sum(0).tolist(), models.parameters.layout.n_models
    draws = [
        _bind_rows_of_fold(data, fold, n_of_fold, shuffle=shared.shuffle)
        for fold, n_of_fold in enumerate(n_rows)
    ]
    if len(draws) == 1:
        ([draw_of_fold], [generator]) = draws, models.generators
        return lambda going: draw_of_fold(generator)

    def draw_rows(going: Sequence[int]) -> Indices:
        on = {slot * len(n_rows) // n_models for slot in going}
        rows_of_folds = [
            draw_of_fold(generator if fold in on else copied(generator))
            for fold, (generator, draw_of_fold) in enumerate(
                zip(models.generators, draws, strict=True)
            )
        ]
        return padded(rows_of_folds, sum(sizes))

    return draw_rows


def _bind_rows_of_fold(
    data: Data, fold: int, n_rows: int, *, shuffle: bool
) -> Callable[[np.random.Generator], Indices]:
    """Return the function that draws the rows of an epoch of one fold, in order."""
    count = data.n_samples if data.counts is None else data.counts[fold]
    if data.rows is None:
        return lambda generator: rows_of_epoch(
            generator, count, n_rows, shuffle=shuffle
        )
    rows = data.rows if data.rows.ndim == 1 else data.rows[fold]
    return lambda generator: rows[
        rows_of_epoch(generator, count, n_rows, shuffle=shuffle)
    ]


def bind_validation(stack: Stack, shared: Shared) -> Callable[[Stack], HeldOutLosses]:
    """Return the function that tells how the models that are going do on held-out rows.

    It is given the stack again, of which fewer may be going by then.
    """
    validation = stack.validation
    if validation is None:
        return lambda stack: HeldOutLosses()
    mean_loss = bind_mean_loss(validation.data, stack.models.predicting, shared)
    score = validation.score

    def validate(stack: Stack) -> HeldOutLosses:
        losses = mean_loss()
        if score is None:
            return HeldOutLosses(losses)
        scores = [nan] * len(losses)
        finite = {  # scikit-learn's metrics refuse predictions that are not
            slot: model
            for slot, model in zip(stack.going, stack.running, strict=True)
            if np.isfinite(losses[slot]).all()
        }
        found = score(stack.models.predicting, list(finite), list(finite.values()))
        for slot, value in zip(finite, found, strict=True):
            scores[slot] = value
        return HeldOutLosses(losses, scores)

    return validate
