"""Theta in the words: one vector per stage of time, or per cross-attention layer."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from personax.core.tree import flat
from personax.core.typing import ConceptMask, Key, Params, Text, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods.parts.base import Concept, Part
from personax.methods.parts.tokens import TABLE
from personax.networks.unet import cross_sites


@struct.dataclass
class Vectors:
    """Words whose embedding is one of several: which one, time or layer decides.

    Concept k is row `first` + k of the marks. Of `steps` timesteps every vector has an
    equal share, from t = 0 on; `by_layer`, each belongs to a layer. Only the vectors in
    `speaking` are said; for the others the word stays what the tokenizer reads it as.
    """

    vectors: Float[Array, "k s d"]
    steps: int = struct.field(pytree_node=False)
    speaking: tuple[int, ...] = struct.field(pytree_node=False)
    by_layer: bool = struct.field(pytree_node=False)
    concept_offset: int = struct.field(pytree_node=False)

    def embed(
        self,
        x: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        concepts, count, _ = self.vectors.shape
        # In whole numbers: where stages meet, a rounded quotient may be the one below.
        which = layer if self.by_layer else t.astype(int) * count // self.steps
        speaks = jnp.array([i in self.speaking for i in range(count)])[which]
        for k in range(concepts):
            marked = concept_mask[self.concept_offset + k] & speaks[:, None]
            said = self.vectors[k, which].astype(x.dtype)
            x = jnp.where(marked[..., None], said[:, None], x)
        return x

    def after(
        self,
        states: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        return states


def staged(stages: int, speaking: Sequence[int] = ()) -> Part:
    """`stages` vectors per concept, in the order of the timesteps; see `_part`."""
    if stages < 1:
        raise ValueError(f"stages is {stages}; it must be at least 1.")
    return _part(lambda params: stages, speaking, by_layer=False)


def layered(speaking: Sequence[int] = ()) -> Part:
    """A vector per concept and cross-attention layer, in the order of the forward pass.

    See `_part`.
    """
    return _part(lambda params: len(cross_sites(params["unet"])), speaking, True)


def check_single(concepts: Sequence[Concept]) -> None:
    """ValueError for a concept that is not read as exactly one token."""
    for concept in concepts:
        if len(concept.initial) != 1:
            raise ValueError(
                f"{concept.handle!r} is read as {len(concept.initial)} tokens; a word "
                "that changes with time or layer needs a placeholder of one vector."
            )


def _part(
    count: Callable[[Params], int], speaking: Sequence[int], by_layer: bool
) -> Part:
    """Theta is {"embedding": "k count d"}, started from what the placeholder reads as.

    `speaking` numbers the vectors that are said; () is all of them. ValueError for a
    number that there is not and for a placeholder of several tokens.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        check_single(concepts)
        n = count(params)
        wrong = [i for i in speaking if not 0 <= i < n]
        if wrong:
            raise ValueError(
                f"speak has {wrong[0]}, but the concept's vectors go from 0 to {n - 1}."
            )
        rows = jnp.array([concept.initial[0] for concept in concepts])
        table = flat(params)[TABLE][rows].astype(jnp.float32)
        return {"embedding": jnp.repeat(table[:, None], n, axis=1)}

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        words = Vectors(
            theta["embedding"],
            steps=denoiser.spec.schedule.num_train_timesteps,
            speaking=tuple(speaking) or tuple(range(theta["embedding"].shape[1])),
            by_layer=by_layer,
            concept_offset=denoiser.concept_offset,
        )
        return denoiser.replace(words=(*denoiser.words, words))

    return Part(init, bind)
