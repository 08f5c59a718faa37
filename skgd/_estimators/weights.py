"""Weights in scikit-learn's shapes, and how they get into the engine's network.

A linear model has ``coef_``, (o, i) or (i,), and ``intercept_``; a network has
``coefs_``, (i, o) for every layer, and ``intercepts_``. The engine's w is (m, o, i).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from skgd._equations.network import Layout, Network, alone, segments
from skgd._estimators.checks import check_initial, check_layers
from skgd._estimators.targets import Targets
from skgd._machine.arrays import Array
from skgd._machine.devices import CPU, numbers_like, to_numpy, to_tensor
from skgd._training.target_scale import (
    LastLayer,
    TargetScale,
    layer_of_y,
    layer_on_scale,
    link_of,
)

Layers = list[tuple[Array, Array]]  # w (o, i) and bias (o,) of each


def layers_in_units_of_y(estimator: Any) -> Layers:
    """Return the fitted weights (o, i) and biases (o,) of every layer."""
    if hasattr(estimator, "coef_"):
        return [(np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_))]
    pairs = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    return [(coef.T, intercept) for coef, intercept in pairs]


def trained_layers(
    estimator: Any, last: LastLayer | None, scale: TargetScale | None
) -> Layers:
    """Return the fitted weights and biases of every layer as they were trained.

    ``last`` is what training left of the last one on its scale. If the caller has set
    other weights since, it is they.
    """
    layers = layers_in_units_of_y(estimator)
    if scale is None or last is None:
        return layers
    if not all(map(np.array_equal, layer_of_y(last, scale), layers[-1])):
        last = layer_on_scale(layers[-1], scale)
    return [*layers[:-1], last]


def coefficients(layers: Layers, targets: Targets) -> dict[str, Any]:
    """Return layers as they were trained in scikit-learn's shapes and units of y."""
    if targets.scale is not None:
        layers = [*layers[:-1], layer_of_y(layers[-1], targets.scale)]
    if len(layers) == 1:
        [(w, bias)] = layers
        return {"coef_": targets.coef(w), "intercept_": bias}
    weights, biases = zip(*layers, strict=True)
    return {"coefs_": [w.T for w in weights], "intercepts_": list(biases)}


def layers_in(vector: Array, layout: Layout) -> Layers:
    """Return the weights (o, i) and biases (o,) of a model, as views of its vector.

    Biases that it does without are 0.
    """
    weights, biases, _, _ = segments(layout)
    layers = []
    for n, (segment, o) in enumerate(zip(weights, layout.sizes[1:], strict=True)):
        w = vector[segment.start : segment.stop]
        by_column = layout.columns_first and n == 0
        w = w.reshape(-1, o).T if by_column else w.reshape(o, -1)
        if biases:
            bias = vector[biases[n].start : biases[n].stop]
        else:
            bias = np.zeros(o, vector.dtype)
        layers.append((w, bias))
    return layers


def vector_of(layers: Layers, layout: Layout, dtype: Any) -> Array:
    """Return the layers of a model as a vector that lies so."""
    vector = np.zeros(segments(layout).length, dtype)
    for own, values in zip(layers_in(vector, layout), layers, strict=True):
        own[0][...], own[1][...] = values  # the latter of no use without intercepts
    return vector


def layers_of(network: Network, slot: int) -> Layers:
    """Return the layers of the model in a slot; on the CPU, of one, those in training.

    Biases that it does without are 0.
    """
    one = alone(network, slot)
    return layers_in(to_numpy(one.flat), one.layout)


def flat_weights(estimator: Any) -> Array:
    """Return all weights of a fitted estimator as one vector.

    First ``coef_`` or every one of ``coefs_``, then ``intercept_`` or ``intercepts_``,
    each row by row as scikit-learn shapes it.
    """
    if hasattr(estimator, "coef_"):
        parts = [estimator.coef_, estimator.intercept_]
    else:
        parts = [*estimator.coefs_, *estimator.intercepts_]
    return np.concatenate([np.ravel(part) for part in parts])


def write_flat_(network: Network, weights: Tensor) -> None:
    """Write rows of weights, (m, all of a model), each in the order of flat_weights."""
    linear = len(network.layers) == 1
    # scikit-learn's coefs_ are (in, out), its coef_ is (out, in)
    coefs = [w if linear else w.mT for w, _ in network.layers]
    biases = [bias for _, bias in network.layers if bias is not None]
    targets = [*coefs, *biases]
    lengths = [target[0].numel() for target in targets]
    for target, values in zip(
        targets, weights.split_with_sizes(lengths, dim=1), strict=True
    ):
        target.copy_(values.reshape(target.shape))


def to_scale_(network: Network, scale: TargetScale) -> None:
    """Bring the last layers of models in the units of y to the scale of training."""
    w, bias = network.layers[-1]
    offset, factor = (numbers_like(part, w) for part in link_of(scale))
    w.div_(factor.unsqueeze(1))
    if bias is not None:
        bias.sub_(offset).div_(factor)


def write_initial_(
    network: Network,
    initial: Mapping[str, Any],
    scales: Sequence[TargetScale | None],
) -> None:
    """Write the starting weights that ``fit`` was given into all models of the network.

    They are in the units of y, and the last layers are trained on ``scales``.
    """
    n_layers = len(network.layers)
    linear = n_layers == 1
    dtype = to_numpy(network.flat[:0]).dtype
    for name, given in initial.items():
        if given is None:
            continue
        if linear is name.endswith("s_init"):
            kinds = ["a linear model", "a network"]
            right = name.removesuffix("s_init" if linear else "_init")
            msg = (
                f"{name} must start {kinds[linear]}. Got {kinds[not linear]}, the "
                f"other kind; use {right + ('_init' if linear else 's_init')}."
            )
            raise ValueError(msg)
        values = [given] if linear else check_layers(name, given, n_layers)
        for n, ((w, bias), value) in enumerate(
            zip(network.layers, values, strict=True)
        ):
            # scikit-learn's coefs_ are (in, out), its coef_ is (out, in)
            weights = w if linear else w.mT
            array = bias if name.startswith("intercept") else weights
            if array is None:
                msg = f"{name} was given, but fit_intercept=False leaves it out."
                raise ValueError(msg)
            checked = check_initial(name, value, tuple(array[0].shape), dtype)
            for one, scale in zip(array, scales, strict=True):
                own = checked
                if scale is not None and n == n_layers - 1:
                    own = _on_scale(name, checked, linear, scale)
                one.copy_(to_tensor(own, CPU))


def _on_scale(name: str, initial: Array, linear: bool, scale: TargetScale) -> Array:
    """Return weights or biases of a last layer as training sees them."""
    offset, factor = link_of(scale)
    if name.startswith("intercept"):
        on_scale: Array = (initial - offset) / factor
    else:  # scikit-learn's coef_ is (out, in), its coefs_ are (in, out)
        on_scale = initial / (factor[:, np.newaxis] if linear else factor)
    return on_scale.astype(initial.dtype, copy=False)
