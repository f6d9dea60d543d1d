"""How a network is computed: dtype, rematerialisation, kernels, devices."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from personax.core.typing import Params


@dataclasses.dataclass(frozen=True)
class Compute:
    """The numerics and kernels of a forward pass; static, so a change recompiles.

    `dtype` is the activations': parameters are cast to it where they are used; norms,
    softmax and time embeddings always accumulate in float32.
    `remat` recomputes activations in the backward pass: "none", "block" (each down, mid
    and up block keeps its inputs only) or "layer" (each resnet and transformer does).
    `attention` and `convolution` override the kernel otherwise picked per site for the
    platform. `platform` is the compilation target if it is not the default backend, as
    in ahead-of-time compilation for a TPU. `mesh` holds the devices over which images
    are sharded, along all axes: kernels that XLA cannot partition run once per device,
    and the work per device decides which kernel is picked.
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
        """The platform compiled for: "cpu", "gpu" or "tpu"."""
        return self.platform or jax.default_backend()

    def cast(self, x: jax.Array) -> jax.Array:
        """`x` in the compute dtype."""
        return x.astype(jnp.dtype(self.dtype))

    def gather(self, params: Params) -> Params:
        """A layer's parameters replicated on each device, kernels in the compute dtype.

        With sharded parameters this makes XLA gather them; by default it may partition
        the layer and communicate activations instead.
        """
        if self.mesh is None or self.mesh.size == 1:
            return params
        replicated = NamedSharding(self.mesh, PartitionSpec())

        def gather_leaf(leaf: jax.Array) -> jax.Array:
            # Kernels are cast at use anyway; norms read float32.
            leaf = self.cast(leaf) if leaf.ndim > 1 else leaf
            return jax.lax.with_sharding_constraint(leaf, replicated)

        return jax.tree.map(gather_leaf, params)
