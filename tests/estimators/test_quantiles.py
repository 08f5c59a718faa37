"""Several quantiles at once: outputs that share one target, sorted in prediction."""

import re
from statistics import NormalDist

import numpy as np
import pytest
import torch
from bad_cases import assert_refused
from conftest import WEIGHT, X, Y, settled, small
from scipy import sparse
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import d2_pinball_score, mean_pinball_loss
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

from skgd import Blocks, MiniBatchRegressor, VectorizedGridSearchCV
from skgd._estimators.examples import checked_examples
from skgd._estimators.folds import Fold, data_of
from skgd._machine.generators import new_generator

QUANTILES = [0.95, 0.05, 0.5]  # in no order
y = Y[:, 0]
rng = np.random.default_rng(0)
WIDE = sparse.random(len(y), 5000, 0.01, "csr", rng=rng)


def of(quantile, **params):
    """Return a regressor of one quantile, or several."""
    return small(MiniBatchRegressor, loss="quantile", quantile=quantile, **params)


def fitted(model, rows, how):
    """Return the model, trained in one way of many."""
    if how == "blocks":
        parts = [lambda s=s: (rows[s], y[s], WEIGHT[s]) for s in np.split(RANGE, [25])]
        return model.fit(Blocks.from_iterables(parts, chunk_rows=24))
    if how == "stream":
        for some in np.array_split(RANGE, 3):
            model.partial_fit(rows[some], y[some], WEIGHT[some])
        return model
    return model.fit(rows, y, WEIGHT)


RANGE = np.arange(len(y))
WAYS = {
    "loops": (X, "fit", {}),
    "torch": (X, "fit", {"engine": "torch"}),
    "whole batches": (X, "fit", {"engine": "torch", "batch_size": None}),
    "as they are": (X, "fit", {"normalize_y": False, "l1_ratio": 0.5, "alpha": 0.1}),
    "wide": (WIDE, "fit", {"optimizer": "sgd", "lr": 0.1}),
    "wide, torch": (WIDE, "fit", {"optimizer": "sgd", "engine": "torch"}),
    "blocks": (X, "blocks", {"shuffle": False}),
    "blocks, torch": (X, "blocks", {"shuffle": False, "engine": "torch"}),
    "stream": (X, "stream", {"average": True}),
}


@pytest.mark.parametrize(("rows", "how", "params"), WAYS.values(), ids=WAYS)
def test_several_quantiles_are_fits_of_each(rows, how, params):
    """The weights of a linear model are those of single fits, the loss is their sum."""
    together = fitted(of(QUANTILES, **params), rows, how)
    singles = [fitted(of(q, **params), rows, how) for q in QUANTILES]
    for n, single in enumerate(singles):
        np.testing.assert_allclose(together.coef_[n], single.coef_, rtol=1e-9)
        np.testing.assert_allclose(together.intercept_[[n]], single.intercept_, 1e-9)
    curves = np.sum([single.loss_curve_ for single in singles], axis=0)
    np.testing.assert_allclose(together.loss_curve_, curves, rtol=1e-9)


def test_the_minimum_is_that_of_linear_programming():
    """Each row of ``coef_`` is where QuantileRegressor's exact solver ends."""
    falling = {"optimizer": "sgd", "momentum": 0.9, "lr_schedule": "cosine"}
    quantiles = [0.8, 0.2, 0.5]
    model = settled(MiniBatchRegressor, loss="quantile", quantile=quantiles, **falling)
    model.set_params(lr=0.03, alpha=0.05, l1_ratio=1.0, max_iter=1000).fit(X, y)
    for n, quantile in enumerate(quantiles):
        oracle = QuantileRegressor(quantile=quantile, alpha=0.05).fit(X, y)
        error = np.abs(model.coef_[n] - oracle.coef_).max()
        assert error < 1e-3 * np.abs(oracle.coef_).max()
        np.testing.assert_allclose(model.intercept_[n], oracle.intercept_, rtol=1e-3)


def test_they_cover_what_they_say():
    """On noise that grows with x, new points lie below them in the right shares."""
    rng = np.random.default_rng(1)
    x, x_new = rng.uniform(size=(4000, 1)), rng.uniform(size=(20_000, 1))

    def draw(x):
        return x[:, 0] + (0.2 + x[:, 0]) * rng.standard_normal(len(x))

    model = of(QUANTILES, batch_size=256, max_iter=60, lr_schedule="cosine", lr=0.05)
    predicted, y_new = model.fit(x, draw(x)).predict(x_new), draw(x_new)
    shares = (y_new[:, np.newaxis] <= predicted).mean(axis=0)
    np.testing.assert_allclose(shares, QUANTILES, atol=0.02)
    low = x_new[:, 0] < 0.5
    halves = [(y_new[half] <= predicted[half, 0]).mean() for half in (low, ~low)]
    np.testing.assert_allclose(halves, 0.95, atol=0.02)
    for n, quantile in enumerate(QUANTILES):
        of_noise = NormalDist().inv_cdf(quantile)
        expected = x_new[:, 0] + (0.2 + x_new[:, 0]) * of_noise
        assert np.abs(predicted[:, n] - expected).max() < 0.25


def test_predictions_never_cross():
    """Where raw ones do, they are sorted, and cost no more at any point."""
    model = of(QUANTILES, hidden_layer_sizes=(16,), max_iter=2).fit(X, y)
    rng = np.random.default_rng(0)
    rows = rng.normal(scale=3, size=(10_000, X.shape[1]))
    predicted = model.predict(rows)
    raw = model._raw_predictions(rows)[0].numpy().T
    order = np.argsort(QUANTILES)
    crossed = (np.diff(raw[:, order]) < 0).any(axis=1)
    assert 100 < crossed.sum() < len(rows)
    assert (np.diff(predicted[:, order]) >= 0).all()
    assert np.array_equal(np.sort(predicted), np.sort(raw))
    assert np.array_equal(predicted[~crossed], raw[~crossed])

    def loss(columns, truth):
        pairs = zip(columns.T, QUANTILES, strict=True)
        return sum(mean_pinball_loss(truth, z, alpha=q) for z, q in pairs)

    for truth in (rng.normal(scale=3, size=len(rows)), raw[:, 0], raw.mean(axis=1)):
        assert loss(predicted, truth) < loss(raw, truth)


@pytest.mark.parametrize("column", [False, True], ids=["(n,)", "(n, 1)"])
def test_the_score_is_the_mean_d2(column):
    """Of each column by its quantile; y may be a column, and rows count."""
    model = of(QUANTILES, max_iter=20).fit(X, y[:, np.newaxis] if column else y)
    expected = [
        d2_pinball_score(y, z, sample_weight=WEIGHT, alpha=q)
        for q, z in zip(QUANTILES, model.predict(X).T, strict=True)
    ]
    truth = y[:, np.newaxis] if column else y
    assert model.score(X, truth, WEIGHT) == pytest.approx(np.mean(expected), rel=1e-12)


def test_collections_of_dask_have_columns_and_the_score():
    """They are predicted lazily, and scored as the rows are; a deviation is refused."""
    da = pytest.importorskip("dask.array")
    model, rows = of(QUANTILES).fit(X, y), da.from_array(X, chunks=(25, -1))
    predicted = model.predict(rows)
    assert predicted.shape == (len(X), 3)
    np.testing.assert_allclose(predicted.compute(), model.predict(X))
    assert model.score(rows, y) == pytest.approx(model.score(X, y), rel=1e-12)
    assert_refused(model.predict, rows, return_std=True, match="^return_std must be")


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_lists_are_searched_like_any_parameter(engine):
    """Candidates of any length have the scores of single fits, held-out rows too."""
    model = of(0.5, engine=engine, hidden_layer_sizes=(3,), early_stopping=True)
    quantiles = [np.array([0.2, 0.8]), (0.5,)]
    settings = {"param_grid": {"quantile": quantiles}, "cv": 2, "refit": False}
    truth = y[:, np.newaxis]  # of one quantile, predictions are of this shape
    ours = VectorizedGridSearchCV(model, **settings).fit(X, truth)
    theirs = GridSearchCV(model, **settings).fit(X, truth)
    for name in ("split0_test_score", "split1_test_score"):
        expected = theirs.cv_results_[name]
        np.testing.assert_allclose(ours.cv_results_[name], expected, rtol=1e-8)
    assert all(group.together for group in ours.groups_)


def test_one_in_a_list_is_a_column():
    """As one target in a table is; in all else it is the fit of the number."""
    model, plain = of([0.3]).fit(X, y), of(0.3).fit(X, y)
    assert np.array_equal(model.predict(X), plain.predict(X)[:, np.newaxis])
    assert model.coef_.shape == (1, X.shape[1])


def test_the_target_is_not_copied_for_each():
    """All outputs of the training set are views of one row of numbers."""
    model = of(list(np.linspace(0.01, 0.99, 99)))
    examples, targets = checked_examples(
        model, X, y, None, known=None, dtypes=[np.dtype(float)], first=True
    )
    fold = Fold(examples, targets, new_generator(0), [model])
    data, _ = data_of([fold], torch.device("cpu"))
    assert data.y.shape == (99, len(y))
    assert data.y.untyped_storage().nbytes() == 8 * len(y)


def test_quantiles_stay_those_that_were_fitted():
    """Until the next fit, whatever is set; then there must be as many."""
    model = of(QUANTILES).fit(X, y)
    expected = model.predict(X)
    for other in (0.5, [0.5, 0.9], [0.1, 0.2, 0.3]):
        assert np.array_equal(model.set_params(quantile=other).predict(X), expected)
    for other, n in (([0.5, 0.9], 2), (0.5, 1)):
        said = f"as many quantiles as it began with, 3. Got {n};"
        model.set_params(warm_start=True, quantile=other)
        assert_refused(model.fit, X, y, match=said)
        assert_refused(model.partial_fit, X, y, match=said)
    model.set_params(quantile=[0.1, 0.2, 0.3]).fit(X, y)
    assert (np.diff(model.predict(X)) >= 0).all()


def test_scorers_of_one_column_are_refused_before_training(monkeypatch):
    """Those that have a name; a callable may know what to do, one quantile is one."""
    for scoring in ("r2", "d2_absolute_error_score"):
        model = of(QUANTILES, scoring=scoring, early_stopping=True)
        said = f"None, 'loss' or a callable if quantile is several.* Got '{scoring}';"
        with monkeypatch.context() as no_training:
            no_training.setattr("skgd._estimators.fits.train", None)
            assert_refused(model.fit, X, y, match=said)
        model.set_params(early_stopping=False)
        assert_refused(model.partial_fit, X, y, match=said)
    scorers = {(0.1, 0.9): [None, "loss", lambda *_: 0.0], (0.5,): ["r2"]}
    for quantile, allowed in scorers.items():
        for scoring in allowed:
            model = of(quantile, scoring=scoring, early_stopping=True)
            assert hasattr(model.fit(X, y), "best_iter_")


def test_several_targets_are_refused():
    """Quantiles and targets at once would be outputs of two kinds."""
    said = re.escape("y must be one target if quantile is several. Got 2 targets and")
    assert_refused(of(QUANTILES).fit, X, Y, match=said)
    blocks = Blocks.from_iterables([lambda: (X, Y)])
    assert_refused(of(QUANTILES).fit, blocks, match=said)
    assert not get_tags(of(QUANTILES)).target_tags.multi_output
    assert get_tags(of(0.5)).target_tags.multi_output
