"""Folds: models that see the same rows in the same order, and these rows as tensors.

Here examples leave the arrays of a caller: those of all folds of a stack become one
``Data``, in which each X is there once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from skgd._equations.losses import loss_named
from skgd._estimators.checks import check_cast
from skgd._estimators.examples import Examples
from skgd._estimators.held_out import (
    hold_out,
    hold_out_blocks,
    hold_out_together,
    seed_of_split,
)
from skgd._estimators.inputs import Matrix, dtype_of, to_device
from skgd._estimators.parallel import Together, shard_of_all
from skgd._estimators.scoring import bind_score, has_score, held_out_of
from skgd._estimators.state import State, state_on_scale
from skgd._estimators.surveys import BlockRows, parts_of_blocks
from skgd._estimators.targets import Classes, Numbers, Targets
from skgd._machine.arrays import Array, Indices
from skgd._machine.devices import to_tensor
from skgd._machine.errors import errors_of_caller
from skgd._machine.generators import copied, new_generator
from skgd._machine.memory import pieces
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.batches import Data, Part, Windows, padded
from skgd._training.csr import is_wide
from skgd._training.shards import Shard
from skgd._training.stack import Validation
from skgd._training.target_scale import on_scale, scale_of
from skgd._training.windows import rows_of_a_window


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


def fold_of(
    settings: Any,
    examples: Examples,
    targets: Targets,
    before: State | None,
    validation: Examples | None,
    together: Together,
    split_seed: int | None,
) -> Fold:
    """Return the fold of one model, with the state that it goes on from.

    Without one, rows are held out by the seed that is given, or a new one. A scale
    that becomes known late is one that this model has to be brought to.
    """
    rows = held_out = None
    if before is None:
        generator, seed = new_generator(settings.random_state), split_seed
    else:
        generator, seed = copied(before.generator), before.split_seed
    shard, shard_held_out = shard_here(examples, together), None
    if shard is not None:
        [first, *_] = shard.ranks.gather(generator.bit_generator.state)
        generator.bit_generator.state = first
    if validation is not None:
        shard_held_out = together.shard_held_out(len(validation.labels))
    elif settings.early_stopping:
        seed = seed_of_split(generator, seed)
        if isinstance(examples.X, BlockRows):
            examples, shard_held_out = hold_out_blocks(
                settings, examples, targets, seed, together.ranks
            )
            shard = shard_here(examples, together)
        elif shard is not None:
            rows, held_out, shard, shard_held_out = hold_out_together(
                settings, examples, targets, shard, seed
            )
        else:
            rows, held_out = hold_out(settings, examples, targets, seed)
    known, ranks = targets.scale, together.ranks
    if isinstance(examples.X, BlockRows):  # whose targets all ranks know
        ranks = ALONE
    targets = with_scale(
        settings, targets, examples, rows, first=before is None, ranks=ranks
    )
    if before is not None and known is not None and targets.scale is not None:
        before = state_on_scale(before, known, targets.scale)
    states = () if before is None else (before,)
    if shard is not None:
        shard = shard._replace(mean_weight=examples.mean_weight(rows, ranks))
    if shard_held_out is not None and validation is not None:
        shard_held_out = shard_held_out._replace(
            mean_weight=validation.mean_weight(None, ranks)
        )
    return Fold(
        examples,
        targets,
        generator,
        [settings],
        rows,
        held_out,
        seed,
        states,
        shard,
        shard_held_out,
    )


def shard_here(examples: Examples, together: Together) -> Shard | None:
    """Return which rows lie here of those that ranks train on; None in one process.

    Rows in blocks may be read by any of them, so all lie here.
    """
    if isinstance(examples.X, BlockRows):
        return shard_of_all(together.ranks, examples.X.shape[0])
    return together.shard(len(examples.labels))


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


# Bytes of rows that are copied for several folds, at the most.
BYTES_OF_ROWS = 2**30


def stacks_of(folds: Sequence[Fold], *, apart: bool = False) -> list[Sequence[Fold]]:
    """Return the folds of the models of an ensemble, those of each stack together.

    They are one stack, unless some have taken fewer steps than others by now, or are to
    be ``apart``. Rows in blocks, those of several ranks, and wide sparse ones are seen
    by a model at a time; and whole sets, which are copied for each, by so many as there
    may be bytes.
    """
    if len(folds) == 1:  # most calls: those of a stream are short
        return [folds]
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


def validation_of(
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
