"""Learn from a stream of two million rows, a chunk at a time.

The network predicts every chunk before it learns from it, so each prediction is about
rows it has not seen (prequential accuracy). The scaler learns along the way. One label
in twenty is flipped at random, so 95% is the best that any model can do.

    python examples/streaming.py --output out
"""

import argparse
import resource
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier

CHUNK_ROWS, N_FEATURES = 20_000, 20
FLIPPED = 0.05


def stream(n_rows):
    """Yield chunks of rows, on scales of their own, and labels with a curved border."""
    rng = np.random.default_rng(0)
    location = rng.uniform(-10, 10, N_FEATURES)
    scale = 10.0 ** rng.uniform(-2, 2, N_FEATURES)
    slope = rng.standard_normal(N_FEATURES)
    for start in range(0, n_rows, CHUNK_ROWS):
        z = rng.standard_normal((min(CHUNK_ROWS, n_rows - start), N_FEATURES))
        above = z @ slope + 3 * z[:, 0] * z[:, 1] > 0
        flipped = rng.random(len(z)) < FLIPPED
        yield location + scale * z, above ^ flipped


def learn(chunks):
    """Yield the rows learned from, and the accuracy on the next chunk, till the end."""
    scaler = StandardScaler()
    classifier = MiniBatchClassifier(
        hidden_layer_sizes=(32,), lr=0.001, batch_size=128, random_state=0
    )
    n_rows = 0
    for X, y in chunks:
        if n_rows:
            yield n_rows, classifier.score(scaler.transform(X), y)
        X_scaled = scaler.partial_fit(X).transform(X)
        classifier.partial_fit(X_scaled, y, classes=[False, True])
        n_rows += len(X)


def print_progress(progress):
    """Print the accuracy after so many rows."""
    print(f"{'rows seen':>11}{'accuracy on the next chunk':>30}")
    for n_rows, accuracy in progress:
        print(f"{n_rows:11,}{accuracy:30.3f}")


def peak_memory():
    """Return the most memory that this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def draw(progress):
    """Return the picture: accuracy against the rows seen."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(*zip(*progress, strict=True), ".-", label="on the next chunk")
    axes.axhline(1 - FLIPPED, color="0.5", linestyle="--", label="best possible")
    axes.set(
        title=f"A stream in chunks of {CHUNK_ROWS:,} rows",
        xlabel="rows learned from",
        ylabel="accuracy",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(argv=None):
    """Follow the stream, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--rows", type=int, default=2_000_000)
    args = parser.parse_args(argv)

    before = peak_memory()
    progress = list(learn(stream(args.rows)))
    after = peak_memory()
    print_progress(progress[::10])
    whole = args.rows * N_FEATURES * 8 / 1e6
    print(f"\nPeak memory: {before:.0f} MB at the start, {after:.0f} MB at the end.")
    print(f"The whole stream would take another {whole:.0f} MB.")

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "streaming.png"
    draw(progress).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
