"""Who looks on at the training of one estimator: callbacks, the clock and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from numpy.typing import ArrayLike
from torch import Tensor

from skgd._equations.network import finite
from skgd._estimators.callbacks import FitTasks, has_callbacks, wants_batches
from skgd._estimators.fits import state_of
from skgd._estimators.folds import Fold
from skgd._estimators.record import record_epochs_
from skgd._estimators.state import attributes_of_state
from skgd._estimators.targets import attributes_of_targets
from skgd._machine.devices import to_numpy
from skgd._machine.modes import modes_of_others
from skgd._machine.ranks import Ranks
from skgd._training.batches import Data, batch_sizes
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.objective import in_units_of_y
from skgd._training.stopping import History
from skgd._training.takers import Watch

# Why training was ended from outside, where it was by the clock.
TIME_IS_OVER = "max_time is over"


class Given(NamedTuple):
    """What the caller of a fit handed in, as callbacks get to see it."""

    X: Any
    y: Any
    sample_weight: ArrayLike | None


def with_clock(
    interrupted: Callable[[], str], max_time: float | None
) -> Callable[[], str]:
    """Return the function that also says when the time is over, if limited."""
    if max_time is None:
        return interrupted
    end = monotonic() + max_time
    return lambda: interrupted() or (TIME_IS_OVER if monotonic() > end else "")


class FitWatch:
    """Looks on at the training of one model, and lets its callbacks do so.

    They read on the estimator in training how far it is: ``n_iter_``, ``t_``, the
    curves, and where batches are tasks ``batch_loss_``, the loss of the last one.
    """

    def __init__(
        self,
        estimator: Any,
        given: Given,
        fold: Fold,
        over: Callable[[], str] = str,
        history: History | None = None,
    ) -> None:
        """Look on from where training goes on, if there is a history already."""
        self._estimator, self._given, self._fold = estimator, given, fold
        self._history = history or History()
        self._over = over  # str says nothing
        self._tasks: FitTasks | None = None
        self.wants_epochs = has_callbacks(estimator)
        self.wants_steps = self.wants_epochs and wants_batches(estimator)
        self.recorded = 0  # epochs that the estimator knows of
        self._in_turn = False  # whether several models take their steps in turn

    def looking_on(
        self, models: Models, data: Data, shared: Shared
    ) -> AbstractContextManager[FitWatch | None]:
        """Give the watch, if there is anything to look on for."""
        estimator, self._data, self._shared = self._estimator, data, shared
        self._models = models
        several = models.parameters.layout.n_models > 1
        self._in_turn = several and shared.engine == "numba"
        if self.wants_epochs:
            vars(estimator).update(attributes_of_targets(self._fold.targets))
            record_epochs_(estimator, models.t, self._history)
            self.recorded = len(self._history.objective)
            sizes = batch_sizes(data.n_in_all, shared.batch_size, shared.last_batch)
            self._n_steps = len(sizes)
            at_once = 0 if data.windows is None else data.windows.n_at_once
            self._of_window = max(1, at_once // sizes[0])
            n_windows = -(-len(sizes) // self._of_window)
            with modes_of_others():
                self._tasks = FitTasks(
                    estimator,
                    partial(self._attributes, models),
                    **self._given._asdict(),
                    n_epochs=shared.max_iter,
                    n_batches=len(sizes),
                    n_windows=0 if data.windows is None else n_windows,
                )
        return nullcontext(self if self._tasks or self._over is not str else None)

    def _attributes(self, models: Models) -> dict[str, Any]:
        """Return the fitted attributes as of now."""
        fold = self._fold
        state = state_of(models, 0, self._history, fold, fold.before)
        attributes = attributes_of_state(state, fold.targets)
        return {**deepcopy(attributes), "engine_": self._shared.engine}

    def before_epoch(self) -> None:
        self._begun = self._models.t
        if self._tasks is not None:
            with modes_of_others():
                self._tasks.begin_epoch()
                if self._tasks.wants_windows:
                    self._tasks.begin_window()

    def before_step(self) -> None:
        if self._tasks is not None and self.wants_steps:
            with modes_of_others():
                self._tasks.begin_batch()

    def after_step(self, models: Models, loss: Tensor) -> str:
        if self._tasks is not None and self.wants_steps:
            losses = to_numpy(loss).astype(float)
            [batch_loss] = in_units_of_y(losses, self._data, self._shared)
            self._estimator.t_ = models.t
            self._estimator.batch_loss_ = float(batch_loss)
            with modes_of_others():
                stops = self._tasks.end_batch()
            if stops:
                return "stopped by a callback"
        if self._tasks is not None and self._tasks.wants_windows:
            self._estimator.t_ = models.t
            if self._after_window(self._tasks, models.t):
                return "stopped by a callback"
        return "" if self._in_turn else self._over()  # all end with the same epoch

    def _after_window(self, tasks: FitTasks, t: int) -> bool:
        """End the task of a window if all its steps are taken; say whether to stop."""
        taken = t - self._begun
        if taken % self._of_window and taken < self._n_steps:
            return False
        with modes_of_others():
            stops = tasks.end_window()
            if taken < self._n_steps:
                tasks.begin_window()
        return stops

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        if self._tasks is None:
            return self._over()
        [history] = histories
        if history.diverged or not all(finite(models.parameters)):
            return ""  # an error is about to say so
        self._history = history
        record_epochs_(self._estimator, models.t, history, self.recorded)
        self.recorded = len(history.objective)
        with modes_of_others():
            stops = self._tasks.end_epoch()
        if stops:
            return "stopped by a callback"
        return self._over()

    def end(self) -> None:
        """Tell the callbacks that all is stored."""
        if self._tasks is not None:
            vars(self._estimator).pop("batch_loss_", None)
            with modes_of_others():
                self._tasks.end()


class AgreedWatch:
    """Looks on at the training of one model by several ranks, as each of them does.

    Whoever ends it on one rank ends it for all, after the same step; so does an error
    of whoever looks on, which all raise then. Nobody is told of batches.
    """

    wants_steps, wants_epochs = False, True

    def __init__(self, watch: Watch | None, ranks: Ranks) -> None:
        self._watch, self._ranks = watch, ranks
        self._ended = ""  # who ended it here
        self._error: Exception | None = None

    def before_epoch(self) -> None:
        if self._watch is not None:
            self._hear(self._watch.before_epoch)

    def before_step(self) -> None:
        pass

    def after_step(self, models: Models, loss: Tensor) -> str:
        if self._watch is not None and not self._ended:
            try:  # as _hear does, but sooner: it is on the way of every step
                self._ended = self._watch.after_step(models, loss)
            except Exception as error:
                self._error, self._ended = error, "ended by an error"
        return self._ended

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        if self._watch is not None and self._error is None:
            self._hear(partial(self._watch.after_epoch, models, histories))
        if not self._ranks.any(bool(self._ended)):
            return ""
        return next(filter(None, self._ranks.gathered(self._tell)))

    def _hear(self, act: Callable[[], str | None]) -> None:
        """Take note of what someone who looks on says, or of an error of theirs."""
        try:
            self._ended = act() or self._ended
        except Exception as error:  # the other ranks are in the middle of an epoch
            self._error, self._ended = error, "ended by an error"

    def _tell(self) -> str:
        """Return who ended it here, if anyone, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._ended


def looking_on_together(
    watch: FitWatch, ranks: Ranks, models: Models, data: Data, shared: Shared
) -> AbstractContextManager[Watch | None]:
    """Give who looks on at the training of these models, by these ranks."""
    looking_on = ranks.agreed(partial(watch.looking_on, models, data, shared))
    return looking_on if ranks.size == 1 else _agreed_watch(looking_on, ranks)


@contextmanager
def _agreed_watch(
    looking_on: AbstractContextManager[Watch | None], ranks: Ranks
) -> Iterator[AgreedWatch]:
    with looking_on as watch:
        yield AgreedWatch(watch, ranks)
