"""Which loop takes which problem, and what it is bound to.

A call of ``partial_fit`` binds a problem anew, so this has to take microseconds: whole
numbers in one vector, with the addresses of arrays and entries among them.
"""

from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

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
from skgd._compiled.one_row import one_row
from skgd._compiled.problem import Array, Csr, Loop, Problem, Rows
from skgd._compiled.products import gemm_address, product_entry
from skgd._compiled.rows import rows
from skgd._compiled.rows import space_needed as space_of_rows
from skgd._compiled.steps import Plan, address_of, numbers_of_targets

# A network takes so many rows at once, whose numbers fit a cache; fewer of wide ones.
_MOST_ROWS, _FEWEST_ROWS, _NUMBERS_OF_BLOCK = 128, 32, 2**18
# From so many multiply-adds of a product on, OpenBLAS takes several threads.
_THREADED_PRODUCT = 2**18
# Rows that are read where they lie: so many bytes, and no more rows than above.
_BYTES_OF_ROWS = 2**17
# BLAS is faster from so many outputs, weights, and rows of a batch on.
_BLAS_OUTPUTS, _BLAS_WEIGHTS, _BLAS_ROWS = 4, 256, 16
# So many rows are summed one by one at the most: float32 would lose digits.
_MOST_IN_A_SUM = 2**14


def bind(problem: Problem) -> Loop:
    """Return what takes the steps of a problem.

    The first use of a loss, an activation, an optimizer or a loop compiles it.
    """
    if takes_csr(problem):
        return bind_csr(problem)
    if not (isinstance(problem.x, Csr) or _is_readable(problem.x)):
        problem = problem._replace(x=problem.x.copy())
    flat, kind = problem.flat, _kind(problem)
    shape = _shape(kind)
    plan = shape.plan.copy()
    for name, number in _numbers_of_arrays(problem).items():
        plan[_PLACE[name]] = number
    state_1, state_2, *_ = *problem.state, flat, flat
    average = flat[:0] if problem.average is None else problem.average
    reals = problem.negative_slope, problem.max_grad_norm or 0.0
    of_loop = (
        *(flat, state_1, state_2, average, problem.loss_number, shape.layers, plan),
        *(np.array(reals, flat.dtype), np.zeros(shape.space, flat.dtype)),
    )
    take = partial(_take, problem, shape.loop, of_loop)
    return Loop(take, wakes_threads=shape.wakes_threads)


class _Kind(NamedTuple):
    """What tells problems apart to whom binds them, but for their arrays."""

    dtype: str
    sizes: tuple[int, ...]
    n_parameters: int
    n_weights: int
    weights_at: tuple[int, ...]
    biases_at: tuple[int, ...]
    loss: str
    activation: str
    optimizer: str
    batch_size: int
    is_of_rows: bool  # whether rows are read where they lie
    is_by_one_row: bool  # and each is a step of plain descent


class _Shape(NamedTuple):
    """What problems of a kind have in common."""

    loop: Function
    space: int  # numbers of the work space
    layers: Array  # each ``steps.Layer`` in a row
    plan: Array  # a ``steps.Plan``, but for what is read of arrays
    wakes_threads: bool


_PLACE = {name: place for place, name in enumerate(Plan._fields)}


def _kind(problem: Problem) -> _Kind:
    is_of_rows = _is_of_rows(problem)
    return _Kind(
        problem.flat.dtype.str,
        problem.sizes,
        problem.flat.size,
        problem.n_weights,
        problem.weights_at,
        problem.biases_at,
        problem.loss,
        problem.activation,
        problem.optimizer,
        problem.batch_size,
        is_of_rows,
        is_of_rows and _is_by_one_row(problem),
    )


@lru_cache(maxsize=256)
def _shape(kind: _Kind) -> _Shape:
    """Return the loop of problems of a kind, and what it is told of all of them."""
    dtype, sizes, n = kind.dtype, kind.sizes, kind.n_parameters
    if kind.is_of_rows:
        block = _block_of_rows(kind)
        loop = one_row(kind.loss, dtype) if kind.is_by_one_row else rows(dtype)
        space, wakes_threads = space_of_rows(sizes, n, block), False
    else:
        block, loop = _block_of_network(kind), network(dtype)
        space = space_of_network(sizes, n, block)
        wakes_threads = _largest_layer(sizes) * block > _THREADED_PRODUCT
    biases_at = kind.biases_at or (-1,) * len(kind.weights_at)
    layers = [
        (*shape, w_at, bias_at)
        for shape, w_at, bias_at in zip(
            pairwise(sizes), kind.weights_at, biases_at, strict=True
        )
    ]
    value = derivative = 0
    if len(sizes) > 2:
        value = value_entry(kind.activation, dtype).address
        derivative = derivative_entry(kind.activation, dtype).address
    of_arrays: dict[str, Any] = dict.fromkeys(_OF_ARRAYS, 0)
    plan = Plan(
        **of_arrays,
        **_entries_of_step(kind),
        batch_size=kind.batch_size,
        block=block,
        n_units=sum(sizes[1:]),
        n_widest=max(sizes[1:]),
        n_weights=kind.n_weights,
        value=value,
        derivative=derivative,
        gemm=gemm_address(dtype),
    )
    integers = np.array(layers, np.int64), np.array(plan, np.int64)
    return _Shape(loop, space, *integers, wakes_threads)


_OF_ARRAYS = (
    *("x", "x_row", "x_column", "columns", "starts", "is_wide_index"),
    *("is_wide_start", "y", "y_output", "is_one_hot", "weight"),
)


def _entries_of_step(kind: _Kind) -> dict[str, Any]:
    """Return what loops call by address, 0 where they do not: nothing is compiled then.

    The loop of single rows has loss and update in itself, and neither the rows of a
    linear model nor a network's single ones are for matrix products.
    """
    entries = {"loss": 0, "update": 0, "product": 0}
    if not kind.is_by_one_row:
        entries["loss"] = loss_entry(kind.loss, kind.dtype).address
        entries["update"] = update_entry(kind.optimizer, kind.dtype).address
    if not kind.is_of_rows and kind.batch_size > 1:
        entries["product"] = product_entry(kind.dtype).address
    return entries


def _numbers_of_arrays(problem: Problem) -> dict[str, int]:
    """Return what a plan has to say of the arrays, where it is not 0."""
    x, targets = problem.x, numbers_of_targets(problem)
    if isinstance(x, Csr):
        return targets | {
            "x": address_of(x.values),
            "columns": address_of(x.columns),
            "starts": address_of(x.starts),
            "is_wide_index": x.columns.itemsize == 8,
            "is_wide_start": x.starts.itemsize == 8,
        }
    row, column = x.strides
    return targets | {
        "x": address_of(x),
        "x_row": row // x.itemsize,
        "x_column": column // x.itemsize,
    }


def _is_of_rows(problem: Problem) -> bool:
    """Return whether rows are read where they lie: BLAS wins for larger products."""
    if isinstance(problem.x, Csr) or len(problem.sizes) > 2:
        return False
    n_features, n_outputs = problem.sizes
    if problem.batch_size > _MOST_IN_A_SUM:
        return False
    return (
        problem.batch_size < _BLAS_ROWS
        or n_outputs < _BLAS_OUTPUTS
        or n_features * n_outputs < _BLAS_WEIGHTS
    )


def _is_by_one_row(problem: Problem) -> bool:
    """Return whether each row is a step of plain descent, its numbers side by side."""
    is_plain = problem.optimizer == "sgd" and problem.max_grad_norm is None
    if isinstance(problem.x, Csr) or problem.batch_size > 1 or not is_plain:
        return False
    return problem.x.strides[1] == problem.x.itemsize


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


def _largest_layer(sizes: tuple[int, ...]) -> int:
    """Return the weights of the layer that has most."""
    return max(i * u for i, u in pairwise(sizes))


def _block_of_network(kind: _Kind) -> int:
    """Return how many rows of a batch are taken at once: a multiple of 16, for BLAS.

    They are so few that their products need no threads, where that is not too few.
    """
    of_row = sum(kind.sizes) + sum(kind.sizes[1:])
    n_rows = min(_MOST_ROWS, _THREADED_PRODUCT // _largest_layer(kind.sizes))
    n_rows = min(n_rows, _NUMBERS_OF_BLOCK // of_row) // 16 * 16
    return min(max(n_rows, _FEWEST_ROWS), kind.batch_size)


def _block_of_rows(kind: _Kind) -> int:
    """Return how many rows are read again before others take their place in a cache."""
    n_rows = _BYTES_OF_ROWS // (kind.sizes[0] * np.dtype(kind.dtype).itemsize)
    return min(max(n_rows // 4 * 4, 4), _MOST_ROWS, kind.batch_size)


def _is_readable(x: Array) -> bool:
    """Return whether rows lie as a loop can read them; next to all do."""
    row, column = x.strides
    whole = row % x.itemsize == 0 and column % x.itemsize == 0
    return whole and min(row, column) >= 0 and x.flags.aligned
