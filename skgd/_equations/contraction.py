"""einsum planned once: an equation becomes the one matrix product that computes it.

``torch.einsum`` works out anew at every call how to compute its equation. For the
small arrays of a mini-batch that costs several times the product itself. Here an
equation and its operands are looked at once, and what comes back is a *call*: a
function without arguments, bound to its arrays, that writes the same sum into the same
place each time it is called. A training step is a list of such calls, made once and
replayed.

The equation stays the source of truth. ``torch.einsum`` is its definition, and the
tests hold every equation of the package against it. An equation that is not one matrix
product is refused when it is bound, and so is an operand that would have to be copied
first: torch.einsum would take both, slowly and in silence.
"""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from itertools import islice
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

Call = Callable[[], object]
Shape = tuple[int, ...]


class _Letters(NamedTuple):
    """The letters of an equation, by their part in the matrix product."""

    first: str
    second: str
    result: str
    stacked: str  # in both operands and in the result: one product for each value
    left: str  # in the first operand and the result: rows of the product
    right: str  # in the second operand and the result: columns of the product
    summed: str  # in both operands only: what the product sums over


@cache
def _letters_of(equation: str) -> _Letters:
    operands, arrow, result = equation.partition("->")
    first, comma, second = operands.partition(",")
    if not (arrow and comma and (first + second + result).isalpha()):
        msg = f"An equation reads 'ab,bc->ac', letters only. Got {equation!r}."
        raise ValueError(msg)
    stacked = "".join(a for a in result if a in first and a in second)
    left = "".join(a for a in result if a in first and a not in second)
    right = "".join(a for a in result if a in second and a not in first)
    summed = "".join(a for a in first if a in second and a not in result)
    if (
        result not in (stacked + left + right, stacked + right + left)
        or len(first + second) != len(2 * stacked + left + right + 2 * summed)
        or any(len(set(term)) < len(term) for term in (first, second, result))
    ):
        raise ValueError(f"{equation!r} is not one matrix product.")
    return _Letters(first, second, result, stacked, left, right, summed)


class _View(NamedTuple):
    """How an operand becomes one axis for each group of letters."""

    letters: str
    groups: tuple[str, ...]
    order: list[int] | None  # of its axes, if it is another one
    shape: list[int] | None  # if axes are merged


def _view_of(letters: str, shape: Shape, *groups: str) -> _View:
    """Return how an array of a shape gets one axis for each group of letters."""
    order = [letters.index(letter) for group in groups for letter in group]
    sizes = iter([shape[axis] for axis in order])
    merged = [prod(islice(sizes, len(group))) for group in groups]
    return _View(
        letters,
        groups,
        order if order != sorted(order) else None,
        merged if any(len(group) != 1 for group in groups) else None,
    )


def _grouped(array: Tensor, view: _View) -> Tensor:
    """Return the view of an array."""
    letters, groups, order, shape = view
    if order is not None:
        array = array.permute(order)
    if shape is None:
        return array
    try:
        return array.view(shape)
    except RuntimeError:
        msg = f"{letters} must lie so that {groups} are axes. Got {array.stride()}."
        raise ValueError(msg) from None


@cache
def _pairs(parts: _Letters) -> list[tuple[str, int, int]]:
    """Return the letters that come again, with two of their places among all axes."""
    letters = parts.first + parts.second + parts.result
    return [
        (letter, letters.index(letter), place)
        for place, letter in enumerate(letters)
        if letters.index(letter) < place
    ]


def _check_sizes(equation: str, parts: _Letters, *shapes: Shape) -> None:
    """Refuse sizes that differ: einsum itself lets a letter of size 1 broadcast."""
    terms = parts.first, parts.second, parts.result
    for letters, shape in zip(terms, shapes, strict=True):
        if len(letters) != len(shape):
            msg = (
                f"In {equation!r}, {letters} is {len(letters)} axes. Got {len(shape)}."
            )
            raise ValueError(msg)
    sizes = [size for shape in shapes for size in shape]
    for letter, first, other in _pairs(parts):
        if sizes[first] != sizes[other]:
            msg = (
                f"In {equation!r}, {letter} is both {sizes[first]} and {sizes[other]}."
            )
            raise ValueError(msg)


class _Plan(NamedTuple):
    """The one matrix product that an equation is."""

    swapped: bool  # whether the second operand comes first
    product: Callable[..., Tensor]
    add_product: Callable[..., Tensor]
    first: _View
    second: _View
    result: _View


@lru_cache(maxsize=1024)
def _plan(equation: str, a: Shape, b: Shape, out: Shape) -> _Plan:
    """Return the product for operands of such shapes, which is worked out once."""
    parts = _letters_of(equation)
    _check_sizes(equation, parts, a, b, out)
    first, second, result, stacked, left, right, summed = parts
    swapped = result == stacked + right + left  # the transposed one writes in order
    if swapped:
        first, second, left, right, a, b = second, first, right, left, b, a
    if any(a[first.index(letter)] > 1 for letter in stacked):
        return _Plan(
            swapped,
            torch.bmm,
            torch.baddbmm,
            _view_of(first, a, stacked, left, summed),
            _view_of(second, b, stacked, summed, right),
            _view_of(result, out, stacked, left, right),
        )
    if stacked or right:  # a stack of one is no stack
        return _Plan(
            swapped,
            torch.mm,
            torch.addmm,
            _view_of(first, a, stacked + left, summed),
            _view_of(second, b, stacked + summed, right),
            _view_of(result, out, stacked + left, right),
        )
    return _Plan(
        swapped,
        torch.mv,
        torch.addmv,
        _view_of(first, a, left, summed),
        _view_of(second, b, summed),
        _view_of(result, out, left),
    )


def contraction(
    equation: str, a: Tensor, b: Tensor, *, out: Tensor, plus: Tensor | None = None
) -> Call:
    """Return the call that writes ``einsum(equation, a, b)`` into ``out``.

    Parameters
    ----------
    equation : str
        Such as ``"moi,mib->mob"``; one matrix product for each value of the letters
        that all three arrays share.
    a, b, out : Tensor
        Their axes as the equation says. The call reads and writes these arrays
        themselves, so they are filled anew, not replaced, between calls.
    plus : Tensor, optional
        Is added to the sum; broadcasts to the shape of ``out``. ``plus=out`` adds the
        sum to what ``out`` holds.
    """
    plan = _plan(equation, a.shape, b.shape, out.shape)
    first, second = (b, a) if plan.swapped else (a, b)
    operands = _grouped(first, plan.first), _grouped(second, plan.second)
    target = _grouped(out, plan.result)
    if plus is None:
        return partial(plan.product, *operands, out=target)
    plus = _grouped(plus.expand_as(out), plan.result)
    return partial(plan.add_product, plus, *operands, out=target)
