"""Random streams: NumPy's generators, made once from a ``random_state``.

One draw order on every device; global random states are never touched.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


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
