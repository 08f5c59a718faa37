"""Scorers, and what fails: as in scikit-learn's searches."""

import warnings

import numpy as np
import pytest
from conftest import RAW, WEIGHT, X, Y, every_depth
from parity_cases import (
    FAILED,
    FRAME,
    LABELS,
    LR,
    LR_OF_MODEL,
    PAIR,
    POSITIVE,
    SEVERAL_LABELS,
    THREE,
    accuracy,
    classifier,
    compared,
    regressor,
    scaled,
    scores_of,
    y,
)
from sklearn import metrics
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.feature_selection import SelectKBest
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skgd import VectorizedGridSearchCV

pytestmark = pytest.mark.usefixtures("one_thread")


# Scores


def two_scores(estimator, X, y):
    """Return two scores by name."""
    return {"accuracy": accuracy(estimator, X, y), "size": float(len(X))}


def needs_a_scaler(estimator, X, y):
    """Return a score that looks at the first step of a pipeline."""
    return estimator.score(X, y) + float(estimator.named_steps["scale"].mean_[0])


def refuses_some(estimator, X, y):
    """Return a score, but of models that learn fast."""
    if estimator.lr > 0.02:
        raise ValueError("too fast")
    return accuracy(estimator, X, y)


def best_of_the_first_two(results):
    """Return the place of the candidate that is refitted."""
    return int(np.argmax(results["mean_test_accuracy"][:2]))


LOG_LOSS = make_scorer(
    metrics.log_loss, response_method="predict_proba", greater_is_better=False
)
SCORINGS = {
    "none": {},
    "a name": {"scoring": "balanced_accuracy"},
    "probabilities": {"scoring": "neg_log_loss"},
    "raw predictions": {"scoring": "roc_auc"},
    "a metric": {"scoring": make_scorer(metrics.f1_score, pos_label="yes")},
    "a metric of probabilities": {"scoring": LOG_LOSS},
    "a function": {"scoring": accuracy},
    "a list": {"scoring": ["accuracy", "roc_auc"], "refit": "roc_auc"},
    "a tuple": {"scoring": ("accuracy", "neg_log_loss"), "refit": False},
    "a dict": {
        "scoring": {"right": "accuracy", "loss": LOG_LOSS, "own": accuracy},
        "refit": "loss",
    },
    "a choice": {
        "scoring": {"accuracy": "accuracy", "loss": LOG_LOSS},
        "refit": best_of_the_first_two,
    },
    "a function of several": {"scoring": two_scores, "refit": "accuracy"},
    "a function and a choice": {"scoring": two_scores, "refit": best_of_the_first_two},
    "no refit": {"scoring": "roc_auc", "refit": False},
}


@pytest.mark.parametrize("name", SCORINGS)
def test_every_scoring(name):
    """Any scorer judges models that were trained together, on test and training rows.

    Its estimator is the model, or the whole pipeline.
    """
    params = {**SCORINGS[name], "return_train_score": True}
    compared(classifier(), LR, X, LABELS, **params)
    compared(scaled(classifier()), LR_OF_MODEL, RAW, LABELS, **params)


def test_scores_of_three_classes_and_several_labels():
    """Scorers ask for what the models of one fold predict."""
    for scoring in ("roc_auc_ovr", "f1_macro", "neg_log_loss"):
        compared(classifier(), LR, X, THREE, scoring=scoring)
    for scoring in ("f1_micro", "roc_auc", "average_precision"):
        compared(classifier(), LR, X, SEVERAL_LABELS, scoring=scoring)
    for scoring in ("r2", "neg_root_mean_squared_error", "explained_variance"):
        compared(regressor(), LR, X, Y, scoring=scoring)


def test_scorers_see_the_whole_pipeline():
    """A function of our own may look at any step, as it was fitted in the split."""
    compared(scaled(regressor()), LR_OF_MODEL, RAW, y, scoring=needs_a_scaler)


def test_scorers_are_given_the_weights_of_their_rows():
    """Scorers that take weights get them, of test and of training rows."""
    scoring = {"mae": "neg_mean_absolute_error", "r2": "r2"}
    compared(
        regressor(),
        LR,
        X,
        y,
        scoring=scoring,
        refit="r2",
        return_train_score=True,
        fit_params={"sample_weight": WEIGHT},
        cv=PAIR,
    )


def test_scorers_may_fail():
    """A score that cannot be had is nan, or a number, and a warning says so."""
    hinge = classifier(loss="hinge")
    compared(hinge, LR, X, LABELS, scoring="neg_log_loss", warns={UserWarning})
    compared(
        hinge,
        LR,
        X,
        LABELS,
        scoring="neg_log_loss",
        error_score=0.0,
        warns={UserWarning},
    )
    scoring = {"right": "accuracy", "picky": refuses_some}
    params = {"scoring": scoring, "refit": "right", "return_train_score": True}
    compared(classifier(), LR, X, LABELS, warns={UserWarning}, **params)


def test_scorers_see_a_fitted_model():
    """What ``fit`` leaves is there: weights, curves, names, and room for more."""

    def of_weights(estimator, X, y):
        sizes = [abs(coef).sum() for coef in estimator.coefs_]
        sizes += [abs(intercept).sum() for intercept in estimator.intercepts_]
        curves = estimator.loss_curve_ + estimator.validation_scores_
        names = estimator.feature_names_in_.tolist() + estimator.classes_.tolist()
        numbers = [estimator.n_iter_, estimator.t_, estimator.loss_, len(names)]
        return float(np.sum(sizes + curves + numbers))

    model = classifier(hidden_layer_sizes=(3,), early_stopping=True, max_iter=5)
    compared(model, {"alpha": [0.01, 0.1], **LR}, FRAME, LABELS, scoring=of_weights)

    def trains_on(estimator, X, y):
        before = estimator.score(X, y)
        return before - estimator.partial_fit(X, y).score(X, y)

    compared(regressor(), LR, X, y, scoring=trains_on)


def test_predictions_of_a_scorer_are_those_of_the_model_alone():
    """A scorer may ask for other rows than those of the split."""

    def shifted(estimator, X, y):
        return -float(np.mean((estimator.predict(X + 1) - y) ** 2))

    compared(regressor(), LR, X, y, scoring=shifted)
    compared(scaled(regressor()), LR_OF_MODEL, X, y, scoring=shifted)


# What fails

SGD = {"optimizer": "sgd", "max_iter": 4}
DIVERGING = {"lr": [0.01, 1e6, 0.02]}


@every_depth
@pytest.mark.parametrize("error_score", [np.nan, -7.5])
def test_a_model_that_diverges_gets_the_error_score(error_score, hidden):
    """A warning counts the fits that failed, and the others are as they were."""
    model = regressor(**SGD, hidden_layer_sizes=hidden)
    params = {"error_score": error_score, "return_train_score": True}
    found = compared(model, DIVERGING, X, y, warns=FAILED, **params)
    scores = scores_of(found)
    np.testing.assert_equal(scores[1], [error_score] * 2)
    assert found.best_index_ != 1
    without = VectorizedGridSearchCV(model, {"lr": [0.01, 0.02]}, cv=2).fit(X, y)
    np.testing.assert_allclose(scores[[0, 2]], scores_of(without), rtol=1e-12)
    search = VectorizedGridSearchCV(model, DIVERGING, cv=2, **params)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        _fit_quietly(search)


def _fit_quietly(search):
    """Fit a search whose nan scores are expected."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more of the t", UserWarning)
        search.fit(X, y)


@pytest.mark.parametrize("params", [{"early_stopping": True}, {"tol": 0.01}])
def test_a_model_that_diverges_among_some_that_stop(params):
    """With held-out rows it warns and keeps its best weights, without it fails."""
    model = regressor(**{**SGD, "max_iter": 12}, n_iter_no_change=2, **params)
    grid = {"lr": [0.003, 0.1, 1e6, 1e200]}
    warns = {ConvergenceWarning, *FAILED}
    compared(model, grid, X, y, cv=PAIR, warns=warns, scoring="neg_mean_squared_error")


def test_a_diverging_model_of_several_scores():
    """Every score of it is the error score, whoever computes them."""
    params = {"error_score": -1.0, "return_train_score": True}
    for scoring in (["r2", "neg_mean_squared_error"], two_scores_of_numbers):
        search = {"scoring": scoring, "refit": "r2", **params}
        compared(regressor(**SGD), DIVERGING, X, y, warns=FAILED, **search)
        grid = {"model__lr": DIVERGING["lr"]}
        compared(scaled(regressor(**SGD)), grid, X, y, warns=FAILED, **search)


def two_scores_of_numbers(estimator, X, y):
    """Return two scores by name."""
    return {"r2": estimator.score(X, y), "size": float(len(X))}


@pytest.mark.parametrize("grid", [DIVERGING, {"lr": [0.01, -1]}])
@pytest.mark.parametrize("pipeline", [False, True], ids=["alone", "in a pipeline"])
def test_errors_are_raised_if_asked_for(grid, pipeline):
    """With error_score="raise" the search ends with the error of the fit."""
    model = regressor(**SGD)
    if pipeline:
        model, grid = scaled(model), {f"model__{k}": v for k, v in grid.items()}
    messages = []
    for cls in (VectorizedGridSearchCV, GridSearchCV):
        with pytest.raises(ValueError, match=r"diverged|must be") as raised:
            cls(model, grid, cv=2, error_score="raise").fit(X, y)
        messages.append(str(raised.value)[:60])
    assert messages[0] == messages[1]


INVALID = {
    "lr": {"lr": [0.01, -1, 0.05]},
    "a word for lr": {"lr": [0.01, "fast", 0.05]},
    "none for alpha": {"alpha": [None, 0.1]},
    "a truth for alpha": {"alpha": [True, 0.1]},
    "seed": {"random_state": [0, -5, 1]},
    "batch_size": {"batch_size": [8, 0], **LR},
    "loss": {"loss": ["squared_error", "log_loss"], **LR},
    "layers": {"hidden_layer_sizes": [(), (0,), "many"], **LR},
    "schedule": {"lr_schedule": ["constant", lambda t: -1.0], **LR},
    "tol": {"tol": [None, -1], **LR},
    "dtype": {"dtype": ["float64", "float16"], **LR},
    "device": {"device": ["cpu", "abacus"], **LR},
}


@pytest.mark.parametrize("name", INVALID)
def test_values_that_are_refused(name):
    """An invalid value fails the fits of its candidates, and no others."""
    found = compared(regressor(), INVALID[name], X, y, apart=None, warns=FAILED)
    failed = np.isnan(scores_of(found)).any(1)
    assert failed.any()
    assert not failed.all()
    for group in found.groups_:
        assert set(failed[group.candidates]) == {not group.together}


def test_values_that_are_refused_in_a_pipeline():
    """So it is where the model is the last step."""
    grid = {"model__lr": [0.01, -1, 0.05], "scale__with_mean": [True, False]}
    found = compared(scaled(regressor()), grid, X, y, apart=None, warns=FAILED)
    together = [n for g in found.groups_ if g.together for n in g.candidates]
    assert sorted(together) == [0, 1, 4, 5]


def test_steps_that_fail():
    """A step that refuses its parameters fails the fits that have it."""
    pipeline = Pipeline([("pick", SelectKBest()), ("model", classifier())])
    grid = {"pick__k": [2, -1], **LR_OF_MODEL}
    found = compared(pipeline, grid, X, LABELS, apart=None, warns=FAILED)
    apart = [n for g in found.groups_ if not g.together for n in g.candidates]
    assert sorted(apart) == [1, 3]


def broken_later(t):
    """Return a factor of the learning rate of the first steps."""
    return 1 / max(0, 8 - t)


def score_of_slow_ones(estimator, X, y):
    """Return the score of a model with a small learning rate."""
    if estimator.lr > 0.02:
        raise LookupError("too fast")
    return estimator.score(X, y)


@pytest.mark.parametrize("pipeline", [False, True], ids=["alone", "in a pipeline"])
@pytest.mark.parametrize("name", ["lr_schedule", "scoring"])
def test_functions_that_raise_anything(name, pipeline):
    """An error of any kind in a function that a fit calls fails that fit."""
    model = regressor(early_stopping=True)
    function = broken_later if name == "lr_schedule" else score_of_slow_ones
    grid = {name: [getattr(model, name), function], **LR}
    if pipeline:
        model, grid = scaled(model), {f"model__{k}": v for k, v in grid.items()}
    found = compared(model, grid, X, y, apart=None, warns=FAILED)
    kept = [n for g in found.groups_ if g.together for n in g.candidates]
    assert sorted(kept) == [0, 2]


@pytest.mark.parametrize("cls", [VectorizedGridSearchCV, GridSearchCV])
def test_a_parameter_that_does_not_exist(cls):
    """The searches refuse it, whatever error_score is."""
    with pytest.raises(ValueError, match="Invalid parameter 'speed'"):
        cls(regressor(), {"speed": [1]}, cv=3).fit(X, y)


@pytest.mark.parametrize(
    "grid", [{"lr": [1e6]}, {"lr": [-1, -2]}], ids=["diverge", "refused"]
)
def test_all_fits_fail(grid):
    """The searches raise the same error, with all causes, if no fit succeeds."""
    messages = []
    for cls in (VectorizedGridSearchCV, GridSearchCV):
        with pytest.raises(ValueError, match=r"All the \d fits failed") as raised:
            cls(regressor(**SGD), grid, cv=2).fit(X, y)
        messages.append(str(raised.value).strip().splitlines()[0])
    assert messages[0] == messages[1]


@pytest.mark.parametrize("place", [0, 59])
def test_rows_that_are_refused(place):
    """A row that is not finite fails the fits that train on it."""
    rows = X.copy()
    rows[place] = np.nan
    cv = [(np.arange(40), np.arange(40, 50)), (np.arange(20, 60), np.arange(1, 20))]
    reason = "ValueError: "
    params = {"cv": cv, "refit": False}
    compared(regressor(), LR, rows, y, apart=reason, warns=FAILED, **params)


def test_targets_that_are_refused():
    """A target that the loss does not take fails the fits that train on it."""
    targets = POSITIVE.copy()
    targets[0] = -1
    grid = {"loss": ["gamma", "squared_error"], **LR}
    found = compared(regressor(), grid, X, targets, apart=None, warns=FAILED)
    assert {group.params["loss"]: group.together for group in found.groups_} == {
        "gamma": False,
        "squared_error": True,
    }
