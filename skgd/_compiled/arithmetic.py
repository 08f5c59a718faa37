"""exp, expm1, log and log1p, many numbers at a time.

Those of the C library take one number each, and a loop around them 5 to 10 times as
long. Here they are polynomials, without a branch, so that LLVM computes 4 to 16 numbers
at once. They are off by 3 units in the last place at the most. NaN and infinity come
out as they do of the C library.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from skgd._compiled.jit import EXACT, exact, intrinsic, overload

Place = np.uintp  # of a negative place numba would look from the end

# ln(2) in two parts: the product of the first and an exponent has no rounding.
_LN2 = {
    types.float32: (0.693359375, -2.12194440e-4),
    types.float64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
# From and up to where exp is neither 0 nor infinity.
_LOW = {types.float32: -104.5, types.float64: -746.0}
_HIGH = {types.float32: 89.0, types.float64: 710.0}
# 1.5 times a power of 2 so large that a number added to it is rounded to an integer,
# which is then found in its last bits.
_ROUNDER = {types.float32: 1.5 * 2.0**23, types.float64: 1.5 * 2.0**52}
# The smallest number with all digits, and what brings smaller ones above it.
_TINY = {types.float32: 2.0**-126, types.float64: 2.0**-1022}
_UP = 54

# Bits of the fraction, and of one, and of sqrt(1/2): a number's parts.
_FRACTION = {types.float32: 23, types.float64: 52}
_BIAS = {types.float32: 127, types.float64: 1023}
_SQRT_HALF = {types.float32: 0x3F3504F3, types.float64: 0x3FE6A09E667F3BCD}


@intrinsic
def num(_: Any, like: Any, value: Any) -> Any:
    """Return a number as one of the kind of another: a literal would be float64."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.cast(builder, values[1], signature.args[1], like)

    return like(like, value), code


@intrinsic
def where(_: Any, condition: Any, a: Any, b: Any) -> Any:
    """Return a where the condition holds, else b: both are computed, without a branch.

    A branch that LLVM leaves as it is would have numbers computed one by one.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(*values)

    return a(types.boolean, a, a), code


def _integer(x: Any) -> Any:
    return ir.IntType(32 if x == types.float32 else 64)


@intrinsic
def _power_of_two(_: Any, rounder_and_n: Any) -> Any:
    """Return 2^n, given n as it lies in the last bits after the rounder was added."""
    kind = rounder_and_n

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer = _integer(kind)
        bits = builder.bitcast(values[0], integer)
        biased = builder.add(bits, integer(_BIAS[kind]))
        placed = builder.shl(biased, integer(_FRACTION[kind]))
        return builder.bitcast(placed, values[0].type)

    return kind(kind), code


def _exponent_bits(builder: Any, kind: Any, x: Any) -> Any:
    """Return the e of x = 2^e f, where f is between sqrt(1/2) and sqrt(2)."""
    integer = _integer(kind)
    above = builder.sub(builder.bitcast(x, integer), integer(_SQRT_HALF[kind]))
    return builder.ashr(above, integer(_FRACTION[kind]))


@intrinsic
def _exponent(_: Any, x: Any) -> Any:
    """Return the e of x = 2^e f, where f is between sqrt(1/2) and sqrt(2)."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        e = _exponent_bits(builder, x, values[0])
        if x == types.float64:  # few CPUs turn many integers of 64 bits into floats
            e = builder.trunc(e, ir.IntType(32))
        return builder.sitofp(e, values[0].type)

    return x(x), code


@intrinsic
def _fraction(_: Any, x: Any) -> Any:
    """Return the f of x = 2^e f."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer = _integer(x)
        e = _exponent_bits(builder, x, values[0])
        bits = builder.bitcast(values[0], integer)
        moved = builder.sub(bits, builder.shl(e, integer(_FRACTION[x])))
        return builder.bitcast(moved, values[0].type)

    return x(x), code


def _polynomial(of_float32: Sequence[float], of_float64: Sequence[float]) -> Any:
    """Return the function of x that is c_0 + c_1 x + c_2 x^2 + ...

    Neighbours are put together, then pairs of them, and so on (Estrin's scheme).
    """

    @intrinsic
    def polynomial(_: Any, x: Any) -> Any:
        coefficients = of_float32 if x == types.float32 else of_float64

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            [power] = values
            flags = ("contract",)
            terms = [ir.Constant(power.type, c) for c in coefficients]
            while len(terms) > 1:
                last = terms[-1:] if len(terms) % 2 else []
                pairs = zip(terms[::2], terms[1::2], strict=False)
                terms = [
                    builder.fadd(low, builder.fmul(high, power, flags), flags)
                    for low, high in pairs
                ] + last
                power = builder.fmul(power, power)
            return terms[0]

        return x(x), code

    return polynomial


# (e^r - 1 - r) / r^2, of |r| <= ln(2) / 2.
_INVERSE_FACTORIALS = [1 / math.factorial(k) for k in range(2, 14)]
_exp_rest = _polynomial(_INVERSE_FACTORIALS[:6], _INVERSE_FACTORIALS)

# log((1 + s) / (1 - s)) / s as a series of s^2; s of log is up to 0.172, of log1p 1/3.
_ODD_INVERSES = [2 / (2 * k + 1) for k in range(17)]
_log_series = _polynomial(_ODD_INVERSES[:5], _ODD_INVERSES[:11])
_log1p_series = _polynomial(_ODD_INVERSES[:8], _ODD_INVERSES)


def exp(x: float) -> float:
    """Return e^x."""
    return math.exp(x)


def expm1(x: float) -> float:
    """Return e^x - 1, with all of its digits where x is near zero."""
    return math.expm1(x)


def log(x: float) -> float:
    """Return the natural logarithm."""
    return math.log(x)


def log1p(x: float) -> float:
    """Return log(1 + x), of x from 0 to 1."""
    return math.log1p(x)


def _exponential(kind: Any, *, minus_one: bool) -> Any:
    """Return how e^x, or e^x - 1, is computed for a kind of numbers.

    x = n ln(2) + r, so that e^x = 2^n (1 + q) with q = e^r - 1. The power of two comes
    in two factors, each of which is a number even where their product is none.
    """
    high_part, low_part = _LN2[kind]
    lowest, highest, rounder = _LOW[kind], _HIGH[kind], _ROUNDER[kind]

    def implementation(x: Any) -> Any:
        R = num(x, rounder)
        y = where(x > num(x, highest), num(x, highest), x)
        y = where(y < num(x, lowest), num(x, lowest), y)
        n = (y * num(x, 1 / math.log(2)) + R) - R
        r = (y - n * num(x, high_part)) - n * num(x, low_part)
        q = r * r * _exp_rest(r) + r
        n_1 = (n * num(x, 0.5) + R) - R
        n_2 = n - n_1
        s_1, s_2 = _power_of_two(n_1 + R), _power_of_two(n_2 + R)
        if minus_one:
            return (q * s_1 + (s_1 - _power_of_two(R - n_2))) * s_2
        return (q * s_1 + s_1) * s_2

    return implementation


@overload(exp, jit_options=EXACT)
def _exp(x: Any) -> Any:
    return _exponential(x, minus_one=False)


@overload(expm1, jit_options=EXACT)
def _expm1(x: Any) -> Any:
    return _exponential(x, minus_one=True)


@overload(log, jit_options=EXACT)
def _log(x: Any) -> Any:
    """x = 2^e (1 + f), and log(1 + f) is a series of s = f / (2 + f)."""
    high_part, low_part = _LN2[x]
    tiny, up, inf, nan = _TINY[x], 2.0**_UP, math.inf, math.nan

    def implementation(x: Any) -> Any:
        is_tiny = x < num(x, tiny)
        y = where(is_tiny, x * num(x, up), x)
        e, f = _exponent(y), _fraction(y) - num(x, 1)
        e = where(is_tiny, e - num(x, _UP), e)
        s = f / (num(x, 2) + f)
        value = e * num(x, high_part) + (s * _log_series(s * s) + e * num(x, low_part))
        value = where(x < num(x, inf), value, x)  # NaN too
        below = where(x == 0, num(x, -inf), num(x, nan))
        return where(x <= 0, below, value)

    return implementation


@overload(log1p, jit_options=EXACT)
def _log1p(x: Any) -> Any:
    """The same series, without the power of two."""

    def implementation(x: Any) -> Any:
        s = x / (num(x, 2) + x)
        return s * _log1p_series(s * s)

    return implementation


# What torch has of the same names, for one number. NaN stays NaN, but for its sign.


@exact
def clamp(x: float, low: float, high: float) -> float:
    """Return x cut off at both sides."""
    return where(x < low, low, where(x > high, high, x))


@exact
def sign(x: float) -> float:
    """Return -1, 0 or 1, and 0 of NaN."""
    return where(x > 0, num(x, 1), where(x < 0, num(x, -1), num(x, 0)))


@exact
def lerp(a: float, b: float, share: float) -> float:
    """Return a + share (b - a), from the nearer side."""
    one = num(a, 1)
    d = b - a
    return where(share < num(a, 0.5), a + share * d, b - d * (one - share))


@exact
def sigmoid(z: float) -> float:
    """Return 1 / (1 + exp(-z))."""
    return num(z, 1) / (num(z, 1) + exp(-z))


@exact
def logaddexp(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    return where(a > b, a, b) + log1p(exp(-abs(a - b)))


@exact
def tanh(z: float) -> float:
    """Return (1 - exp(-2 z)) / (1 + exp(-2 z)), by expm1, from the side of zero."""
    e = expm1(num(z, -2) * abs(z))  # -1 to 0
    t = -e / (num(z, 2) + e)
    return where(z > 0, t, -t)
