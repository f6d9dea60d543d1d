"""The folder of pictures that a command writes: what is ours in it, and its update."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from personax.core.decoding import is_picture
from personax.core.files import expand, read_json
from personax.core.outputs import check_folder

# Each names the files that were written with it.
RECORDS = ("samples.json", "edit.json")
# What is written beside pictures and is none.
_ARRAYS = ("attention.npz",)
_NEW = ".personax.new"


def check_pictures(
    path: str | pathlib.Path, inputs: Iterable[tuple[str, str | pathlib.Path]]
) -> pathlib.Path:
    """The folder at `path`, which pictures may be written to; nothing is created.

    `inputs` are (flag, path) of all that is read. Raises ValueError for a folder that
    cannot be written, that is an input or whose update would replace one, and for a
    folder with pictures that no record of an earlier run names.
    """
    folder = check_folder(path)
    written = folder.resolve()
    for flag, source in inputs:
        file = expand(source)
        if not file.exists():
            continue
        real = file.resolve()
        in_the_way = is_picture(real.name) or real.name in (*RECORDS, *_ARRAYS)
        if real == written or (real.parent == written and in_the_way):
            raise ValueError(
                f"--out {path} would write over --{flag} {source}; choose another "
                "folder."
            )
    if (folder / "concept.json").is_file():
        raise ValueError(f"--out {path} is a concept's folder; choose another one.")
    if folder.is_dir():
        own = own_files(folder)
        names = sorted(file.name for file in folder.iterdir())
        foreign = [
            name
            for name in names
            if name not in own and (is_picture(name) or name in _ARRAYS)
        ]
        if foreign:
            raise ValueError(
                f"--out {path} holds {foreign[0]}, which no samples.json of personax "
                "names; choose another folder."
            )
    return folder


@contextlib.contextmanager
def updated(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty folder, whose files replace those of the last run in `folder`.

    Until the block succeeds `folder` is unchanged. Then what its records name is
    removed. A record is replaced before its files, and is removed after them, so that
    an interrupted update leaves no file that none names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own, temporary = own_files(folder), folder / _NEW
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        new = {file.name for file in temporary.iterdir()}
        for name in sorted(own - new, key=lambda name: name in RECORDS):
            (folder / name).unlink(missing_ok=True)
        for name in sorted(new, key=lambda name: name not in RECORDS):
            os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def own_files(folder: pathlib.Path) -> set[str]:
    """The names of the files that earlier runs wrote into a folder.

    Raises ValueError for a record of another program.
    """
    names = set()
    for record in RECORDS:
        path = folder / record
        if path.exists():
            try:
                listed = _listed(read_json(path), folder)
            except (KeyError, TypeError, AttributeError):
                raise ValueError(f"{path} was not written by personax.")
            names |= {record, *listed}
    # A record may be edited: no name leads out of the folder.
    return {name for name in names if pathlib.PurePath(name).name == name}


def _listed(record: dict[str, Any], folder: pathlib.Path) -> list[str]:
    """The files beside a record; older ones name the pictures alone."""
    if "files" in record:
        return [str(name) for name in record["files"]]
    if "samples" in record:
        names = [each["file"] for each in record["samples"]]
        names += [file.name for file in folder.glob("hint_*.png")]
        return [*names, "grid.png", "attention.png", "attention.npz"]
    names = [x for each in record["pictures"] for x in (each["source"], *each["edits"])]
    inverted = ("the_picture.png", "autoencoder.png", "DDIM_inversion.png")
    return [*names, "grid.png", *inverted]
