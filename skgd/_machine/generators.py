"""Random streams: NumPy's generators, made once from a ``random_state``.

One draw order on every device; global random states are never touched.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence


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


class _NoSeed(ISeedSequence):
    """Seeds a bit generator whose state is about to be set: with zeros, at once.

    To mix a real seed takes four times as long as all the rest of a copy. In pickles
    and deep copies it is a seed of NumPy's.
    """

    def generate_state(
        self, n_words: int, dtype: npt.DTypeLike = np.uint32
    ) -> npt.NDArray[Any]:
        return np.zeros(n_words, dtype)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return np.random.SeedSequence, (0,)


_NO_SEED = _NoSeed()


def copied(generator: np.random.Generator) -> np.random.Generator:
    """Return a generator that goes on as the given one will, sooner than deepcopy."""
    bit_generator = type(generator.bit_generator)(_NO_SEED)  # type: ignore[arg-type]
    bit_generator.state = generator.bit_generator.state
    return np.random.Generator(bit_generator)


def unmoved_on_error(random_state: object) -> AbstractContextManager[None]:
    """Put a RandomState back to where it was if the block raises."""
    if not isinstance(random_state, np.random.RandomState):
        return nullcontext()
    return _unmoved_on_error(random_state)


@contextmanager
def _unmoved_on_error(random_state: np.random.RandomState) -> Iterator[None]:
    before = random_state.get_state()
    try:
        yield
    except BaseException:
        random_state.set_state(before)
        raise
