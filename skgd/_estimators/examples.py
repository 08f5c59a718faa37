"""Examples: rows with their targets and weights, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin

from skgd._estimators.checks import (
    check_any_counts,
    check_dtype_of_device,
    check_weights,
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
from skgd._estimators.targets import Targets, class_weights, learn_targets, with_seen
from skgd._machine.arrays import Array, Indices
from skgd._machine.errors import errors_of_caller
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

    @property
    def total_weight(self) -> float:
        """The number of rows, or the sum of the weights that the caller gave them."""
        given = self.sample_weight
        return float(len(self.labels) if given is None else given.sum())

    def mean_weight(self, indices: Indices | None = None) -> float:
        """Return the mean of the weights, over some of them or all."""
        if self.weight is None:
            return 1.0
        return float(np.mean(self.weight if indices is None else self.weight[indices]))


def checked_examples(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    classes: ArrayLike | None = None,
    *,
    known: Targets | None,
    dtypes: Sequence[Any],
    first: bool,
    training: Examples | None = None,
    of_stream: bool = False,
) -> tuple[Examples, Targets]:
    """Return examples, and what is learnt of their targets, or raise ValueError.

    The first call notes the columns of X on the estimator. The examples are to train
    on, unless there are others for ``training``. Those of a stream may all have weight
    0, for there are others to come.
    """
    numeric = isinstance(estimator, RegressorMixin)
    rows, y = checked_rows_and_targets(
        estimator, X, y, list(dtypes), numeric=numeric, first=first
    )
    given = check_weights(
        "sample_weight", on_host("sample_weight", sample_weight), len(y)
    )
    targets, (labels, encoded) = learn_targets(
        estimator, y, dtype_of(rows), known, classes
    )
    if not of_stream:
        check_any_counts("sample_weight", given)
    if training is None:
        targets = with_seen(estimator, targets, encoded, given, of_stream=of_stream)
    weight = row_weights(
        estimator, targets, labels, encoded, given, of_stream=of_stream
    )
    return Examples(rows, labels, encoded, given, weight), targets


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
    check_any_counts("sample_weight", given)
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
) -> Array | None:
    """Return what rows count in the loss, (n,), by their labels and given weights."""
    weight, name = class_weights(settings, targets, labels, encoded), ""
    if weight is None:
        return given
    if given is not None:
        weight, name = weight * given, " * sample_weight"
    weight = check_weights(f"class_weight{name}", weight, len(labels))
    if not of_stream:
        check_any_counts(f"class_weight{name}", weight)
    return weight


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
