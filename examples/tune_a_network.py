"""Tune a network: 200 random candidates, one fit at a time and all of them together.

The learning rate and the penalty of a network for the digits are searched at random, in
five folds, by scikit-learn's RandomizedSearchCV and by VectorizedRandomizedSearchCV.
Both draw the same candidates, give them the same scores but for rounding, and find the
same winner; the second trains many candidates together, a batch at a time. The picture
is the score over learning rate and penalty.

    python examples/tune_a_network.py --output out
"""

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier, SearchDisplay, VectorizedRandomizedSearchCV

LR, ALPHA = "minibatchclassifier__lr", "minibatchclassifier__alpha"
DISTRIBUTIONS = {LR: loguniform(3e-3, 1), ALPHA: loguniform(1e-5, 1)}
N_FOLDS = 5


def search_in_both_ways(X, y, n_candidates, epochs, n_jobs):
    """Return both searches, fitted, and how many seconds each took."""
    classifier = MiniBatchClassifier(
        hidden_layer_sizes=(32,),
        optimizer="sgd",
        batch_size=64,
        max_iter=epochs,
        tol=None,
        random_state=0,
    )
    model = make_pipeline(StandardScaler(), classifier)
    searches, seconds = [], []
    for cls in (RandomizedSearchCV, VectorizedRandomizedSearchCV):
        search = cls(
            model,
            DISTRIBUTIONS,
            n_iter=n_candidates,
            cv=N_FOLDS,
            n_jobs=n_jobs,
            random_state=0,
        )
        start = time.perf_counter()
        searches.append(search.fit(X, y))
        seconds.append(time.perf_counter() - start)
    return searches, seconds


def print_winners(searches, seconds):
    """Print the time and the winner of each search, and how far scores differ."""
    print(f"{'':28}  seconds  winner:     lr      alpha  accuracy")
    for search, taken in zip(searches, seconds, strict=True):
        lr, alpha = search.best_params_[LR], search.best_params_[ALPHA]
        print(
            f"{type(search).__name__:28}{taken:9.1f}{lr:15.5f}{alpha:11.2e}"
            f"{search.best_score_:10.4f}"
        )
    theirs, ours = (
        [search.cv_results_[f"split{n}_test_score"] for n in range(N_FOLDS)]
        for search in searches
    )
    print(f"Scores differ by {np.abs(np.subtract(theirs, ours)).max():.1g} at the most")


def draw(search):
    """Return the picture: the score of every candidate over lr and alpha."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    SearchDisplay.from_search(search, x=LR, y=ALPHA, ax=axes)
    n_candidates = len(search.cv_results_["params"])
    figure.suptitle(f"{n_candidates} networks in {N_FOLDS} folds")
    return figure


def main(argv=None):
    """Search in both ways, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=20, help="of every fit")
    parser.add_argument("--jobs", type=int, default=1, help="processes of each search")
    args = parser.parse_args(argv)

    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    print(
        f"{args.candidates} candidates x {N_FOLDS} folds of {len(X):,} digits, "
        f"{args.epochs} epochs each, n_jobs={args.jobs}"
    )
    searches, seconds = search_in_both_ways(
        X, y, args.candidates, args.epochs, args.jobs
    )
    print_winners(searches, seconds)

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "tune_a_network.png"
    draw(searches[1]).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
