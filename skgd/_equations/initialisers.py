"""The weights that training begins with."""

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from skgd._equations.activations import Activation
from skgd._equations.network import Network
from skgd._machine.devices import numbers_like

# Draws the weights of a layer, (o, i), given its units in and out.
Initialiser = Callable[[np.random.Generator, int, int], npt.NDArray[np.float64]]
Variance = Callable[[int, int], float]


def glorot(units_in: int, units_out: int) -> float:
    """Glorot and Bengio (2010), eq. 12: keeps the scale of signals and of gradients."""
    return 2.0 / (units_in + units_out)


def he(units_in: int, units_out: int) -> float:
    """He et al. (2015), eq. 10: keeps it where half of the units are cut to zero."""
    return 2.0 / units_in


def lecun(units_in: int, units_out: int) -> float:
    """LeCun et al. (1998), section 4.6: keeps the scale of signals."""
    return 1.0 / units_in


def _uniform(variance: Variance) -> Initialiser:
    def draw(
        generator: np.random.Generator, units_in: int, units_out: int
    ) -> npt.NDArray[np.float64]:
        bound = sqrt(3 * variance(units_in, units_out))
        return generator.uniform(-bound, bound, (units_out, units_in))

    return draw


def _normal(variance: Variance) -> Initialiser:
    def draw(
        generator: np.random.Generator, units_in: int, units_out: int
    ) -> npt.NDArray[np.float64]:
        std = sqrt(variance(units_in, units_out))
        return generator.normal(0.0, std, (units_out, units_in))

    return draw


INITIALISERS: dict[str, Initialiser] = {
    "glorot_normal": _normal(glorot),
    "glorot_uniform": _uniform(glorot),
    "he_normal": _normal(he),
    "he_uniform": _uniform(he),
    "lecun_normal": _normal(lecun),
    "lecun_uniform": _uniform(lecun),
}


def initialise_(
    network: Network,
    activation: Activation,
    generators: Sequence[np.random.Generator],
    init: str = "auto",
) -> None:
    """Draw the weights of models with hidden layers; a linear model starts at zero.

    ``init`` names the initialiser of all layers; "auto" is the activation's own for
    hidden layers and Glorot's for the last. A generator serves all models of a fold
    alike. The draw is made in float64 and then cast, so every dtype starts from the
    same numbers.
    """
    if len(network.layers) == 1:
        return
    for n, layer in enumerate(network.layers):
        _, units_out, units_in = layer.w.shape
        last = n == len(network.layers) - 1
        suits = "glorot_uniform" if last else activation.init
        draw = INITIALISERS[suits if init == "auto" else init]
        draws = [draw(generator, units_in, units_out) for generator in generators]
        weights = numbers_like(np.stack(draws), layer.w)
        layer.w.copy_(weights.repeat_interleave(len(layer.w) // len(draws), 0))
