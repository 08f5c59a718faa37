"""What models trained together have in common, and what each has for itself."""

from collections.abc import Callable
from typing import NamedTuple

from skgd._equations.losses import Quantile


class Shared(NamedTuple):
    """Hyperparameters that all models trained together have in common."""

    loss: str
    activation: str
    negative_slope: float
    optimizer: str
    nesterov: bool
    batch_size: int | None
    last_batch: str
    shuffle: bool
    max_iter: int
    tol: float | None
    n_iter_no_change: int
    record_batch_loss: bool
    verbose: bool
    dropout: float = 0.0
    delta: float = 0.1
    quantile: Quantile = 0.5  # or one for each output
    power: float = 1.5
    max_grad_norm: float | None = None
    average: int = 0  # the step from which weights are averaged; 0 is never
    lr_schedule: str | Callable[[int], float] = "constant"
    power_t: float = 0.5
    decay: float = 0.1
    decay_every: int = 30
    warmup_steps: int = 0
    horizon: int = 1  # epochs that a schedule is laid out for
    engine: str = "torch"  # who takes the steps, an entry of ``epochs.TAKERS``
    threads: int = 1  # on which models that take their steps in turn may take them

    @property
    def adaptive(self) -> bool:
        """Whether a model that has settled goes on at a smaller learning rate."""
        return self.lr_schedule == "adaptive"


# Hyperparameters that may differ between models trained together.
PER_MODEL = ("lr", "momentum", "beta_1", "beta_2", "epsilon", "alpha", "l1_ratio")
