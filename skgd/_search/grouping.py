"""Which candidates are trained together, and why the others are not.

A group holds the candidates that differ only in numbers of one model, those of
``hyperparameters.PER_MODEL``, and in ``random_state``. All else changes the shape of a
stack of models, or what is done to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from skgd._estimators.callbacks import has_callbacks
from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.parameters import check_parameters
from skgd._estimators.regressor import MiniBatchRegressor
from skgd._estimators.state import copy_of
from skgd._search.pipelines import last_step
from skgd._search.request import Parameters
from skgd._training.hyperparameters import PER_MODEL

_OWN = (*PER_MODEL, "random_state")

# So many groups are not worth a word.
_FEW_GROUPS = 4


class Group(NamedTuple):
    """Candidates of a search that were trained together, or one fit at a time.

    Parameters
    ----------
    candidates : list of int
        Their places in ``cv_results_``.
    params : dict
        What they have in common of the parameters searched, as the first sets them.
    together : bool
        Whether they were trained together.
    reason : str
        Why they were not; empty if they were.
    engine : str
        Who trained them: "numba", compiled loops, one model after the other; or
        "torch", where they were together as a stack. Empty where none could be trained.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgd import MiniBatchClassifier, VectorizedGridSearchCV
    >>> model = MiniBatchClassifier(max_iter=2, tol=None)
    >>> search = VectorizedGridSearchCV(model, {"lr": [0.01, 0.1]}, cv=2)
    >>> search.fit(*load_iris(return_X_y=True)).groups_
    [Group(candidates=[0, 1], params={}, together=True, reason='', engine='numba')]
    """

    candidates: list[int]
    params: dict[str, Any]
    together: bool
    reason: str
    engine: str = ""


Group.__module__ = "skgd"  # its name in pickles and in what is printed


class GroupPlan(NamedTuple):
    """A group before it is trained."""

    group: Group
    path: str  # how the names of the last step's parameters begin, such as "mlp__"
    setting: Any  # of the steps before it
    estimator: Any  # with the parameters that the candidates have in common
    own: Sequence[Parameters]  # in which they differ, for each of them


def plans_of(
    base: Any,
    candidates: Sequence[Parameters],
    y: Any,
    fit_params: Parameters,
    has_begun: Callable[[Parameters], bool],
) -> list[GroupPlan]:
    """Return the groups of candidates, those that have begun apart from others."""
    path, _ = last_step(base)
    default = base.get_params()
    own = {path + name for name in _OWN}
    names = sorted({name for params in candidates for name in params} - own)
    before_last = [name for name in names if not f"{name}__".startswith(path)]
    alike: dict[Any, list[int]] = defaultdict(list)
    for number, params in enumerate(candidates):
        values = [key_of(params.get(name, default.get(name))) for name in names]
        alike[*values, has_begun(params)].append(number)
    plans: list[GroupPlan] = []
    for numbers in alike.values():
        params = candidates[numbers[0]]
        common = {name: value for name, value in params.items() if name not in own}
        estimator = clone(base).set_params(**clone(common, safe=False))
        setting = tuple(
            key_of(params.get(name, default.get(name))) for name in before_last
        )
        reason = _why_apart(estimator, path, y, fit_params)
        refused: set[int] = set()
        if not reason:
            refused = {n for n in numbers if _refuses(estimator, path, candidates[n])}
        others = [n for n in numbers if n not in refused]
        for some, why in (
            (others, reason),
            (sorted(refused), "a parameter is not what it must be"),
        ):
            if some:
                group = Group(some, common, not why, why)
                own_of_each = [_own_params(candidates[n], path) for n in some]
                plans.append(GroupPlan(group, path, setting, estimator, own_of_each))
    return plans


def note_on_groups(plans: Sequence[GroupPlan]) -> str:
    """Return what is to be said of groups that are nearly as many as candidates."""
    together = [plan.group for plan in plans if plan.group.together]
    n_candidates = sum(len(group.candidates) for group in together)
    if len(together) <= max(_FEW_GROUPS, n_candidates / 2):
        return ""
    values: dict[str, set[Any]] = defaultdict(set)
    for group in together:
        for name, value in group.params.items():
            values[name].add(key_of(value))
    parting = sorted(name for name in values if len(values[name]) > 1)
    return (
        f"The {n_candidates} candidates make {len(together)} groups, each trained in "
        f"turn, for they differ in {', '.join(parting)}: a few values to choose from "
        "make fewer groups and a faster search"
    )


def candidate_of(estimator: Any, own: Parameters) -> Any:
    """Return the last step of an estimator with the parameters of a candidate's own."""
    _, last = last_step(estimator)
    candidate = copy_of(last)
    vars(candidate).update(own)
    return candidate


def key_of(value: Any) -> Any:
    """Return what tells a value of a grid from another; objects by their identity."""
    match value:
        case None | bool() | np.bool_() | str():
            return type(value).__name__, value
        case Integral():
            return "int", int(value)
        case Real():
            return "float", float(value)
        case list() | tuple():
            return type(value).__name__, tuple(map(key_of, value))
    return id(value)


def _own_params(params: Parameters, path: str) -> dict[str, Any]:
    """Return the numbers of one model that a candidate sets."""
    given = {name: path + name for name in _OWN}
    return {name: params[key] for name, key in given.items() if key in params}


def _why_apart(estimator: Any, path: str, y: Any, fit_params: Parameters) -> str:
    """Return why candidates are to be fitted one at a time, "" if they need not be."""
    path_of_estimator, last = last_step(estimator)
    if type(last) not in (MiniBatchClassifier, MiniBatchRegressor):
        return f"{type(last).__name__} is not an estimator of skgd"
    if path_of_estimator != path:
        return "the steps of the pipeline are others"
    if has_callbacks(last):
        return "its callbacks look at single fits"
    if last.n_models > 1:
        return "n_models makes each an ensemble, a stack of its own"
    if last.max_time is not None:
        return "max_time is a limit of a single fit"
    if y is None:
        return "y is None"
    if not path and fit_params.keys() - {"sample_weight"}:
        return "fit is given more than sample_weight"
    return ""


def _refuses(estimator: Any, path: str, params: Parameters) -> bool:
    """Return whether a parameter of a candidate is not what it must be."""
    candidate = candidate_of(estimator, _own_params(params, path))
    try:
        check_parameters(candidate)
    except ValueError:
        return True
    return False
