"""Which engine trains: torch, on which all is defined, or loops compiled by numba.

The loops take every step of one model on a CPU; whatever they do not cover is torch's.
The choice is by shapes and parameters only, never by what ran before, so that the same
call gives the same bits.
"""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

from skgd._equations.network import Network
from skgd._machine.threads import SEVERAL_THREADS_PAY
from skgd._training.batches import Data, batch_sizes
from skgd._training.csr import is_wide
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.sources import source_of

# A forward pass of a batch of fewer multiply-adds is left to the loops, which compute
# on one thread: they save the calls of a step, which larger products outlast.
_LOOPS_WIN = SEVERAL_THREADS_PAY


def engine_of(data: Data, models: Models, shared: Shared, wants_steps: bool) -> str:
    """Return who trains these models, "torch" or "numba", or raise ValueError.

    ``wants_steps`` says whether someone looks on at each of them.
    """
    if shared.engine == "torch":
        return "torch"
    lacks = next(_lacks(data, models, shared, wants_steps), "")
    if shared.engine == "numba":
        if lacks:
            msg = f"engine='numba' must have {lacks}, or use engine='auto' or 'torch'."
            raise ValueError(msg)
        return "numba"
    multiply_adds = multiply_adds_of_step(data, models.parameters, shared)
    return "torch" if lacks or multiply_adds >= _LOOPS_WIN else "numba"


def _lacks(
    data: Data, models: Models, shared: Shared, wants_steps: bool
) -> Iterator[str]:
    """Give what the loops must have and do not, what there is, and what to do."""
    layout = models.parameters.layout
    n_models, hidden = layout.n_models, len(layout.sizes) > 2
    if n_models > 1:
        yield f"one model to train. Got {n_models} at once; train them one by one"
    if data.y.device.type != "cpu":
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
    if not has_numba():
        yield "numba to compile loops. Got none; pip install 'skgd[numba]'"


@cache
def has_numba() -> bool:
    """Return whether numba can be imported; it is not yet, which takes 0.2 seconds."""
    return find_spec("numba") is not None


def multiply_adds_of_step(data: Data, network: Network, shared: Shared) -> int:
    """Return the multiply-adds of a forward pass of the largest batch, about."""
    sizes = batch_sizes(data.n_samples, shared.batch_size, shared.last_batch)
    entries = source_of(data.x).entries_of_a_row
    n_models, (n_features, n_units, *_) = network.layout.n_models, network.layout.sizes
    of_row = network.n_weights + n_models * n_units * (entries - n_features)
    return max(sizes) * of_row
