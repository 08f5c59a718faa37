"""Composed steps: many steps of linear least squares at once, by a few products.

A step of plain descent on the squared error is an affine map of a linear model's
parameters, so thousands of steps can be put together before any of them is taken. Where
batches are so small that the calls of a step cost more than its arithmetic, that is
many times as fast. It is the same training: the parameters after the steps, and the
loss of every batch before its step, differ by rounding only. (That of float32 is 6e-8
of where a block of steps began, so much that a start far from the minimum shows.)

The parameters of an output are a row ``w = [weights, bias, unit vector of the output]``
and a sample is a row ``z = [x, 1, -y]``, so that ``w . z`` is its residual. A step on a
batch with the rows z (b, i) is

    w  <-  w + w e,    e_ij = -lr s_j sum_b( share_b z_bi z_bj ) + (s_j - 1) d_ij,

where share is what a row counts in the mean over the batch, s_j what the penalty leaves
of a weight, d_ij the identity, and e_ij is zero for parameters j that are not learned.
Two steps in a row are one: w (I + e_1) (I + e_2) = w (I + e_1 + e_2 + e_1 e_2). So all
pairs of steps are put together, then pairs of pairs, until one is left; and from the
parameters at the start of each pair follow those between its two steps. What is kept is
how far a map leads from where it began, which rounding spares where steps are short.

The losses come from residuals, not from the sums above, in which a small one would be
lost to cancellation.

Dimension key: t steps, b rows of a batch, i and j (and k) the parameters of an output,
with zeros behind, for products are faster at multiples of four; o outputs.

References
----------
Composition in pairs: Blelloch (1990), "Prefix sums and their applications".
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from skgd._equations.contraction import Call, contraction
from skgd._equations.optimizers import ScalarsOfSteps, elastic_net
from skgd._machine.devices import numbers_like
from skgd._training.batches import Data
from skgd._training.blocks import Block, StepsAhead, Watch
from skgd._training.models import Models
from skgd._training.sources import source_of
from skgd._training.steps import Bound

# Numbers in all arrays of a block of steps, which a fit may have for them.
_NUMBERS_OF_A_BLOCK = 2**20

# Products are faster where sizes are multiples of this.
_ALIGNMENT = 4

# Measured on a CPU, in microseconds: the calls of a step, and those of a block. And the
# multiply-adds of a microsecond, in float32; to compose a map takes those of 75 rows.
_STEP_US, _BLOCK_US, _MULTIPLY_ADDS_A_US, _ROWS_OF_COMPOSING = 12.5, 500.0, 25_000, 75


# Takes the steps of a block, given their rows and scalars, and where to write losses.
_Take = Callable[[Tensor, ScalarsOfSteps, Tensor], None]


def composed(steps: StepsAhead) -> list[Block]:
    """Return blocks of the first steps that are alike, if composing them pays.

    One model is trained, by plain descent without L1, on a CPU, whose times are known.
    """
    if not _is_affine(steps):
        return []
    w, bias = steps.bound.models.parameters.layers[0]
    size = steps.sizes[0]
    n_steps = steps.sizes.count(size)
    used = w.shape[2] + (bias is not None) + w.shape[1]
    n_parameters = -(-used // _ALIGNMENT) * _ALIGNMENT
    n_blocks = _n_blocks(n_steps, size, n_parameters)
    length = n_steps // n_blocks  # what is left over is taken step by step
    if not _pays(length, size, n_parameters, w.element_size()):
        return []
    take = _bind_block(steps.bound.data, steps.bound.models, length, size, n_parameters)
    run = partial(_run, steps.bound, take, steps.watch)
    return [Block(length, length * size, run)] * n_blocks


def _is_affine(steps: StepsAhead) -> bool:
    """Return whether steps are affine maps of the parameters, and there are several."""
    data, models, shared, scalars, *_ = steps.bound
    source = source_of(data.x)
    return (
        shared.loss == "squared_error"
        and len(models.parameters.layers) == 1
        and len(models.parameters.layers[0].w) == 1
        and shared.optimizer == "sgd"
        and not models.optimizer_state  # no momentum
        and shared.max_grad_norm is None
        and not elastic_net(scalars.rule.per_model)[1].any()  # no L1
        and models.average is None
        and source.whole is not None
        and source.device.type == "cpu"
        and not (steps.watch and steps.watch.wants_steps)
        and steps.sizes.count(steps.sizes[0]) > 1
    )


def _run(
    bound: Bound, take: _Take, watch: Watch | None, rows: Tensor, losses: Tensor
) -> str:
    """Take the steps of a block as one, write their losses, and say who ended it."""
    models, n_steps = bound.models, len(losses)
    take(rows, bound.scalars.of_steps(models.t, n_steps), losses[:, 0])  # (steps, r)
    models.t += n_steps
    return "" if watch is None else watch.after_step(models, losses[-1])


def _n_blocks(n_steps: int, n_rows: int, n_parameters: int) -> int:
    """Return the number of blocks of an epoch, so that the arrays of one stay small."""
    numbers_of_a_step = 2 * n_parameters**2 + 2 * n_rows * n_parameters
    return -(-n_steps // max(1, _NUMBERS_OF_A_BLOCK // numbers_of_a_step))


def _pays(n_steps: int, n_rows: int, n_parameters: int, element_size: int) -> bool:
    """Return whether the steps of a block take longer one by one.

    What both spend on each row is left out.
    """
    rows = n_rows + _ROWS_OF_COMPOSING
    of_a_step = rows * n_parameters**2 * (element_size / 4) / _MULTIPLY_ADDS_A_US
    return _BLOCK_US + n_steps * of_a_step < n_steps * _STEP_US


def _bind_block(
    data: Data, models: Models, n_steps: int, n_rows: int, n_parameters: int
) -> _Take:
    """Return the function that takes so many steps on batches of ``n_rows``."""
    all_x, all_y, weight = source_of(data.x).whole, data.y, data.weight
    assert all_x is not None
    [weights], biases = models.parameters.layers[0]
    n_outputs, n_features = weights.shape
    learned = n_features + (biases is not None)
    z = all_y.new_zeros(n_steps, n_rows, n_parameters)
    x, minus_y = z[..., :n_features], z[..., learned : learned + n_outputs]
    w = all_y.new_zeros(n_outputs, n_parameters)
    units = w[:, learned : learned + n_outputs]
    if biases is not None:
        z[..., n_features] = 1
    weight_of_rows, weighted = None, z
    if weight is not None:
        weight_of_rows = z.new_empty(n_steps, n_rows, 1)
        weighted = torch.empty_like(z)
    e = z.new_empty(n_steps, n_parameters, n_parameters)
    starts = z.new_empty(n_steps, n_outputs, n_parameters)
    residuals = z.new_empty(n_steps, n_outputs, n_rows)
    sums = contraction("tbi,tbj->tij", weighted, z, out=e)
    if n_rows == 1:  # many outer products: faster as one array
        sums = partial(torch.mul, weighted.mT, z, out=e)
    scan = _in_pairs(e, w, starts)
    predict = contraction("toi,tbi->tob", starts, z, out=residuals)

    def gather(rows: Tensor) -> None:
        """Fill z with the rows of all batches, and weigh them."""
        torch.index_select(all_x, 0, rows, out=x.view(-1, n_features))
        minus_y.copy_(all_y.index_select(1, rows).T.view(minus_y.shape)).neg_()
        if weight is not None and weight_of_rows is not None:
            torch.index_select(weight[0], 0, rows, out=weight_of_rows.view(-1))
            torch.mul(z, weight_of_rows, out=weighted)

    def take(rows: Tensor, scalars: ScalarsOfSteps, losses: Tensor) -> None:
        gather(rows)
        sums()
        pace, shrink = _over_parameters(scalars, learned, n_features, n_parameters)
        e.mul_(numbers_like(-pace / n_rows, e).unsqueeze(1))
        e.diagonal(dim1=1, dim2=2).add_(numbers_like(shrink - 1, e))
        w.zero_()[:, :n_features].copy_(weights)
        units.fill_diagonal_(1)
        if biases is not None:
            w[:, n_features].copy_(biases[0])
        for call in scan:
            call()
        weights.copy_(w[:, :n_features])
        if biases is not None:
            biases[0].copy_(w[:, n_features])
        predict()
        residuals.square_()
        if weight_of_rows is not None:
            residuals.mul_(weight_of_rows.mT)
        over = (1, 2) if losses.shape[1] == 1 else (2,)
        torch.sum(residuals, over, out=losses.squeeze(1)).mul_(1 / (2 * n_rows))

    return take


def _over_parameters(
    scalars: ScalarsOfSteps, learned: int, n_features: int, n_parameters: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return lr s and s of each parameter, (t, j), or (1, j) if all steps are alike."""
    lr = scalars["lr"]
    pace, shrink = np.zeros((len(lr), n_parameters)), np.ones((len(lr), n_parameters))
    shrink[:, :n_features] = scalars.get("shrink", 1.0)
    pace[:, :learned] = lr
    return pace * shrink, shrink


def _in_pairs(e: Tensor, w: Tensor, starts: Tensor) -> list[Call]:
    """Return the calls that bring w, (o, i), through the maps e, (t, i, j), in order.

    They write the parameters at the start of each step, (t, o, i). Maps are taken in
    pairs, and one that is left over alone, at the end.
    """
    n = len(e) - len(e) % 2
    calls: list[Call] = []
    if n:
        first, second, both = e[:n:2], e[1:n:2], e.new_empty(n // 2, *e.shape[1:])
        begun, between = starts[:n:2], starts[1:n:2]
        of_pairs = starts.new_empty(n // 2, *starts.shape[1:])
        calls += [
            contraction("tij,tjk->tik", first, second, out=both, plus=second),
            partial(both.add_, first),
            *_in_pairs(both, w, of_pairs),
            partial(begun.copy_, of_pairs),
            contraction("toi,tij->toj", of_pairs, first, out=between, plus=of_pairs),
        ]
    if n < len(e):
        last = starts[n]
        calls.append(partial(last.copy_, w))
        calls.append(contraction("oi,ij->oj", last, e[n], out=w, plus=w))
    return calls
