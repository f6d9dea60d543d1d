import os

import pytest

from personax.core import outputs


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = outputs.make_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="is not a folder: a file has that name"):
            outputs.make_folder(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_the_way_of_a_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is a folder; name a file in it"):
        outputs.make_parent(tmp_path)
    assert outputs.make_parent(tmp_path / "new" / "file.png").parent.is_dir()


def test_a_cache_that_cannot_be_written_is_reported_once(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "cache")
    assert outputs.cache_folder(path) is None
    assert outputs.cache_folder(path) is None
    assert capfd.readouterr().err.count("There is no cache in") == 1
    assert outputs.cache_folder(str(tmp_path / "cache")) == tmp_path / "cache"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="cannot be written: Permission denied"):
        outputs.make_folder(tmp_path / "a")


def test_a_full_disk_is_told_from_other_errors():
    assert outputs.is_disk_full(OSError(28, "No space left on device"))
    assert outputs.is_disk_full(RuntimeError("write: No space left on device [x=1]"))
    assert not outputs.is_disk_full(OSError(13, "Permission denied"))
