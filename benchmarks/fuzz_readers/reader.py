"""What a reader of the fuzzing is, and seeds in short."""

import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

Files = dict[str, bytes]  # {path inside of the input's folder: content}


class Reader(NamedTuple):
    """What is tried: `read(folder)` of a folder with one of the seeds' files."""

    seeds: Callable[[], list[Files]]
    read: Callable[[pathlib.Path], Any]


def each(name: str, contents: Callable[[], list[bytes]]) -> Callable[[], list[Files]]:
    """Seeds of a single file."""
    return functools.cache(lambda: [{name: data} for data in contents()])


def text(name: str, *texts: str) -> Callable[[], list[Files]]:
    return each(name, lambda: [text.encode() for text in texts])


def one(**texts: str | bytes) -> Callable[[], list[Files]]:
    """One seed of several files; "__" in a name stands for the dot of its suffix."""
    files = {
        name.replace("__", "."): text if isinstance(text, bytes) else text.encode()
        for name, text in texts.items()
    }
    return lambda: [files]


def written(*writers: Callable[[pathlib.Path], Any]) -> Callable[[], list[Files]]:
    """Seeds as functions write them into a folder."""

    @functools.cache
    def seeds() -> list[Files]:
        found = []
        for write in writers:
            with tempfile.TemporaryDirectory() as scratch:
                folder = pathlib.Path(scratch)
                write(folder)
                found.append(
                    {
                        str(path.relative_to(folder)): path.read_bytes()
                        for path in sorted(folder.rglob("*"))
                        if path.is_file()
                    }
                )
        return found

    return seeds
