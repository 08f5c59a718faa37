"""What becomes of fits and searches when another process holds one core.

    python -m benchmarks.busy_core [--repeats 3]

A core that is taken costs a fair program half of its speed. Threads that wait for each
other at every product may lose ten times as much: here nothing may take more than 2.5
times as long by its default parameters, with numba and without.
"""

import argparse
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import numpy as np

from benchmarks.search_against_peers import (
    KINDS,
    ONE_JOB,
    TWO_JOBS,
    WORKS,
    data_of,
    search_of,
)
from benchmarks.timing import against, seconds, short, table
from skgd import MiniBatchClassifier

GOAL = 2.5  # times as long, at the most

[NETWORKS] = [work for work in WORKS if work.name == "digits, 100 units"]


def holds_a_core() -> None:
    """Compute for ever."""
    while True:
        pass


@contextmanager
def one_core_held() -> Iterator[None]:
    """Let another process hold a core inside the block."""
    other = multiprocessing.get_context("spawn").Process(
        target=holds_a_core, daemon=True
    )
    other.start()
    time.sleep(0.5)  # it imports first
    try:
        yield
    finally:
        other.kill()
        other.join()


def fit_of(
    hidden: tuple[int, ...], batch_size: int, engine: str
) -> Callable[[], object]:
    """Return a fit of a network on 4,000 x 64."""
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(4000, 64)), generator.integers(10, size=4000)
    model = MiniBatchClassifier(
        hidden_layer_sizes=hidden,
        batch_size=batch_size,
        engine=engine,
        max_iter=5,
        tol=None,
        random_state=0,
    )
    return lambda: model.fit(X, y)


def search_by(kind: str, engine: str) -> Callable[[], object]:
    """Return a search over networks of 100 units."""
    search = search_of(KINDS[kind], NETWORKS, "cpu")
    search.estimator.set_params(engine=engine)
    return partial(search.fit, *data_of(NETWORKS))


def runs() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is timed, with its name."""
    for engine in ("auto", "torch"):
        yield f"fit, 64 -> 32 -> 10, {engine}", fit_of((32,), 32, engine)
        yield f"fit, 64 -> 256 -> 128 -> 10, {engine}", fit_of((256, 128), 128, engine)
        for kind in (ONE_JOB, TWO_JOBS):
            yield f"search, 100 units, {kind}, {engine}", search_by(kind, engine)


def race(name: str, run: Callable[[], object], repeats: int) -> list[str]:
    """Return a row of the table."""
    run()
    free = median(seconds(run) for _ in range(repeats))
    with one_core_held():
        held = median(seconds(run) for _ in range(repeats))
    return [name, short(free), short(held), against(held / free, GOAL, at_most=True)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    columns = ["by its default parameters", "seconds", "one core held", "times as long"]
    rows = (race(name, run, args.repeats) for name, run in runs())
    for line in table(columns, rows):
        print(line, flush=True)


if __name__ == "__main__":
    main()
