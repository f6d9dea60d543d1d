"""The models that guidance terms may name: bases, and concepts with their bases."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from personax.concepts import artifact
from personax.concepts.bind import Model, from_base, named, with_concepts, with_control
from personax.diffusion.schedule import alphas_cumprod
from personax.diffusion.spec import Spec
from personax.loading import Base, load_base
from personax.networks.compute import Compute

_CONTROL_OPTIONS = ("param_dtype", "sharding", "variant", "allow_pickle")


class Loaded(NamedTuple):
    """The base, and every model by the name that terms use."""

    base: Base
    models: dict[str, Model]  # "base" first, with its concepts bound
    digests: dict[str, str]  # {model: a digest of its weights}


class _LoadedModel(NamedTuple):
    """A model, its base, and the folders of the concepts bound to it."""

    model: Model
    base: Base
    folders: Sequence[pathlib.Path] = ()

    def digest(self) -> str:
        concepts = map(artifact.digest, self.folders)
        return " ".join([self.base.fingerprint[:16], *concepts])


def load_models(
    base: str,
    concepts: Sequence[str] = (),
    others: Mapping[str, str] = {},
    controls: Mapping[str, str] = {},
    *,
    compute: Compute = Compute(),
    **options: Any,
) -> Loaded:
    """The base with its concepts bound, and the models of {name: source}.

    A source is what `load_base` reads, or a concept's folder, for which its own base is
    loaded. Equal weights are on the device once, and two names of one base share a
    model. `controls` are {name: ControlNet}, see `with_control`. `options` are
    arguments of `load_base`.

    Raises FileNotFoundError or ValueError for a source that cannot be read, and
    ValueError for a model whose latents or schedule differ from the base's.
    """
    options = {"param_dtype": compute.dtype, **options}
    first = load_base(base, **options)
    plain = [_LoadedModel(from_base(first, compute), first)]
    model = with_concepts(plain[0].model, first, concepts)
    folders = [named(concept)[1] for concept in concepts]
    loaded = {"base": _LoadedModel(model, first, folders)}
    for name, source in others.items():
        if name == "base" or any(mark in name for mark in "@:"):
            raise ValueError(
                f"--model {name}={source}: a NAME must not be base and must not "
                "contain @ or a colon."
            )
        loaded[name] = _load(plain, source, compute, options)
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


def _load(
    plain: list[_LoadedModel],
    source: str,
    compute: Compute,
    options: Mapping[str, Any],
) -> _LoadedModel:
    """The model at `source`; its base is one of `plain` or is appended to it."""
    folder = pathlib.Path(source)
    if not (folder / "concept.json").is_file():
        if (folder / "concept" / "concept.json").is_file():
            artifact.origin(folder)  # raises, with a hint
        return _load_plain(plain, source, compute, options)
    base_name, fingerprint = artifact.origin(folder)
    same = [each for each in plain if each.base.fingerprint == fingerprint]
    if same:
        model, base, _ = same[0]
    else:
        try:
            model, base, _ = _load_plain(plain, base_name, compute, options)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"{source} has the base {base_name!r}: {error}")
    return _LoadedModel(with_concepts(model, base, [source]), base, [folder])


def _load_plain(
    plain: list[_LoadedModel],
    source: str,
    compute: Compute,
    options: Mapping[str, Any],
) -> _LoadedModel:
    """A base as a model, appended to `plain` unless it is among them."""
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
    trained = [folder] if (folder / "concept.json").is_file() else []
    return loaded._replace(model=model, folders=[*loaded.folders, *trained])
