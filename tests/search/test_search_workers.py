"""Searches with workers, little memory, and Ctrl-C."""

import os
import signal
import threading
import time
import tracemalloc
import warnings
import weakref
from concurrent.futures.process import BrokenProcessPool
from itertools import chain

import joblib
import numpy as np
import pytest
import torch
from conftest import X, frozen, global_state, needs_numba, small
from interrupted import interrupted_at, some_moments
from joblib import parallel_config
from joblib._parallel_backends import LokyBackend
from joblib.parallel import ThreadingBackend
from search_cases import (
    CLASSIFIER,
    DIVERGES,
    MANY,
    REGRESSOR,
    SPACE,
    assert_same_results,
    assert_same_search,
    assert_trained,
    both,
    every_halving,
    labels,
    search_of,
    y,
)
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.callback import ProgressBar
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils._python_dispatch import TorchDispatchMode

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._search.progress import StackProgress
from skgd._search.workers import Workers, results_of

# Workers


WORK = {
    "one group": (REGRESSOR, SPACE, {}),
    "one candidate": (REGRESSOR, {"lr": [0.1]}, {"cv": KFold(3)}),
    "groups": (CLASSIFIER, {**SPACE, "batch_size": [7, 8, None]}, {"cv": 3}),
    "one at a time": (small(MiniBatchClassifier, max_time=1e9), SPACE, {}),
    "a pipeline": (
        Pipeline([("scale", StandardScaler()), ("model", clone(CLASSIFIER))]),
        {"model__lr": [0.01, 0.1], "scale__with_mean": [True, False]},
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy"},
    ),
    "pre_dispatch": (REGRESSOR, SPACE, {"pre_dispatch": "all"}),
}


def assert_workers_change_nothing(model, space, settings):
    """Assert that a search by workers finds what the search alone finds."""
    alone = search_of(model, space, n_jobs=1, **settings).fit(X, labels)
    search = search_of(model, space, n_jobs=2, **settings).fit(X, labels)
    assert_same_results(search, alone)
    assert search.best_params_ == alone.best_params_
    assert frozen(search.predict(X)) == frozen(alone.predict(X))
    grouped = [
        sorted((*g.candidates, g.together) for g in one.groups_)
        for one in (search, alone)
    ]
    assert grouped[0] == grouped[1]
    for one, other in zip(
        chain.from_iterable(search.loss_curves_),
        chain.from_iterable(alone.loss_curves_),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-10)


@pytest.mark.parametrize(("model", "space", "settings"), WORK.values(), ids=WORK)
def test_threads_find_the_same(model, space, settings):
    """Results do not depend on how many threads there are."""
    with parallel_config("threading"):
        assert_workers_change_nothing(model, space, settings)


STOPS = {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 30}
LOOPS = {
    "one group": (CLASSIFIER, SPACE, {}),
    "a network": (small(MiniBatchClassifier, hidden_layer_sizes=(5,)), SPACE, {}),
    "a score stops": (small(MiniBatchRegressor, **STOPS), SPACE, {"cv": 3}),
    "a pipeline": (WORK["a pipeline"][0], {"model__lr": [0.01, 0.1]}, {"cv": 3}),
}


@needs_numba
@pytest.mark.parametrize(("model", "space", "settings"), LOOPS.values(), ids=LOOPS)
def test_loops_find_the_same_bits_in_threads(model, space, settings):
    """However models are divided among threads, each takes the steps it takes alone."""
    found, before = [], global_state()
    for n_jobs in (1, 2, 3):
        search = search_of(model, space, n_jobs=n_jobs, **settings).fit(X, labels)
        assert {(group.together, group.engine) for group in search.groups_} == {
            (True, "numba")
        }
        found.append((search.loss_curves_, search.best_params_, search.predict(X)))
        assert_same_results(search, search_of(model, space, **settings).fit(X, labels))
    assert frozen(found[0]) == frozen(found[1]) == frozen(found[2])
    assert global_state() == before


def workers_seen(model, space, data=(X, labels)):
    """Return whether models of a search by two workers were scored in this process."""
    here = os.getpid()

    def of_this_process(estimator, rows, targets):
        return float(os.getpid() == here)

    search = search_of(model, space, n_jobs=2, scoring=of_this_process, refit=False)
    results = search.fit(*data).cv_results_
    return {results[f"split{n}_test_score"][m] for n in range(2) for m in range(2)}


LR = {"lr": [0.01, 0.1]}
LEFT_TO_TORCH = {
    "engine": small(MiniBatchClassifier, engine="torch"),
    "dropout": small(MiniBatchClassifier, hidden_layer_sizes=(3,), dropout=0.1),
    "one at a time": small(MiniBatchClassifier, max_time=1e9),
}


@needs_numba
def test_loops_are_in_threads_of_this_process():
    """Unless joblib's configuration names processes."""
    assert workers_seen(CLASSIFIER, LR) == {1.0}
    idle = small(MiniBatchClassifier, dropout=0.1)  # no unit to sit out
    assert workers_seen(idle, LR) == {1.0}


@needs_numba
def test_threads_make_nothing_ready_for_processes(monkeypatch):
    """To be so starts a process that imports joblib, beside a search of half a second.

    What refuses every search by processes refuses none by threads.
    """

    def refuses(*args, **kwargs):
        raise AssertionError("processes are not asked for")

    monkeypatch.setattr(LokyBackend, "configure", refuses)
    assert workers_seen(CLASSIFIER, LR) == {1.0}
    with pytest.raises(AssertionError, match="not asked for"):
        workers_seen(LEFT_TO_TORCH["engine"], LR)


@needs_numba
def test_threads_know_the_configuration_and_share_the_filters_of_warnings():
    """Filters are those of the process, and never others for the time of a job."""
    told = set()

    def settings(estimator, rows, targets):
        told.add((get_config()["working_memory"], len(warnings.filters)))
        return 0.0

    with config_context(working_memory=7), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = warnings.filters[:]
        search = search_of(CLASSIFIER, SPACE, n_jobs=3, scoring=settings, cv=5)
        search.fit(X, labels)
        assert warnings.filters == before
    assert told == {(7, len(before))}


def test_processes_are_used_where_they_are_asked_for(loky):
    """The configuration has the last word."""
    assert workers_seen(CLASSIFIER, LR) == {0.0}


@pytest.mark.parametrize("model", LEFT_TO_TORCH.values(), ids=LEFT_TO_TORCH)
def test_what_holds_the_interpreter_is_left_to_processes(model, loky_at_last):
    """Stacks on torch, and fits one at a time, of which nothing is known."""
    assert workers_seen(model, LR) == {0.0}


class Measures(TransformerMixin, BaseEstimator):
    """Makes numbers of words, and notes where."""

    def fit(self, X, y=None):
        self.pid_ = os.getpid()
        return self

    def transform(self, X):
        return np.char.str_len(np.asarray(X).astype(str)).astype(float)


@needs_numba
@pytest.mark.parametrize(
    ("rows", "in_processes"),
    [(X, False), (X.astype(str).astype(object), True)],
    ids=["numbers", "words"],
)
def test_steps_before_the_last_are_fitted(rows, in_processes, loky_at_last):
    """In threads where rows are numbers; words are work for the interpreter."""
    here = os.getpid()

    def away(pipeline, rows, targets):
        return float(pipeline[0].pid_ != here)

    model = make_pipeline(Measures(), CLASSIFIER)
    space = {"minibatchclassifier__lr": [0.01, 0.1]}
    search = search_of(model, space, n_jobs=2, scoring=away, refit=False)
    results = search.fit(rows, labels).cv_results_
    assert set(results["mean_test_score"]) == {float(in_processes)}
    assert [group.engine for group in search.groups_] == ["numba"]


class OneByOne(ThreadingBackend):
    """Gives results when all are done, as joblib-spark and Ray do."""

    supports_return_generator = False


def test_backends_that_give_all_results_at_once():
    """A backend need not be able to hand on results as they come."""
    joblib.register_parallel_backend("one by one", OneByOne)
    with parallel_config("one by one"):
        assert_workers_change_nothing(*WORK["groups"])


def test_a_worker_that_is_killed_costs_what_is_under_way(loky, tmp_path):
    """A warning tells of it; what was done stays, and new workers do the rest."""
    asked, here = tmp_path / "asked", os.getpid()

    def scores(model, rows, targets):
        with open(asked, "a") as log:
            log.write(f"{model.lr} {rows.sum()}\n")
        if len(asked.read_text().splitlines()) == 7 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return model.score(rows, targets)

    space = {"lr": [0.001, 0.003, 0.01, 0.03, 0.1]}
    search = search_of(REGRESSOR, space, n_jobs=2, scoring=scores)
    with pytest.warns(UserWarning, match=r"A worker was killed.*SIGKILL"):
        search.fit(X, y, checkpoint=tmp_path / "kept")
    scored = asked.read_text().splitlines()
    assert len(set(scored)) == 10
    assert max(map(scored.count, scored)) <= 2  # where it had not come back
    assert_same_results(search, search_of(REGRESSOR, space).fit(X, y))


def test_what_always_kills_its_worker_ends_the_search():
    """What is done by then is given; joblib's error comes when nothing more is."""

    def dies(jobs):
        for job, (number, *given), _ in jobs:
            if number == 2:
                raise BrokenProcessPool("terminated by SIGKILL")
            yield job.function(number, *given)

    done, begun, calls = [], [], [(n, 2) for n in range(4)]
    workers = Workers(lambda: dies, lambda: dies, 1, lambda: begun.append("others"))
    with (
        pytest.warns(UserWarning, match="2 of [24] jobs are left.*by SIGKILL"),
        pytest.raises(BrokenProcessPool),
    ):
        done.extend(results_of(workers, workers.processes, pow, calls))
    assert (done, begun) == ([(0, 0), (1, 1)], ["others", "others"])


@pytest.mark.parametrize(("model", "space", "settings"), WORK.values(), ids=WORK)
def test_processes_find_the_same(model, space, settings, loky):
    """Results do not depend on how many processes there are."""
    assert_workers_change_nothing(model, space, settings)


@every_halving
def test_processes_halve_the_same(kind, loky):
    """States travel to workers and back between rounds."""
    alone = both(kind, REGRESSOR, MANY, n_jobs=1)[0].fit(X, y)
    search = both(kind, REGRESSOR, MANY, n_jobs=2)[0].fit(X, y)
    assert_same_results(search, alone)


def test_large_data_are_mapped_by_workers(loky):
    """More than a megabyte reaches them as a read-only map, and they train on it."""
    rows = np.random.default_rng(0).normal(size=(1500, 100))
    model = small(MiniBatchRegressor, batch_size=500)
    alone = search_of(model).fit(rows, rows[:, 0])
    search = search_of(model, n_jobs=2).fit(rows, rows[:, 0])
    assert_same_results(search, alone)


def test_a_progress_bar_sees_all_workers(loky, capsys, wide_console):
    """It shows the models of each process, and all end at 100 %."""
    search = search_of(REGRESSOR, {**SPACE, "max_time": [None, 1e9]}, n_jobs=2)
    search.set_callbacks(ProgressBar()).fit(X, y)
    told = capsys.readouterr().out
    assert told.count("VectorizedGridSearchCV - 4 models #") == 2
    assert told.count(" | MiniBatchRegressor - fit") == 8 + 1
    lines = [line for line in told.splitlines() if " - " in line]
    assert all("100%" in line for line in lines), told


def test_verbose_counts_the_models_of_workers(loky, capsys):
    """The lines of verbose=2 are those of the process that asked."""
    search_of(REGRESSOR, n_jobs=2, verbose=2).fit(X, y)
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == ["4 of 8 models trained", "8 of 8 models trained"]


def test_errors_of_workers_are_raised(loky):
    """What a fit raises in another process is raised here, as alone."""
    search = search_of(REGRESSOR, DIVERGES, n_jobs=2, error_score="raise")
    with pytest.raises(ValueError, match=r"^Training diverged in epoch"):
        search.fit(X, y)


def seconds_until_interrupted(search, delay):
    """Return how long a search takes that is interrupted after a delay, in seconds."""
    press = threading.Timer(delay, os.kill, [os.getpid(), signal.SIGINT])
    began = time.perf_counter()
    press.start()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    press.join()
    assert not hasattr(search, "cv_results_")
    return time.perf_counter() - began


@needs_numba
def test_an_interrupt_while_threads_train(monkeypatch):
    """Ctrl-C raises KeyboardInterrupt at once, and the threads end soon after."""
    steps = []
    after_step = StackProgress.after_step

    def watched(*args):
        steps.append(threading.get_ident())
        return after_step(*args)

    monkeypatch.setattr(StackProgress, "after_step", watched)
    model = small(MiniBatchRegressor, hidden_layer_sizes=(20,))
    search_of(model, n_jobs=2).fit(X, y)  # the loops are compiled
    steps.clear()
    endless = search_of(clone(model).set_params(max_iter=10**7), n_jobs=2)
    began = time.perf_counter()
    assert seconds_until_interrupted(endless, 0.5) < 30
    assert threading.get_ident() not in steps
    assert len(set(steps)) == 2
    seen = -1
    while seen < len(steps):  # who has been given up is told after its next steps
        seen = len(steps)
        time.sleep(1)
        assert time.perf_counter() - began < 50


def test_an_interrupt_while_workers_work(loky):
    """Ctrl-C raises KeyboardInterrupt at once."""

    def sleeps(model, rows, targets):
        time.sleep(60)
        return 0.0

    search = search_of(REGRESSOR, n_jobs=2, scoring=sleeps)
    assert seconds_until_interrupted(search, 1) < 50


def test_workers_of_dask_find_the_same():
    """Two processes of a cluster give the results of this one."""
    distributed = pytest.importorskip("distributed")
    space = {**SPACE, "batch_size": [7, 8], "max_time": [None, 1e9]}
    alone = search_of(CLASSIFIER, space).fit(X, labels)

    def where(model, rows, targets):
        return float(os.getpid())

    with (
        distributed.LocalCluster(
            n_workers=2, processes=True, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
        parallel_config("dask"),
    ):
        pids = set(client.run(os.getpid).values())
        search = search_of(CLASSIFIER, space).fit(X, labels)
        places = search_of(CLASSIFIER, space, scoring=where, refit=False)
        places.fit(X, labels)
    assert_same_search(search, alone)
    assert search.groups_ == alone.groups_
    seen = {
        places.cv_results_[f"split{n}_test_score"][m]
        for n in range(2)
        for m in range(16)
    }
    assert {int(pid) for pid in seen} == pids
    assert len(pids) == 2


# Memory, and Ctrl-C


class LiveBytes(TorchDispatchMode):
    """Count the bytes of the tensors that operations make, and how many at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor):
                self.see(one.untyped_storage())
        return out

    def see(self, storage):
        place, size = storage.data_ptr(), storage.nbytes()
        if place not in self.known and size:
            self.known.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, place, size)

    def forget(self, place, size):
        self.known.discard(place)
        self.now -= size


def one_number(model, rows, targets):
    """Return a weight."""
    return model.coef_[0]


def many(n_candidates, **params):
    """Return a search of so many candidates, in small stacks, that keeps no model."""
    model = small(MiniBatchRegressor, max_iter=2, batch_size=15)
    space = {"lr": np.logspace(-4, -1, n_candidates)}
    search = search_of(model, space, scoring=one_number, refit=False)
    return search.set_params(**params)


def test_tensors_take_no_more_memory_for_more_candidates():
    """Those of a stack are let go before the next is trained."""
    peaks = []
    for n_candidates in (40, 160):
        with LiveBytes() as live:
            many(n_candidates, max_bytes=20_000).fit(X, y)
        peaks.append(live.peak)
    assert 0 < peaks[0] < 100_000
    assert peaks[1] < 1.3 * peaks[0]


def test_many_candidates_take_the_memory_of_their_results():
    """What grows with the candidates is a few kilobytes for each."""
    peaks = []
    for n_candidates in (60, 300):
        tracemalloc.start()
        search = many(n_candidates, max_bytes=10**6).fit(X, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 10_000 * (300 - 60)
    assert len(search.loss_curves_) == len(search.cv_results_["params"]) == 300
    assert_trained(search, together=True)


def test_an_interrupt_at_any_moment_ends_the_search():
    """It raises KeyboardInterrupt and leaves the process as it was."""
    settings = {"return_train_score": True, "refit": False, "cv": KFold(5)}
    search = search_of(small(MiniBatchRegressor, max_iter=2), **settings)
    for _ in "ab":  # the first call fills caches
        with interrupted_at() as total:
            search.fit(X, y)
    expected, before = clone(search).fit(X, y), global_state()
    for moment in some_moments(total[0], 12):
        one = clone(search)
        with pytest.raises(KeyboardInterrupt), interrupted_at(moment):
            one.fit(X, y)
        assert not hasattr(one, "cv_results_")
        assert global_state() == before
        assert_same_results(one.fit(X, y), expected, rtol=0)
