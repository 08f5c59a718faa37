"""Matrix products, by loops or by the BLAS that SciPy has, called by address.

Arrays are row by row, (m, k) (k, n) -> (m, n), in vectors; BLAS takes them column by
column, which is transposed, and so in the other order. It copies both before it begins:
for few rows, as those of a last layer, loops take down to half of its time.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import get_cython_function_address

from skgd._compiled.arithmetic import num
from skgd._compiled.jit import carray, entry, inlined, intrinsic

# Products are loops up to a few rows, if what these run over is twice as long; and up
# to some more, if they are so few multiply-adds that a cache holds all.
_FEW_ROWS, _SOME_ROWS, _IN_CACHE = 10, 32, 2**22


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


def _product(
    gemm: int,
    a_at: Any,
    is_a_transposed: int,
    b_at: Any,
    is_b_transposed: int,
    out_at: Any,
    m: int,
    n: int,
    k: int,
    adds: int,
) -> None:
    a, b, out = carray(a_at, m * k), carray(b_at, k * n), carray(out_at, m * n)
    length = k if is_b_transposed else n
    are_few = m <= _FEW_ROWS or (m <= _SOME_ROWS and m * n * k <= _IN_CACHE)
    if are_few and 2 * m <= length:
        if not adds:
            for c in range(m * n):
                out[c] = num(out[0], 0)
        if is_b_transposed:
            _add_products(a, b, out, m, n, k)
        else:
            of_row, of_term = (1, m) if is_a_transposed else (k, 1)
            _add_sums(a, of_row, of_term, b, out, m, n, k)
        return
    beta = num(out[0], 1) if adds else num(out[0], 0)
    lda, ldb = m if is_a_transposed else k, k if is_b_transposed else n
    _gemm(
        gemm,
        (is_b_transposed == 1, is_a_transposed == 1),
        (n, m, k, ldb, lda, n),
        (b, a, beta, out),
    )


@cache
def product_entry(dtype: str) -> Any:
    """Return what fills out (m, n) with a (m, k) times b (k, n), or adds to it.

    One that is transposed lies as (k, m), or as (n, k); not both are.
    """
    at, n = types.CPointer(from_dtype(np.dtype(dtype))), types.intp
    return entry(_product, types.void(n, at, n, at, n, at, n, n, n, n))


@inlined
def _add_sums(
    a: Any, of_row: int, of_term: int, b: Any, out: Any, m: int, n: int, k: int
) -> None:
    """To a row of out (m, n), add those of b (k, n) times numbers of a.

    Two rows are taken together, and four that are added to them.
    """
    for q in range(0, m - 1, 2):
        row, next_row, at = out[q * n :], out[(q + 1) * n :], q * of_row
        for j in range(0, k - 3, 4):
            b_0, b_1 = b[j * n :], b[(j + 1) * n :]
            b_2, b_3 = b[(j + 2) * n :], b[(j + 3) * n :]
            j_0 = at + j * of_term
            j_1, j_2, j_3 = j_0 + of_term, j_0 + 2 * of_term, j_0 + 3 * of_term
            p_0, p_1, p_2, p_3 = a[j_0], a[j_1], a[j_2], a[j_3]
            q_0, q_1 = a[j_0 + of_row], a[j_1 + of_row]
            q_2, q_3 = a[j_2 + of_row], a[j_3 + of_row]
            for c in range(n):
                x_0, x_1, x_2, x_3 = b_0[c], b_1[c], b_2[c], b_3[c]
                row[c] += p_0 * x_0 + p_1 * x_1 + p_2 * x_2 + p_3 * x_3
                next_row[c] += q_0 * x_0 + q_1 * x_1 + q_2 * x_2 + q_3 * x_3
        for j in range(k - k % 4, k):
            j_0, b_0 = at + j * of_term, b[j * n :]
            p_0, q_0 = a[j_0], a[j_0 + of_row]
            for c in range(n):
                row[c] += p_0 * b_0[c]
                next_row[c] += q_0 * b_0[c]
    for q in range(m - m % 2, m):
        row, at = out[q * n :], q * of_row
        for j in range(k):
            p_0, b_0 = a[at + j * of_term], b[j * n :]
            for c in range(n):
                row[c] += p_0 * b_0[c]


@inlined
def _add_products(a: Any, b: Any, out: Any, m: int, n: int, k: int) -> None:
    """To a number of out (m, n), add the product of a row of a and one of b (n, k).

    Two rows of a are taken together, and four of b.
    """
    zero = num(out[0], 0)
    for q in range(0, m - 1, 2):
        p, r = a[q * k :], a[(q + 1) * k :]
        row, next_row = out[q * n :], out[(q + 1) * n :]
        for c in range(0, n - 3, 4):
            b_0, b_1 = b[c * k :], b[(c + 1) * k :]
            b_2, b_3 = b[(c + 2) * k :], b[(c + 3) * k :]
            p_0 = p_1 = p_2 = p_3 = r_0 = r_1 = r_2 = r_3 = zero
            for j in range(k):
                p_0 += p[j] * b_0[j]
                p_1 += p[j] * b_1[j]
                p_2 += p[j] * b_2[j]
                p_3 += p[j] * b_3[j]
                r_0 += r[j] * b_0[j]
                r_1 += r[j] * b_1[j]
                r_2 += r[j] * b_2[j]
                r_3 += r[j] * b_3[j]
            row[c] += p_0
            row[c + 1] += p_1
            row[c + 2] += p_2
            row[c + 3] += p_3
            next_row[c] += r_0
            next_row[c + 1] += r_1
            next_row[c + 2] += r_2
            next_row[c + 3] += r_3
        for c in range(n - n % 4, n):
            p_0, r_0, b_0 = zero, zero, b[c * k :]
            for j in range(k):
                p_0 += p[j] * b_0[j]
                r_0 += r[j] * b_0[j]
            row[c] += p_0
            next_row[c] += r_0
    for q in range(m - m % 2, m):
        p, row = a[q * k :], out[q * n :]
        for c in range(n):
            p_0, b_0 = zero, b[c * k :]
            for j in range(k):
                p_0 += p[j] * b_0[j]
            row[c] += p_0
