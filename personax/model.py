"""What a guidance term speaks to: a denoiser, and a tokenizer that knows its words."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from personax import artifact, methods
from personax.denoiser import Denoiser
from personax.loading import Base
from personax.methods import Concept
from personax.networks.compute import Compute
from personax.networks.tokenizer import Tokenizer, add_placeholder


class Model(NamedTuple):
    """A base, or a concept bound to it."""

    denoiser: Denoiser
    tokenizer: Tokenizer


def from_base(base: Base, compute: Compute = Compute()) -> Model:
    """The base as it is; its autoencoder stays with the base."""
    spec = dataclasses.replace(base.spec, compute=compute)
    params = {name: base.params[name] for name in ("unet", "text_encoder")}
    return Model(Denoiser(params, spec=spec), base.tokenizer)


def with_concept(model: Model, base: Base, folder: str | pathlib.Path) -> Model:
    """The model that knows the concept in `folder`; see `artifact.load` for errors."""
    concept = artifact.load(
        pathlib.Path(folder), model.denoiser.params, base.fingerprint
    )
    return Model(
        methods.bind(concept.method, model.denoiser, concept.theta),
        with_words(model.tokenizer, concept.concepts),
    )


def with_words(tokenizer: Tokenizer, concepts: Sequence[Concept]) -> Tokenizer:
    """The tokenizer with every concept's placeholder, one word for its new rows."""
    for concept in concepts:
        if concept.ids:
            tokenizer = add_placeholder(
                tokenizer, concept.placeholder, vectors=len(concept.ids)
            )
    return tokenizer
