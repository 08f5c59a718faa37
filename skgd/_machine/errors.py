"""Whose fault an error is, and what it is about."""

from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from typing import Any, TypeVar

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


class errors_of_caller(ContextDecorator):
    """Mark errors of the block, which checks what is given or calls what is given.

    A class, for it stands on the way of every call: a generator takes four times as
    long.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            of_caller(error)
