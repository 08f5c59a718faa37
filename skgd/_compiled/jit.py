"""How functions become machine code, and where that is kept.

There are five kinds:

* ``exact`` functions are equations for single numbers, computed as they are written.
* ``fast`` ones are parts of loops, whose sums may be taken in another order, since only
  then they are taken of several numbers at a time. Neither kind assumes that there is
  no NaN or infinity, and each keeps to its own rules where it is put into another.
  Both stay functions of Python, which loops alone call compiled: what lets Python do so
  would take a fifth of the time that a loop takes to compile.
* ``inlined`` ones are such parts, put where they are called before all is optimised.
* ``kernel`` makes a loop that Python calls, without its lock.
* ``entry`` makes a function of arrays that a loop calls by its address.

The last two are compiled when they are made, and kept on disk, where numba keeps what
it compiles: in NUMBA_CACHE_DIR, beside the sources, or in the user's cache. numba
looks at the one file that a function is in, which calls functions of others; here what
was kept is valid as long as no file of this package has changed. Where nothing can be
kept, all is compiled anew in each process, and a warning says so.
"""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from hashlib import sha256
from inspect import getfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import numba as nb
from llvmlite import ir
from numba import core, extending
from numba.core import event
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
)
from numba.core.ccallback import CFunc
from numba.np.unsafe import ndarray

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

# A division by zero is no exception, for which SIMD would have to look; and only an
# entry is called as one of C, for which numba sets this itself.
_COMMON: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_cfunc_wrapper": True,
}
_FAST = {"fastmath": {"contract", "reassoc"}, **_COMMON}
# Equations are put where they are used, or a loop of them would be one of calls.
EXACT = {"fastmath": {"contract"}, "forceinline": True, **_COMMON}

# Functions of numba, without the types by which it tells them to mypy.
intrinsic: Any = extending.intrinsic
overload: Any = extending.overload
carray: Any = nb.carray
config: Any = core.config
fixed_tuple: Any = ndarray.to_fixed_tuple  # of so many numbers of a vector


def exact(function: F) -> F:
    """Return a function that is compiled where it is used: an equation."""
    register: Callable[[F], F] = extending.register_jitable(**EXACT)
    return register(function)


def fast(function: F) -> F:
    """Return a function that is compiled where it is used: a part of a loop."""
    register: Callable[[F], F] = extending.register_jitable(**_FAST)
    return register(function)


def inlined(function: F) -> F:
    """Return a part of a loop that is compiled as if it stood where it is called.

    What calls many other parts is compiled faster so: each level of calls is optimised
    anew with all that is below it.
    """
    compiled: F = nb.njit(inline="always", **_FAST)(function)
    return compiled


def kernel(function: Function, signature: Any) -> Function:
    """Return a function of Python that is compiled, for arguments of one signature."""
    compiled = nb.njit(nogil=True, **_FAST)(function)
    _keep(compiled, function)
    with _no_collection():
        compiled.compile(signature)
    compiled.disable_compile()
    return compiled


def entry(function: Function, signature: Any) -> Any:
    """Return a function of C, whose ``address`` is valid as long as it is kept."""
    called_as = signature.args, signature.return_type
    compiled = CFunc(function, called_as, locals={}, options=_FAST)
    _keep(compiled, function)
    with _no_collection():
        compiled.compile()
    return compiled


def named(name: str, function: F) -> F:
    """Give a name to one of several functions that come of one that makes them.

    Each needs one of its own, in the cache and where numba links what it has compiled.
    """
    function.__name__ = function.__qualname__ = name
    return function


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python collect no garbage: numba makes so much that it took a fifth longer.

    Of several threads, the first to come here lets it collect again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@intrinsic
def call(_: Any, address: Any, arguments: Any) -> Any:
    """Call an entry by its address: arrays of a tuple are handed on as pointers."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, arguments = values
        handed = []
        for n, kind in enumerate(signature.args[1].types):
            value = builder.extract_value(arguments, n)
            if isinstance(kind, nb.types.Array):
                value = context.make_array(kind)(context, builder, value).data
            handed.append(value)
        of_c = ir.FunctionType(ir.VoidType(), [value.type for value in handed])
        builder.call(builder.inttoptr(address, of_c.as_pointer()), handed)
        return context.get_dummy_value()

    return nb.types.none(address, arguments), code


@intrinsic
def pointer(_: Any, address: Any, like: Any) -> Any:
    """Return an address as a pointer to numbers as those of an array."""
    kind = nb.types.CPointer(like.dtype)

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(kind))

    return kind(address, like), code


@intrinsic
def fetch(_: Any, array: Any, place: Any) -> Any:
    """Have what lies at a place of an array brought to the cache, before it is read."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        array = context.make_array(signature.args[0])(context, builder, values[0])
        at = builder.bitcast(builder.gep(array.data, [values[1]]), byte)
        of_llvm = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], of_llvm)
        builder.call(function, [at, flag(0), flag(3), flag(1)])  # to read, often, data
        return context.get_dummy_value()

    return nb.types.none(array, place), code


@intrinsic
def borrowed(_: Any, arrays: Any) -> Any:
    """Return arrays (a tuple) that do not know their owners, whom someone else holds.

    Of those that do, references are counted at each slice and call.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        views = []
        for n, kind in enumerate(arrays.types):
            array = builder.extract_value(values[0], n)
            view = context.make_array(kind)(context, builder, array)
            view.meminfo = view.meminfo.type(None)
            view.parent = view.parent.type(None)
            views.append(view._getvalue())
        return context.make_tuple(builder, arrays, views)

    return arrays(arrays), code


def _place_of(file: str) -> str:
    """Return where numba keeps what it compiles of a file, were it to be written to."""
    if config.CACHE_DIR:
        below = InTreeCacheLocator.get_suitable_cache_subpath(file)
        return str(Path(config.CACHE_DIR) / below)
    return str(Path(file).parent / "__pycache__")


class _ReadOnlyLocator(InTreeCacheLocator):
    """That place, where there is none that can be written to."""

    def __init__(self, py_func: Function, py_file: str) -> None:
        super().__init__(py_func, py_file)
        self.path = _place_of(py_file)

    def get_cache_path(self) -> str:
        return self.path

    @classmethod
    def from_function(cls, py_func: Function, py_file: str) -> Any:
        return cls(py_func, py_file) if Path(py_file).exists() else None


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [  # noqa: RUF012
        *CompileResultCacheImpl._locator_classes,
        _ReadOnlyLocator,
    ]


# What reading a file raises that was cut short, or is of something else.
_DAMAGED = (
    *(UnpicklingError, EOFError, AttributeError, ImportError),
    *(IndexError, KeyError, TypeError, ValueError),
)


class _Cache(FunctionCache):
    """numba's cache on disk, of functions that call functions of other files.

    What is damaged there is written anew. Where nothing can be written, what is there
    already is read: an image of a machine may bring it along.
    """

    _impl_class = _Implementation

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), _sources()

    def _file_in(self, place: str, key: Any) -> IndexDataCacheFile:
        """Return the file of one key in a folder.

        numba's own has a list of all keys of a function, and numbers for their files.
        Of two processes that each add a key, one would write over the list, and both
        the same file, so that one key would lead to the machine code of the other.
        """
        told = sha256(repr(key).encode()).hexdigest()[:16]
        stamp = self._impl.locator.get_source_stamp()
        return IndexDataCacheFile(place, f"{self._impl.filename_base}-{told}", stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        key = self._index_key(sig, target_context.codegen())
        for place in dict.fromkeys(
            (self._cache_path, _place_of(getfile(self._py_func)))
        ):
            data = _read(self._file_in(place, key), key)
            if data is not None:
                return self._impl.rebuild(target_context, data)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        key = self._index_key(sig, data.codegen)
        self._cache_file = self._file_in(self._cache_path, key)
        try:
            super().save_overload(sig, data)
        except (OSError, *_DAMAGED) as error:
            _warn(f"{type(error).__name__}: {error}")


def _read(file: Any, key: Any) -> Any:
    """Return what a file of numba's has of a key; None, and no file, if damaged."""
    try:
        return file.load(key)
    except (OSError, *_DAMAGED):
        with suppress(OSError):
            file.flush()
        return None


def _keep(compiled: Any, function: Function) -> None:
    """Let numba keep on disk what it compiles."""
    try:
        compiled._cache = _Cache(function)
    except RuntimeError as error:  # numba's word for no place at all
        _warn(str(error))


def _warn(why: str) -> None:
    """Warn once in a process, whatever the words: each file has a name of its own."""
    if not _warned:
        _warned.append(why)
        msg = (
            f"The compiled loops of skgd could not be kept on disk ({why}). They are "
            "compiled anew in each process, which takes some seconds. Set the "
            "environment variable NUMBA_CACHE_DIR to a folder that can be written to."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)


_warned: list[str] = []


@cache
def _sources() -> str:
    """Return what changes whenever a file of this package does."""
    folder = Path(__file__).parent
    digest = sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class _Says(event.Listener):
    """Says once that numba has begun to compile."""

    def __init__(self, say: Callable[[], None]) -> None:
        self._say: Callable[[], None] | None = say

    def on_start(self, event: Any) -> None:
        if self._say is not None:
            self._say()
        self._say = None

    def on_end(self, event: Any) -> None: ...


def announced(say: Callable[[], None]) -> AbstractContextManager[None]:
    """Return a context that says once if something is compiled in it, not just read."""
    context: AbstractContextManager[None] = event.install_listener(
        "numba:compile", _Says(say)
    )
    return context
