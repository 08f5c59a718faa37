"""Train on Parquet files that are never in memory together, words among the columns.

Each file holds a month of trips: numbers on scales of their own, and a town in words.
The step before the network is fitted in one pass over the files, its scaler by
partial_fit, block by block. Then a network is fitted as on arrays, with whole epochs,
early stopping on blocks held out, and a loss curve; the files are read anew in each.

    python examples/parquet_files.py --output out
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skgd import Blocks, LossCurveDisplay, MiniBatchRegressor

TOWNS = ["Bergen", "Oslo", "Tromso"]
NUMBERS = ["distance", "hour", "passengers", "temperature"]
NOISE = 1.0


def month(number, n_rows):
    """Return the trips of a month as a table."""
    rng = np.random.default_rng(number)
    town = rng.integers(len(TOWNS), size=n_rows)
    distance = rng.gamma(2.0, 3.0, n_rows)
    hour = rng.uniform(0, 24, n_rows)
    cold = 10 * np.sin(2 * np.pi * number / 12) + rng.normal(0, 4, n_rows)
    fare = 4 + (1.8 + 0.3 * town) * distance + 3 * np.cos(2 * np.pi * hour / 24)
    return pa.table(
        {
            "town": np.array(TOWNS)[town],
            "distance": distance.astype(np.float32),
            "hour": hour.astype(np.float32),
            "passengers": rng.integers(1, 5, n_rows),
            "temperature": cold.astype(np.float32),
            "fare": fare + NOISE * rng.normal(size=n_rows),
        }
    )


def write_files(folder, n_rows, n_months=12):
    """Write a file for each month, in row groups of a few thousand rows."""
    for number in range(n_months):
        table = month(number, n_rows // n_months)
        pq.write_table(table, folder / f"{number:02}.parquet", row_group_size=2**13)


def columns_of(blocks):
    """Return the step before the network, fitted in one pass over the blocks."""
    scaler = StandardScaler()
    for X, _, _ in blocks:
        scaler.partial_fit(X.select(NUMBERS))
    encoder = OneHotEncoder(categories=[TOWNS], sparse_output=False)
    steps = [("scale", FrozenEstimator(scaler), NUMBERS), ("encode", encoder, ["town"])]
    some_rows = next(iter(blocks)).X  # all that is left to learn is which columns
    return ColumnTransformer(steps).fit(some_rows)


def peak_memory():
    """Return the most memory that this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def main(argv=None):
    """Write the files, train on them, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--rows", type=int, default=1_200_000)
    args = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), args.rows)
        before = peak_memory()
        blocks = Blocks.from_parquet(folder, y="fare", chunk_rows=2**16)
        columns = columns_of(blocks)
        network = MiniBatchRegressor(
            hidden_layer_sizes=(32,),
            lr=0.005,
            lr_schedule="cosine",
            batch_size=256,
            max_iter=6,
            early_stopping=True,
            dtype="float32",
            random_state=0,
        )
        network.fit(blocks.map(columns))
        after = peak_memory()
    model = make_pipeline(columns, network)

    trips = month(12, 20_000)  # of the next year
    errors = model.predict(trips) - trips["fare"].to_numpy()
    print(f"{blocks}: {args.rows:,} rows in 12 files")
    print(f"Epochs: {network.n_iter_}, of which the best was {network.best_iter_}")
    print(f"Error of the next month: {np.sqrt(np.mean(errors**2)):.3f}, noise: {NOISE}")
    print(f"Peak memory: {before:.0f} MB at the start, {after:.0f} MB at the end.")

    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "parquet_files.png"
    figure = Figure(figsize=(7, 4), layout="constrained")
    LossCurveDisplay.from_estimator(network, ax=figure.subplots())
    figure.savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
