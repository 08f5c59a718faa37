"""The cost of a step against one size at a time: where the calls stop to dominate."""

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from benchmarks.competitors import fits_of
from benchmarks.floors import CALLS, STEPS, calls_a_step, floors_of
from benchmarks.options import Options
from benchmarks.timing import best_threads, in_turn, short, table
from benchmarks.works import Work, data_of

STEPS_OF_A_FIT = 400  # at least
ENGINES = ("numba", "torch")  # ours
SERIES = (*ENGINES, "torch loop", "products", "calls")

DEEP = Work("layers", 64 * STEPS_OF_A_FIT, 8, (), None, 64, epochs=1)
NETWORK = DEEP._replace(name="rows", hidden=(64, 64))
LINEAR = Work("features", 256 * 20, 8, (), 3, 256, epochs=20)
HIDDEN = Work("units", 256 * 20, 54, (), 7, 256, epochs=20)
WORKS = {
    "rows": {
        n: NETWORK._replace(n_rows=n, epochs=max(1, 64 * STEPS_OF_A_FIT // n))
        for n in (100, 1_000, 10_000, 100_000)
    },
    "features": {
        n: LINEAR._replace(n_features=n) for n in (4, 16, 64, 256, 1_024, 4_096)
    },
    "units": {n: HIDDEN._replace(hidden=(n,)) for n in (4, 16, 64, 256, 1_024)},
    "layers": {n: DEEP._replace(hidden=(64,) * (n - 1)) for n in (1, 2, 3, 5, 9, 17)},
}
TITLES = {
    "rows": "rows of X (8 features, two layers of 64, batch 64)",
    "features": "features (linear, three classes, batch 256)",
    "units": "hidden units (54 features, one layer, batch 256)",
    "layers": "layers (8 features, 64 units each, batch 64)",
}


class Point(NamedTuple):
    """The microseconds of a step, of each in SERIES that is there, at one size."""

    panel: str
    size: int
    microseconds: dict[str, float]


def lines(options: Options, points: list[Point]) -> Iterator[str]:
    """Yield a table for each size that grows, and add its points to those given."""
    yield from (
        "",
        "## Growth",
        "",
        "Microseconds a step, fits with all they do divided by their steps, of skgd by "
        "each of its engines; the bare matrix products; and as many of the smallest "
        "calls of torch as a step on torch makes.",
    )
    for panel, works in WORKS.items():
        sizes = list(works)[: 3 if options.quick else None]
        yield from ("", f"By {TITLES[panel]}:")
        yield from table([panel, *SERIES], rows(panel, sizes, options, points))


def rows(
    panel: str, sizes: list[int], options: Options, points: list[Point]
) -> Iterator[list[str]]:
    """Yield a row for each size, and add its point."""
    for size in sizes:
        microseconds = measured(WORKS[panel][size], options)
        points.append(Point(panel, size, microseconds))
        told = {name: short(taken) for name, taken in microseconds.items()}
        yield [f"{size:,}", *(told.get(name, "") for name in SERIES)]


def measured(work: Work, options: Options) -> dict[str, float]:
    """Return the microseconds of a step of each in SERIES that is there."""
    data, device = data_of(work), options.device
    runs = fits_of(work, data, device) | floors_of(work, data, device)
    runs = {name: runs[name] for name in SERIES if name in runs}
    for run in runs.values():
        run()
    rivals = {name: best_threads(runs[name]) for name in runs if name not in ENGINES}
    times = in_turn(runs, min(3, options.repeats), rivals)
    middle = {name: 1e6 * median(taken) for name, taken in times.items()}
    of_floors = {
        "products": middle.pop("products") / STEPS,
        "calls": middle.pop("calls") / CALLS * calls_a_step(work, data, device),
    }
    n_steps = work.steps * work.epochs
    return {name: time / n_steps for name, time in middle.items()} | of_floors
