"""Memory that is not there, said in the words of who asked for it."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

# What is said of memory that is not there: by torch on the CPU, on CUDA and on MPS; of
# more numbers than can be counted; and of more bytes than that.
_OUT_OF_MEMORY = re.compile(
    "DefaultCPUAllocator|bad_alloc|out of memory|ALLOC_FAILED|"
    "Overflow when unpacking|Storage size calculation overflowed"
)


class memory_for:
    """Raise MemoryError with that sentence where the block asks for too much memory."""

    def __init__(self, sentence: Callable[[], str]) -> None:
        self._sentence = sentence

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        asked = isinstance(error, RuntimeError | TypeError)
        if isinstance(error, MemoryError) or (
            asked and _OUT_OF_MEMORY.search(str(error))
        ):
            raise MemoryError(self._sentence()) from error


def pieces(items: Sequence[Any], at_most: int) -> list[Sequence[Any]]:
    """Return the items in as few pieces as it takes, of about one length."""
    if not items:
        return []
    n_pieces = -(-len(items) // at_most)
    cuts = [len(items) * piece // n_pieces for piece in range(n_pieces + 1)]
    return [items[start:stop] for start, stop in pairwise(cuts)]
