"""An epoch of rows that do not lie in memory, window by window.

The blocks come in an order that is drawn over all of them. Their rows, one after the
other, are cut into windows of one length, which is a multiple of the batch size, so
that no batch crosses a border and only the last one of the epoch may be short. Within a
window the rows are drawn in any order. While steps are taken on one window, a thread
reads the next one: into two buffers by turns, to which the steps are bound once.

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

from skgd._machine.devices import CPU
from skgd._machine.generators import copied
from skgd._training.batches import Data, Part, rows_of_epoch
from skgd._training.progress import Keeping, Place, drawing_again, steps_in
from skgd._training.takers import Ahead, TakeEpochs, Taken, Taker


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
    """Return what takes the steps of an epoch, by a taker for each buffer."""
    data, models, shared, sizes = ahead.data, ahead.models, ahead.shared, ahead.sizes
    windows, length = data.windows, data.y.shape[1]
    assert windows is not None
    [generator] = models.generators
    buffers = _buffers(data, n=1 if windows.n_samples <= length else 2)
    rooms = [_room(buffer) for buffer in buffers]
    shuffle = shared.shuffle and sizes != [windows.n_samples]
    n_steps = -(-length // sizes[0])  # of a window
    of_windows = [sizes[at : at + n_steps] for at in range(0, len(sizes), n_steps)]

    def bind_on(buffer: int, of_window: list[int]) -> Taker:
        on_device = buffers[buffer] if _is_on_host(data) else data
        counts = ahead.counts[: len(of_window)]
        alone = ahead._replace(data=on_device, sizes=of_window, in_all=of_window)
        return bind(alone._replace(counts=counts))

    # Now, for schedules are laid out from where the models are: at an epoch's start.
    in_turn = list(zip(cycle(range(len(buffers))), of_windows, strict=False))
    kinds = {(buffer, sum(some)): (buffer, some) for buffer, some in in_turn}
    takers = {kind: bind_on(*kinds[kind]) for kind in kinds}

    def take_epoch(
        at_most: int,
        going: Sequence[int],
        place: Place | None = None,
        keeping: Keeping | None = None,
    ) -> Taken:
        blocks = np.arange(windows.n_blocks)
        before = copied(generator) if place is None else place.streams[0]
        with drawing_again(generator, None if place is None else before):
            if shuffle:
                blocks = generator.permutation(windows.n_blocks)
        taken: list[Taken] = []
        with closing(_read_ahead(windows.read(blocks), rooms)) as filled:
            for n, (buffer, some) in enumerate(in_turn):
                n_rows = next(filled)
                if place is not None and steps_in(place) >= n * n_steps + len(some):
                    taken.append(_taken_before(place, n * n_steps, len(some)))
                    models.t += len(some)
                    continue
                inside = _place_within(place, n * n_steps)
                stream = copied(generator) if inside is None else inside.streams[1]
                with drawing_again(generator, None if inside is None else stream):
                    rows = rows_of_epoch(generator, n_rows, sum(some), shuffle=shuffle)
                if not _is_on_host(data):
                    _copy_(data, buffers[buffer])
                told = partial(_told_in_epoch, ahead, taken, (before, stream))
                taker = takers[buffer, sum(some)]
                own = keeping and keeping.in_terms_of(told)
                taken.append(taker.take([rows], going, inside, own))
                if taken[-1].ended:
                    break
        losses = np.concatenate([of_window.losses for of_window in taken])
        return Taken(losses, taken[0].penalties, taken[-1].ended)

    return take_epoch


def _taken_before(place: Place, start: int, n_steps: int) -> Taken:
    """Return what was told of a window whose steps were all taken."""
    return Taken(place.losses[start : start + n_steps], place.penalties)


def _place_within(place: Place | None, start: int) -> Place | None:
    """Return a place in an epoch as one in its window, if that has begun."""
    if place is None or steps_in(place) <= start:
        return None
    return place._replace(losses=place.losses[start:])


def _told_in_epoch(
    ahead: Ahead,
    taken: Sequence[Taken],
    streams: tuple[np.random.Generator, np.random.Generator],
    place: Place,
) -> Place | None:
    """Return a place in a window as one in its epoch, None at its end."""
    losses = np.concatenate([*(window.losses for window in taken), place.losses])
    if len(losses) == ahead.epoch_steps:
        return None
    penalties = taken[0].penalties if taken else place.penalties
    return Place(losses, penalties, place.debts, streams)


def _is_on_host(data: Data) -> bool:
    return data.y.device == CPU


def _buffers(data: Data, n: int) -> list[Data]:
    """Return room for so many windows on the host; on a CPU, the data's own is one."""

    def on_host(array: Tensor) -> Tensor:
        return torch.empty(array.shape, dtype=array.dtype)

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


def _read_ahead(parts: Iterator[Part], rooms: Sequence[Part]) -> Generator[int]:
    """Give with how many rows the next of the rooms, by turns, has been filled.

    A thread fills the next one meanwhile. It has ended when this has, in any way.
    """
    over = Event()
    filling = _filled(parts, rooms, over)
    with ThreadPoolExecutor(1, "skgd-reads-blocks") as reader:
        try:
            coming = reader.submit(next, filling, None)
            while (n_rows := coming.result()) is not None:
                coming = reader.submit(next, filling, None)
                yield n_rows
        finally:
            over.set()


def _filled(parts: Iterator[Part], rooms: Sequence[Part], over: Event) -> Iterator[int]:
    """Fill the rooms by turns, and give with how many rows, until it is over.

    A room is written again when the one after it has been filled, and more asked for.
    """
    turns, at = cycle(rooms), 0
    room = next(turns)
    for part in parts:
        start = 0
        while start < len(part.x) and not over.is_set():
            n = min(len(part.x) - start, len(room.x) - at)
            _write_(room, at, part, start, n)
            start, at = start + n, at + n
            if at == len(room.x):
                yield at
                room, at = next(turns), 0
        if over.is_set():
            return
    if at:
        yield at


def _write_(room: Part, at: int, part: Part, start: int, n: int) -> None:
    """Write n rows of a part, from one on, to a place in a room."""
    into, of_part = slice(at, at + n), slice(start, start + n)
    room.x[into] = part.x[of_part]
    room.y[:, into] = part.y[:, of_part]
    if room.weight is not None and part.weight is not None:
        room.weight[into] = part.weight[of_part]
