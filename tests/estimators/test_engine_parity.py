"""Both engines train alike: what the compiled loops leave is what torch does.

Losses, optimizers, layers, batches, rows and whatever else a step depends on are drawn
by Hypothesis, the same ones in every run.
"""

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_same_layers, small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._equations.activations import ACTIVATIONS
from skgd._equations.schedules import SCHEDULES
from skgd._estimators.parameters import LOSSES_OF_CLASSES, LOSSES_OF_NUMBERS
from skgd._training import engines
from skgd._training.csr import NARROW

pytestmark = [
    pytest.mark.skipif(bool(engines.why_no_numba()), reason="no numba on this machine"),
    pytest.mark.filterwarnings("ignore:Training ended with a loss"),
    pytest.mark.filterwarnings("ignore:alpha=.* leaves little of the weights"),
    pytest.mark.filterwarnings("ignore:.*batch_size=.* is larger than"),
]

N_ROWS, N_FEATURES = 23, 4
ROWS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "reversed": lambda X: X[::-1].copy()[::-1],
    "sparse": lambda X: sparse.csr_array(X * (X > -0.5)),
    "wide": lambda X: sparse.csr_array(
        (X.ravel(), np.indices(X.shape).reshape(2, -1) * [[1], [1500]]),
        shape=(len(X), NARROW + 1000),
    ),
}
TARGETS = {
    "number": lambda z: z[:, 0],
    "numbers": lambda z: z * [1, 100],
    "classes": lambda z: np.digitize(z[:, 0], [-0.5, 0.5]),
    "two classes": lambda z: z[:, 0] > 0,
    "labels": lambda z: (z > 0).astype(int),
}


def one_of(*values):
    return st.sampled_from(values)


@st.composite
def fits(draw):
    """Draw an estimator, its rows, targets and weights."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    kind, target = draw(one_of(*ROWS)), draw(one_of(*TARGETS))
    X = rng.normal(size=(N_ROWS, N_FEATURES)).astype(draw(one_of("float64", "float32")))
    y = TARGETS[target](X[:, :2] + rng.normal(size=(N_ROWS, 2)))
    cls = MiniBatchRegressor if "number" in target else MiniBatchClassifier
    losses = LOSSES_OF_NUMBERS if cls is MiniBatchRegressor else LOSSES_OF_CLASSES
    loss = draw(one_of(*losses))
    if loss in ("poisson", "gamma", "tweedie"):
        y = np.exp(np.clip(y / 10, -2, 2))
    schedule = draw(one_of(*sorted(SCHEDULES)))
    alpha, l1_ratio = draw(one_of((1e-4, 0), (0.1, 0), (0.1, 0.5), (0.05, 1)))
    if schedule == "optimal":  # its first steps are as long as alpha is small
        alpha = 50.0
    model = small(
        cls,
        **{**draw(one_of(*OPTIMIZERS.values())), "lr": 0.003},
        loss=loss,
        alpha=alpha,
        l1_ratio=l1_ratio,
        hidden_layer_sizes=() if kind == "wide" else draw(one_of((), (5,), (4, 3))),
        activation=draw(one_of(*ACTIVATIONS)),
        batch_size=draw(one_of(1, 2, 8, 20, None)),
        last_batch=draw(one_of("keep", "drop", "fill")),
        average=draw(one_of(False, False, True, 5)),
        max_grad_norm=None if kind == "wide" else draw(one_of(None, None, 0.1)),
        lr_schedule=schedule,
        warmup_steps=draw(one_of(0, 3)),
        fit_intercept=draw(st.booleans()),
        shuffle=draw(st.booleans()),
        record_batch_loss=True,
    )
    weight = draw(one_of(None, rng.integers(1, 4, N_ROWS).astype(float)))
    return model, ROWS[kind](X), y, weight


@given(fits())
@settings(max_examples=100)
def test_the_loops_leave_what_torch_leaves(drawn):
    """Weights, losses of all batches and epochs, and what comes of the next rows."""
    model, X, y, weight = drawn
    by = {e: clone(model).set_params(engine=e) for e in ("torch", "numba")}
    rtol = 1e-9 if X.dtype == np.float64 else 1e-3
    for learn in ("fit", "partial_fit"):
        for one in by.values():
            getattr(one, learn)(X, y, sample_weight=weight)
        torch, numba = by["torch"], by["numba"]
        assert (torch.engine_, numba.engine_) == ("torch", "numba")
        assert_same_layers(numba, torch, rtol=rtol, atol=rtol)
        assert (numba.t_, numba.n_iter_) == (torch.t_, torch.n_iter_)
        for curve in ("loss_curve_", "batch_loss_curve_"):
            found, expected = getattr(numba, curve), getattr(torch, curve)
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
