"""The command line's language for terms."""

import pytest

from personax import prompts
from personax.model import from_base
from personax.prompts import Wish, parse


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("3:a dog", Wish("a dog", 3.0)),
        ("-1.5:blurry", Wish("blurry", -1.5)),
        ("1:", Wish("", 1.0)),
        ("2:time: 10:30", Wish("time: 10:30", 2.0)),
        ("face@1.5:wearing glasses", Wish("wearing glasses", 1.5, "face")),
        ("2:me@home", Wish("me@home", 2.0)),
    ],
)
def test_a_term_is_split_at_its_first_colon(text, wish):
    assert parse(text) == wish


@pytest.mark.parametrize("text", ["a dog", "x:a dog", "face@:a dog", ":a dog", "@1:a"])
def test_another_form_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="WEIGHT:PROMPT"):
        parse(text)


def test_a_written_wish_is_read_again():
    for wish in (Wish("a dog", 3.0), Wish("", -0.5, "face")):
        assert parse(str(wish)) == wish


def test_the_unconditional_term_takes_the_rest_of_the_weight(emoji):
    models = {"base": from_base(emoji)}
    terms = prompts.to_terms(models, [Wish("a dog", 3.0), Wish("a cat", 0.5)])
    assert [float(term.weight) for term in terms] == [-2.5, 3.0, 0.5]


def test_unknown_models_and_placeholders_are_named(emoji):
    models = {"base": from_base(emoji)}
    with pytest.raises(ValueError, match="there is: base"):
        prompts.check(models, [Wish("a dog", 1.0, "fase")])
    with pytest.raises(ValueError, match="there is: base"):
        prompts.check(models, [Wish("a dog", 1.0)], unconditional="sd")
    with pytest.raises(ValueError, match=r"<v2>.*--concept"):
        prompts.check(models, [Wish("a <v2> dog", 1.0)])
