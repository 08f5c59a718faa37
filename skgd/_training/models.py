"""The models in training, in the slots of a stack; some selected, and written back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skgd._equations.network import Network, joined, select, write_
from skgd._machine.arrays import Floats


@dataclass
class Models:
    """The models in training: all that one epoch hands to the next."""

    parameters: Network
    optimizer_state: dict[str, Network]  # what the optimizer keeps: velocity, moments
    generators: Sequence[np.random.Generator]  # one for each fold of models
    t: int = 0  # steps taken
    epochs: int = 0  # in so many epochs
    optimizer_begun: int = 0  # steps taken before the optimizer began
    average: Network | None = None  # the mean of the weights over steps
    average_begun: int = 0  # steps taken before anyone asked for it
    slowed: Floats | None = None  # (m,), what an adaptive lr has been multiplied by
    schedule_begun: int = 0  # epochs before the schedule was laid out

    @property
    def predicting(self) -> Network:
        """What predicts: the mean of the weights if there is one."""
        return self.parameters if self.average is None else self.average

    @property
    def networks(self) -> dict[str, Network]:
        """All that lies as the parameters do, and that steps change, by its name."""
        average = {} if self.average is None else {"average": self.average}
        return {**self.optimizer_state, **average, "parameters": self.parameters}


def joined_models(
    models: Sequence[Models], generators: Sequence[np.random.Generator]
) -> Models:
    """Return models that are given one by one as a stack, of folds with generators.

    Those that have stopped are behind the others, and take no part in what follows.
    """
    if len(models) == 1:
        return models[0]
    averages = [one.average for one in models if one.average is not None]
    slowed = [one.slowed for one in models if one.slowed is not None]
    return replace(
        models[-1],
        parameters=joined([one.parameters for one in models]),
        optimizer_state={
            name: joined([one.optimizer_state[name] for one in models])
            for name in models[-1].optimizer_state
        },
        generators=generators,
        t=max(one.t for one in models),
        epochs=max(one.epochs for one in models),
        average=joined(averages) if averages else None,
        slowed=np.concatenate(slowed) if slowed else None,
    )


# Indices of models along the first axis of their arrays.
Slots = Sequence[int]


def select_models(
    models: Models, slots: Slots, folds: Sequence[int] | None = None
) -> Models:
    """Return a copy of the models in these slots, which are of some folds or all."""
    index = _index(slots, models)
    generators, average = models.generators, models.average
    return replace(
        models,
        parameters=select(models.parameters, index),
        optimizer_state={
            name: select(state, index) for name, state in models.optimizer_state.items()
        },
        generators=generators if folds is None else [generators[f] for f in folds],
        average=None if average is None else select(average, index),
        slowed=None if models.slowed is None else models.slowed[list(slots)],
    )


def write_models_(models: Models, into: Slots, others: Models, slots: Slots) -> None:
    """Write others, from their slots, into slots of the models."""
    if not slots:
        return
    index, selected = _index(into, models), select_models(others, slots)
    write_(models.parameters, index, selected.parameters)
    for name, state in models.optimizer_state.items():
        write_(state, index, selected.optimizer_state[name])
    if models.average is not None and selected.average is not None:
        write_(models.average, index, selected.average)
    if models.slowed is not None and selected.slowed is not None:
        models.slowed[list(into)] = selected.slowed


def _index(slots: Slots, models: Models) -> Tensor:
    """Return slots as a tensor where the models are."""
    return torch.tensor(slots, device=models.parameters.flat.device)
