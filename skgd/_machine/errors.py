"""Whose fault an error is, and what it is about."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Problem = TypeVar("Problem", bound=Exception)


@contextmanager
def in_the_words(names: str) -> Iterator[None]:
    """Say in errors of the block which arguments it is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"In {names}: {error}") from error


def of_caller(error: Problem) -> Problem:
    """Return an error, marked as the caller's: of data, parameters, or own functions.

    A search goes on after these as scikit-learn's does; any other one is a fault of
    this package, and must come out. The mark is no type, so that the error stays what
    it is: a user's function may raise anything.
    """
    vars(error)["_skgd_of_caller"] = True
    return error


def is_of_caller(error: Exception) -> bool:
    """Return whether an error was marked as the caller's."""
    return hasattr(error, "_skgd_of_caller")


@contextmanager
def errors_of_caller() -> Iterator[None]:
    """Mark errors of the block, which checks what is given or calls what is given."""
    try:
        yield
    except Exception as error:
        of_caller(error)
        raise
