"""Residual: vectors added to values and keys at the tokens of a concept."""

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

    The site's output then contains the word's attention map times Delta, the paper's
    `out = M V + m_obj (x) Delta`. Concept k has the row `concept_offset` + k of the
    context's concept mask; without a mask nothing is added. With `pieces` "last" only
    the last of a word's tokens is used. Of several vectors, number j > 0 is added to
    the j-th token after the word.
    """

    values: Vectors
    keys: Vectors
    concept_offset: int = struct.field(pytree_node=False, default=0)
    pieces: str = struct.field(pytree_node=False, default="all")

    def __call__(self, site: Site, context: Context) -> Edit:
        mask = context.concept_mask
        if mask is None or site.name not in {*self.values, *self.keys}:
            return Edit()

        def add(x: Keys, vectors: Float[Array, "k v c"] | None) -> Keys:
            if vectors is None:
                return x
            concepts, count, _ = vectors.shape
            rows = mask[self.concept_offset : self.concept_offset + concepts]
            for j in range(count):
                tokens = _shifted(rows, j, self.pieces).astype(x.dtype)
                delta = vectors[:, j].astype(x.dtype)
                x = x + jnp.einsum("kbn,kc->bnc", tokens, delta).reshape(x.shape)
            return x

        def edit(k: Keys, v: Keys, text: Text) -> tuple[Keys, Keys]:
            return (
                add(k, self.keys.get(site.name)),
                add(v, self.values.get(site.name)),
            )

        return Edit(kv=edit)


def _shifted(mask: Bool[Array, "k b n"], j: int, pieces: str) -> Bool[Array, "k b n"]:
    """The j-th token after each marked word; for j = 0 the word, or its last token."""
    if j == 0 and pieces == "all":
        return mask
    following = jnp.pad(mask[..., 1:], ((0, 0), (0, 0), (0, 1)))
    last = mask & ~following
    return jnp.pad(last, ((0, 0), (0, 0), (j, 0)))[..., : mask.shape[-1]]
