"""Callbacks: a fit as scikit-learn's callbacks see it, and a callback of our own.

The only room that imports ``sklearn.callback``. scikit-learn shows a fit to callbacks
as a tree of tasks, each with a context: here the task "fit", a subtask "epoch" for each
epoch and, only where a callback asks, subtasks "batch" of these. A context is kept
until the fit has ended, so a context for every batch of a long fit would fill the
memory for callbacks that never look at them.

A callback asks for batches by an attribute ``wants_batches`` that is true. Any callback
stops the training by returning True from ``on_fit_task_end`` of an epoch or a batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from math import nan
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from sklearn.callback import AutoPropagatedCallback, CallbackSupportMixin, ProgressBar
from sklearn.callback import with_callbacks as _with_callbacks

from skgd._estimators.weights import flat_weights
from skgd._machine.arrays import Array

__all__ = [
    "CallbackSupportMixin",
    "FitTasks",
    "Trajectory",
    "WeightTrajectory",
    "has_callbacks",
    "propagated_of",
    "subtask",
    "task_of_search",
    "with_callbacks",
    "with_more_callbacks",
    "without_callbacks_",
    "without_contexts_",
]

Method = TypeVar("Method", bound=Callable[..., Any])

# What scikit-learn keeps on an estimator while it is being fitted.
_CONTEXTS = ("_callback_fit_ctx", "_parent_callback_ctx", "_skl_callbacks_to_teardown")


def with_callbacks(method: Method) -> Method:
    """Return the method that also tears down the callbacks of the fit it makes."""
    decorated = _with_callbacks(method)

    @wraps(method)
    def if_there_are_any(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        called = decorated if has_callbacks(estimator) else method
        return called(estimator, *args, **kwargs)

    return cast(Method, if_there_are_any)


def has_callbacks(estimator: Any) -> bool:
    """Return whether anyone looks on: without callbacks a fit makes no contexts."""
    return bool(getattr(estimator, "_skl_callbacks", []))


def wants_batches(estimator: Any) -> bool:
    """Return whether a callback asks for a task for every batch."""
    callbacks = estimator._skl_callbacks
    return any(getattr(one, "wants_batches", False) for one in callbacks)


def without_contexts_(estimator: Any) -> None:
    """Drop what belongs to a fit under way; a copy made meanwhile is no part of it."""
    for name in _CONTEXTS:
        vars(estimator).pop(name, None)


def _steps_of(estimator: Any) -> Iterator[Any]:
    """Give an estimator, and if it is a pipeline its last step, and so on."""
    while estimator is not None:
        yield estimator
        steps = getattr(estimator, "steps", [])
        estimator = steps[-1][1] if steps else None


def propagated_of(search: Any) -> list[Any]:
    """Return the callbacks of a search's estimator that are to be the search's own.

    scikit-learn hands those that it propagates, such as ProgressBar, from the outermost
    estimator inwards, and refuses them further inside. A search that is not outermost
    itself leaves it at that.
    """
    if hasattr(search, "_parent_callback_ctx"):
        return []
    callbacks = (
        callback
        for estimator in _steps_of(search.estimator)
        for callback in getattr(estimator, "_skl_callbacks", [])
        if isinstance(callback, AutoPropagatedCallback)
    )
    return list({id(callback): callback for callback in callbacks}.values())


def without_callbacks_(estimator: Any, callbacks: Sequence[Any]) -> None:
    """Take these callbacks from an estimator and from the last steps in it."""
    for one in _steps_of(estimator):
        own = getattr(one, "_skl_callbacks", [])
        others = [callback for callback in own if callback not in callbacks]
        if len(others) < len(own):
            one.set_callbacks(*others)


@contextmanager
def with_more_callbacks(search: Any, callbacks: Sequence[Any]) -> Iterator[None]:
    """Let a search have more callbacks in the block, in which its task begins.

    Of several ProgressBars the first one counts: scikit-learn has one in a run.
    """
    own = list(getattr(search, "_skl_callbacks", []))
    all_of_them = list(own)
    for callback in callbacks:
        bars = [one for one in all_of_them if isinstance(one, ProgressBar)]
        if callback not in own and not (bars and isinstance(callback, ProgressBar)):
            all_of_them.append(callback)
    search.set_callbacks(*all_of_them)
    try:
        yield
    finally:
        search.set_callbacks(*own)


def task_of_search(context: Any, search: Any, n_tasks: int) -> Any:
    """Return the task that the fits of a search are parts of, which has begun.

    It is the given one, but for the task of the whole search.
    """
    if not context.sequential_subtasks:
        return context
    task = context.subcontext("search", max_subtasks=n_tasks, sequential_subtasks=False)
    return task.call_on_fit_task_begin(estimator=search)


def subtask(task: Any, name: str, number: int, max_subtasks: int | None) -> Any:
    """Return a part of a task, by its number; None if nobody looks on.

    So it is if more turns out to be done than was foreseen.
    """
    if task is None:
        return None
    children = task._children_map
    if number in children or len(children) == task.max_subtasks:
        return None
    return task.subcontext(name, task_id=number, max_subtasks=max_subtasks)


class FitTasks:
    """The tasks of one fit of an estimator, told to its callbacks as they go by.

    ``fitted`` returns the fitted attributes as of now. It is called only where a
    callback asks for the fitted estimator: it copies from the device to the host.
    The method that makes the tasks is decorated ``with_callbacks``, which tears the
    callbacks down however it ends.
    """

    def __init__(
        self,
        estimator: Any,
        fitted: Callable[[], Mapping[str, Any]],
        *,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_epochs: int,
        n_batches: int,
        n_windows: int = 0,
    ) -> None:
        self._told = {
            "estimator": estimator,
            "X": X,
            "y": y,
            # scorers are called with all of it, so nothing else goes in here
            "metadata": (
                None if sample_weight is None else {"sample_weight": sample_weight}
            ),
            "reconstruction_attributes": fitted,
        }
        self.wants_batches = wants_batches(estimator)
        self.wants_windows = n_windows > 0 and not self.wants_batches
        self._n_parts = n_batches if self.wants_batches else n_windows
        self._window: Any = None  # the task under way
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(**self._told)

    def begin_epoch(self) -> None:
        """Begin the task of the next epoch."""
        self._epoch = self._fit.subcontext("epoch", max_subtasks=self._n_parts)
        self._epoch.call_on_fit_task_begin(**self._told)

    def begin_window(self) -> None:
        """Begin the task of the next window of this epoch, of rows in blocks."""
        self._window = self._epoch.subcontext("window")
        self._window.call_on_fit_task_begin(**self._told)

    def end_window(self) -> bool:
        """End the task of this window, if there is one, and return whether to stop."""
        window, self._window = self._window, None
        return window is not None and bool(window.call_on_fit_task_end(**self._told))

    def begin_batch(self) -> None:
        """Begin the task of the next batch of this epoch."""
        self._batch = self._epoch.subcontext("batch")
        self._batch.call_on_fit_task_begin(**self._told)

    def end_batch(self) -> bool:
        """End the task of this batch, and return whether to stop."""
        return bool(self._batch.call_on_fit_task_end(**self._told))

    def end_epoch(self) -> bool:
        """End the task of this epoch, and return whether to stop."""
        self.end_window()  # of an epoch that was cut short
        return bool(self._epoch.call_on_fit_task_end(**self._told))

    def end(self) -> None:
        """End the task of the fit; the estimator has all its attributes by now."""
        self._fit.call_on_fit_task_end(
            **{**self._told, "reconstruction_attributes": {}}
        )


# What a record is made of, by ``every``: at the end of which task, with which loss.
_RECORDED = {"epoch": ("epoch", "loss_"), "step": ("batch", "batch_loss_")}


class Trajectory(NamedTuple):
    """The path of the weights in one fit; the first record is the start.

    Parameters
    ----------
    weights : ndarray of shape (n_records, n_weights)
        All weights as one vector, record by record.
    t : ndarray of shape (n_records,)
        The steps taken until each record.
    loss : ndarray of shape (n_records,)
        Of the epoch or batch that led there; NaN at the start.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgd import MiniBatchRegressor, WeightTrajectory
    >>> recorder = WeightTrajectory()
    >>> model = MiniBatchRegressor(max_iter=2, tol=None, batch_size=None)
    >>> X, y = load_diabetes(return_X_y=True, scaled=True)
    >>> _ = model.set_callbacks(recorder).fit(X, y)
    >>> [trajectory] = recorder.trajectories_
    >>> trajectory.t.tolist(), trajectory.weights.shape
    ([0, 1, 2], (3, 11))
    """

    weights: Array
    t: Array
    loss: Array


Trajectory.__module__ = "skgd"  # its name in pickles and in what is printed


class WeightTrajectory:
    """Callback that records the weights along the path of a fit.

    A record holds all weights as one vector: first ``coef_``, or every array of
    ``coefs_``, then ``intercept_``, or every array of ``intercepts_``, each row by row.

    Parameters
    ----------
    every : {"epoch", "step"}, default="epoch"
        When to record: at the end of every epoch, or after every step. The start is
        recorded either way.

    Attributes
    ----------
    trajectories_ : list of Trajectory
        One for each call of ``fit`` or ``partial_fit``, in the order in which they
        ended, also if with an error. Each has ``weights`` of shape (n_records,
        n_weights), ``t``, the steps taken until each record, and ``loss``: of every
        epoch the objective, as in ``loss_curve_``, or of every step the loss of its
        batch, without the penalty. It was taken on the way to the record, so at the
        start it is NaN.

    See Also
    --------
    LossSurfaceDisplay : Draws a trajectory on the loss around it.

    Notes
    -----
    Clones of an estimator share its callbacks, so a search records every fit of its
    candidates, then the refit. A worker process records into its own copy, which ends
    with it: search with ``n_jobs=1`` or the threading backend.

    The callback is kept by the estimator, and pickled with it; ``set_callbacks()``
    without arguments lets it go.

    A callback of your own that is to see batches has an attribute ``wants_batches``
    that is true. Each costs a context of a third of a kilobyte until the fit has ended.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgd import MiniBatchRegressor, WeightTrajectory
    >>> X, y = load_diabetes(return_X_y=True, scaled=True)
    >>> recorder = WeightTrajectory()
    >>> model = MiniBatchRegressor(max_iter=5, tol=None).set_callbacks(recorder)
    >>> _ = model.fit(X, y)
    >>> recorder.trajectories_[-1].weights.shape
    (6, 11)
    """

    __module__ = "skgd"  # its name in pickles and in what is printed

    def __init__(self, every: str = "epoch") -> None:
        if every not in ("epoch", "step"):
            msg = (
                "The 'every' parameter of WeightTrajectory must be one of 'epoch', "
                f"'step'. Got {every!r} instead."
            )
            raise ValueError(msg)
        self.every = every
        self.trajectories_: list[Trajectory] = []
        self._records: dict[int, list[tuple[Array, int, float]]] = {}

    @property
    def wants_batches(self) -> bool:
        """Whether batches are to be tasks too."""
        return self.every == "step"

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin the record of a fit; scikit-learn calls this.

        Parameters
        ----------
        estimator : estimator
            What is being fitted.
        context : CallbackContext
            The task of the fit.

        Returns
        -------
        None
        """
        if not hasattr(estimator, "set_callbacks") or not hasattr(estimator, "lr"):
            msg = (
                "WeightTrajectory records MiniBatchRegressor and MiniBatchClassifier. "
                f"Got {type(estimator).__name__}; set it on the one inside."
            )
            raise TypeError(msg)
        self._records[id(estimator)] = []

    def on_fit_task_begin(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Record the start of a fit; scikit-learn calls this.

        Parameters
        ----------
        estimator : estimator
            What is being fitted.
        context : CallbackContext
            The task that begins.
        fitted_estimator : estimator
            What it would be if training ended here.

        Returns
        -------
        None
        """
        if context.task_name == "fit":
            record = flat_weights(fitted_estimator), estimator.t_, nan
            self._records[id(estimator)].append(record)

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        """Record an epoch or a step; scikit-learn calls this.

        Parameters
        ----------
        estimator : estimator
            What is being fitted.
        context : CallbackContext
            The task that ends.
        fitted_estimator : estimator
            What it would be if training ended here.

        Returns
        -------
        stop : bool
            False.
        """
        task, loss = _RECORDED[self.every]
        if context.task_name == task:
            weights = flat_weights(fitted_estimator)
            record = weights, estimator.t_, getattr(estimator, loss)
            self._records[id(estimator)].append(record)
        return False

    def teardown(self, estimator: Any, context: Any) -> None:
        """Keep the trajectory of a fit that has ended; scikit-learn calls this.

        Parameters
        ----------
        estimator : estimator
            What was being fitted.
        context : CallbackContext
            The task of the fit.

        Returns
        -------
        None
        """
        records = self._records.pop(id(estimator), [])
        if records:
            columns = zip(*records, strict=True)
            self.trajectories_.append(Trajectory(*map(np.array, columns)))
