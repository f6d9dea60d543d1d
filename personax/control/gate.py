"""Gate: keys and values edited where a token's encoding resembles a concept's."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from personax.core.typing import Keys, Text
from personax.networks.attention import Context, Edit, Site

# {"SITE/to_k": one row per concept, in the site's width}
Rows = Mapping[str, Float[Array, "k c"]]


@struct.dataclass
class Gate:
    """h = W e - sum_j a_j W e*_j + sum_j g_j o*_j: Perfusion, Tewel et al. 2023.

    The a_j are the coordinates of a token's encoding e in the targets e*, in the metric
    C^-1 given by the `directions` C^-1 e*: for one concept, sim / energy = e' C^-1 e* /
    e*' C^-1 e*. The remainder of e is orthogonal to every target, and the concepts do
    not interfere: at e*_i, a_i is 1 and the others are 0. The gate is g_j =
    sigmoid((a_j - beta) / tau).

    A target of zeros, before its first update, changes nothing.
    """

    targets: Float[Array, "k d"]
    directions: Float[Array, "k d"]
    readers: Float[Array, "k d"]  # a_j = e' reader_j; see `join`
    old: Rows  # W e*
    new: Rows  # o*
    beta: Float[Array, " k"]
    tau: Float[Array, " k"]

    def __call__(self, site: Site, context: Context) -> Edit:
        if f"{site.name}/to_v" not in self.new:
            return Edit()

        def edit(k: Keys, v: Keys, text: Text) -> tuple[Keys, Keys]:
            coordinates, gates = self.coordinates(text)

            def rewrite(x: Keys, name: str) -> Keys:
                path = f"{site.name}/{name}"
                change = gates @ self.new[path] - coordinates @ self.old[path]
                return x + change.reshape(x.shape).astype(x.dtype)

            return rewrite(k, "to_k"), rewrite(v, "to_v")

        return Edit(kv=edit)

    def coordinates(
        self, text: Text
    ) -> tuple[Float[Array, "b n k"], Float[Array, "b n k"]]:
        """(the coordinates a of every token, its gates g), float32."""
        text = text.astype(jnp.float32)
        a = jnp.einsum("bnd,kd->bnk", text, self.readers)
        beta, tau = self.beta[None, None], self.tau[None, None]
        g = jax.nn.sigmoid((a - beta) / tau)
        initialised = jnp.any(self.targets != 0, axis=1).astype(g.dtype)
        return a, g * initialised[None, None]


def make_gate(
    targets: Float[Array, "k d"],
    directions: Float[Array, "k d"],
    old: Rows,
    new: Rows,
    beta: float,
    tau: float,
) -> Gate:
    """The gate of concepts with one threshold and temperature."""
    ones = jnp.ones(len(targets))
    readers = _readers(targets, directions)
    return Gate(targets, directions, readers, old, new, beta * ones, tau * ones)


def join(gates: Sequence[Gate]) -> Gate:
    """One gate of all their concepts, with joint coordinates."""
    joined = jax.tree.map(lambda *rows: jnp.concatenate(rows), *gates)
    return dataclasses.replace(
        joined, readers=_readers(joined.targets, joined.directions)
    )


def _readers(
    targets: Float[Array, "k d"], directions: Float[Array, "k d"]
) -> Float[Array, "k d"]:
    """Rows whose products with an encoding e are its coordinates a in the targets.

    With the Gram matrix G_ij = e*_i' C^-1 e*_j, e' C^-1 e*_i = sum_j G_ij a_j.
    """
    if len(targets) == 1:
        energy = jnp.sum(targets * directions)
        return directions / jnp.where(energy > 0, energy, 1)
    gram = targets @ directions.T
    # The pseudo-inverse gives nearly equal targets equal shares instead of amplifying
    # rounding errors, and excludes targets of zeros.
    return jnp.linalg.pinv(gram, rtol=1e-3, hermitian=True) @ directions
