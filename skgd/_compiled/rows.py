"""The loop of a linear model whose rows are read where they lie.

To gather the rows of a few features, or to call BLAS for them, takes longer than to
compute with them. Four rows are taken at a time, for a row may have fewer numbers than
are computed with at once. Blocks of rows are so short that they are in a cache still
when the gradient reads them again, so X is read once.

Dimension key: b rows of a block, i features, o outputs, n parameters.
"""

from functools import cache
from typing import Any, NamedTuple

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
from skgd._compiled.network import gather
from skgd._compiled.steps import (
    Layer,
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
    x: Any  # (b, i), of rows whose numbers do not lie one after the other
    y: Any  # (o, b)
    share: Any  # (b,)
    z: Any  # (o, b)
    dz: Any  # (o, b)


def space_needed(sizes: tuple[int, ...], n: int, block: int) -> int:
    """Return the length of the vector."""
    i, o = sizes
    return n + o + (i + 3 * o + 1) * block


@inlined
def _space(work: Any, n: int, layer: Layer, b: int) -> Space:
    o, x_at = layer.u, n + layer.u
    y_at = x_at + layer.i * b
    share_at = y_at + o * b
    z_at = share_at + b
    dz_at = z_at + o * b
    return Space(
        *(work[:n], work[n:x_at], work[x_at:], work[y_at:]),
        *(work[share_at:], work[z_at:], work[dz_at:]),
    )


@inlined
def _rows_at_hand(space: Space, layer: Layer, plan: Plan, rows: Any) -> Any:
    """Return numbers in which rows lie in one piece each: their own, or gathered."""
    if plan.x_column == 1:
        return carray(pointer(plan.x, space.x), 1)
    gather(space.x, plan, rows, layer.i)
    return space.x


@fast
def _start(plan: Plan, layer: Layer, rows: Any, k: Any) -> Any:
    """Return where a row begins in the numbers at hand."""
    if plan.x_column == 1:
        return Place(rows[k]) * Place(plan.x_row)
    return Place(k) * Place(layer.i)


@inlined
def _forward(z: Any, x: Any, flat: Any, layer: Layer, plan: Plan, rows: Any) -> None:
    """z (o, b) = w x + bias, of rows at hand."""
    i, b = Place(layer.i), rows.size
    for q in range(layer.u):
        out, w, bias = z[q * b :], flat[layer.w_at + q * layer.i :], num(z[0], 0)
        if layer.bias_at >= 0:
            bias = flat[layer.bias_at + q]
        for k in range(0, b - 3, 4):
            x_0 = _start(plan, layer, rows, k)
            x_1 = _start(plan, layer, rows, k + 1)
            x_2 = _start(plan, layer, rows, k + 2)
            x_3 = _start(plan, layer, rows, k + 3)
            z_0 = z_1 = z_2 = z_3 = num(bias, 0)
            for j in range(i):
                z_0 += w[j] * x[x_0 + j]
                z_1 += w[j] * x[x_1 + j]
                z_2 += w[j] * x[x_2 + j]
                z_3 += w[j] * x[x_3 + j]
            out[k], out[k + 1] = z_0 + bias, z_1 + bias
            out[k + 2], out[k + 3] = z_2 + bias, z_3 + bias
        for k in range(b - b % 4, b):
            x_0, z_0 = _start(plan, layer, rows, k), bias
            for j in range(i):
                z_0 += w[j] * x[x_0 + j]
            out[k] = z_0


@inlined
def _backward(g: Any, dz: Any, x: Any, layer: Layer, plan: Plan, rows: Any) -> None:
    """Add to dw (o, i) the sum over b of dz (o, b) x (b, i), and to the biases'."""
    i, b = Place(layer.i), rows.size
    for q in range(layer.u):
        of_output, dw, total = dz[q * b :], g[layer.w_at + q * layer.i :], num(g[0], 0)
        for k in range(0, b - 3, 4):
            x_0 = _start(plan, layer, rows, k)
            x_1 = _start(plan, layer, rows, k + 1)
            x_2 = _start(plan, layer, rows, k + 2)
            x_3 = _start(plan, layer, rows, k + 3)
            d_0, d_1, d_2, d_3 = (
                *(of_output[k], of_output[k + 1]),
                *(of_output[k + 2], of_output[k + 3]),
            )
            for j in range(i):
                dw[j] += (
                    d_0 * x[x_0 + j]
                    + d_1 * x[x_1 + j]
                    + d_2 * x[x_2 + j]
                    + d_3 * x[x_3 + j]
                )
        for k in range(b - b % 4, b):
            x_0, d_0 = _start(plan, layer, rows, k), of_output[k]
            for j in range(i):
                dw[j] += d_0 * x[x_0 + j]
        if layer.bias_at >= 0:
            for k in range(b):
                total += of_output[k]
            g[layer.bias_at + q] += total


@inlined
def _loss_of_block(
    space: Space, plan: Plan, layer: Layer, numbers: Any, rows: Any, n_batch: int
) -> None:
    """Fill dz, given z, and add to the sums."""
    fill_targets(space.y, plan, rows, layer.u)
    fill_shares(space.share, plan, rows, n_batch)
    of_loss = space.z, space.y, space.share, numbers, space.dz, space.sums
    call(plan.loss, (*of_loss, layer.u, rows.size))


@inlined
def _gradient_of_batch(
    space: Space, flat: Any, layer: Layer, plan: Plan, numbers: Any, rows: Any
) -> None:
    """Fill the gradient, and add the losses to the sums, block by block."""
    for k in range(space.g.size):
        space.g[k] = num(space.g[0], 0)
    for start in range(0, rows.size, plan.block):
        some = rows[start : start + plan.block]
        x = _rows_at_hand(space, layer, plan, some)
        _forward(space.z, x, flat, layer, plan, some)
        _loss_of_block(space, plan, layer, numbers, some, rows.size)
        _backward(space.g, space.dz, x, layer, plan, some)


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
    p, layer, max_norm = plan_of(plan), layer_of(layers, 0), reals[1]
    space = _space(work, flat.size, layer, p.block)
    step = 0
    for start in range(0, rows.size, n_epoch):
        of_epoch = rows[start : start + n_epoch]
        if norms.shape[0] > 0:
            fill_norms(norms[start // n_epoch], flat, layers)
        for at in range(0, of_epoch.size, p.batch_size):
            batch = of_epoch[at : at + p.batch_size]
            scalars = table[step if table.shape[0] > 1 else 0]
            _gradient_of_batch(space, flat, layer, p, numbers, batch)
            clip(space.g, max_norm)
            update(p, flat, space.g, state_1, state_2, scalars, layers)
            tell(losses[step], space.sums)
            average_in(average, flat, scalars)
            step += 1


@cache
def rows(dtype: str) -> Function:
    """Return the loop, compiled."""
    return kernel(_take, signature(dtype))
