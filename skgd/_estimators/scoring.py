"""Scores of rows that are held out, epoch by epoch, by any scorer of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import nan
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse, vstack
from sklearn import config_context
from sklearn.metrics import check_scoring
from torch import Tensor

from skgd._equations.network import Layer, Network
from skgd._estimators.checks import check_score, takes_weights
from skgd._estimators.examples import Examples
from skgd._estimators.inputs import Matrix, on_host
from skgd._estimators.metrics import plain_score
from skgd._estimators.predictions import (
    layers_at,
    let_know_,
    models_at_once,
    raw_predictions,
)
from skgd._estimators.state import copy_of
from skgd._estimators.targets import Targets, attributes_of_targets
from skgd._estimators.weights import Layers, coefficients, layers_of
from skgd._machine.arrays import Array, Indices
from skgd._machine.devices import to_numpy
from skgd._machine.errors import errors_of_caller, in_the_words
from skgd._machine.memory import pieces
from skgd._machine.modes import modes_of_others
from skgd._training.shards import Shard, in_order_of_partitions, parts_of_all
from skgd._training.stack import Score
from skgd._training.target_scale import prediction_of_y

# Numbers of the held-out rows that are copied at once, and rows at the least.
_NUMBERS_AT_ONCE, _FEWEST_AT_ONCE = 2**20, 64


class HeldOutRows(NamedTuple):
    """Rows by which the models of a fold are scored."""

    X: Matrix  # as a scorer gets to see it
    labels: Array
    sample_weight: Array | None
    examples: Examples
    parts: Sequence[Indices] | None  # of the examples, predicted in turn; None is X
    shard: Shard | None = None  # where other ranks have the other rows

    def matrices(self) -> Iterator[Matrix]:
        """Give the rows to predict, some at a time."""
        if self.parts is None:
            yield self.X
            return
        for indices in self.parts:
            yield self.examples.rows(indices)


def stops_by_score(settings: Any) -> bool:
    """Return whether a score of held-out rows stops training, not their loss."""
    return bool(settings.early_stopping) and has_score(settings)


def tests_first(settings: Any) -> bool:
    """Return whether the rows of a stream are tested on before they are trained on."""
    return settings.scoring is not None


def has_score(settings: Any) -> bool:
    """Return whether rows that are judged have a score, beside their loss."""
    return bool(settings.scoring != "loss")


def held_out_of(
    settings: Any,
    examples: Examples,
    indices: Indices | None = None,
    shard: Shard | None = None,
) -> HeldOutRows:
    """Return rows to score by: all of the examples, or some.

    Some are copied for a scorer of the caller's, which may look at them; for any other
    one they are predicted some at a time, and it gets a column of zeros for them.
    """
    _, labels, _, weight, *_ = examples
    if indices is None:
        return HeldOutRows(examples.X, labels, weight, examples, None, shard)
    labels, weight = labels[indices], None if weight is None else weight[indices]
    if callable(settings.scoring):
        X = examples.rows(indices)
        return HeldOutRows(X, labels, weight, examples, None, shard)
    n_at_once = max(_FEWEST_AT_ONCE, _NUMBERS_AT_ONCE // examples.X.shape[1])
    parts = np.split(indices, range(n_at_once, len(indices), n_at_once))
    X = np.zeros((len(indices), 1))
    return HeldOutRows(X, labels, weight, examples, parts, shard)


def _of_all_ranks(settings: Any, held_out: HeldOutRows) -> HeldOutRows:
    """Return the rows of all ranks, as a scorer gets to see them.

    Their X is there for a scorer of the caller's only.
    """
    shard = held_out.shard
    if shard is None:
        return held_out
    labels = in_order_of_partitions(shard, held_out.labels)
    weight = held_out.sample_weight
    weighted = weight is not None and len(weight) > 0
    if not shard.ranks.any(weighted):
        weight = None
    elif weight is not None:
        weight = in_order_of_partitions(shard, weight)
    X: Matrix = np.zeros((len(labels), 1))
    if callable(settings.scoring):
        X = _joined_rows(shard, held_out.X)
    return held_out._replace(X=X, labels=labels, sample_weight=weight)


def _joined_rows(shard: Shard, X: Matrix) -> Matrix:
    """Return the rows of all ranks, partition after partition, on the host."""
    if not issparse(X):
        return in_order_of_partitions(shard, on_host("X_val", X))
    ends = np.cumsum(shard.lengths_here)
    starts = ends - shard.lengths_here
    here = [X[start:end] for start, end in zip(starts, ends, strict=True)]
    return vstack(parts_of_all(shard, here), format="csr")


def bind_score(
    settings: Any,
    members: Sequence[tuple[Any, Targets]],
    folds: Sequence[HeldOutRows],
    device: torch.device,
) -> Score:
    """Return the function that scores models of a stack on rows held out.

    ``members`` are the estimators of all models, with their targets, fold after fold.
    """
    n_in_fold = len(members) // len(folds)
    seen = [_of_all_ranks(settings, held_out) for held_out in folds]
    score_of = [
        _bind_score_of_one(*member, seen[model // n_in_fold])
        for model, member in enumerate(members)
    ]

    def score(
        network: Network, slots: Sequence[int], models: Sequence[int]
    ) -> list[float]:
        scores = {}
        for fold, held_out in enumerate(folds):
            scale = members[fold * n_in_fold][1].scale
            pairs = [
                (slot, model)
                for slot, model in zip(slots, models, strict=True)
                if model // n_in_fold == fold
            ]
            at_once = models_at_once(network, max(1, len(held_out.labels)))
            for some in pieces(pairs, at_once):
                layers = layers_at(network, [slot for slot, _ in some])
                z_of_models = _predicted(settings, layers, held_out, device)
                predicted = prediction_of_y(z_of_models, scale)
                for (slot, model), z in zip(some, predicted, strict=True):
                    layers_of_model = partial(layers_of, network, slot)
                    score_it = partial(score_of[model], layers_of_model, z[None])
                    scores[slot] = _by_first_rank(score_it, held_out.shard)
        return [scores[slot] for slot in slots]

    return score


def _predicted(
    settings: Any, layers: Sequence[Layer], held_out: HeldOutRows, device: torch.device
) -> Tensor:
    """Return the predictions (m, o, n) of held-out rows, those of all ranks."""
    parts = [layers[-1].w.new_empty(*layers[-1].w.shape[:2], 0)]
    if len(held_out.labels):
        parts = [
            raw_predictions(settings, layers, rows, device)
            for rows in held_out.matrices()
        ]
    z = torch.cat(parts, dim=2)
    if held_out.shard is None:
        return z
    by_row = to_numpy(z.permute(2, 0, 1))
    of_all = in_order_of_partitions(held_out.shard, by_row)
    return torch.from_numpy(of_all).permute(1, 2, 0).to(device)


def _by_first_rank(score: Callable[[], float], shard: Shard | None) -> float:
    """Return a score, computed by one rank: a function of the caller's may draw."""
    if shard is None:
        return score()
    ranks = shard.ranks
    return ranks.gathered(lambda: score() if ranks.rank == 0 else nan)[0]


def _bind_score_of_one(
    estimator: Any, targets: Targets, held_out: HeldOutRows
) -> Callable[[Callable[[], Layers], Tensor], float]:
    """Return the function that scores a model, given its predictions.

    And what returns its layers, which a scorer of the caller's may look at.
    """
    with errors_of_caller():
        scorer = check_scoring(estimator, estimator.scoring)
    weight = held_out.sample_weight if takes_weights(scorer) else None
    weights = {} if weight is None else {"sample_weight": weight}
    model = copy_of(estimator)
    for name in ("feature_names_in_", "coef_", "coefs_"):  # the rows are an array
        vars(model).pop(name, None)
    vars(model).update(attributes_of_targets(targets))
    model.n_features_in_, model.t_ = held_out.examples.X.shape[1], 0

    def score(layers: Callable[[], Layers], z: Tensor) -> float:
        let_know_(model, [(held_out.X, z)])
        told = plain_score(scorer, model, held_out.X, held_out.labels, weight)
        if told is not None:
            return told
        vars(model).update(coefficients(layers(), targets))
        with (
            errors_of_caller(),
            in_the_words("scoring"),
            modes_of_others(),
            config_context(array_api_dispatch=False),  # the labels are NumPy's
        ):
            value = scorer(model, held_out.X, held_out.labels, **weights)
        with errors_of_caller():
            return check_score(value)

    return score
