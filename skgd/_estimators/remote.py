"""What a worker of Dask does in a fit of collections: it is one of the ranks.

A fit has a *meeting*, a future on the worker of rank 0, by which the ranks find each
other. Who fits holds it. Where it is let go, or its owner is gone, rank 0 ends the fit
for all, as by Ctrl-C.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn import config_context

from skgd._estimators.parallel import Together, training_together
from skgd._estimators.state import copy_of
from skgd._machine.interrupts import INTERRUPTED
from skgd._machine.ranks import Meeting, ranks_that_meet, store_of_meeting
from skgd._machine.threads import products_on_threads

# What a partition has: X, y, and if there are any weights.
Rows = tuple[Any, ...]

_NAMES = "X", "y", "sample_weight"

# Partitions by their numbers in the whole.
Numbered = Sequence[tuple[int, Rows]]


class Work(NamedTuple):
    """What all ranks are told."""

    estimator: Any
    method: str  # fit or partial_fit
    arguments: Mapping[str, Any]
    configuration: Mapping[str, Any]  # of scikit-learn


class Among(NamedTuple):
    """What all ranks are told of each other."""

    meeting: Meeting
    lock: str  # by which other fits are kept from the workers
    size: int  # how many ranks
    timeout: float


class Trained(NamedTuple):
    """What rank 0 tells of a fit."""

    attributes: dict[str, Any]  # of the estimator
    warned: list[tuple[type[Warning], str]]
    is_interrupted: bool


def open_meeting() -> Any:
    """Return what a meeting is at, which stays on this worker."""
    return store_of_meeting()


def meeting_at(store: Any, name: str) -> Meeting:
    """Return the meeting at a store of this worker."""
    return Meeting(_host(), store.port, name)


def n_rows_of(number: int, rows: Rows) -> int:
    """Return the number of rows of a partition, or raise ValueError."""
    lengths = [np.shape(part)[0] for part in rows]
    if len(set(lengths)) > 1:
        msg = (
            "Found input variables with inconsistent numbers of samples in partition "
            f"{number}: {lengths}."
        )
        raise ValueError(msg)
    return int(lengths[0])


def train(
    work: Work, among: Among, rank: int, partitions: Numbered, held_out: Numbered
) -> Trained | None:
    """Train on partitions that lie here, as one of the ranks; rank 0 tells of it."""
    from distributed import get_worker

    worker, meeting = get_worker(), among.meeting
    rows = dict(zip(_NAMES, _stacked(partitions), strict=False))
    if held_out:
        names = [f"{name}_val" for name in _NAMES]
        rows.update(zip(names, _stacked(held_out), strict=False))
    model = copy_of(work.estimator)
    model.verbose = model.verbose and rank == 0

    def interrupted() -> str:
        return "" if rank or meeting.name in worker.data else INTERRUPTED

    is_interrupted = False
    with (
        _lock_let_go(worker, among if rank == 0 else None),
        ranks_that_meet(meeting, rank, among.size, _host(), among.timeout) as ranks,
        training_together(
            Together(ranks, _lengths(partitions), _lengths(held_out), interrupted)
        ),
        products_on_threads(worker.state.nthreads),
        config_context(**work.configuration),
        _warnings_heard() as warned,
    ):
        try:
            getattr(model, work.method)(**rows, **work.arguments)
        except KeyboardInterrupt:  # when the model is stored
            is_interrupted = True
    return None if rank else Trained(vars(model), warned, is_interrupted)


def _host() -> str:
    """Return the address of this worker, as the others know it."""
    from distributed import get_worker
    from distributed.comm import get_address_host

    host: str = get_address_host(get_worker().address)
    return host


@contextmanager
def _lock_let_go(worker: Any, among: Among | None) -> Iterator[None]:
    """Let the lock of a fit go whose client is gone, which can no longer do so."""
    task = worker.state.tasks[worker.get_current_task()]
    try:
        yield
    finally:
        if among is not None and task.state == "cancelled":
            from distributed.utils import sync

            with suppress(KeyError, OSError):  # the client was sooner, or all is gone
                release = worker.scheduler.multi_lock_release
                sync(worker.loop, release, id=among.lock)


def _lengths(partitions: Numbered) -> list[tuple[int, int]]:
    return [(number, np.shape(rows[1])[0]) for number, rows in partitions]


def _stacked(partitions: Numbered) -> list[Any]:
    """Return the rows of all partitions: X, y, and weights."""
    columns = zip(*(rows for _, rows in partitions), strict=True)
    return [_joined(parts) for parts in columns]


def _joined(parts: Sequence[Any]) -> Any:
    """Return the parts of one kind of thing as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if hasattr(first, "iloc"):
        from pandas import concat

        return concat(parts)
    return vstack(parts, format="csr") if issparse(first) else np.concatenate(parts)


# Who hears the warnings of this process: so many, who have heard these so far.
_lock, _hearers, _hearing, _heard = Lock(), 0, ExitStack(), list[Any]()


@contextmanager
def _warnings_heard() -> Iterator[list[tuple[type[Warning], str]]]:
    """Give what is warned of in the block, once each, instead of showing it.

    A process has its filters once, and may be several workers: the first to come in
    sets them, and the last to leave sets them back.
    """
    global _hearers, _heard
    told: list[tuple[type[Warning], str]] = []
    with _lock:
        if not _hearers:
            catching = warnings.catch_warnings(record=True)
            _heard = _hearing.enter_context(catching)
            warnings.simplefilter("always")
        _hearers += 1
    try:
        yield told
    finally:
        with _lock:
            told += dict.fromkeys((one.category, str(one.message)) for one in _heard)
            _hearers -= 1
            if not _hearers:
                _hearing.close()
