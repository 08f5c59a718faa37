"""Recognise handwritten digits, and let a grid choose how to train the network.

The main job of skgd: a network in a scikit-learn pipeline, a grid search over the batch
size and the learning rate that trains all rates and splits at once, and the accuracy of
the winner on digits it has never seen. The picture is the winner's loss curve.

    python examples/quickstart.py --output out
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier, VectorizedGridSearchCV

BATCH_SIZES = [16, 64, 256]
LRS = [0.001, 0.01, 0.1]


def grid_search(X, y, epochs):
    """Return the search, fitted, over every batch size and learning rate."""
    classifier = MiniBatchClassifier(
        hidden_layer_sizes=(32,), max_iter=epochs, tol=None, random_state=0
    )
    model = make_pipeline(StandardScaler(), classifier)
    grid = {
        "minibatchclassifier__batch_size": BATCH_SIZES,
        "minibatchclassifier__lr": LRS,
    }
    return VectorizedGridSearchCV(model, grid).fit(X, y)


def print_accuracies(search):
    """Print the mean cross-validated accuracy of every candidate."""
    accuracies = search.cv_results_["mean_test_score"]  # lr varies fastest
    rows = accuracies.reshape(len(BATCH_SIZES), len(LRS))
    print("Cross-validated accuracy")
    print("batch_size" + "".join(f"{f'lr={lr}':>10}" for lr in LRS))
    for batch_size, row in zip(BATCH_SIZES, rows, strict=True):
        print(f"{batch_size:10}" + "".join(f"{accuracy:10.3f}" for accuracy in row))


def draw(classifier):
    """Return the picture: the loss curve of the classifier."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(range(1, classifier.n_iter_ + 1), classifier.loss_curve_, ".-")
    axes.set(
        title=f"The winner: batch_size={classifier.batch_size}, lr={classifier.lr}",
        xlabel="epoch",
        ylabel="objective",
    )
    axes.grid(alpha=0.3)
    return figure


def main(argv=None):
    """Search, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=30, help="of every fit")
    args = parser.parse_args(argv)

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    search = grid_search(X_train, y_train, args.epochs)
    winner = search.best_estimator_[-1]

    print_accuracies(search)
    print(f"\nBest: batch_size={winner.batch_size}, lr={winner.lr}")
    accuracy = search.score(X_test, y_test)
    print(f"Accuracy on {len(y_test)} held-out digits: {accuracy:.3f}")

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "quickstart.png"
    draw(winner).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
