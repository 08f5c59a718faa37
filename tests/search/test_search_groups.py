"""Groups of candidates and their loss curves."""

from itertools import chain

import numpy as np
import pytest
from conftest import X, needs_numba, small
from joblib import parallel_config
from search_cases import (
    CLASSIFIER,
    REGRESSOR,
    SPACE,
    assert_same_results,
    assert_trained,
    both,
    every_search,
    labels,
    search_of,
    warnings_of,
    y,
)
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold

from skgd import MiniBatchRegressor, WeightTrajectory

REASONS = {
    "max_time": (
        small(MiniBatchRegressor, max_time=1e9),
        "max_time is a limit of a single fit",
    ),
    "callbacks": (
        small(MiniBatchRegressor).set_callbacks(WeightTrajectory()),
        "its callbacks look at single fits",
    ),
    "others": (Ridge(), "Ridge is not an estimator of skgd"),
}


@pytest.mark.parametrize(("model", "reason"), REASONS.values(), ids=REASONS)
def test_groups_tell_why_fits_were_made_one_at_a_time(model, reason):
    """One reason, and scores as ever."""
    space = {"alpha": [0.0, 0.1]}
    search = search_of(model, space).fit(X, y)
    assert_trained(search, together=False)
    assert {group.reason for group in search.groups_} == {reason}
    assert_same_results(search, GridSearchCV(model, space, cv=KFold(2)).fit(X, y))


def test_groups_tell_what_candidates_have_in_common():
    """Numbers of one model are in one group; what changes shapes parts groups."""
    space = {
        "hidden_layer_sizes": [(), (3,)],
        "lr": [0.01, 0.1],
        "alpha": [0, 0.1],
        "batch_size": [8],
        "random_state": [0, 1],
    }
    search = search_of(CLASSIFIER, space).fit(X, labels)
    assert_trained(search, together=True)
    assert [group.params for group in search.groups_] == [
        {"hidden_layer_sizes": (), "batch_size": 8},
        {"hidden_layer_sizes": (3,), "batch_size": 8},
    ]
    for group in search.groups_:
        assert group.reason == ""
        assert isinstance(group.candidates, list)
        for number in group.candidates:
            params = search.cv_results_["params"][number]
            assert group.params.items() <= params.items()


@needs_numba
def test_groups_tell_who_trained():
    """Loops, torch where it is asked for or they do not do it, both, or nobody."""
    space = [
        {"engine": ["auto", "numba", "torch"], "lr": [0.01, 0.1]},
        {"dropout": [0.1], "hidden_layer_sizes": [(3,)], "max_time": [None, 1e9]},
        {"max_time": [1e9]},
        {"optimizer": ["sgd"], "lr": [1e6]},
        {"lr": [-1.0]},
    ]
    search = search_of(REGRESSOR, space)
    warnings_of(search, X, y)
    engines = {number: g.engine for g in search.groups_ for number in g.candidates}
    told = [engines[number] for number in range(len(engines))]
    assert told == [*["numba"] * 4, *["torch"] * 4, *["numba"] * 2, ""]


def test_groups_part_what_can_be_stacked_from_what_cannot():
    """Of one grid some are trained together and some are not."""
    search = search_of(CLASSIFIER, {"max_time": [None, 1e9], "lr": [0.01, 0.1]})
    search.fit(X, labels)
    together, apart = sorted(search.groups_, key=lambda group: not group.together)
    params = search.cv_results_["params"]
    assert {params[n]["max_time"] for n in together.candidates} == {None}
    assert {params[n]["max_time"] for n in apart.candidates} == {1e9}
    assert (together.reason, apart.reason) == (
        "",
        "max_time is a limit of a single fit",
    )
    assert len(together.candidates) == len(apart.candidates) == 2


def test_groups_of_data_that_are_refused():
    """A hole in a row fails the fits that see it, and the others have their scores."""
    bad = X.copy()
    bad[0] = np.nan
    search, other = both("grid", REGRESSOR, SPACE, refit=False)
    caught = [warnings_of(one, bad, y) for one in (search, other)]
    assert caught[0] == caught[1]
    assert_same_results(search, other)
    assert_trained(search, together=False)
    reasons = {group.reason for group in search.groups_}
    assert len(reasons) == 1
    assert reasons.pop() == "ValueError: Input X contains NaN."


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_groups_of_a_fold_that_is_refused(n_jobs):
    """One class in a fold alone makes that fit fail, whoever does the work."""
    first = np.arange(60) < 30
    target = np.where(first, 0, labels)
    search, other = both("grid", CLASSIFIER, {"lr": [0.1]}, refit=False)
    search.set_params(n_jobs=n_jobs)
    with parallel_config("threading"):
        caught = [warnings_of(one, X, target) for one in (search, other)]
    assert caught[0] == caught[1]
    assert "1 fits failed out of a total of 2" in caught[0][0][1]
    assert_same_results(search, other)
    assert_trained(search, together=False)


@every_search
def test_groups_hold_every_candidate_once(kind):
    """In all rounds of halving too, also if parameters part them."""
    space = {"lr": [0.01, 0.1], "batch_size": [7, None], "max_time": [None, 1e9]}
    search = both(kind, REGRESSOR, space)[0].fit(X, y)
    places = sorted(chain.from_iterable(group.candidates for group in search.groups_))
    assert places == list(range(len(search.cv_results_["params"])))
    for group in search.groups_:
        for number in group.candidates:
            params = search.cv_results_["params"][number]
            assert group.params.items() <= params.items()
            assert group.together == (params["max_time"] is None)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("max_time", [None, 1e9], ids=["together", "one at a time"])
def test_loss_curves_are_those_of_the_fits(early_stopping, max_time):
    """A list for each candidate holds the curve of each split."""
    model = small(
        MiniBatchRegressor,
        early_stopping=early_stopping,
        max_time=max_time,
        tol=1e-2,
        n_iter_no_change=2,
        max_iter=40,
    )
    search = search_of(model, {"lr": [0.001, 0.3]}, cv=KFold(3)).fit(X, y)
    assert len(search.loss_curves_) == 2
    for params, curves in zip(
        search.cv_results_["params"], search.loss_curves_, strict=True
    ):
        assert len(curves) == 3
        for curve, (train, _) in zip(curves, KFold(3).split(X), strict=True):
            alone = clone(model).set_params(**params).fit(X[train], y[train])
            assert isinstance(curve, np.ndarray)
            assert len(curve) == alone.n_iter_
            np.testing.assert_allclose(curve, alone.loss_curve_, rtol=1e-10)
    assert len(set(map(len, chain.from_iterable(search.loss_curves_)))) > 1


def test_loss_curves_of_models_that_diverge():
    """They end where the training did; refused parameters have none."""
    model = small(MiniBatchRegressor, optimizer="sgd")
    search = search_of(model, {"lr": [0.01, 1e6, -1.0]})
    caught = warnings_of(search, X, y)
    assert "4 fits failed out of a total of 6" in caught[0][1]
    lengths = [[len(one) for one in some] for some in search.loss_curves_]
    assert lengths[0] == [3, 3]
    assert 0 < min(lengths[1]) <= max(lengths[1]) <= 3
    assert lengths[2] == [0, 0]
