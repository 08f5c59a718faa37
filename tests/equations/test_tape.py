"""The tape: a recording of torch's functions, replayed on what their arrays hold."""

import pytest
import torch
from torch import Tensor

from skgd._equations.tape import Tape


def test_recording_gives_back_what_a_call_fills():
    """It is the array told, a method's own in place, or a function's first operand."""
    tape = Tape()
    x, y, out = torch.ones(3), torch.ones(3), torch.zeros(3)

    assert tape(torch.add, x, y, out=out) is out
    assert tape(x.mul_, y) is x
    assert tape(torch.selu_, y) is y
    assert tape.product("i,i->", x, y, out=out[0]).data_ptr() == out.data_ptr()
    assert len(tape) == 4
    assert out.tolist() == [0, 0, 0]  # nothing is computed yet


def test_calls_are_replayed_in_their_order():
    """Every replay makes all calls, on what the arrays hold by then."""
    tape, x, h = Tape(), torch.tensor([1.0, 2.0]), torch.empty(2)
    double = tape(torch.add, x, x, out=h)
    tape(double.add_, torch.ones(1))

    for start in (1.0, 5.0):
        x.fill_(start)
        tape.replay()
        assert h.tolist() == [2 * start + 1] * 2


@pytest.mark.parametrize("function", [torch.add, Tensor.add, torch.ones(2).add])
def test_a_result_without_a_place_is_refused(function):
    """What is not in place needs out=, or its result would be lost at every step."""
    with pytest.raises(ValueError, match=r"must be a function in place.* Got add"):
        Tape()(function, torch.ones(2), torch.ones(2))


def test_the_listing_shows_where_an_array_changes():
    """One line a call, with shapes; arrays of one memory have one name or number."""
    tape, flat, x = Tape(), torch.ones(8), torch.ones(3, 2)
    w, z = flat[:6].view(2, 3), torch.empty(2, 2)
    tape.product("oi,ib->ob", w, x, out=z)
    tape(flat.add_, torch.ones(1), alpha=-0.5)
    tape.append(Tape().replay)

    assert tape.listing(w=w).splitlines() == [
        "mm w(2, 3), #2(3, 2) -> #3(2, 2)",
        "add_ w(8,), #4(1,), alpha=-0.5 -> w(8,)",
        "replay",
    ]
    assert repr(tape) == tape.listing()
    assert repr(tape).startswith("mm #1(2, 3), #2(3, 2) -> #3(2, 2)\n")
