"""The models of a stack, one after the other, by compiled loops.

A loop trains one model, whose parameters lie in a vector of its own. So those of a
stack are copied, and written back when all that go on have taken their steps: the stack
is what others read. In company a model takes the steps that it would take alone, be it
on a thread beside those of others. Who looks on is heard between the steps of each; to
end them all they raise, or say so after the epoch.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

import numpy as np
from torch import Tensor

from skgd._equations.network import Network, in_rows, write_rows_
from skgd._machine.arrays import Indices
from skgd._training.batches import select_folds
from skgd._training.compiled import ROWS_AT_ONCE, bind_compiled, seconds_of_step
from skgd._training.models import Models
from skgd._training.progress import Keeping, Point
from skgd._training.steps import n_parts
from skgd._training.takers import Ahead, Taken, Taker

# Steps that take less than this, in seconds, are over before threads have started.
_WORTH_THREADS_S = 0.002


def bind_in_turn(ahead: Ahead) -> Taker:
    """Return the taker of the steps of some epochs, of one model after the other."""
    models = ahead.models
    n_models, n_folds = models.parameters.layout.n_models, len(models.generators)
    if n_models == 1:
        return bind_compiled(ahead)
    rows_of = {name: in_rows(network) for name, network in models.networks.items()}
    fold_of = [slot * n_folds // n_models for slot in range(n_models)]
    sizes_of = [_sizes(ahead, fold) for fold in range(n_folds)]
    takers = [
        bind_compiled(
            ahead._replace(
                data=select_folds(ahead.data, [fold]),
                models=_alone(models, rows_of, slot, fold),
                per_model={name: n[[slot]] for name, n in ahead.per_model.items()},
                penalties={name: n[[slot]] for name, n in ahead.penalties.items()},
                sizes=sizes_of[fold],
                counts=[None] * len(ahead.sizes),
            )
        )
        for slot, fold in enumerate(fold_of)
    ]
    parts, seconds_of_one = n_parts(ahead.data.scales), seconds_of_step(ahead)

    def take(
        rows_of_epochs: Sequence[Indices],
        going: Sequence[int],
        point: Point | None = None,
        keeping: Keeping | None = None,
    ) -> Taken:
        assert point is None
        assert keeping is None  # several models are kept by nobody
        n_epochs = len(rows_of_epochs)
        losses = np.zeros((n_epochs * len(ahead.sizes), n_models, parts))
        penalties = np.zeros((n_epochs, n_models, parts))
        of_folds = [
            [np.atleast_2d(rows)[fold, : sum(sizes)] for rows in rows_of_epochs]
            for fold, sizes in enumerate(sizes_of)
        ]

        def take_those_of(slot: int) -> None:
            """Take the steps of one model."""
            taken = takers[slot].take(of_folds[fold_of[slot]], [0])
            losses[:, slot] = taken.losses[:, 0]
            penalties[:, slot] = taken.penalties[:, 0]

        worth_it = len(losses) * seconds_of_one > _WORTH_THREADS_S
        _for_each(take_those_of, going, ahead.shared.threads if worth_it else 1)
        models.t += len(losses)
        for name, network in models.networks.items():
            write_rows_(network, rows_of[name])
        return Taken(losses, penalties)

    # The rows of all folds are drawn before the first step.
    epochs_of_rows = ROWS_AT_ONCE // sum(map(sum, sizes_of))
    at_once = min(epochs_of_rows, *(taker.at_once for taker in takers))
    return Taker(take, max(1, at_once))


def _for_each(act: Callable[[int], None], slots: Sequence[int], threads: int) -> None:
    """Do something for the model in each slot, on some threads: loops let others run.

    The modes of NumPy come along with the context.
    """
    if threads == 1 or len(slots) == 1:
        for slot in slots:
            act(slot)
        return
    with ThreadPoolExecutor(min(threads, len(slots))) as pool:
        done = [pool.submit(copy_context().run, act, slot) for slot in slots]
        try:
            for one in done:
                one.result()
        finally:  # after an error the others need not begin
            for one in done:
                one.cancel()


def _sizes(ahead: Ahead, fold: int) -> list[int]:
    """Return the rows of a fold in each batch."""
    pairs = zip(ahead.sizes, ahead.counts, strict=True)
    return [size if count is None else count[fold] for size, count in pairs]


def _alone(
    models: Models, rows_of: Mapping[str, Tensor], slot: int, fold: int
) -> Models:
    """Return the model in a slot as the only one, its vectors among the rows."""
    layout = models.parameters.layout.alone
    own = {name: Network(rows[slot], layout) for name, rows in rows_of.items()}
    return replace(
        models,
        parameters=own["parameters"],
        optimizer_state={name: own[name] for name in models.optimizer_state},
        generators=[models.generators[fold]],
        average=own.get("average"),
        slowed=None if models.slowed is None else models.slowed[slot : slot + 1],
    )
