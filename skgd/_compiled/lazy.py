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

from skgd._compiled import jit
from skgd._compiled.arithmetic import num
from skgd._compiled.jit import call, fast
from skgd._compiled.problem import Array, Csr
from skgd._compiled.sparse import (
    Layout,
    array_of,
    column_of,
    entries_of,
    gradient_of_batch,
    gradient_of_biases,
    layout_of,
    new_space,
    of_model,
    of_rows,
    of_steps,
)
from skgd._compiled.steps import Place, average_in, plan_of

# Weights that are gathered at once, so that they stay in a cache; columns at the least.
_WEIGHTS_AT_ONCE, _FEWEST_COLUMNS = 2048, 16

# 2^64 over the golden ratio: the upper bits of its products with numbers are well mixed.
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


@fast
def _most_entries(x: Csr, rows: Any, batch_size: int) -> int:
    """Return how many entries a batch has at the most."""
    most, entries = 1, 0
    for n in range(rows.size):
        if n % batch_size == 0:
            entries = 0
        row = Place(rows[n])
        entries += np.int64(x.starts[row + Place(1)]) - np.int64(x.starts[row])
        most = max(most, entries)
    return most


@fast
def _new_touched(like: Any, o: int, most: int) -> Touched:
    """Return arrays for batches of so many entries at the most."""
    n_slots = 2
    while n_slots < 2 * most:
        n_slots *= 2
    at_once, kind = max(_WEIGHTS_AT_ONCE, _FEWEST_COLUMNS * o), like.dtype
    return Touched(
        np.zeros(n_slots, np.int64),
        *(np.empty(most, np.int64), np.empty(most * o, kind)),
        *(np.empty(at_once, kind), np.empty(at_once, kind)),
        *(np.empty(at_once, kind), np.empty(at_once, kind)),
    )


@fast
def _number_of(column: int, base: int, k: int, slots: Any, columns: Any) -> int:
    """Return which of the k columns so far this is; k, and it is one of them, if none."""
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


@fast
def _touch(x: Csr, batch: Any, dz: Any, o: int, base: int, touched: Touched) -> int:
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
def _gather(out: Any, array: Any, columns: Any, layout: Layout, apart: int) -> None:
    """Fill out with columns of an array, one after the other, or each output apart."""
    for k in range(Place(columns.size)):
        at = layout.w + Place(columns[k]) * layout.o
        if layout.o == 1:
            out[k] = array[at]
        else:
            for q in range(layout.o):
                out[q * apart + k if apart else k * layout.o + q] = array[at + q]


@fast
def _put(array: Any, out: Any, columns: Any, layout: Layout, apart: int) -> None:
    """Write back what was gathered."""
    for k in range(Place(columns.size)):
        at = layout.w + Place(columns[k]) * layout.o
        if layout.o == 1:
            array[at] = out[k]
        else:
            for q in range(layout.o):
                array[at + q] = out[q * apart + k if apart else k * layout.o + q]


@fast
def _update(
    flat: Any,
    state_1: Any,
    state_2: Any,
    k: int,
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


@fast
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
) -> None:
    """Take the steps of some rows of an epoch."""
    x, lies, p = Csr(values, columns, starts), layout_of(layout), plan_of(plan)
    batch_size = min(p.batch_size, rows.size)
    space = new_space(flat, numbers.size, batch_size)
    most = _most_entries(x, rows, batch_size)
    touched = _new_touched(flat, numbers.size, most)
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
def _kernel(floats: str, columns: str, starts: str) -> jit.Function:
    data = *of_rows(floats, columns, starts), *of_model(floats)
    vector = array_of(nb.from_dtype(np.dtype(floats)))
    return jit.kernel(_steps, nb.types.void(*data, vector, vector, *of_steps(floats)))


def bind_lazy(
    x: Csr, model: tuple[Array, ...], state: tuple[Array, ...]
) -> Callable[[Array, Array, Array], None]:
    """Return what takes steps within an epoch: of rows, scalars and losses."""
    flat = model[3]
    kernel = _kernel(flat.dtype.str, x.columns.dtype.str, x.starts.dtype.str)
    state_1, state_2 = (*state, np.empty(0, flat.dtype))[:2]

    def steps(rows: Array, scalars: Array, losses: Array) -> None:
        kernel(*x, *model, state_1, state_2, rows, scalars, losses)

    return steps
