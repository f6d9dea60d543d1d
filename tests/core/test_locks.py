"""Locks of folders: between processes, after kills, and without the system's locks."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from personax.core import locks

HOLD = (
    "import pathlib, sys, time; from personax.core.locks import locked\n"
    "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder's lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def without_locks(monkeypatch):
    """A disk whose system has no file locks, and quick renewals."""

    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_BEAT", 0.1)


def test_a_second_process_is_refused_and_named_the_first(holder, tmp_path):
    before = (tmp_path / ".lock").read_bytes()
    with (
        pytest.raises(ValueError, match=f"in use by process {holder.pid} on "),
        locks.locked(tmp_path),
    ):
        pass
    assert (tmp_path / ".lock").read_bytes() == before


def test_the_lock_of_a_killed_process_does_not_block(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").read_bytes()
    with locks.locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), locks.locked(tmp_path):
        raise KeyError
    with (
        locks.locked(tmp_path),
        pytest.raises(ValueError, match="in use"),
        locks.locked(tmp_path),
    ):
        pass


def test_without_file_locks_a_renewed_lock_holds(tmp_path, without_locks):
    with (
        locks.locked(tmp_path),
        pytest.raises(ValueError, match=f"in use by process {os.getpid()} "),
        locks.locked(tmp_path),
    ):
        pass


@pytest.mark.parametrize("text", ['{"host": "other", "machine": "x"}', "", "[", "\xff"])
def test_what_another_host_left_is_taken_over(tmp_path, without_locks, text):
    (tmp_path / ".lock").write_text(text)
    with locks.locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_another_host_that_renews_its_lock_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_BEAT", 0.1)
    path = tmp_path / ".lock"
    path.write_text('{"host": "other", "pid": 7, "machine": "x", "since": "today"}')
    stop = threading.Event()
    file = os.open(path, os.O_RDWR)
    beat = threading.Thread(target=locks._renew, args=(file, stop))
    beat.start()
    try:
        with (
            pytest.raises(ValueError, match="by process 7 on other since today"),
            locks.locked(tmp_path),
        ):
            pass
    finally:
        stop.set()
        beat.join()
        os.close(file)
