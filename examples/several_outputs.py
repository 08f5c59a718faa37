"""Draw the lower half of a digit from its upper half: 32 outputs of one network.

A regressor of several targets is one network, whose hidden units all of them share. It
is compared with a ridge regression, and with the mean of all lower halves.

    python examples/several_outputs.py --output out
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from skgd import MiniBatchRegressor

HALF = 32  # pixels, of 64
SHOWN = 10  # digits in the picture


def fit_all(X, y, epochs):
    """Return the fitted models."""
    network = MiniBatchRegressor(
        hidden_layer_sizes=(256,),
        lr=0.003,
        lr_schedule="cosine",
        dropout=0.2,
        max_iter=epochs,
        tol=None,
        random_state=0,
    )
    models = {"the mean": DummyRegressor(), "Ridge": Ridge(), "skgd": network}
    return {name: model.fit(X, y) for name, model in models.items()}


def print_errors(predictions, y):
    """Print how far the drawn pixels are from the true ones."""
    print(f"{'':10}{'error of a pixel':>18}{'R2':>8}")
    for name, drawn in predictions.items():
        error = root_mean_squared_error(y.ravel(), drawn.ravel())
        r2 = r2_score(y, drawn, multioutput="variance_weighted")
        print(f"{name:10}{error:18.3f}{r2:8.3f}")
    print("The error is the root of the mean square; a pixel goes from 0 to 1.")


def draw(X, y, predictions):
    """Return the picture: a column for each digit, with its lower half as drawn."""
    rows = {"true": y, **predictions}
    figure = Figure(figsize=(10, 1.25 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), SHOWN)
    for (name, lower), row in zip(rows.items(), grid, strict=True):
        for n, axes in enumerate(row):
            digit = np.concatenate([X[n], lower[n]]).reshape(8, 8)
            axes.imshow(digit, cmap="gray_r", vmin=0, vmax=1)
            axes.axhline(3.5, color="C1", lw=1)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    figure.suptitle("The upper half is given; the half below the line is predicted")
    return figure


def main(argv=None):
    """Fit, draw the lower halves of digits held out, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args(argv)

    digits, labels = load_digits(return_X_y=True)
    train, test, _, labels_test = train_test_split(
        digits / 16, labels, stratify=labels, random_state=0
    )
    models = fit_all(train[:, :HALF], train[:, HALF:], args.epochs)
    X, y = test[:, :HALF], test[:, HALF:]
    predictions = {name: model.predict(X) for name, model in models.items()}
    print_errors(predictions, y)

    each = np.unique(labels_test, return_index=True)[1]  # a digit of every kind
    shown = {name: drawn[each] for name, drawn in predictions.items()}
    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "several_outputs.png"
    draw(X[each], y[each], shown).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
