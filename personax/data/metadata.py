"""metadata.jsonl and metadata.csv: a picture's file name and caption per row."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from personax.core.files import decode_json, numbered_lines

# Hugging Face's imagefolder reads both; of two in one folder the first counts.
LISTINGS = ("metadata.jsonl", "metadata.csv")
COLUMNS = ("text", "caption")  # of captions, unless another is named


def parse_metadata(
    text: str, source: object, column: str | None = None
) -> Iterator[tuple[str, str]]:
    """(file name, caption) of each row; "" without a caption.

    `source` is the file's name, whose suffix says which of the two forms it has.
    `column` holds the captions, by default the first of `COLUMNS`. Raises ValueError,
    with the number of the line, for any other form, and with the columns for one that
    does not exist.
    """
    for number, row in _rows(text, source):
        place = f"Line {number} of {source}"
        name, caption = row["file_name"], caption_of(row, column, place)
        if not isinstance(name, str) or not isinstance(caption, str):
            raise ValueError(_not_of_the_form(place))
        yield name.strip(), caption.strip()


def caption_of(row: Mapping[str, Any], column: str | None, place: str) -> Any:
    """The caption in a row: its `column`, or the first of `COLUMNS` with a value.

    "" without one; of several captions the first. Raises ValueError, with the columns,
    where there is no `column`; `place` names the row.
    """
    if column is not None and column not in row:
        raise ValueError(f"{place} has no column {column!r}; it has: {', '.join(row)}.")
    names = COLUMNS if column is None else (column,)
    value = next((row[name] for name in names if row.get(name)), "")
    return value[0] if isinstance(value, list) and value else value


def columns(text: str, source: object) -> list[str]:
    """The columns of a listing's first row."""
    _, row = next(_rows(text, source), (0, {}))
    return list(row)


def _rows(text: str, source: object) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of its line, {column: value}) of each row, all with a file_name."""
    if str(source).endswith(".csv"):
        yield from _csv_rows(text, source)
        return
    for number, line in numbered_lines(text):
        place = f"Line {number} of {source}"
        try:
            row = decode_json(line, place)
        except ValueError as error:
            raise ValueError(f"{error} {_not_of_the_form(place)}")
        if not isinstance(row, dict) or "file_name" not in row:
            raise ValueError(_not_of_the_form(place))
        yield number, row


def _csv_rows(text: str, source: object) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = reader.fieldnames or []
        if text.strip() and "file_name" not in names:
            raise ValueError(
                f"{source} has no column file_name; it has: {', '.join(names)}."
            )
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(
                    f"Line {reader.line_num} of {source} does not have "
                    f"{len(names)} values: {', '.join(names)}."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} of {source}: {error}.")


def _not_of_the_form(place: str) -> str:
    return (
        f"{place} is not of the form "
        '{"file_name": "dog.png", "text": "a photo of a dog"}.'
    )
