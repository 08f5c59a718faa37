"""The descent of an example, against loops in NumPy and plain Python that do the same.

They are those of ``examples/california_housing.py``, on standard normal rows of the
same number, in float64.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from runpy import run_path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.competitors import engines
from benchmarks.fits import ENGINES
from benchmarks.options import Options
from benchmarks.timing import against, in_turn, table, with_range
from skgd import MiniBatchRegressor

NAME = "descent"
N_ROWS, N_FEATURES, EPOCHS = 20_640, 8, 1000
GOALS = {"NumPy": 8, "plain Python": 60}
EXAMPLE = Path(__file__).parents[1] / "examples" / "california_housing.py"


def lines(options: Options) -> Iterator[str]:
    """Yield the table of one descent."""
    if not any(name in NAME for name in options.works):
        return
    epochs = 10 if options.quick else EPOCHS
    yield from (
        "",
        "## The same descent by hand",
        "",
        f"Seconds of {EPOCHS:,} epochs of {N_ROWS:,} x {N_FEATURES} in batches of 80, "
        "float64 (of the loops, of a few epochs, scaled), and how many times as long "
        "as skgd the loops take, of the goal.",
    )
    yield from table(
        [*ENGINES, "auto", *(name for rival in GOALS for name in (rival, ""))],
        [race(epochs, options)],
    )


def race(epochs: int, options: Options) -> list[str]:
    """Return the row of times and ratios."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_FEATURES))
    y = X @ rng.normal(size=N_FEATURES) + rng.normal(size=N_ROWS)
    example = run_path(str(EXAMPLE))
    of_loops = {"NumPy": max(1, epochs // 10), "plain Python": max(1, epochs // 100)}
    loops = {"NumPy": "descend_in_numpy", "plain Python": "descend_in_python"}

    def descend(engine: str, n_epochs: int) -> Any:
        params = {**example["PLAIN"], "lr": example["LR"], "random_state": 0}
        params |= {"batch_size": example["BATCH_SIZE"], "max_iter": n_epochs}
        return MiniBatchRegressor(engine=engine, **params).fit(X, y)

    auto = descend("auto", 1).engine_
    ours = engines(options.device)
    for engine in ours:
        descend(engine, 1)
    runs = {engine: partial(descend, engine, epochs) for engine in ours}
    runs |= {k: partial(example[v], X, y, of_loops[k]) for k, v in loops.items()}
    times = in_turn(runs, options.repeats, dict.fromkeys(loops, 1))
    scale = {name: EPOCHS / of_loops.get(name, epochs) for name in times}
    told = {name: with_range(times[name], scale[name]) for name in times}
    seconds = {name: scale[name] * median(times[name]) for name in times}
    row = [*(told.get(name, "") for name in ENGINES), auto]
    for name, goal in GOALS.items():
        row += [told[name], against(seconds[name] / seconds[auto], goal)]
    return row
