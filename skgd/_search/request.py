"""What is asked of a search, and what is answered: the values that its rooms share."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from skgd._machine.arrays import Array

Parameters = Mapping[str, Any]
Cell = tuple[int, int]  # the numbers of a candidate and of a split
Result = dict[str, Any]  # of a fit, as scikit-learn's function for one fit gives it


class GivenUp(Event):
    """Says in all threads that a search was given up; processes come to their end."""

    def __reduce__(self) -> tuple[type[GivenUp], tuple[()]]:
        return GivenUp, ()


class Request(NamedTuple):
    """What all evaluations of a search have in common."""

    X: Any
    y: Any
    scorer: Any
    fit_params: Parameters
    score_params: Parameters
    return_train_score: bool
    error_score: Any
    max_bytes: int | None
    verbose: int
    caller: Any  # the search, as callbacks get to see it
    given_up: GivenUp


class CvSplit(NamedTuple):
    """A split of the rows."""

    number: int
    train: Array
    test: Array
    prepared: Prepared | None = None  # where there are steps before the last
    reason: str = ""  # why there are, and it is not


class Prepared(NamedTuple):
    """What the last step of a pipeline is given in a split."""

    pipeline: Any  # fitted, but for its last step
    X: ArrayLike
    y: ArrayLike
    sample_weight: ArrayLike | None
    scored: dict[str, ArrayLike]  # the test rows, and the training rows if asked
