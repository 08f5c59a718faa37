"""Predict an interval instead of a number, by quantiles, against boosted trees.

A wave whose noise grows from left to right. One network is trained on the pinball loss
of the quantiles 0.05, 0.5 and 0.95, which are columns of what it predicts and never
cross: nine of ten points should lie between the outer two, on the left as on the right.
The true quantiles are known here. Of the trees, with their default settings, there is a
model for each quantile.

    python examples/quantiles.py --output out
"""

import argparse
from pathlib import Path
from statistics import NormalDist

import numpy as np
from matplotlib.figure import Figure
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_pinball_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchRegressor

QUANTILES = [0.05, 0.5, 0.95]
END = 10.0


def draw_rows(n_rows, seed):
    """Return places from 0 to 10 and noisy heights."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, END, n_rows)
    return x[:, np.newaxis], wave(x) + noise(x) * rng.standard_normal(n_rows)


def wave(x):
    """Return the middle of the data."""
    return np.sin(x)


def noise(x):
    """Return the standard deviation around it."""
    return 0.05 + 0.08 * x


def true_quantile(x, quantile):
    """Return what a perfect model would predict."""
    return wave(x) + noise(x) * NormalDist().inv_cdf(quantile)


def network(epochs):
    """Return the pipeline that predicts all quantiles."""
    regressor = MiniBatchRegressor(
        loss="quantile",
        quantile=QUANTILES,
        hidden_layer_sizes=(64, 64),
        activation="silu",
        init="he_uniform",  # of one feature, Glorot's weights are small
        lr=0.005,
        lr_schedule="cosine",
        batch_size=64,
        max_iter=epochs,
        tol=None,
        random_state=0,
    )
    return make_pipeline(StandardScaler(), regressor)


def fit_all(X, y, epochs):
    """Return what predicts a column for every quantile, by kind."""
    of_all = network(epochs).fit(X, y)
    trees = [
        HistGradientBoostingRegressor(
            loss="quantile", quantile=quantile, random_state=0
        ).fit(X, y)
        for quantile in QUANTILES
    ]
    return {
        "skgd": of_all.predict,
        "HistGradientBoosting": lambda X: np.column_stack(
            [tree.predict(X) for tree in trees]
        ),
    }


def print_report(predict, X, y):
    """Print how often points lie between the outer quantiles, and the pinball loss."""
    thirds = np.digitize(X[:, 0], [END / 3, 2 * END / 3])
    print(
        "Share of new points between the quantiles 0.05 and 0.95, which should be 0.9"
    )
    print(f"{'':22}{'all':>8}{'left':>8}{'middle':>8}{'right':>8}{'loss':>10}")
    predictions = {name: of_model(X) for name, of_model in predict.items()}
    predictions["true quantiles"] = np.column_stack(
        [true_quantile(X[:, 0], quantile) for quantile in QUANTILES]
    )
    for name, predicted in predictions.items():
        inside = (predicted[:, 0] <= y) & (y <= predicted[:, -1])
        shares = [inside.mean()] + [inside[thirds == n].mean() for n in range(3)]
        row = "".join(f"{share:8.3f}" for share in shares)
        print(f"{name:22}{row}{pinball_loss(y, predicted):10.4f}")
    print("The loss is the pinball loss, the mean over the three quantiles.")


def pinball_loss(y, predicted):
    """Return the mean of the three losses."""
    pairs = zip(QUANTILES, predicted.T, strict=True)
    return np.mean([mean_pinball_loss(y, z, alpha=quantile) for quantile, z in pairs])


def draw(predict, X, y):
    """Return the picture: points, predicted intervals and true ones, by model."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, len(predict), sharey=True)
    grid = np.linspace(0, END, 500)
    for axes, (name, of_model) in zip(panels, predict.items(), strict=True):
        low, middle, high = of_model(grid[:, np.newaxis]).T
        axes.plot(X[:, 0], y, ".", color="0.6", ms=2, label="points learned from")
        axes.fill_between(grid, low, high, alpha=0.25, label="0.05 to 0.95")
        axes.plot(grid, middle, label="0.5")
        for n, quantile in enumerate(QUANTILES):
            label = None if n else "true quantiles"
            axes.plot(grid, true_quantile(grid, quantile), "k--", lw=1, label=label)
        axes.set(title=name, xlabel="x", ylim=(-3.2, 3.2))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("y")
    panels[0].legend(loc="upper left", ncols=2)
    return figure


def main(argv=None):
    """Fit all models, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args(argv)

    X, y = draw_rows(args.rows, seed=0)
    predict = fit_all(X, y, args.epochs)
    print_report(predict, *draw_rows(20_000, seed=1))

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "quantiles.png"
    draw(predict, X, y).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
