"""Residual: vectors added to values, and to keys, at the tokens of a concept."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from personax.core.typing import Keys, Text
from personax.networks.attention import Context, Edit, Site

# {site: vectors of every concept, in the site's own width}
Vectors = Mapping[str, Float[Array, "k v c"]]


@struct.dataclass
class Residual:
    """v <- v + Delta_k at the tokens of concept k: eq. 7 and 9, Zeng et al. 2024.

    A map's column for the word then carries m (x) Delta into what the site reads, which
    is the paper's `out = M V + m_obj (x) Delta`. Concept k is row `first` + k of the
    context's marks; without marks nothing is added. With `pieces` "last" only the last
    of a word's tokens counts. Of several vectors, the one numbered j > 0 is added to
    the j-th token behind the word.
    """

    values: Vectors
    keys: Vectors
    concept_offset: int = struct.field(pytree_node=False, default=0)
    pieces: str = struct.field(pytree_node=False, default="all")

    def __call__(self, site: Site, context: Context) -> Edit:
        marked = context.concept_mask is not None
        if not marked or site.name not in {*self.values, *self.keys}:
            return Edit()

        def add(x: Keys, vectors: Float[Array, "k v c"] | None) -> Keys:
            if vectors is None:
                return x
            concepts, count, _ = vectors.shape
            concept_mask = context.concept_mask[
                self.concept_offset : self.concept_offset + concepts
            ]
            for j in range(count):
                at = _behind(concept_mask, j, self.pieces).astype(x.dtype)
                own = vectors[:, j].astype(x.dtype)
                x = x + jnp.einsum("kbn,kc->bnc", at, own).reshape(x.shape)
            return x

        def edit(k: Keys, v: Keys, text: Text) -> tuple[Keys, Keys]:
            return (
                add(k, self.keys.get(site.name)),
                add(v, self.values.get(site.name)),
            )

        return Edit(kv=edit)


def _behind(
    concept_mask: Bool[Array, "k b n"], j: int, pieces: str
) -> Bool[Array, "k b n"]:
    """The j-th tokens behind each stretch that is marked, for 0 those themselves."""
    if j == 0 and pieces == "all":
        return concept_mask
    following = jnp.pad(concept_mask[..., 1:], ((0, 0), (0, 0), (0, 1)))
    last = concept_mask & ~following
    return jnp.pad(last, ((0, 0), (0, 0), (j, 0)))[..., : concept_mask.shape[-1]]
