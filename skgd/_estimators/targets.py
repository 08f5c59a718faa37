"""What is learnt of y: its classes, or how many numbers a row has and their scale.

Kept on an estimator as ``classes_``, which is the caller's to read, and ``_targets_``.
"""

from __future__ import annotations

from math import nan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from skgd._equations.losses import LOSSES, Loss
from skgd._estimators.checks import (
    check_any_counts,
    check_class_weight,
    check_classes,
    check_domain,
    check_indicators,
    check_labels,
    check_targets,
    check_weights,
    class_numbers_of,
    distinct_labels,
)
from skgd._machine.arrays import Array
from skgd._machine.errors import in_the_words
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.target_scale import TargetScale


class Numbers(NamedTuple):
    """The targets of a regressor."""

    n_outputs: int
    one_column: bool  # whether y was (n,), and predictions are
    scale: TargetScale | None = None  # on which training sees them

    def loss_entry(self, loss: str) -> str:
        """Return the entry of the table of losses."""
        return loss

    def strata(self, encoded: Array) -> Array | None:
        """Return the classes whose shares held-out rows are to keep, if any, (n,)."""
        return None

    def coef(self, w: Array) -> Array:
        """Return the weights of a linear model, (o, i), in the shape of ``coef_``."""
        return w[0] if self.one_column else w


class Classes(NamedTuple):
    """The targets of a classifier."""

    labels: Array
    several_a_row: bool  # whether y is 0 and 1 for each of several labels

    @property
    def scale(self) -> None:
        """No class has a scale."""

    @property
    def n_outputs(self) -> int:
        """The number of outputs: two classes share one."""
        several = self.several_a_row or len(self.labels) > 2
        return len(self.labels) if several else 1

    def loss_entry(self, loss: str) -> str:
        """Return the entry of the table of losses."""
        if loss != "log_loss":
            return loss
        one_of_many = not self.several_a_row and len(self.labels) > 2
        return "multinomial_log_loss" if one_of_many else "binary_log_loss"

    def strata(self, encoded: Array) -> Array | None:
        """Return the classes whose shares held-out rows are to keep, if any, (n,)."""
        return None if self.several_a_row else encoded[0]

    def coef(self, w: Array) -> Array:
        """Return the weights of a linear model, (o, i), in the shape of ``coef_``."""
        return w


Targets = Numbers | Classes


class Encoded(NamedTuple):
    """Targets as the caller knows them, and as training does."""

    labels: Array
    targets: Array  # as numbers, (o, n), or as class numbers, (1, n)


def learn_targets(
    settings: Any,
    y: Array,
    dtype: Any,
    known: Targets | None = None,
    classes: ArrayLike | None = None,
) -> tuple[Targets, Encoded]:
    """Return what is learnt of y beside what is ``known``, and y encoded by it."""
    if isinstance(settings, RegressorMixin):
        assert not isinstance(known, Classes)
        return _learn_numbers(settings, y, dtype, known)
    assert not isinstance(known, Numbers)
    return _learn_classes(settings, y, dtype, known, classes)


def _learn_numbers(
    settings: Any, y: Array, dtype: Any, known: Numbers | None
) -> tuple[Numbers, Encoded]:
    check_domain(settings.loss, check_targets(y, dtype))
    columns = y[:, np.newaxis] if y.ndim == 1 else y  # there may be no rows
    targets = np.ascontiguousarray(columns.T, dtype=np.float64)
    if known is None:
        known = Numbers(len(targets), y.ndim == 1)
    return known._replace(n_outputs=len(targets)), Encoded(y, targets)


def _learn_classes(
    settings: Any,
    y: Array,
    dtype: Any,
    known: Classes | None,
    classes: ArrayLike | None,
) -> tuple[Classes, Encoded]:
    several = y.ndim == 2 and type_of_target(y) == "multilabel-indicator"
    if known is not None and known.several_a_row != several:
        kinds = ["one label a row", "several labels a row"]
        msg = (
            f"y must hold {kinds[known.several_a_row]}, as in the first call. Got "
            f"{kinds[several]}."
        )
        raise ValueError(msg)
    if several:
        check_indicators(y, classes)
        found = _same_or_first(settings, known, np.arange(y.shape[1]), several)
        return found, Encoded(y, np.ascontiguousarray(y.T, dtype))
    labels = y if y.ndim == 1 else column_or_1d(y, warn=True)
    if known is not None and (classes is None or np.array_equal(classes, known.labels)):
        class_numbers = class_numbers_of(labels, known.labels)
        if class_numbers is not None:  # known labels: no need to look closer
            encoded = np.ascontiguousarray(class_numbers[np.newaxis], dtype)
            return known, Encoded(labels, encoded)
    seen = distinct_labels("y", labels)
    check_classification_targets(labels)
    if known is None or classes is not None:
        named = seen if classes is None else distinct_labels("classes", classes)
        known = _same_or_first(settings, known, named, several)
    check_labels(seen, known.labels)
    class_numbers = np.searchsorted(known.labels, labels)[np.newaxis]
    return known, Encoded(labels, np.ascontiguousarray(class_numbers, dtype))


def _same_or_first(
    settings: Any, known: Classes | None, named: Array, several: bool
) -> Classes:
    """Return the classes that are named, the same as are known if any are."""
    if known is None:
        return Classes(check_classes(named, settings), several)
    if not np.array_equal(known.labels, named):
        msg = (
            f"classes must be those of the first call, {known.labels.tolist()}. "
            f"Got {named.tolist()}."
        )
        raise ValueError(msg)
    return known


def class_weights(
    settings: Any,
    targets: Targets,
    labels: Array,
    counts: Counts | None,
) -> Array | None:
    """Return what the classes of the rows count, (n,), if unlike each other.

    Where the classes are to be balanced, it is by the counts of rows in them.
    """
    if isinstance(targets, Numbers) or settings.class_weight is None:
        return None
    check_class_weight(settings.class_weight, targets.several_a_row)
    with in_the_words(f"class_weight={settings.class_weight!r}"):
        if not targets.several_a_row:
            of_classes = _of_classes(settings.class_weight, targets.labels, counts)
            check_any_counts("class_weight", of_classes)
            weights = of_classes[np.searchsorted(targets.labels, labels)]
        elif settings.class_weight == "balanced":
            assert counts is not None
            weights = np.ones(len(labels))
            for column, rows in zip(labels.T, counts.rows, strict=True):
                weights *= _balanced_by_place(rows)[column.astype(np.intp)]
        else:
            weights = compute_sample_weight(settings.class_weight, labels)
            for one in settings.class_weight:  # a list, a dict for each label
                of_label = np.array([one.get(label, 1) for label in (0, 1)])
                check_any_counts("class_weight", of_label)
        return check_weights("class_weight", weights, len(labels))


class Counts(NamedTuple):
    """How many rows there are of each class, and what they count in all.

    They are (k,), or (l, 2), the places of 0 and 1 for each of several labels a row.
    """

    rows: Array
    weight: Array


def counts_in_classes(targets: Targets, labels: Array, weight: Array | None) -> Counts:
    """Return the counts of rows in their classes."""
    assert isinstance(targets, Classes)
    if targets.several_a_row:
        ones = (labels == 1).sum(0, dtype=float)
        rows = np.stack([len(labels) - ones, ones], axis=1)
        return Counts(rows, rows)
    numbers, n_classes = np.searchsorted(targets.labels, labels), len(targets.labels)
    rows = np.bincount(numbers, minlength=n_classes).astype(float)
    return Counts(rows, np.bincount(numbers, weight, n_classes).astype(float))


def _of_classes(
    class_weight: Any, classes: Array, counts: Counts | None
) -> npt.NDArray[np.float64]:
    """Return what each class counts, as scikit-learn has it, by the counts of rows."""
    if counts is None:
        of_classes = compute_class_weight(class_weight, classes=classes, y=classes)
    else:
        there = counts.rows > 0
        of_classes = compute_class_weight(
            class_weight,
            classes=classes,
            y=classes[there],
            sample_weight=counts.weight[there],
        )
    return np.asarray(of_classes)


def _balanced_by_place(rows: Array) -> Array:
    """Return what 0 and 1 of a label count; one that no row has counts nothing."""
    there = np.flatnonzero(rows)
    balanced = np.zeros(2)
    balanced[there] = _of_classes("balanced", there, Counts(rows[there], rows[there]))
    return balanced


def labels_of_all(settings: Any, y: Array, ranks: Ranks) -> Array | None:
    """Return the labels that any rank has, None for one process or several a row."""
    several = y.ndim == 2 and y.shape[1] > 1
    if ranks is ALONE or isinstance(settings, RegressorMixin) or several:
        return None
    of_all = ranks.gathered(lambda: distinct_labels("y", np.ravel(y)))
    return np.unique(np.concatenate(of_all))


def numbers_of_loss(settings: Any) -> tuple[float, float]:
    """Return ``delta`` and ``quantile``, which no loss of classes has."""
    if isinstance(settings, RegressorMixin):
        return settings.delta, settings.quantile
    return nan, nan


def loss_of(settings: Any, targets: Targets) -> Loss:
    """Return the loss that is minimised."""
    return LOSSES[targets.loss_entry(settings.loss)](*numbers_of_loss(settings))


def known_targets(estimator: Any) -> Targets | None:
    """Return what an estimator has learnt of its targets, if anything."""
    kept: dict[str, Any] | None = getattr(estimator, "_targets_", None)
    if kept is None:
        return None
    if "several_a_row" in kept:
        return Classes(estimator.classes_, **kept)
    scale = kept["scale"]
    return Numbers(**{**kept, "scale": None if scale is None else TargetScale(**scale)})


def attributes_of_targets(targets: Targets) -> dict[str, Any]:
    """Return the attributes by which an estimator keeps them: values of Python's."""
    kept = targets._asdict()
    if isinstance(targets, Classes):
        return {"classes_": kept.pop("labels"), "_targets_": kept}
    if targets.scale is not None:
        kept["scale"] = targets.scale._asdict()
    return {"_targets_": kept}
