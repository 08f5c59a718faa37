"""Blocks: who takes the next steps of an epoch, and here, one step after the other."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple, Protocol

from torch import Tensor

from skgd._training.models import Models
from skgd._training.sources import Fetch
from skgd._training.steps import Bound, Step, bind_step
from skgd._training.stopping import History

# Steps that are laid out in advance, with their rows and scalars.
_STEPS_AT_ONCE = 4096


class Watch(Protocol):
    """Who looks on while models train, and may end it for all: they say why, or ''.

    They are given the models that are still in the stack, and read them only.
    """

    # Whether it is told before and after each step. If not, it is told after steps, the
    # last of some that were taken at once.
    wants_steps: bool

    def before_epoch(self) -> None: ...

    def before_step(self) -> None: ...

    def after_step(self, models: Models, loss: Tensor) -> str:
        """Take note of a step, and of the mean loss of its batch before it, (m, r)."""

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        """Take note of an epoch; the histories are in the order of the stack."""


class Block(NamedTuple):
    """Steps in a row."""

    n_steps: int
    n_rows: int
    # Takes the steps, given their rows, (n,) or (f, n), and where to write their
    # losses, (steps, m, r), and says who ended them.
    run: Callable[[Tensor, Tensor], str]


class StepsAhead(NamedTuple):
    """Steps that are to be taken, by blocks."""

    bound: Bound
    sizes: list[int]  # of their batches
    counts: list[tuple[int, ...] | None]  # the rows of each fold that count in them
    watch: Watch | None


# Takes as many of these steps as it can, the first ones, in its way; none if it cannot.
Maker = Callable[[StepsAhead], list[Block]]


def bind_blocks(steps: StepsAhead, makers: Sequence[Maker]) -> list[Block]:
    """Return who takes the steps: makers are asked in order for those that remain."""
    blocks: list[Block] = []
    for make in makers:
        some = make(steps)
        n = sum(block.n_steps for block in some)
        steps = steps._replace(sizes=steps.sizes[n:], counts=steps.counts[n:])
        blocks += some
    return blocks


def stepwise(steps: StepsAhead) -> list[Block]:
    """Return blocks of all steps, a few thousand at a time, taken one by one.

    Their rows, losses and scalars are many tensors.
    """
    keys = list(zip(steps.sizes, steps.counts, strict=True))
    step_of = {
        key: bind_step(steps.bound, *key, n_batches)
        for key, n_batches in Counter(keys).items()
    }
    blocks = []
    for start in range(0, len(keys), _STEPS_AT_ONCE):
        some = [step_of[key] for key in keys[start : start + _STEPS_AT_ONCE]]
        sizes = steps.sizes[start : start + _STEPS_AT_ONCE]
        run = partial(_run, steps.bound, some, _fetches(some, sizes), steps.watch)
        blocks.append(Block(len(some), sum(sizes), run))
    return blocks


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
    rows_of_scalars = scalars.rows(models.t, len(steps))
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
            ended = after_step(models, loss)
            if ended:
                return ended
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
