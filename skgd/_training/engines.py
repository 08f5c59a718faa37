"""Which engine trains: torch, on which all is defined, or loops compiled by numba.

The loops take every step of a model on a CPU; whatever they do not cover is torch's.
The choice is by shapes and parameters only, never by what ran before, so that the same
call gives the same bits.
"""

import os
import re
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from itertools import pairwise

from skgd._equations.network import Layout
from skgd._machine.threads import SEVERAL_THREADS_PAY
from skgd._training.batches import Data, batch_sizes
from skgd._training.csr import Csr, is_wide
from skgd._training.hyperparameters import Shared

# A forward pass of a batch of fewer multiply-adds is left to the loops, which compute
# on one thread: they save the calls of a step, which larger products outlast.
_LOOPS_WIN = SEVERAL_THREADS_PAY

# The first one that lets other packages choose where it keeps what it compiles.
_FIRST_NUMBA, _INSTALL = "0.62", "pip install 'skgd[numba]'"


def engine_of(data: Data, layout: Layout, shared: Shared, wants_steps: bool) -> str:
    """Return who trains models of this layout, "torch" or "numba", or raise ValueError.

    ``wants_steps`` says whether someone looks on at each of them.
    """
    if shared.engine == "torch":
        return "torch"
    lacks = next(_lacks(data, layout, shared, wants_steps), "")
    if shared.engine == "numba":
        if why := why_no_numba():
            lacks = f"numba to compile loops. {why}"
        if lacks:
            msg = f"engine='numba' must have {lacks}, or use engine='auto' or 'torch'."
            raise ValueError(msg)
        return "numba"
    multiply_adds = multiply_adds_of_step(data, layout.alone, shared)
    if lacks or multiply_adds >= _LOOPS_WIN:
        return "torch"
    if why := why_no_numba():  # asked last, for it imports numba
        if is_installed():
            _warn(why)
        return "torch"
    return "numba"


def _lacks(
    data: Data, layout: Layout, shared: Shared, wants_steps: bool
) -> Iterator[str]:
    """Give what the loops must have and do not, what there is, and what to do."""
    hidden = len(layout.sizes) > 2
    if data.shard is not None:
        yield (
            "a process of its own, for its steps are not added up over ranks. Got "
            "data_parallel; leave it"
        )
    if not data.y.is_cpu:
        yield f"a CPU to compute on. Got {data.y.device}; pass device='cpu'"
    if shared.dropout > 0 and hidden:
        yield f"dropout=0, for no unit sits out. Got {shared.dropout}; leave it out"
    if wants_steps:
        yield (
            "callbacks that look at epochs, for batches are not told of. Got one that "
            "looks at batches; leave it out"
        )
    if is_wide(data.x) and hidden:
        yield (
            "hidden_layer_sizes=() where X is sparse and wide. Got hidden layers and "
            f"{data.x.shape[1]} features; leave them out, hash or select fewer features"
        )


@cache
def is_installed() -> bool:
    """Return whether there is numba; that it can be used is another question."""
    return find_spec("numba") is not None


@cache
def why_no_numba() -> str:
    """Return why numba cannot be used and what to do, or "" if it can.

    In the end it is imported, which takes 0.2 seconds.
    """
    if not is_installed():
        return f"Got none; {_INSTALL}"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "Got NUMBA_DISABLE_JIT=1 in the environment; unset it"
    version = _version()
    if version and _numbers_of(version) < _numbers_of(_FIRST_NUMBA):
        return f"Got numba {version}, and needs {_FIRST_NUMBA}; {_INSTALL}"
    try:
        import_module("skgd._compiled.loops")
    except Exception as error:  # numba raises more than ImportError if it is broken
        told = f"{type(error).__name__}: {error}".rstrip(". ")
        return f"Got numba that cannot be imported ({told}); {_INSTALL}"
    return ""


def _version() -> str:
    """Return the version of numba, or "" if it is not told."""
    try:
        return metadata.version("numba")
    except metadata.PackageNotFoundError:
        return ""


def _numbers_of(version: str) -> list[int]:
    """Return the first two numbers of a version."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


@cache
def _warn(why: str) -> None:
    msg = (
        "engine='auto' leaves small steps to torch, which takes several times as long "
        f"for them: numba cannot be used. {why}, or use engine='torch'."
    )
    warnings.warn(msg, UserWarning, stacklevel=2)


def multiply_adds_of_step(data: Data, layout: Layout, shared: Shared) -> int:
    """Return the multiply-adds of a forward pass of the largest batch, about."""
    sizes = batch_sizes(data.n_in_all, shared.batch_size, shared.last_batch)
    largest = sizes[0] * data.n_samples // data.n_in_all  # what lies here of it
    return largest * layout.n_models * multiply_adds_of_row(data, layout)


def multiply_adds_of_row(data: Data, layout: Layout) -> int:
    """Return those of a row in one model, about."""
    entries, *units = layout.sizes
    if isinstance(data.x, Csr) and is_wide(data.x):
        entries = len(data.x.values) // max(1, data.x.shape[0])
    return entries * units[0] + sum(i * u for i, u in pairwise(units))
