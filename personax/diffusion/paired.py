"""Sampling in pairs: streams whose attention follows that of a source stream."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from personax.control.maps import Borrow, Capture
from personax.core.typing import AttentionMaps, Latents
from personax.diffusion.denoiser import Denoiser, Hint, Prompt, encode_at, network
from personax.diffusion.guidance import (
    Term,
    broadcast_prompt,
    hint_at,
    hint_of,
    weight_at,
)
from personax.diffusion.sampling import NetworkFn, Post, sample
from personax.diffusion.solvers import Grid, Solver
from personax.networks.attention import Control

# The default name under which the source's maps are offered.
SOURCE = "source"


@struct.dataclass
class Follow:
    """How a term takes over the attention of the source's term at the same index.

    Cross-attention at step i and token j is p' = a (p_source @ mapper + own * p) +
    (1 - a) p with a = `cross_amount`[i, j]; self-attention with at most
    `max_pixels` pixels (0: any number) is the source's with weight `self_amount`[i]. A
    step is an evaluation of the network. Without a mapper the source's cross-attention
    replaces the term's in all steps.
    """

    mapper: Float[Array, "n n"] | None = None
    own: Float[Array, " n"] | None = None
    cross_amount: Float[Array, "s n"] | None = None
    self_amount: Float[Array, " s"] | None = None
    max_pixels: int = struct.field(pytree_node=False, default=0)

    def controls(self, i: Int[Array, ""], source: str) -> tuple[Control, ...]:
        """The controls at step i, with the maps that are offered as `source`."""
        cross = Borrow(source=source)
        if self.mapper is not None:
            assert self.own is not None
            assert self.cross_amount is not None
            a = self.cross_amount[i]
            mapper, own = a[None] * self.mapper, a * self.own + 1 - a
            cross = Borrow(mapper, own, source=source)
        if self.self_amount is None:
            return (cross,)
        return cross, Borrow(
            amount=self.self_amount[i],
            source=source,
            kind="self",
            max_pixels=self.max_pixels,
        )


@struct.dataclass
class Stream:
    """The guidance terms of one picture of a pair, and how they follow the source.

    `follows[j]` is how term j follows the source's term j, None if it does not; the
    source's own `follows` is (). `null` is the text of term 0 at each step, as
    null-text inversion finds it.
    """

    terms: tuple[Term, ...]
    follows: tuple[Follow | None, ...] = ()
    null: Float[Array, "s b n d"] | None = None


def draw(
    denoisers: Mapping[str, Denoiser],
    streams: Sequence[Stream],
    solver: Solver,
    grid: Grid,
    x: Latents,
    keys: Array | None = None,
    *,
    offer: str = SOURCE,
    keep: tuple[Control, ...] = (),
    post: Post | None = None,
    carry: Any = None,
) -> Float[Array, "p b h w c"]:
    """The latents of each stream from the same `x`, the source's first.

    `keys` has one key per image, shared by the streams. See `pair` for `offer` and
    `keep`, and `sampling.sample` for `post` and `carry`.
    """
    count = len(streams)
    start = jnp.tile(x, (count, 1, 1, 1))
    keys = None if keys is None else jnp.tile(keys, count)
    network_fn = pair(denoisers, streams, offer=offer, keep=keep)
    out = sample(network_fn, solver, grid, start, keys, post, carry)
    return out.reshape(count, *x.shape)


def pair(
    denoisers: Mapping[str, Denoiser],
    streams: Sequence[Stream],
    *,
    offer: str = SOURCE,
    keep: tuple[Control, ...] = (),
) -> NetworkFn:
    """The outputs for a source and its followers, with their latents stacked as rows.

    The first stream is the source. Its maps are available to the followers' networks
    as `offer`, also to a denoiser's own controls: Infusion with a frozen stream of its
    own trajectory is the pair (frozen, customised) with `offer=FROZEN`, a `Follow()`
    for every term that marks a concept, and no `reference`.

    The maps that the controls `keep` capture are returned as {stream: {term: {site:
    probabilities}}}, after the edit, for the terms that follow or are followed. Raises
    ValueError for streams with different numbers of terms, KeyError for a term's
    unknown denoiser.
    """
    _check(denoisers, streams)
    follows = {
        (p, j): follow
        for p, stream in enumerate(streams)
        for j, follow in enumerate(stream.follows)
        if follow is not None
    }
    followed = sorted({j for _, j in follows})
    all_terms = [
        (p, j) for p, stream in enumerate(streams) for j in range(len(stream.terms))
    ]
    independent = [place for place in all_terms if place not in follows]
    independent = [(p, j) for p, j in independent if p or j not in followed]
    captures = (*_captures(follows.values()), *keep)
    hints = [[hint_of(denoisers, term) for term in s.terms] for s in streams]

    def outputs(x: Latents, t: Float[Array, ""], i: Int[Array, ""]):
        latents = x.reshape(len(streams), -1, *x.shape[1:])

        def run(places, controls=(), maps: Mapping[str, Any] = {}):
            jobs = []
            for p, j in places:
                hint, follow = hints[p][j], follows.get((p, j))
                job = _job(denoisers, streams[p], j, latents[p], follow, hint, t, i)
                jobs.append(job)

            def one(name: str, inputs: _Inputs):
                borrows = inputs.follow.controls(i, offer) if inputs.follow else ()
                return network(
                    denoisers[name],
                    inputs.x,
                    jnp.broadcast_to(t, inputs.x.shape[:1]),
                    inputs.prompt,
                    controls=(*borrows, *controls),
                    maps=maps,
                    hint=inputs.hint,
                )

            return dict(zip(places, _together(one, jobs), strict=True))

        done = run(independent)
        done |= run([(0, j) for j in followed], captures)
        for j in followed:
            maps = {offer: done[0, j][1]}
            done |= run([place for place in follows if place[1] == j], keep, maps)

        total = jnp.zeros_like(latents)
        captured: dict[int, dict[int, AttentionMaps]] = {}
        for p, j in all_terms:
            predicted, maps = done[p, j]
            weight = weight_at(streams[p].terms[j], i, x.dtype)
            total = total.at[p].add(weight * predicted)
            if maps:
                captured.setdefault(p, {})[j] = maps
        return total.reshape(x.shape), captured

    return outputs


def _check(denoisers: Mapping[str, Denoiser], streams: Sequence[Stream]) -> None:
    if not streams or streams[0].follows:
        raise ValueError("The first stream is the source; its `follows` must be empty.")
    terms = len(streams[0].terms)
    for stream in streams:
        if len(stream.terms) != terms or len(stream.follows) not in (0, terms):
            raise ValueError(
                f"The source has {terms} terms; a stream has {len(stream.terms)}, and "
                f"{len(stream.follows)} follows."
            )
        for term in stream.terms:
            if term.denoiser not in denoisers:
                known = ", ".join(denoisers)
                raise KeyError(
                    f"Unknown model {term.denoiser!r}; expected one of {known}."
                )


def _captures(follows: Collection[Follow]) -> Iterator[Capture]:
    """The controls that capture what the followers take over."""
    yield Capture(kind="cross")
    limits = [f.max_pixels for f in follows if f.self_amount is not None]
    if limits:
        yield Capture(kind="self", max_pixels=0 if 0 in limits else max(limits))


class _Inputs(NamedTuple):
    """The arrays of one term of one stream."""

    x: Latents
    prompt: Prompt
    follow: Follow | None
    hint: Hint | None


def _job(
    denoisers, stream: Stream, j: int, x, follow, hint, t, i
) -> tuple[str, _Inputs]:
    """(the denoiser's name, its inputs), the prompt with a row per image."""
    term = stream.terms[j]
    prompt = term.prompt
    if j == 0 and stream.null is not None:
        prompt = Prompt(stream.null[i])
    prompt = broadcast_prompt(
        encode_at(denoisers[term.denoiser], prompt, t), x.shape[0]
    )
    hint = hint_at(term, hint, i, x.shape[0])
    return term.denoiser, _Inputs(x, prompt, follow, hint)


def _together(one, jobs: Sequence[tuple[str, _Inputs]]) -> list[Any]:
    """`one(name, inputs)` of every job; equal denoisers and shapes share a call."""
    groups: dict[Any, list[int]] = {}
    flat = [jax.tree.flatten(inputs) for _, inputs in jobs]
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
