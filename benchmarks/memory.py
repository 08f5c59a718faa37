"""What a fit adds to the memory of a process, and what `import skgd` adds to its start.

    python -m benchmarks.memory {float32,float64,mapped} {regressor,classifier} \
        [--early-stopping] [--rows 500000] [--features 250]

fits one model, in a process of its own, and prints the bytes of X and those added, as
JSON. X is in memory, or a memory map of a file in a temporary folder. Pages of a map
belong to the file and can be dropped at any time, so what counts is anonymous memory:
that which only this process holds. It is read from /proc every few milliseconds (Linux
only), and its peak counts.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from threading import Event, Thread

import numpy as np

from benchmarks.options import Options
from benchmarks.timing import against, short, table, with_range
from skgd import MiniBatchClassifier, MiniBatchRegressor

KINDS = ("float32", "float64", "mapped")
MODELS = {"regressor": MiniBatchRegressor, "classifier": MiniBatchClassifier}
BATCH_SIZE = 1024
MIB = 2**20
ALLOWED = 100e6  # bytes that a fit may add, and one batch more
TIMED_IMPORT = """
import time
start = time.perf_counter()
import {}
print(time.perf_counter() - start)
"""


def lines(options: Options) -> Iterator[str]:
    """Yield the table of memory, and that of imports."""
    size = ["--rows", "100000" if options.quick else "500000"]
    cases = list(product(KINDS, MODELS, ([], ["--early-stopping"])))
    yield from (
        "",
        "## Memory and import",
        "",
        "MiB that a fit adds at its peak to a process that holds X and y; 100 MB and "
        "one batch are allowed.",
    )
    yield from table(
        ["X", "model", "MiB of X", "added", "seconds"],
        (
            in_new_process([kind, model, *early, *size])
            for kind, model, early in (cases[3::7] if options.quick else cases)
        ),
    )
    yield from imports(1 if options.quick else 7)


def in_new_process(arguments: list[str]) -> list[str]:
    """Return a row of what this module says of a case."""
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    found = json.loads(told)
    kind, model = arguments[:2]
    early = ", early stopping" * ("--early-stopping" in arguments)
    batch = BATCH_SIZE * found["X"] / found["rows"]
    most = round((ALLOWED + batch) / MIB)
    return [
        kind,
        model + early,
        short(found["X"] / MIB),
        against(found["added"] / MIB, most, at_most=True),
        short(found["seconds"]),
    ]


def imports(repeats: int) -> Iterator[str]:
    """Yield the times of two imports, taken in turn, each in a new process."""
    times: dict[str, list[float]] = {"torch, sklearn.base": [], "skgd": []}
    for _ in range(repeats + 1):
        for modules, taken in times.items():
            command = [sys.executable, "-c", TIMED_IMPORT.format(modules)]
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            taken.append(float(told))
    bare, ours = (taken[1:] for taken in times.values())  # the first fills the caches
    ratio = against(median(ours) / median(bare), 1.1, at_most=True)
    yield (
        f"`import skgd` takes {with_range(ours)} s, `import torch, sklearn.base` "
        f"{with_range(bare)} s: {ratio} times as long."
    )


def anonymous_memory() -> int:
    """Return the bytes of memory that only this process holds."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s*(\d+) kB", status)[1])


def peak_added(work: Callable[[], object]) -> int:
    """Return how many bytes the work held at the most, above those from before it."""
    before = peak = anonymous_memory()
    ended = Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.002):
            peak = max(peak, anonymous_memory())

    thread = Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        ended.set()
        thread.join()
    return max(peak, anonymous_memory()) - before


def rows_of(kind: str, path: Path, n_rows: int, n_features: int) -> np.ndarray:
    """Return rows of standard normal numbers, an array or a read-only map."""
    shape, dtype = (n_rows, n_features), "float64" if kind == "float64" else "float32"
    if kind == "mapped":
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    else:
        rows = np.empty(shape, dtype)
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 10_000):
        some = rows[start : start + 10_000]
        some[:] = rng.standard_normal(some.shape, dtype=dtype)
    if kind != "mapped":
        return rows
    rows.flush()
    del rows
    return np.load(path, mmap_mode="r")


def main() -> None:
    """Fit one model, and print what X holds and what was added, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--early-stopping", action="store_true")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=250)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # one epoch does not settle
    model = MODELS[args.model](
        max_iter=1,
        batch_size=BATCH_SIZE,
        early_stopping=args.early_stopping,
        device="cpu",
        random_state=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        X = rows_of(args.kind, Path(folder, "X.npy"), args.rows, args.features)
        y = np.array(X[:, 0])
        y = y > 0 if args.model == "classifier" else y
        model.fit(X[:1000].copy(), y[:1000])  # what is loaded once is not added
        began = time.perf_counter()
        added = peak_added(lambda: model.fit(X, y))
        seconds = time.perf_counter() - began
    found = {"X": X.nbytes, "rows": args.rows, "added": added, "seconds": seconds}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
