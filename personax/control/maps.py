"""Capture and Borrow: attention maps handed from one forward pass to another."""

from typing import Literal

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from personax.core.typing import Probs
from personax.networks.attention import Context, Edit, Site

Kind = Literal["self", "cross", "any"]


@struct.dataclass
class Capture:
    """Keeps the probabilities of the sites of a kind with at most `most` pixels.

    A site's map is b*m*q*n numbers, so self-attention at the full side is seldom worth
    its memory; 0 sets no limit. `places` are among down, mid and up.
    """

    kind: Kind = struct.field(pytree_node=False, default="cross")
    most: int = struct.field(pytree_node=False, default=0)
    places: tuple[str, ...] = struct.field(
        pytree_node=False, default=("down", "mid", "up")
    )

    def __call__(self, site: Site, context: Context) -> Edit:
        return Edit(keep=_chosen(self, site) and site.place in self.places)


@struct.dataclass
class Borrow:
    """p <- p_source @ mapper + own * p, at the sites whose maps the source kept.

    Column j of `mapper` ("n n") says what token j takes of the source's tokens, `own`
    ("n") how much of its own probability it keeps. Without a mapper the source's
    probabilities are taken `amount` times and the own ones 1 - `amount`; without either
    they replace the own ones, which are then not even computed. With 1 - a on `own` and
    a * M on `mapper` it is Prompt-to-Prompt's edit (Hertz et al. 2022, sec. 3), and
    without them it is Infusion's first rule (Zeng et al. 2024, eq. 7).

    Nothing happens where the context holds no maps of that source.
    """

    mapper: Float[Array, "n n"] | None = None
    own: Float[Array, " n"] | None = None
    amount: Float[Array, ""] | None = None
    source: str = struct.field(pytree_node=False, default="frozen")
    kind: Kind = struct.field(pytree_node=False, default="cross")
    most: int = struct.field(pytree_node=False, default=0)

    def __call__(self, site: Site, context: Context) -> Edit:
        source = context.maps.get(self.source, {}).get(site.name)
        if source is None or not _chosen(self, site):
            return Edit()
        return Edit(probs=lambda probs: self._mixed(source, probs))

    def _mixed(self, source: Probs, probs: Probs) -> Probs:
        if self.mapper is not None:
            taken = jnp.einsum("bmqn,nj->bmqj", source, self.mapper)
            return taken + self.own[None, None, None] * probs
        if self.amount is not None:
            return self.amount * source + (1 - self.amount) * probs
        return source


def _chosen(control: Capture | Borrow, site: Site) -> bool:
    kind = control.kind in ("any", site.kind)
    return kind and (not control.most or site.pixels <= control.most)
