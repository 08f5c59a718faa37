"""Which learning rate? A range test first, then a search below what it tells.

The range test trains a network for the digits for five epochs at each of 25 rates, all
at once, and shows from which rate on it learns, where it does best, and where it
diverges. The search then trains longer, at that rate and below, with several penalties.
The picture has the range test beside the scores of the search.

    python examples/learning_rate.py --output out
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import (
    LearningRateDisplay,
    MiniBatchClassifier,
    SearchDisplay,
    VectorizedGridSearchCV,
)

LR, ALPHA = "minibatchclassifier__lr", "minibatchclassifier__alpha"


def print_losses(display):
    """Print what a few epochs come to at each rate, and which is best."""
    print(f"{'lr':>8}  objective after {display.max_iter} epochs")
    for lr, loss in zip(display.lrs, display.losses, strict=True):
        told = f"{loss:.4f}" if np.isfinite(loss) else "diverged"
        print(f"{lr:8.2g}  {told}")
    print(f"Lowest at lr={display.best_lr_:.3g}\n")


def search_below(model, lr, X, y):
    """Return a search over rates up to the given one, and penalties, fitted."""
    grid = {
        LR: [float(f"{lr * part:.2g}") for part in (0.03, 0.1, 0.3, 1)],
        ALPHA: [1e-4, 1e-3, 1e-2],
    }
    return VectorizedGridSearchCV(model, grid, n_jobs=2).fit(X, y)


def main(argv=None):
    """Test the rates, search below the best, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=20, help="of the search")
    args = parser.parse_args(argv)

    X, X_test, y, y_test = train_test_split(
        *load_digits(return_X_y=True), random_state=0
    )
    network = MiniBatchClassifier(
        hidden_layer_sizes=(32,),
        optimizer="sgd",
        max_iter=args.epochs,
        tol=None,
        random_state=0,
    )
    model = make_pipeline(StandardScaler(), network)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    display = LearningRateDisplay.from_estimator(model, X, y, ax=left)
    print_losses(display)

    search = search_below(model, display.best_lr_, X, y)
    SearchDisplay.from_search(search, x=LR, y=ALPHA, ax=right)
    lr, alpha = search.best_params_[LR], search.best_params_[ALPHA]
    print(f"Best of the search: lr={lr:g}, alpha={alpha:g}")
    print(
        f"Accuracy on {len(y_test)} held-out digits: {search.score(X_test, y_test):.3f}"
    )

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "learning_rate.png"
    figure.savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
