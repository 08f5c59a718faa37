"""The one way to fit: from folds of examples to trained models.

``fit`` is one fold of one model, ``partial_fit`` likewise with the next rows of a
stream, those of an ensemble are several folds of one, and a stack of a search is
several folds of several. Who trains them is chosen here, and nowhere else: by the rule
of ``engines``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import initialise_
from skgd._equations.losses import loss_named
from skgd._equations.network import Layout, new_by_layout, new_like
from skgd._equations.optimizers import OPTIMIZERS, PerModel, variant
from skgd._estimators.checks import (
    check_any_counts,
    check_cast,
    check_split,
    check_wide,
)
from skgd._estimators.endings import check_ending
from skgd._estimators.examples import Examples, device_for
from skgd._estimators.inputs import Matrix, dtype_of, to_device
from skgd._estimators.parameters import hidden_units
from skgd._estimators.record import record_end_, record_epochs_
from skgd._estimators.scoring import bind_score, has_score, held_out_of, tests_first
from skgd._estimators.settings import per_model_of, shared_of
from skgd._estimators.state import State, attributes_of_state, model_of, read_state
from skgd._estimators.surveys import (
    BlockRows,
    parts_of_blocks,
    rows_in_memory,
    without_blocks,
)
from skgd._estimators.targets import Classes, Numbers, Targets, attributes_of_targets
from skgd._estimators.weights import write_initial_
from skgd._machine.arrays import Array, Floats, Indices
from skgd._machine.devices import to_tensor
from skgd._machine.errors import errors_of_caller
from skgd._machine.memory import pieces
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.batches import Data, Part, Windows, padded
from skgd._training.csr import is_wide
from skgd._training.engines import engine_of
from skgd._training.hyperparameters import Shared
from skgd._training.loop import train, train_on_chunk
from skgd._training.models import Models, joined_models
from skgd._training.progress import Keeper, Progress
from skgd._training.shards import Shard, Split, split_shard
from skgd._training.stack import Validation
from skgd._training.stopping import History, Stream
from skgd._training.takers import Watch
from skgd._training.target_scale import on_scale, scale_of
from skgd._training.windows import rows_of_a_window

# Gives who looks on, if anyone, at the training of these models.
Watching = Callable[[Models, Data, Shared], AbstractContextManager[Watch | None]]


class Fold(NamedTuple):
    """Models that see the same rows in the same order."""

    examples: Examples
    targets: Targets  # as learnt of these, with the scale that is trained on
    generator: np.random.Generator
    estimators: Sequence[Any]  # one for each model: its parameters
    rows: Indices | None = None  # the examples trained on; None is all
    held_out: Indices | None = None  # the examples held out, if any
    split_seed: int | None = None  # that held them out
    states: Sequence[State] = ()  # to go on from, one for each model if any
    # Where other ranks have other rows: those of all that are trained on, and held out.
    shard: Shard | None = None
    shard_held_out: Shard | None = None

    @property
    def ranks(self) -> Ranks:
        """Who trains: this process alone, or several."""
        return ALONE if self.shard is None else self.shard.ranks

    @property
    def mean_weight(self) -> float:
        """What the rows count that are trained on, on average."""
        if self.shard is None:
            return self.examples.mean_weight(self.rows)
        return self.shard.mean_weight

    @property
    def before(self) -> State | None:
        """The state that the first model goes on from, if it does."""
        return self.states[0] if self.states else None

    @property
    def n_rows(self) -> int:
        """The number of examples that are trained on."""
        return len(self.examples.labels if self.rows is None else self.rows)


# Bytes of rows that are copied for several folds, at the most.
BYTES_OF_ROWS = 2**30


def stacks_of(folds: Sequence[Fold], *, apart: bool = False) -> list[Sequence[Fold]]:
    """Return the folds of the models of an ensemble, those of each stack together.

    They are one stack, unless some have taken fewer steps than others by now, or are to
    be ``apart``. Rows in blocks, those of several ranks, and wide sparse ones are seen
    by a model at a time; and whole sets, which are copied for each, by so many as there
    may be bytes.
    """
    alike: dict[Any, list[Fold]] = {}
    for fold in folds:
        state = fold.before
        begun = () if state is None else _how_far(state)
        alike.setdefault(begun, []).append(fold)
    at_once = 1 if apart else _folds_at_once(folds[0], len(folds))
    return [few for some in alike.values() for few in pieces(some, at_once)]


def _how_far(state: State) -> tuple[Any, ...]:
    """Return what the models of a stack have in common that go on."""
    return (
        *(state.t, state.epochs, state.optimizer_begun, state.average_begun),
        *(state.schedule_begun, state.in_training is None, *state.optimizer_state),
    )


def _folds_at_once(fold: Fold, n_folds: int) -> int:
    """Return how many folds, which have X in common, may make up a stack."""
    X = fold.examples.X
    if isinstance(X, BlockRows) or fold.shard is not None or is_wide(X):
        return 1
    size = fold.estimators[0].batch_size
    if size is not None and size < fold.n_rows:
        return n_folds
    n_bytes = int(X.shape[0] * X.shape[1] * dtype_of(X).itemsize)
    return max(1, BYTES_OF_ROWS // n_bytes)


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
        held_out = _validation_of(folds, data, offsets, validation, of_stream=of_stream)
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


def seed_of_split(generator: np.random.Generator, known: int | None = None) -> int:
    """Return the seed by which rows are held out: that of before, or one that is drawn.

    So a warm start holds out the same ones.
    """
    return int(generator.integers(2**31)) if known is None else known


def hold_out(
    settings: Any, examples: Examples, targets: Targets, split_seed: int
) -> tuple[Indices, Indices]:
    """Return the examples to train on, and those to hold out."""
    n_rows = len(examples.labels)
    try:
        rows, held_out = train_test_split(
            np.arange(n_rows),
            test_size=settings.validation_fraction,
            stratify=targets.strata(examples.targets),
            random_state=split_seed,
        )
    except ValueError as error:
        msg = (
            f"early_stopping=True must hold out validation_fraction="
            f"{settings.validation_fraction} of the {n_rows} rows. Got: {error} Give "
            "more rows, another fraction, or X_val and y_val."
        )
        raise ValueError(msg) from error
    check_split(len(held_out), *_count_in_all(examples, rows, held_out))
    return np.sort(rows), np.sort(held_out)


def hold_out_together(
    settings: Any, examples: Examples, targets: Targets, shard: Shard, split_seed: int
) -> Split:
    """Return which rows are held out where they lie on several ranks.

    They are as many as of one process, in the shares of the classes too.
    """
    strata, n_kinds = targets.strata(examples.targets), 1
    if isinstance(targets, Classes) and strata is not None:
        n_kinds = len(targets.labels)
    kinds = np.zeros(len(examples.labels)) if strata is None else strata
    n_held_out = ceil(settings.validation_fraction * shard.n_in_all)
    split = split_shard(shard, kinds.astype(np.int64), n_kinds, n_held_out, split_seed)
    told = len(split.rows), *_count_in_all(examples, split.rows, split.held_out)
    of_ranks = np.array(shard.ranks.gather(told))
    shard.ranks.agreed(partial(_check_split_of_all, of_ranks, n_held_out))
    return split


def _count_in_all(examples: Examples, *several: Indices) -> list[float]:
    """Return what some rows of the examples count, and some others."""
    if examples.weight is None:
        return [float(len(rows)) for rows in several]
    return [float(examples.weight[rows].sum()) for rows in several]


def _check_split_of_all(of_ranks: Floats, n_held_out: int) -> None:
    """Refuse a split of all rows, given rows and weights of each rank's parts."""
    n_rows, *counts = of_ranks.T
    if not n_rows.all():
        msg = (
            "early_stopping=True must leave every rank rows to train on. Got none on "
            f"rank {int(np.argmin(n_rows))}; give it more rows, or X_val and y_val."
        )
        raise ValueError(msg)
    check_split(n_held_out, *(float(count.sum()) for count in counts))


def hold_out_blocks(
    settings: Any, examples: Examples, targets: Targets, split_seed: int, ranks: Ranks
) -> tuple[Examples, Shard | None]:
    """Return the examples of the blocks to train on, which know those held out.

    Whole blocks are held out, and stay in memory: no more of them than make a window,
    if one does not. Ranks take them by turns; which of them lie here, the shard says.
    """
    rows: BlockRows = examples.X
    order = np.random.default_rng(split_seed).permutation(np.flatnonzero(rows.lengths))
    if len(order) < 2:
        msg = (
            "early_stopping=True must hold out one of several blocks. Got a single "
            "block; make smaller ones, or give X_val and y_val."
        )
        raise ValueError(msg)
    wanted = min(settings.validation_fraction * rows.shape[0], rows.blocks.chunk_rows)
    in_all = np.cumsum(rows.lengths[order])
    n_blocks = int(np.searchsorted(in_all, wanted, "right"))
    chosen = order[: min(max(1, n_blocks), len(order) - 1)]
    here = np.arange(len(chosen))[ranks.rank :: ranks.size].tolist()
    judged = ranks.agreed(
        lambda: rows_in_memory(settings, targets, rows, chosen[here].tolist())
    )
    mean_weight = judged.mean_weight(None, ranks)
    check_any_counts("sample_weight of the rows held out", np.array([mean_weight]))
    left = without_blocks(examples, chosen)
    check_any_counts("sample_weight of the rows trained on", left.weight)
    shard = None
    if ranks is not ALONE:
        lengths = tuple(rows.lengths[chosen].tolist())
        shard = Shard(ranks, lengths, tuple(here), mean_weight)
    return left._replace(X=left.X._replace(held_out=judged)), shard


def with_scale(
    settings: Any,
    targets: Targets,
    examples: Examples,
    rows: Indices | None,
    *,
    first: bool,
    ranks: Ranks = ALONE,
) -> Targets:
    """Return the targets with the scale of those trained on, or all, if they have one.

    What was known before stays. Unless it is the ``first`` call, targets without a
    scale stay without.
    """
    if not isinstance(targets, Numbers):
        return targets
    log_link, before = loss_named(settings.loss).log_link, targets.scale
    if before is None:
        if not (settings.normalize_y and first):
            return targets
    elif len(before.scale) != len(examples.targets):
        return targets._replace(scale=None)  # training will not go on with other layers
    elif before.log_link != log_link:  # another loss than before
        before = None
    encoded, weight = examples.targets, examples.weight
    if rows is not None:
        encoded = encoded[:, rows]
        weight = None if weight is None else weight[rows]
    scale = scale_of(
        encoded,
        weight,
        log_link=log_link,
        fit_intercept=settings.fit_intercept,
        before=before,
        ranks=ranks,
    )
    return targets._replace(scale=scale)


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


# Where the rows of each X begin among those of all, by its identity.
Offsets = Mapping[int, int]


def data_of(
    folds: Sequence[Fold], device: torch.device, *, as_given: bool = False
) -> tuple[Data, Offsets]:
    """Return the rows of all folds as tensors, and where those of each X begin.

    Weights are divided by their mean, or ``as_given``.
    """
    if _is_whole(folds):
        [fold] = folds
        return _data_of_one(fold, device, as_given=as_given), {id(fold.examples.X): 0}
    distinct = {id(fold.examples.X): fold.examples.X for fold in folds}
    offsets, n_rows = dict[int, int](), 0
    for key, X in distinct.items():
        offsets[key] = n_rows
        n_rows += X.shape[0]
    joined = _joined(list(distinct.values()))
    dtype = dtype_of(joined)
    targets = _targets_of(folds, offsets, n_rows, dtype)
    weight = _weights_of(folds, offsets, n_rows, as_given=as_given)
    rows, counts = _rows_of(folds, [fold.rows for fold in folds], offsets)
    scales = [fold.targets.scale.scale for fold in folds if fold.targets.scale]
    data = Data(
        to_device(joined, device),
        _targets_on(device, targets, folds[0].targets),
        _weights_on(device, weight, dtype),
        rows,
        counts,
        np.stack(scales) if scales else None,
    )
    return data, offsets


def _data_of_one(fold: Fold, device: torch.device, *, as_given: bool) -> Data:
    """Return the rows of one fold, whose examples are all rows in order."""
    examples, scale = fold.examples, fold.targets.scale
    if isinstance(examples.X, BlockRows):
        return _data_of_blocks(fold, examples.X, device)
    dtype, weight = dtype_of(examples.X), examples.weight
    targets = on_scale(examples.targets, scale).astype(dtype, copy=False)
    if weight is not None:
        unit = 1.0 if as_given else fold.mean_weight
        weight = (weight / unit)[np.newaxis]
    return Data(
        to_device(examples.X, device),
        _targets_on(device, targets, fold.targets),
        _weights_on(device, weight, dtype),
        fold.rows,
        scales=None if scale is None else scale.scale[np.newaxis],
        shard=fold.shard,
    )


def _data_of_blocks(fold: Fold, rows: BlockRows, device: torch.device) -> Data:
    """Return room for a window of rows in blocks, and what reads them.

    Where ranks share the windows there is one row more, which counts nothing.
    """
    settings, examples, targets = fold.estimators[0], fold.examples, fold.targets
    scale, (n_samples, n_features) = targets.scale, rows.shape
    with errors_of_caller():
        most = rows.blocks.chunk_rows
        length = rows_of_a_window(n_samples, settings.batch_size, most)
    assert examples.weight is not None
    mean_weight = float(examples.weight.sum()) / n_samples
    is_shared = fold.shard is not None
    is_weighted = rows.is_weighted or is_shared

    def part_of(some: Examples) -> Part:
        y = on_scale(some.targets, scale).astype(rows.dtype, copy=False)
        if not is_weighted:
            return Part(some.X, y, None)
        if some.weight is None:
            return Part(some.X, y, np.ones(len(some.labels), rows.dtype))
        return Part(some.X, y, (some.weight / mean_weight).astype(rows.dtype))

    def read(order: Indices) -> Iterator[Part]:
        parts = parts_of_blocks(settings, targets, rows, order.tolist())
        return map(part_of, parts)

    def data(x: Array, y: Array, weight: Array | None) -> Data:
        arrays = to_tensor(x, device), _targets_on(device, y, targets)
        of_rows = None if weight is None else weight[np.newaxis]
        scales = None if scale is None else scale.scale[np.newaxis]
        on_device = _weights_on(device, of_rows, rows.dtype)
        return Data(*arrays, on_device, scales=scales)

    of_digest = examples.weight / examples.weight.mean()
    no_columns = np.empty((len(of_digest), 0), rows.dtype)
    digest = part_of(examples._replace(X=no_columns))._replace(weight=of_digest)
    some = part_of(rows.some)
    windows = Windows(rows.lengths, length, read, data(*digest), data(*some))
    n_places = length + is_shared
    x = np.zeros((n_places, n_features), rows.dtype)
    n_values = len(examples.targets)  # of a row: class numbers, or 0 and 1 of labels
    if isinstance(targets, Numbers):
        n_values = targets.n_outputs
    y = np.zeros((n_values, n_places), rows.dtype)
    room = data(x, y, np.zeros(n_places) if is_weighted else None)
    return room._replace(windows=windows, shard=fold.shard)


def _targets_on(device: torch.device, y: Array, targets: Targets) -> Tensor:
    """Return targets (..., o, n) on the device; of quantiles views of the one there."""
    on_device = to_tensor(y, device)
    if isinstance(targets, Classes):
        return on_device
    return on_device.expand(*y.shape[:-2], targets.n_outputs, -1)


def _weights_on(
    device: torch.device, weight: Array | None, dtype: Any
) -> Tensor | None:
    """Return weights on the device in the dtype of the computation, if any."""
    if weight is None:
        return None
    with errors_of_caller():
        return to_tensor(check_cast("sample_weight", weight, dtype), device)


def _targets_of(
    folds: Sequence[Fold], offsets: Offsets, n_rows: int, dtype: Any
) -> Array:
    """Return the targets of all folds, (o, n); (f, o, n) if each scales them itself."""
    of_folds = [on_scale(fold.examples.targets, fold.targets.scale) for fold in folds]
    scales_apart = folds[0].targets.scale is not None and len(folds) > 1
    shape = (len(folds) if scales_apart else 1, len(of_folds[0]), n_rows)
    targets = np.zeros(shape, dtype)
    for n, (fold, values) in enumerate(zip(folds, of_folds, strict=True)):
        targets[n if scales_apart else 0][:, _in_all(fold, None, offsets)] = values
    return targets if scales_apart else targets[0]


def _weights_of(
    folds: Sequence[Fold], offsets: Offsets, n_rows: int, *, as_given: bool
) -> Array | None:
    """Return the weights of all folds, (f, n), if there are any."""
    if folds[0].examples.weight is None:
        return None
    of_folds = []
    for fold in folds:
        assert fold.examples.weight is not None
        unit = 1.0 if as_given else fold.mean_weight
        of_folds.append(fold.examples.weight / unit)
    weights = np.zeros((len(folds), n_rows))
    for fold, row, values in zip(folds, weights, of_folds, strict=True):
        row[_in_all(fold, None, offsets)] = values
    return weights


def _is_whole(folds: Sequence[Fold]) -> bool:
    """Return whether there is one fold, and its examples are all rows in order."""
    return len(folds) == 1 and folds[0].examples.within is None


def _rows_of(
    folds: Sequence[Fold], of_folds: Sequence[Indices | None], offsets: Offsets
) -> tuple[Indices | None, list[int] | None]:
    """Return some examples of each fold as rows, (f, n), padded, and their counts.

    Of a single fold they are (n,), or None if they are all.
    """
    if _is_whole(folds):
        return of_folds[0], None
    rows = [
        _in_all(fold, some, offsets) for fold, some in zip(folds, of_folds, strict=True)
    ]
    if len(rows) == 1:
        return rows[0], None
    counts = [len(some) for some in rows]
    return padded(rows, max(counts)), counts if len(set(counts)) > 1 else None


def _in_all(fold: Fold, some: Indices | None, offsets: Offsets) -> Indices:
    """Return where some examples of a fold, or all, are among the rows of all folds."""
    if some is None:
        some = np.arange(len(fold.examples.labels))
    return fold.examples.indices_in_X(some) + offsets[id(fold.examples.X)]


def _joined(several: Sequence[Matrix]) -> Matrix:
    """Return the rows of several matrices of one kind as one."""
    if len(several) == 1:
        return several[0]
    if isinstance(several[0], Tensor):
        return torch.cat(list(several))
    if scipy.sparse.issparse(several[0]):
        return scipy.sparse.vstack(several, format="csr")
    return np.concatenate(several)


def _validation_of(
    folds: Sequence[Fold],
    data: Data,
    offsets: Offsets,
    validation: Examples | None,
    *,
    of_stream: bool,
) -> Validation | None:
    """Return the rows that models are judged by: those held out, or others, if any.

    Those that a stream is tested on have a score too, and do not end its training.
    """
    settings, device = folds[0].estimators[0], data.y.device
    if isinstance(folds[0].examples.X, BlockRows) and validation is None:
        validation = folds[0].examples.X.held_out
    if validation is not None:
        judged = [
            fold._replace(
                examples=validation,
                rows=None,
                held_out=None,
                shard=fold.shard if of_stream else fold.shard_held_out,
            )
            for fold in folds
        ]
        rows, _ = data_of(judged, device)
    elif folds[0].held_out is not None:
        judged = list(folds)
        of_folds = [fold.held_out for fold in folds]
        indices, counts = _rows_of(folds, of_folds, offsets)
        shard = folds[0].shard_held_out
        rows = data._replace(rows=indices, counts=counts, shard=shard)
    else:
        return None
    score = None
    if (of_stream or settings.early_stopping) and has_score(settings):
        scored = [
            held_out_of(settings, fold.examples, fold.held_out, rows.shard)
            for fold in judged
        ]
        members = [(one, fold.targets) for fold in folds for one in fold.estimators]
        score = bind_score(settings, members, scored, device)
    return Validation(rows, score, settings.early_stopping)
