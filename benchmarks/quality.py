"""How long training takes to reach a score on rows that are held out.

A model goes over the training rows pass by pass, in `partial_fit`; only that is timed.
Each estimator has its default parameters, or, tuned, the learning rate of a grid with
which it reaches the score first. All else that is not said here is default.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import make_classification, make_friedman1
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from benchmarks.options import Options
from benchmarks.timing import seconds, table, with_range
from skgd import MiniBatchClassifier, MiniBatchRegressor

LRS = (0.001, 0.003, 0.01, 0.03)
LRS_OF_SGD = (0.0001, 0.0003, 0.001, 0.003)  # which takes a step at every row
PASSES = 100

Split = list[np.ndarray]  # X and X held out, y and y held out


class Task(NamedTuple):
    """Data, the score to reach, and what may reach it: estimators by their names."""

    name: str
    data: Callable[[], Split]
    score: str
    target: float
    estimators: dict[str, Callable[..., Any]]
    seconds: float  # of training, at the most


class Curve(NamedTuple):
    """The score after each pass of an estimator on a task, against seconds so far."""

    task: Task
    name: str
    seconds: list[float]
    scores: list[float]

    @property
    def reached(self) -> float:
        """The seconds until the target of the task, infinite if it is not reached."""
        pairs = zip(self.seconds, self.scores, strict=True)
        return next((s for s, score in pairs if score >= self.task.target), np.inf)


def friedman() -> Split:
    """Return a smooth function of five of eight features, and noise."""
    X, y = make_friedman1(20_640, 8, noise=1.0, random_state=0)
    return split(X, (y - y.mean()) / y.std())


def clusters(n_rows: int, n_features: int, n_classes: int) -> Split:
    """Return classes of several clusters each, with some labels wrong."""
    X, y = make_classification(
        n_rows,
        n_features,
        n_informative=20,
        n_classes=n_classes,
        class_sep=2.0,
        random_state=0,
    )
    return split(X, y)


def split(X: np.ndarray, y: np.ndarray) -> Split:
    """Return float32, a quarter held out, features standardised by the others."""
    y = y.astype(np.float32 if y.dtype.kind == "f" else np.int64)
    X, X_held_out, y, y_held_out = train_test_split(X, y, random_state=0)
    scaler = StandardScaler().fit(X)
    rows = [scaler.transform(some).astype(np.float32) for some in (X, X_held_out)]
    return [*rows, y, y_held_out]


def skgd(cls: type, hidden: tuple[int, ...], lr: float | None, seed: int) -> Any:
    """Return our estimator."""
    params = {} if lr is None else {"lr": lr}
    return cls(hidden_layer_sizes=hidden, random_state=seed, **params)


def mlp(cls: type, hidden: tuple[int, ...], lr: float | None, seed: int) -> Any:
    """Return scikit-learn's multi-layer perceptron."""
    params = {} if lr is None else {"learning_rate_init": lr}
    return cls(hidden_layer_sizes=hidden, random_state=seed, **params)


def sgd(lr: float | None, seed: int) -> Any:
    """Return scikit-learn's linear classifier, which by default sets its own rate."""
    tuned = {} if lr is None else {"learning_rate": "constant", "eta0": lr}
    return SGDClassifier(loss="log_loss", random_state=seed, **tuned)


TASKS = [
    Task(
        "Friedman's function, 20,640 x 8 -> 64 -> 64 -> 1",
        friedman,
        "R2",
        0.945,
        {
            "skgd": partial(skgd, MiniBatchRegressor, (64, 64)),
            "MLP": partial(mlp, MLPRegressor, (64, 64)),
        },
        seconds=3,
    ),
    Task(
        "clusters, 100,000 x 54 -> 100 -> 7",
        partial(clusters, 100_000, 54, 7),
        "accuracy",
        0.96,
        {
            "skgd": partial(skgd, MiniBatchClassifier, (100,)),
            "MLP": partial(mlp, MLPClassifier, (100,)),
        },
        seconds=4,
    ),
    Task(
        "clusters, 50,000 x 50, linear, 3 classes",
        partial(clusters, 50_000, 50, 3),
        "accuracy",
        0.93,
        {"skgd": partial(skgd, MiniBatchClassifier, ()), "SGD": sgd},
        seconds=1.5,
    ),
]


def lines(options: Options, curves: list[Curve]) -> Iterator[str]:
    """Yield the table of seconds to a score, and add a curve of each to those given."""
    tasks = [
        task._replace(seconds=task.seconds / (8 if options.quick else 1))
        for task in TASKS[:: 2 if options.quick else 1]
    ]
    yield from (
        "",
        "## Quality",
        "",
        "Seconds of training until a score on held-out rows, and the best score met in "
        "the time that was given.",
    )
    yield from table(
        ["data", "score", "estimator", "seconds (range)", "best score"],
        (row for task in tasks for row in rows(task, options, curves)),
    )


def rows(task: Task, options: Options, curves: list[Curve]) -> Iterator[list[str]]:
    """Yield a row for each estimator and kind of rate, and add its first curve."""
    data = task.data()
    settings: dict[str, Callable[..., Any]] = {}
    for name, estimator in task.estimators.items():
        settings[f"{name}, default"] = partial(estimator, None)
        lrs = LRS_OF_SGD if name == "SGD" else LRS
        lrs = lrs[1:3] if options.quick else lrs
        tried = {lr: curve(task, name, estimator(lr, 0), data) for lr in lrs}
        lr = min(tried, key=lambda lr: order(tried[lr]))
        settings[f"{name}, lr={lr}"] = partial(estimator, lr)
    found: dict[str, list[Curve]] = {name: [] for name in settings}
    for seed in range(min(3, options.repeats)):
        for name, model_of in settings.items():
            found[name].append(curve(task, name, model_of(seed), data))
    for name, some in found.items():
        curves.append(some[0])
        times = [one.reached for one in some]
        spread = with_range(times)
        best = median(max(one.scores) for one in some)
        yield [task.name, f"{task.score} {task.target}", name, spread, f"{best:.4f}"]


def order(curve: Curve) -> tuple[float, float]:
    """Return what is least for the best: when it got there, or else how far it got."""
    return curve.reached, -max(curve.scores)


def curve(task: Task, name: str, model: Any, data: Split) -> Curve:
    """Return the scores of a model that is trained from its start."""
    X, X_held_out, y, y_held_out = data
    classes = {"classes": np.unique(y)} if y.dtype.kind == "i" else {}
    found = Curve(task, name, [], [])
    taken = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rate of the grid may be too large
        while taken < task.seconds and len(found.scores) < PASSES:
            taken += seconds(partial(model.partial_fit, X, y, **classes))
            found.seconds.append(taken)
            found.scores.append(float(model.score(X_held_out, y_held_out)))
    return found
