"""Capture and Borrow: attention maps passed from one forward pass to another."""

from typing import Literal

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from personax.core.typing import Probs
from personax.networks.attention import Context, Edit, Site

Kind = Literal["self", "cross", "any"]


@struct.dataclass
class Capture:
    """Returns the attention probabilities of one kind of site.

    Only sites with at most `max_pixels` pixels are captured, since a map has shape
    "b m q n"; 0 sets no limit. `places` are some of down, mid and up.
    """

    kind: Kind = struct.field(pytree_node=False, default="cross")
    max_pixels: int = struct.field(pytree_node=False, default=0)
    places: tuple[str, ...] = struct.field(
        pytree_node=False, default=("down", "mid", "up")
    )

    def __call__(self, site: Site, context: Context) -> Edit:
        return Edit(keep=_applies(self, site) and site.place in self.places)


@struct.dataclass
class Borrow:
    """p <- p_source @ mapper + own * p, at the sites captured in the source.

    Column j of `mapper` ("n n") holds the weights of the source's tokens for token j,
    `own` ("n") the weight of its own probability. Without a mapper, p <- amount *
    p_source + (1 - amount) * p; without either, p <- p_source, and p is not computed.
    With own = 1 - a and mapper = a * M it is Prompt-to-Prompt's edit (Hertz et al.
    2022, sec. 3); without them it is Infusion's first rule (Zeng et al. 2024, eq. 7).

    Does nothing if the context holds no maps of that source.
    """

    mapper: Float[Array, "n n"] | None = None
    own: Float[Array, " n"] | None = None
    amount: Float[Array, ""] | None = None
    source: str = struct.field(pytree_node=False, default="frozen")
    kind: Kind = struct.field(pytree_node=False, default="cross")
    max_pixels: int = struct.field(pytree_node=False, default=0)

    def __call__(self, site: Site, context: Context) -> Edit:
        source = context.maps.get(self.source, {}).get(site.name)
        if source is None or not _applies(self, site):
            return Edit()
        return Edit(probs=lambda probs: self._mix(source, probs))

    def _mix(self, source: Probs, probs: Probs) -> Probs:
        if self.mapper is not None:
            assert self.own is not None
            mapped = jnp.einsum("bmqn,nj->bmqj", source, self.mapper)
            return mapped + self.own[None, None, None] * probs
        if self.amount is not None:
            return self.amount * source + (1 - self.amount) * probs
        return source


def _applies(control: Capture | Borrow, site: Site) -> bool:
    kind = control.kind in ("any", site.kind)
    return kind and (not control.max_pixels or site.pixels <= control.max_pixels)
