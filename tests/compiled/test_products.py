"""Products of matrices, against those of NumPy: few rows by loops, others by BLAS."""

from itertools import product

import numpy as np
import pytest

from skgd._compiled.products import gemm_address, product_entry

# Odd and even rows, lengths that four divides and that it does not: loops take them;
# BLAS the last two, of many rows and of short ones.
SHAPES = [
    *((1, 8, 9), (2, 7, 8), (5, 32, 33), (6, 31, 12), (32, 64, 66)),
    *((33, 70, 80), (10, 4, 3)),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_products(dtype, shape):
    """Of arrays as they are and transposed, put into the result or added to it."""
    m, n, k = shape
    compute, rng = product_entry(dtype), np.random.default_rng(0)
    pointer = compute.ctypes.argtypes[1]
    for adds, transposed in product((0, 1), ((0, 0), (1, 0), (0, 1))):
        a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
        given = [
            np.ascontiguousarray(array.T if flag else array, dtype)
            for array, flag in zip((a, b), transposed, strict=True)
        ]
        out = rng.normal(size=(m, n)).astype(dtype)
        expected = a @ b + out if adds else a @ b
        out[:] = out if adds else np.nan  # what was there counts for nothing
        a_at, b_at, out_at = (one.ctypes.data_as(pointer) for one in (*given, out))
        of_arrays = a_at, transposed[0], b_at, transposed[1], out_at
        compute.ctypes(gemm_address(dtype), *of_arrays, m, n, k, adds)

        tolerance = {"<f4": 1e-5, "<f8": 1e-13}[dtype]
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=10 * tolerance)
