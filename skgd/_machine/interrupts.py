"""Ctrl-C, put off until all is stored."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

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
