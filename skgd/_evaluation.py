"""Candidates x splits, evaluated: in groups that are trained together, or one by one.

Candidates of a group (``_grouping``) are trained as a few stacks (``_stacks``). What
cannot be stacked is left to scikit-learn's own function for one fit, and so is a group
whose rows or parameters are refused: what GridSearchCV takes is taken, and the errors
are its own.

The steps of a pipeline before its last are fitted once for each split and distinct
setting of their own parameters. To find out what the last step would be given, it is
made to note it down.

The private functions of scikit-learn that its searches are made of are imported here
and in ``_search``, and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
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

from skgd._callbacks import has_callbacks
from skgd._estimators import MiniBatchClassifier
from skgd._grouping import (
    Group,
    Parameters,
    Plan,
    candidate_of,
    key_of,
    last_step,
    plans_of,
    with_last_step,
)
from skgd._inputs import device_of
from skgd._stacks import Split, Trained, fit_together, pieces
from skgd._steps import Models
from skgd._stopping import History

Array = npt.NDArray[Any]
Place = tuple[int, int]  # the numbers of a candidate and of a split
Result = dict[str, Any]  # of a fit, as scikit-learn's function for one fit gives it

# Schedules that are laid out over max_iter: another max_iter is another training.
_LAID_OUT = ("cosine", "one_cycle")


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
    X_test: ArrayLike


class _CvSplit(NamedTuple):
    """A split of the rows."""

    number: int
    train: Array
    test: Array
    prepared: _Prepared | None  # where there are steps before the last


class _Job(NamedTuple):
    """Candidates of a group, to be trained together on some splits."""

    estimator: Any
    candidates: Sequence[int]
    numbers: Sequence[Parameters]
    cuts: Sequence[_CvSplit]
    so_far: Mapping[Place, Trained] | None  # what was trained of them up to now
    keeps: bool  # whether training may go on from what comes out


class Evaluation:
    """Evaluates candidates when ``_run_search`` asks for it, and keeps the results."""

    def __init__(
        self, search: Any, task: Task, split_params: Parameters, resource: str | None
    ) -> None:
        self._search, self._task, self._split_params = search, task, split_params
        self._resource = resource  # a parameter that grows from call to call, if any
        self._base = clone(search.estimator)
        # What was trained of candidates that may go on, by candidate and split.
        self._states: dict[Any, dict[int, Trained]] = defaultdict(dict)
        self._more: dict[str, list[Any]] = defaultdict(list)
        self.candidates: list[dict[str, Any]] = []
        self.fits: list[Result] = []  # split by split for each candidate
        self.groups: list[Group] = []
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
        n_jobs = search.n_jobs
        if any(_on_accelerator(task.X, plan.estimator) for plan in plans):
            n_jobs = 1  # one process holds the device
        parallel = _parallel(n_jobs, search.pre_dispatch)
        jobs = self._jobs(candidates, splits, plans, effective_n_jobs(n_jobs))
        n_models = sum(len(p.group.candidates) for p in plans if p.group.together)
        n_fits = (len(candidates) - n_models) * len(splits)
        tasks = None
        if has_callbacks(search) and context is not None:
            tasks = _search_task(context, sum(map(len, jobs)) + n_fits, search)
        found: dict[Place, Result] = {}
        with parallel:
            for some in jobs:
                self._train(candidates, some, len(splits), parallel, tasks, found)
            places = np.ndindex(len(candidates), len(splits))
            apart = [place for place in places if place not in found]
            contexts = [_subtask(tasks, "fit", 0) for _ in apart]
            for place, result in parallel(
                delayed(_fit_one)(
                    task,
                    clone(self._base),
                    candidates[place[0]],
                    (place, splits[place[1]]),
                    (len(candidates), len(splits)),
                    one,
                )
                for place, one in zip(apart, contexts, strict=True)
            ):
                found[place] = result
        if tasks is not None and tasks is not context:
            tasks.call_on_fit_task_end(estimator=search)
        fits = [
            [found[number, split] for split in range(len(splits))]
            for number in range(len(candidates))
        ]
        for plan in plans:
            self.groups += _as_evaluated(plan.group, fits, len(self.candidates))
        return fits

    def _jobs(
        self,
        candidates: Sequence[Parameters],
        splits: Sequence[tuple[Array, Array]],
        plans: Sequence[Plan],
        n_workers: int,
    ) -> list[list[_Job]]:
        """Return what is to be done, by the setting of the steps before the last.

        A group makes several jobs where there are more workers than groups.
        """
        cuts = [
            _CvSplit(n, train, test, None) for n, (train, test) in enumerate(splits)
        ]
        of_settings: dict[Any, list[Plan]] = defaultdict(list)
        for plan in plans:
            if plan.group.together:
                of_settings[plan.setting].append(plan)
        jobs = []
        for some in of_settings.values():
            # Groups of unlike cost are cut finer, so that no worker waits for long.
            finer = 2 if len(some) > 1 and n_workers > 1 else 1
            n_pieces = -(-finer * n_workers // len(some))
            jobs.append(
                [
                    job
                    for plan in some
                    for job in self._jobs_of(candidates, plan, cuts, n_pieces)
                ]
            )
        return jobs

    def _jobs_of(
        self,
        candidates: Sequence[Parameters],
        plan: Plan,
        cuts: Sequence[_CvSplit],
        n_pieces: int,
    ) -> Iterator[_Job]:
        """Give a group in so many pieces, or as many as it has models."""
        numbers = plan.group.candidates
        of_candidates = pieces(range(len(numbers)), -(-len(numbers) // n_pieces))
        n_pieces_of_cuts = -(-n_pieces // len(of_candidates))
        of_cuts = pieces(cuts, -(-len(cuts) // n_pieces_of_cuts))
        begun = self._has_begun(candidates[numbers[0]])
        for some, few in product(of_candidates, of_cuts):
            names = [self._name(candidates[numbers[n]]) for n in some]
            so_far = {
                (split, place): self._states[name][cut.number]
                for (split, cut), (place, name) in product(
                    enumerate(few), enumerate(names)
                )
                if begun
            }
            yield _Job(
                plan.estimator,
                [numbers[n] for n in some],
                [plan.numbers[n] for n in some],
                few,
                so_far if begun else None,
                self._may_go_on(plan),
            )

    def _train(
        self,
        candidates: Sequence[Parameters],
        jobs: Sequence[_Job],
        n_splits: int,
        parallel: Any,
        tasks: Any,
        found: dict[Place, Result],
    ) -> None:
        """Do the jobs of one setting of the steps before the last."""
        task, estimator = self._task, jobs[0].estimator
        if last_step(estimator)[0]:
            cuts = {cut.number: cut for job in jobs for cut in job.cuts}.values()
            prepared = {
                cut.number: cut
                for cut in parallel(
                    delayed(_prepare)(task, estimator, cut) for cut in cuts
                )
            }
            if any(cut.prepared is None for cut in prepared.values()):
                return  # one fit at a time will say why
            jobs = [
                job._replace(cuts=[prepared[cut.number] for cut in job.cuts])
                for job in jobs
            ]
        contexts = [
            _subtask(tasks, f"{len(job.candidates) * len(job.cuts)} models", None)
            for job in jobs
        ]
        for done in parallel(
            delayed(_train_together)(task, job, one)
            for job, one in zip(jobs, contexts, strict=True)
        ):
            for place, result, trained in done:
                found[place] = result
                if trained is not None:
                    self._states[self._name(candidates[place[0]])][place[1]] = trained
            if task.verbose > 1:
                print(f"{len(found)} of {len(candidates) * n_splits} models trained")

    def _may_go_on(self, plan: Plan) -> bool:
        """Return whether a larger ``max_iter`` just continues the training."""
        _, last = last_step(plan.estimator)
        return (
            self._resource == f"{plan.path}max_iter"
            and not last.early_stopping
            and last.lr_schedule not in _LAID_OUT
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


def _search_task(context: Any, n_tasks: int, search: Any) -> Any:
    """Return the task that the jobs are parts of, for callbacks.

    It is the given one, but for the task of the whole fit.
    """
    if not context.sequential_subtasks:
        return context
    search_task = context.subcontext(
        "search", max_subtasks=n_tasks, sequential_subtasks=False
    )
    return search_task.call_on_fit_task_begin(estimator=search)


def _subtask(tasks: Any, name: str, max_subtasks: int | None) -> Any:
    """Return the next part of a task; None if nobody looks on.

    Fits of a job that was refused are not foreseen, and nobody is told of them.
    """
    if tasks is None or len(tasks._children_map) == tasks.max_subtasks:
        return None
    number = len(tasks._children_map)
    return tasks.subcontext(name, task_id=number, max_subtasks=max_subtasks)


def _as_evaluated(
    group: Group, fits: Sequence[Sequence[Result]], offset: int
) -> Iterator[Group]:
    """Give a group, or the two that it fell into, with the places in cv_results_."""
    for together in (True, False):
        some = [
            number + offset
            for number in group.candidates
            if all(fit["together"] for fit in fits[number]) == together
        ]
        if some:
            reason = (
                "" if together else group.reason or "X, y or a parameter is refused"
            )
            yield Group(some, group.params, together, reason)


def _prepare(task: Task, estimator: Any, cut: _CvSplit) -> _CvSplit:
    """Return a split with the steps before the last fitted; as it is if they refuse."""
    pipeline, given = clone(estimator), dict[str, Any]()
    _, last = last_step(pipeline)

    def note_down(X: ArrayLike, y: ArrayLike, **params: Any) -> Any:
        given.update(X=X, y=y, params=params)
        return last

    last.fit = note_down  # in the place of the method
    X, y = _safe_split(pipeline, task.X, task.y, cut.train)
    X_test, _ = _safe_split(pipeline, task.X, task.y, cut.test, cut.train)
    params = _check_method_params(task.X, params=task.fit_params, indices=cut.train)
    try:
        pipeline.fit(X, y, **params)
        X_test = _before_last(pipeline, X_test)
    except Exception:  # any step may raise anything
        return cut
    del last.fit
    if given["params"].keys() - {"sample_weight"}:
        return cut
    weight = given["params"].get("sample_weight")
    prepared = _Prepared(pipeline, given["X"], given["y"], weight, X_test)
    return cut._replace(prepared=prepared)


def _before_last(pipeline: Any, X: ArrayLike) -> ArrayLike:
    """Return what the last step of a fitted pipeline gets to see of some rows."""
    while type(pipeline) is Pipeline:
        *steps, (_, last) = pipeline.steps
        for _, step in steps:
            X = X if step in (None, "passthrough") else step.transform(X)
        pipeline = last
    return X


class _Rows(NamedTuple):
    """Rows that are scored, in the eyes of the pipeline and of its last step."""

    X: ArrayLike
    seen: ArrayLike
    y: ArrayLike
    params: Parameters  # of the scorer


def _rows(task: Task, estimator: Any, cut: _CvSplit) -> dict[str, _Rows]:
    """Return what is scored in a split: test rows and, if asked, training rows."""
    parts: dict[str, tuple[Array, Array | None]] = {"test": (cut.test, cut.train)}
    if task.return_train_score:
        parts["train"] = (cut.train, None)
    rows = {}
    for name, (some, train) in parts.items():
        X, y = _safe_split(estimator, task.X, task.y, some, train)
        params = _check_method_params(task.X, params=task.score_params, indices=some)
        seen = X
        if cut.prepared is not None:
            seen = cut.prepared.X_test if name == "test" else cut.prepared.X
        rows[name] = _Rows(X, seen, y, params)
    return rows


def _train_together(
    task: Task, job: _Job, context: Any
) -> list[tuple[Place, Result, Trained | None]]:
    """Return the results of a job, none where its rows or parameters are refused."""
    if context is not None:
        context.call_on_fit_task_begin(estimator=task.caller)

    asks_only = _asks_only(task.scorer)

    @lru_cache(maxsize=1)  # of one split at a time, for they are copies
    def rows_of(split: int) -> dict[str, _Rows]:
        return _rows(task, job.estimator, job.cuts[split])

    def asked(split: int) -> list[ArrayLike]:
        if not asks_only:
            return []
        return [rows.seen for rows in rows_of(split).values()]

    splits = [
        _split(task, cut, partial(asked, split)) for split, cut in enumerate(job.cuts)
    ]
    candidates = [candidate_of(job.estimator, numbers) for numbers in job.numbers]
    done = []
    try:
        for trained in fit_together(
            candidates,
            splits,
            max_bytes=task.max_bytes,
            so_far=job.so_far,
            watch_of=lambda n, epochs: _Progress(task, context, n, epochs),
        ):
            cut = job.cuts[trained.split]
            place = job.candidates[trained.candidate], cut.number
            result = _result(task, trained, cut, rows_of(trained.split))
            goes_on = job.keeps and trained.error is None
            done.append((place, result, trained if goes_on else None))
            if not asks_only:  # it may have changed them
                rows_of.cache_clear()
    except (TypeError, ValueError):
        done = []  # one fit at a time will say why
    if context is not None:
        context.call_on_fit_task_end(estimator=task.caller)
    return done


def _split(
    task: Task, cut: _CvSplit, asked: Callable[[], Sequence[ArrayLike]]
) -> Split:
    """Return what is trained on in a split, and what will be asked for."""
    if cut.prepared is not None:
        _, X, y, weight, _ = cut.prepared
        return Split(X, y, weight, None, asked)
    weight = task.fit_params.get("sample_weight")
    train = np.arange(_num_samples(task.X))[np.asarray(cut.train)]
    return Split(task.X, task.y, weight, train, asked)


class _Progress:
    """Looks on at the training of a stack, for callbacks and who reads the output."""

    wants_steps = False

    def __init__(self, task: Task, context: Any, n_models: int, n_epochs: int) -> None:
        self._verbose, self._caller = task.verbose > 2, task.caller
        self._n_models, self._n_epochs, self._epochs = n_models, n_epochs, 0
        self._stack = None
        if context is not None:
            name = f"epochs of {n_models} models"
            self._stack = context.subcontext(name, max_subtasks=n_epochs)
            self._stack.call_on_fit_task_begin(estimator=self._caller)

    def before_epoch(self) -> None:
        if self._stack is not None:
            self._epoch = self._stack.subcontext("epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._caller)

    def before_step(self) -> None:
        pass

    def after_step(self, models: Models, loss: Any) -> str:
        return ""

    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        self._epochs += 1
        if self._verbose:
            print(
                f"{self._n_models} models, epoch {self._epochs} of {self._n_epochs}, "
                f"{len(histories)} in training"
            )
        if self._stack is not None:
            self._epoch.call_on_fit_task_end(estimator=self._caller)
            if self._epochs == self._n_epochs or not any(h.goes_on for h in histories):
                self._stack.call_on_fit_task_end(estimator=self._caller)
        return ""


def _result(
    task: Task, trained: Trained, cut: _CvSplit, rows: Mapping[str, _Rows]
) -> Result:
    """Return the scores of a model as scikit-learn's function for one fit does."""
    result: Result = {
        "fit_error": None,
        "n_test_samples": _num_samples(rows["test"].X),
        "fit_time": trained.seconds,
        "score_time": 0.0,
        "loss_curve": np.array(trained.history.objective),
        "together": True,
    }
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
        if cut.prepared is not None and (params or not _asks_only(task.scorer)):
            estimator = with_last_step(cut.prepared.pipeline, estimator)
            seen = X
        if _is_share_of_hits(task.scorer, estimator, y, params):
            scores = float(np.mean(estimator.predict(seen) == y))
        else:
            scores = _score(estimator, seen, y, task.scorer, params, task.error_score)
        result[f"{name}_scores"] = scores
        if name == "test":
            result["score_time"] = perf_counter() - began
    trained.estimator.__dict__.pop("_predicted_", None)
    return result


def _is_share_of_hits(scorer: Any, estimator: Any, y: Any, params: Parameters) -> bool:
    """Return whether the score is the plain accuracy of labels that were predicted.

    The checks of accuracy_score take several times as long as to train a small model.
    """
    by_default = isinstance(scorer, _PassthroughScorer)
    named = isinstance(scorer, _Scorer) and scorer._score_func is accuracy_score
    return (
        (by_default or (named and not scorer._kwargs))
        and type(estimator) is MiniBatchClassifier
        and not (params or estimator._multilabel_)
        and isinstance(y, np.ndarray)
        and y.ndim == 1
    )


def _asks_only(scorer: Any) -> bool:
    """Return whether a scorer does no more than ask for predictions, or the score.

    Then a pipeline and its last step are the same to it.
    """
    scorers = [scorer]
    if isinstance(scorer, _MultimetricScorer):
        scorers = list(scorer._scorers.values())
    return all(isinstance(one, (_BaseScorer, _PassthroughScorer)) for one in scorers)


def _fit_one(
    task: Task,
    estimator: Any,
    params: Parameters,
    fit: tuple[Place, tuple[Array, Array]],
    totals: Place,
    context: Any,
) -> tuple[Place, Result]:
    """Return the result of one fit by scikit-learn's own function."""
    (candidate, split), (train, test) = fit
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
    return (candidate, split), result
