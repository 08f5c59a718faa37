"""Models trained together equal models trained apart, however they stop."""

from math import inf, isfinite

import numpy as np
import pytest
import torch

from skgd._activations import ACTIVATIONS
from skgd._batches import Data
from skgd._losses import LOSSES
from skgd._network import arrays, initialise_, new_like, new_network
from skgd._optimizers import OPTIMIZERS, variant
from skgd._stopping import FAR_ABOVE_START, History, judge
from skgd._training import Models, Shared, train
from skgd._validation import TARGETS

SHARED = Shared(
    loss="squared_error",
    activation="tanh",
    negative_slope=0.0,
    optimizer="sgd",
    nesterov=False,
    batch_size=7,
    last_batch="keep",
    shuffle=True,
    max_iter=12,
    tol=None,
    n_iter_no_change=2,
    record_batch_loss=True,
    verbose=False,
)
PER_MODEL = {  # five models
    "lr": [0.05, 0.2, 0.01, 0.1, 0.003],
    "momentum": [0.0] * 5,
    "beta_1": [0.9, 0.8, 0.9, 0.5, 0.9],
    "beta_2": [0.999, 0.9, 0.99, 0.999, 0.999],
    "epsilon": [1e-8] * 5,
    "alpha": [0.0, 1e-2, 1e-3, 0.1, 1.0],
    "l1_ratio": [0.0, 0.5, 0.0, 1.0, 0.2],
}
SIZES = {"linear": (4, 3), "network": (4, 6, 5, 3)}


def per_model_of(models, **changes):
    values = {**PER_MODEL, **changes}
    return {key: np.array(value, float)[models] for key, value in values.items()}


def data_of(loss, n_outputs, weighted=False, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    if loss.endswith(("log_loss", "hinge", "modified_huber", "perceptron")):
        n_classes = max(2, n_outputs)
        y = torch.randint(n_classes, (1, 30), generator=generator).double()
    else:
        y = torch.randn(n_outputs, 30, generator=generator, dtype=torch.float64)
        y = y.exp() if loss in TARGETS else y
    weight = torch.rand(1, 30, generator=generator).double() if weighted else None
    return Data(
        x.to(device), y.to(device), weight if weight is None else weight.to(device)
    )


def trained(data, sizes, shared, per_model, seeds):
    """Return the models and histories; one seed serves all, or each has its own."""
    network = new_network(len(per_model["lr"]), sizes, True, data.x)
    generators = [np.random.default_rng(seed) for seed in seeds]
    initialise_(network, ACTIVATIONS[shared.activation](0.0), generators)
    entry = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    kept = {name: new_like(network) for name in entry.keeps}
    models = Models(network, kept, generators)
    return models, train(data, models, shared, per_model)


def assert_together_equals_apart(
    data, sizes, shared, own=False, order=(0, 1, 2, 3, 4), **changes
):
    """Train all models at once, then one by one, and compare all that comes out."""
    seeds = list(order) if own else [0]
    together, histories = trained(
        data, sizes, shared, per_model_of(list(order), **changes), seeds
    )
    for place, model in enumerate(order):
        alone, [history] = trained(
            data, sizes, shared, per_model_of([model], **changes), [model if own else 0]
        )
        assert histories[place].converged == history.converged
        assert histories[place].diverged == history.diverged
        assert len(histories[place].objective) == len(history.objective)
        np.testing.assert_allclose(
            histories[place].objective, history.objective, rtol=1e-8
        )
        np.testing.assert_allclose(
            np.concatenate(histories[place].batch_loss),
            np.concatenate(history.batch_loss),
            rtol=1e-8,
            atol=1e-300,
        )
        if not history.diverged:
            pairs = zip(
                arrays(together.parameters), arrays(alone.parameters), strict=True
            )
            for ours, theirs in pairs:
                torch.testing.assert_close(
                    ours[place], theirs[0], rtol=1e-8, atol=1e-10
                )
    return histories


@pytest.mark.parametrize("own", [False, True], ids=["same rows", "rows of their own"])
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_company_changes_nothing(optimizer, kind, own, device):
    """Five models with numbers of their own train together as they train apart."""
    heavy = optimizer in ("momentum", "nesterov")
    shared = SHARED._replace(
        optimizer="sgd" if heavy else optimizer, nesterov=optimizer == "nesterov"
    )
    data = data_of("squared_error", 3, device=device)
    changes = {"momentum": [0.0, 0.5, 0.9, 0.3, 0.0]} if heavy else {}
    if optimizer == "rmsprop":  # whose first steps are 1 / sqrt(1 - beta_2) times lr
        changes = {"beta_2": [0.9, 0.8, 0.5, 0.7, 0.9]}

    assert_together_equals_apart(data, SIZES[kind], shared, own, **changes)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1, 8])
@pytest.mark.parametrize("loss", LOSSES)
def test_company_changes_nothing_for_any_loss(loss, batch_size, weighted):
    """Likewise for every loss, size of batch, and with sample weights."""
    n_outputs = 1 if loss == "binary_log_loss" else 3
    shared = SHARED._replace(loss=loss, batch_size=batch_size, max_iter=4)
    data = data_of(loss, n_outputs, weighted)

    assert_together_equals_apart(data, (4, 6, n_outputs), shared, own=batch_size == 8)


@pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"])
@pytest.mark.parametrize("own", [False, True])
def test_company_changes_nothing_for_any_last_batch(last_batch, own):
    """Likewise for what becomes of the rows that remain."""
    shared = SHARED._replace(last_batch=last_batch)

    assert_together_equals_apart(data_of("squared_error", 3), (4, 3), shared, own)


def test_the_order_of_the_models_changes_nothing():
    """Models at other places of the stack are the same models."""
    order = (3, 0, 4, 2, 1)

    assert_together_equals_apart(
        data_of("squared_error", 3), SIZES["network"], SHARED, order=order
    )


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_model_that_stops_leaves_the_others_to_go_on(optimizer, own):
    """Each model stops at its own epoch and keeps the weights it had then."""
    shared = SHARED._replace(optimizer=optimizer, max_iter=60, tol=1e-2)
    histories = assert_together_equals_apart(
        data_of("squared_error", 3), SIZES["linear"], shared, own
    )

    assert len({len(history.objective) for history in histories}) >= 3
    assert any(history.converged for history in histories)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", SIZES)
def test_a_model_that_diverges_disturbs_no_other(kind, own):
    """The others equal themselves alone, also in the epoch in which it blows up."""
    lr = [0.05, 1e6, 0.01, 30.0, 0.003]
    shared = SHARED._replace(activation="relu", max_iter=30)
    histories = assert_together_equals_apart(
        data_of("squared_error", 3), SIZES[kind], shared, own, lr=lr
    )

    diverged = [history.diverged for history in histories]
    assert diverged == [False, True, False, True, False]


def test_the_objective_counts_the_penalty_of_each_model():
    """It is the loss plus the elastic net of the weights, without the intercepts."""
    shared = SHARED._replace(max_iter=1, batch_size=None)
    per_model = per_model_of([0, 1, 2, 3, 4])
    data, sizes = data_of("squared_error", 3), SIZES["network"]
    network = new_network(5, sizes, True, data.x)
    generator = torch.Generator().manual_seed(0)
    for array in arrays(network):
        drawn = torch.randn(array.shape, generator=generator, dtype=torch.float64)
        array.copy_(drawn)
    weights = [layer.w.clone() for layer in network.layers]
    models = Models(network, {}, [np.random.default_rng(0)])
    histories = train(data, models, shared, per_model)

    for m, history in enumerate(histories):
        flat = torch.cat([w[m].flatten() for w in weights])
        l1, l2 = torch.linalg.norm(flat, 1).item(), torch.linalg.norm(flat, 2).item()
        share = per_model["l1_ratio"][m]
        penalty = per_model["alpha"][m] * ((1 - share) * l2**2 / 2 + share * l1)
        expected = history.batch_loss[0].item() + penalty

        assert history.objective[0] == pytest.approx(expected, rel=1e-12)


def test_weights_that_overflow_in_the_last_step_are_told():
    """The objective is taken before a step, so the weights are looked at as well."""
    shared = SHARED._replace(max_iter=1, batch_size=None)
    per_model = per_model_of([0], lr=[1e308] * 5)
    data = data_of("squared_error", 3)
    data = data._replace(x=100 * data.x, y=100 * data.y)
    _, [history] = trained(data, (4, 3), shared, per_model, [0])

    assert isfinite(history.objective[0])
    assert history.diverged


def curve_until_it_stops(objectives, **changes):
    """Return a history judged by the objectives until it goes on no more."""
    history = History(start=min(objectives[0], 10.0))
    shared = SHARED._replace(**changes)
    for objective in objectives:
        history.objective.append(objective)
        judge(history, False, shared.tol, shared.n_iter_no_change)
        if not history.goes_on:
            break
    return history


def test_it_stops_when_the_objective_no_longer_falls_by_tol():
    """n_iter_no_change epochs in a row without a fall of more than tol end it."""
    falling = [1.0, 0.5, 0.45, 0.3, 0.29, 0.28, 0.27, 0.26]
    history = curve_until_it_stops(falling, tol=0.1, n_iter_no_change=3)

    assert history.objective == falling[:7]
    assert history.converged
    assert not history.diverged


def test_an_objective_that_stays_the_same_has_not_fallen():
    """With tol=0, a flat curve ends it: the loss of a perfect fit stays at zero."""
    history = curve_until_it_stops([0.0] * 50, tol=0.0, n_iter_no_change=3)

    assert len(history.objective) == 4
    assert history.converged


def test_without_tol_it_does_not_stop():
    """tol=None goes on however flat the curve is."""
    history = curve_until_it_stops([1.0] * 50, tol=None)

    assert len(history.objective) == 50


@pytest.mark.parametrize("bad", [inf, np.nan])
def test_a_number_that_is_none_has_diverged(bad):
    """An objective that is not finite ends it at once."""
    history = curve_until_it_stops([1.0, bad, 0.5])

    assert history.diverged
    assert len(history.objective) == 2


def test_growth_far_above_the_start_has_diverged():
    """Far above its start, an objective may rise twice in a row, not three times."""
    high = FAR_ABOVE_START * 10
    grows = curve_until_it_stops([1.0, high, high + 1, high + 2, high + 3])
    wavers = curve_until_it_stops([1.0, high, high - 1, high, high - 1, high])

    assert grows.diverged
    assert len(grows.objective) == 4
    assert not wavers.diverged


def test_a_wait_in_which_it_only_grew_is_no_convergence():
    """An objective that loses what it had gained, epoch by epoch, has not settled."""
    stop = {"tol": 0.0, "n_iter_no_change": 3}
    grows = curve_until_it_stops([9.0, 4.0, 4.1, 4.3, 4.6, 5.0], **stop)
    wavers = curve_until_it_stops([9.0, 4.0, 4.1, 4.0, 4.6, 5.0], **stop)
    returns = curve_until_it_stops([9.0, 4.0, 4.1, 4.3, 4.6, 4.5, 4.4], **stop)

    assert (grows.converged, grows.diverged) == (False, False)
    assert (wavers.converged, len(wavers.objective)) == (True, 5)
    assert (returns.converged, len(returns.objective)) == (True, 6)


def test_rounding_that_grows_is_no_divergence():
    """At the minimum an objective may rise by what is nothing to what it has gained."""
    history = curve_until_it_stops(
        [9.0, 1.0, 1.0001, 1.0002, 1.0003], tol=0.0, n_iter_no_change=3
    )

    assert history.converged


def test_far_above_the_start_nothing_converges():
    """Patience that ends far above the start, after whatever path, is divergence."""
    high = FAR_ABOVE_START * 10
    history = curve_until_it_stops([high, high / 2, high, high / 2] * 9, tol=0.0)

    assert (history.converged, history.diverged) == (False, True)


def test_growth_near_the_start_has_not_diverged():
    """A rise that stays within reach of the start is no divergence."""
    history = curve_until_it_stops(np.linspace(1e-9, FAR_ABOVE_START, 100).tolist())

    assert not history.diverged
