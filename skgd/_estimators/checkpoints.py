"""Checkpoints: a fit under way as a file, from which the same fit goes on.

The file holds what tells the fit from all others, and how far it is, as a tree. What it
says is believed no more than what a caller passes.

A fit that has ended by itself is kept like any other: to go on from there takes no
step, and does what is done at every end. One that was ended by the clock or by Ctrl-C
is kept as it was before, and goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from time import monotonic
from typing import Any, NamedTuple, NoReturn
from warnings import warn

import numpy as np

from skgd._estimators.examples import Examples
from skgd._estimators.parallel import Together
from skgd._estimators.parameters import is_real, shown
from skgd._estimators.saved import parameters_of, versions
from skgd._estimators.state import State, attributes_of_state
from skgd._estimators.surveys import BlockRows
from skgd._estimators.targets import Targets
from skgd._estimators.under_way import is_count, progress_of, tree_of_progress
from skgd._estimators.versions import VERSION, defaults_of
from skgd._estimators.watch import TIME_IS_OVER
from skgd._machine.errors import in_the_words
from skgd._machine.files import Path, check_directory, read_whole, write_atomically
from skgd._machine.fingerprints import fingerprint
from skgd._machine.interrupts import INTERRUPTED, Terminations
from skgd._machine.ranks import Ranks
from skgd._machine.trees import decode, encode
from skgd._training.progress import Progress
from skgd._training.shards import Shard

# The parts of the tree of a file, and of what tells a fit from others.
_PARTS = {"fit", "split_seed", "progress", "versions"}
_FIT = {"class", "parameters", "to_give", "given"}

# Parameters that change no step, and may be others when a fit goes on.
_FREE = ("max_time", "verbose")

_ANEW = "or choose another path to begin anew"

# What training is told to end by, and goes on after.
_PUT_OFF = (INTERRUPTED, TIME_IS_OVER)


class Checkpoint(NamedTuple):
    """The file that a fit is kept in, and how far the fit is that it holds, if any."""

    path: Path
    seconds: float  # between two times that it is written
    fit: Mapping[str, Any]  # what tells this fit from others
    held: Mapping[str, Any] | None  # the tree that it held when the fit began
    split_seed: int | None = None  # by which that fit has held out rows
    progress: Progress | None = None


def opened(path: Any, seconds: Any, settings: Any, ranks: Ranks) -> Checkpoint | None:
    """Return a checkpoint, read and compared with the parameters, None for no path.

    The first rank reads, and writes.
    """
    ranks.check_alike(lambda: {"Whether checkpoint is given": path is not None})
    if path is None:
        return None
    ranks.agreed(partial(_check_arguments, path, seconds, settings))
    path = os.path.abspath(os.fsdecode(path))
    read = ranks.agreed(partial(_read, path) if ranks.rank == 0 else lambda: None)
    data, *_ = ranks.gather(read)
    is_first = ranks.rank == 0  # some parameters may be others elsewhere
    return ranks.agreed(
        partial(_opened, path, float(seconds), data, settings, compares=is_first)
    )


def _check_arguments(path: Any, seconds: Any, settings: Any) -> None:
    """Refuse what names no file, what are no seconds, and several models."""
    if not isinstance(path, str | bytes | os.PathLike) or not os.fspath(path):
        msg = (
            "checkpoint must be None, or the path of a file: a str or path-like. Got "
            f"{shown(path)}."
        )
        raise TypeError(msg)
    if not is_real(seconds) or not 0 <= seconds < inf:
        msg = (
            "checkpoint_seconds must be a float in the range [0, inf). Got "
            f"{shown(seconds)} instead."
        )
        raise ValueError(msg)
    if settings.n_models != 1:
        msg = (
            "n_models must be 1 with checkpoint, which keeps a fit of one model. Got "
            f"{settings.n_models}; fit them one by one, each with a random_state and a "
            "checkpoint of its own."
        )
        raise ValueError(msg)


def _read(path: Path) -> bytes | None:
    """Return what a file holds; None if there is none, and there may be one."""
    if os.path.lexists(path):
        return read_whole(path)
    check_directory(path)
    return None


def _opened(
    path: Path, seconds: float, data: bytes | None, settings: Any, *, compares: bool
) -> Checkpoint:
    parameters, to_give = parameters_of(settings)
    if isinstance(settings.random_state, np.random.RandomState):  # it has moved since
        parameters["random_state"] = "a RandomState"
    fit = {
        "class": type(settings).__name__,
        "parameters": parameters,
        "to_give": to_give,
    }
    if data is None:
        return Checkpoint(path, seconds, fit, None)
    with in_the_words(f"checkpoint={path!r}"):
        held = _checked(_decoded(data))
        if compares:
            _check_same_parameters(type(settings), held["fit"], fit)
    return Checkpoint(path, seconds, fit, held)


def _decoded(data: bytes) -> Any:
    try:
        return decode(data)
    except ValueError as error:
        raise ValueError(f"{error} Delete it, {_ANEW}.") from error


def _checked(tree: Any) -> dict[str, Any]:
    """Return the tree of a checkpoint, or raise ValueError for another one."""
    if type(tree) is dict and tree.keys() == {"estimator", "note"}:
        raise ValueError(
            "It holds a model that save has written, and no fit under way; read it "
            f"with load, {_ANEW}."
        )
    if type(tree) is not dict or tree.keys() != _PARTS:
        _wrong()
    fit = tree["fit"]
    if type(fit) is not dict or fit.keys() != _FIT or type(fit["class"]) is not str:
        _wrong()
    parts = (fit["parameters"], fit["to_give"], fit["given"])
    if not all(
        type(part) is dict and all(type(name) is str for name in part) for part in parts
    ) or not all(one is None or type(one) is str for one in fit["given"].values()):
        _wrong()
    return tree


def _wrong() -> NoReturn:
    raise ValueError(f"It holds what no fit has kept; delete it, {_ANEW}.")


def _check_same_parameters(
    cls: type, held: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Refuse to go on with a fit of another class, or of other parameters."""
    if held["class"] != now["class"]:
        raise ValueError(
            f"It must hold a fit of {now['class']}. Got one of {held['class'][:100]}; "
            f"fit that, {_ANEW}."
        )
    # One that the version which wrote it did not have, had the default's effect.
    of_both = {**defaults_of(cls), **held["parameters"]}, now["parameters"]
    before, after = ({**some} for some in of_both)
    for name in (*held["to_give"], *now["to_give"]):
        before[name], after[name] = (
            one["to_give"].get(name, one["parameters"].get(name)) for one in (held, now)
        )
    for name in sorted({*before, *after} - {*_FREE}):
        if encode(before.get(name)) != encode(after.get(name)):
            then, now_ = (shown(some.get(name))[:200] for some in (before, after))
            msg = (
                f"{name} must be {then}, as in the fit that it holds. Got {now_}; set "
                f"it so, {_ANEW}."
            )
            raise ValueError(msg)


def for_data(
    checkpoint: Checkpoint,
    examples: Examples,
    validation: Examples | None,
    initial: Mapping[str, Any] | None,
    before: Sequence[State],
    targets: Targets,
    together: Together,
) -> Checkpoint:
    """Return a checkpoint, compared with what is trained on, or raise ValueError."""
    starts = {} if initial is None else initial
    told = {
        **_told_of_rows(("X", "y", "sample_weight"), examples, together.shard),
        **_told_of_rows(
            ("X_val", "y_val", "sample_weight_val"),
            validation,
            together.shard_held_out,
        ),
        **{name: _told(_as_arrays(name, given)) for name, given in starts.items()},
        "The model that training goes on from": _told_of_state(before, targets),
    }
    in_all: dict[str, str | None] = {}
    for told_there in together.ranks.gather(told):
        in_all.update(told_there)
    checkpoint = checkpoint._replace(fit={**checkpoint.fit, "given": in_all})
    return together.ranks.agreed(partial(_compared, checkpoint))


def _compared(checkpoint: Checkpoint) -> Checkpoint:
    held = checkpoint.held
    if held is None:
        return checkpoint
    with in_the_words(f"checkpoint={checkpoint.path!r}"):
        before, now = held["fit"]["given"], checkpoint.fit["given"]
        for name in (*now, *(name for name in before if name not in now)):
            if encode(before.get(name)) != encode(now.get(name)):
                _refuse_given(name, before.get(name), now.get(name))
        seed = held["split_seed"]
        if not (seed is None or is_count(seed)):
            _wrong()
        try:
            progress = progress_of(held["progress"])
        except ValueError:
            _check_version(held["versions"])
            _wrong()
        return checkpoint._replace(split_seed=seed, progress=progress)


def _check_version(versions: Any) -> None:
    """Refuse what another version has kept, whose training remembers other things."""
    by = versions.get("skgd") if type(versions) is dict else None
    if type(by) is str and by != VERSION:
        raise ValueError(
            f"It was kept by version {by[:100]} of skgd, and version {VERSION} cannot "
            f"go on with it; go on by that one, or delete it, {_ANEW}."
        )


def _refuse_given(name: str, before: Any, now: Any) -> NoReturn:
    """Raise ValueError for what is given otherwise than to the fit that is held."""
    before, now = (
        "none" if one is None else f"{one[:-56]}..." for one in (before, now)
    )
    raise ValueError(
        f"{name} must be what the fit was given that it holds ({before}). Got another "
        f"({now}); pass that again, {_ANEW}: a file is for one fit, not for the many "
        "of a cross-validation."
    )


def _told(value: Any, by: Any = None) -> str | None:
    """Return the shape of a value, if it has one, and its fingerprint, or another's."""
    if value is None:
        return None
    shape = f"shape {tuple(value.shape)}, " if hasattr(value, "shape") else ""
    return f"{shape}SHA-256 {fingerprint(value if by is None else by)}"


def _told_of_rows(
    names: tuple[str, str, str],
    examples: Examples | None,
    shard_of: Callable[[int], Shard | None],
) -> dict[str, str | None]:
    """Return what tells rows, targets and weights from others, by their partitions."""
    if examples is None:
        return dict.fromkeys(names)
    X, y, weight = examples.X, examples.labels, examples.sample_weight
    if isinstance(X, BlockRows):  # of which all ranks know the same
        told = _told(X, X.told_apart_by()), _told(y), _told(weight)
        return dict(zip(names, told, strict=True))
    shard = shard_of(len(y))
    if shard is None:
        return dict(zip(names, map(_told, (X, y, weight)), strict=True))
    stops = np.cumsum(shard.lengths_here).tolist()
    return {
        f"{name} of partition {number}": None if one is None else _told(one[start:stop])
        for number, start, stop in zip(shard.mine, [0, *stops], stops, strict=False)
        for name, one in zip(names, (X, y, weight), strict=True)
    }


def _as_arrays(name: str, given: Any) -> Any:
    """Return starting weights as arrays: of a network, those of each layer."""
    if given is None:
        return None
    if name.startswith(("coefs", "intercepts")):
        return [np.asarray(one) for one in given]
    return np.asarray(given)


def _told_of_state(before: Sequence[State], targets: Targets) -> str | None:
    if not before:
        return None
    [state] = before
    attributes = attributes_of_state(state, targets)
    return _told(encode([attributes, state.t, state.epochs]))


class FileKeeper:
    """Keeps how far a fit is in a file: by the clock, at the end, and on SIGTERM."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        split_seed: int | None,
        ranks: Ranks,
        terminations: Terminations,
    ) -> None:
        self.begun = checkpoint.progress  # from which training goes on, if it does
        self._checkpoint, self._split_seed = checkpoint, split_seed
        self._ranks, self._terminations = ranks, terminations
        self._due = inf  # another rank writes
        self._is_first = True

    def is_due(self, ended: str) -> bool:
        return bool(ended) or self._terminations.came or monotonic() >= self._due

    def keep(self, progress: Progress) -> None:
        history = progress.history
        if history.ended in _PUT_OFF:
            if history.cut_short:
                return  # the point in this epoch was kept
            progress = progress._replace(history=replace(history, ended=""))
        if self._is_first:  # what fails now has cost nothing
            self._ranks.agreed(partial(self._write, progress))
            self._is_first = False
        else:
            self._write_or_warn(progress)
        self._terminations.let_through()

    def _write_or_warn(self, progress: Progress) -> None:
        """Write, or warn: an error would cost what was trained."""
        try:
            self._write(progress)
        except OSError as error:
            msg = (
                f"The checkpoint is as it was {self._checkpoint.seconds:g} seconds "
                f"ago or before, for it cannot be written: {error} Training goes on; "
                "make room for it, and it will be written the next time."
            )
            warn(msg, UserWarning, stacklevel=2)

    def _write(self, progress: Progress) -> None:
        if self._ranks.rank:
            return
        path, seconds, fit, *_ = self._checkpoint
        tree = {
            "fit": fit,
            "split_seed": self._split_seed,
            "progress": tree_of_progress(progress),
            "versions": versions(),
        }
        try:
            write_atomically(path, encode(tree))
        finally:
            self._due = monotonic() + seconds


@contextmanager
def keeping(
    checkpoint: Checkpoint | None, split_seed: int | None, ranks: Ranks
) -> Iterator[FileKeeper | None]:
    """Give who keeps a fit in its checkpoint, if it has one; SIGTERM is put off."""
    if checkpoint is None:
        yield None
        return
    with Terminations() as terminations:
        yield FileKeeper(checkpoint, split_seed, ranks, terminations)
