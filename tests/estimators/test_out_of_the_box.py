"""The first minutes with the library: defaults, targets and streams as they come.

What goes wrong says so, and what improves is never refused.
"""

import re
import warnings
from contextlib import suppress

import numpy as np
import pytest
from conftest import every_class, small
from covering import every_pair
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, SGDClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV
from skgd._estimators.targets import known_targets

RNG = np.random.default_rng(0)
X = RNG.normal(size=(320, 4))
W = np.array([1.0, -2.0, 0.5, 0.0])
y = X @ W + 0.3 * RNG.normal(size=320)
ADVICE = "times that of the best constant prediction"


def said(model, *data, **params):
    """Return the fitted model, and its ConvergenceWarnings as one text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*data, **params)
    kinds = [one for one in caught if one.category is ConvergenceWarning]
    return model, " ".join(str(one.message) for one in kinds)


@pytest.mark.parametrize("c", [1e-6, 1.0, 1e6])
def test_default_parameters_fit_targets_of_any_scale(c):
    """On the diabetes data they come as near as least squares, in cross-validation."""
    rows, target = load_diabetes(return_X_y=True)
    model = make_pipeline(StandardScaler(), MiniBatchRegressor(random_state=0))
    ours = cross_val_score(model, rows, c * target, cv=3).mean()
    least_squares = cross_val_score(LinearRegression(), rows, target, cv=3).mean()
    assert ours > least_squares - 0.01


# Divergence


def test_a_hinge_at_optimal_rates_is_kept():
    """Its objective falls on iris as it comes, however high it starts."""
    rows, labels = load_iris(return_X_y=True)
    params = {"loss": "hinge", "lr_schedule": "optimal", "optimizer": "sgd"}
    model = MiniBatchClassifier(**params, batch_size=1, max_iter=1000, random_state=2)
    model, words = said(model.set_params(n_iter_no_change=2), rows, labels)
    assert model.loss_ < model.loss_curve_[0]
    assert ADVICE in words


def test_raw_features_are_told_and_do_as_well_as_sgd():
    """SGDClassifier's own settings fit the raw breast-cancer features, with a word."""
    rows, labels = load_breast_cancer(return_X_y=True)
    model = MiniBatchClassifier(loss="hinge", lr_schedule="optimal", optimizer="sgd")
    model.set_params(batch_size=1, max_iter=1000, random_state=0)
    model, words = said(model, rows, labels)
    assert ADVICE in words
    peer = SGDClassifier(random_state=0).fit(rows, labels)
    assert model.score(rows, labels) > peer.score(rows, labels) - 0.05


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("columns", [1.0, np.array([1000.0, 1, 1, 1])])
def test_an_absurd_rate_is_told(columns, early_stopping):
    """A network with Adam at lr=10 is refused, warned of, or no worse than a mean."""
    model = MiniBatchRegressor(hidden_layer_sizes=(10,), lr=10, random_state=0)
    model.set_params(early_stopping=early_stopping)
    words = "Training diverged"
    with suppress(ValueError):
        model, words = said(model, X * columns, y)
    if hasattr(model, "coefs_"):
        good = model.score(X * columns, y) > -0.5
        assert good or ADVICE in words or "began with, which are kept" in words
    else:
        with pytest.raises(ValueError, match=words):
            model.fit(X * columns, y)


def test_what_diverges_scores_nan_in_a_search():
    """Early stopping has no better weights to return to than those at the start."""
    model = MiniBatchRegressor(optimizer="sgd", early_stopping=True, random_state=0)
    search = VectorizedGridSearchCV(model, {"lr": [0.01, 1e-5]}, cv=3, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(30 * X, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isnan(scores[0])
    assert scores[1] > 0


def few_rows_make_most_of_a_loss():
    rows = np.random.default_rng(0).normal(size=(50_000, 3))
    targets = 0.01 * rows[:, 0]
    targets[0] = 1e6
    return MiniBatchRegressor(batch_size=4096, max_iter=3), rows, targets, None


def few_weights_make_most_of_a_loss():
    rows = np.random.default_rng(0).normal(size=(50_000, 3))
    weight = np.ones(50_000)
    weight[0] = 1e6
    return (
        MiniBatchClassifier(batch_size=4096, max_iter=3),
        rows,
        rows[:, 0] > 0,
        weight,
    )


@pytest.mark.parametrize(
    "case", [few_rows_make_most_of_a_loss, few_weights_make_most_of_a_loss]
)
def test_a_few_rows_are_no_divergence(case):
    """The rows that are judged at the end are held against their own constant."""
    model, rows, targets, weight = case()
    model.set_params(tol=None, random_state=0)
    _, words = said(model, rows, targets, sample_weight=weight)
    assert words == ""


def test_rows_of_weight_zero_do_not_hide_a_bad_fit():
    """What stands in the targets of rows that count nothing has no part in it."""
    weight = np.where(np.arange(320) % 10, 1.0, 0.0)
    target = np.where(weight, y, 1e9)
    model = small(MiniBatchRegressor, lr=100.0, max_iter=2)
    model, words = said(model, X, target, sample_weight=weight)
    assert model.score(X, y) < -5
    assert ADVICE in words


# Streams

CHUNKS = {
    "jumps": [np.full(320, c) for c in [0.0] * 10 + [5000.0] * 10 + [0.0] * 10],
    "drifts": [10 ** (k / 4) * y for k in range(30)],
    "resets": [np.full(320, 100.0 * (k % 15)) for k in range(40)],
    "zeros first": [y * (0 if k < 5 else 1000) for k in range(40)],
    "doubles": [np.full(320, 2.0**k) for k in range(40)],
}


@every_pair(
    pytest.mark.parametrize("begins", ["fit", "partial_fit"]),
    pytest.mark.parametrize("optimizer", ["sgd", "adam"]),
    pytest.mark.parametrize("normalize_y", [True, False]),
    pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS),
)
def test_no_stream_gets_stuck(chunks, normalize_y, optimizer, begins):
    """Targets that jump, drift, reset, or are all zero at first are learned on."""
    model = MiniBatchRegressor(optimizer=optimizer, normalize_y=normalize_y)
    model.set_params(random_state=0, lr=0.1 if optimizer == "sgd" else "auto")
    model.set_params(max_iter=2, tol=None)
    for n, targets in enumerate(chunks):
        (model.fit if n == 0 and begins == "fit" else model.partial_fit)(X, targets)
    if optimizer == "sgd":
        error = np.abs(model.predict(X) - chunks[-1]).mean()
        assert error < 0.5 * np.abs(chunks[-1]).mean() + 1.0


def test_a_stream_that_explodes_is_refused_and_goes_on_after():
    """The call that is refused leaves the model as it was."""
    model = MiniBatchRegressor(optimizer="sgd", lr=0.1, random_state=0)
    model.partial_fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="Training diverged"):
        model.partial_fit(1e3 * X, y)
    assert np.array_equal(model.predict(X), before)
    assert model.partial_fit(X, y).score(X, y) > 0.9


def test_weights_that_overflow_are_told_as_such():
    """The batches' losses are those before the step that went too far."""
    model = MiniBatchRegressor(optimizer="sgd", lr=1e308, batch_size=None)
    with pytest.raises(ValueError, match="no longer a finite number"):
        model.partial_fit(10 * X, y)


def test_a_stream_after_a_fit_that_has_not_settled_learns():
    """The rate that "adaptive" had come down to is that of the fit alone."""
    model = small(MiniBatchRegressor, max_iter=15, tol=1e-3)
    with pytest.warns(ConvergenceWarning, match="max_iter=15"):
        model.fit(X, y)
    for _ in range(30):
        model.partial_fit(X, 3 - y)
    assert model.score(X, 3 - y) > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_stream_of_single_rows_has_the_scale_of_many(optimizer):
    """Two targets that come near each other by chance do not decide it."""
    model = MiniBatchRegressor(optimizer=optimizer, random_state=0)
    for n in range(320):
        target = 1e-3 if n == 1 else (0.0 if n == 0 else y[n])
        model.partial_fit(X[n : n + 1], [target])
    assert 0.3 * y.std() < known_targets(model).scale.scale[0] < 3 * y.std()
    assert model.score(X, y) > 0.5


# What else is told


def test_the_epoch_kept_is_told_of_the_last_fit_only():
    """A stream trains the weights on that early stopping had kept."""
    model = small(MiniBatchRegressor, early_stopping=True, max_iter=20).fit(X, y)
    assert model.best_iter_ == 1 + np.argmax(model.validation_scores_)
    model.set_params(early_stopping=False).partial_fit(X, y)
    assert not hasattr(model, "best_iter_")


def test_an_epoch_cut_short_slows_nothing_down():
    """Only whole epochs without progress divide an adaptive rate."""
    model = small(MiniBatchRegressor, batch_size=160, tol=1e9, n_iter_no_change=1)
    model.set_params(engine="torch")  # a loop would take both steps before it looks up
    model.set_params(lr_schedule="adaptive", max_iter=2, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    slowed = model._state_["slowed"]
    model.set_params(max_time=1e-9).fit(X, y)
    assert model.t_ == 2 * 2 + 1
    assert model._state_["slowed"] == slowed


@pytest.mark.parametrize("loss", ["absolute_error", "quantile", "huber"])
def test_a_penalty_that_leaves_nothing_is_told(loss):
    """In dollars the default alpha is too large for losses that grow with y."""
    model = MiniBatchRegressor(loss=loss, random_state=0)
    with pytest.warns(UserWarning, match=r"Divide alpha by \d") as caught:
        model.fit(X, 1e6 * y)
    assert caught[0].filename == __file__
    factor = float(re.search("Divide alpha by (.*)[.]", str(caught[0].message))[1])
    better = clone(model).set_params(alpha=model.alpha / factor).fit(X, 1e6 * y)
    assert better.score(X, 1e6 * y) > 0.85


@pytest.mark.filterwarnings("ignore:alpha=.* leaves little of the weights")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "params",
    [{"loss": "absolute_error"}, {"l1_ratio": 0.5}, {"loss": "poisson", "alpha": 0.1}],
    ids=str,
)
def test_wide_rows_have_penalties_of_their_own_for_each_target(optimizer, params):
    """Several targets of several scales are as many fits of one."""
    rows = sparse.random(300, 5000, density=0.01, format="csr", random_state=0)
    several = np.abs(np.column_stack([y[:300], 1000 * y[:300][::-1] + 7])) + 0.1
    model = small(MiniBatchRegressor, optimizer=optimizer, lr=0.01, **params)
    together = clone(model).fit(rows, several)
    for n, column in enumerate(several.T):
        alone = clone(model).fit(rows, column)
        np.testing.assert_allclose(together.coef_[n], alone.coef_, rtol=1e-8, atol=1e-8)


@every_class
def test_a_search_counts_what_it_warns_of(cls):
    """Fits that failed are no models that have not settled."""
    target = y if cls is MiniBatchRegressor else y > 0
    search = VectorizedGridSearchCV(
        small(cls, tol=1e-9, lr=0.01), {"alpha": [1e-4, 1e-3, -1.0]}, cv=2, refit=False
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, target)
    words = [str(one.message) for one in caught]
    assert sum("Of 4 models, 4 stopped after max_iter" in text for text in words) == 1
