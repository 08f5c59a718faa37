"""What no fit that takes a step at a time can be faster than, measured beside the fits.

The matrix products of an epoch, on arrays that are there; one read of X; and as many
calls of torch as our steps make, of products of single numbers.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from benchmarks.competitors import ours
from benchmarks.timing import Run
from benchmarks.works import Data, Work

# So often, a floor takes a few milliseconds or more.
STEPS = 300
READS = 20
CALLS = 1000


def floors_of(work: Work, data: Data, device: str) -> dict[str, Run]:
    """Return what takes the time of a floor: of STEPS, READS and CALLS."""
    if work.sparse:
        return {"calls": partial(repeated, smallest_calls(device), CALLS)}
    X = torch.from_numpy(data[0]).to(device)
    return {
        "products": partial(repeated, products(work, device), STEPS),
        "reads": partial(repeated, [X.sum], READS),
        "calls": partial(repeated, smallest_calls(device), CALLS),
    }


def repeated(calls: list[Run], times: int) -> None:
    """Make the calls so many times."""
    for _ in range(times):
        for call in calls:
            call()


def smallest_calls(device: str) -> list[Run]:
    """Return one call, of a product of single numbers."""
    one = torch.ones(1, 1, device=device)
    return [partial(torch.addmm, one, one, one, out=torch.empty_like(one))]


def products(work: Work, device: str) -> list[Run]:
    """Return the matrix products of a step, in the fastest layout that is known."""
    empty = partial(torch.zeros, device=device)
    calls: list[Run] = []
    x = empty(work.batch_size, work.n_features).mT  # a batch holds rows
    for layer, (n_in, n_out) in enumerate(pairwise(work.sizes)):
        w, z = empty(n_out, n_in), empty(n_out, work.batch_size)
        calls.append(partial(torch.mm, w, x, out=z))
        calls.append(partial(torch.mm, z, x.mT, out=empty(n_out, n_in)))
        if layer > 0:
            calls.append(partial(torch.mm, w.mT, z, out=empty(n_in, work.batch_size)))
        x = z
    return calls


class Counter(TorchFunctionMode):
    """Counts the calls of torch that are made inside its block."""

    n_calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.n_calls += getattr(func, "__name__", "") != "__get__"  # not a property
        return func(*args, **(kwargs or {}))


def calls_a_step(work: Work, data: Data, device: str) -> float:
    """Return how many calls of torch a step of ours on it makes, from two fits."""
    counted = []
    for epochs in (1, 2):
        with Counter() as counter:
            ours(work._replace(epochs=epochs), device, "torch").fit(*data)
        counted.append(counter.n_calls)
    return (counted[1] - counted[0]) / work.steps
