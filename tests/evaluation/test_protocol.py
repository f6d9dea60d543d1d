"""An evaluation's config: its tasks, jobs and fingerprints, and invalid values."""

import pytest
from ml_collections import ConfigDict

from configs.evaluate import common, emoji
from personax.evaluation.config import read_config
from personax.evaluation.protocol import (
    digest,
    fingerprint,
    jobs,
    make_protocol,
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


def test_tasks_have_the_prompts_of_their_kind(config):
    protocol = make_protocol(read_config(config))
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
    row = make_protocol(read_config(config)).rows["lora"]
    assert (row.method, row.optimizer.eps, row.seed) == ("lora", 1e-6, 7)
    assert row.preview.prompts == ()


def test_a_job_differs_from_its_row_in_the_concept_alone(config, tmp_path):
    protocol = make_protocol(read_config(config))
    (job,) = jobs(protocol, "lora", protocol.singles[1], tmp_path)
    ours = job.config.to_dict()
    row = protocol.rows["lora"].to_dict()
    differing = [key for key in row if ours[key] != row[key]]
    assert differing == ["concept"]
    assert ours["concept"]["class_word"] == "backpack"


def test_a_joint_job_has_both_concepts_and_both_subjects_steps(config, tmp_path):
    protocol = make_protocol(read_config(config))
    (pair,) = protocol.pairs
    (made,) = jobs(protocol, "both", pair, tmp_path)
    assert made.config.steps == 2 * protocol.rows["lora"].steps
    listed = (made.folder / "concepts.json").read_text()
    assert '"placeholder": "<v2>"' in listed
    assert '"class_word": "fox"' in listed


def test_changes_of_a_row_move_its_jobs(config, tmp_path):
    first = make_protocol(read_config(config))
    config.rows.lora.changes.optimizer.eps = 1e-7
    other = make_protocol(read_config(config))
    folders = [
        jobs(each, "lora", each.singles[0], tmp_path)[0].folder
        for each in (first, other)
    ]
    assert folders[0].parent == folders[1].parent
    assert folders[0] != folders[1]


def test_a_fingerprint_depends_on_the_settings(config):
    base = load_base("emoji")

    def mark():
        protocol = make_protocol(read_config(config))
        return fingerprint(protocol, base, "lora", protocol.singles[0])

    marks = {mark()}
    for key, value in {"images": 2, "seed": 1, "bootstrap": 9}.items():
        with config.unlocked():
            before, config[key] = config[key], value
        marks.add(mark())
        config[key] = before
    assert len(marks) == 4
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.rows.lora.changes.update({"optimiser": {}}),
            "Row lora has changes that configs/emoji_lora.py rejects: .*optimiser",
        ),
        (
            lambda c: c.rows.lora.changes.update({"steps": "many"}),
            "Row lora has changes that configs/emoji_lora.py rejects: .*steps",
        ),
        (
            lambda c: c.rows.lora.update({"config": "configs/emoji_lora2.py"}),
            "no config configs/emoji_lora2.py; nearest: emoji_lora.py",
        ),
        (
            lambda c: c.pair_rows.both.update({"of": "dora"}),
            "pair_rows.both.of='dora': expected one of lora",
        ),
        (
            lambda c: c.pair_rows.both.update({"way": "sum"}),
            "pair_rows.both.way='sum': expected one of joint, merge, add",
        ),
        (
            lambda c: c.rows.update({"base": c.rows.lora}),
            "The row name base is reserved",
        ),
        (
            lambda c: c.prompts.update({"object": ()}),
            "The subject backpack has no prompts: set prompts.object",
        ),
        (
            lambda c: c.prompts.update({"live": ("a dog",)}),
            r"The prompt 'a dog' of the subject dog does not contain {}",
        ),
        (lambda c: c.subjects.update({"names": ("dogg",)}), "has no 'dogg'"),
    ],
)
def test_invalid_values_are_refused(config, change, message):
    with config.unlocked():
        change(config)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_protocol(read_config(config))


def test_the_leaderboard_has_every_method():
    protocol = make_protocol(read_config(emoji.get_config()))
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
            "the term 'face@1.5:'; its model must be base or concept",
        ),
        (("concept:1",), "not of the form"),
        (("concept@1.5:", "2.5:{}"), "but the base does not know <v1>"),
    ],
)
def test_terms_that_cannot_be_drawn_with_are_refused(config, terms, says):
    config.rows.lora.terms = terms
    config.pair_rows = ConfigDict()
    with pytest.raises(ValueError, match=says):
        make_protocol(read_config(config))


def test_a_pair_of_a_row_with_terms_is_refused(config):
    config.rows.lora.terms = ("concept@1.5:{}",)
    with pytest.raises(ValueError, match=r"both.of='lora': the row has terms"):
        make_protocol(read_config(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.draw.update({"solver": "ddimm"}), "draw.solver='ddimm': expected"),
        (
            lambda c: c.draw.update({"solver": "plms", "eta": 1.0}),
            "solver ddim, not pl",
        ),
        (lambda c: c.draw.update({"eta": 1.5}), "draw.eta=1.5: expected a value"),
        (lambda c: c.update({"images": 0}), "images=0: expected a value >= 1"),
        (lambda c: c.rows.lora.update({"term": ()}), "'rows.lora.term'; nearest: rows"),
    ],
)
def test_invalid_settings_are_refused(config, change, message):
    with config.unlocked():
        change(config)
    with pytest.raises(ValueError, match=message):
        read_config(config)


def test_keys_that_came_later_leave_digests_as_they_were(config):
    protocol = make_protocol(read_config(config))
    row = protocol.rows["lora"]
    before = row.copy_and_resolve_references().to_dict()
    del before["loading"]["vae"], before["concept"]["captions"]
    for section in ("concept", "stream"):
        del before[section]["caption_column"]
    del before["stream"]["image_column"]
    assert digest(row) == digest(before)
    with row.unlocked():
        row.concept.captions = "own"
    assert digest(row) != digest(before)
