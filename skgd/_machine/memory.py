"""Memory that is not there, said in the words of who asked for it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
