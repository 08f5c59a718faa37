"""Results of a search that are kept in a directory as they come, and read again.

Each job that is done leaves a file, a tree (see ``trees``) that takes its name at once:

    NAME OF THE EVALUATION - NAME OF THE JOB .skgd

Both are fingerprints. The first is of all that the results depend on but the candidates
and the splits: another search, data or version has another one, and lets the file be.
Later rounds of a halving search have names of their own, in which all earlier ones
are. The second only keeps jobs apart. What is in a file is found by candidate and
split, so a search may be cut into other jobs when it goes on.

The last fit, of the best candidate, is kept like any other fit, in a file of its own
that is a checkpoint of the estimator.

A file that is damaged costs its job and no more: a warning names it, the job is done
anew, and its file is written over. Results can be had again; to refuse them all would
cost more than the one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from warnings import warn

from skgd._estimators.attributes import check_fitted
from skgd._estimators.state import attributes_of_state, known_state, unfitted
from skgd._estimators.targets import attributes_of_targets, known_targets
from skgd._estimators.under_way import history_of, tree_of_history
from skgd._machine.files import read_whole, write_atomically
from skgd._machine.trees import decode, encode
from skgd._search.fingerprints import fingerprint_of, fingerprint_of_candidate
from skgd._search.request import Cell, Parameters, Result
from skgd._search.stacks import Outcome
from skgd._training.stopping import Ending

_SUFFIX = ".skgd"

# Of a fingerprint, so many characters make a name of a file that no other one has.
_LENGTH = 32

# What the result of a fit has for certain.
_RESULT = {"fit_error", "fit_time", "score_time", "n_test_samples", "test_scores"}
_RESULT |= {"loss_curve", "together", "engine"}


class Found(NamedTuple):
    """What has come of a candidate on a split."""

    result: Result
    outcome: Outcome | None = None  # to go on from, where training may
    reason: str = ""  # why it was not trained together, if it was tried


class Round(NamedTuple):
    """Where results of an evaluation are kept, and the fingerprints that name them."""

    directory: str
    name: str
    candidates: Sequence[str]
    splits: Sequence[str]

    @property
    def next_name(self) -> str:
        """What names the next evaluation of the same search."""
        return fingerprint_of((self.name, list(self.candidates), list(self.splits)))


def directory_at(checkpoint: Any) -> str:
    """Return the path of the directory, which is made if it is missing."""
    path = ""
    if isinstance(checkpoint, str | os.PathLike):
        path = os.fsdecode(checkpoint)
    if not path:
        msg = (
            "checkpoint must be the path of a directory, or None. Got "
            f"{checkpoint!r}; give a text or a pathlib.Path."
        )
        raise TypeError(msg)
    try:
        with suppress(PermissionError):  # there is none then, which is told below
            os.makedirs(path, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        msg = (
            "checkpoint must be a directory, in which results are kept. Got "
            f"{path!r}, which is a file or lies in one; choose another path."
        )
        raise NotADirectoryError(msg) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        msg = (
            "checkpoint must be a directory that may be read and written to. Got "
            f"{path!r}; change its permissions, or choose another path."
        )
        raise PermissionError(msg)
    return path


def file_of_refit(directory: str, name: str, params: Parameters) -> str:
    """Return the path of the checkpoint of a candidate that is fitted to all rows."""
    told = fingerprint_of((name, fingerprint_of_candidate(params)))
    return os.path.join(directory, f"refit-{told[:_LENGTH]}{_SUFFIX}")


def keep(of: Round, found: Mapping[Cell, Found]) -> None:
    """Write what has come of a job; what a file has no place for, warn of."""
    cells = [
        {
            "candidate": of.candidates[number],
            "split": of.splits[split],
            "result": _tree_of_result(one.result),
            "outcome": None if one.outcome is None else _tree_of_outcome(one.outcome),
            "reason": one.reason,
        }
        for (number, split), one in found.items()
    ]
    try:
        data = encode(cells)
    except TypeError as error:
        msg = (
            f"The results of {len(cells)} models are not kept in {of.directory!r}, for "
            f"a file cannot hold them: {error} They would be computed anew."
        )
        warn(msg, UserWarning, stacklevel=2)
        return
    job = fingerprint_of([(cell["candidate"], cell["split"]) for cell in cells])
    name = f"{_front(of)}{job[:_LENGTH]}{_SUFFIX}"
    write_atomically(os.path.join(of.directory, name), data)


def read(of: Round, estimator: Any) -> dict[Cell, Found]:
    """Return what is kept of an evaluation; of files that are damaged, warn.

    ``estimator`` is of the class that is trained, for what training goes on from.
    """
    known: dict[tuple[str, str], Found] = {}
    for name in sorted(os.listdir(of.directory)):
        if not (name.startswith(_front(of)) and name.endswith(_SUFFIX)):
            continue
        path = os.path.join(of.directory, name)
        try:
            known |= {
                (cell["candidate"], cell["split"]): _found_in(cell, estimator)
                for cell in decode(read_whole(path))
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"{path!r} is not read, and its models are trained anew. {error}"
            warn(msg, UserWarning, stacklevel=2)
    found = {}
    for number, candidate in enumerate(of.candidates):
        for split, rows in enumerate(of.splits):
            if (candidate, rows) in known:
                found[number, split] = known[candidate, rows]
    return found


def _front(of: Round) -> str:
    return f"{of.name[:_LENGTH]}-"


# To trees, and from them


def _tree_of_result(result: Result) -> dict[str, Any]:
    ending = result.get("ending")
    return result if ending is None else {**result, "ending": ending.name}


def _found_in(cell: Any, estimator: Any) -> Found:
    """Return what has come of a cell, from its tree; an error for any other."""
    result, outcome = cell["result"], cell["outcome"]
    if not (type(result) is dict and result.keys() >= _RESULT):
        raise ValueError("It holds no result of a fit.")
    if "ending" in result:
        result = {**result, "ending": Ending[result["ending"]]}
    if outcome is not None:
        outcome = _outcome_of(outcome, estimator)
    return Found(result, outcome, cell["reason"])


def _tree_of_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return what training goes on from: a state as an estimator keeps it, a history.

    Of an outcome that is handed on, there is a state.
    """
    state = outcome.state
    assert state is not None
    return {
        "attributes": {
            **attributes_of_targets(outcome.targets),
            **attributes_of_state(state, outcome.targets),
            "t_": state.t,
            "n_iter_": state.epochs,
            "n_features_in_": state.layers[0][0].shape[1],
        },
        "history": tree_of_history(outcome.history),
    }


def _outcome_of(tree: Any, estimator: Any) -> Outcome:
    """Return what training goes on from, checked as what other files hold is."""
    kept = unfitted(estimator)
    vars(kept).update(tree["attributes"])
    check_fitted(kept)
    targets = known_targets(kept)
    assert targets is not None
    state, history = known_state(kept, targets), history_of(tree["history"])
    return Outcome(0, 0, None, targets, state, history, None, "", 0.0)
