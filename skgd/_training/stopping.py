"""When the training of a model ends: it has settled, it has diverged, or it was ended.

A model has settled when what is *watched* has not become better by ``tol`` for
``n_iter_no_change`` epochs in a row: its objective, or, where training stops early, the
loss or the score of rows that were held out.

It has diverged when its loss is no longer a number, or grows while it is far above all
that could be had without training: the loss of the best constant (see ``constants``),
that of z = 0, and where training goes on, that of the weights it began with. A model
that ends well above the best constant, but does not grow, is kept, and its user told.

All of this is judged on the scale of training (see ``target_scale``), so it means the
same for targets in any units.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf, isfinite, nan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# So many times what it is held against, a loss is far above it; and it grows when its
# objective has for so many epochs in a row, or at once by such a factor.
FAR_ABOVE = 100.0
EPOCHS_OF_GROWTH = 3
GROWTH_AT_ONCE = 10.0

# So many times the loss of the best constant, a model had better be one.
WELL_ABOVE = 10.0

# lr_schedule="adaptive" divides the learning rate by this, until it is so small.
ADAPTIVE_DIVISOR = 5.0
SMALLEST_LR = 1e-6


class Verdict(Enum):
    """Why a model stopped, or that it has not, in a sentence."""

    GOES_ON = "No rule has ended the training."
    SLOWED = "It has settled, and goes on at a smaller learning rate."
    SETTLED = (
        "What is watched has not become better by tol for n_iter_no_change epochs."
    )
    NO_NUMBER = "The objective is no longer a finite number."
    GREW = "The loss grew, epoch after epoch, while far above all had without training."
    GREW_AT_ONCE = "The loss grew at the end, to far above all had without training."

    @property
    def diverged(self) -> bool:
        """Whether the weights are of no use."""
        return self in _DIVERGED


_DIVERGED = (Verdict.NO_NUMBER, Verdict.GREW, Verdict.GREW_AT_ONCE)


@dataclass
class Record:
    """What happened in training, one entry an epoch."""

    # As it is judged: on the scale of training. The loss is without the penalty; held-
    # out rows are seen after the epoch, and have a score where one is asked for.
    objective: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)

    # As it is told: in the units of y. A loss curve is of the objective.
    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    batch_loss: list[npt.NDArray[np.float64]] = field(default_factory=list)

    # So far, at the end of each epoch.
    t: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Untrained(NamedTuple):
    """Losses that could be had without training, which others are held against."""

    constant: float = inf  # of the best constant
    at_zero: float = inf  # of predicting z = 0 for every row
    initial: float = 0.0  # of the weights that training goes on from, if it does

    @property
    def highest(self) -> float:
        """The highest of them.

        Where all of them are 0, as with targets that are all alike, nothing can be said
        of the size of a loss.
        """
        return max(self) or inf


class Best(NamedTuple):
    """The best that was watched so far, and when."""

    value: float = inf  # a score counts with its sign turned
    loss: float = inf  # of the held-out rows, where a score is watched; else 0
    t: int = 0  # steps taken until then
    epoch: int = 0  # epochs trained until then
    untrained: bool = False  # whether it is that of weights never trained


@dataclass
class Memory:
    """What the rules remember from epoch to epoch."""

    best: Best = field(default_factory=Best)
    improved: bool = False  # whether the last epoch is the best one
    waiting: int = 0  # epochs in a row without improvement by tol
    growing: int = 0  # epochs in a row in which the objective grew
    # Of the present learning rate, where it adapts: what was watched when it came, and
    # whether it has brought that down by tol since.
    began: float = inf
    gained: bool = False


@dataclass
class History(Record):
    """The record of the training of one model, and what was made of it."""

    cut_short: bool = False  # whether the last epoch was
    ended: str = ""  # who ended it from outside, in words
    untrained: Untrained = field(default_factory=Untrained)
    end: float = nan  # the loss of the weights that are kept
    memory: Memory = field(default_factory=Memory)
    verdict: Verdict = Verdict.GOES_ON

    @property
    def goes_on(self) -> bool:
        """Whether no rule has ended the training."""
        return self.verdict in (Verdict.GOES_ON, Verdict.SLOWED)

    @property
    def converged(self) -> bool:
        """Whether it was stopped by ``tol``."""
        return self.verdict is Verdict.SETTLED

    @property
    def diverged(self) -> bool:
        """Whether the weights are of no use."""
        return self.verdict.diverged

    @property
    def best(self) -> float:
        """The best that was watched so far; a score counts with its sign turned."""
        return self.memory.best.value

    @property
    def best_t(self) -> int:
        """The steps taken until then."""
        return self.memory.best.t

    @property
    def best_epoch(self) -> int:
        """The epochs trained until then."""
        return self.memory.best.epoch

    @property
    def begun_anew(self) -> bool:
        """Whether the best so far are weights never trained."""
        return self.memory.best.untrained

    @property
    def times_constant(self) -> float:
        """How many times the loss of the best constant the last one is, or nan."""
        last = max(self.loss[-1], self.end) if isfinite(self.end) else self.end
        constant = self.untrained.constant
        return last / constant if constant > 0 else nan


def copy_of_history(history: History) -> History:
    """Return a history that is written on apart from the given one."""
    own: dict[str, Any] = {
        name: list(value)
        for name, value in vars(history).items()
        if isinstance(value, list)
    }
    return replace(history, memory=replace(history.memory), **own)


def judge(
    history: History,
    held_out: bool,
    tol: float | None,
    n_iter_no_change: int,
    adapts: bool = False,
) -> None:
    """Judge by the last epoch whether the training of a model has ended.

    ``held_out`` says whether held-out rows are watched, or the objective itself. A
    model that ``adapts`` is slowed down where another one would end, unless the last
    time has brought nothing but was not too fast: then smaller steps would not either.
    """
    memory = history.memory
    value = _watched(history) if held_out else history.objective[-1]
    if not history.cut_short:
        objective, *before = history.objective[:-3:-1]
        memory.growing = memory.growing + 1 if before and objective > before[0] else 0
    if tol is not None and not history.cut_short:
        memory.waiting = 0 if value < memory.best.value - tol else memory.waiting + 1
        memory.gained |= bool(value < memory.began - tol)  # tol may be NumPy's
    settled = tol is not None and memory.waiting >= n_iter_no_change
    if settled and adapts and not memory.gained:
        adapts = not held_out and _only_grows(history)  # too fast
    history.verdict = _verdict(history, settled, held_out, adapts)
    if history.verdict is Verdict.SLOWED:
        memory.waiting = memory.growing = 0
        memory.began, memory.gained = value, False
    _remember_best(history, value)


def _verdict(history: History, settled: bool, held_out: bool, adapts: bool) -> Verdict:
    """Return what the last epoch says; the first rule that applies has the word.

    An objective that is no number ends every training. All else is asked of whole
    epochs only: the batches of one that was cut short may be unlike the others. A model
    that adapts and has ``settled`` goes on more slowly, though it may have grown; one
    that has grown far above has diverged, though it may have settled; and to grow and
    do nothing else is not to settle.
    """
    if not isfinite(history.objective[-1]):
        return Verdict.NO_NUMBER
    if history.cut_short:
        return Verdict.GOES_ON
    if settled and adapts:
        return Verdict.SLOWED
    grows = history.memory.growing >= EPOCHS_OF_GROWTH
    if grows and history.loss[-1] > FAR_ABOVE * history.untrained.highest:
        return Verdict.GREW
    if settled and (held_out or not _only_grows(history)):
        return Verdict.SETTLED
    return Verdict.GOES_ON


def _remember_best(history: History, value: float) -> None:
    """Let the last epoch be the best so far, if it is.

    Among equal scores the loss decides. Weights that were not trained may score well by
    chance, as where the largest class is predicted for every row: they are left for an
    epoch that is better by the loss alone, or as good.
    """
    best = history.memory.best
    loss = history.validation_loss[-1] if history.score else 0.0
    improved = (value, loss) < (best.value, best.loss)
    if best.untrained:
        improved |= value <= best.value or loss < best.loss
    history.memory.improved = improved
    if improved:
        t = history.t[-1] if history.t else 0
        history.memory.best = Best(value, loss, t, len(history.objective))


def begin_with(
    history: History, value: float, loss: float, t: int, *, anew: bool
) -> None:
    """Let the best so far be how held-out rows do with the weights at the start.

    ``anew`` says whether these weights were never trained.
    """
    if isfinite(value):
        history.memory.best = Best(value, loss, t, untrained=anew)


def judge_end(history: History, loss: float) -> None:
    """Judge a model whose training has ended, by the loss of the weights it ends with.

    It has grown in the last steps, or in the epoch before and not fallen since. A first
    epoch may be rough, and so may the batches of one that was cut short: by these the
    bar is higher.
    """
    history.end = loss
    if history.diverged:
        return
    last, *before = history.loss[:-3:-1]
    rough = not before or history.cut_short
    bar = history.untrained.highest * (FAR_ABOVE**3 if rough else FAR_ABOVE)
    if not (isfinite(history.objective[-1]) and isfinite(loss)):
        history.verdict = Verdict.NO_NUMBER
    elif loss > max(bar, GROWTH_AT_ONCE * last) or (
        not rough and loss >= last > max(bar, GROWTH_AT_ONCE * before[0])
    ):
        history.verdict = Verdict.GREW_AT_ONCE


class Stream(NamedTuple):
    """What is remembered of the losses of a stream, from call to call."""

    last: float = inf
    highest: float = 0.0  # before they began to grow
    growing: int = 0  # calls in a row

    def after(self, losses: Iterable[float]) -> "Stream":
        """Return what is remembered after more calls, or epochs."""
        last, highest, growing = self
        for loss in losses:
            if loss > last:
                growing += 1
            else:
                growing = 0
                if highest < last < inf:
                    highest = last
            last = loss
        return Stream(last, highest, growing)


def judge_chunk(history: History, loss: float) -> None:
    """Judge a model of a stream by the loss of a chunk; nan if its weights are."""
    history.end = loss
    if not (history.diverged or isfinite(loss)):
        history.verdict = Verdict.NO_NUMBER


def judge_peak(history: History, peak: float) -> None:
    """Judge a model of a stream by what its losses have grown to, see ``peak_of``."""
    if not history.diverged and peak > FAR_ABOVE * history.untrained.highest:
        history.verdict = Verdict.GREW


def peak_of(batch_losses: npt.NDArray[np.float64], stream: Stream) -> float:
    """Return the highest loss of a stream that is far above all before it, or 0.

    It has grown for some calls in a row, or from the first half of the batches of a
    call to the second, whose losses are (steps, 1, r).
    """
    peaks = [stream.last] if stream.growing >= EPOCHS_OF_GROWTH else []
    half = -(-len(batch_losses) // 2)
    if half < len(batch_losses):
        losses = batch_losses.sum((1, 2))
        first, second = losses[:half].mean(), losses[half:].mean()
        peaks += [second] if second > FAR_ABOVE * first else []
    return max((peak for peak in peaks if peak > FAR_ABOVE * stream.highest), default=0)


class Ending(Enum):
    """How training ended that was not refused, in so far as its user should know."""

    DIVERGED = "diverged, and keep the weights that did best on held-out rows"
    WORSE_THAN_CONSTANT = "ended well above the loss of the best constant prediction"
    LED_AWAY = "did no better on held-out rows than the weights they began with"
    UNSETTLED = "stopped after max_iter epochs before they had settled"
    UNREMARKABLE = "need no remark"


def ending_of(history: History, *, settles: bool) -> Ending:
    """Return how the training of a model ended, which ``settles`` if it is to."""
    if history.diverged:
        return Ending.DIVERGED
    well_above = WELL_ABOVE * history.untrained.constant
    if well_above > 0 and history.end > max(well_above, history.untrained.highest):
        return Ending.WORSE_THAN_CONSTANT
    if history.begun_anew:
        return Ending.LED_AWAY
    if settles and not (history.converged or history.ended):
        return Ending.UNSETTLED
    return Ending.UNREMARKABLE


def _watched(history: History) -> float:
    """Return how the held-out rows did, the lower the better."""
    return -history.score[-1] if history.score else history.validation_loss[-1]


def _only_grows(history: History) -> bool:
    """Return whether all of the wait was growth, of more than 1% of what was gained.

    That is no rest: the objective may yet come down again, or go on up to divergence.
    """
    memory, bar = history.memory, history.untrained.highest
    lost = history.objective[-1] - memory.best.value
    gained = bar - memory.best.value if isfinite(bar) else 0.0
    return memory.growing >= max(memory.waiting, EPOCHS_OF_GROWTH) and (
        lost > 0.01 * max(gained, 0.0)
    )
