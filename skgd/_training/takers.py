"""Takers: who takes the steps of epochs; what they are given, and what they tell.

There is one taker for each engine, see ``stepwise`` and ``compiled``. Which one it is
makes no difference but for rounding.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from skgd._equations.optimizers import PerModel
from skgd._machine.arrays import Floats, Indices
from skgd._training.batches import Data
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.progress import Keeping, Point
from skgd._training.stopping import History


class Watch(Protocol):
    """Who looks on while models train, and may end it for all: they say why, or ''.

    They are given the models that are still in the stack, and read them only.
    """

    # Whether it is told before and after each step. If not, it is told after steps, the
    # last of some that were taken at once.
    wants_steps: bool
    # Whether it is told before and after each epoch. If not, likewise.
    wants_epochs: bool

    def before_epoch(self) -> None: ...

    def before_step(self) -> None: ...

    def after_step(self, models: Models, loss: Tensor) -> str:
        """Take note of a step, and of the mean loss of its batch before it, (m, r)."""

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        """Take note of an epoch; the histories are in the order of the stack."""


class Ahead(NamedTuple):
    """What is to be done in every epoch."""

    data: Data
    models: Models
    shared: Shared
    per_model: PerModel  # on the scales of the targets
    penalties: PerModel  # likewise, those of the objective
    sizes: list[int]  # of the batches: their rows that lie here
    in_all: list[int]  # and those of all ranks
    counts: list[tuple[int, ...] | None]  # the rows of each fold that count in them
    epoch_steps: int  # in an epoch, of which these may be a part
    watch: Watch | None
    n_taken: int = 0  # of the present epoch, steps that are taken already


class Taken(NamedTuple):
    """What the steps of some epochs have to tell."""

    losses: Floats  # (steps, m, r), of the batches, each before its step
    penalties: Floats  # (epochs, m, r), at the start of each
    ended: str = ""  # who ended it from outside, if anyone


class Take(Protocol):
    """Takes steps, given the rows of some epochs, (n,) of each, or (f, n).

    It is told the slots of the models that go on, and may leave the others as they are.
    A single epoch may be gone on with from a point in it, and points be kept.
    """

    def __call__(
        self,
        rows_of_epochs: Sequence[Indices],
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> Taken: ...


class Taker(NamedTuple):
    """Who takes steps."""

    take: Take
    at_once: int  # epochs that are taken before anyone is heard


class TakeEpochs(Protocol):
    """Takes the steps of some epochs, of so many at the most, likewise."""

    def __call__(
        self,
        at_most: int,
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> Taken: ...
