"""Scalars: what an optimizer reads at each step, as ``_equations.optimizers`` has them.

They are computed in float64, from learning rates that are worked out elsewhere: so many
NumPy calls would take longer than a small step. What an optimizer has not is such that
it does nothing.

Dimension key: k scalars; p their owners: a model, or each output of a linear one.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from skgd._compiled.jit import Function, exact, kernel, named
from skgd._compiled.optimizers import COLUMNS, Scalars

Floats = npt.NDArray[np.float64]


class Steps(NamedTuple):
    """Some steps in a row, and since when their optimizer and average count."""

    t: int  # taken before them
    n_steps: int
    optimizer_begun: int  # steps before the optimizer began
    average_begun: int  # the step from which weights are averaged; 0 if they are not


class Numbers(NamedTuple):
    """The hyperparameters of an owner, and the strengths of its penalty."""

    momentum: float
    beta_1: float
    beta_2: float
    epsilon: float
    ridge: float
    lasso: float


@exact
def sgd(lr: float, t: float, h: Numbers) -> Scalars:
    pace = lr / (1.0 - h.momentum)
    return Scalars(
        *(lr, h.momentum, 0.0, 0.0, 0.0),
        *(1.0 / (1.0 + pace * h.ridge), pace * h.lasso),
        *(0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    )


@exact
def _adaptive(
    lr: float, epsilon: float, new_1: float, new_2: float, seen: float, h: Numbers
) -> Scalars:
    """Return scalars where a constant gradient g has brought the root to seen g."""
    return Scalars(
        *(lr, 0.0, epsilon, new_1, new_2, 1.0, 0.0),
        *(lr * h.ridge, h.ridge / 2.0 * seen, lr * h.lasso, h.lasso / 2.0 * seen),
        *(1.0, 0.0),
    )


@exact
def adagrad(lr: float, t: float, h: Numbers) -> Scalars:
    return _adaptive(lr, h.epsilon, 0.0, 0.0, 1.0, h)


@exact
def rmsprop(lr: float, t: float, h: Numbers) -> Scalars:
    seen = np.sqrt(1.0 - h.beta_2**t)
    return _adaptive(lr, h.epsilon, 0.0, 1.0 - h.beta_2, seen, h)


@exact
def adam(lr: float, t: float, h: Numbers) -> Scalars:
    correction = np.sqrt(1.0 - h.beta_2**t)
    rate, epsilon = lr * correction, h.epsilon * correction
    new_1, new_2 = 1.0 - h.beta_1, 1.0 - h.beta_2
    c = _adaptive(rate, epsilon, new_1, new_2, correction, h)
    return Scalars(rate / (1.0 - h.beta_1**t), *c[1:])


@exact
def adamw(lr: float, t: float, h: Numbers) -> Scalars:
    c = adam(lr, t, Numbers(h.momentum, h.beta_1, h.beta_2, h.epsilon, 0.0, 0.0))
    decay = max(0.0, 1.0 - lr * h.ridge)
    return Scalars(
        *(c.lr, 0.0, c.epsilon, c.new_1, c.new_2, 1.0, lr * h.lasso),
        *(0.0, 0.0, 0.0, 0.0, decay, 0.0),
    )


Rule = Callable[[float, float, Numbers], Scalars]
RULES: dict[str, Rule] = {
    "sgd": sgd,
    "momentum": sgd,  # sgd with one, and however it looks ahead
    "nesterov": sgd,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}
_AS_CONSTANT = {"sgd", "momentum", "nesterov", "adagrad"}  # as the learning rate is


def table(
    optimizer: str, numbers: Floats, rates: Floats, steps: Steps, dtype: Any
) -> npt.NDArray[Any]:
    """Return the scalars of steps, (steps, p, k), or (1, p, k) if all are alike.

    ``numbers`` are the fields of ``Numbers`` of each owner, (p, 6), and ``rates`` the
    learning rates, (steps, p) or (1, p).
    """
    alike = optimizer in _AS_CONSTANT and not steps.average_begun
    n_rows = len(rates) if alike else steps.n_steps
    columns = np.empty((n_rows, len(numbers), len(COLUMNS)), dtype)
    scalars_loop(optimizer, columns.dtype)(numbers, rates, *steps, columns)
    return columns


def scalars_loop(optimizer: str, dtype: np.dtype[Any]) -> Function:
    """Return what fills a table with the scalars of an optimizer, in one dtype."""
    return _loop(RULES[optimizer], dtype)


@cache
def _loop(rule: Any, dtype: np.dtype[Any]) -> Function:
    kind = nb.from_dtype(dtype)
    signature = nb.void(
        *(nb.float64[:, ::1], nb.float64[:, ::1]),
        *(nb.intp, nb.intp, nb.intp, nb.intp),
        kind[:, :, ::1],
    )
    return kernel(named(f"scalars_{rule.__name__}", _fill_by(rule)), signature)


def _fill_by(rule: Any) -> Function:
    def fill(
        numbers: Floats,
        rates: Floats,
        t: int,
        n_steps: int,
        begun: int,
        average_begun: int,
        columns: npt.NDArray[Any],
    ) -> None:
        for step in range(len(columns)):
            now = t + step + 1
            share = 0.0
            if average_begun > 0:
                share = 1.0 / max(now - average_begun + 1, 1)
            for p in range(len(numbers)):
                h = numbers[p]
                lr = rates[step if len(rates) > 1 else 0, p]
                of_owner = Numbers(h[0], h[1], h[2], h[3], h[4], h[5])
                c = rule(lr, float(now - begun), of_owner)
                for k in range(len(c) - 1):
                    columns[step, p, k] = c[k]
                columns[step, p, len(c) - 1] = share

    return fill
