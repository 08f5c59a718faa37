"""A stack of dense layers, for many models at once: initialise, forward, backward.

Dimension key
-------------
m : models trained together (1 for a single estimator)
i : units coming into a layer
o : units going out of it
b : samples in the mini-batch

Three arrays take part in the products of a layer: its weights ``w`` (moi), its input
``x`` (mib) and its output (mob). The forward pass contracts the first two; the gradient
of either one contracts the other with the gradient of the output. The first layer's
input is (ib) where all models see the same batch.

``forward`` and ``backward`` return calls (see ``_contraction``) and the arrays that
these fill: the equations are bound to their arrays once, and replayed at every step.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import ceil, prod, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skgd._activations import Activation, glorot
from skgd._contraction import Call, contraction
from skgd._tensors import numbers_like

# Arrays start at multiples of so many elements: products of others are slower.
_ALIGNMENT = 16

# Rows predicted at once by a network, so that the arrays of its layers fit a cache.
_ROWS_AT_ONCE = 4096


class Layer(NamedTuple):
    """The parameters of one dense layer, or anything of their shapes."""

    w: Tensor  # (m, o, i)
    bias: Tensor | None  # (m, o)


class Network(NamedTuple):
    """The layers as views of one vector, so that an update is one call at any depth.

    Gradients and the arrays that optimizers keep are networks too. All the weights come
    first, so ``flat[:n_weights]`` is what a penalty sees. An array lies in one piece
    for all models, as the products of many models need it.
    """

    flat: Tensor
    n_weights: int
    layers: list[Layer]


def new_network(
    n_models: int, sizes: Sequence[int], fit_intercept: bool, like: Tensor
) -> Network:
    """Return a network of zeros; ``sizes`` are the units, from inputs to outputs."""
    pairs = list(pairwise(sizes))
    shapes: list[tuple[int, ...]] = [(n_models, o, i) for i, o in pairs]
    if fit_intercept:
        shapes += [(n_models, o) for _, o in pairs]
    lengths = [ceil(prod(shape) / _ALIGNMENT) * _ALIGNMENT for shape in shapes]
    flat = like.new_zeros(sum(lengths))
    views = [
        part[: prod(shape)].view(shape)
        for part, shape in zip(flat.split_with_sizes(lengths), shapes, strict=True)
    ]
    n_layers = len(pairs)
    biases: list[Tensor | None] = [*views[n_layers:]] or [None] * n_layers
    layers = [Layer(w, bias) for w, bias in zip(views, biases, strict=False)]
    return Network(flat, sum(lengths[:n_layers]), layers)


def new_like(
    network: Network, n_models: int | None = None, dtype: torch.dtype | None = None
) -> Network:
    """Return a network of zeros of the same sizes; models or dtype may be others."""
    w, bias = network.layers[0]
    sizes = [w.shape[2]] + [w.shape[1] for w, _ in network.layers]
    like = network.flat.new_empty(0, dtype=dtype)
    return new_network(n_models or w.shape[0], sizes, bias is not None, like)


def arrays(network: Network) -> list[Tensor]:
    """Return the weights and biases of all layers; their first axis is m."""
    return [array for layer in network.layers for array in layer if array is not None]


def owners(network: Network) -> Tensor:
    """Return the model that each element of the flat vector belongs to."""
    owner = new_like(network, dtype=torch.int64)
    for array in arrays(owner):
        array.transpose(0, -1).copy_(torch.arange(len(array), device=array.device))
    return owner.flat


def take(network: Network, models: Tensor) -> Network:
    """Return a network of the given models only."""
    taken = new_like(network, len(models))
    for new, old in zip(arrays(taken), arrays(network), strict=True):
        torch.index_select(old, 0, models, out=new)
    return taken


def put_(network: Network, models: Tensor, values: Network) -> None:
    """Write the models of ``values`` into the given places of the network."""
    for old, new in zip(arrays(network), arrays(values), strict=True):
        old.index_copy_(0, models, new)


def initialise_(
    network: Network, activation: Activation, generators: Sequence[np.random.Generator]
) -> None:
    """Draw the weights of models with hidden layers; a linear model starts at zero.

    One generator serves all models alike, or each model has its own. The draw is made
    in float64 and then cast, so every dtype starts from the same numbers.
    """
    if len(network.layers) == 1:
        return
    for n, layer in enumerate(network.layers):
        _, units_out, units_in = layer.w.shape
        last = n == len(network.layers) - 1
        variance = glorot if last else activation.variance
        bound = sqrt(3 * variance(units_in, units_out))  # of a uniform distribution
        draws = [g.uniform(-bound, bound, (units_out, units_in)) for g in generators]
        layer.w.copy_(numbers_like(np.stack(draws), layer.w))


def forward(
    layers: Sequence[Layer], x: Tensor, activation: Activation
) -> tuple[list[Call], list[Tensor], Tensor]:
    """Return the calls of the forward pass, every layer's input, and the prediction z.

    ``x`` is (ib), one batch for all models, or (mib), a batch for each.
    """
    calls: list[Call] = []
    inputs: list[Tensor] = []
    for w, bias in layers:
        if inputs:
            calls += activation.value(x)
        inputs.append(x)
        equation = "moi,ib->mob" if x.ndim == 2 else "moi,mib->mob"
        z = w.new_empty(w.shape[0], w.shape[1], x.shape[-1])
        plus = None if bias is None else bias.unsqueeze(2)
        calls.append(contraction(equation, w, x, out=z, plus=plus))
        x = z
    return calls, inputs, z


def backward(
    dz: Tensor,
    inputs: Sequence[Tensor],
    layers: Sequence[Layer],
    gradients: Sequence[Layer],
    activation: Activation,
) -> list[Call]:
    """Return the calls that fill the gradients of all layers, given that of z (mob).

    ``dz`` is the gradient of a mean over the batch, so the sums over b are final here.
    """
    ones = dz.new_ones(dz.shape[2])  # a sum over b is a product: faster than torch.sum
    calls: list[Call] = []
    for n in reversed(range(len(layers))):
        x, (dw, dbias) = inputs[n], gradients[n]
        equation = "mob,ib->moi" if x.ndim == 2 else "mob,mib->moi"
        calls.append(contraction(equation, dz, x, out=dw))
        if dbias is not None:
            calls.append(contraction("mob,b->mo", dz, ones, out=dbias))
        if n > 0:  # the data need no gradient
            dx, derivative = torch.empty_like(x), torch.empty_like(x)
            calls.append(contraction("moi,mob->mib", layers[n].w, dz, out=dx))
            calls += activation.derivative(x, derivative)
            calls.append(partial(dx.mul_, derivative))
            dz = dx  # the input of layer n was the output of layer n - 1
    return calls


def raw_prediction(
    layers: Sequence[Layer], x: Tensor, activation: Activation
) -> Tensor:
    """Return the prediction z (mon) for all rows of x (ni), before the inverse link."""
    n_samples = x.shape[0]
    n_rows = n_samples if len(layers) == 1 else _ROWS_AT_ONCE
    parts = []
    for rows in torch.split(x, n_rows):
        calls, _, z = forward(layers, rows.mT, activation)
        for call in calls:
            call()
        parts.append(z)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
