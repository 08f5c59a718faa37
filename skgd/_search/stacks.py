"""Estimators trained together: several candidates on several splits, in a few stacks.

Candidates are estimators of one class that differ in the numbers of ``PER_MODEL`` and
in their ``random_state`` only. Those of one split and one seed see the same rows in the
same order: they are a fold of the engine (see ``batches``). Folds that take as many
steps an epoch are trained as one stack, which is cut into several where its arrays
would take more bytes than they may.

Each estimator predicts what it would after ``fit``, but for rounding, and knows it for
the rows that it will be asked for, computed for all models at once. (Its random stream
is that of its fold, which may be further on than its own would be, had it stopped
early.)
Candidates that differ in nothing that has an effect are one model: otherwise rounding,
which depends on the place in a stack, would tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from itertools import pairwise, product
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from skgd._equations.network import Layer, Network
from skgd._equations.optimizers import OPTIMIZERS
from skgd._estimators.base import PER_MODEL, _Examples, _mean_weight, _MiniBatchBase
from skgd._estimators.checks import check_cast, check_weights, stack_too_large
from skgd._estimators.inputs import Rows, checked_rows, dtype_of, to_device
from skgd._machine.devices import CPU, to_tensor
from skgd._machine.errors import errors_of_caller, is_of_caller
from skgd._machine.generators import copied, new_generator, seed_of
from skgd._machine.memory import memory_for
from skgd._training.batches import Data, batch_sizes, padded
from skgd._training.csr import csr, is_wide
from skgd._training.loop import Validation, Watch, train
from skgd._training.models import Models
from skgd._training.stopping import History
from skgd._training.target_scale import TargetScale, on_scale, prediction_of_y

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]

# Bytes that the arrays of a stack may take unless told otherwise: so many that a cache
# holds them, or on CUDA a part of what is free.
_BYTES_OF_CPU, _SHARE_OF_CUDA = 12 * 2**20, 0.4

# Bytes of rows that are copied for several splits, at the most.
BYTES_OF_ROWS = 2**30

# Numbers of the widest layer that are computed at once for predictions.
_PREDICTED_AT_ONCE, _ROWS_OF_A_LAYER = 2**22, 4096


class Split(NamedTuple):
    """What candidates are trained on, and what they will be asked to predict."""

    X: ArrayLike
    y: ArrayLike
    sample_weight: ArrayLike | None
    train: Places | None  # the rows to train on; None is all
    asked: Callable[[], Sequence[ArrayLike]]  # gives the rows to predict


# Gives who looks on, if anyone, at the training of so many models for so many epochs.
Watching = Callable[[int, int], AbstractContextManager[Watch | None]]


class Trained(NamedTuple):
    """A candidate that was trained on a split."""

    split: int
    candidate: int
    estimator: Any
    history: History
    error: Exception | None  # what fit would have raised
    seconds: float  # its share of the time of its stack


class _Met(NamedTuple):
    """The training rows of a split, checked, and what an estimator learns of them."""

    split: int
    learnt: dict[str, Any]  # fitted attributes: the classes, the number of features
    examples: _Examples  # the training rows, but for ``rows``, which are all of X
    places: Places  # of the training rows in X


class _Fold(NamedTuple):
    """Candidates of one seed on one split."""

    met: _Met
    generator: np.random.Generator
    rows: Places  # those trained on, among the training rows
    held_out: Places | None  # likewise, to stop early by
    split_seed: int | None
    scale: TargetScale | None  # of the targets trained on
    candidates: Sequence[int]

    @property
    def learnt(self) -> dict[str, Any]:
        """What an estimator learns of it before it is trained."""
        learnt = dict(self.met.learnt)
        if self.split_seed is not None:
            learnt["_split_seed_"] = self.split_seed
        if self.scale is not None:
            learnt["_scale_"] = tuple(self.scale)
        return learnt


def fit_together(
    candidates: Sequence[_MiniBatchBase],
    splits: Sequence[Split],
    *,
    max_bytes: int | None = None,
    so_far: Mapping[tuple[int, int], Trained] | None = None,
    watching: Watching = lambda n_models, n_epochs: nullcontext(),
) -> Iterator[Trained]:
    """Train every candidate on every split, and give them as they come.

    ``so_far`` holds what was trained up to now, by split and candidate, to go on with.
    ``watching`` gives who looks on at a stack of so many models, for so many epochs. An
    error of a candidate's own is handed over; one of the data is raised, and marked as
    the caller's (``errors.of_caller``).
    """
    alike: dict[Any, list[int]] = {}
    for number, candidate in enumerate(candidates):
        alike.setdefault(_effect(candidate), []).append(number)
    twins = {numbers[0]: numbers for numbers in alike.values()}
    met = _meet(candidates[0], splits)
    folds = _folds(candidates, list(twins), met, so_far)
    first = candidates[0]
    for stack in _stacks(first, folds, max_bytes):
        began = perf_counter()
        try:
            with (
                torch.inference_mode(),
                memory_for(_too_large(first, stack, max_bytes)),
            ):
                models, histories = _train(candidates, stack, so_far, watching)
        except MemoryError as error:
            if len(_members(stack)) > 1:
                raise
            handed: Iterable[Trained] = [_failed(candidates, stack[0], error)]
        else:
            seconds = (perf_counter() - began) / len(histories)
            handed = _hand_over(candidates, splits, stack, models, histories, seconds)
        for trained in handed:
            learnt, numbers = _learnt(trained.estimator), twins[trained.candidate]
            trained = trained._replace(seconds=trained.seconds / len(numbers))
            yield trained
            for number in numbers[1:]:
                twin = candidates[number]._trainee()
                twin._forget()
                twin.__dict__.update(learnt)
                yield trained._replace(candidate=number, estimator=twin)


def _effect(candidate: _MiniBatchBase) -> tuple[Any, ...]:
    """Return the numbers of a candidate that have an effect, and its seed."""
    names = OPTIMIZERS[candidate.optimizer].reads
    if candidate.lr_schedule == "optimal":
        names = tuple(name for name in names if name != "lr")
    if candidate.alpha > 0:
        names = (*names, "l1_ratio")
    numbers = (candidate._number(name) for name in names)
    return (*numbers, candidate.alpha, seed_of(deepcopy(candidate.random_state)))


def _meet(first: _MiniBatchBase, splits: Sequence[Split]) -> list[_Met]:
    """Return the training rows of all splits, or raise ValueError.

    What several splits are parts of is checked once, and is one array for all of them.
    """
    checked: dict[tuple[int, ...], tuple[dict[str, Any], _Examples]] = {}
    met = []
    for number, (X, y, sample_weight, places, _) in enumerate(splits):
        whole = id(X), id(y), id(sample_weight)
        if whole not in checked:
            knows = first._trainee()
            knows._forget()
            dtypes = knows._dtypes(first=True)
            with errors_of_caller():
                all_of_it = knows._checked(
                    X, y, sample_weight, dtypes=dtypes, first=True
                )
            checked[whole] = _learnt(knows), all_of_it
        learnt, examples = checked[whole]
        if places is None:
            places = np.arange(len(examples.labels))
        met.append(_met(first, number, learnt, examples, places))
    return met


@errors_of_caller()
def _met(
    first: _MiniBatchBase,
    number: int,
    learnt: dict[str, Any],
    examples: _Examples,
    places: Places,
) -> _Met:
    """Return what of the examples a split trains on, and what is learnt of it."""
    knows = first._trainee()
    knows._forget()
    labels, targets = knows._encode(
        examples.labels[places], None, dtype_of(examples.rows)
    )
    given = examples.sample_weight
    if given is not None:
        given = check_weights("sample_weight", given[places], len(places))
    weight = knows._weight(labels, given, labels, given)
    of_split = _Examples(examples.rows, labels, targets, given, weight)
    return _Met(number, {**learnt, **_learnt(knows)}, of_split, places)


def _learnt(estimator: _MiniBatchBase) -> dict[str, Any]:
    """Return the fitted attributes."""
    return {name: one for name, one in vars(estimator).items() if name.endswith("_")}


def _folds(
    candidates: Sequence[_MiniBatchBase],
    numbers: Sequence[int],
    met: Sequence[_Met],
    so_far: Mapping[tuple[int, int], Trained] | None,
) -> list[_Fold]:
    """Return the folds: the candidates of every seed on every split."""
    of_seed: dict[int | None, list[int]] = {}
    for number in numbers:
        seed = seed_of(deepcopy(candidates[number].random_state))  # as a clone's
        of_seed.setdefault(seed, []).append(number)
    folds = []
    for (seed, of_fold), of_split in product(of_seed.items(), met):
        examples, held_out, split_seed = of_split.examples, None, None
        rows = np.arange(len(examples.labels))
        knows = candidates[0]._trainee()
        knows.__dict__.update(of_split.learnt)
        before = None
        if so_far is not None:
            trained = [so_far[of_split.split, number] for number in of_fold]
            goes_on = [one for one in trained if one.history.goes_on] or trained
            generator = copied(goes_on[0].estimator._generator_)
            before = goes_on[0].estimator._target_scale()
        else:
            generator = new_generator(seed)
            if candidates[0].early_stopping:
                with errors_of_caller():
                    rows, held_out = knows._split(examples, generator)
                split_seed = knows._split_seed_
        scale = before or knows._scale_of(examples, rows, None)
        folds.append(
            _Fold(of_split, generator, rows, held_out, split_seed, scale, of_fold)
        )
    return folds


def _stacks(
    first: _MiniBatchBase, folds: Sequence[_Fold], max_bytes: int | None
) -> Iterator[list[_Fold]]:
    """Give the folds that are trained together, cut where they are too many."""
    alike: dict[Any, list[_Fold]] = {}
    for fold in folds:
        alike.setdefault(_shape(first, fold), []).append(fold)
    for some in alike.values():
        n_folds, n_candidates = _at_once(first, some, max_bytes)
        for few in pieces(some, n_folds):
            for numbers in pieces(range(len(few[0].candidates)), n_candidates):
                yield [
                    fold._replace(
                        generator=copied(fold.generator),
                        candidates=[fold.candidates[number] for number in numbers],
                    )
                    for fold in few
                ]


def _shape(first: _MiniBatchBase, fold: _Fold) -> tuple[Any, ...]:
    """Return what folds of one stack must have in common."""
    rows, targets = fold.met.examples.rows, fold.met.examples.targets
    sizes = batch_sizes(len(fold.rows), first.batch_size, first.last_batch)
    classes = fold.met.learnt.get("classes_", np.empty(0))
    return (
        len(fold.candidates),
        len(sizes),
        sizes == [len(fold.rows)],
        scipy.sparse.issparse(rows),
        rows.shape[1],
        dtype_of(rows),
        len(targets),
        tuple(classes.tolist()),
    )


def pieces(items: Sequence[Any], at_most: int) -> list[Sequence[Any]]:
    """Return the items in as few pieces as it takes, of about one length."""
    if not items:
        return []
    n_pieces = -(-len(items) // at_most)
    cuts = [len(items) * piece // n_pieces for piece in range(n_pieces + 1)]
    return [items[start:stop] for start, stop in pairwise(cuts)]


def _at_once(
    first: _MiniBatchBase, folds: Sequence[_Fold], max_bytes: int | None
) -> tuple[int, int]:
    """Return how many folds, and how many candidates of each, make up a stack."""
    fold, n_candidates = folds[0], len(folds[0].candidates)
    rows = fold.met.examples.rows
    sizes = batch_sizes(len(fold.rows), first.batch_size, first.last_batch)
    if max_bytes is None:
        max_bytes = _BYTES_OF_CPU
        device = first._device(rows)
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            free += torch.cuda.memory_reserved(device)  # what torch holds and may use
            free -= torch.cuda.memory_allocated(device)
            max_bytes = int(_SHARE_OF_CUDA * free)
    n_models = max(1, max_bytes // _bytes_of_model(first, fold, max(sizes)))
    n_folds = max(1, n_models // n_candidates)
    shares_rows = rows is folds[-1].met.examples.rows
    if not shares_rows or sizes == [len(fold.rows)]:  # rows are copied
        n_bytes = rows.shape[0] * rows.shape[1] * dtype_of(rows).itemsize
        n_folds = min(n_folds, max(1, BYTES_OF_ROWS // n_bytes))
    if scipy.sparse.issparse(rows) and is_wide(csr(rows, CPU)):  # see steps.bind_step
        return 1, 1 if first.average else n_models
    return n_folds, n_models


def _bytes_of_model(first: _MiniBatchBase, fold: _Fold, n_rows: int) -> int:
    """Return the bytes of the arrays of a model in training, about."""
    rows, targets = fold.met.examples.rows, fold.met.examples.targets
    n_outputs = max(len(targets), len(fold.met.learnt.get("classes_", ())))
    units = [*np.atleast_1d(first.hidden_layer_sizes).tolist(), n_outputs]
    n_weights = sum(i * o for i, o in pairwise([rows.shape[1], *units]))
    optimizer = OPTIMIZERS[first.optimizer]
    # What a step needs of every parameter: itself, its gradient, what is kept, and the
    # numbers that are laid over it, with intermediate values where paces are adaptive.
    n_laid = 16 if "epsilon" in optimizer.reads else 2
    of_parameter = 2 + len(optimizer.state_names) + n_laid
    # Of every unit and row: its value, the gradient, and two intermediate values.
    numbers = of_parameter * n_weights + 4 * sum(units) * n_rows
    return int(numbers * dtype_of(rows).itemsize)


def _train(
    candidates: Sequence[_MiniBatchBase],
    stack: Sequence[_Fold],
    so_far: Mapping[tuple[int, int], Trained] | None,
    watching: Watching,
) -> tuple[Models, list[History]]:
    """Train the candidates of a stack of folds."""
    first = candidates[stack[0].candidates[0]]._trainee()
    first.__dict__.update(stack[0].met.learnt)
    members = _members(stack)
    data, offsets = _data_of(stack, first)
    shared = first._shared(first._n_outputs(data.y), first.max_iter, first.tol)
    shared = shared._replace(verbose=False)  # who looks on tells of the stack
    per_model = {
        name: np.array([candidates[n]._number(name) for _, n in members])
        for name in PER_MODEL
    }
    models = first._models(data, shared, per_model, [fold.generator for fold in stack])
    if so_far is not None:
        trained = [so_far[fold.met.split, number] for fold, number in members]
        histories = [deepcopy(one.history) for one in trained]
        for place, one in enumerate(trained):
            one.estimator._go_on_(models, place)
        going = [one.estimator for one in trained if one.history.goes_on]
        models.t = max((estimator.t_ for estimator in going), default=0)
        models.epochs = max((estimator.n_iter_ for estimator in going), default=0)
        shared = shared._replace(max_iter=first.max_iter - models.epochs)
        with watching(len(members), shared.max_iter) as watch:
            train(data, models, shared, per_model, None, watch, histories)
        return models, histories
    first._initialise_(models)
    validation = None
    if stack[0].held_out is not None:
        held_out = [(fold.met, fold.held_out) for fold in stack]
        rows, counts = _rows_of(held_out, offsets)
        validation = Validation(
            data._replace(rows=rows, counts=counts),
            _scorer(candidates, stack, data.y.device),
            True,
        )
    with watching(len(members), shared.max_iter) as watch:
        return models, train(data, models, shared, per_model, validation, watch)


def _too_large(
    first: _MiniBatchBase, stack: Sequence[_Fold], max_bytes: int | None
) -> Callable[[], str]:
    """Return what gives the sentence about a stack that runs out of memory."""
    n_models = len(_members(stack))
    if n_models > 1:
        return partial(stack_too_large, max_bytes, n_models)
    alone = first._trainee()
    alone.__dict__.update(stack[0].met.learnt)
    return partial(alone._too_large, stack[0].met.examples)


def _failed(
    candidates: Sequence[_MiniBatchBase], fold: _Fold, error: Exception
) -> Trained:
    """Return the only candidate of a fold, which could not be trained."""
    [number] = fold.candidates
    untrained = candidates[number]._trainee()
    return Trained(fold.met.split, number, untrained, History(), error, 0.0)


def _members(stack: Sequence[_Fold]) -> list[tuple[_Fold, int]]:
    """Return the fold and the candidate at every place of a stack."""
    return [(fold, number) for fold in stack for number in fold.candidates]


def _data_of(
    stack: Sequence[_Fold], first: _MiniBatchBase
) -> tuple[Data, dict[int, int]]:
    """Return the rows of all folds as tensors, and where those of each split begin."""
    distinct: dict[int, Rows] = {}
    offsets: dict[int, int] = {}
    n_rows = 0
    for fold in stack:
        rows = fold.met.examples.rows
        if id(rows) not in distinct:
            distinct[id(rows)] = rows
            offsets[id(rows)] = n_rows
            n_rows += rows.shape[0]
    of_splits = {f.met.split: offsets[id(f.met.examples.rows)] for f in stack}
    joined = _joined(list(distinct.values()))
    dtype, device = dtype_of(joined), first._device(joined)
    targets = _targets_of(stack, of_splits, n_rows, dtype)
    weight = None
    if stack[0].met.examples.weight is not None:
        weight = np.zeros((len(stack), n_rows))
    for place, fold in enumerate(stack):
        at = fold.met.places + of_splits[fold.met.split]
        of_fold = fold.met.examples.weight
        if weight is not None and of_fold is not None:
            weight[place, at] = of_fold / _mean_weight(fold.met.examples, fold.rows)
    if weight is not None:
        with errors_of_caller():
            weight = check_cast("sample_weight", weight, dtype)
    trained = [(fold.met, fold.rows) for fold in stack]
    rows, counts = _rows_of(trained, of_splits)
    data = Data(
        to_device(joined, device),
        to_tensor(targets, device),
        None if weight is None else to_tensor(weight, device),
        rows,
        counts,
        _scales_of(stack),
    )
    return data, of_splits


def _targets_of(
    stack: Sequence[_Fold], offsets: Mapping[int, int], n_rows: int, dtype: Any
) -> Array:
    """Return the targets of all folds, (o, n); (f, o, n) if each scales them itself."""
    scales_apart = stack[0].scale is not None and len(stack) > 1
    n_outputs = len(stack[0].met.examples.targets)
    targets = np.zeros((len(stack) if scales_apart else 1, n_outputs, n_rows), dtype)
    for place, fold in enumerate(stack):
        at = fold.met.places + offsets[fold.met.split]
        on_own = on_scale(fold.met.examples.targets, fold.scale)
        targets[place if scales_apart else 0][:, at] = on_own
    return targets if scales_apart else targets[0]


def _scales_of(stack: Sequence[_Fold]) -> Array | None:
    """Return the scales of the targets of all folds, (f, o), if they have any."""
    scales = [fold.scale.scale for fold in stack if fold.scale is not None]
    return np.stack(scales) if scales else None


def _joined(several: Sequence[Rows]) -> Rows:
    """Return the rows of several containers of one kind as one."""
    if len(several) == 1:
        return several[0]
    if isinstance(several[0], Tensor):
        return torch.cat(list(several))
    if scipy.sparse.issparse(several[0]):
        return scipy.sparse.vstack(several, format="csr")
    return np.concatenate(several)


def _rows_of(
    folds: Sequence[tuple[_Met, Places | None]], offsets: Mapping[int, int]
) -> tuple[Places, list[int] | None]:
    """Return the rows of each fold, (f, n), the shorter ones padded, and their counts.

    Of a single fold they are (n,).
    """
    rows = [met.places[some] + offsets[met.split] for met, some in folds]
    if len(rows) == 1:
        return rows[0], None
    counts = [len(some) for some in rows]
    return padded(rows, max(counts)), counts if len(set(counts)) > 1 else None


def _scorer(
    candidates: Sequence[_MiniBatchBase], stack: Sequence[_Fold], device: torch.device
) -> Any:
    """Return the function that scores models of a stack on their held-out rows."""
    first = candidates[0]
    if not first._stops_by_score():
        return None
    held_out = [_held_out(fold) for fold in stack]
    judges = []
    for place, (fold, number) in enumerate(_members(stack)):
        candidate = candidates[number]._trainee()
        candidate.__dict__.update(fold.learnt)
        examples = held_out[place // len(fold.candidates)]
        judges.append(candidate._judge(examples))

    def score(
        network: Network, places: Sequence[int], models: Sequence[int]
    ) -> list[float]:
        scores = {}
        for number, examples in enumerate(held_out):
            of_fold = [
                (place, model)
                for place, model in zip(places, models, strict=True)
                if model // len(stack[0].candidates) == number
            ]
            at_once = _predicted_at_once(network, examples.rows)
            for some in pieces(of_fold, at_once):
                layers = _layers_at(network, [place for place, _ in some])
                predicted = prediction_of_y(
                    first._raw_predictions(layers, examples.rows, device),
                    stack[number].scale,
                )
                for (place, model), z in zip(some, predicted, strict=True):
                    scores[place] = judges[model](network, place, z[None])
        return [scores[place] for place in places]

    return score


def _held_out(fold: _Fold) -> _Examples:
    """Return the rows that a fold holds out."""
    assert fold.held_out is not None
    return fold.met.examples.take(fold.held_out, fold.met.places[fold.held_out])


def _predicted_at_once(network: Network, rows: Rows) -> int:
    """Return of how many models predictions are computed at once."""
    n_outputs = network.layers[-1].w.shape[1]
    widest = max(w.shape[1] for w, _ in network.layers)
    n_rows: int = rows.shape[0]
    n_numbers = max(n_outputs * n_rows, widest * min(n_rows, _ROWS_OF_A_LAYER))
    return max(1, _PREDICTED_AT_ONCE // n_numbers)


def _layers_at(network: Network, places: Sequence[int]) -> list[Layer]:
    """Return the layers of some models of a stack."""
    return [
        Layer(w[places], None if bias is None else bias[places])
        for w, bias in network.layers
    ]


def _hand_over(
    candidates: Sequence[_MiniBatchBase],
    splits: Sequence[Split],
    stack: Sequence[_Fold],
    models: Models,
    histories: Sequence[History],
    seconds: float,
) -> Iterator[Trained]:
    """Give the estimators of a stack that was trained."""
    places = iter(range(len(histories)))
    for fold in stack:
        met, first = fold.met, candidates[fold.candidates[0]]
        asked = _asked(first, met, splits[met.split])
        limits = [_predicted_at_once(models.predicting, rows) for _, rows in asked]
        at_once = min(limits, default=len(fold.candidates))
        for numbers in pieces(fold.candidates, at_once):
            at = [next(places) for _ in numbers]
            with torch.inference_mode():
                layers = _layers_at(models.predicting, at)
                device = layers[0].w.device
                predicted = [
                    (
                        X,
                        prediction_of_y(
                            first._raw_predictions(layers, rows, device), fold.scale
                        ),
                    )
                    for X, rows in asked
                ]
            for n, (number, place) in enumerate(zip(numbers, at, strict=True)):
                estimator, history = candidates[number]._trainee(), histories[place]
                estimator._forget()
                estimator.__dict__.update(fold.learnt)
                error = None
                try:
                    estimator._warn_of_batch_size(len(met.places))
                    with torch.inference_mode():
                        estimator._conclude(models, history, place)
                except Exception as raised:  # a warning, where warnings are errors
                    if not (is_of_caller(raised) or isinstance(raised, Warning)):
                        raise
                    error = raised
                estimator._predicted_ = [(X, z[n][None]) for X, z in predicted]
                yield Trained(met.split, number, estimator, history, error, seconds)


def _asked(
    first: _MiniBatchBase, met: _Met, split: Split
) -> list[tuple[ArrayLike, Rows]]:
    """Return what will be asked of a split, and its rows.

    Those that are refused are left out: they will be again, when they are asked for.
    """
    knows = first._trainee()
    knows.__dict__.update(met.learnt)
    asked = []
    for X in split.asked():
        try:
            rows = checked_rows(knows, X, [dtype_of(met.examples.rows)])
        except (TypeError, ValueError):
            continue
        asked.append((X, rows))
    return asked
