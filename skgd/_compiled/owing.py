"""Plain descent on sparse rows: what the columns that are not touched owe can wait.

As ``_training.first_layer``. A step does nothing to a column that its batch does not
touch but shrink it.

* Without thresholds all weights of an owner shrink alike. The vector holds w / scale,
  and a step changes the scale alone.
* With thresholds a column is brought to the present when it is touched, by
  ``w <- soft(scale w, threshold)``, from two running numbers of each step.

All is collected, by ``settle``, before anything else reads the weights. The result is
that of dense rows, to rounding, whether rows are wide or narrow.

Dimension key: o outputs, p owners of scalars (1 or o), i columns, b samples of a batch.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from skgd._compiled.arithmetic import Place, clamp, exp, log, num
from skgd._compiled.jit import Function, borrowed, exact, inlined, kernel
from skgd._compiled.optimizers import COLUMNS
from skgd._compiled.problem import Array, Csr
from skgd._compiled.sparse import (
    Layout,
    array_of,
    batch_of,
    column_of,
    entries_of,
    gradient_of_batch,
    gradient_of_biases,
    layout_of,
    of_model,
    of_rows,
    of_steps,
    owner,
    space_needed,
    space_of,
)
from skgd._compiled.steps import average_in, plan_of

_LR, _SHRINK, _THRESHOLD = map(COLUMNS.index, ("lr", "shrink", "threshold"))

# Weights are settled before what they are divided by gets smaller than this.
_SMALL_SCALE = 1e-6
_SMALLEST = float(np.finfo(float).tiny)


class Owed(NamedTuple):
    """What the weights owe: the scale of all, or what each column owes since a step.

    The running numbers are as in ``first_layer.Debts``, in float64.
    """

    scale: Any  # (p,)
    since: Any  # (i,), the step that a column is at; () without thresholds
    log: Any  # (steps + 1, p), the sum of the logarithms of the shrink factors
    reach: Any  # (steps + 1, p), what the thresholds have taken off a weight
    now: Any  # (1,), the step that the model is at


@exact
def _after(w: float, scale: float, threshold: float) -> float:
    """Return soft(scale w, threshold)."""
    w, cut = w * num(w, scale), num(w, threshold)
    return w - clamp(w, -cut, cut)


@inlined
def _scale_and_threshold(
    owed: Owed, q: Any, then: Any, now: Any
) -> tuple[float, float]:
    """Return what the steps from then to now come to."""
    scale = exp(owed.log[now, q] - owed.log[then, q])
    threshold = owed.reach[now, q] - scale * owed.reach[then, q]
    # Below 0, by rounding, it would move weights off zero.
    return scale, 0.0 if threshold < 0 else threshold


@inlined
def _collect(flat: Any, column: Any, layout: Layout, owed: Owed) -> None:
    """Bring the weights of a column to the present."""
    then, now = Place(owed.since[column]), Place(owed.now[0])
    n_outputs = Place(0) if then == now else layout.o
    owed.since[column] = owed.now[0]
    scale, threshold = 1.0, 0.0
    for q in range(n_outputs):
        if q < Place(owed.scale.size):  # else they are those of the first output
            scale, threshold = _scale_and_threshold(owed, q, then, now)
        at = layout.w + column * layout.column + q * layout.output
        flat[at] = _after(flat[at], scale, threshold)


@inlined
def _collect_columns(flat: Any, layout: Layout, owed: Owed) -> None:
    """Bring all columns to the present, of whom many are at the same step."""
    p, now = Place(owed.scale.size), Place(owed.now[0])
    for t in range(now):  # in place: this is the end of these debts
        for q in range(p):
            pair = _scale_and_threshold(owed, q, t, now)
            owed.log[t, q], owed.reach[t, q] = pair
    for column in range(layout.i):
        then, at = Place(owed.since[column]), layout.w + column * layout.column
        n_outputs = Place(0) if then == now else layout.o
        for q in range(n_outputs):
            own, w_at = owner(q, p), at + q * layout.output
            scale, threshold = owed.log[then, own], owed.reach[then, own]
            flat[w_at] = _after(flat[w_at], scale, threshold)
        owed.since[column] = 0
    owed.log[Place(0)], owed.reach[Place(0)] = 0.0, 0.0
    owed.now[0] = 0


@inlined
def _collect_all(flat: Any, layout: Layout, owed: Owed) -> None:
    """Bring all weights to the present."""
    if owed.now[0] > 0:
        _collect_columns(flat, layout, owed)
    p = Place(owed.scale.size)
    n_of_one = layout.i if p > 1 else layout.i * layout.o
    step = layout.column if p > 1 else Place(1)
    for q in range(p):
        scale, begin = num(flat[0], owed.scale[q]), layout.w + q * layout.output
        if owed.scale[q] != 1:
            for n in range(n_of_one):
                flat[begin + n * step] *= scale
        owed.scale[q] = 1.0


@inlined
def _owe(flat: Any, layout: Layout, owed: Owed, c: Any) -> None:
    """Let the weights owe the penalty of a step."""
    now, smallest = Place(owed.now[0]), 1.0
    for q in range(Place(owed.scale.size)):
        shrink = float(c[q, Place(_SHRINK)])
        if owed.since.size:
            factor = _SMALLEST if shrink < _SMALLEST else shrink
            reach = owed.reach[now, q] + c[q, Place(_THRESHOLD)]
            owed.log[now + Place(1), q] = owed.log[now, q] + log(factor)
            owed.reach[now + Place(1), q] = shrink * reach
        else:
            owed.scale[q] *= shrink
            smallest = min(smallest, owed.scale[q])
    if owed.since.size:
        owed.now[0] += 1
    elif smallest < _SMALL_SCALE:
        _collect_all(flat, layout, owed)


@inlined
def _descend(
    x: Csr, batch: Any, flat: Any, layout: Layout, rate: Any, dz: Any, move: Any
) -> None:
    """w <- w - rate dz x, entry by entry."""
    b = Place(batch.size)
    for k in range(b):
        for q in range(layout.o):
            move[q] = rate[owner(q, rate.size)] * dz[q * b + k]
        if layout.o == 1:
            of_row = move[0]
            for e in entries_of(x, batch[k]):
                flat[layout.w + column_of(x, e)] -= of_row * x.values[e]
        else:
            for e in entries_of(x, batch[k]):
                value, at = x.values[e], layout.w + column_of(x, e) * layout.column
                for q in range(layout.o):
                    flat[at + q * layout.output] -= value * move[q]


def _steps(
    values: Any,
    columns: Any,
    starts: Any,
    plan: Any,
    layout: Any,
    numbers: Any,
    flat: Any,
    average: Any,
    scale: Any,
    since: Any,
    log_: Any,
    reach: Any,
    now: Any,
    rows: Any,
    scalars: Any,
    losses: Any,
    work: Any,
) -> None:
    """Take the steps of some rows of an epoch; their penalty is owed."""
    x = Csr(*borrowed((values, columns, starts)))
    owed = Owed(*borrowed((scale, since, log_, reach, now)))
    flat, average, numbers, work = borrowed((flat, average, numbers, work))
    rows, scalars, losses = borrowed((rows, scalars, losses))
    lies, p, scale, since = layout_of(layout), plan_of(plan), owed.scale, owed.since
    batch_size = min(p.batch_size, rows.size)
    space, _ = space_of(work, numbers.size, batch_size)
    rate = space.of_owners[: scale.size]
    for step in range(losses.shape[0]):
        batch = batch_of(rows, step, batch_size)
        c = scalars[step if scalars.shape[0] > 1 else 0]
        if since.size:
            for k in range(batch.rows.size):
                for e in entries_of(x, batch.rows[k]):
                    _collect(flat, column_of(x, e), lies, owed)
        dz = gradient_of_batch(
            x, batch, flat, lies, scale, p, numbers, space, losses[step]
        )
        for q in range(Place(rate.size)):
            rate[q] = num(rate[q], c[q, Place(_LR)] / scale[q])
        _descend(x, batch.rows, flat, lies, rate, dz, space.of_outputs)
        if lies.has_bias:
            db = gradient_of_biases(dz, space.of_outputs)
            for q in range(lies.o):
                flat[lies.bias + q] -= c[owner(q, rate.size), Place(_LR)] * db[q]
        _owe(flat, lies, owed, c)
        if average.size:
            _collect_all(flat, lies, owed)
            average_in(average, flat, c)


def _settle(
    flat: Any, layout: Any, scale: Any, since: Any, log_: Any, reach: Any, now: Any
) -> None:
    """Collect what is owed by all columns."""
    _collect_all(flat, layout_of(layout), Owed(scale, since, log_, reach, now))


def _of_owed() -> tuple[Any, ...]:
    f, n = nb.types.float64, nb.types.int64
    since = array_of(nb.types.int32)
    return array_of(f), since, array_of(f, 2), array_of(f, 2), array_of(n)


@cache
def _steps_kernel(floats: str, columns: str, starts: str) -> Function:
    data = *of_rows(floats, columns, starts), *of_model(floats)
    return kernel(_steps, nb.types.void(*data, *_of_owed(), *of_steps(floats)))


@cache
def _settle_kernel(floats: str) -> Function:
    flat, layout = of_model(floats)[3], of_model(floats)[1]
    return kernel(_settle, nb.types.void(flat, layout, *_of_owed()))


class Descent(NamedTuple):
    """What takes steps within an epoch, and what becomes of what they owe."""

    steps: Callable[[Array, Array, Array], None]  # of rows, scalars and losses
    settle: Callable[[], None]
    debts: Callable[[], Mapping[str, Array]]
    owe: Callable[[Mapping[str, Array]], None]


def bind_descent(x: Csr, model: tuple[Array, ...]) -> Descent:
    """Return what takes steps by plain descent."""
    plan, layout, _, flat, _ = model
    batch_size = int(plan[0])
    floats = flat.dtype.str
    take = _steps_kernel(floats, x.columns.dtype.str, x.starts.dtype.str)
    collect = _settle_kernel(floats)
    owed: Owed | None = None

    def steps(rows: Array, scalars: Array, losses: Array) -> None:
        nonlocal owed
        owed = owed or _owed_by(scalars.shape[1])
        if len(owed.scale) != scalars.shape[1]:
            raise ValueError("What weights owe is not what these can.")
        if owed.since.size or scalars[:, :, _THRESHOLD].any():
            if not owed.since.size:
                settle()
                owed = owed._replace(since=np.zeros(layout[5], np.int32))
            owed = _with_room(owed, len(losses))
        b = min(len(rows), batch_size)
        work = np.empty(space_needed(layout[6], b), flat.dtype)
        take(*x, *model, *owed, rows, scalars, losses, work)

    def settle() -> None:
        if owed is not None:
            collect(flat, layout, *owed)

    def debts() -> Mapping[str, Array]:
        if owed is None:
            return {}
        stop = int(owed.now[0]) + 1
        return owed._replace(log=owed.log[:stop], reach=owed.reach[:stop])._asdict()

    def owe(debts: Mapping[str, Array]) -> None:
        nonlocal owed
        owed = _owed_as(debts, int(layout[5]), int(layout[6])) if debts else None

    return Descent(steps, settle, debts, owe)


def _owed_by(n_owners: int) -> Owed:
    """Return no debts."""
    nothing = np.empty((0, n_owners))
    now = np.zeros(1, np.int64)
    return Owed(np.ones(n_owners), np.empty(0, np.int32), nothing, nothing, now)


def _owed_as(debts: Mapping[str, Array], i: int, o: int) -> Owed:
    """Return what was told of debts, or raise ValueError: loops believe all of it."""
    if debts.keys() != set(Owed._fields):
        raise ValueError("It lacks what weights owe.")
    owed = Owed(**{name: array.copy() for name, array in debts.items()})
    p, stop = owed.scale.size, int(owed.now.sum()) + 1
    n = stop if owed.since.size else min(1, len(owed.log))
    kinds: Mapping[str, tuple[Any, tuple[int, ...]]] = {
        "scale": (np.float64, (p,)),
        "since": (np.int32, (i if owed.since.size else 0,)),
        "log": (np.float64, (n, p)),
        "reach": (np.float64, (n, p)),
        "now": (np.int64, (1,)),
    }
    told = {name: (one.dtype, one.shape) for name, one in owed._asdict().items()}
    since = owed.since if owed.since.size else np.zeros(1)
    in_order = 0 <= since.min() <= since.max() < stop <= max(1, n)
    shrunk = ((owed.scale > 0) & (owed.scale <= 1)).all()
    if told != kinds or p not in (1, o) or not in_order or not shrunk:
        raise ValueError("What weights owe is not what these can.")
    return owed


def _with_room(owed: Owed, n_steps: int) -> Owed:
    """Return the same with room for the debts of so many steps."""
    now, n_before = int(owed.now[0]), len(owed.log)
    if now + n_steps < n_before:
        return owed
    grown = np.zeros((2, max(now + n_steps + 1, 2 * n_before), len(owed.scale)))
    grown[0, :n_before], grown[1, :n_before] = owed.log, owed.reach
    return owed._replace(log=grown[0], reach=grown[1])
