"""What a loop reads and writes: arrays of NumPy, and numbers. The public face."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


class Csr(NamedTuple):
    """The rows of a sparse matrix: row k has the entries starts[k] to starts[k + 1]."""

    values: Array
    columns: Array  # int32 or int64
    starts: Array  # likewise


class Problem(NamedTuple):
    """A model in training: all float arrays are of one kind, float32 or float64.

    Dimension key: n samples, i features, o outputs.
    """

    x: Array | Csr  # (n, i)
    y: Array  # (o, n), or (1, n) where it holds class numbers and o is above one
    weight: Array | None  # (n,)
    sizes: tuple[int, ...]  # units, from inputs to outputs
    # All parameters in one vector, weights first, as _equations.network lays them.
    flat: Array
    n_weights: int
    weights_at: tuple[int, ...]  # where w (o, i) of each layer begins in it
    biases_at: tuple[int, ...]  # likewise; () without intercepts
    columns_first: bool  # whether the first w lies as (i, o)
    state: tuple[Array, ...]  # vectors alike, in the order of the optimizer's names
    average: Array | None  # likewise: the mean of the weights over steps
    loss: str
    activation: str
    optimizer: str
    negative_slope: float
    loss_number: Array  # (o,), what the loss reads: delta, the quantile or the power
    max_grad_norm: float | None
    batch_size: int
    n_parts: int  # losses are told as one sum, 1, or for each output, o


# Takes the steps of some rows in place: take(rows, n_epoch, scalars, losses, norms).
#
# rows      (n,), in order: of a part of an epoch, or of whole epochs of n_epoch rows
# scalars   (steps or 1, p, k), see ``scalars.table``; of p owners: 1, or o of a
#           linear model whose outputs have penalties of their own
# losses    (steps, r) of r parts, filled with the mean loss of each batch before it
# norms     (epochs that begin here, p, 2), filled with |w|_2^2 and |w|_1 before them
Take = Callable[[Rows, int, Array, Array, Array], None]


class Loop(NamedTuple):
    """What takes steps whose penalty may be owed after them, and what collects it.

    It is to be settled after each epoch, and before anything else reads the weights.
    """

    take: Take
    settle: Callable[[], None] = lambda: None  # nothing is owed, next to always
    # What is owed, to be kept; and that it is owed, in place of nothing.
    debts: Callable[[], Mapping[str, Array]] = dict
    owe: Callable[[Mapping[str, Array]], None] = lambda debts: None
    # Whether its products are so large that BLAS takes several threads for them: to
    # wake them takes longer, and on a busy machine a hundred times as long.
    wakes_threads: bool = False
