"""The estimators inside scikit-learn's tools, files and containers."""

import copy
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import (
    RAW,
    TASKS,
    WEIGHT,
    X,
    Y,
    every_class,
    every_depth,
    every_task,
    fitted_state,
    frozen,
    small,
)
from covering import every_pair
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, StackingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier, MiniBatchRegressor

y = Y[:, 0]
two_classes, three_classes = TASKS["two classes"][1], TASKS["three classes"][1]


# Pipelines and searches


@every_task
@every_depth
def test_a_pipeline_is_the_scaler_and_then_the_estimator(cls, y, hidden):
    """Fit, prediction and score of a pipeline are those of its parts."""
    model = small(cls, hidden_layer_sizes=hidden)
    pipeline = make_pipeline(StandardScaler(), model).fit(RAW, y)
    scaled = StandardScaler().fit_transform(RAW)
    apart = clone(model).fit(scaled, y)
    assert fitted_state(pipeline[-1]) == fitted_state(apart)
    assert np.array_equal(pipeline.predict(RAW), apart.predict(scaled))
    assert pipeline.score(RAW, y) == apart.score(scaled, y)


GRID = {"model__batch_size": [1, 7, None], "model__lr": [0.001, 0.1]}


def pipeline_of(cls, **params):
    """Return a scaler and a small estimator, under the name of model."""
    return Pipeline([("scale", StandardScaler()), ("model", small(cls, **params))])


def assert_scores_are_those_of_each(search, rows, y):
    """Assert that every candidate of a search scored as it does alone."""
    results = search.cv_results_
    assert len(results["params"]) > 1
    for params, score in zip(
        results["params"], results["mean_test_score"], strict=True
    ):
        alone = clone(search.estimator).set_params(**params)
        expected = cross_val_score(alone, rows, y, cv=search.cv).mean()
        assert score == pytest.approx(expected, rel=1e-10), params


@every_task
def test_grid_search_over_batch_size_and_lr(cls, y):
    """A grid scores every candidate as cross validation does, and refits the best."""
    search = GridSearchCV(pipeline_of(cls), GRID, cv=KFold(2)).fit(RAW, y)
    assert_scores_are_those_of_each(search, RAW, y)
    best = clone(search.estimator).set_params(**search.best_params_).fit(RAW, y)
    assert fitted_state(search.best_estimator_[-1]) == fitted_state(best[-1])
    assert np.array_equal(search.predict(RAW), best.predict(RAW))


def test_grid_search_in_two_processes(loky):
    """Processes of joblib give the scores of one process."""
    search = GridSearchCV(pipeline_of(MiniBatchClassifier), GRID, cv=KFold(2))
    search.set_params(n_jobs=2).fit(RAW, two_classes)
    assert_scores_are_those_of_each(search, RAW, two_classes)


@every_class
def test_halving_search_spends_epochs(cls):
    """HalvingGridSearchCV gives ever more epochs to ever fewer candidates."""
    grid = {"lr": [0.001, 0.01, 0.1], "batch_size": [1, 8, None]}
    search = HalvingGridSearchCV(
        small(cls), grid, resource="max_iter", max_resources=18, factor=3, cv=KFold(2)
    )
    search.fit(X, two_classes == "yes")
    assert search.n_resources_ == [2, 6, 18]
    assert search.n_candidates_ == [9, 3, 1]
    assert search.best_estimator_.n_iter_ == 18


@every_class
def test_random_search_draws_parameters(cls):
    """RandomizedSearchCV draws from distributions, numbers of numpy included."""
    space = {
        "lr": np.logspace(-3, -1, 5),
        "alpha": [0, 0.1],
        "batch_size": np.array([4]),
    }
    search = RandomizedSearchCV(
        small(cls), space, n_iter=3, cv=KFold(2), random_state=0
    )
    assert_scores_are_those_of_each(
        search.fit(X, two_classes == "yes"), X, two_classes == "yes"
    )


@every_task
def test_cross_validation(cls, y):
    """Scores, predictions and learning curves come from fits on the parts."""
    model, parts = small(cls), KFold(3)
    scores = cross_validate(
        model, X, y, cv=parts, return_estimator=True, error_score="raise"
    )
    predicted = cross_val_predict(model, X, y, cv=parts)
    for fitted, score, (train, test) in zip(
        scores["estimator"], scores["test_score"], parts.split(X), strict=True
    ):
        alone = clone(model).fit(X[train], y[train])
        assert fitted_state(fitted) == fitted_state(alone)
        assert score == alone.score(X[test], y[test])
        assert np.array_equal(predicted[test], alone.predict(X[test]))
    sizes, _, curve = learning_curve(
        model, X, y, cv=parts, train_sizes=[0.5, 1.0], error_score="raise"
    )
    assert sizes.tolist() == [20, 40]
    assert np.isfinite(curve).all()


def test_learning_curves_may_learn_as_they_go():
    """learning_curve takes partial_fit, and names the classes itself."""
    curve = learning_curve(
        small(MiniBatchClassifier),
        X,
        three_classes,
        cv=KFold(2),
        train_sizes=[10, 20, 30],
        exploit_incremental_learning=True,
        error_score="raise",
    )
    assert np.isfinite(curve[2]).all()


# Estimators of estimators


@pytest.mark.parametrize("labels", [two_classes, three_classes], ids=["two", "three"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration(labels, method):
    """CalibratedClassifierCV calibrates scores and gives probabilities."""
    # scikit-learn 1.9.1 scales temperatures right only if the classes are 0, 1, ...
    labels = np.unique(labels, return_inverse=True)[1]
    calibrated = CalibratedClassifierCV(small(MiniBatchClassifier), method=method, cv=3)
    probability = calibrated.fit(X, labels).predict_proba(X)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert calibrated.score(X, labels) > 0.4


def test_one_classifier_for_each_class():
    """OneVsRestClassifier has the fits of each class against the others."""
    model = small(MiniBatchClassifier)
    several = OneVsRestClassifier(model).fit(X, three_classes)
    for label, one in zip(several.classes_, several.estimators_, strict=True):
        alone = clone(model).fit(X, (three_classes == label).astype(int))
        assert np.array_equal(one.coef_, alone.coef_)


def test_one_model_for_each_target():
    """MultiOutput meta-estimators have the fits of each target."""
    model = small(MiniBatchRegressor)
    several = MultiOutputRegressor(model).fit(X, Y)
    for target, one in zip(Y.T, several.estimators_, strict=True):
        assert fitted_state(one) == fitted_state(clone(model).fit(X, target))
    labels = np.column_stack([two_classes == "yes", X[:, 0] > 0])
    several = MultiOutputClassifier(small(MiniBatchClassifier)).fit(X, labels)
    assert several.predict(X).shape == labels.shape


def test_bagging():
    """Bags of either class are fitted on rows drawn, and predict."""
    bag = BaggingRegressor(small(MiniBatchRegressor), n_estimators=3, random_state=0)
    assert bag.fit(X, y).predict(X).shape == y.shape
    assert len({tuple(model.coef_) for model in bag.estimators_}) == 3
    bag = BaggingClassifier(small(MiniBatchClassifier), n_estimators=3, random_state=0)
    assert bag.fit(X, two_classes).score(X, two_classes) > 0.5


def test_scaled_targets_and_stacks():
    """TransformedTargetRegressor, a column transformer and a stack take a regressor."""
    model = small(MiniBatchRegressor)
    scaled = TransformedTargetRegressor(model, transformer=StandardScaler()).fit(X, y)
    target = (y - y.mean()) / y.std()
    np.testing.assert_allclose(
        scaled.regressor_.coef_, clone(model).fit(X, target).coef_
    )
    columns = make_column_transformer((StandardScaler(), [0, 2]))
    assert make_pipeline(columns, clone(model)).fit(RAW, y)[-1].coef_.shape == (2,)
    stack = StackingRegressor([("a", model), ("b", clone(model))], model, cv=2)
    assert stack.fit(X, y).predict(X).shape == y.shape


# Copies and files


def by_pickle(model, tmp_path):
    """Return the estimator after a pickle."""
    return pickle.loads(pickle.dumps(model))


def by_joblib(model, tmp_path):
    """Return the estimator after a file of joblib."""
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


def by_memory_map(model, tmp_path):
    """Return the estimator after a file of joblib, its arrays read-only maps of it."""
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib", mmap_mode="r")


COPIES = {
    "deepcopy": lambda model, tmp_path: copy.deepcopy(model),
    "pickle": by_pickle,
    "joblib": by_joblib,
    "memory map": by_memory_map,
}


@every_pair(
    pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES),
    every_task,
    every_depth,
)
def test_a_copy_predicts_and_goes_on_like_the_original(
    cls, y, hidden, copied, tmp_path, device
):
    """A copy has the state, predicts the bits, and trains on to the same bits."""
    model = small(cls, hidden_layer_sizes=hidden, record_batch_loss=True, device=device)
    model.fit(X, y)
    other = copied(model, tmp_path)
    assert frozen(vars(other)) == frozen(vars(model))
    assert np.array_equal(other.predict(X), model.predict(X))
    if cls is MiniBatchClassifier:
        assert np.array_equal(other.predict_proba(X), model.predict_proba(X))
    for _ in range(2):
        other.partial_fit(X, y)
        model.partial_fit(X, y)
    assert fitted_state(other) == fitted_state(model)
    for estimator in (other, model):
        estimator.set_params(warm_start=True).fit(X, y)
    assert fitted_state(other) == fitted_state(model)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@every_depth
def test_a_copy_stays_as_it_is_when_the_original_goes_on(hidden, copied):
    """Training on changes neither a copy nor what was read off before."""
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, warm_start=True)
    earlier = copied(model.partial_fit(X, y))
    before = frozen(vars(earlier))
    model.partial_fit(X, y).fit(X, y)
    assert frozen(vars(earlier)) == before


def test_a_model_of_float32_is_small_in_a_file():
    """A pickle holds weights and state once, and nothing of the training data."""
    rows = np.random.default_rng(0).normal(size=(5000, 10)).astype(np.float32)
    model = small(MiniBatchRegressor, batch_size=1000).fit(rows, rows[:, 0])
    assert len(pickle.dumps(model)) < 5000


@every_class
def test_a_clone_is_unfitted(cls):
    """A clone of a fitted estimator has its parameters and nothing else."""
    model = small(cls, hidden_layer_sizes=(3,)).fit(X, two_classes == "yes")
    other = clone(model)
    assert vars(other) == model.get_params()


# pandas


@every_task
def test_names_of_columns_are_kept_and_checked(cls, y):
    """feature_names_in_ are the columns; other names, or another order, are refused."""
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = small(cls).fit(frame, pd.Series(y) if y.ndim == 1 else pd.DataFrame(y))
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert np.array_equal(
        model.predict(frame), clone(model).fit(frame, y).predict(frame)
    )
    before = fitted_state(model)
    for other in (frame.rename(columns={"a": "z"}), frame[["b", "a", "c", "d"]]):
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(other)
        with pytest.raises(ValueError, match="feature names should match"):
            model.partial_fit(other, y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    assert fitted_state(model) == before


def test_frames_of_several_dtypes():
    """Columns of float32, integers and nullable floats become one float64 array."""
    frame = pd.DataFrame(
        {
            "float32": X[:, 0].astype(np.float32),
            "int": (10 * X[:, 1]).astype(int),
            "bool": X[:, 2] > 0,
            "Float64": pd.array(X[:, 3], dtype="Float64"),
        }
    )
    model = small(MiniBatchRegressor).fit(frame, pd.Series(y, index=range(60, 0, -1)))
    same = small(MiniBatchRegressor).fit(frame.to_numpy(dtype=float), y)
    assert np.array_equal(model.coef_, same.coef_)


def test_a_frame_of_float32_is_computed_in_float32():
    """Columns that are all float32 stay so."""
    frame = pd.DataFrame(X.astype(np.float32), columns=list("abcd"))
    assert small(MiniBatchRegressor).fit(frame, y).coef_.dtype == np.float32


def test_labels_of_a_categorical_or_text_column():
    """Labels of a column of pandas are predicted as its values."""
    for dtype in ("category", "object", "string"):
        column = pd.Series(two_classes, dtype=dtype)
        model = small(MiniBatchClassifier).fit(X, column)
        assert model.classes_.tolist() == ["no", "yes"]
        assert set(model.predict(X)) <= {"no", "yes"}


# Metadata routing


def test_weights_reach_the_estimator_through_a_pipeline():
    """With metadata routing, fit and score of a pipeline hand on sample_weight."""
    with config_context(enable_metadata_routing=True):
        model = small(MiniBatchRegressor)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, model)
        pipeline.fit(RAW, y, sample_weight=WEIGHT)
        scaled = StandardScaler().fit_transform(RAW)
        alone = small(MiniBatchRegressor).fit(scaled, y, sample_weight=WEIGHT)
        assert fitted_state(pipeline[-1]) == fitted_state(alone)
        score = pipeline.score(RAW, y, sample_weight=WEIGHT)
        assert score == alone.score(scaled, y, sample_weight=WEIGHT)
        assert score != pipeline.score(RAW, y)


def test_weights_reach_the_candidates_of_a_search():
    """GridSearchCV routes weights to every fit, and to scores that ask for them."""
    with config_context(enable_metadata_routing=True):
        model = small(MiniBatchClassifier).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"lr": [0.01, 0.1]}, cv=KFold(2))
        search.fit(X, two_classes, sample_weight=WEIGHT)
        alone = small(MiniBatchClassifier, **search.best_params_)
        alone.fit(X, two_classes, sample_weight=WEIGHT)
        assert fitted_state(search.best_estimator_) == fitted_state(alone)


@every_class
def test_requests_exist_for_what_the_methods_take(cls):
    """Weights, starting weights and classes can be asked for; nothing is by default."""
    model = small(cls)
    with config_context(enable_metadata_routing=True):
        requests = model.get_metadata_routing()
        starts = {"coef_init", "intercept_init", "coefs_init", "intercepts_init"}
        held_out = {"X_val", "y_val", "sample_weight_val"}
        others = {"sample_weight", "checkpoint", "checkpoint_seconds"}
        assert set(requests.fit.requests) == starts | held_out | others
        classes = set() if cls is MiniBatchRegressor else {"classes"}
        assert set(requests.partial_fit.requests) == classes | {"sample_weight"}
        assert set(requests.score.requests) == {"sample_weight"}
        assert not any(requests.fit.requests.values())


# What is shown


@every_class
def test_the_text_shows_what_is_not_the_default(cls):
    """repr names the class and the parameters that were changed."""
    assert repr(cls()) == f"{cls.__name__}()"
    assert repr(cls(lr=0.5)) == f"{cls.__name__}(lr=0.5)"
    assert str(cls(lr=0.5)) == repr(cls(lr=0.5))


@every_task
@every_depth
def test_notebooks_show_parameters_and_fitted_attributes(cls, y, hidden):
    """The HTML lists every parameter and, once fitted, every attribute."""
    model = small(cls, hidden_layer_sizes=hidden, record_batch_loss=True)

    def words():
        return set(re.findall(r"\w+", re.sub(r"<[^>]*>", " ", model._repr_html_())))

    fitted_names = {"n_iter_", "t_", "loss_curve_", "loss_", "batch_loss_curve_"}
    fitted_names |= {"coefs_", "intercepts_"} if hidden else {"coef_", "intercept_"}
    assert {cls.__name__, *model.get_params()} <= words()
    assert not fitted_names & words()
    model.fit(X, y)
    before = frozen(vars(model))
    assert {cls.__name__, *model.get_params(), *fitted_names} <= words()
    assert frozen(vars(model)) == before
