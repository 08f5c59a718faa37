"""The jobs of a search: candidates of a group on some splits, or one fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from skgd._estimators.sklearn_private import fit_and_score, num_samples
from skgd._machine.arrays import Array
from skgd._machine.errors import is_of_caller
from skgd._machine.threads import threads_beside
from skgd._search.grouping import candidate_of
from skgd._search.pipelines import last_step, reason_of
from skgd._search.progress import watching
from skgd._search.request import Cell, CvSplit, Parameters, Request, Result
from skgd._search.scores import ScoredRows, asks_only, result_of, scored_rows
from skgd._search.stacks import Outcome, TrainingSplit, fit_together


class Job(NamedTuple):
    """Candidates of a group, to be trained together on some splits."""

    estimator: Any
    setting: Any  # of its steps before the last
    candidates: Sequence[int]
    own: Sequence[Parameters]  # parameters of each, in which they differ
    splits: Sequence[CvSplit]
    so_far: Mapping[tuple[int, int], Outcome] | None  # by split and candidate
    may_go_on: bool  # whether training may go on from what comes out


class JobResult(NamedTuple):
    """What has come of a job; nothing if there is a reason."""

    fits: list[tuple[Cell, Result, Outcome | None]]
    reason: str = ""


def run_job(request: Request, job: Job, context: Any, n_workers: int) -> JobResult:
    """Return what comes of a job, done by one of so many workers."""
    with threads_beside(n_workers):
        if context is None:
            return _result_of_job(request, job, None)
        context.call_on_fit_task_begin(estimator=request.caller)
        try:
            return _result_of_job(request, job, context)
        finally:
            context.call_on_fit_task_end(estimator=request.caller)


def _result_of_job(request: Request, job: Job, context: Any) -> JobResult:
    """Return the results of a job, or why it is left to one fit at a time."""
    only_asked = asks_only(request.scorer)

    @lru_cache(maxsize=1)  # of one split at a time, for they are copies
    def scored_of(split: int) -> dict[str, ScoredRows]:
        return scored_rows(request, job.estimator, job.splits[split])

    def asked(split: int) -> list[ArrayLike]:
        return [one.seen for one in scored_of(split).values()] if only_asked else []

    splits = [
        _training_split(request, split, partial(asked, number))
        for number, split in enumerate(job.splits)
    ]
    outcomes = fit_together(
        [candidate_of(job.estimator, own) for own in job.own],
        splits,
        max_bytes=request.max_bytes,
        so_far=job.so_far,
        watching=partial(watching, request, context),
    )
    fits: list[tuple[Cell, Result, Outcome | None]] = []
    while True:
        try:
            outcome = next(outcomes, None)
        except Exception as error:
            if not is_of_caller(error):  # memory, of one model, is handed over with it
                raise
            # one fit at a time says it as scikit-learn does
            return JobResult([], reason_of(error))
        if outcome is None:
            return JobResult(fits)
        split = job.splits[outcome.split]
        result = result_of(request, outcome, split, scored_of(outcome.split))
        if not only_asked:  # the scorer may have changed the rows
            scored_of.cache_clear()
        may_go_on = job.may_go_on and outcome.error is None
        cell = job.candidates[outcome.candidate], split.number
        left = outcome._replace(estimator=None) if may_go_on else None
        fits.append((cell, result, left))


def _training_split(
    request: Request, split: CvSplit, asked: Callable[[], Sequence[ArrayLike]]
) -> TrainingSplit:
    """Return what is trained on in a split, and what will be asked for."""
    if split.prepared is not None:
        _, X, y, weight, _ = split.prepared
        return TrainingSplit(X, y, weight, None, asked)
    weight = request.fit_params.get("sample_weight")
    train = np.arange(num_samples(request.X))[np.asarray(split.train)]
    return TrainingSplit(request.X, request.y, weight, train, asked)


def fit_one(
    request: Request,
    estimator: Any,
    params: Parameters,
    cell: Cell,
    rows: tuple[Array, Array],
    totals: tuple[int, int],
    context: Any,
) -> Result:
    """Return the result of one fit by scikit-learn's own function."""
    (candidate, split), (train, test) = cell, rows
    result: Result = fit_and_score(
        estimator,
        request.X,
        request.y,
        train=train,
        test=test,
        parameters=params,
        scorer=request.scorer,
        fit_params=request.fit_params,
        score_params=request.score_params,
        return_train_score=request.return_train_score,
        return_n_test_samples=True,
        return_times=True,
        return_estimator=True,
        split_progress=(split, totals[1]),
        candidate_progress=(candidate, totals[0]),
        error_score=request.error_score,
        verbose=request.verbose,
        caller=request.caller,
        callback_ctx=context,
    )
    _, last = last_step(result.pop("estimator"))
    result["loss_curve"] = np.array(getattr(last, "loss_curve_", []))
    result["together"] = False
    result["engine"] = getattr(last, "engine_", "")
    return result
