"""Classify irises by a small network, whole-batch and in mini-batches.

One hidden layer of ten leaky-ReLU units, plain gradient descent at a learning rate of
0.01, a third of the flowers held out. Three species take a softmax output; versicolor
against virginica, the two that look alike, take a single sigmoid.

    python examples/iris_network.py --output out
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier

REGIMES = {"whole-batch": None, "mini-batches of 32": 32}


def load_tasks():
    """Return the flowers and their species, three of them and two of them."""
    X, y = load_iris(return_X_y=True)
    alike = y > 0
    return {"3 species, softmax": (X, y), "2 species, sigmoid": (X[alike], y[alike])}


def network(batch_size, epochs):
    """Return the pipeline to fit."""
    classifier = MiniBatchClassifier(
        hidden_layer_sizes=(10,),
        activation="leaky_relu",
        optimizer="sgd",
        lr=0.01,
        batch_size=batch_size,
        max_iter=epochs,
        tol=None,
        random_state=0,
    )
    return make_pipeline(StandardScaler(), classifier)


def train(X, y, epochs):
    """Return the classifier of each regime, and its accuracy on the held-out third."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.33, random_state=0
    )
    results = {}
    for name, batch_size in REGIMES.items():
        model = network(batch_size, epochs[name]).fit(X_train, y_train)
        results[name] = model[-1], model.score(X_test, y_test)
    return results


def print_results(results):
    """Print a row about every classifier."""
    print(f"{'':22}{'epochs':>8}{'steps':>8}{'cost':>9}{'held-out accuracy':>20}")
    for task, regimes in results.items():
        print(task)
        for name, (classifier, accuracy) in regimes.items():
            numbers = (
                f"{classifier.n_iter_:8,}{classifier.t_:8,}{classifier.loss_:9.4f}"
            )
            print(f"  {name:20}{numbers}{accuracy:20.3f}")


def draw(results):
    """Return the picture: cost against epochs, a panel for each task."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True)
    for axes, (task, regimes) in zip(panels, results.items(), strict=True):
        for name, (classifier, _) in regimes.items():
            epochs = range(1, classifier.n_iter_ + 1)
            axes.loglog(epochs, classifier.loss_curve_, label=name)
        axes.set(title=task, xlabel="epoch")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("cost")
    panels[0].legend()
    return figure


def main(argv=None):
    """Train on both tasks, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=1500, help="in mini-batches")
    args = parser.parse_args(argv)

    epochs = {"whole-batch": 100, "mini-batches of 32": args.epochs}
    results = {task: train(X, y, epochs) for task, (X, y) in load_tasks().items()}
    print_results(results)

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "iris_network.png"
    draw(results).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
