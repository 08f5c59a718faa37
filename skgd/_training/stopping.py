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

from dataclasses import dataclass, field
from enum import Enum
from math import inf, isfinite, nan

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


@dataclass
class History:
    """What is told about the training of one model."""

    # Of every epoch, as it is judged: on the scale of training.
    objective: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)  # without the penalty
    validation_loss: list[float] = field(default_factory=list)  # after the epoch
    score: list[float] = field(default_factory=list)  # of held-out rows, likewise

    # And as it is told: in the units of y.
    loss_curve: list[float] = field(default_factory=list)  # the objective
    validation_loss_curve: list[float] = field(default_factory=list)
    batch_loss: list[npt.NDArray[np.float64]] = field(default_factory=list)
    t: list[int] = field(default_factory=list)  # steps taken at the end of each epoch
    seconds: list[float] = field(default_factory=list)  # spent, at the end of each

    cut_short: bool = False  # whether the last epoch was
    slowed: bool = False  # whether the learning rate is to be divided after it
    converged: bool = False  # stopped by tol
    diverged: bool = False
    ended: str = ""  # who ended it from outside, in words

    # What the rules remember.
    constant: float = inf  # the loss of the best constant
    at_zero: float = inf  # that of predicting z = 0 for every row
    before: float = 0.0  # that of the weights that training goes on from, if it does
    end: float = nan  # the loss of the weights that are kept
    best: float = inf  # of what is watched; a score counts with its sign turned
    best_loss: float = inf  # of the held-out rows, where a score is watched
    best_t: int = 0  # the steps taken until then
    best_epoch: int = 0  # the epochs trained until then
    begun_anew: bool = False  # whether the best so far are weights never trained
    improved: bool = False  # in the last epoch
    waiting: int = 0  # epochs without improvement, in a row
    growing: int = 0  # epochs of growth of the objective, in a row

    @property
    def goes_on(self) -> bool:
        """Whether neither rule has ended the training."""
        return not (self.converged or self.diverged)

    @property
    def reference(self) -> float:
        """The loss that could be had without training.

        Where all of them are 0, as with targets that are all alike, nothing can be said
        of the size of a loss.
        """
        return max(self.constant, self.at_zero, self.before) or inf

    @property
    def times_constant(self) -> float:
        """How many times the loss of the best constant the last one is, or nan."""
        last = max(self.loss[-1], self.end) if isfinite(self.end) else self.end
        return last / self.constant if self.constant > 0 else nan


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
    history.slowed = False
    objective, *before = history.objective[:-3:-1]
    value = _watched(history) if held_out else objective
    history.diverged = not isfinite(objective)
    if not history.cut_short:
        grows = bool(before) and objective > before[0]
        history.growing = history.growing + 1 if grows else 0
        far_above = history.loss[-1] > FAR_ABOVE * history.reference
        history.diverged |= far_above and history.growing >= EPOCHS_OF_GROWTH
    if tol is not None and not history.cut_short:
        better = value < history.best - tol
        history.waiting = 0 if better else history.waiting + 1
        patient = history.waiting < n_iter_no_change
        history.converged = not (patient or (not held_out and _only_grows(history)))
        history.slowed = adapts and not patient
    loss = history.validation_loss[-1] if history.score else 0.0  # among equal scores
    history.improved = (value, loss) < (history.best, history.best_loss)
    if history.begun_anew:  # see begin_with
        history.improved |= value <= history.best or loss < history.best_loss
    if history.improved:
        history.best, history.best_loss, history.begun_anew = value, loss, False
        history.best_t = history.t[-1] if history.t else 0
        history.best_epoch = len(history.objective)
    if history.slowed and isfinite(objective):
        history.waiting = history.growing = 0
        history.converged = history.diverged = False


def begin_with(
    history: History, value: float, loss: float, t: int, *, anew: bool
) -> None:
    """Let the best so far be how held-out rows do with the weights at the start.

    Weights that were not trained may score well by chance, as where the largest class
    is predicted for every row: they are left for an epoch that is better by the loss
    alone, or as good.
    """
    if isfinite(value):
        history.best, history.best_loss, history.best_t = value, loss, t
        history.begun_anew = anew


def judge_end(history: History, loss: float) -> None:
    """Judge a model whose training has ended, by the loss of the weights it ends with.

    It has grown in the last steps, or in the epoch before and not fallen since. A first
    epoch may be rough, and so may the batches of one that was cut short: by these the
    bar is higher.
    """
    history.end = loss
    last, *before = history.loss[:-3:-1]
    rough = not before or history.cut_short
    highest = history.reference * (FAR_ABOVE**3 if rough else FAR_ABOVE)
    history.diverged |= not (isfinite(history.objective[-1]) and isfinite(loss))
    history.diverged |= loss > max(highest, GROWTH_AT_ONCE * last)
    if not rough and loss >= last:  # else it has begun to fall
        history.diverged |= last > max(highest, GROWTH_AT_ONCE * before[0])
    history.converged &= not history.diverged


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
    well_above = WELL_ABOVE * history.constant
    if well_above > 0 and history.end > max(well_above, history.reference):
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
    lost = history.objective[-1] - history.best
    gained = history.reference - history.best if isfinite(history.reference) else 0.0
    return history.growing >= max(history.waiting, EPOCHS_OF_GROWTH) and (
        lost > 0.01 * max(gained, 0.0)
    )
