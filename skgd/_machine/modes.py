"""The modes of NumPy and torch that hold while we compute, and while others do."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# What NumPy does about floating-point errors unless told otherwise, as a decorator of
# all that a user calls: where a caller has it raise, even beta ** t would.
numpy_as_usual = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")


@contextmanager
def modes_of_others() -> Iterator[None]:
    """Let what is not ours, such as a callback, compute as it does elsewhere."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
