"""Minima of scikit-learn's solvers and closed forms, and the steps of its descents."""

import numpy as np
import pytest
from conftest import (
    N_FEATURES,
    N_ROWS,
    OPTIMIZERS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    every_engine,
    every_minimiser,
    on_both_engines,
    real_devices,
    settled,
    small,
)
from covering import every_pair
from estimator_cases import AS_THEY_ARE, three_classes, two_classes, y
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skgd import MiniBatchClassifier, MiniBatchRegressor

pytestmark = on_both_engines

WEIGHT_OF_ALL = WEIGHT.sum()


# Minima: closed forms and scikit-learn's solvers

MINIMA_OF_SQUARES = {
    "least squares": ({"alpha": 0}, LinearRegression()),
    "no intercept": (
        {"alpha": 0, "fit_intercept": False},
        LinearRegression(fit_intercept=False),
    ),
    "ridge": ({"alpha": 0.1}, Ridge(alpha=0.1 * N_ROWS)),
    "lasso": ({"alpha": 0.6, "l1_ratio": 1}, Lasso(alpha=0.6, tol=1e-14)),
    "elastic net": (
        {"alpha": 0.6, "l1_ratio": 0.9},
        ElasticNet(alpha=0.6, l1_ratio=0.9, tol=1e-14),
    ),
}


@real_devices
@every_pair(
    every_minimiser,
    pytest.mark.parametrize(
        ("params", "oracle"), MINIMA_OF_SQUARES.values(), ids=MINIMA_OF_SQUARES
    ),
    every_engine,
)
def test_squared_error_is_minimised(params, oracle, optimizer, device):
    """Whole-batch descent ends where scikit-learn's solver does, zeros being exact."""
    model = settled(MiniBatchRegressor, **optimizer, **params, device=device).fit(X, y)
    oracle.fit(X, y)
    np.testing.assert_allclose(model.coef_, oracle.coef_, atol=1e-10)
    np.testing.assert_allclose(model.intercept_[0], oracle.intercept_, atol=1e-10)
    assert np.array_equal(model.coef_ == 0, oracle.coef_ == 0)


def test_the_lasso_of_these_tests_has_zeros_and_others():
    """The test of exact zeros has both kinds of weights to tell apart."""
    zero = MINIMA_OF_SQUARES["lasso"][1].fit(X, y).coef_ == 0
    assert zero.any()
    assert not zero.all()


@real_devices
@every_pair(
    pytest.mark.parametrize("fit_intercept", [True, False]),
    pytest.mark.parametrize(
        "labels", [two_classes, three_classes], ids=["two", "three"]
    ),
    every_minimiser,
    every_engine,
)
def test_log_loss_is_minimised(labels, optimizer, fit_intercept, device):
    """Whole-batch descent ends at LogisticRegression with C = 1 / (alpha n)."""
    params = {**optimizer, "alpha": 0.05, "fit_intercept": fit_intercept}
    model = settled(MiniBatchClassifier, **params, device=device).fit(X, labels)
    oracle = LogisticRegression(
        C=1 / (0.05 * N_ROWS),
        fit_intercept=fit_intercept,
        solver="newton-cholesky",
        tol=1e-12,
    ).fit(X, labels)
    # Of the intercepts of softmax only the differences are determined.
    np.testing.assert_allclose(model.coef_, oracle.coef_, atol=1e-8)
    np.testing.assert_allclose(
        model.predict_proba(X), oracle.predict_proba(X), atol=1e-8
    )
    assert np.array_equal(model.predict(X), oracle.predict(X))


@every_minimiser
def test_lasso_of_the_log_loss_has_exact_zeros(optimizer):
    """L1-penalised weights are zero where those of LogisticRegression are."""
    model = settled(MiniBatchClassifier, **optimizer, alpha=0.1, l1_ratio=1)
    oracle = LogisticRegression(
        C=1 / (0.1 * N_ROWS), l1_ratio=1, solver="saga", tol=1e-12, max_iter=10_000
    )
    model.fit(X, two_classes)
    oracle.fit(X, two_classes)
    np.testing.assert_allclose(model.coef_, oracle.coef_, atol=1e-8)
    assert np.array_equal(model.coef_ == 0, oracle.coef_ == 0)
    assert 0 < (model.coef_ == 0).sum() < N_FEATURES


def test_weighted_minima_are_those_of_scikit_learn():
    """With weights s, alpha is that of Ridge / sum(s), and 1 / (C sum(s))."""
    regressor = settled(MiniBatchRegressor, **OPTIMIZERS["sgd"], alpha=0.1)
    regressor.fit(X, y, sample_weight=WEIGHT)
    oracle = Ridge(alpha=0.1 * WEIGHT_OF_ALL).fit(X, y, sample_weight=WEIGHT)
    np.testing.assert_allclose(regressor.coef_, oracle.coef_, atol=1e-10)

    classifier = settled(MiniBatchClassifier, **OPTIMIZERS["sgd"], alpha=0.05)
    classifier.fit(X, three_classes, sample_weight=WEIGHT)
    oracle = LogisticRegression(
        C=1 / (0.05 * WEIGHT_OF_ALL), tol=1e-12, max_iter=10_000
    )
    oracle.set_params(solver="newton-cholesky").fit(X, three_classes, WEIGHT)
    np.testing.assert_allclose(classifier.coef_, oracle.coef_, atol=1e-8)


@every_minimiser
def test_alpha_has_one_minimum_at_every_batch_size(optimizer):
    """Batches of the same statistics settle where the whole set does."""
    twice, batches = np.tile(X, (2, 1)), {"batch_size": N_ROWS, "shuffle": False}
    params = {**optimizer, "alpha": 0.3, "l1_ratio": 0.5}
    whole = settled(MiniBatchRegressor, **params).fit(twice, np.tile(y, 2))
    halves = settled(MiniBatchRegressor, **params, **batches).fit(twice, np.tile(y, 2))
    assert halves.t_ == 2 * whole.t_
    np.testing.assert_allclose(halves.coef_, whole.coef_, atol=1e-10)
    np.testing.assert_allclose(halves.intercept_, whole.intercept_, atol=1e-10)


# The path there: scikit-learn's descents, step by step


@pytest.mark.parametrize(
    ("cls", "y", "peer"),
    [
        (MiniBatchRegressor, y, SGDRegressor()),
        (MiniBatchClassifier, two_classes, SGDClassifier(loss="log_loss")),
    ],
)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
@pytest.mark.parametrize("alpha", [0, 0.5])
def test_batches_of_one_follow_scikit_learns_stochastic_descent(
    cls, y, peer, weight, alpha
):
    """SGDRegressor and SGDClassifier, at the same alpha, take the same steps."""
    params = {"alpha": alpha, "shuffle": False, "fit_intercept": not alpha}
    model = small(cls, optimizer="sgd", lr=0.02, batch_size=1, **params)
    # Dividing by 1 + lr alpha is scikit-learn's factor 1 - eta0 alpha at this eta0,
    # which its intercepts do not share.
    eta0 = 0.02 / (1 + 0.02 * alpha)
    model.set_params(**AS_THEY_ARE.get(cls, {}))
    peer = clone(peer).set_params(learning_rate="constant", eta0=eta0, **params)
    peer.set_params(max_iter=3, tol=None)

    # fit divides by the mean of the weights, scikit-learn does not.
    relative = None if weight is None else weight / weight.mean()
    one, other = (
        clone(model).fit(X, y, weight),
        clone(peer).fit(X, y, None, None, relative),
    )
    np.testing.assert_allclose(one.coef_.ravel(), other.coef_.ravel(), rtol=1e-10)
    np.testing.assert_allclose(one.intercept_, other.intercept_, rtol=1e-10)

    # partial_fit does not either.
    one, other = clone(model), clone(peer).fit(X, y, None, None, weight)
    classes = {} if cls is MiniBatchRegressor else {"classes": np.unique(y)}
    for _ in range(3):
        one.partial_fit(X, y, sample_weight=weight, **classes)
    np.testing.assert_allclose(one.coef_.ravel(), other.coef_.ravel(), rtol=1e-10)
    np.testing.assert_allclose(one.intercept_, other.intercept_, rtol=1e-10)


@pytest.mark.parametrize(
    ("cls", "y", "peer"),
    [
        (MiniBatchRegressor, Y, MLPRegressor),
        (MiniBatchClassifier, two_classes, MLPClassifier),
        (MiniBatchClassifier, three_classes, MLPClassifier),
    ],
)
@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
def test_networks_follow_those_of_scikit_learn(cls, y, peer, activation):
    """MLPRegressor and MLPClassifier take the same steps, short last batch included."""
    params = {"hidden_layer_sizes": (5, 3), "activation": activation, "alpha": 0}
    params.update(batch_size=25, shuffle=False, random_state=0)
    peer = peer(solver="sgd", momentum=0, learning_rate_init=0.1, **params)
    classes = {} if cls is MiniBatchRegressor else {"classes": np.unique(y)}
    peer.partial_fit(X, y, **classes)
    model = small(cls, optimizer="sgd", lr=0.1, **params, **AS_THEY_ARE.get(cls, {}))
    model.fit(X, y, coefs_init=peer.coefs_, intercepts_init=peer.intercepts_)
    for _ in range(3):
        peer.partial_fit(X, y)
    assert_same_layers(model, peer, rtol=1e-10, atol=1e-12)


def test_alpha_is_that_of_scikit_learns_networks_divided_by_the_rows():
    """MLPRegressor, whose alpha is divided by the rows of a batch, ends there too."""
    model = settled(MiniBatchRegressor, **OPTIMIZERS["sgd"], alpha=20 / N_ROWS)
    peer = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=20, random_state=0)
    peer.set_params(tol=1e-12, max_iter=1000)
    # its solver stops at a relative change of 1e-9 of the objective
    assert_same_layers(model.fit(X, y), peer.fit(X, y), atol=1e-4)


@pytest.mark.parametrize(
    ("cls", "y", "peer"),
    [
        (MiniBatchRegressor, y, SGDRegressor()),
        (MiniBatchClassifier, two_classes, SGDClassifier(loss="log_loss")),
    ],
)
@pytest.mark.parametrize("average", [True, 2, 50, 100, 1000])
def test_averages_are_those_of_scikit_learn(cls, y, peer, average):
    """SGDRegressor and SGDClassifier average over the same steps."""
    params = {"alpha": 0, "shuffle": False, "average": average, "max_iter": 3}
    model = small(cls, optimizer="sgd", lr=0.02, batch_size=1, **params)
    model.set_params(**AS_THEY_ARE.get(cls, {})).fit(X, y)
    peer = clone(peer).set_params(learning_rate="constant", eta0=0.02, **params)
    peer.set_params(tol=None).fit(X, y)
    np.testing.assert_allclose(model.coef_.ravel(), peer.coef_.ravel(), rtol=1e-10)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-10)


@pytest.mark.parametrize("n_iter_no_change", [2, 5])
@pytest.mark.parametrize(
    ("cls", "y", "peer"),
    [
        (MiniBatchRegressor, y, SGDRegressor()),
        (MiniBatchClassifier, two_classes, SGDClassifier(loss="log_loss")),
    ],
)
def test_an_adaptive_rate_is_that_of_scikit_learn(cls, y, peer, n_iter_no_change):
    """It is divided by 5 after the same epochs as SGDRegressor's, which ends later."""
    params = {"alpha": 0, "shuffle": False, "n_iter_no_change": n_iter_no_change}
    params.update(max_iter=1000, tol=1e-3)
    model = small(cls, optimizer="sgd", lr=0.05, batch_size=1, **params)
    model.set_params(lr_schedule="adaptive", **AS_THEY_ARE.get(cls, {})).fit(X, y)
    peer = clone(peer).set_params(learning_rate="adaptive", eta0=0.05, **params)
    assert model.n_iter_ < peer.fit(X, y).n_iter_ < 1000
    with pytest.warns(ConvergenceWarning, match="before convergence"):
        peer.set_params(max_iter=model.n_iter_).fit(X, y)
    np.testing.assert_allclose(model.coef_.ravel(), peer.coef_.ravel(), rtol=1e-9)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-9)


@pytest.mark.parametrize(
    ("cls", "y", "peer"),
    [
        (MiniBatchRegressor, y, SGDRegressor()),
        (MiniBatchClassifier, two_classes, SGDClassifier(loss="log_loss")),
    ],
)
def test_a_rate_that_always_brings_something_ends_where_that_of_scikit_learn_does(
    cls, y, peer
):
    """By a small tol every division does, down to 1e-6."""
    params = {"alpha": 0, "shuffle": False, "max_iter": 1000, "tol": 1e-6}
    model = small(cls, optimizer="sgd", lr=0.05, batch_size=1, n_iter_no_change=5)
    model.set_params(lr_schedule="adaptive", **params, **AS_THEY_ARE.get(cls, {}))
    peer = clone(peer).set_params(learning_rate="adaptive", eta0=0.05, **params)
    assert model.fit(X, y).n_iter_ == peer.fit(X, y).n_iter_ < 1000
    np.testing.assert_allclose(model.coef_.ravel(), peer.coef_.ravel(), rtol=1e-9)


def test_a_single_weight_walks_the_published_path():
    """The line 2 x - 1 is found from 8 x - 1 by the steps that an article gives."""
    x, losses, path = (
        np.array([-1.0, 0, 1, 2, 3, 4]),
        [186.0, 149.54607, 120.236694],
        [],
    )
    model = small(MiniBatchRegressor, optimizer="sgd", lr=0.02, alpha=0)
    model.set_params(batch_size=None, fit_intercept=False, max_iter=1, warm_start=True)
    model.fit(x[:, np.newaxis], 2 * x - 1 + 1, coef_init=[8.0])
    path.append(model.coef_[0])
    for _ in range(49):
        path.append(model.fit(x[:, np.newaxis], 2 * x).coef_[0])
    np.testing.assert_allclose(path[:3], [7.38, 6.8240666, 6.3255796], rtol=1e-7)
    np.testing.assert_allclose(path[-1], 2.0257, atol=1e-4)
    np.testing.assert_allclose(2 * np.array(model.loss_curve_[:3]), losses, rtol=1e-7)
