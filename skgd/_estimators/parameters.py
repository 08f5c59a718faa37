"""What each parameter must be, and the sentence said when it is not.

One table serves the estimators and the searches.
"""

import re
import sys
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from math import inf
from numbers import Integral, Real
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import get_scorer_names

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import INITIALISERS
from skgd._equations.optimizers import OPTIMIZERS, VARIANTS_OF_SGD
from skgd._equations.schedules import SCHEDULES


class Rule(NamedTuple):
    """What a parameter must be: a test, and the words for it."""

    holds: Callable[[Any], bool]
    words: str


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def is_real(value: object) -> bool:
    if type(value) is float or type(value) is int:  # the usual ones, at once
        return True
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def fits_a_float(value: Any) -> bool:
    """Return whether a finite number is no int that is larger than any float."""
    return int(value) <= sys.float_info.max


def _real(low: float, high: float, brackets: str) -> Rule:
    """Return the rule for a float between two bounds; "[)" includes the first one."""

    def holds(value: Any) -> bool:
        return (
            is_real(value)
            and (low < value or (brackets[0] == "[" and low == value))
            and (value < high or (brackets[1] == "]" and high == value))
            and fits_a_float(value)
        )

    return Rule(holds, f"a float in the range {brackets[0]}{low}, {high}{brackets[1]}")


def _integer(low: int) -> Rule:
    return Rule(lambda v: _is_int(v) and v >= low, f"an int of at least {low}")


def _counts(value: Any, low: int) -> bool:
    """Return whether a number of steps, or of units, is one that NumPy and torch know.

    Python's ints are as large as one likes.
    """
    return _is_int(value) and low <= value < 2**63


def _count(low: int) -> Rule:
    return Rule(lambda v: _counts(v, low), f"an int in the range [{low}, 2**63)")


def _one_of(*values: str) -> Rule:
    words = ", ".join(repr(value) for value in values)
    if len(values) > 1:
        words = f"one of {words}"
    return Rule(lambda v: isinstance(v, str) and v in values, words)


def _or_none(rule: Rule) -> Rule:
    return Rule(lambda v: v is None or rule.holds(v), f"{rule.words}, or None")


def _or_auto(rule: Rule) -> Rule:
    return Rule(
        lambda v: (isinstance(v, str) and v == "auto") or rule.holds(v),
        f"{rule.words}, or 'auto'",
    )


# What ``hidden_layer_sizes`` may come in, if there are several.
_SEVERAL = (tuple, list, np.ndarray)


def _is_layer_sizes(value: object) -> bool:
    if isinstance(value, np.ndarray) and value.ndim != 1:
        return False
    sizes = value if isinstance(value, _SEVERAL) else [value]
    return all(_counts(size, 1) for size in sizes)


def _is_seed(value: object) -> bool:
    if isinstance(value, np.random.RandomState):
        return True
    return value is None or (_is_int(value) and 0 <= value < 2**32)  # type: ignore[operator]


def _are_quantiles(value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.ndim != 1:
        return False
    several = isinstance(value, _SEVERAL) and all(map(_QUANTILE.holds, value))
    return several and len(set(value)) == len(value) > 0


_QUANTILE = _real(0, 1, "()")

_POWER = _real(1, 2, "()")
_OTHER_POWERS = "for 0, 1 and 2 are loss='squared_error', 'poisson' and 'gamma'"

_BOOL = Rule(lambda v: isinstance(v, bool | np.bool_), "a bool")

_LR_SCHEDULE = _one_of(*sorted(SCHEDULES))

_SCORING = frozenset(["loss", *get_scorer_names()])

RULES: Mapping[str, Rule] = {
    "activation": _one_of(*sorted(ACTIVATIONS)),
    "alpha": _real(0, inf, "[)"),
    "average": Rule(
        lambda v: _BOOL.holds(v) or _counts(v, 0),
        "a bool or an int in the range [0, 2**63)",
    ),
    "batch_size": _or_none(_integer(1)),
    "beta_1": _real(0, 1, "[)"),
    "beta_2": _real(0, 1, "[)"),
    "class_weight": Rule(
        lambda v: (
            v is None
            or (isinstance(v, str) and v == "balanced")
            or isinstance(v, Mapping)
            or (isinstance(v, list) and all(isinstance(one, Mapping) for one in v))
        ),
        "a dict of class and weight, a list of such dicts, 'balanced', or None",
    ),
    "decay": _real(0, 1, "(]"),
    "decay_every": _count(1),
    "delta": _real(0, inf, "()"),
    "device": Rule(
        lambda v: (
            isinstance(v, str) and bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", v))
        ),
        "'auto', 'cpu', 'cuda', 'cuda:' and a number, or 'mps'",
    ),
    "dropout": _real(0, 1, "[)"),
    "dtype": _or_none(_one_of("float32", "float64")),
    "early_stopping": _BOOL,
    "engine": _one_of("auto", "torch", "numba"),
    "epsilon": _real(0, inf, "()"),
    "fit_intercept": _BOOL,
    "hidden_layer_sizes": Rule(
        _is_layer_sizes,
        "a tuple of ints in the range [1, 2**63), one for each hidden layer",
    ),
    "init": _one_of("auto", *sorted(INITIALISERS)),
    "l1_ratio": _real(0, 1, "[]"),
    "last_batch": _one_of("keep", "drop", "fill"),
    "lr": _or_auto(_real(0, inf, "()")),
    "lr_schedule": Rule(
        lambda v: callable(v) or _LR_SCHEDULE.holds(v),
        f"{_LR_SCHEDULE.words}, or a callable",
    ),
    "max_grad_norm": _or_none(_real(0, inf, "()")),
    "max_iter": _count(1),
    "max_time": _or_none(_real(0, inf, "()")),
    "momentum": _real(0, 1, "[)"),
    "n_iter_no_change": _count(1),
    "n_models": Rule(
        lambda v: _is_int(v) and 1 <= v < 2**32, "an int in the range [1, 2**32)"
    ),
    "negative_slope": _real(0, 1, "[]"),
    "nesterov": _BOOL,
    "normalize_y": _BOOL,
    "optimizer": _one_of(*sorted(OPTIMIZERS.keys() - VARIANTS_OF_SGD)),
    "power": _POWER._replace(words=f"{_POWER.words}, {_OTHER_POWERS}"),
    "power_t": _real(0, inf, "[)"),
    "quantile": Rule(
        lambda v: _QUANTILE.holds(v) or _are_quantiles(v),
        f"{_QUANTILE.words}, or a list of different ones",
    ),
    "random_state": Rule(
        _is_seed, "an int in the range [0, 2**32), a numpy.random.RandomState, or None"
    ),
    "record_batch_loss": _BOOL,
    "scoring": Rule(
        lambda v: v is None or callable(v) or (isinstance(v, str) and v in _SCORING),
        "'loss', a name that sklearn.metrics.get_scorer_names() lists, a callable, or "
        "None",
    ),
    "shuffle": _BOOL,
    "tol": _or_none(_real(0, inf, "[)")),
    "validation_fraction": _real(0, 1, "()"),
    "verbose": Rule(
        lambda v: _BOOL.holds(v) or (_is_int(v) and v >= 0),
        "a bool or an int of at least 0",
    ),
    "warm_start": _BOOL,
    "warmup_steps": _count(0),
}


# What the parameter ``loss`` may be.
LOSSES_OF_NUMBERS = (
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
    "absolute_error",
    "quantile",
    "poisson",
    "gamma",
    "tweedie",
)
LOSSES_OF_CLASSES = (
    "log_loss",
    "hinge",
    "squared_hinge",
    "modified_huber",
    "perceptron",
)


@cache
def _rules_in_order(losses: tuple[str, ...]) -> dict[str, Rule]:
    """Return what the parameters must be, by their names in order."""
    return dict(sorted({**RULES, "loss": _one_of(*losses)}.items()))


# Values of these types never change, and are the same ones where they are equal.
_CONSTANTS = frozenset([bool, float, int, str, type(None), type(...)])


def check_parameters(estimator: Any) -> None:
    """Raise ValueError for the first parameter that is not what it must be.

    Parameters that a subclass has added are its own business.
    """
    of_numbers = isinstance(estimator, RegressorMixin)
    losses = LOSSES_OF_NUMBERS if of_numbers else LOSSES_OF_CLASSES
    given = vars(estimator)  # get_params would read the signature at every predict
    if _hold_as_before(losses, given):
        return
    name = _first_wrong(losses, given)
    if name is not None:
        rule = _rules_in_order(losses)[name]
        msg = (
            f"The {name!r} parameter of {type(estimator).__name__} must be "
            f"{rule.words}. Got {shown(given[name])} instead."
        )
        raise ValueError(msg)
    if _divides_by_zero(given):
        msg = (
            "alpha must be above 0 with lr_schedule='optimal', which divides by it. "
            "Got 0; use a small alpha, or lr_schedule='invscaling'."
        )
        raise ValueError(msg)


def _first_wrong(losses: tuple[str, ...], given: Mapping[str, Any]) -> str | None:
    """Return the name of the first parameter that is not what it must be, if any."""
    for name, rule in _rules_in_order(losses).items():
        if name in given and not rule.holds(given[name]):
            return name
    return None


def _hold_as_before(losses: tuple[str, ...], given: Mapping[str, Any]) -> bool:
    """Return whether all parameters hold, at once where it was found for the same ones.

    A stream checks them at every call, and a prediction of one row too.
    """
    try:
        values = (*_of_both(given), *[given.get(name, ...) for name in _OF_ONE])
    except KeyError:  # a subclass does without
        return False
    return (
        _CONSTANTS.issuperset(map(type, values))
        and RULES["hidden_layer_sizes"].holds(given.get("hidden_layer_sizes"))
        and _hold(losses, *values)
    )


# The parameters that one of the two estimators has alone, those of both, and how these
# are read. ``hidden_layer_sizes`` is no constant.
_OF_ONE = ("class_weight", "delta", "normalize_y", "power", "quantile")
_OF_BOTH = ("loss", *sorted(RULES.keys() - {*_OF_ONE, "hidden_layer_sizes"}))
_of_both = itemgetter(*_OF_BOTH)


@lru_cache(maxsize=128, typed=True)
def _hold(losses: tuple[str, ...], *values: Any) -> bool:
    """Return whether such parameters, "..." where there is none, are what they must be.

    It is a function of its arguments alone, and so may remember what it has found.
    """
    pairs = zip((*_OF_BOTH, *_OF_ONE), values, strict=True)
    given = {name: value for name, value in pairs if value is not ...}
    return _first_wrong(losses, given) is None and not _divides_by_zero(given)


def _divides_by_zero(given: Mapping[str, Any]) -> bool:
    return given.get("lr_schedule") == "optimal" and bool(given["alpha"] == 0)


def hidden_units(estimator: Any) -> tuple[int, ...]:
    """Return the units of each hidden layer."""
    sizes = estimator.hidden_layer_sizes
    return tuple(map(int, sizes)) if isinstance(sizes, _SEVERAL) else (int(sizes),)


def shown(value: object) -> str:
    """Return how Python writes a value."""
    try:
        return repr(value)
    except ValueError:  # more digits than it writes
        return "an int too long to write"


def check_max_bytes(max_bytes: Any) -> None:
    """Raise ValueError for what is no number of bytes."""
    rule = _or_none(_integer(1))
    if not rule.holds(max_bytes):
        msg = (
            f"The 'max_bytes' parameter of a search must be {rule.words}. Got "
            f"{max_bytes!r} instead."
        )
        raise ValueError(msg)
