"""Random streams: NumPy's generators, made once from a ``random_state``.

One draw order on every device; global random states are never touched.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

from skgd._machine.arrays import Indices

# More numbers than these are shuffled by NumPy's draw without replacement in half the
# time of its permutation, which was more than half of an epoch of a small linear model.
# (Of fewer, the draw does not shuffle, but look up what it has drawn.)
_DRAWN_SOONER = 10_000


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


def seeds_of(
    random_state: int | np.random.RandomState | None, n_seeds: int
) -> list[int]:
    """Return some seeds: that of a ``random_state``, and others that follow from it.

    The fewer are the first of the more. Of None, the first is a new one.
    """
    first = seed_of(random_state)
    if first is None:
        first = int(np.random.default_rng().integers(2**32))
    others = np.random.SeedSequence(first).generate_state(n_seeds - 1)
    return [int(first), *others.tolist()]


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


def rows_of_epoch(
    generator: np.random.Generator, n_samples: int, n_rows: int, *, shuffle: bool
) -> Indices:
    """Return the rows of one pass over the data, in the order they are seen.

    They are as many as the batches hold: the last ones are left out where that is less
    than the whole set, and drawn at random from it, once more, where it is more.
    """
    rows = _permuted(generator, n_samples) if shuffle else np.arange(n_samples)
    if n_rows > n_samples:
        extra = generator.integers(n_samples, size=n_rows - n_samples)
        return np.append(rows, extra)
    return rows[:n_rows]


def _permuted(generator: np.random.Generator, n: int) -> Indices:
    """Return the numbers from 0 to n - 1 in random order."""
    if n > _DRAWN_SOONER:
        return generator.choice(n, n, replace=False)
    return generator.permutation(n)


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


# The streams that are written down, by the name that NumPy has for how they are drawn.
_DRAWN_BY = {one.__name__: one for one in (np.random.PCG64, np.random.MT19937)}

Stream = np.random.Generator | np.random.RandomState


def written(stream: Stream) -> dict[str, Any]:
    """Return where a stream is: ints, floats and arrays; TypeError if it is unusual."""
    if isinstance(stream, np.random.Generator):
        state: dict[str, Any] = dict(stream.bit_generator.state)
    else:
        state = dict(stream.get_state(legacy=False))
    if state["bit_generator"] not in _DRAWN_BY:
        msg = f"A stream drawn by {state['bit_generator']} cannot be written down."
        raise TypeError(msg)
    return state


def stream_at(state: Any, *, old: bool) -> Stream:
    """Return the stream, a Generator or an ``old`` RandomState, that is there.

    NumPy believes what it is told: a place beyond the drawn numbers would be read. So
    ValueError is raised for what no stream has written down.
    """
    if not _is_written(state, old):
        raise ValueError("A random stream is nowhere where a stream can be.")
    bit_generator = _DRAWN_BY[state["bit_generator"]](_NO_SEED)  # type: ignore[arg-type]
    if not old:
        bit_generator.state = state
        return np.random.Generator(bit_generator)
    stream = np.random.RandomState(bit_generator)
    stream.set_state(state)
    return stream


def _is_written(state: Any, old: bool) -> bool:
    """Return whether a stream may have written this down."""
    if type(state) is not dict or type(state.get("bit_generator")) is not str:
        return False
    kind, inner = state["bit_generator"], state.get("state")
    if kind == "PCG64":
        ranges = {"has_uint32": 2, "uinteger": 2**32}
        inner_ranges = {"state": 2**128, "inc": 2**128}
    else:
        ranges, inner_ranges = {}, {"pos": 625}
    parts = {"bit_generator", "state", *ranges, *(("has_gauss", "gauss") * old)}
    inner_parts = {*inner_ranges, *(["key"] if kind == "MT19937" else [])}
    return (
        kind in _DRAWN_BY
        and isinstance(inner, dict)
        and state.keys() == parts
        and inner.keys() == inner_parts
        and all(_is_below(state[name], end) for name, end in ranges.items())
        and all(_is_below(inner[name], end) for name, end in inner_ranges.items())
        and (kind == "PCG64" or _is_key(inner["key"]))
        and (not old or _is_below(state["has_gauss"], 2))
        and (not old or type(state["gauss"]) is float)
    )


def _is_below(value: object, end: int) -> bool:
    return type(value) is int and 0 <= value < end


def _is_key(value: object) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint32
        and value.shape == (624,)
    )
