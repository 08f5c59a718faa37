"""Fits of collections by the workers of a Dask cluster, as the client sees them.

The partitions are computed wherever Dask likes, and stay there. Each worker that holds
some is a rank, and takes part by one task, ``remote.train``, that is pinned to it. The
client looks on: an error of any rank, or a worker that is gone, ends the fit.
"""

from __future__ import annotations

import sys
import warnings
from asyncio import run_coroutine_threadsafe
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures as threaded
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from inspect import signature
from math import inf
from time import monotonic
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch.distributed as dist
from sklearn import get_config

from skgd._estimators.callbacks import has_callbacks
from skgd._estimators.checks import check_held_out
from skgd._estimators.collections import cut_alike, is_collection
from skgd._estimators.endings import interruption
from skgd._estimators.parallel import check_can_be_shared, together_now
from skgd._estimators.parameters import check_parameters
from skgd._estimators.peers import check_no_others
from skgd._estimators.remote import (
    Among,
    Trained,
    Work,
    meeting_at,
    n_rows_of,
    open_meeting,
    train,
)
from skgd._machine.errors import in_the_words
from skgd._machine.interrupts import interruptible
from skgd._machine.ranks import ALONE, Meeting, is_of_another_rank

Method = TypeVar("Method", bound=Callable[..., Any])

# Seconds after which a rank that does not answer is given up.
TIMEOUT = 300.0

# Seconds between two looks at the ranks, and at the client; and at the most, until all
# ranks have ended when one has failed.
_BETWEEN, _FOR_OTHERS = 0.2, 5.0

# Seconds until rank 0 has taken notice of the end, at the most.
_TO_END = 2.0

# Seconds after which the lock is asked for anew, which another fit may hold for long.
_ASKED_ANEW = 5.0

# Frames from a warning here to the caller of ``fit``: those of a function of this
# room, of two decorators.
_OF_THE_CALLER = 4


class Access(NamedTuple):
    """How fits reach a cluster."""

    client: Any
    timeout: float


_given: ContextVar[Access | None] = ContextVar("skgd_access", default=None)


@contextmanager
def by_way_of(access: Access) -> Iterator[None]:
    """Let fits of collections in the block be those of this client's cluster."""
    token = _given.set(access)
    try:
        yield
    finally:
        _given.reset(token)


def access_for(X: Any) -> Access | None:
    """Return how to train on X where it lies, if X is a collection and there is a way.

    That is the client that was given, or Dask's default one.
    """
    if not is_collection(X) or together_now().ranks is not ALONE:
        return None
    given = _given.get()
    if given is None and "distributed" in sys.modules:
        from distributed import default_client

        with suppress(ValueError):  # there is none
            given = Access(default_client(), TIMEOUT)
    return given


class Stored(NamedTuple):
    """A partition that workers hold."""

    futures: Any  # of X, y, and weights if there are any; or one of all of them
    n_rows: int
    where: Sequence[str]  # the workers that hold its X


class Share(NamedTuple):
    """The partitions of a rank, each with its number in the whole."""

    partitions: list[tuple[int, Any]]
    held_out: list[tuple[int, Any]]


def where_rows_lie(method: Method) -> Method:
    """Return a method that trains, by the workers that hold the rows if there are any.

    That is where X is a collection of Dask's, and there is a way to its cluster.
    """

    @wraps(method)
    def here_or_there(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        access = access_for(X)
        if access is None:
            return method(self, X, *args, **kwargs)
        given = signature(method).bind(self, X, *args, **kwargs).arguments
        del given["self"]
        check_no_others(
            f"{type(self).__name__}.{method.__name__}", given.pop("others", {})
        )
        _train_(self, method.__name__, access, **given)
        return self

    return cast(Method, here_or_there)


def _train_(
    estimator: Any,
    method: str,
    access: Access,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    X_val: Any = None,
    y_val: Any = None,
    sample_weight_val: Any = None,
    **arguments: Any,
) -> None:
    """Train on collections, where their partitions lie.

    Held-out rows may be in memory, which go to a worker then.
    """
    rows, held_out = (X, y, sample_weight), (X_val, y_val, sample_weight_val)
    client = access.client
    _check(estimator, client, held_out)
    with (
        _told_of_closing(client),
        client.as_current(),  # which functions of Dask take for the default one
        _stored(client, rows, held_out) as (partitions, others),
    ):
        shares = _shares(client, partitions, others)
        first, *_ = shares
        with (
            _locked(client, list(shares)) as lock,
            _meeting(client, first, lock) as (kept, meeting),
        ):
            work = Work(estimator, method, arguments, get_config())
            among = Among(meeting, lock, len(shares), access.timeout)
            trained = _trained(client, work, among, shares, kept)
    parameters = estimator.get_params(deep=False)  # functions stay the caller's own
    _move_like_(parameters.get("random_state"), trained.attributes["random_state"])
    estimator.__dict__ = {**trained.attributes, **parameters}
    for category, words in trained.warned:
        warnings.warn(words, category, _OF_THE_CALLER)
    if trained.is_interrupted:
        raise KeyboardInterrupt(interruption(estimator.n_iter_, estimator.t_))


def _check(estimator: Any, client: Any, held_out: Sequence[Any]) -> None:
    """Refuse what no fit on a cluster takes, before anything is computed."""
    if not dist.is_available():
        msg = (
            "Fits of Dask collections must have torch.distributed. Got a build of "
            "torch without it; install another."
        )
        raise RuntimeError(msg)
    if client.asynchronous:
        msg = (
            "client must be one that waits, for fit does. Got an asynchronous client; "
            "make another: distributed.Client(client.scheduler.address)."
        )
        raise ValueError(msg)
    if has_callbacks(estimator):
        msg = (
            "Callbacks must not be set for fits of Dask collections, which other "
            f"processes train. Got {estimator._skl_callbacks}; take them off by "
            "set_callbacks()."
        )
        raise ValueError(msg)
    check_parameters(estimator)
    check_can_be_shared(estimator, False)
    check_held_out(*held_out)


@contextmanager
def _told_of_closing(client: Any) -> Iterator[None]:
    """Say in words that the client has been closed, of which Dask has many errors."""
    try:
        yield
    except Exception as error:
        if client.status == "running":
            raise
        msg = (
            "The client must stay open until fit has ended. Got one that is "
            f"{client.status}; the model is as it was, call fit again."
        )
        raise RuntimeError(msg) from error


def _asked(
    client: Any, function: Callable[..., Any], *args: Any, **options: Any
) -> Any:
    """Return what a function of Dask's that waits returns, while the client is open.

    Dask itself would wait for ever where another thread closes the client, and ends
    the loop that is to answer.
    """

    async def ask() -> Any:
        return await function(*args, **options)

    _check_open(client)
    answer = run_coroutine_threadsafe(ask(), client.loop.asyncio_loop)
    try:
        while not threaded.wait([answer], _BETWEEN).done:
            _check_open(client)
        return answer.result()
    finally:
        answer.cancel()


def _check_open(client: Any) -> None:
    if client.status != "running":
        raise ConnectionError("The client has been closed")


@contextmanager
def _stored(
    client: Any, rows: Sequence[Any], held_out: Sequence[Any]
) -> Iterator[tuple[list[Stored], list[Stored]]]:
    """Give the partitions of rows and of held-out rows, computed on the workers."""
    futures: list[Any] = []  # let go at the end, whoever still looks at an error
    try:
        partitions, others = _computed(client, rows, futures), []
        if not any(one.n_rows for one in partitions):
            msg = (
                f"X must have rows. Got none in {len(partitions)} partition(s), while "
                "a minimum of 1 is required."
            )
            raise ValueError(msg)
        if held_out[0] is not None:
            with in_the_words("X_val, y_val and sample_weight_val"):
                if any(map(is_collection, held_out)):
                    others = _computed(client, held_out, futures)
                else:
                    given = tuple(one for one in held_out if one is not None)
                    n_rows = n_rows_of(0, given)
                    futures += _asked(client, client.scatter, [given], hash=False)
                    others = [Stored(futures[-1], n_rows, ())]
        yield partitions, others
    finally:
        for future in futures:
            future.release()


def _computed(client: Any, rows: Sequence[Any], futures: list[Any]) -> list[Stored]:
    """Return the partitions of collections, computed by the workers, in their order."""
    from distributed import futures_of

    cut = cut_alike(*rows)
    kept = client.persist(cut)  # together, so that none gets other partitions
    columns = [sorted(futures_of(one), key=_number_of) for one in kept]
    futures += [future for column in columns for future in column]
    several = list(zip(*columns, strict=True))
    counts = client.map(n_rows_of, range(len(several)), several, pure=False)
    futures += counts
    numbers_of_rows = _asked(client, client.gather, counts)
    where = _asked(client, client.who_has, [X for X, *_ in several])
    return [
        Stored(some, n_rows, where[some[0].key])
        for some, n_rows in zip(several, numbers_of_rows, strict=True)
    ]


def _number_of(future: Any) -> int:
    """Return the number of a partition, which is part of its name."""
    return int(future.key[1])


def _shares(
    client: Any, partitions: Sequence[Stored], others: Sequence[Stored]
) -> dict[str, Share]:
    """Return the partitions of each rank, by its worker; those without any are none.

    Held-out rows that lie elsewhere go to a rank.
    """
    everywhere = list(_asked(client, client.nthreads))
    shares: dict[str, Share] = {}

    def has(address: str) -> int:
        return len(shares[address].partitions) if address in shares else 0

    for number, (futures, n_rows, where) in enumerate(partitions):
        if n_rows:
            address = min(sorted(where or everywhere), key=has)
            share = shares.setdefault(address, Share([], []))
            share.partitions.append((number, futures))
    for number, (futures, n_rows, where) in enumerate(others):
        if n_rows:
            here = [one for one in where if one in shares] or list(shares)
            address = min(here, key=lambda one: len(shares[one].held_out))
            shares[address].held_out.append((number, futures))
    return shares


@contextmanager
def _locked(client: Any, addresses: Sequence[str]) -> Iterator[str]:
    """Keep other fits from these workers; give the name of the lock, to let it go by.

    Else two fits might have a task each on one of them, and wait for their others.
    """
    from distributed import MultiLock

    lock = MultiLock(sorted(addresses), client=client)
    try:  # a request of a client that has gone is forgotten in time
        while not _asked(client, lock.acquire, timeout=_ASKED_ANEW):
            pass
        yield lock.id
    finally:  # also where Ctrl-C came while it waited, for the scheduler goes on
        if client.status == "running":  # else rank 0 lets it go
            with suppress(KeyError, OSError):  # it was not asked yet, or has gone
                _asked(client, client.scheduler.multi_lock_release, id=lock.id)


@contextmanager
def _meeting(client: Any, address: str, name: str) -> Iterator[tuple[Any, Meeting]]:
    """Give a meeting at a worker, with the future that keeps it."""
    there = {"workers": [address], "allow_other_workers": False, "pure": False}
    kept = client.submit(open_meeting, key=f"skgd-fit-{name}", **there)
    told = client.submit(meeting_at, kept, kept.key, **there)
    try:
        _wait_for(client, [told], [address])
        yield kept, _asked(client, told.result)
    finally:
        _cancel(client, [told, kept])


def _cancel(client: Any, futures: Sequence[Any]) -> None:
    """Let futures go, whoever else may want them; a closed client has done so."""
    if client.status == "running":
        _asked(client, client.cancel, futures, force=True)


def _trained(
    client: Any, work: Work, among: Among, shares: Mapping[str, Share], kept: Any
) -> Trained:
    """Return what comes of the training, or raise the error of the rank it is of."""
    from distributed import wait

    tasks = [
        client.submit(
            train,
            *(work, among, rank, *share),
            workers=[address],
            allow_other_workers=False,  # where there are none of its rows
            retries=0,
            pure=False,
            key=f"{kept.key}-rank-{rank}",
        )
        for rank, (address, share) in enumerate(shares.items())
    ]

    def look() -> None:
        if interrupted() and not kept.cancelled():
            _cancel(client, [kept])  # of which rank 0 takes notice

    try:
        with interruptible() as interrupted:
            _wait_for(client, tasks, list(shares), look)
            trained: Trained = _asked(client, tasks[0].result)
            return trained._replace(
                is_interrupted=trained.is_interrupted or bool(interrupted())
            )
    except KeyboardInterrupt:  # pressed twice, and the model is not stored
        _cancel(client, [kept])
        with suppress(TimeoutError):
            _asked(client, wait, tasks[:1], timeout=_TO_END)
        raise
    finally:
        _cancel(client, tasks)


def _wait_for(
    client: Any,
    tasks: Sequence[Any],
    addresses: Sequence[str],
    look: Callable[[], object] = int,
) -> None:
    """Wait until all tasks are done, or raise an error; ``look`` every now and then.

    A task that is pinned to a worker that is gone would wait for ever. Of the errors of
    several ranks, the one that the others only tell of is raised.
    """
    from distributed import wait

    end = inf
    while pending := [task for task in tasks if task.status == "pending"]:
        with suppress(TimeoutError):
            first = {"timeout": _BETWEEN, "return_when": "FIRST_COMPLETED"}
            _asked(client, wait, pending, **first)
        gone = sorted(set(addresses) - set(_asked(client, client.nthreads)))
        if gone:
            msg = (
                f"The workers must live until fit has ended. Got the loss of "
                f"{', '.join(gone)}; the model is as it was, call fit again."
            )
            raise RuntimeError(msg)
        if end == inf and any(task.status == "error" for task in tasks):
            end = monotonic() + _FOR_OTHERS
        if monotonic() > end:
            break
        look()
    failed = [task for task in tasks if task.status == "error"]
    errors = [_asked(client, task.exception) for task in failed]
    own = [error for error in errors if not is_of_another_rank(error)]
    if errors and not own:
        msg = (
            "All workers must answer until fit has ended, within the timeout. Got one "
            "that did not; the model is as it was, call fit again."
        )
        raise RuntimeError(msg) from errors[0]
    if own:
        raise own[0]


def _move_like_(own: Any, others: Any) -> None:
    """Let a RandomState be where the one is that was drawn from in its place."""
    if isinstance(own, np.random.RandomState):
        own.set_state(others.get_state())
