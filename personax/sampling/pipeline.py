"""From guidance terms to pictures: the two compiled halves that every command uses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from personax.core.typing import Key, Latents, Params
from personax.diffusion import p2p
from personax.diffusion.attention_maps import AttentionMapSpec, capture, make_post
from personax.diffusion.denoiser import FROZEN, Denoiser, uses_reference
from personax.diffusion.guidance import Term, guide
from personax.diffusion.img2img import Picture, begin, both, keep
from personax.diffusion.sampling import (
    image_keys,
    sample,
    sample_with_state,
    start_noise,
)
from personax.diffusion.solvers import Grid, Solver
from personax.diffusion.spec import Spec
from personax.networks import vae

Decode = Literal["whole", "sliced", "tiled"]
_DECODE = {
    "whole": vae.decode,
    "sliced": vae.decode_sliced,
    "tiled": vae.decode_tiled,
}

# The network and start of an image use keys of their own, or the first step's fresh
# noise would repeat the start.
_START, _STEPS = 0, 1


def make_draw(
    solver: Solver,
    shape: tuple[int, int, int],
    look: AttentionMapSpec | None = None,
    *,
    own_trajectory: bool = False,
) -> Callable[..., Any]:
    """A jitted `(denoisers, terms, grid, key, indices) -> latents` of that (h, w, c).

    Image i depends on the key and on its own index, not on the batch that it is in.
    Terms, weights and grid are arguments: other prompts and numbers compile nothing.
    With a `look` it is `-> (latents, the terms' attention "j b y x n")`. A last
    argument, a `Picture`, is what the drawing begins with; the grid is then a tail.

    A frozen stream starts each step at the customised latents, so that guidance costs
    three evaluations; with its `own_trajectory` it draws the picture that it would draw
    alone, from the same noise, and the customised one follows, at four.
    """

    def draw(
        denoisers: Mapping[str, Denoiser],
        terms: Sequence[Term],
        grid: Grid,
        key: Key,
        indices: Int[Array, " b"],
        picture: Picture | None = None,
    ):
        noise = start(key, indices, shape)
        x = begin(picture, grid, noise)
        keys = image_keys(jax.random.fold_in(key, _STEPS), indices)
        if own_trajectory:
            models, streams = _apart(denoisers, terms)
            drawn = p2p.draw(models, streams, solver, grid, x, keys, offer=FROZEN)
            return drawn[1]
        kept = None
        if picture is not None and picture.repaint is not None:
            kept = keep(picture, grid, noise)
        if look is None:
            return sample(guide(denoisers, terms), solver, grid, x, keys, kept)
        seen = {name: capture(each, look) for name, each in denoisers.items()}
        sizes = grid.t.shape[0], len(terms), indices.shape[0], _tokens(terms)
        post, heat = make_post(look, *sizes)
        post = post if kept is None else both(post, kept)
        return sample_with_state(guide(seen, terms), solver, grid, x, keys, post, heat)

    return jax.jit(draw)


def _apart(
    denoisers: Mapping[str, Denoiser], terms: Sequence[Term]
) -> tuple[dict[str, Denoiser], list[p2p.Stream]]:
    """The frozen and the customised stream as a pair of their own pictures."""
    models = {name: each.replace(reference=None) for name, each in denoisers.items()}
    frozen = []
    for term in terms:
        reference = denoisers[term.denoiser].reference
        name = term.denoiser
        if reference is not None:
            name = f"{name}/{FROZEN}"
            models[name] = reference
        frozen.append(term.replace(denoiser=name))
    marked = (uses_reference(denoisers[term.denoiser], term.prompt) for term in terms)
    taken = tuple(p2p.Follow() if each else None for each in marked)
    return models, [p2p.Stream(tuple(frozen)), p2p.Stream(tuple(terms), taken)]


def _tokens(terms: Sequence[Term]) -> int:
    prompt = terms[0].prompt
    return prompt.ids.shape[1] if prompt.text is None else prompt.text.shape[-2]


def start(key: Key, indices: Int[Array, " b"], shape: Sequence[int]) -> Latents:
    """The unit noise that `make_draw` begins with."""
    return start_noise(jax.random.fold_in(key, _START), indices, shape)


def make_decode(
    spec: Spec, how: Decode = "whole"
) -> Callable[[Params, Latents], UInt8[Array, "b height width channels"]]:
    """A jitted `(autoencoder parameters, latents) -> uint8 pictures`."""

    def decode(params: Params, latents: Latents):
        images = _DECODE[how](params, spec.vae, latents, compute=spec.compute)
        return to_pixels(images)

    return jax.jit(decode)


def to_pixels(
    images: Float[Array, "b height width channels"],
) -> UInt8[Array, "b height width channels"]:
    """[-1, 1] to 0 … 255, rounded and clipped."""
    return jnp.round(jnp.clip(images / 2 + 0.5, 0, 1) * 255).astype(jnp.uint8)
