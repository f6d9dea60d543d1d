"""Errors that a command reports in one line: invalid input, and a run that failed."""

import contextlib
import functools
import sys
from collections.abc import Iterator


class InputError(ValueError):
    """Invalid input, found before any computation. The message is one line."""


class RunFailedError(RuntimeError):
    """A run that cannot continue, for a reason that its user can act on."""


@contextlib.contextmanager
def invalid_input() -> Iterator[None]:
    """Raise what preparation raises for invalid input as InputError.

    ValueError, OSError, KeyError and TypeError are converted, with their message on one
    line. Wrap preparation alone, so that a bug in the computation keeps its type and
    its traceback.
    """
    try:
        yield
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    # str(KeyError) is the repr of its argument.
    message = str(error.args[0] if isinstance(error, KeyError) else error)
    return " ".join(message.split())


def notice(text: str) -> None:
    """One line on stderr that a command or a library call says and goes on."""
    with contextlib.suppress(OSError):  # a pipe that nobody reads any more
        print(f"personax: {' '.join(text.split())}", file=sys.stderr)


@functools.cache
def notice_once(text: str) -> None:
    """`notice` of a text that this process has not said yet."""
    notice(text)
