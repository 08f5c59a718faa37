"""The gradient of the logistic loss over a batch: row by row, and as one Einstein sum.

The same float32 gradient in two ways, timed at 1,000 x 100 and at 100,000 x 10,000 (or
as many rows as half of the free memory holds). One step of skgd is then shown to follow
exactly this gradient, and its sigmoid to stay finite where the textbook's overflows.

    python examples/logistic_gradient.py --output out
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import einsum

from skgd import MiniBatchClassifier

SMALL = (1_000, 100)


def gradient_by_rows(X, y, w):
    """Return the mean gradient, adding up that of one row after the other."""
    dw = np.zeros_like(w)
    for x, target in zip(X, y, strict=True):
        dz = 1 / (1 + math.exp(-(x @ w))) - target
        dw += dz * x
    return dw / len(X)


def gradient_by_einsum(X, y, w):
    """Return the mean gradient, all rows at once."""
    X, y, w = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(w)
    z = einsum("bi,i->b", X, w)
    dz = (torch.sigmoid(z) - y) / len(X)
    return einsum("b,bi->i", dz, X).numpy()


def batch_of(n_rows, n_columns):
    """Return random rows, their labels 0 and 1, and random weights, all float32."""
    rng = np.random.default_rng(0)
    X = rng.random((n_rows, n_columns), dtype=np.float32)
    X -= 0.5
    y = rng.integers(2, size=n_rows).astype(np.float32)
    w = rng.standard_normal(n_columns, dtype=np.float32) / math.sqrt(n_columns)
    return X, y, w


def rows_that_fit(n_rows, n_columns):
    """Return how many of the rows half of the free memory holds, and say if not all."""
    fitting = min(n_rows, free_memory() // 2 // (4 * n_columns))
    if fitting < n_rows:
        print(f"Memory holds {fitting:,} of the {n_rows:,} rows: using these.\n")
    return fitting


def free_memory():
    """Return the free memory in bytes; 4 GB where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 4 * 10**9
    kilobytes = dict(line.split(":") for line in lines)["MemAvailable"]
    return int(kilobytes.split()[0]) * 1024


def time_both(n_rows, n_columns):
    """Return the seconds of both ways, and print a row that compares them."""
    X, y, w = batch_of(n_rows, n_columns)
    loop_seconds, by_rows = best_of_three(gradient_by_rows, X, y, w)
    einsum_seconds, by_einsum = best_of_three(gradient_by_einsum, X, y, w)
    difference = np.abs(by_rows - by_einsum).max() / np.abs(by_einsum).max()
    assert difference < 1e-4, "the two gradients are not equal"
    print(
        f"{n_rows:8,}{n_columns:9,}{X.nbytes / 1e6:9,.1f}"
        f"{1e3 * loop_seconds:12.2f}{1e3 * einsum_seconds:10.2f}"
        f"{loop_seconds / einsum_seconds:8.1f}{difference:21.0e}"
    )
    return loop_seconds, einsum_seconds


def best_of_three(function, *args):
    """Return the shortest of three times in seconds, and the result."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = function(*args)
        times.append(time.perf_counter() - start)
    return min(times), result


def one_step(X, y, w):
    """Return a classifier that went one step from w, over the whole batch."""
    classifier = MiniBatchClassifier(
        optimizer="sgd",
        lr=0.5,
        alpha=0.0,
        fit_intercept=False,
        batch_size=None,
        max_iter=1,
        tol=None,
    )
    return classifier.fit(X, y, coef_init=[w])


def print_step(classifier, X, y, w):
    """Print how far the step from w is from -lr times the gradient."""
    step = classifier.coef_[0] - w
    difference = np.abs(step + classifier.lr * gradient_by_einsum(X, y, w)).max()
    print(f"\nA step of skgd is -lr * gradient: they differ by {difference:.0e}")


def print_sigmoids(classifier):
    """Print sigmoid and loss at huge scores, by the textbook's formulas and skgd's."""
    (w,) = classifier.coef_
    z = np.array([-1e4, -100, 0, 100, 1e4], dtype=np.float32)
    rows = np.einsum("b,i->bi", z, w / (w @ w))  # whose scores are z
    with np.errstate(over="ignore", divide="ignore"):
        textbook = 1 / (1 + np.exp(-z))
        textbook_loss = -np.log(textbook)
    sigmoid = classifier.predict_proba(rows)[:, 1]
    loss = -classifier.predict_log_proba(rows)[:, 1]

    print(f"\n{'':8}{'sigmoid(z)':>22}{'loss where y = 1':>22}")
    print(f"{'z':>8}" + 2 * f"{'textbook':>11}{'skgd':>11}")
    columns = zip(textbook, sigmoid, textbook_loss, loss, strict=True)
    for score, numbers in zip(z, columns, strict=True):
        print(f"{score:8,.0f}" + "".join(f"{number:z11.4g}" for number in numbers))


def draw(times):
    """Return the picture: the times of both ways as bars, for each size."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(times))
    loop_seconds, einsum_seconds = zip(*times.values(), strict=True)
    loop = axes.bar(places - 0.2, loop_seconds, width=0.4, label="row by row")
    whole = axes.bar(places + 0.2, einsum_seconds, width=0.4, label="einsum")
    for bars in (loop, whole):
        axes.bar_label(bars, fmt=lambda seconds: f"{1e3 * seconds:.3g} ms")
    axes.set_xticks(places, [f"{rows:,} x {columns:,}" for rows, columns in times])
    axes.set(title="Gradient of the logistic loss", yscale="log", ylabel="seconds")
    axes.margins(y=0.1)
    axes.legend()
    return figure


def main(argv=None):
    """Time both ways, tie them to skgd, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--rows", type=int, default=100_000, help="of the large batch")
    parser.add_argument("--columns", type=int, default=10_000, help="likewise")
    args = parser.parse_args(argv)

    large = (rows_that_fit(args.rows, args.columns), args.columns)
    print(f"Milliseconds, best of three; einsum on {torch.get_num_threads()} threads")
    print(
        "    rows  columns       MB  row by row    einsum   ratio  relative difference"
    )
    times = {size: time_both(*size) for size in (SMALL, large)}

    X, y, w = batch_of(*SMALL)
    classifier = one_step(X, y, w)
    print_step(classifier, X, y, w)
    print_sigmoids(classifier)

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "logistic_gradient.png"
    draw(times).savefig(picture, dpi=150)
    print(f"\nPicture: {picture}")


if __name__ == "__main__":
    main()
