"""What training leaves of one model, and goes on from: NumPy and Python values only.

An estimator keeps it in scikit-learn's attributes, ``coef_`` or ``coefs_``, ``t_`` and
``n_iter_``, and what these lack as ``_state_``, a dict. Here alone it is read from a
stack of models or an estimator, and written to either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from skgd._equations.network import Network, arrays
from skgd._estimators.targets import Targets
from skgd._estimators.weights import (
    Layers,
    coefficients,
    layers_of,
    trained_layers,
    write_arrays_,
    write_layers_,
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
    optimizer_state: dict[str, list[Array]]  # velocity, moments: for w and bias each
    # The weights whose mean predicts, if it does.
    in_training: list[Array] | None = None
    slowed: float = 1.0  # what an adaptive lr has been multiplied by
    optimizer_begun: int = 0  # steps taken before the optimizer began
    average_begun: int = 0  # likewise
    schedule_begun: int = 0  # epochs before the schedule was laid out
    split_seed: int | None = None  # of the rows held out
    stream: tuple[Any, ...] = ()  # what is remembered of the losses of a stream


# Of these, what scikit-learn's attributes hold.
_PUBLIC = ("layers", "t", "epochs")


def read_state(
    models: Models,
    slot: int,
    history: History,
    *,
    fit_intercept: bool,
    before: State | None = None,
    split_seed: int | None = None,
) -> State:
    """Return the state of the model in a slot of a stack, which went on from another.

    On the CPU, its arrays are those in training.
    """
    n_models, n_folds = len(models.parameters.layers[0].w), len(models.generators)
    averages = models.average is not None
    epochs, stream = 0, Stream()
    if before is not None:
        epochs, stream = before.epochs, Stream(*before.stream)
    for loss in history.loss:
        stream = stream.then(loss)
    return State(
        layers_of(models.predicting, slot),
        t=history.t[-1] if history.t else models.t,
        epochs=epochs + len(history.objective),
        generator=models.generators[slot * n_folds // n_models],
        fit_intercept=fit_intercept,
        optimizer_state={
            name: _arrays_of(network, slot)
            for name, network in models.optimizer_state.items()
        },
        in_training=_arrays_of(models.parameters, slot) if averages else None,
        slowed=1.0 if models.slowed is None else float(models.slowed[slot]),
        optimizer_begun=models.optimizer_begun,
        average_begun=models.average_begun,
        schedule_begun=models.schedule_begun,
        split_seed=split_seed,
        stream=tuple(stream),
    )


def _arrays_of(network: Network, slot: int) -> list[Array]:
    """Return the weights and biases of the model in a slot."""
    return [to_numpy(array[slot]) for array in arrays(network)]


def write_state_(models: Models, slot: int, state: State, fit_intercept: bool) -> None:
    """Write a state into a slot of a stack of zeros, or raise ValueError."""
    layers = state.layers
    sizes_of_state = (layers[0][0].shape[1], *(len(bias) for _, bias in layers))
    shapes = [w.shape for w, _ in models.parameters.layers]
    sizes = (shapes[0][2], *(shape[1] for shape in shapes))
    if sizes_of_state != sizes or state.fit_intercept != fit_intercept:
        msg = (
            f"Training goes on only with the layers it began with, of "
            f"{sizes_of_state} units and fit_intercept={state.fit_intercept}. Got "
            f"{sizes} and {fit_intercept}; to begin anew, call fit "
            "with warm_start=False."
        )
        raise ValueError(msg)
    # Those that have stopped are behind, and take no part in what follows.
    models.t, models.epochs = max(models.t, state.t), max(models.epochs, state.epochs)
    models.optimizer_begun = state.optimizer_begun
    models.schedule_begun = state.schedule_begun
    write_layers_(models.parameters, layers, slot)
    if models.average is not None:
        write_layers_(models.average, layers, slot)
        begun = state.t if state.in_training is None else state.average_begun
        models.average_begun = begun
    if state.in_training is not None:
        write_arrays_(models.parameters, state.in_training, slot)
    if models.slowed is not None:
        models.slowed[slot] = state.slowed
    if models.optimizer_state.keys() == state.optimizer_state.keys():
        for name, values in state.optimizer_state.items():
            write_arrays_(models.optimizer_state[name], values, slot)
    else:  # another optimizer, which begins now
        models.optimizer_begun = state.t


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
    if targets is None or not hasattr(estimator, "t_"):
        return None
    kept: Mapping[str, Any] = vars(estimator)["_state_"]
    return State(
        trained_layers(estimator, kept.get("last_layer"), targets.scale),
        estimator.t_,
        estimator.n_iter_,
        **{name: part for name, part in kept.items() if name != "last_layer"},
    )


def copy_of(estimator: Estimator) -> Estimator:
    """Return an estimator of the same parameters and state.

    The state is read at one moment, and written at another one: by ``fit`` and
    ``partial_fit``, which swap all of ``__dict__``.
    """
    copied = type(estimator).__new__(type(estimator))
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
