"""Every protocol builds, and its rows, prompts and pairs exist and match its table."""

import ast
import importlib
import pathlib
import re

import pytest
from ml_collections import ConfigDict

from configs.evaluate import common, prompts
from personax.data import emoji as world
from personax.data.dreambooth_set import read_listing
from personax.data.published import read_pairs, read_subjects
from personax.diffusion.solvers import SOLVERS
from personax.evaluation.draw import CONCEPT
from personax.networks.tokenizer import ids_of
from personax.sampling.grammar import parse_term

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "evaluate"
SHARED = ("__init__", "common", "prompts", "sd15")
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in SHARED)
# Numbers of prompts of the sets that publish their own: single, pair.
OWN = {
    "dreambooth": (25, 0),
    "custom_concept_101": (20, 12),
    "custom_diffusion": (20, 8),
}
# Pictures per prompt, and the papers' sampler settings.
PAPERS = {
    "dreambooth": (4, "ddim", 50, 7.5, 0.0),
    "custom_diffusion": (50, "ddim", 50, 6.0, 1.0),
    "custom_concept_101": (5, "ddim", 50, 6.0, 1.0),
    "custom_concept_101_pairs": (5, "ddim", 50, 6.0, 1.0),
    "class_diffusion": (20, "plms", 100, 6.0, 0.0),
    "infusion": (5, "ddim", 50, 8.0, 0.0),
}
OPEN = ("rows", "pair_rows")  # their keys differ between protocols
LISTING = ROOT.parent / "shared" / "photos" / "prompts_and_classes.txt"


def _build(name):
    return importlib.import_module(f"configs.evaluate.{name}").get_config()


def _keys(config, path=""):
    for key, value in config.items():
        yield f"{path}{key}"
        if isinstance(value, ConfigDict) and f"{path}{key}" not in OPEN:
            yield from _keys(value, f"{path}{key}.")


def _fields(template):
    return re.findall("{[^{}]*}|[{}]", template)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_the_keys_of_common(name):
    assert list(_keys(_build(name))) == list(_keys(common.get_config()))


@pytest.mark.parametrize("name", [*NAMES, *SHARED[1:]])
def test_it_imports_no_personax(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
    packages = {node.module.partition(".")[0] for node in imports}
    assert packages <= {"configs", "ml_collections"}


@pytest.mark.parametrize("name", NAMES)
def test_its_rows_change_what_their_configs_have(name):
    config = _build(name)
    assert config.rows
    for row in config.rows.values():
        optional = {"terms", "together"}
        assert {"config", "changes"} <= set(row) <= {"config", "changes", *optional}
        for term_spec in map(parse_term, row.get("terms", ())):
            assert term_spec.model in ("base", CONCEPT)
        assert (ROOT / row.config).is_file()
        module = row.config.removesuffix(".py").replace("/", ".")
        train = importlib.import_module(module).get_config()
        assert set(_keys(row.changes)) <= set(_keys(train))
        train.update(row.changes)  # ml_collections refuses another type
        assert row.config.startswith(
            "configs/emoji_" if config.base == "emoji" else "configs/sd15_"
        )


@pytest.mark.parametrize("name", NAMES)
def test_its_pair_rows_are_of_its_rows(name):
    config = _build(name)
    for row in config.pair_rows.values():
        assert set(row) == {"of", "way"}
        assert row.of in config.rows
        assert row.way in ("joint", "merge", "add")


@pytest.mark.parametrize("name", NAMES)
def test_its_prompts_have_fields_for_the_subjects(name):
    templates = _build(name).prompts
    fields = {"live": ["{}"], "object": ["{}"], "pair": ["{0}", "{1}"]}
    for kind in fields:
        assert len(set(templates[kind])) == len(templates[kind])
        for template in templates[kind]:
            assert sorted(_fields(template)) == fields[kind]


@pytest.mark.parametrize("name", NAMES)
def test_every_subject_has_prompts(name):
    config = _build(name)
    source = config.subjects.source.partition(":")[0]
    single, pair = OWN.get(source, (0, 0))
    assert single or (config.prompts.live and config.prompts.object)
    if config.pair_rows:
        assert pair or config.prompts.pair
        # A set without published pairs requires explicit ones.
        assert config.pairs or source in ("custom_concept_101", "custom_diffusion")


@pytest.mark.parametrize("name", NAMES)
def test_its_counts_are_those_of_the_readme(name):
    config = _build(name)
    (row,) = re.findall(
        rf"^\| `{name}` \|(.*)\|$", (FOLDER / "README.md").read_text(), re.MULTILINE
    )
    _, _, singles, pairs, drawn = (cell.strip() for cell in row.split("|"))
    own, of_pairs = OWN.get(config.subjects.source.partition(":")[0], (0, 0))
    for kind in ("live", "object"):
        count = len(config.prompts[kind]) or own
        assert singles == f"{count} x {config.images}"
    if pairs:
        count = len(config.prompts.pair) or of_pairs
        assert pairs.endswith(f" {count} x {config.images}")
    assert bool(pairs) == bool(config.pair_rows)
    assert config.draw.solver in SOLVERS
    assert str(config.draw.steps) in drawn


@pytest.mark.parametrize("name", PAPERS)
def test_its_sampler_is_that_of_its_paper(name):
    config = _build(name)
    draw = config.draw
    drawn = (config.images, draw.solver, draw.steps, draw.guidance, draw.eta)
    assert drawn == PAPERS[name]


def test_pairs_of_the_dreambooth_set_exist():
    if not LISTING.is_file():
        pytest.skip(f"{LISTING} is not here")
    for pair in _build("class_diffusion").pairs:
        assert set(pair) <= set(read_listing(LISTING).classes)


EMOJI = ("emoji", "emoji_quick")


@pytest.mark.parametrize("name", EMOJI)
def test_its_subjects_and_pairs_exist(name):
    config = _build(name)
    subjects = read_subjects(config.subjects.source, config.subjects.names)
    pairs = read_pairs(config.subjects.source, config.pairs)
    assert {each for pair in pairs for each in pair.names} <= set(subjects)
    assert len(pairs) == len(set(pairs))


def test_the_emoji_protocol_is_as_large_as_the_papers():
    config = _build("emoji")
    assert len(read_subjects("emoji", config.subjects.names)) == 12
    assert len(config.pairs) == 5
    assert len(config.prompts.live) >= 15
    assert len(config.prompts.object) >= 15
    trained = {row.config for row in config.rows.values()}
    others = {"animals", "base", "controlnet", "two_concepts"}
    assert trained == {
        f"configs/{file.name}"
        for file in FOLDER.parent.glob("emoji_*.py")
        if file.stem.removeprefix("emoji_") not in others
    }


@pytest.mark.parametrize("name", EMOJI)
def test_the_quick_protocol_has_prompts_of_the_emoji_protocol(name):
    prompts, full = _build(name).prompts, _build("emoji").prompts
    for kind in ("live", "object", "pair"):
        assert set(prompts[kind]) <= set(full[kind])


def _words(of):
    return "|".join(map(re.escape, of))


# The captions of `emoji.caption`; a scene has an accessory or a second object.
CAPTION = re.compile(
    rf"(a photo of|{_words(map(str.strip, world.DISTANCES['far']))}) a "
    rf"((?P<tint>{_words(world.TINTS)}) )?{{}}"
    rf"( (?P<worn>{_words(x.words for x in world.ACCESSORIES.values())})"
    rf"| next to a (?P<other>{_words(map(world.class_word, world.CLASSES))}))?"
    rf"( in (?P<style>{_words(world.STYLES.values())}) style)?"
    rf"( (?P<place>{_words(world.SCENES)}|on a ({_words(world.COLOURS)}) background))?"
)


@pytest.mark.parametrize("kind", ["EMOJI_LIVE", "EMOJI_OBJECT"])
def test_emoji_prompts_are_captions_of_the_world(kind):
    for template in getattr(prompts, kind):
        match = CAPTION.fullmatch(template)
        assert match, template
        assert kind == "EMOJI_LIVE" or not match["worn"]


def test_emoji_prompts_of_pairs_are_captions_of_the_world():
    for template in prompts.EMOJI_PAIR:
        alone = template.replace("{0}", "{}").replace(" next to a {1}", "")
        assert "{0} next to a {1}" in template
        assert CAPTION.fullmatch(alone), template


@pytest.mark.parametrize("kind", ["EMOJI_LIVE", "EMOJI_OBJECT"])
def test_emoji_prompts_cover_tints_styles_places_and_objects(kind):
    fields = [CAPTION.fullmatch(each).groupdict() for each in getattr(prompts, kind)]
    for what in ("tint", "style", "place", "other"):
        assert len({each[what] for each in fields if each[what]}) >= 2, what
    if kind == "EMOJI_LIVE":
        assert len({each["worn"] for each in fields if each["worn"]}) >= 3


@pytest.mark.parametrize("kind", ["live", "object"])
def test_no_training_picture_has_a_place_of_the_prompts(kind):
    templates = prompts.EMOJI_LIVE if kind == "live" else prompts.EMOJI_OBJECT
    places = {CAPTION.fullmatch(each)["place"] for each in templates} - {None}
    for subject in world.subjects().values():
        colours = {f"on a {each} background" for each in subject.places}
        assert subject.kind != kind or not places & {*subject.places, *colours}


def test_words_of_the_emoji_prompts_are_single_tokens(emoji):
    templates = (*prompts.EMOJI_LIVE, *prompts.EMOJI_OBJECT, *prompts.EMOJI_PAIR)
    words = {word for each in templates for word in re.sub("{.?}", "", each).split()}
    words |= {x for each in world.subjects().values() for x in each.class_word.split()}
    assert {word for word in words if len(ids_of(emoji.tokenizer, word)) != 1} == set()
