"""Optimizers against torch.optim, penalties against minima in closed form."""

import numpy as np
import pytest
import torch

from skgd._network import new_like, new_network
from skgd._optimizers import OPTIMIZERS, variant
from skgd._training import Models, Shared, _bind_update

N_WEIGHTS = 6
PER_MODEL = {  # three models at once
    "lr": [0.1, 0.01, 0.3],
    "momentum": [0.0, 0.0, 0.0],
    "beta_1": [0.9, 0.8, 0.0],
    "beta_2": [0.999, 0.9, 0.99],
    "epsilon": [1e-8, 1e-3, 1e-8],
    "alpha": [0.0, 0.0, 0.0],
    "l1_ratio": [0.0, 0.0, 0.0],
}
MOMENTUM = {"momentum": [0.9, 0.5, 0.99]}

TORCH = {  # the table's entry: torch's optimizer of model m
    "sgd": lambda p, h, m: torch.optim.SGD([p], lr=h["lr"][m]),
    "momentum": lambda p, h, m: torch.optim.SGD(
        [p], lr=h["lr"][m], momentum=h["momentum"][m]
    ),
    "nesterov": lambda p, h, m: torch.optim.SGD(
        [p], lr=h["lr"][m], momentum=h["momentum"][m], nesterov=True
    ),
    "adam": lambda p, h, m: torch.optim.Adam(
        [p],
        lr=h["lr"][m],
        betas=(h["beta_1"][m], h["beta_2"][m]),
        eps=h["epsilon"][m],
    ),
}


def per_model_of(name, **changes):
    """Return the hyperparameters of three models that lead to an entry."""
    momentum = MOMENTUM if name in ("momentum", "nesterov") else {}
    values = {**PER_MODEL, **momentum, **changes}
    return {key: np.array(value, float) for key, value in values.items()}


def shared_of(name):
    return Shared(
        loss="squared_error",
        activation="relu",
        negative_slope=0.0,
        optimizer="adam" if name == "adam" else "sgd",
        nesterov=name == "nesterov",
        batch_size=None,
        last_batch="keep",
        shuffle=False,
        max_iter=1,
        tol=None,
        n_iter_no_change=1,
        record_batch_loss=False,
        verbose=False,
    )


def bound_step(name, per_model, start):
    """Return the weights (m, i), and a function that steps along a gradient (m, i)."""
    m, i = start.shape
    network = new_network(m, (i, 1), False, start)
    network.layers[0].w.copy_(start.unsqueeze(1))
    gradients = new_like(network)
    kept = {key: new_like(network) for key in OPTIMIZERS[name].keeps}
    models = Models(network, kept, [np.random.default_rng(0)])
    update = _bind_update(models, gradients, shared_of(name), per_model)

    def step(gradient):
        gradients.layers[0].w.copy_(gradient.unsqueeze(1))
        (numbers,) = update.numbers_of_steps(models.t, 1)
        if numbers is not None:
            update.lay(numbers)
        for call in update.calls:
            call()
        models.t += 1

    return network.layers[0].w[:, 0], step


def test_every_optimizer_has_an_oracle():
    """A new optimizer is tested by being in the table."""
    assert set(TORCH) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_parameters_of_an_estimator_lead_to_the_entry(name):
    """optimizer, nesterov and momentum name the entry of the table."""
    shared = shared_of(name)

    assert variant(shared.optimizer, shared.nesterov, per_model_of(name)) == name


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)]
)
@pytest.mark.parametrize("models", [[0], [1], [0, 1, 2]])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_torchs(name, models, dtype, tolerance):
    """Fifty steps are torch.optim's, for models with numbers of their own at once."""
    everyone = per_model_of(name)
    per_model = {key: value[models] for key, value in everyone.items()}
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(50, len(models), N_WEIGHTS, generator=generator).to(dtype)
    start = torch.randn(len(models), N_WEIGHTS, generator=generator).to(dtype)
    weights, step = bound_step(name, per_model, start)
    oracles = [row.clone().requires_grad_() for row in start]
    pairs = zip(oracles, models, strict=True)
    optimizers = [TORCH[name](p, everyone, m) for p, m in pairs]

    for gradient in gradients:
        step(gradient)
        for p, optimizer, row in zip(oracles, optimizers, gradient, strict=True):
            p.grad = row.clone()
            optimizer.step()
        torch.testing.assert_close(
            weights, torch.stack(oracles).detach(), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("lr", [1.0, 0.3, 0.02])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_minimum_of_the_objective_is_where_steps_end(name, l1_ratio, lr):
    """A penalised parabola's minimum, known in closed form, is found at any lr."""
    alpha = 0.5
    centre = torch.tensor([[-3.0, -0.3, 0.0, 0.1, 0.4, 2.0]], dtype=torch.float64)
    ridge, lasso = alpha * (1 - l1_ratio), alpha * l1_ratio
    minimum = centre.sign() * (centre.abs() - lasso).clamp_min(0) / (1 + ridge)
    per_model = per_model_of(
        name, lr=[lr] * 3, alpha=[alpha] * 3, l1_ratio=[l1_ratio] * 3
    )
    per_model = {key: value[:1] for key, value in per_model.items()}
    weights, step = bound_step(name, per_model, torch.ones_like(centre))

    for _ in range(5000):
        step(weights - centre)
    torch.testing.assert_close(weights, minimum, rtol=1e-6, atol=1e-6)
    if lasso:
        assert torch.equal(weights == 0, minimum == 0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_large_penalty_shrinks_and_does_not_explode(name):
    """At lr * alpha = 1e4, where a gradient step explodes, the weights vanish."""
    per_model = per_model_of(name, lr=[1.0] * 3, alpha=[1e4] * 3)
    weights, step = bound_step(name, per_model, torch.ones(3, N_WEIGHTS).double())

    for _ in range(20):
        step(torch.zeros(3, N_WEIGHTS))
    assert weights.abs().max() < 1e-50


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_weight_without_gradient_is_not_wiped_out(name, l1_ratio):
    """A unit that is off, or a feature that is zero, loses at most 2 lr a step."""
    per_model = per_model_of(
        name, lr=[1e-3] * 3, alpha=[1e-2] * 3, l1_ratio=[l1_ratio] * 3
    )
    start = torch.ones(3, N_WEIGHTS).double()
    weights, step = bound_step(name, per_model, start)
    off = torch.tensor([1, 0, 1, 0, 0, 1]).double()

    for _ in range(20):
        step(torch.ones(3, N_WEIGHTS) * off)
    assert (weights[:, off == 0] >= 1 - 20 * 2e-3).all()


def test_a_penalty_of_one_model_leaves_the_others_alone():
    """Models with and without a penalty, side by side, each follow their own."""
    per_model = per_model_of("sgd", alpha=[0.0, 1.0, 0.0], l1_ratio=[0.0, 0.5, 0.0])
    start = torch.ones(3, N_WEIGHTS).double()
    weights, step = bound_step("sgd", per_model, start)
    step(torch.zeros_like(start))

    assert (weights[[0, 2]] == 1).all()
    assert (weights[1] < 1).all()
