"""Attention with per-layer hooks, free when unused.

A `Control` is called once per site while the network is traced and returns an `Edit`.
`kv` edits keys and values within the fused kernel; `probs` and `keep` need explicit
probabilities.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from personax.core.typing import ConceptMask, Key, Keys, Params, Probs, Text
from personax.networks import flash
from personax.networks.compute import Compute
from personax.networks.layers import dense, init_dense, keys_for

# A site with more bytes of float32 logits per device is computed in chunks, and the
# bytes of a chunk's logits: on a CPU they should stay in the cache.
_CHUNK_ABOVE = {"cpu": 16 * 2**20, "gpu": 256 * 2**20, "tpu": 256 * 2**20}
_CHUNK_LOGITS = {"cpu": 8 * 2**20, "gpu": 128 * 2**20, "tpu": 128 * 2**20}

Queries = Float[Array, "b q m e"]


class Site(NamedTuple):
    """One attention layer: its path in the UNet, its kind and its place."""

    name: str  # "down_blocks/0/attentions/0/transformer_blocks/0/attn2"
    kind: Literal["self", "cross"]
    place: Literal["down", "mid", "up"]
    pixels: int  # how many queries: latent rows times columns at this depth


class Context(NamedTuple):
    """The inputs of a control besides its own arrays."""

    concept_mask: ConceptMask | None = None  # the tokens of concept k
    maps: Mapping[str, Mapping[str, Probs]] = {}  # {stream: {site: probs}}


class Edit(NamedTuple):
    """What to do at a site; `Edit()` keeps the fused kernel."""

    kv: Callable[[Keys, Keys, Text], tuple[Keys, Keys]] | None = None  # (k, v, text)
    probs: Callable[[Probs], Probs] | None = None
    keep: bool = False  # return the (edited) probabilities


@runtime_checkable
class Control(Protocol):
    """A frozen `flax.struct` dataclass: arrays are leaves, strings static."""

    def __call__(self, site: Site, context: Context) -> Edit: ...


def attention(
    params: Params,
    x: Float[Array, "b q c"],
    text: Float[Array, "b n d"],
    *,
    heads: int,
    site: Site,
    controls: tuple[Control, ...] = (),
    context: Context = Context(),
    compute: Compute = Compute(),
) -> tuple[Float[Array, "b q c"], dict[str, Probs]]:
    """(the attention of `x` over `text`, the probabilities that a control keeps).

    At a self-attention site `text` is `x` itself. Controls apply in order.
    """
    q = _split(dense(params["to_q"], x), heads)
    k = _split(dense(params["to_k"], text), heads)
    v = _split(dense(params["to_v"], text), heads)
    edits = [control(site, context) for control in controls]
    for edit in edits:
        if edit.kv is not None:
            k, v = edit.kv(k, v, text)
    captured = {}
    if any(edit.probs is not None or edit.keep for edit in edits):
        probs = attention_probs(q, k)
        for edit in edits:
            if edit.probs is not None:
                probs = edit.probs(probs)
        if any(edit.keep for edit in edits):
            captured[site.name] = probs
        out = _read(probs, v)
    else:
        out = attend(q, k, v, compute=compute)
    return dense(params["to_out"]["0"], out.reshape(*x.shape[:2], -1)), captured


def init_attention(
    key: Key, width: int, text_width: int | None = None, *, bias: bool = False
) -> Params:
    """`to_q`, `to_k`, `to_v` and `to_out/0`, under diffusers' names."""
    keys = keys_for(key, "to_q", "to_k", "to_v", "to_out")
    source = text_width or width
    return {
        "to_q": init_dense(keys["to_q"], width, width, bias=bias),
        "to_k": init_dense(keys["to_k"], source, width, bias=bias),
        "to_v": init_dense(keys["to_v"], source, width, bias=bias),
        "to_out": {"0": init_dense(keys["to_out"], width, width)},
    }


def attention_probs(q: Queries, k: Keys) -> Probs:
    """softmax(q k' / sqrt(e)), float32."""
    logits = jnp.einsum("bqme,bnme->bmqn", q, k, preferred_element_type=jnp.float32)
    return jax.nn.softmax(logits * q.shape[-1] ** -0.5, axis=-1)


def attend(q: Queries, k: Keys, v: Keys, *, compute: Compute = Compute()) -> Queries:
    """softmax(q k' / sqrt(e)) v by the kernel that suits the site."""
    kernel, platform = compute.attention, compute.target()
    fits = flash.fits(q.shape, k.shape[1], compute.mesh)
    if kernel == "auto" or (kernel == "flash" and not fits):
        kernel = pick_kernel(
            q.shape,
            k.shape[1],
            q.dtype,
            platform,
            mesh=compute.mesh,
            capability=_capability(),
        )
    if kernel == "flash":
        return flash.flash(q, k, v, mesh=compute.mesh)
    if kernel == "cudnn":
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    if kernel == "chunked":
        limit = _CHUNK_LOGITS[platform] * _devices(compute.mesh)
        return _attend_chunked(q, k, v, limit, by_head=platform == "cpu")
    return _read(attention_probs(q, k), v)


def pick_kernel(
    shape: tuple[int, ...],
    n: int,
    dtype,
    platform: str,
    *,
    mesh: Mesh | None = None,
    capability: float = 8.0,
) -> Literal["flash", "cudnn", "chunked", "xla"]:
    """The kernel for queries "b q m e" over n keys, images sharded over the mesh.

    cuDNN's flash attention takes bfloat16 and float16 with a head width that is a
    multiple of 8 and at most 128, or 256 from compute `capability` 9.0 on. The TPU's
    needs a mesh and is used where it saves memory. Cross-attention's 77 keys always use
    XLA.
    """
    b, q, m, e = shape
    if n <= 256:
        return "xla"
    half = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    widest = 256 if capability >= 9 else 128
    if platform == "gpu" and half and e % 8 == 0 and e <= widest:
        return "cudnn"
    if platform == "tpu" and mesh is not None and flash.fits(shape, n, mesh):
        return "flash"
    logits = 4 * b * m * q * n / _devices(mesh)
    return "chunked" if logits > _CHUNK_ABOVE[platform] else "xla"


def _devices(mesh: Mesh | None) -> int:
    """The number of devices that images are sharded over."""
    return 1 if mesh is None else mesh.size


def _capability() -> float:
    """The default device's CUDA compute capability, 0 without one."""
    text = str(getattr(jax.devices()[0], "compute_capability", ""))
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _read(probs: Probs, v: Keys) -> Queries:
    return jnp.einsum("bmqn,bnme->bqme", probs.astype(v.dtype), v)


def _attend_chunked(
    q: Queries, k: Keys, v: Keys, limit: int, *, by_head: bool
) -> Queries:
    """Exact attention with at most `limit` bytes of logits at a time, or one query's.

    A chunk is some queries of all heads and images or, `by_head`, of a few heads, which
    suits a CPU's cache; on several devices, that would slice sharded axes. Each chunk's
    logits are recomputed backward.
    """
    b, n, m, e = q.shape
    row = 4 * k.shape[1] * (1 if by_head else b * m)
    count = -(-n // max(1, limit // row))  # chunks of queries
    rows = -(-n // count)
    heads = b * m
    if by_head:
        fitting = (g for g in range(1, b * m + 1) if b * m % g == 0)
        heads = max(g for g in fitting if g == 1 or g * rows * row <= limit)

    def grouped(x):
        return jnp.moveaxis(x, 2, 1).reshape(b * m // heads, heads, -1, x.shape[-1])

    # Padding makes the chunks equal. A column of ones in v yields the weights' sum from
    # the same product, which saves a pass over the logits.
    q = grouped(jnp.pad(q, ((0, 0), (0, count * rows - n), (0, 0), (0, 0))))
    q = jnp.moveaxis(q.reshape(-1, heads, count, rows, e), 2, 1)
    k = jnp.swapaxes(grouped(k), -1, -2)
    v = grouped(jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1))

    def group(inputs):
        q, k, v = inputs
        return jax.lax.map(lambda chunk: _attend_once(chunk, k, v), q)

    out = jnp.moveaxis(jax.lax.map(group, (q, k, v)), 1, 2)
    return jnp.moveaxis(out.reshape(b, m, count * rows, e)[:, :, :n], 1, 2)


@jax.checkpoint
def _attend_once(
    q: Float[Array, "g q e"], k: Float[Array, "g e n"], v: Float[Array, "g n f"]
) -> Float[Array, "g q e"]:
    """Attention of one chunk; `v`'s last column is ones."""
    logits = jnp.einsum("gqe,gen->gqn", q, k, preferred_element_type=jnp.float32)
    # The largest logit cancels, so that it needs no gradient.
    top = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    weights = jnp.exp((logits - top) * q.shape[-1] ** -0.5).astype(v.dtype)
    sums = jnp.einsum("gqn,gnf->gqf", weights, v, preferred_element_type=jnp.float32)
    return (sums[..., :-1] / sums[..., -1:]).astype(q.dtype)


def _split(x: Float[Array, "b n c"], heads: int) -> Keys:
    return x.reshape(*x.shape[:2], heads, -1)
