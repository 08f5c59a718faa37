"""Optimizers against torch.optim, penalties against minima in closed form."""

from itertools import count

import numpy as np
import pytest
import torch
from covering import every_pair

from skgd._equations.optimizers import OPTIMIZERS, Vectors, variant
from skgd._equations.tape import Tape

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


def betas(h, m):
    return h["beta_1"][m], h["beta_2"][m]


TORCH = {  # the table's entry: torch's optimizer of model m
    "sgd": lambda p, h, m: torch.optim.SGD([p], lr=h["lr"][m]),
    "momentum": lambda p, h, m: torch.optim.SGD(
        [p], lr=h["lr"][m], momentum=h["momentum"][m]
    ),
    "nesterov": lambda p, h, m: torch.optim.SGD(
        [p], lr=h["lr"][m], momentum=h["momentum"][m], nesterov=True
    ),
    "adagrad": lambda p, h, m: torch.optim.Adagrad(
        [p], lr=h["lr"][m], eps=h["epsilon"][m]
    ),
    "rmsprop": lambda p, h, m: torch.optim.RMSprop(
        [p], lr=h["lr"][m], alpha=h["beta_2"][m], eps=h["epsilon"][m]
    ),
    "adam": lambda p, h, m: torch.optim.Adam(
        [p], lr=h["lr"][m], betas=betas(h, m), eps=h["epsilon"][m]
    ),
    "adamw": lambda p, h, m: torch.optim.AdamW(
        [p],
        lr=h["lr"][m],
        betas=betas(h, m),
        eps=h["epsilon"][m],
        weight_decay=h["alpha"][m],
    ),
}
MINIMISERS = [name for name in OPTIMIZERS if name != "adamw"]

# Settings at which a constant gradient's step has room to settle, for any lr of these
# tests: RMSprop wavers where lr is above twice its divisor, Adagrad needs a large lr.
SETTLING = {
    "adagrad": lambda lr: {"lr": 10 * lr},
    "rmsprop": lambda lr: {"epsilon": lr},
}


def per_model_of(name, **changes):
    """Return the hyperparameters of three models that lead to an entry."""
    momentum = MOMENTUM if name in ("momentum", "nesterov") else {}
    values = {**PER_MODEL, **momentum, **changes}
    return {key: np.array(value, float) for key, value in values.items()}


def scalars_of_step(name, per_model, t, lr=None):
    """Return the scalars of step t, each (m,); the learning rates are the models'."""
    lr = per_model["lr"] if lr is None else lr
    scalars = OPTIMIZERS[name].scalars(per_model, lr[np.newaxis], np.array([t]))
    return {key: row for key, (row,) in scalars.items()}


def bound_step(name, per_model, start, n_biases=0):
    """Return the parameters (m, i), and a function that steps along a gradient (m, i).

    The last so many parameters are biases. A step may be given learning rates, (m,).
    """
    m, i = start.shape
    flat, gradient = start.clone().flatten(), start.clone().flatten()
    kept = {key: torch.zeros_like(flat) for key in OPTIMIZERS[name].state_names}
    owner = np.arange(m).repeat(i) if m > 1 else [0]
    laid = {
        key: flat.new_empty(len(owner)) for key in scalars_of_step(name, per_model, 1)
    }
    vectors = Vectors(flat, flat[: m * i - n_biases], gradient, kept)
    tape = Tape()
    OPTIMIZERS[name].record(tape, vectors, laid)
    steps = count(1)

    def step(along, lr=None):
        gradient.copy_(along.flatten())
        for key, row in scalars_of_step(name, per_model, next(steps), lr).items():
            laid[key].copy_(torch.from_numpy(row[owner]))
        tape.replay()

    return flat.view(m, i), step


def test_every_optimizer_has_an_oracle():
    """A new optimizer is tested by being in the table."""
    assert set(TORCH) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_parameters_of_an_estimator_lead_to_the_entry(name):
    """optimizer, nesterov and momentum name the entry of the table."""
    optimizer = "sgd" if name in ("momentum", "nesterov") else name

    assert variant(optimizer, name == "nesterov", per_model_of(name)) == name


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scalars_of_many_steps_are_those_of_each(name, alpha):
    """A table of steps has the rows that its steps have alone, at changing rates."""
    per_model = per_model_of(name, alpha=[alpha] * 3, l1_ratio=[0.5] * 3)
    lr = np.random.default_rng(0).uniform(0.1, 1, (5, 3))
    together = OPTIMIZERS[name].scalars(per_model, lr, np.arange(11, 16))

    assert {array.shape for array in together.values()} == {(5, 3)}
    for n in range(5):
        apart = scalars_of_step(name, per_model, 11 + n, lr[n])
        for key, row in apart.items():
            np.testing.assert_array_equal(together[key][n], row)


@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        *[(name, 0.0) for name in OPTIMIZERS if not name.startswith("adam")],
        *[(name, 0.1) for name in ("sgd", "momentum", "nesterov", "adagrad")],
    ],
)
def test_steps_that_are_alike_have_one_row_of_scalars(name, alpha):
    """At a constant rate nothing is laid anew, where no mean has to fill."""
    per_model = per_model_of(name, alpha=[alpha] * 3, l1_ratio=[0.5] * 3)
    lr = per_model["lr"][np.newaxis]
    scalars = OPTIMIZERS[name].scalars(per_model, lr, np.arange(1, 6))

    assert {array.shape for array in scalars.values()} == {(1, 3)}


@every_pair(
    pytest.mark.parametrize("changing", [False, True], ids=["constant", "changing"]),
    pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)]
    ),
    pytest.mark.parametrize("models", [[0], [1], [0, 1, 2]]),
    pytest.mark.parametrize("name", OPTIMIZERS),
)
def test_steps_are_torchs(name, models, dtype, tolerance, changing):
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

    for t, gradient in enumerate(gradients):
        rates = per_model["lr"] * (1 + np.sin(t) / 2 if changing else 1)
        step(gradient, rates)
        for p, optimizer, row, rate in zip(
            oracles, optimizers, gradient, rates, strict=True
        ):
            p.grad = row.clone()
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
        torch.testing.assert_close(
            weights, torch.stack(oracles).detach(), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("l1_ratio", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", MINIMISERS)
def test_the_minimum_of_the_objective_is_where_steps_end(name, l1_ratio):
    """A penalised parabola's minimum, known in closed form, is found at any lr."""
    lr, alpha = np.array([1.0, 0.3, 0.02]), 0.5  # of three models
    centre = torch.tensor([[-3.0, -0.3, 0.0, 0.1, 0.4, 2.0]], dtype=torch.float64)
    ridge, lasso = alpha * (1 - l1_ratio), alpha * l1_ratio
    minimum = centre.sign() * (centre.abs() - lasso).clamp_min(0) / (1 + ridge)
    penalty = {"alpha": [alpha], "l1_ratio": [l1_ratio]}
    per_model = per_model_of(name, **penalty)
    per_model = {key: value[:1].repeat(3) for key, value in per_model.items()}
    per_model |= {"lr": lr, **SETTLING.get(name, lambda lr: {})(lr)}
    start = torch.ones(3, centre.shape[1], dtype=torch.float64)
    weights, step = bound_step(name, per_model, start)

    for _ in range(3000):
        step(weights - centre)
    minima = minimum.expand_as(weights)
    torch.testing.assert_close(weights, minima, rtol=1e-6, atol=1e-6)
    if lasso:
        assert torch.equal(weights == 0, minima == 0)


def parabolas():
    """Return the centres of three models' parabolas, (m, i)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, N_WEIGHTS, generator=generator).double()


def test_adamw_ends_where_torchs_does():
    """A penalised descent is torch's to its end, and not at the objective's minimum."""
    alpha = np.array([0.5, 2.0, 0.1])
    changes = {"epsilon": [1.0] * 3, "beta_2": [0.9] * 3}  # at which steps fade away
    per_model = per_model_of("adamw", lr=[0.1] * 3, alpha=alpha, **changes)
    centre, start = parabolas(), torch.ones(3, N_WEIGHTS).double()
    weights, step = bound_step("adamw", per_model, start)
    oracles = [row.clone().requires_grad_() for row in start]
    optimizers = [TORCH["adamw"](p, per_model, m) for m, p in enumerate(oracles)]

    for _ in range(2000):
        before = weights.clone()
        step(weights - centre)
        for p, optimizer, row in zip(oracles, optimizers, centre, strict=True):
            p.grad = p.detach() - row
            optimizer.step()
    torch.testing.assert_close(weights, before, rtol=0, atol=1e-12)  # at rest
    torch.testing.assert_close(weights, torch.stack(oracles).detach())
    minimum = centre / (1 + torch.from_numpy(alpha)[:, None])
    assert ((weights - minimum).abs().amax(1) > 1e-3).all()


def test_the_lasso_of_adamw_is_a_soft_threshold_by_lr():
    """A penalised step is torch's, brought nearer to zero by lr times the L1 part."""
    per_model = per_model_of("adamw", alpha=[0.0, 2.0, 4.0], l1_ratio=[1.0] * 3)
    start = parabolas()
    weights, step = bound_step("adamw", per_model, start)
    step(start)
    for m, row in enumerate(start):
        p = row.clone().requires_grad_()
        p.grad = row.clone()
        TORCH["adamw"](p, {**per_model, "alpha": [0.0] * 3}, m).step()
        threshold = per_model["lr"][m] * per_model["alpha"][m]
        shrunk = torch.nn.functional.softshrink(p.detach(), threshold)
        torch.testing.assert_close(weights[m], shrunk)
    assert (weights[2] == 0).any()


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_are_free_of_the_penalty(name, l1_ratio):
    """Biases step as they do without a penalty, and weights do not."""
    start = parabolas()[:1]
    ends = []
    for alpha in (0.0, 0.5):
        per_model = per_model_of(name, alpha=[alpha] * 3, l1_ratio=[l1_ratio] * 3)
        per_model = {key: value[:1] for key, value in per_model.items()}
        parameters, step = bound_step(name, per_model, start, n_biases=2)
        for _ in range(3):
            step(start)
        ends.append(parameters[0])
    assert torch.equal(ends[0][-2:], ends[1][-2:])
    assert (ends[0][:-2] != ends[1][:-2]).all()


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
    """A unit that is off, or a feature that is zero, loses at most 2 lr a step.

    Or twice what a constant gradient moves it, where that is more.
    """
    per_model = per_model_of(
        name, lr=[1e-3] * 3, alpha=[1e-2] * 3, l1_ratio=[l1_ratio] * 3
    )
    start = torch.ones(3, N_WEIGHTS).double()
    weights, step = bound_step(name, per_model, start)
    off = torch.tensor([1, 0, 1, 0, 0, 1]).double()
    free = per_model_of(name, lr=[1e-3] * 3, epsilon=[1e-8] * 3)
    moved, free_step = bound_step(name, free, start)

    for _ in range(20):
        step(torch.ones(3, N_WEIGHTS) * off)
        free_step(torch.ones(3, N_WEIGHTS))
    most = 2 * (start - moved).clamp_min(20 * 1e-3)
    assert (start - weights <= most + 1e-6)[:, off == 0].all()


def test_a_penalty_of_one_model_leaves_the_others_alone():
    """Models with and without a penalty, side by side, each follow their own."""
    per_model = per_model_of("sgd", alpha=[0.0, 1.0, 0.0], l1_ratio=[0.0, 0.5, 0.0])
    start = torch.ones(3, N_WEIGHTS).double()
    weights, step = bound_step("sgd", per_model, start)
    step(torch.zeros_like(start))

    assert (weights[[0, 2]] == 1).all()
    assert (weights[1] < 1).all()
