"""An evaluation's config: what it is read as, and what is refused in one sentence."""

import pytest
from ml_collections import ConfigDict

from configs.evaluate import common, emoji
from personax.evaluation.protocol import (
    digest,
    fingerprint,
    joint_lesson,
    lesson,
    read_protocol,
)
from personax.loading import load_base


@pytest.fixture
def config():
    config = common.get_config()
    config.subjects.names = ("dog", "backpack")
    config.pairs = (("dog", "fox"),)
    config.prompts.live = ("a photo of a {}", "a photo of a {} at night")
    config.prompts.object = ("a photo of a {}",)
    config.prompts.pair = ("a photo of a {0} next to a {1}",)
    config.rows.lora = ConfigDict(
        {"config": "configs/emoji_lora.py", "changes": {"optimizer": {"eps": 1e-6}}}
    )
    config.pair_rows.both = ConfigDict({"of": "lora", "way": "joint"})
    return config


def test_questions_have_their_kind_s_prompts_with_the_words_in(config):
    protocol = read_protocol(config)
    dog, backpack = protocol.singles
    assert dog.prompts(["<v1> dog"]) == [
        "a photo of a <v1> dog",
        "a photo of a <v1> dog at night",
    ]
    assert (backpack.kind, len(backpack.templates)) == ("object", 1)
    (pair,) = protocol.pairs
    assert pair.name == "dog+fox"  # of a subject that is not asked alone
    assert pair.prompts(["<v1> dog", "fox"]) == ["a photo of a <v1> dog next to a fox"]


def test_a_row_is_its_config_with_its_changes(config):
    config.seed = 7
    row = read_protocol(config).rows["lora"]
    assert (row.method, row.optimizer.eps, row.seed) == ("lora", 1e-6, 7)
    assert row.preview.prompts == ()


def test_a_lesson_differs_from_its_row_in_the_concept_alone(config, tmp_path):
    protocol = read_protocol(config)
    subject = protocol.singles[1].subjects[0]
    ours = lesson(protocol, "lora", subject, tmp_path).config.to_dict()
    row = protocol.rows["lora"].to_dict()
    differing = [key for key in row if ours[key] != row[key]]
    assert differing == ["concept"]
    assert ours["concept"]["class_word"] == "backpack"


def test_a_joint_lesson_names_both_and_sees_each_as_often_as_alone(config, tmp_path):
    protocol = read_protocol(config)
    (pair,) = protocol.pairs
    made = joint_lesson(protocol, "lora", pair, tmp_path)
    assert made.config.steps == 2 * protocol.rows["lora"].steps
    listed = (made.folder / "concepts.json").read_text()
    assert '"placeholder": "<v2>"' in listed
    assert '"class_word": "fox"' in listed


def test_what_is_changed_is_taught_elsewhere(config, tmp_path):
    first = read_protocol(config)
    subject = first.singles[0].subjects[0]
    config.rows.lora.changes.optimizer.eps = 1e-7
    other = read_protocol(config)
    folders = [
        lesson(each, "lora", subject, tmp_path).folder for each in (first, other)
    ]
    assert folders[0].parent == folders[1].parent
    assert folders[0] != folders[1]


def test_a_fingerprint_changes_with_whatever_a_cell_depends_on(config):
    base = load_base("emoji")
    marks = {fingerprint(read_protocol(config), base, "lora")}
    for key, value in {"images": 2, "seed": 1, "bootstrap": 9}.items():
        with config.unlocked():
            before, config[key] = config[key], value
        marks.add(fingerprint(read_protocol(config), base, "lora"))
        config[key] = before
    assert len(marks) == 4
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.rows.lora.changes.update({"optimiser": {}}),
            "The row lora changes what configs/emoji_lora.py has not: .*optimiser",
        ),
        (
            lambda c: c.rows.lora.changes.update({"steps": "many"}),
            "The row lora changes what configs/emoji_lora.py has not: .*steps",
        ),
        (
            lambda c: c.rows.lora.update({"config": "configs/emoji_lora2.py"}),
            "no config configs/emoji_lora2.py; nearest: emoji_lora.py",
        ),
        (
            lambda c: c.pair_rows.both.update({"of": "dora"}),
            "both is of 'dora'; rows: lora",
        ),
        (
            lambda c: c.pair_rows.both.update({"way": "sum"}),
            "both: no way 'sum'; ways: joint, merge, add",
        ),
        (
            lambda c: c.rows.update({"base": c.rows.lora}),
            "The row base is there anyway",
        ),
        (
            lambda c: c.prompts.update({"object": ()}),
            "The subject backpack is asked nothing: prompts.object is empty",
        ),
        (
            lambda c: c.prompts.update({"live": ("a dog",)}),
            r"The prompt 'a dog' has no place {} for The subject dog",
        ),
        (lambda c: c.subjects.update({"names": ("dogg",)}), "has no 'dogg'"),
    ],
)
def test_what_does_not_exist_is_said_in_one_sentence(config, change, message):
    with config.unlocked():
        change(config)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_protocol(config)


def test_the_leaderboard_has_every_method():
    protocol = read_protocol(emoji.get_config())
    assert len(protocol.singles) == 12
    assert {row.method for row in protocol.rows.values()} == {
        *("custom_diffusion", "class_diffusion", "dreambooth", "textual_inversion"),
        *("extended_textual_inversion", "neti", "prospect", "lora", "oft", "svdiff"),
        *("perfusion", "infusion", "concept_centric"),
    }
    assert next(iter(protocol.rows)) == "custom_diffusion"  # in the config's order


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        (
            ("face@1.5:",),
            "the term 'face@1.5:', and there are the models base and con",
        ),
        (("concept:1",), "not of the form"),
        (("concept@1.5:", "2.5:{}"), "asks the base for <v1>, which it does not know"),
    ],
)
def test_terms_that_cannot_be_drawn_with_are_refused(config, terms, says):
    config.rows.lora.terms = terms
    config.pair_rows = ConfigDict()
    with pytest.raises(ValueError, match=says):
        read_protocol(config)


def test_a_pair_is_not_asked_by_terms(config):
    config.rows.lora.terms = ("concept@1.5:{}",)
    with pytest.raises(ValueError, match="both is of lora, whose terms are of one"):
        read_protocol(config)
