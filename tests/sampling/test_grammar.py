"""The grammars of terms, weights, search axes and edit windows."""

import pytest

from personax.sampling import grammar
from personax.sampling.grammar import parse_axis, parse_term, parse_weight
from personax.sampling.guidance_search import Axis
from personax.sampling.prompt_terms import TermSpec

pytestmark = pytest.mark.quick


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
def test_another_form_of_a_term_is_an_error_with_an_example(text):
    with pytest.raises(ValueError, match="WEIGHT:PROMPT"):
        parse_term(text)


def test_a_printed_term_is_parsed_again():
    for term_spec in (TermSpec("a dog", 3.0), TermSpec("", -0.5, "face")):
        assert parse_term(str(term_spec)) == term_spec


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("face@0.5..1.5:", Axis("", "face", (0.5, 0.75, 1.0, 1.25, 1.5))),
        ("-1..1/1:at 10:30", Axis("at 10:30", "base", (-1.0, 0.0, 1.0))),
        ("0..1/0.4:a", Axis("a", "base", (0.0, 0.4, 0.8))),
        ("2..2:a", Axis("a", "base", (2.0,))),
    ],
)
def test_an_axis_has_every_weight_from_one_to_the_other(text, axis):
    assert parse_axis(text) == axis


@pytest.mark.parametrize(
    "text", ["a dog", "3:a dog", "3..1:a", "0..1/0:a", "0..inf:a", "0..x:a", "@0..1:a"]
)
def test_another_form_of_an_axis_is_an_error(text):
    with pytest.raises(ValueError, match=r"FROM\.\.TO"):
        parse_axis(text)


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "1>", "1[0.5]", "1[0.2,0.8]2", "1>2>3", "1e999"]
)
def test_another_form_of_a_weight_is_an_error(text):
    with pytest.raises(ValueError, match="weight"):
        parse_weight(text)


@pytest.mark.parametrize("share", ["0.8,0.2", "0.5,0.5", "-0.1,1", "0,1.5"])
def test_an_invalid_share_of_the_steps_is_an_error(share):
    with pytest.raises(ValueError, match="not a share of the steps"):
        parse_weight(f"2[{share}]")


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("0.8", {"default": 0.8}),
        ("0.2,0.6", {"default": (0.2, 0.6)}),
        (
            "default=1.0,lion=0.4,hat=0.2:0.6",
            {"default": 1, "lion": 0.4, "hat": (0.2, 0.6)},
        ),
    ],
)
def test_windows_are_for_all_words_or_by_word(text, windows):
    assert grammar.parse_windows(text) == windows


@pytest.mark.parametrize(
    "text", ["", "much", "1.5", "0.8,0.2", "0.1,0.2,0.3", "a=,b=1"]
)
def test_another_form_of_a_window_is_an_error(text):
    with pytest.raises(ValueError, match=r"number or two|Invalid window"):
        grammar.parse_windows(text)


def test_a_factor_is_a_word_and_a_finite_number():
    assert grammar.parse_factor("top hat=-2") == ("top hat", -2.0)
    for text in ("hat", "=2", "hat=much", "hat=nan"):
        with pytest.raises(ValueError, match="WORD=FACTOR"):
            grammar.parse_factor(text)
