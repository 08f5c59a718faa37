"""Pipelines, taken apart at their last step."""

from __future__ import annotations

from copy import copy
from typing import Any

from sklearn.pipeline import Pipeline


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
