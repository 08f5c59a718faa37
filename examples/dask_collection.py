"""Train a network on a Dask data frame, where its partitions lie.

A day of taxi rides is a partition, made up on the worker that holds it. The network
learns on all of them how long a ride takes, and predicts as lazily as Dask computes:

    python examples/dask_collection.py --output out

With --scheduler ADDRESS the workers are those of a cluster, else two processes here.
"""

import argparse
import time
from pathlib import Path

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client
from matplotlib.figure import Figure

from skgd import MiniBatchRegressor

N_DAYS, N_DAYS_VAL = 16, 4
FEATURES = ["hour", "distance", "rain"]
NOISE = 2.0  # minutes


def pace(hour):
    """Return the minutes of a kilometre: two rush hours, and a quick night."""
    peaks = np.exp(-((hour - 8.5) ** 2) / 2) + np.exp(-((hour - 17.5) ** 2) / 4)
    return 1.5 + 2 * peaks


def rides(day, n_rides):
    """Return the rides of a day."""
    rng = np.random.default_rng(day)
    frame = pd.DataFrame(
        {
            "hour": rng.uniform(0, 24, n_rides),
            "distance": rng.gamma(3, 2, n_rides),
            "rain": rng.integers(2, size=n_rides),
        },
        dtype="float32",
    )
    minutes = frame["distance"] * pace(frame["hour"]) * (1 + 0.4 * frame["rain"])
    return frame.assign(minutes=minutes + rng.normal(0, NOISE, n_rides))


def standardised(frame, mean, deviation):
    """Return the features of a partition with mean 0 and deviation 1."""
    return (frame[FEATURES] - mean) / deviation


def train(days, days_val, n_epochs):
    """Return the network, and the features of the other days as it knows them."""
    mean, deviation = dask.compute(days[FEATURES].mean(), days[FEATURES].std())
    scale = {"mean": mean.astype("float32"), "deviation": deviation.astype("float32")}
    X, X_val = (some.map_partitions(standardised, **scale) for some in (days, days_val))
    model = MiniBatchRegressor(
        hidden_layer_sizes=(32, 16),
        batch_size=512,
        max_iter=n_epochs,
        tol=None,
        early_stopping=True,
        random_state=0,
    )
    model.fit(X, days["minutes"], X_val=X_val, y_val=days_val["minutes"])
    return model, X_val


def by_hour(model, days, X):
    """Return the mean of the minutes, and of those that are predicted, by hour."""
    told = days.assign(predicted=model.predict(X), hour=days["hour"].astype(int))
    return told.groupby("hour")[["minutes", "predicted"]].mean().compute().sort_index()


def error_of(model, days, X):
    """Return the root of the mean squared error, computed on the workers."""
    return float(((model.predict(X) - days["minutes"]) ** 2).mean().compute() ** 0.5)


def draw(table):
    """Return the picture: how long rides take in the course of a day."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(table.index, table["minutes"], "o", label="rides of other days")
    axes.plot(table.index, table["predicted"], label="predicted")
    axes.set(title="A ride on average", xlabel="hour", ylabel="minutes")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(argv=None):
    """Train on the days, report, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out", metavar="DIR")
    parser.add_argument("--rows", type=int, default=320_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a cluster")
    parser.add_argument(
        "--threads", action="store_true", help="no processes of its own"
    )
    args = parser.parse_args(argv)

    here = {"n_workers": 2, "threads_per_worker": 1, "processes": not args.threads}
    here["dashboard_address"] = ":0"  # where a port is free
    with Client(args.scheduler or None, **({} if args.scheduler else here)) as client:
        n_rides = args.rows // N_DAYS
        days = dd.from_map(rides, range(N_DAYS), n_rides=n_rides)
        numbers = range(N_DAYS, N_DAYS + N_DAYS_VAL)
        days_val = dd.from_map(rides, numbers, n_rides=n_rides)
        began = time.monotonic()
        model, X_val = train(days, days_val, args.epochs)
        seconds = time.monotonic() - began
        table, error = by_hour(model, days_val, X_val), error_of(model, days_val, X_val)
        n_workers = len(client.nthreads())

    print(
        f"{n_workers} workers, {args.rows:,} rides of {N_DAYS} days: {seconds:.1f} s."
    )
    print(
        f"{model.t_:,} steps in {model.n_iter_} epochs, on {model.feature_names_in_}."
    )
    print(f"Error on other days: {error:.2f} minutes, of which {NOISE} are noise.")
    args.output.mkdir(parents=True, exist_ok=True)
    picture = args.output / "dask_collection.png"
    draw(table).savefig(picture, dpi=150)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
