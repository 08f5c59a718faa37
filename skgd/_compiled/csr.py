"""The linear model on sparse rows: which steps it takes, and what undoes them.

On wide rows (w lies as (i, o)) plain descent owes what it does to columns that are not
touched, and all other optimizers are lazy. On narrow ones, (o, i), plain descent is the
same, and the others move all weights: those are for ``network``, which makes the rows
dense.

Dimension key: o outputs, i columns, n rows, k columns that some rows touch.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numba as nb
import numpy as np

from skgd._compiled.entries import loss_entry, update_entry
from skgd._compiled.jit import Function, kernel
from skgd._compiled.lazy import bind_lazy
from skgd._compiled.optimizers import COLUMNS
from skgd._compiled.owing import SMALL_SCALE, bind_descent
from skgd._compiled.problem import Array, Csr, Problem, Rows, Take
from skgd._compiled.sparse import array_of, layout_numbers, norms, of_model
from skgd._compiled.steps import Plan


def takes_csr(problem: Problem) -> bool:
    """Return whether a problem is for here: see above; and without a norm to clip."""
    if not isinstance(problem.x, Csr) or len(problem.sizes) > 2:
        return False
    waits = problem.columns_first or problem.optimizer == "sgd"
    return waits and problem.max_grad_norm is None


class Owing(NamedTuple):
    """What takes steps whose penalty may be owed after them, and what collects it.

    To settle at the end of an epoch is enough, if nothing reads the weights before.
    Until then no step has written on columns that its rows do not touch, so a call may
    be undone at the cost of those touched: see ``saved`` and ``changes_all``.
    """

    take: Take
    settle: Callable[[], None]


def bind_csr(problem: Problem) -> Take:
    """Return what takes the steps of a problem, after which nothing is owed."""
    owing = bind_owing(problem)

    def take(
        rows: Rows, n_epoch: int, scalars: Array, losses: Array, norms: Array
    ) -> None:
        owing.take(rows, n_epoch, scalars, losses, norms)
        owing.settle()

    return take


def bind_owing(problem: Problem) -> Owing:
    """Return what takes the steps of a problem, and what settles."""
    assert isinstance(problem.x, Csr)
    flat = problem.flat
    model = _model(problem, problem.x)
    norms_of = _norms_kernel(flat.dtype.str)

    def settle() -> None:
        pass

    if problem.optimizer == "sgd":
        steps, settle = bind_descent(problem.x, model)
    else:
        steps = bind_lazy(problem.x, model, problem.state)

    def take(
        rows: Rows, n_epoch: int, scalars: Array, losses: Array, norms: Array
    ) -> None:
        # The model has the addresses of arrays that ``problem`` keeps.
        n_steps = -(-min(n_epoch, len(rows)) // problem.batch_size)
        for epoch, begin in enumerate(range(0, len(rows), n_epoch)):
            if epoch < len(norms):
                settle()
                norms_of(flat, model[1], norms[epoch])
            own = slice(epoch * n_steps, (epoch + 1) * n_steps)
            of_epoch = scalars if len(scalars) == 1 else scalars[own]
            steps(rows[begin : begin + n_epoch], of_epoch, losses[own])

    return Owing(take, settle)


def _model(problem: Problem, x: Csr) -> tuple[Array, ...]:
    """Return plan, layout, numbers of the loss, flat vector and average."""
    flat, y, weight = problem.flat, problem.y, problem.weight
    dtype = flat.dtype.str
    of_plan = dict.fromkeys(Plan._fields, 0) | {
        "batch_size": problem.batch_size,
        "n_weights": problem.n_weights,
        "y": y.ctypes.data,
        "y_output": y.shape[1],
        "is_one_hot": len(y) < problem.sizes[-1],
        "weight": 0 if weight is None else weight.ctypes.data,
        "loss": loss_entry(problem.loss, dtype).address,
        "update": update_entry(problem.optimizer, dtype).address,
    }
    average = np.empty(0, flat.dtype) if problem.average is None else problem.average
    numbers = np.array(Plan(**of_plan), np.int64)
    return numbers, layout_numbers(problem), problem.loss_number, flat, average


@cache
def _norms_kernel(floats: str) -> Function:
    _, layout, _, flat, _ = of_model(floats)
    out = array_of(nb.from_dtype(np.dtype(floats)), 2)
    return kernel(norms, nb.types.void(flat, layout, out))


def touched_columns(x: Csr, rows: Rows | None = None) -> Array:
    """Return the columns that have entries in some rows, or in all: sorted, (k,)."""
    if rows is None:
        return np.unique(x.columns[x.starts[0] : x.starts[-1]])
    begins = x.starts[rows]
    lengths = x.starts[rows + 1] - begins
    first = np.cumsum(lengths) - lengths
    entries = np.repeat(begins - first, lengths) + np.arange(lengths.sum())
    return np.unique(x.columns[entries])


def changes_all(problem: Problem, scalars: Array, n_steps: int) -> bool:
    """Return whether so many steps may write on columns that they do not touch.

    They do if weights are averaged, or shrink so much that they have to be settled.
    """
    if problem.average is not None:
        return True
    if problem.optimizer != "sgd":
        return False
    shrink = scalars[:, :, COLUMNS.index("shrink")].astype(float)
    repeated = n_steps if len(scalars) == 1 else 1
    return bool((shrink.prod(0) ** repeated < 2 * SMALL_SCALE).any())


def _columns(problem: Problem, vector: Array) -> Array:
    """Return the weights in a vector, (i, o) or (o, i), a view."""
    i, o = problem.sizes
    w = vector[problem.weights_at[0] :][: i * o]
    return w.reshape(i, o) if problem.columns_first else w.reshape(o, i)


def saved(problem: Problem, columns: Array) -> Sequence[Array]:
    """Return copies of the weights and state at some columns, and of all biases."""
    axis = 0 if problem.columns_first else 1
    vectors = problem.flat, *problem.state
    of_columns = [_columns(problem, v).take(columns, axis) for v in vectors]
    return [*of_columns, *(v[problem.n_weights :].copy() for v in vectors)]


def restore_(problem: Problem, columns: Array, values: Sequence[Array]) -> None:
    """Write back what was saved at these columns."""
    vectors = problem.flat, *problem.state
    for vector, w, rest in zip(
        vectors, values[: len(vectors)], values[len(vectors) :], strict=True
    ):
        if problem.columns_first:
            _columns(problem, vector)[columns] = w
        else:
            _columns(problem, vector)[:, columns] = w
        vector[problem.n_weights :] = rest
