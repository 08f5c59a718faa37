"""Device and dtype, NumPy <-> torch.

Fitted state is NumPy; tensors live inside a call. On the CPU the two share memory, so
neither X nor the weights are copied on their way in or out.
"""

import os
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from skgd._machine.arrays import Array

CPU = torch.device("cpu")

# CUDA that a parent has used is lost to its children.
_lost_cuda = False


def _after_fork() -> None:
    global _lost_cuda
    _lost_cuda = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def device_named(name: str) -> torch.device:
    """Return the device; "auto" is CUDA where there is one to be used, else the CPU."""
    if name == "auto":
        cuda = torch.cuda.is_available() and not _lost_cuda
        return torch.device("cuda") if cuda else CPU
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
    if not array.dtype.isnative or min(array.strides, default=0) < 0:
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


# Of so many elements, zeros are better made by NumPy than by torch, which writes them.
_LARGE = 2**16


def zeros_like(tensor: Tensor) -> Tensor:
    """Return zeros like a vector of torch's; large ones cost nothing until written."""
    if tensor.is_cpu and len(tensor) >= _LARGE:
        return torch.from_numpy(np.zeros(len(tensor), to_numpy(tensor[:0]).dtype))
    return torch.zeros_like(tensor)


def numbers_like(numbers: npt.NDArray[np.float64], like: Tensor) -> Tensor:
    """Return numbers of the host in the dtype and on the device of another tensor.

    They are cast first: not every device knows float64.
    """
    return torch.from_numpy(numbers).to(like.dtype).to(like.device)


def to_numpy(tensor: Tensor) -> Array:
    """Return the tensor as an array, the same memory if it lies on the CPU."""
    return tensor.numpy() if tensor.is_cpu else tensor.cpu().numpy()
