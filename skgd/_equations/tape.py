"""The tape: what a step computes, recorded once and replayed at every step.

``tape(torch.clamp, r, -delta, delta, out=dz)`` computes nothing. It notes a call, to be
made at every step, and gives back the array that the call will fill. So a quantity can
have its name in a formula, whatever array it lives in:

    r = tape(torch.sub, z, y, out=value)
    c = tape(torch.clamp, r, -delta, delta, out=dz)
    rest = tape(r.sub_, c)

The last line is the form in place: a method whose name ends in ``_`` fills its own
array. Here ``rest`` lives where r has lived, and r is no more. A function of that kind
(``torch.selu_``) fills its first operand.

Arrays are told, not made by the tape, because they are used again: a stack of models
with an array for every result takes 1.3 to 1.6 times as long.

``print(tape)`` lists the calls, and ``listing`` gives names to their arrays.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from skgd._equations.contraction import Call, contraction


class Tape(list[Call]):
    """Calls in the order of their replay; to record one gives back what it fills."""

    def __call__(
        self,
        function: Callable[..., object],
        *operands: Any,
        out: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Record a function of torch; without ``out``, one in place."""
        if out is not None:
            self.append(partial(function, *operands, out=out, **options))
            return out
        if not _is_in_place(function):
            msg = (
                "What is recorded without out= must be a function in place, whose name "
                f"ends in _. Got {_name(function)}; tell it an array to fill."
            )
            raise ValueError(msg)
        self.append(partial(function, *operands, **options))
        return _changed(function, operands)

    def product(
        self,
        equation: str,
        a: Tensor,
        b: Tensor,
        *,
        out: Tensor,
        plus: Tensor | None = None,
    ) -> Tensor:
        """Record ``einsum(equation, a, b)``, see ``contraction``."""
        self.append(contraction(equation, a, b, out=out, plus=plus))
        return out

    def replay(self) -> None:
        """Make all calls."""
        for call in self:
            call()

    def listing(self, **named: Tensor) -> str:
        """Return a line for each call: what it reads -> what it fills, with shapes.

        Arrays have the name of the one of ``named`` that lies in the same memory, or
        a number that is that of the memory. ``tape.listing(w=network.flat)`` so tells
        where w changes: where it stands to the right of an arrow.
        """
        names = {_memory(array): name for name, array in named.items()}

        def shown(value: object) -> str:
            if not isinstance(value, Tensor):
                return repr(value)
            name = names.setdefault(_memory(value), f"#{len(names) + 1}")
            return f"{name}{tuple(value.shape)}"

        return "\n".join(_line(call, shown) for call in self)

    def __repr__(self) -> str:
        return self.listing()


def _is_in_place(function: Any) -> bool:
    return _name(function)[-1] == "_"


def _changed(function: Any, operands: Sequence[Any]) -> Tensor:
    """Return what a function in place changes: its own array, or its first operand."""
    owner = getattr(function, "__self__", None)  # of a function, torch's module
    changed: Tensor = owner if isinstance(owner, Tensor) else operands[0]
    return changed


def _name(function: Any) -> str:
    name: str = getattr(function, "__name__", "") or type(function).__name__
    return name


def _memory(array: Tensor) -> int:
    return array.untyped_storage().data_ptr()


def _line(call: Any, shown: Callable[[object], str]) -> str:
    """Return a call in words; of one that is no partial, its name is all there is."""
    if not isinstance(call, partial):
        return _name(call)
    owner = getattr(call.func, "__self__", None)
    own = [owner] if isinstance(owner, Tensor) else []
    options = {key: value for key, value in call.keywords.items() if key != "out"}
    reads = [shown(value) for value in (*own, *call.args)]
    reads += [f"{key}={shown(value)}" for key, value in options.items()]
    line = f"{_name(call.func)} {', '.join(reads)}"
    if "out" in call.keywords:
        return f"{line} -> {shown(call.keywords['out'])}"
    if _is_in_place(call.func):
        return f"{line} -> {shown(_changed(call.func, call.args))}"
    return line
