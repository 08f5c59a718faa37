"""Examples: rows with their targets and weights, checked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin

from skgd._estimators.checks import (
    check_any_counts,
    check_dtype_of_device,
    check_weights,
    kind_of_labels,
    too_large,
)
from skgd._estimators.inputs import (
    Matrix,
    checked_rows_and_targets,
    device_of,
    dtype_of,
    on_host,
    take_rows,
)
from skgd._estimators.parameters import hidden_units
from skgd._estimators.targets import (
    Classes,
    Targets,
    class_weights,
    labels_of_all,
    learn_targets,
    with_seen,
)
from skgd._machine.arrays import Array, Indices
from skgd._machine.errors import errors_of_caller
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.csr import is_wide
from skgd._training.strips import rows_of_a_strip


class Examples(NamedTuple):
    """Rows with their targets and weights."""

    X: Matrix
    labels: Array  # the targets as the caller knows them
    targets: Array  # as numbers, (o, n), or as class numbers, (1, n)
    sample_weight: Array | None  # (n,), as the caller gave it
    weight: Array | None  # (n,), what a row counts in the loss
    # (n,), where they are in X; None is all of X in order.
    within: Indices | None = None

    def select(self, indices: Indices) -> Examples:
        """Return some of them, their rows copied."""
        given, weight = self.sample_weight, self.weight
        return Examples(
            self.rows(indices),
            self.labels[indices],
            self.targets[:, indices],
            None if given is None else given[indices],
            None if weight is None else weight[indices],
        )

    def rows(self, indices: Indices) -> Matrix:
        """Return a copy of some of the rows."""
        return take_rows(self.X, self.indices_in_X(indices))

    def indices_in_X(self, indices: Indices) -> Indices:
        """Return where some of them are in X."""
        return indices if self.within is None else self.within[indices]

    def total_weight(self, ranks: Ranks) -> float:
        """Return the number of rows, or the sum of weights given, of all ranks."""
        given = self.sample_weight
        total = len(self.labels) if given is None else given.sum()
        return float(ranks.sum(np.array([total], float))[0])

    def mean_weight(
        self, indices: Indices | None = None, ranks: Ranks = ALONE
    ) -> float:
        """Return the mean of the weights, over some of them or all, of all ranks."""
        weight, n_rows = self.weight, len(self.labels)
        if indices is not None:
            weight, n_rows = None if weight is None else weight[indices], len(indices)
        if ranks is ALONE:
            return 1.0 if weight is None else float(np.mean(weight))
        total = n_rows if weight is None else weight.sum()
        total, n_rows = ranks.sum(np.array([total, n_rows], float))
        return float(total / n_rows)


def checked_examples(
    estimator: Any,
    X: ArrayLike | None,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
    classes: ArrayLike | None = None,
    *,
    known: Targets | None,
    dtypes: Sequence[Any],
    first: bool,
    training: Examples | None = None,
    of_stream: bool = False,
    ranks: Ranks = ALONE,
) -> tuple[Examples, Targets]:
    """Return examples, and what is learnt of their targets, or raise ValueError.

    The first call notes the columns of X on the estimator. The examples are to train
    on, unless there are others for ``training``. Those of a stream may all have weight
    0, for there are others to come. What is learnt and counted is that of all ranks, of
    which each has some of the rows; or, of others than for training, X may be None.
    """

    def read() -> tuple[Matrix, Array, Array | None]:
        """Return the rows that lie here, with their targets and weights."""
        if X is None and training is not None:
            none = np.zeros(0, np.int64)
            return training.rows(none), training.labels[:0], np.zeros(0)
        numeric = isinstance(estimator, RegressorMixin)
        rows, labels = checked_rows_and_targets(
            estimator, X, y, list(dtypes), numeric=numeric, first=first
        )
        weights = on_host("sample_weight", sample_weight)
        return rows, labels, check_weights("sample_weight", weights, len(labels))

    rows, labels, given = ranks.agreed(read)
    ranks.check_alike(partial(_columns_alike, estimator, rows, labels, given))
    if known is None and classes is None:
        classes = labels_of_all(estimator, labels, ranks)
    targets, (labels, encoded) = ranks.agreed(
        partial(learn_targets, estimator, labels, dtype_of(rows), known, classes)
    )
    ranks.check_alike(partial(_classes_alike, targets))
    if not of_stream:
        _check_any_counts("sample_weight", given, ranks)
    if training is None:
        targets = with_seen(
            estimator, targets, encoded, given, of_stream=of_stream, ranks=ranks
        )
    weight = row_weights(
        estimator, targets, labels, encoded, given, of_stream=of_stream, ranks=ranks
    )
    return Examples(rows, labels, encoded, given, weight), targets


def _columns_alike(
    estimator: Any, rows: Matrix, y: Array, given: Array | None
) -> dict[str, object]:
    """Return what rows must have in common on all ranks."""
    if not len(y):
        return {}
    kind = "numbers" if y.dtype.kind in "biuf" else kind_of_labels(y)
    return {
        "The number of features of X": rows.shape[1],
        "The names of the features of X": [
            *getattr(estimator, "feature_names_in_", [])
        ],
        "The dtype of X": np.dtype(dtype_of(rows)).name,
        "The columns of y": y.shape[1:],
        "The kind of y": kind,
        "Whether sample_weight is given": given is not None,
    }


def _classes_alike(targets: Targets) -> dict[str, object]:
    """Return what is learnt of classes, which must be the same on all ranks."""
    if not isinstance(targets, Classes):
        return {}
    return {
        "The number of classes": len(targets.labels),
        "The classes": targets.labels.tolist(),
    }


def examples_within(
    settings: Any, examples: Examples, indices: Indices
) -> tuple[Examples, Targets]:
    """Return some of the examples and what is learnt of these, their rows shared."""
    targets, (labels, encoded) = learn_targets(
        settings, examples.labels[indices], dtype_of(examples.X)
    )
    given = examples.sample_weight
    if given is not None:
        given = check_weights("sample_weight", given[indices], len(indices))
    _check_any_counts("sample_weight", given, ALONE)
    targets = with_seen(settings, targets, encoded, given, of_stream=False)
    weight = row_weights(settings, targets, labels, encoded, given)
    return Examples(examples.X, labels, encoded, given, weight, indices), targets


def row_weights(
    settings: Any,
    targets: Targets,
    labels: Array,
    encoded: Array,
    given: Array | None,
    *,
    of_stream: bool = False,
    ranks: Ranks = ALONE,
) -> Array | None:
    """Return what rows count in the loss, (n,), by their labels and given weights."""
    name = "class_weight" if given is None else "class_weight * sample_weight"

    def with_classes() -> Array | None:
        """Return what the rows count by their classes as well, if these do."""
        weight = class_weights(settings, targets, labels, encoded)
        if weight is not None and given is not None:
            weight = weight * given
        return check_weights(name, weight, len(labels))

    weight = ranks.agreed(with_classes)
    if weight is None:
        return given
    if not of_stream:
        _check_any_counts(name, weight, ranks)
    return weight


def _check_any_counts(name: str, weight: Array | None, ranks: Ranks) -> None:
    """Refuse weights by which nothing counts on any rank."""
    total = ranks.sum(np.array([np.inf if weight is None else weight.sum()]))
    ranks.agreed(partial(check_any_counts, name, total))


def device_for(settings: Any, X: Matrix) -> torch.device:
    """Return where to compute: on the device of a tensor, or on the given one."""
    with errors_of_caller():
        device = device_of(X, settings.device)
        check_dtype_of_device(dtype_of(X), device.type)
    return device


def sentence_on_memory(settings: Any, X: Matrix, n_outputs: int) -> str:
    """Return the sentence about training on X that needs more memory than there is."""
    n_rows, n_features = X.shape
    if device_for(settings, X).type == "cpu" and not is_wide(X):  # batches are cut
        units = [*hidden_units(settings), n_outputs]
        n_rows = min(n_rows, rows_of_a_strip(n_features, units))
    return too_large(settings, n_rows, n_features, n_outputs)


def dtypes_of(settings: Any, of_state: Any | None = None) -> list[Any]:
    """Return the dtypes that X may have; it becomes the first one otherwise.

    Training goes on, and predictions are made, in that ``of_state``.
    """
    if settings.dtype is not None:
        return [np.dtype(settings.dtype)]
    if of_state is not None:
        return [of_state]
    float32 = np.dtype(np.float32)
    return [np.dtype(np.float64), float32, float32.newbyteorder()]
