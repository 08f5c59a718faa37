"""Candidates x splits, evaluated: in groups that are trained together, or one by one.

Candidates of a group (``grouping``) are trained as a few stacks (``stacks``), in jobs
for threads or processes (``workers``): threads where compiled loops train. What cannot
be stacked is left to scikit-learn's own function for one fit, and so is a group
whose rows or parameters are refused, or for which a function of the user's raises: what
GridSearchCV takes is taken, and the errors are its own. Any other error is a fault of
this package, and is raised.

The steps of a pipeline before its last are fitted once for each split and distinct
setting of their own parameters. To find out what the last step would be given, it is
made to note it down.

With a checkpoint, what has come of each job is kept in a directory (``kept``) as soon
as it is there, and what is there beforehand is not done again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, product
from typing import Any
from warnings import catch_warnings

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skgd._equations.schedules import LAID_OUT
from skgd._estimators.callbacks import subtask, task_of_search
from skgd._estimators.folds import BYTES_OF_ROWS
from skgd._estimators.sklearn_private import (
    insert_error_scores,
    warn_or_raise_about_fit_failures,
)
from skgd._machine.arrays import Array
from skgd._machine.memory import pieces
from skgd._search.fingerprints import fingerprint_of, fingerprint_of_candidate
from skgd._search.grouping import Group, GroupPlan, key_of, note_on_groups, plans_of
from skgd._search.jobs import Job, JobResult, fit_one, run_job
from skgd._search.kept import Found, Round, keep, read
from skgd._search.pipelines import fit_steps, last_step
from skgd._search.request import Cell, CvSplit, GivenUp, Parameters, Request, Result
from skgd._search.stacks import Outcome
from skgd._search.workers import (
    Workers,
    are_numbers,
    may_train_by_loops,
    on_accelerator,
    results_of,
    workers_of,
)
from skgd._training.stopping import Ending

# Jobs of each worker where loops train models that stop by a rule, each after as many
# epochs as it needs; a stack takes as long as its slowest, cut or whole.
_JOBS_OF_LOOPS = 4

# Jobs of a search with a checkpoint, at the least, where loops train: to a model it is
# the same in which job it is, and a kill costs those under way.
_JOBS_KEPT = 32


class Evaluation:
    """Evaluates candidates when ``_run_search`` asks for it, and keeps the results."""

    def __init__(
        self,
        search: Any,
        base: Any,
        request: Request,
        split_params: Parameters,
        resource: str | None,
        kept: tuple[str, str] | None,
    ) -> None:
        self._search, self._request, self._split_params = search, request, split_params
        self._resource = resource  # a parameter that grows from call to call, if any
        self._base = base
        self._kept = kept  # with a checkpoint, the directory and the next fingerprint
        # What was trained in the last call of candidates that may go on, by candidate
        # and split, and with what the steps before the last have made of the splits.
        self._states: dict[Any, dict[int, Outcome]] = {}
        self._prepared: dict[Any, dict[int, CvSplit]] = {}
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
        search, request = self._search, self._request
        candidates = list(candidate_params)
        cv = cv or search._checked_cv_orig
        splits = list(cv.split(request.X, request.y, **self._split_params))
        if len(splits) != search.n_splits_:
            msg = (
                "cv.split and cv.get_n_splits return inconsistent results. Expected "
                f"{search.n_splits_} splits, got {len(splits)}"
            )
            raise ValueError(msg)
        if request.verbose > 0:
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
        warn_or_raise_about_fit_failures(fits, request.error_score)
        if callable(search.scoring):
            insert_error_scores(fits, request.error_score)
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
        request = self._request
        plans = plans_of(
            self._base, candidates, request.y, request.fit_params, self._has_begun
        )
        if request.verbose > 0 and (note := note_on_groups(plans)):
            print(note)
        of_round, found = self._found_before(candidates, splits)
        with (
            catch_warnings(),  # threads may leave the filters as others had them
            _told(request.given_up, self._kept),
        ):
            found |= self._do(candidates, splits, plans, found, of_round, context)
        self._states = self._to_go_on_from(candidates, found)
        for plan in plans:
            self.groups += _as_evaluated(
                plan.group, found, len(splits), len(self.candidates)
            )
        self.endings = Counter(one.result.pop("ending", None) for one in found.values())
        return [
            [found[number, split].result for split in range(len(splits))]
            for number in range(len(candidates))
        ]

    def _do(
        self,
        candidates: Sequence[Parameters],
        splits: Sequence[tuple[Array, Array]],
        plans: Sequence[GroupPlan],
        before: Mapping[Cell, Found],
        of_round: Round | None,
        context: Any,
    ) -> dict[Cell, Found]:
        """Return what comes of all that is to be done yet."""
        search, request = self._search, self._request
        n_jobs, shown = search.n_jobs, None
        together = [plan for plan in plans if plan.group.together]
        if any(on_accelerator(request.X, plan.estimator) for plan in together):
            n_jobs = 1  # one process holds the device
        cells = list(product(range(len(candidates)), range(len(splits))))
        one_by_one = self._kept is not None
        with workers_of(n_jobs, search.pre_dispatch, one_by_one=one_by_one) as workers:
            all_jobs = self._jobs(candidates, splits, together, workers.n)
            jobs = list(_left(all_jobs, before))
            if request.caller is not None and context is not None:
                of_jobs = {cell for job in chain(*all_jobs) for cell in _cells_of(job)}
                n_fits = len(set(cells) - of_jobs - before.keys())
                shown = task_of_search(context, search, sum(map(len, jobs)) + n_fits)
            found, reasons = self._train_together(
                jobs, workers, shown, of_round, (len(candidates), len(splits))
            )
            apart = [c for c in cells if c not in before and c not in found]
            found |= self._fit_apart(
                candidates, splits, apart, workers, shown, of_round, reasons
            )
        if shown is not None and shown is not context:
            shown.call_on_fit_task_end(estimator=search)
        return found

    def _found_before(
        self, candidates: Sequence[Parameters], splits: Sequence[tuple[Array, Array]]
    ) -> tuple[Round | None, dict[Cell, Found]]:
        """Return what is kept of a round already, and where the rest is to be kept."""
        if self._kept is None:
            return None, {}
        directory, name = self._kept
        of_candidates = [fingerprint_of_candidate(params) for params in candidates]
        of_splits = [fingerprint_of(tuple(map(np.asarray, rows))) for rows in splits]
        of_round = Round(directory, name, of_candidates, of_splits)
        self._kept = directory, of_round.next_name
        _, last = last_step(self._base)
        found = read(of_round, last)
        if found and self._request.verbose > 0:
            n_all = len(candidates) * len(splits)
            print(f"{len(found)} of {n_all} models are read from {directory}")
        return of_round, found

    def _train_together(
        self,
        jobs: Sequence[Sequence[Job]],
        workers: Workers,
        shown: Any,
        of_round: Round | None,
        totals: tuple[int, int],
    ) -> tuple[dict[Cell, Found], dict[int, str]]:
        """Return what comes of all jobs, and why candidates were refused together."""
        found: dict[Cell, Found] = {}
        reasons: dict[int, str] = {}
        n_candidates, n_splits = totals
        for some in jobs:
            for done, job in self._run_jobs(some, workers, shown, n_splits):
                if done.reason:
                    reasons |= dict.fromkeys(job.candidates, done.reason)
                new = {
                    cell: Found(result, outcome) for cell, result, outcome in done.fits
                }
                if of_round is not None and new:
                    keep(of_round, new)
                found |= new
                if self._request.verbose > 1:
                    n_all = n_candidates * n_splits
                    print(f"{len(found)} of {n_all} models trained")
        return found, reasons

    def _to_go_on_from(
        self, candidates: Sequence[Parameters], found: Mapping[Cell, Found]
    ) -> dict[Any, dict[int, Outcome]]:
        """Return what training may go on from, by candidate and split."""
        states: dict[Any, dict[int, Outcome]] = defaultdict(dict)
        for (number, split), one in found.items():
            if one.outcome is not None:
                states[self._key(candidates[number])][split] = one.outcome
        return states

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
        plans: Sequence[GroupPlan],
        n_workers: int,
    ) -> list[list[Job]]:
        """Return what is to be done, in lists of one setting of earlier steps each.

        A list has as many splits as may be kept with what such steps make of them. A
        group makes several jobs where groups are fewer than workers have use for.
        """
        of_splits = [CvSplit(n, *rows) for n, rows in enumerate(splits)]
        of_settings: dict[Any, list[GroupPlan]] = defaultdict(list)
        for plan in plans:
            of_settings[plan.setting].append(plan)
        at_once = len(splits)
        if plans and plans[0].path:
            at_once = max(n_workers, BYTES_OF_ROWS // _bytes_of(self._request.X))
        jobs = []
        for some in of_settings.values():
            finer = self._finer(some) if n_workers > 1 else 1
            n_pieces = -(-finer * n_workers // len(some))
            if self._kept is not None:
                n_pieces = max(n_pieces, self._pieces_kept(some))
            for few in pieces(of_splits, at_once):
                all_splits = len(few) == len(splits)
                jobs.append(
                    [
                        job
                        for plan in some
                        for job in self._jobs_of(
                            candidates, plan, few, n_pieces, all_splits
                        )
                    ]
                )
        return jobs

    def _finer(self, plans: Sequence[GroupPlan]) -> int:
        """Return how many jobs of each worker groups make, so that none waits long."""
        last_steps = [last_step(plan.estimator)[1] for plan in plans]
        stop = [last.tol is not None or last.early_stopping for last in last_steps]
        if any(stop) and self._are_for_loops(plans):
            return _JOBS_OF_LOOPS
        return 2 if len(plans) > 1 else 1

    def _pieces_kept(self, plans: Sequence[GroupPlan]) -> int:
        """Return how many jobs each group makes, so that a kill does not cost all.

        On torch, models that are trained apart do not share what a step costs: the
        splits part, and no more.
        """
        if self._are_for_loops(plans):
            return -(-_JOBS_KEPT // len(plans))
        n_splits: int = self._search.n_splits_
        return n_splits

    def _are_for_loops(self, plans: Sequence[GroupPlan]) -> bool:
        X = self._request.X
        return all(may_train_by_loops(plan.estimator, X) for plan in plans)

    def _jobs_of(
        self,
        candidates: Sequence[Parameters],
        plan: GroupPlan,
        splits: Sequence[CvSplit],
        n_pieces: int,
        all_splits: bool,
    ) -> Iterator[Job]:
        """Give a group in so many pieces, or as many as it has models.

        Models of one split share what is done to its rows, so splits are cut apart if
        there is a piece for each of them.
        """
        numbers = plan.group.candidates
        apart = n_pieces >= len(splits)
        n_of_candidates = -(-n_pieces // len(splits)) if apart else n_pieces
        of_candidates = pieces(range(len(numbers)), -(-len(numbers) // n_of_candidates))
        n_of_splits = len(splits) if apart else -(-n_pieces // len(of_candidates))
        of_splits = pieces(splits, -(-len(splits) // n_of_splits))
        begun = self._has_begun(candidates[numbers[0]])
        prepared = self._prepared.get(plan.setting, {}) if begun else {}
        for some, few in product(of_candidates, of_splits):
            so_far = None
            if begun:
                keys = [self._key(candidates[numbers[n]]) for n in some]
                so_far = {
                    (n, candidate): self._states[key][split.number]
                    for (n, split), (candidate, key) in product(
                        enumerate(few), enumerate(keys)
                    )
                }
            yield Job(
                plan.estimator,
                plan.setting,
                [numbers[n] for n in some],
                [plan.own[n] for n in some],
                [prepared.get(split.number, split) for split in few],
                so_far,
                all_splits and self._may_go_on(plan),
            )

    def _run_jobs(
        self, jobs: Sequence[Job], workers: Workers, shown: Any, n_splits: int
    ) -> Iterator[tuple[JobResult, Job]]:
        """Do the jobs of one setting of earlier steps, and give what comes of each."""
        request, estimator = self._request, jobs[0].estimator
        if type(estimator) is Pipeline:
            prepared = self._prepare(jobs, workers)
            reasons = [one.reason for one in prepared.values() if one.reason]
            if reasons:
                yield from ((JobResult([], reasons[0]), job) for job in jobs)
                return
            jobs = [
                job._replace(splits=[prepared[split.number] for split in job.splits])
                for job in jobs
            ]
        contexts = [
            subtask(
                shown,
                f"{len(job.candidates) * len(job.splits)} models",
                job.candidates[0] * n_splits + job.splits[0].number,
                None,
            )
            for job in jobs
        ]
        numbers: dict[bool, list[int]] = {True: [], False: []}
        for number, job in enumerate(jobs):
            numbers[may_train_by_loops(job.estimator, request.X)].append(number)
        for by_loops, some in numbers.items():
            if not some:
                continue
            kind = workers.threads if by_loops else workers.processes
            calls = [(request, jobs[n], contexts[n], workers.n) for n in some]
            for number, done in results_of(workers, kind, run_job, calls):
                yield done, jobs[some[number]]

    def _prepare(self, jobs: Sequence[Job], workers: Workers) -> dict[int, CvSplit]:
        """Return the splits of jobs as the steps before the last have made them."""
        request = self._request
        splits = {split.number: split for job in jobs for split in job.splits}
        prepared = {n: one for n, one in splits.items() if one.prepared is not None}
        kind = workers.threads if are_numbers(request.X) else workers.processes
        calls = [
            (request, jobs[0].estimator, split)
            for split in splits.values()
            if split.prepared is None
        ]
        for _, split in results_of(workers, kind, fit_steps, calls):
            prepared[split.number] = split
        if jobs[0].may_go_on:
            self._prepared[jobs[0].setting] = prepared
        return prepared

    def _fit_apart(
        self,
        candidates: Sequence[Parameters],
        splits: Sequence[tuple[Array, Array]],
        cells: Sequence[Cell],
        workers: Workers,
        shown: Any,
        of_round: Round | None,
        reasons: Mapping[int, str],
    ) -> dict[Cell, Found]:
        """Return what comes of fits that are made one at a time."""
        contexts = [
            subtask(
                shown, "candidate-split-evaluation", number * len(splits) + split, 0
            )
            for number, split in cells
        ]
        calls = [
            (
                self._request,
                clone(self._base),
                candidates[cell[0]],
                cell,
                splits[cell[1]],
                (len(candidates), len(splits)),
                one,
            )
            for cell, one in zip(cells, contexts, strict=True)
        ]
        found = {}
        for number, result in results_of(workers, workers.processes, fit_one, calls):
            cell = cells[number]
            found[cell] = Found(result, reason=reasons.get(cell[0], ""))
            if of_round is not None:
                keep(of_round, {cell: found[cell]})
        return found

    def _may_go_on(self, plan: GroupPlan) -> bool:
        """Return whether a larger ``max_iter`` just continues the training."""
        _, last = last_step(plan.estimator)
        return (
            self._resource == f"{plan.path}max_iter"
            and not last.early_stopping
            and last.lr_schedule not in LAID_OUT
        )

    def _key(self, params: Parameters) -> Any:
        """Return the key of a candidate, whatever its resource."""
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
        return len(self._states.get(self._key(params), {})) == n_splits


def _bytes_of(X: Any) -> int:
    """Return the bytes of all rows, about; those of a frame as if it held floats."""
    return int(getattr(X, "nbytes", 8 * np.prod(getattr(X, "shape", 1))))


@contextmanager
def _told(given_up: GivenUp, kept: tuple[str, str] | None) -> Iterator[None]:
    """Let all threads know where the block is left before its end, and the caller."""
    try:
        yield
    except BaseException as error:
        given_up.set()
        if kept is not None:
            directory, _ = kept
            error.add_note(f"What was done is in {directory!r}: the same call goes on.")
        raise


def _left(
    jobs: Sequence[Sequence[Job]], found: Mapping[Cell, Found]
) -> Iterator[list[Job]]:
    """Give the jobs of which anything is to be done yet, in lists as before."""
    for some in jobs:
        left = [job for job in some if not _cells_of(job) <= found.keys()]
        if left:
            yield left


def _cells_of(job: Job) -> set[Cell]:
    return {(n, split.number) for n, split in product(job.candidates, job.splits)}


def _as_evaluated(
    group: Group, found: Mapping[Cell, Found], n_splits: int, offset: int
) -> Iterator[Group]:
    """Give a group, or those that it fell into, with the places in cv_results_."""
    of_reasons: dict[str, list[int]] = defaultdict(list)
    engines: dict[str, set[str]] = defaultdict(set)
    for number in group.candidates:
        fits = [found[number, split] for split in range(n_splits)]
        together = all(one.result["together"] for one in fits)
        refused = next((one.reason for one in fits if one.reason), group.reason)
        reason = "" if together else refused
        of_reasons[reason].append(number + offset)
        engines[reason] |= {one.result["engine"] for one in fits} - {""}
    for reason, numbers in of_reasons.items():
        engine = " and ".join(sorted(engines[reason]))
        yield Group(numbers, group.params, not reason, reason, engine)
