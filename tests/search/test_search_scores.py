"""Scorers and metrics: what they see, what they may do, and whose weights count.

Where a test has two searches, the second is scikit-learn's, of the same arguments.
"""

import pickle
from collections import Counter
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from conftest import WEIGHT, X, every_class, small
from search_cases import (
    CLASSIFIER,
    REGRESSOR,
    SPACE,
    assert_same_results,
    assert_same_search,
    assert_trained,
    both,
    fit_both,
    labels,
    search_of,
    warnings_of,
    words_of,
    y,
)
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    make_scorer,
    mean_absolute_error,
    recall_score,
)
from sklearn.model_selection import KFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder


def absolute_error(model, rows, targets):
    """Return a score that is best at 0."""
    return -mean_absolute_error(targets, model.predict(rows))


def several_numbers(model, rows, targets):
    """Return several scores by name."""
    predicted = model.predict(rows)
    (tn, fp), (fn, tp) = confusion_matrix(targets, predicted, labels=[0, 1])
    return {"tn": tn, "fp": fp, "fn": fn, "tp": tp, "accuracy": (tn + tp) / len(rows)}


SCORINGS = {
    "a word": ({"scoring": "roc_auc"}, False),
    "a scorer": ({"scoring": make_scorer(accuracy_score)}, False),
    "a function": ({"scoring": absolute_error}, False),
    "a list": ({"scoring": ["accuracy", "recall"], "refit": "recall"}, True),
    "a tuple": ({"scoring": ("accuracy", "neg_log_loss"), "refit": False}, True),
    "a dict": (
        {"scoring": {"auc": "roc_auc", "mae": absolute_error}, "refit": "mae"},
        True,
    ),
    "a function of several": ({"scoring": several_numbers, "refit": "fp"}, True),
}


@pytest.mark.parametrize(("settings", "several"), SCORINGS.values(), ids=SCORINGS)
def test_a_search_scores_by_what_it_is_given(settings, several):
    """Every form of scoring gives the same keys, scorer_ and score()."""
    search, other = fit_both("grid", CLASSIFIER, SPACE, X, labels, **settings)
    assert_same_results(search, other)
    assert search.multimetric_ is other.multimetric_ is several
    assert words_of(search.scorer_) == words_of(other.scorer_)
    if settings.get("refit", True):
        assert_same_search(search, other)
        assert search.score(X, labels) == pytest.approx(other.score(X, labels))
    else:
        assert not hasattr(search, "best_index_")


def test_several_metrics_are_those_of_as_many_searches():
    """A metric has the numbers that a search by it alone has."""
    names = ["accuracy", "recall"]
    together = search_of(CLASSIFIER, scoring=names, refit="recall").fit(X, labels)
    for name in names:
        alone = search_of(CLASSIFIER, scoring=name).fit(X, labels)
        for key, values in alone.cv_results_.items():
            if key.endswith("_score"):
                as_one_of = together.cv_results_[key.replace("_score", f"_{name}")]
                assert np.array_equal(values, as_one_of)
    assert together.best_params_ == alone.best_params_
    assert together.best_score_ == alone.best_score_
    assert together.score(X, labels) == alone.score(X, labels)


def test_a_function_scores_like_the_word():
    """One metric, or several, are the same by name and by function."""

    def recall(model, rows, targets):
        return recall_score(targets, model.predict(rows))

    def recalls(model, rows, targets):
        return {"recall": recall(model, rows, targets), "one": 1}

    word = search_of(CLASSIFIER, scoring="recall").fit(X, labels)
    function = search_of(CLASSIFIER, scoring=recall).fit(X, labels)
    several = search_of(CLASSIFIER, scoring=recalls, refit="recall").fit(X, labels)
    assert word.best_index_ == function.best_index_ == several.best_index_
    assert word.best_score_ == function.best_score_ == several.best_score_
    scores = {search.score(X, labels) for search in (word, function, several)}
    assert len(scores) == 1


def test_the_score_of_a_search_is_that_of_its_scoring():
    """Without scoring it is the estimator's own."""
    plain = search_of(REGRESSOR).fit(X, y)
    assert plain.score(X, y) == plain.best_estimator_.score(X, y)
    by_error = search_of(REGRESSOR, scoring="neg_mean_absolute_error").fit(X, y)
    assert by_error.score(X, y) == absolute_error(by_error.best_estimator_, X, y)


def keeps(kept):
    """Return a scorer that keeps the models it is given."""

    def scoring(model, rows, targets):
        kept.append(model)
        return model.score(rows, targets)

    return scoring


def changes_rows(model, rows, targets):
    """Return by how much a model is worse without the first feature."""
    score = model.score(rows, targets)
    rows[:, 0] = 0
    return score - model.score(rows, targets)


def changes_the_model(model, rows, targets):
    """Return by how much a model is better than its bias."""
    score = model.score(rows, targets)
    model.coef_ = np.zeros_like(model.coef_)
    return score - model.score(rows, targets)


def fits_again(model, rows, targets):
    """Return the score of a model that has seen the rows."""
    return model.fit(rows, targets).score(rows, targets)


def looks_at_the_weights(model, rows, targets):
    """Return a number of the fitted attributes."""
    return float(np.abs(model.coef_).sum() + model.t_ + model.n_iter_ + len(rows))


def looks_at_few_rows(model, rows, targets):
    """Return a number of predictions of a part, and of a copy."""
    return model.predict(rows[:3]).sum() + model.predict(np.array(rows)).sum()


def takes_a_copy(model, rows, targets):
    """Return a number of a copy that goes on."""
    other = pickle.loads(pickle.dumps(deepcopy(model)))
    return other.score(rows, targets) + other.partial_fit(rows, targets).loss_


@pytest.mark.parametrize(
    "scoring",
    [
        changes_rows,
        changes_the_model,
        fits_again,
        looks_at_the_weights,
        looks_at_few_rows,
        takes_a_copy,
    ],
)
def test_a_scorer_may_do_what_it_likes(scoring):
    """It is given a fitted model of its own, and rows of its own."""
    rows = X.copy()
    search, other = fit_both("grid", REGRESSOR, SPACE, rows, y, scoring=scoring)
    assert_same_search(search, other)
    assert np.array_equal(rows, X)


@every_class
def test_models_that_a_scorer_keeps_are_fitted_ones(cls):
    """Each is what a fit to the rows of its fold would be, and goes on."""
    kept = []
    search = search_of(small(cls), scoring=keeps(kept)).fit(X, labels)
    assert len(kept) == 4 * 2
    for model in kept:
        alone = [
            clone(model).fit(X[train], labels[train]) for train, _ in KFold(2).split(X)
        ]
        distances = [np.abs(model.coef_ - one.coef_).max() for one in alone]
        nearest = alone[int(np.argmin(distances))]
        assert min(distances) < 1e-12
        assert set(vars(model)) == set(vars(nearest))
        for one in (model, nearest):
            one.partial_fit(X[:20], labels[:20])
        np.testing.assert_allclose(model.coef_, nearest.coef_, rtol=1e-8)
    assert len({(model.lr, model.alpha, model.loss_) for model in kept}) == 4 * 2
    assert search.n_splits_ == 2


def test_weights_reach_fits_and_scores():
    """sample_weight is cut by fold for the fit, and for scorers that take it."""
    weights = {"sample_weight": WEIGHT}
    pair = fit_both("grid", REGRESSOR, SPACE, X, y, fit_params=weights)
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)
    unweighted = search_of(REGRESSOR).fit(X, y)
    score = unweighted.cv_results_["mean_test_score"]
    assert not np.isclose(pair[0].cv_results_["mean_test_score"], score).any()


@pytest.mark.parametrize("container", [list, pd.Series, np.float32])
def test_weights_come_in_any_container(container):
    """A list, a column or float32 are cut like an array."""
    weights = {"sample_weight": container(WEIGHT)}
    pair = fit_both("grid", CLASSIFIER, SPACE, X, labels, fit_params=weights)
    assert_same_search(*pair)


def test_a_scorer_that_takes_no_weights_is_told_of():
    """The warning is scikit-learn's, and names the metric among several."""

    def half(targets, predicted):
        return 0.5

    search = search_of(CLASSIFIER, scoring=make_scorer(half))
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(X, labels, sample_weight=WEIGHT)
    scoring = {"half": make_scorer(half), "accuracy": "accuracy"}
    search.set_params(scoring=scoring, refit=False)
    message = r"The scoring half=.* does not support sample_weight"
    with pytest.warns(UserWarning, match=message):
        search.fit(X, labels, sample_weight=WEIGHT)


@every_class
def test_a_weight_is_so_many_rows(cls):
    """Rows of whole-number weights score as repeated rows do, with whole batches."""
    weight = np.random.default_rng(0).integers(0, 4, 60)
    again = np.repeat(np.arange(60), weight)
    groups = np.arange(60) % 3
    model = small(cls, batch_size=None)
    pair = [
        search_of(model, cv=LeaveOneGroupOut()).fit(
            X, labels, groups=groups, sample_weight=weight
        ),
        search_of(model, cv=LeaveOneGroupOut()).fit(
            X[again], labels[again], groups=groups[again]
        ),
    ]
    assert_same_results(*pair)
    np.testing.assert_allclose(*[s.best_estimator_.coef_ for s in pair], rtol=1e-8)


def test_a_fold_without_weight():
    """Weights that are zero in a fold fail its fits, with no other warning."""
    weight = np.repeat([0.0, 1.0], 30)
    pair = both("grid", REGRESSOR, SPACE, refit=False, error_score=-1.0)
    caught = [warnings_of(one, X, y, sample_weight=weight) for one in pair]
    assert Counter(caught[0]) == Counter(caught[1])
    assert_same_results(*pair)


def test_an_accuracy_that_is_turned_round_is_turned_round():
    """The worst candidate wins where a scorer counts accuracy as a loss."""
    scorer = make_scorer(accuracy_score, greater_is_better=False)
    search, other = both("grid", CLASSIFIER, SPACE, scoring=scorer)
    assert_same_results(search.fit(X, labels), other.fit(X, labels))
    assert_trained(search, together=True)


def test_training_rows_are_scored_as_a_pipeline_transforms_them():
    """TargetEncoder makes something else of them while it is fitted."""
    rows = np.digitize(X[:, :2], [-0.5, 0.5]).astype(str)
    pipeline = make_pipeline(TargetEncoder(cv=KFold(2)), REGRESSOR)
    space = {f"minibatchregressor__{name}": values for name, values in SPACE.items()}
    search, other = both("grid", pipeline, space, return_train_score=True)
    assert_same_results(search.fit(rows, y), other.fit(rows, y))
    assert_trained(search, together=True)


def sorted_error(y_true, y_pred):
    """Return an error, and leave the targets in another order."""
    error = mean_absolute_error(y_true, y_pred)
    y_true.sort()
    return error


def test_a_metric_may_spoil_what_it_is_given():
    """Each candidate is scored on rows of its own, if not by scikit-learn's metrics."""
    search, other = both("grid", REGRESSOR, SPACE, scoring=make_scorer(sorted_error))
    assert_same_results(search.fit(X, y), other.fit(X, y))
    assert_trained(search, together=True)
