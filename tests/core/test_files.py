"""Files survive interruptions, byte order marks and incomplete lines."""

import json

import pytest

from personax.core import files


def interrupted(context, write):
    with context as temporary:
        write(temporary)
        raise KeyboardInterrupt


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(files.atomic_write(path), lambda place: place.write_text("half"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path):
    path = tmp_path / "a.json"
    with files.atomic_write(path) as one, files.atomic_write(path) as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert path.read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_folder_keeps_the_old_one(tmp_path):
    folder = tmp_path / "concept"
    with files.atomic_folder(folder) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        interrupted(files.atomic_folder(folder), lambda at: (at / "a").write_text("2"))
    assert (folder / "a").read_text() == "1"
    with files.atomic_folder(folder) as temporary:
        (temporary / "b").write_text("3")
    assert [path.name for path in folder.iterdir()] == ["b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lines_come_without_byte_order_mark_and_blanks(tmp_path, encoding):
    path = tmp_path / "prompts.txt"
    path.write_text("a dog\r\n\n  a cat\u2028at night \n", encoding=encoding)
    assert files.read_lines(path) == ["a dog", "a cat\u2028at night"]


def test_text_that_is_missing_or_not_utf8_is_an_error_that_names_it(tmp_path):
    (tmp_path / "there.txt").write_bytes(b"\xe9t\xe9")
    with pytest.raises(FileNotFoundError, match=r"there\.txt"):
        files.read_text(tmp_path / "gone.txt")
    with pytest.raises(ValueError, match=r"there\.txt is not UTF-8"):
        files.read_text(tmp_path / "there.txt")


def test_text_has_no_byte_order_mark_and_one_kind_of_line_end(tmp_path):
    path = tmp_path / "prompts.txt"
    for codec in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes("a dog\r\nün chien\rein Hund\n".encode(codec))
        assert files.read_text(path) == "a dog\nün chien\nein Hund\n", codec


def test_json_that_is_not_json_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "about.json"
    for text in ("", "{", "NaN", '{"a": Infinity}', "[" * 100_000, "9" * 5000):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"about\.json is not valid JSON"):
            files.read_json(path)


def test_text_too_large_to_be_text_is_not_read(tmp_path):
    path = tmp_path / "bomb.json"
    with path.open("wb") as file:
        file.truncate(2**30)  # sparse
    with pytest.raises(ValueError, match="1,073,741,824 bytes"):
        files.read_json(path)


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expand("~/runs") == tmp_path / "runs"
    with pytest.raises(ValueError, match="no_such_user"):
        files.expand("~no_such_user/runs")


def test_the_digest_of_a_folder_follows_links_without_going_round(tmp_path):
    folder, other = tmp_path / "set", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).symlink_to(folder)  # each level would be three times as many
    (folder / "linked").symlink_to(other)
    before = files.digest_tree(folder)
    (other / "picture.png").write_bytes(b"1")
    assert files.digest_tree(folder) != before


def test_a_journal_continues_after_an_incomplete_line(tmp_path):
    path = tmp_path / "cells.jsonl"
    assert files.read_journal(path) == []
    files.append_journal(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    assert files.read_journal(path) == [{"a": 1}]
    files.append_journal(path, {"a": 3})
    assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [1, 3]


def test_a_damaged_journal_names_the_line(tmp_path):
    path = tmp_path / "cells.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2 is not valid JSON"):
        files.read_journal(path)


def test_a_digest_depends_on_every_part(tmp_path):
    assert files.digest("ab") == files.digest(b"a", "b") != files.digest("ac")
    (tmp_path / "x").write_bytes(b"ab")
    assert files.digest_file(tmp_path / "x") == files.digest("ab")
