"""Calls that do little: `partial_fit` of 32 rows, `predict` of one row and of many."""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any

from benchmarks.competitors import engines, mlp, of_skorch, ours, sgd, skorch
from benchmarks.fits import ENGINES
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
LINEAR = Work("linear, sgd", 100_000, 20, (), 2, 32, epochs=1)
ADAM = LINEAR._replace(name="linear, default", optimizer="adam", lr=0.05)
NETWORK = LINEAR._replace(name="64 units, sgd", hidden=(64,))
STREAM = Work("text", 10_000, 2**20, (), 5, 100, epochs=1, sparse=True)
WORKS = [ADAM, LINEAR, NETWORK, STREAM]

# How many times as long as ours a call of theirs should take.
GOALS: dict[tuple[str, str], dict[str, float]] = {
    (ADAM.name, "partial_fit"): {"SGD": 1.8, "skorch": 10},
    (LINEAR.name, "partial_fit"): {"SGD": 2, "MLP": 4, "skorch": 10},
    (NETWORK.name, "partial_fit"): {"MLP": 6, "skorch": 10},
    (STREAM.name, "partial_fit"): {"SGD": 0.5},
    (LINEAR.name, "predict"): {"MLP": 1, "SGD": 1, "skorch": 2},
    (NETWORK.name, "predict"): {"MLP": 1, "skorch": 2},
}


def lines(options: Options) -> Iterator[str]:
    """Yield the table of calls."""
    n_calls, n_rows = (50, 10_000) if options.quick else (300, 100_000)
    works = [
        work if work.sparse else work._replace(n_rows=n_rows)
        for work in WORKS
        if any(name in work.name for name in options.works)
    ]
    if not works:
        return
    yield from (
        "",
        "## Small calls",
        "",
        "Microseconds a call, of skgd by each of its engines (predictions are those of "
        "torch), and how many times as long as that of engine='auto' the others' take, "
        "of the goal.",
    )
    yield from table(
        [
            *("model", "call", *ENGINES, "auto"),
            *(name for rival in RIVALS for name in (rival, "")),
        ],
        (row for work in works for row in races(work, n_calls, options)),
    )


def races(work: Work, n_calls: int, options: Options) -> Iterator[list[str]]:
    """Yield a row for each kind of call."""
    data = data_of(work)
    models = models_of(work, options.device)
    few = data[0][: work.batch_size], data[1][: work.batch_size]
    for name, model in models.items():
        train(work, model, few, name)
    auto = models.pop("auto").engine_
    predict = {name: model for name, model in models.items() if name != "numba"}
    kinds: dict[str, dict[str, Run]] = {
        "partial_fit": {
            name: partial(repeated, [partial(train, work, model, few, name)], n_calls)
            for name, model in models.items()
        },
    }
    many = f"predict, {work.n_rows:,} rows"
    if not work.sparse and work is not ADAM:
        kinds["predict"] = {
            name: partial(repeated, [partial(model.predict, data[0][:1])], n_calls)
            for name, model in predict.items()
        }
        kinds[many] = {
            name: partial(model.predict, data[0]) for name, model in predict.items()
        }
    for kind, runs in kinds.items():
        n = 1 if kind == many else n_calls
        rivals = {name: best_threads(runs[name]) for name in runs if name in RIVALS}
        times = in_turn(runs, options.repeats, rivals)
        told = {name: with_range(times[name], 1e6 / n) for name in times}
        taken = auto if kind == "partial_fit" else "torch"
        cells = [*(told.get(name, "") for name in ENGINES), taken]
        for name in RIVALS:
            if name not in times:
                cells += ["", ""]
                continue
            ratio = median(times[name]) / median(times[taken])
            goal = GOALS.get((work.name, kind), {}).get(name)
            cells += [told[name], against(ratio, goal)]
        yield [work.name, kind, *cells]


def models_of(work: Work, device: str) -> dict[str, Any]:
    """Return an estimator of each kind that can have the work, ours by each engine."""
    models = {name: ours(work, device, name) for name in ("auto", *engines(device))}
    if not work.hidden:
        models["SGD"] = sgd(work)
    if work.sparse:
        return models
    models["MLP"] = mlp(work)
    if find_spec("skorch"):
        models["skorch"] = skorch(work, device)
    return models


def train(work: Work, model: Any, data: Data, name: str) -> None:
    """Take one step on the rows; skorch is not told the classes."""
    if name == "skorch":
        model.partial_fit(*of_skorch(work, data))
    else:
        model.partial_fit(*data, classes=range(work.n_classes or 0))
