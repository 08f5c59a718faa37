"""Pipelines, and what is fitted one at a time: the scores are scikit-learn's."""

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import RAW, WEIGHT, X
from parity_cases import (
    GROUPS,
    LABELS,
    LR,
    LR_OF_MODEL,
    THREE,
    classifier,
    compared,
    likelihood,
    regressor,
    scaled,
    scores_of,
    y,
)
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    StandardScaler,
    TargetEncoder,
)

from skgd import MiniBatchRegressor, VectorizedGridSearchCV

pytestmark = pytest.mark.usefixtures("one_thread")


# Pipelines

FITTED = []  # the parameter of a Shift for each of its fits


class Shift(TransformerMixin, BaseEstimator):
    """Adds a number to all features, and notes down that it was fitted."""

    def __init__(self, by=0.0):
        self.by = by

    def fit(self, X, y=None):
        FITTED.append(self.by)
        return self

    def transform(self, X):
        return X + self.by


class Subclass(MiniBatchRegressor):
    """An estimator that may do anything else than its base."""


class OtherPipeline(Pipeline):
    """Likewise."""


def nested(model):
    """Return pipelines within a pipeline, before its last step and in its place."""
    before = Pipeline([("scale", StandardScaler()), ("clip", MinMaxScaler())])
    last = Pipeline([("pick", SelectKBest(k=3)), ("net", model)])
    return Pipeline([("before", before), ("last", last)])


TABLE = pd.DataFrame(RAW, columns=list("abcd")).assign(e=list("xyz") * 20)
OF_COLUMNS = ColumnTransformer(
    [("numbers", StandardScaler(), list("abc")), ("words", OneHotEncoder(), ["e"])]
)

PIPELINES = {
    "a scaler": (scaled(classifier()), RAW, LR_OF_MODEL),
    "the model alone": (Pipeline([("model", classifier())]), X, LR_OF_MODEL),
    "nested": (nested(classifier()), RAW, {"last__net__lr": [0.01, 0.05]}),
    "columns": (
        Pipeline([("columns", OF_COLUMNS), ("model", classifier())]),
        TABLE,
        LR_OF_MODEL,
    ),
    "no step": (
        Pipeline([("scale", "passthrough"), ("model", classifier())]),
        X,
        LR_OF_MODEL,
    ),
    "frames within": (
        scaled(classifier()).set_output(transform="pandas"),
        RAW,
        LR_OF_MODEL,
    ),
    "a parameter of a step": (
        scaled(classifier()),
        X,
        {"scale__with_mean": [True, False], **LR_OF_MODEL},
    ),
    "a parameter of a nested step": (
        nested(classifier()),
        RAW,
        {"last__pick__k": [1, 3], "last__net__lr": [0.01, 0.05]},
    ),
    "a parameter in columns": (
        Pipeline([("columns", OF_COLUMNS), ("model", classifier())]),
        TABLE,
        {"columns__numbers__with_std": [True, False], **LR_OF_MODEL},
    ),
    "another step": (
        scaled(classifier()),
        X,
        {
            "scale": [StandardScaler(), MinMaxScaler(), "passthrough", None],
            **LR_OF_MODEL,
        },
    ),
    "another model": (
        scaled(classifier()),
        RAW,
        {"model": [classifier(), classifier(hidden_layer_sizes=(3,))], **LR_OF_MODEL},
    ),
    "its shapes": (
        scaled(classifier()),
        RAW,
        {
            "model__hidden_layer_sizes": [(), (3,)],
            "scale__with_std": [True, False],
            "model__random_state": [0, 1],
        },
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_that_end_in_a_model(name):
    """Steps before the last see training rows only, and every test row after them."""
    pipeline, rows, grid = PIPELINES[name]
    scoring = likelihood
    compared(pipeline, grid, rows, THREE, scoring=scoring, return_train_score=True)


def test_training_rows_are_scored_as_they_are_transformed():
    """Not as ``fit_transform`` gave them to the model, which may be something else."""
    letters = pd.DataFrame({"a": np.repeat(list("abcdef"), 10)})
    cv = KFold(3, shuffle=True, random_state=0)
    pipeline = Pipeline([("encode", TargetEncoder(cv=cv)), ("model", regressor())])
    params = {"cv": cv, "return_train_score": True}
    compared(pipeline, LR_OF_MODEL, letters, y, **params)


def test_steps_of_one_setting_are_fitted_once_a_split():
    """Not for every candidate, though it be in another group."""
    pipeline = Pipeline([("shift", Shift()), ("model", regressor())])
    grid = {
        "shift__by": [0.0, 1.0],
        "model__batch_size": [8, 16],
        "model__lr": [0.01, 0.1],
    }
    compared(pipeline, grid, X, y)
    FITTED.clear()
    search = VectorizedGridSearchCV(pipeline, grid, cv=3, refit=False).fit(X, y)
    assert sorted(FITTED) == [0.0] * 3 + [1.0] * 3
    assert len(search.groups_) == 4


def test_steps_are_cached(tmp_path):
    """A pipeline with a memory uses it."""
    pipeline = scaled(classifier(), memory=joblib.Memory(tmp_path, verbose=0))
    grid = {"scale__with_mean": [True, False], **LR_OF_MODEL}
    compared(pipeline, grid, RAW, LABELS)


def test_weights_reach_the_last_step():
    """Parameters of fit go to the step that they are named for."""
    pipeline, weights = scaled(regressor()), {"model__sample_weight": WEIGHT}
    found = compared(pipeline, LR_OF_MODEL, RAW, y, fit_params=weights)
    without = VectorizedGridSearchCV(pipeline, LR_OF_MODEL, cv=2).fit(RAW, y)
    assert not np.array_equal(scores_of(found), scores_of(without))
    both = {"last__net__sample_weight": WEIGHT, "before__scale__sample_weight": WEIGHT}
    grid = {"last__net__lr": [0.01, 0.05]}
    compared(nested(classifier()), grid, RAW, THREE, fit_params=both)


def test_held_out_rows_of_a_pipeline():
    """Rows are held out of what the steps before the last have made of them."""
    model = classifier(early_stopping=True, max_iter=8, tol=0.01, n_iter_no_change=1)
    grid = {"model__lr": [0.01, 0.1, 1.0], "model__scoring": ["loss", None]}
    compared(scaled(model), grid, RAW, LABELS, warns={ConvergenceWarning})


def test_metadata_is_routed():
    """Weights that are asked for by name reach the models and the scorers."""
    with config_context(enable_metadata_routing=True):
        model = regressor().set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        weights = {"sample_weight": WEIGHT}
        compared(model, LR, X, y, fit_params=weights)
        pipeline = scaled(model)
        pipeline.named_steps["scale"].set_fit_request(sample_weight=True)
        compared(pipeline, LR_OF_MODEL, RAW, y, fit_params=weights)
        groups = {"groups": GROUPS}
        compared(model, LR, X, y, cv=GroupKFold(3), fit_params={**weights, **groups})


# What is fitted one at a time

APART = {
    "another estimator": (
        TransformedTargetRegressor(regressor()),
        {"regressor__lr": [0.01, 0.05]},
        "TransformedTargetRegressor",
    ),
    "a subclass": (Subclass(**regressor().get_params()), LR, "Subclass"),
    "another pipeline": (
        OtherPipeline([("model", regressor())]),
        LR_OF_MODEL,
        "OtherPipeline",
    ),
}


@pytest.mark.parametrize("name", APART)
def test_what_may_do_anything_is_fitted_one_at_a_time(name):
    """Estimators that are not skgd's own are left to scikit-learn."""
    model, grid, kind = APART[name]
    found = compared(model, grid, X, y, apart=None)
    reason = f"{kind} is not an estimator of skgd"
    assert {(g.together, g.reason) for g in found.groups_} == {(False, reason)}


def test_other_models_in_the_place_of_the_last_step():
    """Each candidate is trained in the way that its last step has."""
    grid = [
        {"model": [classifier()], "model__lr": [0.01, 0.05]},
        {"model": [LogisticRegression()], "model__C": [0.1, 1.0]},
        {"model": [scaled(classifier())]},
        {"scale": ["passthrough"]},
    ]
    found = compared(scaled(classifier()), grid, X, THREE, apart=None)
    reasons = {n: group.reason for group in found.groups_ for n in group.candidates}
    foreign = "LogisticRegression is not an estimator of skgd"
    others = "the steps of the pipeline are others"
    assert [reasons[n] for n in range(6)] == ["", "", foreign, foreign, others, ""]


def test_other_keywords_of_fit():
    """Rows to validate by are given to each fit, one at a time."""
    fit_params = {"X_val": X[:20], "y_val": y[:20]}
    reason = "fit is given more than sample_weight"
    compared(regressor(), LR, X, y, fit_params=fit_params, apart=reason)
