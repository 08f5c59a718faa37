"""Sparse input: rows of a CSR matrix, and a first layer whose steps cost its entries.

Narrow matrices, of a few thousand features, are made dense a batch or a few at a time,
and everything else is as it is for a dense X. A batch of a wide one (hashed text)
touches few of the columns, so it is a small matrix over these alone: their weights are
gathered, the step is taken on them, and they are put back. Nothing in a step is as
large as the number of features.

Dimension key
-------------
m : models trained together
o : units going out of the first layer
i : features, the columns of the whole matrix
k : of these, the columns that a batch touches
b : samples in the mini-batch
u : all units of all models, (m, o) as one axis
e : entries of a batch, those of one row after the other

What a step does to a column that it does not touch depends on the optimizer.

* Plain descent only shrinks it, and that can wait: after any number of steps the
  weight is ``soft(scale w, threshold)``, see ``Debts``. Columns are settled when they
  are next touched, and all at the end, and the result is that of a dense X.
* With momentum or moments every weight would move at every step. Here the state and
  the weights of a column stay as they are until a batch touches it, and so does the
  penalty: the lazy steps of torch.optim.SparseAdam, not those of a dense X.

Arrays of the first layer have their columns first here, (i, m, o): a column is then
one piece of memory. Any strides will do, those of a view of (m, o, i) too, and are the
faster choice for a step or two; for many steps of many units a copy pays.

Indices are worked out on the host, where the rows are drawn. On the CPU SciPy takes the
rows, those of several batches at once: it copies row by row, four times as fast as
entries are gathered by index; and the transposed product is its own. torch's sparse
tensors were decided against: that product of theirs is 10 times slower, and they warn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.sparse import csc_array
from torch import Tensor

from skgd._contraction import Call
from skgd._tensors import CPU, numbers_like, to_tensor

Floats = npt.NDArray[np.float64]

# Up to so many features, batches are made dense.
NARROW = 4096

# Rows predicted, and columns settled, at once: their arrays stay small.
_ROWS_AT_ONCE = 4096
_COLUMNS_AT_ONCE = 65536

# The batches that are taken at once have about so many entries: a few MB.
_ENTRIES_AT_ONCE = 2**18

# Weights are settled before what they are divided by gets smaller than this.
_SMALL_SCALE = 1e-6


class _CsrLike(Protocol):
    """What is read of a CSR matrix of SciPy's."""

    data: npt.NDArray[np.generic]
    indices: npt.NDArray[np.integer]
    indptr: npt.NDArray[np.integer]
    shape: tuple[int, int]

    def __getitem__(self, rows: npt.NDArray[np.integer]) -> "_CsrLike": ...


class Csr(NamedTuple):
    """A sparse matrix, row by row. Entries at the same place add up."""

    values: Tensor  # (e,)
    columns: Tensor  # (e,), int32 or int64
    starts: npt.NDArray[np.integer]  # (n + 1,), of the rows; on the host
    n_features: int
    matrix: _CsrLike | None = None  # SciPy's of the same memory, where there is one

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns; ``len`` counts the fields."""
        return len(self.starts) - 1, self.n_features


def is_wide(x: Tensor | Csr) -> bool:
    """Return whether steps are taken on the touched columns only."""
    return isinstance(x, Csr) and x.n_features > NARROW


def csr(matrix: _CsrLike, device: torch.device) -> Csr:
    """Return a CSR matrix of SciPy's, the same memory on the CPU."""
    values, columns = (to_tensor(a, device) for a in (matrix.data, matrix.indices))
    x = Csr(values, columns, matrix.indptr, matrix.shape[1])
    return x._replace(matrix=matrix) if device.type == "cpu" else x


def take_rows(x: Csr, rows: Tensor) -> Csr:
    """Return the given rows, in the given order, as a matrix of their own."""
    places = rows.cpu().numpy()
    if x.matrix is not None:
        return csr(x.matrix[places], CPU)
    before = x.starts[places]
    lengths = x.starts[places + 1] - before
    starts = np.zeros(len(places) + 1, x.starts.dtype)
    np.cumsum(lengths, out=starts[1:])
    # Entry e of the result is the entry e + (before - start) of its row.
    entries = np.repeat(before - starts[:-1], lengths)
    entries += np.arange(starts[-1], dtype=entries.dtype)
    index = torch.from_numpy(entries).to(x.values.device)
    values, columns = (a.index_select(0, index) for a in (x.values, x.columns))
    return Csr(values, columns, starts, x.n_features)


def split_rows(x: Csr, sizes: Sequence[int]) -> Iterator[Csr]:
    """Yield so many rows after so many, in the same memory."""
    end = 0
    for size in sizes:
        start, end = end, end + size
        starts = x.starts[start : end + 1]
        entries = slice(int(starts[0]), int(starts[-1]))
        values, columns = x.values[entries], x.columns[entries]
        yield Csr(values, columns, starts - starts[0], x.n_features)


def take_batches(x: Csr, batches: Sequence[Tensor]) -> Iterator[Csr]:
    """Yield the rows of each batch, taken for several batches at once."""
    largest = max(len(rows) for rows in batches)
    entries = largest * len(x.values) // max(1, x.shape[0])
    at_once = max(1, _ENTRIES_AT_ONCE // max(1, entries))
    for start in range(0, len(batches), at_once):
        some = list(batches[start : start + at_once])
        yield from split_rows(take_rows(x, torch.cat(some)), list(map(len, some)))


def row_of_entries(x: Csr) -> Tensor:
    """Return the row that each entry stands in, (e,)."""
    rows = np.repeat(np.arange(x.shape[0]), np.diff(x.starts))
    return torch.from_numpy(rows).to(x.values.device)


def _for_entries(x: Csr, numbers: Tensor) -> Tensor:
    """Return for each entry, (e,), the number that its row has in (b,)."""
    if numbers.is_cpu:
        return torch.from_numpy(np.repeat(numbers.numpy(), np.diff(x.starts)))
    return numbers.index_select(0, row_of_entries(x))


def fill_dense_(out: Tensor, x: Csr) -> None:
    """Write the matrix into a contiguous array of its shape."""
    place = row_of_entries(x).mul_(x.n_features).add_(x.columns)
    out.zero_().view(-1).index_add_(0, place, x.values)


def over_touched(x: Csr, position: Tensor) -> tuple[Csr, Tensor]:
    """Return the matrix over its touched columns only, and these columns, (k,).

    ``position`` (i,) is scratch of int32, never cleared. Every entry writes its own
    place at its column; the one that finds itself there speaks for the column. (To
    sort the columns, as ``unique`` does, takes six times as long.)
    """
    columns = x.columns.long()
    entry = torch.arange(len(columns), dtype=torch.int32, device=columns.device)
    position.scatter_(0, columns, entry)
    speaks = position.index_select(0, columns) == entry
    touched = columns.index_select(0, _where(speaks))
    position.scatter_(0, touched, entry[: len(touched)])
    local = position.index_select(0, columns)
    return Csr(x.values, local, x.starts, len(touched)), touched


def _where(mask: Tensor) -> Tensor:
    """Return the places that are true. NumPy finds them twice as fast as torch."""
    if mask.is_cpu:
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def product(x: Csr, table: Tensor) -> Tensor:
    """Return x times a table: (b, u) from (k, u)."""
    starts = torch.from_numpy(x.starts).to(x.columns)
    return _sums_of_rows(x.columns, starts, x.values, table)


def transposed_product(x: Csr, table: Tensor) -> Tensor:
    """Return x transposed times a table: (k, u) from (b, u)."""
    if not table.is_cpu:
        return sorted_transposed_product(x, table)
    parts = x.values.numpy(), x.columns.numpy(), x.starts
    transposed = csc_array(parts, shape=x.shape[::-1])  # rows are its columns
    return torch.from_numpy(transposed @ table.numpy())


def sorted_transposed_product(x: Csr, table: Tensor) -> Tensor:
    """Return the same on any device, from the entries in the order of the columns."""
    k, rows = x.n_features, row_of_entries(x)
    order = x.columns.argsort(stable=True)
    starts = rows.new_zeros(k + 1)
    torch.cumsum(torch.bincount(x.columns, minlength=k), 0, out=starts[1:])
    rows, values = rows.index_select(0, order), x.values.index_select(0, order)
    return _sums_of_rows(rows, starts, values, table)


def _add_transposed_(sums: Tensor, x: Csr, vector: Tensor) -> None:
    """Add x transposed times a vector (b,) to sums (k,); only touched ones are read."""
    parts = _for_entries(x, vector).mul_(x.values)
    sums.scatter_add_(0, x.columns.long(), parts)


def _sums_of_rows(
    index: Tensor, starts: Tensor, factors: Tensor, table: Tensor
) -> Tensor:
    """Return, for each piece of the index, the sum of factors times rows of a table."""
    return F.embedding_bag(
        index,
        table,
        starts,
        mode="sum",
        per_sample_weights=factors,
        include_last_offset=True,
    )


def _columns_first(w: Tensor) -> Tensor:
    """Return a view (i, m, o) of (m, o, i)."""
    return w.permute(2, 0, 1)


def _take(array: Tensor, index: Tensor) -> Tensor:
    """Return the given rows of an array.

    One element a row is faster as a vector. NumPy takes longer rows twice as fast as
    torch, but copies the whole of an array whose rows are not one after the other.
    """
    if array[:1].numel() <= 1:
        return array.reshape(-1).index_select(0, index).view(-1, *array.shape[1:])
    if array.is_cpu and array.is_contiguous():
        return torch.from_numpy(array.numpy().take(index.numpy(), axis=0))
    return array.index_select(0, index)


def _put_(array: Tensor, index: Tensor, values: Tensor) -> None:
    """Write the given rows of an array, each of them once."""
    if array[:1].numel() == 1:
        array.view(-1).scatter_(0, index, values.view(-1))
    else:
        array.index_copy_(0, index, values)


def raw_product(x: Csr, w: Tensor) -> Tensor:
    """Return z (mon) = w (moi) times all rows of x, without the bias."""
    m, o, i = w.shape
    whole = w.view(i, 1) if m * o == 1 else None
    position = x.columns.new_empty(0 if m * o == 1 else i, dtype=torch.int32)
    z = w.new_empty(m, o, x.shape[0])
    parts = torch.split(z, _ROWS_AT_ONCE, dim=2)
    chunks = split_rows(x, [part.shape[2] for part in parts])
    for chunk, part in zip(chunks, parts, strict=True):
        if whole is None:
            small, touched = over_touched(chunk, position)
            table = _take(_columns_first(w), touched).view(-1, m * o)
        else:
            small, table = chunk, whole
        part.copy_(product(small, table).T.view(m, o, -1))
    return z


def first_output(x: Csr, w: Tensor, bias: Tensor | None) -> Tensor:
    """Return the first layer's output (mon) for all rows of x."""
    z = raw_product(x, w)
    return z if bias is None else z.add_(bias.unsqueeze(2))


class Debts(NamedTuple):
    """What weights owe at each of some steps: two running numbers for each model.

    A step without gradient is ``w <- s soft(w, a)`` with a shrink factor s and a
    threshold a of its own. From step t to step T these add up to

        w <- soft(scale w, reach_T - scale reach_t),  scale = exp(log_T - log_t),

    where log is the sum of the log(s) so far, and reach what the thresholds so far
    have taken off a weight: reach <- s (reach + a). No number here over- or underflows
    however many the steps, as the running product of s would.
    """

    log: Tensor  # (steps + 1, m)
    reach: Tensor | None  # (steps + 1, m); None if no threshold is above 0


def debts(shrink: Floats | None, threshold: Floats | None, like: Tensor) -> Debts:
    """Return the debts of steps with such factors and thresholds, each (steps, m)."""
    numbers = shrink if shrink is not None else threshold
    assert numbers is not None
    log = np.zeros((len(numbers) + 1, numbers.shape[1]))
    if shrink is not None:
        np.cumsum(np.log(np.maximum(shrink, np.finfo(float).tiny)), 0, out=log[1:])
    if threshold is None:
        return Debts(numbers_like(log, like), None)
    reach = np.zeros_like(log)
    factors = np.ones_like(threshold) if shrink is None else shrink
    for t, (s, a) in enumerate(zip(factors, threshold, strict=True)):
        reach[t + 1] = s * (reach[t] + a)
    return Debts(numbers_like(log, like), numbers_like(reach, like))


def _settle_(w: Tensor, since: Tensor, now: int, owed: Debts) -> None:
    """Bring weights (k, m, o) from the steps (k,) that they are at to step ``now``."""
    scale = (owed.log[now] - _take(owed.log, since)).exp_().unsqueeze(2)
    w.mul_(scale)
    if owed.reach is not None:
        reach = _take(owed.reach, since).unsqueeze(2)
        threshold = torch.addcmul(owed.reach[now].unsqueeze(1), scale, reach, value=-1)
        threshold.clamp_min_(0)  # a rounding below it would move weights off zero
        w.sub_(torch.clamp(w, -threshold, threshold))


# Given weights, their gradient, what is kept for them, each (k, u), and the numbers of
# the step, each (1, u) or (1, 1): the calls of the optimizer.
Bind = Callable[
    [Tensor, Tensor, Mapping[str, Tensor], Mapping[str, Tensor]], Sequence[Call]
]


class WideLayer:
    """The weights of a first layer in training on a wide sparse matrix.

    A step is ``forward``, which gathers, and ``update``, which puts back. Which rows
    the next steps see, ``see`` says before. Before the steps whose penalty is to wait,
    ``owe`` says what they owe; after them, and before anything else reads the weights,
    ``settle`` collects it.
    """

    def __init__(
        self, x: Csr, w: Tensor, kept: Mapping[str, Tensor], bind: Bind
    ) -> None:
        """Hold arrays of shape (m, o, i), of any strides, to train in place."""
        self._x = x
        self._w = _columns_first(w)
        self._kept = {name: _columns_first(array) for name, array in kept.items()}
        self._bind = bind
        self._position = x.columns.new_empty(x.n_features, dtype=torch.int32)
        self._since = torch.zeros_like(self._position)  # the step a column is at
        self._now = 0
        self._owed: Debts | None = None
        self._batches: Iterator[Csr] = iter(())

    def see(self, batches: Sequence[Tensor]) -> None:
        """Let the next steps see these rows, (b,) each."""
        self._batches = take_batches(self._x, batches)

    def owe(self, shrink: Floats | None, threshold: Floats | None) -> None:
        """Let the next steps owe their penalty, numbers of shape (steps, m)."""
        self.settle()
        self._since.zero_()
        self._now = 0
        pays = shrink is not None or threshold is not None
        self._owed = debts(shrink, threshold, self._w) if pays else None

    def settle(self) -> None:
        """Collect what is owed by all columns up to the step just taken."""
        if self._owed is None:
            return
        parts = (torch.split(a, _COLUMNS_AT_ONCE) for a in (self._w, self._since))
        for w, since in zip(*parts, strict=True):
            _settle_(w, since, self._now, self._owed)
        self._since.fill_(self._now)

    def forward(self, z: Tensor) -> None:
        """Write the product of the weights and the next batch into z (mob)."""
        batch = next(self._batches)
        self._batch, self._touched = over_touched(batch, self._position)
        w = _take(self._w, self._touched)
        if self._owed is not None:
            since = self._since.index_select(0, self._touched)
            _settle_(w, since, self._now, self._owed)
            self._since.scatter_(0, self._touched, self._now)
        self._gathered = w.flatten(1)
        z.flatten(0, 1).copy_(product(self._batch, self._gathered).T)

    def update(self, dz: Tensor, numbers: Mapping[str, Tensor]) -> None:
        """Take the optimizer's step, given the gradient of z (mob)."""
        w, touched = self._gathered, self._touched
        dz_by_row = dz.flatten(0, 1).T.contiguous()
        gradient = transposed_product(self._batch, dz_by_row)
        kept = {n: _take(a, touched).flatten(1) for n, a in self._kept.items()}
        for call in self._bind(w, gradient, kept, numbers):
            call()
        shape = len(touched), *self._w.shape[1:]
        _put_(self._w, touched, w.view(shape))
        for name, array in self._kept.items():
            _put_(array, touched, kept[name].view(shape))
        self._now += 1


class WideUnit:
    """A ``WideLayer`` of one unit, for plain descent without thresholds: twice as fast.

    Its update is a sum that goes into the weights where they lie: nothing is gathered.
    All weights shrink alike, so the array holds w / scale between two settlements, and
    a step changes the scale alone.
    """

    def __init__(self, x: Csr, w: Tensor) -> None:
        """Hold weights of shape (1, 1, i), to train in place."""
        self._x = x
        self._w = w.view(-1)
        self._shrink: Iterator[float] = repeat(1.0)
        self._scale = 1.0
        self._batches: Iterator[Csr] = iter(())

    def see(self, batches: Sequence[Tensor]) -> None:
        """Let the next steps see these rows, (b,) each."""
        self._batches = take_batches(self._x, batches)

    def owe(self, shrink: Floats | None, threshold: Floats | None = None) -> None:
        """Let the next steps owe their penalty, numbers of shape (steps, 1)."""
        assert threshold is None
        self.settle()
        self._shrink = repeat(1.0) if shrink is None else iter(shrink[:, 0].tolist())

    def settle(self) -> None:
        """Collect what is owed by all columns up to the step just taken."""
        self._w.mul_(self._scale)
        self._scale = 1.0

    def forward(self, z: Tensor) -> None:
        """Write the product of the weights and the next batch into z (mob)."""
        self._batch = next(self._batches)
        products = product(self._batch, self._w.view(-1, 1))
        torch.mul(products.view(z.shape), self._scale, out=z)

    def update(self, dz: Tensor, numbers: Mapping[str, Tensor]) -> None:
        """Subtract lr times the gradient, given that of z (mob), and shrink."""
        move = dz.mul(numbers["lr"]).mul_(-1 / self._scale)
        _add_transposed_(self._w, self._batch, move.view(-1))
        self._scale *= next(self._shrink)
        if self._scale < _SMALL_SCALE:
            self.settle()
