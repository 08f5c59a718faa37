"""Parameters of tests in which any two values meet, without all products of them.

What goes wrong at a setting, or at two together, is found as by the product; it is a
tenth of the tests where five things vary.
"""

from collections import Counter
from itertools import product, starmap

import pytest


def every_pair(*marks):
    """Return one mark for several of ``parametrize``: any two values meet in a test."""
    axes = sorted(map(_axis, marks), key=lambda axis: -len(axis[1]))
    names = [name for some, _ in axes for name in some]
    cases = []
    for row in covering([len(values) for _, values in axes]):
        chosen = [values[i] for (_, values), i in zip(axes, row, strict=True)]
        values = [value for _, of_axis in chosen for value in of_axis]
        cases.append(pytest.param(*values, id="-".join(name for name, _ in chosen)))
    indirect = [n for mark in marks for n in _names(mark) if "indirect" in mark.kwargs]
    return pytest.mark.parametrize(names, cases, indirect=indirect)


def covering(sizes):
    """Return rows of indices below the sizes, the largest first; any two meet in one.

    They begin with the product of the first two. For each place after these, every row
    gets the index that meets the most of what it has not met yet, and among equals the
    one that has met the others of the row least often: else all later rows would have
    the first one. What is missing then gets rows of its own.
    """
    rows = [*product(range(sizes[0]), range(sizes[1]))]
    for n, size in enumerate(sizes[2:], 2):
        pairs = [(k, i) for k in range(n) for i in range(sizes[k])]
        missing = {(k, i, j) for k, i in pairs for j in range(size)}
        longer, times = [], Counter()
        for row in rows:
            met = [_meets(row, j) for j in range(size)]
            ranks = [(-len(m & missing), sum(times[one] for one in m)) for m in met]
            j = ranks.index(min(ranks))
            longer.append((*row, j))
            missing -= met[j]
            times.update(met[j])
        while missing:
            *_, j = min(missing)
            lacks = {k: i for k, i, of in sorted(missing) if of == j}
            row = tuple(lacks.get(k, 0) for k in range(n))
            longer.append((*row, j))
            missing -= _meets(row, j)
        rows = longer
    return rows


def _meets(row, j):
    """Return whom an index meets that follows a row: place and index, and itself."""
    return {(place, i, j) for place, i in enumerate(row)}


def _names(mark):
    names = mark.args[0]
    return [n.strip() for n in names.split(",")] if isinstance(names, str) else names


def _axis(mark):
    """Return the names of a mark of parametrize, and the values of its cases by id."""
    names, cases = _names(mark), list(mark.args[1])
    ids = mark.kwargs.get("ids")
    ids = map(ids, cases) if callable(ids) else ids or starmap(_id, enumerate(cases))
    several = [
        case.values if _is_param(case) else case if len(names) > 1 else (case,)
        for case in cases
    ]
    return names, list(zip(ids, several, strict=True))


def _is_param(case):
    """Return whether a case is one of ``pytest.param``."""
    return isinstance(case, type(pytest.param()))


def _id(number, case):
    """Return words for a case: its value, where that is short, or its number."""
    if _is_param(case):
        return str(case.id or number)
    if isinstance(case, type):
        return case.__name__
    simple = case is None or isinstance(case, bool | int | float | str)
    return str(case) if simple else str(number)
