"""Damaged checkpoints: the older whole one is taken, and nothing is deleted."""

import shutil

import jax
import jax.numpy as jnp
import pytest

from personax.training.checkpoint import Checkpoints
from personax.training.state import create

# Orbax leaves coroutines behind where a restore fails.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def state_at(step):
    theta = {"weights": {"a": jnp.arange(3000.0) + step, "b": jnp.ones((3, 4))}}
    state = create(theta, {"m": jnp.ones(3)}, jax.random.key(1))
    return state.replace(step=jnp.int32(step))


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the steps 10 and 20."""
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (10, 20):
            checkpoints.save(state_at(step), step)
    return folder


def files_of(checkpoint):
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def largest(checkpoint):
    return max(files_of(checkpoint), key=lambda path: path.stat().st_size)


def truncate(checkpoint):
    path = largest(checkpoint)
    path.write_bytes(path.read_bytes()[:100])


def flip(checkpoint):
    path = largest(checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def empty_all(checkpoint):
    for path in files_of(checkpoint):
        path.write_bytes(b"")


def without_manifest(checkpoint):
    for path in checkpoint.rglob("manifest.ocdbt"):
        path.unlink()


def without_array_metadata(checkpoint):
    (checkpoint / "default" / "_METADATA").unlink()


def other_record(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").write_bytes(b"[\xff")


def empty_record(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").write_text("")


def record_of_no_keys(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").write_text("[]")


def folder_as_record(checkpoint):
    record = checkpoint / "_CHECKPOINT_METADATA"
    record.unlink()
    (record / "inside").mkdir(parents=True)


def without_files(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def without_checksums_and_truncated(checkpoint):
    (checkpoint / "checksums.json").unlink()
    truncate(checkpoint)


DAMAGES = [
    truncate,
    flip,
    empty_all,
    without_manifest,
    without_array_metadata,
    other_record,
    empty_record,
    record_of_no_keys,
    folder_as_record,
    without_files,
    without_checksums_and_truncated,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_older_checkpoint_stands_in_for_a_damaged_one(folder, damage, capfd):
    damage(folder / "20")
    left = {path.relative_to(folder / "20") for path in files_of(folder / "20")}
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(state_at(0))
        assert restored.step == 10
        assert (restored.theta["weights"]["a"] == jnp.arange(3000.0) + 10).all()
        assert checkpoints.newest() == 10
        checkpoints.save(state_at(20), 20)
    lines = [x for x in capfd.readouterr().err.splitlines() if "personax: " in x]
    assert len(lines) == 1
    assert f"{folder / '20'} is damaged" in lines[0]
    assert "goes on from step 10" in lines[0]
    aside = folder / "20.damaged"
    assert {path.relative_to(aside) for path in files_of(aside)} == left
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(state_at(0)).step == 20


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_whole_checkpoint_one_line_says_what_to_do(folder, damage):
    for step in ("10", "20"):
        damage(folder / step)
    before = {path: path.read_bytes() for path in files_of(folder)}
    with (
        pytest.raises(ValueError, match=r"No checkpoint in .* is whole; of 20: .*move"),
        Checkpoints(folder) as checkpoints,
    ):
        checkpoints.restore(state_at(0))
    assert before == {path: path.read_bytes() for path in files_of(folder)}


@pytest.mark.parametrize("text", [None, "", "[]", '{"default/a": 3}', "\0"])
def test_damaged_checksums_lose_no_checkpoint(folder, text):
    file = folder / "20" / "checksums.json"
    file.unlink() if text is None else file.write_text(text)
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(state_at(0)).step == 20


def test_a_checkpoint_has_its_checksums_as_soon_as_its_name(
    tmp_path, monkeypatch, capfd
):
    """A process that is killed leaves no checkpoint that nothing vouches for."""

    def fail(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "_write_checksums", fail)
    with (
        pytest.raises(OSError, match="No space left on device"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(state_at(10), 10)
    assert not (tmp_path / "10").exists()
    assert "Traceback" not in capfd.readouterr().err  # of orbax's threads
