"""Scores that follow from predictions, as scikit-learn's metrics give them.

Its checks of labels and predictions take longer than a small model trains for an epoch.
Of plain arrays, the metrics that are asked for most need few of them: here they are
computed, in the dtype and the order of its sums, and everything else is left to the
scorer. (Where targets are constant, rounding decides whether R2 is 0 or -1e30.)

Dimension key: n samples, o targets or labels of a row, k classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite, nan
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import (
    accuracy_score,
    d2_pinball_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)

from skgd._estimators.sklearn_private import PassthroughScorer, Scorer
from skgd._estimators.targets import quantiles_of
from skgd._machine.arrays import Array, Floats, Indices

# Labels that are numbers are whole, and so small that all floats of them are exact.
_LARGEST_LABEL = 2.0**53


class Metric(NamedTuple):
    """A metric, the method it asks, and how it sees predictions and truth."""

    method: str
    seen: Callable[[Any, Array, Array], tuple[Array, Array] | None]
    of: Callable[[Array, Array, Array | None], Any]  # what is seen, weights


def plain_score(
    scorer: Any, estimator: Any, X: Any, y: Any, sample_weight: Any
) -> float | None:
    """Return the score, or None where it is the scorer's to say.

    That is where it is no metric of those below, where what it reads is more than plain
    numbers or labels, and where it would refuse them, or say more than a number.
    """
    found = _metric_of(scorer, estimator)
    if found is None or type(y) not in (np.ndarray, np.memmap) or y.ndim not in (1, 2):
        return None
    if not (len(y) > 0 and _count(sample_weight, len(y))):
        return None
    metric, sign = found
    try:
        predicted = getattr(estimator, metric.method)(X)
    except Exception:  # it is raised again where the scorer asks
        return None
    if type(predicted) is not np.ndarray:  # they are as X is
        return None
    seen = metric.seen(estimator, predicted, y)
    if seen is None:
        return None
    score = sign * float(metric.of(*seen, sample_weight))
    return score if isfinite(score) else None


def _metric_of(scorer: Any, estimator: Any) -> tuple[Metric, int] | None:
    """Return what a scorer computes for an estimator of ours, and its sign, if known.

    A class that is derived from ours may predict, or score, in a way of its own.
    """
    if type(estimator).__module__.partition(".")[0] != "skgd":
        return None
    if type(scorer) is PassthroughScorer:
        if not isinstance(estimator, ClassifierMixin) and quantiles_of(estimator):
            return None  # its score is another one
        classifies = isinstance(estimator, ClassifierMixin)
        return _METRICS[accuracy_score if classifies else r2_score], 1
    if type(scorer) is not Scorer or scorer._kwargs:
        return None
    metric = next((m for f, m in _METRICS.items() if f is scorer._score_func), None)
    if metric is None or scorer._response_method != metric.method:
        return None
    return metric, scorer._sign


def _count(weight: Any, n_samples: int) -> bool:
    """Return whether weights are such as a metric takes, and not all 0; or none."""
    if weight is None:
        return True
    if type(weight) is not np.ndarray or weight.shape != (n_samples,):
        return False
    if weight.dtype.kind not in "biuf":
        return False
    return bool((weight >= 0).all() and 0 < weight.sum() < np.inf)


# How metrics see predictions and truth


def _labels(estimator: Any, predicted: Array, y: Array) -> tuple[Array, Array] | None:
    """Return labels that may be compared as they are."""
    if predicted.shape != y.shape or not (_are_labels(predicted) and _are_labels(y)):
        return None
    if y.ndim == 1 and predicted.dtype.kind != y.dtype.kind:
        return None
    return predicted, y


def _are_labels(y: Array) -> bool:
    """Return whether scikit-learn takes them for labels of classes, or of a row."""
    if y.ndim == 2:
        are_binary = y.dtype.kind in "biuf" and ((y == 0) | (y == 1)).all()
        return y.shape[1] > 1 and bool(are_binary)
    if y.dtype.kind == "f":
        return bool(((np.abs(y) < _LARGEST_LABEL) & (y == np.floor(y))).all())
    if y.dtype.kind == "O":
        return all(isinstance(label, str) for label in y)
    return y.dtype.kind in "biuU"


def _numbers(
    estimator: Any, predicted: Array, y: Array
) -> tuple[Floats, Floats] | None:
    """Return finite numbers (n, o)."""
    kinds = predicted.dtype.kind + y.dtype.kind
    if predicted.shape != y.shape or not set(kinds) <= set("iuf"):
        return None
    if not (np.isfinite(predicted).all() and np.isfinite(y).all()):
        return None
    return predicted.reshape(len(y), -1), y.reshape(len(y), -1)


def _probabilities(
    estimator: Any, predicted: Array, y: Array
) -> tuple[Floats, Indices] | None:
    """Return probabilities (n, k) and the column of each label (n,).

    Every class must be among the labels, for the metric learns of them by these.
    """
    classes = estimator.classes_
    if y.ndim != 1 or predicted.shape != (len(y), len(classes)) or len(classes) < 2:
        return None
    if y.dtype.kind != classes.dtype.kind or not _are_labels(y):
        return None
    columns = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    if not (classes[columns] == y).all() or len(np.unique(columns)) < len(classes):
        return None
    if not ((predicted >= 0) & (predicted <= 1)).all():
        return None
    return predicted, columns


# The metrics


def _share_of_hits(predicted: Array, y: Array, weight: Array | None) -> Any:
    hits = predicted == y
    return np.average(hits if y.ndim == 1 else hits.all(1), weights=weight)


def _r2(predicted: Floats, y: Floats, weight: Array | None) -> Any:
    """Return 1 - sum (y - predicted)^2 / sum (y - mean)^2, the mean over the targets.

    Of a target that is constant it is 1 if it is predicted, or else 0.
    """
    if len(y) < 2:
        return nan
    predicted, y, weight = _in_one_dtype(predicted, y, weight)
    of_rows = 1.0 if weight is None else weight[:, np.newaxis]
    mean = np.average(y, axis=0, weights=weight)
    error = np.sum(of_rows * np.square(y - predicted), axis=0)
    spread = np.sum(of_rows * np.square(y - mean), axis=0)
    constant = spread == 0
    scores = 1 - error / np.where(constant, 1, spread)
    return np.where(constant, error == 0, scores).mean()


def _mean_squared_errors(predicted: Floats, y: Floats, weight: Array | None) -> Floats:
    """Return those of the targets, (o,)."""
    predicted, y, weight = _in_one_dtype(predicted, y, weight)
    errors: Floats = np.average(np.square(y - predicted), axis=0, weights=weight)
    return errors


def _mean_squared_error(predicted: Floats, y: Floats, weight: Array | None) -> Any:
    return _mean_squared_errors(predicted, y, weight).mean()


def _root_mean_squared_error(predicted: Floats, y: Floats, weight: Array | None) -> Any:
    return np.sqrt(_mean_squared_errors(predicted, y, weight)).mean()


def _mean_absolute_error(predicted: Floats, y: Floats, weight: Array | None) -> Any:
    predicted, y, weight = _in_one_dtype(predicted, y, weight)
    return np.average(np.abs(predicted - y), axis=0, weights=weight).mean()


def _in_one_dtype(
    predicted: Floats, y: Floats, weight: Array | None
) -> tuple[Floats, Floats, Floats | None]:
    """Return numbers and weights in the dtype that holds those that are floats."""
    given = [array for array in (predicted, y, weight) if array is not None]
    floats = [array.dtype for array in given if array.dtype.kind == "f"]
    dtype = np.result_type(*floats) if floats else np.dtype(float)
    predicted, y, *weights = (array.astype(dtype, copy=False) for array in given)
    return predicted, y, weights[0] if weights else None


def _log_loss(p: Floats, columns: Indices, weight: Array | None) -> Any:
    """Return -mean log p of the true class, where no p is nearer to 0 than rounding.

    Of two classes, p of the first is 1 - p of the second.
    """
    eps = np.finfo(p.dtype).eps
    of_truth = p[np.arange(len(p)), columns]
    if p.shape[1] == 2:
        of_truth = np.where(columns == 1, p[:, 1], 1 - p[:, 1])
    return np.average(-np.log(of_truth.clip(eps, 1 - eps)), weights=weight)


def mean_d2_pinball_score(
    quantiles: Sequence[float], y: Any, predicted: Any, *, sample_weight: Any
) -> float:
    """Return the mean of scikit-learn's score of each quantile, (n, k) predicted."""
    scores = [
        d2_pinball_score(y, column, sample_weight=sample_weight, alpha=quantile)
        for quantile, column in zip(quantiles, np.transpose(predicted), strict=True)
    ]
    return float(np.mean(scores))


_METRICS: Mapping[Any, Metric] = {
    accuracy_score: Metric("predict", _labels, _share_of_hits),
    r2_score: Metric("predict", _numbers, _r2),
    mean_squared_error: Metric("predict", _numbers, _mean_squared_error),
    root_mean_squared_error: Metric("predict", _numbers, _root_mean_squared_error),
    mean_absolute_error: Metric("predict", _numbers, _mean_absolute_error),
    log_loss: Metric("predict_proba", _probabilities, _log_loss),
}
