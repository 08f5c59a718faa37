"""Collections of Dask are trained on where their partitions lie, as in one process.

The workers are threads of this process, but for one that is killed. What ranks come to
is tested in ``test_parallel``; here it is what they are told, and what comes back.
"""

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from threading import Event, Thread

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from parallel_cases import (
    CASES,
    LENGTHS,
    LENGTHS_VAL,
    PLACEMENTS,
    arrays,
    fit_partitions,
    numbers_of,
    rows_of,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skgd import (
    Blocks,
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    WeightTrajectory,
    data_parallel,
)
from skgd._estimators import cluster as cluster_room
from skgd._estimators.weights import flat_weights

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
import skgd.dask  # noqa: E402

pytestmark = pytest.mark.skipif(
    not dist.is_available(), reason="torch has no distributed"
)

OF = arrays()
CUTS = (LENGTHS, 6)
NAMES = list("abcdef")


def regressor(**parameters):
    given = {"optimizer": "sgd", "batch_size": 64, "max_iter": 3, "tol": None}
    return MiniBatchRegressor(**{**given, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def workers():
    """Return a cluster of three workers, in this process."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(workers):
    """Return the default client of the cluster."""
    with distributed.Client(workers) as client:
        yield client


def lies(client, parts, placement):
    """Return an array of Dask's whose partitions lie on these workers."""
    addresses = sorted(client.nthreads())
    blocks = []
    for number, part in enumerate(parts):
        [rank] = [rank for rank, some in enumerate(placement) if number in some]
        held = client.scatter([part], workers=[addresses[rank]], hash=False)[0]
        meta = part[:0]
        blocks.append(da.from_delayed(held, part.shape, part.dtype, meta=meta))
    return da.concatenate(blocks, allow_unknown_chunksizes=True)


def as_collections(X, y):
    """Return rows as arrays of Dask's, in the partitions of the cases."""
    return da.from_array(X, chunks=CUTS), da.from_array(y, chunks=(LENGTHS,))


@pytest.fixture
def ranks_seen(monkeypatch):
    """Return a list that will hold the workers of every fit."""
    seen, shares = [], cluster_room._shares

    def spied(*args):
        seen.append(shares(*args))
        return seen[-1]

    monkeypatch.setattr(cluster_room, "_shares", spied)
    return seen


def fit_by(client, case, placement):
    """Fit a case to collections whose partitions lie so."""
    model, X = case.estimator(), case.X_of(OF.X)
    every = [rows_of(LENGTHS, [p]) for p in range(len(LENGTHS))]

    def cut(values, every=every):
        return lies(client, [values[some] for some in every], placement)

    given = {}
    if case.validated:
        every_val = [rows_of(LENGTHS_VAL, [p]) for p in range(len(LENGTHS_VAL))]
        given = {
            "X_val": cut(OF.X_val, every_val),
            "y_val": cut(OF.labels_val, every_val),
        }
    weight = cut(OF.weight) if case.weighted else None
    return model.fit(cut(X), cut(getattr(OF, case.targets)), weight, **given)


@pytest.fixture(scope="module")
def alone():
    """Return what cases come to in a process of its own, by ``data_parallel``."""
    names = "descent", "momentum", "stops by the loss", "held out", "sparse"
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with data_parallel(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = {
            name: numbers_of(fit_partitions(CASES[name], OF, range(len(LENGTHS))))
            for name in names
        }
    dist.destroy_process_group()
    return told


@pytest.mark.parametrize(
    ("name", "placement"),
    [
        ("descent", "one"),
        ("descent", "two"),
        ("descent", "three"),
        ("momentum", "three"),
        ("stops by the loss", "three"),
        ("held out", "three"),
        ("sparse", "two"),
    ],
)
def test_the_model_is_that_of_one_process(client, alone, ranks_seen, name, placement):
    """Whatever lies where, weights and curves are those of one rank with all rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        numbers = numbers_of(fit_by(client, CASES[name], PLACEMENTS[placement]))
    assert len(ranks_seen[0]) == len(PLACEMENTS[placement])
    assert numbers.keys() == alone[name].keys()
    for key, expected in alone[name].items():
        if expected.dtype.kind in "iU":
            assert np.array_equal(numbers[key], expected), key
        else:
            atol = 1e-12 * max(1.0, np.nanmax(np.abs(expected)))
            np.testing.assert_allclose(numbers[key], expected, 0, atol)


def test_the_whole_batch_is_that_of_a_plain_fit(client):
    """Then it does not matter in which order rows are, nor how they are cut."""
    X, y = as_collections(OF.X, OF.y)
    weight = da.from_array(OF.weight, chunks=50)  # cut anew, like X
    model = regressor(batch_size=None, max_iter=20)
    ours = clone(model).fit(X.rechunk((LENGTHS, 2)), y, weight)
    plain = model.fit(OF.X, OF.y, OF.weight)
    assert type(ours) is MiniBatchRegressor
    np.testing.assert_allclose(ours.coef_, plain.coef_, 1e-12)
    np.testing.assert_allclose(ours.loss_curve_, plain.loss_curve_, 1e-12)


def test_a_stream_goes_on_from_call_to_call(client):
    """partial_fit takes the next collection as one chunk of rows."""
    X, y = as_collections(OF.X, OF.labels)
    parameters = {"batch_size": None, "optimizer": "sgd", "random_state": 0}
    ours, plain = (MiniBatchClassifier(**parameters) for _ in range(2))
    labels = ["high", "low", "middle", "none"]
    for _ in range(2):
        ours.partial_fit(X, y, labels)
        plain.partial_fit(OF.X, OF.labels, labels)
    assert ours.t_ == 2
    np.testing.assert_allclose(ours.coef_, plain.coef_, 1e-12)


def test_frames_keep_their_names_index_and_precision(client):
    """Predictions are lazy, like X, and those of the rows in memory."""
    frame = pd.DataFrame(OF.X.astype(np.float32), columns=NAMES)
    frame["kind"], frame.index = OF.labels, np.arange(len(frame)) * 2
    ddf = dd.from_pandas(frame, npartitions=4)
    few = ddf[ddf["a"] > frame["a"].sort_values().iloc[-4]]  # one partition is empty
    X, labels = ddf[NAMES], ddf["kind"]
    model = MiniBatchClassifier(random_state=0, tol=None, max_iter=2).fit(X, labels)
    assert model.feature_names_in_.tolist() == NAMES
    assert model.classes_.tolist() == ["high", "low", "middle"]
    assert model.coef_.dtype == np.float32
    probabilities = model.predict_proba(few[NAMES])
    assert isinstance(probabilities, dd.DataFrame)
    assert (probabilities.dtypes == np.float32).all()
    rows = few.compute()
    assert len(rows) == 3
    told = probabilities.compute()
    assert told.columns.tolist() == model.classes_.tolist()
    assert told.index.equals(rows.index)
    np.testing.assert_allclose(told, model.predict_proba(rows[NAMES]), 1e-5)
    for method in ("predict_log_proba", "decision_function"):
        lazy = getattr(model, method)(X).compute()
        np.testing.assert_allclose(lazy, getattr(model, method)(frame[NAMES]), 1e-5)
    assert (
        ddf.assign(p=model.predict(X)).compute()["p"] == model.predict(frame[NAMES])
    ).all()
    assert model.score(X, labels) == model.score(frame[NAMES], OF.labels)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X.rename(columns={"a": "z"}))


def test_columns_of_files_are_cut_alike(workers, tmp_path):
    """Dask reads several files at once for few columns of many, and must not here."""
    columns = [f"x{number}" for number in range(12)]
    frame = pd.DataFrame(np.tile(OF.X, 2), columns=columns).assign(y=OF.y)
    for number, part in enumerate(np.array_split(np.arange(len(frame)), 6)):
        frame.iloc[part].to_parquet(tmp_path / f"{number}.parquet")
    ddf = dd.read_parquet(tmp_path)
    assert ddf["y"].optimize().npartitions < 6
    plain = regressor(batch_size=None).fit(frame[columns], OF.y)
    with distributed.Client(workers):
        ours = regressor(batch_size=None).fit(ddf[columns], ddf["y"])
    blocks = regressor(batch_size=None).fit(ddf[columns], ddf["y"])  # no client
    for model in (ours, blocks):
        np.testing.assert_allclose(model.coef_, plain.coef_, 1e-10)
        assert model.feature_names_in_.tolist() == columns


def test_arrays_are_predicted_block_by_block(client):
    """With shape and dtype known beforehand, of chunks without rows as well."""
    X, y = as_collections(OF.X, OF.y)
    model = regressor().fit(X, y)
    lazy = model.predict(X.rechunk((50, 2)))
    assert isinstance(lazy, da.Array)
    assert lazy.shape == y.shape
    assert lazy.dtype == np.float64
    np.testing.assert_allclose(lazy.compute(), model.predict(OF.X), 1e-12)
    np.testing.assert_allclose(model.score(X, y), model.score(OF.X, OF.y), 1e-12)
    above = X[X[:, 0] > np.sort(OF.X[:, 0])[-3]]
    assert len(model.predict(above).compute()) == 2
    two = regressor().fit(X, da.stack([y, -y], axis=1))
    lazy = two.predict(X)
    assert lazy.shape == (len(OF.X), 2)
    np.testing.assert_allclose(lazy[:, 0].compute(), model.predict(OF.X), 1e-12)
    with pytest.raises(ValueError, match="expecting 6 features"):
        model.predict(X[:, :5])
    with pytest.raises(NotFittedError):
        regressor().predict(X)


def test_workers_without_rows_are_no_ranks(client, ranks_seen):
    """Nor are those whose partitions are empty, or hold held-out rows only."""
    first, second, third = [[0, 1]], [[], [0, 1]], [[], [], [0, 1]]
    X = lies(client, [OF.X[:100], OF.X[:0]], first)
    y = lies(client, [OF.y[:100], OF.y[:0]], second)
    X_val, y_val = (
        lies(client, [some[:30], some[30:]], third) for some in (OF.X_val, OF.y_val)
    )
    model = regressor(batch_size=None, lr=0.3)
    ours = clone(model).fit(X, y, X_val=X_val, y_val=y_val)
    in_memory = clone(model).fit(X, y, X_val=OF.X_val, y_val=OF.y_val)
    plain = model.fit(OF.X[:100], OF.y[:100], X_val=OF.X_val, y_val=OF.y_val)
    assert [len(shares) for shares in ranks_seen] == [1, 1]
    for other in (ours, in_memory):
        np.testing.assert_allclose(other.coef_, plain.coef_, 1e-12)
        np.testing.assert_allclose(
            other.validation_loss_curve_, plain.validation_loss_curve_, 1e-12
        )


def test_what_the_caller_holds_is_as_after_a_plain_fit(client):
    """A warning is given once, where fit is called; a RandomState is drawn from."""
    X, y = as_collections(OF.X, OF.y)
    state, schedule = np.random.RandomState(0), lambda t: 0.01 + 0 * t
    model = regressor(tol=1e-9, random_state=state, lr_schedule=schedule)
    with pytest.warns(ConvergenceWarning) as told:
        assert model.fit(X, y) is model
    assert [one.filename for one in told] == [__file__]
    assert model.random_state is state
    assert model.lr_schedule is schedule
    plain = np.random.RandomState(0)
    with pytest.warns(ConvergenceWarning):
        clone(model).set_params(random_state=plain).fit(OF.X, OF.y)
    assert state.randint(2**30) == plain.randint(2**30)


def test_an_error_of_one_shard_is_its_own(client):
    """In scikit-learn's words, on the client; the model is as it was."""
    X, y = as_collections(
        np.where(np.arange(OF.X.size).reshape(OF.X.shape) == 1000, np.nan, OF.X), OF.y
    )
    model = regressor().fit(OF.X, OF.y)
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match="NaN") as plain:
        regressor().fit(X.compute(), OF.y)
    for train in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match="NaN") as ours:
            train(X, y)
        assert str(ours.value) == str(plain.value)
    assert pickle.dumps(model) == before


def failing():
    raise LookupError("no such file")


REFUSED = {
    "y in memory": (lambda X, y: (regressor(), X, OF.y), TypeError, "y must be a Dask"),
    "other cuts": (
        lambda X, y: (regressor(), dd.from_dask_array(X), y.rechunk(50)),
        *(ValueError, "X and y must be cut into the same partitions. Got 5 and 7"),
    ),
    "other lengths": (
        lambda X, y: (regressor(), X[X[:, 0] > 0], y),
        *(ValueError, "inconsistent numbers of samples in partition "),
    ),
    "fewer": (
        lambda X, y: (regressor(), X, y[:-1]),
        *(ValueError, "X has 313 and y 312"),
    ),
    "no rows": (
        lambda X, y: (regressor(), X[X[:, 0] > 99], y[y > 1e9]),
        *(ValueError, "X must have rows. Got none in 5 partition"),
    ),
    "a parameter": (lambda X, y: (regressor(lr=-1), X, y), ValueError, "'lr' param"),
    "dropout": (
        lambda X, y: (regressor(dropout=0.1, hidden_layer_sizes=(2,)), X, y),
        *(ValueError, "dropout must be 0 where several processes"),
    ),
    "callbacks": (
        lambda X, y: (regressor().set_callbacks(WeightTrajectory()), X, y),
        *(ValueError, "Callbacks must not be set"),
    ),
    "an engine": (lambda X, y: (regressor(engine="numba"), X, y), ValueError, "numba"),
    "its source": (
        lambda X, y: (
            regressor(),
            X.map_blocks(lambda part: failing(), dtype=float),
            y,
        ),
        *(LookupError, "no such file"),
    ),
    "a search": (
        lambda X, y: (VectorizedGridSearchCV(regressor(), {"lr": [0.1]}), X, y),
        *(TypeError, "X must be in memory. Got a Dask Array"),
    ),
    "X in memory": (lambda X, y: (regressor(), OF.X, y), TypeError, "y must be in mem"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_workers_can_train_on_is_refused(client, name):
    """In words, on the client."""
    case, kind, words = REFUSED[name]
    model, X, y = case(*as_collections(OF.X, OF.y))
    with pytest.raises(kind, match=words):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_fit_of_a_client_is_told_what_it_needs(workers):
    """A collection, seconds, and a client, which need not be the default one."""
    X, y = as_collections(OF.X, OF.y)
    with pytest.raises(TypeError, match=r"call the model's own fit"):
        skgd.dask.fit(regressor(), OF.X, OF.y)
    with pytest.raises(ValueError, match="timeout must be seconds above 0"):
        skgd.dask.fit(regressor(), X, y, timeout=0)
    with distributed.Client(workers):
        with pytest.raises(TypeError, match="epochs is max_iter here"):
            skgd.dask.fit(regressor(), X, y, epochs=3)
        expected = regressor().fit(X, y)
    with distributed.Client(workers, set_as_default=False) as other:
        model = skgd.dask.fit(regressor(), X, y, client=other, timeout=60)
    np.testing.assert_allclose(model.coef_, expected.coef_, 1e-12)


def test_without_a_client_partitions_are_read_as_blocks():
    """One after the other, and never two at a time; the model is that of blocks."""
    read = []

    def seen(part):
        read.append(len(part))
        return part

    X, y = as_collections(OF.X, OF.y)
    bounds = np.cumsum([0, *LENGTHS])
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    blocks = Blocks.from_iterables([lambda s=s: (OF.X[s], OF.y[s]) for s in parts])
    model = regressor().fit(X.map_blocks(seen, dtype=float, meta=OF.X[:0]), y)
    assert np.array_equal(model.coef_, regressor().fit(blocks).coef_)
    assert set(read) == set(LENGTHS)
    assert np.array_equal(model.predict(X).compute(), model.predict(OF.X))
    with pytest.raises(TypeError, match=r"y must be in memory. Got a Dask Array"):
        model.partial_fit(X, y)
    with pytest.raises(
        TypeError, match=r"X_val.*y must be in memory. Got a Dask Array"
    ):
        regressor().fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="No clients found"):
        skgd.dask.fit(regressor(), X, y)


def left(workers):
    """Return how much of what fits take there is, when the workers have let go."""
    gc.collect()
    scheduler = workers.scheduler

    def values():
        return sum(len(worker.data) for worker in workers.workers.values())

    end = time.monotonic() + 10
    while (scheduler.tasks or values()) and time.monotonic() < end:
        time.sleep(0.02)
    locks = scheduler.extensions["multi_locks"]
    return {
        "tasks": len(scheduler.tasks),
        "values": values(),
        "locks": sum(map(len, locks.locks.values())) + len(locks.requests),
        "events": len(locks.events),
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
        "filters": list(warnings.filters),
        "threads of torch": torch.get_num_threads(),
    }


@contextmanager
def pressed(times, when):
    """Press Ctrl-C so many times as soon as something is the case."""

    def press():
        while not when():
            time.sleep(0.02)
        time.sleep(0.2)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = Thread(target=press)
    thread.start()
    yield
    thread.join()
    signal.signal(signal.SIGINT, before)


def trains(workers):
    """Return whether a worker takes part in a fit."""
    tasks = [
        (key, task.state)
        for worker in workers.workers.values()
        for key, task in list(worker.state.tasks.items())
    ]
    return any("-rank-0" in str(key) and state == "executing" for key, state in tasks)


def test_a_client_that_is_gone_ends_its_fit(client, workers):
    """The workers end, the lock is let go, and another client's fit goes through."""
    X, y = as_collections(OF.X, OF.y)
    other = distributed.Client(workers, set_as_default=False)
    endless = regressor(max_iter=10**7, max_time=60)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(skgd.dask.fit, endless, X, y, client=other)
        while not trains(workers):
            time.sleep(0.02)
        time.sleep(0.2)
        other.close()
        assert "must stay open until fit has ended" in str(ended.exception(timeout=30))
    assert not hasattr(endless, "t_")
    assert regressor().fit(X, y).t_ > 0
    assert not workers.scheduler.extensions["multi_locks"].requests


begun, over = Event(), Event()


def waits(part):
    """Return a partition when the test says so; the workers are of this process."""
    begun.set()
    over.wait(30)
    return part


def test_a_client_that_is_closed_ends_its_fit_while_partitions_are_computed(workers):
    """At once, and in words: Dask would have many, or none."""
    X, y = as_collections(OF.X, OF.y)
    X = X.map_blocks(waits, dtype=float, meta=OF.X[:0])
    other = distributed.Client(workers, set_as_default=False)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(skgd.dask.fit, regressor(), X, y, client=other)
        assert begun.wait(30)
        other.close()
        error = ended.exception(timeout=30)
        over.set()
    assert "The client must stay open until fit has ended" in str(error)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts as Linux does")
def test_nothing_is_left(client, workers):
    """Of fits that end, fail, are two at once, or are interrupted."""
    X, y = as_collections(OF.X, OF.y)

    def fits():
        with ThreadPoolExecutor(2) as pool:
            several = [pool.submit(regressor().fit, X, y) for _ in range(2)]
            models = [one.result(timeout=60) for one in several]
        np.testing.assert_allclose(models[0].coef_, models[1].coef_, 1e-12)
        with pytest.raises(ValueError, match="diverged"):
            regressor(lr=1e9).fit(X, y)

    def begun():
        return trains(workers)

    fits()
    before = left(workers)
    fits()
    endless = regressor(max_iter=10**7, max_time=60)
    began = time.monotonic()
    with pressed(1, begun), pytest.raises(KeyboardInterrupt, match="was interrupted"):
        endless.fit(X, y)
    assert endless.t_ > 0
    assert endless.predict(OF.X).shape == OF.y.shape
    stays = regressor(max_iter=10**7, max_time=60)
    with pressed(2, begun), pytest.raises(KeyboardInterrupt):
        stays.fit(X, y)
    assert time.monotonic() - began < 20
    assert not hasattr(stays, "t_")
    after = left(workers)
    for name in ("threads", "files"):
        assert after.pop(name) <= before.pop(name), name
    assert after == before
    assert after["tasks"] == after["locks"] == after["values"] == 0


def test_a_worker_that_is_killed_ends_the_fit(tmp_path):
    """At once, in words; and the next fit works, by the other one."""
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        command = [sys.executable, "-m", "distributed.cli.dask_worker", *options]
        folder = ["--local-directory", str(tmp_path)]
        worker = subprocess.Popen(
            [*command, *folder, cluster.scheduler_address], stderr=subprocess.DEVNULL
        )
        client.wait_for_workers(2, timeout=120)
        [there] = set(client.nthreads()) - {w.address for w in cluster.workers.values()}
        X, y = as_collections(OF.X, OF.y)
        alone = regressor().fit(X, y)
        np.testing.assert_allclose(regressor().fit(X, y).coef_, alone.coef_, 1e-12)
        killed = []

        def ranks():
            return client.processing(workers=[there]).values()

        def kill():
            while not any("-rank-" in str(keys) for keys in ranks()):
                time.sleep(0.05)
            time.sleep(0.3)
            worker.kill()
            killed.append(time.monotonic())

        thread = Thread(target=kill)
        thread.start()
        lost = regressor(max_iter=10**7, max_time=60)
        with pytest.raises(
            RuntimeError, match=r"must live until fit has ended. Got the"
        ):
            lost.fit(X, y)
        thread.join()
        assert time.monotonic() - killed[0] < 10
        assert not hasattr(lost, "t_")
        worker.wait()
        again = regressor().fit(X, y)
        np.testing.assert_allclose(flat_weights(again), flat_weights(alone), 1e-12)
        assert not cluster.scheduler.extensions["multi_locks"].requests


def test_a_fit_goes_on_from_a_checkpoint(client, tmp_path):
    """Rank 0 writes and reads it; which worker holds what counts for rounding alone."""
    X, y = OF.X[:240], OF.y[:240]
    given = da.from_array(X, chunks=(60, -1)), da.from_array(y, chunks=60)
    parameters = {"random_state": 0, "max_iter": 2, "tol": None, "batch_size": 60}
    whole = MiniBatchRegressor(**parameters).fit(*given)
    ts = [0]
    while ts[-1] < whole.t_ and len(ts) < 20:
        model = MiniBatchRegressor(max_time=1e-9, **parameters)
        ts.append(model.fit(*given, checkpoint=str(tmp_path / "run")).t_)
    assert len(ts) > 3
    found, expected = flat_weights(model), flat_weights(whole)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="X of partition 0 must be what the fit was"):
        MiniBatchRegressor(**parameters).fit(
            2 * given[0], given[1], checkpoint=str(tmp_path / "run")
        )
