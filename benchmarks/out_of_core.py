"""Files that are larger than memory: what a fit of Parquet files costs beside X.

    python -m benchmarks.out_of_core [rows in millions, 4 by default]

Prints, of linear models and of a network, rows a second of CPU and of wall time, the
peak of memory above the imports, and R2 on rows of their own: of a fit of all rows in
memory, and of fits of the same rows in files, whose parts are shifted against each
other as days are; of files as pyarrow writes them, and of files whose numbers are plain
(``use_dictionary=False``). And what it takes to read and decode the files alone. Each
in a process of its own; the files are written to a folder that goes at the end. What is
asked of them: no more than three windows and 50 MB whatever the number of rows, half of
the rows a second, and R2 within 0.002.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS, FILES, GROUP, EPOCHS = 20, 8, 2**16, 3
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"optimizer": "sgd"},
    "network (64,)": {"hidden_layer_sizes": (64,), "lr": 0.001},
}


def rows_of(rng: np.random.Generator, n_rows: int, shift: float) -> Any:
    """Return rows and targets of one file."""
    coef = np.random.default_rng(0).normal(size=COLUMNS)
    X = rng.normal(size=(n_rows, COLUMNS)).astype(np.float32) + np.float32(shift)
    return X, (X @ coef + rng.normal(size=n_rows)).astype(np.float32)


def write(folder: str, n_rows: int, *, plain: bool) -> None:
    """Write the files, part by part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in range(FILES):
        rng, left = np.random.default_rng(file), n_rows // FILES
        writer = None
        while left:
            X, y = rows_of(rng, min(left, GROUP), file / 10)
            columns = {f"x{i}": X[:, i] for i in range(COLUMNS)}
            table = pa.table({**columns, "y": y})
            if writer is None:
                path = f"{folder}/part{file}.parquet"
                writer = pq.ParquetWriter(
                    path, table.schema, compression="snappy", use_dictionary=not plain
                )
            writer.write_table(table, row_group_size=GROUP)
            left -= len(y)
        assert writer is not None
        writer.close()


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fit(folder: str, setting: str, chunk_rows: int) -> dict[str, float]:
    """Return what a fit costs; of all rows in memory, where a window has none."""
    import pyarrow.dataset as ds

    import skgd

    dataset = ds.dataset(folder)
    model = skgd.MiniBatchRegressor(
        **SETTINGS[setting], batch_size=1024, max_iter=1, tol=None, random_state=0
    )
    X, y = rows_of(np.random.default_rng(99), 2**12, 0.35)
    model.fit(X, y)  # compiles the loops, and imports what is imported late
    model.set_params(max_iter=EPOCHS)
    before, n_rows = peak(), dataset.count_rows()
    if chunk_rows:
        data: Any = [skgd.Blocks.from_parquet(dataset, "y", chunk_rows=chunk_rows)]
    else:
        table = dataset.to_table()
        rows = np.empty((n_rows, COLUMNS), np.float32)
        for i in range(COLUMNS):
            rows[:, i] = table.column(f"x{i}").to_numpy()
        data = [rows, table.column("y").to_numpy()]
        del table
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(*data)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held_out = rows_of(np.random.default_rng(98), 2**17, 0.35)
    return {
        "rows": n_rows,
        "CPU": n_rows * EPOCHS / cpu / 1e6,
        "wall": n_rows * EPOCHS / wall / 1e6,
        "MB": peak() - before if chunk_rows else float("nan"),
        "R2": model.score(held_out[0], held_out[1])
        if chunk_rows
        else model.score(*held_out),
    }


def read(folder: str) -> dict[str, float]:
    """Return what it costs to read and decode all rows once, and nothing else."""
    import skgd

    blocks = skgd.Blocks.from_parquet(folder, "y")
    wall, cpu = time.perf_counter(), time.process_time()
    n_rows = sum(len(y) for _, y, _ in blocks)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"CPU": n_rows / cpu / 1e6, "wall": n_rows / wall / 1e6}


def main(millions: float) -> None:
    """Print a line for each fit."""
    print(f"{'':44}  M rows a second of    peak   windows")
    print(f"{'':44}     CPU       wall     MB     + MB           R2")
    for n_rows in (int(millions * 1e6 / 4), int(millions * 1e6)):
        for plain in (False, True):
            print("plain numbers" if plain else "as pyarrow writes")
            with tempfile.TemporaryDirectory() as folder:
                write(folder, n_rows, plain=plain)
                told = _told("read", folder)
                print(f"{'read alone':44}{told['CPU']:9.2f} {told['wall']:10.2f}")
                for setting in SETTINGS:
                    for chunk_rows in (2**18,) if plain else (0, 2**18):
                        told = _told("fit", folder, setting, str(chunk_rows))
                        _print(setting, chunk_rows, told)


def _told(*arguments: str) -> dict[str, float]:
    """Return what a process of its own has to tell."""
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.out_of_core", *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    numbers: dict[str, float] = json.loads(told.stdout)
    return numbers


def _print(setting: str, chunk_rows: int, told: dict[str, float]) -> None:
    what = f"windows of {chunk_rows} rows" if chunk_rows else "all in memory"
    of_window = chunk_rows * (COLUMNS + 1) * 4 / 2**20
    over = told["MB"] - 3 * of_window
    print(
        f"{setting:14} {told['rows'] / 1e6:5.2f} M {what:22}"
        f"{told['CPU']:9.2f} {told['wall']:10.2f} {told['MB']:9.0f} "
        f"3 x {of_window:4.0f} {over:+5.0f} {told['R2']:10.5f}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["fit"]:
        print(json.dumps(fit(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    elif sys.argv[1:2] == ["read"]:
        print(json.dumps(read(sys.argv[2])))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0)
