"""Predictions of networks, for rows of any kind; and those that a model knows.

A search, and a score of held-out rows, predict for many models at once, and then ask
each of them as scikit-learn's scorers do: by its method, with the rows. So a model may
be given predictions that it knows, and finds them again by the identity of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from torch import Tensor

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.network import Layer, Network, raw_prediction
from skgd._estimators.examples import device_for
from skgd._estimators.inputs import Matrix, checked_rows, to_device
from skgd._estimators.members import members_of
from skgd._estimators.weights import layers_in_units_of_y
from skgd._machine.arrays import Array
from skgd._machine.devices import to_tensor
from skgd._training.csr import csr, first_output

# Numbers of the widest layer that are computed at once, and the rows that it has at a
# time.
_NUMBERS_AT_ONCE, _ROWS_OF_A_LAYER = 2**22, 4096

# The attribute of a model that holds what it knows.
_KNOWN = "_predicted_"


def raw_predictions(
    settings: Any, layers: Sequence[Layer], X: Matrix, device: torch.device
) -> Tensor:
    """Return the predictions of several models before the inverse link, (m, o, n)."""
    activation = ACTIVATIONS[settings.activation](settings.negative_slope)
    if not issparse(X):
        return raw_prediction(layers, to_device(X, device), activation)
    return raw_prediction(
        layers,
        X,
        activation,
        lambda rows: first_output(csr(rows, device), *layers[0]),
    )


def raw_predictions_of(estimator: Any, X: ArrayLike) -> Tensor:
    """Return the raw predictions of all models of a fitted estimator, (m, o, n)."""
    of_models = [layers_in_units_of_y(one) for one in members_of(estimator)]
    rows = checked_rows(estimator, X, [of_models[0][0][0].dtype])
    device = device_for(estimator, rows)
    with torch.inference_mode():
        layers = [
            _stacked(of_layer, device) for of_layer in zip(*of_models, strict=True)
        ]
        return raw_predictions(estimator, layers, rows, device)


def _stacked(of_models: Sequence[tuple[Array, Array]], device: torch.device) -> Layer:
    """Return a layer of several models, w (m, o, i) and bias (m, o)."""
    if len(of_models) == 1:
        [(w, bias)] = of_models
        return Layer(to_tensor(w, device)[None], to_tensor(bias, device)[None])
    w, bias = (np.stack(arrays) for arrays in zip(*of_models, strict=True))
    return Layer(to_tensor(w, device), to_tensor(bias, device))


def layers_at(network: Network, slots: Sequence[int]) -> list[Layer]:
    """Return the layers of the models in some slots, or as they are if in all."""
    if len(slots) == len(network.layers[0].w):
        return network.layers
    return [
        Layer(w[slots], None if bias is None else bias[slots])
        for w, bias in network.layers
    ]


def models_at_once(network: Network, n_rows: int) -> int:
    """Return of how many models predictions for so many rows are computed at once."""
    n_outputs = network.layers[-1].w.shape[1]
    widest = max(w.shape[1] for w, _ in network.layers)
    n_numbers = max(n_outputs * n_rows, widest * min(n_rows, _ROWS_OF_A_LAYER))
    return max(1, _NUMBERS_AT_ONCE // n_numbers)


def let_know_(model: Any, known: Sequence[tuple[ArrayLike, Tensor]]) -> None:
    """Let a model know its predictions for some rows, (1, o, n) each."""
    vars(model)[_KNOWN] = known


def let_forget_(model: Any) -> None:
    """Let a model predict by itself again."""
    vars(model).pop(_KNOWN, None)


def known_prediction(model: Any, X: ArrayLike) -> Tensor | None:
    """Return the raw prediction for these rows, if the model knows it, (1, o, n)."""
    known: Sequence[tuple[ArrayLike, Tensor]] = vars(model).get(_KNOWN, ())
    return next((z for rows, z in known if rows is X), None)
