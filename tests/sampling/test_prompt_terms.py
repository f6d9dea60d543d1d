"""The command line's language for terms."""

import pytest

from personax.concepts.bind import from_base
from personax.sampling import prompt_terms
from personax.sampling.grammar import parse_term
from personax.sampling.prompt_terms import TermSpec


@pytest.mark.parametrize(
    ("text", "term_spec"),
    [
        ("3:a dog", TermSpec("a dog", 3.0)),
        ("-1.5:blurry", TermSpec("blurry", -1.5)),
        ("1:", TermSpec("", 1.0)),
        ("2:time: 10:30", TermSpec("time: 10:30", 2.0)),
        ("face@1.5:wearing glasses", TermSpec("wearing glasses", 1.5, "face")),
        ("2:me@home", TermSpec("me@home", 2.0)),
    ],
)
def test_a_term_is_split_at_its_first_colon(text, term_spec):
    assert parse_term(text) == term_spec


@pytest.mark.parametrize("text", ["a dog", "x:a dog", "face@:a dog", ":a dog", "@1:a"])
def test_another_form_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="WEIGHT:PROMPT"):
        parse_term(text)


def test_a_written_wish_is_read_again():
    for term_spec in (TermSpec("a dog", 3.0), TermSpec("", -0.5, "face")):
        assert parse_term(str(term_spec)) == term_spec


def test_the_unconditional_term_takes_the_rest_of_the_weight(emoji):
    models = {"base": from_base(emoji)}
    terms = prompt_terms.to_terms(
        models, [TermSpec("a dog", 3.0), TermSpec("a cat", 0.5)]
    )
    assert [float(term.weight) for term in terms] == [-2.5, 3.0, 0.5]


def test_unknown_models_and_placeholders_are_named(emoji):
    models = {"base": from_base(emoji)}
    with pytest.raises(ValueError, match="expected one of base"):
        prompt_terms.check(models, [TermSpec("a dog", 1.0, "fase")])
    with pytest.raises(ValueError, match="expected one of base"):
        prompt_terms.check(models, [TermSpec("a dog", 1.0)], unconditional="sd")
    with pytest.raises(ValueError, match=r"<v2>.*--concept"):
        prompt_terms.check(models, [TermSpec("a <v2> dog", 1.0)])
