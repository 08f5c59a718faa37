"""Time a fit against scikit-learn's MLPClassifier(solver="sgd"), in one run.

    python benchmarks/fit_against_mlp.py [--repeats 7]

Both train the same network on the same float32 data with the same batch size, learning
rate and number of epochs, without momentum or early stopping. Fits alternate, and the
medians of their times are compared. Nothing is warmed up but by a first fit of each.
"""

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from skgd import MiniBatchClassifier


class Work(NamedTuple):
    """A network, the data it is trained on, and for how long."""

    n_samples: int
    n_features: int
    hidden: tuple[int, ...]
    n_classes: int
    batch_size: int
    epochs: int

    def __str__(self) -> str:
        sizes = (self.n_features, *self.hidden, self.n_classes)
        layers = " -> ".join(str(size) for size in sizes)
        return f"{self.n_samples:,} x {layers}, batch {self.batch_size}"


WORKS = [
    Work(100, 4, (10,), 3, 32, epochs=300),
    Work(20_640, 8, (64, 64), 3, 64, epochs=5),
    Work(100_000, 54, (100,), 7, 256, epochs=2),
    Work(20_000, 784, (256, 128), 10, 128, epochs=2),
]


def data_of(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal features and classes that a linear rule sets."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((work.n_samples, work.n_features), dtype=np.float32)
    rule = rng.standard_normal((work.n_features, work.n_classes), dtype=np.float32)
    return X, (X @ rule).argmax(axis=1)


def fits_of(work: Work) -> dict[str, Callable[[np.ndarray, np.ndarray], object]]:
    """Return the competing fits."""
    ours = MiniBatchClassifier(
        hidden_layer_sizes=work.hidden,
        optimizer="sgd",
        batch_size=work.batch_size,
        max_iter=work.epochs,
        tol=None,
        random_state=0,
    )
    mlp = MLPClassifier(
        hidden_layer_sizes=work.hidden,
        solver="sgd",
        momentum=0.0,
        nesterovs_momentum=False,
        learning_rate_init=0.01,
        batch_size=work.batch_size,
        max_iter=work.epochs,
        n_iter_no_change=work.epochs + 1,
        random_state=0,
    )
    return {"skgd": ours.fit, "MLPClassifier": mlp.fit}


def seconds(fit: Callable[..., object], X: np.ndarray, y: np.ndarray) -> float:
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
        f"medians of {repeats} fits (and their range), float32\n"
    )
    print("| work | skgd, us a step | MLPClassifier, us a step | ratio |")
    print("|---|---|---|---|")
    for work in WORKS:
        X, y = data_of(work)
        fits = fits_of(work)
        steps = work.epochs * -(-work.n_samples // work.batch_size)
        times: dict[str, list[float]] = {name: [] for name in fits}
        for fit in fits.values():
            fit(X, y)
        for _ in range(repeats):
            for name, fit in fits.items():
                times[name].append(seconds(fit, X, y) / steps * 1e6)
        cells = [
            f"{median(t):,.0f} ({min(t):,.0f}-{max(t):,.0f})" for t in times.values()
        ]
        ratio = median(times["MLPClassifier"]) / median(times["skgd"])
        print(f"| {work} | {' | '.join(cells)} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
