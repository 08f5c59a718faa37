"""Every entry of the tables does what the entry of torch of its name does.

Numbers are from a grid, with zeros, the smallest and largest ones, NaN and infinity.
"""

import numpy as np
import pytest
import torch
from compiled_cases import places

from skgd._compiled import activations, entries, losses, optimizers
from skgd._equations.activations import ACTIVATIONS
from skgd._equations.losses import LOSSES
from skgd._equations.optimizers import OPTIMIZERS
from skgd._equations.tape import Tape

# Of float32 it is that of a derivative near one of its zeros.
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
SLOPE, DELTA, QUANTILE, POWER = 0.1, 0.25, 0.75, 1.3
CLASSES = {
    *("binary_log_loss", "hinge", "modified_huber", "multinomial_log_loss"),
    *("perceptron", "squared_hinge"),
}
ABOVE_ZERO = {"gamma"}


def grid(dtype):
    """Return numbers near and far, and those that are none."""
    tiny, most = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    far = [1e-12, 1e-5, 88.0, 104.0, 700.0, 745.0, 1e5, tiny, most / 4, np.inf]
    near = np.linspace(-40, 40, 1601)
    signed = np.concatenate([near, far, np.negative(far), [-0.0, np.nan]])
    return signed.astype(dtype)


def assert_alike(ours, torchs, dtype, off=0.0):
    """Assert that numbers are alike to rounding, relative to each of them."""
    tolerance, tiny = TOLERANCE[dtype], np.finfo(dtype).tiny
    np.testing.assert_allclose(ours, torchs, rtol=tolerance, atol=10 * tiny + off)


def off_of_elu(dtype):
    """Return by how much elu of torch is off: older releases take exp(z) - 1."""
    z = torch.tensor([-1e-8], dtype=torch.float64)
    exact = torch.equal(torch.nn.functional.elu(z), torch.expm1(z))
    return 0.0 if exact else 2 * float(np.finfo(dtype).eps)


def test_the_tables_are_torchs():
    """An entry of torch has its twin, and nothing else has."""
    assert activations.ACTIVATIONS.keys() == ACTIVATIONS.keys()
    assert entries.LOSS_ENTRIES.keys() == LOSSES.keys()
    assert {*losses.LOSSES, "multinomial_log_loss"} == LOSSES.keys()
    assert list(optimizers.OPTIMIZERS) == list(OPTIMIZERS)
    for name, optimizer in OPTIMIZERS.items():
        assert optimizers.OPTIMIZERS[name].state_names == optimizer.state_names


@DTYPES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    """The value, and the derivative where the value is torch's."""
    activation, z = ACTIVATIONS[name](SLOPE), grid(dtype)
    torch_z = torch.from_numpy(z.copy()).view(1, 1, -1)
    torch_h = torch.empty_like(torch_z) if activation.keeps_sum else torch_z
    torch_d, tape = torch.empty_like(torch_z), Tape()
    activation.value(tape, torch_z, torch_h)
    activation.derivative(tape, torch_z, torch_h, torch_d)
    tape.replay()
    h, d, n = np.empty_like(z), np.ones_like(z), len(z)
    kept_h = torch_h.numpy().ravel().copy()
    kind = np.dtype(dtype).str
    entries.value_entry(name, kind).ctypes(*places(z, h), SLOPE, n)
    entries.derivative_entry(name, kind).ctypes(*places(z, kept_h, d), SLOPE, n)

    assert_alike(h, kept_h, dtype, off_of_elu(dtype) if name in ("elu", "selu") else 0)
    assert_alike(d, torch_d.numpy().ravel(), dtype)


def targets_of(name, z):
    """Return targets for each of the predictions."""
    if name in CLASSES:
        return [0.0, 1.0]
    return [1e-3, 1.0, 50.0] if name in ABOVE_ZERO else [0.0, 1e-3, 1.0, 50.0]


@DTYPES
@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses(name, dtype):
    """Value and gradient of one output."""
    number = np.array(
        [{"quantile": QUANTILE, "tweedie": POWER}.get(name, DELTA)], dtype
    )
    for target in targets_of(name, grid(dtype)):
        z = grid(dtype)
        y, share = np.full_like(z, target), np.ones(1, dtype)
        torch_z, torch_y = (torch.from_numpy(a.copy()).view(1, -1) for a in (z, y))
        value, torch_dz = torch.empty_like(torch_z), torch.empty_like(torch_z)
        tape = Tape()
        LOSSES[name](DELTA, QUANTILE, POWER).record(
            tape, torch_z, torch_y, value, torch_dz
        )
        tape.replay()
        dz, sums, dz_of_all = np.empty_like(z), np.zeros_like(z), np.empty_like(z)
        entry = entries.loss_entry(name, np.dtype(dtype).str)
        for k in range(len(z)):
            arrays = z[k:], y, share, number, dz[k:], sums[k:]
            entry.ctypes(*places(*arrays), 1, 1)
        shares, total = np.ones_like(z), np.zeros(1, dtype)
        arrays = z, y, shares, number, dz_of_all, total
        entry.ctypes(*places(*arrays), 1, len(z))

        assert_alike(sums, value.numpy().ravel(), dtype)
        assert_alike(dz, torch_dz.numpy().ravel(), dtype)
        assert_alike(dz_of_all, torch_dz.numpy().ravel(), dtype)
