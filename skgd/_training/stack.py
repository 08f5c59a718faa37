"""The models still in training, in the slots of a stack.

A stack is bound to its arrays once, and never changes its models: where enough of them
have stopped, a smaller one takes its place. Models that see the same rows in the same
order are a fold (see ``batches``), and all folds of a stack have as many models, so one
that has stopped may stay in it to fill up its fold.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from skgd._equations.network import Network
from skgd._equations.optimizers import PerModel
from skgd._training.batches import Data, select_folds
from skgd._training.models import Models, Slots, select_models, write_models_
from skgd._training.stopping import History

# A stack becomes a smaller one where it can shrink to this share of its models.
_WORTH_SHRINKING = 0.75

# Returns the score of a network's models in some slots, the higher the better; it is
# told their slots, and their numbers among all models.
Score = Callable[[Network, Slots, Sequence[int]], list[float]]


class Validation(NamedTuple):
    """Held-out rows, and what is made of them."""

    data: Data
    score: Score | None
    stops: bool  # whether training stops, and returns to the best weights, by them


class Stack(NamedTuple):
    """Some of all models, in training in their stead."""

    models: Models
    members: list[int]  # the number of the model in each slot, among all models
    going: list[int]  # the slots of those that have not stopped
    per_model: PerModel
    data: Data
    validation: Validation | None

    @property
    def running(self) -> list[int]:
        """The numbers of the models that have not stopped."""
        return [self.members[slot] for slot in self.going]

    def write_to_(self, everyone: Models, slots: Slots) -> None:
        """Write the models in some slots to where they belong among all models."""
        if self.models is not everyone:
            into = [self.members[slot] for slot in slots]
            write_models_(everyone, into, self.models, slots)


def new_stack(
    everyone: Models,
    histories: Sequence[History],
    per_model: PerModel,
    data: Data,
    validation: Validation | None,
) -> Stack:
    """Return the stack of all models: themselves, or copies if some have stopped."""
    members = list(range(len(histories)))
    going = [slot for slot in members if histories[slot].goes_on]
    models = everyone if going == members else select_models(everyone, members)
    return Stack(models, members, going, per_model, data, validation)


def without_stopped(
    stack: Stack, everyone: Models, histories: Sequence[History]
) -> Stack:
    """Return the stack to go on with; those that stopped are written to all models.

    The first to stop keep their weights in ``everyone``, which the others therefore
    leave, and later where it is worth a new stack.
    """
    members, before = stack.members, stack.going
    going = [slot for slot in before if histories[members[slot]].goes_on]
    if going == before:
        return stack
    stack.write_to_(everyone, [slot for slot in before if slot not in going])
    stack = stack._replace(going=going)
    folds, remaining = _smaller_stack(
        stack.going, len(stack.members), len(stack.models.generators)
    )
    worth_it = len(remaining) <= _WORTH_SHRINKING * len(stack.members)
    if stack.models is everyone or worth_it:
        return _select(stack, remaining, folds)
    return stack


def _select(stack: Stack, slots: Slots, folds: Sequence[int]) -> Stack:
    """Return the stack of a copy of the models in these slots, of some folds."""
    validation = stack.validation
    if validation is not None:
        validation = validation._replace(data=select_folds(validation.data, folds))
    return Stack(
        select_models(stack.models, slots, folds),
        [stack.members[slot] for slot in slots],
        [slots.index(slot) for slot in stack.going],
        {name: values[slots] for name, values in stack.per_model.items()},
        select_folds(stack.data, folds),
        validation,
    )


def _smaller_stack(
    going: Slots, n_models: int, n_folds: int
) -> tuple[list[int], list[int]]:
    """Return the folds of a smaller stack, and its slots in the present one.

    It holds the slots that are going. Each of its folds is as long as the longest one,
    for which others of the fold stay.
    """
    length = n_models // n_folds
    of_folds = [range(fold * length, (fold + 1) * length) for fold in range(n_folds)]
    still = set(going)
    longest = max(sum(slot in still for slot in fold) for fold in of_folds)
    folds = [n for n, fold in enumerate(of_folds) if still.intersection(fold)]
    remaining: list[int] = []
    for n in folds:
        going_first = sorted(of_folds[n], key=lambda slot: slot not in still)
        remaining += sorted(going_first[:longest])
    return folds, remaining
