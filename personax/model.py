"""What a guidance term speaks to: a denoiser, and a tokenizer that knows its words."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from personax import artifact, methods
from personax.denoiser import Denoiser
from personax.loading import Base
from personax.methods import Concept
from personax.methods.tokens import TABLE
from personax.networks.compute import Compute
from personax.networks.tokenizer import Tokenizer, add_alias, add_placeholder
from personax.tree import flat, overwrite


class Model(NamedTuple):
    """A base, or concepts bound to it."""

    denoiser: Denoiser
    tokenizer: Tokenizer


def from_base(base: Base, compute: Compute = Compute()) -> Model:
    """The base as it is; its autoencoder stays with the base."""
    spec = dataclasses.replace(base.spec, compute=compute)
    params = {name: base.params[name] for name in ("unet", "text_encoder")}
    return Model(Denoiser(params, spec=spec), base.tokenizer)


def with_concepts(model: Model, base: Base, sources: Sequence[str]) -> Model:
    """The model that knows the concepts in these folders, all at once.

    Each was trained on the base alone, so what they change in a parameter adds up: W +
    (W_1 - W) + (W_2 - W). A source "<v2>=FOLDER" gives the concept's placeholder
    another name. See `artifact.load` for errors; ValueError for two concepts of one
    name.
    """
    plain, tokenizer = model
    denoiser = plain
    for source in sources:
        bound, tokenizer = _bind(Model(plain, tokenizer), base, source)
        denoiser = _add(denoiser, plain, bound)
    return Model(denoiser, tokenizer)


def with_words(tokenizer: Tokenizer, concepts: Sequence[Concept]) -> Tokenizer:
    """The tokenizer with every concept's placeholder: for new rows, or an alias."""
    for concept in concepts:
        if not concept.ids:
            continue
        if max(concept.ids) < tokenizer.size:
            tokenizer = add_alias(tokenizer, concept.placeholder, concept.ids)
        else:
            vectors = len(concept.ids)
            tokenizer = add_placeholder(tokenizer, concept.placeholder, vectors=vectors)
    return tokenizer


def _bind(model: Model, base: Base, source: str) -> Model:
    """The model with one concept, and with those that it was trained on top of."""
    name, path = _named(source)
    loaded = artifact.load(path, model.denoiser.params, base.fingerprint)
    concepts = loaded.concepts
    if name:
        if len(concepts) != 1:
            raise ValueError(f"{path} holds {len(concepts)} concepts; none is renamed.")
        concepts = (concepts[0]._replace(placeholder=name),)
    for earlier in artifact.earlier(path):
        model = _bind(model, base, str(earlier))
    try:
        tokenizer = with_words(model.tokenizer, concepts)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} Give it another name: --concept '<v2>={path}'."
        )
    return Model(methods.bind(loaded.method, model.denoiser, loaded.theta), tokenizer)


def _named(source: str) -> tuple[str, pathlib.Path]:
    """("<v2>", FOLDER) of "<v2>=FOLDER"; a folder's own name may have a "=" in it."""
    name, equals, folder = source.partition("=")
    if not equals or pathlib.Path(source).exists():
        return "", pathlib.Path(source)
    return name, pathlib.Path(folder)


def _add(total: Denoiser, plain: Denoiser, bound: Denoiser) -> Denoiser:
    """`total` with what `bound` has changed about `plain`; new words come last."""
    before, after, sums = flat(plain.params), flat(bound.params), flat(total.params)
    own, words, table = (leaves.pop(TABLE) for leaves in (before, after, sums))
    for path, leaf in after.items():
        if leaf is before[path]:
            continue
        first = sums[path] is before[path]
        sums[path] = leaf if first else sums[path] + (leaf - before[path])
    if words is not own:
        n = own.shape[0]
        old = words[:n] if table is own else table[:n] + (words[:n] - own)
        table = jnp.concatenate([old, table[n:], words[n:]])
    params = overwrite(total.params, {**sums, TABLE: table}, resize=True)
    controls = (*total.controls, *bound.controls[len(plain.controls) :])
    return total.replace(params=params, controls=controls)
