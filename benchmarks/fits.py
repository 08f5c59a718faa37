"""The fits of all works: how many times as long as ours the others take, and floors."""

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.competitors import fits_of, ours
from benchmarks.floors import CALLS, READS, STEPS, calls_a_step, floors_of
from benchmarks.options import Options
from benchmarks.timing import (
    against,
    best_threads,
    in_turn,
    short,
    table,
    with_range,
)
from benchmarks.works import Data, Work, chosen, data_of, tenth

ENGINES = ("numba", "torch")
RIVALS = ("MLP", "SGD", "torch loop", "gathering loop", "skorch")
ON_CUDA = ("CUDA graph", "cuml")


def lines(options: Options) -> Iterator[str]:
    """Yield the table of ratios, that of times, and that of floors."""
    works = chosen(options.works, options.quick)
    if not works:
        return
    rivals = RIVALS + ON_CUDA * (options.device == "cuda")
    details: list[list[str]] = []
    floors: list[list[str]] = []
    yield from (
        "",
        "## Fits",
        "",
        "skgd by each of its engines, and how many times as long as the one that "
        "engine='auto' takes the others take for an epoch, of the goal; bold where "
        "that is reached.",
    )
    yield from table(
        [
            "work",
            *(f"{engine}, ms an epoch" for engine in ENGINES),
            "auto",
            "us a step",
            *rivals,
        ],
        (race(work, rivals, options, details, floors) for work in works),
    )
    yield from (
        "",
        "Milliseconds an epoch, and with how many threads: 1 or all, what is faster.",
    )
    yield from table(["work", *ENGINES, *rivals], details)
    yield from (
        "",
        "Our time (auto) over that of the bare matrix products, of reads of X "
        "(`X.sum()`), and of as many of the smallest calls of torch as a step on torch "
        "makes; where there is a goal, it is the most.",
    )
    yield from table(
        [
            "work",
            "products, ms an epoch",
            "ours over them",
            "a read, ms",
            "ours in reads",
            "calls a step",
            "us a call",
            "ours over them",
        ],
        floors,
    )


def race(
    work: Work,
    rivals: tuple[str, ...],
    options: Options,
    details: list[list[str]],
    floors: list[list[str]],
) -> list[str]:
    """Return the row of ratios, and add one to the details and one to the floors."""
    data = data_of(work)
    fits = fits_of(work, data, options.device)
    short_fits = fits_of(tenth(work), data, options.device)
    short_fits = {name: short_fits[name] for name in fits}
    bare = floors_of(work, data, options.device)
    for run in (short_fits | bare).values():  # the first use of a loop compiles it
        run()
    n_threads = {
        name: best_threads(run)
        for name, run in (short_fits | bare).items()
        if name not in ENGINES
    }
    times = in_turn(fits | bare, options.repeats, n_threads)

    epochs = {
        name: work.epochs if name in (*ENGINES, "SGD") else work.few_epochs
        for name in fits
    }
    epoch = {name: median(times[name]) / epochs[name] for name in fits}
    auto = chosen_engine(work, data, options.device)
    told = {name: with_range(times[name], 1e3 / epochs[name]) for name in fits}
    details.append(
        [
            str(work),
            *(
                told[name] + (f", {n_threads[name]} t" if name in n_threads else "")
                if name in fits
                else ""
                for name in (*ENGINES, *rivals)
            ),
        ]
    )
    floors.append(over_floors(work, data, options, times, epoch[auto]))
    return [
        str(work),
        *(told.get(name, "") for name in ENGINES),
        auto,
        "" if work.as_typed else short(1e6 * epoch[auto] / work.steps),
        *(
            against(epoch[name] / epoch[auto], work.goals.get(name))
            if name in epoch
            else ""
            for name in rivals
        ),
    ]


def over_floors(
    work: Work,
    data: Data,
    options: Options,
    times: dict[str, list[float]],
    epoch: float,
) -> list[str]:
    """Return the row of floors, and what an epoch of ours is over them."""
    row = [str(work)] + [""] * 7
    if "products" in times:
        products = median(times["products"]) / STEPS * work.steps
        read = median(times["reads"]) / READS
        over = partial(against, at_most=True)
        row[1:5] = [
            short(1e3 * products),
            over(epoch / products, work.at_most.get("products")),
            short(1e3 * read),
            over(epoch / read, work.at_most.get("reads")),
        ]
    if not work.as_typed:  # such a fit takes epochs as it likes
        a_call = median(times["calls"]) / CALLS
        n_calls = calls_a_step(work, data, options.device)
        over_calls = epoch / (n_calls * a_call * work.steps)
        row[5:] = [short(n_calls), short(1e6 * a_call), short(over_calls)]
    return row


def chosen_engine(work: Work, data: Data, device: str) -> str:
    """Return the engine that takes the work, unless another is asked for."""
    model = ours(work._replace(epochs=1), device)
    if work.as_typed:
        model.set_params(max_iter=1, tol=None)
    engine: str = model.fit(*data).engine_
    return engine
