"""Matrix products, by the BLAS that SciPy has, called by address.

Arrays are row by row, (m, k) (k, n) -> (m, n), in vectors; BLAS takes them column by
column, which is transposed, and so in the other order. A product of one column is a few
loops: to call BLAS would take longer.
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address

from skgd._compiled.arithmetic import num
from skgd._compiled.jit import inlined, intrinsic


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

    One that is transposed lies as (k, m), or as (n, k).
    """
    beta = num(out[0], 1) if adds else num(out[0], 0)
    lda, ldb = m if is_a_transposed else k, k if is_b_transposed else n
    _gemm(
        gemm,
        (is_b_transposed, is_a_transposed),
        (n, m, k, ldb, lda, n),
        (b, a, beta, out),
    )
