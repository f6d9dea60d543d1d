"""How a network is computed, apart from what it computes."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from personax.core.typing import Params


@dataclasses.dataclass(frozen=True)
class Compute:
    """The numerics and kernels of a forward pass; static, so a change recompiles.

    `dtype` is what activations are in: parameters are cast to it where they are used,
    while norms, softmax and time embeddings accumulate in float32 whatever it is.
    `remat` recomputes activations in the backward pass: "none", "block" (each down, mid
    and up block keeps its inputs only) or "layer" (each resnet and transformer does).
    `attention` and `convolution` override the kernel that is otherwise picked per site
    for the platform; `platform` names the one compiled for, where it is not the default
    backend (as when compiling for a TPU that is not there). `mesh` says over which
    devices images are spread, along all of its axes: a kernel that XLA cannot split is
    given to each, and how much a device has to do decides which kernel suits.
    """

    dtype: str = "float32"
    remat: Literal["none", "block", "layer"] = "none"
    attention: Literal["auto", "xla", "chunked", "cudnn", "flash"] = "auto"
    convolution: Literal["auto", "xla", "matmul"] = "auto"
    platform: str | None = None
    mesh: Mesh | None = None

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

    def gather(self, params: Params) -> Params:
        """A layer's parameters whole on each device, kernels in the compute dtype.

        Where they are sharded, this is what makes it so that they travel and not the
        images: left alone, XLA splits the layer instead and sends activations about.
        """
        if self.mesh is None or self.mesh.size == 1:
            return params
        whole = NamedSharding(self.mesh, PartitionSpec())

        def bring(leaf: jax.Array) -> jax.Array:
            # Kernels are cast where they are used in any case; norms read float32.
            leaf = self.cast(leaf) if leaf.ndim > 1 else leaf
            return jax.lax.with_sharding_constraint(leaf, whole)

        return jax.tree.map(bring, params)
