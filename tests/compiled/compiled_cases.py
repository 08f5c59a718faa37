"""What tests of the compiled loops share."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skgd._compiled.optimizers import COLUMNS, NEUTRAL


def places(*arrays):
    """Return where arrays lie, as functions of C are told by ctypes."""
    kinds = {4: ctypes.c_float, 8: ctypes.c_double}
    return [a.ctypes.data_as(ctypes.POINTER(kinds[a.itemsize])) for a in arrays]


def table_of(scalars, dtype):
    """Return the scalars of steps, each (steps, p) or (1, p), as (steps or 1, p, k)."""
    rows = list(scalars.values())
    n_steps, n_owners = max(map(len, rows)), max(row.shape[1] for row in rows)
    columns = np.empty((n_steps, n_owners, len(COLUMNS)), dtype)
    columns[:] = NEUTRAL
    for name, row in scalars.items():
        columns[:, :, COLUMNS.index(name)] = row
    return columns


def lets_others_run(take, rows, scalars):
    """Return whether another thread runs while steps of a row each are taken.

    This one has to see the loss of the first step, and then none of the last one yet,
    which it never does if the lock is held meanwhile. It may miss them if it is not,
    where other programs have the CPU, and so they are taken again.
    """
    untold = -1.0
    with ThreadPoolExecutor(1) as other_thread:
        for _ in range(50):
            losses = np.full((len(rows), 1), untold, scalars.dtype)
            arrays = rows, len(rows), scalars, losses, np.empty((0, 1, 2), losses.dtype)
            steps = other_thread.submit(take, *arrays)
            while not steps.done():
                if losses.item(0) != untold and losses.item(-1) == untold:
                    return True
            steps.result()
    return False
