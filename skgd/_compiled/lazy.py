"""Lazy steps on wide sparse rows: what a batch does not touch stays as it is.

As ``_training.first_layer`` and torch.optim.SparseAdam: with momentum or moments every
weight would move at every step. A step gathers what it touches, is taken on that as on
any vector, and puts it back; the penalty of a column waits as its steps do. Biases take
dense steps.

The columns that a batch touches are taken in their order, for memory is read fastest
so.

Dimension key: i columns, o outputs, p owners of scalars (1 or o), k columns that a
batch touches, b samples of the batch, e its entries.
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
    batch_of,
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
from skgd._compiled.touched import (
    Touched,
    are_few,
    list_columns,
    mark,
    mark_and_note,
    new_touched,
    note_all,
    of_touched,
    rank_of,
    wipe,
)

# Weights that are gathered at once, so that they stay in a cache; columns at the least.
_WEIGHTS_AT_ONCE, _FEWEST_COLUMNS = 128, 16


class Gathered(NamedTuple):
    """What is gathered at once: weights of an owner, and their state."""

    w: Any
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
def _n_entries(x: Csr, batch: Any) -> Any:
    """Return how many entries a batch has."""
    n = Place(0)
    for k in range(Place(batch.size)):
        entries = entries_of(x, batch[k])
        n += entries.stop - entries.start
    return n


@fast
def _mark(x: Csr, batch: Any, touched: Touched) -> Any:
    """Mark the columns that a batch touches; return how many words have a mark."""
    n_words = Place(0)
    if are_few(touched, _n_entries(x, batch)):
        for k in range(Place(batch.size)):
            for e in entries_of(x, batch[k]):
                n_words = mark_and_note(touched, column_of(x, e), n_words)
        return n_words
    for k in range(Place(batch.size)):
        for e in entries_of(x, batch[k]):
            mark(touched, column_of(x, e))
    return note_all(touched)


@inlined
def _add_gradient(
    out: Any, x: Csr, batch: Any, dz: Any, touched: Touched, o: Any, n_owners: Any
) -> None:
    """Add the gradient of a batch to out (p, k, o / p), of the columns touched."""
    b = Place(batch.size)
    one, k = Place(1), Place(out.size) // o
    of_column, of_output = (o, one) if n_owners == 1 else (one, k)
    for n in range(b):
        for e in entries_of(x, batch[n]):
            value, at = x.values[e], rank_of(touched, column_of(x, e)) * of_column
            if o == 1:
                out[at] += value * dz[n]
            else:
                for q in range(o):
                    out[at + q * of_output] += value * dz[q * b + n]


@fast
def _gather(out: Any, array: Any, columns: Any, o: Any, width: Any) -> None:
    """Fill out (k, width) with some outputs of columns of an array (i, o)."""
    for k in range(Place(columns.size)):
        at = Place(columns[k]) * o
        if width == 1:
            out[k] = array[at]
        else:
            for q in range(width):
                out[k * width + q] = array[at + q]


@fast
def _put(array: Any, out: Any, columns: Any, o: Any, width: Any) -> None:
    """Write back what was gathered."""
    for k in range(Place(columns.size)):
        at = Place(columns[k]) * o
        if width == 1:
            array[at] = out[k]
        else:
            for q in range(width):
                array[at + q] = out[k * width + q]


@inlined
def _update(
    flat: Any,
    state_1: Any,
    state_2: Any,
    gradient: Any,
    columns: Any,
    gathered: Gathered,
    layout: Layout,
    update: int,
    c: Any,
) -> None:
    """Take the optimizer's step on some columns, a few at a time, owner by owner."""
    w, of_1, of_2 = gathered
    k, o, n_owners = Place(columns.size), layout.o, Place(c.shape[0])
    width = o // n_owners
    at_once = Place(w.size) // width
    for begin in range(Place(0), k, at_once):
        some = columns[begin : min(begin + at_once, k)]
        n = Place(some.size) * width
        for q in range(n_owners):
            at, g = layout.w + q, gradient[(q * k + begin) * width :]
            _gather(w, flat[at:], some, o, width)
            if state_1.size:
                _gather(of_1, state_1[at:], some, o, width)
            if state_2.size:
                _gather(of_2, state_2[at:], some, o, width)
            call(update, (w, g, of_1, of_2, c[q], n, n))
            _put(flat[at:], w, some, o, width)
            if state_1.size:
                _put(state_1[at:], of_1, some, o, width)
            if state_2.size:
                _put(state_2[at:], of_2, some, o, width)


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
    of_some: Any,
    words: Any,
    marked: Any,
    before: Any,
    columns_touched: Any,
) -> None:
    """Take the steps of some rows of an epoch."""
    x = Csr(*borrowed((values, columns, starts)))
    flat, state_1, state_2, average = borrowed((flat, state_1, state_2, average))
    rows, scalars, losses, numbers = borrowed((rows, scalars, losses, numbers))
    work, of_some = borrowed((work, of_some))
    touched = Touched(*borrowed((words, marked, before, columns_touched)))
    lies, p = layout_of(layout), plan_of(plan)
    batch_size = min(p.batch_size, rows.size)
    space, gradients = space_of(work, numbers.size, batch_size)
    gathered = Gathered(of_some[0], of_some[1], of_some[2])
    as_they_are = np.ones(1)
    for step in range(losses.shape[0]):
        batch = batch_of(rows, step, batch_size)
        c = scalars[step if scalars.shape[0] > 1 else 0]
        dz = gradient_of_batch(
            x, batch, flat, lies, as_they_are, p, numbers, space, losses[step]
        )
        n_words = _mark(x, batch.rows, touched)
        k = list_columns(touched, n_words)
        gradient = gradients[: k * lies.o]
        gradient[:] = num(flat[0], 0)
        _add_gradient(gradient, x, batch.rows, dz, touched, lies.o, Place(c.shape[0]))
        wipe(touched, n_words)
        some = touched.columns[:k]
        _update(flat, state_1, state_2, gradient, some, gathered, lies, p.update, c)
        if lies.has_bias:
            db = gradient_of_biases(dz, space.of_outputs)
            _update_biases(flat, state_1, state_2, db, lies, p.update, c)
        average_in(average, flat, c)


@cache
def _kernel(floats: str, columns: str, starts: str) -> Function:
    data = *of_rows(floats, columns, starts), *of_model(floats)
    vector = array_of(nb.from_dtype(np.dtype(floats)))
    of_some = array_of(nb.from_dtype(np.dtype(floats)), 2)
    steps = *of_steps(floats), of_some, *of_touched(columns)
    return kernel(_steps, nb.types.void(*data, vector, vector, *steps))


def bind_lazy(
    x: Csr, model: tuple[Array, ...], state: tuple[Array, ...]
) -> Callable[[Array, Array, Array], None]:
    """Return what takes steps within an epoch: of rows, scalars and losses."""
    layout, flat, batch_size = model[1], model[3], int(model[0][0])
    i, o = int(layout[5]), int(layout[6])
    take = _kernel(flat.dtype.str, x.columns.dtype.str, x.starts.dtype.str)
    state_1, state_2 = (*state, np.empty(0, flat.dtype))[:2]

    def steps(rows: Array, scalars: Array, losses: Array) -> None:
        most = min(_most_entries(x, rows, batch_size), i)
        of_batch = space_needed(o, min(len(rows), batch_size))
        work = np.empty(of_batch + most * o, flat.dtype)
        of_some = np.empty((3, _weights_at_once(o)), flat.dtype)
        touched = new_touched(i, most, x.columns.dtype)
        space = work, of_some, *touched
        take(*x, *model, state_1, state_2, rows, scalars, losses, *space)

    return steps
