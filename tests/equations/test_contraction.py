"""The planned contraction against torch.einsum, its definition."""

import re
from pathlib import Path

import pytest
import torch

import skgd
from skgd._equations.contraction import contraction

SIZES = {"m": 3, "f": 2, "c": 3, "o": 4, "i": 5, "b": 6, "t": 7, "j": 4, "k": 3}


def equations_of_the_package():
    """Return every einsum equation that stands in the code of the package."""
    found = set()
    for path in Path(skgd.__file__).parent.rglob("*.py"):
        found.update(re.findall(r'"([a-z]+,[a-z]+->[a-z]*)"', path.read_text()))
    return sorted(found)


def operands(equation, sizes=SIZES):
    """Return random operands, and a result to write into, of the shapes it says."""
    terms = re.split(",|->", equation)
    shapes = [[sizes[letter] for letter in term] for term in terms]
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    ]


def test_the_equations_are_found():
    """The forward pass and both gradients are among the equations tested here."""
    found = set(equations_of_the_package())
    assert {"moi,mib->mob", "mob,mib->moi", "moi,mob->mib"} <= found
    assert {"fcoi,fib->fcob", "fcob,fib->fcoi"} <= found


@pytest.mark.parametrize("equation", equations_of_the_package())
@pytest.mark.parametrize("n_models", [1, 3])
def test_it_is_einsum(equation, n_models):
    """What a call writes is what torch.einsum returns."""
    a, b, out = operands(equation, {**SIZES, "m": n_models, "f": n_models})
    contraction(equation, a, b, out=out)()

    torch.testing.assert_close(
        out, torch.einsum(equation, a, b), rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("equation", equations_of_the_package())
def test_it_adds_to_what_is_there(equation):
    """With plus=out the sum is added to what the array holds."""
    a, b, out = operands(equation)
    expected = out + torch.einsum(equation, a, b)
    contraction(equation, a, b, out=out, plus=out)()

    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)


def test_a_bias_broadcasts():
    """What is added may lack the samples' axis, as a bias does."""
    w, x, z = operands("moi,mib->mob")
    bias = torch.arange(12.0, dtype=torch.float64).view(3, 4)
    contraction("moi,mib->mob", w, x, out=z, plus=bias.unsqueeze(2))()

    expected = torch.einsum("moi,mib->mob", w, x) + bias[:, :, None]
    torch.testing.assert_close(z, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("equation", ["moi,mib->mob", "mob,mib->moi", "moi,mob->mib"])
def test_a_transposed_view_is_taken_as_it_is(equation, transposed):
    """An operand may be a transposed view, such as a batch of rows of X."""
    arrays = operands(equation)
    arrays[transposed] = arrays[transposed].mT.contiguous().mT
    a, b, out = arrays
    contraction(equation, a, b, out=out)()

    torch.testing.assert_close(
        out, torch.einsum(equation, a, b), rtol=1e-13, atol=1e-13
    )


def test_a_call_sees_what_its_arrays_hold_by_then():
    """A call is bound to arrays, not to the numbers they held when it was made."""
    w, x, z = operands("moi,mib->mob")
    call = contraction("moi,mib->mob", w, x, out=z)
    x.mul_(2)
    call()

    torch.testing.assert_close(z, torch.einsum("moi,mib->mob", w, x))


def test_the_result_may_be_transposed():
    """A result whose letters are in the other order is written in that order."""
    w, x, _ = operands("moi,mib->mob")
    z = torch.empty(3, 6, 4, dtype=torch.float64)
    contraction("moi,mib->mbo", w, x, out=z)()

    torch.testing.assert_close(z, torch.einsum("moi,mib->mbo", w, x))


@pytest.mark.parametrize(
    "equation",
    ["moi,mib", "mo...,mib->mob", "moi->mo", "moi,mib->omb", "mo,ib->mb", "moo,moo->m"],
)
def test_what_is_not_one_product_is_refused(equation):
    """No arrow, an ellipsis, one operand, or sums over one operand alone raise."""
    a = torch.ones(3, 3, 3)
    with pytest.raises(ValueError, match=r"equation reads|not one matrix product"):
        contraction(equation, a, a, out=a)


def test_an_operand_that_would_be_copied_is_refused():
    """Axes that cannot be joined in place are an error, not a slow copy."""
    w, x, z = operands("moi,ib->mob")
    w = torch.randn(4, 3, 5, dtype=torch.float64).transpose(0, 1)
    with pytest.raises(ValueError, match="must lie so that"):
        contraction("moi,ib->mob", w, x, out=z)


def test_a_letter_of_size_one_does_not_broadcast():
    """torch.einsum stretches a letter of size 1 in silence; a call is not made."""
    w, x, z = operands("moi,mib->mob")
    with pytest.raises(ValueError, match="i is both 5 and 1"):
        contraction("moi,mib->mob", w, x[:, :1], out=z)
