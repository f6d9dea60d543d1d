"""Folders that a command writes: probed before any computation, and optional caches."""

import contextlib
import errno
import pathlib
import tempfile
from collections.abc import Iterable, Iterator

from personax.core.errors import notice_once
from personax.core.files import expand


def make_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The folder at `path`, created where it is missing, after a trial write.

    Raises ValueError where it cannot be created or written.
    """
    folder = expand(path)
    with _reported(path):
        folder.mkdir(parents=True, exist_ok=True)
        _try_write(folder)
    return folder


def check_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The folder at `path`, of which nothing is created yet.

    The trial write is in the folder, or in the nearest one above it that exists. Raises
    ValueError as `make_folder` does.
    """
    folder = expand(path)
    with _reported(path):
        existing = folder
        while not (existing.is_symlink() or existing.exists()):
            existing = existing.parent
        _try_write(existing)
    return folder


def make_parent(path: str | pathlib.Path) -> pathlib.Path:
    """The path of a file that is to be written, after `make_folder` of its folder.

    Raises ValueError where a folder has the name, and what `make_folder` raises.
    """
    file = expand(path)
    if file.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it.")
    make_folder(file.parent)
    return file


def refuse_inputs(
    out: pathlib.Path, inputs: Iterable[tuple[str, str | pathlib.Path]]
) -> None:
    """ValueError for an output that is one of the inputs, or a folder around one.

    `inputs` are (what it is, path); links are followed, missing paths are skipped.
    """
    written = out.resolve()
    for what, path in inputs:
        file = expand(path)
        if file.exists() and written in (file.resolve(), *file.resolve().parents):
            is_it = "is" if file.resolve() == written else "holds"
            raise ValueError(f"--out {out} {is_it} {what} {path}; choose another path.")


def refuse_foreign(folder: pathlib.Path, names: Iterable[str], mark: str) -> None:
    """Raise ValueError where one of `names` exists and `mark` does not.

    They are what a command writes to the folder: without the file `mark`, which it
    writes first, somebody else's.
    """
    if (folder / mark).exists():
        return
    for name in names:
        if (folder / name).exists():
            raise ValueError(
                f"{folder} holds {name}, but no {mark} of a command that wrote it; "
                "choose another folder."
            )


def refuse_among(
    outputs: Iterable[pathlib.Path], inputs: Iterable[str | pathlib.Path]
) -> None:
    """Raise ValueError where an output is an input, in one, or a folder around one."""
    for output in (path.resolve() for path in outputs):
        for given in inputs:
            path = expand(given).resolve()
            if path in (output, output.parent) or output in path.parents:
                raise ValueError(
                    f"The output {output} would be written over or among the input "
                    f"{given}; choose another folder."
                )


def cache_folder(path: str) -> pathlib.Path | None:
    """A folder for what can be computed again, or None where it cannot be written.

    A missing home directory, a read-only disk or another user's folder cost time only;
    they are reported once per process.
    """
    try:
        return make_folder(path)
    except ValueError as error:
        notice_once(f"There is no cache in {path}: {error}")
        return None


def _try_write(folder: pathlib.Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"personax")


@contextlib.contextmanager
def _reported(path: str | pathlib.Path) -> Iterator[None]:
    """Errors of creating or writing a folder as ValueError."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{path} is not a folder: a file has that name.")
    except OSError as error:
        raise ValueError(f"The folder {path} cannot be written: {error.strerror}.")


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for lack of space, or of the user's quota."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Libraries in C++ give the system's words alone.
    return full or "No space left on device" in str(error)
