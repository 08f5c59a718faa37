"""How training ended, in words: errors of what failed, warnings of all else."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any
from warnings import warn

from sklearn.exceptions import ConvergenceWarning

from skgd._equations.schedules import LAID_OUT
from skgd._estimators.inputs import Matrix, unlikeness
from skgd._estimators.parameters import hidden_units
from skgd._estimators.scoring import stops_by_score
from skgd._estimators.settings import hyperparameter
from skgd._estimators.targets import Classes, Targets
from skgd._machine.errors import of_caller
from skgd._training.stopping import Ending, History, ending_of
from skgd._training.target_scale import weight_of_penalty

# Frames from a warning here to the caller of ``fit``: those of a function of this
# room, of fit, of its two decorators.
_OF_THE_CALLER = 5


def check_ending(settings: Any, targets: Targets, history: History) -> None:
    """Raise ValueError for training that leaves no model."""
    if history.diverged and not (settings.early_stopping and _has_best(history)):
        raise of_caller(ValueError(_divergence(settings, targets, history)))
    if history.score and not isfinite(history.best):
        msg = (
            "scoring must give a finite number after some epoch. Got "
            f"{history.score[-1]} after the last; use another, or more held-out "
            "rows."
        )
        raise of_caller(ValueError(msg))


def ending(settings: Any, history: History) -> Ending:
    """Return how training ended; schedules that are laid out end as they should."""
    settles = settings.tol is not None and settings.lr_schedule not in LAID_OUT
    return ending_of(history, settles=settles)


def warn_of_ending(
    settings: Any, targets: Targets, histories: Sequence[History]
) -> None:
    """Warn of training that has ended otherwise than by settling.

    Of several models, once: of the worst ending, how many had it, and of the first.
    """
    sentences = {
        Ending.DIVERGED: _divergence,
        Ending.WORSE_THAN_CONSTANT: _worse_than_constant,
        Ending.LED_AWAY: _led_away,
        Ending.UNSETTLED: _unsettled,
    }
    endings = [ending(settings, history) for history in histories]
    for one, sentence in sentences.items():
        if one in endings:
            words = sentence(settings, targets, histories[endings.index(one)])
            if len(histories) > 1:
                n = endings.count(one)
                words = f"Of {n} of {len(histories)} models, such as this: {words}"
            warn(words, ConvergenceWarning, _OF_THE_CALLER)
            return


def warn_of_batch_size(settings: Any, n_rows: int) -> None:
    """Warn of batches that are larger than the training set."""
    if settings.batch_size is not None and settings.batch_size > n_rows:
        msg = (
            f"batch_size={settings.batch_size} is larger than the {n_rows} rows of X; "
            "every batch is the whole training set, as with batch_size=None."
        )
        warn(msg, UserWarning, _OF_THE_CALLER)


def warn_of_unlike(X: Matrix, X_val: Matrix) -> None:
    """Warn of held-out rows that were not transformed as the others were."""
    sentence = unlikeness(X, X_val)
    if sentence:
        warn(sentence, UserWarning, _OF_THE_CALLER)


def warn_of_penalty(settings: Any, targets: Targets) -> None:
    """Warn of a penalty that the scale of the targets has made overwhelming."""
    linear = not hidden_units(settings)
    if targets.scale is None or not linear or settings.optimizer == "adamw":
        return
    times = weight_of_penalty(settings.loss, targets.scale, settings.delta)
    if times >= 10 and times * settings.alpha * (1 - settings.l1_ratio) >= 0.1:
        msg = (
            f"alpha={settings.alpha!r} leaves little of the weights: with loss="
            f"{settings.loss!r} it counts {times:.3g} times as much as for targets of "
            "standard deviation 1, for the loss grows with y and the penalty with "
            f"its square. Divide alpha by {times:.3g}."
        )
        warn(msg, UserWarning, _OF_THE_CALLER)


def interruption(epochs: int, t: int) -> str:
    """Return the sentence about training that Ctrl-C has ended."""
    return (
        f"Training was interrupted in epoch {epochs}, after {t} steps. "
        "The model predicts, and goes on with warm_start=True."
    )


def _has_best(history: History) -> bool:
    """Return whether there are weights that did best and were trained, if before."""
    return isfinite(history.best) and not history.begun_anew


def _pace(settings: Any) -> str:
    """Return in words what the size of steps depends on."""
    lr = hyperparameter(settings, "lr")
    return f"lr={lr!r}, optimizer={settings.optimizer!r}"


def _advice_on_targets(targets: Targets) -> str:
    """Return what to do about the scale of the targets, if anything is left."""
    if isinstance(targets, Classes) or targets.scale is not None:
        return ""
    return (
        " The targets are trained on as they are; a new fit with normalize_y=True "
        "scales them."
    )


def _divergence(settings: Any, targets: Targets, history: History) -> str:
    kept = ""
    if settings.early_stopping and _has_best(history):
        kept = " The weights kept are those that did best on the held-out rows."
    grown = "the loss is no longer a finite number"
    if isfinite(history.times_constant):
        grown = (
            f"the loss grew to {history.times_constant:.3g} times that of the best "
            "constant prediction"
        )
    elif isfinite(history.loss[-1] + history.end):  # which is exact
        grown = "the loss grew far above that of predicting zero"
    return (
        f"Training diverged in epoch {len(history.objective)}: {grown} "
        f"({_pace(settings)}). Either (a) lr is too "
        "large for these data: lower it; or (b) a feature has a large scale: "
        f"standardise X first.{_advice_on_targets(targets)}{kept}"
    )


def _worse_than_constant(settings: Any, targets: Targets, history: History) -> str:
    return (
        f"Training ended with a loss {history.times_constant:.3g} times that of "
        f"the best constant prediction, which would serve better ({_pace(settings)}). "
        "Lower lr, or raise max_iter if the loss "
        f"still falls, and standardise X.{_advice_on_targets(targets)}"
    )


def _led_away(settings: Any, targets: Targets, history: History) -> str:
    return (
        "No epoch did better on the held-out rows than the weights that training "
        f"began with, which are kept ({_pace(settings)}). Try another lr, or hold out "
        "more rows."
    )


def _unsettled(settings: Any, targets: Targets, history: History) -> str:
    return (
        f"Training stopped after max_iter={settings.max_iter} epochs before it had "
        f"settled: {_progress(settings, history)}. Raise max_iter, or lr; tol=None "
        "trains for max_iter epochs without this warning."
        f"{_advice_on_targets(targets)}"
    )


def _progress(settings: Any, history: History) -> str:
    """Return what the last epochs have brought, in words."""
    name, curve = "the objective", history.loss_curve
    if settings.early_stopping:
        name, curve = "the held-out loss", history.validation_loss_curve
    if stops_by_score(settings):
        name, curve = "the held-out score", history.score
    k = min(settings.n_iter_no_change, len(curve) - 1)
    if not k:
        return f"{name} is {curve[-1]:.4g}"
    return f"{name} went from {curve[-1 - k]:.4g} to {curve[-1]:.4g} in {k} epochs"
