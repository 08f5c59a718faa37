"""Held-out rows: which they are, what they tell, and when they end a fit."""

import re
import warnings
from contextlib import suppress
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    TASKS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    every_class,
    every_depth,
    every_engine,
    every_optimizer,
    every_task,
    fitted_state,
    layers_of,
    on_both_engines,
    small,
    state_but_for_seen,
)
from covering import every_pair
from scipy.sparse import csr_array
from sklearn import config_context, metrics
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV
from skgd._estimators.inputs import unlikeness

pytestmark = on_both_engines

y = Y[:, 0]
two_classes, three_classes = TASKS["two classes"][1], TASKS["three classes"][1]
TRAIN, HELD_OUT = slice(0, 40), slice(40, None)
BY_LOSS = {"early_stopping": True, "scoring": "loss"}


def held_out(y, **others):
    """Return keywords of fit: the rows that no model here is trained on."""
    return {"X_val": X[HELD_OUT], "y_val": y[HELD_OUT], **others}


def loss_of(model, rows, y, weight=None):
    """Return the mean loss by scikit-learn's metrics."""
    if isinstance(model, MiniBatchClassifier):
        probability = model.predict_proba(rows)
        return metrics.log_loss(
            y, probability, labels=model.classes_, sample_weight=weight
        )
    errors = metrics.mean_squared_error(
        y, model.predict(rows), sample_weight=weight, multioutput="raw_values"
    )
    return errors.sum() / 2


# Which rows are held out


@every_pair(
    pytest.mark.parametrize("last_batch", ["keep", "fill"]),
    pytest.mark.parametrize("batch_size", [None, 8, 1]),
    every_optimizer,
    every_engine,
)
def test_held_out_rows_are_never_trained_on(optimizer, batch_size, last_batch):
    """Where every row has a feature of its own, those of held-out rows stay at zero."""
    params = {**optimizer, "lr": 0.01, "alpha": 0, "fit_intercept": False}
    params.update(batch_size=batch_size, last_batch=last_batch, **BY_LOSS)
    model = small(MiniBatchRegressor, **params, validation_fraction=0.25)
    model.fit(np.eye(41), np.ones(41))
    assert (model.coef_ == 0).sum() == 11
    assert (model.coef_ > 0).sum() == 30


def test_held_out_rows_have_the_shares_of_the_classes():
    """Of every class the same fraction is held out, at random."""
    labels = np.repeat(["a", "b", "c"], [40, 24, 8])
    params = {"alpha": 0, "fit_intercept": False, "validation_fraction": 0.25}
    model = small(MiniBatchClassifier, **params, **BY_LOSS)
    zero = [
        (model.set_params(random_state=seed).fit(np.eye(72), labels).coef_ == 0).all(0)
        for seed in (0, 1)
    ]
    for held in zero:
        classes, counts = np.unique(labels[held], return_counts=True)
        assert dict(zip(classes, counts, strict=True)) == {"a": 10, "b": 6, "c": 2}
    assert not np.array_equal(*zero)


def test_rows_that_are_given_leave_all_of_X_to_train_on():
    """With X_val nothing of X is held out, and nothing of X_val is trained on."""
    rows = np.eye(50)
    params = {"alpha": 0, "fit_intercept": False, **BY_LOSS}
    model = small(MiniBatchRegressor, **params)
    model.fit(rows[:40], np.ones(40), X_val=rows[40:], y_val=np.ones(10))
    assert np.array_equal(model.coef_ != 0, np.arange(50) < 40)


def test_a_warm_start_holds_out_the_same_rows():
    """What one fit has trained on does not judge the next one."""
    params = {"alpha": 0, "fit_intercept": False, "warm_start": True, **BY_LOSS}
    model = small(MiniBatchRegressor, **params).fit(np.eye(41), np.ones(41))
    before = model.coef_ == 0
    for _ in range(3):
        model.fit(np.eye(41), np.ones(41))
    assert before.sum() == 5
    assert np.array_equal(model.coef_ == 0, before)


def test_the_scorer_gets_the_rows_that_are_held_out():
    """Rows, targets and weights of a split belong together and are 10% of all."""
    seen = []

    def scorer(model, rows, targets, sample_weight):
        seen.append((rows, targets, sample_weight))
        return 0.0

    model = small(MiniBatchRegressor, early_stopping=True, scoring=scorer)
    model.fit(X, y, sample_weight=WEIGHT)
    rows, targets, weight = seen[0]
    places = [np.flatnonzero((row == X).all(1)).item() for row in rows]
    assert len(set(places)) == 6
    assert np.array_equal(targets, y[places])
    assert np.array_equal(weight, WEIGHT[places])


# What they tell


def share_of_the_first(model, rows, y, sample_weight=None):
    """Return the weight of the rows that are predicted like the first one, or below."""
    prediction = model.predict(rows)
    like = prediction.reshape(len(y), -1)[:, 0] <= prediction.ravel()[0]
    return -np.average(like, weights=sample_weight)


SCORINGS = {
    "its own": (None, None),
    "a regression score": ("neg_mean_absolute_error", None),
    "a score of labels": (None, "f1_macro"),
    "a score of probabilities": (None, "neg_log_loss"),
    "a callable": (share_of_the_first, share_of_the_first),
}


@every_pair(
    pytest.mark.parametrize("scoring", SCORINGS.values(), ids=SCORINGS),
    pytest.mark.parametrize(
        ("hidden", "weight"),
        [((), WEIGHT[HELD_OUT]), ((5,), None)],
        ids=["linear, weighted", "network, alike"],
    ),
    every_task,
    every_engine,
)
def test_scores_are_those_of_fits_that_stop_at_the_epoch(
    cls, y, hidden, weight, scoring
):
    """A fit of k epochs has score and loss number k, and the best of them is left."""
    scoring = scoring[cls is MiniBatchClassifier]
    model = small(cls, hidden_layer_sizes=hidden, max_iter=6, lr=0.3)
    model.set_params(early_stopping=True, scoring=scoring)
    model.fit(X[TRAIN], y[TRAIN], **held_out(y, sample_weight_val=weight))
    scorer = metrics.check_scoring(model, scoring)
    weights = {} if weight is None else {"sample_weight": weight}
    fits = []
    for n_epochs in range(1, 7):
        fits.append(clone(model).set_params(max_iter=n_epochs, early_stopping=False))
        fits[-1].fit(X[TRAIN], y[TRAIN])
        score = scorer(fits[-1], X[HELD_OUT], y[HELD_OUT], **weights)
        loss = loss_of(fits[-1], X[HELD_OUT], y[HELD_OUT], weight)
        assert model.validation_scores_[n_epochs - 1] == pytest.approx(score, rel=1e-12)
        assert model.validation_loss_curve_[n_epochs - 1] == pytest.approx(loss, 1e-12)
    losses = model.validation_loss_curve_
    best = max(range(6), key=lambda n: (model.validation_scores_[n], -losses[n]))
    best = fits[best]
    assert_same_layers(model, best, rtol=0)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert scorer(model, X[HELD_OUT], y[HELD_OUT], **weights) == pytest.approx(
        model.best_validation_score_, rel=1e-12
    )
    assert model.loss_curve_ == fits[-1].loss_curve_
    assert (model.n_iter_, model.t_) == (6, 6 * 5)


def test_a_name_that_is_no_scorer_is_refused():
    """The error names the parameter."""
    with pytest.raises(ValueError, match="scoring"):
        small(MiniBatchRegressor, early_stopping=True, scoring="none").fit(X, y)


@every_depth
@every_task
def test_the_loss_of_held_out_rows_may_be_the_judge(cls, y, hidden):
    """With scoring="loss" the weights of the lowest validation loss are left."""
    model = small(cls, hidden_layer_sizes=hidden, lr=0.3, max_iter=20, **BY_LOSS)
    model.fit(X[TRAIN], y[TRAIN], **held_out(y))
    curve = model.validation_loss_curve_
    assert len(curve) == 20
    assert loss_of(model, X[HELD_OUT], y[HELD_OUT]) == pytest.approx(min(curve), 1e-12)
    assert not hasattr(model, "validation_scores_")
    assert not hasattr(model, "best_validation_score_")


@every_depth
@every_task
def test_rows_that_only_look_on_change_nothing(cls, y, hidden):
    """Without early_stopping X_val adds a curve, and all else has the same bits."""
    model = small(cls, hidden_layer_sizes=hidden)
    plain = clone(model).fit(X[TRAIN], y[TRAIN])
    watched = clone(model).fit(X[TRAIN], y[TRAIN], **held_out(y))
    loss = loss_of(watched, X[HELD_OUT], y[HELD_OUT])
    assert watched.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-12)
    assert len(vars(watched).pop("validation_loss_curve_")) == 3
    assert fitted_state(watched) == fitted_state(plain)


@pytest.mark.parametrize("labels", [two_classes, three_classes], ids=["two", "three"])
def test_held_out_rows_count_by_class_and_weight(labels):
    """Their loss weighs each row by its own weight times that of its class."""
    names = np.unique(labels)
    of_class = dict(zip(names, [1, 5, 2], strict=False))
    model = small(MiniBatchClassifier, class_weight=of_class, **BY_LOSS)
    model.fit(
        X[TRAIN],
        labels[TRAIN],
        WEIGHT[TRAIN],
        **held_out(labels, sample_weight_val=WEIGHT[HELD_OUT]),
    )
    weight = WEIGHT[HELD_OUT] * [of_class[label] for label in labels[HELD_OUT]]
    loss = loss_of(model, X[HELD_OUT], labels[HELD_OUT], weight)
    assert min(model.validation_loss_curve_) == pytest.approx(loss, rel=1e-12)


def test_classes_are_balanced_by_the_rows_trained_on():
    """Held-out rows count what their classes count in training, or are of few."""
    of_class = compute_class_weight(
        "balanced",
        classes=np.unique(three_classes),
        y=three_classes[TRAIN],
        sample_weight=WEIGHT[TRAIN],
    )
    some = np.flatnonzero(three_classes != three_classes[0])
    fits = [
        small(MiniBatchClassifier, class_weight=class_weight).fit(
            X[TRAIN],
            three_classes[TRAIN],
            WEIGHT[TRAIN],
            X_val=X[some],
            y_val=three_classes[some],
        )
        for class_weight in (
            "balanced",
            dict(zip(np.unique(three_classes), of_class, strict=True)),
        )
    ]
    assert state_but_for_seen(fits[0]) == state_but_for_seen(fits[1])


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}, BY_LOSS])
def test_several_labels_a_row_stop_early_too(params):
    """The score is the share of rows with all labels right, as scikit-learn's."""
    labels = (Y > [3, -1]).astype(int)
    model = small(MiniBatchClassifier, early_stopping=True, max_iter=5, lr=0.3)
    model.set_params(**params).fit(X[TRAIN], labels[TRAIN], **held_out(labels))
    right = (model.predict(X[HELD_OUT]) == labels[HELD_OUT]).all(1).mean()
    if params is BY_LOSS:
        losses = [
            metrics.log_loss(
                labels[HELD_OUT, n], model.predict_proba(X[HELD_OUT])[:, n]
            )
            for n in range(2)
        ]
        assert min(model.validation_loss_curve_) == pytest.approx(sum(losses))
    else:
        assert model.best_validation_score_ == pytest.approx(right)


# When they end the fit


@pytest.mark.parametrize("n_iter_no_change", [1, 3])
@every_task
def test_it_stops_when_held_out_rows_do_no_better(cls, y, n_iter_no_change):
    """The last n_iter_no_change epochs, and no earlier ones, gained less than tol."""
    model = small(cls, max_iter=500, lr=0.1, tol=1e-3, **BY_LOSS)
    model.set_params(n_iter_no_change=n_iter_no_change, lr_schedule="constant")
    if cls is MiniBatchRegressor:  # tol is in the units of training
        y = (y - y[TRAIN].mean(0)) / y[TRAIN].std(0)
    model.fit(X[TRAIN], y[TRAIN], **held_out(y))
    curve = np.array(model.validation_loss_curve_)
    idle = curve[1:] > np.minimum.accumulate(curve)[:-1] - 1e-3
    runs = np.convolve(idle, np.ones(n_iter_no_change, int), mode="valid")
    assert np.flatnonzero(runs == n_iter_no_change).tolist() == [len(runs) - 1]
    assert len(curve) == model.n_iter_ < 500


def test_without_tol_all_epochs_are_trained():
    """tol=None goes on, without a warning, and still returns to the best weights."""
    noise = np.random.default_rng(0).normal(size=60) + X[:, 0] / 2
    model = small(MiniBatchRegressor, max_iter=50, lr=0.1, n_iter_no_change=1)
    model.set_params(**BY_LOSS).fit(X[TRAIN], noise[TRAIN], **held_out(noise))
    best = int(np.argmin(model.validation_loss_curve_))
    assert (model.n_iter_, len(model.validation_loss_curve_)) == (50, 50)
    assert best < 40
    other = clone(model).set_params(max_iter=best + 1, early_stopping=False)
    assert_same_layers(model, other.fit(X[TRAIN], noise[TRAIN]), rtol=0)


def test_running_out_of_epochs_warns_as_ever():
    """A fit that the held-out rows would have let go on says so."""
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        small(MiniBatchRegressor, tol=1e-9, early_stopping=True).fit(X, y)


def leaps(t):
    """Return a rate that is right for five steps, and far too large from then on."""
    return 1.0 if t <= 5 else 1e30


@pytest.mark.parametrize(
    ("cls", "hidden"),
    [(MiniBatchRegressor, ()), (MiniBatchRegressor, (5,)), (MiniBatchClassifier, (5,))],
)
def test_divergence_warns_and_returns_to_the_best_weights(cls, hidden):
    """What grows beyond all bounds is told; what is left is finite, and did best."""
    labels = (two_classes == "yes").astype(int)
    params = {"optimizer": "sgd", "alpha": 0, "batch_size": None, "max_iter": 300}
    model = small(cls, hidden_layer_sizes=hidden, lr=0.1, lr_schedule=leaps)
    model.set_params(**params, **BY_LOSS)
    with pytest.warns(ConvergenceWarning, match=r"diverged.*did best on the held-out"):
        model.fit(X[TRAIN], labels[TRAIN], **held_out(labels))
    for arrays in layers_of(model):
        assert all(np.isfinite(array).all() for array in arrays)
    loss = loss_of(model, X[HELD_OUT], labels[HELD_OUT])
    assert loss == pytest.approx(np.nanmin(model.validation_loss_curve_))
    assert model.best_iter_ == 1 + np.nanargmin(model.validation_loss_curve_) <= 5


@pytest.mark.parametrize("lr", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1, 30])
@every_depth
def test_weights_worse_than_the_start_are_never_kept(hidden, scale, lr):
    """Training that only led away from it is an error, or leaves the start, told."""
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, optimizer="sgd")
    model.set_params(lr=lr, early_stopping=True, max_iter=20)
    with warnings.catch_warnings(record=True) as told, suppress(ValueError):
        warnings.simplefilter("always")
        model.fit(scale * X, y)
    if hasattr(model, "coefs_" if hidden else "coef_"):
        assert model.best_validation_score_ >= -0.5  # the start is near the mean
        assert (model.best_iter_ > 0) or "began with, which are kept" in str(told[-1])
    else:
        with pytest.raises(ValueError, match="Training diverged"):
            model.fit(scale * X, y)


def test_a_start_that_does_best_is_kept_in_a_warm_fit_as_well():
    """What was trained before may be the best, and its epoch is still told."""
    model = small(MiniBatchRegressor, max_iter=30, **BY_LOSS, warm_start=True)
    model.fit(X, y)
    best, coef = model.best_iter_, model.coef_
    model.set_params(optimizer="sgd", lr=0.9).fit(X, y)
    assert (model.best_iter_, model.n_iter_) == (best, 60)
    np.testing.assert_array_equal(model.coef_, coef)


def test_divergence_before_any_number_is_an_error():
    """Where no epoch had weights to return to, fit raises and changes nothing."""
    model = small(MiniBatchRegressor, optimizer="sgd", **BY_LOSS).fit(X, y)
    before = fitted_state(model)
    model.set_params(lr=1e300)
    with pytest.raises(ValueError, match="diverged in epoch 1"):
        model.fit(X, y)
    assert fitted_state(model) == before


def test_warm_starts_go_on_and_judge_anew():
    """Curves and counts add up; the best score is that of the weights that are left."""
    model = small(MiniBatchRegressor, lr=0.3, early_stopping=True, warm_start=True)
    model.fit(X[TRAIN], y[TRAIN], **held_out(y))
    first = model.best_validation_score_
    other = TASKS["two targets"][1][:, 1]
    model.fit(X[TRAIN], y[TRAIN], X_val=X[HELD_OUT], y_val=other[HELD_OUT])
    assert (model.n_iter_, model.t_, len(model.validation_scores_)) == (6, 30, 6)
    assert max(model.validation_scores_[3:]) <= model.best_validation_score_ < first
    score = model.score(X[HELD_OUT], other[HELD_OUT])
    assert score == pytest.approx(model.best_validation_score_, rel=1e-12)


def test_a_warm_start_keeps_what_did_better_before():
    """Weights that a fit begins with are judged too: it never ends with worse ones."""
    model = small(MiniBatchRegressor, lr=0.3, early_stopping=True, warm_start=True)
    model.set_params(max_iter=30).fit(X[TRAIN], y[TRAIN], **held_out(y))
    before, coef = model.score(X[HELD_OUT], y[HELD_OUT]), model.coef_
    model.set_params(lr=0.9, max_iter=2, scoring="loss")
    model.fit(X[TRAIN], -y[TRAIN], **held_out(y))
    assert model.score(X[HELD_OUT], y[HELD_OUT]) == before
    np.testing.assert_array_equal(model.coef_, coef)


def test_of_equal_scores_the_lower_loss_is_the_best():
    """A score of a few held-out rows is often the same; their loss tells more."""
    model = small(MiniBatchClassifier, lr=0.01, early_stopping=True, max_iter=8)
    model.set_params(scoring=lambda estimator, X, y: 0.5)
    model.fit(X[TRAIN], y[TRAIN] > 3, X_val=X[HELD_OUT], y_val=y[HELD_OUT] > 3)
    best = int(np.argmin(model.validation_loss_curve_))
    assert best > 0
    alone = small(MiniBatchClassifier, lr=0.01, max_iter=best + 1)
    alone.fit(X[TRAIN], y[TRAIN] > 3)
    np.testing.assert_array_equal(model.coef_, alone.coef_)


def test_a_stream_goes_on_from_the_best_epoch():
    """What the optimizer keeps, and its count of steps, are of that epoch too."""
    params = {"average": True, "optimizer": "adam", "lr": 0.5}
    model = small(MiniBatchRegressor, early_stopping=True, max_iter=12, **params)
    model.fit(X[TRAIN], y[TRAIN], **held_out(y))
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < 12
    alone = small(MiniBatchRegressor, max_iter=best, **params).fit(X[TRAIN], y[TRAIN])
    model.set_params(early_stopping=False, batch_size=None)
    alone.set_params(batch_size=None)
    for stream in (model, alone):
        stream.partial_fit(X[HELD_OUT], y[HELD_OUT])
    np.testing.assert_allclose(model.coef_, alone.coef_, rtol=1e-12)


def test_the_average_is_what_is_judged():
    """With average, scores are of the mean of the weights, as are predictions."""
    model = small(MiniBatchRegressor, lr=0.3, early_stopping=True, average=True)
    model.fit(X[TRAIN], y[TRAIN], **held_out(y))
    score = model.score(X[HELD_OUT], y[HELD_OUT])
    assert score == pytest.approx(model.best_validation_score_, rel=1e-12)


# What is refused, or goes without a word


def test_named_columns_are_scored_without_a_warning():
    """Scorers get rows without names, from an estimator that expects none."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = small(MiniBatchRegressor, early_stopping=True).fit(frame, y)
    plain = small(MiniBatchRegressor, early_stopping=True).fit(X, y)
    assert named.validation_scores_ == plain.validation_scores_
    assert named.feature_names_in_.tolist() == list("abcd")


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_scores_must_be_numbers(bad):
    """A scorer that never gives one is told, and nothing is changed."""
    model = small(MiniBatchRegressor, early_stopping=True)
    model.set_params(scoring=lambda model, rows, y: bad)
    with pytest.raises(ValueError, match=f"scoring must give.*Got {bad}"):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_a_score_that_is_no_number_once_is_never_the_best():
    """An epoch without a score is passed over."""
    scores = iter([0.1, 0.5, np.nan, 0.7, np.nan])  # the first one before training
    model = small(MiniBatchRegressor, early_stopping=True, max_iter=4)
    model.set_params(scoring=lambda model, rows, y: next(scores)).fit(X, y)
    assert model.best_validation_score_ == 0.7


def error_of(model, rows, y):
    return -np.abs(model.predict(rows) - y).max()


class WithoutSignature:
    """A scorer of which no one can tell what it takes."""

    __signature__ = "none"

    def __call__(self, model, rows, y):
        return error_of(model, rows, y)


TAKE_NONE = {
    "a function": error_of,
    "a lambda": lambda model, rows, y: error_of(model, rows, y),
    "a partial function": partial(lambda bias, *given: error_of(*given) + bias, 1),
    "an object": WithoutSignature(),
    "by position only": lambda m, rows, y, sample_weight=None, /: error_of(m, rows, y),
    "a metric of scikit-learn": "neg_max_error",
    "a metric of one's own": metrics.make_scorer(lambda y, z: -abs(y - z).max()),
}


@pytest.mark.parametrize("scoring", TAKE_NONE.values(), ids=TAKE_NONE)
def test_what_takes_no_weights_counts_held_out_rows_alike(scoring):
    """It scores weighted fits all the same, from rows of X and from given ones."""
    model = small(MiniBatchRegressor, early_stopping=True, scoring=scoring)
    given = {"X_val": X[:9], "y_val": y[:9], "sample_weight_val": WEIGHT[:9]}
    model.fit(X, y, sample_weight=WEIGHT, **given)
    expected = metrics.check_scoring(model, scoring)(model, X[:9], y[:9])
    assert model.best_validation_score_ == pytest.approx(expected, rel=1e-12)
    model.fit(X, y, sample_weight=WEIGHT)
    assert len(model.validation_scores_) == 3


def test_what_takes_weights_gets_them():
    """By name or as whatever there is; a metric of scikit-learn's by its own rule."""
    seen = []

    def named(model, rows, y, *, sample_weight=None):
        seen.append(sample_weight)
        return 0.0

    def whatever(model, rows, y, **params):
        seen.append(params["sample_weight"])
        return 0.0

    def metric(y, z, sample_weight=None):
        seen.append(sample_weight)
        return 0.0

    given = {"X_val": X[:9], "y_val": y[:9], "sample_weight_val": WEIGHT[:9]}
    for scoring in (named, whatever, metrics.make_scorer(metric)):
        small(MiniBatchRegressor, early_stopping=True, scoring=scoring).fit(
            X, y, **given
        )
    assert len(seen) >= 9
    assert all(np.array_equal(weight, WEIGHT[:9]) for weight in seen)


@pytest.mark.parametrize("search", [GridSearchCV, VectorizedGridSearchCV])
def test_candidates_are_scored_without_weights_alike(search):
    """Trained alone or together, whether or not the scorer takes weights."""
    model = small(MiniBatchRegressor, early_stopping=True, scoring=error_of)
    searching = search(model, {"lr": [0.1, 0.01]}, cv=2, scoring="r2")
    searching.fit(X, y, sample_weight=WEIGHT)
    assert np.isfinite(searching.cv_results_["mean_test_score"]).all()
    assert all(group.together for group in getattr(searching, "groups_", []))


@pytest.mark.parametrize(("targets", "others"), [(y, Y), (Y, y)])
def test_held_out_targets_are_as_many_as_those_trained_on(targets, others):
    """One target is not held against two, nor two against one."""
    with pytest.raises(ValueError, match=re.escape("In X_val, y_val")):
        small(MiniBatchRegressor).fit(X, targets, X_val=X, y_val=others)


@every_class
def test_a_stream_does_not_stop_early(cls):
    """partial_fit says that it cannot hold out rows."""
    classes = {} if cls is MiniBatchRegressor else {"classes": [False, True]}
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        small(cls, early_stopping=True).partial_fit(X, two_classes == "yes", **classes)


# Held-out rows that are unlike those trained on

LOADERS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
    "exercises": load_linnerud,
}
UNLIKE = r"X_val must be like X\. Got .* far from there"


def as_sparse(rows):
    return csr_array(rows)


def as_tensor(rows):
    return torch.from_numpy(rows)


@pytest.mark.parametrize("kind", [np.asarray, as_tensor, as_sparse])
def test_rows_that_only_the_training_rows_scaler_has_seen_are_told(kind):
    """scikit-learn's error leads to stepname__X_val, which no step transforms."""
    rows, labels = load_breast_cancer(return_X_y=True)
    model = small(MiniBatchClassifier, early_stopping=True)
    scaled = kind(StandardScaler().fit_transform(rows[:400]))
    with pytest.warns(UserWarning, match=UNLIKE) as record:
        model.fit(scaled, labels[:400], X_val=kind(rows[400:]), y_val=labels[400:])
    assert record[0].filename == __file__
    pipeline = make_pipeline(StandardScaler(), model)
    held_out = {"X_val": rows[400:], "y_val": labels[400:]}
    held_out = {f"minibatchclassifier__{name}": some for name, some in held_out.items()}
    with pytest.warns(UserWarning, match=r'transform_input=\["X_val"\]'):
        pipeline.fit(rows[:400], labels[:400], **held_out)


def test_rows_that_a_pipeline_transforms_are_not_told():
    """The way that the warning names has none."""
    rows, labels = load_breast_cancer(return_X_y=True)
    with config_context(enable_metadata_routing=True):
        model = small(MiniBatchClassifier, early_stopping=True)
        model.set_fit_request(X_val=True, y_val=True)
        steps = [("scale", StandardScaler()), ("model", model)]
        pipeline = Pipeline(steps, transform_input=["X_val"])
        held_out = {"X_val": rows[400:], "y_val": labels[400:]}
        pipeline.fit(rows[:400], labels[:400], **held_out)


@pytest.mark.parametrize("n_held_out", [1, 10, 40])
@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_unscaled_rows_are_told_from_scaled_ones(load, n_held_out):
    """Of ten rows or more; splits at random and sorted ones are never told."""
    rows = load(return_X_y=True)[0]
    n_held_out = min(n_held_out, len(rows) // 2)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(rows))
        held_out, train = rows[order[:n_held_out]], rows[order[n_held_out:]]
        assert not unlikeness(train, held_out)
        assert not unlikeness(csr_array(train), csr_array(held_out))
        scaled = MinMaxScaler((-1, 1)).fit_transform(train)
        if load is not load_diabetes:  # whose columns are about as small
            assert bool(unlikeness(scaled, held_out)) is (n_held_out >= 10)
    assert not unlikeness(rows[:-n_held_out], rows[-n_held_out:])


def odd_rows():
    """Return rows of which held-out ones are honest and look odd, by what they are."""
    rng = np.random.default_rng(0)
    text = rng.poisson(rng.pareto(1, 2000) / 200, (300, 2000)).astype(float)
    tfidf = TfidfTransformer().fit_transform(text)
    drift = rng.normal(size=(300, 6)) + np.linspace(0, 3, 300)[:, np.newaxis]
    return {
        "outliers": rng.standard_cauchy((300, 3)),
        "a log-normal column": rng.lognormal(size=(300, 1)),
        "sparse text": tfidf,
        "dense text": text,
        "one-hot": np.eye(20)[rng.integers(0, 20, 300)],
        "rare ones": (rng.random((300, 30)) < 0.01).astype(float),
        "constant columns": np.hstack([np.ones((300, 5)), rng.normal(size=(300, 1))]),
        "only constant columns": np.ones((300, 2)),
        "drift": drift,
        "a column of time": np.hstack([np.arange(300)[:, np.newaxis], drift[:, :2]]),
        "huge numbers": np.where(rng.random((300, 2)) < 0.5, 1e308, -1e308),
    }


@pytest.mark.parametrize(("name", "rows"), odd_rows().items(), ids=odd_rows())
def test_honest_rows_are_not_told(name, rows):
    """Neither at random nor in order, nor very few."""
    for n_held_out in (1, 2, 10, 30, 100):
        assert not unlikeness(rows[:-n_held_out], rows[-n_held_out:])
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(300)
            held_out, train = rows[order[:n_held_out]], rows[order[n_held_out:]]
            assert not unlikeness(train, held_out)


def test_a_warning_that_is_an_error_changes_nothing():
    """The estimator is as it was."""
    model = small(MiniBatchRegressor).fit(X, y)
    before = fitted_state(model)
    with pytest.raises(UserWarning, match=UNLIKE):
        model.fit(X, y, X_val=100 * X + 50, y_val=y)
    assert fitted_state(model) == before
