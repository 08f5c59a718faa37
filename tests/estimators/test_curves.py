"""Loss curves, counts, stopping, and going on from where the last call ended."""

import re

import numpy as np
import pytest
from conftest import (
    N_FEATURES,
    X,
    Y,
    every_depth,
    every_engine,
    every_optimizer,
    every_task,
    fitted_state,
    layers_of,
    on_both_engines,
    small,
)
from covering import every_pair
from estimator_cases import (
    AS_THEY_ARE,
    loss_by_scikit_learn,
    three_classes,
    two_classes,
    y,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skgd import MiniBatchClassifier, MiniBatchRegressor

pytestmark = on_both_engines

# Curves, counts, stopping


def penalty_by_numpy(model):
    """Return the penalty on all weights of a fitted model, in the units of y."""
    w = np.concatenate([coef.ravel() for coef in layers_of(model)[0]])
    ridge, lasso = np.linalg.norm(w, 2) ** 2 / 2, np.linalg.norm(w, 1)
    return model.alpha * ((1 - model.l1_ratio) * ridge + model.l1_ratio * lasso)


@every_task
@every_depth
def test_the_curve_holds_the_objective_before_each_step(cls, y, hidden):
    """On the whole batch, epoch k + 1 reports loss and penalty of the fit of k."""
    params = {"hidden_layer_sizes": hidden, "alpha": 0.03, "l1_ratio": 0.25, "lr": 0.1}
    if hidden:  # whose weights are penalised as they are trained
        params |= AS_THEY_ARE.get(cls, {})
    model = small(cls, **params, batch_size=None, max_iter=6).fit(X, y)
    for n_epochs in range(1, 6):
        earlier = clone(model).set_params(max_iter=n_epochs).fit(X, y)
        expected = loss_by_scikit_learn(earlier, X, y) + penalty_by_numpy(earlier)
        assert model.loss_curve_[n_epochs] == pytest.approx(expected, rel=1e-10)


@every_task
@every_depth
def test_an_epoch_reports_the_mean_over_its_rows(cls, y, hidden):
    """The objective is the mean loss of the rows, plus the penalty at the start."""
    params = {"hidden_layer_sizes": hidden, "alpha": 0.3, "l1_ratio": 0.25}
    if hidden:
        params |= AS_THEY_ARE.get(cls, {})
    model = small(cls, **params, batch_size=25, record_batch_loss=True).fit(X, y)
    start = clone(model).set_params(max_iter=2).fit(X, y)
    means = np.average(model.batch_loss_curve_.reshape(3, 3), 1, weights=[25, 25, 10])
    expected = means[2] + penalty_by_numpy(start)
    assert model.loss_curve_[2] == pytest.approx(expected, rel=1e-12)


@every_task
def test_the_first_batch_loss_is_that_of_zero_weights(cls, y):
    """Before its first step a linear model predicts the mean, or all classes alike."""
    model = small(cls, batch_size=25, shuffle=False, record_batch_loss=True).fit(X, y)
    zero = clone(model).fit(X, y)
    zero.coef_, zero.intercept_ = 0 * zero.coef_, 0 * zero.intercept_
    if cls is MiniBatchRegressor:
        zero.intercept_ = zero.intercept_ + y.mean(0)
    expected = loss_by_scikit_learn(zero, X[:25], y[:25])
    assert model.batch_loss_curve_[0] == pytest.approx(expected, rel=1e-12)


@every_task
@every_depth
def test_a_whole_batch_is_the_objective_without_penalty(cls, y, hidden):
    """With alpha=0 and one batch an epoch both curves are the same numbers."""
    params = {"hidden_layer_sizes": hidden, "alpha": 0, "batch_size": None}
    model = small(cls, **params, record_batch_loss=True).fit(X, y)
    assert model.batch_loss_curve_.tolist() == model.loss_curve_
    assert model.t_ == model.n_iter_ == 3


def test_batch_losses_are_kept_only_if_asked_for():
    """There is one number for every step with record_batch_loss, else no curve."""
    asked = small(MiniBatchRegressor, record_batch_loss=True).fit(X, y)
    assert asked.batch_loss_curve_.shape == (asked.t_,) == (3 * 8,)
    assert not hasattr(small(MiniBatchRegressor).fit(X, y), "batch_loss_curve_")


@pytest.mark.parametrize("n_iter_no_change", [1, 4])
@pytest.mark.parametrize(
    "params", [{"lr": 1e-9, "tol": 1e-4}, {"lr": 1e-3, "tol": 1e3}], ids=["lr", "tol"]
)
def test_training_stops_when_nothing_improves(params, n_iter_no_change):
    """Where no epoch gains tol, the first and n_iter_no_change more are trained."""
    model = small(MiniBatchRegressor, optimizer="sgd", batch_size=None, **params)
    model.set_params(
        lr_schedule="constant", max_iter=50, n_iter_no_change=n_iter_no_change
    ).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == 1 + n_iter_no_change


@every_pair(
    every_optimizer,
    every_task,
    every_engine,
)
def test_training_stops_at_the_first_idle_epochs(cls, y, optimizer):
    """The last n_iter_no_change epochs, and no earlier ones, gained less than tol."""
    params = {**optimizer, "tol": 1e-3, "n_iter_no_change": 4, "max_iter": 1000}
    params["lr_schedule"] = "constant"
    if cls is MiniBatchRegressor:  # tol is in the units of training
        y = (y - y.mean(0)) / y.std(0)
    model = small(cls, **{**params, "lr": params["lr"] / 3}).fit(X, y)
    curve = np.array(model.loss_curve_)
    idle = curve[1:] > np.minimum.accumulate(curve)[:-1] - 1e-3
    runs = np.convolve(idle, np.ones(4, int), mode="valid")
    assert np.flatnonzero(runs == 4).tolist() == [len(runs) - 1]
    assert 5 < model.n_iter_ < 1000


def test_only_a_fit_that_waits_for_tol_warns():
    """Running out of epochs warns with tol, is what was asked for without."""
    message = r"max_iter=3 .* Raise max_iter"
    with pytest.warns(ConvergenceWarning, match=message) as record:
        small(MiniBatchRegressor, tol=1e-9).fit(X, y)
    assert len(record) == 1
    small(MiniBatchRegressor, tol=None).fit(X, y)
    small(MiniBatchRegressor, tol=1e-9).partial_fit(X, y)


@pytest.mark.parametrize("verbose", [True, 1, 2])
def test_verbose_prints_a_line_an_epoch(verbose, capsys):
    """Every epoch is a line: its number of how many, its objective, and seconds."""
    model = small(MiniBatchRegressor, verbose=verbose).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines):
        epoch, last, objective, _ = re.findall(r"\d+(?:\.\d+)?", line)
        assert (int(epoch), int(last)) == (number + 1, 3)
        assert float(objective) == pytest.approx(model.loss_curve_[number], rel=1e-5)


def test_the_lines_of_all_epochs_are_aligned(capsys):
    """Every column ends where that of the line above does, of whatever size."""
    model = small(MiniBatchRegressor, verbose=1, max_iter=12, lr=1.0, optimizer="sgd")
    model.set_params(early_stopping=True).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert (
        len({tuple(m.end() for m in re.finditer(",|s$", line)) for line in lines}) == 1
    )
    for line, loss, score in zip(
        lines, model.validation_loss_curve_, model.validation_scores_, strict=True
    ):
        assert f"validation loss {loss:#10.6g}, validation score {score:#10.6g}" in line


def test_silence_is_the_default(capsys):
    """Nothing is printed without verbose."""
    small(MiniBatchRegressor).fit(X, y).predict(X)
    small(MiniBatchRegressor, verbose=0).fit(X, y)
    assert capsys.readouterr() == ("", "")


# Going on from where the last call ended


@every_pair(
    pytest.mark.parametrize(("hidden", "dtype"), [((), "float32"), ((5,), "float64")]),
    every_task,
    every_optimizer,
    every_engine,
)
def test_stopping_in_between_changes_no_bit(cls, y, hidden, dtype, optimizer):
    """10 epochs in one fit, in two warm fits, or in ten partial_fits are the same."""
    params = {**optimizer, "lr": 0.01, "hidden_layer_sizes": hidden, "dtype": dtype}
    params.update(batch_size=25, last_batch="fill", record_batch_loss=True)
    whole = small(cls, **params, max_iter=10).fit(X, y)
    warm = small(cls, **params, max_iter=5, warm_start=True).fit(X, y).fit(X, y)
    assert fitted_state(warm) == fitted_state(whole)

    classes = {} if cls is MiniBatchRegressor else {"classes": np.unique(y)}
    stream = small(cls, **params)
    for _ in range(10):
        stream.partial_fit(X, y, **classes)
    assert fitted_state(stream) == fitted_state(whole)


def test_fit_starts_anew_without_warm_start():
    """A second fit is the first one again, whatever was learned before."""
    once = small(MiniBatchRegressor).fit(X, y)
    twice = small(MiniBatchRegressor).fit(X, Y).partial_fit(X, Y).fit(X, y)
    assert fitted_state(twice) == fitted_state(once)


def test_counts_and_curves_go_on():
    """Steps, epochs and curves of partial_fit and warm fits add up."""
    model = small(MiniBatchRegressor, warm_start=True, record_batch_loss=True)
    model.fit(X, y).partial_fit(X[:20], y[:20]).fit(X, y)
    assert (model.n_iter_, model.t_) == (3 + 1 + 3, 3 * 8 + 3 + 3 * 8)
    assert len(model.loss_curve_) == model.n_iter_
    assert model.batch_loss_curve_.shape == (model.t_,)


def test_partial_fit_heeds_neither_max_iter_nor_tol_nor_warm_start():
    """partial_fit is one pass over the rows whatever the three are."""
    plain = small(MiniBatchRegressor).partial_fit(X, y).partial_fit(X, y)
    for params in ({"max_iter": 9}, {"tol": 1e9}, {"warm_start": True}):
        other = small(MiniBatchRegressor, **params).partial_fit(X, y).partial_fit(X, y)
        assert fitted_state(other) == fitted_state(plain), params


def test_classes_of_the_first_call_hold_for_the_stream():
    """Classes are the sorted set that the first call named, whatever rows show."""
    model = small(MiniBatchClassifier).partial_fit(X[:9], [2] * 9, classes=[7, 2, 5, 2])
    assert model.classes_.tolist() == [2, 5, 7]
    model.partial_fit(X, three_classes * 0 + 5)
    model.partial_fit(X, three_classes * 0 + 7, classes=[2, 5, 7])
    model.partial_fit(X, three_classes * 0 + 7, classes=[5, 2, 7])
    assert model.classes_.tolist() == [2, 5, 7]
    assert model.coef_.shape == (3, N_FEATURES)


def test_a_stream_may_follow_a_fit():
    """partial_fit after fit needs no classes and takes fewer of them."""
    model = small(MiniBatchClassifier).fit(X, two_classes)
    model.partial_fit(X[:5], ["yes"] * 5)
    assert model.n_iter_ == 4


# Randomness


@every_depth
def test_a_seed_determines_every_bit(hidden):
    """The same seed gives the same fit; other seeds, and none, give others."""

    def fit(seed):
        model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, random_state=seed)
        return fitted_state(model.fit(X, y))

    assert fit(0) == fit(0) == fit(np.int64(0))
    assert fit(np.random.RandomState(0)) == fit(np.random.RandomState(0))
    assert fit(0) != fit(1)
    assert fit(None) != fit(None)


def test_a_random_state_object_moves_on_with_every_fit():
    """One RandomState for two fits gives two results, as in all of scikit-learn."""
    model = small(MiniBatchRegressor, random_state=np.random.RandomState(0))
    assert fitted_state(model.fit(X, y)) != fitted_state(model.fit(X, y))
