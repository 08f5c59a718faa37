"""What a run of the benchmarks is told."""

from typing import NamedTuple


class Options(NamedTuple):
    """How long to measure, what of it, and where the fits compute."""

    quick: bool
    repeats: int
    works: tuple[str, ...]  # only works with one of these in their name
    device: str
