"""What a run of the benchmarks is told."""

from typing import NamedTuple


class Options(NamedTuple):
    """How long to measure, what of it, and where the fits compute."""

    quick: bool
    repeats: int
    works: str  # only fits with this in their name
    device: str
