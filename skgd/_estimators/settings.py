"""The parameters of an estimator, as the engine takes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skgd._equations.optimizers import PerModel
from skgd._estimators.targets import Targets, numbers_of_loss
from skgd._training.hyperparameters import PER_MODEL, Shared


def hyperparameter(settings: Any, name: str) -> float:
    """Return a hyperparameter of ``PER_MODEL``.

    The minimum of a linear model is the same after longer steps, and reached
    sooner; a network ends elsewhere. Plain descent diverges on long ones.
    """
    value = getattr(settings, name)
    if name == "lr" and isinstance(value, str):  # "auto"
        linear = np.size(settings.hidden_layer_sizes) == 0
        return 0.05 if linear and settings.optimizer != "sgd" else 0.01
    return float(value)


def per_model_of(estimators: Sequence[Any]) -> PerModel:
    """Return the hyperparameters of the models of some estimators, each (m,)."""
    return {
        name: np.array([hyperparameter(one, name) for one in estimators])
        for name in PER_MODEL
    }


def shared_of(
    settings: Any, targets: Targets, *, max_iter: int, tol: float | None, verbose: bool
) -> Shared:
    """Return the hyperparameters that models trained together have in common."""
    delta, quantile = numbers_of_loss(settings)
    return Shared(
        loss=targets.loss_entry(settings.loss),
        activation=settings.activation,
        negative_slope=settings.negative_slope,
        optimizer=settings.optimizer,
        nesterov=settings.nesterov,
        batch_size=settings.batch_size,
        last_batch=settings.last_batch,
        shuffle=settings.shuffle,
        max_iter=max_iter,
        tol=tol,
        n_iter_no_change=settings.n_iter_no_change,
        record_batch_loss=settings.record_batch_loss,
        verbose=verbose,
        dropout=settings.dropout,
        delta=delta,
        quantile=quantile,
        max_grad_norm=settings.max_grad_norm,
        average=int(settings.average),
        lr_schedule=settings.lr_schedule,
        power_t=settings.power_t,
        decay=settings.decay,
        decay_every=settings.decay_every,
        warmup_steps=settings.warmup_steps,
        horizon=settings.max_iter,
    )
