"""Measure how memory grows with the calls of partial_fit, in bytes a call.

    python benchmarks/partial_fit_memory.py [--calls 1000000]

Each call trains on 32 rows. The resident memory of the process is read from /proc after
every tenth of the calls (Linux only), and a straight line through the readings gives
the growth. 40,000 calls before them do not count: they fill the curves that a stream
keeps, twice.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from skgd import MiniBatchRegressor

N_READINGS = 10
WARM_UP = 40_000


def resident_memory() -> int:
    """Return the bytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Train on a long stream and print how memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    calls = parser.parse_args().calls
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3200, 10))
    batches = list(zip(np.split(X, 100), np.split(X[:, 0], 100), strict=True))
    model = MiniBatchRegressor(random_state=0, device="cpu")
    began, at, resident = time.perf_counter(), [], []
    for call in range(-WARM_UP, calls):
        model.partial_fit(*batches[call % len(batches)])
        if call >= 0 and (call + 1) % max(1, calls // N_READINGS) == 0:
            at.append(call + 1)
            resident.append(resident_memory())
            print(f"{at[-1]:>9,} calls: {resident[-1] / 2**20:.2f} MiB", flush=True)
    seconds = time.perf_counter() - began
    slope = np.polyfit(at, resident, 1)[0]
    of_a_call = 1e6 * seconds / (WARM_UP + calls)
    print(f"{slope:.3f} bytes a call, {of_a_call:.0f} microseconds a call")


if __name__ == "__main__":
    main()
