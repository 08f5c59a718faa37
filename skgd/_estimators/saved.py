"""What an estimator is as a tree, and an estimator of such a tree.

A tree holds no code and names none: the caller names the class, and the tree must be of
it. What it says is believed no more than what a caller passes: parameters must be what
they must be, and the arrays of a model those of its layers. So a model that is read
predicts and goes on, or there is none.

The tree of an estimator is a part of whatever is kept of it: of a model file, and of
what else there may be.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from warnings import warn

import numpy as np
import sklearn
import torch
from sklearn import config_context

from skgd._estimators.attributes import check_fitted
from skgd._estimators.callbacks import has_callbacks, without_contexts_
from skgd._estimators.parameters import check_parameters, shown
from skgd._estimators.predictions import let_forget_
from skgd._estimators.state import copy_of
from skgd._estimators.versions import VERSION, defaults_of
from skgd._machine.trees import decode, encode, is_tree

Estimator = TypeVar("Estimator")

# The parts of a tree.
_PARTS = {"class", "versions", "parameters", "to_give", "requests", "attributes"}

# What an estimator holds that is no part of it: who looks on, what is asked of
# pipelines (kept in words of its own), and what the caller noted in the last file.
_APART = ("_skl_callbacks", "_metadata_request", "note_")
_METHODS = ("fit", "partial_fit", "predict", "score")


def file_of(estimator: Any, note: Any = None) -> bytes:
    """Return the bytes of a model file; of callbacks, which it lacks, warn."""
    if not is_tree(note):
        msg = (
            "note must be None, bools, numbers, text and arrays, in lists, tuples and "
            f"dicts. Got {shown(note)[:60]}; make it of these."
        )
        raise TypeError(msg)
    data = encode({"estimator": tree_of(estimator), "note": note})
    if has_callbacks(estimator):
        callbacks = vars(estimator)["_skl_callbacks"]
        msg = (
            f"Callbacks ({', '.join(type(one).__name__ for one in callbacks)}) are not "
            "saved; set them again by set_callbacks on what load returns."
        )
        warn(msg, UserWarning, stacklevel=3)
    return data


def model_of(data: bytes, cls: type[Estimator], given: Mapping[str, Any]) -> Estimator:
    """Return the model of such bytes, or raise ValueError for any others."""
    tree = decode(data)
    if type(tree) is dict and "progress" in tree:
        raise ValueError(
            "It holds a fit under way, and no model; go on by fit(X, y, checkpoint=...)"
            " with the same parameters and data."
        )
    if type(tree) is not dict or tree.keys() != {"estimator", "note"}:
        raise ValueError("It holds no model.")
    model = estimator_of(cls, tree["estimator"], given)
    vars(model)["note_"] = tree["note"]
    return model


def tree_of(estimator: Any) -> dict[str, Any]:
    """Return what an estimator is, but for its callbacks, as a tree.

    Of a parameter that a tree has no place for, such as a function, it says that it is
    to be given again. TypeError is raised for an attribute that there is no place for,
    and ValueError for what ``estimator_of`` would refuse: of a file that cannot be read
    one must learn before the old one is gone.
    """
    kept = copy_of(estimator)
    without_contexts_(kept)
    let_forget_(kept)
    check_parameters(kept)
    names = _parameters_of(type(kept))
    attributes = {
        name: value
        for name, value in vars(kept).items()
        if name not in names and name not in _APART
    }
    check_fitted(kept)
    for name, value in attributes.items():
        _check_name(type(kept), name, names)
        if not is_tree(value):
            msg = (
                f"The attribute {name!r} of {type(kept).__name__} must be of values "
                f"that a file can hold. Got {_kind(value)}; delete it, or save it by "
                "other means."
            )
            raise TypeError(msg)
    parameters, to_give = parameters_of(kept)
    return {
        "class": type(kept).__name__,
        "versions": versions(),
        "parameters": parameters,
        "to_give": to_give,
        "requests": _requests_of(kept),
        "attributes": attributes,
    }


def estimator_of(
    cls: type[Estimator], tree: Any, given: Mapping[str, Any]
) -> Estimator:
    """Return the estimator of a tree, with some parameters that are given.

    ValueError is raised for what ``tree_of`` has not made of an estimator of the class.
    """
    _check_parts(cls, tree)
    parameters, to_give = tree["parameters"], tree["to_give"]
    known = _parameters_of(cls)
    _check_all_known(cls, tree, known)
    missing = [name for name in to_give if name not in given]
    if missing:
        name = missing[0]
        msg = (
            f"The parameter {name!r} was {to_give[name]}, which a file cannot hold. "
            f"Got none; give it again, as in {cls.__name__}.load(path, {name}=...)."
        )
        raise ValueError(msg)
    made = object.__new__(cls)
    vars(made).update(defaults_of(cls))  # type: ignore[arg-type]
    vars(made).update(parameters)
    for name, value in tree["attributes"].items():
        _check_name(cls, name, known)
        vars(made)[name] = value
    made.set_params(**given)  # type: ignore[attr-defined]
    lacking = [name for name in known if name not in vars(made)]
    if lacking:
        raise ValueError(
            f"It lacks the parameter {lacking[0]!r}, which has no default."
        )
    check_parameters(made)
    _set_requests_(made, tree["requests"])
    check_fitted(made)
    return made


def parameters_of(estimator: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parameters that a tree has a place for, and what the others are."""
    names = _parameters_of(type(estimator))
    parameters = {name: vars(estimator)[name] for name in names}
    to_give = {n: _kind(one) for n, one in parameters.items() if not is_tree(one)}
    return {n: one for n, one in parameters.items() if n not in to_give}, to_give


def _parameters_of(cls: Any) -> list[str]:
    return list(cls._get_param_names())


def _kind(value: Any) -> str:
    """Return what a value is called in an error."""
    return (
        "a function" if callable(value) else f"a value of type {type(value).__name__}"
    )


def versions() -> dict[str, str]:
    """Return the versions that the tree is made with, for who has to look into it."""
    return {
        "skgd": VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": str(torch.__version__),
    }


# Metadata routing: what a pipeline is asked to pass on


def _requests_of(estimator: Any) -> dict[str, dict[str, Any]]:
    """Return what is asked for by method, nothing if it is as it is by default."""
    if "_metadata_request" not in vars(estimator):
        return {}
    routing = estimator.get_metadata_routing()
    asked = {method: dict(getattr(routing, method).requests) for method in _METHODS}
    return {method: requests for method, requests in asked.items() if requests}


def _set_requests_(estimator: Any, asked: Any) -> None:
    """Ask for the same by method."""
    if not _is_dict_of(asked, dict):
        _wrong("requests")
    with config_context(enable_metadata_routing=True):
        for method, requests in asked.items():
            values = requests.values()
            if method not in _METHODS or not all(
                value is None or isinstance(value, bool | str) for value in values
            ):
                _wrong("requests")
            try:
                getattr(estimator, f"set_{method}_request")(**requests)
            except (AttributeError, TypeError):  # there is no such method, or name
                _wrong("requests")


# Whether a tree is what it must be


def _wrong(what: str) -> None:
    raise ValueError(f"It holds {what} that no estimator has.")


def _is_dict_of(value: Any, kind: type) -> bool:
    return (
        type(value) is dict
        and all(type(key) is str for key in value)
        and all(isinstance(one, kind) for one in value.values())
    )


def _check_parts(cls: type, tree: Any) -> None:
    """Refuse a tree of other parts, or of another class."""
    if type(tree) is not dict or tree.keys() != _PARTS:
        raise ValueError("It holds no estimator.")
    if tree["class"] != cls.__name__:
        name = tree["class"] if isinstance(tree["class"], str) else "?"
        msg = (
            f"It must hold a {cls.__name__}. Got a {name[:100]}; read it with "
            f"{name[:100]}.load."
        )
        raise ValueError(msg)
    for part, kind in (
        *(("versions", str), ("parameters", object), ("to_give", str)),
        ("attributes", object),
    ):
        if not _is_dict_of(tree[part], kind):
            _wrong(part)


def _check_all_known(cls: type, tree: Any, known: Sequence[str]) -> None:
    """Refuse parameters of a later version."""
    unknown = [n for n in (*tree["parameters"], *tree["to_give"]) if n not in known]
    if unknown:
        msg = (
            f"It has the parameter {unknown[0][:100]!r}, which {cls.__name__} of "
            f"version {VERSION} of skgd lacks. It was written by version "
            f"{tree['versions'].get('skgd', '?')[:100]}; install that one, or a later "
            "one."
        )
        raise ValueError(msg)


def _check_name(cls: type, name: str, known: Sequence[str]) -> None:
    """Refuse an attribute that would hide a method, or a parameter."""
    if not name.isidentifier() or name in (*known, *_APART) or hasattr(cls, name):
        _wrong(f"an attribute {name[:100]!r}")
