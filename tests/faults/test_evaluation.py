"""Evaluations: stale results, late checks, damaged state, numbers that are none."""

import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.evaluate import common
from personax.data import emoji
from personax.evaluation import contents, metric_registry, results, runner
from personax.evaluation import trained_models as work
from personax.evaluation.config import read_config
from personax.evaluation.draw import Drawn
from personax.evaluation.protocol import fingerprint, jobs, make_protocol
from personax.evaluation.results import EvalResult, Measurement, Sample
from personax.evaluation.runner import claimed, open_runner
from personax.evaluation.samples import Generations
from personax.loading import load_base
from personax.metrics.features import UndefinedError
from personax.training.config import load_config


def _subject(folder, name="dog"):
    """A folder of a user's with two pictures."""
    folder.mkdir(parents=True)
    for path in sorted(emoji.subjects()[name].images)[:2]:
        shutil.copy(path, folder)
    return folder


def _config(source="emoji", names=("dog",)):
    config = common.get_config()
    config.subjects = ConfigDict({"source": str(source), "names": names})
    config.prompts.live = config.prompts.object = ("a photo of a {}",)
    config.images, config.draw.steps, config.bootstrap = 2, 2, 5
    config.judges = ConfigDict({"clip": "", "captions": ""})
    return config


def _with_lora(config, **changes):
    row = {"config": "configs/emoji_lora.py", "changes": {"steps": 2, **changes}}
    config.rows.lora = ConfigDict(row)
    return config


@pytest.fixture(scope="module")
def base():
    return load_base("emoji")


def test_other_pictures_are_another_result_and_another_training(tmp_path, base):
    folder = _subject(tmp_path / "subjects" / "my_dog")
    config = _with_lora(_config(f"folders:{tmp_path / 'subjects'}", ()))

    def marks():
        protocol = make_protocol(read_config(config))
        (task,) = protocol.singles
        names = [fingerprint(protocol, base, row, task) for row in ("base", "lora")]
        return *names, jobs(protocol, "lora", task, tmp_path)[0].folder

    before = marks()
    assert marks() == before
    shutil.copy(sorted(emoji.subjects()["cat"].images)[0], folder / "00.png")
    assert not set(before) & set(marks())


def test_the_contents_of_masks_and_real_pictures_count(tmp_path, base):
    masks, real = tmp_path / "masks", tmp_path / "real" / "dog"
    config = _with_lora(_config(), concept={"masks": str(masks)})
    config.real = str(tmp_path / "real")
    for folder in (masks, real):
        folder.mkdir(parents=True)
        (folder / "00.png").write_bytes(b"before")

    def mark():
        protocol = make_protocol(read_config(config))
        return fingerprint(protocol, base, "lora", protocol.singles[0])

    found = {mark()}
    for folder in (masks, real):
        (folder / "00.png").write_bytes(b"after")
        found.add(mark())
    assert len(found) == 3


def test_the_pictures_that_a_list_names_count(tmp_path):
    folder = _subject(tmp_path / "set")
    names = sorted(path.name for path in folder.iterdir())
    lines = "".join(f"set/{name}\ta dog\n" for name in names)
    listing = tmp_path / "list.tsv"
    listing.write_text(lines)

    def mark():
        return contents.digests([], [str(listing)])[str(listing)]

    found = {mark()}
    shutil.copy(sorted(emoji.subjects()["cat"].images)[0], folder / names[1])
    found.add(mark())
    listing.write_text(lines.replace("a dog", "a cat"))
    found.add(mark())
    assert len(found) == 3


def test_bundled_subjects_keep_the_digests_of_before():
    protocol = make_protocol(read_config(_with_lora(_config())))
    assert protocol.contents == {}


def test_a_broken_picture_of_any_subject_is_found_first(tmp_path, monkeypatch):
    _subject(tmp_path / "subjects" / "a_dog")
    broken = _subject(tmp_path / "subjects" / "b_dog") / "01.png"
    broken.write_bytes(broken.read_bytes()[:100])
    monkeypatch.setattr(runner, "load_base", None)
    with pytest.raises(ValueError, match=str(broken)):
        open_runner(
            read_config(_config(f"folders:{tmp_path / 'subjects'}", ())),
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_every_row_is_prepared_with_every_subject_first(tmp_path, monkeypatch):
    for name in ("dog", "toaster"):
        _subject(tmp_path / "subjects" / name)
    config = _config(f"folders:{tmp_path / 'subjects'}", ())
    _with_lora(config, prior={"source": "world", "count": 2})
    monkeypatch.setattr(work, "train_jobs", None)
    with pytest.raises(ValueError, match=r"Row lora, toaster: .*no class 'toaster'"):
        open_runner(read_config(config), tmp_path / "out")


def test_a_prompt_with_an_unknown_placeholder_is_found_first(tmp_path):
    config = _config()
    config.prompts.live = ("a {} beside a <v7>",)
    with pytest.raises(ValueError, match="Unknown concept <v7>"):
        open_runner(read_config(config), tmp_path / "out")


def test_what_somebody_else_has_in_the_folder_stays(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ValueError, match=r"holds report.html, but no cells.jsonl"):
        open_runner(read_config(_config()), tmp_path)


def test_references_are_not_written_over_the_subjects_themselves(tmp_path):
    _subject(tmp_path / "references" / "my_dog")
    (tmp_path / "cells.jsonl").touch()
    config = _config(f"folders:{tmp_path / 'references'}", ())
    with pytest.raises(ValueError, match="over or among the input"):
        open_runner(read_config(config), tmp_path)


def test_a_row_that_another_process_runs_is_refused(tmp_path):
    opened = open_runner(read_config(_config()), tmp_path, ["base"])
    others = opened._replace(only=("renders",))
    held = claimed(opened)
    with claimed(others), held:
        refused = pytest.raises(ValueError, match=r"sheets/base is in use by process")
        with refused, claimed(opened):
            pass
    with claimed(opened):
        pass


_RESULT = EvalResult(
    *("base", "dog", "live", "abc", 0, 0, 0.0, {"clip_t": Measurement(0.5, None, 2)}),
    *("sheets/base/dog.png", (8, 8), 2, (Sample("a dog", 0, 1),), ("dog",)),
)


@pytest.mark.parametrize(
    "change",
    [
        {"method": ["base"]},
        {"numbers": "many"},
        {"seconds": None},
        {"metrics": 3},
        {"metrics": {"clip_t": [0.5]}},
        {"metrics": {"clip_t": ["0.5", None, 2]}},
        {"tile": [8]},
        {"shots": [["a dog"]]},
        {"words": 7},
    ],
)
def test_a_damaged_line_of_the_journal_is_named(tmp_path, change):
    journal = tmp_path / "cells.jsonl"
    results.append(journal, _RESULT)
    assert results.read(journal) == {("base", "dog"): _RESULT}
    record = json.loads(journal.read_text())
    journal.write_text(f"{json.dumps(record)}\n{json.dumps(record | change)}\n")
    with pytest.raises(ValueError, match=r"cells.jsonl is damaged: its record 2 is"):
        results.read(journal)


def test_a_journal_of_before_with_not_a_number_loses_that_score_alone(tmp_path):
    journal = tmp_path / "cells.jsonl"
    metrics = {**_RESULT.metrics, "kid": Measurement(float("nan"), None, 2)}
    results.append(journal, _RESULT._replace(metrics=metrics))
    assert results.read(journal) == {("base", "dog"): _RESULT}


def test_a_damaged_cache_of_the_bases_pictures_is_drawn_again(tmp_path, monkeypatch):
    opened = open_runner(read_config(_config()), tmp_path)
    drawn = Drawn(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 4, 4, 4), np.float32))
    calls = []
    monkeypatch.setattr(runner, "_draw", lambda *_: calls.append(1) or drawn)
    path, task = tmp_path / "base" / "dog.npz", opened.protocol.singles[0]
    runner._base_samples(opened, task)
    runner._base_samples(opened, task)
    assert len(calls) == 1
    for damage in (b"", path.read_bytes()[:200], _flipped(path.read_bytes())):
        path.write_bytes(damage)
        runner._base_samples(opened, task)
    assert len(calls) == 4


def _flipped(data):
    middle = len(data) // 3
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_scores_that_are_not_numbers_are_named_and_left_out(capsys):
    def undefined(_):
        raise UndefinedError("It requires at least 2 pictures, not 1.")

    found = metric_registry.score(
        [
            lambda _: {"kid": Measurement(float("nan"), 0.1, 2)},
            undefined,
            lambda _: {"clip_t": Measurement(0.5, float("inf"), 2)},
        ],
        Generations((), (), (), (), ()),
        "Row base, dog",
    )
    assert found == {"clip_t": Measurement(0.5, None, 2)}
    said = capsys.readouterr().err
    assert "personax: Row base, dog: kid is nan, which is left out." in said
    assert "at least 2 pictures, not 1" in said


def test_pictures_that_are_not_finite_have_no_scores(tmp_path, monkeypatch, capsys):
    opened = open_runner(read_config(_config()), tmp_path, ["base"])
    pixels, latents = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 8, 8, 4))
    drawn = Drawn(pixels, latents, failed=(1,))
    monkeypatch.setattr(runner, "_draw", lambda *_: drawn)
    (result,) = runner.evaluate(opened._replace(metrics=[None]))
    assert result.metrics == {}
    assert "1 of 2 pictures are not finite (numbers 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("images", 0),
        ("images", 10**9),
        ("bootstrap", 1),
        ("together", 0),
        ("draw.steps", 0),
        ("draw.steps", 10**6),
        ("draw.batch", 0),
        ("draw.guidance", float("nan")),
        ("draw.eta", 1.5),
        ("draw.eta", float("nan")),
    ],
)
def test_every_number_has_a_range(key, value):
    config = _config()
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=rf"{key}=.*expected a"):
        read_config(config)


def test_the_last_prompts_seed_is_a_seed():
    config = _config()
    config.seed, config.prompts.live = 2**32 - 1, ("a {}", "the {}")
    with pytest.raises(ValueError, match=r"below 2\*\*32"):
        make_protocol(read_config(config))


def test_a_config_of_a_training_is_refused_by_what_it_lacks():
    with pytest.raises(ValueError, match="needs the mapping 'rows'"):
        read_config(load_config("configs/quickstart.py"))
