"""What the two estimators share: from what a caller hands in to the fitted state.

Fitted state is NumPy and Python values only; tensors live inside a call. Every call
that trains works on a copy of the estimator and takes its state over at the end, so
input that is refused, or training that diverges, leaves the estimator as it was.
"""

from __future__ import annotations  # help() then shows ArrayLike, not all it stands for

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from os import PathLike, fspath
from typing import Any, Never, Self, TypeVar, cast

import torch
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgd._equations.schedules import LAID_OUT
from skgd._estimators.blocks import Blocks, as_blocks
from skgd._estimators.callbacks import (
    CallbackSupportMixin,
    has_callbacks,
    wants_batches,
    with_callbacks,
    without_contexts_,
)
from skgd._estimators.checkpoints import (
    Checkpoint,
    FileKeeper,
    for_data,
    keeping,
    opened,
)
from skgd._estimators.checks import check_held_out, check_outputs
from skgd._estimators.cluster import where_rows_lie
from skgd._estimators.collections import computed, is_collection, lazily
from skgd._estimators.endings import (
    interruption,
    warn_of_batch_size,
    warn_of_ending,
    warn_of_penalty,
    warn_of_unlike,
)
from skgd._estimators.examples import (
    Examples,
    checked_examples,
    dtypes_of,
    sentence_on_memory,
)
from skgd._estimators.fits import fit_folds, take_over_
from skgd._estimators.folds import Fold, fold_of, shard_here, stacks_of
from skgd._estimators.growth import grown_state
from skgd._estimators.inputs import dtype_of, on_host, starts_on_host
from skgd._estimators.members import (
    MEMBERS,
    attributes_of_members,
    check_as_many,
    known_states,
    members_of,
    members_to_train,
)
from skgd._estimators.parallel import (
    Together,
    begins_alike,
    check_can_be_shared,
    together_now,
)
from skgd._estimators.parameters import check_parameters
from skgd._estimators.peers import check_call, check_no_others, of_peers
from skgd._estimators.predictions import known_prediction, raw_predictions_of
from skgd._estimators.record import record_running_, shorten_curves_
from skgd._estimators.saved import file_of, model_of
from skgd._estimators.state import (
    State,
    attributes_of_state,
    copy_of,
    forget_,
    renewed_,
)
from skgd._estimators.surveys import some_rows, surveyed
from skgd._estimators.targets import (
    Numbers,
    Targets,
    attributes_of_targets,
    known_targets,
)
from skgd._estimators.versions import of_this_version, with_version
from skgd._estimators.watch import FitWatch, Given, looking_on_together, with_clock
from skgd._machine.errors import in_the_words
from skgd._machine.files import read_whole, write_atomically
from skgd._machine.generators import unmoved_on_error
from skgd._machine.interrupts import INTERRUPTED, interruptible
from skgd._machine.memory import memory_for
from skgd._machine.modes import numpy_as_usual
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.stopping import History, Stream

Method = TypeVar("Method", bound=Callable[..., Any])


def _of_models(n_models: int) -> AbstractContextManager[None]:
    """Say in errors of the block that one of several models is the reason."""
    if n_models == 1:
        return nullcontext()
    return in_the_words(f"one of n_models={n_models}")


def _stream_of(fold: Fold) -> Stream:
    """Return what is remembered of a stream by the model of a fold."""
    return Stream(*(fold.before.stream if fold.before else ()))


def _check_no_more(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse to predict more than one number a target of a collection of Dask's."""
    if any(args) or any(kwargs.values()):
        msg = (
            "return_std must be False for a Dask collection. Got True; predict by each "
            "of estimators_, and take the std of what they predict."
        )
        raise ValueError(msg)


def of_one_state(method: Method) -> Method:
    """Return a method that predicts, which reads the state of its estimator once.

    Another thread may be learning: at the end of its call all of the state is swapped
    for another one. Weights, intercepts and classes are then all old, or all new. Of a
    collection of Dask's it predicts lazily, partition by partition, by that state.
    """

    @numpy_as_usual
    @wraps(method)
    def on_a_snapshot(self: MiniBatchBase, X: Any, *args: Any, **kwargs: Any) -> Any:
        snapshot = copy_of(self)
        if is_collection(X):
            _check_no_more(args, kwargs)
            return lazily(snapshot, method.__name__, X)
        return method(snapshot, X, *args, **kwargs)

    return cast(Method, on_a_snapshot)


# What fit may be given to start from.
STARTS = ("coef_init", "intercept_init", "coefs_init", "intercepts_init")


class MiniBatchBase(ABC, CallbackSupportMixin, BaseEstimator):
    """All that the two estimators share."""

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

    @numpy_as_usual
    @where_rows_lie
    def fit(
        self,
        X: ArrayLike | Blocks,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        coefs_init: Sequence[ArrayLike] | None = None,
        intercepts_init: Sequence[ArrayLike] | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_seconds: float = 60.0,
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
            with on its own device. Or rows that do not fit into memory: ``Blocks``, or
            a ``pyarrow.dataset.Dataset`` of Parquet files, whose columns y and
            sample_weight then name; X is all others. Or an array or a data frame of
            Dask's, with y and sample_weight cut alike: where there is a client, the
            workers that hold the partitions train together, see ``skgd.dask.fit``, and
            otherwise they are read as ``Blocks``.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets of a regressor. Labels of a classifier, of shape (n_samples,), or 0
            and 1 for each of several labels, of shape (n_samples, n_labels). None where
            X is ``Blocks``, which have their own.
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
            normalised, at their mean. All of ``n_models`` start there.
        coefs_init, intercepts_init : list of array-like, default=None
            Starting weights of a network, of the shapes of ``coefs_`` and
            ``intercepts_``, likewise. None draws the former, and starts the latter as
            those of a linear model.
        checkpoint : str or path-like, default=None
            A file from which a fit that was cut short goes on: the same call, made
            again in this process or another one, takes the steps that are left, and
            ends with the very bits of a fit that nothing has cut short, where versions,
            machine and threads are the same. It is written at whole steps: when
            training begins, after every ``checkpoint_seconds``, at the end, on Ctrl-C
            and on SIGTERM, which then takes its course. Parameters (but ``max_time``
            and ``verbose``) and data must be those of the fit that it holds. If that
            has ended, the model is returned at once; if it was ended by Ctrl-C or
            ``max_time``, it goes on. A file is for one fit, so not for the many of a
            cross-validation. None keeps nothing. Of an ensemble there is none.
        checkpoint_seconds : float >= 0, default=60.0
            Steps of so many seconds are lost at the most. 0 writes at every whole step.
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
            better ones than the start. If ``checkpoint`` is damaged, is no checkpoint,
            or is one of another fit: what differs is named.
        OSError
            If ``checkpoint`` cannot be read, or not be written when training begins.
            Later on, that is a warning.
        KeyboardInterrupt
            After Ctrl-C, when the model is stored.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_diabetes
        >>> from skgd import MiniBatchRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> path = os.path.join(tempfile.mkdtemp(), "run.skgd")
        >>> first = MiniBatchRegressor(random_state=0).fit(X, y, checkpoint=path)
        >>> again = MiniBatchRegressor(random_state=0).fit(X, y, checkpoint=path)
        >>> bool((again.coef_ == first.coef_).all())
        True
        """
        check_no_others(f"{type(self).__name__}.fit", others)
        starts = coef_init, intercept_init, coefs_init, intercepts_init
        initial: dict[str, Any] = dict(zip(STARTS, starts, strict=True))
        held_out = Given(X_val, y_val, sample_weight_val)
        together = together_now()
        ranks = together.ranks
        with ranks.together():
            X, y, sample_weight = ranks.agreed(partial(as_blocks, X, y, sample_weight))
            trainee, before, initial = ranks.agreed(
                partial(self._begin, held_out, initial, ranks)
            )
            ranks.check_alike(partial(begins_alike, self, before, initial))
            file = opened(checkpoint, checkpoint_seconds, self, ranks)
            examples, targets = trainee._checked(X, y, sample_weight, before, ranks)
            validation = None
            if ranks.any(X_val is not None):
                with in_the_words("X_val, y_val and sample_weight_val"):
                    validation = trainee._checked_validation(
                        held_out, examples, targets, ranks
                    )
                if ranks is ALONE:  # a part of the rows may well be unlike another
                    warn_of_unlike(some_rows(examples.X), validation.X)
            shard = shard_here(examples, together)
            warn_of_batch_size(self, shard.n_in_all if shard else examples.X.shape[0])
            histories = trainee._train(
                examples,
                targets,
                before,
                Given(X, y, sample_weight),
                together,
                validation=validation,
                initial=initial,
                checkpoint=file,
            )
        self.__dict__ = trainee.__dict__
        if histories[0].ended == INTERRUPTED:
            raise KeyboardInterrupt(interruption(self.n_iter_, self.t_))
        targets = cast(Targets, known_targets(trainee))
        warn_of_ending(self, targets, histories)
        warn_of_penalty(self, targets)
        return self

    def save(self, path: str | PathLike[str], note: Any = None) -> None:
        """Write the model to a file that ``load`` reads: no pickle, and no code in it.

        All that predicting and going on need is kept, and comes back to the bit:
        parameters, weights, the state of the optimizer, the random stream, curves,
        classes, names of columns. The file is whole at any moment, see
        ``write_atomically``.

        Callbacks are left out, with a warning. So are parameters that are functions,
        which are to be given to ``load`` again.

        Parameters
        ----------
        path : str or path-like
            What the file is called.
        note : object, default=None
            What ``load`` gives back as ``note_``: None, bools, numbers, text and
            arrays, in lists, tuples and dicts. Of a stream, say, the number of the last
            chunk: the two are written together.

        Returns
        -------
        None

        Raises
        ------
        OSError
            If the file cannot be written. The old one is then as it was.
        ValueError
            If a parameter is not what it must be, or an attribute not as training
            leaves it: no file is written that could not be read.
        TypeError
            If ``note``, or an attribute that you have set, is of values that a file
            cannot hold.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_diabetes
        >>> from skgd import MiniBatchRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = MiniBatchRegressor(random_state=0).partial_fit(X[:200], y[:200])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.skgd")
        >>> model.save(path, note={"chunk": 1})
        >>> model = MiniBatchRegressor.load(path)
        >>> model.note_
        {'chunk': 1}
        >>> model.partial_fit(X[200:], y[200:]).t_
        15
        """
        write_atomically(path, file_of(self, note))

    @classmethod
    def load(cls, path: str | PathLike[str], **parameters: Any) -> Self:
        """Return the model of a file that ``save`` has written. No code is run.

        The file is checked before anything is made of it: that it is whole and
        undamaged, that it is of this class, that its parameters and arrays are such as
        a model has. So a file from anywhere can do no worse than be refused, or predict
        badly.

        Parameters
        ----------
        path : str or path-like
            What the file is called.
        **parameters : dict
            Parameters that are to be others than those of the file, and those that were
            functions: ``load(path, lr_schedule=f)``.

        Returns
        -------
        model : object
            The estimator. ``note_`` is what ``save`` was given to note. A parameter
            that the version which wrote the file did not have has its default.

        Raises
        ------
        OSError
            If there is no such file, or it may not be read.
        ValueError
            If the file is damaged, was written by no ``save``, by that of another
            class, or by a later version in a way that this one does not know; or if a
            parameter was a function and is not given.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_diabetes
        >>> from skgd import MiniBatchRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = MiniBatchRegressor(lr_schedule=lambda t: 1 / t).fit(X, y)
        >>> path = os.path.join(tempfile.mkdtemp(), "model.skgd")
        >>> model.save(path)
        >>> loaded = MiniBatchRegressor.load(path, lr_schedule=lambda t: 1 / t)
        >>> bool((loaded.predict(X) == model.predict(X)).all())
        True
        """
        data = read_whole(path)
        with in_the_words(f"the file {fspath(path)!r}"):
            return model_of(data, cls, parameters)

    def _check_parameters(self, ranks: Ranks) -> None:
        """Raise ValueError for parameters that nobody can train by, or not together."""
        check_parameters(self)
        if ranks is not ALONE:
            check_can_be_shared(self, has_callbacks(self) and wants_batches(self))

    def _begin(
        self, held_out: Given, initial: Mapping[str, Any], ranks: Ranks
    ) -> tuple[Self, list[State], dict[str, Any]]:
        """Return the copy to be trained by ``fit``, from which states, and weights."""
        self._check_parameters(ranks)
        check_held_out(*held_out)
        trainee = copy_of(self)
        before = known_states(trainee) if self.warm_start else []
        check_as_many(self, before)
        if not before:
            forget_(trainee)
        elif self.lr_schedule in LAID_OUT:  # over the epochs of this fit
            before = [one._replace(schedule_begun=one.epochs) for one in before]
        return trainee, before, starts_on_host(initial)

    def _check_stream(
        self, y: ArrayLike, classes: ArrayLike | None, ranks: Ranks
    ) -> ArrayLike | None:
        """Return the classes, or raise ValueError for what no ``partial_fit`` takes."""
        self._check_parameters(ranks)
        if self.early_stopping:
            msg = (
                "partial_fit does not support early_stopping=True, for it sees the "
                "rows of a stream once; early_stopping should be False with "
                "partial_fit."
            )
            raise ValueError(msg)
        return classes

    def _partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None,
        sample_weight: ArrayLike | None,
    ) -> Self:
        trainee, together = copy_of(self), together_now()
        ranks, known = together.ranks, known_targets(trainee)
        with ranks.together():
            classes = ranks.agreed(partial(self._check_stream, y, classes, ranks))
            before = known_states(trainee)
            ranks.agreed(partial(check_as_many, self, before))
            ranks.check_alike(partial(begins_alike, self, before, {}))
            examples, targets = trainee._checked(
                X, y, sample_weight, before, ranks, classes, of_stream=True
            )
            states = [grown_state(one, self.loss, known, targets) for one in before]
            if ranks.any(examples.weight is None or bool(examples.weight.any())):
                full_rate = [  # from now on
                    one if one.slowed == 1.0 else one._replace(slowed=1.0)
                    for one in states
                ]
                given = Given(X, y, sample_weight)
                trainee._train(
                    examples, targets, full_rate, given, together, of_stream=True
                )
            else:  # classes, maybe more
                trainee._note(targets, before, states)
        self.__dict__ = trainee.__dict__
        return self

    def _note(
        self, targets: Targets, before: Sequence[State], states: Sequence[State]
    ) -> None:
        """Keep what is learnt of rows of which none counts: classes, maybe more."""
        if not before:
            self.__dict__.update(attributes_of_targets(targets))
        elif states[0] is not before[0]:
            members = members_of(self)
            for member, state in zip(members, states, strict=True):
                vars(member).update(attributes_of_targets(targets))
                vars(member).update(attributes_of_state(state, targets))
            self._keep(members)

    def _keep(self, members: Sequence[Self]) -> None:
        """Keep what was written on the members, if they are others than this one."""
        if members[0] is not self:
            self.__dict__.update(attributes_of_members(members))

    def _checked(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        before: Sequence[State],
        ranks: Ranks,
        classes: ArrayLike | None = None,
        *,
        of_stream: bool = False,
    ) -> tuple[Examples, Targets]:
        """Return examples to train on and what is learnt of y, or raise ValueError."""
        dtype = before[0].layers[0][0].dtype if before else None
        first = not hasattr(self, "n_features_in_")
        if isinstance(X, Blocks) and not of_stream:
            known, dtypes = known_targets(self), dtypes_of(self, dtype)
            return surveyed(
                self, X, known=known, dtypes=dtypes, first=first, ranks=ranks
            )
        return checked_examples(
            self,
            X,
            y,
            sample_weight,
            classes,
            known=known_targets(self),
            dtypes=dtypes_of(self, dtype),
            first=first,
            of_stream=of_stream,
            ranks=ranks,
        )

    def _checked_validation(
        self, given: Given, training: Examples, targets: Targets, ranks: Ranks
    ) -> Examples:
        """Return examples to judge by, of targets that are those of the training."""
        examples, _ = checked_examples(
            self,
            *given,
            known=targets,
            dtypes=[dtype_of(training.X)],
            first=False,
            training=training,
            ranks=ranks,
        )
        ranks.agreed(
            partial(check_outputs, len(training.targets), len(examples.targets))
        )
        return examples

    def _train(
        self,
        examples: Examples,
        targets: Targets,
        before: Sequence[State],
        given: Given,
        together: Together,
        *,
        validation: Examples | None = None,
        initial: Mapping[str, Any] | None = None,
        of_stream: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> list[History]:
        """Train all models and keep their state, or raise.

        In ``fit``, Ctrl-C is put off until the state is kept; a call of ``partial_fit``
        is short.
        """
        seed = None
        if checkpoint is not None:
            rows = examples, validation
            checkpoint = for_data(checkpoint, *rows, initial, before, targets, together)
            seed = checkpoint.split_seed
        sentence = partial(sentence_on_memory, self, examples.X, targets.n_outputs)
        with memory_for(sentence), unmoved_on_error(self.random_state):
            folds = self._folds(examples, targets, before, validation, together, seed)
            if of_stream:
                return self._fit_folds(folds, given, of_stream=True)
            seed, ranks = folds[0].split_seed, together.ranks
            with (
                interruptible() as pressed,
                keeping(checkpoint, seed, ranks) as keeper,
            ):

                def interrupted() -> str:
                    return pressed() or together.interrupted()

                histories = self._fit_folds(
                    folds,
                    given,
                    interrupted,
                    validation=validation,
                    initial=initial,
                    keeper=keeper,
                )
            for history in histories:
                history.ended = interrupted() or history.ended
        return histories

    def _folds(
        self,
        examples: Examples,
        targets: Targets,
        before: Sequence[State],
        validation: Examples | None,
        together: Together,
        seed: int | None = None,
    ) -> list[Fold]:
        """Return what is trained on: a fold for each model, with its own stream."""
        members, folds = members_to_train(self, together.ranks), []
        states: list[State | None] = [*before] if before else [None] * len(members)
        for member, state in zip(members, states, strict=True):
            known, of_member = known_targets(member), targets
            if isinstance(known, Numbers) and isinstance(targets, Numbers):
                of_member = targets._replace(scale=known.scale)
            fold = fold_of(
                member, examples, of_member, state, validation, together, seed
            )
            folds.append(fold)
        return folds

    def _fit_folds(
        self,
        folds: Sequence[Fold],
        given: Given,
        interrupted: Callable[[], str] = str,
        *,
        validation: Examples | None = None,
        initial: Mapping[str, Any] | None = None,
        of_stream: bool = False,
        keeper: FileKeeper | None = None,
    ) -> list[History]:
        """Train on folds of one model each and keep their state, or raise ValueError.

        Those that cannot be one stack are trained one after the other, and share the
        time that there is. So are those that callbacks look at: each is a fit to them.
        (Of a stream there is no clock: str says nothing.)
        """
        begun = None if keeper is None else keeper.begun
        stacks = stacks_of(folds, apart=has_callbacks(self))
        histories: list[History] = []
        for stack in stacks:
            over = interrupted
            if not of_stream and self.max_time is not None:
                over = with_clock(interrupted, self.max_time / len(stacks))
            [member] = stack[0].estimators
            with _of_models(len(folds)):
                histories += member._fit_stack(
                    stack,
                    FitWatch(member, given, stack[0], over, begun and begun.history),
                    validation=validation,
                    initial=initial,
                    of_stream=of_stream,
                    keeper=keeper,
                )
        self._keep([fold.estimators[0] for fold in folds])
        return histories

    @with_callbacks
    def _fit_stack(
        self,
        stack: Sequence[Fold],
        watch: FitWatch,
        *,
        validation: Examples | None,
        initial: Mapping[str, Any] | None,
        of_stream: bool,
        keeper: FileKeeper | None,
    ) -> Sequence[History]:
        """Train a stack, of which this is the first model, or raise ValueError."""
        trained = fit_folds(
            stack,
            max_iter=1 if of_stream else self.max_iter,
            tol=None if of_stream else self.tol,
            validation=validation,
            initial=initial,
            streams=[_stream_of(fold) for fold in stack] if of_stream else None,
            watching=partial(looking_on_together, watch, stack[0].ranks),
            wants_steps=watch.wants_steps,
            verbose=bool(self.verbose),
            threads=torch.get_num_threads(),
            kept=None if keeper is None else keeper.begun,
            keeper=keeper,
        )
        fold, ranks = stack[0], stack[0].ranks
        tested = of_stream and bool(trained.histories[0].validation_loss_curve)
        n_rows = fold.examples.total_weight(ranks) if tested else 0.0

        def keep() -> None:
            for slot, fold in enumerate(stack):
                [member] = fold.estimators
                take_over_(member, trained, slot, fold, fold.before, watch.recorded)
                if tested:
                    record_running_(member, trained.histories[slot], n_rows)
                if of_stream:
                    shorten_curves_(member)
            watch.end()

        ranks.agreed(keep)
        return trained.histories

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = isinstance(self, RegressorMixin)
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "t_")

    def __getstate__(self) -> dict[str, Any]:
        return with_version(super().__getstate__())

    def __setstate__(self, pickled: Mapping[str, Any]) -> None:
        super().__setstate__(of_this_version(type(self), pickled))
        renewed_(self)

    def __copy__(self) -> Self:
        other = copy_of(self)
        without_contexts_(other)
        return other

    @numpy_as_usual
    def _score_by(
        self,
        metric: Callable[..., float],
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
    ) -> float:
        """Return a metric of predictions and targets, which may lie on a device."""
        if is_collection(X):  # its predictions fit into memory where X may not
            predicted, y, sample_weight = computed(self.predict(X), y, sample_weight)
            return float(metric(y, predicted, sample_weight=sample_weight))
        weight, truth = on_host("sample_weight", sample_weight), on_host("y", y)
        with config_context(array_api_dispatch=False):  # y lies on the host
            return float(metric(truth, self.predict(X), sample_weight=weight))

    @abstractmethod
    def predict(self, X: ArrayLike) -> Any:
        """Predict the targets."""

    def _raw_predictions(self, X: ArrayLike) -> Tensor:
        """Return the predictions of all models before the inverse link, (m, o, n)."""
        z = known_prediction(self, X)
        if z is not None:
            return z
        if not self.__sklearn_is_fitted__():  # scikit-learn asks for all tags first
            check_is_fitted(self)
        check_parameters(self)
        return raw_predictions_of(self, X)

    @property
    def estimators_(self) -> list[Self]:
        """The models of an ensemble, each as a fitted estimator; with n_models > 1."""
        if MEMBERS not in vars(self):
            msg = (
                f"This {type(self).__name__} has no estimators_, for it is no fitted "
                "ensemble; with n_models > 1 it is one after fit."
            )
            raise AttributeError(msg)
        return members_of(self)
