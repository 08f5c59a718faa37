"""Several processes that train one model: who they are, and what must be alike.

What a fit is part of is told by a context, which is read once, by ``fit`` and
``partial_fit``; from there on it is handed down. It is explicit: where torch has a
process group, there may well be fits that are each process's own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist

from skgd._estimators.parameters import hidden_units
from skgd._machine.fingerprints import fingerprint
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.shards import Shard, shard_of

# Numbers of partitions and how many rows each has, in the order of the rows.
Partitions = Sequence[tuple[int, int]]


class Together(NamedTuple):
    """Who trains one model, and which partitions of its rows lie here.

    None is one partition, all that is handed in, by the number of the rank. A rank may
    have no held-out rows: then it hands in none.
    """

    ranks: Ranks
    partitions: Partitions | None = None
    held_out: Partitions | None = None
    interrupted: Callable[[], str] = str  # says why a fit is to end; str says nothing

    def shard(self, n_rows: int) -> Shard | None:
        """Return the shard of rows that are trained on; None if they are all."""
        return _shard(self.ranks, self.partitions, n_rows)

    def shard_held_out(self, n_rows: int) -> Shard | None:
        """Return the shard of held-out rows, likewise."""
        return _shard(self.ranks, self.held_out, n_rows)


def _shard(ranks: Ranks, partitions: Partitions | None, n_rows: int) -> Shard | None:
    if ranks is ALONE:
        return None
    if partitions is None:
        partitions = [(ranks.rank, n_rows)] if n_rows else []
    return shard_of(ranks, partitions)


def shard_of_all(ranks: Ranks, n_rows: int) -> Shard | None:
    """Return the shard of rows that all lie on every rank; None in one process."""
    return None if ranks is ALONE else Shard(ranks, (n_rows,), (0,))


_ALONE = Together(ALONE)
_now = ContextVar("skgd_together", default=_ALONE)


def together_now() -> Together:
    """Return who trains, at this place of the program."""
    return _now.get()


@contextmanager
def training_together(together: Together) -> Iterator[None]:
    """Let every fit of the block be of one model, trained by these ranks."""
    token = _now.set(together)
    try:
        yield
    finally:
        _now.reset(token)


@contextmanager
def data_parallel(group: Any = None, *, timeout: float | None = None) -> Iterator[None]:
    """Train one model on the rows of several processes.

    Inside, ``fit(X, y)`` and ``partial_fit(X, y)`` of an estimator take X and y as the
    rows of this process, its *rank*'s, and all ranks end with the same model, to the
    last bit. All of them must make the same calls, each with at least one row.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, default=None
        The ranks. None is all processes of ``torch.distributed.init_process_group``,
        which torchrun, Spark's TorchDistributor and Ray Train's TorchTrainer prepare.
    timeout : float, default=None
        Seconds after which a rank that does not answer is given up, above 0. It must be
        longer than any rank needs to check its rows, or to be called with them. None is
        that of torch: 30 minutes, or 10 of NCCL.

    Returns
    -------
    context : context manager
        What to enter. It makes a group of torch's of its own, which is gone at the end.

    Raises
    ------
    RuntimeError
        If torch has no process group; and from a fit, if another rank is lost.
    ValueError
        If the timeout is no number above 0; and from a fit, on all ranks, whatever is
        refused on one of them.

    See Also
    --------
    MiniBatchClassifier : What can be trained so.

    Notes
    -----
    ``batch_size`` is that of all ranks together, and each row counts 1 / rows of the
    batch, wherever it lies, so parameters mean what they mean in one process. The rows
    of a rank are a *partition* with its number. Each epoch permutes every partition by
    a stream of its own and takes of each its share: row j of n stands at (j + 1/2) / n
    in the epoch, and a batch is the next rows of that order. With ``shuffle=False``
    rows keep their order within a partition.

    Every step adds up the gradients of all ranks, by one all-reduce. Random numbers are
    those of rank 0. Classes are those of all ranks, as are weights of balanced classes
    and the mean of ``sample_weight``. A rank whose ``max_time`` is over, that is
    interrupted or whose callback stops, ends the fit for all, after the same step.
    Rows of ``X_val`` lie on any ranks; with ``early_stopping`` each partition holds out
    its share.

    ``Blocks`` are handed in on all ranks, the same ones, which the ranks then read by
    turns. Order and batches are those of one process.

    Refused are sparse X of so many features that it stays sparse, ``dropout``,
    ``engine="numba"``, callbacks that ask for batches, and the searches of skgd.

    Examples
    --------
    >>> import torch.distributed as dist
    >>> from sklearn.datasets import load_diabetes
    >>> from skgd import MiniBatchRegressor, data_parallel
    >>> X, y = load_diabetes(return_X_y=True)
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> with data_parallel():
    ...     model = MiniBatchRegressor(random_state=0).fit(X * 21, y)
    >>> dist.destroy_process_group()
    >>> print(round(model.score(X * 21, y), 1))
    0.5
    """
    if not dist.is_available():
        msg = (
            "data_parallel must have torch.distributed. Got a build of torch without "
            "it; install another, or fit in one process."
        )
        raise RuntimeError(msg)
    if group is None and not dist.is_initialized():
        msg = (
            "data_parallel must have a process group. Got none; call "
            "torch.distributed.init_process_group first, as in a script that torchrun "
            "starts."
        )
        raise RuntimeError(msg)
    if timeout is not None and not 0 < timeout < 1e9:
        msg = f"timeout must be None or seconds above 0. Got {timeout!r}."
        raise ValueError(msg)
    with nullcontext() if group is None else _named_apart(group):
        own = dist.new_group(
            dist.get_process_group_ranks(dist.group.WORLD if group is None else group),
            timeout=None if timeout is None else timedelta(seconds=timeout),
            backend=dist.get_backend(group),
            use_local_synchronization=group is not None,
        )
    ranks = Ranks(own, dist.destroy_process_group)
    try:
        with training_together(Together(ranks)):
            yield
    finally:
        ranks.leave()


@contextmanager
def _named_apart(group: Any) -> Iterator[None]:
    """Let a group that some ranks make have a name that no other one has or had.

    torch names it by these ranks and how many groups there are, so that a second one
    after the first has ended finds what that left in the store, and no one there. Since
    2.15 it counts them on these ranks only: the next group of all has two names then,
    and is waited for without end.
    """
    names, c10d = [secrets.token_hex(20)], dist.distributed_c10d
    dist.broadcast_object_list(names, group_src=0, group=group)
    name_of, count = c10d._hash_ranks_to_str, c10d._world.group_count
    c10d._hash_ranks_to_str = lambda ranks: names[0]
    try:
        yield
    finally:
        c10d._hash_ranks_to_str, c10d._world.group_count = name_of, count


# Parameters that may differ between ranks: rank 0 draws, and the others are each one's
# own business.
_OWN = ("device", "max_time", "random_state", "verbose")


def check_can_be_shared(settings: Any, wants_batches: bool) -> None:
    """Refuse, in training together, what would depend on the number of ranks."""
    if settings.dropout > 0 and hidden_units(settings):
        msg = (
            "dropout must be 0 where several processes train one model, for each would "
            f"drop units of its own. Got {settings.dropout}; leave it out."
        )
        raise ValueError(msg)
    if wants_batches:
        msg = (
            "Callbacks must look at epochs with data_parallel, for no rank has all "
            "rows of a batch. Got one that looks at batches; leave it out."
        )
        raise ValueError(msg)


def check_alone(name: str) -> None:
    """Refuse what splits its rows by itself, in training together."""
    if together_now().ranks is not ALONE:
        msg = (
            f"{name} must be fitted in one process, for it would split the rows of "
            "each rank by itself. Got data_parallel; leave it, and search beforehand."
        )
        raise ValueError(msg)


def parameters_alike(settings: Any) -> dict[str, object]:
    """Return the parameters that must be the same on all ranks."""
    parameters = settings.get_params(deep=False)
    return {
        name: _shown(value) for name, value in parameters.items() if name not in _OWN
    }


def _shown(value: Any) -> object:
    """Return a value that looks alike in every process, as no function's place does."""
    if not callable(value):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def begins_alike(
    settings: Any, before: Sequence[Any], initial: Mapping[str, Any]
) -> dict[str, object]:
    """Return what training begins with, which must be the same on all ranks."""
    told = {**parameters_alike(settings), "The state that training goes on from": None}
    if before:
        arrays = [array for one in before for layer in one.layers for array in layer]
        told = {
            "The state that training goes on from": (
                f"one after {before[0].t} steps, with fingerprint {fingerprint(arrays)}"
            )
        }
    for name, given in initial.items():
        several = given if isinstance(given, list | tuple) else [given]
        of_arrays = fingerprint([np.asarray(one) for one in several])
        told[name] = None if given is None else f"fingerprint {of_arrays}"
    return told
