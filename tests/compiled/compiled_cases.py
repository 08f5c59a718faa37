"""What tests of the compiled loops share."""

import ctypes

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
