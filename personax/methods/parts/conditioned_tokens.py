"""Parts with several embeddings per concept, chosen by timestep or by layer."""

import dataclasses
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
    """A `TokenConditioner` that picks one of each concept's vectors.

    Concept k has the row `concept_offset` + k of the concept mask. The vectors divide
    the `steps` timesteps evenly, starting at t = 0; if `by_layer`, each belongs to a
    layer. Only the vectors in `active` are used; elsewhere the token's own embedding
    stays.
    """

    vectors: Float[Array, "k s d"]
    steps: int = struct.field(pytree_node=False)
    active: tuple[int, ...] = struct.field(pytree_node=False)
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
        # In integers: at the boundaries a rounded quotient may fall into the stage
        # below.
        index = layer if self.by_layer else t.astype(int) * count // self.steps
        active = jnp.array([i in self.active for i in range(count)])[index]
        for k in range(concepts):
            mask = concept_mask[self.concept_offset + k] & active[:, None]
            vector = self.vectors[k, index].astype(x.dtype)
            x = jnp.where(mask[..., None], vector[:, None], x)
        return x

    def after(
        self,
        states: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        return states


def staged(stages: int, active: Sequence[int] = ()) -> Part:
    """`stages` vectors per concept, in the order of the timesteps; see `_part`."""
    if stages < 1:
        raise ValueError(f"stages is {stages}; it must be at least 1.")
    return _part(lambda params: stages, active, by_layer=False)


def layered(active: Sequence[int] = ()) -> Part:
    """A vector per concept and cross-attention layer, in the order of the forward pass.

    See `_part`.
    """
    return _part(lambda params: len(cross_sites(params["unet"])), active, by_layer=True)


def check_single(concepts: Sequence[Concept]) -> None:
    """ValueError for a concept whose placeholder is not exactly one token."""
    for concept in concepts:
        if len(concept.initial) != 1:
            raise ValueError(
                f"{concept.handle!r} is {len(concept.initial)} tokens; a token "
                "conditioned on time or layer needs a placeholder of one vector."
            )


def _part(
    count: Callable[[Params], int], active: Sequence[int], by_layer: bool
) -> Part:
    """Theta is {"embedding": "k count d"}, initialised with the placeholder's token.

    `active` are the indices of the vectors in use; () means all. Raises ValueError for
    an index out of range and for a placeholder of several tokens.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        check_single(concepts)
        n = count(params)
        invalid = [i for i in active if not 0 <= i < n]
        if invalid:
            raise ValueError(
                f"speak has {invalid[0]}; the concept's vectors are 0 to {n - 1}."
            )
        rows = jnp.array([concept.initial[0] for concept in concepts])
        table = flat(params)[TABLE][rows].astype(jnp.float32)
        return {"embedding": jnp.repeat(table[:, None], n, axis=1)}

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        words = Vectors(
            theta["embedding"],
            steps=denoiser.spec.schedule.num_train_timesteps,
            active=tuple(active) or tuple(range(theta["embedding"].shape[1])),
            by_layer=by_layer,
            concept_offset=denoiser.concept_offset,
        )
        return dataclasses.replace(
            denoiser, token_conditioners=(*denoiser.token_conditioners, words)
        )

    return Part(init, bind)
