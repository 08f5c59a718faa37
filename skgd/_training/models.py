"""The models in training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skgd._equations.network import Network
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
