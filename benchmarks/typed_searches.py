"""Searches as people type them: default parameters, float64, a scaler in a Pipeline.

    python -m benchmarks.typed_searches [--repeats 3] [--only NAME]

Each with n_jobs=2, refit included, against scikit-learn's own search over our estimator
and over its network, MLPClassifier or MLPRegressor, or over SGDClassifier. They are
timed in turn, after a first one of each that does not count; a search that is ``cold``
is the first in its process, measured in one process after the other. Halving gives
candidates 1, 3, 9, 27 and 81 epochs.
"""

import argparse
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from subprocess import PIPE
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.options import Options
from benchmarks.search_against_peers import HOUSING
from benchmarks.timing import against, seconds, short, table
from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
    VectorizedRandomizedSearchCV,
)

COLUMNS = ["search", "vectorized", "over skgd", "over MLP", "over SGD"]

LONG = 60.0  # seconds after which a search is not repeated

# What others call our parameters.
OF_MLP = {"lr": "learning_rate_init", "optimizer": "solver"}
OF_SGD = {"lr": "eta0"}

LR_12, ALPHA_12 = [0.001, 0.003, 0.01, 0.03], [1e-5, 1e-3, 1e-1]
SPACE_12 = {"lr": LR_12, "alpha": ALPHA_12}
SPACE_24 = {
    "lr": np.geomspace(10**-3.5, 10**-1.5, 6),
    "alpha": np.geomspace(1e-5, 0.1, 4),
}
SPACE_81 = {"lr": np.geomspace(10**-3.5, 0.1, 9), "alpha": np.geomspace(1e-5, 0.1, 9)}
RANDOM = {
    "lr": loguniform(1e-3, 0.1),
    "alpha": loguniform(1e-6, 0.1),
    "batch_size": [32, 64, 128],
    "hidden_layer_sizes": [(32,), (64,)],
}
NET = {"hidden_layer_sizes": (32,), "random_state": 0}


class Work(NamedTuple):
    """A search: the data, the candidates, our estimator's parameters, and the goals."""

    name: str
    space: dict[str, Any]
    goals: dict[str, float]  # how many times as fast as the search over a peer
    params: dict[str, Any] = NET
    housing: bool = False
    n_random: int | None = None
    halving: bool = False
    cold: bool = False


STOPS = {**NET, "early_stopping": True}
WORKS = [
    Work("digits as typed, 12 candidates, cold", SPACE_12, {"MLP": 4}, cold=True),
    Work("digits as typed, 12 candidates", SPACE_12, {"MLP": 6}),
    Work("early_stopping=True, by score", SPACE_12, {"MLP": 3}, STOPS),
    Work(
        "early_stopping=True, by loss",
        SPACE_12,
        {"MLP": 3},
        {**STOPS, "scoring": "loss"},
    ),
    Work("California housing, 24 candidates", SPACE_24, {"MLP": 4}, housing=True),
    Work(
        "60 random candidates, 3 batch sizes, 2 networks",
        RANDOM,
        {"MLP": 4},
        n_random=60,
    ),
    Work(
        "linear classifier, Adam, 24 candidates",
        SPACE_24,
        {"MLP": 10, "SGD": 1.5},
        {"hidden_layer_sizes": (), "random_state": 0},
    ),
    Work("halving over 81 candidates", SPACE_81, {"MLP": 5}, halving=True),
]


def data_of(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return the data as they are."""
    if work.housing:
        table = np.genfromtxt(HOUSING, delimiter=",", skip_header=1, usecols=range(9))
        table = table[~np.isnan(table).any(axis=1)]
        return table[:, :8], table[:, 8]
    return load_digits(return_X_y=True)


def estimator_of(work: Work, kind: str) -> tuple[Any, dict[str, str]]:
    """Return an estimator, and what it calls our parameters."""
    if kind == "MLP":
        params = {OF_MLP.get(name, name): value for name, value in work.params.items()}
        params = {name: value for name, value in params.items() if name != "scoring"}
        return (MLPRegressor if work.housing else MLPClassifier)(**params), OF_MLP
    if kind == "SGD":
        params = {"loss": "log_loss", "learning_rate": "constant", "random_state": 0}
        return SGDClassifier(**params), OF_SGD
    cls = MiniBatchRegressor if work.housing else MiniBatchClassifier
    return cls(**work.params), {}


def search_of(work: Work, kind: str) -> Any:
    """Return a search, not yet fitted."""
    estimator, names = estimator_of(work, kind)
    space = {names.get(name, name): values for name, values in work.space.items()}
    path = type(estimator).__name__.lower()
    space = {f"{path}__{name}": values for name, values in space.items()}
    estimator = make_pipeline(StandardScaler(), estimator)
    ours = kind == "vectorized"
    if work.halving:
        cls = VectorizedHalvingGridSearchCV if ours else HalvingGridSearchCV
        resource = f"{path}__max_iter"
        rungs = {"max_resources": 81, "min_resources": 1, "resource": resource}
        return cls(estimator, space, n_jobs=2, random_state=0, **rungs)
    if work.n_random:
        cls = VectorizedRandomizedSearchCV if ours else RandomizedSearchCV
        return cls(estimator, space, n_iter=work.n_random, n_jobs=2, random_state=0)
    return (VectorizedGridSearchCV if ours else GridSearchCV)(
        estimator, space, n_jobs=2
    )


def seconds_of(work: Work, kind: str) -> float:
    """Return the time of a search."""
    return seconds(partial(search_of(work, kind).fit, *data_of(work)))


def seconds_when_cold(work: Work, kind: str) -> float:
    """Return that of a search which is the first in its process, imports left out."""
    command = [sys.executable, "-m", "benchmarks.typed_searches"]
    command += ["--only", work.name, "--cold", kind]
    ran = subprocess.run(command, stdout=PIPE, text=True, check=True)
    return float(ran.stdout)


def race(work: Work, repeats: int) -> list[str]:
    """Return a row of the table."""
    kinds = ["vectorized", "skgd", *work.goals]
    timed: Callable[[Work, str], float] = seconds_when_cold if work.cold else seconds_of
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for run in range(repeats + 1):
        for kind in kinds:
            if run > 0 and sum(times[kind]) > LONG:
                continue
            taken = timed(work, kind)
            if run > 0 or work.cold or taken > LONG:
                times[kind].append(taken)
    found = {kind: median(some) for kind, some in times.items()}
    ours = found["vectorized"]
    others = [
        f"{short(found[kind])}, {against(found[kind] / ours, work.goals.get(kind))}"
        if kind in found
        else ""
        for kind in ("skgd", "MLP", "SGD")
    ]
    return [work.name, short(ours), *others]


def lines(options: Options) -> Iterator[str]:
    """Yield the table."""
    works = WORKS[1:2] if options.quick else WORKS
    yield from (
        "",
        "## Searches as people type them",
        "",
        "Seconds of a search by two jobs, refit included, by "
        "`benchmarks/typed_searches.py`; of scikit-learn's searches also how many "
        "times as long as the vectorized one they take, of the goal.",
    )
    yield from table(
        COLUMNS,
        (race(work, min(3, options.repeats)) for work in works),
    )


def main() -> None:
    """Print the table, or the seconds of one search that is cold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--cold", help="measure this kind of search, once")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    works = [work for work in WORKS if args.only in work.name]
    if args.cold:
        print(seconds_of(works[0], args.cold))
        return
    for line in table(COLUMNS, (race(work, args.repeats) for work in works)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
