"""What happens to a batch: forward, loss, backward, update, bound to their arrays.

Everything here is made once for a stack of models and replayed: lists of calls, see
``contraction``. What is *shared* by the models changes shapes or control flow; what is
*per model* are numbers, one for each.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
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
    first_segment,
    forward,
    new_like,
)
from skgd._equations.optimizers import (
    OPTIMIZERS,
    Optimizer,
    PerModel,
    ScalarsOfSteps,
    Vectors,
    variant,
)
from skgd._equations.schedules import LAID_OUT, Schedule, learning_rates
from skgd._equations.tape import Tape
from skgd._machine.arrays import Floats
from skgd._machine.devices import numbers_like
from skgd._training.batches import (
    Data,
)
from skgd._training.csr import Csr, is_wide
from skgd._training.first_layer import WideLayer, WideUnit
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.sources import Batch, Fetch, Gather, bind_batch, bind_batch_ahead
from skgd._training.target_scale import by_output, delta_on_scales


def schedule_of(shared: Shared, models: Models, epoch_steps: int) -> Schedule:
    """Return how the learning rate changes, given the number of steps of an epoch."""
    epochs = models.epochs
    if shared.lr_schedule in LAID_OUT:
        epochs -= models.schedule_begun
    return Schedule(
        kind=shared.lr_schedule,
        power_t=shared.power_t,
        decay=shared.decay,
        decay_every=shared.decay_every,
        warmup_steps=shared.warmup_steps,
        epoch_steps=epoch_steps,
        place_offset=epochs * epoch_steps - models.t,
        total_steps=shared.horizon * epoch_steps,
    )


class Update(NamedTuple):
    """The optimizer's part of a step, and the numbers that it reads at each step."""

    calls: list[Call]
    numbers: Callable[[int, int], ScalarsOfSteps]  # of so many steps after t
    begin: Callable[[int, int], Sequence[Tensor | None]]  # so many steps after t: their
    # numbers, (numbers, m), or None where these are as they were
    lay: Callable[[Tensor], object]  # spreads numbers over the flat vector
    wide: WideLayer | WideUnit | None  # a first layer that is updated apart
    numbers_of_wide: dict[str, Tensor]
    averaging: list[Call]  # what follows the update, where weights are averaged
    gradients: Network  # what the backward pass fills


def bind_update(
    models: Models,
    shared: Shared,
    per_model: PerModel,
    schedule: Schedule,
    x: Tensor | Csr,
) -> Update:
    """Return the optimizer's calls, bound to the flat vectors of all models.

    If x is wide and sparse, the first layer is updated apart, and the others here.
    """
    optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    parameters = models.parameters
    per_model = by_output(per_model)
    n_owners = len(per_model["lr"])  # of numbers: models, or each of their outputs
    start = first_segment(parameters) if is_wide(x) else 0
    flat = parameters.flat[start:]

    numbers = _numbers_of_steps(models, optimizer, shared, per_model, schedule)

    def table(numbers: ScalarsOfSteps) -> Tensor:
        """Return them as one tensor, (steps, numbers, m); one step if all are alike."""
        rows = list(numbers.values())
        stacked = np.empty((max(map(len, rows)), len(rows), n_owners))
        for n, row in enumerate(rows):
            stacked[:, n] = row
        return numbers_like(stacked, flat)

    given = callable(schedule.kind)  # it may fail at steps that are never taken
    first_numbers = numbers(models.t, 1 if given else 2)
    names, first = list(first_numbers), table(first_numbers)
    laid = flat.new_ones(len(names), 1 if n_owners == 1 else len(flat))
    places = [laid.unsqueeze(2)]  # of the owners, (numbers, owners, elements)
    if n_owners > 1:
        places = [
            laid[:, at : at + array.numel()].view(len(names), n_owners, -1)
            for array in arrays(parameters)
            if (at := int(array.storage_offset()) - start) >= 0
        ]
    constant = not given and len(first) == 1

    wide: WideLayer | WideUnit | None = None
    numbers_of_wide: dict[str, Tensor] = {}
    if isinstance(x, Csr) and start:
        owner_of_wide = _owner_of_units(parameters.layers[0].w, n_owners)
        laid_wide = flat.new_empty(len(names), len(owner_of_wide))
        numbers_of_wide = {
            name: row[None]
            for name, row in zip(names, laid_wide, strict=True)
            if optimizer.state_names or name not in ("shrink", "threshold")
        }
        with_lasso = "threshold" in names
        wide = _bind_wide(x, models, optimizer, n_owners, with_lasso=with_lasso)

    def lay(numbers: Tensor) -> None:
        for place in places:
            place.copy_(numbers.unsqueeze(2))
        if wide is not None:
            torch.index_select(numbers, 1, owner_of_wide, out=laid_wide)

    def begin(t: int, n_steps: int) -> Sequence[Tensor | None]:
        if wide is not None and not optimizer.state_names:
            wide.owe(*_owed(numbers(t, n_steps), n_steps, n_owners))
        if not constant:
            return table(numbers(t, n_steps)).unbind()
        changed = table(numbers(t, 1))[0] if shared.adaptive else None
        return [changed, *[None] * (n_steps - 1)]

    lay(first[0])
    kept = {
        name: network.flat[start:] for name, network in models.optimizer_state.items()
    }
    weights = parameters.flat[start : parameters.n_weights]
    gradients = new_like(parameters)
    vectors = Vectors(flat, weights, gradients.flat[start:], kept)
    number = dict(zip(names, laid, strict=True))
    calls = Tape()
    optimizer.record(calls, vectors, number)
    averaging: list[Call] = []
    if models.average is not None:
        if wide is not None:  # all weights count, so all are settled at each step
            averaging.append(wide.settle)
        average = models.average.flat
        averaging.append(partial(average.lerp_, parameters.flat, number["share"]))
    return Update(
        calls, numbers, begin, lay, wide, numbers_of_wide, averaging, gradients
    )


def _numbers_of_steps(
    models: Models,
    optimizer: Optimizer,
    shared: Shared,
    per_model: PerModel,
    schedule: Schedule,
) -> Callable[[int, int], ScalarsOfSteps]:
    """Return the function that gives the numbers of so many steps after t."""

    def numbers(t: int, n_steps: int) -> ScalarsOfSteps:
        steps = np.arange(n_steps) + t + 1
        lr = learning_rates(schedule, per_model, steps)
        if models.slowed is not None:
            lr = lr * np.repeat(models.slowed, lr.shape[1] // len(models.slowed))
        numbers = optimizer.scalars(per_model, lr, steps - models.optimizer_begun)
        if models.average is not None:
            first = max(shared.average, models.average_begun + 1)
            numbers["share"] = _share_of_average(steps, first)
        return numbers

    return numbers


def _owner_of_units(w: Tensor, n_owners: int) -> Tensor:
    """Return whose numbers each unit of a layer has, all models' units as one axis."""
    n_units = w[:, :, 0].numel()
    owner = torch.arange(n_owners, device=w.device)
    return owner if n_owners == 1 else owner.repeat_interleave(n_units // n_owners)


def _owed(
    numbers: ScalarsOfSteps, n_steps: int, n_owners: int
) -> tuple[Floats | None, Floats | None]:
    """Return shrink factors and thresholds of all steps, (steps, owners), if any."""
    shape = (n_steps, n_owners)
    shrink, threshold = numbers.get("shrink"), numbers.get("threshold")
    return (
        None if shrink is None else np.broadcast_to(shrink, shape),
        None if threshold is None else np.broadcast_to(threshold, shape),
    )


def _bind_wide(
    x: Csr, models: Models, optimizer: Optimizer, n_owners: int, *, with_lasso: bool
) -> WideLayer | WideUnit:
    """Return the first layer, to train on wide sparse rows.

    Where each output has its own numbers, it is a model to the layer.
    """
    w = models.parameters.layers[0].w
    if w[:, :, 0].numel() == 1 and not optimizer.state_names and not with_lasso:
        return WideUnit(x, w)

    def bind(
        w: Tensor,
        gradient: Tensor,
        kept: Mapping[str, Tensor],
        number: Mapping[str, Tensor],
    ) -> Sequence[Call]:
        tape = Tape()
        optimizer.record(tape, Vectors(w, w, gradient, kept), number)
        return tape

    kept = {
        name: network.layers[0].w for name, network in models.optimizer_state.items()
    }
    if n_owners > len(w):
        w = w.flatten(0, 1).unsqueeze(1)
        kept = {name: one.flatten(0, 1).unsqueeze(1) for name, one in kept.items()}
    return WideLayer(x, w, kept, bind)


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


def _share_of_average(steps: npt.NDArray[np.int64], start: int) -> Floats:
    """Return what each step's weights count in their mean since a step, (steps, 1)."""
    return 1.0 / np.maximum(steps - start + 1, 1)[:, np.newaxis]


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


class Job(NamedTuple):
    """What a stack of models is trained on, and by."""

    data: Data
    models: Models
    shared: Shared
    per_model: PerModel  # on the scales of the targets
    update: Update


class Step(NamedTuple):
    """A training step for batches of one size, bound to its arrays."""

    fetch: Fetch  # see Batch
    n_ahead: int
    gathers: list[Gather]
    calls: Tape
    loss: Tensor  # (m, r), the mean loss of the batch before the step, in parts


def bind_step(
    job: Job, n_rows: int, counts: tuple[int, ...] | None = None, n_batches: int = 1
) -> Step:
    """Return the step for batches of ``n_rows``: forward, loss, backward, update.

    ``counts`` says how many of the rows count in each fold, None that all do, and
    ``n_batches`` how many such batches an epoch has.
    """
    data, models, shared, update = job.data, job.models, job.shared, job.update
    layers = models.parameters.layers
    n_models, n_outputs, _ = layers[-1].w.shape
    n_folds = len(models.generators)
    activation = ACTIVATIONS[shared.activation](shared.negative_slope)

    ahead = (
        bind_batch_ahead(data, n_outputs, n_rows, n_batches) if n_folds == 1 else None
    )
    batch = ahead or bind_batch(data, n_outputs, n_rows, n_folds, counts)
    masks, before = _dropout(models, shared.dropout, n_rows, counts)
    z_first = None
    if update.wide is not None:
        if n_folds > 1 or (n_models > 1 and update.averaging):
            msg = (
                "Models that are averaged, or have rows of their own, must be trained "
                f"one by one on wide sparse rows. Got {n_models} of them."
            )
            raise ValueError(msg)
        z_first = data.y.new_empty(n_models, layers[0].w.shape[1], n_rows)
        before.append(partial(update.wide.forward, z_first))
        if layers[0].bias is not None:
            before.append(partial(z_first.add_, layers[0].bias.unsqueeze(2)))
    tape, gradients = Tape([*batch.calls, *before]), update.gradients
    passed = forward(tape, layers, batch.x, activation, masks, z_first)
    dz, loss = record_loss(tape, passed.z, batch, shared, data.scales)
    dz = backward(tape, dz, passed, layers, gradients.layers, activation)
    tape += _clip(gradients, shared.max_grad_norm)
    tape += update.calls
    if update.wide is not None:
        tape.append(partial(update.wide.update, dz, update.numbers_of_wide))
    tape += update.averaging
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
