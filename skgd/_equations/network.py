"""A stack of dense layers, for many models at once: forward, backward.

``forward`` and ``backward`` record (see ``tape``) the three products of every layer,
which the docstring of the package has. The first layer's input is (ib) where all models
see the same batch, (fib) where those of a fold do, and (mib) where each has its own.

What another room knows better is handed in as an array that it fills before each step:
the masks of dropout, which need a generator, and the first layer's output, for who has
the rows knows how to multiply them (``output`` does where they are an array).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from math import ceil, isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skgd._equations.activations import Activation
from skgd._equations.tape import Tape
from skgd._machine.devices import zeros_like

# Arrays start at multiples of so many elements: products of others are slower.
_ALIGNMENT = 16

# Rows predicted at once by a network, so that the arrays of its layers fit a cache.
_ROWS_AT_ONCE = 4096


class Layer(NamedTuple):
    """The parameters of one dense layer, or anything of their shapes."""

    w: Tensor  # (m, o, i)
    bias: Tensor | None  # (m, o)


class Layout(NamedTuple):
    """How the arrays of some models lie in one vector: all the weights, then biases."""

    n_models: int
    sizes: tuple[int, ...]  # the units, from inputs to outputs
    fit_intercept: bool
    # Whether the first w lies as (i, m, o): see first_layer.
    columns_first: bool = False

    @property
    def alone(self) -> "Layout":
        """That of one of the models."""
        return self if self.n_models == 1 else self._replace(n_models=1)


class Segment(NamedTuple):
    """Where an array lies in the vector, and how: its shape and strides."""

    start: int
    stop: int
    shape: tuple[int, ...]  # (m, o, i) or (m, o)
    strides: tuple[int, ...]


class Segments(NamedTuple):
    """The segments of a layout."""

    weights: tuple[Segment, ...]
    biases: tuple[Segment, ...]  # none without intercepts
    n_weights: int
    length: int  # of the vector


@lru_cache(maxsize=256)
def segments(layout: Layout) -> Segments:
    """Return where the arrays of a layout lie: in one piece each, and aligned."""
    m, start = layout.n_models, 0
    weights, biases = list[Segment](), list[Segment]()
    for n, (i, o) in enumerate(pairwise(layout.sizes)):
        strides = (o, 1, m * o) if layout.columns_first and n == 0 else (o * i, i, 1)
        weights.append(Segment(start, start + m * o * i, (m, o, i), strides))
        start += _aligned(m * o * i)
    n_weights = start
    for o in layout.sizes[1:] if layout.fit_intercept else ():
        biases.append(Segment(start, start + m * o, (m, o), (o, 1)))
        start += _aligned(m * o)
    return Segments(tuple(weights), tuple(biases), n_weights, start)


def _aligned(length: int) -> int:
    return ceil(length / _ALIGNMENT) * _ALIGNMENT


@dataclass
class Network:
    """The layers as views of one vector, so that an update is one call at any depth.

    Gradients and the arrays that optimizers keep are networks too. All the weights come
    first, so ``flat[:n_weights]`` is what a penalty sees. An array lies in one piece
    for all models, as the products of many models need it.
    """

    flat: Tensor
    layout: Layout

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers, views of the vector."""
        weights, biases, _, _ = segments(self.layout)
        return [
            Layer(_view(self.flat, w), None if bias is None else _view(self.flat, bias))
            for w, bias in zip(weights, biases or [None] * len(weights), strict=True)
        ]

    @property
    def n_weights(self) -> int:
        """How many elements of the vector are weights."""
        return segments(self.layout).n_weights


def _view(flat: Tensor, segment: Segment) -> Tensor:
    return flat.as_strided(
        segment.shape, segment.strides, flat.storage_offset() + segment.start
    )


def new_network(
    n_models: int,
    sizes: Sequence[int],
    fit_intercept: bool,
    like: Tensor,
    *,
    columns_first: bool = False,
) -> Network:
    """Return a network of zeros; ``sizes`` are the units, from inputs to outputs."""
    layout = Layout(n_models, tuple(sizes), bool(fit_intercept), columns_first)
    return new_by_layout(layout, like)


def new_by_layout(layout: Layout, like: Tensor) -> Network:
    """Return a network of zeros, numbers of the dtype and device of a tensor."""
    return Network(like.new_zeros(segments(layout).length), layout)


def new_like(network: Network) -> Network:
    """Return a network of zeros that lies as the given one does."""
    return Network(zeros_like(network.flat), network.layout)


def arrays(network: Network) -> list[Tensor]:
    """Return the weights and biases of all layers; their first axis is m."""
    return [array for layer in network.layers for array in layer if array is not None]


def by_fold(array: Tensor, n_folds: int) -> Tensor:
    """Return a view (f, c, ...) of an array (m, ...), the models of a fold together."""
    return array.view(n_folds, -1, *array.shape[1:])


def finite(network: Network) -> list[bool]:
    """Return which models have finite parameters only."""
    if isfinite(float(network.flat.sum())):  # a sum may overflow, so look again
        return [True] * network.layout.n_models
    each = [torch.isfinite(array).flatten(1).all(1) for array in arrays(network)]
    return torch.stack(each).all(0).tolist()


def first_segment(network: Network) -> int:
    """Return how many elements of the flat vector belong to the first layer's w."""
    return _aligned(network.layers[0].w.numel())


def alone(network: Network, slot: int) -> Network:
    """Return the network of the model in a slot: itself, where it is the only one."""
    if network.layout.n_models == 1:
        return network
    return select(network, torch.tensor([slot], device=network.flat.device))


def joined(networks: Sequence[Network]) -> Network:
    """Return the network of models that are given alone; itself, where it is one."""
    first, n_models = networks[0], len(networks)
    if n_models == 1:
        return first
    layout = first.layout._replace(n_models=n_models)
    network = new_by_layout(layout, first.flat)
    for array, *of_models in zip(arrays(network), *map(arrays, networks), strict=True):
        array.copy_(torch.cat(of_models))
    return network


def select(network: Network, models: Tensor) -> Network:
    """Return a network of the given models only."""
    layout = network.layout._replace(n_models=len(models))
    selected = new_by_layout(layout, network.flat)
    for new, old in zip(arrays(selected), arrays(network), strict=True):
        torch.index_select(old, 0, models, out=new)
    return selected


def in_rows(network: Network) -> Tensor:
    """Return copies of the vectors that the models would have alone, (m, length)."""
    layout = network.layout
    rows = network.flat.new_zeros(layout.n_models, segments(layout.alone).length)
    for row, array in zip(_arrays_in(rows, layout), arrays(network), strict=True):
        row.copy_(array)
    return rows


def write_rows_(network: Network, rows: Tensor) -> None:
    """Write the models whose vectors are these rows into the network."""
    layout = network.layout
    for array, row in zip(arrays(network), _arrays_in(rows, layout), strict=True):
        array.copy_(row)


def _arrays_in(rows: Tensor, layout: Layout) -> list[Tensor]:
    """Return the arrays of models whose vectors are rows, as ``arrays`` does."""
    weights, biases, *_ = segments(layout.alone)
    layers = zip(weights, biases, strict=True) if biases else zip(weights, strict=True)
    return [
        rows.as_strided(
            (len(rows), *one.shape[1:]), (rows.stride(0), *one.strides[1:]), one.start
        )
        for layer in layers
        for one in layer
    ]


def write_(network: Network, models: Tensor, values: Network) -> None:
    """Write the models of ``values`` into the given places of the network."""
    for old, new in zip(arrays(network), arrays(values), strict=True):
        old.index_copy_(0, models, new)


class Hidden(NamedTuple):
    """The arrays (mob) of a hidden layer."""

    z: Tensor  # the sum, or h where the activation does not keep the sum
    h: Tensor  # the value
    mask: Tensor | None  # what the next layer gets of h is h times this; (fob) or (ob)


class Forward(NamedTuple):
    """The arrays of a forward pass: all that the backward pass needs of it."""

    inputs: list[Tensor]  # of every layer but the first
    hidden: list[Hidden]
    z: Tensor  # the prediction (mob)


def forward(
    tape: Tape,
    layers: Sequence[Layer],
    z: Tensor,
    activation: Activation,
    masks: Sequence[Tensor | None] = (),
) -> Forward:
    """Record the forward pass, and return the arrays that it fills.

    ``z`` is the output (mob) of the first layer, and is overwritten. ``masks`` is
    empty, or has an array (ob) or (fob) for each hidden layer: zero where a unit is
    dropped, and 1 / (1 - p) elsewhere.
    """
    inputs: list[Tensor] = []
    hidden: list[Hidden] = []
    masks = masks or [None] * (len(layers) - 1)
    for layer, mask in zip(layers[1:], masks, strict=True):
        h = torch.empty_like(z) if activation.keeps_sum else z
        h = activation.value(tape, z, h)
        hidden.append(Hidden(z, h, mask))
        x = h if mask is None else _masked(tape, h, mask, out=torch.empty_like(h))
        inputs.append(x)
        z = output(tape, layer, x)
    return Forward(inputs, hidden, z)


def output(tape: Tape, layer: Layer, x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Record the sums (mob) that the units of a layer receive, ``w x + bias``.

    ``x`` is (ib), one batch for all models; (fib), a batch for each fold; or (mib).
    """
    w, bias = layer
    z = w.new_empty(w.shape[0], w.shape[1], x.shape[-1]) if out is None else out
    plus = None if bias is None else bias.unsqueeze(2)
    if x.ndim == 2:
        return tape.product("moi,ib->mob", w, x, out=z, plus=plus)
    if len(x) == len(w):
        return tape.product("moi,mib->mob", w, x, out=z, plus=plus)
    w, z_by_fold = by_fold(w, len(x)), by_fold(z, len(x))
    plus = None if plus is None else by_fold(plus, len(x))
    tape.product("fcoi,fib->fcob", w, x, out=z_by_fold, plus=plus)
    return z


def _masked(tape: Tape, h: Tensor, mask: Tensor, *, out: Tensor) -> Tensor:
    """The product of h and its mask; models of a fold share theirs."""
    if mask.ndim == 2:
        return tape(torch.mul, h, mask, out=out)
    f = len(mask)
    tape(torch.mul, by_fold(h, f), mask.unsqueeze(1), out=by_fold(out, f))
    return out


def backward(
    tape: Tape,
    dz: Tensor,
    passed: Forward,
    layers: Sequence[Layer],
    gradients: Sequence[Layer],
    activation: Activation,
) -> Tensor:
    """Record what fills the gradients of all layers, given that of z (mob).

    ``dz`` is the gradient of a mean over the batch, so the sums over b are final here.
    That of the first layer's output (mob) is returned: its weights get their gradient
    from it where the rows are known.
    """
    ones = dz.new_ones(dz.shape[2])  # a sum over b is a product: faster than torch.sum
    for n in reversed(range(len(layers))):
        dw, dbias = gradients[n]
        if dbias is not None:
            tape.product("mob,b->mo", dz, ones, out=dbias)
        if n > 0:  # the data need no gradient
            gradient(tape, dz, passed.inputs[n - 1], out=dw)
            z, h, mask = passed.hidden[n - 1]
            dx, derivative = torch.empty_like(h), torch.empty_like(h)
            dx = tape.product("moi,mob->mib", layers[n].w, dz, out=dx)
            dh = dx if mask is None else _masked(tape, dx, mask, out=dx)
            derivative = activation.derivative(tape, z, h, derivative)
            dz = tape(dh.mul_, derivative)  # the units of x are outputs of layer n - 1
    return dz


def gradient(tape: Tape, dz: Tensor, x: Tensor, *, out: Tensor) -> None:
    """Record the gradient (moi) of a layer's weights, a sum over the batch."""
    if x.ndim == 2:
        tape.product("mob,ib->moi", dz, x, out=out)
    elif len(x) == len(out):
        tape.product("mob,mib->moi", dz, x, out=out)
    else:
        dz, out = by_fold(dz, len(x)), by_fold(out, len(x))
        tape.product("fcob,fib->fcoi", dz, x, out=out)


def raw_prediction(
    layers: Sequence[Layer],
    x: Any,
    activation: Activation,
    z_first: Callable[[Any], Tensor] | None = None,
) -> Tensor:
    """Return the prediction z (mon) for all rows of x (ni), before the inverse link.

    Where x is no tensor, ``z_first`` computes the first layer's output (mob) of some of
    its rows, ``x[start:stop]``.
    """
    n_samples = x.shape[0]
    n_rows = n_samples if len(layers) == 1 else _ROWS_AT_ONCE
    parts = []
    for start in range(0, n_samples, n_rows):
        rows, tape = x[start : start + n_rows], Tape()
        z = z_first(rows) if z_first else output(tape, layers[0], rows.mT)
        passed = forward(tape, layers, z, activation)
        tape.replay()
        parts.append(passed.z)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
