"""The loop of a network of any depth: forward, loss, backward, update.

As ``_equations.network`` of one model. Rows are gathered as they lie, x (b, i), and
handed on transposed; all other arrays are (units, b). A batch larger than a cache is
taken in blocks of rows, whose gradients add up, so that X is read once, and the work
space is that of one block.

Dimension key: b samples of a block, i units coming into a layer, u going out of it, o
of the last one, n parameters.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from skgd._compiled.arithmetic import Place, num
from skgd._compiled.jit import (
    Function,
    borrowed,
    call,
    carray,
    fast,
    inlined,
    kernel,
    pointer,
)
from skgd._compiled.steps import (
    Plan,
    average_in,
    clip,
    fill_norms,
    fill_shares,
    fill_targets,
    layer_of,
    plan_of,
    signature,
    tell,
    update,
)


class Space(NamedTuple):
    """The arrays of a step, one after the other in a vector."""

    g: Any  # (n,), the gradient
    sums: Any  # (o,), of the loss
    x: Any  # (b, i)
    y: Any  # (o, b)
    share: Any  # (b,)
    z: Any  # (u, b) of all layers, the sums that units receive
    h: Any  # likewise, the values that they make of them
    dz: Any  # (u, b) of one layer
    dx: Any  # (i, b) of one layer


def space_needed(sizes: tuple[int, ...], n: int, block: int) -> int:
    """Return the length of the vector."""
    o, units, widest = sizes[-1], sum(sizes[1:]), max(sizes[1:])
    return n + o + (sizes[0] + o + 1 + 2 * units + 2 * widest) * block


@inlined
def _space(work: Any, n: int, layers: Any, plan: Plan) -> Space:
    b, i, o = plan.block, layers[0, 0], layers[-1, 1]
    units, widest = plan.n_units * b, plan.n_widest * b
    x_at = n + o
    y_at = x_at + i * b
    share_at = y_at + o * b
    z_at = share_at + b
    h_at = z_at + units
    dz_at = h_at + units
    return Space(
        *(work[:n], work[n:x_at], work[x_at:], work[y_at:], work[share_at:]),
        *(work[z_at:], work[h_at:], work[dz_at:], work[dz_at + widest :]),
    )


@fast
def gather(x: Any, plan: Plan, rows: Any, i: int) -> None:
    """Fill x (b, i) with rows of an array of any strides."""
    source = carray(pointer(plan.x, x), 1)
    for k in range(rows.size):
        out, start = x[k * i :], Place(rows[k]) * Place(plan.x_row)
        if plan.x_column == 1:
            for j in range(i):
                out[j] = source[start + Place(j)]
        else:
            for j in range(i):
                out[j] = source[start + Place(j) * Place(plan.x_column)]


@fast
def _gather_sparse(x: Any, plan: Plan, rows: Any, i: int) -> None:
    """The same of sparse rows; entries at the same place add up."""
    values = carray(pointer(plan.x, x), 1)
    for k in range(rows.size):
        out = x[k * i :]
        for j in range(i):
            out[j] = num(x[0], 0)
        start = _integer(plan.starts, plan.is_wide_start, rows[k])
        stop = _integer(plan.starts, plan.is_wide_start, rows[k] + 1)
        for e in range(start, stop):
            j = _integer(plan.columns, plan.is_wide_index, e)
            out[Place(j)] += values[Place(e)]


@fast
def _integer(address: int, is_wide: bool, at: int) -> int:
    """Return one of the integers at an address."""
    if is_wide:
        return carray(pointer(address, np.int64), 1)[Place(at)]
    return int(carray(pointer(address, np.int32), 1)[Place(at)])


@inlined
def _forward(
    space: Space, flat: Any, layers: Any, plan: Plan, slope: float, b: int
) -> Any:
    """Fill z and h of all layers, and return the prediction (o, b)."""
    first_unit, last = 0, layers.shape[0] - 1
    x, z = space.x, space.z
    for n in range(last + 1):
        i, u, w_at, bias_at = layer_of(layers, n)
        w, z = flat[w_at:], space.z[first_unit * b :]
        if b == 1:
            _product_of_one(z, w, x, u, i)
        else:  # rows lie as (b, i)
            call(plan.product, (plan.gemm, w, 0, x, 1 if n == 0 else 0, z, u, b, i, 0))
        if bias_at >= 0:
            _add_bias(z, flat[bias_at:], u, b)
        if n < last:
            x = space.h[first_unit * b :]
            call(plan.value, (z, x, slope, u * b))
        first_unit += u
    return z


@fast
def _product_of_one(z: Any, w: Any, x: Any, u: int, i: int) -> None:
    """z = w x, of one sample."""
    for q in range(u):
        of_unit, total = w[q * i :], num(x[0], 0)
        for j in range(i):
            total += of_unit[j] * x[j]
        z[q] = total


@fast
def _add_bias(z: Any, bias: Any, u: int, b: int) -> None:
    for q in range(u):
        of_unit = z[q * b :]
        for k in range(b):
            of_unit[k] += bias[q]


@inlined
def _backward(
    space: Space, flat: Any, layers: Any, plan: Plan, slope: float, b: int, adds: bool
) -> None:
    """Fill the gradient, given dz (o, b); or add to it."""
    first_unit = plan.n_units
    dz, dx = space.dz, space.dx
    for n in range(layers.shape[0] - 1, -1, -1):
        i, u, w_at, bias_at = layer_of(layers, n)
        first_unit -= u
        if bias_at >= 0:
            _gradient_of_bias(space.g[bias_at:], dz, u, b, adds)
        before = (first_unit - i) * b
        x, dw = space.x if n == 0 else space.h[before:], space.g[w_at:]
        if b == 1:
            _gradient_of_one(dw, dz, x, u, i, adds)
        else:
            call(
                plan.product,
                (plan.gemm, dz, 0, x, 1 if n > 0 else 0, dw, u, i, b, 1 if adds else 0),
            )
        if n > 0:
            w = flat[w_at:]
            if b == 1:
                _gradient_of_input_of_one(dx, w, dz, u, i)
            else:
                call(plan.product, (plan.gemm, w, 1, dz, 0, dx, i, b, u, 0))
            call(plan.derivative, (space.z[before:], x, dx, slope, i * b))
            dz, dx = dx, dz


@fast
def _gradient_of_bias(dbias: Any, dz: Any, u: int, b: int, adds: bool) -> None:
    for q in range(u):
        of_unit, total = dz[q * b :], num(dz[0], 0)
        for k in range(b):
            total += of_unit[k]
        dbias[q] = dbias[q] + total if adds else total


@fast
def _gradient_of_one(dw: Any, dz: Any, x: Any, u: int, i: int, adds: bool) -> None:
    """dw (u, i) = dz (u) x (i), of one sample."""
    for q in range(u):
        out = dw[q * i :]
        for j in range(i):
            out[j] = (out[j] if adds else num(x[0], 0)) + dz[q] * x[j]


@fast
def _gradient_of_input_of_one(dx: Any, w: Any, dz: Any, u: int, i: int) -> None:
    """dx (i) = w (u, i) dz (u), of one sample: the sum over u."""
    for j in range(i):
        dx[j] = num(dz[0], 0)
    for q in range(u):
        of_unit = w[q * i :]
        for j in range(i):
            dx[j] += dz[q] * of_unit[j]


@inlined
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
        if plan.columns == 0:
            gather(space.x, plan, some, i)
        else:
            _gather_sparse(space.x, plan, some, i)
        fill_targets(space.y, plan, some, o)
        fill_shares(space.share, plan, some, rows.size)
        z = _forward(space, flat, layers, plan, slope, b)
        of_loss = space.y, space.share, numbers, space.dz, space.sums
        call(plan.loss, (z, *of_loss, o, b))
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
    flat, state_1, state_2, average, numbers, layers, work = borrowed(
        (flat, state_1, state_2, average, numbers, layers, work)
    )
    rows, table, losses, norms = borrowed((rows, table, losses, norms))
    p = plan_of(plan)
    slope, max_norm = reals[0], reals[1]
    space = _space(work, flat.size, layers, p)
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
def network(dtype: str) -> Function:
    """Return the loop, compiled."""
    return kernel(_take, signature(dtype))
