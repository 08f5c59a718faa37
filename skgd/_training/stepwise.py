"""Steps one after the other, on torch: each replays a tape, see ``steps``.

Within an epoch nothing is copied from the device to the host, but for the indices of
sparse rows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._machine.arrays import Floats, Indices
from skgd._machine.devices import to_numpy
from skgd._training.batches import Data
from skgd._training.objective import bind_penalty
from skgd._training.progress import Arrays, Keeping, Point, steps_in
from skgd._training.sources import Fetch
from skgd._training.steps import Bound, Step, bind_models, bind_step, n_parts
from skgd._training.takers import Ahead, Taken, Taker, Watch

# Steps that are laid out in advance, with their rows and scalars: many tensors.
_STEPS_AT_ONCE = 4096


class _Some(NamedTuple):
    """Some steps in a row, of which the first may be taken already."""

    rows: Tensor  # (n,) or (f, n)
    losses: Tensor  # (steps, m, r), to be filled
    n_taken: int
    debts: Arrays  # what is owed then
    keeping: "_Keeping | None"


class _Keeping(NamedTuple):
    """Who keeps the point that the steps are at."""

    is_due: Callable[[str], bool]
    keep: Callable[[], None]


# Takes some steps, and says who ended them.
_Run = Callable[[_Some], str]


def bind_stepwise(ahead: Ahead) -> Taker:
    """Return the taker of an epoch's steps, one by one."""
    data, models, shared, per_model, penalties, sizes, *_ = ahead
    parts = n_parts(data.scales)
    n_models = len(models.parameters.layers[0].w)
    of_epoch = ahead.epoch_steps, ahead.n_taken
    bound = bind_models(data, models, shared, per_model, *of_epoch)
    penalty = bind_penalty(models.parameters, penalties, parts)
    runs = _runs(bound, ahead)
    rows_of_runs = [
        sum(sizes[start : start + _STEPS_AT_ONCE])
        for start in range(0, len(sizes), _STEPS_AT_ONCE)
    ]

    def take(
        rows_of_epochs: Sequence[Indices],
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> Taken:
        [rows_of_epoch] = rows_of_epochs
        rows = torch.from_numpy(rows_of_epoch).to(data.y.device)
        t, penalties, ended = models.t, penalty(), ""
        losses = data.y.new_empty(len(sizes), n_models, parts)
        n_taken, debts = steps_in(point), {} if point is None else point.debts
        if point is not None:
            models.t += n_taken
            losses[:n_taken].copy_(_own_part(point.losses, data))
            penalties = torch.from_numpy(point.penalties[0])

        def told() -> Taken:
            taken = losses[: models.t - t]
            if data.shard is not None and data.shard.ranks.size > 1:
                taken = taken.clone()
                data.shard.ranks.sum_(taken)
            of_start = to_numpy(penalties).astype(float)[np.newaxis]
            return Taken(to_numpy(taken), of_start, ended)

        def keep(keeping: Keeping) -> None:
            keeping.keep(Point(*told()[:2], bound.first.debts()))

        kept = keeping and _Keeping(keeping.is_due, partial(keep, keeping))
        for run, some_rows, some_losses in zip(
            runs,
            rows.split_with_sizes(rows_of_runs, dim=-1),
            torch.split(losses, _STEPS_AT_ONCE),
            strict=True,
        ):
            if n_taken <= len(some_losses):  # else nothing is owed since
                ended = run(_Some(some_rows, some_losses, n_taken, debts, kept))
                debts = {}
            n_taken = max(0, n_taken - len(some_losses))
            if ended:
                break
        bound.first.settle()
        return told()

    return Taker(take, at_once=1)


def _runs(bound: Bound, ahead: Ahead) -> list[_Run]:
    """Return what takes the steps of an epoch, a few thousand at a time."""
    keys = list(zip(ahead.sizes, ahead.counts, ahead.in_all, strict=True))
    step_of = {
        key: bind_step(bound, *key, n_batches)
        for key, n_batches in Counter(keys).items()
    }
    runs: list[_Run] = []
    for start in range(0, len(keys), _STEPS_AT_ONCE):
        some = [step_of[key] for key in keys[start : start + _STEPS_AT_ONCE]]
        sizes = ahead.sizes[start : start + _STEPS_AT_ONCE]
        fetches = _fetches(some, sizes)
        runs.append(partial(_run, bound, some, fetches, ahead.watch))
    return runs


def _own_part(losses: Floats, data: Data) -> Tensor:
    """Return what this rank adds to losses of all ranks: the first one all of them."""
    is_first = data.shard is None or data.shard.ranks.rank == 0
    return torch.from_numpy(losses if is_first else np.zeros_like(losses))


# Of some steps in a row: what fetches their batches, and how many rows at a time.
Fetches = list[tuple[Fetch, int]]


def _run(
    bound: Bound,
    steps: list[Step],
    fetches: Fetches,
    watch: Watch | None,
    some: _Some,
) -> str:
    """Take steps one by one, write their losses, and say who ended it."""
    models, scalars, n_taken = bound.models, bound.scalars, some.n_taken
    before_step = watch.before_step if watch and watch.wants_steps else None
    after_step = watch.after_step if watch else None
    batches = bound.first.see(islice(_fetched(fetches, some.rows), n_taken, None))
    t = models.t - n_taken  # before the first of them
    bound.first.owe(t, len(steps))
    if n_taken:
        bound.first.go_on_owing(some.debts, n_taken)
    rows_of_scalars, ended = scalars.rows(t, len(steps)), ""
    for step, batch, row, loss in zip(
        steps[n_taken:],
        batches,
        rows_of_scalars[n_taken:],
        some.losses[n_taken:].unbind(),
        strict=True,
    ):
        if before_step is not None:
            before_step()
        for gather in step.gathers:
            gather(batch)
        if row is not None:
            scalars.write_(row)
        for call in step.calls:
            call()
        loss.copy_(step.loss)
        models.t += 1
        if after_step is not None:
            ended = after_step(models, loss) or ended
        if bound.wishes is not None:
            if _come_true(bound.wishes, some.keeping, ended):
                return ended or "ended by another rank"
            continue
        if some.keeping is not None and some.keeping.is_due(ended):
            some.keeping.keep()
        if ended:
            return ended
    return ""


def _come_true(wishes: Tensor, keeping: _Keeping | None, ended: str) -> bool:
    """Do what any rank has wished before the step, and say whether it was to end.

    What this one wishes, all do after the next step.
    """
    to_end, to_keep = wishes.tolist()
    if to_keep and keeping is not None:
        keeping.keep()
    due = not to_end and keeping is not None and keeping.is_due(ended)
    if to_keep or ended or due:
        wishes[0], wishes[1] = bool(ended), due
    return bool(to_end)


def _fetches(steps: Sequence[Step], sizes: Sequence[int]) -> Fetches:
    """Return what fetches the batches of these steps, as many at a time as it takes."""
    fetches: Fetches = []
    alike = groupby(zip(steps, sizes, strict=True), key=lambda pair: id(pair[0]))
    for _, some in alike:
        (step, size), *others = some
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
