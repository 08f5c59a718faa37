"""Entries: the tables as functions of arrays, which loops call by address.

Each table has one signature, so a loop knows no more of an entry than its address:

    value(z, h, slope, n)              fills h (n)
    derivative(z, h, d, slope, n)      multiplies d (n) by dh/dz
    loss(z, y, share, numbers, dz, sums, o, b)
        fills dz (o, b) with the gradient times the share (b) of each sample, and adds
        the values, likewise, to the sums (o); numbers (o) are what the loss reads
    update(w, g, s_1, s_2, c, n_weights, n)
        takes a step of w (n) and its state, of which the first n_weights have a
        penalty; c (k) are the scalars of the step

Arrays are of one kind of floats, and so is the slope; sizes are integers. What is not
there, such as a second vector of state, may be any address.

Dimension key: o outputs, b samples, k scalars.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import from_dtype, types

from skgd._compiled.activations import ACTIVATIONS
from skgd._compiled.arithmetic import Place, exp, log, num
from skgd._compiled.jit import carray, entry, fast, inlined, named
from skgd._compiled.losses import LOSSES
from skgd._compiled.optimizers import COLUMNS, OPTIMIZERS, scalars_at, without_penalty

Entry = Callable[..., None]


def _value(value: Any) -> Entry:
    def fill(z_at: Any, h_at: Any, slope: float, n: int) -> None:
        z, h = carray(z_at, n), carray(h_at, n)
        for k in range(n):
            h[k] = value(z[k], slope)

    return fill


def _derivative(derivative: Any) -> Entry:
    def multiply(z_at: Any, h_at: Any, d_at: Any, slope: float, n: int) -> None:
        z, h, d = carray(z_at, n), carray(h_at, n), carray(d_at, n)
        for k in range(n):
            d[k] *= derivative(z[k], h[k], slope)

    return multiply


def _loss(loss: Any) -> Entry:
    @fast
    def of_output(z: Any, y: Any, share: Any, number: float, dz: Any) -> float:
        total = num(number, 0)
        for k in range(z.size):
            value, gradient = loss(z[k], y[k], number)
            dz[k] = gradient * share[k]
            total += value * share[k]
        return total

    def fill(
        z_at: Any,
        y_at: Any,
        share_at: Any,
        numbers_at: Any,
        dz_at: Any,
        sums_at: Any,
        o: int,
        b: int,
    ) -> None:
        z, y, dz = carray(z_at, o * b), carray(y_at, o * b), carray(dz_at, o * b)
        share, numbers, sums = (
            carray(share_at, b),
            carray(numbers_at, o),
            carray(sums_at, o),
        )
        if b == 1:
            for q in range(o):
                value, gradient = loss(z[q], y[q], numbers[q])
                dz[q] = gradient * share[0]
                sums[q] += value * share[0]
            return
        for q in range(o):
            row = slice(q * b, q * b + b)
            sums[q] += of_output(z[row], y[row], share, numbers[q], dz[row])

    return fill


# Samples are taken together where they are so many.
_TOGETHER = 8


def _multinomial_log_loss(
    z_at: Any,
    y_at: Any,
    share_at: Any,
    numbers_at: Any,
    dz_at: Any,
    sums_at: Any,
    o: int,
    b: int,
) -> None:
    """-y . log(p), of p = softmax(z) and one-hot y; the gradient is p - y.

    It is told as the first of the sums.
    """
    z, y, dz = carray(z_at, o * b), carray(y_at, o * b), carray(dz_at, o * b)
    share, sums = carray(share_at, b), carray(sums_at, o)
    if b < _TOGETHER:
        for k in range(b):
            sums[0] += share[k] * log_loss_of_one(z, y, share[k], dz, k, o, b)
    else:
        sums[0] += _log_losses(
            z.reshape(o, b), y.reshape(o, b), share, dz.reshape(o, b)
        )


@inlined
def log_loss_of_one(
    z: Any, y: Any, share: float, dz: Any, k: int, o: int, b: int
) -> float:
    """log(sum of exp(c)) - y . c, of c = z - max(z), of sample k."""
    largest, total, likely = z[k], num(share, 0), num(share, 0)
    for q in range(1, o):
        at = Place(q * b + k)
        largest = z[at] if z[at] > largest else largest
    for q in range(o):
        at = Place(q * b + k)
        c = z[at] - largest
        e = exp(c)
        total += e
        likely += y[at] * c
        dz[at] = e
    for q in range(o):
        at = Place(q * b + k)
        dz[at] = (dz[at] / total - y[at]) * share
    return log(total) - likely


@fast
def _log_losses(z: Any, y: Any, share: Any, dz: Any) -> float:
    """The same of all samples, as sums over the outputs of vectors (b,)."""
    o, b = z.shape
    largest, total, likely = z[0].copy(), np.zeros_like(share), np.zeros_like(share)
    for q in range(1, o):
        row = z[q]
        for k in range(b):
            largest[k] = row[k] if row[k] > largest[k] else largest[k]
    for q in range(o):
        row, e, of_class = z[q], dz[q], y[q]
        for k in range(b):
            c = row[k] - largest[k]
            likely[k] += of_class[k] * c
            e[k] = exp(c)
        for k in range(b):
            total[k] += e[k]
    for q in range(o):
        e, of_class = dz[q], y[q]
        for k in range(b):
            e[k] = (e[k] / total[k] - of_class[k]) * share[k]
    mean = num(share[0], 0)
    for k in range(b):
        mean += share[k] * (log(total[k]) - likely[k])
    return mean


LOSS_ENTRIES = {name: _loss(loss) for name, loss in LOSSES.items()}
LOSS_ENTRIES["multinomial_log_loss"] = _multinomial_log_loss


def _update_stateless(step: Any) -> Entry:
    def update(
        w_at: Any, g_at: Any, _1: Any, _2: Any, c_at: Any, n_weights: int, n: int
    ) -> None:
        w, g = carray(w_at, n), carray(g_at, n)
        c = scalars_at(carray(c_at, len(COLUMNS)))
        for k in range(n_weights):
            w[k] = step(w[k], g[k], c)
        c = without_penalty(c)
        for k in range(n_weights, n):
            w[k] = step(w[k], g[k], c)

    return update


def _update_one(step: Any) -> Entry:
    def update(
        w_at: Any, g_at: Any, s_at: Any, _: Any, c_at: Any, n_weights: int, n: int
    ) -> None:
        w, g, s = carray(w_at, n), carray(g_at, n), carray(s_at, n)
        c = scalars_at(carray(c_at, len(COLUMNS)))
        for k in range(n_weights):
            w[k], s[k] = step(w[k], g[k], s[k], c)
        c = without_penalty(c)
        for k in range(n_weights, n):
            w[k], s[k] = step(w[k], g[k], s[k], c)

    return update


def _update_two(step: Any) -> Entry:
    def update(
        w_at: Any, g_at: Any, r_at: Any, s_at: Any, c_at: Any, n_weights: int, n: int
    ) -> None:
        w, g, r, s = (
            carray(w_at, n),
            carray(g_at, n),
            carray(r_at, n),
            carray(s_at, n),
        )
        c = scalars_at(carray(c_at, len(COLUMNS)))
        for k in range(n_weights):
            w[k], r[k], s[k] = step(w[k], g[k], r[k], s[k], c)
        c = without_penalty(c)
        for k in range(n_weights, n):
            w[k], r[k], s[k] = step(w[k], g[k], r[k], s[k], c)

    return update


_UPDATES = _update_stateless, _update_one, _update_two  # by vectors of state


@cache
def value_entry(activation: str, dtype: str) -> Any:
    """Return what computes the values of an activation, with its address."""
    function = named(f"value_{activation}", _value(ACTIVATIONS[activation].value))
    f, at = _kinds(dtype)
    return entry(function, types.void(at, at, f, types.intp))


@cache
def derivative_entry(activation: str, dtype: str) -> Any:
    """Return what multiplies by the derivatives of an activation."""
    derivative = _derivative(ACTIVATIONS[activation].derivative)
    function = named(f"derivative_{activation}", derivative)
    f, at = _kinds(dtype)
    return entry(function, types.void(at, at, at, f, types.intp))


@cache
def loss_entry(loss: str, dtype: str) -> Any:
    """Return what computes a loss and its gradient."""
    function = named(f"loss_{loss}", LOSS_ENTRIES[loss])
    _, at = _kinds(dtype)
    return entry(function, types.void(*[at] * 6, types.intp, types.intp))


@cache
def update_entry(optimizer: str, dtype: str) -> Any:
    """Return what takes the step of an optimizer."""
    state_names, step = OPTIMIZERS[optimizer]
    function = named(f"update_{optimizer}", _UPDATES[len(state_names)](step))
    _, at = _kinds(dtype)
    return entry(function, types.void(*[at] * 5, types.intp, types.intp))


def _kinds(dtype: str) -> tuple[Any, Any]:
    """Return a kind of floats, and that of where such floats lie."""
    kind = from_dtype(np.dtype(dtype))
    return kind, types.CPointer(kind)
