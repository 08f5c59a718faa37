"""scikit-learn's callbacks on our estimators: what they see, and what they leave."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    TASKS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    every_class,
    every_depth,
    every_task,
    fitted_state,
    small,
)
from joblib import parallel_config
from sklearn.base import clone
from sklearn.callback import CallbackContext, ProgressBar, ScoringMonitor
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier, MiniBatchRegressor, WeightTrajectory

y = Y[:, 0]
N_BATCHES = 8  # of 8 rows, of the 60

every_record = pytest.mark.parametrize("every", ["epoch", "step"])


class Witness:
    """Note every call, and stop the fit when it is told to."""

    def __init__(self, *, stop=lambda estimator, context: False, wants_batches=False):
        self.stop, self.wants_batches = stop, wants_batches
        self.calls, self.estimators, self.seen = [], [], []

    def note(self, hook, estimator, context):
        self.calls.append((hook, context.task_name, context.task_id))
        self.estimators.append(estimator)

    def setup(self, estimator, context):
        self.note("setup", estimator, context)

    def on_fit_task_begin(self, estimator, context):
        self.note("begin", estimator, context)

    def on_fit_task_end(self, estimator, context, *, metadata):
        self.note("end", estimator, context)
        told = "n_iter_", "t_", "loss_curve_", "step_curve_", "time_curve_"
        seen = {name: copy.copy(getattr(estimator, name)) for name in told}
        self.seen.append({**seen, "metadata": metadata})
        return self.stop(estimator, context)

    def teardown(self, estimator, context):
        self.note("teardown", estimator, context)


class Fitted(Witness):
    """Keep the fitted estimator of every task that ends."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.seen.append(fitted_estimator)


def contexts_of(estimator):
    """Return the names under which an estimator holds anything of a fit under way."""
    return [
        name
        for name, value in vars(estimator).items()
        if isinstance(value, CallbackContext) or name.endswith(("_ctx", "_teardown"))
    ]


# Tasks


def test_a_fit_is_a_task_and_every_epoch_a_subtask():
    """Hooks come in the order of time, between one setup and one teardown."""
    witness = Witness()
    small(MiniBatchRegressor, max_iter=2).set_callbacks(witness).fit(X, y)
    epochs = [(hook, "epoch", n) for n in range(2) for hook in ("begin", "end")]
    start, end = [("setup", "fit", 0), ("begin", "fit", 0)], [("end", "fit", 0)]

    assert witness.calls == [*start, *epochs, *end, ("teardown", "fit", 0)]
    assert len(set(map(id, witness.estimators))) == 1


def test_batches_are_tasks_where_a_callback_asks():
    """An epoch has a subtask for every batch, the short one too."""
    witness = Witness(wants_batches=True)
    small(MiniBatchRegressor).set_callbacks(Witness(), witness).fit(X, y)
    ended = [call for call in witness.calls if call[:2] == ("end", "batch")]

    assert ended == [("end", "batch", n) for n in range(N_BATCHES)] * 3


def test_a_partial_fit_is_one_fit_of_one_epoch():
    """Each call sets callbacks up and tears them down."""
    witness = Witness()
    model = small(MiniBatchRegressor).set_callbacks(witness)
    model.partial_fit(X, y).partial_fit(X, y)
    hooks = [call[:2] for call in witness.calls]

    assert hooks.count(("setup", "fit")) == hooks.count(("teardown", "fit")) == 2
    assert hooks.count(("end", "epoch")) == 2
    assert witness.seen[-1]["n_iter_"] == 2


@pytest.mark.parametrize("wants_batches", [False, True])
@every_task
@every_depth
def test_looking_on_changes_nothing(cls, y, hidden, wants_batches):
    """Callbacks that do nothing leave the fit as it is without them, bit by bit."""
    model = small(cls, hidden_layer_sizes=hidden, record_batch_loss=True)
    watched = clone(model).set_callbacks(Witness(wants_batches=wants_batches))
    if wants_batches:  # only torch tells of them
        model.set_params(engine="torch")

    assert fitted_state(watched.fit(X, y)) == fitted_state(model.fit(X, y))


def test_hooks_read_how_far_training_is():
    """Steps, epochs and curves on the estimator are those of now, as in the end."""
    witness = Witness(wants_batches=True)
    model = small(MiniBatchRegressor).set_callbacks(witness).fit(X, y)
    of_task = zip(
        [c for c in witness.calls if c[0] == "end"], witness.seen, strict=True
    )
    tasks = [(task, seen) for (_, task, _), seen in of_task]
    batches = [seen for task, seen in tasks if task == "batch"]
    epochs = [seen for task, seen in tasks if task == "epoch"]

    assert [seen["t_"] for seen in batches] == list(range(1, 3 * N_BATCHES + 1))
    assert [seen["n_iter_"] for seen in epochs] == [1, 2, 3]
    for n, seen in enumerate(epochs, start=1):
        assert seen["loss_curve_"] == model.loss_curve_[:n]
        assert seen["step_curve_"] == [N_BATCHES * k for k in range(1, n + 1)]
        assert seen["time_curve_"] == model.time_curve_[:n]


def test_metadata_holds_the_sample_weight_only():
    """Scorers are called with all of it."""
    weighted, plain = Witness(), Witness()
    small(MiniBatchRegressor).set_callbacks(weighted).fit(X, y, sample_weight=WEIGHT)
    small(MiniBatchRegressor).set_callbacks(plain).fit(X, y)

    assert list(weighted.seen[0]["metadata"]) == ["sample_weight"]
    assert weighted.seen[0]["metadata"]["sample_weight"] is WEIGHT
    assert plain.seen[0]["metadata"] is None


@every_task
@every_depth
def test_the_fitted_estimator_of_an_epoch_is_that_of_so_many_epochs(cls, y, hidden):
    """It predicts and goes on as if the fit had ended there; later epochs leave it."""
    fitted, model = Fitted(), small(cls, hidden_layer_sizes=hidden)
    clone(model).set_callbacks(fitted).fit(X, y)
    for n, then in enumerate(fitted.seen[:-1], start=1):
        alone = clone(model).set_params(max_iter=n).fit(X, y)

        assert fitted_state(then) == fitted_state(alone)
        assert np.array_equal(then.predict(X), alone.predict(X))
        assert not contexts_of(then)
        assert fitted_state(then.partial_fit(X, y)) == fitted_state(
            alone.partial_fit(X, y)
        )


# Stopping


@pytest.mark.parametrize("tol", [None, 1e-4])
def test_a_callback_stops_the_fit_after_an_epoch(tol):
    """The fit is one of so many epochs, and warns of nothing."""
    witness = Witness(stop=lambda estimator, context: context.task_id == 1)
    model = small(MiniBatchRegressor, max_iter=50, tol=tol)
    alone = clone(model).set_params(max_iter=2, tol=None).fit(X, y)

    assert fitted_state(model.set_callbacks(witness).fit(X, y)) == fitted_state(alone)


def test_a_callback_stops_the_fit_after_a_step():
    """The weights are those after that whole step, in the midst of an epoch."""
    witness = Witness(stop=lambda estimator, _: estimator.t_ == 11, wants_batches=True)
    recorder = WeightTrajectory("step")
    params = {"record_batch_loss": True, "random_state": 3, "alpha": 0.0}
    model = small(MiniBatchRegressor, **params).set_callbacks(witness).fit(X, y)
    whole = small(MiniBatchRegressor, **params).set_callbacks(recorder).fit(X, y)
    weights = np.append(model.coef_, model.intercept_)

    assert (model.t_, model.n_iter_, model.step_curve_) == (11, 2, [8, 11])
    assert np.array_equal(weights, recorder.trajectories_[0].weights[11])
    assert np.array_equal(model.batch_loss_curve_, whole.batch_loss_curve_[:11])
    assert model.loss_ == pytest.approx(whole.batch_loss_curve_[8:11].mean(), rel=1e-12)
    assert witness.calls[-3:-1] == [("end", "epoch", 1), ("end", "fit", 0)]


# What stays


def test_without_callbacks_no_context_is_made(monkeypatch):
    """A fit that nobody looks on at does not know scikit-learn's contexts."""

    def refuse(self, *args, **kwargs):
        raise AssertionError("a context was made")

    monkeypatch.setattr(MiniBatchRegressor, "_init_callback_context", refuse)
    model = small(MiniBatchRegressor).fit(X, y).partial_fit(X, y)

    assert model.n_iter_ == 4
    with pytest.raises(AssertionError, match="a context was made"):
        model.set_callbacks(Witness()).fit(X, y)


@pytest.mark.parametrize("wants_batches", [False, True])
def test_nothing_of_a_fit_stays_but_what_is_documented(wants_batches):
    """The estimator has the attributes of one without callbacks, and its callbacks."""
    watched = small(MiniBatchRegressor)
    watched.set_callbacks(Witness(wants_batches=wants_batches)).fit(X, y)
    plain = small(MiniBatchRegressor).fit(X, y)

    assert set(vars(watched)) == {*vars(plain), "_skl_callbacks"}


@pytest.mark.parametrize("fault", ["divergence", "bad input", "hook"])
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(fault):
    """Its curves too, though callbacks have read longer ones; teardown has run."""

    def fail(estimator, context):
        if fault == "hook" and estimator.n_iter_ == 5:
            raise ValueError("the hook has had enough")
        return False

    witness = Witness()
    model = small(MiniBatchRegressor, optimizer="sgd", warm_start=True)
    model.set_callbacks(witness).fit(X, y)
    before, names = fitted_state(model), set(vars(model))
    witness.calls.clear()
    witness.stop = fail
    lr = {"lr": 1e6} if fault == "divergence" else {}
    with pytest.raises(ValueError, match=r"diverged|NaN|enough"):
        model.set_params(**lr).fit(X * np.nan if fault == "bad input" else X, y)

    assert fitted_state(model) == before
    assert set(vars(model)) == names
    hooks = [call[0] for call in witness.calls]
    assert hooks.count("setup") == hooks.count("teardown")


@pytest.mark.parametrize("batch_size", [8, None])
def test_a_monitor_does_not_hide_divergence(batch_size):
    """The error is ours, not that of a score of weights that are not numbers.

    A single step of the whole batch takes them there from a loss that still is one.
    """
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e38, dtype="float32")
    model.set_params(batch_size=batch_size).set_callbacks(ScoringMonitor(scoring="r2"))
    with pytest.raises(ValueError, match="Training diverged"):
        model.fit(X, 100 * y)


# In scikit-learn's tools


def monitored(**params):
    """Return a small regressor and the monitor that is set on it."""
    monitor = ScoringMonitor(scoring="neg_mean_squared_error")
    return small(MiniBatchRegressor, **params).set_callbacks(monitor), monitor


def scores_by_task(monitor, task_name):
    rows = [row for log in monitor.get_logs(select="all") for row in log.data]
    return [
        row["neg_mean_squared_error"] for row in rows if row["task_name"] == task_name
    ]


def test_a_monitor_scores_every_epoch():
    """The scores are those of fits of so many epochs, weighted and with names."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    model, monitor = monitored()
    model.fit(frame, y, sample_weight=WEIGHT)
    expected = []
    for n in (1, 2, 3):
        alone = small(MiniBatchRegressor, max_iter=n).fit(frame, y, WEIGHT)
        residual = y - alone.predict(frame)
        expected.append(-np.average(residual**2, weights=WEIGHT))

    np.testing.assert_allclose(scores_by_task(monitor, "epoch"), expected, rtol=1e-12)


def test_a_monitor_in_a_pipeline_scores_every_epoch():
    """The last step is one run of its own tasks, below those of the pipeline."""
    model, monitor = monitored()
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    scores = scores_by_task(monitor, "epoch")
    residual = y - pipeline.predict(X)

    assert len(scores) == 3
    assert scores[-1] == pytest.approx(-np.mean(residual**2), rel=1e-12)
    assert not contexts_of(pipeline[-1])


@pytest.fixture(params=["sequential", "threading", "loky"])
def jobs(request):
    """One process, two threads or two processes."""
    if request.param == "sequential":
        yield 1
        return
    if request.param == "loky":
        request.getfixturevalue("loky")
    with parallel_config(request.param):
        yield 2


def test_a_monitor_in_a_search_has_a_row_for_every_epoch_of_every_fit(jobs):
    """None is lost, in whatever worker: 2 candidates x 3 splits and the refit."""
    model, monitor = monitored()
    grid = {"lr": [0.01, 0.1]}
    search = GridSearchCV(model, grid, cv=KFold(3), n_jobs=jobs).fit(X, y)

    assert len(scores_by_task(monitor, "epoch")) == 3 * (2 * 3 + 1)
    assert not contexts_of(search.best_estimator_)


def test_a_progress_bar_counts_to_the_end(capsys):
    """It names the estimator and finishes, alone and in a pipeline."""
    alone = small(MiniBatchRegressor).set_callbacks(ProgressBar()).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), small(MiniBatchRegressor))
    pipeline.set_callbacks(ProgressBar()).fit(X, y)
    told = capsys.readouterr().out

    assert told.count("MiniBatchRegressor - fit") == 2
    assert told.count("100%") == 1 + 3
    assert not contexts_of(alone) + contexts_of(pipeline[-1])
    assert not hasattr(pipeline[-1], "_skl_callbacks")


def test_a_progress_bar_of_a_search_reaches_the_estimator(jobs, capsys):
    """It has a bar for every fit of the last step, in any worker, and the refit."""
    pipeline = make_pipeline(StandardScaler(), small(MiniBatchRegressor))
    search = GridSearchCV(pipeline, {}, cv=KFold(3), n_jobs=jobs)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    last = search.best_estimator_[-1]

    assert capsys.readouterr().out.count("MiniBatchRegressor - fit") == 3 + 1
    assert not contexts_of(last)
    assert not hasattr(last, "_skl_callbacks")


def test_callbacks_run_under_what_does_not_know_them():
    """Each fit of a bagging is then a fit of its own."""
    recorder = WeightTrajectory()
    bag = BaggingRegressor(small(MiniBatchRegressor).set_callbacks(recorder), 3)
    bag.fit(X, y)

    assert len(recorder.trajectories_) == 3


# WeightTrajectory


@every_record
@every_task
@every_depth
def test_a_trajectory_goes_from_the_start_to_the_fitted_weights(cls, y, hidden, every):
    """Its records are the models after so many steps."""
    recorder = WeightTrajectory(every)
    model = small(cls, hidden_layer_sizes=hidden, record_batch_loss=True)
    model.set_callbacks(recorder).fit(X, y)
    [path] = recorder.trajectories_
    if hidden:
        parts = [*model.coefs_, *model.intercepts_]
    else:
        parts = [model.coef_, model.intercept_]
        n_intercepts = model.intercept_.size  # those of numbers start at the mean
        assert not path.weights[0][:-n_intercepts].any()
        start = y.mean(0) if cls is MiniBatchRegressor else 0
        np.testing.assert_allclose(path.weights[0][-n_intercepts:], start)
    step = 1 if every == "step" else N_BATCHES
    loss = model.batch_loss_curve_ if every == "step" else model.loss_curve_

    assert np.array_equal(path.weights[-1], np.concatenate([a.ravel() for a in parts]))
    assert path.t.tolist() == list(range(0, 3 * N_BATCHES + 1, step))
    assert np.isnan(path.loss[0])
    assert np.array_equal(path.loss[1:], loss)


def test_a_trajectory_of_whole_batches_is_that_of_gradient_descent():
    """Between two records lies the gradient of least squares."""
    recorder = WeightTrajectory()
    model = small(
        MiniBatchRegressor, optimizer="sgd", lr=0.1, alpha=0.0, batch_size=None
    )
    model.set_callbacks(recorder).fit(X, y)
    ones = np.column_stack([X, np.ones(len(X))])
    path = recorder.trajectories_[0].weights
    for before, after in pairwise(path):
        gradient = ones.T @ (ones @ before - y) / len(y)

        np.testing.assert_allclose(after, before - 0.1 * gradient, rtol=1e-10)


def test_a_later_fit_has_a_trajectory_of_its_own():
    """A partial fit goes on where the last one ended."""
    recorder = WeightTrajectory()
    model = small(MiniBatchRegressor).set_callbacks(recorder)
    model.partial_fit(X, y).partial_fit(X, y)
    first, second = recorder.trajectories_

    assert np.array_equal(first.weights[-1], second.weights[0])
    assert second.t.tolist() == [N_BATCHES, 2 * N_BATCHES]


def test_trajectories_of_a_search_are_those_of_its_fits():
    """One a candidate and split, then the refit."""
    recorder = WeightTrajectory()
    model = small(MiniBatchClassifier).set_callbacks(recorder)
    labels = TASKS["two classes"][1]
    search = GridSearchCV(model, {"lr": [0.01, 0.1]}, cv=KFold(3)).fit(X, labels)
    last = recorder.trajectories_[-1].weights[-1]

    assert len(recorder.trajectories_) == 2 * 3 + 1
    assert np.array_equal(last[:-1], search.best_estimator_.coef_[0])


def test_trajectories_of_threads_do_not_mix():
    """A callback that several fits share keeps them apart."""
    recorder = WeightTrajectory("step")
    model = small(MiniBatchRegressor).set_callbacks(recorder)
    with parallel_config("threading"):
        GridSearchCV(model, {"lr": [0.01, 0.1]}, cv=KFold(3), n_jobs=2).fit(X, y)

    assert len(recorder.trajectories_) == 2 * 3 + 1
    for path in recorder.trajectories_:
        assert np.array_equal(path.t, np.arange(len(path.t)))


def test_a_trajectory_survives_pickling_with_its_estimator():
    """Both come back, and the estimator still records."""
    recorder = WeightTrajectory()
    model = small(MiniBatchRegressor).set_callbacks(recorder).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    [back] = again._skl_callbacks

    assert np.array_equal(
        back.trajectories_[0].weights, recorder.trajectories_[0].weights
    )
    assert_same_layers(again.fit(X, y), model, rtol=0)
    assert (len(back.trajectories_), len(recorder.trajectories_)) == (2, 1)


def test_a_diverged_fit_can_be_looked_at():
    """Its trajectory is kept as far as it went."""
    recorder = WeightTrajectory("step")
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e6).set_callbacks(recorder)
    with pytest.raises(ValueError, match="diverged"):
        model.fit(X, y)
    [path] = recorder.trajectories_

    assert len(path.weights) > 1


def test_a_trajectory_says_what_it_needs():
    """A wrong word, and an estimator that is not ours, are refused."""
    with pytest.raises(ValueError, match=r"'every' .* must be one of 'epoch', 'step'"):
        WeightTrajectory("batch")
    pipeline = make_pipeline(StandardScaler(), small(MiniBatchRegressor))
    with pytest.raises(TypeError, match=r"Got Pipeline; set it on the one inside\."):
        pipeline.set_callbacks(WeightTrajectory()).fit(X, y)


@every_class
def test_callbacks_may_use_autograd(cls):
    """They run outside of the mode in which training computes."""

    class Gradient(Witness):
        def on_fit_task_end(self, estimator, context):
            weight = torch.ones(1, requires_grad=True)
            (2 * weight).sum().backward()
            self.seen.append(float(weight.grad))

    witness = Gradient()
    small(cls).set_callbacks(witness).fit(X, Y[:, 0] > 3)
    assert set(witness.seen) == {2.0}


def test_a_model_saved_by_a_callback_goes_on_with_the_rows_that_it_holds_out():
    """It is the fit of so many epochs, its split included."""
    params = {"early_stopping": True, "warm_start": True, "validation_fraction": 0.3}
    witness = Fitted()
    model = small(MiniBatchRegressor, **params, max_iter=2)
    model.set_callbacks(witness).fit(X, y)
    saved = witness.seen[1].set_callbacks()
    alone = small(MiniBatchRegressor, **params, max_iter=2).fit(X, y)

    assert fitted_state(saved.fit(X, y)) == fitted_state(alone.fit(X, y))
