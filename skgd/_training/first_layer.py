"""The first layer: on arrays, or on wide sparse rows, at the cost of their entries.

A batch of wide sparse rows touches few of the columns, so it is a small matrix over
these alone: their weights are gathered, the step is taken on them, and they are put
back. Nothing in a step is as large as the number of features.

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

Dimension key: m models, o units of the layer, i features, k of these that a batch
touches, b samples of the batch, u all units of all models.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, repeat
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from skgd._equations.contraction import Call
from skgd._equations.network import Layer, Network, first_segment, gradient, output
from skgd._equations.optimizers import Vectors
from skgd._equations.tape import Tape
from skgd._machine.arrays import Array, Floats
from skgd._machine.devices import numbers_like, to_numpy
from skgd._training.csr import (
    Csr,
    add_transposed_product_,
    columns_first,
    first_output,
    over_touched,
    product,
    put_rows_,
    rows_at,
    take_batches,
    take_rows,
    transposed_product,
)
from skgd._training.models import Models
from skgd._training.scalars import Scalars
from skgd._training.sources import Batch, Gather, WideRows, source_of

# Columns settled at once: their arrays stay small.
_COLUMNS_AT_ONCE = 65536

# Weights are settled before what they are divided by gets smaller than this.
_SMALL_SCALE = 1e-6


class FirstLayer(Protocol):
    """The layer that the rows enter: its product with a batch, and what it learns.

    Before some steps it is told which rows they see, and what they owe; after them, and
    before anything else reads its weights, they are settled. In each step it takes part
    twice: before the other layers, and after the backward pass.
    """

    def see(self, batches: Iterable[Tensor]) -> Iterable[Tensor]:
        """Take note of what is fetched for the next steps, and hand it on."""

    def owe(self, t: int, n_steps: int) -> None:
        """Let the next steps, so many after t, owe their penalty."""

    def debts(self) -> Mapping[str, Array]:
        """Return what is owed now, to be kept."""

    def go_on_owing(self, debts: Mapping[str, Array], n_taken: int) -> None:
        """Let it be owed, where so many of those next steps are taken already."""

    def record_output(self, tape: Tape, batch: Batch, *, out: Tensor) -> None:
        """Record what fills the layer's output (mob)."""

    def record_gradient(self, tape: Tape, batch: Batch, dz: Tensor) -> None:
        """Record what becomes of the output's gradient (mob)."""

    def settle(self) -> None:
        """Collect what is owed."""


class Dense(NamedTuple):
    """A first layer whose batches are arrays: it learns with all the others."""

    layer: Layer
    gradient: Layer

    def see(self, batches: Iterable[Tensor]) -> Iterable[Tensor]:
        return batches

    def owe(self, t: int, n_steps: int) -> None:
        pass

    def debts(self) -> Mapping[str, Array]:
        return {}

    def go_on_owing(self, debts: Mapping[str, Array], n_taken: int) -> None:
        pass

    def record_output(self, tape: Tape, batch: Batch, *, out: Tensor) -> None:
        assert batch.x is not None
        output(tape, self.layer, batch.x, out=out)

    def record_gradient(self, tape: Tape, batch: Batch, dz: Tensor) -> None:
        assert batch.x is not None
        gradient(tape, dz, batch.x, out=self.gradient.w)

    def settle(self) -> None:
        pass


class Wide(NamedTuple):
    """A first layer on wide sparse rows, which is updated here, by itself."""

    weights: "WideLayer | WideUnit"
    layer: Layer
    scalars: Scalars
    laid: dict[str, Tensor]  # over its units

    def see(self, batches: Iterable[Tensor]) -> Iterable[Tensor]:
        batches = list(batches)
        self.weights.see(batches)
        return batches

    def owe(self, t: int, n_steps: int) -> None:
        if self.scalars.rule.optimizer.state_names:
            return  # the penalty waits as the steps do
        scalars = self.scalars.of_steps(t, n_steps)
        shape = n_steps, len(self.scalars.rule.per_model["lr"])
        shrink, threshold = (
            np.broadcast_to(scalars[name], shape) if name in scalars else None
            for name in _PENALTY
        )
        self.weights.owe(shrink, threshold)

    def debts(self) -> Mapping[str, Array]:
        return self.weights.debts()

    def go_on_owing(self, debts: Mapping[str, Array], n_taken: int) -> None:
        self.weights.go_on_owing(debts, n_taken)

    def record_output(self, tape: Tape, batch: Batch, *, out: Tensor) -> None:
        tape.append(partial(self.weights.forward, out))
        if self.layer.bias is not None:
            tape(out.add_, self.layer.bias.unsqueeze(2))

    def record_gradient(self, tape: Tape, batch: Batch, dz: Tensor) -> None:
        tape.append(partial(self.weights.update, dz, self.laid))

    def settle(self) -> None:
        self.weights.settle()


# Scalars of plain descent that can wait.
_PENALTY = ("shrink", "threshold")


def updated_apart(x: Tensor | Csr, models: Models) -> int:
    """Return how many elements of the flat vector the first layer updates by itself."""
    is_wide = isinstance(source_of(x), WideRows)
    return first_segment(models.parameters) if is_wide else 0


def bind_first_layer(
    x: Tensor | Csr, models: Models, gradients: Network, scalars: Scalars
) -> FirstLayer:
    """Return the first layer of the models, to be trained on rows of x."""
    layer, optimizer = models.parameters.layers[0], scalars.rule.optimizer
    source = source_of(x)
    if not isinstance(source, WideRows):
        return Dense(layer, gradients.layers[0])
    n_models, n_folds = len(layer.w), len(models.generators)
    if n_folds > 1 or (n_models > 1 and models.average is not None):
        msg = (
            "Models that are averaged, or have rows of their own, must be trained "
            f"one by one on wide sparse rows. Got {n_models} of them."
        )
        raise ValueError(msg)
    laid = scalars.over_units(layer.w[:, :, 0].numel())
    if not optimizer.state_names:
        laid = {name: row for name, row in laid.items() if name not in _PENALTY}
    return Wide(_wide_weights(source.x, models, scalars), layer, scalars, laid)


def bind_first_output(
    x: Tensor | Csr, layer: Layer, batch: Batch
) -> tuple[Tensor, list[Gather], Tape]:
    """Return the output (mob) of a layer that is in no training, and what fills it.

    It is gathered, where the rows of a batch are no array, or else computed by calls.
    """
    tape, source = Tape(), source_of(x)
    if batch.x is not None:
        return output(tape, layer, batch.x), [], tape
    assert isinstance(source, WideRows)
    z = layer.w.new_empty(*layer.w.shape[:2], batch.y.shape[-1])
    return z, [partial(_first_output_, z, source, layer)], tape


def _first_output_(z: Tensor, source: WideRows, layer: Layer, indices: Tensor) -> None:
    """Write the output of a layer for some rows of a sparse matrix."""
    z.copy_(first_output(take_rows(source.x, indices), *layer))


def _wide_weights(x: Csr, models: Models, scalars: Scalars) -> "WideLayer | WideUnit":
    """Return the weights of the first layer, in training on wide sparse rows.

    Where each output has scalars of its own, it is a model to the layer.
    """
    w, optimizer = models.parameters.layers[0].w, scalars.rule.optimizer
    is_unit = w[:, :, 0].numel() == 1
    if is_unit and not optimizer.state_names and "threshold" not in scalars.names:
        return WideUnit(x, w)

    def bind(
        w: Tensor,
        gradient: Tensor,
        state: Mapping[str, Tensor],
        laid: Mapping[str, Tensor],
    ) -> Sequence[Call]:
        tape = Tape()
        optimizer.record(tape, Vectors(w, w, gradient, state), laid)
        return tape

    state = {
        name: network.layers[0].w for name, network in models.optimizer_state.items()
    }
    if len(scalars.rule.per_model["lr"]) > len(w):
        w = w.flatten(0, 1).unsqueeze(1)
        state = {name: one.flatten(0, 1).unsqueeze(1) for name, one in state.items()}
    return WideLayer(x, w, state, bind)


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
    scale = (owed.log[now] - rows_at(owed.log, since)).exp_().unsqueeze(2)
    w.mul_(scale)
    if owed.reach is not None:
        reach = rows_at(owed.reach, since).unsqueeze(2)
        threshold = torch.addcmul(owed.reach[now].unsqueeze(1), scale, reach, value=-1)
        threshold.clamp_min_(0)  # a rounding below it would move weights off zero
        w.sub_(torch.clamp(w, -threshold, threshold))


_NOT_OWED = "What weights owe is not what these can."


def _array_of(
    debts: Mapping[str, Array], name: str, dtype: Any, shape: Sequence[int]
) -> Array:
    """Return the one array of what was kept of debts, or raise ValueError."""
    if debts.keys() != {name}:
        raise ValueError(_NOT_OWED)
    array = debts[name]
    if array.dtype != dtype or array.shape != tuple(shape):
        raise ValueError(_NOT_OWED)
    return array


# Given weights, their gradient, the optimizer's state for them, each (k, u), and the
# scalars of the step, each (1, u) or (1, 1): the calls of the optimizer.
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
        self, x: Csr, w: Tensor, state: Mapping[str, Tensor], bind: Bind
    ) -> None:
        """Hold arrays of shape (m, o, i), of any strides, to train in place."""
        self._x = x
        self._w = columns_first(w)
        self._state = {name: columns_first(array) for name, array in state.items()}
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

    def debts(self) -> Mapping[str, Array]:
        """Return what is owed now, to be kept."""
        return {"since": to_numpy(self._since)}

    def go_on_owing(self, debts: Mapping[str, Array], n_taken: int) -> None:
        """Let it be owed, where so many of those next steps are taken already."""
        since = _array_of(debts, "since", np.dtype(np.int32), self._since.shape)
        if since.size and not 0 <= since.min() <= since.max() <= n_taken:
            raise ValueError(_NOT_OWED)
        self._since.copy_(torch.from_numpy(since))
        self._now = n_taken

    def forward(self, z: Tensor) -> None:
        """Write the product of the weights and the next batch into z (mob)."""
        batch = next(self._batches)
        self._batch, self._touched = over_touched(batch, self._position)
        w = rows_at(self._w, self._touched)
        if self._owed is not None:
            since = self._since.index_select(0, self._touched)
            _settle_(w, since, self._now, self._owed)
            self._since.scatter_(0, self._touched, self._now)
        self._gathered = w.flatten(1)
        z.flatten(0, 1).copy_(product(self._batch, self._gathered).T)

    def update(self, dz: Tensor, laid: Mapping[str, Tensor]) -> None:
        """Take the optimizer's step, given the gradient of z (mob)."""
        w, touched = self._gathered, self._touched
        dz_by_row = dz.flatten(0, 1).T.contiguous()
        gradient = transposed_product(self._batch, dz_by_row)
        state = {n: rows_at(a, touched).flatten(1) for n, a in self._state.items()}
        for call in self._bind(w, gradient, state, laid):
            call()
        shape = len(touched), *self._w.shape[1:]
        put_rows_(self._w, touched, w.view(shape))
        for name, array in self._state.items():
            put_rows_(array, touched, state[name].view(shape))
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

    def debts(self) -> Mapping[str, Array]:
        """Return what is owed now, to be kept."""
        return {"scale": np.array(self._scale)}

    def go_on_owing(self, debts: Mapping[str, Array], n_taken: int) -> None:
        """Let it be owed, where so many of those next steps are taken already."""
        scale = float(_array_of(debts, "scale", np.dtype(np.float64), ()))
        if not 0 < scale <= 1:
            raise ValueError(_NOT_OWED)
        self._scale = scale
        self._shrink = islice(self._shrink, n_taken, None)

    def forward(self, z: Tensor) -> None:
        """Write the product of the weights and the next batch into z (mob)."""
        self._batch = next(self._batches)
        products = product(self._batch, self._w.view(-1, 1))
        torch.mul(products.view(z.shape), self._scale, out=z)

    def update(self, dz: Tensor, laid: Mapping[str, Tensor]) -> None:
        """Subtract lr times the gradient, given that of z (mob), and shrink."""
        move = dz.mul(laid["lr"]).mul_(-1 / self._scale)
        add_transposed_product_(self._w, self._batch, move.view(-1))
        self._scale *= next(self._shrink)
        if self._scale < _SMALL_SCALE:
            self.settle()
