"""Successive halving: its rounds, its resources, its draws.

Where a test has two searches, the second is scikit-learn's, of the same arguments.
"""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from conftest import X, small
from scipy.stats import loguniform
from search_cases import (
    MANY,
    REGRESSOR,
    SPACE,
    assert_same_search,
    assert_trained,
    both,
    every_halving,
    fit_both,
    y,
)
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

from skgd import MiniBatchRegressor

ROUNDS = {
    "exhaust": {"min_resources": "exhaust", "max_resources": 18},
    "smallest": {"min_resources": "smallest", "max_resources": 9},
    "too few": {"min_resources": "smallest", "max_resources": 2},
    "aggressive": {
        "min_resources": 2,
        "max_resources": 6,
        "aggressive_elimination": True,
    },
    "not aggressive": {"min_resources": 2, "max_resources": 6},
}


@pytest.mark.parametrize("settings", ROUNDS.values(), ids=ROUNDS)
@pytest.mark.parametrize("resource", ["max_iter", "n_samples"])
def test_halving_goes_scikit_learns_rounds(resource, settings):
    """Rounds, resources and candidates of each round are those of the other search."""
    if resource == "n_samples":
        settings = {
            name: 5 * value if type(value) is int else value
            for name, value in settings.items()
        }
        settings["max_resources"] = min(settings["max_resources"], 60)
    settings = {**settings, "resource": resource, "factor": 3}
    # rounding is no gradient
    model = small(MiniBatchRegressor, batch_size=None, epsilon=1e-3)
    search, other = fit_both("halving grid", model, MANY, X, y, **settings)
    assert_same_search(search, other)
    for name in (
        "n_iterations_",
        "n_required_iterations_",
        "n_possible_iterations_",
        "n_resources_",
        "n_candidates_",
        "n_remaining_candidates_",
        "min_resources_",
        "max_resources_",
    ):
        assert getattr(search, name) == getattr(other, name), name
    for key in ("iter", "n_resources"):
        assert type(search.cv_results_[key]) is np.ndarray
    assert_trained(search, together=True)


@every_halving
def test_the_best_of_a_round_go_on(kind):
    """Whoever was dropped scored less, and the best is one of the last round."""
    scores = np.random.default_rng(0)

    def scoring(model, rows, targets):
        return scores.random()

    own = {} if kind == "halving grid" else {"n_candidates": 10}
    search = both(kind, REGRESSOR, MANY, scoring=scoring, max_resources=8, **own)[0]
    search.fit(X, y)
    results = search.cv_results_
    rounds = [{} for _ in search.n_candidates_]
    for n, params, score in zip(
        results["iter"], results["params"], results["mean_test_score"], strict=True
    ):
        rounds[n][params["lr"], params["alpha"]] = score
    assert [len(one) for one in rounds] == search.n_candidates_
    for now, then in pairwise(rounds):
        dropped = [score for name, score in now.items() if name not in then]
        assert max(dropped) < min(now[name] for name in then)
    assert search.best_score_ == max(rounds[-1].values())
    assert results["iter"][search.best_index_] == len(rounds) - 1


@pytest.mark.parametrize(
    ("space", "n_candidates"),
    [({"lr": [0.01, 0.1]}, 2), ({"lr": loguniform(1e-3, 1e-1)}, 10)],
    ids=["lists", "a distribution"],
)
def test_halving_draws_no_more_than_there_are(space, n_candidates):
    """Lists are drawn from without return."""
    warnings.filterwarnings("ignore", "The total space of parameters 2 is smaller")
    search = both("halving random", REGRESSOR, space, n_candidates=10)[0].fit(X, y)
    assert search.n_candidates_[0] == n_candidates


def test_halving_draws_what_resources_allow():
    """n_candidates="exhaust" spends all in the last round."""
    search, other = fit_both(
        "halving random",
        REGRESSOR,
        {"lr": loguniform(1e-3, 1e-1)},
        X,
        y,
        n_candidates="exhaust",
        min_resources=1,
        max_resources=8,
    )
    assert_same_search(search, other)
    assert search.n_candidates_[0] == 8
    assert search.n_resources_[-1] == 8


def test_resources_are_parameters_of_the_candidates():
    """Each has the resource of its round among its parameters."""
    search = both("halving grid", REGRESSOR, SPACE)[0].fit(X, y)
    results = search.cv_results_
    for given, params, value in zip(
        results["n_resources"],
        results["params"],
        results["param_max_iter"],
        strict=True,
    ):
        assert given == params["max_iter"] == value
    lengths = [[len(one) for one in some] for some in search.loss_curves_]
    assert lengths == [[n] * 2 for n in results["n_resources"]]


def test_a_resource_that_is_searched_is_refused():
    """A parameter is either searched or the resource."""
    search = both("halving grid", REGRESSOR, {"max_iter": [1, 2]})[0]
    with pytest.raises(ValueError, match="Cannot use parameter max_iter as the"):
        search.fit(X, y)


def test_halving_goes_on_with_the_features_that_it_began_with():
    """Steps before the last that draw at random are not drawn again."""
    fits = []

    class Draws(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            fits.append(len(X))
            self.signs_ = np.random.default_rng().choice([-1, 1], X.shape[1])
            return self

        def transform(self, X):
            return X * self.signs_

    pipeline = make_pipeline(Draws(), REGRESSOR)
    lrs = {"minibatchregressor__lr": [0.3, 0.1, 0.03, 0.01]}
    search, _ = both("halving grid", pipeline, lrs)
    search.set_params(resource="minibatchregressor__max_iter", refit=False).fit(X, y)
    plain = both("halving grid", REGRESSOR, {"lr": lrs["minibatchregressor__lr"]})[0]
    plain.set_params(refit=False).fit(X, y)
    assert fits == [30, 30]
    np.testing.assert_allclose(  # the sign of a feature changes nothing else
        search.cv_results_["mean_test_score"],
        plain.cv_results_["mean_test_score"],
        rtol=1e-8,
    )
