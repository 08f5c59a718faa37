"""A batch of sparse rows: predictions and their gradient, at the cost of the entries.

For the linear model, whose weights lie as (i, o), or as (o, i), in the flat vector.

Dimension key: n samples, e entries, o outputs, p owners of scalars (1 or o), i columns,
b samples of a batch.
"""

from typing import Any, NamedTuple

import numba as nb
import numpy as np

from skgd._compiled.arithmetic import Place, num
from skgd._compiled.jit import call, fetch, inlined
from skgd._compiled.problem import Csr, Problem
from skgd._compiled.steps import Plan, fill_shares, fill_targets, tell

# Rows are fetched so many before they are read, and of their numbers every 16th: a line
# of the cache, or two.
_AHEAD, _LINE = 3, 16


class Layout(NamedTuple):
    """Where the parameters lie in the flat vector."""

    w: Any
    column: Any  # from a column to the next one
    output: Any  # from an output to the next one
    bias: Any
    has_bias: Any
    i: Any
    o: Any


class Batch(NamedTuple):
    """The rows of a batch, and the row that is a few behind each of these."""

    rows: Any  # (b,)
    later: Any  # (b,), or less at the end


class Space(NamedTuple):
    """The arrays of a batch of up to b samples."""

    z: Any  # (o * b,)
    y: Any  # (o * b,)
    share: Any  # (b,)
    dz: Any  # (o * b,)
    of_outputs: Any  # (o,)
    of_owners: Any  # (o,)
    sums: Any  # (o,), of the loss


@inlined
def layout_of(numbers: Any) -> Layout:
    """Return the layout that lies in a vector."""
    return Layout(
        *(Place(numbers[0]), Place(numbers[1]), Place(numbers[2]), Place(numbers[3])),
        *(Place(numbers[4]), Place(numbers[5]), Place(numbers[6])),
    )


def space_needed(o: int, b: int) -> int:
    """Return the length of the vector that these arrays lie in."""
    return (3 * o + 1) * b + 3 * o


@inlined
def space_of(work: Any, o: int, b: int) -> tuple[Space, Any]:
    """Return the arrays of a batch, and the rest of the vector."""
    z, y, dz = work[: o * b], work[o * b : 2 * o * b], work[2 * o * b : 3 * o * b]
    rest = work[3 * o * b :]
    share, rest = rest[:b], rest[b:]
    space = Space(z, y, share, dz, rest[:o], rest[o : 2 * o], rest[2 * o : 3 * o])
    space.sums[:] = num(work[0], 0)
    return space, rest[3 * o :]


@inlined
def entries_of(x: Csr, row: int) -> Any:
    """Return the places of the entries of a row."""
    return range(Place(x.starts[Place(row)]), Place(x.starts[Place(row) + Place(1)]))


@inlined
def column_of(x: Csr, e: int) -> Any:
    """Return the column of an entry."""
    return Place(x.columns[e])


@inlined
def batch_of(rows: Any, step: Any, batch_size: Any) -> Batch:
    """Return the batch of a step, of whom all take their rows in order."""
    begin, end = step * batch_size, (step + 1) * batch_size
    return Batch(rows[begin:end], rows[begin + _AHEAD : end + _AHEAD])


@inlined
def _fetch_entries(x: Csr, row: int) -> None:
    """Have the entries of a row brought to the cache.

    Rows are read in no order: a CPU that does not know the next one waits for it.
    """
    entries = entries_of(x, row)
    for e in range(entries.start, entries.stop, Place(_LINE)):
        fetch(x.values, e)
        fetch(x.columns, e)


@inlined
def owner(q: Any, n_owners: Any) -> Any:
    """Return whose scalars output q reads."""
    return Place(q) if n_owners > 1 else Place(0)


@inlined
def _fill_outputs(
    z: Any, x: Csr, batch: Batch, flat: Any, layout: Layout, scale: Any, sums: Any
) -> None:
    """z (o, b) = scale w x + bias."""
    rows, later, zero = batch.rows, batch.later, num(flat[0], 0)
    b = Place(rows.size)
    for k in range(b):
        if k < Place(later.size):
            _fetch_entries(x, later[k])
        if layout.o == 1:
            total = zero
            for e in entries_of(x, rows[k]):
                total += x.values[e] * flat[layout.w + column_of(x, e)]
            sums[0] = total
        else:
            sums[:] = zero
            for e in entries_of(x, rows[k]):
                value, at = x.values[e], layout.w + column_of(x, e) * layout.column
                for q in range(layout.o):
                    sums[q] += value * flat[at + q * layout.output]
        for q in range(layout.o):
            bias = flat[layout.bias + q] if layout.has_bias else zero
            z[q * b + k] = num(zero, scale[owner(q, scale.size)]) * sums[q] + bias


@inlined
def gradient_of_batch(
    x: Csr,
    batch: Batch,
    flat: Any,
    layout: Layout,
    scale: Any,
    plan: Plan,
    numbers: Any,
    space: Space,
    losses: Any,
) -> Any:
    """Return dz (o * b,) of a batch, and fill its losses (r); w is scale times flat."""
    o, b = numbers.size, batch.rows.size
    z, y, share = space.z[: o * b], space.y[: o * b], space.share[:b]
    dz = space.dz[: o * b]
    _fill_outputs(z, x, batch, flat, layout, scale, space.of_outputs)
    fill_targets(y, plan, batch.rows, o)
    fill_shares(share, plan, batch.rows, b)
    call(plan.loss, (z, y, share, numbers, dz, space.sums, o, b))
    tell(losses, space.sums)
    return dz


@inlined
def gradient_of_biases(dz: Any, out: Any) -> Any:
    """Return the sums (o,) of dz (o, b) over the batch."""
    b = Place(dz.size) // Place(out.size)
    for q in range(Place(out.size)):
        total = num(dz[0], 0)
        for k in range(b):
            total += dz[q * b + k]
        out[q] = total
    return out


def norms(flat: Any, numbers: Any, out: Any) -> None:
    """Fill |w|_2^2 and |w|_1 (p, 2) of each owner."""
    layout, p = layout_of(numbers), Place(out.shape[0])
    n_of_one = layout.i if p > 1 else layout.i * layout.o
    step = layout.column if p > 1 else Place(1)
    for q in range(p):
        begin, square, size = layout.w + q * layout.output, 0.0, 0.0
        for n in range(n_of_one):
            w = float(flat[begin + n * step])
            square += w * w
            size += abs(w)
        out[q, Place(0)], out[q, Place(1)] = square, size


def layout_numbers(problem: Problem) -> Any:
    """Return the layout of a problem as a vector."""
    i, o = problem.sizes
    steps = (o, 1) if problem.columns_first else (1, i)
    bias = problem.biases_at[0] if problem.biases_at else 0
    of_weights = problem.weights_at[0], *steps
    return np.array([*of_weights, bias, len(problem.biases_at), i, o], np.int64)


def array_of(kind: Any, ndim: int = 1, *, readonly: bool = False) -> Any:
    """Return the kind of an argument of a kernel."""
    return nb.types.Array(kind, ndim, "C", readonly=readonly)


def of_rows(floats: str, columns: str, starts: str) -> tuple[Any, ...]:
    """Return the kinds of the arrays of sparse rows."""
    dtypes = floats, columns, starts
    return tuple(array_of(nb.from_dtype(np.dtype(d)), readonly=True) for d in dtypes)


def of_model(floats: str) -> tuple[Any, ...]:
    """Return the kinds of plan, layout, numbers of the loss, flat and average."""
    f, n = nb.from_dtype(np.dtype(floats)), nb.types.int64
    loss = array_of(f, readonly=True)
    return array_of(n), array_of(n), loss, array_of(f), array_of(f)


def of_steps(floats: str) -> tuple[Any, ...]:
    """Return the kinds of rows, scalars, losses and space."""
    f, n = nb.from_dtype(np.dtype(floats)), nb.types.int64
    rows, scalars = array_of(n, readonly=True), array_of(f, 3, readonly=True)
    return rows, scalars, array_of(f, 2), array_of(f)
