"""What a run reads is digested by content: a path may hold something else later."""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from personax.core import files
from personax.data.files import open_files
from personax.training import digests, hooks
from personax.training.regularization import Prior, world


def write_picture(path, level):
    """A picture whose file has the same size whatever its level."""
    Image.fromarray(np.full((20, 20, 3), level, np.uint8)).save(path)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "ab":
        write_picture(folder / f"{name}.png", 3)
        (folder / f"{name}.txt").write_text(f"caption {name}")
    return folder


def change_picture(folder):
    size = (folder / "b.png").stat().st_size
    write_picture(folder / "b.png", 5)
    assert (folder / "b.png").stat().st_size == size


def change_caption(folder):
    (folder / "b.txt").write_text("caption c")


def touch(folder):
    os.utime(folder / "b.png", (0, 0))


@pytest.mark.parametrize("source", ["folder", "retrieved"])
@pytest.mark.parametrize(
    ("change", "differs"),
    [(change_picture, True), (change_caption, True), (touch, False)],
)
def test_a_regularisation_set_is_its_pictures_and_captions(
    pictures, source, change, differs
):
    prior = Prior(source=source, images=str(pictures), prompt="a dog", count=2)
    before = digests._prior(prior)
    change(pictures)
    assert (digests._prior(prior) != before) == differs


@pytest.mark.parametrize(
    ("change", "differs"), [(change_picture, True), (touch, False)]
)
def test_a_stream_of_a_folder_is_its_contents(pictures, change, differs):
    before = open_files(str(pictures)).contents()
    change(pictures)
    assert (open_files(str(pictures)).contents() != before) == differs


def test_a_stream_of_a_zip_is_its_contents(pictures, tmp_path):
    found = []
    for _ in range(2):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(pictures / "b.png", "b.png")
        found.append(open_files(str(tmp_path / "a.zip")).contents())
        change_picture(pictures)
    assert found[0] != found[1]


@pytest.mark.parametrize("limit", [2**28, 2**10])
def test_contents_are_those_of_files_in_their_order(tmp_path, monkeypatch, limit):
    """Also of files that are sampled, which a copy and another name do not change."""
    monkeypatch.setattr(files, "_WHOLE", limit)
    monkeypatch.setattr(files, "_SAMPLES", 64)
    paths = [tmp_path / name for name in "abc"]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 1000 * (i + 1))
    before = files.digest_contents(paths)
    copy = tmp_path / "copy"
    copy.write_bytes(paths[0].read_bytes())
    assert files.digest_contents([copy, *paths[1:]]) == before
    assert files.digest_contents(paths[::-1]) != before
    paths[2].write_bytes(bytes([7]) * 3000)
    assert files.digest_contents(paths) != before
    assert files.digest_contents([tmp_path / "missing"]) == files.digest_contents([])


def test_a_cache_that_cannot_be_written_does_not_stop_a_set(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    prior = Prior(source="world", count=2, cache=str(tmp_path / "file" / "cache"))
    drawn = world(prior, "dog")
    assert all(each.path.is_file() for each in drawn)
    assert "There is no cache in" in capfd.readouterr().err


def test_a_complete_cache_is_read_where_it_cannot_be_written(tmp_path, monkeypatch):
    prior = Prior(source="world", count=2, cache=str(tmp_path))
    before = world(prior, "dog")
    monkeypatch.setattr("personax.training.regularization.cache_folder", lambda _: None)
    assert world(prior, "dog") == before


@pytest.mark.parametrize(("norms", "said"), [((0.0, 0.0), 1), ((0.0, 0.1), 0)])
def test_a_gradient_of_0_is_said_once(norms, said, capfd):
    check = hooks.zero_gradient_check()
    check([(i, {"gradient_norm": norm}) for i, norm in enumerate(norms)])
    check([(5, {"gradient_norm": 0.0})])
    assert capfd.readouterr().err.count("nothing is learned") == said
