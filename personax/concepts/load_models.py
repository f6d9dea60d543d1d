"""The models that guidance terms may name: bases, and concepts with their bases."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from personax.concepts import artifact, formats
from personax.concepts.bind import Model, from_base, with_concepts, with_control
from personax.concepts.source import Source, parse_source
from personax.diffusion.schedule import alphas_cumprod
from personax.diffusion.spec import Spec
from personax.loading import EMBEDDED, Base, load_base
from personax.loading.part_file import is_unet
from personax.networks.compute import Compute

_CONTROL_OPTIONS = ("param_dtype", "sharding", "variant", "allow_pickle")


class Loaded(NamedTuple):
    """The base, and every model by the name that terms use."""

    base: Base
    models: dict[str, Model]  # "base" first, with its concepts bound
    digests: dict[str, str]  # {model: a digest of its weights}


class _LoadedModel(NamedTuple):
    """A model, its base, and the sources of the concepts bound to it."""

    model: Model
    base: Base
    sources: Sequence[Source] = ()

    def digest(self) -> str:
        concepts = [artifact.digest(source.path) for source in self.sources]
        strengths = [f"@{s.strength:g}" for s in self.sources if s.strength != 1]
        return " ".join([self.base.fingerprint[:16], *concepts, *strengths])


def load_models(
    base: str | None,
    concepts: Sequence[str] = (),
    others: Mapping[str, str] = {},
    controls: Mapping[str, str] = {},
    *,
    compute: Compute = Compute(),
    any_base: bool = False,
    **options: Any,
) -> Loaded:
    """The base with its concepts bound, and the models of {name: source}.

    A source is what `load_base` reads, or a concept's folder, for which its own base is
    loaded, or an adapter's file, which is bound to `base`, or a UNet alone, which takes
    the other parts of `base`. A `base` of None is the one that the first concept
    names, by default the embedded one. Equal weights are on the device once, and two
    names of one base share a model. `controls` are {name: ControlNet}, see
    `with_control`; `any_base` is explained at `with_concepts`. `options` are arguments
    of `load_base`.

    Raises FileNotFoundError or ValueError for a source that cannot be read, and
    ValueError for a model whose latents or schedule differ from the base's.
    """
    options = {"param_dtype": compute.dtype, **options}
    first = load_named_base(base, concepts, options)
    plain = [_LoadedModel(from_base(first, compute), first)]
    reading = {
        "any_base": any_base,
        "allow_pickle": options.get("allow_pickle", False),
    }
    model = with_concepts(plain[0].model, first, concepts, **reading)
    sources = [parse_source(concept) for concept in concepts]
    loaded = {"base": _LoadedModel(model, first, sources)}
    for name, source in others.items():
        if name == "base" or any(mark in name for mark in "@:"):
            raise ValueError(
                f"--model {name}={source}: a NAME must not be base and must not "
                "contain @ or a colon."
            )
        loaded[name] = _load(plain, source, compute, options, reading)
        check_agreement(name, loaded[name].model.denoiser.spec, first.spec)
    for name, source in controls.items():
        if name not in loaded:
            raise ValueError(
                f"--control {name}={source}: unknown model {name!r}; expected one of "
                f"{', '.join(loaded)}."
            )
        loaded[name] = _with_control(loaded[name], source, options)
    models = {name: each.model for name, each in loaded.items()}
    digests = {name: each.digest() for name, each in loaded.items()}
    return Loaded(first, models, digests)


def check_agreement(name: str, spec: Spec, base: Spec) -> None:
    """ValueError if a model's predictions cannot be combined with the base's."""

    def latents(spec: Spec) -> str:
        return (
            f"{spec.vae.latent_channels} channels at 1/{spec.vae.factor} of the "
            f"picture's side, scaled by {spec.vae.scaling_factor:g}"
        )

    if latents(spec) != latents(base):
        raise ValueError(
            f"The model {name!r} has latents of {latents(spec)}; the base's have "
            f"{latents(base)}. All models must share one latent space: see --base."
        )
    if spec.inpaints != base.inpaints:
        kinds = [
            "an inpainting" if each.inpaints else "a text-to-image"
            for each in (spec, base)
        ]
        raise ValueError(
            f"The model {name!r} is {kinds[0]} model and the base {kinds[1]} model; "
            "all models must be of one kind: see --base."
        )
    own, other = spec.schedule, base.schedule
    if own.prediction_type != other.prediction_type:
        raise ValueError(
            f"The model {name!r} predicts {own.prediction_type} and the base "
            f"{other.prediction_type}; all models must predict the same: see --base."
        )
    bars = alphas_cumprod(own), alphas_cumprod(other)
    if bars[0].shape != bars[1].shape or not np.allclose(*bars, rtol=1e-6):
        raise ValueError(
            f"The model {name!r} was trained with another noise schedule than the "
            "base; all models must share one: see --base."
        )


def base_of(concepts: Sequence[str]) -> str | None:
    """The base that the first concept trained here names; None without one."""
    for concept in concepts:
        path = parse_source(concept).path
        if (path / "concept.json").is_file():
            return artifact.origin(path)[0]
    return None


def load_named_base(
    base: str | None, concepts: Sequence[str], options: Mapping[str, Any]
) -> Base:
    """The base, or without one what `base_of` finds, or the embedded one.

    `options` are arguments of `load_base`; see there for errors.
    """
    name = base_of(concepts) if base is None else None
    if name is None:
        return load_base(base or EMBEDDED, **options)
    try:
        return load_base(name, **options)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{concepts[0]} names the base {name!r}: {error} Pass one with --base."
        )


def _load(
    plain: list[_LoadedModel],
    source: str,
    compute: Compute,
    options: Mapping[str, Any],
    reading: Mapping[str, bool],
) -> _LoadedModel:
    """The model at `source`; its base is one of `plain` or is appended to it."""
    parsed = parse_source(source)
    folder = parsed.path
    if not (folder / "concept.json").is_file():
        if (folder / "concept" / "concept.json").is_file():
            artifact.origin(folder)  # raises, with a hint
        if not formats.is_adapter(folder, allow_pickle=reading["allow_pickle"]):
            return _load_plain(plain, source, compute, options)
        same = plain[:1]
    else:
        base_name, fingerprint = artifact.origin(folder)
        same = [each for each in plain if each.base.fingerprint == fingerprint]
        if not same:
            try:
                same = [_load_plain(plain, base_name, compute, options)]
            except (FileNotFoundError, ValueError) as error:
                raise ValueError(f"{source} has the base {base_name!r}: {error}")
    model, base, _ = same[0]
    return _LoadedModel(with_concepts(model, base, [source], **reading), base, [parsed])


def _load_plain(
    plain: list[_LoadedModel],
    source: str,
    compute: Compute,
    options: Mapping[str, Any],
) -> _LoadedModel:
    """A base as a model, appended to `plain` unless it is among them."""
    pickles, first = options.get("allow_pickle", False), plain[0].base.name
    alone = is_unet(pathlib.Path(source), allow_pickle=pickles)
    if alone and not is_unet(pathlib.Path(first), allow_pickle=pickles):
        options = {**options, "config": first}  # whose other parts it takes
    base = load_base(source, known=[each.base for each in plain], **options)
    for each in plain:
        if (base.spec, base.fingerprint) == (each.base.spec, each.base.fingerprint):
            return each
    plain.append(_LoadedModel(from_base(base, compute), base))
    return plain[-1]


def _with_control(
    loaded: _LoadedModel, source: str, options: Mapping[str, Any]
) -> _LoadedModel:
    options = {name: x for name, x in options.items() if name in _CONTROL_OPTIONS}
    model = with_control(loaded.model, loaded.base, source, **options)
    folder = pathlib.Path(source)
    trained = [Source(folder)] if (folder / "concept.json").is_file() else []
    return loaded._replace(model=model, sources=[*loaded.sources, *trained])
