"""What training leaves of one model, and goes on from: NumPy and Python values only.

An estimator keeps it in scikit-learn's attributes, ``coef_`` or ``coefs_``, ``t_`` and
``n_iter_``, and what these lack as ``_state_``, a dict. Here alone it is read from a
stack of models or an estimator, and written to either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from skgd._equations.network import Layout, Network, alone, new_like
from skgd._estimators.targets import Targets, known_targets
from skgd._estimators.weights import (
    Layers,
    coefficients,
    layers_in,
    layers_of,
    trained_layers,
    vector_of,
)
from skgd._machine.arrays import Array
from skgd._machine.devices import to_numpy
from skgd._training.models import Models
from skgd._training.stopping import History, Stream
from skgd._training.target_scale import TargetScale, is_same, layer_of_y, layer_on_scale

Estimator = TypeVar("Estimator")


class State(NamedTuple):
    """What training leaves of one model."""

    layers: Layers  # that predict, on the scale of training
    t: int  # steps taken
    epochs: int
    generator: np.random.Generator
    fit_intercept: bool
    # Velocity, moments: each a vector that lies as the model's own, see ``layout_of``.
    optimizer_state: dict[str, Array]
    in_training: Array | None = None  # the vector whose mean predicts, if it does
    slowed: float = 1.0  # what an adaptive lr has been multiplied by
    optimizer_begun: int = 0  # steps taken before the optimizer began
    average_begun: int = 0  # likewise
    schedule_begun: int = 0  # epochs before the schedule was laid out
    split_seed: int | None = None  # of the rows held out
    stream: tuple[Any, ...] = ()  # what is remembered of the losses of a stream
    columns_first: bool = False  # how the first weights lie in these vectors


# Of these, what scikit-learn's attributes hold.
_PUBLIC = ("layers", "t", "epochs")


def read_state(
    models: Models,
    slot: int,
    history: History,
    *,
    before: State | None = None,
    split_seed: int | None = None,
) -> State:
    """Return the state of the model in a slot of a stack, which went on from another.

    On the CPU, its arrays are those in training.
    """
    layout = models.parameters.layout
    epochs, stream = 0, Stream()
    if before is not None:
        epochs, stream = before.epochs, Stream(*before.stream)
    in_training = None
    if models.average is not None:
        in_training = _vector_in(models.parameters, slot)
    return State(
        layers_of(models.predicting, slot),
        t=history.t[-1] if history.t else models.t,
        epochs=epochs + len(history.objective),
        generator=models.generators[slot * len(models.generators) // layout.n_models],
        fit_intercept=layout.fit_intercept,
        optimizer_state={
            name: _vector_in(network, slot)
            for name, network in models.optimizer_state.items()
        },
        in_training=in_training,
        slowed=1.0 if models.slowed is None else float(models.slowed[slot]),
        optimizer_begun=models.optimizer_begun,
        average_begun=models.average_begun,
        schedule_begun=models.schedule_begun,
        split_seed=split_seed,
        stream=tuple(stream.after(history.loss)),
        columns_first=layout.columns_first,
    )


def _vector_in(network: Network, slot: int) -> Array:
    """Return the vector of the model in a slot."""
    return to_numpy(alone(network, slot).flat)


def layout_of(state: State) -> Layout:
    """Return how the vectors of a state lie."""
    layers = state.layers
    sizes = (layers[0][0].shape[1], *(len(bias) for _, bias in layers))
    return Layout(1, sizes, state.fit_intercept, state.columns_first)


def model_of(
    state: State,
    layout: Layout,
    state_names: Sequence[str],
    generator: np.random.Generator,
    dtype: Any,
    device: torch.device,
    *,
    averages: bool,
    adapts: bool,
) -> Models:
    """Return a copy of the model of a state, to be trained on, or raise ValueError.

    Another optimizer than before, which keeps ``state_names``, begins now; so does a
    mean of the weights if there was none.
    """
    before = layout_of(state)
    _check_layers(before, layout)

    def network(vector: Array) -> Network:
        """Return a copy of a vector of the state as a network."""
        if before != layout:
            copied = vector_of(layers_in(vector, before), layout, dtype)
        else:
            copied = np.array(vector, dtype)
        return Network(torch.from_numpy(copied).to(device), layout)

    weights = torch.from_numpy(vector_of(state.layers, layout, dtype))
    parameters = predicting = Network(weights.to(device), layout)
    average_begun = 0
    if state.in_training is not None:
        parameters, average_begun = network(state.in_training), state.average_begun
    elif averages:
        predicting = Network(parameters.flat.clone(), layout)
        average_begun = state.t
    goes_on = tuple(state.optimizer_state) == tuple(state_names)
    return Models(
        parameters,
        optimizer_state={
            name: network(state.optimizer_state[name])
            if goes_on
            else new_like(parameters)
            for name in state_names
        },
        generators=[generator],
        t=state.t,
        epochs=state.epochs,
        optimizer_begun=state.optimizer_begun if goes_on else state.t,
        average=predicting if averages else None,
        average_begun=average_begun if averages else 0,
        slowed=np.array([state.slowed]) if adapts else None,
        schedule_begun=state.schedule_begun,
    )


def _check_layers(before: Layout, layout: Layout) -> None:
    """Refuse to go on with other layers."""
    if (before.sizes, before.fit_intercept) == (layout.sizes, layout.fit_intercept):
        return
    msg = (
        f"Training goes on only with the layers it began with, of {before.sizes} units "
        f"and fit_intercept={before.fit_intercept}. Got {layout.sizes} and "
        f"{layout.fit_intercept}; to begin anew, call fit with warm_start=False."
    )
    raise ValueError(msg)


def state_on_scale(state: State, before: TargetScale, scale: TargetScale) -> State:
    """Return a state on a scale of the targets, if that is another than ``before``.

    Gradients are of another size there: the optimizer and the mean begin anew.
    """
    if is_same(before, scale):
        return state
    last = layer_on_scale(layer_of_y(state.layers[-1], before), scale)
    layers = [*state.layers[:-1], last]
    return state._replace(
        layers=layers, optimizer_state={}, in_training=None, stream=()
    )


def attributes_of_state(state: State, targets: Targets) -> dict[str, Any]:
    """Return the attributes by which an estimator keeps it, but for how far it is."""
    kept = {name: part for name, part in state._asdict().items() if name not in _PUBLIC}
    kept["last_layer"] = None if targets.scale is None else state.layers[-1]
    return {**coefficients(state.layers, targets), "_state_": kept}


def known_state(estimator: Any, targets: Targets | None) -> State | None:
    """Return the state that an estimator keeps, None if it is not fitted."""
    kept: Mapping[str, Any] | None = vars(estimator).get("_state_")
    if targets is None or kept is None:
        return None
    return State(
        trained_layers(estimator, kept.get("last_layer"), targets.scale),
        estimator.t_,
        estimator.n_iter_,
        **{name: part for name, part in kept.items() if name != "last_layer"},
    )


def renewed_(estimator: Any) -> None:
    """Let the state of an older version, which kept lists of arrays, be of vectors."""
    state = known_state(estimator, known_targets(estimator))
    if state is None or not _has_lists(state):
        return
    layout = layout_of(state)

    def vector(arrays: Any) -> Array:
        """Return the vector of weights and biases, layer by layer."""
        biases = arrays[1::2] if state.fit_intercept else repeat(0.0)
        weights = arrays[::2] if state.fit_intercept else arrays
        layers = list(zip(weights, biases, strict=False))
        return vector_of(layers, layout, weights[0].dtype)

    optimizer_state = {n: vector(one) for n, one in state.optimizer_state.items()}
    vars(estimator)["_state_"] = {
        **vars(estimator)["_state_"],
        "optimizer_state": optimizer_state,
        "in_training": state.in_training and vector(state.in_training),
    }


def _has_lists(state: State) -> bool:
    kept = [state.in_training, *state.optimizer_state.values()]
    return any(isinstance(one, list) for one in kept)


def copy_of(estimator: Estimator) -> Estimator:
    """Return an estimator of the same parameters and state.

    The state is read at one moment, and written at another one: by ``fit`` and
    ``partial_fit``, which swap all of ``__dict__``.
    """
    copied = object.__new__(type(estimator))
    vars(copied).update(vars(estimator))
    return copied


def unfitted(estimator: Estimator) -> Estimator:
    """Return an estimator of the same parameters; all of a state ends in "_"."""
    copied = copy_of(estimator)
    forget_(copied)
    return copied


def forget_(estimator: Any) -> None:
    """Drop the fitted state."""
    for name in [name for name in vars(estimator) if name.endswith("_")]:
        delattr(estimator, name)
