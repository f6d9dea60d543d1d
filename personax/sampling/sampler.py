"""The sampler: from guidance terms to latents, attention maps and pictures."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from personax.concepts.bind import Model
from personax.core.typing import Key, Latents, Params
from personax.diffusion import paired
from personax.diffusion.attention_maps import (
    AttentionMapSpec,
    TermMaps,
    capture,
    make_post,
)
from personax.diffusion.denoiser import FROZEN, Denoiser, uses_reference
from personax.diffusion.guidance import Term, guide
from personax.diffusion.img2img import Picture, begin, both, inpaint, keep
from personax.diffusion.sampling import (
    image_keys,
    sample,
    sample_with_state,
    start_noise,
)
from personax.diffusion.solvers import Grid, Solver
from personax.diffusion.spec import Spec
from personax.networks import vae

Decoder = Literal["whole", "sliced", "tiled"]
Pictures = UInt8[Array, "b height width channels"]

_DECODE = {"whole": vae.decode, "sliced": vae.decode_sliced, "tiled": vae.decode_tiled}

# The start and the steps of an image use separate keys, or the first step's noise would
# repeat the start.
_START, _STEPS = 0, 1


class Sampled(NamedTuple):
    """Latents, and with an `AttentionMapSpec` the terms' attention maps."""

    latents: Latents
    attention_maps: TermMaps | None = None


class Decoded(NamedTuple):
    """Pictures, and which of them were made of finite numbers alone.

    NaN is drawn as black.
    """

    pictures: Pictures
    finite: Bool[Array, " b"]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Solver, steps, latent shape and decoder.

    `vae` are the autoencoder's parameters, `spec` describes it. `attention` adds the
    terms' attention maps to `latents`. With `own_trajectory` a frozen stream draws the
    picture that it would draw alone; see `draw_latents`.

    Prompts, weights, keys and grids are arguments of two compiled programs, which all
    samplers with the same solver and shapes share.
    """

    spec: Spec
    vae: Params
    solver: Solver
    grid: Grid
    shape: tuple[int, int, int]
    decoder: Decoder = "whole"
    attention: AttentionMapSpec | None = None
    own_trajectory: bool = False

    def draw(
        self,
        models: Mapping[str, Model],
        terms: Sequence[Term],
        key: Key,
        indices: Int[Array, " b"],
        picture: Picture | None = None,
    ) -> Pictures:
        """uint8 pictures, one for each index.

        Picture i depends on the key and on its own index, not on the rest of the batch.
        The terms name their models; with a `picture` the grid is a tail.
        """
        return self.decode(self.latents(models, terms, key, indices, picture).latents)

    def latents(
        self,
        models: Mapping[str, Model],
        terms: Sequence[Term],
        key: Key,
        indices: Int[Array, " b"],
        picture: Picture | None = None,
    ) -> Sampled:
        """The latents that `draw` decodes, and the attention maps."""
        used = denoisers(models, terms)
        arguments = used, terms, self.grid, key, indices, picture
        return draw_latents(self.solver, self.shape, *arguments, **self.flags)

    def latents_of_prompts(
        self,
        models: Mapping[str, Model],
        terms: Sequence[Term],
        keys: Key,
        indices: Int[Array, " b"],
    ) -> Float[Array, "p b h w c"]:
        """Latents of several prompts, each with its own key, in one program.

        The arrays of `terms` have a leading axis of prompts, as `core.tree.stack` adds.
        """
        arguments = denoisers(models, terms), terms, self.grid, keys, indices
        return _draw_prompts(self.solver, self.shape, *arguments)

    def decode(self, latents: Latents) -> Pictures:
        """uint8 pictures of scaled latents."""
        return self.decode_checked(latents).pictures

    def decode_checked(self, latents: Latents) -> Decoded:
        """`decode`, and which pictures are finite."""
        return decode_checked(self.spec, self.vae, latents, self.decoder)

    @property
    def flags(self) -> dict[str, Any]:
        """The keyword arguments of `draw_latents`."""
        return {"attention": self.attention, "own_trajectory": self.own_trajectory}


def make_sampler(
    spec: Spec,
    vae: Params,
    solver: Solver,
    steps: int,
    size: tuple[int, int] | None = None,
    *,
    attention: AttentionMapSpec | None = None,
) -> Sampler:
    """A sampler of `steps` steps for pictures of (height, width), or the base's size.

    Raises ValueError for a size that is not a multiple of the autoencoder's factor.
    """
    grid = solver.grid(spec.schedule, steps)
    shape = spec.latent_shape(*(size or spec.size))
    return Sampler(spec, vae, solver, grid, shape, attention=attention)


def denoisers(
    models: Mapping[str, Model], terms: Sequence[Term]
) -> dict[str, Denoiser]:
    """{name: denoiser} of the models that the terms name."""
    names = {term.denoiser for term in terms}
    return {name: model.denoiser for name, model in models.items() if name in names}


@functools.partial(
    jax.jit, static_argnames=("solver", "shape", "attention", "own_trajectory")
)
def draw_latents(
    solver: Solver,
    shape: tuple[int, int, int],
    denoisers: Mapping[str, Denoiser],
    terms: Sequence[Term],
    grid: Grid,
    key: Key,
    indices: Int[Array, " b"],
    picture: Picture | None = None,
    *,
    attention: AttentionMapSpec | None = None,
    own_trajectory: bool = False,
) -> Sampled:
    """Latents of shape (h, w, c), one for each image index.

    A frozen stream starts each step at the customised stream's latents, so that
    guidance costs three evaluations. With `own_trajectory` it draws the picture that it
    would draw alone, from the same noise, at four evaluations. Inpainting models read
    the mask of a picture; of others the picture is restored outside the mask.
    """
    noise = start(key, indices, shape)
    x = begin(picture, grid, noise)
    keys = image_keys(jax.random.fold_in(key, _STEPS), indices)
    kept = None
    if picture is not None and picture.masked is not None:
        denoisers = {name: inpaint(each, picture) for name, each in denoisers.items()}
    elif picture is not None and picture.repaint is not None:
        kept = keep(picture, grid, noise)
    if own_trajectory:
        models, streams = _frozen_and_customised(denoisers, terms)
        drawn = paired.draw(models, streams, solver, grid, x, keys, offer=FROZEN)
        return Sampled(drawn[1])
    if attention is None:
        eps_fn = guide(denoisers, terms)
        return Sampled(sample(eps_fn, solver, grid, x, keys, kept))
    capturing = {name: capture(each, attention) for name, each in denoisers.items()}
    text, ids = terms[0].prompt.text, terms[0].prompt.ids
    tokens = text.shape[-2] if text is not None else ids.shape[1]  # type: ignore[union-attr]
    sizes = grid.t.shape[0], len(terms), indices.shape[0], tokens
    post, maps = make_post(attention, *sizes)
    post = post if kept is None else both(post, kept)
    eps_fn = guide(capturing, terms)
    return Sampled(*sample_with_state(eps_fn, solver, grid, x, keys, post, maps))


@functools.partial(jax.jit, static_argnames=("solver", "shape"))
def _draw_prompts(solver, shape, denoisers, terms, grid, keys, indices):
    def one(terms, key):
        return draw_latents(solver, shape, denoisers, terms, grid, key, indices).latents

    return jax.vmap(one)(terms, keys)


def _frozen_and_customised(
    denoisers: Mapping[str, Denoiser], terms: Sequence[Term]
) -> tuple[dict[str, Denoiser], list[paired.Stream]]:
    """The two streams of `own_trajectory`, as a pair that draws its own pictures."""
    models = {
        name: dataclasses.replace(each, reference=None)
        for name, each in denoisers.items()
    }
    frozen = []
    for term in terms:
        reference = denoisers[term.denoiser].reference
        name = term.denoiser
        if reference is not None:
            name = f"{name}/{FROZEN}"
            models[name] = reference
        frozen.append(dataclasses.replace(term, denoiser=name))
    marked = (uses_reference(denoisers[term.denoiser], term.prompt) for term in terms)
    follows = tuple(paired.Follow() if each else None for each in marked)
    return models, [paired.Stream(tuple(frozen)), paired.Stream(tuple(terms), follows)]


def start(key: Key, indices: Int[Array, " b"], shape: Sequence[int]) -> Latents:
    """The unit noise that `draw_latents` begins with."""
    return start_noise(jax.random.fold_in(key, _START), indices, shape)


def decode_latents(
    spec: Spec, params: Params, latents: Latents, decoder: Decoder = "whole"
) -> Pictures:
    """uint8 pictures of scaled latents, by the autoencoder `params`."""
    return decode_checked(spec, params, latents, decoder).pictures


@functools.partial(jax.jit, static_argnames=("spec", "decoder"))
def decode_checked(
    spec: Spec, params: Params, latents: Latents, decoder: Decoder = "whole"
) -> Decoded:
    """`decode_latents`, and which pictures are finite."""
    images = _DECODE[decoder](params, spec.vae, latents, compute=spec.compute)
    return Decoded(to_pixels(images), jnp.isfinite(images).all((1, 2, 3)))


def to_pixels(images: Float[Array, "b height width channels"]) -> Pictures:
    """[-1, 1] to 0 … 255, rounded and clipped."""
    return jnp.round(jnp.clip(images / 2 + 0.5, 0, 1) * 255).astype(jnp.uint8)
