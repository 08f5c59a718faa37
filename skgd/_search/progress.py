"""Who looks on at the training of a stack: callbacks, and who reads the output.

And who has given it up: a thread cannot be ended from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from skgd._machine.errors import errors_of_caller
from skgd._search.request import Request
from skgd._training.batches import Data
from skgd._training.hyperparameters import Shared
from skgd._training.models import Models
from skgd._training.stopping import History

# Seconds between two lines on a stack.
_BETWEEN_LINES = 5.0


@contextmanager
def watching(
    request: Request, context: Any, models: Models, data: Data, shared: Shared
) -> Iterator[StackProgress]:
    """Give who looks on at the training of a stack."""
    n_models, n_epochs = len(models.parameters.layers[0].w), shared.max_iter
    if context is None:
        progress = StackProgress(request, None, n_models, n_epochs)
        yield progress
        progress.end()
        return
    stack = context.subcontext(f"epochs of {n_models} models", max_subtasks=n_epochs)
    with errors_of_caller():
        stack.call_on_fit_task_begin(estimator=request.caller)
    try:
        progress = StackProgress(request, stack, n_models, n_epochs)
        yield progress
        progress.end()
    finally:
        with errors_of_caller():
            stack.call_on_fit_task_end(estimator=request.caller)


class _SearchGivenUpError(Exception):
    """Ends a thread of a search that nobody waits for any more."""


class StackProgress:
    """Looks on at the training of a stack, for callbacks and who reads the output."""

    wants_steps = False

    def __init__(
        self, request: Request, stack: Any, n_models: int, n_epochs: int
    ) -> None:
        self._request, self._stack = request, stack
        self.wants_epochs = stack is not None or request.verbose > 2
        self._n_models, self._n_epochs, self._epochs = n_models, n_epochs, 0
        self._began = self._told = perf_counter()

    @errors_of_caller()
    def before_epoch(self) -> None:
        if self._stack is not None:
            self._epoch = self._stack.subcontext("epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._request.caller)

    def before_step(self) -> None:
        pass

    def after_step(self, models: Models, loss: Any) -> str:
        if self._request.given_up.is_set():
            raise _SearchGivenUpError
        return ""

    @errors_of_caller()
    def after_epoch(self, models: Models, histories: Sequence[History]) -> str:
        self._epochs += 1
        if perf_counter() - self._told > _BETWEEN_LINES:
            self._told = perf_counter()
            n_going = sum(history.goes_on for history in histories)
            self._print(f"{n_going} of them in training")
        if self._stack is not None:
            self._epoch.call_on_fit_task_end(estimator=self._request.caller)
        return ""

    def end(self) -> None:
        """Tell that the training has ended."""
        self._print("done")

    def _print(self, state: str) -> None:
        if self._request.verbose > 2:
            print(
                f"Stack of {self._n_models} models, epoch {self._epochs} of "
                f"{self._n_epochs}, {state}, {perf_counter() - self._began:.1f} s"
            )
