"""How far the training of one model is, at a whole step: all that it goes on from.

The rows and the parameters apart, nothing else decides what the next steps are: what
goes on from a value of these takes the very steps that training would have taken. A
whole step may be any in an epoch. The rows of that epoch are then drawn once more, from
the stream as it was before, and those of the steps taken are passed over.

Arrays are those in training, on a CPU: who keeps them beyond the next step copies them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from skgd._machine.arrays import Array, Floats
from skgd._machine.devices import to_numpy
from skgd._machine.generators import copied
from skgd._training.models import Models
from skgd._training.stopping import History

T = TypeVar("T")

# Arrays by their names.
Arrays = Mapping[str, Array]


class Point(NamedTuple):
    """A point in an epoch, after some of its steps."""

    losses: Floats  # (steps, m, r), of the batches so far, each before its step
    penalties: Floats  # (1, m, r), at the start of the epoch
    debts: Arrays  # what weights owe that the next batches do not touch
    # The stream of random numbers as it was before the rows were drawn: of the epoch,
    # and then of its window, if it has any.
    streams: tuple[np.random.Generator, ...] = ()


class Progress(NamedTuple):
    """How far the training of one model is: at the end of an epoch, or in one."""

    history: History  # of the epochs that have ended
    engine: str  # that takes the steps
    t: int  # steps taken at the end of these epochs
    epochs: int  # all that the model has seen, with those of an earlier call
    stream: np.random.Generator  # of random numbers, as it is now
    vectors: Arrays  # all that steps change, see ``vectors_of``
    best: Arrays  # the same of the best epoch, where training may return to it
    seconds: float  # that it has taken
    point: Point | None = None  # in the epoch that has begun


class Keeper(Protocol):
    """Who keeps how far training is, at some steps."""

    def is_due(self, ended: str) -> bool:
        """Return whether it is wanted now, where someone may have ended training."""

    def keep(self, progress: Progress) -> None: ...


class Keeping(NamedTuple):
    """A keeper, as who takes steps sees it: told a point alone, None at an end."""

    is_due: Callable[[str], bool]
    keep: Callable[[Point | None], None]

    def in_terms_of(self, told: Callable[[Point], Point | None]) -> "Keeping":
        """Return who is told points within a part, which are others in the whole.

        Those of which nothing is ``told`` are the end of the whole.
        """

        def keep(point: Point | None) -> None:
            in_whole = None if point is None else told(point)
            if in_whole is not None:
                self.keep(in_whole)

        return self._replace(keep=keep)


def steps_in(point: Point | None) -> int:
    """Return how many steps of the epoch were taken at a point."""
    return 0 if point is None else len(point.losses)


def check_in_epoch(
    point: Point, n_steps: int, shape: tuple[int, ...], in_window: bool
) -> None:
    """Raise ValueError for what is no point in an epoch of so many steps.

    ``shape`` is that of the losses of a step, (m, r); some points are in a window.
    """
    _, *of_step = point.losses.shape
    if not (
        0 < steps_in(point) < n_steps
        and tuple(of_step) == shape
        and point.penalties.shape == (1, *shape)
        and len(point.streams) == 1 + in_window
    ):
        raise ValueError("A point to go on from must be in an epoch of these steps.")


def drawn(
    stream: np.random.Generator,
    draw: Callable[[], T],
    point: Point | None,
    level: int = 0,
) -> tuple[T, np.random.Generator]:
    """Return what is drawn from a stream, and the stream as it was before.

    At a point of an epoch its rows, or those of its window (level 1), were drawn: they
    are drawn once more, and the stream stays as it is.
    """
    now = copied(stream)
    if point is None:
        return draw(), now
    _set_(stream, point.streams[level])
    again = draw()
    _set_(stream, now)
    return again, point.streams[level]


def _set_(stream: np.random.Generator, other: np.random.Generator) -> None:
    """Let a stream go on as another one."""
    stream.bit_generator.state = other.bit_generator.state


def vectors_of(models: Models) -> Arrays:
    """Return all that the steps of models change, but for what they are counted by."""
    vectors = {name: to_numpy(one.flat) for name, one in models.networks.items()}
    if models.slowed is not None:
        vectors["slowed"] = models.slowed
    return vectors


def write_vectors_(models: Models, vectors: Arrays) -> None:
    """Write such vectors into models, or raise ValueError if they are not theirs."""
    own = vectors_of(models)
    if vectors.keys() != own.keys() or not all(
        vectors[name].shape == array.shape and vectors[name].dtype == array.dtype
        for name, array in own.items()
    ):
        raise ValueError(
            "Vectors that training goes on from must be those of the model."
        )
    for name, network in models.networks.items():
        network.flat.copy_(torch.from_numpy(vectors[name]))
    if models.slowed is not None:
        models.slowed[:] = vectors["slowed"]


def go_on_(models: Models, engine: str, progress: Progress) -> None:
    """Let models be as far as the training of one was, but for its point in an epoch.

    That point is for who takes the steps, an engine. ValueError is raised for what is
    no progress of this model.
    """
    [stream] = models.generators
    if engine != progress.engine:
        msg = (
            f"engine must be {progress.engine!r}, by which training has begun. Got "
            f"{engine!r}, which rounds otherwise; let all be as it was, or begin anew."
        )
        raise ValueError(msg)
    if type(stream.bit_generator) is not type(progress.stream.bit_generator):
        raise ValueError("Random numbers must be drawn as by who began.")
    write_vectors_(models, progress.vectors)
    _set_(stream, progress.stream)
    models.t, models.epochs = progress.t, progress.epochs
