"""Estimators on sparse rows: the fit of the same rows as an array, batch by batch."""

import numpy as np
import pytest
from conftest import (
    assert_same_layers,
    every_class,
    every_engine,
    every_optimizer,
    on_both_engines,
    real_devices,
    small,
)
from covering import every_pair
from scipy import sparse
from sklearn.base import clone

import skgd._training.csr
from skgd import MiniBatchClassifier, MiniBatchRegressor

pytestmark = on_both_engines

SPARSE = sparse.random(60, 12, density=0.2, format="csr", random_state=0)
DENSE = SPARSE.toarray()
TARGET = DENSE @ np.linspace(-1, 1, 12)

FORMATS = [
    sparse.csr_matrix,
    sparse.csr_array,
    sparse.csc_matrix,
    sparse.coo_array,
    sparse.lil_matrix,
]


@pytest.fixture(params=["narrow", "wide"])
def width(request, monkeypatch):
    """Let few features count as many, so that steps touch columns only."""
    if request.param == "wide":
        monkeypatch.setattr(skgd._training.csr, "NARROW", 5)
    return request.param


def target_of(cls):
    return TARGET if cls is MiniBatchRegressor else TARGET > 0


def pair(cls, **params):
    """Return the fits of the sparse rows and of the same rows as an array."""
    y = target_of(cls)
    return small(cls, **params).fit(SPARSE, y), small(cls, **params).fit(DENSE, y)


SETTINGS = {
    "plain": {},
    "ridge": {"alpha": 0.1},
    "elastic net": {"alpha": 0.1, "l1_ratio": 0.5},
    "a schedule": {"alpha": 0.1, "l1_ratio": 0.3, "lr_schedule": "invscaling"},
    "whole": {"batch_size": None},
    "topped up": {"last_batch": "fill", "batch_size": 7},
    "one row": {"batch_size": 1},
    "network": {"hidden_layer_sizes": (5, 3), "alpha": 0.1, "dropout": 0.2},
    "no intercept": {"fit_intercept": False, "hidden_layer_sizes": (5,)},
    "averaged": {"average": 4, "alpha": 0.1, "l1_ratio": 0.3},
    "averaged unit": {"average": True, "alpha": 0.1},
    "held out": {"early_stopping": True, "scoring": "loss"},
    "scored": {"early_stopping": True, "alpha": 0.1, "l1_ratio": 0.5},
}


@real_devices
@every_pair(
    every_class,
    pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS),
    every_engine,
)
def test_plain_descent_is_that_of_the_array(cls, params, width, device):
    """Wide or narrow, every weight and every loss is that of the dense rows."""
    params = {"optimizer": "sgd", "lr": 0.1, "max_iter": 6, "device": device, **params}
    sparsely, densely = pair(cls, **params)
    assert_same_layers(sparsely, densely, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(sparsely.loss_curve_, densely.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(
        sparsely.predict(SPARSE), densely.predict(DENSE), rtol=1e-9
    )


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_targets_of_unlike_scales_are_averaged_as_for_the_array(fit_intercept, width):
    """Each has a penalty of its own, and all have their share of the mean."""
    params = {"optimizer": "sgd", "average": True, "alpha": 0.1}
    model = small(MiniBatchRegressor, fit_intercept=fit_intercept, **params)
    y = np.column_stack([TARGET, 100 * TARGET**2])
    sparsely, densely = clone(model).fit(SPARSE, y), clone(model).fit(DENSE, y)
    assert_same_layers(sparsely, densely, rtol=1e-10, atol=1e-12)


@every_class
@every_optimizer
def test_narrow_rows_are_those_of_the_array_with_every_optimizer(cls, optimizer):
    """Up to a few thousand features the answer does not depend on the container."""
    sparsely, densely = pair(cls, **optimizer, average=True, max_grad_norm=0.5)
    assert_same_layers(sparsely, densely, rtol=1e-10, atol=1e-12)


@every_class
@every_optimizer
def test_wide_rows_that_touch_every_column_are_those_of_the_array(
    cls, optimizer, monkeypatch
):
    """A lazy step is the dense one where a batch leaves no column out."""
    monkeypatch.setattr(skgd._training.csr, "NARROW", 5)
    rows = DENSE / 2 + 0.1
    y = target_of(cls)
    sparsely = small(cls, **optimizer).fit(sparse.csr_array(rows), y)
    densely = small(cls, **optimizer).fit(rows, y)
    assert_same_layers(sparsely, densely, rtol=1e-9, atol=1e-11)


@every_pair(
    every_class,
    every_optimizer,
    pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"]),
    every_engine,
)
def test_a_stream_of_wide_rows_goes_on_as_one_fit(cls, optimizer, hidden, monkeypatch):
    """Epochs of fit and calls of partial_fit leave the same bits, state included."""
    monkeypatch.setattr(skgd._training.csr, "NARROW", 5)
    y = target_of(cls)
    params = {**optimizer, "hidden_layer_sizes": hidden, "alpha": 0.01}
    at_once = small(cls, **params, max_iter=3).fit(SPARSE, y)
    stream = small(cls, **params)
    for _ in range(3):
        if cls is MiniBatchClassifier:
            stream.partial_fit(SPARSE, y, classes=[False, True])
        else:
            stream.partial_fit(SPARSE, y)
    assert_same_layers(at_once, stream, rtol=0, atol=0)


@every_class
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_stream_may_change_its_container(cls, optimizer, width):
    """Weights and moments are kept in one shape, whatever the rows came in."""
    y = target_of(cls)
    classes = {} if cls is MiniBatchRegressor else {"classes": [False, True]}
    model = small(cls, optimizer=optimizer, hidden_layer_sizes=(4,))
    other = small(cls, optimizer=optimizer, hidden_layer_sizes=(4,))
    full = sparse.csr_array(DENSE + 1)  # so that lazy steps are those of the array
    for rows in (full, DENSE + 1, full):
        model.partial_fit(rows, y, **classes)
        other.partial_fit(DENSE + 1, y, **classes)
    assert_same_layers(model, other, rtol=1e-9, atol=1e-11)


@every_pair(
    every_class,
    pytest.mark.parametrize("to_format", FORMATS),
    every_engine,
)
def test_every_format_is_taken(cls, to_format, width):
    """What is not in rows is turned into rows."""
    y = target_of(cls)
    model = small(cls).fit(to_format(SPARSE), y)
    same = small(cls).fit(SPARSE, y)
    assert_same_layers(model, same, rtol=0, atol=0)
    np.testing.assert_array_equal(
        model.predict(to_format(SPARSE)), same.predict(SPARSE)
    )


@every_class
def test_float32_stays_float32(cls, width):
    """Sparse rows of single precision are computed with as such."""
    model = small(cls).fit(SPARSE.astype(np.float32), target_of(cls))
    assert model.coef_.dtype == np.float32


@every_class
def test_clipping_is_refused_for_wide_rows(cls, monkeypatch):
    """The sentence names the parameter and the width."""
    monkeypatch.setattr(skgd._training.csr, "NARROW", 5)
    with pytest.raises(ValueError, match=r"max_grad_norm must be None .* 12 features"):
        small(cls, max_grad_norm=1.0).fit(SPARSE, target_of(cls))


@pytest.mark.parametrize("hidden", [(), (2,)], ids=["linear", "network"])
def test_a_wide_fit_is_never_dense(hidden):
    """A batch of these rows would take 64 GB as an array, more than a machine has."""
    rng = np.random.default_rng(0)
    n_rows, n_features = 2000, 2**22
    columns = rng.integers(n_features, size=3 * n_rows)
    starts = np.arange(0, 3 * n_rows + 1, 3)
    rows = sparse.csr_array(
        (np.ones(3 * n_rows), columns, starts), shape=(n_rows, n_features)
    )
    model = MiniBatchClassifier(
        hidden_layer_sizes=hidden, max_iter=1, tol=None, batch_size=None
    )
    y = np.arange(n_rows) % 2
    assert np.isfinite(model.fit(rows, y).decision_function(rows)).all()
