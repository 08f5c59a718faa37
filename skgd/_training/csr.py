"""Sparse input: rows of a CSR matrix.

Narrow matrices, of a few thousand features, are made dense a batch or a few at a time,
and everything else is as it is for a dense X. A batch of a wide one (hashed text)
touches few of the columns: ``first_layer`` takes its steps on these alone.

Dimension key
-------------
m : models trained together
o : units going out of the first layer
i : features, the columns of the whole matrix
k : of these, the columns that a batch touches
b : samples in the mini-batch
u : all units of all models, (m, o) as one axis
e : entries of a batch, those of one row after the other

Indices are worked out on the host, where the rows are drawn. On the CPU SciPy takes the
rows, those of several batches at once: it copies row by row, four times as fast as
entries are gathered by index; and the transposed product is its own. torch's sparse
tensors were decided against: that product of theirs is 10 times slower, and they warn.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.sparse import csc_array, issparse
from torch import Tensor

from skgd._machine.devices import CPU, to_tensor

# Up to so many features, batches are made dense.
NARROW = 4096

# Rows predicted at once: their arrays stay small.
_ROWS_AT_ONCE = 4096

# The batches that are taken at once have about so many entries: a few MB.
_ENTRIES_AT_ONCE = 2**18


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


def is_wide(x: Any) -> bool:
    """Return whether steps are taken on the touched columns only, of rows of any kind.

    A sparse matrix of SciPy's may be among them.
    """
    if isinstance(x, Tensor) or not (isinstance(x, Csr) or issparse(x)):
        return False
    n_features: int = x.shape[1]
    return n_features > NARROW


def csr(matrix: _CsrLike, device: torch.device) -> Csr:
    """Return a CSR matrix of SciPy's, the same memory on the CPU."""
    values, columns = (to_tensor(a, device) for a in (matrix.data, matrix.indices))
    x = Csr(values, columns, matrix.indptr, matrix.shape[1])
    return x._replace(matrix=matrix) if device.type == "cpu" else x


def take_rows(x: Csr, rows: Tensor) -> Csr:
    """Return the given rows, in the given order, as a matrix of their own."""
    indices = rows.cpu().numpy()
    if x.matrix is not None:
        return csr(x.matrix[indices], CPU)
    before = x.starts[indices]
    lengths = x.starts[indices + 1] - before
    starts = np.zeros(len(indices) + 1, x.starts.dtype)
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


def add_transposed_product_(sums: Tensor, x: Csr, vector: Tensor) -> None:
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


def columns_first(w: Tensor) -> Tensor:
    """Return a view (i, m, o) of (m, o, i)."""
    return w.permute(2, 0, 1)


def rows_at(array: Tensor, index: Tensor) -> Tensor:
    """Return the given rows of an array.

    One element a row is faster as a vector. NumPy takes longer rows twice as fast as
    torch, but copies the whole of an array whose rows are not one after the other.
    """
    if array[:1].numel() <= 1:
        return array.reshape(-1).index_select(0, index).view(-1, *array.shape[1:])
    if array.is_cpu and array.is_contiguous():
        return torch.from_numpy(array.numpy().take(index.numpy(), axis=0))
    return array.index_select(0, index)


def put_rows_(array: Tensor, index: Tensor, values: Tensor) -> None:
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
            table = rows_at(columns_first(w), touched).view(-1, m * o)
        else:
            small, table = chunk, whole
        part.copy_(product(small, table).T.view(m, o, -1))
    return z


def first_output(x: Csr, w: Tensor, bias: Tensor | None) -> Tensor:
    """Return the first layer's output (mon) for all rows of x."""
    z = raw_product(x, w)
    return z if bias is None else z.add_(bias.unsqueeze(2))
