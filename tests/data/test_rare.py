"""Rare tokens, counted in captions by the embedded base's vocabulary."""

import pytest

from personax.data.rare import RareToken, rare_tokens
from personax.loading import embedded
from personax.networks.tokenizer import ids_of, load_tokenizer, vocabulary_id


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(embedded("pipeline") / "tokenizer")


def _captions(**counts):
    return [word for word, count in counts.items() for _ in range(count)]


def _entries(tokens):
    return {token.entry: token.count for token in tokens}


def test_the_counts_decide_and_the_rarest_comes_first(tokenizer):
    captions = _captions(fox=4, dog=5, cat=7, hamburger=10, strawberry=11)
    found = rare_tokens(tokenizer, captions)
    assert found == [
        RareToken(f"{word}</w>", ids_of(tokenizer, word)[0], count)
        for word, count in (("dog", 5), ("cat", 7), ("hamburger", 10))
    ]
    assert all(vocabulary_id(tokenizer, token.entry) == token.id for token in found)
    narrow = rare_tokens(tokenizer, captions, least=4, most=5)
    assert _entries(narrow) == {"fox</w>": 4, "dog</w>": 5}


def test_among_equals_the_later_merge_comes_first(tokenizer):
    words = ("fox", "strawberry", "dog", "hamburger")
    found = rare_tokens(tokenizer, _captions(**dict.fromkeys(words, 5)))
    assert [token.id for token in found] == sorted(
        (ids_of(tokenizer, word)[0] for word in words), reverse=True
    )


def test_every_occurrence_counts_not_every_caption(tokenizer):
    found = rare_tokens(tokenizer, ["a fox, a fox and a FOX", "fox", "fox"])
    assert _entries(found) == {"fox</w>": 5}


def test_only_letters_remain(tokenizer):
    marks = ["7 ! é 狐"] * 5
    assert _entries(rare_tokens(tokenizer, [*marks, *_captions(fox=5)])) == {
        "fox</w>": 5
    }


def test_a_part_of_another_token_in_the_captions_is_no_candidate(tokenizer):
    captions = _captions(photo=5)
    assert _entries(rare_tokens(tokenizer, captions)) == {"photo</w>": 5}
    # "o" ends many tokens, and is one by itself.
    assert _entries(rare_tokens(tokenizer, [*captions, *_captions(o=5)])) == {
        "photo</w>": 5
    }
    assert _entries(rare_tokens(tokenizer, _captions(o=5))) == {"o</w>": 5}


def test_when_none_remains_the_counts_say_why(tokenizer):
    captions = [*_captions(photo=20, o=5), *["!"] * 6]
    sentence = "of 3 vocabulary entries that occur, 2 occur 5 to 10 times, 1 of these"
    with pytest.raises(ValueError, match=sentence):
        rare_tokens(tokenizer, captions)
