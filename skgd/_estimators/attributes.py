"""Whether fitted attributes are such as training leaves: of the types, of one shape.

Attributes that come from a file are believed no more than data. With sound ones a model
predicts and goes on; what numbers they hold is another matter.
"""

from collections.abc import Callable, Mapping
from typing import Any, Never

import numpy as np
from sklearn.base import RegressorMixin

from skgd._equations.network import segments
from skgd._estimators.members import IN_COMMON, MEMBERS, members_of
from skgd._estimators.parameters import RULES
from skgd._estimators.state import State, known_state, layout_of
from skgd._estimators.targets import Classes, Targets, known_targets
from skgd._estimators.weights import layers_in_units_of_y
from skgd._machine.arrays import Array
from skgd._training.target_scale import TargetScale

Holds = Callable[[Any], bool]


@np.errstate(all="ignore")  # whatever numbers there are
def check_fitted(estimator: Any) -> None:
    """Raise ValueError for attributes that no training leaves."""
    has = vars(estimator)
    for name, holds in _ATTRIBUTES.items():
        if name in has and not holds(has[name]):
            _refuse(name)
    _check_targets(estimator)
    if MEMBERS in has:
        _check_members(estimator)
        return
    if "t_" not in has:  # not fitted
        return
    linear = [name in has for name in ("coef_", "intercept_", "coefs_", "intercepts_")]
    if linear not in ([True, True, False, False], [False, False, True, True]):
        _refuse("coef_")
    for name in ("n_features_in_", "n_iter_", "_state_", "_targets_"):
        if name not in has:
            _refuse(name)
    targets = known_targets(estimator)
    assert targets is not None
    _check_layers(estimator, targets)
    _check_state(estimator, targets)


def _refuse(name: str) -> Never:
    raise ValueError(
        f"Its attribute {name!r} is missing, or is not as training leaves it."
    )


# What a value is


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_count_or_none(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_float(value: Any) -> bool:
    return type(value) is float


def _is_array(value: Any) -> bool:
    return type(value) is np.ndarray


def _is_floats(value: Any) -> bool:
    return _is_array(value) and value.dtype in (np.float32, np.float64)


def _is_bias(value: Any) -> bool:
    return _is_floats(value) and value.ndim == 1


def _is_weights(value: Any) -> bool:
    return _is_floats(value) and value.ndim == 2


def _list_of(holds: Holds) -> Holds:
    return lambda value: type(value) is list and all(map(holds, value))


def _array(dtype: Any, shape: tuple[int, ...]) -> Holds:
    return lambda value: (
        _is_array(value) and value.dtype == dtype and value.shape == shape
    )


def _are(parts: Any, rules: Mapping[str, Holds]) -> bool:
    """Return whether a dict has just these parts, each as it must be."""
    return (
        type(parts) is dict
        and parts.keys() == rules.keys()
        and all(holds(parts[name]) for name, holds in rules.items())
    )


def _is_stream(value: Any) -> bool:
    kinds = list(map(type, value)) if type(value) is tuple else None
    return kinds in ([], [float, float, int])


def _is_columns(value: Any) -> bool:
    return _is_array(value) and value.dtype == object and value.ndim == 1


def _is_classes(value: Any) -> bool:
    return _is_array(value) and value.ndim == 1 and len(value) > 1


def _is_member(value: Any) -> bool:
    """Return whether a dict has a seed and fitted attributes that are a model's own."""
    if type(value) is not dict or not _is_count(value.get("random_state")):
        return False
    fitted = value.keys() - {"random_state"}
    return fitted <= _ATTRIBUTES.keys() - {MEMBERS, *IN_COMMON}


_ATTRIBUTES: Mapping[str, Holds] = {
    "_members_": lambda value: _list_of(_is_member)(value) and len(value) > 1,
    "_state_": lambda value: type(value) is dict,
    "_targets_": lambda value: type(value) is dict,
    "batch_loss_curve_": _is_bias,
    "best_iter_": _is_count,
    "best_loss_": _is_float,
    "best_validation_score_": _is_float,
    "classes_": _is_classes,
    "coef_": lambda value: _is_bias(value) or _is_weights(value),
    "coefs_": lambda value: _list_of(_is_weights)(value) and len(value) > 1,
    "engine_": lambda value: type(value) is str,
    "feature_names_in_": _is_columns,
    "intercept_": _is_bias,
    "intercepts_": _list_of(_is_bias),
    "loss_": _is_float,
    "loss_curve_": _list_of(_is_float),
    "n_features_in_": _is_count,
    "n_iter_": _is_count,
    "running_loss_": _is_float,
    "running_rows_": _is_float,
    "running_score_": _is_float,
    "step_curve_": _list_of(_is_count),
    "t_": _is_count,
    "time_curve_": _list_of(_is_float),
    "validation_loss_curve_": _list_of(_is_float),
    "validation_scores_": _list_of(_is_float),
}


# What belongs together


def _check_members(estimator: Any) -> None:
    """Refuse models that do not make one estimator."""
    has, known = vars(estimator), known_targets(estimator)
    for name in ("t_", "n_features_in_", "n_iter_", "_targets_"):
        if name not in has:
            _refuse(name)
    if not has.keys().isdisjoint(("_state_", "coef_", "coefs_")):
        _refuse(MEMBERS)
    kinds = set()
    for member in members_of(estimator):
        check_fitted(member)
        targets = known_targets(member)
        state = known_state(member, targets)
        if state is None or _kind_of(targets) != _kind_of(known):
            _refuse(MEMBERS)
        kinds.add((layout_of(state), state.layers[0][0].dtype))
    if len(kinds) != 1:
        _refuse(MEMBERS)


def _kind_of(targets: Targets | None) -> object:
    """Return what is alike in the targets of models that make one estimator."""
    if isinstance(targets, Classes):
        return targets.several_a_row
    if targets is None:
        return None
    return targets.n_outputs, targets.one_column, targets.quantiles


def _check_targets(estimator: Any) -> None:
    """Refuse what is not learnt of y."""
    has = vars(estimator)
    kept = has.get("_targets_")
    of_numbers = isinstance(estimator, RegressorMixin)
    if kept is None or (not of_numbers and "classes_" not in has):
        if kept is not None or "classes_" in has:
            _refuse("classes_")
        return
    rules: dict[str, Holds] = {"several_a_row": _is_bool}
    if not of_numbers and type(kept) is dict and "seen" in kept:
        n, several = len(has["classes_"]), kept.get("several_a_row")
        rules["seen"] = _seen_of((n, 2) if several else (1, n))
    elif of_numbers:
        rules = {
            "n_outputs": lambda value: _is_count(value) and value > 0,
            "one_column": _is_bool,
            "scale": lambda value: (
                value is None or _are(value, _rules_of_scale(_n_scales(kept)))
            ),
        }
        if type(kept) is dict and "quantiles" in kept:  # older files have none
            rules["quantiles"] = _quantiles_of(kept.get("n_outputs"))
    if not _are(kept, rules):
        _refuse("_targets_")


def _seen_of(shape: tuple[int, ...]) -> Holds:
    """Return the rule of how many rows of each class were seen, if it is known."""
    of_shape = _array(np.float64, shape)

    def seen(value: Any) -> bool:
        if value is None:
            return True
        return of_shape(value) and bool((np.isfinite(value) & (value >= 0)).all())

    return seen


def _quantiles_of(n_outputs: Any) -> Holds:
    """Return the rule of the quantiles of the outputs, if they have any."""

    def quantiles(value: Any) -> bool:
        if value is None:
            return True
        floats = type(value) is tuple and all(type(one) is float for one in value)
        return floats and RULES["quantile"].holds(value) and len(value) == n_outputs

    return quantiles


def _n_scales(kept: Mapping[str, Any]) -> int:
    """Return how many scales there are: of several quantiles of a target it is one."""
    return kept["n_outputs"] if kept.get("quantiles") is None else 1


def _rules_of_scale(o: int) -> dict[str, Holds]:
    of_length = _array(np.float64, (o,))

    def vector(value: Any) -> bool:
        return of_length(value) and bool(np.isfinite(value).all())

    rules = {
        "shift": vector,
        "scale": lambda value: vector(value) and bool((value > 0).all()),
        "known": _array(bool, (o,)),
        "seen": _array(np.float64, (o, 3)),
        "log_link": _is_bool,
        "rest": vector,
    }
    assert rules.keys() == set(TargetScale._fields)
    return rules


def _check_layers(estimator: Any, targets: Targets) -> None:
    """Refuse weights that make no network from the features to the outputs."""
    has, o = vars(estimator), targets.n_outputs
    if "coef_" in has:
        is_flat = getattr(targets, "is_flat", False) and o == 1
        if has["coef_"].ndim != (1 if is_flat else 2):
            _refuse("coef_")
    elif len(has["coefs_"]) != len(has["intercepts_"]):
        _refuse("coefs_")
    layers = layers_in_units_of_y(estimator)
    units, dtype = has["n_features_in_"], layers[0][0].dtype
    for w, bias in layers:
        n_before, units = units, len(bias)
        if w.shape != (units, n_before) or not w.dtype == bias.dtype == dtype:
            _refuse("coef_" if "coef_" in has else "coefs_")
        if not (np.isfinite(w).all() and np.isfinite(bias).all()):
            _refuse("coef_" if "coef_" in has else "coefs_")
    if units != o:
        _refuse("_targets_")
    last = has["_state_"].get("last_layer")
    shapes = [_array(dtype, one.shape) for one in layers[-1]]
    if last is not None and not (
        type(last) is tuple
        and len(last) == 2
        and all(holds(one) for holds, one in zip(shapes, last, strict=True))
    ):
        _refuse("_state_")


# What no state lacks; of the rest, an older version may have had less to keep.
_ALWAYS = ("generator", "fit_intercept", "optimizer_state")


def _check_state(estimator: Any, targets: Targets) -> None:
    """Refuse a state whose vectors are not those of its layers."""
    kept = vars(estimator)["_state_"]
    rules: dict[str, Holds] = {
        "generator": lambda value: type(value) is np.random.Generator,
        "fit_intercept": _is_bool,
        "optimizer_state": lambda value: (
            type(value) is dict and all(type(name) is str for name in value)
        ),
        "in_training": lambda value: value is None or _is_bias(value),
        "slowed": _is_float,
        "optimizer_begun": _is_count,
        "average_begun": _is_count,
        "schedule_begun": _is_count,
        "split_seed": _is_count_or_none,
        "stream": _is_stream,
        "columns_first": _is_bool,
        "last_layer": lambda value: True,  # see ``_check_layers``
    }
    assert {*rules, "layers", "t", "epochs"} == {*State._fields, "last_layer"}
    if not _are(kept, {n: one for n, one in rules.items() if n in (*_ALWAYS, *kept)}):
        _refuse("_state_")
    state = known_state(estimator, targets)
    assert state is not None
    vector = _array(state.layers[0][0].dtype, (_length_of(state),))
    vectors: list[Array | None] = [*state.optimizer_state.values(), state.in_training]
    if not all(one is None or vector(one) for one in vectors):
        _refuse("_state_")


def _length_of(state: State) -> int:
    """Return how many numbers a vector of its has."""
    return segments(layout_of(state)).length
