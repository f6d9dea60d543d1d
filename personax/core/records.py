"""Journals whose records have a form: read into types, damaged ones named."""

import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

from personax.core.files import read_journal

T = TypeVar("T")


def read_records(
    path: pathlib.Path, parse: Callable[[dict[str, Any]], T], *, again: str
) -> list[T]:
    """The records of a journal as `parse` reads them, see `read_journal`.

    Raises ValueError, with its number, for a record that `parse` does not read; `again`
    says what follows from removing it.
    """
    records = []
    for number, record in enumerate(read_journal(path), 1):
        try:
            records.append(parse(record))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError(
                f"{path} is damaged: its record {number} is not a result; remove that "
                f"line, and {again}."
            )
    return records


def expected(value: Any, kind: Any) -> Any:
    """The value, if it is of this type; TypeError otherwise, also for bool as int."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError
    return value
