"""Learn XOR by whole-batch, mini-batch and stochastic descent, then log a larger fit.

XOR takes a hidden layer: here four logistic units, without biases (the third input is
always 1), and a logistic output.

Then a network learns to tell benign from malignant tumours, an epoch at a time, and its
loss and accuracy are logged on the rows that it learns from and on others.

    python examples/xor_network.py --output out
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier

XOR_X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
XOR_Y = np.array([0, 1, 1, 0])

BATCH_SIZES = {"whole-batch (4)": None, "mini-batch (2)": 2, "stochastic (1)": 1}


def learn_xor(batch_size):
    """Return a network that was trained on the four rows."""
    return MiniBatchClassifier(
        hidden_layer_sizes=(4,),
        activation="logistic",
        fit_intercept=False,
        optimizer="sgd",
        lr=2.0,
        alpha=0.0,
        batch_size=batch_size,
        shuffle=True,
        max_iter=1000,
        tol=None,
        random_state=0,  # some starts end in a local minimum; this one does not
    ).fit(XOR_X, XOR_Y)


def print_xor(networks):
    """Print the probability of a 1 for every row, and how many rows are right."""
    print("XOR after 1,000 epochs: the probability of 1, which should be 0, 1, 1, 0")
    inputs = "".join(f"{row!s:>9}" for row in XOR_X)
    print(f"{'':15}{'steps':>6}{'loss':>8}{inputs}{'right':>7}")
    for name, network in networks.items():
        ones = "".join(f"{p:9.3f}" for p in network.predict_proba(XOR_X)[:, 1])
        right = np.sum(network.predict(XOR_X) == XOR_Y)
        print(f"{name:15}{network.t_:6,}{network.loss_:8.4f}{ones}{right:2} of 4")


def learn_tumours(epochs):
    """Return loss and accuracy, on training and validation rows, after every epoch."""
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_val, y_train, y_val = train_test_split(X, y, random_state=0)
    scaler = StandardScaler().fit(X_train)
    X_train, X_val = scaler.transform(X_train), scaler.transform(X_val)
    network = MiniBatchClassifier(hidden_layer_sizes=(16,), lr=0.003, random_state=0)

    log = []
    for _ in range(epochs):
        network.partial_fit(X_train, y_train, classes=[0, 1])
        train = loss_and_accuracy(network, X_train, y_train)
        val = loss_and_accuracy(network, X_val, y_val)
        log.append((train, val))
    return np.array(log)  # (epochs, train or validation, loss or accuracy)


def loss_and_accuracy(network, X, y):
    """Return the log loss and the accuracy of the network on these rows."""
    loss = log_loss(y, network.predict_proba(X))
    return loss, accuracy_score(y, network.predict(X))


def print_log(log):
    """Print loss and accuracy of every epoch."""
    print(f"\nBreast cancer{'loss':>17}{'accuracy':>21}")
    print(f"{'epoch':>8}" + 2 * f"{'train':>11}{'validation':>11}")
    for epoch, (train, val) in enumerate(log, start=1):
        losses = f"{train[0]:11.4f}{val[0]:11.4f}"
        print(f"{epoch:8}{losses}{train[1]:11.3f}{val[1]:11.3f}")


def draw(networks, log):
    """Return the picture: the loss of XOR; loss and accuracy on the tumours."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    xor, loss, accuracy = figure.subplots(1, 3)
    for name, network in networks.items():
        xor.loglog(range(1, network.n_iter_ + 1), network.loss_curve_, label=name)
    xor.set(title="XOR", xlabel="epoch", ylabel="loss")

    epochs = range(1, len(log) + 1)
    for place, rows in enumerate(["train", "validation"]):
        loss.plot(epochs, log[:, place, 0], ".-", label=rows)
        accuracy.plot(epochs, log[:, place, 1], ".-", label=rows)
    loss.set(title="Breast cancer", xlabel="epoch", ylabel="loss")
    accuracy.set(title="Breast cancer", xlabel="epoch", ylabel="accuracy")
    for axes in (xor, loss, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def main(argv=None):
    """Learn both tasks, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=20, help="on breast cancer")
    args = parser.parse_args(argv)

    networks = {name: learn_xor(size) for name, size in BATCH_SIZES.items()}
    log = learn_tumours(args.epochs)
    print_xor(networks)
    print_log(log)

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "xor_network.png"
    draw(networks, log).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
