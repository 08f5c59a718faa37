"""Measure one model on the rows of several processes, against one process.

python -m benchmarks.scale [--sections exactness hook speed dask]
"""

import argparse
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any

import numpy as np
import torch.distributed as dist

from benchmarks.timing import against, short, table
from skgd import MiniBatchClassifier, MiniBatchRegressor, data_parallel
from skgd._estimators.parallel import Together, together_now, training_together
from skgd._estimators.weights import flat_weights

# Partitions of the fits that are held against each other, and where they lie.
LENGTHS = (701, 1, 1999, 652, 1650)
PLACEMENTS = {
    1: [[0, 1, 2, 3, 4]],
    2: [[3, 0], [4, 1, 2]],
    3: [[4], [1, 0], [2, 3]],
}
FITS: dict[str, dict[str, Any]] = {
    "descent": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    "network, adam, clipped": {
        "hidden_layer_sizes": (16, 8),
        "max_grad_norm": 0.5,
        "batch_size": 100,
    },
    "whole batch": {"optimizer": "sgd", "batch_size": None, "max_iter": 20},
    "three classes, balanced": {"class_weight": "balanced"},
    "held out, until it settles": {
        "hidden_layer_sizes": (16,),
        "early_stopping": True,
        "scoring": "loss",
        "max_iter": 30,
        "lr": 0.05,
        "n_iter_no_change": 3,
    },
    "averaged, elastic net": {"average": True, "alpha": 0.01, "l1_ratio": 0.5},
}

# Rows and features of the fits that are timed; units, and sizes of their batches.
N_ROWS, N_FEATURES = 200_000, 50
TIMED = {
    (): (1024, 8192, 65536),
    (64,): (256, 1024, 8192),
    (256,): (256, 1024, 8192),
}


def rows(n_rows: int, n_features: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features))
    return X, X @ rng.normal(size=n_features) + 0.1 * rng.normal(size=n_rows)


def launched(task: str, n_processes: int) -> list[Any]:
    """Return what some processes, started by torchrun, have to tell of a task."""
    with TemporaryDirectory() as folder:
        ranks = ["--nproc-per-node", str(n_processes), "--rdzv-backend", "c10d"]
        command = [sys.executable, "-m", "torch.distributed.run", *ranks]
        command += ["--rdzv-endpoint", "localhost:0", "-m", "benchmarks.scale"]
        subprocess.run(
            [*command, "--task", task, "--output", folder],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        paths = [Path(folder, f"rank{rank}.pkl") for rank in range(n_processes)]
        return [pickle.loads(path.read_bytes()) for path in paths]


def weights_of_fits() -> dict[str, Any]:
    """Return the weights of every fit, of the partitions that lie on this rank."""
    X, y = rows(sum(LENGTHS), 7)
    labels = np.digitize(y, [-1.0, 1.0])
    mine = PLACEMENTS[dist.get_world_size()][dist.get_rank()]
    starts = np.cumsum([0, *LENGTHS])
    here = np.concatenate([np.arange(starts[p], starts[p + 1]) for p in mine])
    told = {}
    with data_parallel():
        together = Together(together_now().ranks, [(p, LENGTHS[p]) for p in mine])
        with training_together(together):
            for name, parameters in FITS.items():
                of_classes = name.startswith(("three", "held"))
                cls = MiniBatchClassifier if of_classes else MiniBatchRegressor
                model = cls(
                    **{"batch_size": 64, "max_iter": 4, "tol": None, **parameters},
                    random_state=0,
                )
                model.fit(X[here], (labels if of_classes else y)[here])
                told[name] = np.append(flat_weights(model), model.loss_curve_)
    return told


def exactness() -> Iterator[str]:
    """Yield a table of differences between one, two and three processes."""
    yield f"Partitions of {LENGTHS} rows. Largest difference of weights and curves:"
    alone, *several = [launched("fits", n) for n in PLACEMENTS]
    for ranks in several:
        for one in ranks:
            for name, numbers in one.items():
                assert numbers.tobytes() == ranks[0][name].tobytes(), name
    yield from table(
        ["fit", *(f"{len(ranks)} processes" for ranks in several), "goal"],
        (
            [
                name,
                *(f"{np.abs(ranks[0][name] - numbers).max():.0e}" for ranks in several),
                "1e-12",
            ]
            for name, numbers in alone[0].items()
        ),
    )
    yield "\nAll ranks of a fit have the same bits."


def hook() -> Iterator[str]:
    """Yield what the steps of a group of one cost more than those of no group.

    A step is what a longer fit takes more than a shorter one: what fits take besides,
    such as to make the group, is told apart.
    """
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield "CPU microseconds of a step on torch, of no group and of a group of one:"
    columns = ["features", "units", "batch", "no group", "group of one", "ratio"]
    columns.append("a fit more, ms")
    yield from table(columns, map(hook_row, *zip(*HOOKED, strict=True)))
    dist.destroy_process_group()


HOOKED = [(20, (), 64), (50, (), 1024), (50, (64, 32), 256), (50, (256,), 8192)]


def hook_row(n_features: int, units: tuple[int, ...], batch_size: int) -> list[str]:
    n_steps = 4000 if batch_size < 8192 else 64
    X, y = rows(min(64 * batch_size, 2**17), n_features)
    n_epochs = max(1, batch_size * n_steps // len(X))
    model = MiniBatchRegressor(
        hidden_layer_sizes=units,
        batch_size=batch_size,
        tol=None,
        random_state=0,
        engine="torch",
    )

    def cpu_of_fit(n_epochs: int, *, together: bool) -> float:
        began = time.thread_time()
        with data_parallel() if together else nullcontext():
            model.set_params(max_iter=n_epochs).fit(X, y)
        return (time.thread_time() - began) * 1e6

    def cpu(*, together: bool) -> tuple[float, float]:
        """Return what a step takes, and what a fit of a single epoch does."""
        first = cpu_of_fit(1, together=together)
        all_epochs = cpu_of_fit(1 + n_epochs, together=together)
        n_steps = n_epochs * model.t_ // (1 + n_epochs)
        return (all_epochs - first) / n_steps, first

    pairs = np.array([(cpu(together=False), cpu(together=True)) for _ in range(7)])
    (alone, fit_alone), (together, fit_together) = np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 1, 0] / pairs[:, 0, 0]))
    times = [short(alone), short(together), against(ratio, 1.02, at_most=True)]
    of_fit = short((fit_together - fit_alone) / 1000)
    return [str(n_features), str(units), str(batch_size), *times, of_fit]


def seconds_of_epochs(*, apart: bool = False) -> dict[Any, float]:
    """Return the seconds of an epoch, of every network and size of a batch.

    Processes that are apart train models of their own, on so many rows as well.
    """
    X, y = rows(N_ROWS, N_FEATURES)
    size, rank = dist.get_world_size(), dist.get_rank()
    X, y = np.array_split(X, size)[rank], np.array_split(y, size)[rank]
    told = {}
    for units, batch_sizes in TIMED.items():
        for batch_size in batch_sizes:
            model = MiniBatchRegressor(
                hidden_layer_sizes=units,
                batch_size=batch_size // size if apart else batch_size,
                max_iter=4 if units else 8,
                tol=None,
                random_state=0,
                engine="torch",
            )
            if size == 1 or apart:
                model.fit(X, y)
            else:
                with data_parallel():
                    model.fit(X, y)
            told[units, batch_size] = min(np.diff([0.0, *model.time_curve_]))
    return told


def speed() -> Iterator[str]:
    """Yield a table of seconds of an epoch of one process and of two.

    And of two that train models of their own, each on half of the rows: what the
    machine would give if to talk cost nothing.
    """
    yield f"{N_ROWS:,} rows, {N_FEATURES} features; one thread each, seconds an epoch:"
    runs = [("epochs", 1), ("epochs", 2), ("apart", 2)]
    several = [[launched(*run)[0] for run in runs] for _ in range(3)]
    columns = ["units", "batch", "one", "two", "two apart", "two, times as fast"]

    def row(units: tuple[int, ...], batch_size: int) -> list[str]:
        key = units, batch_size
        goal = 1.6 if key == ((256,), 8192) else None
        best = [min(times[n][key] for times in several) for n in range(3)]
        ratio = against(best[0] / best[1], goal)
        return [str(units), str(batch_size), *map(short, best), ratio]

    keys = [(units, size) for units, sizes in TIMED.items() for size in sizes]
    yield from table(columns, (row(*key) for key in keys))


def dask() -> Iterator[str]:
    """Yield what a fit of a Dask collection costs besides training, and its faults."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        yield "Two workers, processes of one thread. Seconds of a fit of one step:"
        yield from table(["partitions", "first", "median", "range"], fits_of_dask())
        yield "\nFaults, in seconds:\n"
        yield from faults_of_dask(client, cluster)


def collections_of(n_partitions: int, X: Any, y: Any) -> tuple[Any, Any]:
    import dask.array as da

    size = -(-len(X) // n_partitions)
    return da.from_array(X, chunks=(size, -1)), da.from_array(y, chunks=size)


def fits_of_dask() -> Iterator[list[str]]:
    X, y = rows(2000, 20)
    for n_partitions in (2, 10, 100):
        given = collections_of(n_partitions, X, y)
        one_step = MiniBatchRegressor(batch_size=None, max_iter=1, tol=None)
        first, *others = [seconds_of(partial(one_step.fit, *given)) for _ in range(12)]
        extent = f"{short(min(others))} to {short(max(others))}"
        yield [str(n_partitions), short(first), short(median(others)), extent]


def seconds_of(act: Callable[[], Any]) -> float:
    """Return how long something takes, error or not."""
    began = time.perf_counter()
    with suppress(RuntimeError, ValueError):
        act()
    return time.perf_counter() - began


def faults_of_dask(client: Any, cluster: Any) -> Iterator[str]:
    X, y = rows(20_000, 20)
    model = MiniBatchRegressor(batch_size=256, max_iter=3, tol=None, random_state=0)
    model.fit(*collections_of(4, X, y))
    before = left_by_fits(client, cluster)
    bad = np.where(np.arange(X.size).reshape(X.shape) == 123_456, np.nan, X)
    took = seconds_of(partial(model.fit, *collections_of(4, bad, y)))
    yield f"* a NaN in one shard is an error after {took:.2f}"
    for _ in range(5):
        model.fit(*collections_of(4, X, y))
    after = left_by_fits(client, cluster)
    yield f"* left by six fits: {before} before, {after} after"
    endless = MiniBatchRegressor(max_iter=10**9, tol=None, max_time=60)
    pid = list(client.run(os.getpid).values())[1]
    killed: list[float] = []

    def kill() -> None:
        os.kill(pid, signal.SIGKILL)
        killed.append(time.perf_counter())

    Timer(4, kill).start()
    seconds_of(partial(endless.fit, *collections_of(4, X, y)))
    took = time.perf_counter() - killed[0]
    yield f"* a worker killed in training is an error after {took:.2f} (goal 10)"
    took = seconds_of(partial(model.fit, *collections_of(4, X, y)))
    yield f"* the next fit takes {took:.2f}"
    yield f"* left: {left_by_fits(client, cluster)}"


def left_by_fits(client: Any, cluster: Any) -> dict[str, Any]:
    """Return what fits might leave: on the workers, and on the scheduler."""
    gc.collect()
    time.sleep(1)  # the scheduler lets go in the background
    locks = cluster.scheduler.extensions["multi_locks"]
    return {
        "threads": list(client.run(partial(count_of, "task")).values()),
        "files": list(client.run(partial(count_of, "fd")).values()),
        "tasks": len(cluster.scheduler.tasks),
        "locks": len(locks.requests) + len(locks.events),
    }


def count_of(what: str) -> int:
    return len(os.listdir(f"/proc/self/{what}"))


# What a process does that torchrun has started.
TASKS = {
    "fits": weights_of_fits,
    "epochs": seconds_of_epochs,
    "apart": partial(seconds_of_epochs, apart=True),
}


MEASURED = {"exactness": exactness, "hook": hook, "speed": speed, "dask": dask}


def main(arguments: list[str] | None = None) -> None:
    """Take the measurements and print them; or do a task, as one of several ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=MEASURED, default=MEASURED)
    parser.add_argument("--task", choices=TASKS, help="for the processes it starts")
    parser.add_argument("--output", type=Path, help="likewise")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if args.task:
        dist.init_process_group("gloo")
        told = pickle.dumps(TASKS[args.task]())
        (args.output / f"rank{dist.get_rank()}.pkl").write_bytes(told)
        dist.destroy_process_group()
        return
    for name in args.sections:
        print(f"\n## {name.capitalize()}\n")
        for line in MEASURED[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
