"""Follow a single weight down its loss: whole-batch, mini-batch, stochastic descent.

The line y = 2x - 1 through six points, with the intercept held at -1 and the weight
started at 8: small enough to check by hand. skgd minimises half the mean square, so its
losses are half of those of an article that minimises the mean square. Last, training
stops by itself when the loss is zero.

    python examples/descent_path.py --output out
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from skgd import MiniBatchRegressor

INTERCEPT, START = -1.0, 8.0
X = np.arange(-1.0, 5.0)[:, np.newaxis]
y = 2 * X[:, 0] - 1

PLAIN = {"optimizer": "sgd", "lr": 0.02, "alpha": 0.0, "fit_intercept": False}
BATCH_SIZES = {"whole-batch (6)": None, "mini-batch (2)": 2, "stochastic (1)": 1}


def descend(batch_size, epochs):
    """Return a regressor and its weight, at the start and after every epoch."""
    regressor = MiniBatchRegressor(
        **PLAIN,
        batch_size=batch_size,
        max_iter=1,
        tol=None,
        warm_start=True,
        random_state=0,
        dtype="float32",
    )
    weights = [START]
    for _ in range(epochs):
        regressor.fit(X, y - INTERCEPT, coef_init=[weights[-1]])
        weights.append(regressor.coef_[0])
    return regressor, weights


def descend_to_the_end():
    """Return a regressor trained until its loss does not fall any more."""
    regressor = MiniBatchRegressor(
        **PLAIN, batch_size=None, max_iter=10_000, tol=1e-20, n_iter_no_change=1
    )
    return regressor.fit(X, y - INTERCEPT, coef_init=[START])


def print_path(regressor, weights):
    """Print the first steps of whole-batch descent, each with the loss before it."""
    print("Whole-batch descent")
    print(f"{'steps':>5}{'weight':>12}{'loss':>13}{'mean square':>15}")
    for step, loss in enumerate(regressor.loss_curve_[:4]):
        print(f"{step:5}{weights[step]:12.7f}{loss:13.6f}{2 * loss:15.6f}")


def print_weights(paths):
    """Print the weights of the three ways to descend, every ten epochs."""
    epochs = len(paths["whole-batch (6)"]) - 1
    print("\nWeight after so many epochs")
    print("epochs" + "".join(f"{name:>18}" for name in paths))
    for epoch in range(0, epochs + 1, 10):
        row = "".join(f"{weights[epoch]:18.7f}" for weights in paths.values())
        print(f"{epoch:6}{row}")


def draw(paths):
    """Return the picture: the loss against the weight, with each path on it."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    all_axes = figure.subplots(1, len(paths), sharey=True)
    for axes, (name, weights) in zip(all_axes, paths.items(), strict=True):
        draw_path(axes, np.array(weights))
        axes.set(title=name, xlabel="weight")
    all_axes[0].set_ylabel("loss")
    all_axes[0].legend()
    return figure


def draw_path(axes, weights):
    """Draw the loss as a parabola and the weights as points on it."""
    grid = np.linspace(-4.5, 8.5, 200)
    axes.plot(grid, loss_of(grid), color="0.7", label="loss of a weight")
    axes.plot(weights, loss_of(weights), ".-", ms=9, label="weight after every epoch")
    axes.grid(alpha=0.3)


def loss_of(weights):
    """Return half the mean square of the residuals, one number for each weight."""
    residuals = np.einsum("ni,w->wn", X, weights) + INTERCEPT - y
    return np.mean(residuals**2, axis=1) / 2


def main(argv=None):
    """Descend in three ways, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=50)
    args = parser.parse_args(argv)

    descents = {name: descend(size, args.epochs) for name, size in BATCH_SIZES.items()}
    paths = {name: weights for name, (_, weights) in descents.items()}
    print_path(*descents["whole-batch (6)"])
    print_weights(paths)

    stopped = descend_to_the_end()
    print(
        f"\nStopped at a loss of {stopped.loss_:.0e}, zero but for rounding, "
        f"after {stopped.n_iter_} epochs: weight {stopped.coef_[0]:.7f}"
    )

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "descent_path.png"
    draw(paths).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
