"""The concepts of a config: captions, placeholders, initial tokens, and errors."""

import json
import shutil
from collections import Counter

import pytest
from PIL import Image

from personax.concepts.bind import with_words
from personax.core.config import parse
from personax.networks.tokenizer import ids_of, vocabulary_id
from personax.training.concept_text import check_prompts, concept_configs, make_specs
from personax.training.config import ConceptConfig

pytestmark = pytest.mark.quick

ENTRY = {
    "images": "dog",
    "masks": "",
    "placeholder": "<v1>",
    "class_word": "dog",
    "phrase": "{placeholder} {class_word}",
    "prompt": "a photo of a {}",
    "initial": "fores",
    "vectors": 1,
    "prior_prompt": "",
    "prior_images": "",
}


def config(values):
    return parse(ConceptConfig, values)


@pytest.fixture(scope="module")
def tokenizer(emoji):
    return emoji.tokenizer


@pytest.fixture
def listed(tmp_path):
    """Write a list of concepts and read it."""

    def read(text, concept=ENTRY):
        file = tmp_path / "concepts.json"
        file.write_text(text if isinstance(text, str) else json.dumps(text))
        return concept_configs(config(concept), str(file))

    return read


def learn(tokenizer, *changes, adds_words=True):
    configs = [config(ENTRY | each) for each in changes]
    return make_specs(configs, tokenizer, adds_words=adds_words)


def one(tokenizer, adds_words=True, **changes):
    (spec,), _ = learn(tokenizer, changes, adds_words=adds_words)
    return spec


def rare_file(tmp_path, tokenizer):
    """Captions in which two pieces of the vocabulary are rare, the first rarer."""
    file = tmp_path / "captions.txt"
    file.write_text("penguin\n" * 5 + "robot\n" * 6 + "a dog\n" * 20)
    return file, [vocabulary_id(tokenizer, f"{w}</w>") for w in ("penguin", "robot")]


def test_a_trained_word_gets_ids_of_its_own(tokenizer):
    (spec,), extended = learn(tokenizer, {})
    row = vocabulary_id(tokenizer, "fores")
    assert spec.concept == (
        "<v1>",
        "dog",
        (tokenizer.size,),
        (row,),
        "<v1> dog",
    )
    assert spec.captions == ("a photo of a <v1> dog",)
    assert spec.prior_prompt == "a photo of a dog"
    assert ids_of(extended, "<v1>") == (tokenizer.size,)
    assert tokenizer.placeholders == ()


def test_an_untrained_word_is_an_alias_of_its_initial_token(tokenizer):
    (spec,), extended = learn(tokenizer, {}, adds_words=False)
    row = vocabulary_id(tokenizer, "fores")
    assert spec.concept.ids == spec.concept.initial == (row,)
    assert ids_of(extended, "<v1> dog") == (row, *ids_of(tokenizer, "dog"))


def test_without_a_placeholder_the_class_word_is_the_concept(tokenizer):
    (spec,), extended = learn(tokenizer, {"placeholder": ""})
    assert spec.concept == ("", "dog", (), (), "dog")
    assert spec.captions == ("a photo of a dog",)
    assert extended == tokenizer


@pytest.mark.parametrize(
    ("initial", "vectors", "tokens"),
    [
        ("dog", 1, ["dog</w>"]),  # a word of one token
        ("dog</w>", 1, ["dog</w>"]),
        ("fores dog</w>", 3, ["fores", "dog</w>", "dog</w>"]),
        ("fores", 2, ["fores", "fores"]),
        ("", 1, ["dog</w>"]),  # the class word
    ],
)
@pytest.mark.parametrize("adds_words", [True, False])
def test_each_vector_starts_from_its_token(
    tokenizer, initial, vectors, tokens, adds_words
):
    concept = one(tokenizer, adds_words, initial=initial, vectors=vectors).concept
    assert concept.initial == tuple(vocabulary_id(tokenizer, w) for w in tokens)
    assert len(concept.ids) == vectors


def test_an_initial_token_may_be_an_id(tokenizer):
    assert one(tokenizer, initial="42").concept.initial == (42,)


def test_vocabulary_leaves_the_row_to_be_drawn(tokenizer):
    concept = one(tokenizer, initial="vocabulary", vectors=2).concept
    assert concept.initial == (None, None)


def test_rare_gives_the_rarest_token_of_a_file(tokenizer, tmp_path):
    file, (first, second) = rare_file(tmp_path, tokenizer)
    assert one(tokenizer, initial=f"rare:{file}").concept.initial == (first,)
    twice = one(tokenizer, initial=f"rare:{file} rare:{file}", vectors=2)
    assert twice.concept.initial == (first, second)


@pytest.mark.parametrize("adds_words", [True, False])
def test_two_concepts_start_from_different_rare_tokens(tokenizer, tmp_path, adds_words):
    file, rare = rare_file(tmp_path, tokenizer)
    changes = [{"initial": f"rare:{file}", "placeholder": f"<v{i}>"} for i in (1, 2, 3)]
    found, _ = learn(tokenizer, *changes[:2], adds_words=adds_words)
    assert [spec.concept.initial for spec in found] == [(i,) for i in rare]
    with pytest.raises(ValueError, match=r"All of the 2 rare tokens of .*captions"):
        learn(tokenizer, *changes, adds_words=adds_words)


def test_a_set_of_templates_gives_a_caption_per_template(tokenizer):
    spec = one(tokenizer, prompt="style", phrase="{placeholder}")
    assert spec.concept.phrase == "<v1>"
    assert Counter(caption.count("<v1>") for caption in spec.captions) == {1: 19}
    assert spec.prior_prompt == "a painting in the style of dog"


def test_a_prompt_may_name_another_concept(tokenizer):
    found, _ = learn(
        tokenizer,
        {"prompt": "a {} beside <v2>"},
        {"placeholder": "<v2>", "class_word": "cat"},
    )
    assert found[0].captions == ("a <v1> dog beside <v2>",)
    assert [spec.concept.ids[0] - tokenizer.size for spec in found] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": "a photo of a dog"}, "does not hold the phrase '<v1> dog'"),
        (
            {"prompt": "a photo of a <v1> dog", "class_word": "cat"},
            "does not hold the phrase '<v1> cat'",
        ),
        ({"phrase": "my {class_word}"}, "phrase 'my dog' does not contain '<v1>'"),
        ({"placeholder": "dog"}, "'dog' is a word of the vocabulary"),
        ({"placeholder": "<v 1>"}, "must be one word"),
        ({"class_word": "", "images": "x"}, "What do the pictures of x show"),
        ({"initial": "forez"}, "no entry 'forez'; nearest: .*fores"),
        ({"initial": "99999"}, "Unknown id 99999; the last is"),
        ({"initial": "fores fores"}, "<v1> has 1 vectors, but 2 initial tokens"),
        ({"vectors": 0}, "vectors=0: expected a value >= 1"),
        (
            {"prompt": "a {} beside <v7>"},
            "Unknown placeholder <v7> in 'a <v1> dog",
        ),
        ({"prompt": "objekt"}, "or choose a set: object, style"),
    ],
)
@pytest.mark.parametrize("adds_words", [True, False])
def test_words_that_do_not_fit_are_an_error(tokenizer, changes, sentence, adds_words):
    with pytest.raises(ValueError, match=sentence):
        learn(tokenizer, changes, adds_words=adds_words)


def test_a_missing_file_of_prompts_is_an_error(tokenizer):
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.txt"):
        learn(tokenizer, {"prompt": "nowhere.txt"})


def test_an_untrained_word_cannot_start_from_the_vocabulary(tokenizer):
    with pytest.raises(ValueError, match="<v1> is not trained, so its initial token"):
        learn(tokenizer, {"initial": "vocabulary"}, adds_words=False)


@pytest.mark.parametrize("adds_words", [True, False])
def test_two_concepts_cannot_have_one_placeholder(tokenizer, adds_words):
    with pytest.raises(ValueError, match="'<V1>' exists; taken: <v1>"):
        learn(tokenizer, {}, {"placeholder": "<V1>"}, adds_words=adds_words)


def test_an_unknown_placeholder_in_a_prompt_is_an_error(tokenizer):
    _, extended = learn(tokenizer, {})
    check_prompts(extended, ["a <v1> dog", "a dog"])
    with pytest.raises(ValueError, match="<v2> in 'a <v2>'; the concepts have: <v1>"):
        check_prompts(extended, ["a <v1> dog", "a <v2>"])
    with pytest.raises(ValueError, match="the concepts have: none"):
        check_prompts(tokenizer, ["a <v2>"])


def test_without_a_list_there_is_one_concept():
    assert concept_configs(config(ENTRY)) == [config(ENTRY)]


def test_a_list_may_use_diffusers_spelling(listed):
    configs = listed(
        [
            {
                "placeholder": "<new1>",
                "class_word": "cat",
                "instance_prompt": "photo of a <new1> cat",
                "class_prompt": "a cat",
                "instance_data_dir": "./data/cat",
                "class_data_dir": "./prior/cat",
            },
            {},
        ]
    )
    changes = {
        "placeholder": "<new1>",
        "class_word": "cat",
        "prompt": "photo of a <new1> cat",
        "prior_prompt": "a cat",
        "images": "./data/cat",
        "prior_images": "./prior/cat",
    }
    assert configs == [config(ENTRY | changes), config(ENTRY)]


def test_an_entry_with_its_own_class_does_not_inherit_the_prior_prompt(listed):
    concept = ENTRY | {"prior_prompt": "a photo of a dog"}
    cat, dog = listed([{"class_word": "cat"}, {}], concept)
    assert (cat.prior_prompt, dog.prior_prompt) == (None, "a photo of a dog")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[{", "is not valid JSON"),
        ('{"images": "dog"}', "is not a list of concepts"),
        ('["dog"]', "is not a list of concepts"),
        ("[]", "is empty"),
        ([{"imagse": "dog"}], "unknown key 'imagse'; nearest: images"),
        ([{"instance_promt": "x"}], "nearest: instance_prompt"),
        ([{"vectors": "2"}], "vectors='2': expected an integer"),
        ([{"class_word": 3}], "class_word=3: expected a string"),
    ],
)
def test_an_invalid_list_is_an_error(listed, text, sentence):
    with pytest.raises(ValueError, match=rf"concepts.json.* {sentence}"):
        listed(text)


def test_a_missing_list_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.json"):
        concept_configs(config(ENTRY), str(tmp_path / "nowhere.json"))


def test_a_published_list_has_its_words_in_its_prompts(listed, tokenizer):
    configs = listed(
        [
            {"instance_prompt": "photo of a <new1> dog", "instance_data_dir": "a"},
            {"instance_prompt": "photo of a <new2> teddy bear", "class_prompt": "toy"},
        ],
        ENTRY | {"initial": "fores+rpla"},
    )
    (one, two), extended = make_specs(configs, tokenizer, adds_words=True)
    assert (one.concept.placeholder, one.concept.class_word) == ("<new1>", "dog")
    assert (two.concept.placeholder, two.concept.class_word) == ("<new2>", "teddy bear")
    assert two.concept.phrase == "<new2> teddy bear"
    assert (one.images, two.prior_prompt) == ("a", "toy")
    rows = [one.concept.initial[0], two.concept.initial[0]]
    assert rows == [vocabulary_id(tokenizer, name) for name in ("fores", "rpla")]
    assert len(ids_of(extended, "<new1> <new2>")) == 2


def test_one_concept_takes_the_first_of_the_initial_tokens():
    (concept,) = concept_configs(config(ENTRY | {"initial": "fores+rpla"}))
    assert concept.initial == "fores"


def rare_list(listed, instance, plain, **keys):
    entry = {"instance_prompt": instance, "class_prompt": plain, **keys}
    return listed([entry])[0]


@pytest.mark.parametrize(
    ("instance", "plain", "words"),
    [
        ("photo of a sks dog", "photo of a dog", ("sks", "dog")),
        ("photo of zwx teddy bear", "photo of a teddy bear", ("zwx", "teddy bear")),
        ("a sks dog in the snow", "a dog in the snow", ("sks", "dog")),
        ("photo of a sks dog", "dog", ("sks", "dog")),
    ],
)
def test_a_published_list_may_have_a_rare_word(listed, instance, plain, words):
    found = rare_list(listed, instance, plain)
    assert (found.placeholder, found.class_word) == words
    assert (found.initial, found.prior_prompt) == (words[0], plain)


@pytest.mark.parametrize(
    ("instance", "plain"),
    [
        ("photo of a dog", "photo of dog"),
        ("photo of a sks dog", "photo of a cat"),
        ("photo of sks", "photo"),
        ("photo of a sks dog", ""),
    ],
)
def test_without_a_rare_word_the_config_s_words_stay(listed, instance, plain):
    found = rare_list(listed, instance, plain)
    assert (found.placeholder, found.class_word) == ("<v1>", "dog")


@pytest.mark.parametrize("word", ["fores", "robot", "sksk"])
@pytest.mark.parametrize("adds_words", [True, False])
def test_a_rare_word_is_trained_from_its_own_ids(listed, tokenizer, word, adds_words):
    found = rare_list(listed, f"photo of a {word} dog", "photo of a dog")
    (spec,), extended = make_specs([found], tokenizer, adds_words=adds_words)
    own = ids_of(tokenizer, word)
    assert spec.concept.initial == own
    assert spec.captions == (f"photo of a {word} dog",)
    new = tuple(range(tokenizer.size, tokenizer.size + len(own)))
    expected = new if adds_words else own
    assert spec.concept.ids == ids_of(extended, word) == expected
    assert ids_of(extended, f"{word} dog")[-1:] == ids_of(tokenizer, "dog")
    # A saved concept gives its word back.
    loaded = with_words(tokenizer, [spec.concept])
    assert loaded.placeholders == extended.placeholders


def captioned(folder, **captions):
    """A folder of pictures with captions beside them, "" for none."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, caption in captions.items():
        Image.new("RGB", (32, 32)).save(folder / f"{name}.png")
        if caption:
            (folder / f"{name}.txt").write_text(caption)
    return {"images": str(folder), "captions": "own"}


def test_captions_may_be_the_pictures_own(tokenizer, tmp_path):
    own = captioned(tmp_path, a="a {} asleep", b="my <V1> dog", c="no subject")
    spec = one(tokenizer, **own)
    assert spec.captions == ("a <v1> dog asleep", "my <V1> dog", "no subject")
    assert [each.path.name for each in spec.own] == ["a.png", "b.png", "c.png"]
    assert spec.prior_prompt == "a photo of a dog"


@pytest.mark.parametrize(
    ("captions", "sentence"),
    [
        ({"a": "a <v1> dog", "b": ""}, r"picture .*b\.png has no caption"),
        ({"a": "a dog"}, r"None of the 1 captions of .* has '<v1>'; write '<v1> dog'"),
        ({"a": "a <v1> dog and <v9>"}, "Unknown placeholder <v9> in 'a <v1> dog and"),
    ],
)
def test_own_captions_that_do_not_fit_are_an_error(
    tokenizer, tmp_path, captions, sentence
):
    with pytest.raises(ValueError, match=sentence):
        one(tokenizer, **captioned(tmp_path, **captions))


def test_without_a_new_word_captions_need_not_have_it(tokenizer, tmp_path):
    spec = one(tokenizer, placeholder="", **captioned(tmp_path, a="on grass"))
    assert spec.captions == ("on grass",)


def test_a_column_of_metadata_holds_the_captions(tokenizer, tmp_path):
    own = captioned(tmp_path, a="")
    (tmp_path / "metadata.csv").write_text("file_name,tags\na.png,a {} on grass\n")
    spec = one(tokenizer, caption_column="tags", **own)
    assert spec.captions == ("a <v1> dog on grass",)
    with pytest.raises(ValueError, match="no column 'tag'; it has: file_name, tags"):
        one(tokenizer, caption_column="tag", **own)


def test_a_kohya_folder_gives_the_words(tokenizer, tmp_path):
    own = captioned(tmp_path / "10_sksk teddy bear", a="", b="sksk asleep")
    (found,) = concept_configs(config(ENTRY | own | {"prior_prompt": "a dog"}))
    (spec,), _ = make_specs([found], tokenizer, adds_words=True)
    concept = spec.concept
    assert (concept.placeholder, concept.class_word) == ("sksk", "teddy bear")
    assert concept.initial == ids_of(tokenizer, "sksk")
    assert spec.captions == ("sksk teddy bear", "sksk asleep")
    assert spec.prior_prompt == "a photo of a teddy bear"
    # Without captions of its own it is a folder like any other.
    assert concept_configs(config(ENTRY | {"images": own["images"]}))[0].class_word == (
        "dog"
    )


def test_a_folder_of_kohya_s_folders_is_one_concept_or_several(tokenizer, tmp_path):
    captioned(tmp_path / "10_sksk dog", a="")
    own = {"images": str(tmp_path), "captions": "own"}
    captioned(tmp_path / "5_sksk dog", b="")
    (single,) = concept_configs(config(ENTRY | own))
    (spec,), _ = make_specs([single], tokenizer, adds_words=True)
    assert [each.repeats for each in spec.own] == [2, 1]
    captioned(tmp_path / "5_<v2> cat", c="")
    with pytest.raises(ValueError, match=r"several concepts \(sksk dog, <v2> cat\)"):
        concept_configs(config(ENTRY | own))
    shutil.rmtree(tmp_path / "5_sksk dog")
    dog, cat = concept_configs(config(ENTRY | own))
    assert (cat.placeholder, cat.class_word, cat.initial) == ("<v2>", "cat", "fores")
    found, _ = make_specs([dog, cat], tokenizer, adds_words=True)
    assert [len(each.own) for each in found] == [1, 1]
