"""Searches in scikit-learn's tools, and metadata routing.

Where a test has two searches, the second is scikit-learn's, of the same arguments.
"""

import pickle

import numpy as np
import pytest
from conftest import RAW, WEIGHT, X, small
from search_cases import (
    CLASSIFIER,
    GROUPS,
    REGRESSOR,
    SEARCHES,
    SPACE,
    assert_same_results,
    assert_same_search,
    assert_trained,
    both,
    error_of,
    every_search,
    fit_both,
    labels,
    search_of,
    words_of,
    y,
)
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_absolute_error, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    ParameterGrid,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV

# In scikit-learn's tools


@every_search
def test_a_clone_is_unfitted(kind):
    """A clone has the parameters, the estimator as a clone, and nothing fitted."""
    search = both(kind, CLASSIFIER, SPACE)[0].set_params(max_bytes=10**6)
    other = clone(search.fit(X, labels))
    assert not hasattr(other, "cv_results_")
    assert other.estimator is not search.estimator
    assert set(search.get_params(deep=False)) <= set(vars(other))
    assert other.max_bytes == 10**6
    assert_same_results(search, other.fit(X, labels), rtol=0)


@every_search
def test_a_pickle_is_the_search(kind):
    """Unfitted it can be fitted; fitted it predicts, and has all it had."""
    search = both(kind, CLASSIFIER, SPACE)[0]
    before = pickle.loads(pickle.dumps(search))
    search.fit(X, labels)
    after = pickle.loads(pickle.dumps(search))
    assert set(vars(after)) == set(vars(search))
    assert_same_results(search, after, rtol=0)
    assert after.groups_ == search.groups_
    assert np.array_equal(after.predict_proba(X), search.predict_proba(X))
    assert_same_results(search, before.fit(X, labels), rtol=0)
    assert_same_results(search, after.fit(X, labels), rtol=0)


def test_a_fitted_search_keeps_no_data():
    """A pickle holds results and the best, nothing of rows or of other models."""
    rows = np.random.default_rng(0).normal(size=(4000, 20))
    model = small(MiniBatchRegressor, batch_size=1000)
    search = search_of(model, {"lr": [0.1, 0.01]}).fit(rows, rows[:, 0])
    assert len(pickle.dumps(search)) < 20_000


@every_search
def test_parameters_are_reached_by_name(kind):
    """get_params and set_params reach the search and its estimator."""
    search, other = both(kind, CLASSIFIER, SPACE)
    names = set(search.get_params()) - set(other.get_params())
    assert names == {"max_bytes"}
    assert search.get_params()["estimator__lr"] == CLASSIFIER.lr
    search.set_params(estimator__max_iter=1, cv=3, max_bytes=7)
    assert search.estimator.max_iter == 1
    assert (search.cv, search.max_bytes) == (3, 7)
    with pytest.raises(ValueError, match="Invalid parameter 'grid'"):
        search.set_params(grid=SPACE)


@every_search
def test_a_search_is_shown_like_scikit_learns(kind):
    """repr has the changed parameters; HTML has the estimator, once fitted the best."""
    pipeline = Pipeline([("scale", StandardScaler()), ("model", Ridge())])
    models = [small(MiniBatchRegressor, batch_size=size) for size in (None, 2)]
    space = {"model": models}
    own = {"resource": "n_samples"} if kind.startswith("halving") else {}
    own |= {"n_iter": 2} if kind == "random" else {}
    own |= {"n_candidates": 2, "max_resources": 60} if kind == "halving random" else {}
    pair = both(kind, pipeline, space, scoring="r2", **own)
    texts = [" ".join(words_of(repr(one)).split()) for one in pair]
    assert texts[0] == texts[1]
    html = pair[0]._repr_html_()
    assert "<div>Ridge</div>" in html
    assert type(pair[0]).__name__ in html
    pair[0].fit(X, y)
    html = pair[0]._repr_html_()
    assert "<div>Ridge</div>" not in html
    assert "<div>MiniBatchRegressor</div>" in html


def test_max_bytes_is_shown():
    """repr has it where it is not None."""
    assert "max_bytes" not in repr(search_of(REGRESSOR))
    assert "max_bytes=7" in repr(search_of(REGRESSOR).set_params(max_bytes=7))


def test_a_search_is_validated_like_an_estimator():
    """Cross validation of a search has the scores of scikit-learn's."""
    search, other = both("grid", CLASSIFIER, SPACE)
    expected = cross_val_score(other, X, labels, cv=3)
    np.testing.assert_allclose(cross_val_score(search, X, labels, cv=3), expected)
    found = cross_validate(search, X, labels, cv=3, return_estimator=True)
    for fitted, (train, _) in zip(
        found["estimator"], StratifiedKFold(3).split(X, labels), strict=True
    ):
        alone = clone(search).fit(X[train], labels[train])
        assert_same_results(fitted, alone, rtol=0)
    predicted = [cross_val_predict(one, X, labels, cv=3) for one in (search, other)]
    assert np.array_equal(*predicted)


@pytest.mark.parametrize("outer", [GridSearchCV, VectorizedGridSearchCV])
def test_a_search_may_be_searched(outer):
    """Its own parameters, and those of its estimator, are those of an estimator."""
    space = {"estimator__batch_size": [4, 8]}
    pair = [
        outer(inner, space, cv=KFold(2)).fit(X, labels)
        for inner in both("grid", CLASSIFIER, SPACE)
    ]
    assert_same_results(*pair)
    assert np.array_equal(pair[0].predict(X), pair[1].predict(X))
    if outer is VectorizedGridSearchCV:
        assert_trained(pair[0], together=False)
        word = "VectorizedGridSearchCV is not an estimator of skgd"
        assert {group.reason for group in pair[0].groups_} == {word}


def test_estimators_of_others_are_fitted_one_at_a_time():
    """The search is then scikit-learn's, curves and all."""
    space = {"C": [0.1, 1.0, 10.0]}
    search, other = fit_both("grid", LogisticRegression(), space, X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=False)
    [reason] = {group.reason for group in search.groups_}
    assert reason == "LogisticRegression is not an estimator of skgd"
    assert [[len(one) for one in some] for some in search.loss_curves_] == [[0, 0]] * 3


class Subclass(MiniBatchClassifier):
    """One of ours with a method changed."""

    def fit(self, X, y, **params):
        return super().fit(X, 1 - y, **params)


def test_subclasses_are_fitted_one_at_a_time():
    """What a subclass has changed is not known, and so is called."""
    search, other = fit_both("grid", small(Subclass), SPACE, X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=False)


def test_without_targets():
    """Clusterers and densities are searched without y, by their score or any other."""
    space = {"n_clusters": [2, 3, 4]}
    model = KMeans(random_state=0, n_init=1)
    assert_same_search(*fit_both("grid", model, space, X))
    assert_same_search(
        *fit_both("grid", model, space, X, labels, scoring="adjusted_rand_score")
    )
    search = search_of(
        KernelDensity(),
        {"bandwidth": [0.01, 0.1, 1.0]},
        scoring=lambda model, rows: 42 if model.bandwidth == 0.1 else 0,
    )
    search.fit(X)
    assert search.best_params_ == {"bandwidth": 0.1}
    assert search.best_score_ == 42
    assert not hasattr(search, "predict")
    assert np.array_equal(
        search.score_samples(X), search.best_estimator_.score_samples(X)
    )


class Spam(ClassifierMixin, BaseEstimator):
    """Notes what fit is given beside the data."""

    def __init__(self, foo=0):
        self.foo = foo

    def fit(self, X, y, spam=None, number=None, pair=None):
        assert len(spam) == len(X) == len(y)
        assert isinstance(pair, tuple)
        self.number_, self.classes_ = number, np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def transform(self, X):
        return X + self.foo

    def inverse_transform(self, X):
        return X - self.foo


def test_fit_parameters_are_cut_by_fold():
    """What has a row for each of X is; a number or a pair of arrays is not."""
    space = {"foo": [1, 2]}
    given = {"spam": np.ones(60), "number": 42, "pair": (X[:5], y[:5])}
    search, other = fit_both("grid", Spam(), space, X, labels, fit_params=given)
    assert_same_search(search, other)
    assert search.best_estimator_.number_ == 42
    np.testing.assert_allclose(search.inverse_transform(search.transform(X)), X)


def test_what_a_fit_is_given_beside_weights():
    """Held-out rows and starting weights are handed on, one fit at a time."""
    held_out = {"X_val": X[:9], "y_val": y[:9]}
    start = {"coef_init": np.ones(4)}
    for given in (held_out, start, {**held_out, "sample_weight": WEIGHT}):
        pair = fit_both("grid", REGRESSOR, SPACE, X, y, fit_params=given)
        assert_same_search(*pair)
        assert_trained(pair[0], together=False)
        [reason] = {group.reason for group in pair[0].groups_}
        assert reason == "fit is given more than sample_weight"


def test_a_search_of_ones_own():
    """A subclass says in _run_search what is tried, in several calls."""

    class TwoGrids(VectorizedGridSearchCV):
        def _run_search(self, evaluate_candidates):
            first = evaluate_candidates(ParameterGrid({"lr": [0.001, 0.1]}))
            assert len(first["params"]) == 2
            evaluate_candidates(ParameterGrid({"alpha": [0.0, 0.1]}))

    search = TwoGrids(REGRESSOR, {}, cv=KFold(2)).fit(X, y)
    grids = [{"lr": [0.001, 0.1]}, {"alpha": [0.0, 0.1]}]
    assert_same_search(search, search_of(REGRESSOR, grids).fit(X, y))
    assert_trained(search, together=True)


CHECKED = VectorizedGridSearchCV(
    MiniBatchClassifier(batch_size=None, max_iter=20, tol=None, random_state=0),
    {"lr": [0.01, 0.1]},
    cv=2,
    error_score="raise",
)
FAILS_TOO = {  # with GridSearchCV of the same estimator
    "check_supervised_y_no_nan": "the splitter refuses infinite labels in its words",
}


@parametrize_with_checks([CHECKED], expected_failed_checks=lambda _: FAILS_TOO)
def test_scikit_learn_accepts_a_search(estimator, check):
    """Every check passes but what scikit-learn's own search fails too."""
    check(estimator)


def test_our_fit_is_the_one_that_counts():
    """It is found before any that scikit-learn's searches may get."""
    for ours, _, _ in SEARCHES.values():
        assert ours.fit.__module__ in (
            "skgd._search.searches",
            HalvingGridSearchCV.__module__,
        )
        bases = [base.__name__ for base in ours.__mro__]
        assert bases.index("_VectorizedSearch") < bases.index("BaseSearchCV")


# Metadata routing


@pytest.fixture
def routing():
    """Turn the routing of metadata on."""
    with config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize("of_score", [True, False])
@every_search
def test_weights_go_where_they_are_asked_for(kind, of_score, routing):
    """Fits and scores get them if they have asked."""
    model = small(MiniBatchClassifier).set_fit_request(sample_weight=True)
    model.set_score_request(sample_weight=of_score)
    weights = {"sample_weight": WEIGHT}
    pair = fit_both(kind, model, SPACE, X, labels, fit_params=weights)
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)
    if of_score:
        scores = [one.score(X, labels, sample_weight=WEIGHT) for one in pair]
        assert scores[0] == pytest.approx(scores[1])
        assert scores[0] != pair[0].score(X, labels)


def test_each_metric_has_weights_of_its_own(routing):
    """A scorer may ask for them by another name, among scorers that do not ask."""
    scorer = make_scorer(mean_absolute_error, greater_is_better=False)
    scorer.set_score_request(sample_weight="other")
    r2 = make_scorer(r2_score).set_score_request(sample_weight=False)
    scoring = {"mae": scorer, "r2": r2}
    model = small(MiniBatchRegressor).set_fit_request(sample_weight=True)
    given = {"sample_weight": WEIGHT, "other": 4 - WEIGHT}
    pair = fit_both(
        "grid", model, SPACE, X, y, fit_params=given, scoring=scoring, refit="mae"
    )
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)


def test_groups_go_to_the_splitter_by_routing(routing):
    """A splitter of groups asks for them by itself."""
    model = small(MiniBatchClassifier).set_fit_request(sample_weight=False)
    given = {"groups": GROUPS}
    pair = fit_both("grid", model, SPACE, X, labels, fit_params=given, cv=GroupKFold(3))
    assert_same_search(*pair)


def test_weights_reach_the_steps_of_a_pipeline_by_routing(routing):
    """Each step gets them as it has asked."""
    pipeline = Pipeline(
        [
            ("scale", StandardScaler().set_fit_request(sample_weight=True)),
            ("model", small(MiniBatchRegressor).set_fit_request(sample_weight=True)),
        ]
    )
    pipeline[-1].set_score_request(sample_weight=True)
    weights = {"sample_weight": WEIGHT}
    space = {"model__lr": [0.01, 0.1]}
    pair = fit_both("grid", pipeline, space, RAW, y, fit_params=weights)
    assert_same_search(*pair)
    assert_trained(pair[0], together=True)


def test_what_nobody_asked_for_is_refused(routing):
    """The errors of routing are scikit-learn's."""
    pair = both("grid", CLASSIFIER, SPACE)
    errors = [error_of(one, X, labels, sample_weight=WEIGHT) for one in pair]
    assert errors[0] == errors[1]
    assert errors[0][0] is UnsetMetadataPassedError
    errors = [error_of(one, X, labels, no_such=WEIGHT) for one in pair]
    assert errors[0] == errors[1]


def test_a_search_hands_on_requests(routing):
    """Its own routing is that of scikit-learn's, and a validation of it uses it."""
    model = small(MiniBatchRegressor).set_fit_request(sample_weight=True)
    model.set_score_request(sample_weight=True)
    pair = both("grid", model, SPACE, cv=GroupKFold(2))
    requests = [words_of(one.get_metadata_routing()) for one in pair]
    assert requests[0] == requests[1]
    given = {"sample_weight": WEIGHT, "groups": GROUPS}
    scores = [
        cross_validate(one, X, y, params=given, cv=GroupKFold(2), error_score="raise")
        for one in pair
    ]
    np.testing.assert_allclose(scores[0]["test_score"], scores[1]["test_score"])


def test_score_takes_nothing_without_routing():
    """More than X and y needs the routing turned on."""
    search = search_of(REGRESSOR).fit(X, y)
    with pytest.raises(ValueError, match="is only supported if"):
        search.score(X, y, sample_weight=WEIGHT)
