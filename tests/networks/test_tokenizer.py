"""The tokenizer: ids, placeholders, positions, and what it refuses."""

import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from personax.loading import embedded
from personax.networks.tokenizer import (
    add_placeholder,
    concept_mask,
    ids_of,
    load_tokenizer,
    positions,
    text_of,
    tokenize,
    unknown_placeholders,
)

FILES = embedded("pipeline") / "tokenizer"
_TOKENIZER = load_tokenizer(FILES)  # hypothesis takes no fixtures of this scope
PROMPTS = [
    "",
    "a photo of a dog wearing headphones on the beach",
    "A Photo, of:  two CATS' hats!!",
    "naïve café 3 4 <|endoftext|> \n tab",
]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(FILES)


@pytest.fixture(scope="module")
def reference():
    return CLIPTokenizer.from_pretrained(FILES, local_files_only=True)


def _reference_ids(reference, prompts):
    return reference(
        prompts, padding="max_length", max_length=32, truncation=True
    ).input_ids


def test_ids_are_those_of_transformers(tokenizer, reference):
    ids = tokenize(tokenizer, PROMPTS)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, _reference_ids(reference, PROMPTS))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_any_text_has_the_ids_of_transformers(text):
    expected = _TOKENIZER.backend(text, add_special_tokens=False).input_ids
    assert list(ids_of(_TOKENIZER, text)) == expected


@pytest.mark.parametrize(
    "names",
    [("tokenizer.json",), ("vocab.json", "merges.txt")],
    ids=["tokenizer_json", "vocab_and_merges"],
)
def test_either_pair_of_files_is_enough(names, tokenizer, tmp_path):
    for name in names:
        shutil.copy(FILES / name, tmp_path)
    bare = load_tokenizer(tmp_path, size=1212, length=32)
    assert (bare.bos, bare.eos, bare.pad) == (tokenizer.bos, tokenizer.eos, bare.pad)
    np.testing.assert_array_equal(tokenize(bare, PROMPTS), tokenize(tokenizer, PROMPTS))


def test_the_pad_token_of_older_files_is_honoured(tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(FILES / name, tmp_path)
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "!"}')
    padded = tokenize(load_tokenizer(tmp_path, length=8), ["a"])
    assert padded[0, 3:].tolist() == [0] * 5


def test_a_long_prompt_is_cut_as_diffusers_does_and_says_what_is_lost(
    tokenizer, reference
):
    prompt = "a photo of a dog " * 8 + "wearing a top hat"
    with pytest.warns(UserWarning, match=r"reads 30; cut off: '.*wearing a top hat'"):
        ids = tokenize(tokenizer, [prompt])
    np.testing.assert_array_equal(ids, _reference_ids(reference, [prompt]))


def test_a_prompt_that_just_fits_warns_of_nothing(tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = tokenize(tokenizer, ["dog " * 30])
    assert ids[0, -1] == tokenizer.eos


@pytest.mark.parametrize(
    "prompt", ["a <v1> dog", "a <V1>dog, <v2>", "the<v1><v2> <v1> headphones"]
)
def test_placeholders_split_a_prompt_as_added_tokens_do(prompt, tokenizer):
    reference = CLIPTokenizer.from_pretrained(FILES, local_files_only=True)
    reference.add_tokens(["<v1>", "<v2>"])
    ours = add_placeholder(add_placeholder(tokenizer, "<v1>"), "<v2>")
    np.testing.assert_array_equal(
        tokenize(ours, [prompt]), _reference_ids(reference, [prompt])
    )


def test_a_placeholder_takes_the_ids_after_the_table(tokenizer):
    one = add_placeholder(tokenizer, "<v1>", vectors=3)
    two = add_placeholder(one, "<v2>")
    assert ids_of(one, "<v1>") == (1212, 1213, 1214)
    assert ids_of(two, "<v2>") == (1215,)
    assert tokenizer.placeholders == ()
    assert text_of(two, ids_of(two, "a <v1> dog, <v2>")) == "a <v1> dog , <v2>"
    wide = load_tokenizer(FILES, size=1300)
    assert ids_of(add_placeholder(wide, "<v1>"), "<v1>") == (1300,)


def test_a_placeholder_without_brackets_is_found_as_a_whole_word_only(tokenizer):
    sks = add_placeholder(tokenizer, "zks")
    assert 1212 not in ids_of(sks, "azks zksa")
    assert 1212 in ids_of(sks, "a zks, dog")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("<v1>", "exists; taken: <v1>"),
        ("<V1>", "exists"),
        ("dog", r"a word of the vocabulary \(id \d+\)"),
        ("<|endoftext|>", "a word of the vocabulary"),
        ("<v 2>", "must be one word"),
        ("", "must be one word"),
    ],
)
def test_a_placeholder_that_collides_is_refused(word, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        add_placeholder(add_placeholder(tokenizer, "<v1>"), word)


def test_positions_cover_every_piece_of_every_occurrence(tokenizer):
    prompt = "a dog with headphones and a dog"
    pieces = len(ids_of(tokenizer, "headphones"))
    assert pieces > 1
    assert positions(tokenizer, prompt, "dog") == (2, 6 + pieces)
    assert positions(tokenizer, prompt, "headphones") == tuple(range(4, 4 + pieces))
    assert positions(tokenizer, prompt, "a dog") == (1, 2, 5 + pieces, 6 + pieces)
    ids = tokenize(tokenizer, [prompt])[0]
    assert text_of(tokenizer, ids[4 : 4 + pieces].tolist()) == "headphones"


def test_positions_are_of_whole_words(tokenizer):
    assert positions(tokenizer, "that hat", "hat") == (
        1 + len(ids_of(tokenizer, "that")),
    )
    last = ids_of(tokenizer, "headphones")[-1:]
    ending = text_of(tokenizer, last)
    assert positions(tokenizer, "headphones", ending) == ()
    assert positions(tokenizer, "a dog", "cat") == ()
    assert positions(tokenizer, "a dog", "") == ()


def test_positions_of_a_placeholder_and_of_what_is_cut_off(tokenizer):
    ours = add_placeholder(tokenizer, "<v1>", vectors=2)
    assert positions(ours, "a <v1> dog", "<v1>") == (2, 3)
    assert positions(ours, "a <v1> dog", "<v1> dog") == (2, 3, 4)
    assert positions(ours, "a " * 29 + "<v1>", "<v1>") == (30,)
    assert positions(ours, "a " * 30 + "<v1>", "<v1>") == ()


def test_where_is_true_at_the_positions_alone(tokenizer):
    prompts = ["a dog", "a cat and a dog"]
    mask = concept_mask(tokenizer, prompts, ["dog", "cat", "bear"])
    assert mask.shape == (3, 2, 32)
    assert [list(map(int, np.flatnonzero(row))) for row in mask.reshape(6, 32)] == [
        [2],
        [5],
        [],
        [2],
        [],
        [],
    ]


def test_unknown_placeholders_are_listed_once_by_name(tokenizer):
    ours = add_placeholder(tokenizer, "<v1>")
    prompts = ["a <v1> <v2> dog", "<new-3>, <v2> < 3 <|endoftext|>"]
    assert unknown_placeholders(ours, prompts) == ("<v2>", "<new-3>")


def test_a_directory_without_a_tokenizer_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"expected tokenizer\.json, or vocab\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="no readable CLIP tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_larger_than_the_table_is_refused():
    with pytest.raises(ValueError, match="1212 tokens but the text encoder only 1000"):
        load_tokenizer(FILES, size=1000)


def test_a_length_is_needed(tmp_path):
    shutil.copy(FILES / "tokenizer.json", tmp_path)
    with pytest.raises(ValueError, match="model_max_length"):
        load_tokenizer(tmp_path)
