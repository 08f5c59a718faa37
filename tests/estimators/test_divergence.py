"""Training that diverges is told, and training that goes well is not."""

import re
import warnings
from itertools import product

import numpy as np
import pytest
from bad_cases import TARGET, assert_refused, y
from conftest import (
    N_ROWS,
    RAW,
    X,
    Y,
    every_depth,
    every_engine,
    every_minimiser,
    every_optimizer,
    every_task,
    layers_of,
    on_both_engines,
    small,
)
from covering import every_pair
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators.parameters import LOSSES_OF_CLASSES

pytestmark = on_both_engines

# Divergence


def diverged(lr):
    """Return the pattern of the error: the epoch, the rate and what to do."""
    rate = re.escape(f"lr={lr!r}")
    return rf"diverged in epoch \d+: .*{rate}.*lower it.*standardise X"


@every_pair(
    pytest.mark.parametrize("batch_size", [None, 1, 8]),
    pytest.mark.parametrize("lr", [0.1, 1.0, 10, 1e4]),
    every_depth,
    every_engine,
)
@pytest.mark.filterwarnings("ignore:Training ended with a loss")  # at lr=1e-9
def test_divergence_ends_fit(lr, batch_size, hidden):
    """On raw features the error names lr, the epoch and scaling; nothing is kept."""
    params = {"optimizer": "sgd", "lr": lr, "batch_size": batch_size, "max_iter": 200}
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, **params)
    match = diverged(lr)
    assert_refused(model.fit, RAW, y, match=match)
    model.set_params(lr=1e-9).fit(RAW, y)
    model.set_params(lr=lr)
    assert_refused(model.fit, RAW, y, match=match)
    model.set_params(warm_start=True)
    assert_refused(model.fit, RAW, y, match=match)


@every_pair(
    pytest.mark.parametrize(
        "params",
        [
            {"lr": 10},
            {"lr": 1e4},
            {"lr": 1e300},
            {"lr": 10, "dtype": "float32"},
            {"lr": 1e39, "dtype": "float32"},
            {"lr": 2, "momentum": 0.99},
            {"lr": 2, "momentum": 0.99, "nesterov": True},
        ],
        ids=str,
    ),
    pytest.mark.parametrize("tol", [None, 1e-4]),
    every_depth,
    every_engine,
)
def test_divergence_ends_fit_on_scaled_features_too(params, tol, hidden):
    """Steps too large for any data diverge, whatever stops a fit otherwise."""
    model = small(MiniBatchRegressor, optimizer="sgd", tol=tol, **params)
    model.set_params(hidden_layer_sizes=hidden, max_iter=200)
    assert_refused(model.fit, X, y, match=diverged(params["lr"]))


# What else is said of an end that is not refused.
OTHERWISE = "times that of the best constant prediction|weights that training began"


def still(cls, hidden, rows, y, **starts):
    """Return an estimator whose steps have no size, and so the loss of its start."""
    model = small(cls, hidden_layer_sizes=hidden, optimizer="sgd", lr=1e-300, alpha=0)
    model.set_params(batch_size=None, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, y, **starts)


def words_of_fit(model, rows, y):
    """Return what a fit says, and whether it raised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(rows, y)
        except ValueError as error:
            return [str(error)], True
    return [str(warning.message) for warning in caught], False


@every_pair(
    pytest.mark.parametrize(
        ("rows", "early_stopping"),
        [(X, True), (RAW, False)],
        ids=["scaled, early", "raw"],
    ),
    every_depth,
    every_optimizer,
    every_engine,
)
def test_every_divergence_is_told(optimizer, hidden, rows, early_stopping):
    """What ends not finite, or 10 times above the loss of a constant, has said so."""
    constant = {cls: still(cls, (), rows, y).loss_ for cls, y in TARGET.items()}
    n_told = 0
    for cls, lr, (batch_size, max_iter) in product(
        (MiniBatchRegressor, MiniBatchClassifier),
        (0.1, 1.0, 1e4),
        ((None, 2), (1, 2), (16, 10)),
    ):
        y = TARGET[cls]
        params = {**optimizer, "lr": lr, "batch_size": batch_size, "max_iter": max_iter}
        model = small(cls, **params, hidden_layer_sizes=hidden)
        model.set_params(early_stopping=early_stopping)
        words, raised = words_of_fit(model, rows, y)
        told = [bool(re.search(f"{diverged(lr)}|{OTHERWISE}", text)) for text in words]
        assert all(told), words
        n_told += any(told)
        if raised:
            continue
        coefs, intercepts = layers_of(model)
        assert all(np.isfinite(array).all() for array in [*coefs, *intercepts])
        if not told:
            names = ["coefs_", "intercepts_"] if hidden else ["coef_", "intercept_"]
            fitted = {f"{name}init": getattr(model, name) for name in names}
            end = still(cls, hidden, rows, y, **fitted).loss_
            # (it was judged without the rows held out)
            assert end <= 20 * constant[cls], params
    assert n_told > 0


@pytest.mark.parametrize("batch_size", [None, 1, 8])
def test_rare_outliers_are_no_divergence(batch_size):
    """A loss that is far above that of the first rows, as it was at the start."""
    wild = np.where(np.arange(N_ROWS) == N_ROWS - 1, 1e4, y)
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e-4, shuffle=False)
    model.set_params(batch_size=batch_size, max_iter=20).fit(X, wild)
    assert model.loss_ < model.loss_curve_[0]


def test_rows_in_the_order_of_their_targets_are_no_divergence():
    """The first rows have next to no loss, and what diverges is seen in them too."""
    rng = np.random.default_rng(0)
    rows, amounts = (
        rng.normal(size=(5000, 3)),
        np.sort(np.exp(3 * rng.normal(size=5000))),
    )
    model = small(MiniBatchRegressor, batch_size=100).fit(rows, amounts)
    assert model.loss_ < 1.1 * model.loss_curve_[0]
    for order in (slice(None), slice(None, None, -1)):
        model.set_params(optimizer="sgd", lr=100.0)
        with pytest.raises(ValueError, match=diverged(100.0)):
            model.fit(rows[order], amounts[order])


@pytest.mark.parametrize("given", [False, True], ids=["split", "given"])
@pytest.mark.parametrize("lr", [1e160, 1e300])
def test_divergence_before_any_judgement_ends_fit(lr, given):
    """There are no best weights to return to, so this is an error, and no warning."""
    params = {"optimizer": "sgd", "lr": lr, "early_stopping": True}
    model = small(MiniBatchRegressor, **params)
    held_out = {"X_val": X, "y_val": y} if given else {}
    assert_refused(model.fit, X, y, match=diverged(lr), **held_out)


def test_divergence_leaves_the_seed_as_it_was():
    """A RandomState given as a seed is where it was before the fit that diverged."""
    seed = np.random.RandomState(0)
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e4, random_state=seed)
    assert_refused(model.fit, RAW, y, match="diverged")


def test_the_epoch_of_divergence_is_that_of_the_fit():
    """The epoch named is the last one trained, also where fewer were asked for."""
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1, batch_size=None)
    model.set_params(max_iter=1000)
    with pytest.raises(ValueError, match="diverged in epoch") as error:
        model.fit(RAW, y)
    epoch = int(re.search(r"epoch (\d+)", str(error.value))[1])
    assert 2 < epoch < 1000
    with pytest.raises(ValueError, match=f"diverged in epoch {epoch - 1}:"):
        clone(model).set_params(max_iter=epoch - 1).fit(RAW, y)


@every_depth
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_ends_a_stream(hidden, dtype):
    """The step that leaves the numbers is refused, and a smaller one may follow."""
    params = {"optimizer": "sgd", "hidden_layer_sizes": hidden, "dtype": dtype}
    model = small(MiniBatchRegressor, **params, lr=1e-3).partial_fit(X, y)
    model.set_params(lr=1e6)
    match = diverged(1e6)

    def go_on():
        for _ in range(1000):
            model.partial_fit(X, y)

    with pytest.raises(ValueError, match=match):
        go_on()
    assert np.isfinite(model.predict(X)).all()
    assert_refused(model.partial_fit, X, y, match=match)
    fresh = small(
        MiniBatchRegressor, **params, lr=1e300 if dtype == "float64" else 1e30
    )
    assert_refused(fresh.partial_fit, X * 1e5, y, match="diverged")


@every_pair(
    every_minimiser,
    every_task,
    every_engine,
)
def test_large_but_stable_targets_and_penalties_do_not_diverge(cls, y, optimizer):
    """Penalties of any strength shrink weights to zero, and raise nothing."""
    for l1_ratio in (0, 0.5, 1):
        model = small(cls, **{**optimizer, "lr": 0.01}, alpha=1e6, l1_ratio=l1_ratio)
        assert np.abs(model.fit(X, y).coef_).max() < 1e-4


@every_pair(
    pytest.mark.parametrize("n_iter_no_change", [1, 3, 5]),
    every_optimizer,
    every_engine,
)
def test_a_settled_model_that_trains_on_does_not_diverge(optimizer, n_iter_no_change):
    """The noise of the batches around a minimum is growth, but no divergence."""
    params = {**optimizer, "lr": optimizer["lr"] / 3, "tol": 1e-4, "max_iter": 1000}
    params.update(n_iter_no_change=n_iter_no_change, warm_start=True)
    for seed in range(n_iter_no_change % 3, 10, 3):  # each of 10 seeds once
        model = small(MiniBatchRegressor, **params, random_state=seed)
        for _ in range(3):
            model.fit(X, y)
        assert model.loss_ < 1


def test_a_linear_regression_far_from_zero_is_no_divergence():
    """An objective that starts high and falls is no error."""
    model = small(MiniBatchRegressor, optimizer="sgd", lr=0.1, max_iter=100)
    model.set_params(normalize_y=False).fit(X, 1e6 * y)
    assert model.loss_ < 0.2 * model.loss_curve_[0]


# Training that goes well, though it may look otherwise

OVERLAPPING = np.where(Y[:, 0] + 2 * np.sin(50 * X[:, 0]) > 3, "yes", "no")


@every_pair(
    every_depth,
    pytest.mark.parametrize("lr", [0.01, 0.1, 1.0]),
    pytest.mark.parametrize("optimizer", ["sgd", "adam"]),
    pytest.mark.parametrize("loss", LOSSES_OF_CLASSES),
    every_engine,
)
def test_classes_that_overlap_are_no_divergence(loss, optimizer, lr, hidden):
    """Also not by a perceptron, whose loss is 0 before it knows anything."""
    model = MiniBatchClassifier(loss=loss, optimizer=optimizer, lr=lr / 4)
    model.set_params(lr_schedule="constant", tol=1e-4, n_iter_no_change=10)
    model.set_params(hidden_layer_sizes=hidden, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, OVERLAPPING)
    assert model.score(X, OVERLAPPING) > 0.6


@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_to_begin_at_the_optimum_is_no_divergence(lr):
    """Adam wavers around it, and is told nothing but that it has not settled."""
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    model = MiniBatchRegressor(lr=lr, random_state=0, tol=None, max_iter=30)
    model.fit(X, X @ weights, coef_init=weights, intercept_init=[0.0])
    assert model.score(X, X @ weights) > 0.9


def test_targets_of_another_scale_are_no_divergence():
    """A warm start, or a stream, goes on where the numbers are larger than before."""
    warm = MiniBatchRegressor(warm_start=True, tol=None, max_iter=5, random_state=0)
    warm.fit(X, y).fit(X, 1000 * y)
    assert warm.loss_curve_[-1] < warm.loss_curve_[5]
    stream = MiniBatchRegressor(random_state=0).partial_fit(X, np.zeros(N_ROWS))
    stream.partial_fit(X, 2000 * y)
    assert np.isfinite(stream.coef_).all()


@pytest.mark.parametrize("lr", [1.01, 1.05, 1.15])
def test_an_adaptive_rate_is_divided_before_it_diverges(lr):
    """Whole-batch descent above its bound grows slowly; a fifth of the rate settles."""
    rows = np.ones((4, 1))
    model = MiniBatchRegressor(optimizer="sgd", lr=2 * lr, batch_size=None, alpha=0)
    model.set_params(fit_intercept=False, max_iter=1000, lr_schedule="adaptive")
    model.fit(rows, np.ones(4))
    assert model.coef_[0] == pytest.approx(1, abs=1e-2)
