"""Measure what a fit adds to memory when X is a memory map of a file.

    python benchmarks/memory_mapped_fit.py [--rows 500000] [--features 1000]

The file, 2 GB as it stands, is written to a temporary folder. Pages of a map belong to
the file and can be dropped at any time, so what counts is anonymous memory: that which
only this process holds. It is read from /proc every few milliseconds (Linux only), and
its peak during each fit is printed.
"""

import argparse
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np

from skgd import MiniBatchClassifier, MiniBatchRegressor


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


def mapped_rows(path: Path, n_rows: int, n_features: int) -> np.ndarray:
    """Return a read-only map of a new file of standard normal numbers."""
    rows = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(n_rows, n_features)
    )
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 10_000):
        some = rows[start : start + 10_000]
        some[:] = rng.standard_normal(some.shape, dtype=np.float32)
    rows.flush()
    del rows
    return np.load(path, mmap_mode="r")


def main() -> None:
    """Fit both classes, with and without early stopping, and print what each added."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print bytes, as JSON")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # one epoch does not settle
    added = {}
    with tempfile.TemporaryDirectory() as folder:
        X = mapped_rows(Path(folder, "X.npy"), args.rows, args.features)
        y = np.array(X[:, 0])
        small = X[:1000].copy(), y[:1000]
        for cls, target in ((MiniBatchRegressor, y), (MiniBatchClassifier, y > 0)):
            for early_stopping in (False, True):
                model = cls(max_iter=1, batch_size=1024, early_stopping=early_stopping)
                model.set_params(device="cpu", random_state=0)
                model.fit(small[0], target[:1000])  # what is loaded once is not added
                name = f"{cls.__name__}(early_stopping={early_stopping})"
                began = time.perf_counter()
                added[name] = peak_added(lambda: model.fit(X, target))  # noqa: B023
                if not args.json:
                    seconds = time.perf_counter() - began
                    mb, of = added[name] / 2**20, X.nbytes / 2**20
                    print(
                        f"{name}: {mb:.0f} MiB added, X {of:.0f} MiB, {seconds:.1f} s"
                    )
    if args.json:
        print(json.dumps({"X": X.nbytes, **added}))


if __name__ == "__main__":
    main()
