"""Steps one after the other, on torch: each replays a tape, see ``steps``.

Within an epoch nothing is copied from the device to the host, but for the indices of
sparse rows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from skgd._machine.arrays import Indices
from skgd._training.objective import bind_penalty
from skgd._training.sources import Fetch
from skgd._training.steps import Bound, Step, bind_models, bind_step, n_parts
from skgd._training.takers import Ahead, Taken, Taker, Watch

# Steps that are laid out in advance, with their rows and scalars: many tensors.
_STEPS_AT_ONCE = 4096

# Takes some steps, given their rows, (n,) or (f, n), and where to write their losses,
# (steps, m, r), and says who ended them.
_Run = Callable[[Tensor, Tensor], str]


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

    def take(rows_of_epochs: Sequence[Indices], going: Sequence[int]) -> Taken:
        [rows_of_epoch] = rows_of_epochs
        rows = torch.from_numpy(rows_of_epoch).to(data.y.device)
        t, of_start, ended = models.t, penalty(), ""
        losses = data.y.new_empty(len(sizes), n_models, parts)
        for run, some_rows, some_losses in zip(
            runs,
            rows.split_with_sizes(rows_of_runs, dim=-1),
            torch.split(losses, _STEPS_AT_ONCE),
            strict=True,
        ):
            ended = run(some_rows, some_losses)
            if ended:
                break
        bound.first.settle()
        taken = losses[: models.t - t]
        if data.shard is not None:
            data.shard.ranks.sum_(taken)
        told = taken.cpu().numpy()
        return Taken(told, of_start.cpu().numpy().astype(float)[np.newaxis], ended)

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


# Of some steps in a row: what fetches their batches, and how many rows at a time.
Fetches = list[tuple[Fetch, int]]


def _run(
    bound: Bound,
    steps: list[Step],
    fetches: Fetches,
    watch: Watch | None,
    rows: Tensor,
    losses: Tensor,
) -> str:
    """Take steps one by one, write their losses, and say who ended it."""
    models, scalars = bound.models, bound.scalars
    before_step = watch.before_step if watch and watch.wants_steps else None
    after_step = watch.after_step if watch else None
    batches = bound.first.see(_fetched(fetches, rows))
    bound.first.owe(models.t, len(steps))
    rows_of_scalars, ended = scalars.rows(models.t, len(steps)), ""
    for step, batch, row, loss in zip(
        steps, batches, rows_of_scalars, losses.unbind(), strict=True
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
            if ended and bound.wish is None:
                return ended
        if bound.wish is not None:
            if bound.wish.item():  # of any rank
                return ended or "ended by another rank"
            if ended:
                bound.wish.fill_(1)  # all see it after the next step
    return ""


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
