"""Prompt-to-Prompt (Hertz et al. 2022): pictures that follow another's attention."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from personax.control.maps import Borrow, Capture
from personax.core.typing import AttentionMaps, Latents, Probs
from personax.diffusion import alignment
from personax.diffusion.alignment import Window
from personax.diffusion.denoiser import Denoiser, Hint, Prompt, encode_at, predict
from personax.diffusion.guidance import (
    Term,
    broadcast_prompt,
    hint_at,
    hint_of,
    weight_at,
)
from personax.diffusion.sampling import EpsFn, Post, sample
from personax.diffusion.solvers import Grid, Solver
from personax.networks.attention import Control
from personax.networks.tokenizer import Tokenizer
from personax.networks.unet import UNetConfig, map_sides

# The name under which the source's maps are offered.
SOURCE = "source"


@struct.dataclass
class Follow:
    """How one term of an edit takes over the attention of the source's same term.

    At step i and token j, p' = a (p_source @ mapper + own * p) + (1 - a) p with a =
    `cross_amount`[i, j] at cross-attention, and `self_amount`[i] of the source's
    probabilities at self-attention with at most `most` pixels (0: any number). A step
    is an evaluation of the network. Without a mapper the source's cross-attention is
    taken over whole, always.
    """

    mapper: Float[Array, "n n"] | None = None
    own: Float[Array, " n"] | None = None
    cross_amount: Float[Array, "s n"] | None = None
    self_amount: Float[Array, " s"] | None = None
    most: int = struct.field(pytree_node=False, default=0)

    def controls(self, i: Int[Array, ""], source: str) -> tuple[Control, ...]:
        """What makes a network follow at step i."""
        cross = Borrow(source=source)
        if self.mapper is not None:
            a = self.cross_amount[i]
            mapper, own = a[None] * self.mapper, a * self.own + 1 - a
            cross = Borrow(mapper, own, source=source)
        if self.self_amount is None:
            return (cross,)
        amount = self.self_amount[i]
        most = self.most
        return cross, Borrow(amount=amount, source=source, kind="self", most=most)


@struct.dataclass
class Stream:
    """What draws one picture of a pair: its guidance terms, and how they follow.

    `follows[j]` says how term j follows the source's term j, None that it does not; the
    source's own `follows` is (). `null` is the text of term 0 at each step, where that
    differs from step to step, as null-text inversion finds it.
    """

    terms: tuple[Term, ...]
    uses_reference: tuple[Follow | None, ...] = ()
    null: Float[Array, "s b n d"] | None = None


@struct.dataclass
class Blend:
    """Where an edit may differ from its source: near the words, and nowhere else.

    `words` marks the tokens of every stream's every term that say where, `subtract`
    those whose place is left alone all the same. `threshold` is the share of a map's
    maximum above which a place counts, of the source and of an edit; from step `start`
    on.
    """

    words: Float[Array, "p j n"]
    threshold: Float[Array, "2"]
    subtract: Float[Array, "p j n"]
    subtract_threshold: Float[Array, ""]
    start: Int[Array, ""]


def follow(
    tokenizer: Tokenizer,
    source: str,
    edit: str,
    *,
    steps: int,
    kind: alignment.Kind = "auto",
    cross: Window | Mapping[str, Window] = 0.8,
    within: Window = 0.4,
    most: int = 0,
    factors: Mapping[str, float] | None = None,
    phrases: Sequence[str] = (),
    compat: bool = False,
) -> Follow:
    """How the prompt `edit` follows `source` in `steps` evaluations of the network.

    `cross` are the windows of the cross-attention's words, `within` that of
    self-attention with at most `most` pixels, `factors` {word of the edit: how much
    more attention it gets}. See `alignment.align` for the rest and ValueErrors.
    """
    found = alignment.align(
        tokenizer, source, edit, kind, phrases=phrases, compat=compat
    )
    scale = alignment.equalizer(tokenizer, edit, factors or {})
    mapper, own = alignment.reweight(found, scale)
    return Follow(
        jnp.asarray(mapper),
        jnp.asarray(own),
        jnp.asarray(alignment.word_schedule(tokenizer, edit, cross, steps)),
        jnp.asarray(alignment.step_schedule(within, steps)),
        most,
    )


def draw(
    denoisers: Mapping[str, Denoiser],
    streams: Sequence[Stream],
    solver: Solver,
    grid: Grid,
    x: Latents,
    keys: Array | None = None,
    *,
    blend: Blend | None = None,
    offer: str = SOURCE,
) -> Float[Array, "p b h w c"]:
    """The latents that each stream draws from the same `x`, the source's first.

    `keys` has one per image, which the streams share, as a solver needs. See `pair`.
    """
    count = len(streams)
    start = jnp.tile(x, (count, 1, 1, 1))
    keys = None if keys is None else jnp.tile(keys, count)
    keep, post, carry = (), None, None
    if blend is not None:
        side = blend_side(denoisers[streams[0].terms[0].denoiser].spec.unet, x.shape)
        keep = (Capture(most=math.prod(side)),)
        post, carry = make_post(blend, side, x.shape[0])
    eps_fn = pair(denoisers, streams, offer=offer, keep=keep)
    out = sample(eps_fn, solver, grid, start, keys, post, carry)
    return out.reshape(count, *x.shape)


def pair(
    denoisers: Mapping[str, Denoiser],
    streams: Sequence[Stream],
    *,
    offer: str = SOURCE,
    keep: tuple[Control, ...] = (),
) -> EpsFn:
    """The noise of a source and its edits, whose latents lie one below the other.

    The first stream is the source. Its maps are offered to the edits' networks as
    `offer`, so that a denoiser's own controls find them too: Infusion with a frozen
    stream of its own trajectory is the pair (frozen, customised) with `offer=FROZEN`, a
    `Follow()` for every term that marks a concept, and no `reference`.

    `keep` are controls that keep maps, beside those that the edits take; they come as
    {stream: {term: {site: probabilities}}}, of the terms that follow or are followed,
    as they are after the edit. Raises ValueError where an edit has not the source's
    number of terms and KeyError for a denoiser that is not given.
    """
    _check(denoisers, streams)
    uses_reference = {
        (p, j): each
        for p, stream in enumerate(streams)
        for j, each in enumerate(stream.uses_reference)
        if each is not None
    }
    followed = sorted({j for _, j in uses_reference})
    everything = [
        (p, j) for p, each in enumerate(streams) for j in range(len(each.terms))
    ]
    apart = [place for place in everything if place not in uses_reference]
    apart = [(p, j) for p, j in apart if p or j not in followed]
    captures = (*_captures(uses_reference.values()), *keep)
    hints = [[hint_of(denoisers, term) for term in each.terms] for each in streams]

    def eps(x: Latents, t: Float[Array, ""], i: Int[Array, ""]):
        latents = x.reshape(len(streams), -1, *x.shape[1:])

        def run(places, controls=(), maps: Mapping[str, Any] = {}):
            jobs = []
            for p, j in places:
                shown, taken = hints[p][j], uses_reference.get((p, j))
                job = _job(denoisers, streams[p], j, latents[p], taken, shown, t, i)
                jobs.append(job)

            def one(name: str, given: _Given):
                borrows = given.follow.controls(i, offer) if given.follow else ()
                return predict(
                    denoisers[name],
                    given.x,
                    jnp.broadcast_to(t, given.x.shape[:1]),
                    given.prompt,
                    controls=(*borrows, *controls),
                    maps=maps,
                    hint=given.hint,
                )

            return dict(zip(places, _together(one, jobs), strict=True))

        done = run(apart)
        done |= run([(0, j) for j in followed], captures)
        for j in followed:
            maps = {offer: done[0, j][1]}
            done |= run(
                [place for place in uses_reference if place[1] == j], keep, maps
            )

        total = jnp.zeros_like(latents)
        captured: dict[int, dict[int, AttentionMaps]] = {}
        for p, j in everything:
            predicted, maps = done[p, j]
            weight = weight_at(streams[p].terms[j], i, x.dtype)
            total = total.at[p].add(weight * predicted)
            if maps:
                captured.setdefault(p, {})[j] = maps
        return total.reshape(x.shape), captured

    return eps


def make_post(
    blend: Blend, side: tuple[int, int], images: int
) -> tuple[Post, Float[Array, "k p b rows columns"]]:
    """(the local blend of a pair's latents after a step, what it starts with).

    The probabilities of the words' tokens at the sites with `side` rows and columns are
    summed over the steps so far. Each edit takes the source's latents outside the union
    of both masks (Hertz et al. 2022, sec. 4), less what the subtracted words mask.
    """
    chosen = jnp.stack([blend.words, blend.subtract])
    count = chosen.shape[1]

    def post(i, x, maps, carry):
        carry = carry + _word_maps(maps, chosen, side)
        latents = x.reshape(count, -1, *x.shape[1:])
        first, second = blend.threshold
        thresholds = jnp.where(jnp.arange(count) == 0, first, second)
        mask = _mask(_pooled(carry[0]), thresholds, x.shape[1:3])
        removed = jnp.broadcast_to(blend.subtract_threshold, (count,))
        mask &= ~_mask(carry[1], removed, x.shape[1:3])
        source = latents[:1]
        mixed = jnp.where(mask[..., None], latents, source)
        return jnp.where(i >= blend.start, mixed, latents).reshape(x.shape), carry

    return post, jnp.zeros((2, count, images, *side))


def pixel_limit(config: UNetConfig, h: int, w: int, share: float = 0.5) -> int:
    """The pixels of `share` of each side of h x w latents, or the fewest there are.

    The authors' 16² and 32² for the self-attention that is replaced are 1/4 and 1/2 of
    Stable Diffusion's 64. Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share {share} of the latents' side is not in [0, 1].")
    least = math.ceil(h / config.factor) * math.ceil(w / config.factor)
    return max(int(share * h) * int(share * w), least)


def blend_side(config: UNetConfig, shape: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of the maps that make masks for latents "b h w c".

    The cross-attention with the fewest rows, but no fewer than a quarter of the
    latents' where it has as many: 16 of Stable Diffusion's 64.
    """
    _, h, w, _ = shape
    sides = map_sides(config, h, w, ("down",))
    if not sides:
        raise ValueError("This UNet's cross-attention makes no maps for a local blend.")
    return min((side for side in sides if 4 * side[0] >= h), default=max(sides))


def _check(denoisers: Mapping[str, Denoiser], streams: Sequence[Stream]) -> None:
    if not streams or streams[0].uses_reference:
        raise ValueError("The first stream is the source, which follows none.")
    terms = len(streams[0].terms)
    for stream in streams:
        if len(stream.terms) != terms or len(stream.uses_reference) not in (0, terms):
            raise ValueError(
                f"The source has {terms} terms; an edit has {len(stream.terms)}, of "
                f"which it says of {len(stream.uses_reference)} what they follow."
            )
        for term in stream.terms:
            if term.denoiser not in denoisers:
                known = ", ".join(denoisers)
                raise KeyError(f"No model {term.denoiser!r}; there are: {known}.")


def _captures(uses_reference: Collection[Follow]) -> Iterator[Capture]:
    """What the source keeps for those who follow it."""
    yield Capture(kind="cross")
    limits = [each.most for each in uses_reference if each.self_amount is not None]
    if limits:
        yield Capture(kind="self", most=0 if 0 in limits else max(limits))


class _Given(NamedTuple):
    """The arrays of one term of one stream."""

    x: Latents
    prompt: Prompt
    follow: Follow | None
    hint: Hint | None


def _job(
    denoisers, stream: Stream, j: int, x, follow, hint, t, i
) -> tuple[str, _Given]:
    """(the denoiser's name, what it is given), the prompt having a row per image."""
    term = stream.terms[j]
    prompt = term.prompt
    if j == 0 and stream.null is not None:
        prompt = Prompt(stream.null[i])
    prompt = broadcast_prompt(
        encode_at(denoisers[term.denoiser], prompt, t), x.shape[0]
    )
    hint = hint_at(term, hint, i, x.shape[0])
    return term.denoiser, _Given(x, prompt, follow, hint)


def _together(one, jobs: Sequence[tuple[str, _Given]]) -> list[Any]:
    """`one(name, given)` for every job; jobs of one denoiser and shape share a call."""
    groups: dict[Any, list[int]] = {}
    flat = [jax.tree.flatten(given) for _, given in jobs]
    for index, ((name, _), (leaves, structure)) in enumerate(
        zip(jobs, flat, strict=True)
    ):
        shapes = tuple(leaf.shape for leaf in leaves)
        groups.setdefault((name, structure, shapes), []).append(index)
    out: list[Any] = [None] * len(jobs)
    for (name, structure, _), group in groups.items():

        def call(leaves: list[Array], name=name, structure=structure):
            return one(name, jax.tree.unflatten(structure, leaves))

        columns = zip(*(flat[index][0] for index in group), strict=True)
        done = jax.vmap(call)([jnp.stack(column) for column in columns])
        for place, index in enumerate(group):
            out[index] = jax.tree.map(lambda leaf, place=place: leaf[place], done)
    return out


def _word_maps(
    maps: Mapping[int, Mapping[int, AttentionMaps]],
    chosen: Float[Array, "k p j n"],
    side: tuple[int, int],
) -> Float[Array, "k p b rows columns"]:
    """The chosen tokens' probabilities, their mean over heads and layers."""
    streams = []
    for p in range(chosen.shape[1]):
        total = jnp.zeros(())
        for j, sites in maps.get(p, {}).items():
            layers = _layers(sites, math.prod(side))
            probs = jnp.stack([layer.mean(1) for layer in layers]).mean(0)
            total = total + jnp.einsum("bqn,kn->kbq", probs, chosen[:, p, j])
        streams.append(total.reshape(*total.shape[:-1], *side))
    return jnp.stack(streams, 1)


def _layers(sites: AttentionMaps, pixels: int) -> list[Probs]:
    """The cross-attention maps of that size on the way down and up."""
    return [
        probs
        for name, probs in sites.items()
        if name.endswith("attn2")
        and not name.startswith("mid_block")
        and probs.shape[2] == pixels
    ]


def _pooled(maps: Float[Array, "p b h w"]) -> Float[Array, "p b h w"]:
    """The largest of each place and its neighbours."""
    window, ones = (1, 1, 3, 3), (1, 1, 1, 1)
    return jax.lax.reduce_window(maps, -jnp.inf, jax.lax.max, window, ones, "SAME")


def _mask(
    maps: Float[Array, "p b rows columns"],
    thresholds: Float[Array, " p"],
    size: tuple[int, int],
) -> Bool[Array, "p b h w"]:
    """Where a map or the source's is above its threshold, at the latents' size."""
    rows, columns = (
        np.arange(n) * m // n for n, m in zip(size, maps.shape[2:], strict=True)
    )
    maps = maps[:, :, rows][:, :, :, columns]
    top = maps.max((2, 3), keepdims=True)
    # Where no token was chosen the maximum is 0, and nothing is above it.
    share = maps / jnp.where(top == 0, jnp.inf, top)
    mask = share > thresholds[:, None, None, None]
    return mask | mask[:1]
