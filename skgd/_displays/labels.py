"""What displays call the candidates of a search, and the values of their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np


def names_of(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return names made of the parameters in which the estimators differ."""
    told = differing(params)
    short = short_keys(told)
    names = [
        ", ".join(
            f"{short[key]}={short_value(some[key])}" for key in told if key in some
        )
        for some in params
    ]
    return [name or f"fit {n}" for n, name in enumerate(names)]


def differing(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the parameters in which the estimators differ."""
    keys = dict.fromkeys(key for some in params for key in some)
    return [
        key
        for key in keys
        if any(repr(a.get(key)) != repr(b.get(key)) for a, b in pairwise(params))
    ]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the names without those of the steps, where one of them is left only."""
    last = [key.split("__")[-1] for key in keys]
    return {
        key: short if last.count(short) == 1 else key
        for key, short in zip(keys, last, strict=True)
    }


def short_value(value: Any) -> str:
    """Return what a label says of a value: of a long one, the beginning."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        text = repr(value)
        return text if len(text) < 7 else f"{value:.3g}"
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 30 else f"{text[:27]}..."


def is_number(value: Any) -> bool:
    """Return whether a value has a place on an axis of numbers."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
