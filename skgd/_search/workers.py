"""Who does the jobs of a search: threads of this process, or other processes.

A compiled loop lets the interpreter go, so threads train by them side by side. They
start at once and share the rows. Whatever holds the interpreter for long, such as the
calls of a stack on torch, is left to processes. ``joblib.parallel_config`` has the last
word.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any, NamedTuple
from warnings import warn

import joblib
import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn import config_context, get_config
from sklearn.utils.parallel import Parallel, delayed

from skgd._estimators.inputs import device_of
from skgd._estimators.parameters import hidden_units
from skgd._search.pipelines import last_step
from skgd._training.engines import why_no_numba


class Workers(NamedTuple):
    """Those of a search, each kind as joblib's Parallel, begun when it is asked for."""

    threads: Callable[[], Any]
    processes: Callable[[], Any]
    n: int
    anew: Callable[[], None]  # has others begun from now on


@contextmanager
def workers_of(
    n_jobs: int | None, pre_dispatch: int | str, *, one_by_one: bool = False
) -> Iterator[Workers]:
    """Give so many threads, and processes, until the block is left.

    To be ready for processes is to start one that tidies up after them. They are handed
    short jobs by the batch, whose results come, or are lost, together; ``one_by_one``
    they are not.
    """
    settings: dict[str, Any] = {"n_jobs": n_jobs, "pre_dispatch": pre_dispatch}
    if one_by_one:
        settings["batch_size"] = 1
    with ExitStack() as begun:

        @cache
        def of_kind(prefer: str | None) -> Any:
            return begun.enter_context(_parallel(prefer, **settings))

        threads, processes = (partial(of_kind, kind) for kind in ("threads", None))
        n_workers = effective_n_jobs(n_jobs)
        yield Workers(threads, processes, n_workers, of_kind.cache_clear)


def results_of(
    workers: Workers,
    kind: Callable[[], Any],
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
) -> Iterator[tuple[int, Any]]:
    """Give what comes of each call, with its number, as it is done by such workers.

    A process that is killed takes with it what is under way, for joblib ends the others
    as well. That is done anew by others, whom no result of before the kill reaches. A
    call that always kills its worker ends the search: two kills in a row before
    anything has come back, for once it may have been on its way.
    """
    left, in_vain = dict(enumerate(calls)), 0
    while left:
        jobs, n_before = list(left.items()), len(left)
        try:
            for number, result in kind()(
                delayed(_numbered)(number, function, given) for number, given in jobs
            ):
                del left[number]
                yield number, result
        except BrokenProcessPool as error:
            in_vain = in_vain + 1 if len(left) == n_before else 0
            if in_vain == 2:
                raise
            workers.anew()
            why = " ".join(str(error).split())
            msg = (
                "A worker was killed, and what was under way is done anew: "
                f"{len(left)} of {n_before} jobs are left. If memory has run out, "
                f"lower n_jobs. joblib says: {why}"
            )
            warn(msg, UserWarning, stacklevel=2)


def _numbered(
    number: int, function: Callable[..., Any], given: tuple[Any, ...]
) -> tuple[int, Any]:
    return number, function(*given)


def _parallel(prefer: str | None, **settings: Any) -> Any:
    """Return joblib's Parallel, whose results come as they are done where they can."""
    settings["prefer"] = prefer
    backend, _ = get_active_backend(prefer=prefer)
    kind = _Threads if getattr(backend, "uses_threads", False) else Parallel
    try:
        return kind(**settings, return_as="generator_unordered")
    except ValueError:  # not every backend can: multiprocessing does not
        return kind(**settings)


class _Threads(joblib.Parallel):
    """Threads that know scikit-learn's configuration, as those of its Parallel do.

    The latter also writes the filters of warnings anew for every job, which the threads
    of a process have in common.
    """

    def __call__(self, jobs: Iterable[tuple[Any, Any, Any]]) -> Any:
        config = get_config()
        return super().__call__(
            (partial(_configured, config, job.function), args, keywords)
            for job, args, keywords in jobs
        )


def _configured(
    config: Mapping[str, Any], function: Callable[..., Any], *args: Any, **keywords: Any
) -> Any:
    with config_context(**config):
        return function(*args, **keywords)


def may_train_by_loops(estimator: Any, X: ArrayLike) -> bool:
    """Return whether compiled loops may train an estimator of ours, by its parameters.

    They are known before X is. Where its steps turn out to be large, torch lets the
    interpreter go as well; of wide sparse rows in a network, threads were no slower.
    """
    _, last = last_step(estimator)
    drops_out = last.dropout > 0 and hidden_units(last)
    if last.engine == "torch" or drops_out or on_accelerator(X, estimator):
        return False
    return not why_no_numba()


def are_numbers(X: Any) -> bool:
    """Return whether rows are numbers, for which a transformer calls compiled code."""
    return issparse(X) or (isinstance(X, np.ndarray) and X.dtype.kind in "biuf")


def on_accelerator(X: ArrayLike, estimator: Any) -> bool:
    """Return whether an estimator of ours computes elsewhere than on the CPU."""
    _, last = last_step(estimator)
    try:
        return device_of(X, last.device).type != "cpu"
    except (RuntimeError, TypeError, ValueError):  # its fit will say so
        return False
