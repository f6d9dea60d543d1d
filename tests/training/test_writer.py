"""The logs: JSON lines and TensorBoard events, and what a resumed run removes."""

import json

import numpy as np
import pytest

from personax.core.files import read_journal
from personax.training.writer import Writer

pytestmark = pytest.mark.quick


def write(folder, start, steps, value=1.0):
    with Writer(folder, start) as writer:
        for step in steps:
            writer.scalars(step, {"loss": value * step})


def read(folder):
    return read_journal(folder / "metrics.jsonl")


def events(folder):
    """(step, tag, value) of every scalar in the event files, in their order."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            # A record: its length, a checksum of that, the event, a checksum of it.
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            found += [(event.step, each) for each in event.summary.value]
            if event.HasField("session_log"):
                found.append((event.step, None))
    return found


def test_a_line_holds_the_step_and_its_values(tmp_path):
    with Writer(tmp_path, 0) as writer:
        writer.scalars(1, {"loss": 0.1, "learning_rate": 1e-5})
        writer.scalars(2, {"loss": 1 / 3})
        writer.flush()
        # Flushed lines are on disk before the process ends.
        assert len(read(tmp_path)) == 2
    assert read(tmp_path) == [
        {"step": 1, "loss": 0.1, "learning_rate": 1e-5},
        {"step": 2, "loss": 1 / 3},
    ]


def test_lines_after_the_resumed_step_are_removed(tmp_path):
    write(tmp_path, 0, [1, 2, 3, 4, 5])
    write(tmp_path, 3, [4, 5, 6])
    assert [line["step"] for line in read(tmp_path)] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_from_step_0_every_line_is_removed(tmp_path):
    write(tmp_path, 0, [0, 1])
    write(tmp_path, 0, [0, 1], value=2.0)
    assert read(tmp_path) == [
        {"step": 0, "loss": 0.0},
        {"step": 1, "loss": 2.0},
    ]


@pytest.mark.parametrize(
    "cut", ["{", '{"step": 3, "lo', '{"step": 3}\n{"loss"', "\0\0"]
)
def test_an_incomplete_line_is_removed(cut, tmp_path):
    write(tmp_path, 0, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(cut)
    write(tmp_path, 2, [3])
    assert [line["step"] for line in read(tmp_path)] == [
        1,
        2,
        3,
    ]
    text = (tmp_path / "metrics.jsonl").read_text()
    assert all(json.loads(line) for line in text.splitlines())


def test_a_complete_line_without_its_newline_gets_one(tmp_path):
    write(tmp_path, 0, [1, 2])
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text().rstrip("\n"))
    write(tmp_path, 2, [3])
    assert [line["step"] for line in read(tmp_path)] == [
        1,
        2,
        3,
    ]


def test_tensorboard_gets_curves_and_pictures(tmp_path):
    with Writer(tmp_path, 0) as writer:
        writer.scalars(1, {"loss": 0.5, "loss/semantic": 0.25})
        writer.curve(1, "steps_per_second", 8.0)
        writer.image(1, "samples", np.full((4, 6, 3), 200, np.uint8))
    found = {
        each.tag: (step, each) for step, each in events(tmp_path) if each is not None
    }
    scalars = {
        tag: (step, each.simple_value)
        for tag, (step, each) in found.items()
        if each.HasField("simple_value")
    }
    assert scalars == {
        "loss": (1, 0.5),
        "loss/semantic": (1, 0.25),
        "steps_per_second": (1, 8.0),
    }
    _, picture = found["samples"]
    assert (picture.image.height, picture.image.width) == (4, 6)
    # Timings differ between reruns, metrics.jsonl does not.
    assert "steps_per_second" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("start", "purged"), [(0, 0), (3, 4)])
def test_tensorboard_purges_from_the_resumed_step(start, purged, tmp_path):
    write(tmp_path, start, [start + 1])
    assert [step for step, each in events(tmp_path) if each is None] == [purged]
