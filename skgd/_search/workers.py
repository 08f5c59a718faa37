"""Who does the jobs of a search: threads of this process, or other processes.

A compiled loop lets the interpreter go, so threads train by them side by side. They
start at once and share the rows. Whatever holds the interpreter for long, such as the
calls of a stack on torch, is left to processes. ``joblib.parallel_config`` has the last
word.
"""

from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils.parallel import Parallel

from skgd._estimators.inputs import device_of
from skgd._estimators.parameters import hidden_units
from skgd._search.pipelines import last_step
from skgd._training.engines import why_no_numba


class Workers(NamedTuple):
    """Those of a search, each kind as joblib's Parallel."""

    threads: Any
    processes: Any
    n: int


def workers_of(n_jobs: int | None, pre_dispatch: int | str) -> Workers:
    """Return so many threads, and processes."""
    threads, processes = (
        _parallel(n_jobs, pre_dispatch, kind) for kind in ("threads", None)
    )
    return Workers(threads, processes, effective_n_jobs(n_jobs))


def _parallel(n_jobs: int | None, pre_dispatch: int | str, prefer: str | None) -> Any:
    """Return joblib's Parallel, whose results come as they are done where they can."""
    settings = {"n_jobs": n_jobs, "pre_dispatch": pre_dispatch, "prefer": prefer}
    try:
        return Parallel(**settings, return_as="generator_unordered")
    except ValueError:  # not every backend can: multiprocessing does not
        return Parallel(**settings)


def may_train_by_loops(estimator: Any, X: ArrayLike) -> bool:
    """Return whether compiled loops may train an estimator of ours, by its parameters.

    Where its steps turn out to be large, torch lets the interpreter go as well.
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
        return device_of(X, getattr(last, "device", "cpu")).type != "cpu"
    except (RuntimeError, TypeError, ValueError):  # its fit will say so
        return False
