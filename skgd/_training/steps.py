"""What happens to a batch: forward, loss, backward, update, bound to their arrays.

Everything here is made once for a stack of models and replayed: a tape, see
``tape``. What is *shared* by the models changes shapes or control flow; what is
*per model* are numbers, one for each.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.contraction import Call, contraction
from skgd._equations.losses import LOSSES
from skgd._equations.network import (
    Network,
    arrays,
    backward,
    by_fold,
    forward,
    new_like,
)
from skgd._equations.optimizers import PerModel, Vectors
from skgd._equations.tape import Tape
from skgd._machine.arrays import Floats
from skgd._training.batches import Data, batches_of
from skgd._training.first_layer import FirstLayer, bind_first_layer, updated_apart
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.scalars import Scalars, bind_scalars, rule_of_scalars
from skgd._training.sources import (
    Batch,
    Fetch,
    Gather,
    WideRows,
    bind_batch,
    bind_batch_ahead,
    source_of,
)
from skgd._training.strips import bind_strips, rows_of_a_strip
from skgd._training.target_scale import delta_on_scales


def _dropout(
    models: Models,
    dropout: float,
    n_rows: int,
    counts: Sequence[int] | None,
    size: int,
    width: int,
) -> tuple[list[Tensor], list[list[Call]]]:
    """Return the masks (fob) of the hidden layers, and the calls that draw them anew.

    They are drawn on the host, strip by strip of ``size`` rows, and for each layer by
    layer, the same on every device, and for all models of a fold alike. What stays is
    scaled up, so that its mean does not change (Srivastava et al. 2014, section 10).
    Strips have the masks in common where these are not as wide as the batch.
    """
    hidden = models.parameters.layers[:-1] if dropout else []
    counts = counts or [n_rows] * len(models.generators)
    masks = [w.new_ones(len(counts), w.shape[1], width) for w, _ in hidden]
    draws: list[list[Call]] = [[] for _ in range(0, n_rows, width)]
    for start in range(0, n_rows, size):
        at = start % width
        for mask in masks:
            for generator, one, count in zip(
                models.generators, mask, counts, strict=True
            ):
                some = one[:, at : at + min(size, max(0, count - start))]
                draws[start // width].append(partial(_draw, generator, dropout, some))
    return masks, draws


def _draw(generator: np.random.Generator, dropout: float, mask: Tensor) -> None:
    """Fill a mask with 0, at the rate of the dropout, and with 1 / (1 - dropout)."""
    stays = generator.random(mask.shape, np.float32) >= dropout
    mask.copy_(torch.from_numpy(stays)).mul_(1 / (1 - dropout))


def _clip(gradients: Network, max_norm: float | None) -> list[Call]:
    """Return the calls that shorten each model's gradient to a norm, where longer.

    As torch.nn.utils.clip_grad_norm_ does: the norm is that over all layers.
    """
    if max_norm is None:
        return []
    flat = gradients.flat
    n_models = len(gradients.layers[0].w)
    norm = flat.new_zeros(n_models)
    factor = torch.empty_like(norm)
    calls: list[Call] = [partial(norm.zero_)]
    for w, bias in gradients.layers:
        calls.append(contraction("moi,moi->m", w, w, out=norm, plus=norm))
        if bias is not None:
            calls.append(contraction("mo,mo->m", bias, bias, out=norm, plus=norm))
    calls += [
        partial(norm.sqrt_),
        partial(norm.add_, flat.new_full((1,), 1e-6)),
        partial(torch.div, flat.new_full((1,), float(max_norm)), norm, out=factor),
        partial(factor.clamp_, max=1.0),
    ]
    if n_models == 1:
        return [*calls, partial(flat.mul_, factor)]
    of_arrays = [
        partial(array.mul_, factor.view(-1, *[1] * (array.ndim - 1)))
        for array in arrays(gradients)
    ]
    return [*calls, *of_arrays]


class Bound(NamedTuple):
    """What a stack of models is trained on, and by."""

    data: Data
    models: Models
    shared: Shared
    scalars: Scalars
    first: FirstLayer
    gradients: Network  # what the backward pass fills
    update: Tape  # the optimizer's part of a step, and that of the average
    # With other ranks: the gradient, and two numbers that are 0 as long as none of them
    # wishes to end the training after the next step, and to keep how far it is.
    added_up: Tensor | None
    wishes: Tensor | None


def bind_models(
    data: Data,
    models: Models,
    shared: Shared,
    per_model: PerModel,
    epoch_steps: int,
    n_taken: int = 0,
) -> Bound:
    """Return what models are trained by, in epochs of so many steps.

    ``per_model`` are hyperparameters on the scales of the targets. Of the present
    epoch, ``n_taken`` steps are taken already.
    """
    start = updated_apart(data.x, models)
    rule = rule_of_scalars(models, shared, per_model, epoch_steps, n_taken)
    scalars = bind_scalars(rule, start)
    gradients, added_up, wishes = _gradients(data, models)
    first = bind_first_layer(data.x, models, gradients, scalars)
    update = _update(models, gradients, first, scalars)
    return Bound(
        data, models, shared, scalars, first, gradients, update, added_up, wishes
    )


def _gradients(
    data: Data, models: Models
) -> tuple[Network, Tensor | None, Tensor | None]:
    """Return what the backward pass fills; with other ranks, what is added up, too."""
    gradients = new_like(models.parameters)
    if data.shard is None or data.shard.ranks.size == 1:
        return gradients, None, None
    length = len(gradients.flat)
    added_up = gradients.flat.new_zeros(length + 2)
    gradients = Network(added_up[:length], gradients.layout)
    return gradients, added_up, added_up[length:]


def _update(
    models: Models, gradients: Network, first: FirstLayer, scalars: Scalars
) -> Tape:
    """Return the optimizer's calls on the flat vectors, and those of the average.

    What comes before the start of the scalars, the first layer updates.
    """
    parameters, start, laid = models.parameters, scalars.start, scalars.by_name
    vectors = Vectors(
        parameters.flat[start:],
        parameters.flat[start : parameters.n_weights],
        gradients.flat[start:],
        {name: state.flat[start:] for name, state in models.optimizer_state.items()},
    )
    tape = Tape()
    scalars.rule.optimizer.record(tape, vectors, laid)
    if models.average is not None:  # all weights count, so all are settled at each step
        tape.append(first.settle)
        share = laid["share"]
        if start > 0:  # there is one model, whose outputs have the same share
            share = scalars.over_units(scalars.first.shape[2])["share"][0, :1]
        tape(models.average.flat.lerp_, parameters.flat, share)
    return tape


class Step(NamedTuple):
    """A training step for batches of one size, bound to its arrays."""

    fetch: Fetch  # see Batch
    n_ahead: int
    gathers: list[Gather]
    calls: Tape
    loss: Tensor  # (m, r), the mean loss of the batch before the step, in parts


def bind_step(
    bound: Bound,
    n_rows: int,
    counts: tuple[int, ...] | None = None,
    n_in_all: int | None = None,
    n_batches: int = 1,
) -> Step:
    """Return the step for batches of ``n_rows``: forward, loss, backward, update.

    ``counts`` says how many of the rows count in each fold, None that all do, and
    ``n_batches`` how many such batches an epoch has. A batch that is larger than a
    cache is taken in strips of its rows, on a CPU. With rows of other ranks, it has
    ``n_in_all``, and perhaps none here.
    """
    models, shared, first = bound.models, bound.shared, bound.first
    if n_rows == 0:
        return _step_without_rows(bound)
    strips = _strips(bound, n_rows, counts, n_in_all, n_batches)
    width = strips[0].y.shape[-1]
    size = min(n_rows, _rows_of_a_strip(bound))
    masks, draws = _dropout(models, shared.dropout, n_rows, counts, size, width)
    passes: dict[int, _Pass] = {}
    recorded: list[tuple[Tape, Tensor]] = []
    for strip, draw in zip(strips, draws, strict=True):
        n = strip.y.shape[-1]
        if n not in passes:
            passes[n] = _bind_pass(bound, strip, [mask[..., :n] for mask in masks])
        layers = passes[n]
        tape = Tape([*strip.finishes, *draw])
        first.record_output(tape, strip, out=layers.z)
        tape += layers.calls
        first.record_gradient(tape, strip, layers.dz)
        recorded.append((tape, layers.loss))
    tape, loss = _added_up(recorded, bound.gradients.flat)
    tape += _descent(bound)
    gathers = [gather for strip in strips for gather in strip.gathers]
    return Step(strips[0].fetch, strips[0].n_ahead, gathers, tape, loss)


def _step_without_rows(bound: Bound) -> Step:
    """Return the step for a batch whose rows are all on other ranks."""
    flat, n_models = bound.gradients.flat, len(bound.gradients.layers[0].w)
    tape = Tape([flat.zero_, *_descent(bound)])
    loss = flat.new_zeros(n_models, n_parts(bound.data.scales))
    return Step(partial(batches_of, size=0), 1, [], tape, loss)


def _descent(bound: Bound) -> list[Call]:
    """Return the calls that make a step of the gradient, or the ranks' sum of it."""
    shard, added_up = bound.data.shard, bound.added_up
    calls: list[Call] = []
    if shard is not None and added_up is not None:
        calls.append(partial(shard.ranks.sum_, added_up))
    calls += _clip(bound.gradients, bound.shared.max_grad_norm)
    return [*calls, *bound.update]


def _strips(
    bound: Bound,
    n_rows: int,
    counts: tuple[int, ...] | None,
    n_in_all: int | None,
    n_batches: int,
) -> list[Batch]:
    """Return the strips of a batch, or the batch itself, if it is not cut."""
    data, n_folds = bound.data, len(bound.models.generators)
    n_outputs = bound.models.parameters.layers[-1].w.shape[1]
    size = _rows_of_a_strip(bound)
    if n_rows > size and _strips_pay(data.y.device):
        return bind_strips(data, n_outputs, n_rows, size, n_folds, counts, n_in_all)
    batch = None
    if n_folds == 1:
        batch = bind_batch_ahead(data, n_outputs, n_rows, n_batches, n_in_all)
    if batch is None:
        batch = bind_batch(data, n_outputs, n_rows, n_folds, counts, n_in_all=n_in_all)
    return [batch]


class _Pass(NamedTuple):
    """Forward and backward pass, but for the products of X."""

    z: Tensor  # (mob), the first layer's output, which is read
    calls: Tape
    dz: Tensor  # (mob), its gradient
    loss: Tensor  # (m, r), of the rows, as they count in the batch


def _bind_pass(bound: Bound, batch: Batch, masks: Sequence[Tensor]) -> _Pass:
    """Return the passes through the layers, bound to arrays of so many rows."""
    shared, layers = bound.shared, bound.models.parameters.layers
    activation = ACTIVATIONS[shared.activation](shared.negative_slope)
    masks = [mask[0] if len(mask) == 1 else mask for mask in masks]
    w, calls = layers[0].w, Tape()
    z = w.new_empty(*w.shape[:2], batch.y.shape[-1])
    passed = forward(calls, layers, z, activation, masks)
    dz, loss = record_loss(calls, passed.z, batch, shared, bound.data.scales)
    dz = backward(calls, dz, passed, layers, bound.gradients.layers, activation)
    return _Pass(z, calls, dz, loss)


def _added_up(
    strips: Sequence[tuple[Tape, Tensor]], gradient: Tensor
) -> tuple[Tape, Tensor]:
    """Return the calls of all strips, after which gradient and loss are their sums."""
    if len(strips) == 1:
        return strips[0]
    total, loss = torch.zeros_like(gradient), torch.zeros_like(strips[0][1])
    tape = Tape([total.zero_, loss.zero_])
    for calls, loss_of_strip in strips:
        tape += calls
        tape(total.add_, gradient)
        tape(loss.add_, loss_of_strip)
    tape(gradient.copy_, total)
    return tape, loss


def _strips_pay(device: torch.device) -> bool:
    """Return whether strips pay: on CUDA they would only be more launches."""
    return device.type == "cpu"


def _rows_of_a_strip(bound: Bound) -> int:
    """Return into strips of how many rows batches are cut; wide sparse rows are not."""
    if isinstance(source_of(bound.data.x), WideRows):
        return sys.maxsize
    layers = bound.models.parameters.layers
    units = [w.shape[1] for w, _ in layers]
    return rows_of_a_strip(layers[0].w.shape[2], units)


def n_parts(scales: Floats | None) -> int:
    """Return in how many parts r losses are told: one, or one for each target.

    Losses of targets of several scales are not one sum in the units of y.
    """
    return 1 if scales is None else scales.shape[1]


def record_loss(
    tape: Tape, z: Tensor, batch: Batch, shared: Shared, scales: Floats | None
) -> tuple[Tensor, Tensor]:
    """Record the loss, and return its gradient in z, and each model's mean, (m, r).

    The gradient is that of the mean over the batch, which is taken here, once.
    """
    value, dz = torch.empty_like(z), torch.empty_like(z)
    loss = z.new_empty(len(z), n_parts(scales))
    y, share, of_fold, values, mean = batch.y, batch.share, dz, value, loss[:, 0]
    delta = delta_on_scales(shared.delta, scales, z)  # (fo1), if there are scales
    if y.ndim == 3:  # the targets of a fold are those of all its models
        z, values, of_fold, mean = (
            by_fold(array, len(y)) for array in (z, value, dz, mean)
        )
        y, share = y.unsqueeze(1), share.unsqueeze(1)
        delta = delta.unsqueeze(1) if isinstance(delta, Tensor) else delta
    elif isinstance(delta, Tensor):
        delta = delta[0]
    entry = LOSSES[shared.loss](delta, shared.quantile, shared.power)
    entry.record(tape, z, y, values, of_fold)
    if loss.shape[1] > 1:
        tape(values.mul_, share)
        tape(torch.sum, value, 2, out=loss)
    elif y.ndim == 2:
        tape.product("mob,ob->m", value, share, out=mean)
    else:
        tape.product("fcob,fob->fc", values, batch.share, out=mean)
    tape(of_fold.mul_, share)
    return dz, loss
