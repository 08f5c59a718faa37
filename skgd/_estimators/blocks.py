"""Blocks: rows that are read piece by piece, from files or by functions.

A *block* is what can be read by itself, and is drawn among all others when an epoch
begins: a row group of a Parquet file, or what a function returns. A large one comes in
parts. pyarrow is imported when it is asked for, and not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Never

import numpy as np

from skgd._estimators.collections import (
    check_computed,
    computed,
    cut_alike,
    is_collection,
    n_partitions,
)
from skgd._machine.arrays import Array

if TYPE_CHECKING:
    from pyarrow import Table
    from pyarrow.dataset import Dataset, ParquetFileFragment

# Rows of a row group that are decoded at once: their columns stay in a cache while they
# become rows.
_ROWS_AT_ONCE = 2**15

# Rows of a window, at the most, unless told otherwise.
_CHUNK_ROWS = 2**18

_INSTALL = "pip install 'skgd[parquet]'"


class BlockPart(NamedTuple):
    """Rows of a block, with their targets and weights, as they are read."""

    X: Any
    y: Any
    sample_weight: Any = None


class Block(NamedTuple):
    """What is read by itself."""

    name: str  # in errors
    # Gives its rows, some at a time, one at the least; or targets and weights only,
    # where X is not wanted and need not be read.
    parts: Callable[[bool], Iterator[BlockPart]]
    n_bytes: int = 0  # of a part of a file, by which it is told from another


class Blocks:
    """Rows that ``fit`` reads block by block, anew in every epoch.

    Made by ``from_parquet`` or ``from_iterables``, and handed to ``fit`` in place of X.
    Of all rows no more than a few windows are in memory at a time. An epoch is one pass
    over all rows, as it is for an array: the blocks come in an order that is drawn over
    all of them, are cut into windows of about ``chunk_rows`` rows, and the rows of a
    window are mixed. So rows that lie next to each other in a file of sorted rows are
    mixed with those of other blocks: a window should have eight blocks or more.

    To iterate over blocks gives their rows in order, in parts ``(X, y,
    sample_weight)``: for ``partial_fit`` of a scaler, or to predict.

    Parameters
    ----------
    blocks : sequence of Block
        What is read by itself; ``from_parquet`` and ``from_iterables`` make them.
    chunk_rows : int
        The rows of a window, at the most. Two windows are in memory, in the dtype of
        the computation.

    Attributes
    ----------
    n_blocks : int
        How many there are.
    chunk_rows : int
        The rows of a window, at the most.

    See Also
    --------
    MiniBatchRegressor.partial_fit : For rows that come once.

    Examples
    --------
    >>> import numpy as np
    >>> from skgd import Blocks, MiniBatchRegressor
    >>> def day(number):
    ...     X = np.random.default_rng(number).normal(size=(200, 3))
    ...     return X, X @ [1.0, -2.0, 0.5]
    >>> blocks = Blocks.from_iterables([lambda n=n: day(n) for n in range(10)])
    >>> model = MiniBatchRegressor(random_state=0).fit(blocks)
    >>> model.coef_.round(2).tolist()
    [1.0, -2.0, 0.5]
    >>> print(round(np.mean([model.score(X, y) for X, y, _ in blocks]), 2))
    1.0
    """

    __module__ = "skgd"  # its name in what is printed

    def __init__(self, blocks: Sequence[Block], chunk_rows: int) -> None:
        if not isinstance(chunk_rows, int | np.integer) or chunk_rows < 1:
            msg = f"chunk_rows must be an int, 1 or more. Got {chunk_rows!r}."
            raise ValueError(msg)
        if not blocks:
            raise ValueError("Blocks must be one or more. Got none; name some rows.")
        self._blocks = tuple(blocks)
        self.chunk_rows = int(chunk_rows)

    @classmethod
    def from_parquet(
        cls,
        path_or_dataset: str | Dataset | Any,
        y: str | Sequence[str],
        sample_weight: str | None = None,
        columns: Sequence[str] | None = None,
        chunk_rows: int = _CHUNK_ROWS,
    ) -> Blocks:
        """Return the row groups of Parquet files as blocks.

        Parameters
        ----------
        path_or_dataset : str, path, list of them or pyarrow.dataset.Dataset
            A file, a folder of files, a list of files, or a dataset of Parquet files on
            any file system that pyarrow or fsspec knows.
        y : str or list of str
            The column of the targets, or several.
        sample_weight : str, default=None
            The column of the weights of the rows; None counts all alike.
        columns : list of str, default=None
            The columns of X, in order. None is all others.
        chunk_rows : int, default=2**18
            Rows of a window, at the most: two of them are in memory. More mix better.

        Returns
        -------
        blocks : Blocks
            What ``fit`` takes in place of X. X is a table of pyarrow, and keeps the
            names of its columns.

        Raises
        ------
        ImportError
            If there is no pyarrow.
        FileNotFoundError
            If there is no such file.
        ValueError
            If there are no such columns, no files, or files of another format.

        Examples
        --------
        >>> from skgd import Blocks, MiniBatchClassifier
        >>> blocks = Blocks.from_parquet("clicks/", y="clicked")  # doctest: +SKIP
        >>> model = MiniBatchClassifier().fit(blocks)  # doctest: +SKIP
        """
        dataset = _dataset(path_or_dataset)
        targets = [y] if isinstance(y, str) else list(y)
        others = [*targets, *([] if sample_weight is None else [sample_weight])]
        names = dataset.schema.names
        if columns is None:
            columns = [name for name in names if name not in others]
        missing = [name for name in [*others, *columns] if name not in names]
        if missing:
            msg = f"The files must have the columns {missing}. Got {names}."
            raise ValueError(msg)
        wanted = _Columns(dataset, list(columns), y, sample_weight)
        blocks = [
            Block(
                f"row group {group.id} of {fragment.path}",
                partial(_parts_of_row_group, wanted, fragment, group.id),
                group.total_byte_size,
            )
            for fragment in dataset.get_fragments()
            for group in _fragment_of_parquet(fragment).row_groups
        ]
        return cls(blocks, chunk_rows)

    @classmethod
    def from_iterables(
        cls,
        functions: Iterable[Callable[[], tuple[Any, ...]]],
        chunk_rows: int = _CHUNK_ROWS,
    ) -> Blocks:
        """Return what functions return as blocks.

        Parameters
        ----------
        functions : list of callable
            Each returns ``(X, y)`` or ``(X, y, sample_weight)``, rows like those that
            ``fit`` takes, dense ones; and the same whenever it is called: before
            training, and once in every epoch. They are called in a thread.
        chunk_rows : int, default=2**18
            Rows of a window, at the most: two of them are in memory, and a block.

        Returns
        -------
        blocks : Blocks
            What ``fit`` takes in place of X.

        Raises
        ------
        TypeError
            If they are no functions. A generator runs once, and every epoch reads all
            rows again.

        Examples
        --------
        >>> import numpy as np
        >>> from skgd import Blocks
        >>> def read():
        ...     return np.zeros((4, 2)), np.arange(4)
        >>> Blocks.from_iterables([read, read])
        Blocks(n_blocks=2, chunk_rows=262144)
        """
        if hasattr(functions, "__next__"):
            raise TypeError(_runs_once("functions", functions))
        functions = list(functions)
        for function in functions:
            if not callable(function):
                msg = (
                    "functions must hold functions that return (X, y) or (X, y, "
                    f"sample_weight). Got {type(function).__name__}; wrap what reads a "
                    "block into a function."
                )
                raise TypeError(msg)
        blocks = [
            Block(f"block {number}", partial(_part_of_function, function, number))
            for number, function in enumerate(functions)
        ]
        return cls(blocks, chunk_rows)

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return len(self._blocks)

    def map(self, transformer: Any) -> Blocks:
        """Return the blocks with their rows transformed, whenever they are read.

        So a Pipeline's steps before the last go with blocks: fit them by
        ``partial_fit`` over the blocks, or on a sample, and hand on what they make.

        Parameters
        ----------
        transformer : fitted transformer
            Its ``transform`` is called with the rows of a part of a block, in a thread.

        Returns
        -------
        blocks : Blocks
            The transformed blocks; nothing is read yet.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.preprocessing import StandardScaler
        >>> from skgd import Blocks
        >>> blocks = Blocks.from_iterables([lambda: (np.array([[1.0], [3.0]]), [0, 1])])
        >>> scaler = StandardScaler()
        >>> for X, y, _ in blocks:
        ...     _ = scaler.partial_fit(X)
        >>> [part] = blocks.map(scaler)
        >>> part.X.ravel().tolist()
        [-1.0, 1.0]
        """
        blocks = [
            block._replace(parts=partial(_transformed, transformer, block))
            for block in self._blocks
        ]
        return Blocks(blocks, self.chunk_rows)

    def block(self, number: int) -> Block:
        """Return a block by its number, to read it.

        Parameters
        ----------
        number : int
            Which one.

        Returns
        -------
        block : Block
            What is read by itself: its ``name``, and its ``parts``.
        """
        return self._blocks[number]

    def __iter__(self) -> Iterator[BlockPart]:
        """Give the rows of all blocks in order, in parts."""
        return chain.from_iterable(block.parts(True) for block in self._blocks)

    def __array__(self, *args: Any, **kwargs: Any) -> Never:
        """Refuse to be one array, which other estimators would make of it."""
        msg = (
            "X must be rows in memory here. Got Blocks, which only fit of an estimator "
            "of skgd reads block by block; a step that comes before it in a Pipeline, "
            "fit by partial_fit over the blocks, and hand on blocks.map(step)."
        )
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"Blocks(n_blocks={self.n_blocks}, chunk_rows={self.chunk_rows})"


def as_blocks(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Return what ``fit`` was given, with what is read piece by piece as blocks.

    That is a dataset, of which y and sample_weight are names of columns, or a
    collection of Dask's that no cluster trains on.
    """
    if is_dataset(X):
        if y is None:
            msg = (
                "fit requires y to be passed, but the target y is None; pass the name "
                "of its column in the dataset."
            )
            raise ValueError(msg)
        return Blocks.from_parquet(X, y, sample_weight), None, None
    if is_collection(X):
        cut = cut_alike(X, y, sample_weight)
        blocks = [
            Block(f"partition {number}", partial(_part_of_partition, cut, number))
            for number in range(n_partitions(cut[0]))
        ]
        return Blocks(blocks, _CHUNK_ROWS), None, None
    if isinstance(X, Blocks) and not (y is None and sample_weight is None):
        msg = (
            "y and sample_weight must be None where X is Blocks, which have their own. "
            "Got some; leave them out."
        )
        raise ValueError(msg)
    return X, y, sample_weight


def is_dataset(X: Any) -> bool:
    """Return whether X is a dataset of pyarrow's, without importing it."""
    module = sys.modules.get("pyarrow.dataset")
    return module is not None and isinstance(X, module.Dataset)


def check_in_memory(name: str, X: Any) -> None:
    """Refuse what is read block by block, or once, where rows are asked for."""
    if hasattr(X, "__next__"):
        raise TypeError(_runs_once(name, X))
    if isinstance(X, str | PathLike):
        msg = (
            f"{name} must be rows. Got {X!r}; to fit on files of Parquet, pass "
            f"skgd.Blocks.from_parquet({str(X)!r}, y=...), with the column of y."
        )
        raise TypeError(msg)
    if isinstance(X, Blocks) or is_dataset(X):
        msg = (
            f"{name} must be rows in memory. Got {type(X).__name__}, which only fit "
            "reads block by block; hand over the rows of a part: for X, y, weight in "
            "Blocks."
        )
        raise TypeError(msg)
    check_computed(name, X)


def _runs_once(name: str, iterator: Any) -> str:
    return (
        f"{name} must be rows, or what can be read again in every epoch. Got a "
        f"{type(iterator).__name__}, which runs once; call partial_fit with what it "
        "gives, or pass skgd.Blocks.from_iterables a list of functions that return "
        "(X, y)."
    )


def _part_of_function(
    function: Callable[[], tuple[Any, ...]], number: int, with_rows: bool
) -> Iterator[BlockPart]:
    """Give what a function returns, as one part."""
    returned = function()
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        msg = (
            f"The function of block {number} must return (X, y) or (X, y, "
            f"sample_weight). Got {type(returned).__name__}."
        )
        raise TypeError(msg)
    part = BlockPart(*returned)
    if np.shape(part.y)[:1] != (0,):
        yield part


def _part_of_partition(
    collections: Sequence[Any], number: int, with_rows: bool
) -> Iterator[BlockPart]:
    """Give a partition of X, y and weights, computed now, as one part."""
    X, *others = (collection.partitions[number] for collection in collections)
    part = BlockPart(*computed(X if with_rows else None, *others))
    if np.shape(part.y)[0]:
        yield part


def _transformed(
    transformer: Any, block: Block, with_rows: bool
) -> Iterator[BlockPart]:
    """Give the parts of a block, their rows transformed."""
    for part in block.parts(with_rows):
        yield part._replace(X=transformer.transform(part.X)) if with_rows else part


def _dataset(path_or_dataset: Any) -> Dataset:
    """Return a dataset of pyarrow's, of Parquet files."""
    try:
        from pyarrow.dataset import dataset
    except ImportError as error:
        msg = f"Blocks.from_parquet must have pyarrow to read files. {_INSTALL}"
        raise ImportError(msg) from error
    if is_dataset(path_or_dataset):
        return path_or_dataset
    try:
        found = dataset(path_or_dataset, format="parquet")
    except FileNotFoundError as error:
        path = str(error)
        to_do = "look at the path"
        if set(path) & set("*?["):
            to_do = "list the files of a pattern by sorted(glob.glob(pattern))"
        msg = (
            f"path_or_dataset must be files that are there. Got {path!r}, which is "
            f"not; {to_do}."
        )
        raise FileNotFoundError(msg) from error
    if not found.schema.names:
        msg = (
            "path_or_dataset must be one file of Parquet or more. Got "
            f"{path_or_dataset!r}, which is none; look at the path, or what it was "
            "listed by."
        )
        raise ValueError(msg)
    return found


def _fragment_of_parquet(fragment: Any) -> ParquetFileFragment:
    """Return a fragment of a dataset, which must be a file of Parquet."""
    from pyarrow.dataset import ParquetFileFragment

    if not isinstance(fragment, ParquetFileFragment):
        msg = (
            "The dataset must be of Parquet files. Got "
            f"{type(fragment).__name__}; write it as Parquet, or read it by functions: "
            "skgd.Blocks.from_iterables."
        )
        raise ValueError(msg)
    return fragment


class _Columns(NamedTuple):
    """What is read of a dataset."""

    dataset: Dataset
    of_rows: list[str]
    y: str | Sequence[str]
    weight: str | None


def _parts_of_row_group(
    wanted: _Columns, fragment: ParquetFileFragment, number: int, with_rows: bool
) -> Iterator[BlockPart]:
    """Give the rows of a row group, some at a time, or raise an error that names it.

    The file is opened anew, and its schema read: it may have changed since.
    """
    from pyarrow import ArrowException, default_memory_pool
    from pyarrow.dataset import ParquetFragmentScanOptions
    from pyarrow.fs import LocalFileSystem

    of_group = f"Row group {number} of {fragment.path}"
    of_rows = wanted.of_rows if with_rows else []
    targets = [wanted.y] if isinstance(wanted.y, str) else list(wanted.y)
    weight = [] if wanted.weight is None else [wanted.weight]
    is_near = isinstance(fragment.filesystem, LocalFileSystem)
    try:
        now = fragment.format.make_fragment(
            fragment.path,
            fragment.filesystem,
            fragment.partition_expression,
            row_groups=[number],
        )
        if not now.physical_schema.equals(fragment.physical_schema):
            raise ValueError(_changed(of_group, fragment, now))
        batches = now.to_batches(
            schema=wanted.dataset.schema,
            columns=list(dict.fromkeys([*of_rows, *targets, *weight])),
            batch_size=_ROWS_AT_ONCE,
            batch_readahead=1,
            # Far away, what is wanted of a file is asked for in a few large pieces.
            fragment_scan_options=ParquetFragmentScanOptions(pre_buffer=not is_near),
        )
        for batch in batches:
            if not batch.num_rows:
                continue
            yield BlockPart(
                _table(batch.select(of_rows)) if with_rows else None,
                _targets(batch, wanted.y),
                _values(batch, wanted.weight) if wanted.weight else None,
            )
        batch = None  # else what is kept for it grows from group to group
        default_memory_pool().release_unused()
    except (OSError, ArrowException) as error:
        msg = (
            f"{of_group} must stay as it is until fit has ended, for every epoch reads "
            f"it anew. Got: {error}"
        )
        raise OSError(msg) from error


def _changed(of_group: str, before: Any, now: Any) -> str:
    """Return the sentence about a file whose schema is another one than before."""
    of_now, of_before = set(now.physical_schema), set(before.physical_schema)
    told = ", ".join(str(field) for field in sorted(of_now - of_before, key=str))
    lost = ", ".join(str(field) for field in sorted(of_before - of_now, key=str))
    return (
        f"{of_group} must stay as it is until fit has ended, for every epoch reads it "
        f"anew. Got another schema, with [{told}] in place of [{lost}]."
    )


def _table(batch: Any) -> Table:
    from pyarrow import Table

    return Table.from_batches([batch])


def _targets(batch: Any, y: str | Sequence[str]) -> Array:
    """Return the targets of some rows, (n,), or (n, o) of several columns."""
    if isinstance(y, str):
        return _values(batch, y)
    return np.column_stack([_values(batch, name) for name in y])


def _values(batch: Any, name: str) -> Array:
    """Return a column as an array; text as NumPy's own, which is sorted sooner."""
    from pyarrow import DictionaryArray, types

    column = batch.column(name)
    if isinstance(column, DictionaryArray):
        column = column.dictionary_decode()
    values: Array = column.to_numpy(zero_copy_only=False)
    is_text = types.is_string(column.type) or types.is_large_string(column.type)
    return values.astype(str) if is_text and not column.null_count else values
