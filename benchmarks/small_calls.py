"""Calls that do little: `partial_fit` of 32 rows, `predict` of one row and of many."""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any

from benchmarks.competitors import mlp, of_skorch, ours, sgd, skorch
from benchmarks.floors import repeated
from benchmarks.options import Options
from benchmarks.timing import (
    Run,
    against,
    best_threads,
    in_turn,
    table,
    with_range,
)
from benchmarks.works import Data, Work, data_of

RIVALS = ("MLP", "SGD", "skorch")
GOALS = {
    "partial_fit": {"SGD": 1, "MLP": 4, "skorch": 10},
    "predict": {"MLP": 1, "SGD": 1, "skorch": 2},
}
LINEAR = Work("linear", 100_000, 20, (), 2, 32, epochs=1)
NETWORK = LINEAR._replace(name="64 units", hidden=(64,))


def lines(options: Options) -> Iterator[str]:
    """Yield the table of calls."""
    n_calls, n_rows = (50, 10_000) if options.quick else (300, 100_000)
    works = [work._replace(n_rows=n_rows) for work in (LINEAR, NETWORK)]
    yield from (
        "",
        "## Small calls",
        "",
        "Microseconds a call, 20 features and two classes, and how many times as long "
        "as skgd's the others' take, of the goal.",
    )
    yield from table(
        ["model", "call", "skgd", *(name for rival in RIVALS for name in (rival, ""))],
        (row for work in works for row in races(work, n_calls, options)),
    )


def races(work: Work, n_calls: int, options: Options) -> Iterator[list[str]]:
    """Yield a row for each kind of call."""
    data = data_of(work)
    models = models_of(work, options.device)
    few = data[0][:32], data[1][:32]
    for name, model in models.items():
        train(work, model, few, name)
    one = data[0][:1]
    many = f"predict, {work.n_rows:,} rows"
    kinds: dict[str, dict[str, Run]] = {
        "partial_fit": {
            name: partial(repeated, [partial(train, work, model, few, name)], n_calls)
            for name, model in models.items()
        },
        "predict": {
            name: partial(repeated, [partial(model.predict, one)], n_calls)
            for name, model in models.items()
        },
        many: {name: partial(model.predict, data[0]) for name, model in models.items()},
    }
    for kind, runs in kinds.items():
        n = 1 if kind == many else n_calls
        rivals = {name: best_threads(runs[name]) for name in runs if name != "skgd"}
        times = in_turn(runs, options.repeats, rivals)
        cells = [with_range(times["skgd"], 1e6 / n)]
        for name in RIVALS:
            if name not in times:
                cells += ["", ""]
                continue
            ratio = median(times[name]) / median(times["skgd"])
            cells.append(with_range(times[name], 1e6 / n))
            cells.append(against(ratio, GOALS.get(kind, {}).get(name)))
        yield [work.name, kind, *cells]


def models_of(work: Work, device: str) -> dict[str, Any]:
    """Return an estimator of each kind that can have the work."""
    models = {"skgd": ours(work, device), "MLP": mlp(work)}
    if not work.hidden:
        models["SGD"] = sgd(work)
    if find_spec("skorch"):
        models["skorch"] = skorch(work, device)
    return models


def train(work: Work, model: Any, data: Data, name: str) -> None:
    """Take one step on the rows; skorch is not told the classes."""
    if name == "skorch":
        model.partial_fit(*of_skorch(work, data))
    else:
        model.partial_fit(*data, classes=(0, 1))
