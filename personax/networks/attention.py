"""Attention and its seam: what a control may do at each site, at no cost where it does nothing.

A `Control` is asked once per site while the network is traced and answers with an
`Edit`. `kv` changes keys and values and keeps the fused kernel; `probs` and `keep` open it.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.networks.compute import Compute
from personax.networks.layers import dense, init_dense, keys_for
from personax.typing import Key, Keys, Params, Probs, Text, Where

# Above this many bytes of float32 logits a site is computed in chunks of queries.
_CHUNK_ABOVE = 64 * 2**20
_CHUNK_LOGITS = 16 * 2**20


class Site(NamedTuple):
    """One attention layer: its path in the UNet and where that lies."""

    name: str  # "down_blocks/0/attentions/0/transformer_blocks/0/attn2"
    kind: Literal["self", "cross"]
    place: Literal["down", "mid", "up"]
    pixels: int  # how many queries: latent rows times columns at this depth


class Context(NamedTuple):
    """What a control may look at beside its own arrays."""

    where: Where | None = None  # which tokens are concept k's
    maps: Mapping[str, Mapping[str, Probs]] = {}  # {stream: {site: probs}}


class Edit(NamedTuple):
    """What to do at a site; `Edit()` leaves the fused kernel alone."""

    kv: Callable[[Keys, Keys, Text], tuple[Keys, Keys]] | None = None  # (k, v, text)
    probs: Callable[[Probs], Probs] | None = None
    keep: bool = False  # hand the (edited) probabilities out


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
    """(what `x` reads from `text`, the probabilities that a control asked to keep).

    `text` is `x` itself at a self-attention site. Controls apply in order.
    """
    q = _split(dense(params["to_q"], x), heads)
    k = _split(dense(params["to_k"], text), heads)
    v = _split(dense(params["to_v"], text), heads)
    edits = [control(site, context) for control in controls]
    for edit in edits:
        if edit.kv is not None:
            k, v = edit.kv(k, v, text)
    kept = {}
    if any(edit.probs is not None or edit.keep for edit in edits):
        probs = attention_probs(q, k)
        for edit in edits:
            if edit.probs is not None:
                probs = edit.probs(probs)
        if any(edit.keep for edit in edits):
            kept[site.name] = probs
        out = jnp.einsum("bmqn,bnme->bqme", probs.astype(v.dtype), v)
    else:
        out = attend(q, k, v, compute=compute)
    return dense(params["to_out"]["0"], out.reshape(*x.shape[:2], -1)), kept


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


def attention_probs(q: Keys, k: Keys) -> Probs:
    """softmax(q k' / sqrt(e)), float32."""
    logits = jnp.einsum("bqme,bnme->bmqn", q, k, preferred_element_type=jnp.float32)
    return jax.nn.softmax(logits * q.shape[-1] ** -0.5, axis=-1)


def attend(q: Keys, k: Keys, v: Keys, *, compute: Compute = Compute()) -> Keys:
    """softmax(q k' / sqrt(e)) v by the kernel that suits the site."""
    kernel = compute.attention
    if kernel == "auto":
        kernel = pick_kernel(q.shape, k.shape[1], q.dtype, compute.target())
    if kernel == "cudnn":
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    if kernel == "chunked":
        return _attend_chunked(q, k, v)
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def pick_kernel(shape: tuple[int, ...], n: int, dtype, platform: str) -> str:
    """The kernel for queries "b q m e" over n keys: "cudnn", "chunked" or "xla".

    cuDNN's flash attention takes bfloat16 and float16 with a head width that is a
    multiple of 8 and at most 128. Cross-attention's 77 keys never need more than XLA.
    """
    b, q, m, e = shape
    half = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    if platform == "gpu" and half and e % 8 == 0 and e <= 128 and n > 256:
        return "cudnn"
    return "chunked" if 4 * b * m * q * n > _CHUNK_ABOVE else "xla"


def _attend_chunked(q: Keys, k: Keys, v: Keys) -> Keys:
    """Exact attention in chunks of queries; each chunk's logits are recomputed backward."""
    b, n, m, e = q.shape
    rows = max(1, _CHUNK_LOGITS // (4 * b * m * k.shape[1]))
    rows = max(r for r in range(1, min(rows, n) + 1) if n % r == 0)
    chunks = jnp.moveaxis(q.reshape(b, n // rows, rows, m, e), 1, 0)

    @jax.checkpoint
    def chunk(q: Keys) -> Keys:
        probs = attention_probs(q, k).astype(v.dtype)
        return jnp.einsum("bmqn,bnme->bqme", probs, v)

    return jnp.moveaxis(jax.lax.map(chunk, chunks), 0, 1).reshape(q.shape)


def _split(x: Float[Array, "b n c"], heads: int) -> Keys:
    return x.reshape(*x.shape[:2], heads, -1)
