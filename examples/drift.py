"""Watch a stream whose labels change their meaning, and which gets a class more.

A shop sorts its mail by what customers want. After 150 chunks the words of two kinds
change places, as when a form is rebuilt; after 300 a third kind turns up, which nobody
has foreseen. Each chunk is judged before it is learned from: the score falls at once,
comes back as the model learns anew, and the running score follows it slowly.

    python examples/drift.py --output out
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from skgd import LossCurveDisplay, MiniBatchClassifier

CHUNK_ROWS, N_FEATURES = 100, 20
CHANGE, NEW_CLASS, N_CHUNKS = 150, 300, 450


def stream():
    """Yield chunks of rows and their labels."""
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((N_FEATURES, 3))
    slopes[:, :2] = slopes[:, :1] * [
        -0.5,
        0.5,
    ]  # told apart by one direction
    for chunk in range(N_CHUNKS):
        X = rng.standard_normal((CHUNK_ROWS, N_FEATURES))
        scores = X @ slopes + rng.gumbel(scale=0.5, size=(CHUNK_ROWS, 3))
        if chunk >= CHANGE:
            scores = scores[:, [1, 0, 2]]
        n_kinds = 3 if chunk >= NEW_CLASS else 2
        yield X, np.array(["order", "return", "offer"])[scores[:, :n_kinds].argmax(1)]


def learn(chunks):
    """Return the model after all chunks, and its running score after each."""
    model = MiniBatchClassifier(lr=0.01, scoring="accuracy", random_state=0)
    running = []
    for n, (X, y) in enumerate(chunks):
        if n == 0:
            model.partial_fit(X, y, classes=["order", "return"])
        elif n == NEW_CLASS:
            model.partial_fit(X, y, classes=["offer", "order", "return"])
        else:
            model.partial_fit(X, y)
        running.append(getattr(model, "running_score_", np.nan))
    return model, running


def print_scores(scores, running):
    """Print the mean score of some chunks in a row, beside the running one."""
    print(f"{'chunks':>11}{'accuracy':>11}{'running':>9}")
    for first, last in [
        (CHANGE - 10, CHANGE),
        (CHANGE, CHANGE + 10),
        (NEW_CLASS - 10, NEW_CLASS),
        (NEW_CLASS, NEW_CLASS + 10),
        (N_CHUNKS - 10, N_CHUNKS),
    ]:
        mean = np.nanmean(scores[first:last])
        print(f"{first:5}-{last - 1:<5}{mean:11.2f}{running[last - 1]:9.2f}")


def draw(model, running):
    """Return the picture: losses above, scores below, with the two changes."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    display = LossCurveDisplay.from_estimator(model, ax=above, linewidth=1)
    display.validation_lines_[0].set_color("C1")  # it lies on the other one
    above.legend(fontsize="small")
    calls = np.arange(1, len(running) + 1)
    below.plot(calls, model.validation_scores_, linewidth=1, label="of each chunk")
    below.plot(calls, running, "C3", label="running")
    below.set(xlabel="chunks", ylabel="accuracy before learning")
    below.grid(alpha=0.3)
    for axes in (above, below):
        axes.axvline(CHANGE + 1, color="0.5", linestyle=":")
        axes.axvline(NEW_CLASS + 1, color="0.5", linestyle=":")
    above.set(title="Two kinds change places; a third one turns up", xlabel="")
    below.legend(loc="lower right", fontsize="small")
    return figure


def main(argv=None):
    """Follow the stream, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    args = parser.parse_args(argv)

    model, running = learn(stream())
    print_scores(model.validation_scores_, running)

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "drift.png"
    draw(model, running).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
