"""Outputs: checked before anything is loaded, and nothing of the user's is replaced."""

import json

import numpy as np
import pytest
from absl import flags
from PIL import Image

from personax import build, compress, edit, export, merge, sample
from personax.core.outputs import check_folder
from personax.sampling import sheets
from personax.sampling.outputs import own_files, updated
from personax.sampling.setup import SamplingSetup
from tests.in_process import make_call
from tests.refusing import refused
from tests.small_models import write_smaller

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_smaller(tmp_path_factory.mktemp("base") / "base", smallest=True)


@pytest.fixture
def call(base, monkeypatch):
    # Compiled ahead, the shapes' annotations would be checked on JAX's own records.
    monkeypatch.setattr(SamplingSetup, "compile", lambda *_: None)
    run = make_call(sample, monkeypatch)
    fixed = (f"--base={base}", "--prompt=a dog", "--steps=1", "--batch=1")
    return lambda *arguments: run(*fixed, *arguments)


@pytest.fixture
def unloaded(monkeypatch):
    """Fails if a command loads its model."""

    def load(*_, **__):
        raise AssertionError("loaded")

    for module, name in (
        (sample, "set_up"),
        (edit, "make_edit"),
        (merge, "load_named_base"),
        (compress, "load_named_base"),
        (export, "load_named_base"),
    ):
        monkeypatch.setattr(module, name, load)


def _picture(path, value=7):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(path)
    return path


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("module", [sample, edit])
def test_pictures_are_refused_before_the_load(module, tmp_path, monkeypatch, capsys):
    run = make_call(module, monkeypatch)
    given = ["--prompt=a dog", "--edit=a cat"] if module is edit else ["--prompt=a dog"]
    own = _picture(tmp_path / "own" / "0000.png")
    before = own.read_bytes()
    file = tmp_path / "file"
    file.write_text("mine")
    linked = tmp_path / "linked.png"
    linked.symlink_to(own)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "samples.json").write_text("[1, 2]")

    def say(*arguments):
        return refused(capsys, run, *given, *arguments)

    assert "is not a folder: a file has that name" in say(f"--out={file}")
    assert "is not a folder: a file has that name" in say(f"--out={file}/below")
    assert "write over --image" in say(f"--image={own}", f"--out={own.parent}")
    assert "write over --image" in say(f"--image={linked}", f"--out={own.parent}")
    assert "holds 0000.png, which no samples.json" in say(f"--out={own.parent}")
    assert "was not written by personax" in say(f"--out={tmp_path / 'samples'}")
    assert own.read_bytes() == before
    assert file.read_text() == "mine"


def test_a_shorter_run_leaves_no_picture_of_the_longer_one(call, tmp_path):
    out = tmp_path / "out"
    call("--num_images=3", f"--out={out}")
    (out / "notes.txt").write_text("mine")
    call("--num_images=1", f"--out={out}")
    names = sorted(file.name for file in out.iterdir())
    assert names == ["0000.png", "grid.png", "notes.txt", "samples.json"]
    assert own_files(out) == set(names) - {"notes.txt"}


def test_a_run_that_fails_while_it_writes_loses_nothing(tmp_path):
    record = {"samples": [{"file": "0000.png"}]}
    (tmp_path / "samples.json").write_text(json.dumps(record))
    _picture(tmp_path / "0000.png")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail():
        with updated(tmp_path) as folder:
            _picture(folder / "0000.png", 9)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_record_names_no_file_of_another_folder(tmp_path):
    mine = tmp_path / "mine.png"
    _picture(mine)
    out = tmp_path / "out"
    out.mkdir()
    record = {"samples": [], "files": ["../mine.png", str(mine), "0000.png"]}
    (out / "samples.json").write_text(json.dumps(record))
    with updated(out) as folder:
        (folder / "samples.json").write_text("{}")
    assert mine.is_file()


def test_a_picture_that_is_not_finite_is_not_written(call, tmp_path, monkeypatch):
    decode = sheets.finite_or_none

    def second_is_none(decoded):
        first, _, *rest = decode(decoded)
        return [first, None, *rest]

    monkeypatch.setattr(sheets, "finite_or_none", second_is_none)
    with pytest.raises(RuntimeError, match=r"^0001\.png is not finite"):
        call("--num_images=3", f"--out={tmp_path}")
    names = {file.name for file in tmp_path.glob("0*.png")}
    assert names == {"0000.png", "0002.png"}
    record = json.loads((tmp_path / "samples.json").read_text())
    assert {each["file"] for each in record["samples"]} == names


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("module", "record"), [(merge, "merged_from"), (compress, "compression")]
)
def test_concepts_are_refused_before_the_load(module, record, tmp_path, capsys):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        (folder / "concept.json").write_text("{}")
    trained, result = tmp_path / "trained", tmp_path / "result"
    for folder, about in ((trained, {}), (result, {record: {}})):
        folder.mkdir()
        (folder / "concept.json").write_text(json.dumps(about))
    (result / "photo.png").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    given = folders if module is merge else folders[:1]

    def say(out):
        values = flags.FLAGS
        known = set(values)
        module.define_flags()
        try:
            values([module.__name__, f"--out={out}"])
            module.FLAGS = values
            return refused(capsys, module.main, [module.__name__, *map(str, given)])
        finally:
            for name in set(values) - known:
                delattr(values, name)

    assert "is the concept" in say(folders[0])
    assert "holds the concept" in say(tmp_path)
    assert "a file has that name" in say(file)
    assert "a file has that name" in say(file / "below")
    assert "is a trained concept, which would be lost" in say(trained)
    assert "photo.png" in say(result)


@pytest.mark.usefixtures("unloaded")
def test_an_export_is_refused_before_the_load(tmp_path, monkeypatch, capsys):
    run = make_call(export, monkeypatch)
    file = tmp_path / "file"
    file.write_text("mine")
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nothing")
    assert "exists" in refused(capsys, run, f"--out={tmp_path}")
    assert "exists" in refused(capsys, run, f"--out={file}")
    assert "exists" in refused(capsys, run, f"--out={dangling}")
    assert "a file has that name" in refused(capsys, run, f"--out={file}/below/out")


def test_a_data_set_is_not_built_into_its_source(tmp_path):
    with pytest.raises(ValueError, match="is inside of --from"):
        build.build("ffhq", str(tmp_path), str(tmp_path / "prepared"))
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_zip_is_refused_by_its_own_name(tmp_path):
    (tmp_path / "faces.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"faces\.zip is not a zip"):
        build.build("ffhq", f"{tmp_path}/faces.zip", f"{tmp_path}/prepared")
    assert not (tmp_path / "prepared").exists()


def test_a_check_creates_nothing(tmp_path):
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list(tmp_path.iterdir())


def test_home_is_expanded_in_every_form(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_call(sample, monkeypatch)
    seen = {}

    def stop(models, options, hints):
        seen.update(models=models, hints=hints)
        raise ValueError("stopped")

    monkeypatch.setattr(sample, "set_up", stop)
    with pytest.raises(SystemExit):
        run(
            "--out=~/pics",
            "--base=~/base",
            "--vae=~/vae",
            "--model=art=~/art@0.5",
            "--control=art=~/net",
            "--hint=art=~/hint.png",
        )
    models = seen["models"]
    assert models.base == f"{tmp_path}/base"
    assert models.reading["vae"] == f"{tmp_path}/vae"
    assert models.models == {"art": f"{tmp_path}/art@0.5"}
    assert models.controls == {"art": f"{tmp_path}/net"}
    assert seen["hints"].files == {"art": f"{tmp_path}/hint.png"}
