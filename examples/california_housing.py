"""Predict house prices by gradient descent: the cost of every step, and the time.

Linear regression on the 20,640 districts of the California housing data, standardised,
in float64. First the cost step by step, for several batch sizes and for the three
treatments of rows that fill no whole batch. Then 1,000 epochs in batches of 80 are
timed against the same descent in plain Python and in NumPy, and the weights compared
with those of LinearRegression.

    python examples/california_housing.py --output out [--data FILE]

Without --data, scikit-learn downloads the data.
"""

import argparse
import random
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import fetch_california_housing
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchRegressor

PLAIN = {"optimizer": "sgd", "alpha": 0.0, "tol": None, "device": "cpu"}
REGIMES = [  # batch_size, last_batch
    (1, "keep"),
    (10, "keep"),
    (1000, "keep"),
    (1000, "drop"),
    (1000, "fill"),
    (None, "keep"),
]
REGIME_EPOCHS = 10
BATCH_SIZE, LR = 80, 0.001  # of the descent that is timed
PYTHON_EPOCHS = 10  # the plain Python loop is timed on so many, and scaled


def load(path):
    """Return the eight features, standardised, and the prices in 100,000 dollars."""
    X, y = download() if path is None else read(path)
    return StandardScaler().fit_transform(X), y


def download():
    """Return what fetch_california_housing does, without its warning of a retry."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fetch_california_housing(return_X_y=True, n_retries=1)


def read(path):
    """Return what fetch_california_housing does, from a CSV file of totals."""
    table = np.genfromtxt(path, delimiter=",", names=True, usecols=range(9))
    bedrooms, households = table["total_bedrooms"], table["households"]
    print(f"{np.isnan(bedrooms).sum()} missing bedroom counts become the median.\n")
    bedrooms = np.nan_to_num(bedrooms, nan=np.nanmedian(bedrooms))
    features = [
        table["median_income"],
        table["housing_median_age"],
        table["total_rooms"] / households,
        bedrooms / households,
        table["population"],
        table["population"] / households,
        table["latitude"],
        table["longitude"],
    ]
    return np.column_stack(features), table["median_house_value"] / 1e5


def fit_regimes(X, y):
    """Return a fitted regressor for every batch size and last_batch.

    Some districts lie so far out that a batch of one of them takes a learning rate of
    1e-4 at the most; among n others, n times that.
    """
    return [
        MiniBatchRegressor(
            **PLAIN,
            lr=min(1e-4 * (batch_size or len(X)), 0.5),
            batch_size=batch_size,
            last_batch=last_batch,
            max_iter=REGIME_EPOCHS,
            record_batch_loss=True,
            random_state=0,
        ).fit(X, y)
        for batch_size, last_batch in REGIMES
    ]


def print_regimes(regressors, X, y):
    """Print steps, rows and final cost of every regressor, and the lowest cost."""
    print(f"Cost, half the mean squared error, after {REGIME_EPOCHS} epochs")
    print("batch_size  last_batch      lr  steps/epoch  rows/epoch    cost")
    for regressor in regressors:
        size, steps = regressor.batch_size, regressor.t_ // REGIME_EPOCHS
        rows = len(X) if regressor.last_batch == "keep" else steps * size
        print(
            f"{size or 'None':>10}{regressor.last_batch:>12}{regressor.lr:8.4g}"
            f"{steps:13,}{rows:12,}{cost(regressor, X, y):8.4f}"
        )
    lowest = cost(LinearRegression().fit(X, y), X, y)
    print(f"LinearRegression{lowest:47.4f}")


def cost(model, X, y):
    """Return half the mean squared error."""
    return mean_squared_error(y, model.predict(X)) / 2


def descend_in_python(X, y, epochs):
    """Return the weights after mini-batch descent, number by number."""
    X, y = X.tolist(), y.tolist()
    w, bias = [0.0] * len(X[0]), 0.0
    order = list(range(len(X)))
    for _ in range(epochs):
        random.shuffle(order)
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            dw, dbias = [0.0] * len(w), 0.0
            for n in rows:
                dz = bias - y[n]
                for i, x in enumerate(X[n]):
                    dz += w[i] * x
                for i, x in enumerate(X[n]):
                    dw[i] += dz * x
                dbias += dz
            for i in range(len(w)):
                w[i] -= LR * dw[i] / len(rows)
            bias -= LR * dbias / len(rows)
    return np.array(w)


def descend_in_numpy(X, y, epochs):
    """Return the weights after the same descent, a batch at a time."""
    rng = np.random.default_rng(0)
    w, bias = np.zeros(X.shape[1]), 0.0
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            x = X[rows]
            dz = (x @ w + bias - y[rows]) / len(rows)
            w -= LR * (dz @ x)
            bias -= LR * dz.sum()
    return w


def descend_in_skgd(X, y, epochs):
    """Return the weights after the same descent, by skgd."""
    regressor = MiniBatchRegressor(
        **PLAIN, lr=LR, batch_size=BATCH_SIZE, max_iter=epochs, random_state=0
    )
    return regressor.fit(X, y).coef_


def settle(X, y, w):
    """Return the weights after 1,000 more steps from w, over all rows."""
    regressor = MiniBatchRegressor(**PLAIN, lr=0.5, batch_size=None, max_iter=1000)
    return regressor.fit(X, y, coef_init=w).coef_


def time_descents(X, y, epochs):
    """Print the time of every descent, and how far from the exact weights it ends."""
    exact = LinearRegression().fit(X, y).coef_
    descents = {
        "skgd": (descend_in_skgd, epochs),
        "NumPy": (descend_in_numpy, epochs),
        "plain Python": (descend_in_python, PYTHON_EPOCHS),
    }
    print(f"\n{epochs:,} epochs in batches of {BATCH_SIZE}, float64, on the CPU")
    print("              epochs timed  seconds  ratio  off LinearRegression by")
    seconds, weights = {}, {}
    for name, (descend, timed) in descents.items():
        start = time.perf_counter()
        weights[name] = descend(X, y, timed)
        seconds[name] = (time.perf_counter() - start) * epochs / timed
        ratio, miss = seconds[name] / seconds["skgd"], off(weights[name], exact)
        print(f"{name:14}{timed:12,}{seconds[name]:9.2f}{ratio:7.1f}{miss:25.0e}")
    settled = settle(X, y, weights["skgd"])
    print(f"skgd, settled by 1,000 steps on all rows{off(settled, exact):27.0e}")
    print(f"The time of plain Python is that of {PYTHON_EPOCHS} epochs, scaled.")


def off(w, exact):
    """Return the largest difference between the weights and the exact ones."""
    return np.abs(w - exact).max()


def draw(regressors):
    """Return the picture: the cost of every step, for batch sizes and last batches."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    sizes, last_batches = figure.subplots(1, 2, sharey=True)
    for regressor in regressors:
        if regressor.last_batch == "keep":
            draw_costs(sizes, regressor, label=f"batch_size={regressor.batch_size}")
        if regressor.batch_size == 1000:
            draw_costs(last_batches, regressor, label=regressor.last_batch)
    sizes.set(title="By batch size", xlabel="step", xscale="log", ylabel="cost")
    sizes.set(yscale="log", ylim=(0.1, 10))
    last_batches.set(title="batch_size=1000, by last_batch", xlabel="step")
    for axes in (sizes, last_batches):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right", title="mean over 2,000 rows")
    return figure


def draw_costs(axes, regressor, label):
    """Draw the mean cost over 2,000 rows as a line, and some of the costs as dots."""
    costs = regressor.batch_loss_curve_
    steps = np.arange(1, len(costs) + 1)
    window = 2000 // (regressor.batch_size or 2000)
    mean = np.convolve(costs, np.full(window, 1 / window), mode="valid")
    (line,) = axes.plot(steps[window - 1 :], mean, label=label)
    some = np.unique(np.geomspace(1, len(costs), 1000).astype(int)) - 1
    axes.plot(steps[some], costs[some], ".", color=line.get_color(), ms=3, alpha=0.3)


def main(argv=None):
    """Load the data, descend in many ways, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--data", type=Path, metavar="FILE", help="CSV file to read")
    parser.add_argument("--epochs", type=int, default=1000, help="of the timed descent")
    args = parser.parse_args(argv)

    try:
        X, y = load(args.data)
    except OSError as error:
        sys.exit(
            f"There are no data ({error}): connect to the internet, or pass --data "
            "FILE, such as housing.csv of the GitHub repository ageron/handson-ml."
        )
    regressors = fit_regimes(X, y)
    print_regimes(regressors, X, y)
    time_descents(X, y, args.epochs)

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "california_housing.png"
    draw(regressors).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
