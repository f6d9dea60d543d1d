"""Work directories whose bookkeeping is lost or damaged, or that two runs share."""

import json

import pytest

from configs import emoji_custom_diffusion
from personax.core.errors import InputError, RunFailedError
from personax.core.files import atomic_folder
from personax.core.locks import locked
from personax.training import train as training
from personax.training import workdir
from personax.training.config import train_config
from personax.training.writer import Writer
from tests.small_models import write_smaller

DATA = {"base": "f00d", "pictures 0": "cafe", "words 0": "beef"}
CONFIG = train_config({"method": "lora", "steps": 10})


@pytest.fixture
def begun(tmp_path):
    """A directory with a checkpoint and the concept of a run."""
    workdir.claim(tmp_path, CONFIG, DATA)
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    (tmp_path / "concept").mkdir()
    (tmp_path / "concept" / "concept.json").write_text('{"step": 10}')
    (tmp_path / "concept" / "theta.safetensors").write_bytes(b"theta")
    return tmp_path


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kept", ["checkpoints", "concept"])
def test_without_logs_other_pictures_are_still_refused(begun, kept):
    (begun / "metrics.jsonl").unlink()
    for name in {"checkpoints", "concept"} - {kept}:
        (begun / name).rename(begun.parent / f"{begun.name} {name}")
    with pytest.raises(ValueError, match=r"data\.pictures 0 was 'cafe' and is 'b'"):
        workdir.claim(begun, CONFIG, DATA | {"pictures 0": "b"})


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"config": 3}', "\0"])
def test_results_without_a_readable_record_are_refused(begun, text):
    (begun / "run.json").unlink()
    if text is not None:
        (begun / "run.json").write_text(text)
    (begun / "metrics.jsonl").unlink()
    before = content(begun)
    with pytest.raises(ValueError, match=r"run\.json"):
        workdir.claim(begun, CONFIG, DATA)
    assert content(begun) == before


def test_a_config_of_ones_own_is_not_written_over(tmp_path):
    (tmp_path / "config.yaml").write_text("# mine")
    with pytest.raises(ValueError, match=r"holds config\.yaml but no run\.json"):
        workdir.claim(tmp_path, CONFIG, DATA)
    assert (tmp_path / "config.yaml").read_text() == "# mine"


@pytest.mark.parametrize("name", ["words 0", "prior 0", "corpus", "stream contents"])
def test_other_contents_of_what_a_path_names_are_refused(begun, name):
    (begun / "run.json").unlink()
    for each in begun.iterdir():
        each.rename(begun.parent / f"{begun.name} {each.name}")
    workdir.claim(begun, CONFIG, DATA | {name: "a"})
    (begun / "checkpoints" / "10").mkdir(parents=True)
    workdir.claim(begun, CONFIG, DATA | {name: "a"})
    with pytest.raises(ValueError, match=f"data.{name} was 'a' and is 'b'"):
        workdir.claim(begun, CONFIG, DATA | {name: "b"})
    with pytest.raises(ValueError, match=f"data.{name} was 'a' and is None"):
        workdir.claim(begun, CONFIG, {k: v for k, v in DATA.items() if k != name})


def test_a_record_without_digests_of_words_resumes(begun):
    run = json.loads((begun / "run.json").read_text())
    del run["data"]["words 0"]
    (begun / "run.json").write_text(json.dumps(run))
    workdir.claim(begun, CONFIG, DATA | {"prior 0": "new"})
    (begun / "run.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match=r"data\.pictures 0 was 'cafe' and is 'b'"):
        workdir.claim(begun, CONFIG, DATA | {"pictures 0": "b"})


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "{}", "\0", '{"step": 9}'])
def test_a_damaged_concept_is_not_a_finished_one(begun, text):
    assert workdir.is_finished(begun, 10)
    (begun / "concept" / "concept.json").write_text(text)
    assert not workdir.is_finished(begun, 10)


def test_lines_of_the_log_that_are_no_records_are_dropped(tmp_path, capfd):
    good = [b'{"step": 1, "loss": 1.0}', b'{"step": 2, "loss": 2.0}']
    bad = [b"", b"\xff\xfe", b"5", b"[]", b"null", b'{"step": "x"}', b'{"loss": 1}']
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"\n".join([good[0], *bad, good[1], b'{"step": 3, "lo']))
    with Writer(tmp_path, 2) as writer:
        writer.scalars(3, {"loss": 3.0})
    steps = [json.loads(line)["step"] for line in file.read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert f"{len(bad)} lines that are no records" in capfd.readouterr().err


def test_a_folder_that_a_kill_left_under_another_name_is_found_again(tmp_path):
    folder = tmp_path / "concept"
    (tmp_path / ".concept.former").mkdir()
    (tmp_path / ".concept.former" / "theta").write_text("old")
    with pytest.raises(KeyError), atomic_folder(folder):
        raise KeyError  # before the new one is complete
    assert (folder / "theta").read_text() == "old"
    with atomic_folder(folder) as temporary:
        (temporary / "theta").write_text("new")
    assert (folder / "theta").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["concept"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = emoji_custom_diffusion.get_config()
    config.base = str(write_smaller(tmp_path_factory.mktemp("base")))
    config.batch, config.steps, config.preview.prompts = 8, 2, ()
    config.prior.source, config.save_every = "", 1
    return config


def test_faults_of_a_whole_run(config, tmp_path, monkeypatch, capfd):
    """One run, since each compiles: finished, damaged, locked, on a full disk."""
    folder = tmp_path / "run"
    assert training.train(config, folder)
    theta = (folder / "concept" / "theta.safetensors").read_bytes()

    # An emptied concept.json is written again, from the last checkpoint.
    (folder / "concept" / "concept.json").write_text("")
    assert training.train(config, folder)
    assert (folder / "concept" / "theta.safetensors").read_bytes() == theta
    assert workdir.is_finished(folder, 2)

    # A damaged checkpoint: from the one before it, to the same concept.
    (folder / "concept" / "concept.json").unlink()
    for path in (folder / "checkpoints" / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert training.train(config, folder)
    assert (folder / "concept" / "theta.safetensors").read_bytes() == theta
    assert "goes on from step 1" in capfd.readouterr().err

    # A second run in the same directory is refused and changes nothing.
    before = content(folder)
    with locked(folder):
        del before[folder / ".lock"]
        with pytest.raises(InputError, match="is in use by process"):
            training.train(config, folder)
        assert before.items() <= content(folder).items()

    # Files of one's own in the concept are not removed.
    (folder / "concept" / "concept.json").unlink()
    (folder / "concept" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"no concept"):
        training.train(config, folder)
    assert (folder / "concept" / "mine.txt").read_text() == "mine"
    (folder / "concept" / "mine.txt").unlink()

    # A disk that is full where the concept is written.
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training.artifact, "save", full)
        with pytest.raises(RunFailedError, match="Make room and rerun the command"):
            training.train(config, folder)
    assert training.train(config, folder)
    assert (folder / "concept" / "theta.safetensors").read_bytes() == theta
