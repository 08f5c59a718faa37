"""Training that is ended from outside: by the clock, and by Ctrl-C at any moment."""

import signal
import threading
from copy import copy
from itertools import count

import numpy as np
import pytest
import torch
from conftest import (
    TASKS,
    X,
    Y,
    assert_same_layers,
    every_class,
    every_depth,
    fitted_state,
    layers_of,
    small,
)
from covering import every_pair
from interrupted import interrupted_at, some_moments
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV
from skgd._machine.interrupts import Terminations

y = Y[:, 0]
labels = TASKS["two classes"][1] == "yes"
STEPS = 8  # of an epoch of 60 rows in batches of 8


def assert_consistent(model):
    """Assert that a model that was ended at some step is what its counts say."""
    assert model.t_ == model.step_curve_[-1]
    lengths = {len(getattr(model, f"{name}_curve_")) for name in ("loss", "time")}
    assert {*lengths, len(model.step_curve_)} == {model.n_iter_}
    assert model.step_curve_[:-1] == [STEPS * n for n in range(1, model.n_iter_)]
    assert STEPS * (model.n_iter_ - 1) < model.t_ <= STEPS * model.n_iter_
    for arrays in layers_of(model):
        assert all(np.isfinite(array).all() for array in arrays)
    assert np.isfinite(model.loss_curve_).all()


def assert_steps_of_a_stream(model, targets):
    """Assert that the weights are those of a stream of as many steps, to the bit."""
    classes = {"classes": [False, True]} if targets is labels else {}
    stream = clone(model).set_params(early_stopping=False)
    for first in range(0, model.t_, STEPS):
        rows = slice(0, 8 * (model.t_ - first))  # of the last epoch, a part
        stream.partial_fit(X[rows], targets[rows], **classes)
    assert stream.t_ == model.t_
    assert_same_layers(stream, model, rtol=0)
    assert stream.loss_curve_ == model.loss_curve_


# The clock


@pytest.mark.parametrize("max_time", [0.5, 1.5, 7.5, 8.5, 13.5])
@every_class
def test_the_time_is_over_at_a_whole_step(cls, max_time, monkeypatch):
    """fit ends without a warning, and has taken as many steps as it says."""
    monkeypatch.setattr("skgd._training.compiled._AT_ONCE_S", 1e-9)  # one by one
    ticks = count()
    monkeypatch.setattr("skgd._estimators.watch.monotonic", lambda: float(next(ticks)))
    targets = y if cls is MiniBatchRegressor else labels
    model = small(cls, max_time=max_time, max_iter=5, tol=1e-9, shuffle=False)
    if cls is MiniBatchRegressor:  # a stream has the scale of its first rows
        model.set_params(normalize_y=False)
    model.fit(X, targets)
    assert 0 < model.t_ <= max_time + 1
    assert_consistent(model)
    assert_steps_of_a_stream(model, targets)


def test_time_that_is_not_over_changes_nothing():
    """A fit that ends before has the bits of one without a limit."""
    limited = small(MiniBatchRegressor, max_time=1e9).fit(X, y)
    assert fitted_state(limited) == fitted_state(small(MiniBatchRegressor).fit(X, y))


def test_a_stream_has_no_clock(monkeypatch):
    """partial_fit takes its steps whatever max_time says."""
    ticks = count()
    monkeypatch.setattr("skgd._estimators.watch.monotonic", lambda: float(next(ticks)))
    model = small(MiniBatchRegressor, max_time=0.5).partial_fit(X, y)
    assert model.t_ == STEPS


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_goes_on_after_the_time_was_over(early_stopping, monkeypatch):
    """A warm start takes up the steps where the clock has ended them."""
    monkeypatch.setattr("skgd._training.compiled._AT_ONCE_S", 1e-9)  # one by one
    ticks = count()
    monkeypatch.setattr("skgd._estimators.watch.monotonic", lambda: float(next(ticks)))
    model = small(MiniBatchRegressor, max_time=10.5, warm_start=True)
    model.set_params(early_stopping=early_stopping).fit(X, y)
    t = model.t_
    model.set_params(max_time=None).fit(X, y)
    assert t < 3 * STEPS
    assert model.t_ == t + 3 * (STEPS - early_stopping)


# Ctrl-C


def fit_interrupted(model, *moments, method="fit", **kwargs):
    """Call fit and return how it ended, and the number of calls it made."""
    total = []
    try:
        with interrupted_at(*moments) as total:
            getattr(model, method)(X, kwargs.pop("y", y), **kwargs)
    except KeyboardInterrupt as error:
        told = "was interrupted in epoch" in str(error)
        return ("stored" if told else "raised"), total
    return "ended", total


@every_pair(
    every_depth,
    pytest.mark.parametrize("early_stopping", [False, True]),
    pytest.mark.parametrize(
        "fitted", [False, True], ids=["first fit", "fitted before"]
    ),
)
def test_an_interrupt_at_any_moment_is_told(fitted, early_stopping, hidden):
    """It leaves a model that predicts and goes on, or the estimator as it was."""
    params = {
        "hidden_layer_sizes": hidden,
        "tol": 1e-9,
        "early_stopping": early_stopping,
        "normalize_y": False,  # a stream has the scale of its first rows
    }
    model = small(MiniBatchRegressor, **params, shuffle=False, max_iter=2)
    model.set_params(tol=None)
    if fitted:
        model.fit(X, Y)
    before, threads = fitted_state(model), torch.get_num_threads()
    for _ in "ab":  # the first call fills caches
        one = copy(model)
        how, [total] = fit_interrupted(one)
    after = fitted_state(one)
    assert how == "ended"
    ends = []
    last = range(total - 40, total - 1)  # where the state is written
    for moment in [*some_moments(total, 15), *last]:
        one = copy(model)
        how, _ = fit_interrupted(one, moment)
        ends.append(how)
        assert torch.get_num_threads() == threads
        assert not torch.is_inference_mode_enabled()
        if how == "stored":
            if not early_stopping:
                assert_consistent(one)
                assert_steps_of_a_stream(one, y)
            assert np.isfinite(one.predict(X)).all()
            one.set_params(warm_start=True).fit(X, y)
            assert one.n_iter_ >= 2 + 1
        else:
            assert how == "raised"
            assert fitted_state(one) in (before, after)
    assert ends.count("stored") > 5


def presses_at(n_calls):
    """Return a scorer that presses Ctrl-C in the given call, of a fit the epoch.

    What a fit begins with is scored as well, as call 0.
    """
    calls = count()

    def scorer(model, rows, targets):
        if next(calls) == n_calls:
            signal.raise_signal(signal.SIGINT)
        return 0.0

    return scorer


def test_the_interrupt_says_where_it_was():
    """It names the epoch and the steps that the estimator counts."""
    model = small(MiniBatchRegressor, early_stopping=True, max_iter=50)
    model.set_params(scoring=presses_at(3))
    message = r"interrupted in epoch 3, after 21 steps.*warm_start=True"
    with pytest.raises(KeyboardInterrupt, match=message):
        model.fit(X, y)
    assert (model.n_iter_, model.t_) == (3, 21)


def test_an_interrupt_in_the_last_moment_is_told():
    """Pressed while the last epoch is judged, it is not swallowed."""
    model = small(MiniBatchRegressor, early_stopping=True, max_iter=1)
    model.set_params(scoring=presses_at(1))
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 1"):
        model.fit(X, y)
    assert model.n_iter_ == 1


def test_an_interrupt_of_a_fit_that_fails_is_told():
    """A fit that diverges after Ctrl-C leaves the estimator as it was, and says so."""

    def presses(t):
        if t == 2:
            signal.raise_signal(signal.SIGINT)
        return 1.0

    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e300, lr_schedule=presses)
    with pytest.raises(KeyboardInterrupt) as raised:
        model.fit(X, y)
    assert "Training diverged" in str(raised.value.__cause__)
    assert not fitted_state(model)


def one_by_one(model, **space):
    return VectorizedGridSearchCV(model, {"max_time": [1e9], **space}, cv=2)


CALLERS = {
    "a pipeline": lambda model: make_pipeline(StandardScaler(), model).fit(X, y),
    "cross_val_score": lambda model: cross_val_score(model, X, y, cv=2),
    "GridSearchCV": lambda model: GridSearchCV(model, {"lr": [0.1, 1]}, cv=2).fit(X, y),
    "a search one by one": lambda model: one_by_one(model, lr=[0.1, 1]).fit(X, y),
    "a search": lambda model: VectorizedGridSearchCV(model, {"lr": [0.1]}).fit(X, y),
}


@pytest.mark.parametrize("n_calls", [2, 5], ids=["first fit", "second fit"])
@pytest.mark.parametrize("call", CALLERS.values(), ids=CALLERS)
def test_an_interrupt_ends_whoever_called_fit(call, n_calls):
    """No search goes on with the score of a fit that was cut short."""
    fits = count()
    if call is CALLERS["a pipeline"]:
        n_calls = min(n_calls, 3)
    scorer = presses_at(n_calls)

    def counting(model, rows, targets):
        next(fits)
        return scorer(model, rows, targets)

    model = small(MiniBatchRegressor, early_stopping=True, scoring=counting)
    with pytest.raises(KeyboardInterrupt):
        call(model)
    assert next(fits) == n_calls + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("search", [GridSearchCV, VectorizedGridSearchCV])
def test_an_interrupt_of_a_refit_leaves_the_best_as_far_as_it_came(search):
    """Then the search ends; ours has its results by then."""
    model = small(MiniBatchRegressor, early_stopping=True)
    model.set_params(scoring=presses_at(4 * 2 * 4 + 2))
    space = {"lr": [0.1, 0.2], "alpha": [0.1, 0.2]}
    searching = search(model, space, cv=2, scoring="r2")
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 2"):
        searching.fit(X, y)
    assert searching.best_estimator_.n_iter_ == 2
    assert np.isfinite(searching.best_estimator_.predict(X)).all()
    if search is VectorizedGridSearchCV:
        assert len(searching.cv_results_["params"]) == 4


def test_callbacks_are_torn_down_before_an_interrupt_is_raised():
    """They see the fit end, and find the model as it is stored."""
    seen = []

    class Looks:
        def setup(self, estimator, context):
            seen.append("setup")

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            if context.task_name == "epoch" and estimator.n_iter_ == 2:
                signal.raise_signal(signal.SIGINT)
            seen.append((context.task_name, estimator.n_iter_))

        def teardown(self, estimator, context):
            seen.append("teardown")

    model = small(MiniBatchRegressor).set_callbacks(Looks())
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 2"):
        model.fit(X, y)
    assert seen == ["setup", ("epoch", 1), ("epoch", 2), ("fit", 2), "teardown"]
    assert not hasattr(model, "_callback_fit_ctx")
    assert model.n_iter_ == 2


@pytest.mark.parametrize("fitted", [False, True], ids=["first fit", "fitted before"])
def test_a_second_interrupt_leaves_the_estimator_as_it_was(fitted):
    """It raises KeyboardInterrupt, puts the handler back and changes nothing."""

    def scorer(model, rows, targets):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    model = small(MiniBatchRegressor, random_state=np.random.RandomState(0))
    if fitted:
        model.fit(X, Y)
    model.set_params(early_stopping=True, scoring=scorer)
    before, seed = fitted_state(model), model.random_state.get_state()[1].copy()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert fitted_state(model) == before
    assert np.array_equal(model.random_state.get_state()[1], seed)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("cls", [MiniBatchRegressor, MiniBatchClassifier])
def test_a_stream_is_interrupted_as_ever(cls):
    """partial_fit raises KeyboardInterrupt at any moment, and nothing is half done."""
    targets = y if cls is MiniBatchRegressor else labels
    model = small(cls, record_batch_loss=True, average=True)
    model.fit(X, targets)
    before = fitted_state(model)
    one = copy(model)
    copy(model).partial_fit(X, targets)  # which fills caches
    _, [total] = fit_interrupted(one, method="partial_fit", y=targets)
    after = fitted_state(one)
    assert after != before
    last = range(total - 40, total - 1)
    for moment in [*some_moments(total, 15), *last]:
        one = copy(model)
        how, _ = fit_interrupted(one, moment, method="partial_fit", y=targets)
        assert how == "raised"
        assert fitted_state(one) in (before, after)
        assert fitted_state(model) == before


def test_other_threads_fit_without_a_handler():
    """A fit outside the main thread touches no signal, and ends like any other."""
    before, seen = signal.getsignal(signal.SIGINT), []

    def scorer(model, rows, targets):
        seen.append(signal.getsignal(signal.SIGINT))
        return 0.0

    model = small(MiniBatchRegressor, early_stopping=True, scoring=scorer)
    thread = threading.Thread(target=model.fit, args=(X, y))
    thread.start()
    thread.join()
    assert seen == [before] * 4
    assert model.n_iter_ == 3


# SIGTERM


@pytest.fixture
def heard():
    """Give a list that gets what a handler of the caller's hears of SIGTERM."""
    numbers = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_put_off_until_it_may_take_its_course(heard):
    """Once for all that came before, and at the end of the block at last."""
    with Terminations() as terminations:
        terminations.let_through()  # none has come
        signal.raise_signal(signal.SIGTERM)
        assert terminations.came
        assert heard == []
        terminations.let_through()
        assert not terminations.came
        assert len(heard) == 1
        signal.raise_signal(signal.SIGTERM)
        assert len(heard) == 1
    assert len(heard) == 2
    signal.raise_signal(signal.SIGTERM)
    assert len(heard) == 3


def test_sigterm_that_is_sent_twice_waits_for_nothing(heard):
    """The second one takes its course at once, wherever the block is."""
    with Terminations() as terminations:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert len(heard) == 1
        assert terminations.came
    assert len(heard) == 2


def test_sigterm_takes_its_course_after_an_error(heard):
    """The error comes out, and the handler is the one before."""

    def fails():
        with Terminations():
            signal.raise_signal(signal.SIGTERM)
            raise ArithmeticError

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ArithmeticError):
        fails()
    assert len(heard) == 1
    assert signal.getsignal(signal.SIGTERM) is handler


def test_sigterm_is_left_alone_where_it_is_not_ours():
    """In a thread, where no handler can be set, and where the process ignores it."""
    handlers = []

    def look():
        with Terminations() as terminations:
            handlers.append(signal.getsignal(signal.SIGTERM))
            terminations.let_through()

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        look()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handlers == [before, signal.SIG_IGN]
