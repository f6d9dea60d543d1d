"""The models that a command's terms may name: bases, and concepts with their bases."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from personax import artifact
from personax.diffusion.schedule import alphas_cumprod
from personax.loading import Base, load_base
from personax.model import Model, from_base, with_concepts
from personax.networks.compute import Compute
from personax.spec import Spec
from personax.tree import flat


class Loaded(NamedTuple):
    """The base, and every model by the name that a term may give it."""

    base: Base
    models: dict[str, Model]  # "base" first, with its concepts bound


def load_models(
    base: str,
    concepts: Sequence[str] = (),
    named: Sequence[str] = (),
    *,
    compute: Compute = Compute(),
    **options: Any,
) -> Loaded:
    """The models of the flags --base, --concept and --model ("NAME=SOURCE" each).

    A source is what `load_base` reads, or a concept's folder, which comes with the base
    that it names. Equal weights are on device once, and two names of one base are one
    model. `options` go to `load_base`.

    Raises FileNotFoundError or ValueError in one sentence, also for a model whose
    latents or schedule are not the base's.
    """
    options = {"param_dtype": compute.dtype, **options}
    first = load_base(base, **options)
    shelf = _Shelf([first], [from_base(first, compute)])
    models = {"base": with_concepts(shelf.models[0], first, concepts)}
    for text in named:
        name, equals, source = text.partition("=")
        if not (name and equals and source) or name in models:
            raise ValueError(f"--model {text!r} is not NAME=SOURCE with a new NAME.")
        if any(mark in name for mark in "@:"):
            raise ValueError(f"--model {text!r}: a NAME has no @ and no colon in it.")
        models[name] = _load(shelf, source, compute, options)
        check_agreement(name, models[name].denoiser.spec, first.spec)
    return Loaded(first, models)


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


def reads_no_text(model: Model) -> bool:
    """Whether the model draws the same whatever it is told, as a null-text one does."""
    return not any("/attn2/to_k/" in path for path in flat(model.denoiser.params))


class _Shelf(NamedTuple):
    """The bases that are loaded, and each as a model."""

    bases: list[Base]
    models: list[Model]


def _load(
    shelf: _Shelf, source: str, compute: Compute, options: Mapping[str, Any]
) -> Model:
    folder = pathlib.Path(source)
    if not (folder / "concept.json").is_file():
        if (folder / "concept" / "concept.json").is_file():
            artifact.origin(folder)  # its error says where the concept is
        return shelf.models[_find(shelf, source, compute, options)]
    name, fingerprint = artifact.origin(folder)
    own = [base.fingerprint for base in shelf.bases]
    if fingerprint in own:
        place = own.index(fingerprint)
    else:
        try:
            place = _find(shelf, name, compute, options)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"{source} names its base {name!r}: {error}")
    return with_concepts(shelf.models[place], shelf.bases[place], [source])


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
