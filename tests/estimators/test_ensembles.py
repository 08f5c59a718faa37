"""Ensembles: each model is a fit of a seed of its own; their mean is predicted."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from bad_cases import assert_refused
from conftest import WEIGHT, X, Y, fitted_state, frozen, small
from scipy import sparse
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgd import (
    Blocks,
    LossCurveDisplay,
    LossSurfaceDisplay,
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    WeightTrajectory,
)
from skgd._estimators import base
from skgd._training import in_turn
from skgd._training.csr import NARROW

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

y = Y[:, 0]
three, labels = np.digitize(y, [2, 4]), (Y.mean(0) < Y).astype(int)
wide = sparse.random(len(X), NARROW + 9, density=0.002, random_state=0, format="csr")


def ensemble(cls, **params):
    return small(cls, **{"n_models": 3, "hidden_layer_sizes": (5,), **params})


def fits_of(model, *args, **kwargs):
    """Return what a fit by the parameters of each model of an ensemble comes to."""
    return [clone(one).fit(*args, **kwargs) for one in model.estimators_]


def assert_members_are(model, singles):
    """Assert that the models of an ensemble are such fits: to the bit, by loops.

    Means of losses are summed in another order.
    """
    assert len(model.estimators_) == len(singles)
    for one, single in zip(model.estimators_, singles, strict=True):
        if model.engine_ == "numba":
            assert bits_of(one) == bits_of(single)
        predicted = [
            getattr(model, "decision_function", model.predict)(X)
            for model in (one, single)
        ]
        np.testing.assert_allclose(*predicted, rtol=1e-10, atol=1e-12)
        for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
            curves = [getattr(model, name, ()) for model in (one, single)]
            np.testing.assert_allclose(*curves, rtol=1e-10)


def bits_of(model):
    """Return what goes on: the weights, the optimizer's state, the stream."""
    kept = fitted_state(model)
    kept["_state_"].pop("stream")  # of losses
    return {name: value for name, value in kept.items() if "loss" not in name[:-1]}


# Each model is a fit of its own

FITS = {
    "network": ({}, X, y),
    "linear, several targets": ({"hidden_layer_sizes": ()}, X, Y * [1, 100]),
    "on torch": ({"engine": "torch", "average": True}, X, Y),
    "stops early": ({"early_stopping": True, "max_iter": 30, "tol": 1e-3}, X, y),
    "whole batches": ({"batch_size": None, "dtype": "float32"}, X, y),
    "quantiles": ({"loss": "quantile", "quantile": [0.9, 0.1, 0.5]}, X, y),
    "counts": ({"loss": "poisson", "last_batch": "fill"}, X, np.exp(y / 4)),
    "wide": ({"hidden_layer_sizes": (), "optimizer": "sgd"}, wide, y),
}


@pytest.mark.parametrize(("params", "rows", "targets"), FITS.values(), ids=FITS)
def test_each_model_is_a_fit_of_its_own_seed(params, rows, targets):
    """Their mean is scikit-learn's VotingRegressor of these fits; it tells how far."""
    model = ensemble(MiniBatchRegressor, **params).fit(rows, targets, WEIGHT)
    singles = fits_of(model, rows, targets, WEIGHT)
    predicted, std = model.predict(rows, return_std=True)
    of_each = np.array([one.predict(rows) for one in singles])

    assert len({one.random_state for one in singles}) == 3
    if rows is X:
        assert_members_are(model, singles)
    rtol = 1e-5 if params.get("dtype") else 1e-9
    np.testing.assert_allclose(predicted, of_each.mean(0), rtol=rtol)
    np.testing.assert_allclose(std, of_each.std(0), rtol=10 * rtol, atol=rtol)
    assert std.max() > 1e-3
    if predicted.ndim == 1:
        voting = VotingRegressor([(str(n), one) for n, one in enumerate(singles)])
        voting.estimators_ = singles
        np.testing.assert_allclose(predicted, voting.predict(rows), rtol=rtol)


def test_the_first_model_is_the_fit_of_one():
    """An ensemble of fewer models is the first part of one of more."""
    for random_state in (0, np.random.RandomState(5)):
        given = [clone(small(MiniBatchRegressor, random_state=random_state))] * 3
        one, two, three_of = [
            clone(model).set_params(n_models=n, hidden_layer_sizes=(5,)).fit(X, y)
            for n, model in enumerate(given, start=1)
        ]
        if random_state == 0:
            assert bits_of(two.estimators_[0]) == bits_of(one)
            seeds = [model.random_state for model in two.estimators_]
            assert seeds == [m.random_state for m in three_of.estimators_[:2]]
    for asked in (one, clone(one).fit(X, y).set_params(n_models=2)):
        with pytest.raises(ValueError, match=r"std.* n_models must be above 1 in fit"):
            asked.predict(X, return_std=True)
    assert not hasattr(one, "estimators_")
    new = [ensemble(MiniBatchRegressor, random_state=None).fit(X, y) for _ in "ab"]
    assert not np.array_equal(*[model.predict(X) for model in new])


CLASSES = {
    "two": ({}, three > 0),
    "three": ({"early_stopping": True}, three),
    "three by the margin": ({"loss": "modified_huber"}, three),
    "two by the margin": ({"loss": "modified_huber"}, three > 0),
    "labels": ({}, labels),
    "torch": ({"engine": "torch"}, np.array(["a", "b", "c"])[three]),
}


@pytest.mark.parametrize(("params", "targets"), CLASSES.values(), ids=CLASSES)
def test_probabilities_are_means_and_all_else_follows(params, targets):
    """As of soft voting; and scores and labels are those of the probabilities."""
    model = ensemble(MiniBatchClassifier, lr=0.1, **params).fit(X, targets)
    singles = fits_of(model, X, targets)
    p = model.predict_proba(X)
    assert_members_are(model, singles)
    expected = np.mean([one.predict_proba(X) for one in singles], axis=0)
    np.testing.assert_allclose(p, expected, rtol=1e-9, atol=1e-12)
    with np.errstate(divide="ignore"):
        log_p = np.log(expected)
    np.testing.assert_allclose(model.predict_log_proba(X), log_p, rtol=1e-7, atol=1e-12)
    scores = model.decision_function(X)
    if targets.ndim == 2:
        assert np.array_equal(model.predict(X), p > 0.5)
        np.testing.assert_allclose(scores, np.log(p / (1 - p)), rtol=1e-7, atol=1e-12)
        return
    assert np.array_equal(model.predict(X), model.classes_[p.argmax(1)])
    if scores.ndim == 1:
        assert np.array_equal(scores > 0, p[:, 1] > 0.5)
    else:
        assert np.array_equal(scores.argmax(1), p.argmax(1))
    if "loss" not in params:
        voting = VotingClassifier(
            [(str(n), one) for n, one in enumerate(singles)], voting="soft"
        )
        voting.fit(X, targets).estimators_ = singles
        assert np.array_equal(model.predict(X), voting.predict(X))


def test_scores_without_probabilities_are_means():
    model = ensemble(MiniBatchClassifier, loss="hinge").fit(X, three)
    scores = [one.decision_function(X) for one in fits_of(model, X, three)]
    np.testing.assert_allclose(model.decision_function(X), np.mean(scores, axis=0))
    best = np.argmax(np.mean(scores, axis=0), axis=1)
    assert np.array_equal(model.predict(X), model.classes_[best])


def test_what_is_told_of_all_is_the_mean_or_the_longest():
    """A model that has stopped counts with its last number."""
    model = ensemble(
        MiniBatchRegressor, early_stopping=True, max_iter=40, tol=1e-2, scoring="loss"
    ).fit(X, y)
    epochs = [one.n_iter_ for one in model.estimators_]
    assert min(epochs) < model.n_iter_ == max(epochs) == len(model.loss_curve_)
    assert model.t_ == max(one.t_ for one in model.estimators_)
    for name in ("loss_curve_", "validation_loss_curve_"):
        curves = [getattr(one, name) for one in model.estimators_]
        at_the_end = np.mean([curve[-1] for curve in curves])
        assert getattr(model, name)[-1] == pytest.approx(at_the_end)
        assert getattr(model, name)[0] == pytest.approx(np.mean([c[0] for c in curves]))
    assert LossCurveDisplay.from_estimator(model) is not None
    assert not hasattr(model, "coefs_")


# Calls that go on


@pytest.mark.parametrize(
    "params",
    [{"scoring": "r2"}, {"engine": "torch", "average": True}],
    ids=["numba", "torch"],
)
def test_a_stream_trains_each_in_its_own_order(params):
    """Models of a stream are those of streams of their own, also after a file."""
    model = ensemble(MiniBatchRegressor, **params)
    parts = np.array_split(np.arange(len(X)), 3)
    for part in parts:
        model.partial_fit(X[part], y[part])
    singles = [clone(one) for one in model.estimators_]
    for part in parts:
        for one in singles:
            one.partial_fit(X[part], y[part])
    assert_members_are(model, singles)
    if "scoring" in params:
        running = np.mean([one.running_score_ for one in singles])
        assert model.running_score_ == pytest.approx(running)
    assert model.partial_fit(X, y, np.zeros(len(X))).t_ == singles[0].t_


def test_classes_are_added_to_all_models():
    known = three < 2
    model = ensemble(MiniBatchClassifier, loss="log_loss")
    model.partial_fit(X[known], three[known], [0, 1])
    singles = [
        clone(one).partial_fit(X[known], three[known], [0, 1])
        for one in model.estimators_
    ]
    for one in (model, *singles):
        one.partial_fit(X[:0:-1], three[:0:-1], [0, 1, 2], np.zeros(len(X) - 1))
        one.partial_fit(X, three)
    assert_members_are(model, singles)
    np.testing.assert_allclose(
        model.predict_proba(X), np.mean([s.predict_proba(X) for s in singles], 0)
    )


def test_a_warm_start_goes_on_with_each():
    """Also where one has stopped before the others."""
    given = {"warm_start": True, "tol": 0.1, "max_iter": 20, "n_iter_no_change": 1}
    given |= {"early_stopping": True, "lr_schedule": "constant", "lr": 0.05}
    model = ensemble(MiniBatchRegressor, n_models=6, **given).fit(X, y)
    singles = fits_of(model, X, y)
    assert len({one.t_ for one in singles}) > 1
    assert_members_are(model.fit(X, y), [one.fit(X, y) for one in singles])


def test_given_rows_and_weights_are_those_of_all_models():
    given = {"X_val": X[40:], "y_val": y[40:], "coef_init": np.ones(4)}
    model = small(MiniBatchRegressor, n_models=2, early_stopping=True)
    model.fit(X[:40], y[:40], **given)
    assert_members_are(model, fits_of(model, X[:40], y[:40], **given))


def test_blocks_are_read_for_each():
    blocks = Blocks.from_iterables([lambda: (X[:30], y[:30]), lambda: (X[30:], y[30:])])
    model = ensemble(MiniBatchRegressor, n_models=2).fit(blocks)
    assert_members_are(model, fits_of(model, blocks))


def test_callbacks_see_each_as_a_fit():
    """Its own path is recorded of each, also below a pipeline that others watch."""
    recorder = WeightTrajectory()
    model = ensemble(MiniBatchRegressor).set_callbacks(recorder)
    model.fit(X, y)
    assert frozen([one.weights[-1] for one in recorder.trajectories_]) == frozen(
        [
            np.concatenate([np.ravel(array) for array in (*m.coefs_, *m.intercepts_)])
            for m in model.estimators_
        ]
    )
    assert_members_are(model, fits_of(ensemble(MiniBatchRegressor).fit(X, y), X, y))
    pipeline = make_pipeline(StandardScaler(), ensemble(MiniBatchRegressor))
    pipeline.set_callbacks(ProgressBar()).fit(X, y)
    assert len(pipeline[-1].estimators_) == 3


# Files


def test_a_file_holds_all_models(tmp_path):
    """What is read goes on to the bit, as a pickle does."""
    model = ensemble(MiniBatchClassifier, lr_schedule=abs).fit(X, three)
    model.save(tmp_path / "model.skgd")
    read = MiniBatchClassifier.load(tmp_path / "model.skgd", lr_schedule=abs)
    pickled = pickle.loads(pickle.dumps(model))
    for one in (model, read, pickled):
        one.partial_fit(X, three)
    for one in (read, pickled):
        for of_one, of_other in zip(one.estimators_, model.estimators_, strict=True):
            assert fitted_state(of_one) == fitted_state(of_other)
    assert np.array_equal(read.predict_proba(X), model.predict_proba(X))


def without_a_model(members):
    del members[1:]


def of_other_units(members):
    members[0] = (
        ensemble(MiniBatchRegressor, hidden_layer_sizes=(4,)).fit(X, y)._members_[0]
    )


DAMAGES = {
    "one": without_a_model,
    "none": list.clear,
    "no seed": lambda members: members[0].pop("random_state"),
    "no state": lambda members: members[0].pop("_state_"),
    "no weights": lambda members: members[0].pop("coefs_"),
    "a method": lambda members: members[0].update(predict=1),
    "a parameter": lambda members: members[0].update(alpha=1),
    "its own columns": lambda members: members[0].update(n_features_in_=4),
    "other units": of_other_units,
    "models of models": lambda members: members[0].update(_members_=list(members)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_models_that_make_no_ensemble_are_not_written(damage, tmp_path):
    """What ``save`` refuses ``load`` would, for both ask the same."""
    model = ensemble(MiniBatchRegressor).fit(X, y)
    damage(model._members_)
    with pytest.raises(ValueError, match="is missing, or is not as training leaves it"):
        model.save(tmp_path / "model.skgd")


# What is refused, and what is told


def test_another_number_of_models_is_refused():
    model = ensemble(MiniBatchRegressor, warm_start=True).fit(X, y)
    for n in (1, 4):
        model.set_params(n_models=n)
        for call in (model.fit, model.partial_fit):
            assert_refused(call, X, y, match="n_models=3. Got")
    single = small(MiniBatchRegressor).fit(X, y).set_params(n_models=2)
    assert_refused(single.partial_fit, X, y, match="n_models=1. Got 2")
    assert single.fit(X, y).n_models == len(single.estimators_) == 2


def test_one_that_diverges_is_an_error_of_all():
    model = ensemble(MiniBatchRegressor, optimizer="sgd", lr=1e6)
    assert_refused(model.fit, X, y, match="In one of n_models=3: Training diverged")


def test_an_ending_is_warned_of_once():
    model = ensemble(MiniBatchRegressor, tol=0.0, max_iter=4)
    with pytest.warns(ConvergenceWarning, match="Of 3 of 3 models, such as") as told:
        model.fit(X, y)
    assert len(told) == 1


def test_weights_are_those_of_the_models():
    model = ensemble(MiniBatchRegressor).fit(X, y)
    assert len(model.estimators_[0].coefs_) == 2
    with pytest.raises(AttributeError, match="coefs_"):
        _ = model.coefs_
    with pytest.raises(ValueError, match="Got an ensemble of 3"):
        LossSurfaceDisplay.from_estimator(model, X, y)
    with pytest.raises(AttributeError, match="is no fitted ensemble"):
        _ = clone(model).estimators_


def test_a_collection_of_dask_has_no_std():
    """It is refused before anything is computed; the mean is predicted lazily."""
    da = pytest.importorskip("dask.array")
    model, rows = ensemble(MiniBatchRegressor).fit(X, y), da.from_array(X, (30, 4))
    np.testing.assert_allclose(model.predict(rows).compute(), model.predict(X))
    with pytest.raises(ValueError, match="return_std must be False for a Dask"):
        model.predict(rows, return_std=True)


# Threads and the clock


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_all_end_with_the_same_step(engine):
    model = ensemble(MiniBatchRegressor, engine=engine, max_iter=10**6, max_time=0.05)
    model.fit(X, y)
    assert len({one.t_ for one in model.estimators_}) == 1
    assert model.n_iter_ < 10**6


def test_models_are_trained_on_threads_to_the_same_bit(monkeypatch):
    monkeypatch.setattr(in_turn, "_WORTH_THREADS_S", 0.0)
    monkeypatch.setattr(base, "torch", SimpleNamespace(get_num_threads=lambda: 3))
    pools = []

    class Pool(in_turn.ThreadPoolExecutor):
        def __init__(self, n):
            pools.append(n)
            super().__init__(n)

    monkeypatch.setattr(in_turn, "ThreadPoolExecutor", Pool)
    model = ensemble(MiniBatchRegressor, n_models=4, engine="numba").fit(X, y)
    singles = fits_of(model, X, y)
    assert set(pools) == {3}
    assert_members_are(model, singles)


# Tools


def test_a_search_fits_ensembles_one_at_a_time():
    """It finds what GridSearchCV does, and says why."""
    grid = {"n_models": [1, 3], "alpha": [1e-4, 10.0]}
    base = ensemble(MiniBatchRegressor, n_models=1)
    search = VectorizedGridSearchCV(base, grid, cv=2).fit(X, y)
    expected = GridSearchCV(base, grid, cv=2).fit(X, y)
    for name in ("mean_test_score", "split1_test_score"):
        np.testing.assert_allclose(
            search.cv_results_[name], expected.cv_results_[name], rtol=1e-8
        )
    reasons = {group.params["n_models"]: group.reason for group in search.groups_}
    assert reasons[1] == ""
    assert "ensemble" in reasons[3]
    np.testing.assert_allclose(search.predict(X), expected.predict(X), rtol=1e-8)


@parametrize_with_checks([MiniBatchRegressor(n_models=2, max_iter=40)])
@pytest.mark.filterwarnings(
    "ignore:batch_size=32 is larger than:UserWarning",
)
def test_scikit_learn_accepts_ensembles(estimator, check):
    check(estimator)
