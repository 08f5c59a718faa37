"""Time a fit against scikit-learn's MLPClassifier and SGDRegressor, in one run.

    python benchmarks/fit_against_scikit_learn.py [--repeats 7]

A network trains as MLPClassifier(solver="sgd") does, with the same batch size. A linear
model trains as SGDRegressor does, which knows no batches and takes a step at every row.
Both see the same float32 data, learning rate and number of epochs, without momentum or
early stopping. Fits alternate, after one of each that does not count; medians of the
time of an epoch are compared.
"""

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor
from sklearn.neural_network import MLPClassifier

from skgd import MiniBatchClassifier, MiniBatchRegressor


class Work(NamedTuple):
    """A model, the data it is trained on, and for how long."""

    n_samples: int
    n_features: int
    hidden: tuple[int, ...]
    n_outputs: int
    batch_size: int
    epochs: int

    def __str__(self) -> str:
        sizes = (self.n_features, *self.hidden, self.n_outputs)
        layers = " -> ".join(str(size) for size in sizes)
        return f"{self.n_samples:,} x {layers}, batch {self.batch_size:,}"


WORKS = [
    Work(100, 4, (10,), 3, 32, epochs=300),
    Work(20_640, 8, (64, 64), 3, 64, epochs=5),
    Work(100_000, 54, (100,), 7, 256, epochs=2),
    Work(20_000, 784, (256, 128), 10, 128, epochs=2),
    Work(20_640, 8, (), 1, 1, epochs=2),
    Work(20_640, 8, (), 1, 80, epochs=20),
    Work(20_640, 8, (), 1, 1024, epochs=20),
]


def data_of(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal features, and what a linear rule makes of them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((work.n_samples, work.n_features), dtype=np.float32)
    scores = X @ rng.standard_normal(
        (work.n_features, work.n_outputs), dtype=np.float32
    )
    return X, scores.argmax(axis=1) if work.hidden else scores[:, 0]


def fits_of(work: Work) -> dict[str, Callable[..., Any]]:
    """Return the competing fits."""
    ours = MiniBatchClassifier if work.hidden else MiniBatchRegressor
    fits = {
        "skgd": ours(
            hidden_layer_sizes=work.hidden,
            optimizer="sgd",
            lr=0.01,
            batch_size=work.batch_size,
            max_iter=work.epochs,
            tol=None,
            random_state=0,
            device="cpu",
        ).fit
    }
    if work.hidden:
        fits["MLPClassifier"] = MLPClassifier(
            hidden_layer_sizes=work.hidden,
            solver="sgd",
            momentum=0.0,
            nesterovs_momentum=False,
            learning_rate_init=0.01,
            batch_size=work.batch_size,
            max_iter=work.epochs,
            n_iter_no_change=work.epochs + 1,
            random_state=0,
        ).fit
    else:
        fits["SGDRegressor"] = SGDRegressor(
            learning_rate="constant",
            eta0=0.01,
            max_iter=work.epochs,
            tol=None,
            random_state=0,
        ).fit
    return fits


def seconds(fit: Callable[..., Any], X: np.ndarray, y: np.ndarray) -> float:
    """Return the time of a fit."""
    start = time.perf_counter()
    fit(X, y)
    return time.perf_counter() - start


def main() -> None:
    """Print a Markdown table of the works."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="fits of each (7)")
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are set

    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} "
        f"threads; torch {torch.__version__}, scikit-learn {sklearn.__version__}; "
        f"ms an epoch, medians of {repeats} fits (and their range), float32\n"
    )
    print("| work | skgd | scikit-learn | | ratio | skgd, us a step |")
    print("|---|---|---|---|---|---|")
    for work in WORKS:
        X, y = data_of(work)
        fits = fits_of(work)
        times: dict[str, list[float]] = {name: [] for name in fits}
        for fit in fits.values():
            fit(X, y)
        for _ in range(repeats):
            for name, fit in fits.items():
                times[name].append(seconds(fit, X, y) / work.epochs * 1e3)
        ours, theirs = (
            f"{median(t):,.2f} ({min(t):,.2f}-{max(t):,.2f})" for t in times.values()
        )
        peer = list(fits)[1]
        ratio = median(times[peer]) / median(times["skgd"])
        a_step = median(times["skgd"]) * 1e3 / -(-work.n_samples // work.batch_size)
        cells = f"{ours} | {theirs} | {peer} | {ratio:.2g} | {a_step:,.0f}"
        print(f"| {work} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
