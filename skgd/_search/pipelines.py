"""Pipelines, taken apart at their last step."""

from __future__ import annotations

from copy import copy
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skgd._estimators.sklearn_private import check_method_params, safe_split
from skgd._search.request import CvSplit, Prepared, Request


def last_step(estimator: Any) -> tuple[str, Any]:
    """Return how names of the last step's parameters begin, and the last step.

    An estimator that is no pipeline is its own last step.
    """
    path = ""
    while type(estimator) is Pipeline:
        name, estimator = estimator.steps[-1]
        path += f"{name}__"
    return path, estimator


def with_last_step(pipeline: Any, estimator: Any) -> Any:
    """Return a pipeline with the same steps but for the last."""
    if type(pipeline) is not Pipeline:
        return estimator
    other = copy(pipeline)
    name, last = pipeline.steps[-1]
    other.steps = [*pipeline.steps[:-1], (name, with_last_step(last, estimator))]
    return other


def fit_steps(request: Request, estimator: Any, split: CvSplit) -> CvSplit:
    """Return a split with the steps before the last fitted, or why they are not."""
    pipeline, given = clone(estimator), dict[str, Any]()
    _, last = last_step(pipeline)

    def note_down(X: ArrayLike, y: ArrayLike, **params: Any) -> Any:
        given.update(X=X, y=y, params=params)
        return last

    last.fit = note_down  # in the place of the method
    X, y = safe_split(pipeline, request.X, request.y, split.train)
    X_test, _ = safe_split(pipeline, request.X, request.y, split.test, split.train)
    params = check_method_params(
        request.X, params=request.fit_params, indices=split.train
    )
    try:
        pipeline.fit(X, y, **params)
        scored = {"test": _before_last(pipeline, X_test)}
        if request.return_train_score:
            scored["train"] = _before_last(pipeline, X)
    except Exception as error:  # any step may raise anything
        return split._replace(reason=reason_of(error))
    del last.fit
    if given["params"].keys() - {"sample_weight"}:
        return split._replace(reason="fit is given more than sample_weight")
    weight = given["params"].get("sample_weight")
    prepared = Prepared(pipeline, given["X"], given["y"], weight, scored)
    return split._replace(prepared=prepared)


def reason_of(error: Exception) -> str:
    """Return an error as the reason why fits are made one at a time."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _before_last(pipeline: Any, X: ArrayLike) -> ArrayLike:
    """Return what the last step of a fitted pipeline gets to see of some rows."""
    while type(pipeline) is Pipeline:
        *steps, (_, last) = pipeline.steps
        for _, step in steps:
            X = X if step in (None, "passthrough") else step.transform(X)
        pipeline = last
    return X
