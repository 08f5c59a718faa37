"""An epoch of a stack: its rows, steps and losses, and held-out rows after it.

Within an epoch nothing is copied from the device to the host, but for the indices of
sparse rows.
"""

from collections.abc import Callable
from math import nan
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._machine.arrays import Floats, Indices
from skgd._training.batches import (
    Data,
    all_rows,
    batch_sizes,
    counts_in_batches,
    padded,
    rows_of_epoch,
)
from skgd._training.blocks import StepsAhead, Watch, bind_blocks, stepwise
from skgd._training.composed import composed
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.objective import (
    bind_mean_loss,
    bind_penalty,
    penalty_on_scales,
    units_in_y,
)
from skgd._training.stack import Stack
from skgd._training.steps import bind_models, n_parts

# Who is asked in which order to take the steps of an epoch.
MAKERS = (composed, stepwise)


class Epoch(NamedTuple):
    """What an epoch has to tell."""

    batch_loss: Floats  # (steps, m, r)
    loss: Floats  # (m, r)
    penalty: Floats  # (m, r)
    units: Floats  # (m, r), what all of these count in the units of y
    cut_short: bool  # whether not all of its steps were taken
    ended: str  # who ended it from outside, if anyone


class HeldOutLosses(NamedTuple):
    """How the models do on held-out rows after an epoch; None without such rows."""

    loss: Floats | None = None  # (m, r)
    score: list[float] | None = None  # (m,)


def bind_epoch(
    stack: Stack, shared: Shared, watch: Watch | None
) -> Callable[[], Epoch]:
    """Return the function that trains for one epoch.

    The objective that it tells is the mean of the losses of the batches, each taken
    before its step, plus the penalty at the start of the epoch.
    """
    data, models, per_model = stack.data, stack.models, stack.per_model
    parts = n_parts(data.scales)
    n_models, n_folds = len(stack.members), len(models.generators)
    sizes = batch_sizes(data.n_samples, shared.batch_size, shared.last_batch)
    counts = counts_in_batches(data, sizes)
    if shared.last_batch == "fill" and sizes != [data.n_samples]:
        counts = [None] * len(sizes)  # all batches of all folds are full
    units = units_in_y(data, shared, n_models)
    on_scale = penalty_on_scales(data, models.parameters, shared, per_model)
    decays = shared.optimizer == "adamw"  # weights, by lr * alpha on any scale
    numbers = per_model if decays else on_scale
    bound = bind_models(data, models, shared, numbers, len(sizes))
    penalty = bind_penalty(models.parameters, on_scale, parts)
    blocks = bind_blocks(StepsAhead(bound, sizes, counts, watch), MAKERS)
    rows_in_steps = np.array(  # (steps, f)
        [count or [size] * n_folds for size, count in zip(sizes, counts, strict=True)]
    )

    def shares_of(n_steps: int) -> Floats:
        """Return what the first steps count in the mean over their rows, (steps, f)."""
        rows = rows_in_steps[:n_steps]
        shares: Floats = rows / rows.sum(0)
        return shares

    shares = shares_of(len(sizes))
    draw_rows = _bind_rows(data, models, shared, sizes, rows_in_steps.sum(0).tolist())
    rows_in_blocks = [block.n_rows for block in blocks]
    steps_in_blocks = [block.n_steps for block in blocks]

    def run_epoch() -> Epoch:
        rows, t, ended = draw_rows(), models.t, ""
        penalties = penalty()
        batch_loss = data.y.new_empty(len(sizes), n_models, parts)
        for block, some_rows, some_losses in zip(
            blocks,
            rows.split_with_sizes(rows_in_blocks, dim=-1),
            batch_loss.split_with_sizes(steps_in_blocks),
            strict=True,
        ):
            ended = block.run(some_rows, some_losses)
            if ended:
                break
        bound.first.settle()
        n_steps = models.t - t
        cut_short = n_steps < len(sizes)
        models.epochs += 1
        losses = batch_loss[:n_steps].cpu().numpy()
        return Epoch(
            losses,
            _mean_of_batches(losses, shares_of(n_steps) if cut_short else shares),
            penalties.cpu().numpy().astype(float),
            units,
            cut_short,
            ended,
        )

    return run_epoch


def _mean_of_batches(losses: Floats, shares: Floats) -> Floats:
    """Return the mean (m, r) of the losses (steps, m, r), by shares (steps, f)."""
    of_folds = losses.reshape(*shares.shape, -1)
    mean = np.einsum("tf,tfc->fc", shares, of_folds)  # t steps, c (models, r)
    by_model: Floats = mean.reshape(losses.shape[1:])
    return by_model


def _bind_rows(
    data: Data, models: Models, shared: Shared, sizes: list[int], n_rows: list[int]
) -> Callable[[], Tensor]:
    """Return the function that draws the rows of an epoch, so many of each fold.

    They come in order: (n,), or (f, n), each fold's own.
    """

    def draw_rows() -> Tensor:
        if sizes == [data.n_samples]:  # the whole set is not gathered
            return torch.from_numpy(all_rows(data)).to(data.y.device)
        draws = [
            _rows_of_fold(data, fold, generator, n_of_fold, shuffle=shared.shuffle)
            for fold, (generator, n_of_fold) in enumerate(
                zip(models.generators, n_rows, strict=True)
            )
        ]
        rows = draws[0] if len(draws) == 1 else padded(draws, sum(sizes))
        return torch.from_numpy(rows).to(data.y.device)

    return draw_rows


def _rows_of_fold(
    data: Data,
    fold: int,
    generator: np.random.Generator,
    n_rows: int,
    *,
    shuffle: bool,
) -> Indices:
    """Return the rows of an epoch of one fold in order."""
    count = data.n_samples if data.counts is None else data.counts[fold]
    indices = rows_of_epoch(generator, count, n_rows, shuffle=shuffle)
    if data.rows is None:
        return indices
    rows: Indices = (data.rows if data.rows.ndim == 1 else data.rows[fold])[indices]
    return rows


def bind_validation(stack: Stack, shared: Shared) -> Callable[[Stack], HeldOutLosses]:
    """Return the function that tells how the models that are going do on held-out rows.

    It is given the stack again, of which fewer may be going by then.
    """
    validation = stack.validation
    if validation is None:
        return lambda stack: HeldOutLosses()
    mean_loss = bind_mean_loss(validation.data, stack.models.predicting, shared)
    score = validation.score

    def validate(stack: Stack) -> HeldOutLosses:
        losses = mean_loss()
        if score is None:
            return HeldOutLosses(losses)
        scores = [nan] * len(losses)
        finite = {  # scikit-learn's metrics refuse predictions that are not
            slot: model
            for slot, model in zip(stack.going, stack.running, strict=True)
            if np.isfinite(losses[slot]).all()
        }
        found = score(stack.models.predicting, list(finite), list(finite.values()))
        for slot, value in zip(finite, found, strict=True):
            scores[slot] = value
        return HeldOutLosses(losses, scores)

    return validate
