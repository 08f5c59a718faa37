"""Steps by loops that numba compiles, of one model on a CPU.

This room alone knows both sides: the tensors of the engine, and the arrays of
``_compiled``, which lie in the same memory. It is asked only where numba can be
imported, see ``engines``, and imports it when it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from skgd._equations.losses import Quantile
from skgd._equations.network import Layout, segments
from skgd._equations.optimizers import OPTIMIZERS, PerModel, elastic_net
from skgd._machine.arrays import Array, Floats, Indices
from skgd._machine.threads import one_thread_of_blas
from skgd._training.batches import Data
from skgd._training.csr import Csr
from skgd._training.engines import multiply_adds_of_row
from skgd._training.hyperparameters import Shared
from skgd._training.objective import bind_penalties
from skgd._training.progress import Keeping, Point, steps_in
from skgd._training.scalars import rule_of_scalars
from skgd._training.steps import n_parts
from skgd._training.takers import Ahead, Taken, Taker

if TYPE_CHECKING:
    from skgd._compiled import problem
    from skgd._compiled.problem import Problem

# Steps are taken for about so long before anyone is heard, in seconds, if each takes so
# much, and as much again for every number that it computes with. Those that are well
# cached take a tenth. A unit's activation and its derivative take as long as so many.
_AT_ONCE_S, _STEP_S, _NUMBER_S, _NUMBERS_OF_UNIT = 0.05, 2e-6, 2e-9, 20

# To judge an epoch takes this, and to draw a few rows; and the epochs that are taken at
# once have so many rows at the most, which are drawn in some milliseconds.
_EPOCH_S, ROWS_AT_ONCE = 2e-5, 2**17


def bind_compiled(ahead: Ahead) -> Taker:
    """Return the taker of the steps of some epochs at once, of one model, by a loop."""
    from skgd._compiled.jit import announced
    from skgd._compiled.loops import bind
    from skgd._compiled.scalars import Steps, scalars_loop, table

    data, models, shared, per_model, on_scale, sizes, *_ = ahead
    watch, of_epoch = ahead.watch, (ahead.epoch_steps, ahead.n_taken)
    rule = rule_of_scalars(models, shared, per_model, *of_epoch)
    parts = n_parts(data.scales)
    penalties = bind_penalties(on_scale, parts)
    average_begun = 0 if models.average is None else rule.average_begun
    optimizer, numbers = rule.name, _numbers(rule.per_model)
    dtype = models.parameters.flat.numpy().dtype
    with announced(_say_so) if shared.verbose else nullcontext():
        loop = bind(_problem(ahead, optimizer))
        scalars_loop(optimizer, dtype)
    size, n_rows, steps_at_once = sizes[0], sum(sizes), _steps_at_once(ahead)
    epoch_s = _EPOCH_S + len(sizes) * _AT_ONCE_S / steps_at_once
    epochs_at_once = min(int(_AT_ONCE_S / epoch_s), ROWS_AT_ONCE // n_rows)

    def take(
        rows_of_epochs: Sequence[Indices],
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> Taken:
        n_epochs = len(rows_of_epochs)
        rows = rows_of_epochs[0] if n_epochs == 1 else np.concatenate(rows_of_epochs)
        losses = np.empty((n_epochs * len(sizes), 1, parts), dtype)
        norms = np.empty((n_epochs, penalties.n_owners, 2), dtype)
        wanted, t, ended = norms if penalties.any else norms[:0], models.t, ""
        if point is not None:
            losses[: steps_in(point)] = point.losses
            models.t += steps_in(point)
            wanted = norms[:0]
            loop.owe(point.debts)

        def of_start() -> Floats:
            return penalties.of_norms(norms) if point is None else point.penalties

        at_once = steps_at_once if n_epochs == 1 else len(losses)
        for first in range(models.t - t, len(losses), at_once):
            some = losses[first : first + at_once]
            rates = rule.rates_of_steps(models.t, len(some))
            steps = Steps(models.t, len(some), models.optimizer_begun, average_begun)
            scalars = table(optimizer, numbers, rates, steps, dtype)
            of_steps = rows[first * size : (first + at_once) * size]
            with one_thread_of_blas() if loop.wakes_threads else nullcontext():
                loop.take(of_steps, n_rows, scalars, some[:, 0], wanted)
            wanted = norms[:0]  # they are those at the start
            models.t += len(some)
            if watch is not None:
                ended = watch.after_step(models, torch.from_numpy(some[-1]))
            if keeping is not None and keeping.is_due(ended):
                keeping.keep(Point(losses[: models.t - t], of_start(), loop.debts()))
            if ended:
                break
        loop.settle()
        return Taken(losses[: models.t - t], of_start(), ended)

    return Taker(take, max(1, epochs_at_once))


def _say_so() -> None:
    print(
        "numba compiles loops for this fit: some seconds, once. It keeps them on disk."
    )


def _steps_at_once(ahead: Ahead) -> int:
    """Return how many steps are taken before anyone is heard, one at the least."""
    return max(1, int(_AT_ONCE_S / seconds_of_step(ahead)))


def seconds_of_step(ahead: Ahead) -> float:
    """Return what a step of one model takes at the most, about."""
    layout = ahead.models.parameters.layout.alone
    _, *hidden, _ = layout.sizes
    of_a_row = multiply_adds_of_row(ahead.data, layout)
    of_a_row += _NUMBERS_OF_UNIT * sum(hidden)
    numbers = ahead.sizes[0] * of_a_row
    touches_few = layout.columns_first and not hidden
    if not touches_few or ahead.models.average is not None:
        numbers += segments(layout).length
    return _STEP_S + _NUMBER_S * numbers


def _numbers(per_model: PerModel) -> Floats:
    """Return what the scalars of each owner follow from, (p, 6)."""
    names = ("momentum", "beta_1", "beta_2", "epsilon")
    rows = [*map(per_model.__getitem__, names), *elastic_net(per_model)]
    return np.ascontiguousarray(np.array(rows).T)


def _problem(ahead: Ahead, optimizer: str) -> Problem:
    """Return what a loop reads and writes, in the memory of the tensors."""
    from skgd._compiled.problem import Problem

    data, models, shared, *_ = ahead
    network, flat = models.parameters, models.parameters.flat.numpy()
    sizes, n_weights = network.layout.sizes, network.n_weights
    weights_at, biases_at = _places(network.layout)
    return Problem(
        x=_rows(data.x),
        y=_targets(data.y),
        weight=None if data.weight is None else data.weight[0].contiguous().numpy(),
        sizes=sizes,
        flat=flat,
        n_weights=n_weights,
        weights_at=weights_at,
        biases_at=biases_at,
        columns_first=network.layout.columns_first,
        state=tuple(
            [
                models.optimizer_state[name].flat.numpy()
                for name in OPTIMIZERS[optimizer].state_names
            ]
        ),
        average=None if models.average is None else models.average.flat.numpy(),
        loss=shared.loss,
        activation=shared.activation,
        optimizer=optimizer,
        negative_slope=shared.negative_slope,
        loss_number=_loss_numbers(data, shared, sizes[-1]).astype(flat.dtype),
        max_grad_norm=shared.max_grad_norm,
        batch_size=ahead.sizes[0],
        n_parts=n_parts(data.scales),
    )


def _loss_numbers(data: Data, shared: Shared, n_outputs: int) -> Floats:
    """Return the number that the loss of each output reads, (o,)."""
    numbers: float | Floats | Quantile = shared.delta
    if shared.loss == "quantile":
        numbers = shared.quantile
    elif shared.loss == "tweedie":
        numbers = shared.power
    elif data.scales is not None:
        [numbers] = shared.delta / data.scales
    return np.full(n_outputs, numbers, float)


def _targets(y: Tensor) -> Array:
    """Return targets (o, n), each in a row; of several quantiles it is the same row."""
    rows: Array = (y if y.stride(1) == 1 else y.contiguous()).numpy()
    return rows


@lru_cache(maxsize=256)
def _places(layout: Layout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where the weights of each layer begin in the vector, and its biases."""
    weights, biases, *_ = segments(layout)
    weights_at = tuple(segment.start for segment in weights)
    return weights_at, tuple(segment.start for segment in biases)


def _rows(x: Tensor | Csr) -> Array | problem.Csr:
    """Return rows as an array, or as the arrays of a sparse matrix."""
    if isinstance(x, Tensor):
        rows: Array = x.numpy()
        return rows
    from skgd._compiled import problem

    return problem.Csr(x.values.numpy(), x.columns.numpy(), x.starts)
