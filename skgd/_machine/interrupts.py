"""Ctrl-C and SIGTERM, put off until all is stored."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Self

# Why training was ended from outside, where it was by Ctrl-C.
INTERRUPTED = "interrupted"


@contextmanager
def interruptible() -> Iterator[Callable[[], str]]:
    """Put off Ctrl-C: give the function that says whether it was pressed in the block.

    Who asked for the block raises KeyboardInterrupt as soon as all is stored, so that
    what calls it ends as well. Where the block ends with an error, KeyboardInterrupt
    takes its place. Pressed once more, Ctrl-C interrupts as ever. So it does where it
    is not Python's own to handle: outside the main thread, or where someone else has
    taken it over.
    """
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            signal.signal(signal.SIGINT, before)  # the block may be about to end
            raise KeyboardInterrupt
        pressed = True

    before = signal.default_int_handler
    if (
        current_thread() is not main_thread()
        or signal.getsignal(signal.SIGINT) is not before
    ):
        yield lambda: ""
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: INTERRUPTED if pressed else ""
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


class Terminations:
    """Puts off SIGTERM in a block until it may take its course, at its end at last.

    Sent once more, it takes its course at once. So it does where it is not to be put
    off: outside the main thread, or where the process ignores it.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None  # who is sent it otherwise; None if nothing is put off

    def __enter__(self) -> Self:
        before = signal.getsignal(signal.SIGTERM)
        if current_thread() is main_thread() and before is not signal.SIG_IGN:
            self._before = before
            self._put_off()
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            if self.came:
                signal.raise_signal(signal.SIGTERM)

    def let_through(self) -> None:
        """Let one that came take its course; if the process goes on, put off others."""
        if self.came:
            self.came = False
            signal.signal(signal.SIGTERM, self._before)
            signal.raise_signal(signal.SIGTERM)
            self._put_off()

    def _put_off(self) -> None:
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            self.let_through()
        self.came = True
