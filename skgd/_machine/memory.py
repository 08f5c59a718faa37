"""Memory that is not there, said in the words of who asked for it."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

# What is said of memory that is not there: by torch on the CPU, on CUDA and on MPS; of
# more numbers than can be counted; and of more bytes than that.
_OUT_OF_MEMORY = re.compile(
    "DefaultCPUAllocator|bad_alloc|out of memory|ALLOC_FAILED|"
    "Overflow when unpacking|Storage size calculation overflowed"
)


@contextmanager
def memory_for(sentence: Callable[[], str]) -> Iterator[None]:
    """Raise MemoryError with that sentence where the block asks for too much memory."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:
        if not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
            raise
        raise MemoryError(sentence()) from error


def pieces(items: Sequence[Any], at_most: int) -> list[Sequence[Any]]:
    """Return the items in as few pieces as it takes, of about one length."""
    if not items:
        return []
    n_pieces = -(-len(items) // at_most)
    cuts = [len(items) * piece // n_pieces for piece in range(n_pieces + 1)]
    return [items[start:stop] for start, stop in pairwise(cuts)]
