"""How a network is computed, apart from what it computes."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Compute:
    """The numerics and kernels of a forward pass; static, so a change recompiles.

    `dtype` is what activations are in: parameters are cast to it where they are used,
    while norms, softmax and time embeddings accumulate in float32 whatever it is.
    `remat` recomputes activations in the backward pass: "none", "block" (each down, mid
    and up block keeps its inputs only) or "layer" (each resnet and transformer does).
    `attention` and `convolution` override the kernel that is otherwise picked per site
    for the platform; `platform` names the one compiled for, where it is not the default
    backend (as when compiling for a TPU that is not there).
    """

    dtype: str = "float32"
    remat: Literal["none", "block", "layer"] = "none"
    attention: Literal["auto", "xla", "chunked", "cudnn"] = "auto"
    convolution: Literal["auto", "xla", "matmul"] = "auto"
    platform: str | None = None

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(
                f"The dtype {self.dtype!r} is not one of float32, bfloat16, float16."
            )

    def target(self) -> str:
        """The platform that this is compiled for: "cpu", "gpu" or "tpu"."""
        return self.platform or jax.default_backend()

    def cast(self, x: jax.Array) -> jax.Array:
        """`x` in the compute dtype."""
        return x.astype(jnp.dtype(self.dtype))
