"""Theta, or only a rule, in the activations: parts that install attention controls."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.control.maps import Borrow
from personax.control.residual import Residual
from personax.core.tree import select
from personax.core.typing import Key, Params, Theta
from personax.diffusion.denoiser import FROZEN, Denoiser
from personax.methods.parts.base import Concept, Part
from personax.networks.attention import Control

SPACES = ("value", "text")
PIECES = ("all", "last")


def control(rule: Control) -> Part:
    """A control without anything to train, such as `StopFirst()`."""

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        return denoiser.replace(controls=(*denoiser.controls, rule))

    return Part(lambda key, params, concepts: {}, bind)


def frozen_stream() -> Part:
    """Cross-attention looks where the denoiser that is bound so far looks.

    What is bound before it is the reference, what comes after acts on the customised
    stream alone. One that follows a reference already goes on with that.
    """

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        if denoiser.reference is not None:
            return denoiser
        controls = (*denoiser.controls, Borrow(source=FROZEN))
        return denoiser.replace(controls=controls, reference=denoiser)

    return Part(lambda key, params, concepts: {}, bind)


def residual(
    sites: str = r"unet/.*/attn2",
    *,
    train: str = "v",
    vectors: int = 1,
    space: str = "value",
    pieces: str = "all",
) -> Part:
    """Zero vectors per site and concept, added to its values at the concept's tokens.

    `sites` is a pattern over the attention modules, `train` says "v", or "kv" for keys
    too. In the "value" space a vector has the site's width, in the "text" one the text
    encoder's: it then goes through the site's own projection. See `Residual` for
    `vectors` and `pieces`. Theta is {"SITE/v": "k vectors width"}.
    """
    if train not in ("v", "kv"):
        raise ValueError(f"There is no train {train!r}; there are: v, kv.")
    if space not in SPACES:
        raise ValueError(
            f"There is no space {space!r}; there are: {', '.join(SPACES)}."
        )
    if pieces not in PIECES:
        raise ValueError(
            f"There is no pieces {pieces!r}; there are: {', '.join(PIECES)}."
        )
    if vectors < 1:
        raise ValueError(f"vectors is {vectors}; it must be at least 1.")

    def kernels(params: Params) -> dict[str, Any]:
        """{"SITE/v": the projection that the vectors sit behind, or in front of}."""
        leaves = select(params, f"({sites})/to_[{train}]/kernel")
        return {
            path.replace("/to_", "/").removesuffix("/kernel"): leaf
            for path, leaf in leaves.items()
        }

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        axis = 0 if space == "text" else 1
        return {
            path: jnp.zeros((len(concepts), vectors, kernel.shape[axis]), jnp.float32)
            for path, kernel in kernels(params).items()
        }

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        if space == "text":
            found = kernels(denoiser.params)
            theta = {path: _project(x, found[path]) for path, x in theta.items()}
        rule = Residual(
            _of(theta, "/v"),
            _of(theta, "/k"),
            concept_offset=denoiser.concept_offset,
            pieces=pieces,
        )
        return denoiser.replace(controls=(*denoiser.controls, rule))

    return Part(init, bind)


def _of(theta: Theta, ending: str) -> Theta:
    """{site: vectors} of the keys or the values; sites are named within the UNet."""
    return {
        path.removeprefix("unet/").removesuffix(ending): leaf
        for path, leaf in theta.items()
        if path.endswith(ending)
    }


def _project(
    x: Float[Array, "k v d"], kernel: Float[Array, "d c"]
) -> Float[Array, "k v c"]:
    return jnp.einsum("kvd,dc->kvc", x, kernel.astype(x.dtype))
