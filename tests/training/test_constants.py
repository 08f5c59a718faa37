"""The loss of the best constant, against a minimiser that knows nothing of formulas."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_training import SHARED

from skgd._equations.losses import LOSSES
from skgd._equations.tape import Tape
from skgd._training.batches import Data
from skgd._training.constants import losses_of_constants

OF_CLASSES = ["log_loss", "hinge", "squared_hinge", "modified_huber"]
OF_NUMBERS = [
    "squared_error",
    "absolute_error",
    "quantile",
    "poisson",
    "gamma",
    "tweedie",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
]
N = 41


def lowest(loss, shared, y, weight):
    """Return the lowest mean loss of a constant z (o,), found by a search, and at 0."""
    record = LOSSES[loss](shared.delta, shared.quantile, shared.power).record

    def mean(constant):
        z = torch.tensor(constant, dtype=torch.float64)[:, None].expand_as(y)
        z, value = z.contiguous(), torch.empty_like(y)
        tape = Tape()
        record(tape, z, y, value, torch.empty_like(y))
        tape.replay()
        return float((value.sum(0) * weight).mean())

    start = np.zeros(len(y))
    found = minimize(mean, start, method="Powell", tol=1e-12)
    return found.fun, mean(start)


def data_of(y, weighted):
    weight = torch.rand(1, N, generator=torch.Generator().manual_seed(1)).double()
    return Data(torch.zeros(N, 2).double(), y, weight if weighted else None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, "labels"])
@pytest.mark.parametrize("loss", OF_CLASSES)
def test_the_best_constant_of_classes_follows_from_their_shares(
    loss, n_classes, weighted
):
    """No constant has a lower loss, and z = 0 has the one that is told."""
    generator = np.random.default_rng(0)
    if n_classes == "labels":
        y = torch.from_numpy(generator.random((2, N)) < [[0.2], [0.7]]).double()
        one_hot = y
    else:
        y = torch.from_numpy(generator.choice(n_classes, (1, N))).double()
        one_hot = y if n_classes == 2 else torch.eye(3).double()[:, y[0].long()]
    entry = loss
    if loss == "log_loss":
        entry = "multinomial_log_loss" if n_classes == 3 else "binary_log_loss"
    data, shared = data_of(y, weighted), SHARED._replace(loss=entry)
    [best], [at_zero] = losses_of_constants(data, shared, len(one_hot))
    weight = torch.ones(N).double() if data.weight is None else data.weight[0]
    expected = lowest(entry, shared, one_hot, weight)

    assert (best, at_zero) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "quantile"),
    [*((loss, 0.2) for loss in OF_NUMBERS), ("quantile", (0.2, 0.9))],
)
def test_the_best_constant_of_numbers_is_near_enough(loss, quantile):
    """It is the lowest but for a tenth, for several targets of several scales."""
    y = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 1.0, (2, N)))
    shared = SHARED._replace(loss=loss, quantile=quantile)
    [best], [at_zero] = losses_of_constants(data_of(y, False), shared, 2)
    lowest_found, expected = lowest(loss, shared, y, torch.ones(N).double())

    assert lowest_found <= best * (1 + 1e-9)
    assert best < 1.1 * lowest_found
    assert at_zero == pytest.approx(expected)


def test_beside_a_perceptron_nothing_is_large():
    """Its loss is 0 at z = 0, and as large as the weights elsewhere."""
    y = torch.ones(1, N).double()
    shared = SHARED._replace(loss="perceptron")
    assert np.isinf(losses_of_constants(data_of(y, False), shared, 1)).all()


def test_judging_many_classes_takes_little_memory():
    """6,000 rows of 6,000 classes: it costs no more than a batch, and is measured."""
    code = """
        import resource, numpy as np
        from skgd import MiniBatchClassifier
        import skgd._training.loop as training
        X = np.random.default_rng(0).normal(size=(6000, 20)).astype(np.float32)
        y = np.arange(6000)
        model = MiniBatchClassifier(batch_size=64, max_iter=1, tol=None)
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        peaks, train = [], training._run_epochs
        def watched(*args):
            peaks.append(peak())
            epoch = train(*args)
            peaks.append(peak())
            return epoch
        model.fit(X[:64], y[:64])
        begun = peak()
        training._run_epochs = watched
        model.fit(X, y)
        print(peaks[-2] - begun, peak() - peaks[-1])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(float, done.stdout.split())
    assert before < 20
    assert after < 20
