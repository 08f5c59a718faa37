"""Find a rare digit: class weights, and early stopping by a score that suits.

Of a thousand digits to learn from, 30 are an 8: never to say "8" is right 97 times in
100. A network is trained with and without class weights. A quarter of its rows is held
out, to judge it by their average precision after every epoch, and the weights of the
best epoch are those it keeps.

    python examples/class_imbalance.py --output out
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier

RARE, N_RARE = 8, 30
CLASS_WEIGHTS = {"all rows alike": None, "class_weight='balanced'": "balanced"}
METRICS = {
    "recall": recall_score,
    "precision": precision_score,
    "balanced accuracy": balanced_accuracy_score,
}


def load_split():
    """Return digits and whether each is an 8, few of which are to learn from."""
    X, y = load_digits(return_X_y=True)
    y = y == RARE
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.4, stratify=y, random_state=0
    )
    kept = np.concatenate([np.flatnonzero(y)[:N_RARE], np.flatnonzero(~y)])
    return X[kept], X_test, y[kept], y_test


def network(class_weight, epochs):
    """Return the pipeline to fit."""
    classifier = MiniBatchClassifier(
        hidden_layer_sizes=(32,),
        lr=0.003,
        class_weight=class_weight,
        early_stopping=True,
        validation_fraction=0.25,
        scoring="average_precision",
        n_iter_no_change=20,
        max_iter=epochs,
        random_state=0,
    )
    return make_pipeline(StandardScaler(), classifier)


def best_epoch(classifier):
    """Return the epoch whose weights the classifier has kept."""
    return int(np.argmax(classifier.validation_scores_)) + 1


def print_report(models, X, y):
    """Print when each model stopped, and how it does on the test rows."""
    print(f"On {len(y)} digits, {y.sum()} of them an {RARE}")
    heads = "".join(f"{metric:>19}" for metric in ["average precision", *METRICS])
    print(f"{'':24}{'epochs':>8}{'best':>6}{heads}")
    for name, model in models.items():
        predicted = model.predict(X)
        scores = [average_precision_score(y, model.predict_proba(X)[:, 1])]
        scores += [score(y, predicted) for score in METRICS.values()]
        epochs = f"{model[-1].n_iter_:8}{best_epoch(model[-1]):6}"
        print(f"{name:24}{epochs}" + "".join(f"{score:19.3f}" for score in scores))


def draw(models, X, y):
    """Return the picture: loss and score by epoch, and precision against recall."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    losses, scores, trade_off = figure.subplots(1, 3)
    for n, (name, model) in enumerate(models.items()):
        classifier, best = model[-1], best_epoch(model[-1])
        epochs = range(1, classifier.n_iter_ + 1)
        validation = classifier.validation_loss_curve_
        losses.semilogy(epochs, classifier.loss_curve_, f"C{n}", label=name)
        losses.semilogy(epochs, validation, f"C{n}--", label="the same, rows held out")
        losses.plot(best, validation[best - 1], f"C{n}o")
        scores.plot(epochs, classifier.validation_scores_, f"C{n}--", label=name)
        scores.plot(best, classifier.best_validation_score_, f"C{n}o")
        draw_trade_off(trade_off, model, X, y, color=f"C{n}", label=name)
    losses.set(title="Loss, weighted; a dot: the best epoch", xlabel="epoch")
    scores.set(title="Average precision of rows held out", xlabel="epoch")
    trade_off.set(
        title="Test rows; a dot: what predict does",
        xlabel="recall",
        ylabel="precision",
    )
    for axes in (losses, scores, trade_off):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def draw_trade_off(axes, model, X, y, color, label):
    """Draw precision against recall over all thresholds, and what predict does."""
    precision, recall, _ = precision_recall_curve(y, model.predict_proba(X)[:, 1])
    axes.plot(recall, precision, color=color, label=label)
    predicted = model.predict(X)
    axes.plot(recall_score(y, predicted), precision_score(y, predicted), "o", c=color)


def main(argv=None):
    """Fit both models, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=200, help="at the most")
    args = parser.parse_args(argv)

    X, X_test, y, y_test = load_split()
    models = {
        name: network(class_weight, args.epochs).fit(X, y)
        for name, class_weight in CLASS_WEIGHTS.items()
    }
    print_report(models, X_test, y_test)

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "class_imbalance.png"
    draw(models, X_test, y_test).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
