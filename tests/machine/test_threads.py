"""One thread learns while others predict: what they read is of one moment.

A thread may be stopped between any two reads of an attribute, and go on when another
one has learned. Here every such moment is tried in turn, without a thread.
"""

import inspect
import os
import signal
from functools import partial
from itertools import count
from threading import Barrier, Thread
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from conftest import TASKS, X, Y, every_depth, frozen, small

import skgd._machine.threads as threads
from skgd import (
    LossCurveDisplay,
    LossSurfaceDisplay,
    MiniBatchClassifier,
    MiniBatchRegressor,
)

several = (Y > 3).astype(int)
TARGETS = {
    **TASKS,
    "counts": (MiniBatchRegressor, np.round(abs(Y[:, 0])), {"loss": "poisson"}),
    "several labels": (MiniBatchClassifier, several),
    "one against rest": (*TASKS["three classes"], {"loss": "modified_huber"}),
}
PREDICT = ("predict", "decision_function", "predict_proba", "predict_log_proba")


def watched(model, moment, learned):
    """Return a model like it, and the list of reads of its attributes.

    Before the read of that number, another thread has learned.
    """
    reads = count()

    class Watched(type(model)):
        def __getattribute__(self, name):
            if self is other and next(reads) == moment:
                object.__setattr__(self, "__dict__", dict(learned))
            return super().__getattribute__(name)

    Watched.__name__ = type(model).__name__
    other = Watched.__new__(Watched)
    object.__setattr__(other, "__dict__", dict(vars(model)))
    return other, reads


def outcomes(call, before, after):
    """Return what a call gives if another thread learns before any of its reads."""
    found, n_reads = [], 1
    while len(found) < n_reads + 1:  # after the last one it is too late
        model, reads = watched(before, len(found), vars(after))
        found.append(frozen(call(model)))
        n_reads = next(reads)
    return found


def two_moments(cls, y, params=None, hidden=()):
    """Return a model, and what it is after another call of partial_fit or of fit."""
    model = small(cls, hidden_layer_sizes=hidden, optimizer="sgd", lr=0.1)
    model.set_params(**params or {}).fit(X, y)
    later = small(cls).set_params(**model.get_params()).fit(-X, y[::-1])
    return model, later


@every_depth
@pytest.mark.parametrize("task", TARGETS.values(), ids=TARGETS)
def test_a_prediction_is_of_one_moment(task, hidden):
    """Whenever another thread has learned, it is that of before, or of after."""
    before, after = two_moments(*task, hidden=hidden)
    for name in PREDICT:
        if hasattr(before, name):
            old, new = (frozen(getattr(model, name)(X)) for model in (before, after))
            found = outcomes(
                lambda model, name=name: getattr(model, name)(X), before, after
            )
            assert old != new or name == "predict"
            assert all(one in (old, new) for one in found)
            assert found[0] == new
            assert found[-1] == old
    y = task[1]
    scores = outcomes(lambda model: float(model.score(X, y)), before, after)
    assert set(scores) <= {before.score(X, y), after.score(X, y)}


@pytest.mark.parametrize(
    "rows",
    [scipy.sparse.csr_array(X), torch.tensor(X), X.astype(np.float32), X[:1]],
    ids=["sparse", "tensor", "float32", "one row"],
)
def test_a_prediction_of_any_rows_is_of_one_moment(rows):
    """So it is for every way in."""
    before, after = two_moments(*TASKS["two targets"])
    old, new = (frozen(model.predict(rows)) for model in (before, after))
    found = outcomes(lambda model: model.predict(rows), before, after)
    assert set(map(repr, found)) == {repr(old), repr(new)}


def test_labels_are_those_of_the_weights():
    """A model that was fitted anew to other classes names none of the old ones."""
    cls, y = TASKS["two classes"]
    before, _ = two_moments(cls, y)
    after, _ = two_moments(*TASKS["three classes"])
    old, new = (frozen(model.predict(X)) for model in (before, after))
    found = outcomes(lambda model: model.predict(X), before, after)
    assert all(one in (old, new) for one in found)


def test_a_surface_is_of_one_moment():
    """It is drawn around the weights whose loss it is."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    cls, y = TASKS["regression"]
    before, after = two_moments(cls, y)

    def surface(model):
        figure.clear()
        display = LossSurfaceDisplay.from_estimator(
            model, X, y, grid_resolution=3, ax=figure.add_subplot()
        )
        return display.loss, display.fitted

    old, new = (frozen(surface(model)) for model in (before, after))
    assert all(one in (old, new) for one in outcomes(surface, before, after))


@pytest.mark.parametrize("x", ["epoch", "step", "time"])
def test_a_curve_is_of_one_moment(x):
    """It has as many places as losses."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    cls, y = TASKS["regression"]
    before, after = two_moments(cls, y)
    after.partial_fit(X, y)

    def curve(model):
        figure.clear()
        display = LossCurveDisplay.from_estimator(model, x=x, ax=figure.add_subplot())
        return display.x, display.losses

    old, new = (frozen(curve(model)) for model in (before, after))
    assert all(one in (old, new) for one in outcomes(curve, before, after))


def public_methods_that_predict():
    """Return the methods of the estimators that take X alone."""
    for cls in (MiniBatchRegressor, MiniBatchClassifier):
        for name, method in inspect.getmembers(cls, callable):
            if name.startswith("_") or method.__module__.split(".")[0] != "skgd":
                continue
            if list(inspect.signature(method).parameters) == ["self", "X"]:
                yield name


def test_no_method_that_predicts_is_left_out():
    """A new one has its test here."""
    assert set(public_methods_that_predict()) <= set(PREDICT)
    assert "predict" in set(public_methods_that_predict())


def test_threads_predict_while_one_learns():
    """In earnest: every prediction is that of a model after some call."""
    cls, y = TASKS["two targets"]
    model = small(cls, optimizer="sgd", lr=0.3, batch_size=None).partial_fit(X, y)
    known, seen = {frozen(model.predict(X[:1]))[2]}, set()
    twin = small(cls).set_params(**model.get_params()).partial_fit(X, y)
    for _ in range(100):
        known.add(frozen(twin.partial_fit(X, y).predict(X[:1]))[2])

    def predict():
        while model.t_ < 101:
            seen.add(frozen(model.predict(X[:1]))[2])

    threads = [Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        model.partial_fit(X, y)
    for thread in threads:
        thread.join()
    assert seen <= known


def blas_threads():
    return [one.num_threads for one in threads._blas_of_scipy()]


@pytest.fixture
def two_threads():
    """Give the numbers of threads of SciPy's BLAS, set to two or as many as it has."""
    libraries, before = threads._blas_of_scipy(), blas_threads()
    if not libraries:
        pytest.skip("no BLAS here that has a number of threads")
    threads._set_threads(libraries, [2] * len(libraries))
    yield blas_threads()
    threads._set_threads(libraries, before)


def test_blas_is_held_to_one_thread_until_the_last_has_left(two_threads):
    """It has one number for the process: who leaves first must not set it back."""
    first, second = threads.one_thread_of_blas(), threads.one_thread_of_blas()
    first.__enter__()
    second.__enter__()
    assert set(blas_threads()) == {1}
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == two_threads


def test_each_library_gets_its_own_number_back(monkeypatch):
    """Not the largest of them."""
    libraries = [SimpleNamespace(num_threads=n) for n in (3, 5)]
    for one in libraries:
        one.set_num_threads = partial(setattr, one, "num_threads")
    monkeypatch.setattr(threads, "_blas_of_scipy", lambda: libraries)
    with threads.one_thread_of_blas():
        assert blas_threads() == [1, 1]
    assert blas_threads() == [3, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_child_holds_nothing_of_its_parents(two_threads):
    """Neither the lock, which nobody there would open, nor the one thread of BLAS."""
    with threads.one_thread_of_blas(), threads._lock:
        child = os.fork()
        if not child:  # nothing but an exit code may come out of it
            signal.alarm(10)
            is_free = blas_threads() == two_threads
            with threads.one_thread_of_blas():
                is_held = set(blas_threads()) == {1}
            goes_back = blas_threads() == two_threads
            os._exit(0 if is_free and is_held and goes_back else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0


def test_the_threads_of_products_are_set_back():
    """Also where several threads have set them, each for itself, at one time."""
    before, both_in, seen = torch.get_num_threads(), Barrier(2), {}

    def computes(n):
        with threads.products_on_threads(n):
            both_in.wait(10)
            inside = torch.get_num_threads()
        seen[n] = inside, torch.get_num_threads()

    def starts(*numbers):
        some = [Thread(target=computes, args=(n,)) for n in numbers]
        for thread in some:
            thread.start()
        for thread in some:
            thread.join()

    starts(before + 1, before + 2)
    assert seen == {n: (n, before) for n in (before + 1, before + 2)}
    later = Thread(target=lambda: seen.update(later=torch.get_num_threads()))
    later.start()
    later.join()
    assert seen["later"] == torch.get_num_threads() == before
