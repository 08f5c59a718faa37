"""The parameters of an estimator, as the engine takes them."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from skgd._equations.optimizers import PerModel
from skgd._estimators.parameters import hidden_units
from skgd._estimators.targets import Targets, numbers_of_loss
from skgd._training.hyperparameters import PER_MODEL, Shared

# What models share that is no parameter as it stands; the others are.
_WORKED_OUT = {
    *("loss", "max_iter", "tol", "verbose", "delta", "quantile", "power", "average"),
    *("horizon", "threads"),
}
_AS_THEY_ARE = [name for name in Shared._fields if name not in _WORKED_OUT]
_as_they_are = attrgetter(*_AS_THEY_ARE)

# Numbers of a model that are parameters as they stand: "lr" may be "auto".
_BUT_LR = [name for name in PER_MODEL if name != "lr"]
_but_lr = attrgetter(*_BUT_LR)


def hyperparameter(settings: Any, name: str) -> float:
    """Return a hyperparameter of ``PER_MODEL``, also where it is "auto".

    The minimum of a linear model is the same after longer steps, and reached
    sooner; a network ends elsewhere. Plain descent diverges on long ones.
    """
    value = getattr(settings, name)
    if name == "lr" and isinstance(value, str):  # "auto"
        linear = not hidden_units(settings)
        return 0.05 if linear and settings.optimizer != "sgd" else 0.01
    return float(value)


def per_model_of(estimators: Sequence[Any]) -> PerModel:
    """Return the hyperparameters of the models of some estimators, each (m,)."""
    rows = [[hyperparameter(one, "lr"), *_but_lr(one)] for one in estimators]
    columns = np.ascontiguousarray(np.array(rows, np.float64).T)
    return dict(zip(("lr", *_BUT_LR), columns, strict=True))


def shared_of(
    settings: Any, targets: Targets, *, max_iter: int, tol: float | None, verbose: bool
) -> Shared:
    """Return the hyperparameters that models trained together have in common."""
    delta, quantile, power = numbers_of_loss(settings, targets)
    return Shared(
        **dict(zip(_AS_THEY_ARE, _as_they_are(settings), strict=True)),
        loss=targets.loss_entry(settings.loss),
        max_iter=max_iter,
        tol=tol,
        verbose=verbose,
        delta=delta,
        quantile=quantile,
        power=power,
        average=int(settings.average),
        horizon=settings.max_iter,
    )
