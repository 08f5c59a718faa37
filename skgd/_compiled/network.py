"""The loop of a network of any depth: forward, loss, backward, update.

As ``_equations.network`` of one model. Rows are gathered as they lie, x (b, i), and
handed on transposed; all other arrays are (units, b). A batch larger than a cache is
taken in blocks of rows, whose gradients add up, so that X is read once, and the work
space is that of one block.

Dimension key: b samples of a block, i units coming into a layer, u going out of it, o
of the last one, n parameters.
"""

from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import carray, from_dtype, types

from skgd._compiled import jit
from skgd._compiled.arithmetic import num
from skgd._compiled.jit import call, fast, pointer
from skgd._compiled.steps import (
    Place,
    Plan,
    average_in,
    clip,
    fill_norms,
    fill_shares,
    fill_targets,
    layer_of,
    plan_of,
    tell,
    update,
)


class Space(NamedTuple):
    """The arrays of a step, one after the other in a vector."""

    g: Any  # (n,), the gradient
    part: Any  # that of the weights of a layer, of one block of several
    sums: Any  # (o,), of the loss
    x: Any  # (b, i)
    y: Any  # (o, b)
    share: Any  # (b,)
    z: Any  # (u, b) of all layers, the sums that units receive
    h: Any  # likewise, the values that they make of them
    dz: Any  # (u, b) of one layer
    dx: Any  # (i, b) of one layer


def space_needed(sizes: tuple[int, ...], n: int, block: int, batch_size: int) -> int:
    """Return the length of the vector."""
    part = 0
    if block < batch_size:
        part = max(i * u for i, u in pairwise(sizes))
    units, widest, o = sum(sizes[1:]), max(sizes[1:]), sizes[-1]
    return n + part + o + (sizes[0] + o + 1 + 2 * units + 2 * widest) * block


@fast
def _space(work: Any, layers: Any, n: int, plan: Plan) -> Space:
    b, o = plan.block, layers[-1, 1]
    units, widest, part = 0, 0, 0
    for n_layer in range(layers.shape[0]):
        i, u, _, _ = layer_of(layers, n_layer)
        units, widest, part = units + u, max(widest, u), max(part, i * u)
    if plan.block >= plan.batch_size:
        part = 0
    g, rest = work[:n], work[n:]
    part_of, rest = rest[:part], rest[part:]
    sums, rest = rest[:o], rest[o:]
    x, rest = rest[: layers[0, 0] * b], rest[layers[0, 0] * b :]
    y, rest = rest[: o * b], rest[o * b :]
    share, rest = rest[:b], rest[b:]
    z, rest = rest[: units * b], rest[units * b :]
    h, rest = rest[: units * b], rest[units * b :]
    dz, dx = rest[: widest * b], rest[widest * b :]
    return Space(g, part_of, sums, x, y, share, z, h, dz, dx)


@fast
def _gather(x: Any, plan: Plan, rows: Any) -> None:
    """Fill x (b, i) with rows."""
    if plan.columns != 0:
        _gather_sparse(x, plan, rows)
        return
    source = carray(pointer(plan.x, x), 1)
    for k in range(x.shape[0]):
        out, start = x[k], Place(rows[k]) * Place(plan.x_row)
        if plan.x_column == 1:
            for j in range(out.size):
                out[j] = source[start + Place(j)]
        else:
            for j in range(out.size):
                out[j] = source[start + Place(j) * Place(plan.x_column)]


@fast
def _integer(address: int, is_wide: bool, at: int) -> int:
    """Return one of the integers at an address."""
    if is_wide:
        return carray(pointer(address, np.int64), 1)[Place(at)]
    return np.int64(carray(pointer(address, np.int32), 1)[Place(at)])


@fast
def _gather_sparse(x: Any, plan: Plan, rows: Any) -> None:
    """The same of sparse rows; entries at the same place add up."""
    values = carray(pointer(plan.x, x), 1)
    for k in range(x.shape[0]):
        out = x[k]
        out[:] = num(out[0], 0)
        start = _integer(plan.starts, plan.is_wide_start, rows[k])
        stop = _integer(plan.starts, plan.is_wide_start, rows[k] + 1)
        for e in range(start, stop):
            j = _integer(plan.columns, plan.is_wide_index, e)
            out[Place(j)] += values[Place(e)]


@fast
def _forward(
    space: Space, flat: Any, layers: Any, plan: Plan, slope: float, b: int
) -> Any:
    """Fill z and h of all layers, and return the prediction (o, b)."""
    first_row, n_layers = 0, layers.shape[0]
    x = space.x[: layers[0, 0] * b]  # (b, i) of the first layer, (i, b) of others
    z = space.z[:b].reshape(1, b)
    for n in range(n_layers):
        i, u, w_at, bias_at = layer_of(layers, n)
        w = flat[w_at : w_at + u * i].reshape(u, i)
        part = slice(first_row * b, (first_row + u) * b)
        z = space.z[part].reshape(u, b)
        if b == 1:
            _product_of_one(w, x, z)
        elif n == 0:
            np.dot(w, x.reshape(b, i).T, z)
        else:
            np.dot(w, x.reshape(i, b), z)
        if bias_at >= 0:
            _add_bias(z, flat[bias_at : bias_at + u])
        if n < n_layers - 1:
            x = space.h[part]
            call(plan.value, (z, x, slope, u * b))
        first_row += u
    return z


@fast
def _product_of_one(w: Any, x: Any, z: Any) -> None:
    """z = w x, of one sample."""
    for q in range(w.shape[0]):
        of_unit, total = w[q], num(x[0], 0)
        for j in range(of_unit.size):
            total += of_unit[j] * x[j]
        z[q, 0] = total


@fast
def _add_bias(z: Any, bias: Any) -> None:
    for q in range(z.shape[0]):
        of_unit, number = z[q], bias[q]
        for k in range(of_unit.size):
            of_unit[k] += number


@fast
def _backward(
    space: Space, flat: Any, layers: Any, plan: Plan, slope: float, b: int, adds: bool
) -> None:
    """Fill the gradient, given dz (o, b); or add to it."""
    first_row = 0
    for n in range(layers.shape[0]):
        first_row += layers[n, 1]
    now, next_ = space.dz, space.dx
    for n in range(layers.shape[0] - 1, -1, -1):
        i, u, w_at, bias_at = layer_of(layers, n)
        first_row -= u
        dz = now[: u * b].reshape(u, b)
        if bias_at >= 0:
            _gradient_of_bias(space.g[bias_at : bias_at + u], dz, adds)
        gradient = space.g[w_at : w_at + u * i].reshape(u, i)
        if n == 0:
            _gradient(gradient, dz, space.x[: b * i].reshape(b, i), space.part, adds)
            return
        before = slice((first_row - i) * b, first_row * b)
        h = space.h[before]
        _gradient(gradient, dz, h.reshape(i, b).T, space.part, adds)
        w = flat[w_at : w_at + u * i].reshape(u, i)
        dx = next_[: i * b]
        _gradient_of_input(dx, w, dz)
        call(plan.derivative, (space.z[before], h, dx, slope, i * b))
        now, next_ = next_, now


@fast
def _gradient_of_bias(gradient: Any, dz: Any, adds: bool) -> None:
    for q in range(gradient.size):
        of_unit, total = dz[q], num(gradient[q], 0)
        for k in range(of_unit.size):
            total += of_unit[k]
        gradient[q] = gradient[q] + total if adds else total


@fast
def _gradient(gradient: Any, dz: Any, x: Any, part: Any, adds: bool) -> None:
    """gradient (u, i) = dz (u, b) x (b, i), or what it was plus that."""
    u, i = gradient.shape
    if dz.shape[1] == 1:
        for q in range(u):
            out, of_unit = gradient[q], dz[q, 0]
            for j in range(i):
                out[j] = (out[j] if adds else num(of_unit, 0)) + of_unit * x[0, j]
    elif not adds:
        np.dot(dz, x, gradient)
    else:
        of_block = part[: u * i].reshape(u, i)
        np.dot(dz, x, of_block)
        for q in range(u):
            out, added = gradient[q], of_block[q]
            for j in range(i):
                out[j] += added[j]


@fast
def _gradient_of_input(dx: Any, w: Any, dz: Any) -> None:
    """dx (i, b) = w (u, i) dz (u, b), the sum over u."""
    (u, i), b = w.shape, dz.shape[1]
    if b > 1:
        np.dot(w.T, dz, dx.reshape(i, b))
        return
    dx[:] = num(dx[0], 0)
    for q in range(u):
        of_unit, d = w[q], dz[q, 0]
        for j in range(i):
            dx[j] += d * of_unit[j]


@fast
def _gradient_of_batch(
    space: Space,
    rows: Any,
    flat: Any,
    layers: Any,
    plan: Plan,
    slope: float,
    numbers: Any,
) -> None:
    """Fill the gradient, and add the losses to the sums, block by block."""
    i, o = layers[0, 0], numbers.size
    for start in range(0, rows.size, plan.block):
        some = rows[start : start + plan.block]
        b = some.size
        y, share, dz = space.y[: o * b], space.share[:b], space.dz[: o * b]
        _gather(space.x[: b * i].reshape(b, i), plan, some)
        fill_targets(y.reshape(o, b), plan, some)
        fill_shares(share, plan, some, rows.size)
        z = _forward(space, flat, layers, plan, slope, b)
        call(plan.loss, (z, y, share, numbers, dz, space.sums, o, b))
        _backward(space, flat, layers, plan, slope, b, start > 0)


def _take(
    flat: Any,
    state_1: Any,
    state_2: Any,
    average: Any,
    numbers: Any,
    layers: Any,
    plan: Any,
    reals: Any,
    work: Any,
    rows: Any,
    n_epoch: int,
    table: Any,
    losses: Any,
    norms: Any,
) -> None:
    """Take the steps of some rows: see ``problem.Take``."""
    p = plan_of(plan)
    slope, max_norm = reals[0], reals[1]
    space = _space(work, layers, flat.size, p)
    step = 0
    for start in range(0, rows.size, n_epoch):
        of_epoch = rows[start : start + n_epoch]
        if norms.shape[0] > 0:
            fill_norms(norms[start // n_epoch], flat, layers)
        for at in range(0, of_epoch.size, p.batch_size):
            batch = of_epoch[at : at + p.batch_size]
            scalars = table[step if table.shape[0] > 1 else 0]
            _gradient_of_batch(space, batch, flat, layers, p, slope, numbers)
            tell(losses[step], space.sums)
            clip(space.g, max_norm)
            update(p, flat, space.g, state_1, state_2, scalars, layers)
            average_in(average, flat, scalars)
            step += 1


@cache
def network(dtype: str) -> jit.Function:
    """Return the loop, compiled."""
    return jit.kernel(_take, signature(dtype))


def signature(dtype: str) -> Any:
    """Return the kinds of a loop's arguments; what is only read may be read-only."""
    f, n = from_dtype(np.dtype(dtype)), types.int64

    def array(kind: Any, ndim: int, readonly: bool = False) -> Any:
        return types.Array(kind, ndim, "C", readonly=readonly)

    vector, read = array(f, 1), array(f, 1, True)
    of_problem = *[vector] * 4, read, array(n, 2), array(n, 1), read, vector
    of_call = array(n, 1, True), n, array(f, 3, True), array(f, 2), array(f, 3)
    return types.void(*of_problem, *of_call)
