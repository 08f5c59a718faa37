"""An epoch of rows that do not lie in memory, window by window.

The blocks come in an order that is drawn over all of them. Their rows, one after the
other, are cut into windows of one length, which is a multiple of the batch size, so
that no batch crosses a border and only the last one of the epoch may be short. Within a
window the rows are drawn in any order. While steps are taken on one window, a thread
reads the next one: into two buffers by turns, to which the steps are bound once.

Of several ranks each reads some of the blocks, by turns, and takes of every batch the
rows that it has read: the batches are those of a single process.

Dimension key: n rows of a window, i features, o outputs.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import cycle
from threading import Event

import numpy as np
import torch
from torch import Tensor

from skgd._machine.arrays import Bools, Indices
from skgd._machine.devices import CPU
from skgd._machine.generators import rows_of_epoch
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.batches import Data, Part, Windows
from skgd._training.progress import Keeping, Point, drawn, steps_in
from skgd._training.takers import Ahead, TakeEpochs, Taken, Taker

# Batches are filled up to so many sizes at the most.
_SIZES = 32


def rows_of_a_window(n_samples: int, batch_size: int | None, most: int) -> int:
    """Return the number of rows of a window: whole batches, of so many at the most."""
    if n_samples <= most:
        return n_samples
    size = batch_size or n_samples
    if size > most:
        msg = (
            "batch_size must be at most the chunk_rows of the blocks, for a batch is "
            f"made of the rows of a window. Got batch_size={batch_size} and chunk_rows="
            f"{most}; lower batch_size, or raise chunk_rows."
        )
        raise ValueError(msg)
    return most // size * size


def bind_windows(ahead: Ahead, bind: Callable[[Ahead], Taker]) -> TakeEpochs:
    """Return what takes the steps of an epoch, by takers for each buffer."""
    data, in_all, windows = ahead.data, ahead.in_all, ahead.data.windows
    assert windows is not None
    ranks = ALONE if data.shard is None else data.shard.ranks
    [generator] = ahead.models.generators
    n_samples, length = windows.n_samples, windows.n_at_once
    buffers = _buffers(data, n=1 if n_samples <= length else 2)
    rooms = [_room(buffer) for buffer in buffers]
    shuffle = ahead.shared.shuffle and in_all != [n_samples]
    n_steps = -(-length // in_all[0])  # of a window
    of_windows = [in_all[at : at + n_steps] for at in range(0, len(in_all), n_steps)]
    starts = range(0, n_samples, length)[: len(of_windows)]
    takers = dict[tuple[int, ...], Taker]()

    def taker_of(buffer: int, sizes: list[int], some: list[int], n_taken: int) -> Taker:
        """Return who takes steps of so many rows here, and in all, on a buffer."""
        key = buffer, sizes[0], sum(sizes), sum(some)
        if key not in takers:
            on_device = buffers[buffer] if _is_on_host(data) else data
            counts = ahead.counts[: len(some)]
            alone = ahead._replace(data=on_device, sizes=sizes, in_all=some)
            takers[key] = bind(alone._replace(counts=counts, n_taken=n_taken))
        return takers[key]

    def take_epoch(
        at_most: int,
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> Taken:
        draw = partial(rows_of_epoch, generator, shuffle=shuffle)
        n_blocks = len(windows.lengths)
        blocks, before = drawn(generator, partial(draw, n_blocks, n_blocks), point)
        first = steps_in(point) // n_steps  # window that is not behind the point
        taken, inside = _taken_before(point, n_taken := first * n_steps)
        ahead.models.t += n_taken
        parts = _parts_from(windows, blocks, first * length, ranks)
        reads = _reads_here(windows, blocks, starts[first:], ranks)
        with closing(_read_ahead(parts, rooms, reads)) as filled:
            for n, some in enumerate(of_windows[first:]):
                buffer, here = n % len(rooms), ranks.agreed(partial(next, filled))
                draw_rows = partial(draw, len(here), sum(some))
                rows, stream = drawn(generator, draw_rows, inside, level=1)
                sizes = some
                if data.shard is not None:
                    rows, sizes = _rows_here(rows, here, some, nothing=length)
                if not _is_on_host(data):
                    _copy_(data, buffers[buffer])
                taker = taker_of(buffer, sizes, some, n_taken)
                told = partial(_told_in_epoch, ahead, taken, (before, stream))
                own = keeping and keeping.in_terms_of(told)
                taken.append(taker.take([rows], going, inside, own))
                inside, n_taken = None, n_taken + len(some)
                if taken[-1].ended:
                    break
        losses = np.concatenate([of_window.losses for of_window in taken])
        return Taken(losses, taken[0].penalties, taken[-1].ended)

    return take_epoch


def _taken_before(
    point: Point | None, n_steps: int
) -> tuple[list[Taken], Point | None]:
    """Return what was told of whole windows before a point, and it in its window."""
    if point is None:
        return [], None
    taken = Taken(point.losses[:n_steps], point.penalties)
    is_at_border = steps_in(point) == n_steps
    inside = None if is_at_border else point._replace(losses=point.losses[n_steps:])
    return [taken] if n_steps else [], inside


def _told_in_epoch(
    ahead: Ahead,
    taken: Sequence[Taken],
    streams: tuple[np.random.Generator, np.random.Generator],
    point: Point,
) -> Point | None:
    """Return a point in a window as one in its epoch, None at its end."""
    losses = np.concatenate([*(window.losses for window in taken), point.losses])
    if len(losses) == ahead.epoch_steps:
        return None
    penalties = taken[0].penalties if taken else point.penalties
    return Point(losses, penalties, point.debts, streams)


def _parts_from(
    windows: Windows, blocks: Indices, start: int, ranks: Ranks
) -> Iterator[Part]:
    """Give the rows that this rank reads, of those from the start on.

    The ranks take the blocks by turns, in the order of the epoch.
    """
    ends = np.cumsum(windows.lengths[blocks])
    first = int(np.searchsorted(ends, start, "right"))
    own = first + (ranks.rank - first) % ranks.size
    n_before = start - int(ends[first] - windows.lengths[blocks[first]])
    for part in windows.read(blocks[own :: ranks.size]):
        n = min(n_before, len(part.x)) if own == first else 0
        n_before -= n
        weight = None if part.weight is None else part.weight[n:]
        yield Part(part.x[n:], part.y[:, n:], weight)


def _reads_here(
    windows: Windows, blocks: Indices, starts: Sequence[int], ranks: Ranks
) -> Iterator[Bools]:
    """Give which rows of each window, by where it starts, this rank reads."""
    ends = np.cumsum(windows.lengths[blocks])
    for start in starts:
        stop = min(start + windows.n_at_once, windows.n_samples)
        yield _are_read_here(ends, start, stop, ranks)


def _are_read_here(ends: Indices, start: int, stop: int, ranks: Ranks) -> Bools:
    """Return which rows from start to stop this rank reads, given where blocks end."""
    first, last = np.searchsorted(ends, [start, stop - 1], "right")
    blocks = np.arange(first, last + 1)
    n_rows = np.diff(np.minimum(ends[blocks], stop), prepend=start)
    return np.repeat(blocks % ranks.size == ranks.rank, n_rows)


def _rows_here(
    rows: Indices, here: Bools, sizes: list[int], nothing: int
) -> tuple[Indices, list[int]]:
    """Return the places of those rows of batches that this rank has read, and sizes.

    All batches are filled up to one size, by the place of ``nothing``: a row that does
    not count. Few sizes occur, for each has arrays of its own.
    """
    is_here = here[rows]
    steps = np.repeat(np.arange(len(sizes)), sizes)[is_here]
    n_here = np.bincount(steps, minlength=len(sizes))
    unit = -(-max(sizes) // _SIZES)
    size = min(-(-int(n_here.max()) // unit) * unit, max(sizes))
    places = np.full((len(sizes), size), nothing)
    nth = np.arange(len(steps)) - np.repeat(np.cumsum(n_here) - n_here, n_here)
    places[steps, nth] = (np.cumsum(here) - 1)[rows[is_here]]
    return places.ravel(), [size] * len(sizes)


def _is_on_host(data: Data) -> bool:
    return data.y.device == CPU


def _buffers(data: Data, n: int) -> list[Data]:
    """Return room for so many windows on the host; on a CPU, the data's own is one."""

    def on_host(array: Tensor) -> Tensor:
        return torch.zeros(array.shape, dtype=array.dtype)

    own, x, weight = [data] if _is_on_host(data) else [], data.x, data.weight
    assert isinstance(x, Tensor)
    return own + [
        data._replace(
            x=on_host(x),
            y=on_host(data.y),
            weight=None if weight is None else on_host(weight),
        )
        for _ in range(n - len(own))
    ]


def _room(buffer: Data) -> Part:
    """Return the arrays of a buffer on the host, to write in."""
    x, y, weight, *_ = buffer
    assert isinstance(x, Tensor)
    of_rows = None if weight is None else weight[0].numpy()
    return Part(x.numpy(), y.numpy(), of_rows)


def _copy_(data: Data, window: Data) -> None:
    """Write a window that was read on the host to where the steps are taken."""
    for there, here in zip(data[:3], window[:3], strict=True):
        if isinstance(there, Tensor) and isinstance(here, Tensor):
            there.copy_(here)


def _read_ahead(
    parts: Iterator[Part], rooms: Sequence[Part], reads: Iterator[Bools]
) -> Generator[Bools]:
    """Give of which rows of a window the next of the rooms, by turns, has been filled.

    A thread fills the next one meanwhile. It has ended when this has, in any way.
    """
    over = Event()
    filling = _filled(parts, rooms, reads, over)
    with ThreadPoolExecutor(1, "skgd-reads-blocks") as reader:
        try:
            coming = reader.submit(next, filling, None)
            while (here := coming.result()) is not None:
                coming = reader.submit(next, filling, None)
                yield here
        finally:
            over.set()


def _filled(
    parts: Iterator[Part], rooms: Sequence[Part], reads: Iterator[Bools], over: Event
) -> Iterator[Bools]:
    """Fill the rooms by turns with those rows of windows that are read, until over.

    A room is written again when the one after it has been filled, and more asked for.
    """
    start = n_of_part = 0
    for room, here in zip(cycle(rooms), reads, strict=False):
        at, n_rows = 0, int(here.sum())
        while at < n_rows and not over.is_set():
            if start == n_of_part:
                part = next(parts)
                start, n_of_part = 0, len(part.x)
            n = min(n_of_part - start, n_rows - at)
            _write_(room, at, part, start, n)
            start, at = start + n, at + n
        if over.is_set():
            return
        yield here
    if start == n_of_part:
        next(parts, None)  # which fails if the last block has become longer


def _write_(room: Part, at: int, part: Part, start: int, n: int) -> None:
    """Write n rows of a part, from one on, to a place in a room."""
    into, of_part = slice(at, at + n), slice(start, start + n)
    room.x[into] = part.x[of_part]
    room.y[:, into] = part.y[:, of_part]
    if room.weight is not None and part.weight is not None:
        room.weight[into] = part.weight[of_part]
