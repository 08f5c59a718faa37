"""Which loop takes which problem, and what it is bound to.

A call of ``partial_fit`` binds a problem anew, so this has to take microseconds: whole
numbers in one vector, with the addresses of arrays and entries among them.
"""

from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from skgd._compiled.csr import bind_csr, takes_csr
from skgd._compiled.entries import (
    derivative_entry,
    loss_entry,
    update_entry,
    value_entry,
)
from skgd._compiled.jit import Function
from skgd._compiled.network import network
from skgd._compiled.network import space_needed as space_of_network
from skgd._compiled.problem import Array, Csr, Problem, Rows, Take
from skgd._compiled.products import gemm_address
from skgd._compiled.rows import rows
from skgd._compiled.rows import space_needed as space_of_rows
from skgd._compiled.steps import Plan

# A network takes so many rows at once, whose numbers fit a cache; fewer of wide ones.
_MOST_ROWS, _FEWEST_ROWS, _NUMBERS_OF_BLOCK = 128, 32, 2**18
# From so many multiply-adds of a product on, OpenBLAS takes several threads.
THREADED_PRODUCT = 2**18
# Rows that are read where they lie: so many bytes, and no more rows than above.
_BYTES_OF_ROWS = 2**17
# BLAS is faster from so many outputs, weights, and rows of a batch on.
_BLAS_OUTPUTS, _BLAS_WEIGHTS, _BLAS_ROWS = 4, 256, 16


def bind(problem: Problem) -> Take:
    """Return what takes the steps of a problem.

    The first use of a loss, an activation, an optimizer or a loop compiles it.
    """
    if takes_csr(problem):
        return bind_csr(problem)
    if not isinstance(problem.x, Csr):
        problem = problem._replace(x=_readable(problem.x))
    dtype, sizes, n = problem.flat.dtype.str, problem.sizes, problem.flat.size
    if _is_of_rows(problem):
        block = _block_of_rows(problem)
        return _bound(problem, rows(dtype), block, space_of_rows(sizes, n, block))
    block = _block_of_network(problem)
    return _bound(problem, network(dtype), block, space_of_network(sizes, n, block))


def _is_of_rows(problem: Problem) -> bool:
    """Return whether rows are read where they lie: BLAS wins for larger products."""
    x, sizes = problem.x, problem.sizes
    if isinstance(x, Csr) or len(sizes) > 2 or x.strides[1] != x.itemsize:
        return False
    n_features, n_outputs = sizes
    return (
        problem.batch_size < _BLAS_ROWS
        or n_outputs < _BLAS_OUTPUTS
        or n_features * n_outputs < _BLAS_WEIGHTS
    )


def _bound(problem: Problem, loop: Function, block: int, n_numbers: int) -> Take:
    """Return a loop that is bound to a problem, and takes so many rows at once."""
    flat = problem.flat
    state_1, state_2, *_ = *problem.state, flat, flat
    average = flat[:0] if problem.average is None else problem.average
    of_loop = (
        *(flat, state_1, state_2, average, problem.loss_number, _layers(problem)),
        *(_plan(problem, block), _reals(problem), np.zeros(n_numbers, flat.dtype)),
    )
    return partial(_take, problem, loop, of_loop)


def _take(
    problem: Problem,
    loop: Function,
    of_loop: tuple[Array, ...],
    order: Rows,
    n_epoch: int,
    scalars: Array,
    losses: Array,
    norms: Array,
) -> None:
    """Take steps. The problem is held here, for its arrays to stay where they are."""
    loop(*of_loop, order, n_epoch, scalars, losses, norms)


def largest_product(problem: Problem) -> int:
    """Return the multiply-adds of the largest product that BLAS is called for.

    Where these are more than ``THREADED_PRODUCT``, hold BLAS to one thread around a
    call: to wake others takes longer than such a product, and on a busy machine a
    hundred times as long.
    """
    if _is_of_rows(problem):
        return 0
    return _largest_layer(problem) * _block_of_network(problem)


def _largest_layer(problem: Problem) -> int:
    """Return the weights of the layer that has most."""
    return max(i * u for i, u in pairwise(problem.sizes))


def _block_of_network(problem: Problem) -> int:
    """Return how many rows of a batch are taken at once; blocks are of like size.

    They are so few that their products need no threads, where that is not too few.
    """
    of_row = sum(problem.sizes) + sum(problem.sizes[1:])
    n_rows = min(_MOST_ROWS, THREADED_PRODUCT // _largest_layer(problem))
    n_rows = max(min(n_rows, _NUMBERS_OF_BLOCK // of_row), _FEWEST_ROWS)
    return ceil(problem.batch_size / ceil(problem.batch_size / n_rows))


def _block_of_rows(problem: Problem) -> int:
    """Return how many rows are read again before others take their place in a cache."""
    n_rows = _BYTES_OF_ROWS // (problem.sizes[0] * problem.flat.itemsize)
    return min(max(n_rows // 4 * 4, 4), _MOST_ROWS, problem.batch_size)


def _readable(x: Array) -> Array:
    """Return rows as a loop can read them; next to all lie so."""
    n_bytes = x.dtype.itemsize
    if x.flags.aligned and all(s >= 0 and s % n_bytes == 0 for s in x.strides):
        return x
    return x.copy()


def _layers(problem: Problem) -> Array:
    """Return each ``steps.Layer`` in a row."""
    biases_at = problem.biases_at or [-1] * len(problem.weights_at)
    shapes = pairwise(problem.sizes)
    rows = [
        (*shape, w_at, bias_at)
        for shape, w_at, bias_at in zip(
            shapes, problem.weights_at, biases_at, strict=True
        )
    ]
    return np.array(rows, np.int64)


def _reals(problem: Problem) -> Array:
    """Return the slope of the activation and the largest norm, 0 for none."""
    reals = problem.negative_slope, problem.max_grad_norm or 0.0
    return np.array(reals, problem.flat.dtype)


def _plan(problem: Problem, block: int) -> Array:
    """Return the ``steps.Plan`` as a vector."""
    dtype, y, weight = problem.flat.dtype.str, problem.y, problem.weight
    n_bytes, n_outputs = problem.flat.itemsize, problem.sizes[-1]
    value = derivative = 0
    if len(problem.sizes) > 2:
        value = value_entry(problem.activation, dtype).address
        derivative = derivative_entry(problem.activation, dtype).address
    plan = Plan(
        batch_size=problem.batch_size,
        block=block,
        n_units=sum(problem.sizes[1:]),
        n_widest=max(problem.sizes[1:]),
        n_weights=problem.n_weights,
        **_rows_of(problem.x, n_bytes),
        y=_address(y),
        y_output=y.strides[0] // n_bytes,
        is_one_hot=len(y) < n_outputs,
        weight=0 if weight is None else _address(weight),
        value=value,
        derivative=derivative,
        loss=loss_entry(problem.loss, dtype).address,
        update=update_entry(problem.optimizer, dtype).address,
        gemm=gemm_address(dtype),
        is_plain=problem.optimizer == "sgd" and problem.max_grad_norm is None,
    )
    return np.array(plan, np.int64)


def _rows_of(x: Array | Csr, n_bytes: int) -> dict[str, Any]:
    """Return what a plan has to say of the rows."""
    if isinstance(x, Csr):
        return {
            "x": _address(x.values),
            "x_row": 0,
            "x_column": 0,
            "columns": _address(x.columns),
            "starts": _address(x.starts),
            "is_wide_index": x.columns.itemsize == 8,
            "is_wide_start": x.starts.itemsize == 8,
        }
    row, column = x.strides
    return {
        "x": _address(x),
        "x_row": row // n_bytes,
        "x_column": column // n_bytes,
        "columns": 0,
        "starts": 0,
        "is_wide_index": False,
        "is_wide_start": False,
    }


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
