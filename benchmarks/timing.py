"""Times of competing runs, taken in turn, and how they are told."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import torch
from threadpoolctl import ThreadpoolController

Run = Callable[[], Any]

PACKAGES = ("skgd", "numba", "torch", "numpy", "scikit-learn", "skorch", "cuml")
ALL_THREADS = os.cpu_count() or 1
VERY_LONG = 20.0  # seconds

_pools = ThreadpoolController()


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Give torch, BLAS, OpenMP and joblib n threads inside the block.

    torch.set_num_threads is left alone, for who has called it has fixed the number for
    MKL, and skgd could not limit that any more.
    """
    with _pools.limit(limits=n), joblib.parallel_config("threading", n_jobs=n):
        yield


def seconds(run: Run) -> float:
    """Return the time of a run, to the end of what it started on a GPU."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def best_threads(run: Run) -> int:
    """Return the number of threads, 1 or all, with which the run is faster."""
    best: dict[int, float] = {}
    for _ in range(3):
        for n in {1, ALL_THREADS}:
            with threads(n):
                best[n] = min(best.get(n, float("inf")), seconds(run))
        if sum(best.values()) > 0.4:  # long runs say it at once
            break
    return min(best, key=best.__getitem__)


def in_turn(
    runs: dict[str, Run], repeats: int, n_threads: dict[str, int]
) -> dict[str, list[float]]:
    """Return seconds of each run, timed A B C A B C; all threads where none are set.

    What has taken very long is not run again: it tells enough.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            if sum(times[name]) > VERY_LONG:
                continue
            with threads(n_threads.get(name, ALL_THREADS)):
                times[name].append(seconds(run))
    return times


def with_range(times: Iterable[float], unit: float = 1.0) -> str:
    """Return the median, and the least and the greatest, each times the unit."""
    scaled = [unit * t for t in times]
    return f"{short(median(scaled))} ({short(min(scaled))}-{short(max(scaled))})"


def short(number: float) -> str:
    """Return the number with three digits that count, or all before the point."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.{2 - (number >= 1) - (number >= 10) + (number < 0.1)}f}"


def against(ratio: float, goal: float | None, at_most: bool = False) -> str:
    """Return a ratio and its goal; bold where that is reached."""
    if goal is None:
        return short(ratio)
    reached = ratio <= goal if at_most else ratio >= goal
    told = f"**{short(ratio)}**" if reached else short(ratio)
    return f"{told} of {goal:g}"


def table(columns: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, a row as soon as there is one."""
    yield from ("", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}")
    for row in rows:
        yield f"| {' | '.join(row)} |"


def header(device: str, quick: bool) -> Iterator[str]:
    """Yield the machine, the versions, and how it was measured."""
    machine = f"{processor()}, {ALL_THREADS} CPUs, {platform.system()}"
    if device == "cuda":
        machine += f", {torch.cuda.get_device_name()}"
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    yield from ("# Results", "", f"{machine}.", f"{', '.join(versions)}.")
    yield f"float32, at most {ALL_THREADS} threads. Medians (and their range)."
    if quick:
        yield "Quick: short fits of few rows, so that these are no more than hints."


def processor() -> str:
    """Return the name of the processor."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
