"""The linear model on sparse rows: which steps it takes.

On wide rows (w lies as (i, o)) plain descent owes what it does to columns that are not
touched, and all other optimizers are lazy. On narrow ones, (o, i), plain descent is the
same, and the others move all weights: those are for ``network``, which makes the rows
dense.

Dimension key: o outputs, i columns.
"""

from functools import cache

import numba as nb
import numpy as np

from skgd._compiled.entries import loss_entry, update_entry
from skgd._compiled.jit import Function, kernel
from skgd._compiled.lazy import bind_lazy
from skgd._compiled.owing import bind_descent
from skgd._compiled.problem import Array, Csr, Loop, Problem, Rows
from skgd._compiled.sparse import array_of, layout_numbers, norms, of_model
from skgd._compiled.steps import Plan, numbers_of_targets


def takes_csr(problem: Problem) -> bool:
    """Return whether a problem is for here: see above; and without a norm to clip."""
    if not isinstance(problem.x, Csr) or len(problem.sizes) > 2:
        return False
    waits = problem.columns_first or problem.optimizer == "sgd"
    return waits and problem.max_grad_norm is None


def bind_csr(problem: Problem) -> Loop:
    """Return what takes the steps of a problem."""
    assert isinstance(problem.x, Csr)
    flat = problem.flat
    model = _model(problem)
    norms_of = _norms_kernel(flat.dtype.str)

    owing = None
    if problem.optimizer == "sgd":
        owing = bind_descent(problem.x, model)
        steps = owing.steps
    else:
        steps = bind_lazy(problem.x, model, problem.state)

    def take(
        rows: Rows, n_epoch: int, scalars: Array, losses: Array, norms: Array
    ) -> None:
        # The model has the addresses of arrays that ``problem`` keeps.
        n_steps = -(-min(n_epoch, len(rows)) // problem.batch_size)
        for epoch, begin in enumerate(range(0, len(rows), n_epoch)):
            if epoch < len(norms):
                if owing is not None:
                    owing.settle()
                norms_of(flat, model[1], norms[epoch])
            own = slice(epoch * n_steps, (epoch + 1) * n_steps)
            of_epoch = scalars if len(scalars) == 1 else scalars[own]
            steps(rows[begin : begin + n_epoch], of_epoch, losses[own])

    if owing is None:
        return Loop(take)
    return Loop(take, owing.settle, debts=owing.debts, owe=owing.owe)


def _model(problem: Problem) -> tuple[Array, ...]:
    """Return plan, layout, numbers of the loss, flat vector and average."""
    flat, dtype = problem.flat, problem.flat.dtype.str
    of_plan = {
        **dict.fromkeys(Plan._fields, 0),
        **numbers_of_targets(problem),
        "batch_size": problem.batch_size,
        "n_weights": problem.n_weights,
        "loss": loss_entry(problem.loss, dtype).address,
        "update": update_entry(problem.optimizer, dtype).address,
    }
    average = flat[:0] if problem.average is None else problem.average
    numbers = np.array(Plan(**of_plan), np.int64)
    return numbers, layout_numbers(problem), problem.loss_number, flat, average


@cache
def _norms_kernel(floats: str) -> Function:
    _, layout, _, flat, _ = of_model(floats)
    out = array_of(nb.from_dtype(np.dtype(floats)), 2)
    return kernel(norms, nb.types.void(flat, layout, out))
