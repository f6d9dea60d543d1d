"""The models that a command's terms may name: bases, and concepts with their bases."""

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


class Loaded(NamedTuple):
    """The base, and every model by the name that a term may give it."""

    base: Base
    models: dict[str, Model]  # "base" first, with its concepts bound
    marks: dict[str, str]  # {model: what changes when its weights do}


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

    A source is what `load_base` reads, or a concept's folder, which comes with the base
    that it names. Equal weights are on device once, and two names of one base are one
    model. `controls` are {name: ControlNet}, see `with_control`. `options` go to
    `load_base`.

    Raises FileNotFoundError or ValueError in one sentence, also for a model whose
    latents or schedule are not the base's.
    """
    options = {"param_dtype": compute.dtype, **options}
    first = load_base(base, **options)
    shelf = _Shelf([first], [from_base(first, compute)])
    model = with_concepts(shelf.models[0], first, concepts)
    folders = [named(concept)[1] for concept in concepts]
    found = {"base": _Found(model, first, folders)}
    for name, source in others.items():
        if name == "base" or any(mark in name for mark in "@:"):
            raise ValueError(
                f"--model {name}={source}: a NAME is not base and has no @ and no "
                "colon in it."
            )
        found[name] = _load(shelf, source, compute, options)
        check_agreement(name, found[name].model.denoiser.spec, first.spec)
    for name, source in controls.items():
        if name not in found:
            raise ValueError(
                f"--control {name}={source}: there is no model {name!r}, only "
                f"{', '.join(found)}."
            )
        found[name] = _control(found[name], source, options)
    models = {name: each.model for name, each in found.items()}
    marks = {name: _mark(each) for name, each in found.items()}
    return Loaded(first, models, marks)


def check_agreement(name: str, spec: Spec, base: Spec) -> None:
    """ValueError where a model's predictions cannot be added to the base's."""

    def latents(spec: Spec) -> str:
        return (
            f"{spec.vae.latent_channels} channels at 1/{spec.vae.factor} of the "
            f"picture's side, scaled by {spec.vae.scaling_factor:g}"
        )

    if latents(spec) != latents(base):
        raise ValueError(
            f"The model {name!r} has latents of {latents(spec)}; the base's are of "
            f"{latents(base)}. All models share one latent space: see --base."
        )
    own, other = spec.schedule, base.schedule
    if own.prediction_type != other.prediction_type:
        raise ValueError(
            f"The model {name!r} predicts {own.prediction_type} and the base "
            f"{other.prediction_type}; all models predict the same: see --base."
        )
    bars = alphas_cumprod(own), alphas_cumprod(other)
    if bars[0].shape != bars[1].shape or not np.allclose(*bars, rtol=1e-6):
        raise ValueError(
            f"The model {name!r} was trained with another noise schedule than the "
            "base; all models share one: see --base."
        )


class _Shelf(NamedTuple):
    """The bases that are loaded, and each as a model."""

    bases: list[Base]
    models: list[Model]


class _Found(NamedTuple):
    """A model, its base, and the folders of what was bound to that."""

    model: Model
    base: Base
    folders: Sequence[pathlib.Path] = ()


def _load(
    shelf: _Shelf, source: str, compute: Compute, options: Mapping[str, Any]
) -> _Found:
    folder = pathlib.Path(source)
    if not (folder / "concept.json").is_file():
        if (folder / "concept" / "concept.json").is_file():
            artifact.origin(folder)  # its error says where the concept is
        place = _find(shelf, source, compute, options)
        return _Found(shelf.models[place], shelf.bases[place])
    name, fingerprint = artifact.origin(folder)
    own = [base.fingerprint for base in shelf.bases]
    if fingerprint in own:
        place = own.index(fingerprint)
    else:
        try:
            place = _find(shelf, name, compute, options)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"{source} names its base {name!r}: {error}")
    base = shelf.bases[place]
    return _Found(with_concepts(shelf.models[place], base, [source]), base, [folder])


def _control(found: _Found, source: str, options: Mapping[str, Any]) -> _Found:
    wanted = ("param_dtype", "sharding", "variant", "allow_pickle")
    options = {name: value for name, value in options.items() if name in wanted}
    model = with_control(found.model, found.base, source, **options)
    folder = pathlib.Path(source)
    trained = [folder] if (folder / "concept.json").is_file() else []
    return found._replace(model=model, folders=[*found.folders, *trained])


def _mark(found: _Found) -> str:
    digests = map(artifact.digest, found.folders)
    return " ".join([found.base.fingerprint[:16], *digests])


def _find(
    shelf: _Shelf, source: str, compute: Compute, options: Mapping[str, Any]
) -> int:
    """Where a base stands on the shelf, read from its files if it is not there yet."""
    base = load_base(source, known=shelf.bases, **options)
    for place, other in enumerate(shelf.bases):
        if (base.spec, base.fingerprint) == (other.spec, other.fingerprint):
            return place
    shelf.bases.append(base)
    shelf.models.append(from_base(base, compute))
    return len(shelf.bases) - 1
