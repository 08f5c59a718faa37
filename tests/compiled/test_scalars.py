"""The scalars of the compiled loops: those of the equations, for all optimizers."""

import numpy as np
import pytest

from skgd._compiled.optimizers import COLUMNS, NEUTRAL
from skgd._compiled.scalars import Steps, table
from skgd._equations.optimizers import OPTIMIZERS, elastic_net

HYPERPARAMETERS = {
    "lr": np.array([0.01, 3.0]),
    "momentum": np.array([0.0, 0.9]),
    "beta_1": np.array([0.9, 0.0]),
    "beta_2": np.array([0.999, 0.5]),
    "epsilon": np.array([1e-8, 0.1]),
    "alpha": np.array([1e-4, 2.0]),
    "l1_ratio": np.array([0.0, 0.7]),
}
FIRST, N_STEPS, BEGUN = 5, 40, 2
RATES = HYPERPARAMETERS["lr"][np.newaxis]
CONSTANT = pytest.param(RATES, id="constant")
CHANGING = pytest.param(RATES * np.linspace(1, 2, N_STEPS)[:, np.newaxis], id="not")


def numbers():
    names = ("momentum", "beta_1", "beta_2", "epsilon")
    columns = [HYPERPARAMETERS[name] for name in names]
    return np.stack([*columns, *elastic_net(HYPERPARAMETERS)], 1)


@pytest.mark.parametrize("rates", [CONSTANT, CHANGING])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_they_are_those_of_the_equations(name, rates):
    """Of two owners, over steps, with rates that change or not."""
    steps = np.arange(N_STEPS) + FIRST + 1
    expected = OPTIMIZERS[name].scalars(HYPERPARAMETERS, rates, steps - BEGUN)

    found = table(name, numbers(), rates, Steps(FIRST, N_STEPS, BEGUN, 0), float)

    columns = dict(zip(COLUMNS, np.moveaxis(found, 2, 0), strict=True))
    for scalar, neutral in zip(COLUMNS, NEUTRAL, strict=True):
        wanted = expected.get(scalar, neutral)
        np.testing.assert_allclose(columns[scalar] + 0 * wanted, wanted, rtol=1e-14)


def test_steps_that_are_alike_have_one_row():
    """As those of the equations have; a mean over steps makes them differ."""
    for name, average_begun, n_rows in [("sgd", 0, 1), ("sgd", 3, 7), ("adam", 0, 7)]:
        steps = Steps(0, 7, 0, average_begun)

        assert len(table(name, numbers(), RATES, steps, np.float32)) == n_rows


def test_the_share_of_an_average_makes_it_a_mean():
    """Of the weights after the steps from its beginning on."""
    weights = np.random.default_rng(0).normal(size=9)
    found = table("sgd", numbers(), RATES, Steps(0, 9, 0, 4), float)
    shares = found[:, 0, COLUMNS.index("share")]

    mean = 0.0
    for weight, share in zip(weights, shares, strict=True):
        mean += share * (weight - mean)

    np.testing.assert_allclose(mean, weights[3:].mean(), rtol=1e-14)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_cutting_steps_changes_no_bit(name):
    """A fit and a stream of the same steps read the same numbers."""
    whole = table(name, numbers(), RATES, Steps(0, 50, 0, 1), float)
    parts = [table(name, numbers(), RATES, Steps(t, 1, 0, 1), float) for t in range(50)]

    np.testing.assert_array_equal(whole, np.concatenate(parts))
