"""Where training comes to rest: at the minima that scikit-learn's solvers find.

The estimators of scikit-learn that minimise the same objective in other ways, and how
their strengths of penalty become ``alpha``. Squared error and log loss, which every
optimizer minimises, are in ``test_minima``.
"""

import numpy as np
import pytest
from conftest import (
    N_FEATURES,
    N_ROWS,
    OPTIMIZERS,
    TASKS,
    WEIGHT,
    X,
    Y,
    on_both_engines,
    settled,
)
from scipy.optimize import linprog, minimize
from sklearn.linear_model import (
    GammaRegressor,
    HuberRegressor,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    TweedieRegressor,
)
from sklearn.linear_model._sgd_fast import ModifiedHuber
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from skgd import MiniBatchClassifier, MiniBatchRegressor

pytestmark = on_both_engines

ALPHA = 0.05
y = Y[:, 0]
two_classes, three_classes = TASKS["two classes"][1], TASKS["three classes"][1]
rng = np.random.default_rng(1)
counts = rng.poisson(np.exp(y / 3))
amounts = np.exp(y / 3) * rng.gamma(2, 0.5, N_ROWS)
claims = amounts * rng.binomial(1, 0.6, N_ROWS)
several_labels = (np.column_stack([Y, Y.sum(axis=1)]) > [3, -1, 2]).astype(int)

weighted_or_not = pytest.mark.parametrize(
    "weight", [None, WEIGHT], ids=["alike", "weighted"]
)


def total(weight):
    """Return what all rows count together."""
    return N_ROWS if weight is None else weight.sum()


class ModifiedHuberByScipy:
    """SGDClassifier's loss="modified_huber" with an L2 penalty, minimised by BFGS."""

    def fit(self, rows, labels, sample_weight=None):
        loss, signs = ModifiedHuber(), np.where(labels == "yes", 1.0, -1.0)
        columns = np.column_stack([rows, np.ones(len(rows))])

        def objective(w):
            pairs = list(zip(columns @ w, signs, strict=True))
            values = [loss.py_loss(sign, z) for z, sign in pairs]
            slopes = np.array([loss.py_dloss(z, sign) for z, sign in pairs])
            penalised = np.append(w[:-1], 0)
            value = np.average(values, weights=sample_weight)
            slope = np.average(columns.T * slopes, axis=1, weights=sample_weight)
            return value + ALPHA / 2 * (penalised @ w), slope + ALPHA * penalised

        start = np.zeros(columns.shape[1])
        w = minimize(objective, start, jac=True, options={"gtol": 1e-9}).x
        self.coef_, self.intercept_ = w[:-1], w[-1]
        return self


# The targets, the parameters, and what of scikit-learn's minimises the same; its C is
# given as a function of what all rows count together.
SMOOTH = {
    "poisson": (
        counts,
        {"loss": "poisson"},
        lambda s: PoissonRegressor(
            alpha=ALPHA, solver="newton-cholesky", tol=1e-12, max_iter=1000
        ),
    ),
    "gamma": (
        amounts,
        {"loss": "gamma"},
        lambda s: GammaRegressor(
            alpha=ALPHA, solver="newton-cholesky", tol=1e-12, max_iter=1000
        ),
    ),
    "tweedie": (
        claims,
        {"loss": "tweedie", "power": 1.3},
        lambda s: TweedieRegressor(
            power=1.3, link="log", alpha=ALPHA, solver="newton-cholesky", tol=1e-12
        ),
    ),
    "squared epsilon-insensitive": (
        y,
        {
            "loss": "squared_epsilon_insensitive",
            "delta": 0.5,
            "fit_intercept": False,
        },
        lambda s: LinearSVR(
            loss="squared_epsilon_insensitive",
            epsilon=0.5,
            C=1 / (ALPHA * s),
            fit_intercept=False,
            tol=1e-10,
            max_iter=100_000,
        ),
    ),
    "squared hinge": (
        two_classes,
        {"loss": "squared_hinge", "fit_intercept": False},
        lambda s: LinearSVC(
            C=1 / (ALPHA * s), fit_intercept=False, tol=1e-10, max_iter=100_000
        ),
    ),
    "squared hinge of three classes": (
        three_classes,
        {"loss": "squared_hinge", "fit_intercept": False},
        lambda s: LinearSVC(
            C=1 / (ALPHA * s),
            fit_intercept=False,
            dual=True,
            tol=1e-10,
            max_iter=100_000,
        ),
    ),
    "modified huber": (
        two_classes,
        {"loss": "modified_huber"},
        lambda s: ModifiedHuberByScipy(),
    ),
}
KINKED = {
    "quantile": (
        y,
        {"loss": "quantile", "quantile": 0.8, "l1_ratio": 1},
        lambda s: QuantileRegressor(quantile=0.8, alpha=ALPHA),
    ),
    "absolute error": (  # twice the pinball loss of the median
        y,
        {"loss": "absolute_error", "l1_ratio": 1},
        lambda s: QuantileRegressor(quantile=0.5, alpha=ALPHA / 2),
    ),
    "epsilon-insensitive": (
        y,
        {"loss": "epsilon_insensitive", "delta": 0.5},
        lambda s: SVR(kernel="linear", epsilon=0.5, C=1 / (ALPHA * s), tol=1e-9),
    ),
    "epsilon-insensitive, no intercept": (
        y,
        {"loss": "epsilon_insensitive", "delta": 0.5, "fit_intercept": False},
        lambda s: LinearSVR(
            epsilon=0.5,
            C=1 / (ALPHA * s),
            fit_intercept=False,
            tol=1e-7,
            max_iter=100_000,
        ),
    ),
    "hinge": (
        two_classes,
        {"loss": "hinge"},
        lambda s: SVC(kernel="linear", C=1 / (ALPHA * s), tol=1e-9),
    ),
    "hinge of three classes, no intercept": (
        three_classes,
        {"loss": "hinge", "fit_intercept": False},
        lambda s: LinearSVC(
            loss="hinge",
            C=1 / (ALPHA * s),
            fit_intercept=False,
            tol=1e-9,
            max_iter=100_000,
        ),
    ),
}


def at_rest(targets, **params):
    """Return an estimator of the kind that the targets need."""
    classes = targets is two_classes or targets is three_classes
    cls = MiniBatchClassifier if classes else MiniBatchRegressor
    return settled(cls, alpha=ALPHA, **params)


def assert_same_minimum(model, oracle, rtol):
    """Assert that weights are alike: to rtol times the largest of them."""
    coef, intercept = np.ravel(oracle.coef_), np.ravel(oracle.intercept_)
    largest = np.abs(coef).max()
    np.testing.assert_allclose(model.coef_.ravel(), coef, rtol=0, atol=rtol * largest)
    if model.fit_intercept:
        np.testing.assert_allclose(model.intercept_, intercept, rtol=rtol, atol=rtol)


@weighted_or_not
@pytest.mark.parametrize(("targets", "params", "oracle"), SMOOTH.values(), ids=SMOOTH)
def test_smooth_losses_are_minimised(targets, params, oracle, weight):
    """Whole-batch descent ends where the solver of the same objective does."""
    model = at_rest(targets, **OPTIMIZERS["nesterov"], **params, max_iter=500)
    model.fit(X, targets, sample_weight=weight)
    other = oracle(total(weight)).fit(X, targets, sample_weight=weight)
    assert_same_minimum(model, other, rtol=1e-7)


@weighted_or_not
@pytest.mark.parametrize(("targets", "params", "oracle"), KINKED.values(), ids=KINKED)
def test_losses_with_a_kink_are_minimised(targets, params, oracle, weight):
    """With steps that fall to zero descent ends there too, if less exactly."""
    falling = {"momentum": 0.9, "lr": 0.03, "lr_schedule": "cosine"}
    model = at_rest(targets, optimizer="sgd", **falling, **params, max_iter=1000)
    model.fit(X, targets, sample_weight=weight)
    other = oracle(total(weight)).fit(X, targets, sample_weight=weight)
    assert_same_minimum(model, other, rtol=1e-3)


@weighted_or_not
def test_huber_is_that_of_the_scale_that_scikit_learn_finds(weight):
    """HuberRegressor's loss is of errors in units of a scale, which it fits as well."""
    peer = HuberRegressor(epsilon=1.1, alpha=3.0, tol=1e-10, max_iter=10_000)
    peer.fit(X, y, sample_weight=weight)
    model = settled(MiniBatchRegressor, **OPTIMIZERS["nesterov"], loss="huber")
    model.set_params(
        delta=peer.epsilon * peer.scale_, alpha=peer.alpha * peer.scale_ / total(weight)
    )
    model.fit(X, y, sample_weight=weight)
    error = np.abs(y - model.predict(X))
    assert 5 < (error > model.delta).sum() < N_ROWS - 5
    assert_same_minimum(model, peer, rtol=1e-5)  # its solver stops at 3e-6


def test_several_labels_are_a_logistic_regression_each():
    """The log loss of several labels is the sum of the losses of each."""
    model = settled(MiniBatchClassifier, **OPTIMIZERS["nesterov"], alpha=ALPHA)
    model.fit(X, several_labels, sample_weight=WEIGHT)
    for n, labels in enumerate(several_labels.T):
        oracle = LogisticRegression(C=1 / (ALPHA * WEIGHT.sum()), tol=1e-12)
        oracle.set_params(solver="newton-cholesky").fit(X, labels, WEIGHT)
        np.testing.assert_allclose(model.coef_[[n]], oracle.coef_, rtol=1e-9)
        np.testing.assert_allclose(model.intercept_[[n]], oracle.intercept_, rtol=1e-9)
        np.testing.assert_allclose(
            model.predict_proba(X)[:, n], oracle.predict_proba(X)[:, 1], rtol=1e-9
        )


@weighted_or_not
@pytest.mark.parametrize("class_weight", ["balanced", "dict"])
@pytest.mark.parametrize("labels", [two_classes, three_classes], ids=["two", "three"])
def test_class_weights_are_those_of_logistic_regression(labels, class_weight, weight):
    """Classes count what they count there, times the weights of the rows."""
    if class_weight == "dict":
        class_weight = dict(zip(np.unique(labels), [0.5, 3, 1], strict=False))
    model = settled(MiniBatchClassifier, **OPTIMIZERS["nesterov"], alpha=ALPHA)
    model.set_params(class_weight=class_weight).fit(X, labels, sample_weight=weight)
    share = np.ones(N_ROWS) if weight is None else weight
    if class_weight == "balanced":  # all classes alike, and the sum as it was
        of_all = share.sum()
    else:
        of_all = share @ [class_weight[label] for label in labels]
    oracle = LogisticRegression(
        C=1 / (ALPHA * of_all), class_weight=class_weight, tol=1e-12
    )
    oracle.set_params(solver="newton-cholesky").fit(X, labels, weight)
    np.testing.assert_allclose(model.coef_, oracle.coef_, atol=1e-9)
    np.testing.assert_allclose(
        model.predict_proba(X), oracle.predict_proba(X), atol=1e-9
    )
    plain = settled(MiniBatchClassifier, **OPTIMIZERS["nesterov"], alpha=ALPHA)
    assert np.abs(plain.fit(X, labels, weight).coef_ - oracle.coef_).max() > 1e-5


@pytest.mark.parametrize(
    ("targets", "params", "oracle"),
    [SMOOTH["poisson"], SMOOTH["squared hinge"], KINKED["quantile"]],
    ids=["poisson", "squared hinge", "quantile"],
)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_small_batches_settle_there_as_steps_fall(targets, params, oracle, batch_size):
    """With "cosine", mini-batches end at the same minimum but for some noise."""
    model = at_rest(targets, optimizer="sgd", lr=0.02 * batch_size, **params)
    model.set_params(batch_size=batch_size, max_iter=100, lr_schedule="cosine")
    other = oracle(N_ROWS).fit(X, targets)
    assert_same_minimum(model.fit(X, targets), other, rtol=0.02)


def test_an_intercept_of_liblinear_is_a_column_of_ones():
    """LinearSVC penalises its intercept, as a weight of a constant feature is here."""
    rows = np.column_stack([X, np.ones(N_ROWS)])
    model = at_rest(two_classes, **OPTIMIZERS["nesterov"], loss="squared_hinge")
    model.set_params(fit_intercept=False).fit(rows, two_classes)
    peer = LinearSVC(C=1 / (ALPHA * N_ROWS), tol=1e-10, max_iter=100_000)
    peer.fit(X, two_classes)
    np.testing.assert_allclose(model.coef_[:, :N_FEATURES], peer.coef_, rtol=1e-7)
    np.testing.assert_allclose(model.coef_[:, N_FEATURES], peer.intercept_, rtol=1e-7)


def l1_data():
    """Return rows of which most columns say nothing, and labels of -1 and 1."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 20))
    noisy = rows[:, :4] @ [1, -1, 0.5, 2] + rng.normal(size=200)
    return rows, np.where(noisy > 0, 1, -1)


def by_linear_programming(rows, signs, alpha):
    """Return the weights that minimise the hinge loss with an L1 penalty."""
    n, d = rows.shape
    costs = np.concatenate([np.full(2 * d, alpha), np.full(n, 1 / n)])
    signed = signs[:, np.newaxis] * rows
    margins = np.column_stack([signed, -signed, np.eye(n)])
    found = linprog(costs, -margins, -np.ones(n), method="highs-ds").x
    return found[:d] - found[d : 2 * d]


def by_coordinate_descent(rows, signs, alpha):
    """Return the weights for the squared hinge loss, by liblinear."""
    params = {"C": 1 / (alpha * len(rows)), "tol": 1e-6, "max_iter": 100_000}
    model = LinearSVC(penalty="l1", dual=False, fit_intercept=False, **params)
    return model.fit(rows, signs).coef_[0]


@pytest.mark.parametrize(
    ("loss", "solve", "missed"),
    [("squared_hinge", by_coordinate_descent, 0), ("hinge", by_linear_programming, 2)],
    ids=["smooth", "kinked"],
)
def test_whole_batches_find_the_weights_that_l1_makes_zero(loss, solve, missed):
    """All of them for a smooth loss, most for one with a kink, and no others."""
    rows, signs = l1_data()
    zeros = solve(rows, signs, alpha=0.04) == 0
    model = settled(MiniBatchClassifier, loss=loss, alpha=0.04, l1_ratio=1, lr=0.02)
    model.set_params(lr_schedule="cosine", fit_intercept=False).fit(rows, signs)
    found = model.coef_[0] == 0
    assert zeros.sum() >= 7
    assert not (found & ~zeros).any()
    assert (zeros & ~found).sum() <= missed
