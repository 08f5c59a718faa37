"""Targets on a scale of their own: the same model in any units of y.

The oracle is the package itself on other units, and NumPy for the scale.
"""

import numpy as np
import pytest
from conftest import OPTIMIZERS, fitted_state, layers_of, small
from covering import every_pair
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import QuantileRegressor

from skgd import MiniBatchRegressor, VectorizedGridSearchCV
from skgd._estimators.targets import known_targets
from skgd._training.target_scale import scale_of

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 4))
y = X @ [1.0, -2.0, 0.5, 0.0] + RNG.normal(size=N) + 3
SEVERAL = np.column_stack([y, 100 * X[:, 0] + RNG.normal(size=N), 1e-3 * y**2])
WEIGHT = 1 + np.arange(N) % 3


def scale_of_targets(model):
    """Return the shift and the scale of the targets of a fitted regressor."""
    scale = known_targets(model).scale
    return scale.shift, scale.scale


# The power of c by which a loss grows with targets c times as large.
DEGREE = {
    "squared_error": 2,
    "huber": 2,
    "squared_epsilon_insensitive": 2,
    "absolute_error": 1,
    "epsilon_insensitive": 1,
    "quantile": 1,
    "poisson": 1,
    "gamma": 0,
    "tweedie": 0.5,
}
LOG_LINK = ("poisson", "gamma", "tweedie")
SIZES = {"linear": (), "network": (5,)}

pytestmark = [  # three epochs from random weights may well end far off
    pytest.mark.filterwarnings("ignore:Training ended with a loss"),
    pytest.mark.filterwarnings("ignore:alpha=.* leaves little of the weights"),
]


def in_units(model, c):
    """Return the model whose objective is the same for targets c times as large.

    The penalty of a linear model is in the units of y, and so is ``delta``.
    """
    degree, weight_power = DEGREE[model.loss], 0 if model.loss in LOG_LINK else 1
    other = clone(model).set_params(delta=model.delta * c)
    if not (model.hidden_layer_sizes or model.optimizer == "adamw"):  # which decays
        ridge = model.alpha * (1 - model.l1_ratio) * c ** (degree - 2 * weight_power)
        lasso = model.alpha * model.l1_ratio * c ** (degree - weight_power)
        alpha = ridge + lasso
        other.set_params(alpha=alpha, l1_ratio=lasso / alpha if alpha else 0.0)
    return other


def assert_same_in_units(model, other, c, shift):
    """Assert that predictions and curves are alike but for the units."""
    expected = model.predict(X)
    error = (other.predict(X) - moved(expected, model.loss, c, shift)) / c
    spread = SEVERAL.std(0) if expected.ndim == 2 else y.std()
    assert (np.abs(error) / spread).max() < 1e-8
    curve = np.array(other.loss_curve_) / float(c) ** DEGREE[model.loss]
    np.testing.assert_allclose(curve, model.loss_curve_, rtol=1e-7)
    assert other.n_iter_ == model.n_iter_


UNITS = [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e6), (1e6, 1e6)]


def targets_of(loss, several):
    targets = SEVERAL if several else y
    return np.abs(targets) + 0.1 if loss in LOG_LINK else targets


def model_of(loss, hidden, **params):
    """Return a model of a few epochs, in which rounding is no gradient."""
    params = {"delta": 0.5, "alpha": 0.01, "l1_ratio": 0.3, "epsilon": 1e-3, **params}
    return small(MiniBatchRegressor, loss=loss, hidden_layer_sizes=hidden, **params)


def moved(targets, loss, c, shift):
    """Return targets in other units, which a log link does not shift.

    The shift counts in the scale of each: below its last digit nothing is left of y.
    """
    if loss in LOG_LINK:
        return c * targets
    return c * targets + shift * (SEVERAL.std(0) if targets.ndim == 2 else 1.0)


@every_pair(
    pytest.mark.parametrize("hidden", SIZES.values(), ids=SIZES),
    pytest.mark.parametrize("several", [False, True], ids=["one", "several"]),
    pytest.mark.parametrize("loss", DEGREE),
)
def test_every_loss_is_the_same_in_other_units(loss, several, hidden):
    """y times 1e-6 or 1e6, and shifted by 1e6, gives the same model."""
    targets = targets_of(loss, several)
    model = model_of(loss, hidden, momentum=0.5, optimizer="sgd", lr=0.02)
    model.fit(X, targets, WEIGHT)
    for c, shift in UNITS:
        other = in_units(model, c).fit(X, moved(targets, loss, c, shift), WEIGHT)
        assert_same_in_units(model, other, c, shift)


@pytest.mark.parametrize("hidden", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_is_the_same_in_other_units(optimizer, hidden):
    """Also those whose steps know no scale."""
    params = {**optimizer, "lr": 0.01}
    if params["optimizer"] == "adamw":  # shrinks weights as it does on any scale
        params["l1_ratio"] = 0.0
    model = model_of("squared_error", hidden, **params).fit(X, SEVERAL)
    for c, shift in UNITS:
        other = in_units(model, c).fit(X, moved(SEVERAL, "squared_error", c, shift))
        assert_same_in_units(model, other, c, shift)


def as_stream(model, rows, targets):
    for some in np.array_split(np.arange(N), 4):
        model.partial_fit(rows[some], targets[some])
    return model


def as_warm_starts(model, rows, targets):
    model.set_params(warm_start=True, average=True)
    return model.fit(rows, targets).fit(rows, targets)


def with_tol(model, rows, targets):
    model.set_params(tol=1e-2, n_iter_no_change=2, max_iter=100, max_grad_norm=0.1)
    return model.fit(rows, targets)


def stopped_early(model, rows, targets):
    model.set_params(early_stopping=True, max_iter=20, n_iter_no_change=3)
    return model.fit(rows, targets)


WAYS = {
    "fit": lambda model, rows, targets: model.fit(rows, targets),
    "a stream": as_stream,
    "warm starts": as_warm_starts,
    "sparse rows": lambda model, rows, targets: model.fit(
        sparse.csr_array(rows), targets
    ),
    "tol": with_tol,
    "early stopping": stopped_early,
}


@pytest.mark.filterwarnings("ignore:No epoch did better")
@pytest.mark.parametrize("hidden", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_to_train_is_the_same_in_other_units(way, hidden):
    """Streams, warm starts, sparse rows, tolerances, early stopping."""
    model = way(model_of("huber", hidden), X, y)
    for c, shift in UNITS:
        other = way(in_units(clone(model), c), X, c * y + shift)
        assert_same_in_units(model, other, c, shift)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adagrad"])
def test_whole_batches_do_not_follow_rounding(optimizer):
    """With the default epsilon, an intercept that need not move does not."""
    params = {"optimizer": optimizer, "batch_size": None, "max_iter": 100}
    model = small(MiniBatchRegressor, **params).fit(X, y)
    for c, shift in UNITS:
        other = clone(model).fit(X, c * y + shift)
        assert_same_in_units(model, other, c, shift)


@pytest.mark.parametrize("hidden", SIZES.values(), ids=SIZES)
def test_a_search_is_the_same_in_other_units(hidden):
    """Each fold of a stack has a scale of its own, and scores are those of the fits."""
    model = model_of("squared_error", hidden, l1_ratio=0.0)
    scores = []
    for c, shift in [(1.0, 0.0), *UNITS]:
        search = VectorizedGridSearchCV(model, {"lr": [0.01, 0.1]}, cv=3, refit=False)
        search.fit(X, moved(SEVERAL, "squared_error", c, shift))
        assert all(group.together for group in search.groups_)
        scores.append(search.cv_results_["mean_test_score"])
    np.testing.assert_allclose(scores, [scores[0]] * 5, rtol=1e-7)


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("hidden", SIZES.values(), ids=SIZES)
def test_training_sees_standardised_targets(hidden, several):
    """A fit of targets standardised by hand is the same, weights and all."""
    targets = targets_of("squared_error", several)
    mean, std = targets.mean(0), targets.std(0)
    params = {"alpha": 0.01, "l1_ratio": 0.0}
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, **params)
    by_hand = clone(model).set_params(normalize_y=False).fit(X, (targets - mean) / std)
    model.fit(X, targets)

    np.testing.assert_allclose(
        model.predict(X), mean + std * by_hand.predict(X), rtol=1e-10
    )
    coefs, intercepts = layers_of(model)
    ours, theirs = layers_of(by_hand)
    np.testing.assert_allclose(coefs[-1], ours[-1] * std, rtol=1e-10)
    np.testing.assert_allclose(intercepts[-1], mean + std * theirs[-1], rtol=1e-10)


def test_the_scale_is_weighted_and_of_the_rows_trained_on():
    """Rows of weight 0, and those held out, have no part in it."""
    odd = np.append(y, 1e6)
    rows = np.vstack([X, X[:1]])
    model = small(MiniBatchRegressor)
    some = clone(model).fit(rows, odd, sample_weight=np.append(np.ones(N), 0))
    assert scale_of_targets(some)[1] == pytest.approx(y.std())
    weighted = clone(model).fit(X, y, sample_weight=WEIGHT)
    mean = np.average(y, weights=WEIGHT)
    assert scale_of_targets(weighted)[0] == pytest.approx(mean)
    assert scale_of_targets(weighted)[1] ** 2 == pytest.approx(
        np.average((y - mean) ** 2, weights=WEIGHT)
    )


def test_delta_is_in_the_units_of_y():
    """Errors up to delta count nothing, whatever the scale of the targets."""
    model = small(MiniBatchRegressor, loss="epsilon_insensitive", alpha=0)
    model.set_params(delta=1e7).fit(X, 1e6 * y)
    assert model.loss_curve_ == [0.0] * 3
    assert model.predict(X) == pytest.approx(np.full(N, 1e6 * y.mean()))


def test_the_optimum_is_the_documented_one_in_dollars():
    """QuantileRegressor's, at the same alpha, of targets of a large scale."""
    dollars, alpha = 1e5 * y, 0.05
    peer = QuantileRegressor(quantile=0.7, alpha=alpha).fit(X, dollars)
    model = small(MiniBatchRegressor, loss="quantile", quantile=0.7, alpha=alpha)
    model.set_params(l1_ratio=1, batch_size=None, max_iter=4000, lr_schedule="cosine")
    model.fit(X, dollars)
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=2e-3 * dollars.std())


def test_targets_that_are_all_alike_have_scale_one():
    """They are predicted, to the last bit where nothing is drawn."""
    for constant in (0.0, 0.1, -1e6):
        model = small(MiniBatchRegressor).fit(X, np.full(N, constant))
        assert scale_of_targets(model)[1] == 1.0
        assert np.array_equal(model.predict(X), np.full(N, constant))


def test_without_an_intercept_nothing_is_shifted():
    """The scale alone goes with the targets, and none with a log link."""
    model = small(MiniBatchRegressor, fit_intercept=False).fit(X, 1e4 * y)
    assert scale_of_targets(model)[0] == 0.0
    assert model.intercept_ == 0.0
    counts = small(MiniBatchRegressor, loss="poisson", fit_intercept=False)
    assert scale_of_targets(counts.fit(X, np.abs(y)))[1] == 1.0


def test_a_stream_takes_the_first_scale_that_it_meets():
    """Of targets all alike the mean is known, and their scale when others come."""
    model = small(MiniBatchRegressor, optimizer="sgd", lr=0.1)
    model.partial_fit(X, np.full(N, 7.0))
    assert model.predict(X) == pytest.approx(np.full(N, 7.0))
    model.partial_fit(X, 1000 * y)
    scale = scale_of_targets(model)[1].copy()
    assert scale == pytest.approx(1000 * y.std())
    model.partial_fit(X, 1e-3 * y)
    assert np.array_equal(scale_of_targets(model)[1], scale)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_a_stream_of_targets_all_alike_is_a_fit_to_the_bit(loss):
    """What the optimizer keeps is kept from call to call, scale or none."""
    model = small(MiniBatchRegressor, loss=loss, hidden_layer_sizes=(5,), max_iter=4)
    whole, stream = clone(model).fit(X, np.zeros(N)), clone(model)
    for _ in range(4):
        stream.partial_fit(X, np.zeros(N))
    assert whole.__dict__.pop("_targets_")["scale"]["scale"] == [1]
    assert stream.__dict__.pop("_targets_")["scale"]["scale"] == [1]
    assert fitted_state(stream) == fitted_state(whole)


@pytest.mark.parametrize("hidden", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("average", [False, True])
def test_a_scale_that_is_found_late_changes_no_prediction(hidden, average):
    """The weights are brought to it before they are trained on."""
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, average=average)
    model.partial_fit(X, np.full(N, 7.0))
    before = model.predict(X)
    model.set_params(optimizer="sgd", lr=1e-300, alpha=0, average=False)
    model.partial_fit(X, 1000 * y)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("hidden", SIZES.values(), ids=SIZES)
def test_weights_that_the_caller_has_set_are_gone_on_from(hidden):
    """As with any estimator of scikit-learn, coef_ is what the model is."""
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden)
    model.fit(X, 1000 * y)
    for name in ["coefs_", "intercepts_"] if hidden else ["coef_", "intercept_"]:
        value = getattr(model, name)
        setattr(model, name, [v / 2 for v in value] if hidden else value / 2)
    before = model.predict(X)
    model.set_params(optimizer="sgd", lr=1e-300, alpha=0).partial_fit(X, 1000 * y)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-9)


def test_another_loss_has_a_scale_of_its_own():
    """A model of squares goes on with counts, whose targets are not shifted."""
    counts = np.rint(np.abs(10 * y))
    model = small(MiniBatchRegressor, optimizer="sgd", lr=1e-3)
    model.partial_fit(X / 10, counts / 100)
    model.set_params(loss="poisson").partial_fit(X / 10, counts)
    assert scale_of_targets(model)[0] == 0.0
    assert scale_of_targets(model)[1] == pytest.approx(counts.mean())


def test_normalize_y_is_decided_by_the_first_call():
    """Switched on or off later, it has no effect: training goes on as it began."""
    for first in (True, False):
        model = small(MiniBatchRegressor, normalize_y=first).partial_fit(X, 100 * y)
        same = clone(model).partial_fit(X, 100 * y).partial_fit(X, 100 * y)
        model.set_params(normalize_y=not first).partial_fit(X, 100 * y)
        assert fitted_state(model) == fitted_state(same)


@pytest.mark.parametrize("c", [1e-300, 1e-160, 1e160, 1e300])
def test_extreme_targets_neither_overflow_nor_vanish(c):
    """Means and deviations of the largest numbers are numbers."""
    scale = scale_of(c * y[np.newaxis], None, log_link=False, fit_intercept=True)
    assert scale.shift == pytest.approx(c * y.mean(), rel=1e-12)
    assert scale.scale == pytest.approx(c * y.std(), rel=1e-12)
    model = small(MiniBatchRegressor, alpha=0).fit(X, c * y)
    plain = small(MiniBatchRegressor, alpha=0).fit(X, y)
    np.testing.assert_allclose(model.coef_ / c, plain.coef_, rtol=1e-9)
