"""What every step is made of but for its products: targets, shares, clipping, update.

A ``Plan`` is what a loop has to know in whole numbers. Addresses are such too: arrays
of any strides, or that may not be written to, would each be another type to numba, and
a loop of its own.

Dimension key: n samples, b of a batch or of a block of it, i features, o outputs, p
owners of scalars, k scalars, r parts of a loss, l layers.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from skgd._compiled.arithmetic import Place, lerp, num
from skgd._compiled.jit import call, carray, fast, fixed_tuple, inlined, pointer
from skgd._compiled.optimizers import COLUMNS
from skgd._compiled.problem import Array, Problem


class Plan(NamedTuple):
    """A problem in whole numbers; places and strides are counted in elements."""

    batch_size: int
    block: int  # rows that are taken together, of a batch
    n_units: int  # of all layers
    n_widest: int  # of the layer that has most
    n_weights: int
    x: int  # the address of the rows, or of the entries of sparse ones
    x_row: int  # strides of rows and columns
    x_column: int
    columns: int  # the address of the entries' columns; 0 where rows are dense
    starts: int
    is_wide_index: bool  # whether columns are int64, and starts
    is_wide_start: bool
    y: int
    y_output: int  # the stride between outputs
    is_one_hot: bool  # whether y has class numbers, to be made one-hot
    weight: int  # an address, or 0
    value: int  # addresses of entries
    derivative: int
    loss: int
    update: int
    product: int
    gemm: int  # of BLAS


class Layer(NamedTuple):
    """The shape of a layer, and where its parameters begin."""

    i: int
    u: int
    w_at: int
    bias_at: int  # -1 where it has none


_LENGTH, _LENGTH_OF_LAYER = len(Plan._fields), len(Layer._fields)


def address_of(array: Array) -> int:
    """Return where the numbers of an array lie."""
    address: int = array.__array_interface__["data"][0]
    return address


def numbers_of_targets(problem: Problem) -> dict[str, int]:
    """Return what a plan has to say of targets and weights."""
    y, weight = problem.y, problem.weight
    return {
        "y": address_of(y),
        "y_output": y.strides[0] // y.itemsize,
        "is_one_hot": len(y) < problem.sizes[-1],
        "weight": 0 if weight is None else address_of(weight),
    }


@fast
def plan_of(numbers: Any) -> Plan:
    """Return the plan that lies in a vector."""
    return Plan(*fixed_tuple(numbers, _LENGTH))


@fast
def layer_of(layers: Any, n: int) -> Layer:
    """Return a layer of several, (l, 4)."""
    return Layer(*fixed_tuple(layers[n], _LENGTH_OF_LAYER))


@inlined
def target_at(plan: Plan, y: Any, row: int, q: int) -> float:
    """Return the target of an output of a row."""
    source = carray(pointer(plan.y, y), 1)
    if plan.is_one_hot:
        is_class = source[Place(row)] == num(y[0], q)
        return num(y[0], 1) if is_class else num(y[0], 0)
    return source[Place(q * plan.y_output) + Place(row)]


@fast
def fill_targets(y: Any, plan: Plan, rows: Any, o: int) -> None:
    """Fill y (o, b) with the targets of some rows."""
    b = rows.size
    for q in range(o):
        out = y[q * b :]
        for k in range(b):
            out[k] = target_at(plan, y, rows[k], q)


@fast
def fill_shares(share: Any, plan: Plan, rows: Any, n_batch: int) -> None:
    """Fill share (b) with what rows count in the mean over their batch."""
    alike = num(share[0], 1) / num(share[0], n_batch)
    weight = carray(pointer(plan.weight, share), 1)
    for k in range(rows.size):
        share[k] = alike if plan.weight == 0 else weight[Place(rows[k])] * alike


@fast
def tell(losses: Any, sums: Any) -> None:
    """Fill losses (r) with the sums (o) over a batch, and begin these anew."""
    losses[0] = num(sums[0], 0)
    for q in range(sums.size):
        part = q if losses.size > 1 else 0
        losses[part] = sums[q] + (num(sums[0], 0) if losses.size > 1 else losses[0])
        sums[q] = num(sums[0], 0)


@fast
def clip(g: Any, max_norm: float) -> None:
    """Shorten the gradient to a norm, if it is longer; 0 is no bound."""
    if max_norm == 0:
        return
    square = num(max_norm, 0)
    for k in range(g.size):
        square += g[k] * g[k]
    factor = max_norm / (np.sqrt(square) + num(max_norm, 1e-6))
    if not factor >= 1:
        for k in range(g.size):
            g[k] *= factor


@inlined
def update(
    plan: Plan, flat: Any, g: Any, s_1: Any, s_2: Any, scalars: Any, layers: Any
) -> None:
    """Take the step of the optimizer by its scalars (p, k).

    Where each output is an owner, it is taken output by output: the weights of one,
    then its bias.
    """
    is_alike = scalars.shape[0] == 1
    first = layer_of(layers, 0)
    for part in range(1 if is_alike else first.u):
        for is_bias in range(1 if is_alike or first.bias_at < 0 else 2):
            at, n_weights, n = 0, plan.n_weights, flat.size
            if is_bias == 1:
                at, n_weights, n = first.bias_at + part, 0, 1
            elif not is_alike:
                at, n_weights, n = first.w_at + part * first.i, first.i, first.i
            vectors = flat[at:], g[at:], s_1[at:], s_2[at:]
            call(plan.update, (*vectors, scalars[part], n_weights, n))


_SHARE = COLUMNS.index("share")


@fast
def average_in(average: Any, flat: Any, scalars: Any) -> None:
    """Take the weights after a step into their mean; () is none."""
    share = scalars[0, _SHARE]
    for k in range(average.size):
        average[k] = lerp(average[k], flat[k], share)


@fast
def fill_norms(norms: Any, flat: Any, layers: Any) -> None:
    """Fill norms (p, 2) with |w|_2^2 and |w|_1 of all weights, or of each output's."""
    norms[:] = num(flat[0], 0)
    for n in range(layers.shape[0]):
        layer = layer_of(layers, n)
        for q in range(layer.u):
            owner = q if norms.shape[0] > 1 else 0
            w = flat[layer.w_at + q * layer.i :]
            square, size = num(flat[0], 0), num(flat[0], 0)
            for k in range(layer.i):
                square += w[k] * w[k]
                size += abs(w[k])
            norms[owner, 0] += square
            norms[owner, 1] += size


def signature(dtype: str) -> Any:
    """Return the kinds of a loop's arguments; what is only read may be read-only."""
    f, n = from_dtype(np.dtype(dtype)), types.int64

    def array(kind: Any, ndim: int, readonly: bool = False) -> Any:
        return types.Array(kind, ndim, "C", readonly=readonly)

    vector, read = array(f, 1), array(f, 1, True)
    of_problem = *[vector] * 4, read, array(n, 2), array(n, 1), read, vector
    of_call = array(n, 1, True), n, array(f, 3, True), array(f, 2), array(f, 3)
    return types.void(*of_problem, *of_call)
