"""The threads of a computation, and of a child that was forked."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from math import inf
from pathlib import Path
from threading import Lock

import torch
from threadpoolctl import LibController, ThreadpoolController

# After a product on several threads, one in a forked child would wait for ever for the
# threads that the fork did not copy.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

# A forward pass of fewer multiply-adds is faster on one thread than on several: torch
# wakes the others even for products that are over before they have started. Nor do they
# pay for gathering alone: where cores share no cache, rows that another one has fetched
# are far away.
SEVERAL_THREADS_PAY = 4_000_000


@contextmanager
def threads_for(multiply_adds: float) -> Iterator[None]:
    """Let torch compute on as many threads inside the block as such steps are worth.

    That is all cores but one, unless OMP_NUM_THREADS is set: threads wait for each
    other at every product, and where another process holds the core of one of them,
    they wait for it ten times as long as one thread alone would take.
    """
    n = 1
    if multiply_adds >= SEVERAL_THREADS_PAY:
        n = torch.get_num_threads()
        if "OMP_NUM_THREADS" not in os.environ:
            n = min(n, max(1, n_cores() - 1))
    with threads_of_torch(n):
        yield


def threads_beside(n_workers: int) -> AbstractContextManager[None]:
    """Let torch compute on one worker's share of the cores, of so many workers."""
    if n_workers == 1:
        return threads_for(inf)
    share = max(1, n_cores() // n_workers)
    return threads_of_torch(min(torch.get_num_threads(), share))


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def threads_of_torch(n: int) -> Iterator[None]:
    """Let torch compute on so many threads inside the block, for this thread alone.

    torch.set_num_threads would set the number of threads that are yet to start as well.
    The limit here is that of torch's OpenMP. Products have a number of their own where
    someone has set it, by that function or MKL_NUM_THREADS.
    """
    before = torch.get_num_threads()
    if before == n:
        yield
        return
    try:
        for library in _openmp_of_torch():
            library.set_num_threads(n)
        yield
    finally:  # after an interrupt as well, wherever it came
        for library in _openmp_of_torch():
            library.set_num_threads(before)


# Of what a process has once.
_lock = Lock()

# Who has set torch's number of threads, and what it was before the first of them.
_setters, _number_before = 0, 0


@contextmanager
def products_on_threads(n: int) -> Iterator[None]:
    """Let torch compute on so many threads inside the block, products included.

    That is for a process whose variables keep MKL and OpenMP to fewer. Threads that
    start meanwhile do so too, so what is set back is what was before all such blocks.
    """
    global _setters, _number_before
    with _lock:
        if not _setters:
            _number_before = torch.get_num_threads()
        _setters += 1
    try:
        torch.set_num_threads(n)
        yield
    finally:
        with _lock:
            torch.set_num_threads(_number_before)
            _setters -= 1


# Who holds SciPy's BLAS to one thread: so many, who found its libraries at these.
_holders, _threads_before = 0, list[int]()


@contextmanager
def one_thread_of_blas() -> Iterator[None]:
    """Let SciPy's BLAS compute on one thread inside the block.

    It has one number of threads for the whole process, so the first to come in sets it,
    and the last to leave sets it back.
    """
    global _holders, _threads_before
    libraries = _blas_of_scipy()
    with _lock:
        if not _holders:
            _threads_before = [library.num_threads for library in libraries]
            _set_threads(libraries, [1] * len(libraries))
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders:
                _set_threads(libraries, _threads_before)


def _let_go() -> None:
    """Forget, in a forked child, who holds numbers of threads: they are not there."""
    global _lock, _holders, _setters
    held, _lock, _holders, _setters = _holders, Lock(), 0, 0
    if held:
        _set_threads(_blas_of_scipy(), _threads_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _set_threads(libraries: list[LibController], numbers: list[int]) -> None:
    for library, n in zip(libraries, numbers, strict=True):
        library.set_num_threads(n)


@cache
def _blas_of_scipy() -> list[LibController]:
    """Return what sets the number of threads of SciPy's products."""
    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    of_scipy = [
        one
        for one in loaded
        if any(part.startswith("scipy") for part in Path(one.filepath).parts[:-1])
    ]
    return of_scipy or loaded


@cache
def _openmp_of_torch() -> list[LibController]:
    """Return what sets the number of threads of torch's own loops."""
    loaded = ThreadpoolController().select(user_api="openmp").lib_controllers
    of_torch = [one for one in loaded if "torch" in Path(one.filepath).parts]
    return of_torch or loaded
