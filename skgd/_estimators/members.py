"""The models of an ensemble: one estimator that holds several, and predicts their mean.

Each is kept as the dict of what it has of its own, its seed and its fitted attributes,
all of them values of NumPy and Python, and is an estimator of one model when it is
asked for. An estimator of one model is its own only member, so what is written for
members holds for it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skgd._estimators.state import State, copy_of, forget_, known_state
from skgd._estimators.targets import known_targets
from skgd._machine.generators import seeds_of
from skgd._machine.ranks import Ranks

# The attribute that holds them.
MEMBERS = "_members_"

# What is learnt of the columns and of the labels, all members have in common.
IN_COMMON = ("n_features_in_", "feature_names_in_", "classes_")


def members_of(estimator: Any) -> list[Any]:
    """Return the models of an estimator, each as one; itself, where it is one model."""
    kept = vars(estimator).get(MEMBERS)
    if kept is None:
        return [estimator]
    return [_member(estimator, one) for one in kept]


def members_to_train(estimator: Any, ranks: Ranks) -> list[Any]:
    """Return the models that a call trains: those that there are, or new ones.

    Their seeds are those of the first rank.
    """
    if estimator.n_models == 1 or MEMBERS in vars(estimator):
        return members_of(estimator)
    seeds = seeds_of(estimator.random_state, int(estimator.n_models))
    [seeds, *_] = ranks.gather(seeds)
    return [_member(estimator, {"random_state": seed}) for seed in seeds]


def _member(estimator: Any, own: Mapping[str, Any]) -> Any:
    """Return an estimator of one model, with what it has of its own."""
    member = copy_of(estimator)
    forget_(member)
    has = vars(estimator)
    in_common = {name: has[name] for name in IN_COMMON if name in has}
    vars(member).update(n_models=1, **in_common, **own)
    return member


def known_states(estimator: Any) -> list[State]:
    """Return the states of the models of an estimator; none if it is not fitted."""
    states = [known_state(one, known_targets(one)) for one in members_of(estimator)]
    return [state for state in states if state is not None]


def check_as_many(estimator: Any, states: Sequence[State]) -> None:
    """Refuse to go on with another number of models."""
    if states and len(states) != estimator.n_models:
        msg = (
            f"Training goes on only with the models it began with, n_models="
            f"{len(states)}. Got {estimator.n_models}; to begin anew, call fit with "
            "warm_start=False."
        )
        raise ValueError(msg)


def attributes_of_members(members: Sequence[Any]) -> dict[str, Any]:
    """Return the attributes of the estimator that holds some members.

    What they have in common is its own, it has gone as far as the one that went
    farthest, and numbers and curves are means over them.
    """
    first = vars(members[0])
    told = {name: first[name] for name in (*IN_COMMON, *_ALIKE) if name in first}
    for name, of_all in _TOLD.items():
        values = [vars(one)[name] for one in members if name in vars(one)]
        if len(values) == len(members):
            told[name] = of_all(values)
    return {**told, MEMBERS: [_own(one) for one in members]}


def _own(member: Any) -> dict[str, Any]:
    """Return what a member has of its own."""
    fitted = {
        name: value
        for name, value in vars(member).items()
        if name.endswith("_") and name not in IN_COMMON
    }
    return {"random_state": member.random_state, **fitted}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _mean_curve(curves: Sequence[list[float]]) -> list[float]:
    """Return the mean of curves; one that has ended counts with its last number."""
    means: list[float] = np.mean(_of_one_length(curves), axis=0).tolist()
    return means


def _longest_curve(curves: Sequence[list[Any]]) -> list[Any]:
    """Return the highest of curves at each place, likewise."""
    highest: list[Any] = np.max(_of_one_length(curves), axis=0).tolist()
    return highest


def _of_one_length(curves: Sequence[list[Any]]) -> list[list[Any]]:
    length = max(map(len, curves))
    return [curve + curve[-1:] * (length - len(curve)) for curve in curves]


# What is alike in all members after any call, and what is told of the others.
_ALIKE = ("engine_", "_targets_")
_TOLD: Mapping[str, Callable[[Any], Any]] = {
    "n_iter_": max,
    "t_": max,
    "step_curve_": _longest_curve,
    "time_curve_": _longest_curve,
    "loss_curve_": _mean_curve,
    "validation_loss_curve_": _mean_curve,
    "validation_scores_": _mean_curve,
    "loss_": _mean,
    "best_loss_": _mean,
    "best_validation_score_": _mean,
    "running_loss_": _mean,
    "running_score_": _mean,
    "running_rows_": _mean,
}
