"""The journal of results: round trip, old lines, and interrupted writes."""

import json

from personax.evaluation.results import EvalResult, Measurement, Sample, append, read

RESULT = EvalResult(
    method="lora",
    subject="dog",
    kind="live",
    fingerprint="0123",
    num_params=66304,
    size=281584,
    seconds=3.5,
    metrics={"clip_i": Measurement(0.5, 0.01, 80), "drift": Measurement(3.0, None, 72)},
    sheet="sheets/lora/dog.png",
    tile=(32, 32),
    columns=4,
    samples=(Sample("a photo of a dog", 7, 0), Sample("a photo of a dog", 7, 1)),
    words=("<v1> dog",),
)


def test_a_result_is_read_as_it_was_written(tmp_path):
    append(tmp_path / "cells.jsonl", RESULT)
    assert read(tmp_path / "cells.jsonl") == {("lora", "dog"): RESULT}


def test_the_last_result_of_a_name_counts(tmp_path):
    path = tmp_path / "cells.jsonl"
    for each in (
        RESULT,
        RESULT._replace(fingerprint="4567"),
        RESULT._replace(subject="cat"),
    ):
        append(path, each)
    found = read(path)
    assert list(found) == [("lora", "dog"), ("lora", "cat")]
    assert found["lora", "dog"].fingerprint == "4567"


def test_an_incomplete_last_line_is_replaced(tmp_path):
    path = tmp_path / "cells.jsonl"
    append(path, RESULT)
    append(path, RESULT._replace(subject="cat"))
    path.write_bytes(path.read_bytes()[:-20])
    assert list(read(path)) == [("lora", "dog")]
    append(path, RESULT._replace(subject="fox"))
    assert list(read(path)) == [("lora", "dog"), ("lora", "fox")]


def test_a_missing_journal_is_empty(tmp_path):
    assert read(tmp_path / "cells.jsonl") == {}


def test_lines_keep_the_keys_of_earlier_versions(tmp_path):
    append(tmp_path / "cells.jsonl", RESULT)
    record = json.loads((tmp_path / "cells.jsonl").read_text())
    assert list(record) == [
        *("method", "subject", "kind", "fingerprint", "numbers", "size", "seconds"),
        *("metrics", "sheet", "tile", "columns", "shots", "words"),
    ]
    assert record["numbers"] == RESULT.num_params
    assert record["shots"][0] == ["a photo of a dog", 7, 0]
    assert record["metrics"]["clip_i"] == [0.5, 0.01, 80]
