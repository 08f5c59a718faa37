"""When the training of a model ends: it has settled, it has diverged, or it was ended.

A model has settled when what is *watched* has not become better by ``tol`` for
``n_iter_no_change`` epochs in a row: its objective, or, where training stops early, the
loss or the score of rows that were held out. It has diverged when its objective is far
above the loss at the start and grows, or is no longer a number.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from threading import current_thread, main_thread
from types import FrameType

import numpy as np
import numpy.typing as npt

# Training has diverged when its objective is so many times the loss at the start, or so
# many where that is below 1, and has grown for some epochs in a row or training ends.
FAR_ABOVE_START = 100.0
EPOCHS_OF_GROWTH = 3

# lr_schedule="adaptive" divides the learning rate by this, until it is so small.
ADAPTIVE_DIVISOR = 5.0
SMALLEST_LR = 1e-6


# Why training was ended from outside, where it was by Ctrl-C.
INTERRUPTED = "interrupted"


@dataclass
class History:
    """What is told about the training of one model."""

    objective: list[float] = field(default_factory=list)  # of every epoch
    validation_loss: list[float] = field(default_factory=list)  # after every epoch
    score: list[float] = field(default_factory=list)  # of held-out rows, likewise
    batch_loss: list[npt.NDArray[np.float64]] = field(default_factory=list)
    t: list[int] = field(default_factory=list)  # steps taken at the end of each epoch
    seconds: list[float] = field(default_factory=list)  # spent, at the end of each
    cut_short: bool = False  # whether the last epoch was
    slowed: bool = False  # whether the learning rate is to be divided after it
    converged: bool = False  # stopped by tol
    diverged: bool = False
    ended: str = ""  # who ended it from outside, in words

    # What the stopping rules remember.
    start: float | None = None  # the loss before training, if known
    end: float = nan  # the loss of the weights that are kept
    best: float = inf  # of what is watched; a score counts with its sign turned
    best_loss: float = inf  # of the held-out rows, where a score is watched
    best_t: int = 0  # the steps taken until then
    improved: bool = False  # in the last epoch
    waiting: int = 0  # epochs without improvement, in a row
    growing: int = 0  # epochs of growth of the objective, in a row

    @property
    def goes_on(self) -> bool:
        """Whether neither rule has ended the training."""
        return not (self.converged or self.diverged)


def judge(
    history: History,
    held_out: bool,
    tol: float | None,
    n_iter_no_change: int,
    adapts: bool = False,
) -> None:
    """Judge by the last epoch whether the training of a model has ended.

    ``held_out`` says whether held-out rows are watched, or the objective itself. That
    of an epoch cut short is of some batches, which may be unlike the others: it tells
    nothing but whether it is a number. A model that ``adapts`` is slowed down where
    another one would end.
    """
    objective, *before = history.objective[:-3:-1]
    value = _watched(history) if held_out else objective
    history.diverged = not isfinite(objective)
    if not history.cut_short:
        grows = bool(before) and objective > before[0]
        history.growing = history.growing + 1 if grows else 0
        far_above_start = objective > FAR_ABOVE_START * _scale(history)
        history.diverged |= far_above_start and history.growing >= EPOCHS_OF_GROWTH
    if tol is not None and not history.cut_short:
        better = value < history.best - tol
        history.waiting = 0 if better else history.waiting + 1
        patient = history.waiting < n_iter_no_change
        history.converged = not (patient or (not held_out and _only_grows(history)))
        history.slowed = adapts and not patient
    loss = history.validation_loss[-1] if history.score else 0.0  # among equal scores
    history.improved = (value, loss) < (history.best, history.best_loss)
    if history.improved:
        history.best, history.best_loss = value, loss
        history.best_t = history.t[-1] if history.t else 0
    if history.slowed and isfinite(objective):
        history.waiting = history.growing = 0
        history.converged = history.diverged = False
    if history.converged and _is_worse(history, tol or 0.0):
        history.converged, history.diverged = False, True


def judge_end(history: History, loss: float) -> None:
    """Judge a model whose training has ended, by the loss of the weights it ends with.

    The objective of the last epoch counts too: where held-out rows are watched, the
    weights may be earlier ones. A first epoch may be rough, and so may the batches of
    one that was cut short: by these the bar is higher.
    """
    history.end = loss
    rough = len(history.objective) == 1 or history.cut_short
    far = FAR_ABOVE_START**3 if rough else FAR_ABOVE_START
    highest = far * _scale(history)
    for value in (*history.objective[-1:], loss):
        history.diverged |= not (isfinite(value) and value <= highest)
    history.converged &= not history.diverged


def _watched(history: History) -> float:
    """Return how the held-out rows did, the lower the better."""
    return -history.score[-1] if history.score else history.validation_loss[-1]


def _scale(history: History) -> float:
    """Return the loss that counts as the start, not too small to multiply."""
    return max(_start(history), 1.0)


def _start(history: History) -> float:
    """Return the loss before training, 0 where it is not known."""
    return history.start or 0.0


def _is_worse(history: History, tol: float) -> bool:
    """Return whether training that has settled did so well above its start.

    Not just above it: data that are not standardised may make Adam do no better.
    """
    return history.objective[-1] > 10 * _start(history) + tol


def _only_grows(history: History) -> bool:
    """Return whether all of the wait was growth, of more than 1% of what was gained.

    That is no rest: the objective may yet come down again, or go on up to divergence.
    """
    lost = history.objective[-1] - history.best
    gained = _start(history) - history.best
    return history.growing >= max(history.waiting, EPOCHS_OF_GROWTH) and (
        lost > 0.01 * max(gained, 0.0)
    )


@contextmanager
def interruptible() -> Iterator[Callable[[], str]]:
    """Put off Ctrl-C: give the function that says whether it was pressed in the block.

    Who asked for the block raises KeyboardInterrupt as soon as all is stored, so that
    what calls it ends as well. Where the block ends with an error, KeyboardInterrupt
    takes its place. Pressed once more, Ctrl-C interrupts as ever. So it does where it
    is not Python's own to handle: outside the main thread, or where someone else has
    taken it over.
    """
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            signal.signal(signal.SIGINT, before)  # the block may be about to end
            raise KeyboardInterrupt
        pressed = True

    before = signal.default_int_handler
    if (
        current_thread() is not main_thread()
        or signal.getsignal(signal.SIGINT) is not before
    ):
        yield lambda: ""
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: INTERRUPTED if pressed else ""
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
