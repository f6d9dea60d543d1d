"""One process at a time in a folder, also on a disk that several hosts share."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import platform
import threading
import time
from collections.abc import Iterator
from typing import Any

_NAME = ".lock"
_BEAT = 3.0  # seconds between the signs of life of the process that holds a lock
# What a disk answers that has no file locks, as some network file systems.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock of an existing folder, the file .lock in it.

    The system's file lock decides between processes of one machine: it ends with its
    process, however that ends, so a killed one blocks nobody. A network file system may
    not pass it on to other hosts. There the file's time decides, which the holder
    renews: what another host has left is watched for three renewals, and taken over if
    nothing happens. The file stays, empty, when the lock is released.

    Raises ValueError, naming the holder, where another process has the lock.
    """
    path = folder / _NAME
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        decided = _take(file)
        record = _read(file)
        # Of this machine's processes the file lock has told already.
        known = decided and record.get("machine") == _machine()
        if decided is False or (record and not known and _is_renewed(path)):
            since = f" since {record['since']}" if "since" in record else ""
            raise ValueError(
                f"{folder} is in use by process {record.get('pid', 'unknown')} on "
                f"{record.get('host', 'another host')}{since}; wait until it has "
                "ended, or choose another folder."
            )
        _write(file)
        stop = threading.Event()
        beat = threading.Thread(target=_renew, args=(file, stop), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            os.ftruncate(file, 0)
    finally:
        os.close(file)  # releases the lock


def _take(file: int) -> bool | None:
    """Take the file lock; whether that succeeded, None where there are no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _machine() -> str:
    """A name of the running kernel, which its containers share as they share locks."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.is_file() else platform.node()


def _read(file: int) -> dict[str, Any]:
    """What the last holder wrote, {} where it released the lock."""
    try:
        record = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _write(file: int) -> None:
    record = {
        "host": platform.node(),
        "pid": os.getpid(),
        "machine": _machine(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(record).encode(), 0)


def _renew(file: int, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        # A disk that is away for a while does not end the work.
        with contextlib.suppress(OSError):
            os.utime(file)


def _is_renewed(path: pathlib.Path) -> bool:
    """Whether the holder shows a sign of life within three renewals."""
    first = _time_of(path)
    for _ in range(12):
        time.sleep(_BEAT / 4)
        if _time_of(path) != first:
            return True
    return False


def _time_of(path: pathlib.Path) -> int:
    # A network file system asks its server when a file is opened.
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_mtime_ns
