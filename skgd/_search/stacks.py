"""Estimators trained together: several candidates on several splits, in a few stacks.

Candidates are estimators of one class that differ in the numbers of ``PER_MODEL`` and
in their ``random_state`` only. Those of one split and one seed see the same rows in the
same order: they are a fold of the engine (see ``batches``). Folds that take as many
steps an epoch are trained as one stack, which is cut into several where its arrays
would take more bytes than they may. On torch the models of a stack take each step at
once; by compiled loops they take their steps one after the other (see ``in_turn``).

Each estimator predicts what it would after ``fit``, but for rounding, and knows it for
the rows that it will be asked for: many models at once, on torch. (Its random stream
is that of its fold, which may be further on than its own would be, had it stopped
early.)
Candidates that differ in nothing that has an effect are one model: otherwise rounding,
which depends on the place in a stack, would tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise, product
from time import perf_counter
from typing import Any, NamedTuple, cast

import scipy.sparse
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from skgd._equations.optimizers import OPTIMIZERS
from skgd._estimators.checks import stack_too_large
from skgd._estimators.endings import warn_of_batch_size
from skgd._estimators.examples import (
    Examples,
    checked_examples,
    device_for,
    dtypes_of,
    examples_within,
    sentence_on_memory,
)
from skgd._estimators.fits import Trained, Watching, fit_folds, take_over_
from skgd._estimators.folds import BYTES_OF_ROWS, Fold, with_scale
from skgd._estimators.held_out import hold_out, seed_of_split
from skgd._estimators.inputs import Matrix, checked_rows, dtype_of
from skgd._estimators.parameters import hidden_units
from skgd._estimators.predictions import (
    layers_at,
    let_know_,
    models_at_once,
    raw_predictions,
)
from skgd._estimators.settings import hyperparameter
from skgd._estimators.state import State, unfitted
from skgd._estimators.targets import Classes, Targets, attributes_of_targets
from skgd._machine.arrays import Indices
from skgd._machine.devices import CPU
from skgd._machine.errors import errors_of_caller, is_of_caller
from skgd._machine.generators import copied, new_generator, seed_of
from skgd._machine.memory import memory_for, pieces
from skgd._training.batches import batch_sizes
from skgd._training.csr import csr, is_wide
from skgd._training.stopping import History, copy_of_history
from skgd._training.target_scale import prediction_of_y

# Bytes that the arrays of a stack may take unless told otherwise: so many that a cache
# holds them, or on CUDA a part of what is free.
_BYTES_OF_CPU, _SHARE_OF_CUDA = 12 * 2**20, 0.4

# Bytes of a model besides arrays: its records, and what is bound for it.
_BYTES_OF_OBJECTS = 20_000


class TrainingSplit(NamedTuple):
    """What candidates are trained on, and what they will be asked to predict."""

    X: ArrayLike
    y: ArrayLike
    sample_weight: ArrayLike | None
    train: Indices | None  # the rows to train on; None is all
    asked: Callable[[], Sequence[ArrayLike]]  # gives the rows to predict


class Outcome(NamedTuple):
    """What has come of a candidate on a split."""

    split: int
    candidate: int
    estimator: Any  # fitted, if there is no error
    targets: Targets
    state: State | None  # to go on from
    history: History
    error: Exception | None  # what fit would have raised
    engine: str  # that trained it
    seconds: float  # its share of the time of its stack


class _Checked(NamedTuple):
    """The training rows of a split, checked, and what is learnt of them."""

    split: int
    noted: Any  # an unfitted estimator that has noted the columns of X
    examples: Examples
    targets: Targets


class _Part(NamedTuple):
    """Candidates of one seed on one split, as a fold."""

    checked: _Checked
    candidates: Sequence[int]
    fold: Fold


def fit_together(
    candidates: Sequence[Any],
    splits: Sequence[TrainingSplit],
    *,
    watching: Watching,
    max_bytes: int | None = None,
    so_far: Mapping[tuple[int, int], Outcome] | None = None,
) -> Iterator[Outcome]:
    """Train every candidate on every split, and give what has come of each.

    One model at a time leaves its stack, is scored by who asks for the next one, and is
    let go. ``so_far`` holds what has come up to now, by split and candidate, to go on
    with. ``watching`` gives who looks on at a stack. An error of a candidate's own is
    handed over; one of the data is raised, and marked as the caller's
    (``errors.of_caller``).
    """
    alike: dict[Any, list[int]] = {}
    for number, candidate in enumerate(candidates):
        alike.setdefault(_effect(candidate), []).append(number)
    twins = {numbers[0]: numbers for numbers in alike.values()}
    settings = candidates[0]
    parts = _parts(candidates, list(twins), _checked(settings, splits), so_far)
    for stack in _stacks(settings, parts, max_bytes):
        began = perf_counter()
        try:
            with memory_for(_too_large(settings, stack, max_bytes)):
                trained = _train(settings, stack, so_far, watching)
        except MemoryError as error:
            if len(_members(stack)) > 1:
                raise
            outcomes: Iterable[Outcome] = [_failed(stack[0], error)]
        else:
            seconds = (perf_counter() - began) / len(trained.histories)
            outcomes = _outcomes(stack, splits, trained, seconds)
        for outcome in outcomes:
            yield from _with_twins(outcome, twins[outcome.candidate], candidates)


def _with_twins(
    outcome: Outcome, numbers: Sequence[int], candidates: Sequence[Any]
) -> Iterator[Outcome]:
    """Give an outcome, and the same for candidates that differ in nothing."""
    fitted = _fitted(outcome.estimator)  # before a score lets it forget
    outcome = outcome._replace(seconds=outcome.seconds / len(numbers))
    yield outcome
    for number in numbers[1:]:
        twin = unfitted(candidates[number])
        vars(twin).update(fitted)
        yield outcome._replace(candidate=number, estimator=twin)


def _effect(candidate: Any) -> tuple[Any, ...]:
    """Return the numbers of a candidate that have an effect, and its seed."""
    names = OPTIMIZERS[candidate.optimizer].reads
    if candidate.lr_schedule == "optimal":
        names = tuple(name for name in names if name != "lr")
    if candidate.alpha > 0:
        names = (*names, "l1_ratio")
    values = (hyperparameter(candidate, name) for name in names)
    return (*values, candidate.alpha, seed_of(deepcopy(candidate.random_state)))


def _fitted(estimator: Any) -> dict[str, Any]:
    """Return the fitted attributes."""
    return {name: one for name, one in vars(estimator).items() if name.endswith("_")}


@errors_of_caller()
def _checked(settings: Any, splits: Sequence[TrainingSplit]) -> list[_Checked]:
    """Return the training rows of all splits, or raise ValueError.

    What several splits are parts of is checked once, and is one array for all of them.
    """
    wholes: dict[tuple[int, ...], tuple[Any, Examples, Targets]] = {}
    checked = []
    for number, (X, y, sample_weight, train, _) in enumerate(splits):
        key = id(X), id(y), id(sample_weight)
        if key not in wholes:
            noted, dtypes = unfitted(settings), dtypes_of(settings)
            whole = checked_examples(
                noted, X, y, sample_weight, known=None, dtypes=dtypes, first=True
            )
            wholes[key] = noted, *whole
        noted, examples, targets = wholes[key]
        if train is not None:
            examples, targets = examples_within(settings, examples, train)
        checked.append(_Checked(number, noted, examples, targets))
    return checked


def _parts(
    candidates: Sequence[Any],
    numbers: Sequence[int],
    checked: Sequence[_Checked],
    so_far: Mapping[tuple[int, int], Outcome] | None,
) -> list[_Part]:
    """Return the candidates of every seed on every split."""
    by_seed: dict[int | None, list[int]] = {}
    for number in numbers:
        seed = seed_of(deepcopy(candidates[number].random_state))  # as a clone's
        by_seed.setdefault(seed, []).append(number)
    parts = []
    for (seed, of_seed), one in product(by_seed.items(), checked):
        estimators = [candidates[number] for number in of_seed]
        if so_far is None:
            fold = _new_fold(one, estimators, seed)
        else:
            outcomes = [so_far[one.split, number] for number in of_seed]
            fold = _fold_that_goes_on(one, estimators, outcomes)
        parts.append(_Part(one, of_seed, fold))
    return parts


def _new_fold(checked: _Checked, estimators: Sequence[Any], seed: int | None) -> Fold:
    """Return a fold that begins, with the examples that it holds out to stop early."""
    settings, (_, _, examples, targets) = estimators[0], checked
    generator = new_generator(seed)
    rows = held_out = split_seed = None
    if settings.early_stopping:
        split_seed = seed_of_split(generator)
        with errors_of_caller():
            rows, held_out = hold_out(settings, examples, targets, split_seed)
    targets = with_scale(settings, targets, examples, rows, first=True)
    return Fold(examples, targets, generator, estimators, rows, held_out, split_seed)


def _fold_that_goes_on(
    checked: _Checked, estimators: Sequence[Any], outcomes: Sequence[Outcome]
) -> Fold:
    """Return a fold of models that were trained before, some of which go on."""
    states = [cast(State, outcome.state) for outcome in outcomes]  # none has failed
    on = next((n for n, one in enumerate(outcomes) if one.history.goes_on), 0)
    generator, targets = copied(states[on].generator), outcomes[on].targets
    return Fold(checked.examples, targets, generator, estimators, states=states)


def _stacks(
    settings: Any, parts: Sequence[_Part], max_bytes: int | None
) -> Iterator[list[_Part]]:
    """Give what is trained together, cut where it is too much."""
    alike: dict[Any, list[_Part]] = {}
    for part in parts:
        alike.setdefault(_shape(settings, part.fold), []).append(part)
    for some in alike.values():
        folds = [part.fold for part in some]
        n_folds, n_candidates = _at_once(settings, folds, max_bytes)
        for few in pieces(some, n_folds):
            for slots in pieces(range(len(few[0].candidates)), n_candidates):
                yield [_cut(part, slots) for part in few]


def _cut(part: _Part, slots: Sequence[int]) -> _Part:
    """Return some of the candidates of a part, who draw from a stream of their own."""
    fold = part.fold
    return part._replace(
        candidates=[part.candidates[slot] for slot in slots],
        fold=fold._replace(
            generator=copied(fold.generator),
            estimators=[fold.estimators[slot] for slot in slots],
            states=[fold.states[slot] for slot in slots] if fold.states else (),
        ),
    )


def _shape(settings: Any, fold: Fold) -> tuple[Any, ...]:
    """Return what folds of one stack must have in common."""
    X, targets = fold.examples.X, fold.targets
    sizes = batch_sizes(fold.n_rows, settings.batch_size, settings.last_batch)
    return (
        len(fold.estimators),
        len(sizes),
        sizes == [fold.n_rows],
        scipy.sparse.issparse(X),
        X.shape[1],
        dtype_of(X),
        targets.n_outputs,
        tuple(targets.labels.tolist()) if isinstance(targets, Classes) else (),
    )


def _at_once(
    settings: Any, folds: Sequence[Fold], max_bytes: int | None
) -> tuple[int, int]:
    """Return how many folds, and how many candidates of each, make up a stack."""
    fold, n_candidates = folds[0], len(folds[0].estimators)
    X = fold.examples.X
    sizes = batch_sizes(fold.n_rows, settings.batch_size, settings.last_batch)
    if max_bytes is None:
        max_bytes = _BYTES_OF_CPU
        device = device_for(settings, X)
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            free += torch.cuda.memory_reserved(device)  # what torch holds and may use
            free -= torch.cuda.memory_allocated(device)
            max_bytes = int(_SHARE_OF_CUDA * free)
    n_models = max(1, max_bytes // _bytes_of_model(settings, fold, max(sizes)))
    n_folds = max(1, n_models // n_candidates)
    shares_rows = X is folds[-1].examples.X
    if not shares_rows or sizes == [fold.n_rows]:  # rows are copied
        n_bytes = X.shape[0] * X.shape[1] * dtype_of(X).itemsize
        n_folds = min(n_folds, max(1, BYTES_OF_ROWS // n_bytes))
    if scipy.sparse.issparse(X) and is_wide(csr(X, CPU)):  # see bind_first_layer
        return 1, 1 if settings.average else n_models
    return n_folds, n_models


def _bytes_of_model(settings: Any, fold: Fold, n_rows: int) -> int:
    """Return the bytes of the arrays of a model in training, about."""
    X = fold.examples.X
    hidden = hidden_units(settings)
    targets = fold.targets
    n_outputs = targets.n_outputs
    if isinstance(targets, Classes):  # about: two classes share an output
        n_outputs = len(targets.labels)
    units = [*hidden, n_outputs]
    n_weights = sum(i * o for i, o in pairwise([X.shape[1], *units]))
    optimizer = OPTIMIZERS[settings.optimizer]
    # What a step needs of every parameter: itself, its gradient, the optimizer's state,
    # and the scalars laid over it, with intermediate values where paces are adaptive.
    n_laid = 16 if "epsilon" in optimizer.reads else 2
    of_parameter = 2 + len(optimizer.state_names) + n_laid
    # Of every unit and row: its value, the gradient, and two intermediate values.
    n_numbers = of_parameter * n_weights + 4 * sum(units) * n_rows
    return int(n_numbers * dtype_of(X).itemsize) + _BYTES_OF_OBJECTS


def _train(
    settings: Any,
    stack: Sequence[_Part],
    so_far: Mapping[tuple[int, int], Outcome] | None,
    watching: Watching,
) -> Trained:
    """Train the candidates of a stack."""
    histories = None
    if so_far is not None:
        outcomes = [so_far[part.checked.split, n] for part, n in _members(stack)]
        histories = [copy_of_history(outcome.history) for outcome in outcomes]
    return fit_folds(
        [part.fold for part in stack],
        max_iter=settings.max_iter,
        tol=settings.tol,
        histories=histories,
        watching=watching,
    )


def _too_large(
    settings: Any, stack: Sequence[_Part], max_bytes: int | None
) -> Callable[[], str]:
    """Return what gives the sentence about a stack that runs out of memory."""
    n_models = len(_members(stack))
    if n_models > 1:
        return partial(stack_too_large, max_bytes, n_models)
    fold = stack[0].fold
    return partial(
        sentence_on_memory, settings, fold.examples.X, fold.targets.n_outputs
    )


def _failed(part: _Part, error: Exception) -> Outcome:
    """Return the outcome of a part's only candidate, which could not be trained."""
    [number], [estimator] = part.candidates, part.fold.estimators
    targets, history = part.fold.targets, History()
    return Outcome(
        part.checked.split,
        number,
        unfitted(estimator),
        targets,
        None,
        history,
        error,
        "",
        0.0,
    )


def _members(stack: Sequence[_Part]) -> list[tuple[_Part, int]]:
    """Return the part and the candidate in every slot of a stack."""
    return [(part, number) for part in stack for number in part.candidates]


def _outcomes(
    stack: Sequence[_Part],
    splits: Sequence[TrainingSplit],
    trained: Trained,
    seconds: float,
) -> Iterator[Outcome]:
    """Give what has come of a stack that was trained, model by model."""
    network, first_slot = trained.models.predicting, 0
    for part in stack:
        settings, scale = part.fold.estimators[0], part.fold.targets.scale
        asked = _asked(part, splits[part.checked.split])
        limits = [models_at_once(network, rows.shape[0]) for _, rows in asked]
        if trained.engine == "numba":  # one by one, they predict as alone, to the bit
            limits.append(1)
        n_models = len(part.candidates)
        for some in pieces(range(n_models), min(limits, default=n_models)):
            slots = [first_slot + number for number in some]
            with torch.inference_mode():
                layers = layers_at(network, slots)
                device = layers[0].w.device
                predicted = [
                    (X, raw_predictions(settings, layers, rows, device))
                    for X, rows in asked
                ]
                known = [(X, prediction_of_y(z, scale)) for X, z in predicted]
            for n, (number, slot) in enumerate(zip(some, slots, strict=True)):
                of_model = [(X, z[n][None]) for X, z in known]
                yield _outcome(part, number, trained, slot, of_model, seconds)
        first_slot += n_models


def _outcome(
    part: _Part,
    number: int,
    trained: Trained,
    slot: int,
    known: Sequence[tuple[ArrayLike, Tensor]],
    seconds: float,
) -> Outcome:
    """Return what has come of one model, which knows the predictions asked for."""
    (split, noted, examples, _), fold = part.checked, part.fold
    estimator = unfitted(fold.estimators[number])
    vars(estimator).update(_fitted(noted), **attributes_of_targets(fold.targets))
    state = error = None
    try:
        warn_of_batch_size(estimator, len(examples.labels))
        state = take_over_(estimator, trained, slot, fold)
    except Exception as raised:  # a warning, where warnings are errors
        if not (is_of_caller(raised) or isinstance(raised, Warning)):
            raise
        error = raised
    let_know_(estimator, known)
    return Outcome(
        split,
        part.candidates[number],
        estimator,
        fold.targets,
        state,
        trained.histories[slot],
        error,
        trained.engine,
        seconds,
    )


def _asked(part: _Part, split: TrainingSplit) -> list[tuple[ArrayLike, Matrix]]:
    """Return what will be asked of a split, and its rows.

    Those that are refused are left out: they will be again, when they are asked for.
    """
    asked, dtype = [], dtype_of(part.fold.examples.X)
    for X in split.asked():
        try:
            rows = checked_rows(part.checked.noted, X, [dtype])
        except (TypeError, ValueError):
            continue
        asked.append((X, rows))
    return asked
