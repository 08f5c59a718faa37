"""Parameters of tests that vary together: any two values meet."""

from collections import Counter
from itertools import combinations, product

import pytest
from covering import covering, every_pair


@pytest.mark.parametrize("sizes", [[3, 2], [7, 3, 2], [12, 7, 2, 2], [5, 4, 4, 3, 2]])
def test_any_two_values_meet(sizes):
    """In far fewer rows than there are products, if there are more than two places."""
    rows = covering(sizes)
    for one, other in combinations(range(len(sizes)), 2):
        met = {(row[one], row[other]) for row in rows}
        assert met == set(product(range(sizes[one]), range(sizes[other])))
    assert len(rows) < 1.4 * sizes[0] * sizes[1]


def test_values_meet_about_as_often_as_others():
    """So three of them meet, too, in as many rows as there is room for."""
    rows = covering([15, 4, 2, 2])
    for one, other in combinations(range(4), 2):
        times = Counter((row[one], row[other]) for row in rows)
        assert max(times.values()) <= min(times.values()) + 2


@every_pair(
    pytest.mark.parametrize("flag", [False, True]),
    pytest.mark.parametrize(
        ("name", "size"), {"one": ("a", 1), "two": ("b", 2)}.items()
    ),
    pytest.mark.parametrize("value", [pytest.param(0.5, id="half"), 2]),
)
def test_names_have_the_values_of_their_marks(flag, name, size, value):
    """Whatever the order of the marks, and however a case is written."""
    assert flag in (False, True)
    assert size == {"one": ("a", 1), "two": ("b", 2)}[name]
    assert value in (0.5, 2)
