"""A CUDA device that is not there, for the tests of machines without one.

Inside ``pretended_cuda()`` torch says that there is one, and what is sent to it becomes
a ``DeviceTensor``: it says that it lies on cuda:0, and its numbers lie in a tensor of
the host. Every operation of torch passes ``Device``, which refuses what CUDA refuses,
notes what makes the host wait for the device, and computes all the rest on the host. So
a fit ends, and must end where that on the CPU ends.

It finds index tensors left on the host, arrays made of what lies on a device, a
forgotten ``.to(device)``, and new waits. It cannot find kernels that CUDA does not
have, nor what they do in another order, nor how much memory there is.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from functools import cache
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

# Inference mode shows the composite "to" whole, else its part "_to_copy" is seen.
MOVES = {"to", "_to_copy"}

# CUDA takes an index of the host, and copies it.
TAKE_AN_INDEX = {"index", "index_put", "index_put_"}

# Their answer is a number, or a shape, that the host has to know before it goes on.
ASK_THE_DEVICE = {
    "_local_scalar_dense",
    "allclose",
    "bincount",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "unique",
    "_unique2",
}


class DeviceTensor(Tensor):
    """A tensor that says it lies on cuda:0.

    To C++ it lies on "meta", the device without numbers, which needs no driver.
    """

    device, is_cuda, is_cpu, is_meta = CUDA, True, False, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, on_host):
        with torch.inference_mode(False):  # which lets a view of it be written into
            made = Tensor._make_wrapper_subclass(
                cls,
                on_host.size(),
                strides=on_host.stride(),
                storage_offset=on_host.storage_offset(),
                dtype=on_host.dtype,
                device="meta",
            )
        made.on_host = on_host
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} of a pretended tensor outside of pretended_cuda")

    def __repr__(self):
        return f"DeviceTensor({self.on_host})"

    def __getitem__(self, index):
        return super().__getitem__(indices(index))

    def __setitem__(self, index, values):
        super().__setitem__(indices(index), values)

    def new_tensor(self, data, *, dtype=None):
        return torch.tensor(data, dtype=dtype or self.dtype, device=CUDA)

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *, force=False):
        if force:
            return self.cpu().numpy()
        msg = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first"
        raise TypeError(msg)

    def __array__(self, dtype=None, copy=None):
        return self.numpy()


def indices(index):
    """Return an index whose lists are tensors; C++ would make them on "meta"."""
    if isinstance(index, tuple):
        return tuple(map(indices, index))
    return torch.tensor(index) if isinstance(index, list | np.ndarray) else index


class Device(TorchDispatchMode):
    """What every operation of torch passes while a device is pretended."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()  # what the host has waited for, and how often
        self.dtypes = set()  # of all that has been on the device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        given = [*tensors_in([*args, *kwargs.values()])]
        assert not any(tensor.is_meta for tensor in given), f"{func} got no numbers"
        refuse_mixture(func, name, given)
        args, kwargs, device = with_device_of_host(func, args, kwargs)
        on_device = any(map(is_there, given)) if device is None else device != CPU
        moved = name in MOVES and is_there(args[0]) != on_device
        if name == "copy_":
            self._note_move(is_there(args[1]), is_there(args[0]))
        elif moved:
            self._note_move(is_there(args[0]), on_device)
        elif name in TAKE_AN_INDEX and not all(map(is_there, given)):
            self._note_move(False, on_device)
        elif name in ASK_THE_DEVICE and on_device:
            self.waits[name] += 1

        kwargs = {key: on_host(value) for key, value in kwargs.items()}
        result = func(*map(on_host, args), **kwargs)

        handles = {id(on_host(tensor)): tensor for tensor in given}

        def handle_of(value):
            """Return what the caller gets for a result on the host."""
            if isinstance(value, list | tuple):
                return type(value)(map(handle_of, value))
            if not isinstance(value, Tensor):
                return value
            if moved:
                value = value.clone()
            elif id(value) in handles:  # in place, or out=
                same = handles[id(value)]
                assert same.shape == value.shape, f"{func} resized what it was given"
                return same
            if not on_device:
                return value
            self.dtypes.add(value.dtype)
            return DeviceTensor(value)

        return handle_of(result)

    def _note_move(self, from_device, to_device):
        if from_device != to_device:
            self.waits["to the device" if to_device else "to the host"] += 1


def is_there(value):
    return isinstance(value, DeviceTensor)


def on_host(value):
    """Return the tensor of the host that a tensor holds, or those that tensors hold."""
    if isinstance(value, list | tuple):
        return type(value)(map(on_host, value))
    return value.on_host if is_there(value) else value


def tensors_in(values):
    """Yield the tensors among values, and in lists among them."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, Tensor):
            yield value


def refuse_mixture(func, name, given):
    """Raise what CUDA raises where an operation gets tensors of two devices.

    Element by element, a tensor without axes may lie on the host: it is a number.
    """
    if name in MOVES or name == "copy_" or len(set(map(is_there, given))) < 2:
        return
    if name in TAKE_AN_INDEX and is_there(given[0]):
        return
    numbers = torch.Tag.pointwise in func.tags
    if all(is_there(tensor) or (numbers and tensor.ndim == 0) for tensor in given):
        return
    where = [f"{'cuda:0' if is_there(one) else 'cpu'} {[*one.shape]}" for one in given]
    msg = f"Expected all tensors to be on the same device. {func} got {where}"
    raise RuntimeError(msg)


def with_device_of_host(func, args, kwargs):
    """Return the arguments with the CPU for the device, and the device asked for."""
    place = place_of_device(func)
    if place < len(args) and args[place] is not None:
        return (*args[:place], CPU, *args[place + 1 :]), kwargs, args[place]
    if kwargs.get("device") is not None:
        return args, {**kwargs, "device": CPU}, kwargs["device"]
    return args, kwargs, None


@cache
def place_of_device(func):
    """Return which argument of an operation is the device, as good as none if none."""
    names = [argument.name for argument in func._schema.arguments]
    return names.index("device") if "device" in names else sys.maxsize


def new_tensor(data, *, device=CPU, made=torch.tensor, **kwargs):
    """Return what torch.tensor does; C++ would ask the driver for the device."""
    return made(data, **kwargs).to(device)


@contextmanager
def pretended_cuda():
    """Let torch say that there is a CUDA device; yield what knows what passes."""
    driver = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "is_initialized": lambda: False,
        "mem_get_info": lambda device: (2**33, 2**33),  # bytes that are free, and all
        "_lazy_init": lambda: None,
    }
    with (
        mock.patch.multiple(torch.cuda, **driver),
        mock.patch.object(torch, "tensor", new_tensor),
        Device() as device,
    ):
        yield device
