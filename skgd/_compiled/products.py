"""Matrix products, by the BLAS that SciPy has, called by address.

Arrays are row by row, (m, k) (k, n) -> (m, n), in vectors; BLAS takes them column by
column, which is transposed, and so in the other order. Products of few rows, as those
of a last layer, are a few loops, which take half of what BLAS does, and less.
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address

from skgd._compiled.arithmetic import num
from skgd._compiled.jit import fast, inlined, intrinsic

# Products are loops up to so many rows, or so many multiply-adds; not short ones.
_FEW_ROWS, _FEW, _SHORT = 10, 2**12, 8


@cache
def gemm_address(dtype: str) -> int:
    """Return where BLAS has the product of matrices of a kind."""
    name = {"<f4": "sgemm", "<f8": "dgemm"}[dtype]
    address: int = get_cython_function_address("scipy.linalg.cython_blas", name)
    return address


@intrinsic
def _gemm(_: Any, address: Any, transposed: Any, sizes: Any, arrays: Any) -> Any:
    """Call gemm, of which all arguments are pointers."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, transposed, sizes, (a, b, beta, out) = (
            values[0],
            cgutils.unpack_tuple(builder, values[1]),
            cgutils.unpack_tuple(builder, values[2]),
            cgutils.unpack_tuple(builder, values[3]),
        )
        kinds = signature.args[3].types

        def data(kind: Any, array: Any) -> Any:
            return context.make_array(kind)(context, builder, array).data

        def place(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, value)

        letters = [
            place(
                builder.select(flag, ir.IntType(8)(ord("T")), ir.IntType(8)(ord("N")))
            )
            for flag in transposed
        ]
        m, n, k, lda, ldb, ldc = (
            place(builder.trunc(size, ir.IntType(32))) for size in sizes
        )
        one = place(ir.Constant(beta.type, 1.0))
        handed = [
            *(*letters, m, n, k, one, data(kinds[0], a), lda),
            *(data(kinds[1], b), ldb, place(beta), data(kinds[3], out), ldc),
        ]
        of_c = ir.FunctionType(ir.VoidType(), [value.type for value in handed])
        builder.call(builder.inttoptr(address, of_c.as_pointer()), handed)
        return context.get_dummy_value()

    return types.none(address, transposed, sizes, arrays), code


@inlined
def product(
    gemm: int,
    a: Any,
    is_a_transposed: bool,
    b: Any,
    is_b_transposed: bool,
    out: Any,
    m: int,
    n: int,
    k: int,
    adds: bool,
) -> None:
    """Fill out (m, n) with a (m, k) times b (k, n), or add to it.

    One that is transposed lies as (k, m), or as (n, k); not both are.
    """
    length = k if is_b_transposed else n
    if (m <= _FEW_ROWS or m * n * k <= _FEW) and length >= _SHORT:
        if is_b_transposed:
            _sums_over_rows(a, b, out, m, n, k, adds)
        else:
            _sums_of_rows(a, is_a_transposed, b, out, m, n, k, adds)
        return
    beta = num(out[0], 1) if adds else num(out[0], 0)
    lda, ldb = m if is_a_transposed else k, k if is_b_transposed else n
    _gemm(
        gemm,
        (is_b_transposed, is_a_transposed),
        (n, m, k, ldb, lda, n),
        (b, a, beta, out),
    )


@fast
def _sums_of_rows(
    a: Any, is_a_transposed: bool, b: Any, out: Any, m: int, n: int, k: int, adds: bool
) -> None:
    """A row of out (m, n) is a sum of rows of b (k, n), of four at a time."""
    of_row, of_term = (1, m) if is_a_transposed else (k, 1)
    for q in range(m):
        row, at = out[q * n :], q * of_row
        if not adds:
            for c in range(n):
                row[c] = num(out[0], 0)
        for j in range(0, k - 3, 4):
            first = at + j * of_term
            a_0, a_1 = a[first], a[first + of_term]
            a_2, a_3 = a[first + 2 * of_term], a[first + 3 * of_term]
            b_0, b_1 = b[j * n :], b[(j + 1) * n :]
            b_2, b_3 = b[(j + 2) * n :], b[(j + 3) * n :]
            for c in range(n):
                row[c] += a_0 * b_0[c] + a_1 * b_1[c] + a_2 * b_2[c] + a_3 * b_3[c]
        for j in range(k - k % 4, k):
            a_0, b_0 = a[at + j * of_term], b[j * n :]
            for c in range(n):
                row[c] += a_0 * b_0[c]


@fast
def _sums_over_rows(
    a: Any, b: Any, out: Any, m: int, n: int, k: int, adds: bool
) -> None:
    """A number of out (m, n) is a product of a row of a (m, k) and one of b (n, k)."""
    for q in range(m):
        row, a_q = out[q * n :], a[q * k :]
        if not adds:
            for c in range(n):
                row[c] = num(out[0], 0)
        for c in range(0, n - 3, 4):
            b_0, b_1 = b[c * k :], b[(c + 1) * k :]
            b_2, b_3 = b[(c + 2) * k :], b[(c + 3) * k :]
            s_0 = s_1 = s_2 = s_3 = num(out[0], 0)
            for j in range(k):
                s_0 += a_q[j] * b_0[j]
                s_1 += a_q[j] * b_1[j]
                s_2 += a_q[j] * b_2[j]
                s_3 += a_q[j] * b_3[j]
            row[c] += s_0
            row[c + 1] += s_1
            row[c + 2] += s_2
            row[c + 3] += s_3
        for c in range(n - n % 4, n):
            s_0, b_0 = num(out[0], 0), b[c * k :]
            for j in range(k):
                s_0 += a_q[j] * b_0[j]
            row[c] += s_0
