"""How far training is as a tree, and of such a tree.

A tree that comes from a file is believed no more than data: each part must be of the
type that training leaves, or there is a ValueError. Whether its arrays are those of a
model, training says when it goes on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from skgd._training.progress import Point, Progress
from skgd._training.stopping import Best, History, Memory, Untrained, Verdict


def tree_of_progress(progress: Progress) -> dict[str, Any]:
    """Return how far training is as a tree."""
    point = progress.point
    return progress._asdict() | {
        "history": tree_of_history(progress.history),
        "point": None if point is None else point._asdict(),
    }


def tree_of_history(history: History) -> dict[str, Any]:
    """Return a history as a tree."""
    return vars(history) | {
        "untrained": tuple(history.untrained),
        "memory": vars(history.memory) | {"best": tuple(history.memory.best)},
        "verdict": history.verdict.name,
    }


def progress_of(tree: Any) -> Progress:
    """Return how far training is by its tree, or raise ValueError for another one."""
    parts = _parts(tree, Progress._fields)
    point = parts["point"]
    if point is not None:
        point = _point_of(point)
    _check(
        _is_text(parts["engine"])
        and is_count(parts["t"])
        and is_count(parts["epochs"])
        and _is_float(parts["seconds"])
        and _is_stream(parts["stream"])
        and _is_arrays(parts["vectors"])
        and _is_arrays(parts["best"])
    )
    history = history_of(parts["history"])
    return Progress(**{**parts, "history": history, "point": point})


def _point_of(tree: Any) -> Point:
    parts = _parts(tree, Point._fields)
    streams = parts["streams"]
    _check(
        _is_losses(parts["losses"])
        and _is_losses(parts["penalties"])
        and _is_arrays(parts["debts"])
        and type(streams) is tuple
        and all(map(_is_stream, streams))
    )
    return Point(**parts)


# What an epoch adds a float to.
_ALWAYS = ("objective", "loss", "loss_curve", "seconds")
_CURVES = (*_ALWAYS, "validation_loss", "validation_loss_curve", "score")


def history_of(tree: Any) -> History:
    """Return the history of a tree, or raise ValueError for another one."""
    parts = _parts(tree, vars(History()))
    _check(
        all(_is_list_of(_is_float, parts[name]) for name in _CURVES)
        and _is_list_of(is_count, parts["t"])
        and _is_list_of(_is_losses_of_epoch, parts["batch_loss"])
        and type(parts["cut_short"]) is bool
        and _is_text(parts["ended"])
        and _is_float(parts["end"])
        and _is_text(parts["verdict"])
        and parts["verdict"] in Verdict.__members__
    )
    _check(len({len(parts[name]) for name in (*_ALWAYS, "t")}) == 1)
    return History(
        **{
            **parts,
            "untrained": _numbers_of(Untrained, parts["untrained"]),
            "memory": _memory_of(parts["memory"]),
            "verdict": Verdict[parts["verdict"]],
        }
    )


def _memory_of(tree: Any) -> Memory:
    parts = _parts(tree, vars(Memory()))
    _check(
        type(parts["improved"]) is bool
        and is_count(parts["waiting"])
        and is_count(parts["growing"])
        and _is_float(parts["began"])
        and type(parts["gained"]) is bool
    )
    return Memory(**{**parts, "best": _numbers_of(Best, parts["best"])})


def _check(holds: bool) -> None:
    if not holds:
        raise ValueError("It holds what no training has left.")


def _parts(tree: Any, names: Any) -> Mapping[str, Any]:
    """Return the parts of a tree, which must have these names."""
    _check(type(tree) is dict and tree.keys() == set(names))
    return tree  # type: ignore[no-any-return]


def _numbers_of(cls: Any, numbers: Any) -> Any:
    """Return a tuple of numbers as a value whose defaults are of the same types."""
    _check(
        type(numbers) is tuple and list(map(type, numbers)) == list(map(type, cls()))
    )
    return cls(*numbers)


def _is_text(value: Any) -> bool:
    return type(value) is str


def is_count(value: Any) -> bool:
    """Return whether a value is a number of things."""
    return type(value) is int and 0 <= value < 2**63


def _is_float(value: Any) -> bool:
    return type(value) is float


def _is_stream(value: Any) -> bool:
    return type(value) is np.random.Generator


def _is_floats(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype in (np.float32, np.float64)


def _is_losses(value: Any) -> bool:
    return _is_floats(value) and value.ndim == 3


def _is_losses_of_epoch(value: Any) -> bool:
    return _is_floats(value) and value.ndim == 1


def _is_list_of(holds: Callable[[Any], bool], value: Any) -> bool:
    return type(value) is list and all(map(holds, value))


def _is_arrays(value: Any) -> bool:
    return type(value) is dict and all(
        type(name) is str and type(array) is np.ndarray for name, array in value.items()
    )
