"""Parts that install attention controls, with or without theta."""

import dataclasses
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

TRAIN = ("v", "kv")
SPACES = ("value", "text")
PIECES = ("all", "last")


def control(rule: Control) -> Part:
    """A control that trains nothing, such as `DetachBOS()`."""

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        return dataclasses.replace(denoiser, controls=(*denoiser.controls, rule))

    return Part(lambda key, params, concepts: {}, bind)


def frozen_stream() -> Part:
    """Cross-attention uses the maps of the denoiser that is bound so far.

    That denoiser becomes the reference; parts bound after this one change the
    customised stream only. A denoiser that has a reference keeps it.
    """

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        if denoiser.reference is not None:
            return denoiser
        controls = (*denoiser.controls, Borrow(source=FROZEN))
        return dataclasses.replace(denoiser, controls=controls, reference=denoiser)

    return Part(lambda key, params, concepts: {}, bind)


def residual(
    sites: str = r"unet/.*/attn2",
    *,
    train: str = "v",
    vectors: int = 1,
    space: str = "value",
    pieces: str = "all",
) -> Part:
    """Vectors per site and concept, added to the values at the concept's tokens.

    `sites` is a pattern of attention modules; `train` is "v", or "kv" to train keys as
    well. In the "value" space a vector has the site's width; in the "text" space it has
    the text encoder's width and passes through the site's own projection. See
    `Residual` for `vectors` and `pieces`. Theta is {"SITE/v": "k vectors width"}, zeros
    at the start. Two concepts cannot share a word: their residuals would be summed.
    Raises ValueError for an unknown option.
    """
    for name, value, options in (
        ("train", train, TRAIN),
        ("space", space, SPACES),
        ("pieces", pieces, PIECES),
    ):
        if value not in options:
            raise ValueError(
                f"Unknown {name} {value!r}; expected one of {', '.join(options)}."
            )
    if vectors < 1:
        raise ValueError(f"vectors is {vectors}; it must be at least 1.")

    def kernels(params: Params) -> dict[str, Any]:
        """{"SITE/v": the kernel of the projection} of the trained projections."""
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
            projections = kernels(denoiser.params)
            theta = {path: _project(x, projections[path]) for path, x in theta.items()}
        rule = Residual(
            _by_site(theta, "/v"),
            _by_site(theta, "/k"),
            concept_offset=denoiser.concept_offset,
            pieces=pieces,
        )
        return dataclasses.replace(denoiser, controls=(*denoiser.controls, rule))

    return Part(init, bind, exclusive="word")


def _by_site(theta: Theta, suffix: str) -> Theta:
    """{site: vectors} of keys or values; site names are relative to the UNet."""
    return {
        path.removeprefix("unet/").removesuffix(suffix): leaf
        for path, leaf in theta.items()
        if path.endswith(suffix)
    }


def _project(
    x: Float[Array, "k v d"], kernel: Float[Array, "d c"]
) -> Float[Array, "k v c"]:
    return jnp.einsum("kvd,dc->kvc", x, kernel.astype(x.dtype))
