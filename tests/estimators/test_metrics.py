"""Scores told without scikit-learn's scorer are what it says, to the last bit.

Where it would raise, warn, or say no number, they are left to it.
"""

import warnings
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from conftest import WEIGHT, X, Y, small
from covering import every_pair
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    accuracy_score,
    check_scoring,
    get_scorer,
    log_loss,
    make_scorer,
    r2_score,
)
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skgd import MiniBatchClassifier, MiniBatchRegressor, VectorizedGridSearchCV
from skgd._estimators import metrics
from skgd._estimators.metrics import plain_score

pytestmark = pytest.mark.filterwarnings("ignore:Training ended with a loss")

OF_CLASSES, OF_NUMBERS = (
    ["accuracy", "neg_log_loss"],
    [
        "r2",
        "neg_mean_squared_error",
        "neg_root_mean_squared_error",
        "neg_mean_absolute_error",
    ],
)
THREE = np.digitize(Y[:, 0], [2, 4])
LABELS = {
    "two": THREE > 0,
    "two ints": (THREE > 0).astype(int),
    "three ints": THREE - 1,
    "small ints": THREE.astype(np.int8),
    "unsigned": THREE.astype(np.uint16),
    "whole floats": THREE * 2.0,
    "words": np.array(["low", "middle", "high"])[THREE],
    "words as objects": np.array(["a", "b", "c"], object)[THREE],
}
SEVERAL_LABELS = {
    "labels": (Y.mean(0) < Y).astype(int),
    "labels as floats": (Y.mean(0) < Y).astype(float),
    "labels as bools": Y.mean(0) < Y,
}
TARGETS = {
    "number": Y[:, 0],
    "whole numbers": Y[:, 0].round().astype(int),
    "single precision": Y[:, 0].astype(np.float32),
    "numbers": Y * [1, 1000],
    "numbers, one constant": Y * [1, 0] + [0, 0.1],
    "constant": np.full(len(X), 0.1),
}
WEIGHTS = {
    "no weights": None,
    "weights": WEIGHT,
    "whole weights": WEIGHT.astype(int),
    "single precision weights": np.sqrt(WEIGHT).astype(np.float32),
    "some are 0": WEIGHT * (WEIGHT > 1),
}
every_weight = pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
every_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


def fitted(cls, y, dtype="float64", **params):
    """Return an estimator fitted to the first 40 rows, which needs not do well."""
    rows = X[:40].astype(dtype)
    return small(cls, lr=0.01, **params).fit(rows, y[:40]), X.astype(dtype)


def said(scorer, model, rows, y, weight=None):
    """Return what a scorer says, and None if it warns or raises."""
    weights = {} if weight is None else {"sample_weight": weight}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return scorer(model, rows, y, **weights)
        except (Warning, ValueError, TypeError, AttributeError, ZeroDivisionError):
            return None


def assert_told(scorer, model, rows, y, weight=None):
    """Assert that the score is told, and that it is the scorer's."""
    expected = said(scorer, model, rows, y, weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = plain_score(scorer, model, rows, y, weight)
    assert told is not None
    assert type(told) is float
    assert told == expected


def assert_left(scorer, model, rows, y, weight=None):
    """Assert that the score is left to the scorer."""
    assert plain_score(scorer, model, rows, y, weight) is None


@every_pair(
    every_weight,
    every_dtype,
    pytest.mark.parametrize("y", LABELS.values(), ids=LABELS),
)
def test_of_labels(y, dtype, weight):
    """The share of hits, and the loss, of whatever labels classes have."""
    model, rows = fitted(MiniBatchClassifier, y, dtype)
    for scoring in (None, *OF_CLASSES):
        scorer = check_scoring(model, scoring)
        assert_told(scorer, model, rows, y, weight)


@every_weight
@pytest.mark.parametrize("y", SEVERAL_LABELS.values(), ids=SEVERAL_LABELS)
def test_of_several_labels(y, weight):
    """A hit is a row all of whose labels are right; their loss is left."""
    model, rows = fitted(MiniBatchClassifier, y)
    for scoring in (None, "accuracy"):
        assert_told(check_scoring(model, scoring), model, rows, y, weight)
    assert_left(get_scorer("neg_log_loss"), model, rows, y, weight)


@every_pair(
    every_weight,
    every_dtype,
    pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS),
)
def test_of_numbers(y, dtype, weight):
    """Errors and R2, of constant targets too, where rounding decides."""
    model, rows = fitted(MiniBatchRegressor, y, dtype)
    for scoring in (None, *OF_NUMBERS):
        assert_told(check_scoring(model, scoring), model, rows, y, weight)


@pytest.mark.parametrize("constant", [0.1, 0.3, 1 / 3, 7, 1e-300])
@pytest.mark.parametrize("n_rows", [2, 9, 40, 60])
def test_r2_of_constant_targets(constant, n_rows):
    """It is what it is in scikit-learn, which a sum in another order need not find."""
    model, rows = fitted(MiniBatchRegressor, Y[:, 0])
    y = np.full(n_rows, constant)
    for weight in (None, WEIGHT[:n_rows], WEIGHT[:n_rows] / 3):
        assert_told(get_scorer("r2"), model, rows[:n_rows], y, weight)


def test_of_one_row():
    """Errors and hits are told; R2, which warns, and a loss of one class are left."""
    model, rows = fitted(MiniBatchRegressor, Y[:, 0])
    for scoring in OF_NUMBERS[1:]:
        assert_told(get_scorer(scoring), model, rows[:1], Y[:1, 0])
    assert_left(get_scorer("r2"), model, rows[:1], Y[:1, 0])
    with pytest.warns(UndefinedMetricWarning):
        get_scorer("r2")(model, rows[:1], Y[:1, 0])
    model, rows = fitted(MiniBatchClassifier, THREE)
    assert_told(get_scorer("accuracy"), model, rows[:1], THREE[:1])
    assert_left(get_scorer("neg_log_loss"), model, rows[:1], THREE[:1])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("y", [THREE > 0, THREE], ids=["two", "three"])
def test_the_loss_of_certain_predictions(y, dtype):
    """Probabilities that are 0 and 1 but for rounding are as near to them as theirs."""
    model, rows = fitted(MiniBatchClassifier, y, dtype)
    for scale in (1, 10, 30, 100, 300, 1000):
        certain = deepcopy(model)
        certain.coef_ = model.coef_ * model.coef_.dtype.type(scale)
        assert_told(get_scorer("neg_log_loss"), certain, rows, y)


@pytest.mark.parametrize("y", [THREE > 0, THREE], ids=["two", "three"])
def test_the_loss_of_other_probabilities(y):
    """Those of modified_huber may be 0 and 1."""
    model, rows = fitted(MiniBatchClassifier, y, loss="modified_huber", alpha=0)
    assert_told(get_scorer("neg_log_loss"), model, 100 * rows, y)


def test_classes_among_the_labels():
    """A loss is told only where labels and columns of probabilities are the same."""
    model, rows = fitted(MiniBatchClassifier, THREE)
    accuracy, loss = get_scorer("accuracy"), get_scorer("neg_log_loss")
    few, strange = np.minimum(THREE, 1), np.where(THREE == 2, 3, THREE)
    more = np.where(np.arange(60) % 7 == 0, 9, THREE)
    for y in (few, strange, more):  # strange: they have as many, but others
        assert_told(accuracy, model, rows, y)
        assert_left(loss, model, rows, y)
    assert said(loss, model, rows, few) is None
    assert said(loss, model, rows, more) is None


NO_LABELS = {
    "frame": pd.Series(THREE),
    "list": THREE.tolist(),
    "fractions": THREE + 0.5,
    "nan": np.where(THREE == 1, np.nan, THREE),
    "infinite": np.where(THREE == 1, np.inf, THREE),
    "words": np.array(["a", "b", "c"])[THREE],
    "objects": THREE.astype(object),
    "bytes": np.array([b"a", b"b", b"c"])[THREE],
    "complex": THREE + 0j,
    "masked": np.ma.masked_array(THREE, THREE == 1),
    "a column": THREE[:, np.newaxis],
    "columns": np.stack([THREE, THREE], 1),
    "too few": THREE[1:],
    "none": THREE[:0],
    "one": THREE[0],
    "a cube": THREE.reshape(3, 4, 5),
}


@pytest.mark.parametrize("y", NO_LABELS.values(), ids=NO_LABELS)
def test_other_labels_are_left(y):
    """What is no plain array of labels of the same kind is the scorer's to judge."""
    model, rows = fitted(MiniBatchClassifier, THREE)
    for scoring in (None, *OF_CLASSES):
        assert_left(check_scoring(model, scoring), model, rows, y)


def test_words_that_are_not_all_words_are_left():
    """A missing one is refused by the scorer."""
    words = LABELS["words as objects"]
    model, rows = fitted(MiniBatchClassifier, words)
    for missing in (None, np.nan, 1):
        y = words.copy()
        y[3] = missing
        for scoring in (None, *OF_CLASSES):
            scorer = check_scoring(model, scoring)
            assert_left(scorer, model, rows, y)
            assert said(scorer, model, rows, y) is None


NO_NUMBERS = {
    "frame": pd.Series(Y[:, 0]),
    "list": Y[:, 0].tolist(),
    "nan": np.where(Y[:, 0] > 3, np.nan, Y[:, 0]),
    "infinite": np.where(Y[:, 0] > 3, np.inf, Y[:, 0]),
    "objects": Y[:, 0].astype(object),
    "words": np.array(["1", "2", "3"])[THREE],
    "bools": THREE > 0,
    "masked": np.ma.masked_array(Y[:, 0], THREE == 1),
    "a column": Y[:, :1],
    "columns": Y,
    "too few": Y[1:, 0],
    "none": Y[:0, 0],
}


@pytest.mark.parametrize("y", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_other_targets_are_left(y):
    """What is no plain array of finite numbers is the scorer's to judge."""
    model, rows = fitted(MiniBatchRegressor, Y[:, 0])
    for scoring in (None, *OF_NUMBERS):
        assert_left(check_scoring(model, scoring), model, rows, y)


NO_WEIGHTS = {
    "zeros": np.zeros(60),
    "negative": -WEIGHT,
    "nan": np.where(WEIGHT == 1, np.nan, WEIGHT),
    "infinite": np.where(WEIGHT == 1, np.inf, WEIGHT),
    "too few": WEIGHT[1:],
    "a column": WEIGHT[:, np.newaxis],
    "list": WEIGHT.tolist(),
    "words": WEIGHT.astype(str),
    "frame": pd.Series(WEIGHT),
}


@pytest.mark.parametrize("weight", NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_other_weights_are_left(weight):
    """What is no plain array of weights is the scorer's to judge."""
    for cls, y, scorings in (
        (MiniBatchRegressor, Y[:, 0], OF_NUMBERS),
        (MiniBatchClassifier, THREE, OF_CLASSES),
    ):
        model, rows = fitted(cls, y)
        for scoring in (None, *scorings):
            assert_left(check_scoring(model, scoring), model, rows, y, weight)


@every_dtype
@pytest.mark.parametrize("scale", [1e30, 1e160, 1e308, np.inf, np.nan])
def test_predictions_beyond_numbers(scale, dtype):
    """Infinite ones are refused; squares that overflow are told with a warning."""
    model, rows = fitted(MiniBatchRegressor, Y[:, 0], dtype)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.coef_ = model.coef_ * model.coef_.dtype.type(scale)
        for scoring in OF_NUMBERS:
            scorer = get_scorer(scoring)
            told = plain_score(scorer, model, rows, Y[:, 0], None)
            if told is not None:
                assert told == scorer(model, rows, Y[:, 0])
        if not np.isfinite(model.predict(rows)).all():
            assert told is None


def test_metrics_of_the_other_kind():
    """Whole labels are numbers, too; numbers are no labels, and words no numbers."""
    labels, rows = fitted(MiniBatchClassifier, THREE)
    words, _ = fitted(MiniBatchClassifier, LABELS["words"])
    numbers, _ = fitted(MiniBatchRegressor, Y[:, 0])
    for scoring in OF_NUMBERS:
        scorer = get_scorer(scoring)
        assert_told(scorer, labels, rows, THREE)
        assert_left(scorer, words, rows, LABELS["words"])
        assert said(scorer, words, rows, LABELS["words"]) is None
    for scoring in OF_CLASSES:
        scorer = get_scorer(scoring)
        assert_left(scorer, numbers, rows, Y[:, 0])
        assert said(scorer, numbers, rows, Y[:, 0]) is None


def test_predictions_that_are_refused():
    """What predict raises is the scorer's to raise; likewise where there is none."""
    model, rows = fitted(MiniBatchClassifier, THREE, loss="hinge")
    assert_left(get_scorer("neg_log_loss"), model, rows, THREE)
    assert_left(get_scorer("accuracy"), model, rows[:, 1:], THREE)
    assert_left(get_scorer("accuracy"), small(MiniBatchClassifier), rows, THREE)


class Optimist(MiniBatchClassifier):
    """Scores itself in a way of its own."""

    def score(self, X, y, sample_weight=None):
        return 1.0


class Contrary(MiniBatchRegressor):
    """Predicts in a way of its own."""

    def predict(self, X):
        return -super().predict(X)


def test_classes_derived_from_ours_are_left():
    """Their methods may be of their own."""
    for cls, y in ((Optimist, THREE), (Contrary, Y[:, 0])):
        model, rows = fitted(cls, y)
        for scoring in (None, "accuracy", "r2"):
            assert_left(check_scoring(model, scoring), model, rows, y)
    model, rows = fitted(MiniBatchClassifier, THREE)
    pipeline = make_pipeline(FunctionTransformer(), model).fit(rows, THREE)
    assert_left(get_scorer("accuracy"), pipeline, rows, THREE)


class Unhashable:
    """A metric that no table can hold."""

    __hash__ = None

    def __call__(self, y, predicted):
        return 0.5


class Harsh(type(get_scorer("r2"))):
    """A scorer with a way of its own to score."""

    def _score(self, *args, **kwargs):
        return super()._score(*args, **kwargs) - 1


def test_other_scorers_are_left():
    """Those with arguments, of other metrics or answers, and classes of their own."""
    model, rows = fitted(MiniBatchClassifier, THREE > 0)
    for scorer in (
        make_scorer(accuracy_score, normalize=False),
        make_scorer(log_loss, response_method=("predict_proba", "predict")),
        make_scorer(r2_score, response_method="decision_function"),
        make_scorer(Unhashable()),
        Harsh(accuracy_score, 1, {}),
        get_scorer("f1"),
        get_scorer("roc_auc"),
        lambda model, rows, y: 0.5,
        check_scoring(model, ["accuracy", "r2"]),
    ):
        assert_left(scorer, model, rows, THREE > 0)


def test_signs_are_those_of_the_scorer():
    """A scorer of the user's may turn them."""
    model, rows = fitted(MiniBatchRegressor, Y[:, 0])
    for better in (True, False):
        scorer = make_scorer(r2_score, greater_is_better=better)
        assert_told(scorer, model, rows, Y[:, 0])


@pytest.fixture
def told(monkeypatch):
    """Give a list that gets every score that is told."""
    found = []

    def watched(*args):
        found.append(plain_score(*args))
        return found[-1]

    monkeypatch.setattr("skgd._search.scores.plain_score", watched)
    monkeypatch.setattr("skgd._estimators.scoring.plain_score", watched)
    return found


@pytest.mark.parametrize("early", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize(
    ("cls", "y", "scoring"),
    [
        (MiniBatchClassifier, LABELS["words"], "accuracy"),
        (MiniBatchClassifier, THREE, None),
        (MiniBatchRegressor, Y, "r2"),
        (MiniBatchRegressor, Y[:, 0], "neg_root_mean_squared_error"),
    ],
)
def test_searches_and_early_stopping(cls, y, scoring, early, told, monkeypatch):
    """Both tell scores, and find what they find where all are left to the scorer."""
    stops = {"early_stopping": True, "max_iter": 20, "n_iter_no_change": 2}
    model = small(cls, scoring=scoring, **stops) if early else small(cls)
    search = VectorizedGridSearchCV(
        model,
        {"lr": [0.01, 0.1]},
        scoring=scoring,
        cv=KFold(2),
        return_train_score=True,
    ).fit(X, y)
    n_told = len(told)
    assert n_told >= 2 * 2 * 2
    assert None not in told
    monkeypatch.setattr(metrics, "_metric_of", lambda *_: None)
    other = clone(search).fit(X, y)
    assert told[n_told:] == [None] * n_told
    for name, found in search.cv_results_.items():
        if "score" in name and "time" not in name:
            assert found.tolist() == other.cv_results_[name].tolist()
    if early:
        best, others = search.best_estimator_, other.best_estimator_
        assert best.validation_scores_ == others.validation_scores_


def test_predictions_refused_in_a_pipeline():
    """A search says of them what scikit-learn's says: error_score, and a warning."""
    rows = np.where(np.arange(60)[:, np.newaxis] == 3, np.nan, X)
    model = make_pipeline(FunctionTransformer(), small(MiniBatchRegressor))
    space, cv = (
        {"minibatchregressor__lr": [0.01, 0.1]},
        [(np.arange(20, 60), np.arange(20))],
    )
    found = []
    for search in (VectorizedGridSearchCV, GridSearchCV):
        one = search(model, space, cv=cv, refit=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one.fit(rows, Y[:, 0])
        found.append([(w.category, str(w.message).splitlines()[0]) for w in caught])
        assert np.isnan(one.cv_results_["mean_test_score"]).all()
    assert found[0] == found[1]
