"""How good default parameters are, and how fast: ours and scikit-learn's side by side.

    python -m benchmarks.out_of_the_box [--data DIR] [--seeds N]

Tables that come with scikit-learn and, where DIR holds them, `california_housing.csv`
and `tabular/NAME.class.csv` and `NAME.reg.csv`, whose last column is the target. Gaps
are filled, numbers standardised, text is one-hot; the targets are given as they are.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
)
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.timing import seconds, short, table
from skgd import MiniBatchClassifier, MiniBatchRegressor

FOLDS = 3
HOUSING = "california_housing.csv"
LEVEL = 0.005  # a smaller difference of two scores is none
UNITS = (64,)

# linnerud, with 20 rows, is left out: the R2 of 7 of them is chance.
BUNDLED = {
    "diabetes": load_diabetes,
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
}
REGRESSION = ("diabetes",)


class DataSet(NamedTuple):
    """Rows, what is to be told of them, and whether that is a class."""

    name: str
    X: pd.DataFrame
    y: np.ndarray
    classes: bool


class Contest(NamedTuple):
    """Two kinds of estimator, each given a seed, for classes and for numbers."""

    title: str
    ours: Callable[[bool, int], Any]
    peer: str
    theirs: Callable[[bool, int], Any]
    classes: Sequence[bool] = (True, False)  # the data that it is held on


class Outcome(NamedTuple):
    """Mean scores on held-out rows, and seconds of all fits, of ours and the peer."""

    scores: tuple[float, float]
    seconds: tuple[float, float]

    @property
    def ahead(self) -> float:
        """How much better we are."""
        return self.scores[0] - self.scores[1]


def ours(classes: bool, seed: int, **params: Any) -> Any:
    """Return our estimator."""
    estimator = MiniBatchClassifier if classes else MiniBatchRegressor
    return estimator(random_state=seed, **params)


def sgd(classes: bool, seed: int) -> Any:
    """Return scikit-learn's linear model, with a loss that gives probabilities."""
    if classes:
        return SGDClassifier(loss="log_loss", random_state=seed)
    return SGDRegressor(random_state=seed)


def mlp(classes: bool, seed: int) -> Any:
    """Return scikit-learn's network."""
    estimator = MLPClassifier if classes else MLPRegressor
    return estimator(hidden_layer_sizes=UNITS, random_state=seed)


def mlp_of_standardised(classes: bool, seed: int) -> Any:
    """Return scikit-learn's network, trained on standardised targets."""
    return TransformedTargetRegressor(mlp(classes, seed), transformer=StandardScaler())


def trees(classes: bool, seed: int) -> Any:
    """Return scikit-learn's boosted trees, the usual choice for tables."""
    if classes:
        return HistGradientBoostingClassifier(random_state=seed)
    return HistGradientBoostingRegressor(random_state=seed)


CONTESTS = (
    Contest(
        'Linear: all parameters are defaults, but `SGDClassifier(loss="log_loss")`',
        ours,
        "SGD",
        sgd,
    ),
    Contest(
        "One hidden layer: all parameters are defaults, but `hidden_layer_sizes=(64,)`",
        partial(ours, hidden_layer_sizes=UNITS),
        "MLP",
        mlp,
    ),
    Contest(
        "The same, where MLPRegressor is in a TransformedTargetRegressor that "
        "standardises y",
        partial(ours, hidden_layer_sizes=UNITS),
        "MLP",
        mlp_of_standardised,
        classes=(False,),
    ),
    Contest(
        "One hidden layer, and boosted trees with default parameters",
        partial(ours, hidden_layer_sizes=UNITS),
        "trees",
        trees,
    ),
)


def data_sets(folder: Path | None) -> Iterator[DataSet]:
    """Yield scikit-learn's own data, and those of the folder that are there."""
    for name, load in BUNDLED.items():
        X, y = load(return_X_y=True, as_frame=True)
        yield DataSet(name, X, y.to_numpy(), name not in REGRESSION)
    if folder is None:
        return
    if (folder / HOUSING).exists():
        housing = pd.read_csv(folder / HOUSING)
        y = housing.pop("median_house_value")
        yield DataSet("california_housing", housing, y.to_numpy(float), False)
    for path in sorted((folder / "tabular").glob("*.csv")):
        name, kind, _ = path.name.rsplit(".", 2)
        X = pd.read_csv(path, na_values="?")
        y, classes = X.pop("target").to_numpy(), kind == "class"
        yield DataSet(name, X, y if classes else y.astype(float), classes)


def missing(folder: Path | None) -> Iterator[str]:
    """Yield a word about data that are not there."""
    if folder is None:
        yield "Only scikit-learn's own data: --data DIR names a folder of others."
        return
    for name in (HOUSING, "tabular"):
        if not (folder / name).exists():
            yield f"Without {name}, which is not in {folder}."


def preparation() -> ColumnTransformer:
    """Return what makes standardised numbers of all columns."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("words", words, make_column_selector(dtype_exclude="number")),
        ],
        sparse_threshold=0,
    )


def held(contest: Contest, data: DataSet, n_seeds: int) -> Outcome:
    """Hold a contest on the folds of some data, both fitted in turn on each."""
    scores: list[list[float]] = [[], []]
    spent = [0.0, 0.0]
    for seed in range(n_seeds):
        folds = (StratifiedKFold if data.classes else KFold)(
            FOLDS, shuffle=True, random_state=seed
        )
        for training, rest in folds.split(data.X, data.y):
            prepared = preparation().fit(data.X.iloc[training])
            X, X_rest = (prepared.transform(data.X.iloc[n]) for n in (training, rest))
            for n, model_of in enumerate((contest.ours, contest.theirs)):
                model = model_of(data.classes, seed)
                spent[n] += seconds(partial(model.fit, X, data.y[training]))
                scores[n].append(model.score(X_rest, data.y[rest]))
    return Outcome((mean(scores[0]), mean(scores[1])), (spent[0], spent[1]))


def rows(
    contest: Contest, data: Sequence[DataSet], n_seeds: int, outcomes: list[Outcome]
) -> Iterator[list[str]]:
    """Yield a row for each set of data, and add its outcome to those given."""
    for one in data:
        outcome = held(contest, one, n_seeds)
        outcomes.append(outcome)
        yield [
            f"{one.name} ({'accuracy' if one.classes else 'R2'})",
            f"{len(one.X):,} x {one.X.shape[1]}",
            *(f"{score:.3f}" for score in outcome.scores),
            f"{outcome.ahead:+.3f}",
            *(short(spent) for spent in outcome.seconds),
        ]


def summary(contest: Contest, outcomes: Sequence[Outcome]) -> str:
    """Return in a sentence or two who is ahead."""
    ahead = [outcome.ahead for outcome in outcomes]
    better = sum(one >= LEVEL for one in ahead)
    worse = sum(one <= -LEVEL for one in ahead)
    our_score, their_score = (mean(o.scores[n] for o in outcomes) for n in (0, 1))
    our_time, their_time = (sum(o.seconds[n] for o in outcomes) for n in (0, 1))
    return (
        f"skgd is better by {LEVEL} or more on {better} of {len(ahead)}, worse on "
        f"{worse}, and at the worst {min(ahead):+.3f}. Mean score {our_score:.3f}, "
        f"{contest.peer} {their_score:.3f}; in all {short(our_time)} s, {contest.peer} "
        f"{short(their_time)} s."
    )


def lines(folder: Path | None, n_seeds: int) -> Iterator[str]:
    """Yield a table and a summary for each contest."""
    all_data = list(data_sets(folder))
    yield from missing(folder)
    for contest in CONTESTS:
        data = [one for one in all_data if one.classes in contest.classes]
        outcomes: list[Outcome] = []
        columns = ["data", "rows x columns", "skgd", contest.peer, "ahead by"]
        columns += ["skgd, s", f"{contest.peer}, s"]
        yield from ("", f"## {contest.title}")
        yield from table(columns, rows(contest, data, n_seeds, outcomes))
        yield from ("", summary(contest, outcomes))


def main(arguments: list[str] | None = None) -> None:
    """Fit all on all, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of more data")
    parser.add_argument(
        "--seeds", type=int, default=1, help="orders of the rows, and starts (1)"
    )
    args = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for line in lines(args.data, args.seeds):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
