"""Lazy steps on wide sparse rows: what a batch does not touch stays as it is.

As ``_training.first_layer`` and torch.optim.SparseAdam: with momentum or moments every
weight would move at every step. A step gathers what it touches, is taken on that as on
any vector, and puts it back; the penalty of a column waits as its steps do. Biases take
dense steps.

Which columns a batch touches, a hash table tells that is as large as the batch: nothing
here is as large as the number of columns.

Dimension key: o outputs, p owners of scalars (1 or o), k columns that a batch touches,
b samples of the batch, e its entries.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from skgd._compiled.arithmetic import Place, num
from skgd._compiled.jit import Function, borrowed, call, fast, inlined, kernel
from skgd._compiled.problem import Array, Csr
from skgd._compiled.sparse import (
    Layout,
    array_of,
    column_of,
    entries_of,
    gradient_of_batch,
    gradient_of_biases,
    layout_of,
    of_model,
    of_rows,
    of_steps,
    space_needed,
    space_of,
)
from skgd._compiled.steps import average_in, plan_of

# Weights that are gathered at once, so that they stay in a cache; columns at the least.
_WEIGHTS_AT_ONCE, _FEWEST_COLUMNS = 2048, 16

# 2^64 over the golden ratio: its products with numbers have well mixed upper bits.
_MIXES = np.uint64(0x9E3779B97F4A7C15)


class Touched(NamedTuple):
    """What a batch touches: where it is found, and what it is."""

    slots: Any  # a hash table of numbers from a base on, smaller ones of batches before
    columns: Any  # (k,)
    gradient: Any  # (k * o,), column by column
    w: Any  # these are gathered, of some columns at a time
    g: Any
    state_1: Any
    state_2: Any


def _most_entries(x: Csr, rows: Array, batch_size: int) -> int:
    """Return how many entries a batch has at the most."""
    entries = x.starts[rows + 1] - x.starts[rows]
    batches = np.arange(0, len(rows), batch_size)
    return max(1, int(np.add.reduceat(entries, batches).max()))


def _weights_at_once(o: int) -> int:
    return max(_WEIGHTS_AT_ONCE, _FEWEST_COLUMNS * o)


@fast
def _touched_of(slots: Any, columns: Any, work: Any, o: int, at_once: int) -> Touched:
    """Return the arrays for batches of so many columns at the most."""
    gradient, rest = work[: columns.size * o], work[columns.size * o :]
    w, g = rest[:at_once], rest[at_once : 2 * at_once]
    state_1, state_2 = rest[2 * at_once : 3 * at_once], rest[3 * at_once :]
    return Touched(slots, columns, gradient, w, g, state_1, state_2)


@fast
def _number_of(column: Any, base: Any, k: Any, slots: Any, columns: Any) -> Any:
    """Return which of the k columns so far this is; k if it is new, and then added."""
    last = Place(slots.size) - Place(1)
    slot = Place((np.uint64(column) * _MIXES) >> np.uint64(32)) & last
    while True:
        number = Place(slots[slot]) - base  # huge, of a batch before
        if number >= k:
            slots[slot], columns[k] = base + k, column
            return k
        if Place(columns[number]) == column:
            return number
        slot = (slot + Place(1)) & last


@inlined
def _touch(x: Csr, batch: Any, dz: Any, o: Any, base: Any, touched: Touched) -> Any:
    """Fill the columns that a batch touches and their gradient; return how many."""
    b, k, gradient = Place(batch.size), Place(0), touched.gradient
    slots, columns = touched.slots, touched.columns
    for n in range(b):
        for e in entries_of(x, batch[n]):
            value = x.values[e]
            number = _number_of(column_of(x, e), base, k, slots, columns)
            is_new = number == k
            if is_new:
                k += Place(1)
            if o == 1:
                before = num(value, 0) if is_new else gradient[number]
                gradient[number] = before + value * dz[n]
            else:
                for q in range(o):
                    at = number * o + q
                    before = num(value, 0) if is_new else gradient[at]
                    gradient[at] = before + value * dz[q * b + n]
    return k


@fast
def _gather(out: Any, array: Any, columns: Any, layout: Layout, apart: Any) -> None:
    """Fill out with columns of an array, one after the other, or each output apart."""
    for k in range(Place(columns.size)):
        at = layout.w + Place(columns[k]) * layout.o
        if layout.o == 1:
            out[k] = array[at]
        else:
            for q in range(layout.o):
                out[q * apart + k if apart else k * layout.o + q] = array[at + q]


@fast
def _put(array: Any, out: Any, columns: Any, layout: Layout, apart: Any) -> None:
    """Write back what was gathered."""
    for k in range(Place(columns.size)):
        at = layout.w + Place(columns[k]) * layout.o
        if layout.o == 1:
            array[at] = out[k]
        else:
            for q in range(layout.o):
                array[at + q] = out[q * apart + k if apart else k * layout.o + q]


@inlined
def _update(
    flat: Any,
    state_1: Any,
    state_2: Any,
    k: Any,
    touched: Touched,
    layout: Layout,
    update: int,
    c: Any,
) -> None:
    """Take the optimizer's step on the columns touched, some at a time."""
    w, g, of_1, of_2 = touched.w, touched.g, touched.state_1, touched.state_2
    at_once, n_owners = Place(w.size) // layout.o, Place(c.shape[0])
    apart = at_once if n_owners > 1 else Place(0)
    for begin in range(Place(0), k, at_once):
        some = touched.columns[begin : min(begin + at_once, k)]
        of_some = touched.gradient[begin * layout.o :]
        for n in range(Place(some.size)):
            for q in range(layout.o):
                own = q * apart + n if apart else n * layout.o + q
                g[own] = of_some[n * layout.o + q]
        _gather(w, flat, some, layout, apart)
        if state_1.size:
            _gather(of_1, state_1, some, layout, apart)
        if state_2.size:
            _gather(of_2, state_2, some, layout, apart)
        n_of_one = Place(some.size) * (Place(1) if apart else layout.o)
        for q in range(n_owners):
            own = q * apart
            arrays = w[own:], g[own:], of_1[own:], of_2[own:], c[q]
            call(update, (*arrays, n_of_one, n_of_one))
        _put(flat, w, some, layout, apart)
        if state_1.size:
            _put(state_1, of_1, some, layout, apart)
        if state_2.size:
            _put(state_2, of_2, some, layout, apart)


@inlined
def _update_biases(
    flat: Any,
    state_1: Any,
    state_2: Any,
    db: Any,
    layout: Layout,
    update: int,
    c: Any,
) -> None:
    """Take the optimizer's step on the biases."""
    n_owners = Place(c.shape[0])
    for q in range(n_owners):
        at, n_of_one = layout.bias + q, Place(1) if n_owners > 1 else layout.o
        arrays = flat[at:], db[q:], state_1[at:], state_2[at:], c[q]
        call(update, (*arrays, Place(0), n_of_one))


def _steps(
    values: Any,
    columns: Any,
    starts: Any,
    plan: Any,
    layout: Any,
    numbers: Any,
    flat: Any,
    average: Any,
    state_1: Any,
    state_2: Any,
    rows: Any,
    scalars: Any,
    losses: Any,
    work: Any,
    slots: Any,
    columns_touched: Any,
) -> None:
    """Take the steps of some rows of an epoch."""
    x = Csr(*borrowed((values, columns, starts)))
    flat, state_1, state_2, average = borrowed((flat, state_1, state_2, average))
    rows, scalars, losses, numbers = borrowed((rows, scalars, losses, numbers))
    work, slots, columns_touched = borrowed((work, slots, columns_touched))
    lies, p = layout_of(layout), plan_of(plan)
    batch_size = min(p.batch_size, rows.size)
    space, rest = space_of(work, numbers.size, batch_size)
    at_once = (rest.size - columns_touched.size * numbers.size) // 4
    touched = _touched_of(slots, columns_touched, rest, numbers.size, at_once)
    as_they_are, base = np.ones(1), Place(1)
    for step in range(losses.shape[0]):
        batch = rows[step * batch_size : (step + 1) * batch_size]
        c = scalars[step if scalars.shape[0] > 1 else 0]
        dz = gradient_of_batch(
            x, batch, flat, lies, as_they_are, p, numbers, space, losses[step]
        )
        k = _touch(x, batch, dz, lies.o, base, touched)
        base += k
        _update(flat, state_1, state_2, k, touched, lies, p.update, c)
        if lies.has_bias:
            db = gradient_of_biases(dz, space.of_outputs)
            _update_biases(flat, state_1, state_2, db, lies, p.update, c)
        average_in(average, flat, c)


@cache
def _kernel(floats: str, columns: str, starts: str) -> Function:
    data = *of_rows(floats, columns, starts), *of_model(floats)
    vector = array_of(nb.from_dtype(np.dtype(floats)))
    integers = array_of(nb.types.int64)
    steps = *of_steps(floats), integers, integers
    return kernel(_steps, nb.types.void(*data, vector, vector, *steps))


def bind_lazy(
    x: Csr, model: tuple[Array, ...], state: tuple[Array, ...]
) -> Callable[[Array, Array, Array], None]:
    """Return what takes steps within an epoch: of rows, scalars and losses."""
    flat, o, batch_size = model[3], int(model[1][6]), int(model[0][0])
    take = _kernel(flat.dtype.str, x.columns.dtype.str, x.starts.dtype.str)
    state_1, state_2 = (*state, np.empty(0, flat.dtype))[:2]

    def steps(rows: Array, scalars: Array, losses: Array) -> None:
        most = _most_entries(x, rows, batch_size)
        n_numbers = space_needed(o, min(len(rows), batch_size)) + most * o
        work = np.empty(n_numbers + 4 * _weights_at_once(o), flat.dtype)
        slots = np.zeros(2 ** (2 * most - 1).bit_length(), np.int64)
        of_batch = slots, np.empty(most, np.int64)
        take(*x, *model, state_1, state_2, rows, scalars, losses, work, *of_batch)

    return steps
