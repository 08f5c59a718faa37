"""Epochs taken by the compiled loops against the same by torch: rules, pieces, ends."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from covering import every_pair
from test_training import (
    SETTINGS,
    SHARED,
    SIZES,
    data_of,
    new_models,
    per_model_of,
)

import skgd._training.compiled
from skgd._equations.network import arrays
from skgd._training import engines
from skgd._training.epochs import bind_epochs
from skgd._training.loop import Validation, train, train_on_chunk
from skgd._training.stack import new_stack
from skgd._training.stopping import History, Stream

pytestmark = pytest.mark.skipif(
    bool(engines.why_no_numba()), reason="no numba on this machine"
)

LOOPS = {name: c for name, c in SETTINGS.items() if "dropout" not in c}
RULES = {
    "no rule": {"tol": None},
    "a tolerance": {"tol": 1e-3, "n_iter_no_change": 3},
    "one epoch of patience": {"tol": 0.1, "n_iter_no_change": 1},
}


class Looks:
    """Looks on, at all epochs or none, and ends the training after so many steps."""

    wants_steps = False

    def __init__(self, wants_epochs=False, ends_after=np.inf):
        self.wants_epochs, self.ends_after = wants_epochs, ends_after
        self.told, self.epochs = [], []

    def before_epoch(self):
        pass

    def before_step(self):
        pass

    def after_step(self, models, loss):
        self.told.append(models.t)
        return "enough" if models.t >= self.ends_after else ""

    def after_epoch(self, models, histories):
        self.epochs.append(models.epochs)
        return ""


def run(shared, sizes=SIZES["network"], watch=None, validation=None, alpha=1e-2):
    """Return the weights and the history of one model that was trained."""
    data = data_of(shared.loss, 3, weighted=True)
    per_model = {**per_model_of([1]), "alpha": np.array([alpha])}
    models = new_models(data, sizes, shared, per_model, [0])
    [history] = train(data, models, shared, per_model, validation, watch)
    return models, history


def record_of(history):
    """Return all that a history has to tell, but for the time that it took."""
    return {name: v for name, v in asdict(history).items() if name != "seconds"}


def same_bits(models, others):
    pairs = [(models.parameters, others.parameters)]
    if models.average is not None:
        pairs.append((models.average, others.average))
    names = models.optimizer_state
    pairs += [(models.optimizer_state[n], others.optimizer_state[n]) for n in names]
    for one, another in pairs:
        torch.testing.assert_close(one.flat, another.flat, rtol=0, atol=0)


@every_pair(
    pytest.mark.parametrize("rule", RULES),
    pytest.mark.parametrize("sizes", SIZES),
    pytest.mark.parametrize("changes", LOOPS.values(), ids=LOOPS),
)
def test_they_stop_where_torch_stops(changes, sizes, rule):
    """The weights, curves and verdicts are the same but for rounding."""
    shared = SHARED._replace(**{"optimizer": "adam", **RULES[rule], **changes})
    # By the rates of "optimal", of about 3 for a small alpha, rounding would grow.
    alpha = 1.0 if shared.lr_schedule == "optimal" else 1e-2
    ours, history = run(shared._replace(engine="numba"), SIZES[sizes], alpha=alpha)
    theirs, expected = run(shared._replace(engine="torch"), SIZES[sizes], alpha=alpha)

    assert (ours.t, ours.epochs) == (theirs.t, theirs.epochs)
    assert history.verdict is expected.verdict
    assert history.t == expected.t
    for name in ("loss", "objective", "loss_curve"):
        pair = getattr(history, name), getattr(expected, name)
        np.testing.assert_allclose(*pair, rtol=1e-12)
    np.testing.assert_allclose(history.batch_loss, expected.batch_loss, rtol=1e-11)
    for one, other in zip(
        arrays(ours.parameters), arrays(theirs.parameters), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"])
@pytest.mark.parametrize("rule", RULES)
def test_epochs_at_once_are_the_epochs_one_by_one(rule, last_batch):
    """Whether somebody looks on between them changes no bit."""
    changes = {"optimizer": "adam", "average": 3, "last_batch": last_batch}
    shared = SHARED._replace(engine="numba", **changes, **RULES[rule])
    watch = Looks(wants_epochs=True)
    at_once, history = run(shared)
    one_by_one, expected = run(shared, watch=watch)

    assert len(watch.epochs) == len(expected.objective) > 1
    same_bits(at_once, one_by_one)
    np.testing.assert_equal(record_of(history), record_of(expected))


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_pieces_of_an_epoch_are_the_epoch(batch_size, monkeypatch):
    """Whoever looks on is asked after each piece, and the cuts change no bit."""
    shared = SHARED._replace(engine="numba", optimizer="adam", batch_size=batch_size)
    watch = Looks()
    whole, history = run(shared)
    monkeypatch.setattr(skgd._training.compiled, "_AT_ONCE_S", 1e-5)
    in_pieces, expected = run(shared, watch=watch)

    assert len(watch.told) > len(expected.objective) or batch_size == 30
    same_bits(whole, in_pieces)
    np.testing.assert_equal(record_of(history), record_of(expected))


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("hidden", [(), (6, 5), (1000,), (100, 100)], ids=str)
def test_a_piece_computes_with_no_more_than_its_share(hidden, batch_size, monkeypatch):
    """Every weight counts once a row, and every hidden unit as 20 of them."""
    most = 150_000
    monkeypatch.setattr(skgd._training.compiled, "_STEP_S", 0.0)
    monkeypatch.setattr(skgd._training.compiled, "_NUMBER_S", 1e-9)
    monkeypatch.setattr(skgd._training.compiled, "_EPOCH_S", 0.0)
    monkeypatch.setattr(skgd._training.compiled, "_AT_ONCE_S", most * 1e-9)
    shared = SHARED._replace(engine="numba", batch_size=batch_size, activation="gelu")
    watch = Looks()
    models, _ = run(shared, (4, *hidden, 3), watch=watch)

    pieces = np.diff([0, *watch.told])
    n_weights = sum(array[0].numel() for array in arrays(models.parameters)[::2])
    of_a_row = n_weights + 20 * sum(hidden)
    numbers = pieces * batch_size * of_a_row
    assert ((numbers <= most) | (pieces == 1)).all()
    assert pieces.sum() == models.t
    several_fit = 2 * batch_size * of_a_row < most - 20_000
    assert (max(pieces) > 1) == several_fit


def test_who_looks_on_ends_training_within_an_epoch(monkeypatch):
    """The steps until then are taken, and no more: those of torch."""
    monkeypatch.setattr(skgd._training.compiled, "_AT_ONCE_S", 1e-9)
    shared = SHARED._replace(engine="numba", batch_size=7)
    ours, history = run(shared, watch=Looks(ends_after=8))
    recorder = Looks(wants_epochs=True, ends_after=8)
    theirs, expected = run(shared._replace(engine="torch"), watch=recorder)

    assert (ours.t, history.ended, history.cut_short) == (8, "enough", True)
    assert history.t == expected.t == [5, 8]
    np.testing.assert_allclose(history.objective, expected.objective, rtol=1e-12)
    torch.testing.assert_close(ours.parameters.flat, theirs.parameters.flat)


@pytest.mark.parametrize("watched", ["loss", "score"])
def test_held_out_rows_are_seen_after_every_epoch(watched):
    """Training stops by them where torch stops, and returns to the same weights."""
    score = (lambda network, slots, models: [0.5]) if watched == "score" else None
    validation = Validation(data_of("squared_error", 3), score, stops=True)
    shared = SHARED._replace(tol=1e-2, max_iter=40)
    ours, history = run(shared._replace(engine="numba"), validation=validation)
    theirs, expected = run(shared, validation=validation)

    assert history.verdict is expected.verdict
    assert (history.best_epoch, history.best_t) == (
        expected.best_epoch,
        expected.best_t,
    )
    pair = history.validation_loss, expected.validation_loss
    np.testing.assert_allclose(*pair, rtol=1e-11)
    torch.testing.assert_close(ours.parameters.flat, theirs.parameters.flat)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("lr", [1e2, 1e30])
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "multinomial_log_loss"])
def test_what_diverges_is_told_as_on_torch(loss, lr, sizes):
    """NaN and infinity get through, in both dtypes."""
    per_model = {**per_model_of([1]), "lr": np.array([lr])}
    for dtype in (torch.float32, torch.float64):
        verdicts, finite = [], []
        for engine in ("numba", "torch"):
            shared = SHARED._replace(engine=engine, loss=loss, activation="relu")
            data = data_of(loss, 3)
            data = data._replace(x=data.x.to(dtype), y=data.y.to(dtype))
            models = new_models(data, SIZES[sizes], shared, per_model, [0])
            with np.errstate(all="ignore"):
                [history] = train(data, models, shared, per_model)
            verdicts.append((history.verdict, len(history.objective)))
            finite.append(torch.isfinite(models.parameters.flat))

        assert verdicts[0][0] is verdicts[1][0]
        assert verdicts[0][1] == verdicts[1][1]
        ours, theirs = finite  # the loops may have gone on for some epochs
        assert not (ours & ~theirs).any()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_epochs_are_chunks_of_a_stream(optimizer):
    """Calls on the same rows change the same bits as epochs at once."""
    shared = SHARED._replace(engine="numba", optimizer=optimizer, max_iter=6)
    data, per_model = data_of("squared_error", 3), per_model_of([1])
    fitted, streamed = (
        new_models(data, SIZES["network"], shared, per_model, [0]) for _ in range(2)
    )
    train(data, fitted, shared, per_model)
    for _ in range(6):
        once = shared._replace(max_iter=1)
        train_on_chunk(data, streamed, once, per_model, [Stream()])

    same_bits(fitted, streamed)


def test_outputs_have_scales_and_penalties_of_their_own():
    """Those of normalised targets, whose losses are told one by one."""
    scales = np.array([[0.1, 3.0, 20.0]])
    results = []
    for engine in ("numba", "torch"):
        for optimizer in ("sgd", "adam", "adamw"):
            shared = SHARED._replace(engine=engine, optimizer=optimizer, loss="huber")
            data = data_of("squared_error", 3, weighted=True)._replace(scales=scales)
            models = new_models(data, SIZES["linear"], shared, per_model_of([1]), [0])
            [history] = train(data, models, shared, per_model_of([1]))
            results.append((models.parameters.flat, history.loss_curve))

    for (flat, curve), (expected, other) in zip(results[:3], results[3:], strict=True):
        torch.testing.assert_close(flat, expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(curve, other, rtol=1e-12)


def test_several_epochs_are_taken_at_once():
    """Where nobody looks on in between."""
    shared = SHARED._replace(engine="numba")
    data, per_model = data_of("squared_error", 3), per_model_of([1])
    models = new_models(data, SIZES["linear"], shared, per_model, [0])
    stack = new_stack(models, [History()], per_model, data, None)

    assert len(bind_epochs(stack, shared, None)(5, [0])) == 5


def test_rows_of_epochs_taken_at_once_are_so_many_of_all_folds(monkeypatch):
    """They are drawn before the first step, so more folds have fewer epochs each."""
    shared, data = SHARED._replace(engine="numba"), data_of("squared_error", 3)
    for room in ("compiled", "in_turn"):
        bound = f"skgd._training.{room}.ROWS_AT_ONCE"
        monkeypatch.setattr(bound, 12 * data.n_samples)
    taken = []
    for seeds in ([0], [0, 1], [0, 1, 2]):
        per_model = per_model_of([1] * len(seeds))
        models = new_models(data, SIZES["linear"], shared, per_model, seeds)
        histories = [History() for _ in seeds]
        stack = new_stack(models, histories, per_model, data, None)
        taken.append(len(bind_epochs(stack, shared, None)(99, range(len(seeds)))))

    assert taken == [12, 6, 4]
