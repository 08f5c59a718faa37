"""Composed steps against the same steps one by one, torch.optim and closed forms."""

import numpy as np
import pytest
import torch
from conftest import assert_same_layers, small
from test_training import SHARED, new_models, per_model_of, torch_loss

import skgd._training.composed
from skgd import MiniBatchRegressor
from skgd._equations.network import arrays
from skgd._training.batches import Data
from skgd._training.loop import Validation, train

N_ROWS, N_FEATURES = 400, 4
PLAIN = {"momentum": [0.0] * 5, "l1_ratio": [0.0] * 5}


@pytest.fixture
def composed(monkeypatch):
    """Compose all steps that can be, however few; list the lengths of blocks taken."""
    taken = []
    bind = skgd._training.composed._bind_block

    def spied(data, models, n_steps, *sizes):
        taken.append(n_steps)
        return bind(data, models, n_steps, *sizes)

    monkeypatch.setattr(skgd._training.composed, "_pays", lambda *sizes: True)
    monkeypatch.setattr(skgd._training.composed, "_bind_block", spied)
    return taken


class EachStep:
    """Looks on at every step, so none are composed."""

    wants_steps = True

    def before_epoch(self):
        pass

    def before_step(self):
        pass

    def after_step(self, models, loss):
        return ""

    def after_epoch(self, models, histories):
        return ""


class Blocks(EachStep):
    """Looks on, but not at every step, and ends the training after so many."""

    wants_steps = False

    def __init__(self, ends_after=np.inf):
        self.seen, self.ends_after = [], ends_after

    def after_step(self, models, loss):
        self.seen.append(models.t)
        return "enough" if models.t >= self.ends_after else ""


def data_of(n_outputs, weights=0, dtype=torch.float64):
    """Return noisy linear targets, with or without weights of rows."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = draw(N_ROWS, N_FEATURES)
    y = draw(n_outputs, N_FEATURES) @ x.mT + 3 + 0.3 * draw(n_outputs, N_ROWS)
    weight = draw(weights, N_ROWS).abs() if weights else None
    return Data(x.to(dtype), y.to(dtype), weight)


def both(data, shared, per_model, validation=None):
    """Train with composed steps and with single ones, and compare all that comes."""
    n_outputs = len(data.y)
    pair = []
    for watch in (None, EachStep()):
        sizes = (data.x.shape[1], n_outputs)
        models = new_models(data, sizes, shared, per_model, [0])
        with np.errstate(all="ignore"):
            histories = train(data, models, shared, per_model, validation, watch)
        pair.append((models, histories))
    (models, histories), (expected, others) = pair
    assert models.t == expected.t
    for history, other in zip(histories, others, strict=True):
        assert history.converged == other.converged
        assert history.diverged == other.diverged
        assert history.t == other.t
        if not history.diverged:
            for name in ("objective", "validation_loss"):
                ours, theirs = getattr(history, name), getattr(other, name)
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
            losses = map(np.concatenate, (history.batch_loss, other.batch_loss))
            np.testing.assert_allclose(*losses, rtol=1e-9, atol=1e-12)
    networks = models.parameters, expected.parameters
    for ours, theirs in zip(*map(arrays, networks), strict=True):
        for model, history in enumerate(histories):
            if not history.diverged:
                torch.testing.assert_close(
                    ours[model], theirs[model], rtol=1e-10, atol=1e-11
                )
    return histories


SCHEDULES = {
    "constant": {},
    "invscaling": {"lr_schedule": "invscaling"},
    "a function of t": {"lr_schedule": lambda t: 1 / (1 + t % 3)},
    "warm-up": {"warmup_steps": 20},
    "adaptive": {"lr_schedule": "adaptive", "tol": 1e-2},
    "cosine": {"lr_schedule": "cosine", "horizon": 4},
}


@pytest.mark.parametrize("changes", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("weights", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 30])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, 1e-2, 100.0])
def test_they_are_the_steps(alpha, n_outputs, batch_size, weights, changes, composed):
    """With any penalty, number of outputs, weights and schedule."""
    shared = SHARED._replace(**{"batch_size": batch_size, "max_iter": 4, **changes})
    per_model = per_model_of([0], **{**PLAIN, "lr": [0.03] * 5, "alpha": [alpha] * 5})

    both(data_of(n_outputs, weights), shared, per_model)
    assert composed


@pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"])
@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_the_last_batch_is_what_it_was(batch_size, last_batch, composed):
    """A short one is a step of its own, one that is filled up is like any other."""
    shared = SHARED._replace(batch_size=batch_size, last_batch=last_batch, max_iter=4)

    both(data_of(2), shared, per_model_of([0], **PLAIN))
    assert composed


@pytest.mark.parametrize("batch_size", [1, 3, 20])
@pytest.mark.parametrize("intercept", [False, True])
def test_they_are_torchs_steps(intercept, batch_size, composed):
    """torch.optim.SGD and autograd, on the rows in order."""
    data = data_of(2)
    params = {"optimizer": "sgd", "lr": 0.02, "alpha": 0.0, "shuffle": False}
    params["normalize_y"] = False  # which would begin at the mean
    model = small(
        MiniBatchRegressor, batch_size=batch_size, fit_intercept=intercept, **params
    ).fit(data.x.numpy(), data.y.T.numpy())
    layer = torch.nn.Linear(N_FEATURES, 2, bias=intercept, dtype=torch.float64)
    for parameter in layer.parameters():
        parameter.data.zero_()
    peer = torch.optim.SGD(layer.parameters(), lr=0.02)
    for _ in range(model.n_iter_):
        for x, y in zip(
            data.x.split(batch_size), data.y.split(batch_size, dim=1), strict=True
        ):
            peer.zero_grad()
            torch_loss([layer], x, y).backward()
            peer.step()

    assert composed
    np.testing.assert_allclose(model.coef_, layer.weight.detach(), rtol=1e-10)
    if intercept:
        np.testing.assert_allclose(model.intercept_, layer.bias.detach(), rtol=1e-10)


def test_an_exact_fit_is_found(composed):
    """Targets that are a linear rule: many steps end at it, and the loss at zero."""
    data = data_of(1)
    y = data.x.numpy() @ [1.0, -2.0, 0.5, 0.0] + 3
    params = {"lr": 0.05, "alpha": 0.0, "batch_size": 1, "max_iter": 20}
    model = small(MiniBatchRegressor, optimizer="sgd", **params)
    model.fit(data.x.numpy(), y)

    assert composed
    np.testing.assert_allclose(model.coef_, [1.0, -2.0, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(model.intercept_, 3, rtol=1e-12)
    assert model.loss_ < 1e-24


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_size", [1, 30])
@pytest.mark.parametrize("lr", [3.0, 1e6, 1e30])
def test_what_diverges_is_seen_to(lr, batch_size, dtype, composed):
    """It is huge or no number."""
    shared = SHARED._replace(batch_size=batch_size, max_iter=8)
    per_model = per_model_of([0], **{**PLAIN, "lr": [lr] * 5})
    data = data_of(1, dtype=dtype)
    if dtype == torch.float64:
        histories = both(data, shared, per_model)
    else:
        models = new_models(data, (N_FEATURES, 1), shared, per_model, [0])
        histories = train(data, models, shared, per_model)

    assert composed
    assert [history.diverged for history in histories] == [True]


def test_a_fit_that_diverges_is_an_error(composed):
    """The estimator says so, as ever."""
    data = data_of(1)
    model = small(MiniBatchRegressor, optimizer="sgd", lr=50.0, batch_size=1)
    with pytest.raises(ValueError, match="diverged"):
        model.fit(data.x.numpy(), data.y[0].numpy())
    assert composed


@pytest.mark.parametrize("batch_size", [1, 16])
def test_models_stop_early_as_they_did(batch_size, composed):
    """Held-out rows are watched after each epoch."""
    shared = SHARED._replace(batch_size=batch_size, max_iter=30, tol=1e-3)
    data = data_of(1)
    held_out = Validation(data._replace(rows=np.arange(300, N_ROWS)), None, True)
    per_model = per_model_of([0], **{**PLAIN, "lr": [0.02] * 5})
    rows = np.arange(300)
    [history] = both(data._replace(rows=rows), shared, per_model, validation=held_out)

    assert 1 < len(history.objective) < 30
    assert composed


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_stream_goes_on(batch_size, composed, monkeypatch):
    """partial_fit, chunk by chunk, takes the steps that it took one by one."""
    data = data_of(1)
    x, y = data.x.numpy(), data.y[0].numpy()
    pair = []
    for pays in (True, False):
        monkeypatch.setattr(
            skgd._training.composed, "_pays", lambda *_, pays=pays: pays
        )
        model = small(MiniBatchRegressor, optimizer="sgd", batch_size=batch_size)
        for start in range(0, N_ROWS, 100):
            model.partial_fit(x[start : start + 100], y[start : start + 100])
        pair.append(model)

    assert composed
    assert pair[0].t_ == pair[1].t_
    assert_same_layers(*pair, rtol=1e-10, atol=1e-12)


def test_who_looks_on_is_asked_after_each_block(composed, monkeypatch):
    """Blocks are short in memory; training ends after the one that is said to."""
    monkeypatch.setattr(skgd._training.composed, "_NUMBERS_OF_A_BLOCK", 10_000)
    shared = SHARED._replace(batch_size=1, max_iter=3)
    data, watch = data_of(1), Blocks(ends_after=500)
    per_model = per_model_of([0], **{**PLAIN, "lr": [0.02] * 5})
    models = new_models(data, (N_FEATURES, 1), shared, per_model, [0])
    [history] = train(data, models, shared, per_model, watch=watch)

    assert len([t for t in watch.seen if t <= N_ROWS]) > 3  # blocks of an epoch
    assert history.ended == "enough"
    assert models.t == watch.seen[-1] == history.t[-1] >= 500
    assert N_ROWS in watch.seen
    assert sum(map(len, history.batch_loss)) == models.t < 1200


UNLIKE = {
    "another loss": {"loss": "huber"},
    "clipping": {"max_grad_norm": 0.5},
    "averaging": {"average": 10},
    "Adam": {"optimizer": "adam"},
}


@pytest.mark.parametrize("changes", UNLIKE.values(), ids=UNLIKE)
def test_other_steps_are_not_composed(changes, composed):
    """What is no affine map, or needs the parameters after each step."""
    shared = SHARED._replace(**changes, max_iter=2)

    both(data_of(1), shared, per_model_of([0], **PLAIN))
    assert not composed


def test_several_models_are_not_composed(composed):
    """Their steps are taken together already."""
    both(data_of(1), SHARED._replace(max_iter=2), per_model_of([0, 1], **PLAIN))
    assert not composed


@pytest.mark.parametrize("changes", [{"l1_ratio": [0.5]}, {"momentum": [0.9]}])
def test_numbers_of_other_steps_are_not_composed(changes, composed):
    """L1 and momentum, likewise."""
    changes = {name: values * 5 for name, values in changes.items()}
    per_model = per_model_of([1], **{**PLAIN, **changes})

    both(data_of(1), SHARED._replace(max_iter=2), per_model)
    assert not composed


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "at_most"),
    [(20_640, 1, 20), (20_640, 80, 3), (2001, 2, 20), (40, 2, 20)],
)
def test_many_small_steps_are_composed(n_rows, batch_size, at_most):
    """As they are trained, without any of this module's doing; few steps are not."""
    x = np.random.default_rng(0).normal(size=(n_rows, N_FEATURES))
    watch, shared = Blocks(), SHARED._replace(batch_size=batch_size, max_iter=1)
    data = Data(torch.tensor(x), torch.tensor(x[:, :1].T), None)
    per_model = per_model_of([0], **{**PLAIN, "lr": [0.01] * 5})
    models = new_models(data, (N_FEATURES, 1), shared, per_model, [0])
    train(data, models, shared, per_model, watch=watch)

    if n_rows == 40:
        assert len(watch.seen) == 20
    else:
        assert len(watch.seen) <= at_most


def test_float32_is_as_near_to_float64_as_single_steps_are():
    """From a start that is far off, at rates that fall: within some digits of both."""
    x = np.random.default_rng(0).normal(size=(2000, N_FEATURES))
    target = x @ [1.0, -2.0, 0.5, 0.0] + np.random.default_rng(1).normal(size=2000)
    params = {"optimizer": "sgd", "lr": 0.1, "lr_schedule": "invscaling", "max_iter": 5}
    models = [
        small(MiniBatchRegressor, batch_size=4, dtype=dtype, **params).fit(
            x, target, coef_init=np.full(N_FEATURES, 100.0)
        )
        for dtype in ("float32", "float64")
    ]

    assert_same_layers(*models, rtol=2e-4)
