"""Which rows are held out: by a seed, in the shares of the classes; of blocks, whole.

Where several ranks have the rows, each holds out its part of them.
"""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from skgd._estimators.checks import check_any_counts, check_split
from skgd._estimators.examples import Examples
from skgd._estimators.surveys import BlockRows, rows_in_memory, without_blocks
from skgd._estimators.targets import Classes, Targets
from skgd._machine.arrays import Floats, Indices
from skgd._machine.ranks import ALONE, Ranks
from skgd._training.shards import Shard, Split, split_shard


def seed_of_split(generator: np.random.Generator, known: int | None = None) -> int:
    """Return the seed by which rows are held out: that of before, or one that is drawn.

    So a warm start holds out the same ones.
    """
    return int(generator.integers(2**31)) if known is None else known


def hold_out(
    settings: Any, examples: Examples, targets: Targets, split_seed: int
) -> tuple[Indices, Indices]:
    """Return the examples to train on, and those to hold out."""
    n_rows = len(examples.labels)
    try:
        rows, held_out = train_test_split(
            np.arange(n_rows),
            test_size=settings.validation_fraction,
            stratify=targets.strata(examples.targets),
            random_state=split_seed,
        )
    except ValueError as error:
        msg = (
            f"early_stopping=True must hold out validation_fraction="
            f"{settings.validation_fraction} of the {n_rows} rows. Got: {error} Give "
            "more rows, another fraction, or X_val and y_val."
        )
        raise ValueError(msg) from error
    check_split(len(held_out), *_count_in_all(examples, rows, held_out))
    return np.sort(rows), np.sort(held_out)


def hold_out_together(
    settings: Any, examples: Examples, targets: Targets, shard: Shard, split_seed: int
) -> Split:
    """Return which rows are held out where they lie on several ranks.

    They are as many as of one process, in the shares of the classes too.
    """
    strata, n_kinds = targets.strata(examples.targets), 1
    if isinstance(targets, Classes) and strata is not None:
        n_kinds = len(targets.labels)
    kinds = np.zeros(len(examples.labels)) if strata is None else strata
    n_held_out = ceil(settings.validation_fraction * shard.n_in_all)
    split = split_shard(shard, kinds.astype(np.int64), n_kinds, n_held_out, split_seed)
    told = len(split.rows), *_count_in_all(examples, split.rows, split.held_out)
    of_ranks = np.array(shard.ranks.gather(told))
    shard.ranks.agreed(partial(_check_split_of_all, of_ranks, n_held_out))
    return split


def _count_in_all(examples: Examples, *several: Indices) -> list[float]:
    """Return what some rows of the examples count, and some others."""
    if examples.weight is None:
        return [float(len(rows)) for rows in several]
    return [float(examples.weight[rows].sum()) for rows in several]


def _check_split_of_all(of_ranks: Floats, n_held_out: int) -> None:
    """Refuse a split of all rows, given rows and weights of each rank's parts."""
    n_rows, *counts = of_ranks.T
    if not n_rows.all():
        msg = (
            "early_stopping=True must leave every rank rows to train on. Got none on "
            f"rank {int(np.argmin(n_rows))}; give it more rows, or X_val and y_val."
        )
        raise ValueError(msg)
    check_split(n_held_out, *(float(count.sum()) for count in counts))


def hold_out_blocks(
    settings: Any, examples: Examples, targets: Targets, split_seed: int, ranks: Ranks
) -> tuple[Examples, Shard | None]:
    """Return the examples of the blocks to train on, which know those held out.

    Whole blocks are held out, and stay in memory: no more of them than make a window,
    if one does not. Ranks take them by turns; which of them lie here, the shard says.
    """
    rows: BlockRows = examples.X
    order = np.random.default_rng(split_seed).permutation(np.flatnonzero(rows.lengths))
    if len(order) < 2:
        msg = (
            "early_stopping=True must hold out one of several blocks. Got a single "
            "block; make smaller ones, or give X_val and y_val."
        )
        raise ValueError(msg)
    wanted = min(settings.validation_fraction * rows.shape[0], rows.blocks.chunk_rows)
    in_all = np.cumsum(rows.lengths[order])
    n_blocks = int(np.searchsorted(in_all, wanted, "right"))
    chosen = order[: min(max(1, n_blocks), len(order) - 1)]
    here = np.arange(len(chosen))[ranks.rank :: ranks.size].tolist()
    judged = ranks.agreed(
        lambda: rows_in_memory(settings, targets, rows, chosen[here].tolist())
    )
    mean_weight = judged.mean_weight(None, ranks)
    check_any_counts("sample_weight of the rows held out", np.array([mean_weight]))
    left = without_blocks(examples, chosen)
    check_any_counts("sample_weight of the rows trained on", left.weight)
    shard = None
    if ranks is not ALONE:
        lengths = tuple(rows.lengths[chosen].tolist())
        shard = Shard(ranks, lengths, tuple(here), mean_weight)
    return left._replace(X=left.X._replace(held_out=judged)), shard
