"""Captions in which the text encoder does not read the concept, and class words."""

import pytest

from personax.core.text import compose, fold, spans
from personax.data.templates import without
from personax.networks.tokenizer import (
    add_placeholder,
    ids_of,
    unknown_placeholders,
)
from personax.training.concept_text import concept_configs, make_specs
from personax.training.config import ConceptConfig, train_config
from personax.training.preview import Caption, _labels
from personax.training.setup import prepare

WORDS = [
    "<İstanbul>",
    "<ΣΑΣ>",
    "<straße>",
    "<ǅ>",
    "<cafe\u0301>",
    "<ＡＢ>",
    "SKSY",
    "<v1>",
]


@pytest.fixture(scope="module")
def tokenizer(emoji):
    return emoji.tokenizer


def spec_of(tokenizer, **values):
    config = ConceptConfig(**{"class_word": "dog", "initial": None, **values})
    (spec,), tokenizer = make_specs([config], tokenizer, adds_words=True)
    return spec, tokenizer


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("form", [str, str.upper, str.lower, compose, fold])
def test_a_placeholder_is_found_in_any_case_and_form(tokenizer, word, form):
    spec, known = spec_of(tokenizer, placeholder=word)
    (own,) = spec.concept.ids
    text = f"a photo of a {form(word)} dog"
    if fold(form(word)) != fold(word):  # "ß" in upper case is "SS": another word
        return
    assert ids_of(known, text).count(own) == 1
    assert not unknown_placeholders(known, [text])
    assert without(text, spec.concept.phrase, "dog") == "a photo of a dog"
    assert spec.prior_prompt == "photo of a dog"


def test_a_placeholder_that_contains_another_is_read_as_itself(tokenizer):
    configs = [
        ConceptConfig(class_word="dog", placeholder=each, initial=None)
        for each in ("<v1>", "<v1>2")
    ]
    (first, second), known = make_specs(configs, tokenizer, adds_words=True)
    assert ids_of(known, "<v1>2 <V1>") == (*second.concept.ids, *first.concept.ids)


def test_texts_without_the_word_have_the_same_ids_with_it(tokenizer):
    known = add_placeholder(tokenizer, "<v1>")
    for text in ("a Dog, İ é e\u0301 x", "ΣΑΣ hat", " A\u200bb  c\n", "日本 🐶", ""):
        assert ids_of(known, text) == ids_of(tokenizer, text)


def test_words_are_found_where_they_are(tokenizer):
    text = compose("İİ <İ> that hat")
    found = [text[a:b] for a, b in spans(text, ["<i\u0307>", "hat"])]
    assert found == ["<İ>", "hat"]


LONG = "word " * 80


def test_a_prompt_that_cuts_the_word_off_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"<v1> is cut off in 'word .* encoder reads"):
        spec_of(tokenizer, prompt=LONG + "{}")
    spec_of(tokenizer, prompt="{} " + LONG)


def test_own_captions_that_cut_the_word_off_are_named(tokenizer, tmp_path, capfd):
    for name, text in (("a", "a {}"), ("b", LONG + "{}"), ("c", "a hat")):
        (tmp_path / f"{name}.png").write_bytes(b"")
        (tmp_path / f"{name}.txt").write_text(text)
    values = {"captions": "own", "images": str(tmp_path)}
    spec_of(tokenizer, **values)
    assert "cut off in 'word word" in (said := capfd.readouterr().err)
    assert "in 1 of 3 captions" in said
    (tmp_path / "a.txt").write_text("a dog")
    (tmp_path / "c.txt").write_text(LONG + "<v1>")
    with pytest.raises(ValueError, match="<v1> is cut off"):
        spec_of(tokenizer, **values)
    for name in "bc":
        (tmp_path / f"{name}.txt").write_text("a dog")
    with pytest.raises(ValueError, match="None of the 3 captions"):
        spec_of(tokenizer, **values)


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u00ad", "\u202e", "\x07"])
def test_a_placeholder_with_a_character_that_is_not_seen_is_refused(tokenizer, hidden):
    with pytest.raises(ValueError, match=r"not seen \(U\+"):
        spec_of(tokenizer, placeholder=f"<v{hidden}1>")


def test_a_folder_without_a_class_word_is_refused(tokenizer, tmp_path):
    config = train_config({"concept": {"images": str(tmp_path)}}).concept
    with pytest.raises(ValueError, match=r"Set concept\.class_word, such as dog"):
        make_specs([config], tokenizer, adds_words=True)


def test_a_bundled_subject_has_its_class_word(tokenizer):
    spec, _ = spec_of(tokenizer, class_word=None, images="cat")
    assert spec.concept.class_word == "cat"


def test_a_blank_class_word_is_none(tokenizer):
    with pytest.raises(ValueError, match=r"show\? Set concept\.class_word"):
        spec_of(tokenizer, class_word="  ", images="/mine")


@pytest.mark.parametrize("word", ["{}", "<{}>", "<{placeholder}>"])
def test_words_with_braces_are_refused(tokenizer, word):
    with pytest.raises(ValueError, match="have a brace"):
        spec_of(tokenizer, placeholder=word)


def test_a_stream_of_prompts_without_a_class_word_is_refused():
    config = {"method": "lora", "stream": {"source": "folder:x"}}
    with pytest.raises(ValueError, match=r"of folder:x show\? Set concept\.class"):
        prepare(config)


def test_an_entry_of_a_list_does_not_take_another_ones_class(tokenizer, tmp_path):
    file = tmp_path / "list.json"
    file.write_text('[{"images": "dog"}, {"placeholder": "<v2>", "images": "/x"}]')
    first, second = concept_configs(ConceptConfig(class_word="cat"), str(file))
    assert (first.class_word, second.class_word) == ("cat", None)


def test_rows_of_one_text_say_which_model_drew_them():
    rows = [Caption("a dog", False), Caption("a dog", True), Caption("a hat", True)]
    assert _labels(rows) == ["a dog (before training)", "a dog (trained)", "a hat"]
