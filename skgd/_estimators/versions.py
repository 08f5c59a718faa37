"""What a pickle says of the version that wrote it, and how an older one is read.

The version stands in the pickled state only: it is no attribute of an estimator.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from inspect import Parameter, signature
from typing import Any
from warnings import warn

VERSION = version("skgd")

_KEY = "_skgd_version"


def with_version(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator as it is pickled."""
    return {**state, _KEY: VERSION}


def of_this_version(cls: type, pickled: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state that was pickled, with all parameters of this version.

    One that was unknown to the version that wrote it has its default.
    """
    state = {**defaults_of(cls), **pickled}
    written_by = state.pop(_KEY, None)
    if written_by != VERSION:
        msg = (
            f"This {cls.__name__} was pickled by "
            f"{'an older version' if written_by is None else f'version {written_by}'} "
            f"of skgd, and is read by version {VERSION}. Parameters that it lacks have "
            "their defaults; check what it predicts, or fit it anew."
        )
        warn(msg, UserWarning, stacklevel=3)
    return state


@cache
def defaults_of(cls: type) -> dict[str, Any]:
    """Return the parameters that a class has a default for."""
    parameters = signature(cls).parameters.values()
    return {
        one.name: one.default
        for one in parameters
        if one.default is not Parameter.empty
    }
