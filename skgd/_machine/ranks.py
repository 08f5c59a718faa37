"""Ranks: several processes that work on one thing together, each on its own part.

All that they tell each other goes through here: sums of tensors, and values of any
kind. Every rank must make the same calls in the same order, so whatever only one of
them can know, such as an error of its own, is *agreed* on before the next call.

A single process is ``ALONE``, to which all of this is nothing: what is written for
ranks so holds for it too.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from skgd._machine.arrays import Floats
from skgd._machine.devices import CPU
from skgd._machine.errors import is_of_caller, of_caller

T = TypeVar("T")

# Of a value of any kind, so many bytes are told at first, after its length.
_AT_FIRST, _BYTES_OF_LENGTH = 512, 8

# What an error of another rank is raised as: an error of the same kind, if it is one
# of these.
_KINDS: Mapping[str, type[Exception]] = {
    kind.__name__: kind for kind in (MemoryError, RuntimeError, TypeError, ValueError)
}


class Ranks:
    """The processes of a group of torch's, as one of them sees them."""

    def __init__(
        self, group: Any, destroy: Callable[[Any], None] = lambda group: None
    ) -> None:
        """Take a ``torch.distributed.ProcessGroup``, which nobody else may hold.

        Its connections close with the last reference to it, after ``destroy``.
        """
        self._group, self._destroy = group, destroy
        self._device = CPU
        if group.name() == "nccl":
            self._device = torch.device("cuda", torch.cuda.current_device())
        self.rank: int = group.rank()
        self.size: int = group.size()

    def sum_(self, tensor: Tensor) -> None:
        """Let a tensor be the sum of those of all ranks: alike on all, to the bit.

        Two ranks on CPUs hand each other theirs, which is one message; by gloo's own
        sum it is two, one after the other, each of a half.
        """
        if self.size == 1:
            return
        with _told_of_loss():
            if self.size > 2 or self._device != CPU:
                self._connected.allreduce([tensor]).wait()
                return
            of_both = [torch.empty_like(tensor) for _ in range(2)]
            self._connected.allgather([of_both], [tensor]).wait()
        torch.add(*of_both, out=tensor)

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order; it may be any value."""
        if self.size == 1:
            return [value]
        pickled = pickle.dumps(value)
        length = len(pickled).to_bytes(_BYTES_OF_LENGTH, "little")
        firsts = self._gather_bytes((length + pickled)[:_AT_FIRST].ljust(_AT_FIRST))
        lengths = [int.from_bytes(one[:_BYTES_OF_LENGTH], "little") for one in firsts]
        told = _AT_FIRST - _BYTES_OF_LENGTH
        rests = [b""] * self.size
        if max(lengths) > told:
            rest = pickled[told:].ljust(max(lengths) - told)
            rests = self._gather_bytes(rest)
        pairs = zip(firsts, rests, lengths, strict=True)
        return [
            pickle.loads((first + rest)[_BYTES_OF_LENGTH : _BYTES_OF_LENGTH + n])
            for first, rest, n in pairs
        ]

    def _gather_bytes(self, some: bytes) -> list[bytes]:
        """Return the bytes of all ranks, which are as many on each."""
        here = torch.frombuffer(bytearray(some), dtype=torch.uint8).to(self._device)
        of_all = [torch.empty_like(here) for _ in range(self.size)]
        with _told_of_loss():
            self._connected.allgather([of_all], [here]).wait()
        return [one.cpu().numpy().tobytes() for one in of_all]

    def any(self, fact: bool) -> bool:
        """Return whether something is so on any rank."""
        if self.size == 1:
            return fact
        count = torch.tensor([float(fact)], device=self._device)
        self.sum_(count)
        return bool(count.item())

    def sum(self, numbers: Floats) -> Floats:
        """Return the sums of some numbers over the ranks."""
        return np.sum(self.gather(numbers), axis=0)  # type: ignore[no-any-return]

    def highest(self, numbers: Floats) -> Floats:
        """Return the highest of each number over the ranks."""
        return np.max(self.gather(numbers), axis=0)  # type: ignore[no-any-return]

    def gathered(self, act: Callable[[], T]) -> list[T]:
        """Return what ``act`` returns on each rank; where it fails on one, all raise.

        A rank whose own ``act`` fails raises that error, and the others the first
        rank's, in its words.
        """
        result: Any = None
        own: BaseException | None = None
        try:
            result = act()
        except BaseException as error:  # even Ctrl-C: the others would wait for ever
            own = error
        told = self.gather((result, None if own is None else _in_words(own)))
        if own is not None:
            raise _agreed(own)
        for rank, (_, words) in enumerate(told):
            if words is not None:
                kind, text, is_of_callers = words
                msg = f"On rank {rank} of {self.size}: {text}"
                others = _of_another_rank(_KINDS[kind](msg))
                raise _agreed(of_caller(others) if is_of_callers else others)
        return [result for result, _ in told]

    def agreed(self, act: Callable[[], T]) -> T:
        """Return what ``act`` returns here; where it fails on any rank, all raise."""
        results: list[T] = []
        self.gathered(lambda: results.append(act()))
        return results[0]

    def check_alike(self, tell: Callable[[], Mapping[str, object]]) -> None:
        """Raise ValueError where what must be the same on all ranks is not.

        That is whatever ``tell`` returns by its name; nothing where it does not matter.
        """
        facts = {name: repr(fact) for name, fact in tell().items()}
        told: dict[str, tuple[int, str]] = {}
        for rank, others in enumerate(self.gather(facts)):
            for name, fact in others.items():
                before, first = told.setdefault(name, (rank, fact))
                if fact != first:
                    msg = (
                        f"{name} must be the same on all ranks. Got {first} on rank "
                        f"{before} and {fact} on rank {rank}."
                    )
                    raise _agreed(of_caller(ValueError(msg)))

    def together(self) -> AbstractContextManager[None]:
        """Let an error of the block that was not agreed on end the others' waiting.

        They then raise that this rank is lost, and the group is of no more use.
        """
        return self._left_on_error()

    @contextmanager
    def _left_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not _is_agreed(error):
                self.leave()
            raise

    def leave(self) -> None:
        """Close the connections to the other ranks."""
        group, self._group = self._group, None
        if group is not None:
            group.abort()  # of gloo that closes nothing
            self._destroy(group)

    @property
    def _connected(self) -> Any:
        if self._group is None:
            raise RuntimeError("This rank has left")
        return self._group


class _Alone(Ranks):
    """A single process, which needs no group."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1

    def sum_(self, tensor: Tensor) -> None:
        pass

    def gather(self, value: T) -> list[T]:
        return [value]

    def any(self, fact: bool) -> bool:
        return fact

    def gathered(self, act: Callable[[], T]) -> list[T]:
        return [act()]

    def agreed(self, act: Callable[[], T]) -> T:
        return act()

    def sum(self, numbers: Floats) -> Floats:
        return numbers

    def highest(self, numbers: Floats) -> Floats:
        return numbers

    def check_alike(self, tell: Callable[[], Mapping[str, object]]) -> None:
        pass

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()


ALONE: Ranks = _Alone()


class Meeting(NamedTuple):
    """Where ranks that nobody else has brought together find each other."""

    host: str  # of a store of torch's, see ``store_of_meeting``
    port: int
    name: str  # of this meeting, which others at the store do not have


def store_of_meeting() -> Any:
    """Return a store, which serves a meeting at a free ``port`` as long as it is kept.

    It is no part of torch's state: groups of several meetings do not know each other.
    """
    return _store("0.0.0.0", 0, is_master=True)


def _store(host: str, port: int, **options: Any) -> Any:
    store = dist.TCPStore  # type: ignore[attr-defined]
    return store(host, port, wait_for_workers=False, **options)


def _group(
    store: Any, name: str, rank: int, size: int, host: str, timeout: timedelta
) -> Any:
    """Return a group of gloo's that torch knows nothing of."""
    gloo: Any = dist.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname=host)]
    options._timeout = timeout
    of_meeting = dist.PrefixStore(name, store)  # type: ignore[attr-defined]
    return gloo(of_meeting, rank, size, options)


@contextmanager
def ranks_that_meet(
    meeting: Meeting, rank: int, size: int, host: str, timeout: float
) -> Iterator[Ranks]:
    """Give ranks, of whom this process is one, that meet; ``host`` is its address here.

    By its name alone gloo may find an address that the others cannot reach.
    """
    seconds = timedelta(seconds=timeout)
    with _told_of_loss():
        store = _store(*meeting[:2], is_master=False, timeout=seconds)
        ranks = Ranks(_group(store, meeting.name, rank, size, host, seconds))
    del store  # so that nobody else holds it
    try:
        yield ranks
    finally:
        ranks.leave()


def _in_words(error: BaseException) -> tuple[str, str, bool]:
    """Return the kind of an error, its text, and whether it is the caller's."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    kind = next((name for name in kinds if name in _KINDS), "RuntimeError")
    text = str(error) if type(error).__name__ == kind else repr(error)
    return kind, text, isinstance(error, Exception) and is_of_caller(error)


def _agreed(error: BaseException) -> BaseException:
    """Return an error, marked as one that all ranks raise."""
    vars(error)["_skgd_of_all_ranks"] = True
    return error


def _is_agreed(error: BaseException | None) -> bool:
    """Return whether all ranks raise an error, perhaps in other words."""
    while error is not None and not hasattr(error, "_skgd_of_all_ranks"):
        error = error.__cause__
    return error is not None


def _of_another_rank(error: Exception) -> Exception:
    """Return an error, marked as what another rank's came to here."""
    vars(error)["_skgd_of_another_rank"] = True
    return error


def is_of_another_rank(error: BaseException) -> bool:
    """Return whether an error tells of another rank only, which has one of its own."""
    return hasattr(error, "_skgd_of_another_rank")


@contextmanager
def _told_of_loss() -> Iterator[None]:
    """Say in words that another rank does not answer."""
    try:
        yield
    except RuntimeError as error:
        msg = (
            "A rank has ended, has left the fit with an error of its own, or did not "
            "answer within the timeout. The model is as it was; enter data_parallel "
            f"anew. ({error})"
        )
        raise _of_another_rank(RuntimeError(msg)) from error
