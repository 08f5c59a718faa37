"""The fits of all works: how many times as long as ours the others take, and floors."""

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.competitors import fits_of
from benchmarks.floors import CALLS, READS, STEPS, calls_a_step, floors_of
from benchmarks.options import Options
from benchmarks.timing import (
    ALL_THREADS,
    against,
    best_threads,
    in_turn,
    short,
    table,
    with_range,
)
from benchmarks.works import Work, chosen, data_of

RIVALS = ("MLP", "SGD", "torch loop", "gathering loop", "skorch")
ON_CUDA = ("CUDA graph", "cuml")


def lines(options: Options) -> Iterator[str]:
    """Yield the table of ratios, that of times, and that of floors."""
    works = chosen(options.works, options.quick)
    rivals = RIVALS + ON_CUDA * (options.device == "cuda")
    details: list[list[str]] = []
    floors: list[list[str]] = []
    yield from (
        "",
        "## Fits",
        "",
        "How many times as long as skgd the others take for an epoch, of the "
        "goal; bold where that is reached.",
    )
    yield from table(
        ["work", "skgd, ms an epoch", "us a step", *rivals],
        (race(work, rivals, options, details, floors) for work in works),
    )
    yield from (
        "",
        "Milliseconds an epoch, and with how many threads: 1 or all, what is faster.",
    )
    yield from table(["work", "skgd", *rivals], details)
    yield from (
        "",
        "Our time over that of the bare matrix products, of reads of X (`X.sum()`), "
        "and of as many of the smallest calls of torch as a step makes; where there "
        "is a goal, it is the most.",
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
    for fit in fits_of(work._replace(epochs=1), data, options.device).values():
        fit()
    fits = fits_of(work, data, options.device)
    bare = floors_of(work, data, options.device)
    for run in bare.values():
        run()
    runs = {name: run for name, run in (fits | bare).items() if name != "skgd"}
    n_threads = {name: best_threads(run) for name, run in runs.items()}
    times = in_turn({"skgd": fits["skgd"], **runs}, options.repeats, n_threads)

    epoch = {name: median(times[name]) / work.epochs for name in fits}
    details.append(
        [
            str(work),
            *(
                with_range(times[name], 1e3 / work.epochs)
                + f", {n_threads.get(name, ALL_THREADS)} t" * (name != "skgd")
                if name in fits
                else ""
                for name in ("skgd", *rivals)
            ),
        ]
    )
    a_call = median(times["calls"]) / CALLS
    n_calls = calls_a_step(work, data, options.device)
    row = [str(work), "", "", "", ""]
    if "products" in times:
        products = median(times["products"]) / STEPS * work.steps
        read = median(times["reads"]) / READS
        over = partial(against, at_most=True)
        row[1:] = [
            short(1e3 * products),
            over(epoch["skgd"] / products, work.at_most.get("products")),
            short(1e3 * read),
            over(epoch["skgd"] / read, work.at_most.get("reads")),
        ]
    row += [short(n_calls), short(1e6 * a_call)]
    floors.append([*row, short(epoch["skgd"] / (n_calls * a_call * work.steps))])
    return [
        str(work),
        with_range(times["skgd"], 1e3 / work.epochs),
        short(1e6 * epoch["skgd"] / work.steps),
        *(
            against(epoch[name] / epoch["skgd"], work.goals.get(name))
            if name in epoch
            else ""
            for name in rivals
        ),
    ]
