"""What an ensemble costs, and how much better it is than one model.

    python -m benchmarks.ensembles [--data DIR] [--seeds N] [--repeats N]

The data of `benchmarks.out_of_the_box`, whose folds and preparation are those here.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from benchmarks.out_of_the_box import (
    LEVEL,
    Contest,
    DataSet,
    Outcome,
    data_sets,
    missing,
    ours,
    rows,
)
from benchmarks.timing import Run, seconds, short, table
from skgd import MiniBatchRegressor

N_MODELS, UNITS = 8, (32,)

# Rows, columns, and epochs of the fits that are timed.
SIZES = ((1_000, 10, 60), (5_000, 20, 20), (20_000, 50, 6))

AS_ONE = Contest(
    f"{N_MODELS} models against one: all parameters are defaults, but "
    f"`hidden_layer_sizes={UNITS}`",
    partial(ours, hidden_layer_sizes=UNITS, n_models=N_MODELS),
    "one model",
    partial(ours, hidden_layer_sizes=UNITS),
)


def costs(repeats: int) -> Iterator[list[str]]:
    """Yield a row for each size and engine: one model, the ensemble, as many fits."""
    rng = np.random.default_rng(0)
    for (n, i, max_iter), engine in product(SIZES, ("numba", "torch")):
        X = rng.normal(size=(n, i))
        y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=n)
        params = {"hidden_layer_sizes": UNITS, "max_iter": max_iter, "tol": None}
        one = MiniBatchRegressor(engine=engine, random_state=0, **params)
        many = clone(one).set_params(n_models=N_MODELS)
        one.fit(X, y)
        fits = partial(_fits, clone(one), X, y)
        runs = [partial(one.fit, X, y), partial(many.fit, X, y), fits]
        best = least(runs, repeats)
        yield [
            engine,
            f"{n:,} x {i}",
            *(short(wall) for wall, _ in best),
            *(short(best[1][clock] / best[0][clock]) for clock in (0, 1)),
        ]


def least(runs: Iterable[Run], repeats: int) -> list[tuple[float, float]]:
    """Return the least seconds of each run, A B A B, and of processors likewise.

    The latter say what a run costs where others hold the cores as well.
    """
    times: dict[Run, list[tuple[float, float]]] = {run: [] for run in runs}
    for _, (run, of_run) in product(range(repeats), times.items()):
        cpu = time.process_time()
        of_run.append((seconds(run), time.process_time() - cpu))
    return [
        (min(s for s, _ in of_run), min(cpu for _, cpu in of_run))
        for of_run in times.values()
    ]


def _fits(model: Any, X: np.ndarray, y: np.ndarray) -> None:
    """Fit as many models as an ensemble has, one after the other."""
    for seed in range(N_MODELS):
        model.set_params(random_state=seed).fit(X, y)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return in a sentence how often an ensemble is better."""
    ahead = [outcome.ahead for outcome in outcomes]
    better, worse = sum(one > 0 for one in ahead), sum(one < 0 for one in ahead)
    by_level = sum(one >= LEVEL for one in ahead)
    scores = [mean(outcome.scores[n] for outcome in outcomes) for n in (0, 1)]
    return (
        f"The ensemble is better on {better} of {len(ahead)}, by {LEVEL} or more on "
        f"{by_level}; worse on {worse}, at the worst by {min(ahead):+.3f}. Mean score "
        f"{scores[0]:.3f}, of one model {scores[1]:.3f}."
    )


def lines(folder: Path | None, n_seeds: int, repeats: int) -> Iterator[str]:
    """Yield the tables of costs and of scores."""
    n_threads = torch.get_num_threads()
    yield f"## {N_MODELS} models of {UNITS[0]} units, on {n_threads} threads"
    columns = ["engine", "rows x columns", "one, s", "ensemble, s"]
    columns += [f"{N_MODELS} fits, s", "ensemble / one", "the same, CPU time"]
    yield from table(columns, costs(repeats))
    yield from ("", f"## {AS_ONE.title}", *missing(folder))
    columns = ["data", "rows x columns", "ensemble", AS_ONE.peer, "ahead by"]
    columns += ["ensemble, s", f"{AS_ONE.peer}, s"]
    data: list[DataSet] = list(data_sets(folder))
    outcomes: list[Outcome] = []
    yield from table(columns, rows(AS_ONE, data, n_seeds, outcomes))
    yield from ("", summary(outcomes))


def main(arguments: list[str] | None = None) -> None:
    """Fit all, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of more data")
    parser.add_argument(
        "--seeds", type=int, default=1, help="orders of the rows, and starts (1)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each fit (3)")
    args = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for line in lines(args.data, args.seeds, args.repeats):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
