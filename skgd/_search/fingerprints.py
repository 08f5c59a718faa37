"""What names the results of a search: fingerprints of all that they depend on.

Two values have one fingerprint if they are of one type and hold the same, whatever
process they are in. That of numbers is ``_machine/fingerprints``'. All else is taken
apart as far as pickle would take it: an estimator is its class and its attributes.

What is code has no contents that tell all it does. A class counts by its name, a
function by its name, its own instructions and constants, its defaults and what it has
enclosed; not by what it calls. So does a callback, by the name of its class: what it
has counted meanwhile is no part of what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copyreg import dispatch_table
from hashlib import sha256
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import scipy.sparse
import sklearn
import torch
from sklearn.base import clone

from skgd._estimators.sklearn_private import PassthroughScorer
from skgd._estimators.versions import VERSION
from skgd._machine.arrays import Array
from skgd._machine.fingerprints import fingerprint
from skgd._search.request import Parameters, Request
from skgd._training.engines import why_no_numba

# Where scikit-learn keeps the callbacks of an estimator.
_CALLBACKS = "_skl_callbacks"


def fingerprint_of_request(request: Request, base: Any) -> str:
    """Return what names all evaluations of a search; ValueError for what has no name.

    Not in it is what changes only who computes, and in which order: ``n_jobs``,
    ``pre_dispatch``, ``max_bytes``, ``verbose``; nor is ``refit``.
    """
    parts = {
        "estimator": base,
        "X": request.X,
        "y": request.y,
        "the parameters of fit": request.fit_params,
        "the parameters of the scorer": request.score_params,
        "scoring": request.scorer,
        "return_train_score": request.return_train_score,
        "error_score": request.error_score,
        "versions": _versions(),
    }
    return fingerprint_of([_told(name, one) for name, one in parts.items()])


def fingerprint_of_candidate(params: Parameters) -> str:
    """Return what names a candidate: its parameters, as clones of them are set."""
    return _told("a candidate", clone(dict(params), safe=False))


def fingerprint_of(value: Any) -> str:
    """Return the fingerprint of a value; an error if it has none."""
    return _told_apart(value).hex()


def _versions() -> list[Any]:
    """Return the versions of what computes, and whether compiled loops can be used."""
    versions = [VERSION, np.__version__, scipy.__version__, sklearn.__version__]
    return [*versions, str(torch.__version__), not why_no_numba()]


def _told(name: str, value: Any) -> str:
    """Return the fingerprint of a value, or say in words that it has none."""
    try:
        return fingerprint_of(value)
    except Exception as error:  # a class of the user's may raise anything
        msg = (
            f"With checkpoint, {name} must be of values that can be told from others "
            f"by what they hold, as pickle takes them apart. Got "
            f"{type(error).__name__}: {error}; give another, or checkpoint=None."
        )
        raise ValueError(msg) from error


def _told_apart(value: Any, within: tuple[int, ...] = ()) -> bytes:
    """Return what tells a value apart that stands within others, by addresses."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex):
        return _joined(kind.__name__, [repr(value).encode()])
    if kind is str:
        return _joined("str", [value.encode("utf-8", "surrogatepass")])
    if kind in (bytes, bytearray):
        return _joined(kind.__name__, [value])
    if isinstance(value, ModuleType | type):
        return _joined("name", [_name_of(value).encode()])
    if id(value) in within:
        return _joined("within", [str(within.index(id(value))).encode()])
    within = (*within, id(value))

    def parts(values: Iterable[Any]) -> list[bytes]:
        return [_told_apart(one, within) for one in values]

    if kind in (list, tuple):
        return _joined(kind.__name__, parts(value))
    if kind in (set, frozenset):
        return _joined(kind.__name__, sorted(parts(value)))
    if isinstance(value, Mapping) and kind.__module__ in ("builtins", "collections"):
        return _joined(kind.__name__, sorted(parts(value.items())))
    if kind in (np.ndarray, np.memmap):
        return _of_array(value, within)
    if isinstance(value, torch.Tensor) and value.layout is torch.strided:
        numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        facts = [str(value.dtype), tuple(value.shape), value.device.type]
        return _joined("tensor", parts([facts, numbers.numpy()]))
    if scipy.sparse.issparse(value):
        rows = value.tocsr()  # what else there is has been looked at or not
        facts = [kind.__name__, rows.shape, rows.data, rows.indices, rows.indptr]
        return _joined("sparse", parts(facts))
    if isinstance(value, FunctionType):
        return _joined("function", parts(_facts_of_function(value)))
    if isinstance(value, CodeType):
        return _joined("code", parts(_facts_of_code(value)))
    if isinstance(value, PassthroughScorer):  # the estimator's own
        return _joined("score", [])
    return _joined("object", parts(_facts_of_object(value)))


def _joined(kind: str, parts: Iterable[bytes]) -> bytes:
    """Return what tells parts apart, of which one knows where each of them ends."""
    digest = sha256(f"{kind} ".encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _name_of(value: Any) -> str:
    module = getattr(value, "__module__", "")
    return f"{module}:{getattr(value, '__qualname__', value.__name__)}"


def _of_array(array: Array, within: tuple[int, ...]) -> bytes:
    """Return what tells an array apart: its dtype, its shape and its numbers."""
    front = repr((array.dtype, array.shape)).encode()
    if array.dtype.hasobject or array.dtype.kind == "T":
        items = [_told_apart(one, within) for one in array.ravel().tolist()]
        return _joined("objects", [front, *items])
    return _joined("array", [front, fingerprint(array).encode()])


def _facts_of_function(function: FunctionType) -> list[Any]:
    cells = function.__closure__ or ()
    return [
        _name_of(function),
        function.__code__,
        function.__defaults__,
        function.__kwdefaults__,
        [cell.cell_contents for cell in cells],
    ]


def _facts_of_code(code: CodeType) -> list[Any]:
    """Return what a function does, but not where it is written."""
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code, code.co_consts, names]


def _facts_of_object(value: Any) -> list[Any]:
    """Return what pickle would write of an object: how it is made, and of what."""
    reduce = dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(reduced, str):
        return [type(value), reduced, getattr(value, "__module__", None)]
    made_by, made_of, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(state, dict) and _CALLBACKS in state:
        state = {**state, _CALLBACKS: list(map(type, state[_CALLBACKS]))}
    items, pairs = list(items or ()), list(pairs or ())
    return [type(value), made_by, made_of, state, items, pairs]
