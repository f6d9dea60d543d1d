"""What a guidance term speaks to: a denoiser, and a tokenizer that knows its words."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from personax import methods
from personax.concepts import artifact
from personax.core.tree import flat, nest
from personax.core.typing import Params
from personax.diffusion.denoiser import CONTROLNET, Denoiser, with_controlnet
from personax.diffusion.spec import Spec
from personax.loading import Base, load_controlnet
from personax.loading.place import Shardings
from personax.methods import Concept
from personax.methods.parts.folded_null_text import reads_text
from personax.methods.parts.prepared import keep
from personax.methods.parts.tokens import TABLE
from personax.networks.compute import Compute
from personax.networks.controlnet import ControlNetConfig
from personax.networks.encoder import skip_channels
from personax.networks.tokenizer import (
    Tokenizer,
    add_alias,
    add_placeholder,
    ids_of,
)


class Model(NamedTuple):
    """A base, or concepts bound to it."""

    denoiser: Denoiser
    tokenizer: Tokenizer
    concepts: tuple[Concept, ...] = ()  # row k of a prompt's `where` marks the k-th


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
    plain, total = model.denoiser, model.denoiser
    for source in sources:
        # The parameters as they were trained on, what acts on them as it is so far: a
        # part may have to get along with the ones before it.
        own = total.replace(params=plain.params, concept_offset=len(model.concepts))
        bound = _bind(model._replace(denoiser=own), base, source)
        _check_text(source, total, bound.denoiser, alone=len(sources) == 1)
        _check_controlnet(source, plain, total, bound.denoiser)
        if bound.denoiser.reference is not None:
            _check_handles(source, bound.concepts)
        total = _add(total, plain, bound.denoiser)
        model = bound._replace(denoiser=total)
    return model


def with_control(
    model: Model,
    base: Base,
    source: str,
    *,
    param_dtype: str = "float32",
    sharding: Shardings = None,
    variant: str | None = None,
    allow_pickle: bool = False,
) -> Model:
    """The model with the ControlNet at `source`, which its terms' hints then steer.

    `source` is a concept that the method controlnet has trained on this base, or what
    `load_controlnet` reads, with its arguments; see there and `artifact.load` for
    errors. ValueError for a ControlNet that does not fit the base.
    """
    if (pathlib.Path(source) / "concept.json").is_file():
        # Bound to the base alone: the model may have become another network.
        trained = with_concepts(from_base(base), base, [source]).denoiser
        if CONTROLNET not in trained.params:
            raise ValueError(f"{source} is a concept, but no ControlNet.")
        params, config = trained.params[CONTROLNET], trained.spec.controlnet
    else:
        loaded = load_controlnet(
            source,
            param_dtype=param_dtype,
            sharding=sharding,
            variant=variant,
            allow_pickle=allow_pickle,
        )
        params, config = loaded.params, loaded.config
    denoiser = model.denoiser
    _check_fit(source, config, denoiser.spec)
    return model._replace(denoiser=with_controlnet(denoiser, params, config))


def with_words(tokenizer: Tokenizer, concepts: Sequence[Concept]) -> Tokenizer:
    """The tokenizer with every concept's placeholder: for new rows, or an alias."""
    for concept in concepts:
        if not concept.placeholder:
            continue
        if not concept.ids:
            # A concept that is called by its class was given a name of its own.
            ids = ids_of(tokenizer, concept.class_word)
            tokenizer = add_alias(tokenizer, concept.placeholder, ids)
        elif max(concept.ids) < tokenizer.size:
            tokenizer = add_alias(tokenizer, concept.placeholder, concept.ids)
        else:
            vectors = len(concept.ids)
            tokenizer = add_placeholder(tokenizer, concept.placeholder, vectors=vectors)
    return tokenizer


def _bind(model: Model, base: Base, source: str) -> Model:
    """The model with one concept, and with those that it was trained on top of."""
    name, path = named(source)
    loaded = artifact.load(path, model.denoiser.params, base.fingerprint)
    concepts = loaded.concepts
    if name:
        if len(concepts) != 1:
            raise ValueError(f"{path} holds {len(concepts)} concepts; none is renamed.")
        phrase = concepts[0].phrase.replace(concepts[0].handle, name)
        concepts = (concepts[0]._replace(placeholder=name, phrase=phrase),)
    for earlier in artifact.earlier(path):
        model = _bind(model, base, str(earlier))
    try:
        tokenizer = with_words(model.tokenizer, concepts)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} Give it another name: --concept '<v2>={path}'."
        )
    denoiser = model.denoiser
    for saved, arrays in loaded.prepared.items():
        denoiser = keep(denoiser, saved, arrays)
    denoiser = methods.prepare(loaded.method, denoiser)
    bound = methods.bind(loaded.method, denoiser, loaded.theta)
    spoken = (*model.concepts, *concepts)
    return Model(bound.replace(concept_offset=len(spoken)), tokenizer, spoken)


def _check_text(source: str, total: Denoiser, bound: Denoiser, *, alone: bool) -> None:
    """ValueError for a model without text beside others: its parameters add up to none.

    Where it is alone there is nothing to add to.
    """
    if not alone and not (reads_text(total.params) and reads_text(bound.params)):
        raise ValueError(
            f"{source}: one of these concepts reads no text and stands alone: give it "
            "as a model of its own, --model NAME=DIR."
        )


def _check_controlnet(
    source: str, plain: Denoiser, total: Denoiser, bound: Denoiser
) -> None:
    """ValueError for a second ControlNet, which would take the first one's place."""
    brought = CONTROLNET in bound.params and CONTROLNET not in plain.params
    if brought and CONTROLNET in total.params:
        raise ValueError(f"{source} is a second ControlNet; a model has one.")


def _check_fit(source: str, config: ControlNetConfig, spec: Spec) -> None:
    """ValueError for a ControlNet whose residuals are not of the UNet's shapes."""
    if config.factor != spec.vae.factor:
        raise ValueError(
            f"{source} reads hints at {config.factor} pixels per latent cell; the "
            f"base's autoencoder has {spec.vae.factor}."
        )
    for field in ("in_channels", "cross_attention_dim"):
        ours, theirs = getattr(spec.unet, field), getattr(config, field)
        if ours != theirs:
            raise ValueError(f"{source} has {field} {theirs}, the base's UNet {ours}.")
    ours, theirs = skip_channels(spec.unet), skip_channels(config)
    if ours != theirs:
        raise ValueError(
            f"{source} adds to layers of {theirs} channels; the base's UNet has {ours}."
        )


def _check_handles(source: str, concepts: Sequence[Concept]) -> None:
    """ValueError for two residuals at one word, which would be drawn as their sum."""
    handles = [concept.handle.lower() for concept in concepts]
    for handle in handles:
        if handles.count(handle) > 1:
            raise ValueError(
                f"{source}: another concept is called {handle!r} as well. Give it "
                f"another name: --concept '<v2>={source}'."
            )


def named(source: str) -> tuple[str, pathlib.Path]:
    """("<v2>", FOLDER) of "<v2>=FOLDER"; a folder's own name may have a "=" in it."""
    name, equals, folder = source.partition("=")
    if not equals or pathlib.Path(source).exists():
        return "", pathlib.Path(source)
    return name, pathlib.Path(folder)


def _add(total: Denoiser, plain: Denoiser, bound: Denoiser) -> Denoiser:
    """`bound`, with what it has changed about `plain` added to `total`'s parameters."""
    params = _add_params(total.params, plain.params, bound.params)
    reference = bound.reference
    if reference is not None:
        # The frozen stream has the weights of all concepts, and none of what a
        # concept's residual does.
        before, after = total, reference
        if total.reference is not None:
            before, after = total.reference, bound
        shared = _add_params(before.params, plain.params, after.params)
        reference = reference.replace(params=shared)
    return bound.replace(params=params, reference=reference)


def _add_params(total: Params, plain: Params, bound: Params) -> Params:
    """`total` with what `bound` has changed about `plain`; new words come last."""
    if not reads_text(bound):
        return bound  # it is alone
    before, after, sums = flat(plain), flat(bound), flat(total)
    own, words, table = (leaves.pop(TABLE) for leaves in (before, after, sums))
    for path, leaf in after.items():
        if leaf is before.get(path):
            continue
        # What neither has is a network of its own, a ControlNet.
        first = sums.get(path) is before.get(path)
        sums[path] = leaf if first else sums[path] + (leaf - before[path])
    if words is not own:
        n = own.shape[0]
        old = words[:n] if table is own else table[:n] + (words[:n] - own)
        table = jnp.concatenate([old, table[n:], words[n:]])
    return nest({**sums, TABLE: table})
