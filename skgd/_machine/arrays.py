"""Kinds of NumPy arrays, by the names that all rooms have for them."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]  # numbers of the host
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]  # of rows, in the order in which they are seen
