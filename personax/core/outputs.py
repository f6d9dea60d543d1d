"""Folders that a command writes: probed before any computation, and optional caches."""

import errno
import pathlib
import tempfile

from personax.core.errors import notice_once
from personax.core.files import expand


def make_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The folder at `path`, created where it is missing, after a trial write.

    Raises ValueError where it cannot be created or written.
    """
    folder = expand(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"personax")
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{path} is not a folder: a file has that name.")
    except OSError as error:
        raise ValueError(f"The folder {path} cannot be written: {error.strerror}.")
    return folder


def check_writable(path: str | pathlib.Path) -> pathlib.Path:
    """The path of a folder that is made later: the part of it that exists is tried.

    Raises what `make_folder` raises.
    """
    folder = expand(path)
    above = (folder, *folder.absolute().parents)
    make_folder(next(each for each in above if each.exists()))
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


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for lack of space, or of the user's quota."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Libraries in C++ give the system's words alone.
    return full or "No space left on device" in str(error)
