"""Scalars: the rates and strengths that an optimizer reads at each step.

They are worked out on the host, in float64, for many steps at once, and a row of them
is laid over the flat vector before its step: the scalars of each model over its own
parameters, or a single element of each scalar where there is one model. Where nothing
changes from step to step, they are laid once.

Dimension key: k scalars; p their owners: models, or the outputs of linear models whose
penalties differ between outputs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from skgd._equations.network import arrays
from skgd._equations.optimizers import (
    OPTIMIZERS,
    Optimizer,
    PerModel,
    ScalarsOfSteps,
    variant,
)
from skgd._equations.schedules import LAID_OUT, Schedule, Steps, learning_rates
from skgd._machine.arrays import Floats
from skgd._machine.devices import numbers_like
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.target_scale import by_output


class ScalarRule(NamedTuple):
    """How scalars follow from the step.

    Nothing is remembered: how far the models are, and by how much the learning rate of
    each was slowed, is read anew whenever scalars are asked for.
    """

    models: Models
    shared: Shared
    per_model: PerModel  # (p,), the hyperparameters of each owner
    name: str  # of the optimizer, in its table
    schedule: Schedule

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer whose scalars they are."""
        return OPTIMIZERS[self.name]

    def rates_of_steps(self, t: int, n_steps: int) -> Floats:
        """Return the learning rates, (steps, p), or (1, p) if all are alike."""
        steps = np.arange(t + 1, t + n_steps + 1)
        lr = learning_rates(self.schedule, self.per_model, steps)
        slowed = self.models.slowed
        if slowed is not None:
            lr = lr * slowed.repeat(lr.shape[1] // len(slowed))
        return lr

    def of_steps(self, t: int, n_steps: int) -> ScalarsOfSteps:
        """Return those of so many steps after t, (steps, p), or (1, p) if all alike."""
        models, steps = self.models, np.arange(n_steps) + t + 1
        lr = self.rates_of_steps(t, n_steps)
        since = steps - models.optimizer_begun
        scalars = self.optimizer.scalars(self.per_model, lr, since)
        if models.average is not None:
            scalars["share"] = _share_of_average(steps, self.average_begun)
        return scalars

    @property
    def average_begun(self) -> int:
        """The step from which the weights are averaged."""
        return max(self.shared.average, self.models.average_begun + 1)


class Scalars(NamedTuple):
    """The scalars of a stack, and what they are laid over."""

    rule: ScalarRule
    names: Sequence[str]
    start: int  # of the flat vector: what comes before is updated by its first layer
    laid: Tensor  # (k, elements from the start), or (k, 1) if there is one owner
    spans: list[Tensor]  # (k, p, elements), views of all that rows are laid over
    begun: int  # the steps taken when these scalars were bound
    first: Tensor  # (steps, k, p), of one or two steps after that, already worked out
    constant: bool  # whether they change between epochs at the most

    @property
    def by_name(self) -> dict[str, Tensor]:
        """What each of them is laid over."""
        return dict(zip(self.names, self.laid, strict=True))

    def of_steps(self, t: int, n_steps: int) -> ScalarsOfSteps:
        """Return those of so many steps after t, (steps, p), or (1, p) if all alike."""
        return self.rule.of_steps(t, n_steps)

    def rows(self, t: int, n_steps: int) -> Sequence[Tensor | None]:
        """Return the row (k, p) of each step after t, or None if it is as it was."""
        if t == self.begun and n_steps <= len(self.first):
            return self.first[:n_steps].unbind()
        if not self.constant:
            return self._table(self.of_steps(t, n_steps)).unbind()
        changed = None
        if self.rule.shared.adaptive:
            changed = self._table(self.of_steps(t, 1))[0]
        return [changed, *[None] * (n_steps - 1)]

    def _table(self, scalars: ScalarsOfSteps) -> Tensor:
        return _table(scalars, self.laid, self.first.shape[2])

    def write_(self, row: Tensor) -> None:
        """Lay a row (k, p) over all that belongs to its owners."""
        for span in self.spans:
            span.copy_(row.unsqueeze(2))

    def over_units(self, n_units: int) -> dict[str, Tensor]:
        """Return scalars that are laid over the units of a layer, (1, u) each, as well.

        All models' units are one axis; it is (1, 1) if there is one owner.
        """
        _, n_scalars, n_owners = self.first.shape
        laid = self.laid.new_empty(n_scalars, n_units if n_owners > 1 else 1)
        span = laid.view(n_scalars, n_owners, -1)
        self.spans.append(span.copy_(self.first[0].unsqueeze(2)))
        return {name: row[None] for name, row in zip(self.names, laid, strict=True)}


def rule_of_scalars(
    models: Models,
    shared: Shared,
    per_model: PerModel,
    epoch_steps: int,
    n_taken: int = 0,
) -> ScalarRule:
    """Return how the scalars of models follow from the step, in epochs of so many.

    Of the present epoch, ``n_taken`` steps are taken already.
    """
    name = variant(shared.optimizer, shared.nesterov, per_model)
    schedule = _schedule(shared, models, epoch_steps, n_taken)
    return ScalarRule(models, shared, by_output(per_model), name, schedule)


def bind_scalars(rule: ScalarRule, start: int) -> Scalars:
    """Return the scalars of models, laid over their flat vector from an element on."""
    models = rule.models
    n_owners = len(rule.per_model["lr"])
    flat = models.parameters.flat[start:]
    is_users = callable(rule.schedule.kind)  # it may fail at steps that are never taken
    of_first = rule.of_steps(models.t, 1 if is_users else 2)
    first = _table(of_first, flat, n_owners)
    laid = flat.new_ones(len(of_first), 1 if n_owners == 1 else len(flat))
    spans = [laid.unsqueeze(2)]
    if n_owners > 1:
        spans = [
            laid[:, at : at + array.numel()].view(len(laid), n_owners, -1)
            for array in arrays(models.parameters)
            if (at := int(array.storage_offset()) - start) >= 0
        ]
    constant = not is_users and len(first) == 1
    if constant:
        for span in spans:
            span.copy_(first[0].unsqueeze(2))
    return Scalars(rule, list(of_first), start, laid, spans, models.t, first, constant)


def _schedule(
    shared: Shared, models: Models, epoch_steps: int, n_taken: int
) -> Schedule:
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
        place_offset=epochs * epoch_steps + n_taken - models.t,
        total_steps=shared.horizon * epoch_steps,
    )


def _table(scalars: ScalarsOfSteps, like: Tensor, n_owners: int) -> Tensor:
    """Return scalars as one tensor, (steps, k, p); of one step if all are alike."""
    rows = list(scalars.values())
    table = np.empty((max(map(len, rows)), len(rows), n_owners))
    for n, row in enumerate(rows):
        table[:, n] = row
    return numbers_like(table, like)


def _share_of_average(steps: Steps, begun: int) -> Floats:
    """Return what each step's weights count in their mean since a step, (steps, 1)."""
    return 1.0 / np.maximum(steps - begun + 1, 1)[:, np.newaxis]
