"""What could be had without training, which losses are held against.

A model is judged by some rows, before training and after.
"""

import numpy as np

from skgd._equations.network import Network
from skgd._training.batches import Data, some_rows, weights_in_all
from skgd._training.constants import losses_of_constants
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.objective import bind_mean_loss
from skgd._training.stopping import Untrained

# Rows by whose loss it is judged, before and after, whether training has diverged: at
# the least and at the most, and with how many numbers.
_FEWEST_JUDGED, _MOST_JUDGED, _NUMBERS_JUDGED = 128, 1024, 2**18


def losses_untrained(
    data: Data, models: Models, shared: Shared, some: Data
) -> list[Untrained]:
    """Return what each model could have without training, by all rows and by some."""
    untrained = losses_of_constants_by_model(data, models, shared, some)
    if not _goes_on(models):
        return untrained
    initial = losses_over(some, models.parameters, shared)
    pairs = zip(untrained, initial, strict=True)
    return [one._replace(initial=loss) for one, loss in pairs]


def losses_of_constants_by_model(
    data: Data, models: Models, shared: Shared, some: Data | None = None
) -> list[Untrained]:
    """Return the losses of constants, for each model.

    Losses are those of all rows, or at the end of ``some``. A few rows may make most of
    either, so they are held against what is larger.
    """
    n_models, n_outputs, _ = models.parameters.layers[-1].w.shape
    losses = np.array(losses_of_constants(data, shared, n_outputs))
    if some is not None and some.n_in_all < data.n_in_all:
        losses = np.maximum(losses, losses_of_constants(some, shared, n_outputs))
    best, at_zero = (one.repeat(n_models // len(one)).tolist() for one in losses)
    return [Untrained(*pair) for pair in zip(best, at_zero, strict=True)]


def _goes_on(models: Models) -> bool:
    """Return whether training begins with weights that were trained, or given."""
    drawn = models.t == 0 and len(models.parameters.layers) > 1
    return not drawn and bool(models.parameters.flat.any())


def judged_rows(data: Data, network: Network) -> Data:
    """Return some rows of the data, far from each other: fewer of wide ones.

    How far is the same for all folds, so those of unlike length may be judged by a few
    rows more than alone.
    """
    n_outputs = network.layers[-1].w.shape[1]
    n_rows = _NUMBERS_JUDGED // max(data.x.shape[1], n_outputs)
    n_rows = max(_FEWEST_JUDGED, min(n_rows, _MOST_JUDGED))
    stride = max(1, data.n_in_all // n_rows)
    return some_rows(data, stride)


def losses_over(data: Data, network: Network, shared: Shared) -> list[float]:
    """Return every model's loss over the rows, as it counts in the objective, (m,)."""
    losses = bind_mean_loss(data, network, shared)().sum(1)
    if data.weight is not None:
        in_all, in_rows = map(weights_in_all, (data, data._replace(weight=None)))
        mean_weights = np.divide(in_all, in_rows)
        losses *= mean_weights.repeat(len(losses) // len(mean_weights))
    as_list: list[float] = losses.tolist()
    return as_list
