"""Flash attention on a TPU: jax's Pallas kernel, each device on its own images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    BlockSizes,
    FullMask,
    MultiHeadMask,
    make_splash_mha_single_device,
)
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from personax.core.typing import Keys

# Queries and keys of one tile; a sequence must be a multiple of the smallest.
_TILES = (512, 256, 128)


def flash(
    q: Float[Array, "b q m e"],
    k: Keys,
    v: Keys,
    *,
    mesh: Mesh | None = None,
    interpret: bool = False,
) -> Float[Array, "b q m e"]:
    """softmax(q k' / sqrt(e)) v without materialising the logits, in the backward pass
    either (Dao et al. 2022).

    XLA cannot split a Pallas kernel over devices, so that with a `mesh`, along all axes
    of which images are sharded, each device runs the kernel on its own images.
    """

    def local(q, k, v):
        kernel = _kernel(q.shape[1], k.shape[1], q.shape[2], interpret)
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
        return jnp.swapaxes(jax.vmap(kernel)(q, k, v), 1, 2)

    if mesh is None:
        return local(q, k, v)
    rows = PartitionSpec(mesh.axis_names)
    # The kernel does not declare how its results vary over the mesh, as vma requires.
    return jax.shard_map(
        local, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
    )(q, k, v)


def fits(shape: tuple[int, ...], n: int, mesh: Mesh | None) -> bool:
    """Whether the kernel supports queries "b q m e" over n keys on that mesh."""
    b, q, _, _ = shape
    whole = not (q % _TILES[-1] or n % _TILES[-1])
    return whole and b % (1 if mesh is None else mesh.size) == 0


def _kernel(q: int, n: int, heads: int, interpret: bool) -> Callable[..., Any]:
    tile_q, tile_n = (next(t for t in _TILES if x % t == 0) for x in (q, n))
    sizes = BlockSizes(
        block_q=tile_q,
        block_kv=tile_n,
        block_q_dkv=tile_q,
        block_kv_dkv=tile_n,
        block_q_dq=tile_q,
        block_kv_dq=tile_n,
    )
    mask = MultiHeadMask([FullMask((q, n)) for _ in range(heads)])
    return make_splash_mha_single_device(mask, block_sizes=sizes, interpret=interpret)
