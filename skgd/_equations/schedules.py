"""Schedules: the learning rate as a function of the step.

Steps t are counted from 1. The rates of many steps are worked out at once on the host,
in float64, for all models: a schedule is shared, the ``lr`` and ``alpha`` that it
starts from are each model's own. "cosine" and "one_cycle" are laid out over
``total_steps``, from a step that need not be the first one of all; the last rate stays
for what comes after.

"adaptive" is constant here: when it divides by 5 depends on how training goes, which
``loop`` alone knows. What "one_cycle" does to the momentum in its paper, and in
torch, was left out: a schedule moves the learning rate and nothing else.

References
----------
"optimal": Bottou (2012), section 5.2, with the start that scikit-learn gives it.
"cosine": Loshchilov and Hutter (2017), equation 5, without restarts.
"one_cycle": Smith and Topin (2019), in the form of torch.optim.lr_scheduler.OneCycleLR.
Warm-up: Goyal et al. (2017), section 2.2.
"""

import sys
from collections.abc import Callable, Mapping
from math import inf
from numbers import Real
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skgd._machine.arrays import Floats
from skgd._machine.errors import errors_of_caller

Steps = npt.NDArray[np.int64]  # the numbers t of some steps, from 1

# Of torch's OneCycleLR: the share of the steps that rise, what divides the rate at the
# start, and what divides that one at the end.
_PCT_START, _DIV_FACTOR, _FINAL_DIV_FACTOR = 0.3, 25, 1e4


class Schedule(NamedTuple):
    """How the learning rate changes from step to step."""

    kind: str | Callable[[int], float]  # of the table below, or a factor by the step
    power_t: float  # of "invscaling"
    decay: float  # of "step"
    decay_every: int  # epochs
    warmup_steps: int
    epoch_steps: int  # in an epoch
    total_steps: int  # in all
    # Of a step's place from t, if earlier epochs were not as long.
    place_offset: int = 0


# Those that are laid out over a number of epochs, and all that go by epochs: a step has
# the place that it would have if all epochs had had as many steps.
LAID_OUT = ("cosine", "one_cycle")
_CONSTANT = ("constant", "adaptive")  # "adaptive" is divided elsewhere
_BY_EPOCHS = (*LAID_OUT, "step")


def constant(t: Floats, lr: Floats, alpha: Floats, schedule: Schedule) -> Floats:
    """Return lr."""
    return lr[np.newaxis]


def invscaling(t: Floats, lr: Floats, alpha: Floats, schedule: Schedule) -> Floats:
    """Return lr / t^power_t."""
    return lr / t**schedule.power_t


def optimal(t: Floats, lr: Floats, alpha: Floats, schedule: Schedule) -> Floats:
    """Return 1 / (alpha (t_0 + t - 1)), t_0 being 1 / (alpha typical weight).

    So the first rate is the size of a typical weight, alpha^(-1/4) by scikit-learn's
    heuristic. That would divide it by the derivative of the loss, for a target of 1 at
    minus a typical weight, if this were above 1; no loss has it above 0. (Of a linear
    model of numbers, alpha is that on the scale of the targets: see ``target_scale``.)
    """
    typical_weight = alpha ** (-1 / 4)
    return 1 / (alpha * (1 / (alpha * typical_weight) + t - 1))


def cosine(t: Floats, lr: Floats, alpha: Floats, schedule: Schedule) -> Floats:
    """Return lr (1 + cos(pi (t - 1) / total)) / 2."""
    done = np.minimum(t, schedule.total_steps) - 1
    return lr * _fall(done / schedule.total_steps)


def one_cycle(t: Floats, lr: Floats, alpha: Floats, schedule: Schedule) -> Floats:
    """Return half a cosine from lr / 25 up to lr, then one down to lr / 250000."""
    total = schedule.total_steps
    done, top = np.minimum(t, total) - 1, _PCT_START * total - 1
    low, lowest = lr / _DIV_FACTOR, lr / _DIV_FACTOR / _FINAL_DIV_FACTOR
    rising = lr + (low - lr) * _fall(done / top)
    falling = lowest + (lr - lowest) * _fall((done - top) / (total - 1 - top))
    return np.where(done <= top, rising, falling)


def step_decay(t: Floats, lr: Floats, alpha: Floats, schedule: Schedule) -> Floats:
    """Return lr decay^(epoch // decay_every), of epochs counted from 0."""
    epoch = (t - 1) // schedule.epoch_steps
    return lr * schedule.decay ** (epoch // schedule.decay_every)


def _fall(progress: Floats) -> Floats:
    """Return half a cosine, from 1 to 0 as the progress goes from 0 to 1."""
    return (1 + np.cos(np.pi * progress)) / 2


SCHEDULES: Mapping[str, Callable[[Floats, Floats, Floats, Schedule], Floats]] = {
    "constant": constant,
    "adaptive": constant,
    "invscaling": invscaling,
    "optimal": optimal,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "step": step_decay,
}


def learning_rates(
    schedule: Schedule, per_model: Mapping[str, Floats], steps: Steps
) -> Floats:
    """Return the learning rates of the steps: (steps, m), or (1, m) if all are alike.

    A schedule with a warm-up is not constant, even after it.
    """
    lr = per_model["lr"]
    if schedule.kind in _CONSTANT and not schedule.warmup_steps:
        return lr[np.newaxis]
    t = steps[:, np.newaxis].astype(float)
    if callable(schedule.kind):
        rates = lr * _factors(schedule.kind, steps)
    else:
        place = t + schedule.place_offset if schedule.kind in _BY_EPOCHS else t
        rates = SCHEDULES[schedule.kind](place, lr, per_model["alpha"], schedule)
    if schedule.warmup_steps:
        rates = rates * np.minimum(1, t / schedule.warmup_steps)
    return rates


@errors_of_caller()
def _factors(function: Callable[[int], float], steps: Steps) -> Floats:
    """Return what the function gives for each step, (steps, 1)."""
    factors = [function(t) for t in steps.tolist()]
    for t, factor in zip(steps, factors, strict=True):
        if not (
            isinstance(factor, Real)
            and 0 <= factor < inf
            and int(factor) <= sys.float_info.max  # ints may be larger than any float
        ):
            msg = (
                "lr_schedule must return a finite number of 0 or more, by which lr is "
                f"multiplied. Got {factor!r} for step {t}."
            )
            raise ValueError(msg)
    return np.array(factors, float)[:, np.newaxis]
