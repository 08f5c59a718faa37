"""What the two estimators share: from what a caller hands in to the fitted state.

Fitted state is NumPy and Python values only; tensors live inside a call. Every call
that trains works on a copy of the estimator and takes its state over at the end, so
input that is refused, or training that diverges, leaves the estimator as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial, wraps
from math import isfinite, nan
from time import monotonic
from typing import Any, NamedTuple, Never, Self, TypeVar, cast
from warnings import warn

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import initialise_
from skgd._equations.losses import LOSSES, Loss
from skgd._equations.network import (
    Layer,
    Network,
    arrays,
    finite,
    new_like,
    new_network,
    raw_prediction,
)
from skgd._equations.optimizers import OPTIMIZERS, PerModel, variant
from skgd._equations.schedules import LAID_OUT
from skgd._estimators.callbacks import (
    CallbackSupportMixin,
    FitTasks,
    has_callbacks,
    with_callbacks,
    without_contexts_,
)
from skgd._estimators.checks import (
    check_any_counts,
    check_cast,
    check_dtype_of_device,
    check_held_out,
    check_outputs,
    check_score,
    check_split,
    check_weights,
    check_wide,
    takes_weights,
    too_large,
)
from skgd._estimators.inputs import (
    Rows,
    checked_rows,
    checked_rows_and_targets,
    device_of,
    dtype_of,
    on_host,
    starts_on_host,
    take_rows,
    to_device,
    unlikeness,
)
from skgd._estimators.parameters import check_parameters
from skgd._estimators.peers import check_call, check_no_others, of_peers
from skgd._estimators.versions import of_this_version, with_version
from skgd._estimators.weights import begin_, fill_, spread_, to_scale_, write_
from skgd._machine.devices import to_numpy, to_tensor
from skgd._machine.errors import errors_of_caller, in_the_words, of_caller
from skgd._machine.generators import copied, new_generator, unmoved_on_error
from skgd._machine.interrupts import INTERRUPTED, interruptible
from skgd._machine.memory import memory_for
from skgd._machine.modes import modes_of_others, numpy_as_usual
from skgd._training.batches import Data, batch_sizes
from skgd._training.csr import csr, first_output, is_wide
from skgd._training.hyperparameters import Shared
from skgd._training.loop import (
    Stream,
    Validation,
    in_units_of_y,
    objectives,
    train,
    train_on_chunk,
)
from skgd._training.models import Models
from skgd._training.stopping import Ending, History, ending_of
from skgd._training.target_scale import (
    TargetScale,
    is_same,
    layer_of_y,
    layer_on_scale,
    on_scale,
    prediction_of_y,
)

Array = npt.NDArray[Any]
Method = TypeVar("Method", bound=Callable[..., Any])

# Hyperparameters that may differ between models trained together.
PER_MODEL = ("lr", "momentum", "beta_1", "beta_2", "epsilon", "alpha", "l1_ratio")

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

# What training goes on from where the pickle of an older version lacks it.
_UNKNOWN_TO_OLDER_VERSIONS = {
    "_averaged_since_": 0,
    "_laid_out_since_": 0,
    "_since_": 0,
    "_slowed_": 1.0,
}

# Frames from a warning of ``fit`` to its caller: those of a method, of fit, of its
# decorator.
OF_THE_CALLER = 4

# Numbers of a layer that are computed at once for the objectives of many weights.
_NUMBERS_AT_ONCE = 2**20


def of_one_state(method: Method) -> Method:
    """Return a method that predicts, which reads the state of its estimator once.

    Another thread may be learning: at the end of its call all of the state is swapped
    for another one. Weights, intercepts and classes are then all old, or all new.
    """

    @numpy_as_usual
    @wraps(method)
    def on_a_snapshot(self: _MiniBatchBase, *args: Any, **kwargs: Any) -> Any:
        return method(self._trainee(), *args, **kwargs)

    return cast(Method, on_a_snapshot)


class _Given(NamedTuple):
    """What the caller of a fit handed in, as callbacks get to see it."""

    X: ArrayLike
    y: ArrayLike
    sample_weight: ArrayLike | None


class _Examples(NamedTuple):
    """Rows with their targets and weights, checked."""

    rows: Rows
    labels: Array  # the targets as the caller knows them
    targets: Array  # as numbers, (o, n), or as class numbers, (1, n)
    sample_weight: Array | None  # (n,), as the caller gave it
    weight: Array | None  # (n,), what a row counts in the loss

    def take(
        self,
        places: npt.NDArray[np.int64],
        in_rows: npt.NDArray[np.int64] | None = None,
    ) -> _Examples:
        """Return some of them, which are at other places in the rows if so said."""
        given, weight = self.sample_weight, self.weight
        return _Examples(
            take_rows(self.rows, places if in_rows is None else in_rows),
            self.labels[places],
            self.targets[:, places],
            None if given is None else given[places],
            None if weight is None else weight[places],
        )


class _MiniBatchBase(ABC, CallbackSupportMixin, BaseEstimator):
    """All that the two estimators share; each encodes its own targets."""

    _losses: tuple[str, ...]  # what the parameter ``loss`` may be

    # The parameters are those of ``__init__``, which is found before this one by help,
    # editors, mypy and scikit-learn, and is what a subclass overrides. Copies and
    # pickles are made without arguments. A wrapper of every ``__init__`` would be in
    # the way of all of these.
    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Return a new estimator; names that are a peer's are told what they are."""
        check_call(cls.__name__, cls.__init__, args, kwargs)
        new: Self = super().__new__(cls)
        return new

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as scikit-learn's estimators do.

        Parameters
        ----------
        **params : dict
            Parameters and their values.

        Returns
        -------
        self : object
            The estimator.
        """
        unknown = params.keys() - set(self._get_param_names())
        peers = of_peers(type(self).__name__, sorted(unknown))
        if peers:
            raise ValueError(peers)
        super().set_params(**params)
        return self

    @abstractmethod
    def _encode(
        self, y: Array, classes: ArrayLike | None, dtype: Any
    ) -> tuple[Array, Array]:
        """Return the labels, and them as numbers, (o, n), or class numbers, (1, n)."""

    @abstractmethod
    def _n_outputs(self, targets: Tensor | Array) -> int:
        """Return the number of outputs that the targets ask for."""

    @abstractmethod
    def _loss_entry(self, n_outputs: int) -> str:
        """Return the entry of the table of losses."""

    @abstractmethod
    def _numbers_of_loss(self) -> tuple[float, float]:
        """Return ``delta`` and ``quantile``."""

    @abstractmethod
    def _scale_of(
        self, examples: _Examples, rows: Array | None, before: TargetScale | None
    ) -> TargetScale | None:
        """Return the scale of the targets of some rows, or all; None if they have none.

        What was known ``before`` stays.
        """

    @abstractmethod
    def _linear_shape(self, w: Array) -> Array:
        """Return the weights of a linear model, (o, i), in the shape of ``coef_``."""

    @abstractmethod
    def _class_weights(
        self, labels: Array, counted: Array, sample_weight: Array | None
    ) -> Array | None:
        """Return what the classes of the rows count, (n,), if unlike each other.

        Where the classes are to be balanced, it is in ``counted``, rows of those
        weights.
        """

    @abstractmethod
    def _strata(self, targets: Array) -> Array | None:
        """Return the classes whose shares held-out rows are to keep, if any, (n,)."""

    @numpy_as_usual
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        coefs_init: Sequence[ArrayLike] | None = None,
        intercepts_init: Sequence[ArrayLike] | None = None,
        **others: Never,
    ) -> Self:
        """Train on X and y for up to ``max_iter`` epochs.

        Ctrl-C ends the training at a whole step and leaves a model that predicts, and
        goes on with ``warm_start=True``; then it raises KeyboardInterrupt. A second one
        right after the first leaves the estimator as it was.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Training data, finite numbers; standardise them first. A tensor is computed
            with on its own device.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets of a regressor. Labels of a classifier, of shape (n_samples,), or 0
            and 1 for each of several labels, of shape (n_samples, n_labels).
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts, 0 or more. Only the proportions matter: the weights
            are divided by their mean. None counts all rows alike.
        X_val, y_val : array-like, default=None
            Held-out rows and their targets. ``validation_loss_curve_`` tells the loss
            on them after every epoch. With ``early_stopping`` they are what is watched,
            and all of X is trained on. A Pipeline transforms X_val like X if it is made
            with ``transform_input=["X_val"]``.
        sample_weight_val : array-like of shape (n_val_samples,), default=None
            What each held-out row counts.
        coef_init, intercept_init : array-like, default=None
            Starting weights of a linear model, of the shapes of ``coef_`` and
            ``intercept_``. None starts at zero; the intercept of numbers that are
            normalised, at their mean.
        coefs_init, intercepts_init : list of array-like, default=None
            Starting weights of a network, of the shapes of ``coefs_`` and
            ``intercepts_``. None draws the former, and starts the latter as those of a
            linear model.
        **others : Never
            There must be none; the error says what another library's names are here.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        MemoryError
            If training needs more memory than there is; the parameter to lower is
            named. The estimator is then as it was.
        ValueError
            If a parameter or the data are not what they must be, or if training
            diverges: its loss is no longer a number, or grows while it is 100 times
            that of the best constant prediction, of z = 0, and of the weights it began
            with. The estimator is then as it was. With ``early_stopping``, training
            that diverges warns, and returns to the best weights it had, if an epoch had
            better ones than the start.
        KeyboardInterrupt
            After Ctrl-C, when the model is stored.
        """
        check_no_others(f"{type(self).__name__}.fit", others)
        check_parameters(self, self._losses)
        trainee = self._trainee()
        first = not (self.warm_start and self.__sklearn_is_fitted__())
        if first:
            trainee._forget()
        elif self.lr_schedule in LAID_OUT:  # over the epochs of this call
            trainee._laid_out_since_ = self.n_iter_
        dtypes = trainee._dtypes(first)
        examples = trainee._checked(X, y, sample_weight, dtypes=dtypes, first=first)
        check_held_out(X_val, y_val, sample_weight_val)
        held_out = None
        if X_val is not None and y_val is not None:
            dtypes = [dtype_of(examples.rows)]
            with in_the_words("X_val, y_val and sample_weight_val"):
                held_out = trainee._checked(
                    X_val,
                    y_val,
                    sample_weight_val,
                    dtypes=dtypes,
                    first=False,
                    training=examples,
                )
                check_outputs(len(examples.targets), len(held_out.targets))
            self._warn_of_unlike(examples, held_out)
        self._warn_of_batch_size(len(examples.labels))
        starts = {
            "coef_init": coef_init,
            "intercept_init": intercept_init,
            "coefs_init": coefs_init,
            "intercepts_init": intercepts_init,
        }
        given = _Given(X, y, sample_weight)
        with memory_for(partial(trainee._too_large, examples)):
            history = trainee._fit(examples, held_out, given, starts_on_host(starts))
        self.__dict__ = trainee.__dict__
        if history.ended == INTERRUPTED:
            raise KeyboardInterrupt(self._interruption())
        self._warn_of(history)
        self._warn_of_penalty()
        return self

    def _check_stream(self) -> None:
        """Raise ValueError for parameters that ``partial_fit`` does not take."""
        check_parameters(self, self._losses)
        if self.early_stopping:
            msg = (
                "partial_fit does not support early_stopping=True, for it sees the "
                "rows of a stream once; early_stopping should be False with "
                "partial_fit."
            )
            raise ValueError(msg)

    def _partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None,
        sample_weight: ArrayLike | None,
    ) -> Self:
        trainee = self._trainee()
        examples = trainee._checked(
            X,
            y,
            sample_weight,
            classes,
            dtypes=trainee._dtypes(not self.__sklearn_is_fitted__()),
            first=not hasattr(self, "n_features_in_"),
            of_stream=True,
        )
        if examples.weight is None or examples.weight.any():
            with memory_for(partial(trainee._too_large, examples)):
                trainee._fit_once(examples, _Given(X, y, sample_weight))
        self.__dict__ = trainee.__dict__
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = isinstance(self, RegressorMixin)
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "t_")

    def _trainee(self) -> Self:
        """Return an estimator of the same state, to be trained in place of this one.

        The state is read at one moment, and written at another one: by ``fit`` and
        ``partial_fit``, which swap all of ``__dict__``.
        """
        trainee = type(self).__new__(type(self))
        trainee.__dict__.update(self.__dict__)
        return trainee

    def __getstate__(self) -> dict[str, Any]:
        return with_version(super().__getstate__())

    def __setstate__(self, pickled: Mapping[str, Any]) -> None:
        state = of_this_version(type(self), pickled)
        if "t_" in state:
            state = {**_UNKNOWN_TO_OLDER_VERSIONS, **state}
        super().__setstate__(state)

    def __copy__(self) -> Self:
        other = self._trainee()
        without_contexts_(other)
        return other

    def _forget(self) -> None:
        """Drop the fitted state; all of its names end in an underscore."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _checked(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        classes: ArrayLike | None = None,
        *,
        dtypes: list[Any],
        first: bool,
        training: _Examples | None = None,
        of_stream: bool = False,
    ) -> _Examples:
        """Return rows, targets and weights, or raise ValueError.

        They are to train on, unless there are others for ``training``. Those of a
        stream may all have weight 0, for there are others to come.
        """
        rows, labels = checked_rows_and_targets(
            self,
            X,
            y,
            dtypes,
            numeric=isinstance(self, RegressorMixin),
            first=first,
        )
        given = check_weights(
            "sample_weight", on_host("sample_weight", sample_weight), len(labels)
        )
        labels, targets = self._encode(labels, classes, dtype_of(rows))
        counted = (labels, given)
        if training is not None:
            counted = (training.labels, training.sample_weight)
        weight = self._weight(labels, given, *counted, of_stream=of_stream)
        return _Examples(rows, labels, targets, given, weight)

    def _weight(
        self,
        labels: Array,
        given: Array | None,
        counted: Array,
        given_of_counted: Array | None,
        *,
        of_stream: bool = False,
    ) -> Array | None:
        """Return what rows count in the loss, (n,), by their labels and given weights.

        Where classes are balanced, it is in other rows that are ``counted``.
        """
        if not of_stream:
            check_any_counts("sample_weight", given)
        weight, name = self._class_weights(labels, counted, given_of_counted), ""
        if weight is None:
            return given
        if given is not None:
            weight, name = weight * given, " * sample_weight"
        weight = check_weights(f"class_weight{name}", weight, len(labels))
        if not of_stream:
            check_any_counts(f"class_weight{name}", weight)
        return weight

    def _dtypes(self, first: bool) -> list[Any]:
        """Return the dtypes that X may have; it becomes the first one otherwise."""
        if self.dtype is not None:
            return [np.dtype(self.dtype)]
        float32 = np.dtype(np.float32)
        if first:
            return [np.dtype(np.float64), float32, float32.newbyteorder()]
        return [self._layers()[0][0].dtype]

    def _fit(
        self,
        examples: _Examples,
        held_out: _Examples | None,
        given: _Given,
        starts: Mapping[str, Any],
    ) -> History:
        """Train for ``max_iter`` epochs and store the fitted state, or raise."""
        device = self._device(examples.rows)
        with torch.inference_mode(), unmoved_on_error(self.random_state):
            generator = self._next_generator()
            rows = validation = None
            if self.early_stopping and held_out is None:
                rows, kept_back = self._split(examples, generator)
            scale = self._take_scale(examples, rows)
            data = _data(examples, device, _mean_weight(examples, rows), rows, scale)
            if held_out is not None:
                score = self._scorer(held_out, device)
                unit = _mean_weight(held_out)
                held_out_data = _data(held_out, device, unit, scale=scale)
                validation = Validation(held_out_data, score, self.early_stopping)
            elif rows is not None:
                score = self._scorer(examples, device, kept_back)
                validation = Validation(data._replace(rows=kept_back), score, True)
            with interruptible() as interrupted:
                history = self._train(
                    data,
                    validation,
                    generator,
                    given,
                    starts=starts,
                    max_iter=self.max_iter,
                    tol=self.tol,
                    over=self._with_clock(interrupted),
                )
            history.ended = interrupted() or history.ended
        return history

    def _fit_once(self, examples: _Examples, given: _Given) -> None:
        """Train for one epoch on rows of a stream, or raise ValueError."""
        with torch.inference_mode(), unmoved_on_error(self.random_state):
            scale = self._take_scale(examples)
            data = _data(examples, self._device(examples.rows), scale=scale)
            generator = self._next_generator()
            self._slowed_ = 1.0  # a stream is learned at the full rate
            self._train(
                data,
                None,
                generator,
                given,
                starts={},
                max_iter=1,
                tol=None,
                stream=self._stream(),
            )
        for name in _CURVES:
            curve = getattr(self, name, [])
            if len(curve) > 2 * _KEPT_OF_A_STREAM:
                setattr(self, name, curve[-_KEPT_OF_A_STREAM:])

    @with_callbacks
    def _train(
        self,
        data: Data,
        validation: Validation | None,
        generator: np.random.Generator,
        given: _Given,
        *,
        starts: Mapping[str, Any],
        max_iter: int,
        tol: float | None,
        stream: Stream | None = None,
        over: Callable[[], str] | None = None,
    ) -> History:
        """Train one model and store the fitted state, or raise ValueError."""
        shared = self._shared(self._n_outputs(data.y), max_iter, tol)
        per_model = {name: np.array([self._number(name)]) for name in PER_MODEL}
        models = self._models(data, shared, per_model, [generator])
        if self.__sklearn_is_fitted__():
            self._go_on_(models)
        else:
            self._initialise_(models)
        begin_(models.parameters, starts, self._target_scale())
        tasks = None
        if has_callbacks(self):
            tasks = self._tasks(models, shared, given, data.n_samples)
        watch = None
        if over or tasks:
            watch = _Watch(self, over, tasks, partial(_loss_told, data, shared))
        if stream is None:
            [history] = train(data, models, shared, per_model, validation, watch)
        else:
            history = train_on_chunk(data, models, shared, per_model, stream, watch)
        self._conclude(models, history, told=watch.told if watch else 0)
        if tasks is not None:
            self.__dict__.pop("batch_loss_", None)
            with modes_of_others():
                tasks.end()
        return history

    def _conclude(
        self, models: Models, history: History, place: int = 0, told: int = 0
    ) -> None:
        """Store what was trained at a place of a stack, or raise ValueError."""
        if history.diverged and not (self.early_stopping and _has_best(history)):
            raise of_caller(ValueError(self._divergence(history)))
        if history.score and not isfinite(history.best):
            msg = (
                "scoring must give a finite number after some epoch. Got "
                f"{history.score[-1]} after the last; use another, or more held-out "
                "rows."
            )
            raise of_caller(ValueError(msg))
        self._tell(models, history, told)
        self.__dict__.update(self._fitted(models, place))
        if history.converged:  # what comes next is learned at the full rate again
            self._slowed_ = 1.0
        if self.early_stopping:  # what is kept is of an earlier step
            begun = self.n_iter_ - len(history.objective)
            if history.best_epoch:
                self.best_iter_ = begun + history.best_epoch
            elif not hasattr(self, "best_iter_"):
                self.best_iter_ = begun
            self._since_ += self.t_ - history.best_t
            self._averaged_since_ += self.t_ - history.best_t
        else:  # what was kept has been trained further
            self.__dict__.pop("best_iter_", None)
        if self.record_batch_loss:
            earlier = getattr(self, "batch_loss_curve_", np.empty(0))
            self.batch_loss_curve_ = np.concatenate([earlier, *history.batch_loss])

    def _tasks(
        self, models: Models, shared: Shared, given: _Given, n_rows: int
    ) -> FitTasks:
        """Return the tasks of a fit, and begin the first of them."""
        self._tell(models, History())
        sizes = batch_sizes(n_rows, shared.batch_size, shared.last_batch)
        with modes_of_others():
            return FitTasks(
                self,
                lambda: deepcopy(self._fitted(models)),
                **given._asdict(),
                n_epochs=shared.max_iter,
                n_batches=len(sizes),
            )

    @errors_of_caller()
    def _device(self, rows: Rows) -> torch.device:
        """Return where to compute: on the device of a tensor, or on the given one."""
        device = device_of(rows, self.device)
        check_dtype_of_device(dtype_of(rows), device.type)
        return device

    def _with_clock(self, interrupted: Callable[[], str]) -> Callable[[], str]:
        """Return the function that also says when the time is over, if limited."""
        if self.max_time is None:
            return interrupted
        end = monotonic() + self.max_time
        over = "max_time is over"
        return lambda: interrupted() or (over if monotonic() > end else "")

    def _next_generator(self) -> np.random.Generator:
        """Return the random stream, where the last call has left it."""
        if self.__sklearn_is_fitted__():
            return copied(self._generator_)
        return new_generator(self.random_state)

    def _split(
        self, examples: _Examples, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the rows to train on and the rows to hold out."""
        n_rows = len(examples.labels)
        if not hasattr(self, "_split_seed_"):  # a warm start holds out the same rows
            self._split_seed_ = int(generator.integers(2**31))
        try:
            rows, kept_back = train_test_split(
                np.arange(n_rows),
                test_size=self.validation_fraction,
                stratify=self._strata(examples.targets),
                random_state=self._split_seed_,
            )
        except ValueError as error:
            msg = (
                f"early_stopping=True must hold out validation_fraction="
                f"{self.validation_fraction} of the {n_rows} rows. Got: {error} Give "
                "more rows, another fraction, or X_val and y_val."
            )
            raise ValueError(msg) from error
        check_split(examples.weight, rows, kept_back)
        return np.sort(rows), np.sort(kept_back)

    def _stops_by_score(self) -> bool:
        """Return whether a score of held-out rows stops training, not their loss."""
        return bool(self.early_stopping) and self.scoring != "loss"

    def _scorer(
        self,
        examples: _Examples,
        device: torch.device,
        kept_back: npt.NDArray[np.int64] | None = None,
    ) -> Callable[[Network, Sequence[int], Sequence[int]], list[float]] | None:
        """Return the function that scores the one model of a stack on held-out rows.

        They are all of the examples, or those ``kept_back`` of them. The latter are
        copied for a scorer of the caller's, which may look at them; for any other one
        they are predicted some at a time, and it gets a column of zeros for them.
        """
        if not self._stops_by_score():
            return None
        all_rows, in_turn, held_out = examples.rows, None, examples
        if kept_back is not None:
            if not callable(self.scoring):
                n_at_once = max(64, _NUMBERS_AT_ONCE // all_rows.shape[1])
                in_turn = np.split(
                    kept_back, range(n_at_once, len(kept_back), n_at_once)
                )
                examples = examples._replace(rows=np.zeros((all_rows.shape[0], 1)))
            held_out = examples.take(kept_back)
        judge = self._judge(held_out)

        def score(
            network: Network, places: Sequence[int], models: Sequence[int]
        ) -> list[float]:
            parts: Iterable[Rows] = [held_out.rows]
            if in_turn is not None:
                parts = (take_rows(all_rows, some) for some in in_turn)
            predictions = [
                self._raw_predictions(network.layers, part, device) for part in parts
            ]
            z = prediction_of_y(torch.cat(predictions, dim=2), self._target_scale())
            return [judge(network, place, z) for place in places]

        return score

    def _judge(self, held_out: _Examples) -> Callable[[Network, int, Tensor], float]:
        """Return the function that scores a model of a stack on held-out rows.

        It is given the place of the model, and what it predicts for them, (1, o, n).
        """
        with errors_of_caller():
            scorer = check_scoring(self, self.scoring)
        weight = held_out.sample_weight
        weights = {} if weight is None else {"sample_weight": weight}
        if not takes_weights(scorer):
            weights = {}
        judged = self._trainee()
        for name in ("feature_names_in_", "coef_", "coefs_"):  # the rows are an array
            judged.__dict__.pop(name, None)
        judged.t_ = 0

        def judge(network: Network, place: int, z: Tensor) -> float:
            judged.__dict__.update(self._weights(network, place))
            judged._predicted_ = [(held_out.rows, z)]
            with (
                errors_of_caller(),
                in_the_words("scoring"),
                modes_of_others(),
                config_context(array_api_dispatch=False),  # the labels are NumPy's
            ):
                value = scorer(judged, held_out.rows, held_out.labels, **weights)
            with errors_of_caller():
                return check_score(value)

        return judge

    def _number(self, name: str) -> float:
        """Return a hyperparameter of ``PER_MODEL``.

        The minimum of a linear model is the same after longer steps, and reached
        sooner; a network ends elsewhere. Plain descent diverges on long ones.
        """
        value = getattr(self, name)
        if name == "lr" and isinstance(value, str):  # "auto"
            linear = np.size(self.hidden_layer_sizes) == 0
            return 0.05 if linear and self.optimizer != "sgd" else 0.01
        return float(value)

    def _shared(self, n_outputs: int, max_iter: int, tol: float | None) -> Shared:
        """Return the hyperparameters that models trained together have in common."""
        delta, quantile = self._numbers_of_loss()
        return Shared(
            loss=self._loss_entry(n_outputs),
            activation=self.activation,
            negative_slope=self.negative_slope,
            optimizer=self.optimizer,
            nesterov=self.nesterov,
            batch_size=self.batch_size,
            last_batch=self.last_batch,
            shuffle=self.shuffle,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=self.n_iter_no_change,
            record_batch_loss=self.record_batch_loss,
            verbose=bool(self.verbose),
            dropout=self.dropout,
            delta=delta,
            quantile=quantile,
            max_grad_norm=self.max_grad_norm,
            average=int(self.average),
            lr_schedule=self.lr_schedule,
            power_t=self.power_t,
            decay=self.decay,
            decay_every=self.decay_every,
            warmup_steps=self.warmup_steps,
            horizon=self.max_iter,
        )

    def _models(
        self,
        data: Data,
        shared: Shared,
        per_model: PerModel,
        generators: Sequence[np.random.Generator],
    ) -> Models:
        """Return models of zeros, as many as there are numbers for."""
        n_models, wide = len(per_model["lr"]), is_wide(data.x)
        if wide:
            with errors_of_caller():
                check_wide(self, data.x.shape[1])
        hidden = np.atleast_1d(self.hidden_layer_sizes).tolist()
        sizes = (data.x.shape[1], *hidden, self._n_outputs(data.y))
        network = new_network(
            n_models, sizes, self.fit_intercept, data.y, columns_first=wide
        )
        optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
        return Models(
            network,
            optimizer_state={name: new_like(network) for name in optimizer.state_names},
            generators=generators,
            average=new_like(network) if self.average else None,
            slowed=np.ones(n_models) if shared.adaptive else None,
        )

    def _initialise_(self, models: Models) -> None:
        """Draw the weights that models begin with."""
        activation = ACTIVATIONS[self.activation](self.negative_slope)
        initialise_(models.parameters, activation, models.generators, self.init)

    def _go_on_(self, models: Models, place: int = 0) -> None:
        """Write the fitted model into a place of models of zeros."""
        layers = self._trained_layers()
        fitted_sizes = (layers[0][0].shape[1], *(len(bias) for _, bias in layers))
        shapes = [w.shape for w, _ in models.parameters.layers]
        sizes = (shapes[0][2], *(shape[1] for shape in shapes))
        if fitted_sizes != sizes or self._fit_intercept_ != self.fit_intercept:
            msg = (
                f"Training goes on only with the layers it began with, of "
                f"{fitted_sizes} units and fit_intercept={self._fit_intercept_}. Got "
                f"{sizes} and {self.fit_intercept}; to begin anew, call fit "
                "with warm_start=False."
            )
            raise ValueError(msg)
        fill_(models.parameters, layers, place)
        models.t, models.epochs, models.optimizer_begun = (
            self.t_,
            self.n_iter_,
            self._since_,
        )
        models.schedule_begun = self._laid_out_since_
        kept = dict(self._kept_)
        was_averaged = "parameters" in kept
        if models.average is not None:
            fill_(models.average, layers, place)
            models.average_begun = self._averaged_since_ if was_averaged else self.t_
        if was_averaged:  # the layers that predict are the mean of these
            write_(models.parameters, kept.pop("parameters"), place)
        if models.slowed is not None:
            models.slowed[place] = self._slowed_
        if set(models.optimizer_state) == set(kept):
            for name, values in kept.items():
                write_(models.optimizer_state[name], values, place)
        else:  # another optimizer, which begins now to keep what it keeps
            models.optimizer_begun = self.t_

    def _weights(self, network: Network, place: int = 0) -> dict[str, Any]:
        """Return the weights of one model of a stack in scikit-learn's shapes."""
        weights = [to_numpy(w[place]) for w, _ in network.layers]
        biases = [
            np.zeros(len(w), w.dtype) if bias is None else to_numpy(bias[place])
            for w, (_, bias) in zip(weights, network.layers, strict=True)
        ]
        scale = self._target_scale()
        if scale is not None:
            last = weights[-1], biases[-1]
            weights[-1], biases[-1] = layer_of_y(last, scale)
        if len(weights) == 1:
            return {"coef_": self._linear_shape(weights[0]), "intercept_": biases[0]}
        return {"coefs_": [w.T for w in weights], "intercepts_": biases}

    def _fitted(self, models: Models, place: int = 0) -> dict[str, Any]:
        """Return what was trained at a place of a stack.

        On the CPU, the arrays are those in training.
        """
        networks = dict(models.optimizer_state)
        if models.average is not None:
            networks["parameters"] = models.parameters
        kept = {
            name: [to_numpy(array[place]) for array in arrays(network)]
            for name, network in networks.items()
        }
        fold = place * len(models.generators) // len(models.parameters.layers[0].w)
        last_layer = {}
        if self._target_scale() is not None:
            w, bias = models.predicting.layers[-1]
            no_bias = w.new_zeros(w.shape[1])
            bias_of_place = no_bias if bias is None else bias[place]
            trained = to_numpy(w[place]), to_numpy(bias_of_place)
            last_layer = {"_last_layer_": trained}
        return {
            **self._weights(models.predicting, place),
            **last_layer,
            "_kept_": kept,
            "_slowed_": 1.0 if models.slowed is None else float(models.slowed[place]),
            "_since_": models.optimizer_begun,
            "_laid_out_since_": models.schedule_begun,
            "_averaged_since_": models.average_begun,
            "_fit_intercept_": self.fit_intercept,
            "_generator_": models.generators[fold],
        }

    def _tell(self, models: Models, history: History, told: int = 0) -> None:
        """Write down how far training is; so many of its epochs were told before.

        Curves become new lists: this may be a trainee that an interrupt ends yet, and
        those that there are belong to the estimator as well.
        """
        self.t_ = history.t[-1] if history.t else models.t
        stream = self._stream()
        for loss in history.loss[told:]:
            stream = stream.then(loss)
        self._stream_ = tuple(stream)
        self.n_iter_ = getattr(self, "n_iter_", 0) + len(history.objective) - told
        times = getattr(self, "time_curve_", [])
        spent = times[-told - 1] if len(times) > told else 0.0
        self.time_curve_ = times + [spent + now for now in history.seconds[told:]]
        self.loss_curve_ = getattr(self, "loss_curve_", []) + history.loss_curve[told:]
        self.step_curve_ = getattr(self, "step_curve_", []) + history.t[told:]
        if history.loss_curve:
            self.loss_ = history.loss_curve[-1]
            best = min(history.loss_curve)
            self.best_loss_ = min(best, getattr(self, "best_loss_", best))
        held_out = history.validation_loss_curve[told:]
        self._tell_held_out("validation_loss_curve_", held_out)
        self._tell_held_out("validation_scores_", history.score[told:])
        if history.score:
            self.best_validation_score_ = -history.best

    def _tell_held_out(self, name: str, values: Sequence[float]) -> None:
        """Write down what held-out rows told, NaN of epochs without such rows."""
        earlier = getattr(self, name, [])
        if earlier or values:
            missing = [nan] * (len(self.loss_curve_) - len(earlier) - len(values))
            setattr(self, name, earlier + (missing + list(values)))

    def _stream(self) -> Stream:
        """Return what is remembered of the losses of earlier calls."""
        return Stream(*getattr(self, "_stream_", ()))

    def _target_scale(self) -> TargetScale | None:
        """Return how the targets were scaled for training, if they were."""
        scale: tuple[Any, ...] | None = getattr(self, "_scale_", None)
        return None if scale is None else TargetScale(*scale)

    def _take_scale(
        self, examples: _Examples, rows: Array | None = None
    ) -> TargetScale | None:
        """Return the scale to train on, once the fitted state is on it, too.

        A scale that becomes known late makes gradients of another size: the optimizer
        begins anew.
        """
        before = self._target_scale()
        scale = self._scale_of(examples, rows, before)
        if scale is None:
            return None
        moves = before is not None and not is_same(before, scale)
        if moves and self.__sklearn_is_fitted__():
            self._last_layer_ = layer_on_scale(self._layers()[-1], scale)
            self._kept_: dict[str, list[Array]] = {}
            self.__dict__.pop("_stream_", None)
        self._scale_ = tuple(scale)
        return scale

    def _loss(self, n_outputs: int) -> Loss:
        return LOSSES[self._loss_entry(n_outputs)](*self._numbers_of_loss())

    def _layers(self) -> list[tuple[Array, Array]]:
        """Return the fitted weights (o, i) and biases (o,) of every layer."""
        if hasattr(self, "coef_"):
            return [(np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_))]
        pairs = zip(self.coefs_, self.intercepts_, strict=True)
        return [(coef.T, intercept) for coef, intercept in pairs]

    def _trained_layers(self) -> list[tuple[Array, Array]]:
        """Return the fitted weights and biases of every layer as they were trained.

        If the caller has set other weights since, it is they.
        """
        layers, scale = self._layers(), self._target_scale()
        if scale is None:
            return layers
        last = self._last_layer_
        of_y = layer_of_y(last, scale)
        if not all(map(np.array_equal, of_y, layers[-1])):
            last = layer_on_scale(layers[-1], scale)
        return [*layers[:-1], last]

    def _divergence(self, history: History) -> str:
        kept = ""
        if self.early_stopping and _has_best(history):
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
            f"({self._pace()}). Either (a) lr is too "
            "large for these data: lower it; or (b) a feature has a large scale: "
            f"standardise X first.{self._advice_on_targets()}{kept}"
        )

    def _warn_of_penalty(self) -> None:
        """Warn of a penalty that the scale of the targets has made overwhelming."""

    def _pace(self) -> str:
        """Return in words what the size of steps depends on."""
        return f"lr={self._number('lr')!r}, optimizer={self.optimizer!r}"

    def _advice_on_targets(self) -> str:
        """Return what to do about the scale of the targets, if anything is left."""
        return ""

    def _interruption(self) -> str:
        return (
            f"Training was interrupted in epoch {self.n_iter_}, after {self.t_} steps. "
            "The model predicts, and goes on with warm_start=True."
        )

    def _too_large(self, examples: _Examples) -> str:
        """Return the sentence about training on examples that runs out of memory."""
        n_rows, n_features = examples.rows.shape
        return too_large(self, n_rows, n_features, self._n_outputs(examples.targets))

    def _warn_of_batch_size(self, n_rows: int) -> None:
        """Warn of batches that are larger than the training set."""
        if self.batch_size is not None and self.batch_size > n_rows:
            msg = (
                f"batch_size={self.batch_size} is larger than the {n_rows} rows of X; "
                "every batch is the whole training set, as with batch_size=None."
            )
            warn(msg, UserWarning, OF_THE_CALLER)

    def _warn_of_unlike(self, examples: _Examples, held_out: _Examples) -> None:
        """Warn of held-out rows that were not transformed as the others were."""
        sentence = unlikeness(examples.rows, held_out.rows)
        if sentence:
            warn(sentence, UserWarning, OF_THE_CALLER)

    def _warn_of(self, history: History) -> None:
        """Warn of training that has ended otherwise than by settling."""
        sentences = {
            Ending.DIVERGED: self._divergence,
            Ending.WORSE_THAN_CONSTANT: self._worse_than_constant,
            Ending.LED_AWAY: self._led_away,
            Ending.UNSETTLED: self._unsettled,
        }
        ending = self._ending(history)
        if ending in sentences:
            warn(sentences[ending](history), ConvergenceWarning, OF_THE_CALLER)

    def _ending(self, history: History) -> Ending:
        """Return how training ended; schedules that are laid out end as they should."""
        settles = self.tol is not None and self.lr_schedule not in LAID_OUT
        return ending_of(history, settles=settles)

    def _worse_than_constant(self, history: History) -> str:
        return (
            f"Training ended with a loss {history.times_constant:.3g} times that of "
            f"the best constant prediction, which would serve better ({self._pace()}). "
            "Lower lr, or raise max_iter if the loss "
            f"still falls, and standardise X.{self._advice_on_targets()}"
        )

    def _led_away(self, history: History) -> str:
        return (
            "No epoch did better on the held-out rows than the weights that training "
            f"began with, which are kept ({self._pace()}). Try another lr, or hold out "
            "more rows."
        )

    def _unsettled(self, history: History) -> str:
        return (
            f"Training stopped after max_iter={self.max_iter} epochs before it had "
            f"settled: {self._progress(history)}. Raise max_iter, or lr; tol=None "
            "trains for max_iter epochs without this warning."
            f"{self._advice_on_targets()}"
        )

    def _progress(self, history: History) -> str:
        """Return what the last epochs have brought, in words."""
        name, curve = "the objective", history.loss_curve
        if self.early_stopping:
            name, curve = "the held-out loss", history.validation_loss_curve
        if self._stops_by_score():
            name, curve = "the held-out score", history.score
        k = min(self.n_iter_no_change, len(curve) - 1)
        if not k:
            return f"{name} is {curve[-1]:.4g}"
        return f"{name} went from {curve[-1 - k]:.4g} to {curve[-1]:.4g} in {k} epochs"

    @of_one_state
    def _objectives(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        *,
        origin: Array,
        directions: Array,
        places: Array,
    ) -> Array:
        """Return the objectives over X and y at places (k, d) of a space of weights.

        The weights are ``origin + places @ directions``, in the order of
        ``flat_weights``. The places are models of one stack, as many as fit a cache.
        """
        check_is_fitted(self)
        check_parameters(self, self._losses)
        dtypes = self._dtypes(first=False)
        examples = self._checked(X, y, sample_weight, dtypes=dtypes, first=False)
        device, layers = self._device(examples.rows), self._layers()
        values = []
        with torch.inference_mode():
            scale = self._target_scale()
            data = _data(examples, device, _mean_weight(examples), scale=scale)
            n_outputs = self._n_outputs(data.y)
            if n_outputs != len(layers[-1][1]):
                n_fitted = len(layers[-1][1])
                msg = f"y must hold {n_fitted} targets, as in fit. Got {n_outputs}."
                raise ValueError(msg)
            shared = self._shared(n_outputs, max_iter=1, tol=None)
            sizes = [data.x.shape[1], *(len(bias) for _, bias in layers)]
            largest = max(data.n_samples * max(sizes[1:]), len(origin))
            at_once = max(1, _NUMBERS_AT_ONCE // largest)
            for first in range(0, len(places), at_once):
                some = places[first : first + at_once]
                weights = (origin + some @ directions).astype(dtype_of(examples.rows))
                network = new_network(len(some), sizes, True, data.y)
                spread_(network, to_tensor(weights, device))
                if scale is not None:
                    to_scale_(network, scale)
                per_model = {
                    name: np.full(len(some), self._number(name)) for name in PER_MODEL
                }
                values.append(objectives(data, network, shared, per_model))
        return np.concatenate(values)

    @numpy_as_usual
    def _score_by(
        self,
        score: Callable[..., float],
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
    ) -> float:
        """Return a score of scikit-learn's, of targets that may lie on a device."""
        weight = on_host("sample_weight", sample_weight)
        with config_context(array_api_dispatch=False):  # y lies on the host
            return float(score(X, on_host("y", y), weight))

    def _raw_prediction(self, X: ArrayLike) -> Tensor:
        """Return the prediction before the inverse link, of shape (1, o, n)."""
        predicted: Sequence[tuple[ArrayLike, Tensor]] = getattr(self, "_predicted_", ())
        for known, z in predicted:  # by a search, for many models at once
            if known is X:
                return z
        check_is_fitted(self)
        check_parameters(self, self._losses)
        layers = self._layers()
        rows = checked_rows(self, X, [layers[0][0].dtype])
        device = self._device(rows)
        with torch.inference_mode():
            on_device = [
                Layer(to_tensor(w, device)[None], to_tensor(bias, device)[None])
                for w, bias in layers
            ]
            return self._raw_predictions(on_device, rows, device)

    def _raw_predictions(
        self, layers: Sequence[Layer], rows: Rows, device: torch.device
    ) -> Tensor:
        """Return the predictions of several models, of shape (m, o, n)."""
        activation = ACTIVATIONS[self.activation](self.negative_slope)
        if not issparse(rows):
            return raw_prediction(layers, to_device(rows, device), activation)
        return raw_prediction(
            layers,
            rows,
            activation,
            lambda some: first_output(csr(some, device), *layers[0]),
        )


class _Watch:
    """Looks on at the training of one model, for callbacks, the clock and Ctrl-C.

    Callbacks read on the trainee how far it is: ``n_iter_``, ``t_``, the curves, and
    where batches are tasks ``batch_loss_``, the loss of the last one.
    """

    def __init__(
        self,
        trainee: _MiniBatchBase,
        over: Callable[[], str] | None,
        tasks: FitTasks | None,
        told: Callable[[Tensor], float],
    ) -> None:
        self._trainee, self._tasks, self._told = trainee, tasks, told
        self._over = over or str  # which says nothing
        self._batches = tasks if tasks is not None and tasks.wants_batches else None
        self.wants_steps = self._batches is not None
        self.told = 0  # epochs that the trainee knows of

    def before_epoch(self) -> None:
        if self._tasks is not None:
            with modes_of_others():
                self._tasks.begin_epoch()

    def before_step(self) -> None:
        if self._batches is not None:
            with modes_of_others():
                self._batches.begin_batch()

    def after_step(self, models: Models, loss: Tensor) -> str:
        if self._batches is not None:
            self._trainee.t_ = models.t
            self._trainee.batch_loss_ = self._told(loss)
            with modes_of_others():
                stops = self._batches.end_batch()
            if stops:
                return "stopped by a callback"
        return self._over()

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        [history] = histories
        if self._tasks is None:
            return self._over()
        if history.diverged or not all(finite(models.parameters)):
            return ""  # an error is about to say so
        self._trainee._tell(models, history, self.told)
        self.told = len(history.objective)
        with modes_of_others():
            stops = self._tasks.end_epoch()
        return "stopped by a callback" if stops else self._over()


def _has_best(history: History) -> bool:
    """Return whether there are weights that did best and were trained, if before."""
    return isfinite(history.best) and not history.begun_anew


def _mean_weight(examples: _Examples, rows: Array | None = None) -> float:
    """Return the mean of the weights, over some of the rows or all."""
    if examples.weight is None:
        return 1.0
    return float(np.mean(examples.weight if rows is None else examples.weight[rows]))


def _data(
    examples: _Examples,
    device: torch.device,
    weight_unit: float = 1.0,
    rows: Array | None = None,
    scale: TargetScale | None = None,
) -> Data:
    """Return the examples as tensors on the device of the computation."""
    weight, dtype = examples.weight, dtype_of(examples.rows)
    targets = on_scale(examples.targets, scale).astype(dtype, copy=False)
    if weight is not None:
        weight = check_cast("sample_weight", weight / weight_unit, dtype)[np.newaxis]
    return Data(
        to_device(examples.rows, device),
        to_tensor(targets, device),
        None if weight is None else to_tensor(weight, device),
        rows,
        scales=None if scale is None else scale.scale[np.newaxis],
    )


def _loss_told(data: Data, shared: Shared, loss: Tensor) -> float:
    """Return the loss of the only model (m, r) in the units of y."""
    [told] = in_units_of_y(to_numpy(loss).astype(float), data, shared)
    return float(told)
