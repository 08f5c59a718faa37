"""How training went, as an estimator tells it: steps, epochs, curves.

Curves become new lists whenever they grow: what is written on may be a copy that an
interrupt ends yet, and those that there are belong to the estimator as well.
"""

from collections.abc import Sequence
from math import isnan, nan
from typing import Any

import numpy as np

from skgd._training.stopping import History

# What grows by a number with every epoch, and with every step. A stream of partial_fit
# keeps the last ones only, so many at the least.
_CURVES = (
    "loss_curve_",
    "validation_loss_curve_",
    "validation_scores_",
    "step_curve_",
    "time_curve_",
    "batch_loss_curve_",
)
_KEPT_OF_A_STREAM = 1000

# With every call of a stream, those before count so much of what they did.
_FADES = 0.99


def record_epochs_(estimator: Any, t: int, history: History, recorded: int = 0) -> None:
    """Write down how far training is; so many of its epochs were recorded before.

    Before the first epoch, ``t`` steps had been taken.
    """
    estimator.t_ = history.t[-1] if history.t else t
    n_new = len(history.objective) - recorded
    estimator.n_iter_ = getattr(estimator, "n_iter_", 0) + n_new
    times = getattr(estimator, "time_curve_", [])
    spent = times[-recorded - 1] if len(times) > recorded else 0.0
    new_times = [spent + seconds for seconds in history.seconds[recorded:]]
    estimator.time_curve_ = times + new_times
    losses, steps = history.loss_curve, history.t
    estimator.loss_curve_ = getattr(estimator, "loss_curve_", []) + losses[recorded:]
    estimator.step_curve_ = getattr(estimator, "step_curve_", []) + steps[recorded:]
    if losses:
        estimator.loss_ = losses[-1]
        best = min(losses)
        estimator.best_loss_ = min(best, getattr(estimator, "best_loss_", best))
    held_out = history.validation_loss_curve[recorded:]
    _record_held_out_(estimator, "validation_loss_curve_", held_out)
    _record_held_out_(estimator, "validation_scores_", history.score[recorded:])
    if history.score and estimator.early_stopping:
        estimator.best_validation_score_ = -history.best


def _record_held_out_(estimator: Any, name: str, values: Sequence[float]) -> None:
    """Write down what held-out rows told, NaN of epochs without such rows."""
    earlier = getattr(estimator, name, [])
    if earlier or values:
        n_missing = len(estimator.loss_curve_) - len(earlier) - len(values)
        setattr(estimator, name, earlier + ([nan] * n_missing + list(values)))


def record_end_(estimator: Any, history: History) -> None:
    """Write down what is known at the end: the best epoch, the losses of batches."""
    if estimator.early_stopping:  # the weights are those of an earlier step
        begun = estimator.n_iter_ - len(history.objective)
        if history.best_epoch:
            estimator.best_iter_ = begun + history.best_epoch
        elif not hasattr(estimator, "best_iter_"):
            estimator.best_iter_ = begun
    else:  # they have been trained further
        vars(estimator).pop("best_iter_", None)
    if estimator.record_batch_loss:
        earlier = getattr(estimator, "batch_loss_curve_", np.empty(0))
        curve = np.concatenate([earlier, *history.batch_loss])
        estimator.batch_loss_curve_ = curve


def record_running_(estimator: Any, history: History, n_rows: float) -> None:
    """Write down how the rows of a stream did of late that it was tested on.

    A call counts by its rows, or the sum of their weights, and fades with every other.
    """
    before = _FADES * getattr(estimator, "running_rows_", 0.0)
    estimator.running_rows_ = before + n_rows
    share = n_rows / estimator.running_rows_
    _let_run_(estimator, "running_loss_", history.validation_loss_curve[0], share)
    if history.score:
        _let_run_(estimator, "running_score_", history.score[0], share)


def _let_run_(estimator: Any, name: str, value: float, share: float) -> None:
    """Move a running mean towards a value; one that is not a number leaves it."""
    mean = getattr(estimator, name, nan)
    if isnan(mean):
        mean = value
    elif not isnan(value):
        mean += share * (value - mean)
    setattr(estimator, name, mean)


def shorten_curves_(estimator: Any) -> None:
    """Let the curves of a stream lose their beginning, once they are very long."""
    for name in _CURVES:
        curve = getattr(estimator, name, [])
        if len(curve) > 2 * _KEPT_OF_A_STREAM:
            setattr(estimator, name, curve[-_KEPT_OF_A_STREAM:])
