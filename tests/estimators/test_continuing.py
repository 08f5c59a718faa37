"""Training in parts is training in one go: streams and warm starts."""

from copy import deepcopy

import numpy as np
import pytest
from conftest import (
    OPTIMIZERS,
    TASKS,
    X,
    Y,
    assert_same_layers,
    every_engine,
    every_optimizer,
    fitted_state,
    layers_of,
    on_both_engines,
    small,
)
from covering import every_pair
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skgd import MiniBatchClassifier, MiniBatchRegressor

pytestmark = on_both_engines

y = Y[:, 0]
labels = TASKS["three classes"][1]
KINDS = {
    "linear regression": (MiniBatchRegressor, y, ()),
    "linear classes": (MiniBatchClassifier, labels, ()),
    "network": (MiniBatchRegressor, Y, (5, 3)),
    "network of classes": (MiniBatchClassifier, labels, (5,)),
}
every_kind = pytest.mark.parametrize(("cls", "y", "hidden"), KINDS.values(), ids=KINDS)
# What a step may depend on beside its batch. Some are laid out over max_iter epochs, so
# a fit of half of them is another one.
SETTINGS = {
    "constant": {},
    "adaptive": {"lr_schedule": "adaptive"},
    "invscaling": {"lr_schedule": "invscaling", "power_t": 0.4},
    "optimal": {"lr_schedule": "optimal", "alpha": 50},
    "step": {"lr_schedule": "step", "decay_every": 2, "decay": 0.7},
    "a function of t": {"lr_schedule": lambda t: 1 / (1 + t % 3)},
    "warm-up": {"warmup_steps": 13},
    "clipping": {"max_grad_norm": 0.3},
    "averaging": {"average": True},
    "averaging from a step on": {"average": 7},
    "averaging that never begins": {"average": 1000},
    "dropout": {"dropout": 0.3},
    "all at once": {
        "optimizer": "rmsprop",
        "lr_schedule": "invscaling",
        "warmup_steps": 4,
        "max_grad_norm": 0.3,
        "average": 7,
        "dropout": 0.3,
        "l1_ratio": 0.4,
        "alpha": 0.1,
    },
}
OVER_MAX_ITER = {
    "cosine": {"lr_schedule": "cosine"},
    "one cycle": {"lr_schedule": "one_cycle"},
}


def stream_of(model, y, n_calls, **changes):
    """Return the model after so many calls of partial_fit on all rows."""
    model = clone(model).set_params(**changes)
    classes = {"classes": np.unique(y)} if y is labels else {}
    for _ in range(n_calls):
        model.partial_fit(X, y, **classes)
    return model


@every_pair(
    pytest.mark.parametrize("batch_size", [25, None], ids=["3 steps", "1 step"]),
    pytest.mark.parametrize(
        "params",
        [*SETTINGS.values(), *OVER_MAX_ITER.values()],
        ids=[*SETTINGS, *OVER_MAX_ITER],
    ),
    every_kind,
    every_engine,
)
def test_a_stream_is_a_fit_to_the_bit(cls, y, hidden, params, batch_size):
    """One fit of 6 epochs and 6 calls of partial_fit leave the same state."""
    model = small(cls, hidden_layer_sizes=hidden, max_iter=6, **params)
    model.set_params(batch_size=batch_size, record_batch_loss=True)
    whole = clone(model).fit(X, y)
    assert fitted_state(stream_of(model, y, 6)) == fitted_state(whole)


@every_pair(
    pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS),
    every_kind,
    every_engine,
)
def test_two_warm_fits_are_one_to_the_bit(cls, y, hidden, params):
    """Two fits of 3 epochs leave the state of one of 6."""
    model = small(cls, hidden_layer_sizes=hidden, batch_size=25, **params)
    whole = clone(model).set_params(max_iter=6).fit(X, y)
    warm = clone(model).set_params(warm_start=True).fit(X, y).fit(X, y)
    assert fitted_state(warm) == fitted_state(whole)


def fresh_from(model, **changes):
    """Return an estimator that was never fitted, and the weights of one that was."""
    coefs, intercepts = ("coef_", "intercept_"), ("coefs_", "intercepts_")
    names = coefs if hasattr(model, "coef_") else intercepts
    starts = {f"{name}init": getattr(model, name) for name in names}
    return clone(model).set_params(**changes), starts


@every_pair(
    pytest.mark.parametrize("second", [3, 5], ids=["as long", "longer"]),
    pytest.mark.parametrize("early_stopping", [False, True]),
    pytest.mark.parametrize("params", OVER_MAX_ITER.values(), ids=OVER_MAX_ITER),
    pytest.mark.parametrize(
        ("cls", "y", "hidden"), list(KINDS.values())[1:3], ids=list(KINDS)[1:3]
    ),
    every_engine,
)
def test_a_second_warm_fit_runs_through_the_whole_schedule(
    cls, y, hidden, params, early_stopping, second
):
    """From the weights of the first one it goes where a new fit from them goes."""
    model = small(cls, hidden_layer_sizes=hidden, optimizer="sgd", lr=0.1, **params)
    model.set_params(shuffle=False, warm_start=True, batch_size=25).fit(X, y)
    model.set_params(early_stopping=early_stopping, scoring="loss", max_iter=second)
    held_out = {"X_val": X[:20], "y_val": y[:20]} if early_stopping else {}
    fresh, starts = fresh_from(model)
    fresh.fit(X, y, **starts, **held_out)
    model.fit(X, y, **held_out)
    assert_same_layers(model, fresh, rtol=1e-12)
    assert model.loss_curve_[3:] == pytest.approx(fresh.loss_curve_, rel=1e-12)


@pytest.mark.parametrize("params", OVER_MAX_ITER.values(), ids=OVER_MAX_ITER)
@pytest.mark.parametrize("before", ["a stream", "another schedule", "other batches"])
def test_a_warm_fit_begins_its_schedule_whatever_there_was(before, params):
    """Neither calls of partial_fit nor epochs of another kind have used it up."""
    model = small(MiniBatchRegressor, optimizer="sgd", lr=0.1, shuffle=False)
    if before == "a stream":
        model = stream_of(model, y, 4, **params)
    elif before == "another schedule":
        model.fit(X, y)
    else:
        model.set_params(**params, batch_size=7).fit(X, y)
    model.set_params(**params, warm_start=True, batch_size=8)
    fresh, starts = fresh_from(model)
    fresh.fit(X, y, **starts)
    assert_same_layers(model.fit(X, y), fresh, rtol=1e-12)


class StopAfter:
    """Callback that ends a fit after some epochs."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def setup(self, estimator, context):
        self.left = self.n_epochs

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.left -= context.task_name == "epoch"
        return self.left == 0

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("params", OVER_MAX_ITER.values(), ids=OVER_MAX_ITER)
@every_kind
def test_a_stream_takes_up_the_schedule_of_a_warm_fit_to_the_bit(
    cls, y, hidden, params
):
    """A second fit that was ended, and calls of partial_fit, are the whole of it."""
    model = small(cls, hidden_layer_sizes=hidden, warm_start=True, **params)
    whole = clone(model).fit(X, y).set_params(max_iter=6).fit(X, y)
    model.fit(X, y).set_params(max_iter=6).set_callbacks(StopAfter(2)).fit(X, y)
    assert model.n_iter_ == 3 + 2
    model.set_callbacks()
    for _ in range(4):
        model.partial_fit(X, y)
    assert fitted_state(model) == fitted_state(whole)


@every_pair(
    pytest.mark.parametrize(
        "params",
        [*SETTINGS.values(), *OVER_MAX_ITER.values()],
        ids=[*SETTINGS, *OVER_MAX_ITER],
    ),
    every_optimizer,
    every_engine,
)
def test_a_stream_of_single_steps_is_a_fit_for_any_optimizer(optimizer, params):
    """Numbers of one step are those of many steps, for every schedule and optimizer."""
    params = {"alpha": 0.1, "l1_ratio": 0.3, **params, **optimizer, "lr": 0.02}
    model = small(MiniBatchRegressor, batch_size=None, max_iter=12, **params)
    whole = clone(model).fit(X, y)
    assert fitted_state(stream_of(model, y, 12)) == fitted_state(whole)


@pytest.mark.parametrize("max_iter", [8, 100], ids=["cut short", "settled"])
def test_an_adaptive_rate_is_kept_until_training_has_settled(max_iter):
    """What was cut short goes on as slowly; what has settled, or streams, does not."""
    params = {"optimizer": "sgd", "alpha": 0, "batch_size": None, "warm_start": True}
    model = small(MiniBatchRegressor, lr_schedule="adaptive", lr=0.5, **params)
    model.set_params(tol=1e-2, max_iter=max_iter, n_iter_no_change=3)
    if max_iter == 8:
        with pytest.warns(ConvergenceWarning, match="max_iter=8"):
            model.fit(X, y)
    else:
        model.fit(X, y)
    slow = model._state_["slowed"]
    assert slow in ([1 / 5, 1 / 25, 1 / 125] if max_iter == 8 else [1.0])
    before, stream = model.coef_.copy(), clone(model)
    stream.__dict__.update(model.__dict__)
    gradient = X.T @ (X @ before + model.intercept_ - Y[:, 1]) / len(X)
    for one, rate in (
        (model.set_params(max_iter=1, tol=None).fit(X, Y[:, 1]), slow),
        (stream.partial_fit(X, Y[:, 1]), 1.0),
    ):
        np.testing.assert_allclose(
            np.linalg.norm(one.coef_ - before),
            0.5 * rate * np.linalg.norm(gradient),
            rtol=1e-2 if rate < 1 else 0.3,  # the intercept has moved by then
        )


def test_a_fit_that_has_settled_learns_what_comes():
    """By default, a stream after it, and a warm fit, learn other targets."""
    model = small(MiniBatchRegressor, max_iter=200, tol=1e-3, warm_start=True)
    model.fit(X, y)
    least = clone(model).fit(X, -y).score(X, -y) - 0.02
    warm = clone(model).fit(X, y).fit(X, -y)
    assert warm.score(X, -y) > least
    for _ in range(100):
        model.partial_fit(X, -y)
    assert model.score(X, -y) > least


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
def test_dropout_is_seeded_and_predicts_with_all_units(hidden):
    """The same seed gives the same fit; without hidden units nothing is dropped."""
    plain = small(MiniBatchRegressor, hidden_layer_sizes=hidden).fit(X, y)
    dropped = clone(plain).set_params(dropout=0.5).fit(X, y)
    again = clone(dropped).fit(X, y)
    assert fitted_state(again) == fitted_state(dropped)
    assert (fitted_state(dropped) == fitted_state(plain)) is (hidden == ())
    prediction = dropped.predict(X)
    assert np.array_equal(prediction, dropped.predict(X))
    everything = clone(dropped).set_params(dropout=0)
    everything.__dict__.update({**vars(dropped), "dropout": 0.0})
    assert np.array_equal(prediction, everything.predict(X))


# Rows that do not count

COUNTS_NOT = {
    "linear": {},
    "network": {"hidden_layer_sizes": (5,), "dropout": 0.3},
    "averaging": {"average": True, "record_batch_loss": True},
    "cosine": {"lr_schedule": "cosine", "max_iter": 5},
    "adaptive": {"lr_schedule": "adaptive", "hidden_layer_sizes": 3},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "lr": 0.01, "warmup_steps": 9},
    "a RandomState": {"random_state": np.random.RandomState(3)},
}


@every_pair(
    pytest.mark.parametrize("rows", [X, sparse.csr_array(X), X.astype(np.float32)]),
    pytest.mark.parametrize("params", COUNTS_NOT.values(), ids=COUNTS_NOT),
    pytest.mark.parametrize(
        "kind", ["numbers", "weights", "classes", "both", "several"]
    ),
    every_engine,
)
def test_a_chunk_that_does_not_count_changes_no_bit(kind, params, rows):
    """Rows of weight 0 are taken, anywhere in a stream, and no step with them."""
    cls = MiniBatchRegressor if kind == "numbers" else MiniBatchClassifier
    model = small(cls, **deepcopy(params))
    target, weights = {
        "numbers": (y, [None, 0 * y]),
        "weights": (labels, [None, 0]),
        "classes": (labels, [None, None]),
        "both": (labels, [y**2, np.where(labels == 1, 1.0, 0.0)]),
        "several": ((Y > 3).astype(int), [None, 0 * y]),
    }[kind]
    counts, some = np.full(len(X), True), np.full(len(X), True)
    if kind in ("classes", "both"):
        model.set_params(class_weight={1: 0, -1: 2})
        counts, some = labels != 1, labels == 1
    classes = {"classes": np.unique(labels)} if target is labels else {}
    plain, mixed = clone(model), model

    def take(model, which, weight):
        known = {} if hasattr(model, "n_features_in_") else classes
        if np.ndim(weight):
            weight = weight[which]
        model.partial_fit(rows[which], target[which], sample_weight=weight, **known)

    for call in range(4):
        take(mixed, some, weights[1])
        assert getattr(mixed, "t_", 0) == getattr(plain, "t_", 0)
        take(mixed, counts, weights[0])
        take(plain, counts, weights[0])
        assert fitted_state(mixed) == fitted_state(plain)
        assert mixed.n_iter_ == call + 1


def test_a_stream_may_begin_with_rows_that_do_not_count():
    """Their call notes classes and columns, and there is no model yet."""
    model = small(MiniBatchClassifier)
    model.partial_fit(X, labels, classes=[-1, 0, 1, 5], sample_weight=0 * y)
    assert model.classes_.tolist() == [-1, 0, 1, 5]
    assert model.n_features_in_ == 4
    for method in (model.predict, model.predict_proba, model.decision_function):
        with pytest.raises(NotFittedError):
            method(X)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :2], labels)
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, labels + 1)
    assert model.partial_fit(X, labels).predict_proba(X).shape == (len(X), 4)
    begun = small(MiniBatchClassifier).partial_fit(X, labels, [-1, 0, 1], 0)
    begun.fit(X[:, :2], Y[:, 0] > 3)  # which begins anew
    assert begun.classes_.tolist() == [False, True]


# Averages that are switched on and off


def path_of(model, y, n_calls):
    """Return the weights and biases after every call of partial_fit, as one vector."""
    model, path = clone(model), []
    for _ in range(n_calls):
        model.partial_fit(X, y)
        path.append(vector_of(model))
    return np.array(path)


def vector_of(model):
    """Return the weights and biases that predict, as one vector."""
    coefs, intercepts = layers_of(model)
    return np.concatenate([array.ravel() for array in [*coefs, *intercepts]])


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
@pytest.mark.parametrize(
    ("average", "first"), [(True, 6), (1, 6), (5, 6), (6, 6), (8, 8), (10, 10)]
)
def test_an_average_begins_where_it_is_switched_on(average, first, hidden):
    """Then it is the mean of the weights since, or since the step that it names."""
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, batch_size=None)
    path = path_of(model, y, 10)
    averaged = stream_of(model, y, 5).set_params(average=average)
    for _ in range(5):
        averaged.partial_fit(X, y)
    expected = path[first - 1 :].mean(0)
    np.testing.assert_allclose(vector_of(averaged), expected, rtol=1e-12)


def test_an_average_that_was_switched_off_leaves_the_last_weights():
    """Off, the weights are those of a stream without it; on again, it begins anew."""
    model = small(MiniBatchRegressor, batch_size=None)
    path = path_of(model, y, 12)
    averaged = stream_of(model, y, 4, average=True)
    np.testing.assert_allclose(vector_of(averaged), path[:4].mean(0), rtol=1e-12)
    averaged.set_params(average=False)
    for _ in range(4):
        averaged.partial_fit(X, y)
    assert np.array_equal(vector_of(averaged), path[7])
    averaged.set_params(average=True)
    for _ in range(4):
        averaged.partial_fit(X, y)
    np.testing.assert_allclose(vector_of(averaged), path[8:].mean(0), rtol=1e-12)


def test_an_average_goes_on_between_fits():
    """A warm start that names a later step lets it begin there."""
    model = small(MiniBatchRegressor, batch_size=None)
    path = path_of(model, y, 8)
    averaged = stream_of(model, y, 4, average=2).set_params(average=6)
    for _ in range(4):
        averaged.partial_fit(X, y)
    np.testing.assert_allclose(vector_of(averaged), path[5:].mean(0), rtol=1e-12)


# Another optimizer


KEEPS_THE_SAME = [{"adam", "adamw"}, {"momentum", "nesterov"}]


@every_pair(
    pytest.mark.parametrize("average", [False, True]),
    pytest.mark.parametrize("second", OPTIMIZERS),
    pytest.mark.parametrize("first", OPTIMIZERS),
    every_engine,
)
def test_another_optimizer_takes_the_first_step_of_its_own(first, second, average):
    """It starts from the weights that there are as it would start a fit from them."""
    model = small(MiniBatchRegressor, batch_size=None, alpha=0.01, average=average)
    model.set_params(**{**OPTIMIZERS[first], "lr": 0.02}).fit(X, y)
    plain = clone(model).set_params(average=False).fit(X, y)
    defaults = {"momentum": 0.0, "nesterov": False, "epsilon": 1e-8}
    model.set_params(**{**defaults, **OPTIMIZERS[second], "lr": 0.02})
    fresh = clone(model).set_params(max_iter=1, average=False)
    fresh.fit(X, y, coef_init=plain.coef_, intercept_init=plain.intercept_)
    model.set_params(average=False).partial_fit(X, y)
    same = first == second or {first, second} in KEEPS_THE_SAME
    if same and first != "sgd":  # which keeps nothing
        assert not np.allclose(model.coef_, fresh.coef_, rtol=1e-6, atol=0)
    else:
        assert_same_layers(model, fresh, rtol=1e-12)


# Long streams


def test_the_curves_of_a_long_stream_are_bounded(monkeypatch):
    """They keep the last numbers; counts and the best one are of the whole stream."""
    names = ["loss_curve_", "step_curve_", "time_curve_", "batch_loss_curve_"]
    model = small(MiniBatchRegressor, batch_size=None, record_batch_loss=True, lr=0.5)
    whole = stream_of(model, y, 40)
    monkeypatch.setattr("skgd._estimators.record._KEPT_OF_A_STREAM", 5)
    short = clone(model)
    for n_calls in range(1, 41):
        short.partial_fit(X, y)
        lengths = {len(getattr(short, name)) for name in names}
        assert len(lengths) == 1
        assert min(5, n_calls) <= lengths.pop() <= 10
    for name in ("loss_curve_", "step_curve_", "batch_loss_curve_"):
        kept = list(getattr(short, name))
        assert kept == list(getattr(whole, name))[-len(kept) :]
    assert (short.n_iter_, short.t_) == (40, 40)
    assert short.best_loss_ == whole.best_loss_ == min(whole.loss_curve_)
    assert short.time_curve_ == sorted(short.time_curve_)
    assert_same_layers(short, whole, rtol=0)


def test_a_fit_of_many_epochs_keeps_them_all(monkeypatch):
    """Only streams are cut."""
    monkeypatch.setattr("skgd._estimators.record._KEPT_OF_A_STREAM", 5)
    assert len(small(MiniBatchRegressor, max_iter=40).fit(X, y).loss_curve_) == 40
