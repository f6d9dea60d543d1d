"""Sets of subjects as they are published: every layout, and what is refused of each."""

import json
import pathlib

import pytest

from personax.data import emoji
from personax.data.dreambooth_set import read_listing
from personax.data.published import Pair, Subject, read_pairs, read_subjects

pytestmark = pytest.mark.quick

PHOTOS = pathlib.Path(__file__).parents[3] / "shared" / "photos"
LISTING = """Classes

subject_name,class
backpack_dog,backpack
dog6,dog
bear_plushie,stuffed animal

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a cube shaped {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} wearing a red hat'.format(unique_token, class_token)
]
"""


def _pictures(*folders):
    """One file in each that is called a picture and is none: nothing opens it."""
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "00.jpg").write_text("not read")


def _refused(source, *arguments, read=read_subjects):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read(source, *arguments)
    message = str(error.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_the_bundled_subjects():
    found = read_subjects("emoji")
    assert list(found) == list(emoji.subjects())
    assert found["cat"] == Subject("cat", "cat", "cat", "live")
    assert found["teddy_bear"] == Subject(
        "teddy_bear", "teddy_bear", "teddy bear", "object"
    )
    assert read_pairs("emoji") == ()
    assert read_pairs("emoji", (["fox", "guitar"],)) == (Pair(("fox", "guitar")),)


def test_names_choose_and_order():
    assert list(read_subjects("emoji", ("fox", "cat"))) == ["fox", "cat"]


@pytest.fixture
def dreambooth(tmp_path):
    (tmp_path / "prompts_and_classes.txt").write_text(LISTING)
    _pictures(tmp_path / "dog6", tmp_path / "bear_plushie", tmp_path / "backpack_dog")
    return tmp_path


def test_the_dreambooth_set(dreambooth):
    found = read_subjects(f"dreambooth:{dreambooth}")
    assert list(found) == ["backpack_dog", "dog6", "bear_plushie"]
    assert found["dog6"] == Subject(
        "dog6", str(dreambooth / "dog6"), "dog", "live", ("a {} wearing a red hat",)
    )
    plushie = found["bear_plushie"]
    assert (plushie.class_word, plushie.kind) == ("stuffed animal", "object")
    assert plushie.prompts == ("a {} in the jungle", "a cube shaped {}")


def test_the_dreambooth_sets_own_list():
    file = PHOTOS / "prompts_and_classes.txt"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    listing = read_listing(file)
    assert (len(listing.classes), len(set(listing.classes.values()))) == (30, 15)
    objects, live = listing.prompts["object"], listing.prompts["live"]
    assert (len(objects), len(live)) == (25, 25)
    # The first ten and the last five are common to both.
    assert (objects[:10], objects[20:]) == (live[:10], live[20:])
    assert not set(objects[10:20]) & set(live[10:20])
    assert all(each.count("{}") == 1 for each in (*objects, *live))
    toy = read_subjects(f"dreambooth:{PHOTOS}", ("duck_toy",))["duck_toy"]
    assert (toy.class_word, toy.kind, toy.prompts) == ("toy", "object", objects)


def test_the_dreambooth_sets_live_subjects(tmp_path):
    file = PHOTOS / "prompts_and_classes.txt"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    (tmp_path / file.name).write_text(file.read_text())
    _pictures(*(tmp_path / name for name in read_listing(file).classes))
    found = read_subjects(f"dreambooth:{tmp_path}").values()
    live = ["cat", "cat2", "dog", "dog2", "dog3", "dog5", "dog6", "dog7", "dog8"]
    assert [each.name for each in found if each.kind == "live"] == live


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dog6,dog", "dog6 dog", "Line 5"),
        ("'a cube shaped", "a cube shaped", "Line 14"),
        ("{0} {1} in the", "{1} in the", "does not hold {0} {1}"),
        ("{0} {1} in the", "{0} {1} in {0} the", "does not hold {0} {1} once"),
        ("Live Subject Prompts", "", "has: Classes, Prompts, Object Prompts"),
        ("Classes\n", "\n", "Line 4"),
        ("subject_name,class\n", "Prompts\n", "Line 4"),
    ],
)
def test_another_list_than_dreambooths_is_refused(dreambooth, old, new, message):
    assert old in LISTING
    (dreambooth / "prompts_and_classes.txt").write_text(LISTING.replace(old, new))
    assert message in _refused(f"dreambooth:{dreambooth}")


def _concept(k, name, class_word, prompts, article="a "):
    return {
        "instance_prompt": f"photo of {article}<new{k}> {class_word}",
        "class_prompt": class_word,
        "instance_data_dir": f"./benchmark_dataset/{name}",
        "class_data_dir": f"./regularization/{name.rstrip('0123456789')}",
        "prompt_filename": f"prompts/{prompts}.txt",
    }


@pytest.fixture
def cc101(tmp_path):
    """customconcept101/ in small, its archive unpacked."""
    glasses = ("wearable_sunglasses2", "sunglasses", "sunglasses", "")
    concepts = [
        _concept(1, "pet_dog1", "dog", "dog"),
        _concept(1, *glasses),
        _concept(1, "plushie_dice", "dice plushie", "plushie")
        | {"class_prompt": "dice"},
    ]
    pair = [
        _concept(1, "pet_dog1", "dog", "dog"),
        _concept(2, *glasses),
        {"prompt_filename_compose": "prompts/pet_wearable.txt"},
    ]
    (tmp_path / "dataset.json").write_text(json.dumps(concepts))
    (tmp_path / "dataset_multiconcept.json").write_text(json.dumps([pair]))
    lists = {
        "dog": "photo of a {}.\n{} in times square. \n",
        "sunglasses": "A person wearing {}.",
        "plushie": "Photo of a {}.\n\n",
        # One of the published prompts speaks of one of the two alone.
        "pet_wearable": "photo of {0} wearing the {1}. \n{1} worn by the {0}.\n{0}",
    }
    (tmp_path / "prompts").mkdir()
    for name, text in lists.items():
        (tmp_path / "prompts" / f"{name}.txt").write_text(text)
    names = ("pet_dog1", "wearable_sunglasses2", "plushie_dice")
    _pictures(*(tmp_path / "benchmark_dataset" / name for name in names))
    _pictures(tmp_path / "regularization" / "pet_dog")
    return tmp_path


def test_custom_concept_101(cc101):
    found = read_subjects(f"custom_concept_101:{cc101}")
    assert found["pet_dog1"] == Subject(
        "pet_dog1",
        str(cc101 / "benchmark_dataset" / "pet_dog1"),
        "dog",
        "live",
        ("photo of a {}.", "{} in times square."),
        prior_prompt="dog",
        prior_images=str(cc101 / "regularization" / "pet_dog"),
    )
    glasses = found["wearable_sunglasses2"]
    assert (glasses.class_word, glasses.kind) == ("sunglasses", "object")
    assert glasses.prior_images == ""  # not unpacked
    dice = found["plushie_dice"]
    assert (dice.class_word, dice.prior_prompt) == ("dice plushie", "dice")


def test_custom_concept_101s_pairs(cc101):
    source, names = f"custom_concept_101:{cc101}", ("pet_dog1", "wearable_sunglasses2")
    prompts = ("photo of {0} wearing the {1}.", "{1} worn by the {0}.", "{0}")
    assert read_pairs(source) == (Pair(names, prompts),)
    assert read_pairs(source, [names]) == (Pair(names, prompts),)
    # The set's prompts are for its own order.
    assert read_pairs(source, [names[::-1]]) == (Pair(names[::-1]),)


def _rewrite(file, change):
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


def test_another_list_than_custom_concept_101s_is_refused(cc101):
    source, file = f"custom_concept_101:{cc101}", cc101 / "dataset.json"
    _rewrite(file, lambda found: found[1].update(instance_prompt="photo of sunglasses"))
    assert "photo of a <new1> barn" in _refused(source)
    _rewrite(file, lambda found: found[1].pop("class_prompt"))
    message = _refused(source)
    assert "Entry 2" in message
    assert "instance_prompt, instance_data_dir" in message
    for text, expected in (
        ("[1]", "Entry 1"),
        ("{}", "no list"),
        ("[", "not valid JSON"),
    ):
        file.write_text(text)
        assert expected in _refused(source)
    pairs = cc101 / "dataset_multiconcept.json"
    _rewrite(pairs, lambda found: found[0].pop())
    assert "prompt_filename_compose" in _refused(source, read=read_pairs)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("in times square", "has no {} for"),
        ("{0} there", "has {0}"),
        ("{} { }", "has { }"),
    ],
)
def test_a_prompt_without_the_subjects_place_is_refused(cc101, prompt, message):
    (cc101 / "prompts" / "dog.txt").write_text(f"photo of a {{}}\n{prompt}\n")
    refused = _refused(f"custom_concept_101:{cc101}")
    assert message in refused
    assert "dog.txt" in refused


@pytest.fixture
def ten(tmp_path):
    """A clone of custom-diffusion with data.zip unpacked, of which some is missing."""
    lists = {
        "cat": "Photo of <new1> cat\nGeorgia O'Keeffe style <new1> cat painting \n",
        "flower": "a dahlia flower in the style of <new1> flower",
        "wooden": "Rose flowers in <new1> wooden pot on a table",
        "moongate": "A transparent moongate made with glass",
        "wooden_pot_cat": "the cat is sitting inside a wooden pot and looking up",
        "wooden_pot_flower": "flower and roses in wooden pot \n",
        "cat_chair": "A chair and a cat",
        "table_chair": "chair and table and mountains in the background",
        "moongate_dog": "moongate and dog",
    }
    (tmp_path / "prompts").mkdir()
    for name, text in lists.items():
        (tmp_path / "prompts" / f"{name}.txt").write_text(text)
    names = ("cat", "flower", "wooden_pot", "moongate")
    _pictures(*(tmp_path / "data" / name for name in names))
    _pictures(tmp_path / "real_reg" / "samples_cat")
    return tmp_path


def test_custom_diffusions_sets(ten):
    found = read_subjects(
        f"custom_diffusion:{ten}", ("moongate", "cat", "flower", "wooden_pot")
    )
    assert found["cat"] == Subject(
        "cat",
        str(ten / "data" / "cat"),
        "cat",
        "live",
        ("Photo of {}", "Georgia O'Keeffe style {} painting"),
        prior_images=str(ten / "real_reg" / "samples_cat"),
    )
    assert found["flower"].prompts == ("a dahlia flower in the style of {}",)
    assert found["moongate"].prompts == ("A transparent {} made with glass",)
    pot = found["wooden_pot"]
    assert (pot.class_word, pot.kind) == ("wooden pot", "object")
    assert pot.prompts == ("Rose flowers in {} on a table",)
    assert pot.prior_images == ""


def test_custom_diffusions_pairs(ten):
    assert read_pairs(f"custom_diffusion:{ten}") == (
        Pair(("moongate", "dog"), ("{0} and {1}",)),
        Pair(("cat", "chair"), ("A {1} and a {0}",)),
        Pair(
            ("wooden_pot", "cat"), ("the {1} is sitting inside a {0} and looking up",)
        ),
        Pair(("wooden_pot", "flower"), ("{1} and roses in {0}",)),
        Pair(("table", "chair"), ("{1} and {0} and mountains in the background",)),
    )


def test_custom_diffusions_missing_parts_are_named(ten):
    source = f"custom_diffusion:{ten}"
    (ten / "prompts" / "dog.txt").write_text("Photo of <new1> dog")
    assert "cat, flower, moongate, wooden_pot" in _refused(source, ["dog"])
    assert "cat.txt, cat_chair.txt" in _refused(source, ["table"])
    (ten / "prompts" / "moongate_dog.txt").write_text("a dog")
    assert "does not name the moongate" in _refused(source, read=read_pairs)
    (ten / "prompts" / "cat.txt").write_text("\n")
    assert "holds no prompt" in _refused(source, ["cat"])


def test_folders_of_ones_own(tmp_path):
    names = ("coffee_mug", "rex", "siamese-cat2", ".hidden")
    _pictures(*(tmp_path / name for name in names))
    (tmp_path / "classes.csv").write_text("\nrex, dog,live\n")
    assert read_subjects(f"folders:{tmp_path}") == {
        "coffee_mug": Subject(
            "coffee_mug", str(tmp_path / "coffee_mug"), "coffee mug", "object"
        ),
        "rex": Subject("rex", str(tmp_path / "rex"), "dog", "live"),
        "siamese-cat2": Subject(
            "siamese-cat2", str(tmp_path / "siamese-cat2"), "siamese cat", "object"
        ),
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max,dog", "'max'"),
        ("rex", "Line 1"),
        ("rex,dog,alive", "Line 1"),
        ("rex,dog,live,x", "Line 1"),
        ("", "write 07,dog to classes.csv"),
    ],
)
def test_folders_of_no_class_are_refused(tmp_path, line, message):
    _pictures(tmp_path / "rex", tmp_path / "07")
    (tmp_path / "classes.csv").write_text(line)
    assert message in _refused(f"folders:{tmp_path}")


def test_what_does_not_exist_is_refused(dreambooth, tmp_path):
    assert "emoji, dreambooth:DIR" in _refused("imagenet")
    assert "custom_diffusion:DIR" in _refused("dreambooth")
    assert "Unknown set 'emoji:x'" in _refused("emoji:x")
    assert "no folder" in _refused(f"dreambooth:{tmp_path}/nowhere")
    assert "prompts_and_classes.txt" in _refused(f"dreambooth:{tmp_path}/dog6")
    assert "one for each subject" in _refused(f"folders:{tmp_path}/dog6")
    assert "it has: dog, cat, fox" in _refused("emoji", ["dragon"])
    (dreambooth / "dog6" / "00.jpg").rename(dreambooth / "dog6" / "00.txt")
    assert "holds no picture; it has: 00.txt" in _refused(f"dreambooth:{dreambooth}")
    # Of those that are asked for, all is there.
    assert read_subjects(f"dreambooth:{dreambooth}", ["backpack_dog"])


def test_of_many_subjects_the_nearest_are_named(tmp_path):
    _pictures(*(tmp_path / f"dog{i}x" for i in range(41)))
    message = _refused(f"folders:{tmp_path}", ["dog7"])
    assert "41 subjects; nearest: dog7x" in message


@pytest.mark.parametrize("pair", [("dog",), ("dog", "dog"), ("dog", "cat", "fox")])
def test_what_is_no_pair_is_refused(pair):
    assert "two different subjects" in _refused("emoji", [pair], read=read_pairs)
    assert "it has: dog" in _refused("emoji", [("dog", "lion")], read=read_pairs)
