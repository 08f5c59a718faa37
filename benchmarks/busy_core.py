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
from statistics import median

import numpy as np

from benchmarks.timing import against, short, table
from benchmarks.typed_searches import Work, data_of, flattering, search_of
from skgd import MiniBatchClassifier

GOAL = 2.5  # times as long, at the most


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


def search_by(n_jobs: int | None, engine: str) -> Callable[[], object]:
    """Return a search over networks of 100 units."""
    work: Work = flattering(100, 0.0)
    search = search_of(
        work._replace(params={**work.params, "engine": engine}), "vectorized"
    )
    search.set_params(n_jobs=n_jobs)
    X, y = data_of(work)
    return lambda: search.fit(X, y)


def runs() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is timed, with its name."""
    for engine in ("auto", "torch"):
        yield f"fit, 64 -> 32 -> 10, {engine}", fit_of((32,), 32, engine)
        yield f"fit, 64 -> 256 -> 128 -> 10, {engine}", fit_of((256, 128), 128, engine)
        for n_jobs in (None, 2):
            name = f"search, 100 units, n_jobs={n_jobs}, {engine}"
            yield name, search_by(n_jobs, engine)


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def race(name: str, run: Callable[[], object], repeats: int) -> list[str]:
    """Return a row of the table."""
    run()
    free = seconds(run, repeats)
    with one_core_held():
        held = seconds(run, repeats)
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
