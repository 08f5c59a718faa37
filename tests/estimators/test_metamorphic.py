"""Fits of related data: what the relation says of one is true of the other.

No oracle but the package itself: rows left out, repeated and reordered, columns moved,
scaled and added, targets shifted, scaled and renamed. Data, losses, optimizers and
batches are drawn by Hypothesis, the same ones in every run.
"""

import numpy as np
import pytest
from conftest import (
    OPTIMIZERS,
    assert_same_layers,
    fitted_state,
    on_both_engines,
    small,
)
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from skgd import MiniBatchClassifier, MiniBatchRegressor

RESIDUAL = [  # losses of the difference of prediction and target alone
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
    "absolute_error",
    "quantile",
]
MARGIN = ["hinge", "squared_hinge", "modified_huber", "perceptron"]
KINDS = ["numbers", "amounts", "two classes", "three classes", "several labels"]
N_FEATURES, HIDDEN = 3, 5

# Three epochs leave many a network where it was drawn.
pytestmark = [
    on_both_engines,
    pytest.mark.filterwarnings("ignore:Training ended with a loss"),
]

depths = st.sampled_from([(), (HIDDEN,)])
batch_sizes = st.sampled_from([None, 1, 4])
powers_of_two = st.sampled_from([2.0**-20, 0.25, 2.0, 2.0**9])
factors = st.floats(0.1, 10)


@st.composite
def tasks(draw, *kinds):
    """Draw rows, targets of a kind, and an estimator with a loss for them."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n = draw(st.integers(6, 12))
    X = rng.normal(size=(n, N_FEATURES))
    kind = draw(st.sampled_from(kinds or KINDS))
    losses = ["log_loss", *MARGIN]
    match kind:
        case "numbers":
            y, losses = X[:, 0] + rng.normal(size=n), RESIDUAL
        case "amounts":
            y, losses = rng.gamma(2, size=n), ["poisson", "gamma", "tweedie"]
        case "two classes":
            y = np.arange(n) % 2
        case "three classes":
            y = np.arange(n) % 3
        case "several labels":
            y = np.arange(2 * n).reshape(n, 2) // 3 % 2
    cls = MiniBatchRegressor if kind in KINDS[:2] else MiniBatchClassifier
    params = draw(st.sampled_from(list(OPTIMIZERS.values())))
    params = {**params, "lr": 0.01, "epsilon": 0.1}  # rounding is no gradient
    model = small(cls, **params, loss=draw(st.sampled_from(losses)))
    alpha, l1_ratio = draw(st.sampled_from([(0, 0), (0.1, 0), (0.1, 0.5)]))
    return X, y, model.set_params(alpha=alpha, l1_ratio=l1_ratio)


def as_they_are(model):
    """Return the model, to be trained on the targets without a scale of their own."""
    if isinstance(model, MiniBatchRegressor):
        model.set_params(normalize_y=False)
    return model


def starts(model, X, y, hidden):
    """Return weights for a network to start at; a linear model starts at zero."""
    if not hidden:
        return {}
    model = clone(model).set_params(hidden_layer_sizes=hidden, batch_size=None)
    model.fit(X, y)
    rng = np.random.default_rng(0)
    return {"coefs_init": [rng.normal(size=coef.shape) / 2 for coef in model.coefs_]}


def assert_close(one, other):
    """Assert that weights are alike but for the order in which sums are taken."""
    assert_same_layers(one, other, rtol=1e-9, atol=1e-10)


# Rows


@given(depths, tasks(), st.data())
def test_whole_weights_count_rows(hidden, task, data):
    """On the whole batch weight 0 leaves a row out, and weight k repeats it k times."""
    X, y, model = task
    some = data.draw(st.lists(st.integers(0, 3), min_size=len(X), max_size=len(X)))
    weight = np.maximum(some, np.arange(len(X)) < 4)  # every class has rows
    model.set_params(batch_size=None, hidden_layer_sizes=hidden)
    repeated = np.repeat(np.arange(len(X)), weight)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    again = clone(model).fit(X[repeated], y[repeated])
    assert_close(weighted, again)
    np.testing.assert_allclose(weighted.loss_curve_, again.loss_curve_, rtol=1e-9)


@given(depths, tasks(), batch_sizes, powers_of_two, factors)
def test_only_the_proportions_of_weights_matter(hidden, task, batch_size, power, c):
    """All weights times a power of 2 change no bit, times any number next to none."""
    X, y, model = task
    weight = 1 + np.arange(len(X)) % 3
    model.set_params(batch_size=batch_size, hidden_layer_sizes=hidden)
    plain = clone(model).fit(X, y, sample_weight=weight)
    scaled = clone(model).fit(X, y, sample_weight=power * weight)
    assert fitted_state(scaled) == fitted_state(plain)
    scaled = clone(model).fit(X, y, sample_weight=c * weight)
    assert_same_layers(scaled, plain, rtol=1e-12, atol=1e-12)


@given(depths, tasks(), st.data())
def test_the_order_of_the_rows_is_nothing_to_a_whole_batch(hidden, task, data):
    """Rows, targets and weights that change places together change nothing."""
    X, y, model = task
    order, weight = data.draw(st.permutations(range(len(X)))), 1 + np.arange(len(X)) % 3
    model.set_params(batch_size=None, hidden_layer_sizes=hidden)
    plain = clone(model).fit(X, y, sample_weight=weight)
    assert_close(clone(model).fit(X[order], y[order], weight[order]), plain)


@given(depths, tasks(), st.sampled_from([1, 2, 3]), st.integers(2, 3))
def test_rows_that_come_again_are_an_epoch_more(hidden, task, batch_size, times):
    """An epoch of all rows k times over is k epochs of them, bit by bit."""
    X, y, model = task
    model.set_params(batch_size=batch_size, shuffle=False, hidden_layer_sizes=hidden)
    as_they_are(model).set_params(average=2)
    epochs = clone(model).set_params(max_iter=times).fit(X[:6], y[:6])
    again = np.tile(np.arange(6), times)
    once = clone(model).set_params(max_iter=1).fit(X[again], y[again])
    assert once.t_ == epochs.t_
    assert_same_layers(once, epochs, rtol=0)


@given(tasks(), st.data())
def test_a_weight_scales_the_step_of_a_batch_of_one(task, data):
    """With "sgd", weights are learning rates that change from row to row."""
    X, y, model = task
    n = len(X)
    weight = np.array(data.draw(st.lists(factors, min_size=n, max_size=n)))
    relative = weight / weight.mean()
    as_they_are(model).set_params(optimizer="sgd", momentum=0, alpha=0)
    model.set_params(batch_size=1, shuffle=False)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    model.set_params(lr_schedule=lambda t: relative[(t - 1) % n])
    assert_same_layers(weighted, model.fit(X, y), rtol=1e-9, atol=1e-12)


# Columns


@given(depths, tasks(), batch_sizes, st.permutations(range(N_FEATURES)))
def test_columns_may_change_places(hidden, task, batch_size, order):
    """The weights change places with them, if those of the start did."""
    X, y, model = task
    start = starts(model, X, y, hidden)
    model.set_params(batch_size=batch_size, hidden_layer_sizes=hidden)
    plain = clone(model).fit(X, y, **start)
    if hidden:
        start["coefs_init"][0] = start["coefs_init"][0][order]
        plain.coefs_[0] = plain.coefs_[0][order]
    else:
        plain.coef_ = plain.coef_[..., order]
    assert_close(clone(model).fit(X[:, order], y, **start), plain)


@given(tasks(), batch_sizes, st.permutations(range(HIDDEN)))
def test_hidden_units_may_change_places(task, batch_size, order):
    """Units that start at each other's weights end at each other's weights."""
    X, y, model = task
    first, last = starts(model, X, y, (HIDDEN,))["coefs_init"]
    model.set_params(batch_size=batch_size, hidden_layer_sizes=(HIDDEN,))
    plain = clone(model).fit(X, y, coefs_init=[first, last])
    moved = clone(model).fit(X, y, coefs_init=[first[:, order], last[order]])
    plain.coefs_ = [plain.coefs_[0][:, order], plain.coefs_[1][order]]
    plain.intercepts_[0] = plain.intercepts_[0][order]
    assert_close(moved, plain)


@given(tasks(), batch_sizes, powers_of_two)
def test_features_in_other_units_have_weights_in_theirs(task, batch_size, c):
    """X times c, lr over c^2 and alpha times c^2 give weights over c, bit by bit."""
    X, y, model = task
    model.set_params(optimizer="sgd", batch_size=batch_size, fit_intercept=False)
    model.set_params(momentum=0.5, l1_ratio=0)
    plain = clone(model).fit(X, y)
    model.set_params(lr=model.lr / c**2, alpha=model.alpha * c**2)
    assert np.array_equal(c * model.fit(c * X, y).coef_, plain.coef_)


@pytest.mark.parametrize("c", [0.5, 3.0])
@pytest.mark.parametrize("column", range(N_FEATURES))
def test_a_scaled_column_has_a_scaled_weight_at_the_minimum(column, c):
    """Without a penalty, the weight of c times a feature is that of it over c."""
    X = np.random.default_rng(0).normal(size=(40, N_FEATURES))
    y = X.sum(axis=1) + np.sin(7 * X[:, 0])
    model = small(MiniBatchRegressor, **OPTIMIZERS["nesterov"], alpha=0)
    model.set_params(batch_size=None, max_iter=1000)
    plain = clone(model).fit(X, y)
    factor = np.where(np.arange(N_FEATURES) == column, c, 1)
    scaled = model.fit(X * factor, y)
    np.testing.assert_allclose(scaled.coef_ * factor, plain.coef_, rtol=1e-10)
    np.testing.assert_allclose(scaled.intercept_, plain.intercept_, rtol=1e-10)


@given(tasks(), batch_sizes)
def test_a_column_of_ones_is_an_intercept(task, batch_size):
    """Without a penalty, its weight takes the steps that the intercept takes."""
    X, y, model = task
    as_they_are(model).set_params(batch_size=batch_size, alpha=0, max_grad_norm=0.5)
    plain = clone(model).fit(X, y)
    rows = np.column_stack([X, np.ones(len(X))])
    other = model.set_params(fit_intercept=False).fit(rows, y)
    *weights, ones = np.atleast_2d(other.coef_).T
    other.coef_, other.intercept_ = np.array(weights).T, ones
    assert_close(other, plain)


@given(depths, tasks(), batch_sizes)
def test_a_column_of_zeros_is_none(hidden, task, batch_size):
    """The other weights are as without it, whatever its own were at the start."""
    X, y, model = task
    start = starts(model, X, y, hidden)
    model.set_params(batch_size=batch_size, hidden_layer_sizes=hidden)
    model.set_params(shuffle=False)  # more weights to draw change the order of the rows
    plain = clone(model).fit(X, y, **start)
    if hidden:
        first, last = start["coefs_init"]
        start["coefs_init"] = [np.vstack([first, np.ones(HIDDEN)]), last]
    other = clone(model).fit(np.column_stack([X, np.zeros(len(X))]), y, **start)
    if hidden:
        other.coefs_[0] = other.coefs_[0][:-1]
    else:
        assert not other.coef_[..., -1].any()
        other.coef_ = other.coef_[..., :-1]
    assert_close(other, plain)


# Targets


@given(depths, tasks("numbers"), batch_sizes, st.integers(-1000, 1000))
def test_a_shift_of_the_targets_goes_into_the_intercept(hidden, task, batch_size, c):
    """Targets that are c more give an intercept that is c more."""
    X, y, model = task
    model.set_params(batch_size=batch_size, hidden_layer_sizes=hidden)
    plain = clone(model).fit(X, y)
    if hidden:
        plain.intercepts_[-1] = plain.intercepts_[-1] + c
    else:
        plain.intercept_ = plain.intercept_ + c
    shifted = clone(model).fit(X, y + c)
    assert_same_layers(shifted, plain, rtol=1e-9, atol=1e-9)


@given(tasks("amounts"), batch_sizes, factors)
def test_amounts_in_other_units_go_into_the_intercept(task, batch_size, c):
    """The gamma loss knows ratios only: c times the amounts add log c."""
    X, y, model = task
    model.set_params(batch_size=batch_size, loss="gamma")
    plain = clone(model).fit(X, y)
    plain.intercept_ = plain.intercept_ + np.log(c)
    assert_close(model.fit(X, c * y), plain)


@given(tasks("numbers"), batch_sizes, powers_of_two)
def test_targets_in_other_units_have_weights_in_theirs(task, batch_size, c):
    """Of squared errors, c times the targets give c times the weights, bit by bit."""
    X, y, model = task
    model.set_params(batch_size=batch_size, loss="squared_error", l1_ratio=0)
    plain = clone(model).fit(X, y)
    scaled = model.fit(X, c * y)
    assert np.array_equal(scaled.coef_, c * plain.coef_)
    assert np.array_equal(scaled.intercept_, c * plain.intercept_)


@given(tasks("numbers"), batch_sizes, st.floats(0.1, 0.9))
def test_targets_of_the_other_sign_turn_the_weights(task, batch_size, quantile):
    """The quantile of a share is then that of the rest."""
    X, y, model = task
    model.set_params(batch_size=batch_size, quantile=quantile)
    plain = clone(model).fit(X, y)
    plain.coef_, plain.intercept_ = -plain.coef_, -plain.intercept_
    assert_close(model.set_params(quantile=1 - quantile).fit(X, -y), plain)


@given(depths, tasks("two classes", "three classes"), batch_sizes)
def test_names_of_classes_change_no_bit(hidden, task, batch_size):
    """What the labels are called is nothing to a fit, as long as their order stays."""
    X, y, model = task
    names = np.array(["a", "bb", "c"])
    model.set_params(batch_size=batch_size, hidden_layer_sizes=hidden)
    plain, named = clone(model).fit(X, y), clone(model).fit(X, names[y])
    assert_same_layers(named, plain, rtol=0)
    assert np.array_equal(named.predict(X), names[plain.predict(X)])


@given(tasks("two classes"), batch_sizes)
def test_two_classes_that_change_places_turn_the_weights(task, batch_size):
    """The score of the first class is minus that of the second."""
    X, y, model = task
    model.set_params(batch_size=batch_size)
    plain = clone(model).fit(X, y)
    plain.coef_, plain.intercept_ = -plain.coef_, -plain.intercept_
    assert_close(model.fit(X, 1 - y), plain)


@given(tasks("three classes"), batch_sizes, st.permutations(range(3)))
def test_three_classes_that_change_places_take_their_weights(task, batch_size, order):
    """The weights of a class go where its label goes."""
    X, y, model = task
    model.set_params(batch_size=batch_size)
    plain, moved = clone(model).fit(X, y), clone(model).fit(X, np.array(order)[y])
    moved.coef_, moved.intercept_ = moved.coef_[order], moved.intercept_[order]
    assert_close(moved, plain)


# Outputs


def assert_fits_of_each(together, singles):
    """Assert that a linear fit has the weights of fits of each of its outputs."""
    for n, single in enumerate(singles):
        coef, intercept = together.coef_[n], together.intercept_[n]
        np.testing.assert_allclose(coef, single.coef_.ravel(), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(intercept, single.intercept_[0], rtol=1e-9)


@given(tasks("numbers", "amounts"), batch_sizes)
def test_several_targets_are_fits_of_each(task, batch_size):
    """A linear fit of two targets has the weights of two fits, for every loss."""
    X, y, model = task
    model.set_params(batch_size=batch_size)
    pair = np.column_stack([y, 1 + y[::-1] ** 2])
    singles = [clone(model).fit(X, target) for target in pair.T]
    assert_fits_of_each(model.fit(X, pair), singles)


@given(tasks("several labels"), batch_sizes)
def test_several_labels_are_fits_of_each(task, batch_size):
    """A linear fit of two labels has the weights of two fits, for every loss."""
    X, y, model = task
    model.set_params(batch_size=batch_size)
    singles = [clone(model).fit(X, labels) for labels in y.T]
    assert_fits_of_each(model.fit(X, y), singles)


@given(tasks("three classes"), batch_sizes, st.sampled_from(MARGIN))
def test_margins_of_three_classes_are_each_against_the_rest(task, batch_size, loss):
    """A linear fit of three classes has the weights of three fits of two."""
    X, y, model = task
    model.set_params(batch_size=batch_size, loss=loss)
    singles = [clone(model).fit(X, y == label) for label in range(3)]
    assert_fits_of_each(model.fit(X, y), singles)
