"""Models: a base with concepts bound, and a tokenizer that knows their placeholders."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from personax import methods
from personax.concepts import artifact, formats
from personax.concepts.artifact import Artifact
from personax.concepts.source import Source, parse_source
from personax.concepts.strength import at_strength
from personax.core.errors import notice
from personax.core.text import fold
from personax.core.tree import flat, nest
from personax.core.typing import Params
from personax.diffusion.denoiser import CONTROLNET, Denoiser, with_controlnet
from personax.diffusion.spec import Spec
from personax.loading import Base, load_controlnet
from personax.loading.place import Shardings
from personax.methods import Concept
from personax.methods.parts.prepared import put_prepared
from personax.methods.parts.tokens import TABLE
from personax.networks.compute import Compute
from personax.networks.controlnet import ControlNetConfig
from personax.networks.encoder import skip_channels
from personax.networks.tokenizer import (
    Tokenizer,
    add_alias,
    add_name,
    add_placeholder,
    ids_of,
)


class Model(NamedTuple):
    """A base, or a base with concepts bound to it."""

    denoiser: Denoiser
    tokenizer: Tokenizer
    concepts: tuple[Concept, ...] = ()  # row k of a prompt's concept mask is the k-th


def from_base(base: Base, compute: Compute = Compute()) -> Model:
    """The base as a model, without its autoencoder."""
    spec = dataclasses.replace(base.spec, compute=compute)
    params = {name: base.params[name] for name in ("unet", "text_encoder")}
    return Model(Denoiser(params, spec=spec), base.tokenizer)


def with_concepts(
    model: Model,
    base: Base,
    sources: Sequence[str],
    *,
    any_base: bool = False,
    allow_pickle: bool = False,
) -> Model:
    """The model with these concepts bound together.

    A source is a concept's folder or an adapter that another program wrote, see
    `formats`; `allow_pickle` opens its .pt and .bin files. Each was trained on the base
    alone, so their changes of a parameter are summed: W + (W_1 - W) + (W_2 - W). A
    source "<v2>=FOLDER" renames the concept's placeholder, "FOLDER@0.7" binds it at a
    strength, see `at_strength`. What is read of an adapter is said on stderr, and that
    a concept was trained on another base; whole parameters of another base are refused
    without `any_base`.

    Raises ValueError for concepts with the same placeholder and for concepts whose
    parts are exclusive; see `Part`, and `artifact.load` and `formats.read` for more
    errors.
    """
    plain, total = model.denoiser, model.denoiser
    reading = _Reading(base, any_base, allow_pickle)
    chains: list[list[Artifact]] = []
    for source in sources:
        # The base's parameters, because changes are summed; controls and words of the
        # earlier concepts, because some parts combine with those.
        own = dataclasses.replace(
            total, params=plain.params, concept_offset=len(model.concepts)
        )
        model = model._replace(denoiser=own)
        bound, chain = _bind(model, parse_source(source), reading)
        chains.append(chain)
        _check_exclusive(source, chains, bound.concepts)
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
    """The model with the ControlNet at `source`, for terms with hints.

    `source` is a concept trained on this base by the method controlnet, or what
    `load_controlnet` reads, with its arguments; see there and `artifact.load` for
    errors. Raises ValueError for a ControlNet that does not fit the base.
    """
    if (pathlib.Path(source) / "concept.json").is_file():
        # Bound to the plain base: the model's parameters may differ from it.
        trained = with_concepts(from_base(base), base, [source]).denoiser
        if CONTROLNET not in trained.params:
            raise ValueError(f"{source} is a concept without a ControlNet.")
        params, config = trained.params[CONTROLNET], trained.spec.controlnet
    else:
        loaded = load_controlnet(
            source,
            param_dtype=param_dtype,
            sharding=sharding,
            variant=variant,
            allow_pickle=allow_pickle,
            unet=base.spec.unet,
        )
        params, config = loaded.params, loaded.config
    assert config is not None  # a denoiser with a ControlNet has its config
    denoiser = model.denoiser
    _check_fit(source, config, denoiser.spec)
    return model._replace(denoiser=with_controlnet(denoiser, params, config))


def with_words(tokenizer: Tokenizer, concepts: Sequence[Concept]) -> Tokenizer:
    """The tokenizer with every concept's placeholder: new ids, or an alias."""
    for concept in concepts:
        if not concept.placeholder:
            continue
        if not concept.ids:
            # A concept without a placeholder that was renamed: its class word's alias.
            ids = ids_of(tokenizer, concept.class_word)
            tokenizer = add_alias(tokenizer, concept.placeholder, ids)
        elif max(concept.ids) < tokenizer.size:
            tokenizer = add_alias(tokenizer, concept.placeholder, concept.ids)
        else:
            # The word "sks" that was trained from its own ids.
            itself = concept.initial == ids_of(tokenizer, concept.placeholder)
            tokenizer = add_placeholder(
                tokenizer,
                concept.placeholder,
                vectors=len(concept.ids),
                replaces=itself,
                spaces=True,
            )
    return tokenizer


def _with_names(
    tokenizer: Tokenizer, names: Mapping[str, str]
) -> tuple[Tokenizer, str]:
    """The tokenizer with {another name: a placeholder}, and a note of them.

    A name that is a word already keeps its meaning.
    """
    added = []
    for name, word in names.items():
        try:
            tokenizer = add_name(tokenizer, name, word)
        except ValueError:
            continue
        added.append(f"; {name!r} in a prompt means {word!r} as well")
    return tokenizer, "".join(added)


class _Reading(NamedTuple):
    """How sources are read, and for which base."""

    base: Base
    any_base: bool
    allow_pickle: bool


def _bind(
    model: Model, source: Source, reading: _Reading
) -> tuple[Model, list[Artifact]]:
    """The model with a concept and those it was trained on top of.

    Also returns what was loaded, in the order in which it is bound.
    """
    path = source.path
    loaded = _load(model, source, reading)
    concepts = loaded.concepts
    chain = []
    for earlier in artifact.earlier(path):
        model, loaded_earlier = _bind(model, earlier, reading)
        chain += loaded_earlier
    try:
        tokenizer = with_words(model.tokenizer, concepts)
        tokenizer, names = _with_names(tokenizer, loaded.about.get("names", {}))
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} Give it another name: --concept '<v2>={path}'."
        )
    denoiser = model.denoiser
    for entry, arrays in loaded.prepared.items():
        denoiser = put_prepared(denoiser, entry, arrays)
    denoiser = methods.prepare(loaded.method, denoiser)
    bound = methods.bind(loaded.method, denoiser, loaded.theta)
    bound = at_strength(denoiser, bound, source.strength, str(source))
    all_concepts = (*model.concepts, *concepts)
    bound = dataclasses.replace(bound, concept_offset=len(all_concepts))
    if "summary" in loaded.about:
        notice(f"{path} is {loaded.about['method']}: {loaded.about['summary']}{names}.")
    return Model(bound, tokenizer, all_concepts), [*chain, loaded]


def _load(model: Model, source: Source, reading: _Reading) -> Artifact:
    """What a source holds, its word renamed."""
    path, name = source.path, source.placeholder
    params = model.denoiser.params
    if path.is_file() or formats.find(path):
        size = reading.base.tokenizer.size
        loaded = formats.read(
            path,
            params,
            reading.base.spec.unet,
            size=size,
            allow_pickle=reading.allow_pickle,
        )
    else:
        base = reading.base
        loaded = artifact.load(
            path,
            params,
            base.fingerprint,
            copies=base.copies,
            any_base=reading.any_base,
        )
    if not name:
        return loaded
    concepts = loaded.concepts
    if len(concepts) != 1:
        raise ValueError(
            f"{path} holds {len(concepts)} concepts; only one can be renamed."
        )
    phrase = concepts[0].phrase.replace(concepts[0].handle, name)
    about = {key: value for key, value in loaded.about.items() if key != "names"}
    if "summary" in about:
        old = repr(concepts[0].handle)
        about["summary"] = about["summary"].replace(old, repr(name))
    concepts = (concepts[0]._replace(placeholder=name, phrase=phrase),)
    return loaded._replace(concepts=concepts, about=about)


def _check_exclusive(
    source: str, chains: Sequence[Sequence[Artifact]], concepts: Sequence[Concept]
) -> None:
    """ValueError for concepts that a part declares exclusive; see `Part`.

    `source` is the last one added; a chain is a concept with those below it.
    """
    loaded = [each for chain in chains for each in chain]
    names = [name for each in loaded for name in each.method.parts]
    handles = [fold(concept.handle) for concept in concepts]
    for each in loaded:
        own = [fold(concept.handle) for concept in each.concepts]
        shared = [handle for handle in own if handles.count(handle) > 1]
        for name, part in each.method.parts.items():
            if part.exclusive == "word" and shared:
                raise ValueError(
                    f"{source}: another concept is called {shared[0]!r} as well. Give "
                    f"it another name: --concept '<v2>={source}'."
                )
            if part.exclusive == "part" and names.count(name) > 1:
                raise ValueError(f"{source} has a second {name}; a model has one.")
            if part.exclusive == "model" and len(chains) > 1:
                raise ValueError(
                    f"{source}: a concept of {each.about['method']} cannot be combined "
                    "with others; load it as a model of its own, --model NAME=DIR."
                )


def _check_fit(source: str, config: ControlNetConfig, spec: Spec) -> None:
    """ValueError for a ControlNet whose residuals do not have the UNet's shapes."""
    if config.factor != spec.vae.factor:
        raise ValueError(
            f"{source} reads hints at {config.factor} pixels per latent cell; the "
            f"base's autoencoder has {spec.vae.factor}."
        )
    for field in ("in_channels", "cross_attention_dim"):
        ours, theirs = getattr(spec.unet, field), getattr(config, field)
        # One of an ordinary base fits an inpainting base: it reads the latents alone.
        reads = field == "in_channels" and theirs == spec.vae.latent_channels
        if ours != theirs and not (reads and spec.inpaints):
            raise ValueError(f"{source} has {field} {theirs}, the base's UNet {ours}.")
    ours, theirs = skip_channels(spec.unet), skip_channels(config)
    if ours != theirs:
        raise ValueError(
            f"{source} adds to layers of {theirs} channels; the base's UNet has {ours}."
        )


def _add(total: Denoiser, plain: Denoiser, bound: Denoiser) -> Denoiser:
    """`bound` with its changes of `plain`'s parameters added to `total`'s."""
    params = _add_params(total.params, plain.params, bound.params)
    reference = bound.reference
    if reference is not None:
        # The frozen stream has the weights of all concepts and no residuals.
        before, after = total, reference
        if total.reference is not None:
            before, after = total.reference, bound
        shared = _add_params(before.params, plain.params, after.params)
        reference = dataclasses.replace(reference, params=shared)
    return dataclasses.replace(bound, params=params, reference=reference)


def _add_params(total: Params, plain: Params, bound: Params) -> Params:
    """`total` plus the changes that `bound` made to `plain`; new tokens come last."""
    if total is plain:
        return bound
    before, after, sums = flat(plain), flat(bound), flat(total)
    own, words, table = (leaves.pop(TABLE) for leaves in (before, after, sums))
    for path, leaf in after.items():
        if leaf is before.get(path):
            continue
        # Paths that neither has belong to a network of its own, a ControlNet.
        first = sums.get(path) is before.get(path)
        sums[path] = leaf if first else sums[path] + (leaf - before[path])
    if words is not own:
        n = own.shape[0]
        old = words[:n] if table is own else table[:n] + (words[:n] - own)
        table = jnp.concatenate([old, table[n:], words[n:]])
    return nest({**sums, TABLE: table})
