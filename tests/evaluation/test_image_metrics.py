"""The judges that look at pictures, where their networks are ours or made here."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.evaluate import common
from personax.concepts.bind import from_base
from personax.data import emoji
from personax.evaluation import image_metrics, metric_registry
from personax.evaluation.samples import Answer, measured

WORDS = ("dog", "apple")


def rendered(places, name="dog-face"):
    sprites = emoji.load_sprites()
    scenes = [emoji.Scene((name, "noto"), place) for place in places]
    rng = np.random.default_rng
    return tuple(emoji.render(rng(i), sprites, each) for i, each in enumerate(scenes))


def answer(places=("at night", "red"), **more):
    templates = ("a photo of a {} at night", "a photo of a {} on a red background")
    return Answer(
        pixels=rendered(places),
        texts=tuple(each.replace("{}", "dog") for each in templates),
        templates=templates,
        class_words=("dog",),
        targets=(rendered(("on the beach", "blue")),),
        **more,
    )


def test_clip_knows_the_subject_and_the_text():
    judge = image_metrics.clip("emoji", 20)
    right = judge(answer())
    wrong = judge(answer(("red", "at night")))
    other = answer()._replace(targets=(rendered(("blue",), "castle"),))
    assert right["clip_t"].value > wrong["clip_t"].value + 0.1
    assert right["clip_i"].value > judge(other)["clip_i"].value + 0.1
    assert right["clip_score"].value == pytest.approx(2.5 * right["clip_t"].value)
    assert right["clip_t"].error > 0


def test_clip_says_what_became_of_the_class():
    judge = image_metrics.clip("emoji", 20)
    before = rendered(("at night", "red"), "castle")
    kept = judge(answer(bare=before, bare_before=before))
    lost = judge(answer(bare=rendered(("at night", "red")), bare_before=before))
    assert kept["same"].value == pytest.approx(1, abs=1e-6)
    assert kept["leak"].value == 0
    assert lost["same"].value < 0.9
    assert lost["leak"].value > 0.1
    assert "same" not in judge(answer())


def test_the_classifier_sees_the_class_and_all_that_is_asked():
    judge = image_metrics.classifier("emoji", 20)
    found = judge(answer())
    assert found["class"].value == found["asked"].value == 1
    assert judge(answer(("red", "red")))["asked"].value == 0.5
    plain = answer()._replace(templates=("a photo of a {}",) * 2)
    assert "asked" not in judge(plain)
    pair = answer()._replace(class_words=WORDS, targets=answer().targets * 2)
    assert "class" not in judge(pair)


def test_an_error_resamples_prompts_and_is_unknown_for_one():
    values = {"x": np.array([0.0, 0.0, 1.0, 1.0])}
    by_prompt = measured(values, ("a", "a", "b", "b"), 500)["x"]
    by_picture = measured(values, range(4), 500)["x"]
    assert by_prompt.value == by_picture.value == 0.5
    assert by_prompt.error == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert by_picture.error == pytest.approx(0.25, rel=0.1)
    assert measured(values, ("a",) * 4, 500)["x"].error is None


def test_a_network_that_is_not_there_costs_its_columns_alone(emoji, capsys):
    config = common.get_config()
    config.judges = ConfigDict({"classifier": "emoji", "dino": "/nowhere"})
    made = metric_registry.make_judges(config, emoji, from_base(emoji))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("personax: no dino: ")
    assert "/nowhere" in line
    assert metric_registry.measure(made, answer()).keys() == {"class", "asked"}


def test_a_judge_that_does_not_exist_is_named(emoji):
    config = common.get_config()
    config.judges = ConfigDict({"clipp": "emoji"})
    with pytest.raises(ValueError, match="no judge 'clipp'; there are clip, dino"):
        metric_registry.make_judges(config, emoji, from_base(emoji))


def test_every_column_that_a_judge_fills_is_shown():
    keys = {column.key for column in metric_registry.COLUMNS}
    for judge, more in (
        (image_metrics.clip("emoji", 2), {"bare": rendered(("red",) * 2)}),
        (image_metrics.classifier("emoji", 2), {}),
    ):
        given = answer(**more, **({"bare_before": more["bare"]} if more else {}))
        assert judge(given).keys() <= keys


def test_stored_questions_are_answered_by_any_function(tmp_path, monkeypatch):
    night, red = answer().texts
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
    judge = image_metrics.tifa(str(tmp_path / "asked.json"), "my_vqa:answer", 20)
    found = judge(answer())["tifa"]
    assert (found.value, found.count) == (0.5, 1)
    assert judge(answer()._replace(texts=(red, red))) == {}
    for name, says in {
        "": "needs who answers",
        "my_vqa": "not module:function",
        "my_vqa:ask": "my_vqa:ask' cannot be imported",
        "nobody:answer": "No module named 'nobody'",
    }.items():
        with pytest.raises(ValueError, match=says):
            image_metrics.tifa(str(tmp_path / "asked.json"), name, 20)
