"""Scores that follow from predictions, as scikit-learn's metrics give them.

Its checks of labels and predictions take longer than a small model trains for an epoch.
Of plain arrays, the metrics that are asked for most need none of them: here they are
computed, and everything else is left to the scorer.

Dimension key: n samples, o targets or labels of a row, or classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)

from skgd._estimators.sklearn_private import PassthroughScorer, Scorer
from skgd._machine.arrays import Array, Floats


class Metric(NamedTuple):
    """A metric, and the method whose predictions it reads."""

    method: str
    of: Callable[[Any, Array, Array | None], float]  # predictions, truth, weights


def plain_score(
    scorer: Any, estimator: Any, X: Any, y: Any, sample_weight: Array | None
) -> float | None:
    """Return the score, or None where it is the scorer's to say.

    That is where it is no metric of those below, where what it reads is more than plain
    numbers or labels, and where it would refuse them.
    """
    found = _metric_of(scorer, estimator)
    if found is None or not (isinstance(y, np.ndarray) and _count(sample_weight)):
        return None
    metric, sign = found
    read: Callable[[Any], Any] | None = getattr(estimator, metric.method, None)
    predicted = None if read is None else read(X)
    if not isinstance(predicted, np.ndarray):  # they are as X is
        return None
    if metric.method == "predict_proba":
        columns = _columns(estimator.classes_, y, predicted)
        if columns is None:
            return None
        y = columns
    elif predicted.shape != y.shape or not _are_plain(estimator, y, predicted):
        return None
    return sign * metric.of(predicted, y, sample_weight)


def _metric_of(scorer: Any, estimator: Any) -> tuple[Metric, int] | None:
    """Return what a scorer computes for an estimator of ours, and its sign, if known.

    A class that is derived from ours may predict, or score, in a way of its own.
    """
    if type(estimator).__module__.partition(".")[0] != "skgd":
        return None
    if isinstance(scorer, PassthroughScorer):
        by_default = (
            accuracy_score if isinstance(estimator, ClassifierMixin) else r2_score
        )
        return _METRICS[by_default], 1
    if not isinstance(scorer, Scorer) or scorer._kwargs:
        return None
    metric = _METRICS.get(scorer._score_func)
    if metric is None or scorer._response_method != metric.method:
        return None
    return metric, scorer._sign


def _count(weight: Any) -> bool:
    """Return whether weights are such as a metric takes, and not all 0; or none."""
    if weight is None:
        return True
    if not isinstance(weight, np.ndarray) or weight.ndim != 1:
        return False
    return bool((weight >= 0).all() and 0 < weight.sum() < np.inf)


def _are_plain(estimator: Any, y: Array, predicted: Array) -> bool:
    """Return whether labels may be compared as they are, or numbers subtracted."""
    if isinstance(estimator, ClassifierMixin):
        return len(y) > 0 and y.dtype.kind == predicted.dtype.kind
    kinds = y.dtype.kind in "iuf" and predicted.dtype.kind == "f"
    return kinds and len(y) > 1 and bool(np.isfinite(predicted).all())


def _columns(classes: Array, y: Array, probabilities: Array) -> Array | None:
    """Return the column of each label (n,), if every class is among them."""
    if y.ndim != 1 or probabilities.shape != (len(y), len(classes)):
        return None
    if not (np.isfinite(probabilities).all() and y.dtype.kind == classes.dtype.kind):
        return None
    columns = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    if not (classes[columns] == y).all():
        return None
    return columns if len(np.unique(columns)) == len(classes) else None


def _share_of_hits(predicted: Array, y: Array, weight: Array | None) -> float:
    hits = predicted == y
    return float(np.average(hits if y.ndim == 1 else hits.all(1), weights=weight))


def _r2(predicted: Floats, y: Floats, weight: Array | None) -> float:
    """Return 1 - sum (y - predicted)^2 / sum (y - mean)^2, the mean over the targets.

    Of a target that is constant it is 1 if it is predicted, or else 0.
    """
    y, errors = y.reshape(len(y), -1).T, _errors(predicted, y).reshape(len(y), -1).T
    w = np.ones(y.shape[1]) if weight is None else weight
    mean = np.average(y, axis=1, weights=w)[:, np.newaxis]
    error, spread = np.square(errors) @ w, np.square(y - mean) @ w
    constant = spread == 0
    scores = 1 - error / np.where(constant, 1, spread)
    return float(np.where(constant, error == 0, scores).mean())


def _mean_squared_error(predicted: Floats, y: Floats, weight: Array | None) -> float:
    return float(np.average(np.square(_errors(predicted, y)), 0, weight).mean())


def _root_mean_squared_error(
    predicted: Floats, y: Floats, weight: Array | None
) -> float:
    of_targets = np.average(np.square(_errors(predicted, y)), 0, weight)
    return float(np.sqrt(of_targets).mean())


def _mean_absolute_error(predicted: Floats, y: Floats, weight: Array | None) -> float:
    return float(np.average(np.abs(_errors(predicted, y)), 0, weight).mean())


def _errors(predicted: Floats, y: Floats) -> Floats:
    errors: Floats = y - predicted.astype(float)
    return errors


def _log_loss(p: Floats, columns: Array, weight: Array | None) -> float:
    """Return -mean log p of the true class, where no p is nearer to 0 than rounding."""
    eps = np.finfo(p.dtype).eps
    of_truth = p[np.arange(len(p)), columns].clip(eps, 1 - eps)
    return float(np.average(-np.log(of_truth.astype(float)), weights=weight))


_METRICS: Mapping[Any, Metric] = {
    accuracy_score: Metric("predict", _share_of_hits),
    r2_score: Metric("predict", _r2),
    mean_squared_error: Metric("predict", _mean_squared_error),
    root_mean_squared_error: Metric("predict", _root_mean_squared_error),
    mean_absolute_error: Metric("predict", _mean_absolute_error),
    log_loss: Metric("predict_proba", _log_loss),
}
