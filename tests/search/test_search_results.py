"""What a search has found, and its best: as scikit-learn's search has it.

Where a test has two searches, the second is scikit-learn's, of the same arguments.
"""

import time

import numpy as np
import pytest
from conftest import TASKS, X, every_class, every_task, fitted_state, small
from scipy.stats import loguniform, randint, uniform
from search_cases import (
    CLASSIFIER,
    GROUPS,
    REGRESSOR,
    SPACE,
    assert_same_search,
    assert_trained,
    both,
    every_search,
    fit_both,
    labels,
    search_of,
    words_of,
    y,
)
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeavePGroupsOut,
    ParameterGrid,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from skgd import MiniBatchClassifier, MiniBatchRegressor

every_sampling = pytest.mark.parametrize("kind", ["random", "halving random"])


# What a search has found


@every_search
@every_class
def test_a_search_has_what_scikit_learns_has(kind, cls):
    """Every fitted attribute is there, of the same type, with the same numbers."""
    search, other = fit_both(kind, small(cls), SPACE, X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=True)
    added = {"groups_", "loss_curves_", "max_bytes"}
    assert set(vars(search)) - set(vars(other)) == added
    for name in set(vars(other)) - {"best_estimator_", "cv", "_checked_cv_orig"}:
        assert type(getattr(search, name)) is type(getattr(other, name)), name
    assert search.refit_time_ >= 0


@every_search
def test_results_are_named_and_typed(kind):
    """Parameters are masked arrays of their kind; scores are float64, ranks int32."""
    space = {"lr": [0.001, 0.1], "early_stopping": [True], "batch_size": [7, 20]}
    search = both(kind, CLASSIFIER, space, return_train_score=True)[0]
    results = search.fit(X, labels).cv_results_
    kinds = {"lr": "f", "early_stopping": "b", "batch_size": "i"}
    for name, letter in kinds.items():
        assert type(results[f"param_{name}"]) is np.ma.MaskedArray
        assert results[f"param_{name}"].dtype.kind == letter
    assert results["rank_test_score"].dtype == np.int32
    scores = [
        f"{name}_{part}_score"
        for name in ("split0", "split1", "mean", "std")
        for part in ("test", "train")
    ]
    times = [
        f"{name}_{part}_time" for name in ("mean", "std") for part in ("fit", "score")
    ]
    for key in scores + times:
        assert type(results[key]) is np.ndarray
        assert results[key].dtype == np.float64
        assert (results[key] >= 0).all()
    assert type(results["params"]) is list


def test_parameters_that_a_grid_of_the_list_lacks_are_masked():
    """Each candidate has values of its own grid only."""
    grids = [{"lr": [0.001, 0.1], "momentum": [0.5]}, {"alpha": [0.1]}, {}]
    search, other = fit_both(
        "grid", small(MiniBatchRegressor, optimizer="sgd"), grids, X, y
    )
    assert_same_search(search, other)
    masks = {
        name: search.cv_results_[f"param_{name}"].mask.tolist()
        for name in ("lr", "momentum", "alpha")
    }
    assert masks["lr"] == masks["momentum"] == [False, False, True, True]
    assert masks["alpha"] == [True, True, False, True]
    assert search.cv_results_["params"][3] == {}
    assert_trained(search, together=True)


@every_sampling
def test_distributions_of_the_list_are_masked(kind):
    """A drawn candidate has values of the distributions it was drawn from."""
    spaces = [
        {"lr": loguniform(1e-3, 1e-1), "early_stopping": [False]},
        {"alpha": uniform(0, 1), "batch_size": [7, 20]},
    ]
    search, other = fit_both(kind, REGRESSOR, spaces, X, y)
    assert_same_search(search, other)
    results = search.cv_results_
    assert np.array_equal(results["param_lr"].mask, ~results["param_alpha"].mask)


def test_values_of_a_grid_may_be_anything():
    """Tuples, None, texts and lists of unlike length stay as they are."""
    space = [
        {"hidden_layer_sizes": [(), (3,), (3, 2), [2]], "random_state": [0]},
        {"class_weight": [None, "balanced", {0: 1.0, 1: 2.0}], "batch_size": [None, 7]},
        {"activation": ["tanh", np.str_("relu")], "lr": [np.float32(0.1), 1]},
    ]
    search, other = fit_both("grid", CLASSIFIER, space, X, labels)
    assert_same_search(search, other)
    assert search.cv_results_["param_hidden_layer_sizes"].dtype == object
    assert search.cv_results_["param_hidden_layer_sizes"][2] == (3, 2)
    assert_trained(search, together=True)


def test_seeds_may_be_searched_none_included():
    """None is a seed like another, and stays None among the parameters."""
    search = search_of(REGRESSOR, {"random_state": [0, None, 1]}).fit(X, y)
    assert search.cv_results_["param_random_state"].tolist() == [0, None, 1]
    assert_trained(search, together=True)


def test_a_range_and_an_array_are_grids():
    """Values may come in any sequence of one dimension."""
    space = {"max_iter": range(1, 4), "lr": np.array([0.001, 0.1])}
    assert_same_search(*fit_both("grid", REGRESSOR, space, X, y))


@pytest.mark.parametrize("kind", ["grid", "random"])
def test_one_candidate_is_a_search_too(kind):
    """The best of one is that one, fitted to all rows."""
    own = {} if kind == "grid" else {"n_iter": 1}
    search, other = fit_both(kind, REGRESSOR, {"lr": [0.01]}, X, y, **own)
    assert_same_search(search, other)
    assert fitted_state(search.best_estimator_) == fitted_state(
        small(MiniBatchRegressor, lr=0.01).fit(X, y)
    )


def test_the_empty_grid_is_the_estimator_itself():
    """It has one candidate without parameters."""
    search, other = fit_both("grid", CLASSIFIER, {}, X, labels)
    assert_same_search(search, other)
    assert search.cv_results_["params"] == [{}]


def test_ties_have_the_same_rank():
    """Candidates of the same score share the better rank, and the first is best."""
    space = {"lr": [1e-9, 0.1, 0.1]}
    search, other = fit_both("grid", REGRESSOR, space, X, y, return_train_score=True)
    assert_same_search(search, other)
    assert search.cv_results_["rank_test_score"].tolist() == [3, 1, 1]
    assert search.best_index_ == 1
    for key in ("split0_test_score", "split1_train_score"):
        assert search.cv_results_[key][1] == search.cv_results_[key][2]


@pytest.mark.parametrize("seed", range(5))
def test_parameters_without_effect_tie(seed):
    """Candidates that are the same model share a rank, and the first is best."""
    space = {"momentum": [0.5, 0.6, 0.7, 0.8, 0.9]}  # which Adam has none of
    cv = KFold(3, shuffle=True, random_state=seed)
    search, other = fit_both(
        "grid", small(MiniBatchRegressor, lr=0.1), space, X, y, cv=cv
    )
    assert_same_search(search, other)
    assert search.cv_results_["rank_test_score"].tolist() == [1] * 5


def test_means_do_not_weight_the_folds():
    """Mean and deviation over unequal folds are plain ones."""
    few = np.arange(60) < 15
    cv = [(few, ~few), (np.flatnonzero(~few), np.flatnonzero(few))]
    search, other = fit_both(
        "grid", CLASSIFIER, SPACE, X, labels, cv=cv, return_train_score=True
    )
    assert_same_search(search, other)
    results = search.cv_results_
    for part in ("test", "train"):
        splits = [results[f"split{n}_{part}_score"] for n in range(2)]
        np.testing.assert_allclose(results[f"mean_{part}_score"], np.mean(splits, 0))
        np.testing.assert_allclose(results[f"std_{part}_score"], np.std(splits, 0))


def test_train_scores_are_there_if_asked_for():
    """Without return_train_score no key has the word."""
    results = search_of(REGRESSOR).fit(X, y).cv_results_
    assert not [key for key in results if "train" in key]


@every_sampling
def test_a_seed_repeats_the_draws(kind):
    """The same random_state draws the same candidates; another one, others."""
    space = {"lr": loguniform(1e-3, 1e-1), "batch_size": randint(4, 9)}
    first, other = fit_both(kind, REGRESSOR, space, X, y)
    assert_same_search(first, other)
    again = clone(first).fit(X, y)
    assert again.cv_results_["params"] == first.cv_results_["params"]
    assert again.best_score_ == first.best_score_
    again.set_params(random_state=1).fit(X, y)
    assert again.cv_results_["params"] != first.cv_results_["params"]


def test_more_draws_than_there_are_warn():
    """A space of lists is searched whole, with scikit-learn's warning."""
    search = both("random", REGRESSOR, SPACE, n_iter=9)[0]
    with pytest.warns(UserWarning, match="parameters 4 is smaller than n_iter=9"):
        search.fit(X, y)
    found = search.cv_results_["params"]
    assert len(found) == 4
    assert all(params in found for params in ParameterGrid(SPACE))


class Once:
    """Folds that are given once, and never again."""

    def __init__(self, n_splits):
        self.n_splits, self.splits = n_splits, iter(KFold(n_splits).split(X))

    def split(self, X=None, y=None, groups=None):
        yield from self.splits

    def get_n_splits(self, X=None, y=None, groups=None):
        return self.n_splits


SPLITTERS = {
    "a number": lambda: 3,
    "None": lambda: None,
    "a generator": lambda: KFold(3, shuffle=True, random_state=0).split(X),
    "a list": lambda: list(KFold(3).split(X)),
    "given once": lambda: Once(3),
    "shuffled": lambda: ShuffleSplit(2, test_size=0.3, random_state=0),
    "stratified": lambda: StratifiedKFold(2),
    "stratified and shuffled": lambda: StratifiedShuffleSplit(2, random_state=0),
}


@pytest.mark.parametrize("splitter", SPLITTERS.values(), ids=SPLITTERS)
def test_folds_are_what_cv_gives(splitter):
    """Any splitter is asked once, and all candidates see the same folds."""
    search = search_of(CLASSIFIER, cv=splitter()).fit(X, labels)
    other = GridSearchCV(CLASSIFIER, SPACE, cv=splitter()).fit(X, labels)
    assert_same_search(search, other)
    assert_trained(search, together=True)


def test_folds_without_a_seed_are_the_same_for_all_candidates():
    """Two candidates of the same numbers have the same scores on shuffled folds."""
    cv = KFold(3, shuffle=True)
    search = search_of(REGRESSOR, {"lr": [0.1, 0.01, 0.1]}, cv=cv).fit(X, y)
    for n in range(3):
        first, _, last = search.cv_results_[f"split{n}_test_score"]
        assert first == pytest.approx(last, rel=1e-10)


GROUP_SPLITTERS = [
    ("grid", LeaveOneGroupOut()),
    ("grid", LeavePGroupsOut(2)),
    ("grid", GroupShuffleSplit(2, random_state=0)),
    ("random", GroupKFold(3)),
    ("halving grid", GroupKFold(2)),
    ("halving random", GroupKFold(2)),
]


@pytest.mark.parametrize(("kind", "cv"), GROUP_SPLITTERS, ids=str)
def test_groups_reach_the_splitter(kind, cv):
    """Without them a splitter of groups raises, as ever."""
    pair = both(kind, REGRESSOR, SPACE, cv=cv)
    for search in pair:
        with pytest.raises(ValueError, match="'groups' parameter should not be None"):
            search.fit(X, y)
        search.fit(X, y, groups=GROUPS)
    assert_same_search(*pair)


@pytest.mark.parametrize(("cls", "target"), TASKS.values(), ids=TASKS)
def test_every_task_is_searched(cls, target):
    """Two targets, texts for labels, and more classes than two are no other case."""
    space = {"lr": [0.001, 0.1], "hidden_layer_sizes": [(), (3,)]}
    assert_same_search(*fit_both("grid", small(cls), space, X, target))


def test_several_labels_are_searched():
    """Targets of 0 and 1, a column for each label, are scored as rows."""
    several = np.column_stack([labels, X[:, 0] > 0]).astype(int)
    assert_same_search(*fit_both("grid", CLASSIFIER, SPACE, X, several))


def test_times_are_shares_of_the_time_of_all():
    """They are not negative, and sum up to no more than the search took."""
    began = time.perf_counter()
    search = search_of(REGRESSOR).fit(X, y)
    spent = time.perf_counter() - began
    results = search.cv_results_
    parts = [results[f"mean_{part}_time"] for part in ("fit", "score")]
    assert (np.array(parts) > 0).all()
    assert 2 * np.sum(parts) + search.refit_time_ < spent


# The best


def test_without_refit_nothing_predicts():
    """best_params_ are there, and the words of the errors are scikit-learn's."""
    pair = fit_both("grid", CLASSIFIER, SPACE, X, labels, refit=False)
    search, other = pair
    assert search.best_params_ == other.best_params_
    assert search.best_score_ == other.best_score_
    absent = {"best_estimator_", "refit_time_", "classes_", "n_features_in_"}
    assert not any(hasattr(search, name) for name in absent)
    for name in ("predict", "predict_proba", "decision_function", "transform"):
        errors = []
        for one in pair:
            with pytest.raises(AttributeError, match=f"no attribute '{name}'") as error:
                getattr(one, name)
            cause = error.value.__cause__
            assert type(cause) is AttributeError
            errors.append((words_of(error.value), words_of(cause)))
        assert errors[0] == errors[1]
    with pytest.raises(AttributeError, match=r"`refit=False`\. score is available"):
        search.score(X, labels)


@every_search
def test_an_unfitted_search_says_so(kind):
    """Methods raise NotFittedError; what it has by the estimator is told before."""
    search = both(kind, CLASSIFIER, SPACE)[0]
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError, match=f"This {type(search).__name__}"):
            getattr(search, name)(X)
    with pytest.raises(NotFittedError):
        search.score(X, labels)
    assert not hasattr(search, "classes_")
    assert not hasattr(search, "n_features_in_")
    assert not hasattr(search, "transform")


def test_a_function_chooses_the_best():
    """refit is given all results, and there is no best_score_ then."""
    seen = []

    def last(results):
        seen.append(results)
        return int(results["mean_test_score"].argmin())

    pair = fit_both("grid", REGRESSOR, SPACE, X, y, refit=last)
    assert_same_search(*pair)
    search = pair[0]
    assert list(seen[0]) == list(search.cv_results_)
    assert search.best_index_ == search.cv_results_["mean_test_score"].argmin()
    assert not hasattr(search, "best_score_")
    several = search_of(
        CLASSIFIER,
        scoring={"acc": "accuracy", "rec": "recall"},
        refit=lambda results: results["mean_test_rec"].argmin(),
    )
    several.fit(X, labels)
    assert several.best_index_ == several.cv_results_["mean_test_rec"].argmin()
    assert not hasattr(several, "best_score_")


@every_search
@every_task
def test_the_best_is_a_fit_of_its_parameters(kind, cls, y):
    """best_estimator_ has the bits of the estimator with best_params_."""
    search = both(kind, small(cls), SPACE)[0].fit(X, y)
    alone = small(cls, **search.best_params_).fit(X, y)
    assert fitted_state(search.best_estimator_) == fitted_state(alone)
    assert np.array_equal(search.predict(X), alone.predict(X))
    assert search.n_features_in_ == 4
    assert search.score(X, y) == alone.score(X, y)
    if cls is MiniBatchClassifier:
        assert search.classes_.tolist() == np.unique(y).tolist()
        for name in ("predict_proba", "predict_log_proba", "decision_function"):
            assert np.array_equal(getattr(search, name)(X), getattr(alone, name)(X))
        assert is_classifier(search)
    else:
        assert not hasattr(search, "classes_")
        assert is_regressor(search)


def test_probabilities_are_those_that_the_loss_has():
    """A search has predict_proba by its estimator, and once fitted by the best."""
    hinge = small(MiniBatchClassifier, loss="hinge")
    search = search_of(hinge, {"loss": ["log_loss"]})
    assert not hasattr(search, "predict_proba")
    search.fit(X, labels)
    assert search.predict_proba(X).shape == (60, 2)
    search = search_of(CLASSIFIER, {"loss": ["hinge"]})
    assert hasattr(search, "predict_proba")
    search.fit(X, labels)
    assert not hasattr(search, "predict_proba")
    message = "'VectorizedGridSearchCV' has no attribute 'predict_proba'"
    with pytest.raises(AttributeError, match=message) as error:
        search.predict_proba(X)
    assert type(error.value.__cause__) is AttributeError


@every_search
def test_what_the_estimator_lacks_the_search_lacks(kind):
    """score_samples is none of ours."""
    search = both(kind, CLASSIFIER, SPACE)[0].fit(X, labels)
    with pytest.raises(AttributeError, match="no attribute 'score_samples'") as error:
        search.score_samples(X)
    cause = "'MiniBatchClassifier' object has no attribute 'score_samples'"
    assert str(error.value.__cause__) == cause
