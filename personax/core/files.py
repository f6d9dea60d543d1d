"""Files: paths, atomic writes, text and JSON, digests, and JSON-lines journals."""

import codecs
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

# Of a text or JSON file that is read whole; captions of a million pictures take less.
LARGEST_TEXT = 2**28  # bytes
LARGEST_JSON = 2**26  # its values take many times the memory of the text
_LISTED = 20  # names in a message


def expand(path: str | pathlib.Path) -> pathlib.Path:
    """The path with a leading "~" replaced by the home directory.

    Raises ValueError for a user that has none.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: the home directory of '~' is unknown; set HOME.")


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary path beside `path`, renamed to it when the block succeeds.

    An interrupted process leaves the old file or the new one, never a part. The
    temporary name starts with a dot, which readers of folders skip, and is random:
    process ids may be equal on several hosts that share the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers, such as numpy's, append a missing one.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty temporary folder beside `folder`, which it replaces on success.

    The old folder has another name for a moment; if the process ends just then, the
    next call gives it back its own.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    former = folder.with_name(f".{folder.name}.former")
    if former.exists() and not folder.exists():
        former.rename(folder)
    for left in (temporary, former):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    if folder.exists():
        folder.rename(former)
    temporary.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_text(path: pathlib.Path, largest: int = LARGEST_TEXT) -> str:
    """The text of a file; see `decode_text`.

    Raises FileNotFoundError, which lists the files of the same kind in the folder, and
    ValueError for a file of more than `largest` bytes, unreadable or not text.
    """
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder, not a file.")
    if not os.path.isfile(path):  # False also for names that no file can have
        if os.path.exists(path):
            raise ValueError(f"{path} is a device or a pipe, not a file.")
        names = sorted(file.name for file in path.parent.glob(f"*{path.suffix}"))
        listed = ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
        raise FileNotFoundError(
            f"There is no file {path}; {path.parent} has: "
            f"{listed or f'no {path.suffix} file'}."
        )
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"{path} has {size:,} bytes, more than any text file needs.")
    try:
        return decode_text(path.read_bytes(), path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.")


def decode_text(data: bytes, name: object) -> str:
    """Text without its byte order mark, as Python's text files give it.

    It is UTF-8, or UTF-16 with a byte order mark, which Windows' editors write; line
    ends are "\\n". Raises ValueError for other bytes; `name` identifies them.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: pathlib.Path) -> Any:
    """The value of a JSON file; raises what `read_text` and `decode_json` raise."""
    return decode_json(read_text(path, LARGEST_JSON), path)


def decode_json(text: str, name: object) -> Any:
    """The value of a JSON text.

    Raises ValueError for text that is not JSON, for NaN and infinities, which JSON does
    not have, for escapes that are half a character, and for values nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise ValueError(f"{name} is not valid JSON: it has half a surrogate pair.")
    except RecursionError:
        raise ValueError(f"{name} is not valid JSON: its values are nested too deeply.")
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON: {error}.")


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number from 1, stripped line) of the lines that are not blank."""
    # str.splitlines also splits at characters that captions contain, such as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def read_lines(path: pathlib.Path) -> list[str]:
    """The stripped lines of a UTF-8 file that are not blank; see `read_text`."""
    return [line for _, line in numbered_lines(read_text(path))]


def digest(*parts: bytes | str, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the parts' SHA-256."""
    sha = hashlib.sha256()
    for part in parts:
        # A file's name may hold bytes that are no text, as lone surrogates.
        text = isinstance(part, str)
        sha.update(part.encode(errors="surrogatepass") if text else part)
    return sha.hexdigest()[:length]


def digest_file(path: pathlib.Path, length: int = 16) -> str:
    """`digest` of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:length]


# Of files that are digested together: those with more bytes are sampled.
_WHOLE = 2**28
_SAMPLES = 2**12  # of _WHOLE / _SAMPLES bytes each


def digest_contents(paths: Iterable[pathlib.Path]) -> str:
    """`digest` of the contents of files, one after the other, whatever their names.

    Files that have more than 256 MB together are sampled: their sizes, and 4,096
    evenly spaced pieces of 64 KB of them all. A file that is missing counts as empty.
    """
    files = [path for path in paths if path.is_file()]
    sizes = [path.stat().st_size for path in files]
    total = sum(sizes)
    if total <= _WHOLE:
        return digest(repr(sizes), *(digest_file(path, 64) for path in files))
    length, parts = _WHOLE // _SAMPLES, [repr(sizes)]
    starts = iter(range(0, total, total // _SAMPLES))
    at, before = next(starts), 0
    for path, size in zip(files, sizes, strict=True):
        with path.open("rb") as file:
            while before <= at < before + size:
                file.seek(at - before)
                parts.append(hashlib.sha256(file.read(length)).hexdigest())
                at = next(starts, total)
        before += size
    return digest(*parts)


def digest_tree(path: pathlib.Path) -> str:
    """`digest_contents` of a file, or of a folder's files with their names.

    Of a folder everything below it counts, except names that begin with a dot. Links
    are followed, each folder once.
    """
    if path.is_file():
        return digest_contents([path])
    paths: list[pathlib.Path] = []
    seen = set[str]()
    for folder, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            pathlib.Path(folder, name) for name in sorted(names) if name[0] != "."
        ]
    return digest(
        *(f"{file.relative_to(path)}\n" for file in paths), digest_contents(paths)
    )


def read_journal(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines journal, [] for a missing file.

    A last line without its newline, which an interrupted process leaves, is skipped.
    Raises ValueError, with the line's number, for any other line that is not JSON.
    """
    if not path.is_file():
        return []
    complete, _, _ = read_text(path).rpartition("\n")
    records = []
    for number, line in numbered_lines(complete):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is not valid JSON: {error}.")
    return records


def append_journal(path: pathlib.Path, record: Any) -> None:
    """Append a record to a JSON-lines journal.

    An incomplete last line is removed first, so that a journal stays readable after an
    interruption. Processes that share a journal append one after the other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        _drop_incomplete_line(file)
        file.write(json.dumps(record).encode() + b"\n")


def _drop_incomplete_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
