"""Classes that become more between two calls of a stream: the outputs for them.

A new output is as one that has been there all along, with weights of zero, and has
never had a gradient. The other outputs, and all hidden layers, are what they were; so
nothing changes between the classes known before:

- Of three classes or more, and of several labels a row, each keeps its output.
- Two classes share an output z. Where each of many is learned against the rest, z
  becomes the output of the second class, and -z that of the first. With log_loss these
  are z/2 and -z/2, for their softmax is the sigmoid of z. In both cases the gradients
  were g in the one and -g in the other, where g is that in z; so what the optimizer
  carries is known as well.

A mean of the weights begins anew, lest a new output be held back by all its zeros; up
to the next step, what predicts is the mean as it was.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from skgd._equations.optimizers import OF_SQUARES
from skgd._estimators.state import State, layout_of
from skgd._estimators.targets import Classes, Targets
from skgd._estimators.weights import Layers, layers_in, vector_of
from skgd._machine.arrays import Array


class _Outputs(NamedTuple):
    """Where the outputs for known classes are among those of now, and what they are."""

    n_outputs: int
    places: Array  # (c,) of the outputs for c known classes
    factors: ArrayLike  # (c,), of their weights: what those of before, (o,), count
    signs: ArrayLike  # (c,), of their gradients, likewise


def grown_state(state: State, loss: str, before: Targets | None, now: Targets) -> State:
    """Return a state with outputs for all classes of now, or itself if it has them."""
    if not isinstance(now, Classes) or not isinstance(before, Classes):
        return state
    if len(now.labels) == len(before.labels):
        return state
    outputs = _outputs(loss, before, now)
    layout = layout_of(state)

    def grown_vector(vector: Array, factors: ArrayLike) -> Array:
        layers = _grown(layers_in(vector, layout), outputs, factors)
        sizes = (*layout.sizes[:-1], outputs.n_outputs)
        return vector_of(layers, layout._replace(sizes=sizes), vector.dtype)

    optimizer_state = {
        name: grown_vector(
            vector,
            np.abs(outputs.signs) if name in OF_SQUARES else outputs.signs,
        )
        for name, vector in state.optimizer_state.items()
    }
    grown = state._replace(
        layers=_grown(state.layers, outputs, outputs.factors),
        optimizer_state=optimizer_state,
    )
    if state.in_training is None:
        return grown
    in_training = grown_vector(state.in_training, outputs.factors)
    return grown._replace(in_training=in_training, average_begun=state.t)


def _outputs(loss: str, before: Classes, now: Classes) -> _Outputs:
    """Return what becomes of the outputs."""
    places = np.searchsorted(now.labels, before.labels)
    if before.n_outputs == len(before.labels):
        return _Outputs(now.n_outputs, places, 1, 1)
    share = 0.5 if loss == "log_loss" else 1.0
    return _Outputs(now.n_outputs, places, np.array([-share, share]), np.array([-1, 1]))


def _grown(layers: Layers, outputs: _Outputs, factors: ArrayLike) -> Layers:
    """Return layers of which the last one has outputs for all classes."""
    *hidden, (w, bias) = layers
    grown_w = np.zeros((outputs.n_outputs, w.shape[1]), w.dtype)
    grown_bias = np.zeros(outputs.n_outputs, bias.dtype)
    grown_w[outputs.places] = (w.T * factors).T
    grown_bias[outputs.places] = bias * factors
    return [*hidden, (grown_w, grown_bias)]
