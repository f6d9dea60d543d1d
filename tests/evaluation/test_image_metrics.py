"""The metrics of pictures whose networks are embedded or made here."""

import dataclasses
import json

import numpy as np
import pytest

from configs.evaluate import common
from personax.concepts.bind import from_base
from personax.data import emoji
from personax.evaluation import image_metrics, metric_registry
from personax.evaluation.config import read_config
from personax.evaluation.samples import Generations, summarize

WORDS = ("dog", "apple")


def rendered(places, name="dog-face"):
    sprites = emoji.load_sprites()
    scenes = [emoji.Scene((name, "noto"), place) for place in places]
    rng = np.random.default_rng
    return tuple(emoji.render(rng(i), sprites, each) for i, each in enumerate(scenes))


def generations(places=("at night", "red"), **more):
    templates = ("a photo of a {} at night", "a photo of a {} on a red background")
    return Generations(
        pixels=rendered(places),
        texts=tuple(each.replace("{}", "dog") for each in templates),
        templates=templates,
        class_words=("dog",),
        targets=(rendered(("on the beach", "blue")),),
        **more,
    )


def make_metrics(judges, base):
    config = read_config(common.get_config())
    config = dataclasses.replace(config, judges=judges)
    return metric_registry.make_metrics(config, base, from_base(base))


def test_clip_measures_subject_and_text():
    metric = image_metrics.clip("emoji", 20)
    right = metric(generations())
    wrong = metric(generations(("red", "at night")))
    other = generations()._replace(targets=(rendered(("blue",), "castle"),))
    assert right["clip_t"].value > wrong["clip_t"].value + 0.1
    assert right["clip_i"].value > metric(other)["clip_i"].value + 0.1
    assert right["clip_score"].value == pytest.approx(2.5 * right["clip_t"].value)
    assert right["clip_t"].error > 0


def test_clip_measures_prior_similarity_and_class_leakage():
    metric = image_metrics.clip("emoji", 20)
    before = rendered(("at night", "red"), "castle")
    kept = metric(generations(bare=before, bare_before=before))
    lost = metric(generations(bare=rendered(("at night", "red")), bare_before=before))
    assert kept["same"].value == pytest.approx(1, abs=1e-6)
    assert kept["leak"].value == 0
    assert lost["same"].value < 0.9
    assert lost["leak"].value > 0.1
    assert "same" not in metric(generations())


def test_the_classifier_measures_class_and_prompt_attributes():
    metric = image_metrics.classifier("emoji", 20)
    values = metric(generations())
    assert values["class"].value == values["asked"].value == 1
    assert metric(generations(("red", "red")))["asked"].value == 0.5
    plain = generations()._replace(templates=("a photo of a {}",) * 2)
    assert "asked" not in metric(plain)
    pair = generations()._replace(class_words=WORDS, targets=generations().targets * 2)
    assert "class" not in metric(pair)


def test_an_error_resamples_prompts_and_is_unknown_for_one():
    values = {"x": np.array([0.0, 0.0, 1.0, 1.0])}
    by_prompt = summarize(values, ("a", "a", "b", "b"), 500)["x"]
    by_picture = summarize(values, range(4), 500)["x"]
    assert by_prompt.value == by_picture.value == 0.5
    assert by_prompt.error == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert by_picture.error == pytest.approx(0.25, rel=0.1)
    assert summarize(values, ("a",) * 4, 500)["x"].error is None


def test_a_missing_network_skips_its_metric_only(emoji, capsys):
    made = make_metrics({"classifier": "emoji", "dino": "/nowhere"}, emoji)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("personax: skipping metric dino: ")
    assert "/nowhere" in line
    assert metric_registry.score(made, generations()).keys() == {"class", "asked"}


def test_a_judge_that_does_not_exist_is_named(emoji):
    with pytest.raises(
        ValueError, match=r"metric judges.clipp; expected one of clip, "
    ):
        make_metrics({"clipp": "emoji"}, emoji)


def test_every_column_that_a_judge_fills_is_shown():
    keys = {column.key for column in metric_registry.COLUMNS}
    for metric, more in (
        (image_metrics.clip("emoji", 2), {"bare": rendered(("red",) * 2)}),
        (image_metrics.classifier("emoji", 2), {}),
    ):
        own = generations(**more, **({"bare_before": more["bare"]} if more else {}))
        assert metric(own).keys() <= keys


def test_tifa_calls_the_configured_function(tmp_path, monkeypatch):
    night, red = generations().texts
    entry = {"id": "1", "caption": night, "question": "What time is it?"}
    entry |= {"choices": ["day", "night"], "answer": "night", "element_type": "other"}
    also = entry | {"question": "A dog?", "choices": ["yes", "no"], "answer": "yes"}
    (tmp_path / "asked.json").write_text(json.dumps([entry, also]))
    (tmp_path / "my_vqa.py").write_text(
        "def answer(pixels, question, choices):\n"
        "    assert pixels.shape == (32, 32, 3)\n"
        "    return choices[0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    metric = image_metrics.tifa(str(tmp_path / "asked.json"), "my_vqa:answer", 20)
    tifa = metric(generations())["tifa"]
    assert (tifa.value, tifa.count) == (0.5, 1)
    assert metric(generations()._replace(texts=(red, red))) == {}
    for name, says in {
        "": "requires vqa=package.module:function",
        "my_vqa": "requires vqa=package.module:function, not 'my_vqa'",
        "my_vqa:ask": "Cannot import vqa 'my_vqa:ask'",
        "nobody:answer": "No module named 'nobody'",
    }.items():
        with pytest.raises(ValueError, match=says):
            image_metrics.tifa(str(tmp_path / "asked.json"), name, 20)
