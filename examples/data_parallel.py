"""Train one network on files that several processes share out among them.

Every process reads its own files, here made up by their numbers, and all of them end
with the same model. Started by torchrun, there are as many processes as it is told:

    torchrun --nproc-per-node 2 examples/data_parallel.py --output out

and without it there is one, by the same lines:

    python examples/data_parallel.py --output out
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch.distributed as dist
from matplotlib.figure import Figure

from skgd import MiniBatchClassifier, data_parallel

N_FILES, N_FEATURES = 16, 20
FLIPPED = 0.05


def read(number, n_rows):
    """Return the rows of a file, and labels with a curved border."""
    X = np.random.default_rng([0, number]).standard_normal((n_rows, N_FEATURES))
    slope = np.random.default_rng(0).standard_normal(N_FEATURES)
    above = X @ slope + 3 * X[:, 0] * X[:, 1] > 0
    flipped = np.random.default_rng([1, number]).random(n_rows) < FLIPPED
    return X, np.where(above ^ flipped, "above", "below")


def read_all(numbers, n_rows):
    """Return the rows of some files."""
    X, y = zip(*(read(number, n_rows) for number in numbers), strict=True)
    return np.concatenate(X), np.concatenate(y)


def join():
    """Join the processes of torchrun; or be alone."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def train(rows_of_file, batch_size, n_epochs):
    """Return the model of all ranks, and how many rows this one has read."""
    rank, size = dist.get_rank(), dist.get_world_size()
    X, y = read_all(range(rank, N_FILES, size), rows_of_file)
    X_val, y_val = read(N_FILES + rank, 4_000 // size)
    model = MiniBatchClassifier(
        hidden_layer_sizes=(256,),
        batch_size=batch_size,
        max_iter=n_epochs,
        tol=None,
        early_stopping=True,
        random_state=0,
    )
    with data_parallel(timeout=120):
        model.fit(X, y, X_val=X_val, y_val=y_val)
    return model, len(X)


def weights_of_all(model):
    """Return the sum of the first weights on every rank."""
    sums = [None] * dist.get_world_size()
    dist.all_gather_object(sums, float(model.coefs_[0].sum()))
    return sums


def draw(model, n_rows, size):
    """Return the picture: accuracy on all held-out rows, epoch by epoch."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(model.validation_scores_) + 1)
    axes.plot(epochs, model.validation_scores_, ".-", label="on held-out rows")
    axes.axhline(1 - FLIPPED, color="0.5", linestyle="--", label="best possible")
    axes.set(
        title=f"{n_rows:,} rows in {size} process(es)",
        xlabel="epoch",
        ylabel="accuracy",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(argv=None):
    """Train on this rank's files, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--batch-size", type=int, default=8192, metavar="ROWS")
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args(argv)

    join()
    began = time.monotonic()
    model, n_rows = train(args.rows // N_FILES, args.batch_size, args.epochs)
    seconds = time.monotonic() - began
    rank, size, sums = dist.get_rank(), dist.get_world_size(), weights_of_all(model)
    print(
        f"Rank {rank} of {size} has trained on {n_rows:,} rows of its own.", flush=True
    )
    dist.destroy_process_group()
    if rank > 0:
        return
    X, y = read(2 * N_FILES, 10_000)
    print(f"Accuracy on {len(X):,} other rows: {model.score(X, y):.3f}")
    print(f"Sums of weights, rank by rank: {', '.join(map(repr, sums))}")
    print(f"{model.t_:,} steps in {model.n_iter_} epochs, {seconds:.1f} s.")

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "data_parallel.png"
    draw(model, args.rows, size).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
