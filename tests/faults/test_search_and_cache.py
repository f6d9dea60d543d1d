"""Searches, caches of latents and studies: stale, damaged or foreign files."""

import json

import numpy as np
import pytest

from personax import search
from personax.core.errors import RunFailedError
from personax.data.latents import (
    About,
    LatentReader,
    Latents,
    Record,
    claim,
    missing,
    remove_damaged,
    write_shard,
)
from personax.evaluation import preference_study
from personax.sampling.grammar import parse_axis
from personax.sampling.guidance_search import find_best, resume
from personax.sampling.guidance_search import search as run_search
from personax.sampling.prompt_terms import Axis
from tests.in_process import make_call
from tests.refusing import refused

AXES = [Axis("a dog", "base", (0.0, 1.0, 2.0))]


def _draw(weights):
    if weights[0] == 1:
        raise RunFailedError("picture 0 is not finite")
    return [np.full((20, 20, 3), int(weights[0]), np.uint8)] * 2


def _search(folder, score=np.mean):
    known = resume(folder, {"seed": 0})
    return list(run_search(folder, AXES, _draw, {"text": score}, known))


def test_weights_without_finite_pictures_are_named_and_never_best(tmp_path, capsys):
    results = _search(tmp_path)
    assert [each.scores["text"] for each in results] == [0.0, None, 2.0]
    assert find_best(results)["text"].weights == (2.0,)
    assert "The weights 1 have no score: picture 0 is not" in capsys.readouterr().err
    text = (tmp_path / "cells.jsonl").read_text()
    assert "NaN" not in text
    assert _search(tmp_path) == results
    assert (tmp_path / "cells.jsonl").read_text() == text


def test_a_score_text_that_clip_does_not_know_is_refused(tmp_path, monkeypatch, capsys):
    call = make_call(search, monkeypatch)
    folder = tmp_path / "search"
    arguments = ["--axis=0..1:a dog", "--score_text=a <v1> dog", f"--out={folder}"]
    line = refused(capsys, call, *arguments)
    assert "--score_text 'a <v1> dog' has <v1>" in line
    assert not folder.exists()


def test_a_search_without_any_finite_score_fails(tmp_path):
    results = _search(tmp_path, lambda _: float("nan"))
    with pytest.raises(RunFailedError, match="No weights have scores"):
        find_best(results)


def test_damaged_pictures_of_a_search_are_drawn_again(tmp_path):
    _search(tmp_path)
    picture = tmp_path / "cells" / "2.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:60])
    _search(tmp_path)
    assert picture.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        {"weights": "1", "scores": {}, "file": ""},
        {"weights": [1.0], "scores": 3, "file": ""},
        {"weights": [1.0], "scores": {"text": 1}, "file": "../../x.png"},
        {"weights": [1.0], "scores": {"text": 1}},
    ],
)
def test_a_damaged_line_of_a_search_is_named(tmp_path, line):
    (tmp_path / "cells.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=r"cells.jsonl is damaged: its record 1"):
        resume(tmp_path, {"seed": 0})


def test_other_contents_of_a_reference_are_another_search(tmp_path):
    resume(tmp_path, {"seed": 0, "contents": {"ref": "a"}})
    for contents in ({"contents": {"ref": "b"}}, {}):
        with pytest.raises(ValueError, match=r"another search \(other contents\)"):
            resume(tmp_path, {"seed": 0, **contents})


@pytest.mark.parametrize(
    "text",
    ["0..nan:a", "nan..1:a", "0..1/nan:a", "0..inf:a", "0..1/1e-320:a", "0..9e9:a"],
)
def test_an_axis_is_finite(text):
    with pytest.raises(ValueError, match="The axis"):
        parse_axis(text)


def test_a_search_stays_off_inputs_and_other_peoples_files(
    tmp_path, monkeypatch, capsys
):
    call = make_call(search, monkeypatch)
    monkeypatch.setattr(search, "set_up", None)  # nothing is loaded
    given = ["--axis=0..1:a dog", f"--out={tmp_path}"]
    line = refused(capsys, call, *given, f"--reference={tmp_path}")
    assert "over or among the input" in line
    (tmp_path / "grid.png").write_bytes(b"mine")
    line = refused(capsys, call, *given)
    assert "holds grid.png, but no search.json" in line
    (tmp_path / "file").touch()
    line = refused(capsys, call, "--axis=0..1:a", f"--out={tmp_path / 'file'}")
    assert "is not a folder" in line
    axes = ["--axis=0..999:a", "--axis=0..999:b"]
    assert "combinations" in refused(capsys, call, *axes)


ABOUT = About(
    **{"source": "folder:x", "split": "train", "pictures": "a", "captioned": True},
    **{"count": 6, "sizes": ((16, 16),), "buckets": 0, "crop": "centre"},
    **{"flip": False, "vae": "v", "dtype": "float32", "factor": 4, "channels": 2},
    shard=3,
)


@pytest.fixture
def cache(tmp_path):
    claim(tmp_path, ABOUT)
    for shard in (0, 1):
        records = [
            Record(0, np.full((1, 2, 4, 4, 2), 3 * shard + i, np.float16), str(i))
            for i in range(3)
        ]
        write_shard(tmp_path, ABOUT, shard, records, [])
    return tmp_path


def test_a_truncated_shard_is_named_and_written_again(cache):
    path = cache / "00001-of-00002.array_record"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{path.name} has .* damaged"):
        Latents(cache)
    (error,) = remove_damaged(cache, ABOUT)
    assert path.name in error
    assert missing(cache, ABOUT) == [1]


def test_flipped_bytes_of_a_shard_are_found_and_skipped_meanwhile(cache):
    path = cache / "00001-of-00002.array_record"
    data = bytearray(path.read_bytes())
    at = bytes(data).index(np.full(8, 4, np.float16).tobytes())  # in the 5th record
    data[at] ^= 1
    path.write_bytes(data)
    reader = LatentReader(Latents(cache))
    with pytest.raises(ValueError, match=rf"{path.name}: damaged"):
        reader.latents.records([4])
    rows = reader.read([3, 4], [np.random.default_rng(0)] * 2)
    assert rows["mean"][:, 0, 0, 0].tolist() == [3, 5]  # the next one in its place
    assert path.name in rows["skipped"][0]
    (error,) = remove_damaged(cache, ABOUT)
    assert path.name in error
    assert missing(cache, ABOUT) == [1]


def test_whole_shards_stay_and_those_of_before_have_no_digest(cache):
    assert remove_damaged(cache, ABOUT) == []
    for index in cache.glob("0*.json"):
        values = json.loads(index.read_text())
        del values["size"], values["digest"]
        index.write_text(json.dumps(values))
    assert remove_damaged(cache, ABOUT) == []
    assert len(Latents(cache)) == 6


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cache.json", "[]"),
        ("cache.json", "{}"),
        ("cache.json", ""),
        ("00000-of-00002.json", '{"buckets": [9], "skipped": []}'),
        ("00000-of-00002.json", '{"buckets": [1e400], "skipped": []}'),
        ("00000-of-00002.json", "{"),
    ],
)
def test_damaged_records_of_a_cache_are_named(cache, name, text):
    (cache / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        Latents(cache)


def test_a_study_replaces_itself_alone(tmp_path):
    page, path = tmp_path / "study.html", tmp_path / "study.json"
    key = {"format": "personax study 1", "questions": []}
    key = {"study": preference_study.digest_of(key), **key}
    page.write_text("mine")
    with pytest.raises(ValueError, match="no study of ours"):
        preference_study._check_replaceable(page, path, key)
    path.write_text(json.dumps(key))
    preference_study._check_replaceable(page, path, key)
    with pytest.raises(ValueError, match="the key of another study"):
        preference_study._check_replaceable(page, path, {**key, "study": "other"})
