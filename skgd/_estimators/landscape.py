"""The objective of an estimator at other weights than its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skgd._equations.network import new_network
from skgd._estimators.examples import checked_examples, device_for, dtypes_of
from skgd._estimators.folds import Fold, data_of
from skgd._estimators.inputs import dtype_of
from skgd._estimators.parameters import check_parameters
from skgd._estimators.settings import per_model_of, shared_of
from skgd._estimators.targets import known_targets
from skgd._estimators.weights import layers_in_units_of_y, to_scale_, write_flat_
from skgd._machine.arrays import Array
from skgd._machine.devices import to_tensor
from skgd._machine.generators import new_generator
from skgd._training.objective import objectives

# Numbers of a layer that are computed at once for many weights.
_NUMBERS_AT_ONCE = 2**20


def objectives_at(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    *,
    origin: Array,
    directions: Array,
    coordinates: Array,
) -> Array:
    """Return the objectives over X and y at coordinates (k, d) in a space of weights.

    The weights are ``origin + coordinates @ directions``, in the order of
    ``flat_weights``. They are models of one stack, as many as fit a cache. The columns
    of X are noted on the estimator, which is a copy of the caller's.
    """
    check_is_fitted(estimator)
    check_parameters(estimator)
    layers, known = layers_in_units_of_y(estimator), known_targets(estimator)
    examples, targets = checked_examples(
        estimator,
        X,
        y,
        sample_weight,
        known=known,
        dtypes=dtypes_of(estimator, layers[0][0].dtype),
        first=False,
    )
    n_fitted = len(layers[-1][1])
    if targets.n_outputs != n_fitted:
        msg = f"y must hold {n_fitted} targets, as in fit. Got {targets.n_outputs}."
        raise ValueError(msg)
    device, values = device_for(estimator, examples.X), []
    with torch.inference_mode():
        generator = new_generator(0)  # no row is drawn
        fold = Fold(examples, targets, generator, [estimator])
        data, _ = data_of([fold], device)
        shared = shared_of(estimator, targets, max_iter=1, tol=None, verbose=False)
        sizes = [data.x.shape[1], *(len(bias) for _, bias in layers)]
        largest = max(data.n_samples * max(sizes[1:]), len(origin))
        at_once = max(1, _NUMBERS_AT_ONCE // largest)
        for first in range(0, len(coordinates), at_once):
            some = coordinates[first : first + at_once]
            weights = (origin + some @ directions).astype(dtype_of(examples.X))
            network = new_network(len(some), sizes, True, data.y)
            write_flat_(network, to_tensor(weights, device))
            if targets.scale is not None:
                to_scale_(network, targets.scale)
            per_model = per_model_of([estimator] * len(some))
            values.append(objectives(data, network, shared, per_model))
    return np.concatenate(values)
