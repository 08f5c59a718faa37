"""Rows that are read block by block: what one pass over their targets tells.

A fit has to know of all rows, before the first step, how many there are, their classes
and what these count, the mean weight, and the scale of the targets. One pass over y and
the weights finds it, and keeps of each block a *digest*: a few targets with weights,
which stand for those of the block.

    classes     each label that there is, with the weight of its rows
    numbers     for a group of rows, m - s and m + s with half of their weight each

of the group's mean m and standard deviation s, so that shares, means and deviations
over digests are those over rows, to rounding. Groups are of targets next to each other
in size, so the losses of constants are nearly those over rows as well. All that is
learnt of targets elsewhere is learnt of digests by the same functions.

Dimension key: n rows of a block, k of its digest, i features, o outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn import config_context, get_config
from sklearn.base import RegressorMixin

from skgd._equations.losses import loss_named
from skgd._estimators.blocks import BlockPart, Blocks
from skgd._estimators.checks import (
    check_any_counts,
    check_weights,
    checked_targets,
    distinct_labels,
)
from skgd._estimators.examples import Examples, row_weights
from skgd._estimators.inputs import (
    are_plain,
    checked_rows_and_targets,
    dtype_of,
    on_host,
    rows_of_table,
)
from skgd._estimators.targets import (
    Numbers,
    Targets,
    learn_targets,
    numbers_of,
    with_seen,
)
from skgd._machine.arrays import Array, Floats, Indices
from skgd._machine.devices import to_numpy
from skgd._machine.errors import errors_of_caller, in_the_words, of_caller
from skgd._machine.ranks import ALONE, Ranks

# Groups of a block, and of all blocks together.
_GROUPS, _GROUPS_IN_ALL = 32, 2**15

# Some rows are read of so many blocks, and so many of each.
_SOME_BLOCKS, _SOME_ROWS = 8, 128


class Digest(NamedTuple):
    """What is kept of the targets of a block."""

    n_rows: int
    labels: Array  # (k,) or (k, o)
    weight: Floats  # (k,), in all of the rows that each stands for
    is_weighted: bool  # whether the rows have weights


class BlockRows(NamedTuple):
    """Rows in blocks: what ``Examples`` have for X, which are then their digests."""

    blocks: Blocks
    numbers: Indices  # of the blocks that are trained on
    lengths: Indices  # the rows of each of these
    digests: Indices  # (k,), which of these a row of the digests is of
    n_features: int
    dtype: np.dtype[Any]
    is_weighted: bool  # whether rows count differently
    some: Examples  # rows from all over the blocks
    held_out: Examples | None = None  # those of other blocks, to judge by

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and features."""
        return int(self.lengths.sum()), self.n_features

    def told_apart_by(self) -> list[Any]:
        """Return what tells these rows from others, without reading all of them."""
        blocks = map(self.blocks.block, range(self.blocks.n_blocks))
        n_bytes = [block.n_bytes for block in blocks]
        return [n_bytes, self.blocks.chunk_rows, self.lengths, self.some.X]


def surveyed(
    estimator: Any,
    blocks: Blocks,
    *,
    known: Targets | None,
    dtypes: Sequence[Any],
    first: bool,
    ranks: Ranks = ALONE,
) -> tuple[Examples, Targets]:
    """Return blocks as examples, and what is learnt of their targets.

    The first call notes the columns of X on the estimator. Ranks look through the
    blocks by turns.
    """
    told = {"X.n_blocks": blocks.n_blocks, "X.chunk_rows": blocks.chunk_rows}
    ranks.check_alike(lambda: told)
    dtype, n_features = ranks.agreed(
        lambda: _checked_first(estimator, blocks, list(dtypes), first=first)
    )
    by_turns = ranks.gathered(
        lambda: [
            _digest_of(estimator, blocks, number, dtype, known)
            for number in range(ranks.rank, blocks.n_blocks, ranks.size)
        ]
    )
    digests = [
        by_turns[number % ranks.size][number // ranks.size]
        for number in range(blocks.n_blocks)
    ]
    labels = np.concatenate([digest.labels for digest in digests if digest.n_rows])
    weight = np.concatenate([digest.weight for digest in digests])
    targets, encoded = _learnt(estimator, labels, dtype, known)
    is_given = any(digest.is_weighted for digest in digests)
    if is_given:
        check_any_counts("sample_weight", weight)
    targets = with_seen(estimator, targets, encoded, weight, of_stream=False)
    counts = row_weights(estimator, targets, labels, encoded, weight)
    lengths = np.array([digest.n_rows for digest in digests])
    ks = [len(digest.labels) for digest in digests]
    is_weighted = is_given or getattr(estimator, "class_weight", None) is not None
    rows = BlockRows(
        blocks,
        numbers=np.arange(blocks.n_blocks),
        lengths=lengths,
        digests=np.repeat(np.arange(blocks.n_blocks), ks),
        n_features=n_features,
        dtype=dtype,
        is_weighted=is_weighted,
        some=Examples(None, labels, encoded, None, None),
    )
    some = ranks.agreed(lambda: _some_of_blocks(estimator, targets, rows))
    rows = rows._replace(some=some)
    return Examples(rows, labels, encoded, weight, counts), targets


def _checked_first(
    estimator: Any, blocks: Blocks, dtypes: list[Any], *, first: bool
) -> tuple[np.dtype[Any], int]:
    """Return the dtype and the number of columns of the rows, by the first of them."""
    numeric = isinstance(estimator, RegressorMixin)
    for number in range(blocks.n_blocks):
        block = blocks.block(number)
        for part in block.parts(True):
            with in_the_words(block.name):
                X, _ = checked_rows_and_targets(
                    estimator, part.X, part.y, dtypes, numeric=numeric, first=first
                )
                _check_dense(X)
            return dtype_of(X), X.shape[1]
    raise ValueError("Blocks must hold rows. Got none in any of them.")


def _check_dense(X: Any) -> None:
    if issparse(X):
        msg = (
            "X must be dense in blocks. Got a sparse matrix; call partial_fit with "
            "sparse rows, block by block."
        )
        raise ValueError(msg)


def _digest_of(
    estimator: Any, blocks: Blocks, number: int, dtype: Any, known: Targets | None
) -> Digest:
    """Return the digest of a block, whose targets and weights are checked."""
    block, numeric = blocks.block(number), isinstance(estimator, RegressorMixin)
    n_groups = max(1, min(_GROUPS, _GROUPS_IN_ALL // blocks.n_blocks))
    if estimator.loss == "squared_error":  # it asks for no more than two moments
        n_groups = 1
    parts = [(part.y, part.sample_weight) for part in block.parts(False)]
    with in_the_words(block.name):
        ys = [checked_y(estimator, y) for y, _ in parts]
        if not ys:
            return Digest(0, np.empty(0), np.empty(0), False)
        y = np.concatenate(ys)
        given = [weight for _, weight in parts if weight is not None]
        weight = None
        if given:
            told = np.concatenate([on_host("sample_weight", one) for one in given])
            weight = check_weights("sample_weight", told, len(y))
        if numeric:
            learn_targets(estimator, y, dtype, known)  # they are looked at
            log_link = loss_named(estimator.loss).log_link
            digest = _digest_of_numbers(y, weight, n_groups, spread=not log_link)
        else:
            digest = _digest_of_classes(y, weight)
    return Digest(len(y), *digest, weight is not None)


def checked_y(estimator: Any, y: Any) -> Array:
    """Return the targets of some rows as an array, or raise ValueError."""
    if type(y) is np.ndarray and y.ndim == 1 and are_plain(y):
        return y
    numeric = isinstance(estimator, RegressorMixin)
    targets = checked_targets(on_host("y", y), np.shape(y)[0], numeric=numeric)
    array: Array = targets.toarray() if issparse(targets) else targets
    return array


def _digest_of_classes(y: Array, weight: Array | None) -> tuple[Array, Floats]:
    """Return the labels that there are, and what their rows count in all."""
    if y.ndim == 1:
        distinct_labels("y", y)  # of one kind, or an error
    labels, places = np.unique(y, return_inverse=True, axis=None if y.ndim == 1 else 0)
    counts = np.bincount(places.ravel(), weight, len(labels)).astype(float)
    return labels, counts


def _digest_of_numbers(
    y: Array, weight: Array | None, n_groups: int, *, spread: bool
) -> tuple[Array, Floats]:
    """Return numbers that have the means of groups of rows, and their ``spread``.

    Where all are to stay positive, one stands for a group, and else two.
    """
    of_rows = np.ones(len(y)) if weight is None else weight
    counting = np.flatnonzero(of_rows)
    if y.ndim == 1 and n_groups > 1:  # rows of several outputs have no order in common
        counting = counting[np.argsort(y[counting])]
    labels: list[Array] = []
    weights: list[float] = []
    for group in np.array_split(counting, n_groups):
        if not len(group):
            continue
        values, total = y[group].astype(float), float(of_rows[group].sum())
        mean, deviation = _moments(values, of_rows[group] / total)
        some = [mean - deviation, mean + deviation] if spread else [mean]
        labels += some
        weights += [total / len(some)] * len(some)
    shape = (len(labels), *y.shape[1:])
    return np.array(labels, float).reshape(shape), np.array(weights)


def _moments(values: Floats, shares: Floats) -> tuple[Any, Any]:
    """Return mean and standard deviation, by way of the largest: sums may overflow."""
    lowest, highest = values.min(axis=0), values.max(axis=0)
    largest = np.maximum(np.maximum(-lowest, highest), np.finfo(float).tiny)
    mean = np.clip(shares @ (values / largest), lowest / largest, highest / largest)
    alike = lowest == highest  # then the mean is that number, to the last bit
    deviation = np.sqrt(shares @ np.square(values / largest - mean))
    return (
        np.where(alike, lowest, mean * largest),
        np.where(alike, 0.0, deviation * largest),
    )


def _learnt(
    estimator: Any, labels: Array, dtype: Any, known: Targets | None
) -> tuple[Targets, Array]:
    """Return what is learnt of all targets by their digests, and these encoded."""
    if isinstance(estimator, RegressorMixin):
        encoded = np.ascontiguousarray(labels.reshape(len(labels), -1).T)
        before = known if isinstance(known, Numbers) else None
        return numbers_of(estimator, labels, before), encoded
    classes, (_, encoded) = learn_targets(estimator, labels, dtype, known)
    return classes, encoded


def some_rows(X: Any) -> Any:
    """Return rows, or of blocks a few from all over them."""
    return X.some.X if isinstance(X, BlockRows) else X


def without_blocks(examples: Examples, held_out: Indices) -> Examples:
    """Return the examples without some of the blocks, given their places among them."""
    rows: BlockRows = examples.X
    stay = np.setdiff1d(np.arange(len(rows.numbers)), held_out)
    is_left = np.isin(rows.digests, stay)
    rows = rows._replace(
        numbers=rows.numbers[stay],
        lengths=rows.lengths[stay],
        digests=np.searchsorted(stay, rows.digests[is_left]),
    )
    assert examples.sample_weight is not None
    assert examples.weight is not None
    return Examples(
        rows,
        examples.labels[is_left],
        examples.targets[:, is_left],
        examples.sample_weight[is_left],
        examples.weight[is_left],
    )


def parts_of_blocks(
    estimator: Any, targets: Targets, rows: BlockRows, places: Iterable[int]
) -> Iterator[Examples]:
    """Give the rows of blocks in this order, checked, some at a time.

    Blocks are named by their places among those that are trained on.
    """
    config = get_config()  # of this thread; another one may read
    for place in places:
        block, n_rows = rows.blocks.block(int(rows.numbers[place])), 0
        parts, wanted = block.parts(True), int(rows.lengths[place])
        while True:
            with config_context(**config):
                part = next(parts, None)
                if part is None:
                    break
                with errors_of_caller(), in_the_words(block.name):
                    examples = _checked_part(estimator, targets, rows, part)
            n_rows += len(examples.labels)
            if n_rows > wanted:
                break
            yield examples
        if n_rows != wanted:
            msg = (
                f"{block.name} must have {wanted} rows, as before training. Got "
                f"{n_rows}; let blocks stay as they are until fit has ended."
            )
            raise of_caller(ValueError(msg))


def _checked_part(
    estimator: Any, targets: Targets, rows: BlockRows, part: BlockPart
) -> Examples:
    """Return some rows as examples, or raise ValueError."""
    X, y = part.X, part.y
    names = getattr(estimator, "feature_names_in_", [])
    if list(names) and list(getattr(X, "column_names", [])) == list(names):
        X, y = rows_of_table(X, rows.dtype), checked_y(estimator, y)
    else:
        numeric = isinstance(estimator, RegressorMixin)
        X, y = checked_rows_and_targets(
            estimator, X, y, [rows.dtype], numeric=numeric, first=False
        )
        _check_dense(X)
        X = X if isinstance(X, np.ndarray) else to_numpy(X)
    labels, encoded = learn_targets(estimator, y, rows.dtype, targets)[1]
    given = check_weights(
        "sample_weight", on_host("sample_weight", part.sample_weight), len(labels)
    )
    weight = row_weights(estimator, targets, labels, encoded, given, of_stream=True)
    if weight is None and rows.is_weighted:  # of a block without weights of its own
        weight = np.ones(len(labels))
    return Examples(X, labels, encoded, given, weight)


def _some_of_blocks(estimator: Any, targets: Targets, rows: BlockRows) -> Examples:
    """Return a few rows of a few blocks, far from each other."""
    places = np.flatnonzero(rows.lengths)
    n = min(len(places), _SOME_BLOCKS)
    spread = places[np.linspace(0, len(places) - 1, n).astype(np.int64)]
    few = []
    for place in spread:
        part = next(parts_of_blocks(estimator, targets, rows, [place]))
        few.append(part.select(np.arange(min(len(part.labels), _SOME_ROWS))))
    return _joined(few)


def rows_in_memory(
    estimator: Any, targets: Targets, rows: BlockRows, places: Iterable[int]
) -> Examples:
    """Return all rows of some blocks, perhaps of none."""
    parts = list(parts_of_blocks(estimator, targets, rows, places))
    return _joined(parts or [rows.some.select(np.arange(0))])


def _joined(parts: Sequence[Examples]) -> Examples:
    """Return the examples of several parts as one."""
    given = [part.sample_weight for part in parts if part.sample_weight is not None]
    weights = [part.weight for part in parts if part.weight is not None]
    rows = [part.X for part in parts]  # those of a table lie column by column
    X = np.empty((sum(map(len, rows)), rows[0].shape[1]), rows[0].dtype)
    return Examples(
        np.concatenate(rows, out=X),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.targets for part in parts], axis=1),
        np.concatenate(given) if len(given) == len(parts) else None,
        np.concatenate(weights) if weights else None,
    )
