"""Time a vectorized search against GridSearchCV over three estimators, in one run.

    python benchmarks/search_against_peers.py [--quick] [--repeats 5] [--device cuda]

The vectorized searches run with n_jobs=2 and with n_jobs=None, and scikit-learn's with
n_jobs=2 over our own estimator, over MLPClassifier or MLPRegressor, and over a network
of skorch. All see the same float32 data, folds, batch size, number of epochs, learning
rates and values of alpha, without momentum or early stopping. (MLPClassifier divides
its alpha by the rows of a batch, and skorch's counts for intercepts too, which takes
the same time.) The time of a search includes the scores and the fit of the winner.
Searches alternate, after a short one of each that does not count; medians are compared.
Winner and scores are compared with those of GridSearchCV over our own estimator.

Memory is measured in a new process for each search, after a short one of its kind has
loaded what is loaded once and started the workers. The peaks of resident memory that
Linux keeps for the process and its workers are set back, and read after the search.
All of these processes have torch loaded, those of MLPClassifier too, which needs none.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing import active_children
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.timing import against
from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedRandomizedSearchCV,
)

HOUSING = Path(__file__).parents[2] / "shared" / "data" / "california_housing.csv"

Arrays = tuple[np.ndarray, np.ndarray]
Range = tuple[float, float, int]  # from, to, and how many values a grid has of it


class Work(NamedTuple):
    """The data, the candidates among which to search, and how each is trained."""

    name: str
    housing: bool = False  # California housing instead of digits
    lr: Range = (10**-2.5, 10**-0.3, 6)
    alpha: Range = (1e-5, 1e-1, 4)
    hidden: tuple[tuple[int, ...], ...] = ((),)  # searched where there are several
    batch_size: tuple[int, ...] = (64,)  # likewise
    n_random: int | None = None  # candidates drawn from the ranges, if it is no grid
    one_in: int = 1  # of so many candidates, scikit-learn's searches try only one
    cv: int = 5
    optimizer: str = "sgd"
    epochs: int = 20
    goal: float | None = None  # how many times as fast as the search over MLP

    def __str__(self) -> str:
        n_shapes = len(self.hidden) * len(self.batch_size)
        n_candidates = self.n_random or self.lr[2] * self.alpha[2] * n_shapes
        return f"{self.name}, {n_candidates} x {self.cv}"


FOUR_LRS = {"lr": (10**-2.5, 10**-0.3, 4), "alpha": (1e-4, 1e-4, 1)}
OF_HOUSING = {
    "housing": True,
    "lr": (10**-3, 10**-1.6, 6),
    "batch_size": (256,),
    "epochs": 10,
}
WORKS = [
    Work("digits, linear", goal=28),
    Work("digits, 8 units", hidden=((8,),), goal=24),
    Work("digits, 32 units", hidden=((32,),), goal=14),
    Work("digits, 100 units", hidden=((100,),), goal=8),
    Work("few candidates, 32 units", hidden=((32,),), **FOUR_LRS, cv=10),
    Work("many candidates, linear", n_random=500, one_in=5),
    Work(
        "Adam, 32 units",
        hidden=((32,),),
        optimizer="adam",
        lr=(10**-3.5, 10**-1.3, 6),
    ),
    Work("housing, linear", **OF_HOUSING),
    Work("housing, 32 units", hidden=((32,),), **OF_HOUSING),
    Work(
        "2 batch sizes, 0, 16 and 32 units",
        batch_size=(32, 128),
        hidden=((), (16,), (32,)),
        **FOUR_LRS,
    ),
]
WORKS_ON_CUDA = [
    Work("1,000 models, 32 units", hidden=((32,),), n_random=200, one_in=5),
    Work("1,000 models, 100 units", hidden=((100,),), n_random=200, one_in=5),
]


def ours(work: Work, device: str = "cpu") -> Any:
    """Return our estimator."""
    cls = MiniBatchRegressor if work.housing else MiniBatchClassifier
    return cls(
        hidden_layer_sizes=work.hidden[0],
        optimizer=work.optimizer,
        batch_size=work.batch_size[0],
        max_iter=work.epochs,
        tol=None,
        random_state=0,
        device=device,
    )


def scikit_learns(work: Work) -> Any:
    """Return the multi-layer perceptron of scikit-learn."""
    cls = MLPRegressor if work.housing else MLPClassifier
    return cls(
        hidden_layer_sizes=work.hidden[0],
        solver=work.optimizer,
        momentum=0.0,
        nesterovs_momentum=False,
        batch_size=work.batch_size[0],
        max_iter=work.epochs,
        n_iter_no_change=work.epochs + 1,
        early_stopping=False,
        random_state=0,
    )


def skorchs(work: Work) -> Any:
    """Return the estimator of skorch, without its callbacks."""
    from skorch import NeuralNetClassifier, NeuralNetRegressor

    cls = NeuralNetRegressor if work.housing else NeuralNetClassifier
    return cls(
        layers,
        module__n_features=8 if work.housing else 64,
        module__hidden=work.hidden[0],
        module__n_outputs=1 if work.housing else 10,
        criterion=nn.MSELoss if work.housing else nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam if work.optimizer == "adam" else torch.optim.SGD,
        batch_size=work.batch_size[0],
        max_epochs=work.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks="disable",
        verbose=0,
    )


def layers(n_features: int, hidden: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Return a network of torch, which starts from the same weights every time."""
    torch.manual_seed(0)
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise([n_features, *hidden, n_outputs]):
        modules += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


class Kind(NamedTuple):
    """A kind of search, and what it calls parameters that have another name of ours."""

    estimator_of: Callable[..., Any]
    names: dict[str, str]
    vectorized: bool = False
    n_jobs: int | None = 2


OF_SKORCH = {"alpha": "optimizer__weight_decay", "hidden_layer_sizes": "module__hidden"}
KINDS = {
    "vectorized, n_jobs=2": Kind(ours, {}, vectorized=True),
    "vectorized, n_jobs=None": Kind(ours, {}, vectorized=True, n_jobs=None),
    "skgd": Kind(ours, {}),
    "MLP": Kind(scikit_learns, {"lr": "learning_rate_init"}),
    "skorch": Kind(skorchs, OF_SKORCH),
}
TWO_JOBS, ONE_JOB, ONE_BY_ONE = list(KINDS)[:3]


def search_of(kind: Kind, work: Work, device: str) -> Any:
    """Return a search; one that is not vectorized computes on the CPU."""
    estimator = kind.estimator_of(work, *[device] * kind.vectorized)
    values = {kind.names.get(name, name): some for name, some in space(work).items()}
    options = {"cv": work.cv, "n_jobs": kind.n_jobs}
    if work.n_random is None:
        cls = VectorizedGridSearchCV if kind.vectorized else GridSearchCV
        return cls(estimator, values, **options)
    cls = VectorizedRandomizedSearchCV if kind.vectorized else RandomizedSearchCV
    n_iter = work.n_random // one_in(kind, work)
    return cls(estimator, values, n_iter=n_iter, random_state=0, **options)


def space(work: Work) -> dict[str, Any]:
    """Return the values, or the distributions, of our parameters that are searched."""
    several = {"hidden_layer_sizes": work.hidden, "batch_size": work.batch_size}
    searched = {name: values for name, values in several.items() if len(values) > 1}
    for name, (low, high, n) in {"lr": work.lr, "alpha": work.alpha}.items():
        in_grid = work.n_random is None
        searched[name] = (
            np.geomspace(low, high, n) if in_grid else loguniform(low, high)
        )
    return searched


def one_in(kind: Kind, work: Work) -> int:
    """Return out of how many candidates one is tried: the first of those drawn."""
    return 1 if kind.vectorized else work.one_in


def short(work: Work) -> Work:
    """Return the work with few candidates and one epoch."""
    return work._replace(
        lr=(*work.lr[:2], 2),
        alpha=(*work.alpha[:2], min(2, work.alpha[2])),
        n_random=work.n_random and 4 * work.one_in,
        epochs=1,
    )


def data_of(work: Work) -> Arrays:
    """Return standardised features, and classes or standardised prices."""
    if not work.housing:
        X, y = load_digits(return_X_y=True)
        return StandardScaler().fit_transform(X).astype(np.float32), y
    table = np.genfromtxt(HOUSING, delimiter=",", skip_header=1, usecols=range(9))
    table = np.where(np.isnan(table), np.nanmedian(table, axis=0), table)
    table = np.random.default_rng(0).permutation(table)  # they are in order of place
    table = StandardScaler().fit_transform(table).astype(np.float32)
    return table[:, :8], table[:, 8]


def fit(search: Any, kind: Kind, data: Arrays) -> None:
    """Fit a search; skorch's regressor wants its targets in a column."""
    X, y = data
    in_column = kind.estimator_of is skorchs and y.dtype == np.float32
    search.fit(X, y[:, np.newaxis] if in_column else y)


def seconds(search: Any, kind: Kind, work: Work, data: Arrays) -> float:
    """Return the time of a search over all candidates, though some may be left out."""
    start = time.perf_counter()
    fit(search, kind, data)
    taken = time.perf_counter() - start
    return (taken - search.refit_time_) * one_in(kind, work) + search.refit_time_


def race(work: Work, kinds: list[str], repeats: int, device: str) -> list[str]:
    """Return a row of the table of times."""
    data = data_of(work)
    for name in kinds:
        fit(search_of(KINDS[name], short(work), device), KINDS[name], data)
    searches = {name: search_of(KINDS[name], work, device) for name in kinds}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, search in searches.items():
            times[name].append(seconds(search, KINDS[name], work, data))
    cells = []
    for name, t in times.items():
        cell = f"{median(t):.3g} ({min(t):.3g}-{max(t):.3g})"
        if not KINDS[name].vectorized:
            ratios = [median(t) / median(times[other]) for other in (TWO_JOBS, ONE_JOB)]
            goals = [work.goal if name == "MLP" else None, None]
            told = map(against, ratios, goals)
            cell += ", x" + " / x".join(told)
            cell += f", from 1 in {work.one_in}" if work.one_in > 1 else ""
        cells.append(cell)
    agreement = compared(searches[TWO_JOBS], searches[ONE_BY_ONE])
    return [str(work), *cells, agreement]


def compared(vectorized: Any, one_by_one: Any) -> str:
    """Say whether two searches agree on the candidates that both have."""
    n_candidates = len(one_by_one.cv_results_["params"])
    scores, other_scores = (
        np.array(
            [
                search.cv_results_[f"split{n}_test_score"][:n_candidates]
                for n in range(search.n_splits_)
            ]
        )
        for search in (vectorized, one_by_one)
    )
    winner = vectorized.cv_results_["params"][scores.mean(axis=0).argmax()]
    same = "the same" if winner == one_by_one.best_params_ else "another"
    difference = np.abs(scores - other_scores).max()
    return f"{same} winner, scores within {difference:.1g}"


def resident(processes: list[int], line: str) -> int:
    """Return the resident memory of processes, in MiB: VmRSS now, VmHWM at its peak."""
    status = [Path(f"/proc/{process}/status").read_text() for process in processes]
    return sum(int(re.search(rf"{line}:\s*(\d+)", s)[1]) for s in status) // 1024


def memory(name: str, work: Work, device: str) -> str:
    """Return the peak memory of a search, and how much of it the search added."""
    kind, data = KINDS[name], data_of(work)
    fit(search_of(kind, short(work), device), kind, data)
    processes = [os.getpid(), *(worker.pid for worker in active_children())]
    before = resident(processes, "VmRSS")
    for process in processes:
        Path(f"/proc/{process}/clear_refs").write_text("5")  # sets VmHWM back
    fit(search_of(kind, work, device), kind, data)
    peak = resident(processes, "VmHWM")
    cell = f"{peak:,} (+{peak - before:,})"
    if kind.vectorized and device == "cuda":
        cell += f", {torch.cuda.max_memory_allocated() // 2**20:,} on the device"
    return cell


def memory_in_new_process(name: str, work: Work) -> str:
    """Return what ``memory`` does in a new process, by this script with its options."""
    command = [sys.executable, *sys.argv, "--memory-of", name, "--only", work.name]
    return subprocess.run(command, stdout=PIPE, text=True, check=True).stdout.strip()


def machine_and_versions(device: str) -> str:
    """Return what the times are times of."""
    words = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    if device == "cuda":
        words += f", {torch.cuda.get_device_name()}"
    for package in ("skgd", "torch", "scikit-learn", "skorch", "joblib"):
        try:
            words += f"; {package} {version(package)}"
        except PackageNotFoundError:
            words += f"; no {package}, so that its column is left out"
    return words


def print_cold(work: Work, device: str) -> None:
    """Print the time of a first search."""
    kind = KINDS[TWO_JOBS]
    taken = seconds(search_of(kind, work, device), kind, work, data_of(work))
    print(
        f"A first search, {work}, n_jobs=2, starts its workers and takes {taken:.2f} s"
    )


def print_table(title: str, columns: list[str], rows: Any) -> None:
    """Print a Markdown table, a row as soon as there is one."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    """Print a table of times, and one of memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="searches of each (5)")
    parser.add_argument("--quick", action="store_true", help="short works, once each")
    parser.add_argument("--device", default="cpu", help="of the vectorized searches")
    parser.add_argument("--only", default="", help="only those with this in the name")
    parser.add_argument("--memory-of", choices=KINDS, help="print no more than that")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are set

    device, repeats = args.device, 1 if args.quick else args.repeats
    works = WORKS + WORKS_ON_CUDA if device == "cuda" else WORKS
    works = [short(work) if args.quick else work for work in works]
    works = [work for work in works if args.only in work.name]
    if not HOUSING.exists():
        works = [work for work in works if not work.housing]
    if not works:
        parser.error(f"there is no work with {args.only!r} in its name")
    if args.memory_of:
        print(memory(args.memory_of, works[0], device))
        return

    print(machine_and_versions(device))
    if not HOUSING.exists():
        print(f"California housing is left out: it is not at {HOUSING}")
    kinds = [name for name in KINDS if name != "skorch" or find_spec("skorch")]
    print_cold(works[0], device)
    print_table(
        f"Seconds, medians of {repeats} searches (and their range). The last columns "
        "are scikit-learn's search over skgd, MLP and skorch, n_jobs=2; x: how many "
        "times as long as the vectorized search, with n_jobs=2 / with n_jobs=None; "
        "from 1 in 5: timed on a fifth of the candidates, and multiplied.",
        ["candidates x folds", *kinds, "skgd one by one finds"],
        (race(work, kinds, repeats, device) for work in works),
    )
    print_table(
        "MiB resident at the peak, in all processes (what the search added to it)",
        ["candidates x folds", *kinds],
        (
            [str(work), *(memory_in_new_process(name, work) for name in kinds)]
            for work in (works[:1] if args.quick else works)
        ),
    )


if __name__ == "__main__":
    main()
