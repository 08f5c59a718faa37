"""What is learnt of y: its classes, or how many numbers a row has and their scale.

Kept on an estimator as ``classes_``, which is the caller's to read, and ``_targets_``.
"""

from __future__ import annotations

from functools import partial
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from skgd._equations.losses import LOSSES, Loss, Quantile
from skgd._estimators.checks import (
    check_all_seen,
    check_any_counts,
    check_as_many_labels,
    check_as_many_quantiles,
    check_class_weight,
    check_classes,
    check_domain,
    check_indicators,
    check_labels,
    check_more_classes,
    check_scoring,
    check_targets,
    check_weights,
    class_numbers_of,
    distinct_labels,
)
from skgd._estimators.parameters import is_real
from skgd._machine.arrays import Array
from skgd._machine.errors import in_the_words
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.target_scale import TargetScale


class Numbers(NamedTuple):
    """The targets of a regressor."""

    n_outputs: int
    one_column: bool  # whether y was (n,), and predictions are
    # On which training sees them; of several quantiles one for all.
    scale: TargetScale | None = None
    quantiles: tuple[float, ...] | None = None  # of y, if each is an output

    @property
    def is_flat(self) -> bool:
        """Whether predictions are (n,)."""
        return self.one_column and self.quantiles is None

    def loss_entry(self, loss: str) -> str:
        """Return the entry of the table of losses."""
        return loss

    def strata(self, encoded: Array) -> Array | None:
        """Return the classes whose shares held-out rows are to keep, if any, (n,)."""
        return None

    def coef(self, w: Array) -> Array:
        """Return the weights of a linear model, (o, i), in the shape of ``coef_``."""
        return w[0] if self.is_flat else w


class Classes(NamedTuple):
    """The targets of a classifier."""

    labels: Array
    several_a_row: bool  # whether y is 0 and 1 for each of several labels
    # Where classes are to be balanced, the rows of each that were seen, by what they
    # count: (1, classes); or (labels, 2), without each label and with it.
    seen: Array | None = None

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

    def is_one_against_rest(self, loss: str) -> bool:
        """Return whether the probabilities of the outputs need not add up to 1."""
        several = self.n_outputs > 1 and not self.several_a_row
        return several and loss != "log_loss"

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
    return numbers_of(settings, y, known), Encoded(y, targets)


def numbers_of(settings: Any, y: Array, known: Numbers | None) -> Numbers:
    """Return what is learnt of numbers but for their scale, or raise ValueError."""
    quantiles, n_columns = quantiles_of(settings), 1 if y.ndim == 1 else y.shape[1]
    check_scoring(settings, quantiles)
    if known is not None:
        check_as_many_quantiles(known.quantiles, quantiles)
    else:
        known = Numbers(n_columns, y.ndim == 1)
    if quantiles is None:
        return known._replace(n_outputs=n_columns, quantiles=None)
    if n_columns != 1:
        msg = (
            f"y must be one target if quantile is several. Got {n_columns} targets "
            f"and quantile={settings.quantile!r}; fit an estimator for each target, or "
            "give one quantile."
        )
        raise ValueError(msg)
    return known._replace(n_outputs=len(quantiles), quantiles=quantiles)


def quantiles_of(settings: Any) -> tuple[float, ...] | None:
    """Return the quantiles that are outputs of their own, if they are."""
    if settings.loss != "quantile" or is_real(settings.quantile):
        return None
    return tuple(map(float, settings.quantile))


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
        named = np.arange(y.shape[1])
        if classes is None and known is not None:
            check_as_many_labels(len(known.labels), len(named))
        found = _first_or_more(settings, known, named, several)
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
        known = _first_or_more(settings, known, named, several)
    check_labels(seen, known.labels)
    class_numbers = np.searchsorted(known.labels, labels)[np.newaxis]
    return known, Encoded(labels, np.ascontiguousarray(class_numbers, dtype))


def _first_or_more(
    settings: Any, known: Classes | None, named: Array, several: bool
) -> Classes:
    """Return the classes that are named, among which are those that are known."""
    if known is None:
        return Classes(check_classes(named, settings), several)
    if np.array_equal(known.labels, named):
        return known
    check_more_classes(known.labels, named)
    seen = known.seen
    if seen is not None and several:
        seen = np.concatenate([seen, np.zeros((len(named) - len(seen), 2))])
    elif seen is not None:
        of_all = np.zeros((1, len(named)))
        of_all[:, np.searchsorted(named, known.labels)] = seen
        seen = of_all
    return Classes(named, several, seen)


def with_seen(
    settings: Any,
    targets: Targets,
    encoded: Array,
    sample_weight: Array | None,
    *,
    of_stream: bool,
    ranks: Ranks = ALONE,
) -> Targets:
    """Return targets with the rows of each class, if the classes are to be balanced.

    Those of a stream are more with every call; those of a fit are what it is given. In
    both they are those of all ranks.
    """
    if isinstance(targets, Numbers):
        return targets
    if not _balances(settings):
        return targets if targets.seen is None else targets._replace(seen=None)
    n_values = 2 if targets.several_a_row else len(targets.labels)
    numbers = encoded.astype(np.intp)
    here = [np.bincount(of_row, sample_weight, n_values) for of_row in numbers]
    seen = ranks.sum(np.array(here, float))
    if not (of_stream or targets.several_a_row):
        ranks.agreed(partial(check_all_seen, targets.labels, seen[0]))
    if of_stream and targets.seen is not None:
        seen = seen + targets.seen
    return targets._replace(seen=seen)


def _balances(settings: Any) -> bool:
    given = settings.class_weight
    return isinstance(given, str) and given == "balanced"


def class_weights(
    settings: Any, targets: Targets, labels: Array, encoded: Array
) -> Array | None:
    """Return what the classes of the rows count, (n,), if unlike each other."""
    if isinstance(targets, Numbers) or settings.class_weight is None:
        return None
    check_class_weight(settings.class_weight, targets.several_a_row)
    with in_the_words(f"class_weight={settings.class_weight!r}"):
        if targets.seen is not None:
            weights = _balanced(targets.seen, encoded.astype(np.intp))
        elif not targets.several_a_row:
            classes = targets.labels
            of_classes = compute_class_weight(
                settings.class_weight, classes=classes, y=classes
            )
            check_any_counts("class_weight", of_classes)
            weights = of_classes[np.searchsorted(classes, labels)]
        else:
            weights = compute_sample_weight(settings.class_weight, labels)
            for one in settings.class_weight:  # a list, a dict for each label
                of_label = np.array([one.get(label, 1) for label in (0, 1)])
                check_any_counts("class_weight", of_label)
        return check_weights("class_weight", weights, len(labels))


def _balanced(seen: Array, encoded: Array) -> Array:
    """Return weights by which the classes seen so far count alike, (n,).

    Each row of ``encoded`` has its classes, and its own numbers of rows ``seen``. The
    mean of the weights over these is 1. A class without rows counts nothing.
    """
    product = np.ones(encoded.shape[1])
    for of_class, numbers in zip(seen, encoded, strict=True):
        there = of_class > 0
        weights = np.zeros(len(of_class))
        weights[there] = of_class.sum() / (there.sum() * of_class[there])
        product *= weights[numbers]
    return product


def labels_of_all(settings: Any, y: Array, ranks: Ranks) -> Array | None:
    """Return the labels that any rank has, None for one process or several a row."""
    several = y.ndim == 2 and y.shape[1] > 1
    if ranks is ALONE or isinstance(settings, RegressorMixin) or several:
        return None
    of_all = ranks.gathered(lambda: distinct_labels("y", np.ravel(y)))
    return np.unique(np.concatenate(of_all))


def numbers_of_loss(settings: Any, targets: Targets) -> tuple[float, Quantile, float]:
    """Return ``delta``, ``quantile`` and ``power``, which no loss of classes has."""
    if isinstance(targets, Classes):
        return nan, nan, nan
    quantile: Quantile = settings.quantile if is_real(settings.quantile) else nan
    return settings.delta, targets.quantiles or quantile, settings.power


def loss_of(settings: Any, targets: Targets) -> Loss:
    """Return the loss that is minimised."""
    numbers = numbers_of_loss(settings, targets)
    return LOSSES[targets.loss_entry(settings.loss)](*numbers)


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
