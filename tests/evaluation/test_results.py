"""The journal: what is written is read back, and a cut line costs that line alone."""

from personax.evaluation.results import Cell, Measured, Shot, append, mend, read

CELL = Cell(
    method="lora",
    subject="dog",
    kind="live",
    fingerprint="0123",
    numbers=66304,
    size=281584,
    seconds=3.5,
    metrics={"clip_i": Measured(0.5, 0.01, 80), "drift": Measured(3.0, None, 72)},
    sheet="sheets/lora/dog.png",
    tile=(32, 32),
    columns=4,
    shots=(Shot("a photo of a dog", 7, 0), Shot("a photo of a dog", 7, 1)),
    words=("<v1> dog",),
)


def test_a_cell_comes_back_as_it_was(tmp_path):
    append(tmp_path / "cells.jsonl", CELL)
    assert read(tmp_path / "cells.jsonl") == {("lora", "dog"): CELL}


def test_the_last_of_a_name_counts(tmp_path):
    path = tmp_path / "cells.jsonl"
    for each in (CELL, CELL._replace(fingerprint="4567"), CELL._replace(subject="cat")):
        append(path, each)
    found = read(path)
    assert list(found) == [("lora", "dog"), ("lora", "cat")]
    assert found["lora", "dog"].fingerprint == "4567"


def test_a_line_that_a_kill_cut_off_is_done_again(tmp_path):
    path = tmp_path / "cells.jsonl"
    append(path, CELL)
    append(path, CELL._replace(subject="cat"))
    path.write_bytes(path.read_bytes()[:-20])
    assert list(read(path)) == [("lora", "dog")]
    mend(path)
    append(path, CELL._replace(subject="fox"))
    assert list(read(path)) == [("lora", "dog"), ("lora", "fox")]


def test_where_nothing_was_written_nothing_is_read(tmp_path):
    assert read(tmp_path / "cells.jsonl") == {}
