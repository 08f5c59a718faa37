"""What losses come to over all rows: means, penalties, objectives, in the units of y.

Dimension key: m models, f folds, r parts of a loss (see ``steps.n_parts``).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.contraction import Call, contraction
from skgd._equations.losses import loss_named
from skgd._equations.network import Network, by_fold, forward
from skgd._equations.optimizers import PerModel, elastic_net
from skgd._equations.tape import Tape
from skgd._machine.arrays import Floats
from skgd._machine.devices import numbers_like
from skgd._training.batches import (
    Data,
    all_rows,
    batch_sizes,
    batches_of,
    counts_in_batches,
    weights_in_all,
)
from skgd._training.first_layer import bind_first_output
from skgd._training.hyperparameters import Shared
from skgd._training.sources import Gather, bind_batch
from skgd._training.steps import n_parts, record_loss
from skgd._training.target_scale import by_output, on_scales, units_of

# Held-out rows whose loss is computed at once: of one model, and of many at the least;
# fewer where the outputs of a model are more numbers than these.
_HELD_OUT_AT_ONCE, _AT_THE_LEAST, _NUMBERS_AT_ONCE = 4096, 64, 2**18


def objectives(
    data: Data, network: Network, shared: Shared, per_model: PerModel
) -> Floats:
    """Return the objective of every model over all of the data, in units of y, (m,)."""
    per_model = penalty_on_scales(data, network, shared, per_model)
    mean_loss = bind_mean_loss(data, network, shared)
    penalty = bind_penalty(network, per_model, n_parts(data.scales))
    return in_units_of_y(mean_loss() + penalty().cpu().numpy(), data, shared)


def in_units_of_y(parts: Floats, data: Data, shared: Shared) -> Floats:
    """Return losses of all models (m, r) in the units of y, (m,)."""
    told: Floats = (parts * units_in_y(data, shared, len(parts))).sum(1)
    return told


def units_in_y(data: Data, shared: Shared, n_models: int) -> Floats:
    """Return what the parts of the losses of all models count in units of y, (m, r)."""
    units = np.array([[1.0]])
    if data.scales is not None:
        units = units_of(data.scales, loss_named(shared.loss, shared.power))
    return units.repeat(n_models // len(units), 0)


def penalty_on_scales(
    data: Data, network: Network, shared: Shared, per_model: PerModel
) -> PerModel:
    """Return the hyperparameters as they are on the scales of the targets."""
    if data.scales is None or len(network.layers) > 1:
        return per_model
    n_in_fold = len(network.layers[0].w) // len(data.scales)
    loss = loss_named(shared.loss, shared.power)
    return on_scales(per_model, data.scales.repeat(n_in_fold, 0), loss)


def bind_mean_loss(
    data: Data, network: Network, shared: Shared
) -> Callable[[], Floats]:
    """Return the function that gives every model's mean loss on some data, (m, r)."""
    n_outputs = network.layers[-1].w.shape[1]
    activation = ACTIVATIONS[shared.activation](shared.negative_slope)
    n_models = len(network.layers[0].w)
    at_once = max(_HELD_OUT_AT_ONCE // n_models, _AT_THE_LEAST)
    at_once = max(1, min(at_once, _NUMBERS_AT_ONCE // n_outputs))
    sizes = batch_sizes(data.n_samples, at_once, "keep")
    rows = torch.from_numpy(all_rows(data)).to(data.y.device)
    batches = batches_of(rows, sizes[0]) if sizes else []
    of_batches = counts_in_batches(data, sizes)
    total = data.y.new_tensor(weights_in_all(data))

    def bound(
        n_rows: int, counts: tuple[int, ...] | None
    ) -> tuple[list[Gather], Tape, Tensor]:
        """Return the forward pass and the loss of so many rows."""
        batch = bind_batch(data, n_outputs, n_rows, len(total), counts)
        z, of_first, first = bind_first_output(data.x, network.layers[0], batch)
        gathers, tape = [*batch.gathers, *of_first], Tape([*batch.finishes, *first])
        passed = forward(tape, network.layers, z, activation)
        _, loss = record_loss(tape, passed.z, batch, shared, data.scales)
        return gathers, tape, loss

    pass_of = {key: bound(*key) for key in set(zip(sizes, of_batches, strict=True))}

    def mean_loss() -> Floats:
        summed = data.y.new_zeros(n_models, n_parts(data.scales))
        of_fold = by_fold(summed, len(total))
        for size, counts, batch in zip(sizes, of_batches, batches, strict=True):
            gathers, calls, loss = pass_of[size, counts]
            for gather in gathers:
                gather(batch)
            for call in calls:
                call()
            n_rows = total.new_tensor(counts or [size]).view(-1, 1, 1)
            of_fold += by_fold(loss, len(total)) * n_rows
        if data.shard is not None:
            data.shard.ranks.sum_(summed)
        losses: Floats = (of_fold / total.view(-1, 1, 1)).cpu().numpy()
        return losses.reshape(n_models, -1).astype(float)

    return mean_loss


def bind_penalty(
    parameters: Network, per_model: PerModel, n_parts: int = 1
) -> Callable[[], Tensor]:
    """Return the function that gives the penalty of each model, in parts (m, r).

    Where hyperparameters are those of each output, so is its part; else all parts are
    alike. The next call writes over what it has given.
    """
    flat = parameters.flat
    n_models = len(parameters.layers[-1].w)
    ridge, lasso = elastic_net(by_output(per_model))
    total, norm = flat.new_zeros(len(ridge)), flat.new_zeros(len(ridge))
    calls: list[Call] = []
    if ridge.any():
        calls += [partial(norm.zero_), *_add_norms(parameters, norm, squared=True)]
        calls.append(partial(torch.mul, numbers_like(ridge / 2, flat), norm, out=total))
    elif lasso.any():
        calls.append(partial(total.zero_))
    if lasso.any():
        calls += [partial(norm.zero_), *_add_norms(parameters, norm, squared=False)]
        calls.append(partial(total.addcmul_, numbers_like(lasso, flat), norm))

    def penalty() -> Tensor:
        for call in calls:
            call()
        if len(ridge) > n_models:
            return total.view(n_models, -1)
        if n_parts == 1:
            return total.unsqueeze(1)
        return (total / n_parts).unsqueeze(1).expand(-1, n_parts)

    return penalty


class Penalties(NamedTuple):
    """The penalties of one model, from the norms of its weights."""

    n_owners: int  # of penalties: 1, or the outputs
    any: bool  # whether there are any
    # Given |w|_2^2 and |w|_1 of each owner's weights, (e, p, 2), at the start of each
    # epoch, returns the penalties in parts, (e, 1, r).
    of_norms: Callable[[Floats], Floats]


def bind_penalties(per_model: PerModel, n_parts: int = 1) -> Penalties:
    """Return the penalties of one model by its hyperparameters."""
    ridge, lasso = elastic_net(by_output(per_model))
    strengths = [
        (order, strength)
        for order, strength in enumerate((ridge / 2, lasso))
        if any(strength)
    ]

    def penalties(norms: Floats) -> Floats:
        total = np.zeros(norms.shape[:2])
        for order, strength in strengths:
            total += strength * norms[:, :, order]
        if len(ridge) == 1 < n_parts:
            total = np.repeat(total / n_parts, n_parts, axis=1)
        return total[:, np.newaxis]

    return Penalties(len(ridge), bool(strengths), penalties)


def _add_norms(parameters: Network, norm: Tensor, *, squared: bool) -> list[Call]:
    """Return the calls that add |w|_2^2, or |w|_1, over the weights of each model.

    Or over those of each output of linear models, where there are so many norms.
    """
    calls: list[Call] = []
    for n, (w, _) in enumerate(parameters.layers):
        if len(norm) > len(w):
            w = w.flatten(0, 1).unsqueeze(1)
        if parameters.layout.columns_first and n == 0:  # no product for several models
            part = torch.empty_like(norm)
            order = 2 if squared else 1
            norm_of = torch.linalg.vector_norm
            calls.append(partial(norm_of, w, order, (1, 2), out=part))
            calls.append(
                partial(norm.addcmul_, part, part if squared else torch.ones_like(part))
            )
        elif squared:
            calls.append(contraction("moi,moi->m", w, w, out=norm, plus=norm))
        else:
            size, ones = torch.empty_like(w), torch.ones_like(w[0])
            calls.append(partial(torch.abs, w, out=size))
            calls.append(contraction("moi,oi->m", size, ones, out=norm, plus=norm))
    return calls
