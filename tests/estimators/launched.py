"""What Spark and Ray start on two ranks: a fit of the rows of each."""

from pathlib import Path

import numpy as np
import torch.distributed as dist
from parallel_cases import arrays, numbers_of

from skgd import MiniBatchRegressor, data_parallel

CUT = 100  # where the rows of the second rank begin


def model():
    return MiniBatchRegressor(
        hidden_layer_sizes=(8,), batch_size=64, max_iter=3, tol=None, random_state=0
    )


def train(config):
    """Fit on the rows of this rank, and write the weights down."""
    begin = not dist.is_initialized()  # Ray has begun it
    if begin:
        dist.init_process_group("gloo")
    rank, of = dist.get_rank(), arrays()
    X, y = (np.split(array, [CUT])[rank] for array in (of.X, of.y))
    with data_parallel():
        weights = numbers_of(model().fit(X, y))["weights"]
    np.save(Path(config["folder"], f"rank{rank}.npy"), weights)
    if begin:
        dist.destroy_process_group()
