"""Sparse rows, products and wide steps, against the same on dense arrays."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from covering import every_pair
from torch import einsum

from skgd._equations.optimizers import OPTIMIZERS, Vectors
from skgd._equations.tape import Tape
from skgd._training.csr import (
    csr,
    fill_dense_,
    over_touched,
    product,
    raw_product,
    sorted_transposed_product,
    take_batches,
    take_rows,
    transposed_product,
)
from skgd._training.first_layer import WideLayer, WideUnit, debts

CPU = torch.device("cpu")
N_ROWS, N_FEATURES = 30, 50

# A row without entries, columns without any, entries that add up, explicit zeros.
_rng = np.random.default_rng(0)
_starts = np.concatenate([[0, 0], np.cumsum(_rng.integers(0, 9, N_ROWS - 1))])
_columns = _rng.integers(0, N_FEATURES - 5, _starts[-1])
_values = _rng.normal(size=_starts[-1])
_columns[_starts[3]] = _columns[_starts[3] + 1] = 7
_values[::10] = 0.0
MATRIX = sp.csr_matrix(
    (_values, _columns.astype(np.int32), _starts.astype(np.int32)),
    shape=(N_ROWS, N_FEATURES),
)
DENSE = torch.from_numpy(MATRIX.toarray())

MODELS_AND_UNITS = [(1, 1), (1, 3), (3, 1), (2, 5)]


def sparse_x(wide_integers=False):
    """Return the matrix, with indices of 32 or 64 bits."""
    matrix = MATRIX.copy()
    if wide_integers:
        matrix.indptr = matrix.indptr.astype(np.int64)
        matrix.indices = matrix.indices.astype(np.int64)
    return csr(matrix, CPU)


def made_dense(x):
    out = torch.full(x.shape, 7.0, dtype=x.values.dtype)
    fill_dense_(out, x)
    return out


def small_matrix(rows):
    """Return a batch over its touched columns, and these columns."""
    batch = take_rows(sparse_x(), torch.tensor(rows, dtype=torch.int64))
    position = torch.full((N_FEATURES,), 10**9, dtype=torch.int32)
    return over_touched(batch, position)


def random(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def test_the_matrix_has_all_the_cases():
    """There are empty rows, untouched columns, entries that add up, explicit zeros."""
    lengths = np.diff(MATRIX.indptr)

    assert lengths.min() == 0
    assert not MATRIX.has_canonical_format
    assert (MATRIX.data == 0).any()
    assert (np.bincount(MATRIX.indices, minlength=N_FEATURES) == 0).sum() >= 5


def test_a_matrix_is_not_copied():
    """The entries and their columns are SciPy's own memory."""
    x = csr(MATRIX, CPU)

    assert np.shares_memory(x.values.numpy(), MATRIX.data)
    assert np.shares_memory(x.columns.numpy(), MATRIX.indices)
    assert x.shape == MATRIX.shape


ROWS = [[4, 2, 29], [3, 3, 0], [0, 0], [], list(range(N_ROWS))]


@pytest.mark.parametrize("by_scipy", [True, False])
@pytest.mark.parametrize("wide_integers", [False, True])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_are_taken_in_order(rows, wide_integers, by_scipy):
    """Made dense, they are the rows of the dense matrix, as on other devices."""
    whole = sparse_x(wide_integers)
    whole = whole if by_scipy else whole._replace(matrix=None)
    x = take_rows(whole, torch.tensor(rows, dtype=torch.int64))

    assert x.shape == (len(rows), N_FEATURES)
    assert torch.equal(made_dense(x), DENSE[rows])


@pytest.mark.parametrize("at_once", [1, 50, 10**6])
@pytest.mark.parametrize("wide_integers", [False, True])
def test_batches_taken_at_once_are_those_taken_alone(
    wide_integers, at_once, monkeypatch
):
    """However many are taken at once, each is the rows of the dense matrix."""
    monkeypatch.setattr("skgd._training.csr._ENTRIES_AT_ONCE", at_once)
    batches = [torch.tensor(rows, dtype=torch.int64) for rows in ROWS]
    taken = list(take_batches(sparse_x(wide_integers), batches))

    for x, rows in zip(taken, ROWS, strict=True):
        assert x.shape == (len(rows), N_FEATURES)
        assert torch.equal(made_dense(x), DENSE[rows])


@pytest.mark.parametrize("rows", ROWS)
def test_touched_columns_are_those_with_entries(rows):
    """Each is there once, and the small matrix is what the batch has in them."""
    small, touched = small_matrix(rows)
    expected = np.unique(np.concatenate([MATRIX[r].indices for r in rows] or [[]]))

    assert sorted(touched.tolist()) == expected.tolist()
    assert torch.equal(made_dense(small), DENSE[rows][:, touched])


@every_pair(
    pytest.mark.parametrize("dtype", [torch.float32, torch.float64]),
    pytest.mark.parametrize("n_units", [1, 3, 100]),
    pytest.mark.parametrize("rows", ROWS),
)
def test_products_are_einsums(rows, n_units, dtype):
    """Both products with a small matrix are those with the dense one."""
    small, touched = small_matrix(rows)
    small = small._replace(values=small.values.to(dtype))
    x = DENSE[rows][:, touched].to(dtype)
    w = random(len(touched), n_units, dtype=dtype)
    dz = random(len(rows), n_units, dtype=dtype)

    torch.testing.assert_close(product(small, w), einsum("bk,ku->bu", x, w))
    for transposed in (transposed_product, sorted_transposed_product):
        torch.testing.assert_close(transposed(small, dz), einsum("bk,bu->ku", x, dz))


@pytest.mark.parametrize(("m", "o"), MODELS_AND_UNITS)
def test_a_prediction_is_that_of_the_dense_matrix(m, o, monkeypatch):
    """Chunk by chunk, the product with all weights is einsum's."""
    monkeypatch.setattr("skgd._training.csr._ROWS_AT_ONCE", 7)
    w = random(m, o, N_FEATURES)

    torch.testing.assert_close(
        raw_product(sparse_x(), w), einsum("moi,ni->mon", w, DENSE)
    )


@pytest.mark.parametrize("factor", [1e-3, 0.0])
def test_debts_of_many_large_steps_stay_finite(factor):
    """A product of factors that underflows, and still a step is one soft threshold."""
    shrink, threshold = np.full((5000, 1), factor), np.full((5000, 1), 0.25)
    owed = debts(shrink, threshold, torch.empty(0, dtype=torch.float64))
    scale = (owed.log[5000] - owed.log[4999]).exp()
    step = F.softshrink(torch.tensor([3.0, -0.2], dtype=torch.float64), 0.25) * factor

    assert torch.isfinite(owed.log).all()
    reach = owed.reach[5000] - scale * owed.reach[4999]
    w = torch.tensor([3.0, -0.2], dtype=torch.float64) * scale
    torch.testing.assert_close(w - w.clamp(-reach, reach), step)


def test_zeros_stay_zeros_and_nothing_is_paid_twice():
    """A debt that rounds to less than nothing moves no weight, nor does a second call.

    The thresholds fall from large to tiny ones, whose sums round either way.
    """
    threshold = 0.1 ** np.arange(1, 61.0)[:, None]
    w = random(1, 1, N_FEATURES)
    w[..., ::2] = 0.0
    layer = wide_layer("sgd", w, {})
    layer.owe(np.full((60, 1), 0.9), threshold)
    lr = {"lr": torch.zeros(1, 1, dtype=torch.float64)}
    for t in range(60):
        step_of(layer, 1, 1, BATCHES[t % len(BATCHES)], lr)
    layer.settle()
    once = w.clone()
    layer.settle()

    assert (w[..., ::2] == 0).all()
    assert torch.equal(w, once)


PER_MODEL = {  # two models; of one, the first
    "lr": np.array([0.3, 0.05]),
    "momentum": np.array([0.9, 0.5]),
    "beta_1": np.array([0.9, 0.8]),
    "beta_2": np.array([0.999, 0.9]),
    "epsilon": np.array([1e-30, 1e-30]),  # SparseAdam corrects it otherwise
    "alpha": np.array([0.0, 0.0]),
    "l1_ratio": np.array([0.0, 0.0]),
}
BATCHES = [[4, 2, 29, 3], [5, 6], [0, 0], [], [4, 4, 3], [10, 11, 12], [3, 20, 5, 7]]


def per_model_of(m, **changes):
    changes = {name: np.array(value) for name, value in changes.items()}
    return {name: value[:m] for name, value in {**PER_MODEL, **changes}.items()}


def number_of(numbers, t, o):
    """Return the numbers of one step, (1, u): every unit of a model has the same."""
    rows = {name: value[min(t, len(value) - 1)] for name, value in numbers.items()}
    return {name: torch.from_numpy(row.repeat(o))[None] for name, row in rows.items()}


def target(z):
    return torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view(z.shape)


def wide_layer(name, w, kept):
    def bind(w, gradient, kept, numbers):
        tape = Tape()
        OPTIMIZERS[name].record(tape, Vectors(w, w, gradient, kept), numbers)
        return tape

    return WideLayer(sparse_x(), w, kept, bind)


def step_of(layer, m, o, rows, numbers):
    """Take a step of least squares towards some target."""
    z = torch.full((m, o, len(rows)), 7.0, dtype=torch.float64)
    layer.see([torch.tensor(rows, dtype=torch.int64)])
    layer.forward(z)
    layer.update((z - target(z)) / max(len(rows), 1), numbers)


def plain_numbers(per_model, schedule, n_steps):
    """Return the numbers of steps of plain descent, (steps, m), at a given schedule."""
    optimizer = OPTIMIZERS["sgd"]
    factors = [1.0 if schedule == "constant" else 0.9**t for t in range(n_steps)]
    steps = [
        optimizer.scalars(per_model, f * per_model["lr"][np.newaxis], np.arange(1, 2))
        for f in factors
    ]
    return {name: np.concatenate([s[name] for s in steps]) for name in steps[0]}


def assert_steps_are_dense(layer, lazy, dense, numbers):
    """Take steps of a layer and of a dense one, and compare all weights at the end."""
    m, o, i = dense.shape
    batches = BATCHES * 4
    gradient = torch.empty_like(dense)
    waits = {name: numbers.get(name) for name in ("shrink", "threshold")}
    for block in torch.arange(len(batches)).split(14):  # as many debts at a time
        owed = [None if n is None else n[block.numpy()] for n in waits.values()]
        layer.owe(*(owed if isinstance(layer, WideLayer) else owed[:1]))
        for t in block.tolist():
            step_of(layer, m, o, batches[t], number_of({"lr": numbers["lr"]}, t, o))
            x = DENSE[batches[t]]
            z = einsum("moi,bi->mob", dense, x)
            dz = (z - target(z)) / max(len(x), 1)
            gradient.copy_(einsum("mob,bi->moi", dz, x))
            flat = dense.view(-1)
            vectors = Vectors(flat, flat, gradient.view(-1), {})
            number = number_of(numbers, t, o * i)
            over_all = {name: value[0] for name, value in number.items()}
            tape = Tape()
            OPTIMIZERS["sgd"].record(tape, vectors, over_all)
            tape.replay()
    layer.settle()

    torch.testing.assert_close(lazy, dense, rtol=1e-11, atol=1e-13)


@every_pair(
    pytest.mark.parametrize("columns_first", [False, True]),
    pytest.mark.parametrize("l1_ratio", [0.0, 0.3, 1.0]),
    pytest.mark.parametrize("schedule", ["constant", "falling"]),
    pytest.mark.parametrize(("m", "o"), [(1, 1), (1, 3), (2, 1), (2, 3)]),
)
def test_plain_descent_is_that_of_dense_data(m, o, schedule, l1_ratio, columns_first):
    """Penalties that wait are paid in full: all weights are the dense engine's."""
    per_model = per_model_of(
        m, momentum=[0, 0], alpha=[0.4, 0.02], l1_ratio=[l1_ratio] * 2
    )
    dense = random(m, o, N_FEATURES)
    lazy = dense.clone()
    if columns_first:
        lazy = lazy.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    layer = wide_layer("sgd", lazy, {})
    assert_steps_are_dense(layer, lazy, dense, plain_numbers(per_model, schedule, 28))

    if l1_ratio:
        assert (dense == 0).any()
        assert torch.equal(lazy == 0, dense == 0)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1e13])
@pytest.mark.parametrize("schedule", ["constant", "falling"])
def test_one_unit_is_that_of_dense_data(schedule, alpha):
    """The scale that weights are divided by is theirs again, if very small too."""
    per_model = per_model_of(1, momentum=[0, 0], alpha=[alpha, 0])
    dense = random(1, 1, N_FEATURES)
    lazy = dense.clone()
    layer = WideUnit(sparse_x(), lazy)
    assert_steps_are_dense(layer, lazy, dense, plain_numbers(per_model, schedule, 28))


@pytest.mark.parametrize(("m", "o"), MODELS_AND_UNITS[:3])
def test_adam_is_torchs_sparse_adam(m, o):
    """Without a penalty, only what is touched moves, as in torch.optim.SparseAdam."""
    per_model = (
        per_model_of(m)
        if m < 3
        else {name: value.repeat(2)[:3] for name, value in PER_MODEL.items()}
    )
    w = random(m, o, N_FEATURES)
    oracles = [w[k].T.clone().requires_grad_() for k in range(m)]  # (i, o)
    optimizers = [
        torch.optim.SparseAdam(
            [p],
            lr=per_model["lr"][k],
            betas=(per_model["beta_1"][k], per_model["beta_2"][k]),
            eps=per_model["epsilon"][k],
        )
        for k, p in enumerate(oracles)
    ]
    kept = {name: torch.zeros_like(w) for name in OPTIMIZERS["adam"].state_names}
    layer = wide_layer("adam", w, kept)
    batches = [rows for rows in BATCHES * 4 if rows]
    lr = per_model["lr"][np.newaxis]
    numbers = OPTIMIZERS["adam"].scalars(per_model, lr, np.arange(1, len(batches) + 1))

    for t, rows in enumerate(batches):
        step_of(layer, m, o, rows, number_of(numbers, t, o))
        x = DENSE[rows]
        touched = np.unique(MATRIX[rows].indices)
        z = torch.stack([einsum("io,bi->ob", p.detach(), x) for p in oracles])
        dz = (z - target(z)) / len(rows)
        for p, optimizer, dz_of_model in zip(oracles, optimizers, dz, strict=True):
            gradient = einsum("ob,bi->io", dz_of_model, x)[touched]
            p.grad = torch.sparse_coo_tensor(
                touched[None], gradient, p.shape, check_invariants=True
            )
            optimizer.step()
        torch.testing.assert_close(
            w, torch.stack([p.detach().T for p in oracles]), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_what_is_not_touched_keeps_its_weights_and_state(name):
    """Penalty and state of a column wait for a batch that touches it."""
    per_model = per_model_of(2, alpha=[0.4, 0.02], l1_ratio=[0.5, 0.5])
    w = random(2, 3, N_FEATURES)
    kept = {key: random(2, 3, N_FEATURES) ** 2 for key in OPTIMIZERS[name].state_names}
    before = [array.clone() for array in (w, *kept.values())]
    lr = per_model["lr"][np.newaxis]
    numbers = OPTIMIZERS[name].scalars(per_model, lr, np.arange(1, 2))
    layer = wide_layer(name, w, kept)
    step_of(layer, 2, 3, [4, 2, 29], number_of(numbers, 0, 3))
    touched = torch.zeros(N_FEATURES, dtype=torch.bool)
    touched[MATRIX[[4, 2, 29]].indices] = True

    for old, new in zip(before, (w, *kept.values()), strict=True):
        assert torch.equal(old[..., ~touched], new[..., ~touched])
        assert (old[..., touched] != new[..., touched]).any(1).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_where_all_columns_are_touched_lazy_is_dense(name):
    """A batch of all columns is a dense step, penalty and all."""
    full = sp.csr_matrix(random(6, N_FEATURES, seed=1).numpy())
    per_model = per_model_of(1, alpha=[0.4, 0.0], l1_ratio=[0.5, 0.0])
    w = random(1, 1, N_FEATURES)
    flat = w.flatten().clone()
    kept = {key: torch.zeros_like(w) for key in OPTIMIZERS[name].state_names}
    flat_kept = {key: torch.zeros_like(flat) for key in kept}

    def bind(w, gradient, kept, numbers):
        tape = Tape()
        OPTIMIZERS[name].record(tape, Vectors(w, w, gradient, kept), numbers)
        return tape

    layer = WideLayer(csr(full, CPU), w, kept, bind)
    lr = per_model["lr"][np.newaxis]
    numbers = OPTIMIZERS[name].scalars(per_model, lr, np.arange(1, 6))
    x = torch.from_numpy(full.toarray())
    for t in range(5):
        step_of(layer, 1, 1, list(range(6)), number_of(numbers, t, 1))
        z = (x @ flat).view(1, 1, 6)
        gradient = ((z - target(z)) / 6).flatten() @ x
        number = {key: v[0] for key, v in number_of(numbers, t, 1).items()}
        vectors = Vectors(flat, flat, gradient, flat_kept)
        tape = Tape()
        OPTIMIZERS[name].record(tape, vectors, number)
        tape.replay()

    torch.testing.assert_close(w.flatten(), flat)
