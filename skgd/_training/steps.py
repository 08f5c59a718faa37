"""What happens to a batch: forward, loss, backward, update, bound to their arrays.

Everything here is made once for a stack of models and replayed: a tape, see
``tape``. What is *shared* by the models changes shapes or control flow; what is
*per model* are numbers, one for each.
"""

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
from skgd._training.batches import Data
from skgd._training.first_layer import FirstLayer, bind_first_layer, updated_apart
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.scalars import Scalars, bind_scalars
from skgd._training.sources import Batch, Fetch, Gather, bind_batch, bind_batch_ahead
from skgd._training.target_scale import delta_on_scales


def _dropout(
    models: Models, dropout: float, n_rows: int, counts: Sequence[int] | None
) -> tuple[list[Tensor], list[Call]]:
    """Return the masks of the hidden layers, and the calls that draw them anew.

    They are drawn on the host, layer by layer, the same on every device, and for all
    models of a fold alike. What stays is scaled up, so that its mean does not change
    (Srivastava et al. 2014, section 10).
    """
    if not dropout:
        return [], []
    counts = counts or [n_rows] * len(models.generators)
    masks: list[Tensor] = []
    calls: list[Call] = []
    for w, _ in models.parameters.layers[:-1]:
        mask = w.new_ones(len(counts), w.shape[1], n_rows)
        masks.append(mask[0] if len(mask) == 1 else mask)
        for generator, one, count in zip(models.generators, mask, counts, strict=True):
            calls.append(partial(_draw, generator, dropout, one[:, :count]))
    return masks, calls


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


def bind_models(
    data: Data, models: Models, shared: Shared, per_model: PerModel, epoch_steps: int
) -> Bound:
    """Return what models are trained by, in epochs of so many steps.

    ``per_model`` are hyperparameters on the scales of the targets.
    """
    start = updated_apart(data.x, models)
    scalars = bind_scalars(models, shared, per_model, epoch_steps, start)
    gradients = new_like(models.parameters)
    first = bind_first_layer(data.x, models, gradients, scalars)
    update = _update(models, gradients, first, scalars)
    return Bound(data, models, shared, scalars, first, gradients, update)


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
        tape(models.average.flat.lerp_, parameters.flat, laid["share"])
    return tape


class Step(NamedTuple):
    """A training step for batches of one size, bound to its arrays."""

    fetch: Fetch  # see Batch
    n_ahead: int
    gathers: list[Gather]
    calls: Tape
    loss: Tensor  # (m, r), the mean loss of the batch before the step, in parts


def bind_step(
    bound: Bound, n_rows: int, counts: tuple[int, ...] | None = None, n_batches: int = 1
) -> Step:
    """Return the step for batches of ``n_rows``: forward, loss, backward, update.

    ``counts`` says how many of the rows count in each fold, None that all do, and
    ``n_batches`` how many such batches an epoch has.
    """
    data, models, shared = bound.data, bound.models, bound.shared
    layers, into = models.parameters.layers, bound.gradients.layers
    n_outputs, n_folds = layers[-1].w.shape[1], len(models.generators)
    activation = ACTIVATIONS[shared.activation](shared.negative_slope)
    batch = None
    if n_folds == 1:
        batch = bind_batch_ahead(data, n_outputs, n_rows, n_batches)
    batch = batch or bind_batch(data, n_outputs, n_rows, n_folds, counts)
    masks, draws = _dropout(models, shared.dropout, n_rows, counts)
    tape = Tape([*batch.finishes, *draws])
    z = bound.first.record_output(tape, batch)
    passed = forward(tape, layers, z, activation, masks)
    dz, loss = record_loss(tape, passed.z, batch, shared, data.scales)
    dz = backward(tape, dz, passed, layers, into, activation)
    bound.first.record_gradient(tape, batch, dz)
    tape += _clip(bound.gradients, shared.max_grad_norm)
    tape += bound.update
    return Step(batch.fetch, batch.n_ahead, batch.gathers, tape, loss)


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
    LOSSES[shared.loss](delta, shared.quantile).record(tape, z, y, values, of_fold)
    if loss.shape[1] > 1:
        tape(values.mul_, share)
        tape(torch.sum, value, 2, out=loss)
    elif y.ndim == 2:
        tape.product("mob,ob->m", value, share, out=mean)
    else:
        tape.product("fcob,fob->fc", values, batch.share, out=mean)
    tape(of_fold.mul_, share)
    return dz, loss
