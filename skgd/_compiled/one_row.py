"""The loop of a linear model that descends by one row at a time.

A step of a few features takes as long as a call of its loss by address would, so each
loss has a loop of its own, in which all is inlined. The gradient, dz (o) x (i), is
never written.

Dimension key: i features, o outputs, r parts of a loss, p owners of scalars, k scalars.
"""

from functools import cache
from typing import Any, NamedTuple

from skgd._compiled.arithmetic import Place, num
from skgd._compiled.entries import log_loss_of_one
from skgd._compiled.jit import (
    Function,
    borrowed,
    carray,
    inlined,
    kernel,
    named,
    pointer,
)
from skgd._compiled.losses import LOSSES
from skgd._compiled.optimizers import scalars_at, sgd, with_lr, without_penalty
from skgd._compiled.steps import (
    Layer,
    Plan,
    average_in,
    fill_norms,
    layer_of,
    plan_of,
    signature,
    target_at,
)


class Row(NamedTuple):
    """A row, and what it counts."""

    number: Any
    x: Any  # numbers, of which
    at: Any  # its own begin here
    share: Any


@inlined
def _output(flat: Any, row: Row, layer: Layer, q: Any) -> float:
    """z = w x + bias, of an output."""
    w, z = flat[layer.w_at + q * layer.i :], num(flat[0], 0)
    for j in range(Place(layer.i)):
        z += w[j] * row.x[row.at + j]
    return z + flat[layer.bias_at + q] if layer.bias_at >= 0 else z


@inlined
def _descend(
    flat: Any, row: Row, layer: Layer, q: Any, dz: float, scalars: Any
) -> None:
    """w <- w - lr dz x, and the bias by dz, of an output."""
    c = scalars_at(scalars[q if scalars.shape[0] > 1 else 0])
    w, by_dz = flat[layer.w_at + q * layer.i :], with_lr(c, c.lr * dz)
    for j in range(Place(layer.i)):
        w[j] = sgd(w[j], row.x[row.at + j], by_dz)
    if layer.bias_at >= 0:
        at = layer.bias_at + q
        flat[at] = sgd(flat[at], num(dz, 1), without_penalty(by_dz))


def _by_outputs(loss: Any) -> Any:
    """Return the step by a row, of the loss of an output: each descends by its own."""

    @inlined
    def step(
        flat: Any,
        row: Row,
        layer: Layer,
        plan: Plan,
        numbers: Any,
        _: Any,
        scalars: Any,
        losses: Any,
    ) -> None:
        total = num(row.share, 0)
        for q in range(layer.u):
            z, y = _output(flat, row, layer, q), target_at(plan, flat, row.number, q)
            value, gradient = loss(z, y, numbers[q])
            _descend(flat, row, layer, q, gradient * row.share, scalars)
            total += value * row.share
            if losses.size > 1:
                losses[q] = value * row.share
        if losses.size == 1:
            losses[0] = total

    return step


@inlined
def _multinomial(
    flat: Any,
    row: Row,
    layer: Layer,
    plan: Plan,
    _: Any,
    work: Any,
    scalars: Any,
    losses: Any,
) -> None:
    """Take the step by a row of a loss that all outputs have together."""
    o = layer.u
    z, y, dz = work, work[o:], work[2 * o :]
    for q in range(o):
        z[q] = _output(flat, row, layer, q)
        y[q] = target_at(plan, flat, row.number, q)
    losses[0] = row.share * log_loss_of_one(z, y, row.share, dz, 0, o, 1)
    for q in range(o):
        _descend(flat, row, layer, q, dz[q], scalars)


def _take_by(step: Any) -> Function:
    """Return what takes the steps of some rows: see ``problem.Take``."""

    def take(
        flat: Any,
        _1: Any,
        _2: Any,
        average: Any,
        numbers: Any,
        layers: Any,
        plan: Any,
        _3: Any,
        work: Any,
        rows: Any,
        n_epoch: int,
        table: Any,
        losses: Any,
        norms: Any,
    ) -> None:
        flat, average, numbers, layers, work = borrowed(
            (flat, average, numbers, layers, work)
        )
        rows, table, losses, norms = borrowed((rows, table, losses, norms))
        p, layer, one = plan_of(plan), layer_of(layers, 0), num(flat[0], 1)
        x, weight = carray(pointer(p.x, flat), 1), carray(pointer(p.weight, flat), 1)
        at = 0
        for start in range(0, rows.size, n_epoch):
            if norms.shape[0] > 0:
                fill_norms(norms[start // n_epoch], flat, layers)
            for number in rows[start : start + n_epoch]:
                share = one if p.weight == 0 else weight[Place(number)]
                row = Row(number, x, Place(number) * Place(p.x_row), share)
                scalars = table[at if table.shape[0] > 1 else 0]
                step(flat, row, layer, p, numbers, work, scalars, losses[at])
                if average.size > 0:
                    average_in(average, flat, scalars)
                at += 1

    return take


@cache
def one_row(loss: str, dtype: str) -> Function:
    """Return the loop of a loss, compiled."""
    step = _by_outputs(LOSSES[loss]) if loss in LOSSES else _multinomial
    return kernel(named(f"one_row_{loss}", _take_by(step)), signature(dtype))
