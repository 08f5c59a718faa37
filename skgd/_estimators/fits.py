"""The one way to fit: from folds of examples to trained models.

``fit`` is one fold of one model, ``partial_fit`` likewise with the next rows of a
stream, those of an ensemble are several folds of one, and a stack of a search is
several folds of several. Who trains them is chosen here, and nowhere else: by the rule
of ``engines``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import initialise_
from skgd._equations.network import Layout, new_by_layout, new_like
from skgd._equations.optimizers import OPTIMIZERS, PerModel, variant
from skgd._estimators.checks import check_wide
from skgd._estimators.endings import check_ending
from skgd._estimators.examples import Examples, device_for
from skgd._estimators.folds import Fold, Offsets, data_of, validation_of
from skgd._estimators.inputs import dtype_of
from skgd._estimators.parameters import hidden_units
from skgd._estimators.record import record_end_, record_epochs_
from skgd._estimators.scoring import tests_first
from skgd._estimators.settings import per_model_of, shared_of
from skgd._estimators.state import State, attributes_of_state, model_of, read_state
from skgd._estimators.targets import Targets, attributes_of_targets
from skgd._estimators.weights import write_initial_
from skgd._machine.errors import errors_of_caller
from skgd._training.batches import Data
from skgd._training.csr import is_wide
from skgd._training.engines import engine_of
from skgd._training.hyperparameters import Shared
from skgd._training.loop import train, train_on_chunk
from skgd._training.models import Models, joined_models
from skgd._training.progress import Keeper, Progress
from skgd._training.stopping import History, Stream
from skgd._training.takers import Watch

# Gives who looks on, if anyone, at the training of these models.
Watching = Callable[[Models, Data, Shared], AbstractContextManager[Watch | None]]


class Trained(NamedTuple):
    """A stack of models that were trained, slot by slot."""

    models: Models
    histories: Sequence[History]
    engine: str  # that trained them


def fit_folds(
    folds: Sequence[Fold],
    *,
    max_iter: int,
    tol: float | None,
    validation: Examples | None = None,
    initial: Mapping[str, Any] | None = None,
    histories: list[History] | None = None,
    streams: Sequence[Stream] | None = None,
    watching: Watching = lambda models, data, shared: nullcontext(),
    wants_steps: bool = False,
    verbose: bool = False,
    threads: int = 1,
    kept: Progress | None = None,
    keeper: Keeper | None = None,
) -> Trained:
    """Train the models of some folds as one stack; of ranks, one fold of one model.

    All that is no number of a model's own, the parameters of the first estimator say.
    ``validation`` are examples of their own to judge by, ``initial`` starting weights
    of all models. Where there are ``histories``, training goes on until ``max_iter``
    epochs in all. With what is remembered of ``streams``, one for each model, the folds
    are the next rows, seen once.
    ``wants_steps`` says whether who looks on looks at each of them, and ``threads`` on
    how many models may be trained that take their steps in turn. A single model goes on
    from where it was ``kept``, and may have a ``keeper``.
    """
    settings, targets = folds[0].estimators[0], folds[0].targets
    shared = shared_of(settings, targets, max_iter=max_iter, tol=tol, verbose=verbose)
    shared = shared._replace(threads=threads)
    of_stream = streams is not None
    begin = partial(_begin, folds, shared, initial, wants_steps, as_given=of_stream)
    with torch.inference_mode():
        data, offsets, models, shared, per_model = folds[0].ranks.agreed(begin)
        if histories is not None:
            shared = shared._replace(max_iter=max_iter - models.epochs)
        if of_stream and folds[0].states and tests_first(settings):
            validation = folds[0].examples  # before they are trained on
        held_out = validation_of(folds, data, offsets, validation, of_stream=of_stream)
        with watching(models, data, shared) as watch:
            if streams is not None:
                trained = train_on_chunk(
                    data, models, shared, per_model, streams, held_out, watch
                )
            else:
                trained = train(
                    *(data, models, shared, per_model, held_out, watch, histories),
                    *(kept, keeper),
                )
            return Trained(models, trained, shared.engine)


class _Begun(NamedTuple):
    """What training begins with."""

    data: Data
    offsets: Offsets
    models: Models
    shared: Shared
    per_model: PerModel


def _begin(
    folds: Sequence[Fold],
    shared: Shared,
    initial: Mapping[str, Any] | None,
    wants_steps: bool,
    *,
    as_given: bool,
) -> _Begun:
    """Return the rows of some folds, their models, and by which engine they train."""
    settings, targets = folds[0].estimators[0], folds[0].targets
    device = device_for(settings, folds[0].examples.X)
    estimators = [one for fold in folds for one in fold.estimators]
    data, offsets = data_of(folds, device, as_given=as_given)
    per_model = per_model_of(estimators)
    layout = _layout(settings, targets, data, len(estimators))
    if any(fold.states for fold in folds):
        models = _known_models(folds, layout, shared, per_model, device)
    else:
        models = _new_models(folds, layout, shared, per_model, data.y)
    if initial is not None:
        scales = [fold.targets.scale for fold in folds for _ in fold.estimators]
        write_initial_(models.parameters, initial, scales)
    engine = engine_of(data, layout, shared, wants_steps)
    return _Begun(data, offsets, models, shared._replace(engine=engine), per_model)


def state_of(
    models: Models,
    slot: int,
    history: History,
    fold: Fold,
    before: State | None = None,
) -> State:
    """Return the state of the model in a slot, which may have gone on from another."""
    return read_state(
        models,
        slot,
        history,
        before=before,
        split_seed=fold.split_seed,
    )


def take_over_(
    estimator: Any,
    trained: Trained,
    slot: int,
    fold: Fold,
    before: State | None = None,
    recorded: int = 0,
) -> State:
    """Write what was trained in a slot on an estimator, or raise ValueError.

    It has gone on from the state ``before``, unless its history has all of its epochs,
    some of which may be recorded already.
    """
    models, history = trained.models, trained.histories[slot]
    check_ending(estimator, fold.targets, history)
    state = state_of(models, slot, history, fold, before)
    if history.converged:  # what comes next is learned at the full rate again
        state = state._replace(slowed=1.0)
    if estimator.early_stopping:  # the weights are those of an earlier step
        behind = state.t - history.best_t
        state = state._replace(
            optimizer_begun=state.optimizer_begun + behind,
            average_begun=state.average_begun + behind,
        )
    record_epochs_(estimator, models.t, history, recorded)
    record_end_(estimator, history)
    estimator.engine_ = trained.engine
    vars(estimator).update(attributes_of_targets(fold.targets))
    vars(estimator).update(attributes_of_state(state, fold.targets))
    return state


def _layout(settings: Any, targets: Targets, data: Data, n_models: int) -> Layout:
    """Return how the weights of the models lie, or raise ValueError."""
    n_features, wide = data.x.shape[1], is_wide(data.x)
    if wide:
        with errors_of_caller():
            check_wide(settings, n_features, data.shard is not None)
    sizes = (n_features, *hidden_units(settings), targets.n_outputs)
    return Layout(n_models, sizes, bool(settings.fit_intercept), wide)


def _new_models(
    folds: Sequence[Fold],
    layout: Layout,
    shared: Shared,
    per_model: PerModel,
    like: Tensor,
) -> Models:
    """Return models that begin: linear ones at zero, the others as they are drawn."""
    generators = [fold.generator for fold in folds]
    network = new_by_layout(layout, like)
    activation = ACTIVATIONS[shared.activation](shared.negative_slope)
    initialise_(network, activation, generators, folds[0].estimators[0].init)
    optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    return Models(
        network,
        optimizer_state={name: new_like(network) for name in optimizer.state_names},
        generators=generators,
        average=new_like(network) if shared.average else None,
        slowed=np.ones(layout.n_models) if shared.adaptive else None,
    )


def _known_models(
    folds: Sequence[Fold],
    layout: Layout,
    shared: Shared,
    per_model: PerModel,
    device: torch.device,
) -> Models:
    """Return models that go on from the states of their folds, or raise ValueError."""
    optimizer = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    models = [
        model_of(
            state,
            layout.alone,
            optimizer.state_names,
            fold.generator,
            dtype_of(fold.examples.X),
            device,
            averages=bool(shared.average),
            adapts=shared.adaptive,
        )
        for fold in folds
        for state in fold.states
    ]
    return joined_models(models, [fold.generator for fold in folds])
