"""Schedules against those of torch and scikit-learn."""

import numpy as np
import pytest
import torch
from conftest import TASKS, X, small
from sklearn.linear_model import SGDClassifier, SGDRegressor
from torch.optim import lr_scheduler

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._equations.schedules import SCHEDULES, Schedule, learning_rates

LR = np.array([0.1, 0.01, 3.0])  # of three models
ALPHA = np.array([1e-4, 0.1, 2.0])
EPOCH_STEPS = 7
SCHEDULE = Schedule(
    kind="constant",
    power_t=0.3,
    decay=0.8,
    decay_every=2,
    warmup_steps=0,
    epoch_steps=EPOCH_STEPS,
    total_steps=50,
)


def harmonic(t):
    return 1 / t


KINDS = [*SCHEDULES, harmonic]
changing_kinds = [kind for kind in KINDS if kind not in ("constant", "adaptive")]


def name_of(kind):
    return getattr(kind, "__name__", kind)


def rates_of(n_steps, lr=LR, alpha=ALPHA, **changes):
    """Return the rates of the first steps, as the schedule gives them at once."""
    schedule = SCHEDULE._replace(**changes)
    return learning_rates(
        schedule, {"lr": lr, "alpha": alpha}, np.arange(1, n_steps + 1)
    )


def rates_of_torch(scheduler_of, n_steps, steps_of_each=1):
    """Return the rates that a scheduler of torch gives each model, (steps, m)."""
    rates = np.empty((n_steps, len(LR)))
    for m, lr in enumerate(LR):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
        scheduler = scheduler_of(optimizer)
        for t in range(1, n_steps + 1):
            rates[t - 1, m] = optimizer.param_groups[0]["lr"]
            optimizer.step()
            if t % steps_of_each == 0:
                scheduler.step()
    return rates


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10, 50])
def test_cosine_is_torchs(total):
    """Over any number of steps the rates are those of CosineAnnealingLR."""
    expected = rates_of_torch(
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, total), total
    )
    rates = rates_of(total, kind="cosine", total_steps=total)
    np.testing.assert_allclose(rates, expected, rtol=1e-10)


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10, 50])
def test_one_cycle_is_torchs(total):
    """Over any number of steps the rates are those of OneCycleLR."""
    expected = np.empty((total, 0))
    for lr in LR:
        column = rates_of_torch(
            lambda optimizer, lr=lr: lr_scheduler.OneCycleLR(
                optimizer, lr, total_steps=total, cycle_momentum=False
            ),
            total,
        )[:, :1]
        expected = np.hstack([expected, column])
    rates = rates_of(total, kind="one_cycle", total_steps=total)
    np.testing.assert_allclose(rates, expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["cosine", "one_cycle"])
def test_the_last_rate_stays(kind):
    """Steps beyond the total take the last one's rate."""
    rates = rates_of(55, kind=kind, total_steps=50)
    np.testing.assert_array_equal(rates[50:], np.tile(rates[49], (5, 1)))


@pytest.mark.parametrize("decay_every", [1, 3])
def test_step_is_torchs(decay_every):
    """With a step of the scheduler an epoch the rates are those of StepLR."""
    expected = rates_of_torch(
        lambda optimizer: lr_scheduler.StepLR(optimizer, decay_every, gamma=0.8),
        n_steps=50,
        steps_of_each=EPOCH_STEPS,
    )
    rates = rates_of(50, kind="step", decay_every=decay_every)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_a_function_is_a_factor_as_torchs():
    """The rates are those of LambdaLR, which counts steps from 0."""
    expected = rates_of_torch(
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda n: 0.9**n / (n + 1)),
        n_steps=50,
    )
    rates = rates_of(50, kind=lambda t: 0.9 ** (t - 1) / t)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


@pytest.mark.parametrize("warmup_steps", [1, 2, 20])
@pytest.mark.parametrize("kind", ["constant", "adaptive", "step"])
def test_a_warm_up_is_torchs(kind, warmup_steps):
    """It multiplies the schedule as LinearLR does, chained with it."""

    def warming_up(optimizer):
        # LinearLR counts from 0, so its first factor is given, and the others follow
        warm_up = lr_scheduler.LinearLR(
            optimizer, 1 / warmup_steps, 1, warmup_steps - 1
        )
        every = SCHEDULE.decay_every * EPOCH_STEPS
        gamma = SCHEDULE.decay if kind == "step" else 1
        decay = lr_scheduler.StepLR(optimizer, every, gamma)
        return lr_scheduler.ChainedScheduler([warm_up, decay], optimizer)

    rates = rates_of(50, kind=kind, warmup_steps=warmup_steps)
    np.testing.assert_allclose(rates, rates_of_torch(warming_up, 50), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_warm_up_ends(kind):
    """From its last step on, the rates are those of the schedule without it."""
    warmed = rates_of(50, kind=kind, warmup_steps=20)
    plain = np.broadcast_to(rates_of(50, kind=kind), warmed.shape)
    np.testing.assert_array_equal(warmed[19:], plain[19:])
    assert (warmed[:19] < plain[:19]).all()


@pytest.mark.parametrize(
    ("cls", "task", "peer", "params"),
    [
        # At "optimal" a smaller alpha than these makes squared errors diverge.
        (MiniBatchRegressor, "regression", SGDRegressor(), {"alpha": 1}),
        (MiniBatchRegressor, "regression", SGDRegressor(), {"alpha": 10}),
        (MiniBatchClassifier, "two classes", SGDClassifier(), {"alpha": 1e-3}),
        (MiniBatchClassifier, "two classes", SGDClassifier(), {"alpha": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("kind", "power_t"),
    [("constant", 1), ("invscaling", 0.25), ("invscaling", 1), ("optimal", 1)],
)
def test_stochastic_descent_is_scikit_learns(cls, task, peer, params, kind, power_t):
    """SGDRegressor and SGDClassifier take the same steps, row by row, for 3 epochs."""
    y = TASKS[task][1]
    alpha, lr = np.array([params["alpha"]], float), np.array([0.02])
    rates = rates_of(3 * len(X), lr, alpha, kind=kind, power_t=power_t)
    # Without a penalty: it would shrink by another factor. alpha sets the rate only.
    model = small(cls, optimizer="sgd", alpha=0)
    if cls is MiniBatchRegressor:
        model.set_params(normalize_y=False)
    classes = {"classes": np.unique(y)} if cls is MiniBatchClassifier else {}
    for n, (rate,) in enumerate(np.broadcast_to(rates, (3 * len(X), 1))):
        row = slice(n % len(X), n % len(X) + 1)
        model.set_params(lr=rate).partial_fit(X[row], y[row], **classes)

    if cls is MiniBatchClassifier:
        peer.set_params(loss="log_loss")
    peer.set_params(**params, penalty=None, learning_rate=kind, eta0=0.02)
    peer.set_params(power_t=power_t, shuffle=False, max_iter=3, tol=None).fit(X, y)
    np.testing.assert_allclose(model.coef_.ravel(), peer.coef_.ravel(), rtol=1e-10)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-10)


@pytest.mark.parametrize("kind", ["constant", "adaptive"])
def test_constant_rates_are_one_row(kind):
    """Rates that are alike at all steps are given once, each model's own lr."""
    np.testing.assert_array_equal(rates_of(50, kind=kind), [LR])


@pytest.mark.parametrize("warmup_steps", [0, 10])
@pytest.mark.parametrize("kind", changing_kinds, ids=name_of)
def test_rates_of_many_steps_are_those_of_each(kind, warmup_steps):
    """A block of steps has the rates that its models and steps have alone."""
    schedule = SCHEDULE._replace(kind=kind, warmup_steps=warmup_steps)
    rates = rates_of(60, kind=kind, warmup_steps=warmup_steps)

    assert rates.shape == (60, 3)
    for t in range(1, 61):
        for m in range(3):
            per_model = {"lr": LR[[m]], "alpha": ALPHA[[m]]}
            alone = learning_rates(schedule, per_model, np.array([t]))
            np.testing.assert_array_equal(alone, rates[[t - 1]][:, [m]])


@pytest.mark.parametrize(
    "bad", [-0.1, np.nan, np.inf, None, "0.1", 1j, [0.1], np.array([0.1, 0.2])], ids=str
)
def test_a_bad_factor_is_refused(bad):
    """What is no finite number of 0 or more is told, with its step."""
    with pytest.raises(ValueError, match=r"lr_schedule must .* for step 3\.") as error:
        rates_of(5, kind=lambda t: bad if t == 3 else 1)
    assert repr(bad) in str(error.value)


@pytest.mark.parametrize("good", [0, 2, 0.5, np.float32(0.5), np.int64(2)], ids=repr)
def test_a_factor_is_any_real_number(good):
    """Integers and NumPy's numbers serve as well, and so does zero."""
    np.testing.assert_allclose(rates_of(2, kind=lambda t: good), [LR * good] * 2)


@pytest.mark.parametrize("kind", ["step", "cosine", "one_cycle"])
def test_epochs_count_however_long_each_is(kind):
    """Chunks of unlike sizes: the next step moves as far as after epochs like it."""
    params = {"optimizer": "sgd", "lr": 0.1, "alpha": 0, "batch_size": 6, "max_iter": 9}
    params |= {"lr_schedule": kind, "decay_every": 3, "fit_intercept": False}
    moves = []
    for earlier in ([60, 6, 30, 60, 12], [12, 12, 12, 12, 12]):
        model = small(MiniBatchRegressor, **params, shuffle=False)
        for n_rows in earlier:
            model.partial_fit(X[:n_rows], TASKS["regression"][1][:n_rows])
        before = model.coef_
        model.partial_fit(X[:12], X[:12] @ before + 1)  # the residual is 1 for all
        moves.append(np.linalg.norm(model.coef_ - before))
    first, second = moves
    assert first == pytest.approx(second, rel=0.02)
