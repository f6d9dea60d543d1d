"""What a run reads, as digests of the contents: a path may hold others later."""

import dataclasses
import json
import pathlib
from typing import Any

from personax.concepts import artifact
from personax.concepts.source import parse_source
from personax.core.files import digest, digest_contents, expand
from personax.loading import EMBEDDED
from personax.networks.tokenizer import Tokenizer, ids_of
from personax.training.concept_text import ConceptSpec
from personax.training.regularization import Prior, listed
from personax.training.setup import Run

# Present in the record of every run since contents are digested.
WORDS = "words 0"


def of_run(run: Run) -> dict[str, str]:
    """{name: digest} of the base, pictures, words, priors and texts that a run reads.

    Regularisation sets that the run makes itself are not among them, nor what does not
    change theta: previews, and pictures for the validation loss.
    """
    config, spec = run.config, run.base.spec
    parts = (spec.unet, spec.text_encoder, spec.vae, spec.schedule)
    found = {"base": run.base.fingerprint, **run.dataset.fingerprint()}
    found["base settings"] = digest(repr([_stated(part) for part in parts]))
    for i, text in enumerate(config.before):
        path = parse_source(text).path
        found[f"before {i}"] = artifact.digest(path)
        found[f"before {i} words"] = artifact.digest_words(path)
    for i, each in enumerate(run.specs):
        found[f"words {i}"] = _words(each, run.tokenizer)
    for i, prior in enumerate(run.priors):
        found[f"prior {i}"] = _prior(prior)
    if config.corpus and config.corpus.endswith(".txt"):
        found["corpus"] = digest_contents([expand(config.corpus)])
    return {name: value for name, value in found.items() if value}


def _words(spec: ConceptSpec, tokenizer: Tokenizer) -> str:
    """Of a concept's words and captions, as they are written and as token ids."""
    concept = spec.concept
    ids = [ids_of(tokenizer, each) for each in (concept.phrase, *spec.captions)]
    words = [*concept, spec.captions, spec.prior_prompt, ids]
    return digest(json.dumps(words))


def _prior(prior: Prior) -> str:
    """Of the captions and pictures that a regularisation set is taken from."""
    pictures = listed(prior)
    if not pictures:
        return ""
    captions = json.dumps([each.caption for each in pictures])
    parts = [captions, digest_contents(each.path for each in pictures)]
    if prior.source == "retrieved" and prior.clip != EMBEDDED:
        parts.append(digest_contents(sorted(pathlib.Path(prior.clip).glob("*"))))
    return digest(*parts)


def _stated(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults.

    Fields that a later version adds do not change it.
    """
    values = {
        field: getattr(record, field.name) for field in dataclasses.fields(record)
    }
    return {
        field.name: _stated(value) if dataclasses.is_dataclass(value) else value
        for field, value in values.items()
        if value != field.default
    }
