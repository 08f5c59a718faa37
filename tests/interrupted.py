"""Ctrl-C at any moment of a computation, for tests of what it leaves behind."""

import os
import signal
import sys
from contextlib import contextmanager
from itertools import count

import numpy as np

import skgd

PACKAGE = os.path.dirname(skgd.__file__)


@contextmanager
def interrupted_at(*moments):
    """Press Ctrl-C at the given moments of the block.

    Moments are counted in calls, by lines of the package, of whatever function. The
    list that is given will hold how many there were.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    calls, total = count(), []

    def profile(frame, event, arg):
        called = event in ("call", "c_call")
        ours = frame.f_code.co_filename.startswith(PACKAGE)
        if called and ours and next(calls) in moments:
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(profile)
    try:
        yield total
    finally:
        sys.setprofile(None)
        total.append(next(calls))
        handler = signal.signal(signal.SIGINT, before)
        assert handler is signal.default_int_handler


def some_moments(total, n_moments):
    """Return moments drawn at random from all of them, the same at each run."""
    rng = np.random.default_rng(0)
    return rng.choice(total, n_moments, replace=False).tolist()
