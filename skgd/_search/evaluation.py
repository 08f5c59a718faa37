"""Candidates x splits, evaluated: in groups that are trained together, or one by one.

Candidates of a group (``grouping``) are trained as a few stacks (``stacks``). What
cannot be stacked is left to scikit-learn's own function for one fit, and so is a group
whose rows or parameters are refused, or for which a function of the user's raises: what
GridSearchCV takes is taken, and the errors are its own. Any other error is a fault of
this package, and is raised.

The steps of a pipeline before its last are fitted once for each split and distinct
setting of their own parameters. To find out what the last step would be given, it is
made to note it down.

The private functions of scikit-learn that its searches are made of are imported here
and in ``searches``, and nowhere else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import lru_cache, partial
from itertools import product
from time import perf_counter
from traceback import format_exception
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import (
    _BaseScorer,
    _MultimetricScorer,
    _PassthroughScorer,
    _Scorer,
)
from sklearn.model_selection._validation import (
    _fit_and_score,
    _insert_error_scores,
    _score,
    _warn_or_raise_about_fit_failures,
)
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params, _num_samples
from torch import Tensor

from skgd._equations.schedules import LAID_OUT
from skgd._estimators.callbacks import subtask, task_of_search
from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.inputs import device_of
from skgd._machine.errors import errors_of_caller, is_of_caller
from skgd._search.grouping import (
    Group,
    Parameters,
    Plan,
    candidate_of,
    key_of,
    note_on_groups,
    plans_of,
)
from skgd._search.pipelines import last_step, with_last_step
from skgd._search.stacks import BYTES_OF_ROWS, Split, Trained, fit_together, pieces
from skgd._training.models import Models
from skgd._training.stopping import Ending, History

Array = npt.NDArray[Any]
Place = tuple[int, int]  # the numbers of a candidate and of a split
Result = dict[str, Any]  # of a fit, as scikit-learn's function for one fit gives it

# Seconds between two lines on a stack.
_BETWEEN_LINES = 5.0


class Task(NamedTuple):
    """What all evaluations of a search have in common."""

    X: Any
    y: Any
    scorer: Any
    fit_params: Parameters
    score_params: Parameters
    return_train_score: bool
    error_score: Any
    max_bytes: int | None
    verbose: int
    caller: Any  # the search, as callbacks get to see it


class _Prepared(NamedTuple):
    """What the last step of a pipeline is given in a split."""

    pipeline: Any  # fitted, but for its last step
    X: ArrayLike
    y: ArrayLike
    sample_weight: ArrayLike | None
    scored: dict[str, ArrayLike]  # the test rows, and the training rows if asked


class _CvSplit(NamedTuple):
    """A split of the rows."""

    number: int
    train: Array
    test: Array
    prepared: _Prepared | None = None  # where there are steps before the last
    reason: str = ""  # why there are, and it is not


class _Job(NamedTuple):
    """Candidates of a group, to be trained together on some splits."""

    estimator: Any
    setting: Any  # of its steps before the last
    candidates: Sequence[int]
    numbers: Sequence[Parameters]
    splits: Sequence[_CvSplit]
    so_far: Mapping[tuple[int, int], Trained] | None  # by split and candidate
    keeps: bool  # whether training may go on from what comes out


class _Done(NamedTuple):
    """What has come of a job; nothing if there is a reason."""

    fits: list[tuple[Place, Result, Trained | None]]
    reason: str = ""


class Evaluation:
    """Evaluates candidates when ``_run_search`` asks for it, and keeps the results."""

    def __init__(
        self,
        search: Any,
        base: Any,
        task: Task,
        split_params: Parameters,
        resource: str | None,
    ) -> None:
        self._search, self._task, self._split_params = search, task, split_params
        self._resource = resource  # a parameter that grows from call to call, if any
        self._base = base
        # What was trained in the last call of candidates that may go on, by candidate
        # and split, and with what the steps before the last have made of the splits.
        self._states: dict[Any, dict[int, Trained]] = {}
        self._prepared: dict[Any, dict[int, _CvSplit]] = {}
        self._more: dict[str, list[Any]] = defaultdict(list)
        self.candidates: list[dict[str, Any]] = []
        self.fits: list[Result] = []  # split by split for each candidate
        self.groups: list[Group] = []
        self.endings: Counter[Ending | None] = Counter()  # of the models of a call
        self.results: dict[str, Any] = {}

    def __call__(
        self,
        candidate_params: Iterable[dict[str, Any]],
        cv: Any = None,
        more_results: Mapping[str, Sequence[Any]] | None = None,
        callback_ctx: Any = None,
    ) -> dict[str, Any]:
        """Evaluate candidates, and return all results so far as ``cv_results_``."""
        search, task = self._search, self._task
        candidates = list(candidate_params)
        cv = cv or search._checked_cv_orig
        splits = list(cv.split(task.X, task.y, **self._split_params))
        if len(splits) != search.n_splits_:
            msg = (
                "cv.split and cv.get_n_splits return inconsistent results. Expected "
                f"{search.n_splits_} splits, got {len(splits)}"
            )
            raise ValueError(msg)
        if task.verbose > 0:
            print(
                f"Fitting {len(splits)} folds for each of {len(candidates)} candidates,"
                f" totalling {len(candidates) * len(splits)} fits"
            )
        if not (candidates and splits):
            msg = (
                "No fits were performed. Was the CV iterator empty? Were there no "
                "candidates?"
            )
            raise ValueError(msg)
        of_candidates = self._evaluate(candidates, splits, callback_ctx)
        fits = [fit for fits in of_candidates for fit in fits]
        _warn_or_raise_about_fit_failures(fits, task.error_score)
        if callable(search.scoring):
            _insert_error_scores(fits, task.error_score)
        self.candidates += candidates
        self.fits += fits
        for name, values in (more_results or {}).items():
            self._more[name].extend(values)
        self.results = search._format_results(
            self.candidates, len(splits), self.fits, self._more
        )
        return self.results

    def _evaluate(
        self,
        candidates: Sequence[Parameters],
        splits: Sequence[tuple[Array, Array]],
        context: Any,
    ) -> list[list[Result]]:
        """Return the results of all fits, for every candidate split by split."""
        search, task = self._search, self._task
        plans = plans_of(
            self._base, candidates, task.y, task.fit_params, self._has_begun
        )
        if task.verbose > 0 and (note := note_on_groups(plans)):
            print(note)
        n_jobs = search.n_jobs
        together = [plan for plan in plans if plan.group.together]
        if any(_on_accelerator(task.X, plan.estimator) for plan in together):
            n_jobs = 1  # one process holds the device
        parallel = _parallel(n_jobs, search.pre_dispatch)
        jobs = self._jobs(candidates, splits, together, effective_n_jobs(n_jobs))
        n_models = sum(len(plan.group.candidates) for plan in together)
        n_fits = (len(candidates) - n_models) * len(splits)
        shown = None  # to callbacks
        if task.caller is not None and context is not None:
            shown = task_of_search(context, search, sum(map(len, jobs)) + n_fits)
        found: dict[Place, Result] = {}
        states: dict[Any, dict[int, Trained]] = defaultdict(dict)
        reasons: dict[int, str] = {}  # of candidates that were refused together
        with parallel:
            for some in jobs:
                for done, job in self._train(some, parallel, shown, len(splits)):
                    if done.reason:
                        reasons |= dict.fromkeys(job.candidates, done.reason)
                    for place, result, trained in done.fits:
                        found[place] = result
                        if trained is not None:
                            name = self._name(candidates[place[0]])
                            states[name][place[1]] = trained
                    if task.verbose > 1:
                        n_all = len(candidates) * len(splits)
                        print(f"{len(found)} of {n_all} models trained")
            places = np.ndindex(len(candidates), len(splits))
            apart = [place for place in places if place not in found]
            found |= self._fit_apart(candidates, splits, apart, parallel, shown)
        if shown is not None and shown is not context:
            shown.call_on_fit_task_end(estimator=search)
        self._states = states
        fits = [
            [found[number, split] for split in range(len(splits))]
            for number in range(len(candidates))
        ]
        for plan in plans:
            self.groups += _as_evaluated(
                plan.group, fits, reasons, len(self.candidates)
            )
        self.endings = Counter(fit.pop("ending", None) for few in fits for fit in few)
        return fits

    def endings_in_words(self) -> str:
        """Return how many models of the last call ended in a way to know of, if any."""
        told = [
            f"{self.endings[ending]} {ending.value}"
            for ending in Ending
            if ending != Ending.UNREMARKABLE and self.endings[ending]
        ]
        if not told:
            return ""
        n_models = sum(self.endings[ending] for ending in Ending)
        return (
            f"Of {n_models} models, {'; '.join(told)}. A fit of such a "
            "candidate says what to do; tol=None trains for max_iter epochs."
        )

    def _jobs(
        self,
        candidates: Sequence[Parameters],
        splits: Sequence[tuple[Array, Array]],
        plans: Sequence[Plan],
        n_workers: int,
    ) -> list[list[_Job]]:
        """Return what is to be done, in lists of one setting of earlier steps each.

        A list has as many splits as may be kept with what such steps make of them. A
        group makes several jobs where there are more workers than groups.
        """
        of_splits = [_CvSplit(n, *rows) for n, rows in enumerate(splits)]
        of_settings: dict[Any, list[Plan]] = defaultdict(list)
        for plan in plans:
            of_settings[plan.setting].append(plan)
        at_once = len(splits)
        if plans and plans[0].path:
            at_once = max(n_workers, BYTES_OF_ROWS // _bytes_of(self._task.X))
        jobs = []
        for some in of_settings.values():
            # Groups of unlike cost are cut finer, so that no worker waits for long.
            finer = 2 if len(some) > 1 and n_workers > 1 else 1
            n_pieces = -(-finer * n_workers // len(some))
            for few in pieces(of_splits, at_once):
                keeps = len(few) == len(splits)  # with what is made of them
                jobs.append(
                    [
                        job
                        for plan in some
                        for job in self._jobs_of(candidates, plan, few, n_pieces, keeps)
                    ]
                )
        return jobs

    def _jobs_of(
        self,
        candidates: Sequence[Parameters],
        plan: Plan,
        splits: Sequence[_CvSplit],
        n_pieces: int,
        keeps: bool,
    ) -> Iterator[_Job]:
        """Give a group in so many pieces, or as many as it has models."""
        numbers = plan.group.candidates
        of_candidates = pieces(range(len(numbers)), -(-len(numbers) // n_pieces))
        n_pieces_of_splits = -(-n_pieces // len(of_candidates))
        of_splits = pieces(splits, -(-len(splits) // n_pieces_of_splits))
        begun = self._has_begun(candidates[numbers[0]])
        prepared = self._prepared.get(plan.setting, {}) if begun else {}
        for some, few in product(of_candidates, of_splits):
            so_far = None
            if begun:
                names = [self._name(candidates[numbers[n]]) for n in some]
                so_far = {
                    (n, place): self._states[name][split.number]
                    for (n, split), (place, name) in product(
                        enumerate(few), enumerate(names)
                    )
                }
            yield _Job(
                plan.estimator,
                plan.setting,
                [numbers[n] for n in some],
                [plan.numbers[n] for n in some],
                [prepared.get(split.number, split) for split in few],
                so_far,
                keeps and self._may_go_on(plan),
            )

    def _train(
        self, jobs: Sequence[_Job], parallel: Any, shown: Any, n_splits: int
    ) -> Iterator[tuple[_Done, _Job]]:
        """Do the jobs of one setting of earlier steps, and give what comes of each."""
        task, estimator = self._task, jobs[0].estimator
        if type(estimator) is Pipeline:
            splits = {split.number: split for job in jobs for split in job.splits}
            prepared = {n: one for n, one in splits.items() if one.prepared is not None}
            for split in parallel(
                delayed(_prepare)(task, estimator, split)
                for split in splits.values()
                if split.prepared is None
            ):
                prepared[split.number] = split
            reasons = [one.reason for one in prepared.values() if one.reason]
            if reasons:
                yield from ((_Done([], reasons[0]), job) for job in jobs)
                return
            jobs = [
                job._replace(splits=[prepared[split.number] for split in job.splits])
                for job in jobs
            ]
            if jobs[0].keeps:
                self._prepared[jobs[0].setting] = prepared
        contexts = [
            subtask(
                shown,
                f"{len(job.candidates) * len(job.splits)} models",
                job.candidates[0] * n_splits + job.splits[0].number,
                None,
            )
            for job in jobs
        ]
        for done, number in parallel(
            delayed(_train_together)(task, job, number, one)
            for number, (job, one) in enumerate(zip(jobs, contexts, strict=True))
        ):
            yield done, jobs[number]

    def _fit_apart(
        self,
        candidates: Sequence[Parameters],
        splits: Sequence[tuple[Array, Array]],
        places: Sequence[Place],
        parallel: Any,
        shown: Any,
    ) -> dict[Place, Result]:
        """Return the results of fits that are made one at a time."""
        contexts = [
            subtask(
                shown, "candidate-split-evaluation", number * len(splits) + split, 0
            )
            for number, split in places
        ]
        fits = [
            delayed(_fit_one)(
                self._task,
                clone(self._base),
                candidates[place[0]],
                place,
                splits[place[1]],
                (len(candidates), len(splits)),
                one,
            )
            for place, one in zip(places, contexts, strict=True)
        ]
        return dict(parallel(fits))

    def _may_go_on(self, plan: Plan) -> bool:
        """Return whether a larger ``max_iter`` just continues the training."""
        _, last = last_step(plan.estimator)
        return (
            self._resource == f"{plan.path}max_iter"
            and not last.early_stopping
            and last.lr_schedule not in LAID_OUT
        )

    def _name(self, params: Parameters) -> Any:
        """Return what tells a candidate from others, whatever its resource."""
        return tuple(
            (name, key_of(params[name]))
            for name in sorted(params)
            if name != self._resource
        )

    def _has_begun(self, params: Parameters) -> bool:
        """Return whether a candidate has been trained on all splits, and may go on."""
        if not self._states:
            return False
        n_splits: int = self._search.n_splits_
        return len(self._states.get(self._name(params), {})) == n_splits


def _on_accelerator(X: ArrayLike, estimator: Any) -> bool:
    """Return whether an estimator of ours computes elsewhere than on the CPU."""
    _, last = last_step(estimator)
    try:
        return device_of(X, getattr(last, "device", "cpu")).type != "cpu"
    except (RuntimeError, TypeError, ValueError):  # its fit will say so
        return False


def _parallel(n_jobs: int | None, pre_dispatch: int | str) -> Any:
    """Return joblib's Parallel, whose results come as they are done where they can."""
    try:
        return Parallel(
            n_jobs=n_jobs, pre_dispatch=pre_dispatch, return_as="generator_unordered"
        )
    except ValueError:  # not every backend can: multiprocessing does not
        return Parallel(n_jobs=n_jobs, pre_dispatch=pre_dispatch)


def _bytes_of(X: Any) -> int:
    """Return the bytes of all rows, about; those of a frame as if it held floats."""
    return int(getattr(X, "nbytes", 8 * np.prod(getattr(X, "shape", 1))))


def _as_evaluated(
    group: Group,
    fits: Sequence[Sequence[Result]],
    reasons: Mapping[int, str],
    offset: int,
) -> Iterator[Group]:
    """Give a group, or those that it fell into, with the places in cv_results_."""
    of_reasons: dict[str, list[int]] = defaultdict(list)
    for number in group.candidates:
        together = all(fit["together"] for fit in fits[number])
        reason = "" if together else reasons.get(number, group.reason)
        of_reasons[reason].append(number + offset)
    for reason, numbers in of_reasons.items():
        yield Group(numbers, group.params, not reason, reason)


def _prepare(task: Task, estimator: Any, split: _CvSplit) -> _CvSplit:
    """Return a split with the steps before the last fitted, or why they are not."""
    pipeline, given = clone(estimator), dict[str, Any]()
    _, last = last_step(pipeline)

    def note_down(X: ArrayLike, y: ArrayLike, **params: Any) -> Any:
        given.update(X=X, y=y, params=params)
        return last

    last.fit = note_down  # in the place of the method
    X, y = _safe_split(pipeline, task.X, task.y, split.train)
    X_test, _ = _safe_split(pipeline, task.X, task.y, split.test, split.train)
    params = _check_method_params(task.X, params=task.fit_params, indices=split.train)
    try:
        pipeline.fit(X, y, **params)
        scored = {"test": _before_last(pipeline, X_test)}
        if task.return_train_score:
            scored["train"] = _before_last(pipeline, X)
    except Exception as error:  # any step may raise anything
        return split._replace(reason=_why(error))
    del last.fit
    if given["params"].keys() - {"sample_weight"}:
        return split._replace(reason="fit is given more than sample_weight")
    weight = given["params"].get("sample_weight")
    prepared = _Prepared(pipeline, given["X"], given["y"], weight, scored)
    return split._replace(prepared=prepared)


def _why(error: Exception) -> str:
    """Return an error as the reason why fits are made one at a time."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _before_last(pipeline: Any, X: ArrayLike) -> ArrayLike:
    """Return what the last step of a fitted pipeline gets to see of some rows."""
    while type(pipeline) is Pipeline:
        *steps, (_, last) = pipeline.steps
        for _, step in steps:
            X = X if step in (None, "passthrough") else step.transform(X)
        pipeline = last
    return X


class _Scored(NamedTuple):
    """Rows that are scored, in the eyes of the pipeline and of its last step."""

    X: ArrayLike
    seen: ArrayLike
    y: ArrayLike
    params: Parameters  # of the scorer


def _scored(task: Task, estimator: Any, split: _CvSplit) -> dict[str, _Scored]:
    """Return what is scored in a split: test rows and, if asked, training rows."""
    parts: dict[str, tuple[Array, Array | None]] = {"test": (split.test, split.train)}
    if task.return_train_score:
        parts["train"] = (split.train, None)
    scored = {}
    for name, (some, train) in parts.items():
        X, y = _safe_split(estimator, task.X, task.y, some, train)
        params = _check_method_params(task.X, params=task.score_params, indices=some)
        seen = X if split.prepared is None else split.prepared.scored[name]
        scored[name] = _Scored(X, seen, y, params)
    return scored


def _train_together(
    task: Task, job: _Job, number: int, context: Any
) -> tuple[_Done, int]:
    """Return what comes of a job, and its number."""
    if context is None:
        return _done(task, job, None), number
    context.call_on_fit_task_begin(estimator=task.caller)
    try:
        return _done(task, job, context), number
    finally:
        context.call_on_fit_task_end(estimator=task.caller)


def _done(task: Task, job: _Job, context: Any) -> _Done:
    """Return the results of a job, or why it is left to one fit at a time."""
    asks_only = _asks_only(task.scorer)

    @lru_cache(maxsize=1)  # of one split at a time, for they are copies
    def scored_of(split: int) -> dict[str, _Scored]:
        return _scored(task, job.estimator, job.splits[split])

    def asked(split: int) -> list[ArrayLike]:
        return [one.seen for one in scored_of(split).values()] if asks_only else []

    splits = [
        _split(task, split, partial(asked, number))
        for number, split in enumerate(job.splits)
    ]
    all_trained = fit_together(
        [candidate_of(job.estimator, numbers) for numbers in job.numbers],
        splits,
        max_bytes=task.max_bytes,
        so_far=job.so_far,
        watching=partial(_watching, task, context),
    )
    fits: list[tuple[Place, Result, Trained | None]] = []
    while True:
        try:
            trained = next(all_trained, None)
        except Exception as error:
            if not is_of_caller(error):  # memory, of one model, is handed over with it
                raise
            return _Done([], _why(error))  # one fit at a time says it as scikit-learn
        if trained is None:
            return _Done(fits)
        split = job.splits[trained.split]
        result = _result(task, trained, split, scored_of(trained.split))
        if not asks_only:  # the scorer may have changed the rows
            scored_of.cache_clear()
        goes_on = job.keeps and trained.error is None
        place = job.candidates[trained.candidate], split.number
        fits.append((place, result, deepcopy(trained) if goes_on else None))


def _split(
    task: Task, split: _CvSplit, asked: Callable[[], Sequence[ArrayLike]]
) -> Split:
    """Return what is trained on in a split, and what will be asked for."""
    if split.prepared is not None:
        _, X, y, weight, _ = split.prepared
        return Split(X, y, weight, None, asked)
    weight = task.fit_params.get("sample_weight")
    train = np.arange(_num_samples(task.X))[np.asarray(split.train)]
    return Split(task.X, task.y, weight, train, asked)


@contextmanager
def _watching(
    task: Task, context: Any, n_models: int, n_epochs: int
) -> Iterator[_Progress | None]:
    """Give who looks on at the training of a stack, if anyone does."""
    if context is None:
        progress = _Progress(task, None, n_models, n_epochs)
        yield progress if task.verbose > 2 else None
        progress.end()
        return
    stack = context.subcontext(f"epochs of {n_models} models", max_subtasks=n_epochs)
    with errors_of_caller():
        stack.call_on_fit_task_begin(estimator=task.caller)
    try:
        progress = _Progress(task, stack, n_models, n_epochs)
        yield progress
        progress.end()
    finally:
        with errors_of_caller():
            stack.call_on_fit_task_end(estimator=task.caller)


class _Progress:
    """Looks on at the training of a stack, for callbacks and who reads the output."""

    wants_steps = False

    def __init__(self, task: Task, stack: Any, n_models: int, n_epochs: int) -> None:
        self._task, self._stack = task, stack
        self._n_models, self._n_epochs, self._epochs = n_models, n_epochs, 0
        self._began = self._told = perf_counter()

    @errors_of_caller()
    def before_epoch(self) -> None:
        if self._stack is not None:
            self._epoch = self._stack.subcontext("epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._task.caller)

    def before_step(self) -> None:
        pass

    def after_step(self, models: Models, loss: Any) -> str:
        return ""

    @errors_of_caller()
    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        self._epochs += 1
        if perf_counter() - self._told > _BETWEEN_LINES:
            self._told = perf_counter()
            n_going = sum(history.goes_on for history in histories)
            self._print(f"{n_going} of them in training")
        if self._stack is not None:
            self._epoch.call_on_fit_task_end(estimator=self._task.caller)
        return ""

    def end(self) -> None:
        """Tell that the training has ended."""
        self._print("done")

    def _print(self, state: str) -> None:
        if self._task.verbose > 2:
            print(
                f"Stack of {self._n_models} models, epoch {self._epochs} of "
                f"{self._n_epochs}, {state}, {perf_counter() - self._began:.1f} s"
            )


def _result(
    task: Task, trained: Trained, split: _CvSplit, rows: Mapping[str, _Scored]
) -> Result:
    """Return the scores of a model as scikit-learn's function for one fit does."""
    result: Result = {
        "fit_error": None,
        "n_test_samples": _num_samples(rows["test"].X),
        "fit_time": trained.seconds,
        "score_time": 0.0,
        "loss_curve": np.array(trained.history.loss_curve),
        "together": True,
    }
    if trained.error is None:
        result["ending"] = trained.estimator._ending(trained.history)
    if trained.error is not None:
        if task.error_score == "raise":
            raise trained.error
        result["fit_error"] = "".join(format_exception(trained.error))
        scores = task.error_score
        if isinstance(task.scorer, _MultimetricScorer):
            scores = dict.fromkeys(task.scorer._scorers, task.error_score)
        return result | {f"{name}_scores": copy(scores) for name in rows}
    for name, (X, seen, y, params) in rows.items():
        began = perf_counter()
        estimator = trained.estimator
        if split.prepared is not None and (params or not _asks_only(task.scorer)):
            estimator = with_last_step(split.prepared.pipeline, estimator)
            seen = X
        if _is_share_of_hits(task.scorer, estimator, seen, y, params):
            scores = float(np.mean(estimator.predict(seen) == y))
        else:
            scores = _score(estimator, seen, y, task.scorer, params, task.error_score)
        result[f"{name}_scores"] = scores
        if name == "test":
            result["score_time"] = perf_counter() - began
    trained.estimator.__dict__.pop("_predicted_", None)
    return result


def _is_share_of_hits(
    scorer: Any, estimator: Any, X: Any, y: Any, params: Parameters
) -> bool:
    """Return whether the score is the plain accuracy of labels that were predicted.

    The checks of accuracy_score take several times as long as to train a small model.
    """
    by_default = isinstance(scorer, _PassthroughScorer)
    named = (
        isinstance(scorer, _Scorer)
        and scorer._score_func is accuracy_score
        and scorer._sign == 1
        and not scorer._kwargs
    )
    return (
        (by_default or named)
        and type(estimator) is MiniBatchClassifier
        and not (params or estimator._multilabel_)
        and not isinstance(X, Tensor)
        and isinstance(y, np.ndarray)
        and y.ndim == 1
    )


def _asks_only(scorer: Any) -> bool:
    """Return whether a scorer does no more than ask for predictions, or the score.

    Then a pipeline and its last step are the same to it, and what it is given stays as
    it is. A function of the user's may do anything.
    """
    scorers = [scorer]
    if isinstance(scorer, _MultimetricScorer):
        scorers = list(scorer._scorers.values())
    return all(
        isinstance(one, _PassthroughScorer)
        or (
            isinstance(one, _BaseScorer)
            and one._score_func.__module__.startswith("sklearn.")
        )
        for one in scorers
    )


def _fit_one(
    task: Task,
    estimator: Any,
    params: Parameters,
    place: Place,
    rows: tuple[Array, Array],
    totals: tuple[int, int],
    context: Any,
) -> tuple[Place, Result]:
    """Return the result of one fit by scikit-learn's own function."""
    (candidate, split), (train, test) = place, rows
    result = _fit_and_score(
        estimator,
        task.X,
        task.y,
        train=train,
        test=test,
        parameters=params,
        scorer=task.scorer,
        fit_params=task.fit_params,
        score_params=task.score_params,
        return_train_score=task.return_train_score,
        return_n_test_samples=True,
        return_times=True,
        return_estimator=True,
        split_progress=(split, totals[1]),
        candidate_progress=(candidate, totals[0]),
        error_score=task.error_score,
        verbose=task.verbose,
        caller=task.caller,
        callback_ctx=context,
    )
    _, last = last_step(result.pop("estimator"))
    result["loss_curve"] = np.array(getattr(last, "loss_curve_", []))
    result["together"] = False
    return place, result
