"""Guidance terms: their weights, and the errors for unknown models and concepts."""

import pytest

from personax.concepts.bind import from_base
from personax.methods import Concept
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec


def test_the_unconditional_term_takes_the_rest_of_the_weight(emoji):
    models = {"base": from_base(emoji)}
    terms = prompt_terms.to_terms(
        models, [TermSpec("a dog", 3.0), TermSpec("a cat", 0.5)]
    )
    assert [float(term.weight) for term in terms] == [-2.5, 3.0, 0.5]


def test_the_unconditional_term_is_not_marked_as_the_concepts(emoji):
    face = Concept("", "face", (), (), "face")
    models = {"base": from_base(emoji)._replace(concepts=(face,))}
    null, term = prompt_terms.to_terms(
        models, [TermSpec("a face", 3.0)], negative="a face"
    )
    assert term.prompt.concept_mask.any()
    assert null.prompt.concept_mask is None


def test_unknown_models_and_placeholders_are_named(emoji):
    models = {"base": from_base(emoji)}
    with pytest.raises(ValueError, match="expected one of base"):
        prompt_terms.check(models, [TermSpec("a dog", 1.0, "fase")])
    with pytest.raises(ValueError, match="expected one of base"):
        prompt_terms.check(models, [TermSpec("a dog", 1.0)], unconditional="sd")
    with pytest.raises(ValueError, match=r"<v2>.*--concept"):
        prompt_terms.check(models, [TermSpec("a <v2> dog", 1.0)])
