"""Device and dtype, NumPy <-> torch, the threads of a computation, the seed.

Fitted state is NumPy; tensors live inside a call. On the CPU the two share memory, so
neither X nor the weights are copied on their way in or out.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import LibController, ThreadpoolController
from torch import Tensor

Array = npt.NDArray[np.floating]

CPU = torch.device("cpu")

# What NumPy does about floating-point errors unless told otherwise, as a decorator of
# all that a user calls: where a caller has it raise, even beta ** t would.
numpy_as_usual = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")

# A forward pass of fewer multiply-adds is faster on one thread than on several: torch
# wakes the others even for products that are over before they have started. Nor do they
# pay for gathering alone: where cores share no cache, rows that another one has fetched
# are far away.
_SEVERAL_THREADS_PAY = 4_000_000

# What is said of memory that is not there: by torch on the CPU, on CUDA and on MPS; of
# more numbers than can be counted; and of more bytes than that.
_OUT_OF_MEMORY = re.compile(
    "DefaultCPUAllocator|bad_alloc|out of memory|ALLOC_FAILED|"
    "Overflow when unpacking|Storage size calculation overflowed"
)

# After a product on several threads, one in a forked child would wait for ever for the
# threads that the fork did not copy.
# And CUDA that a parent has used is lost to its children.
_lost_cuda = False


def _after_fork() -> None:
    global _lost_cuda
    torch.set_num_threads(1)
    _lost_cuda = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def device_named(name: str) -> torch.device:
    """Return the device; "auto" is CUDA where there is one to be used, else the CPU."""
    if name == "auto":
        cuda = torch.cuda.is_available() and not _lost_cuda
        return torch.device("cuda" if cuda else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        msg = (
            f"device={name!r} was asked for, but torch.cuda.is_available() is False on "
            "this machine; use device='auto' or 'cpu'."
        )
        raise ValueError(msg)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        msg = (
            f"device={name!r} was asked for, but this machine has "
            f"{torch.cuda.device_count()} CUDA device(s), counted from 0."
        )
        raise ValueError(msg)
    if device.type == "mps" and not torch.backends.mps.is_available():
        msg = (
            "device='mps' was asked for, but torch.backends.mps.is_available() is "
            "False on this machine; use device='auto' or 'cpu'."
        )
        raise ValueError(msg)
    return device


def to_tensor(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Return the array as a tensor, the same memory on the CPU where torch can."""
    if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(_writeable(array)).to(device)


def _writeable(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return the same memory as an array that torch takes without a warning.

    torch has no read-only tensors and warns of every read-only array, such as those
    that joblib maps into its workers. Nothing here writes into what a caller handed in.
    """
    if array.flags.writeable:
        return array
    interface = dict(array.__array_interface__)
    interface["data"] = (interface["data"][0], False)
    return np.asarray(SimpleNamespace(__array_interface__=interface, keeps_alive=array))


def numbers_like(numbers: npt.NDArray[np.float64], like: Tensor) -> Tensor:
    """Return numbers of the host in the dtype and on the device of another tensor.

    They are cast first: not every device knows float64.
    """
    return torch.from_numpy(numbers).to(like.dtype).to(like.device)


def to_numpy(tensor: Tensor) -> Array:
    """Return the tensor as an array, the same memory if it lies on the CPU."""
    return tensor.cpu().numpy()


@contextmanager
def threads_for(multiply_adds: int) -> Iterator[None]:
    """Compute on one thread inside the block, if more do not pay for such steps.

    torch.set_num_threads would set the number of threads that are yet to start as well.
    The limit here is that of torch's OpenMP, for this thread alone. Products have a
    number of their own where someone has set it, by that function or MKL_NUM_THREADS.
    """
    before = torch.get_num_threads()
    if before == 1 or multiply_adds >= _SEVERAL_THREADS_PAY:
        yield
        return
    try:
        for library in _openmp_of_torch():
            library.set_num_threads(1)
        yield
    finally:  # after an interrupt as well, wherever it came
        for library in _openmp_of_torch():
            library.set_num_threads(before)


@cache
def _openmp_of_torch() -> list[LibController]:
    """Return what sets the number of threads of torch's own loops."""
    loaded = ThreadpoolController().select(user_api="openmp").lib_controllers
    of_torch = [one for one in loaded if "torch" in Path(one.filepath).parts]
    return of_torch or loaded


@contextmanager
def memory_for(sentence: Callable[[], str]) -> Iterator[None]:
    """Raise MemoryError with that sentence where the block asks for too much memory."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:
        if not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
            raise
        raise MemoryError(sentence()) from error


@contextmanager
def modes_of_others() -> Iterator[None]:
    """Let what is not ours, such as a callback, compute as it does elsewhere."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def seed_of(random_state: int | np.random.RandomState | None) -> int | None:
    """Return an int or None as it is; a RandomState is drawn from once."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return random_state


def new_generator(
    random_state: int | np.random.RandomState | None,
) -> np.random.Generator:
    """Return a generator for an int, a RandomState (drawn from once) or None."""
    return np.random.default_rng(seed_of(random_state))


def copied(generator: np.random.Generator) -> np.random.Generator:
    """Return a generator that goes on as the given one will, in a tenth of deepcopy."""
    bit_generator = type(generator.bit_generator)(0)
    bit_generator.state = generator.bit_generator.state
    return np.random.Generator(bit_generator)


@contextmanager
def unmoved_on_error(random_state: object) -> Iterator[None]:
    """Put a RandomState back to where it was if the block raises."""
    if not isinstance(random_state, np.random.RandomState):
        yield
        return
    before = random_state.get_state()
    try:
        yield
    except BaseException:
        random_state.set_state(before)
        raise
