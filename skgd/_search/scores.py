"""The scores of models, as scikit-learn's searches tell them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from time import perf_counter
from traceback import format_exception
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from skgd._estimators.endings import ending
from skgd._estimators.metrics import plain_score
from skgd._estimators.predictions import let_forget_
from skgd._estimators.sklearn_private import (
    BaseScorer,
    MultimetricScorer,
    PassthroughScorer,
    check_method_params,
    num_samples,
    safe_split,
    score_of,
)
from skgd._machine.arrays import Array
from skgd._search.pipelines import with_last_step
from skgd._search.request import CvSplit, Parameters, Request, Result
from skgd._search.stacks import Outcome


class ScoredRows(NamedTuple):
    """Rows that are scored, in the eyes of the pipeline and of its last step."""

    X: ArrayLike
    seen: ArrayLike
    y: ArrayLike
    params: Parameters  # of the scorer


def scored_rows(
    request: Request, estimator: Any, split: CvSplit
) -> dict[str, ScoredRows]:
    """Return what is scored in a split: test rows and, if asked, training rows."""
    parts: dict[str, tuple[Array, Array | None]] = {"test": (split.test, split.train)}
    if request.return_train_score:
        parts["train"] = (split.train, None)
    scored = {}
    for name, (some, train) in parts.items():
        X, y = safe_split(estimator, request.X, request.y, some, train)
        params = check_method_params(
            request.X, params=request.score_params, indices=some
        )
        seen = X if split.prepared is None else split.prepared.scored[name]
        scored[name] = ScoredRows(X, seen, y, params)
    return scored


def result_of(
    request: Request, outcome: Outcome, split: CvSplit, rows: Mapping[str, ScoredRows]
) -> Result:
    """Return the scores of a model as scikit-learn's function for one fit does."""
    result: Result = {
        "fit_error": None,
        "n_test_samples": num_samples(rows["test"].X),
        "fit_time": outcome.seconds,
        "score_time": 0.0,
        "loss_curve": np.array(outcome.history.loss_curve),
        "together": True,
        "engine": outcome.engine,
    }
    if outcome.error is not None:
        if request.error_score == "raise":
            raise outcome.error
        result["fit_error"] = "".join(format_exception(outcome.error))
        scores = request.error_score
        if isinstance(request.scorer, MultimetricScorer):
            scores = dict.fromkeys(request.scorer._scorers, request.error_score)
        return result | {f"{name}_scores": copy(scores) for name in rows}
    result["ending"] = ending(outcome.estimator, outcome.history)
    for name, (X, seen, y, params) in rows.items():
        began = perf_counter()
        estimator = outcome.estimator
        if split.prepared is not None and (params or not asks_only(request.scorer)):
            estimator = with_last_step(split.prepared.pipeline, estimator)
            seen = X
        found: Any = None
        if not params.keys() - {"sample_weight"}:
            weight = params.get("sample_weight")
            found = plain_score(request.scorer, estimator, seen, y, weight)
        if found is None:
            found = score_of(
                estimator, seen, y, request.scorer, params, request.error_score
            )
        result[f"{name}_scores"] = found
        if name == "test":
            result["score_time"] = perf_counter() - began
    let_forget_(outcome.estimator)
    return result


def asks_only(scorer: Any) -> bool:
    """Return whether a scorer does no more than ask for predictions, or the score.

    Then a pipeline and its last step are the same to it, and what it is given stays as
    it is. A function of the user's may do anything.
    """
    scorers = [scorer]
    if isinstance(scorer, MultimetricScorer):
        scorers = list(scorer._scorers.values())
    return all(
        isinstance(one, PassthroughScorer)
        or (
            isinstance(one, BaseScorer)
            and one._score_func.__module__.startswith("sklearn.")
        )
        for one in scorers
    )
