"""Every attention kernel gives softmax attention; controls open it only if asked."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import pytest

from personax.networks import attention as module
from personax.networks.attention import (
    Context,
    Edit,
    Site,
    attend,
    attention,
    init_attention,
    pick_kernel,
)
from personax.networks.compute import Compute
from tests.fast import USUAL

SITE = Site("mid_block/attn2", "cross", "mid", 12)
MIB = 2**20


def arrays(b, q, n, m, e, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(b, q, m, e), (b, n, m, e), (b, n, m, e)]
    return [
        jax.random.normal(key, s).astype(dtype)
        for key, s in zip(keys, shapes, strict=True)
    ]


def plain(q, k, v):
    logits = jnp.einsum("bqme,bnme->bmqn", q, k) / jnp.sqrt(q.shape[-1])
    return jnp.einsum("bmqn,bnme->bqme", jax.nn.softmax(logits, axis=-1), v)


def chunked(limit, by_head=True):
    return functools.partial(module._attend_chunked, limit=limit, by_head=by_head)


# 1 query at a time, chunks that do not divide the queries, whole heads, all at once.
LIMITS = [1, 4 * 9 * 4, 4 * 9 * 13, 2 * 4 * 9 * 13, MIB]


@pytest.mark.parametrize("by_head", [True, False])
@pytest.mark.parametrize("limit", LIMITS)
def test_chunked_values_and_gradients_equal_plain_attention(limit, by_head):
    # 1e-5 of values and gradients of order one: another order of summation.
    inputs = arrays(2, 13, 9, 2, 8)

    def loss(f):
        return jax.jit(
            jax.value_and_grad(lambda *qkv: jnp.sum(jnp.sin(f(*qkv))), (0, 1, 2)),
            compiler_options=USUAL,  # as users compile it
        )

    ours = chunked(limit, by_head)
    assert jnp.allclose(ours(*inputs), plain(*inputs), rtol=1e-5, atol=1e-5)
    got, want = loss(ours)(*inputs), loss(plain)(*inputs)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert jnp.allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["xla", "chunked"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_its_dtype(kernel, dtype):
    # 2 % of values of order one: bfloat16 has 8 bits.
    q, k, v = arrays(1, 16, 12, 2, 8, dtype)
    out = attend(q, k, v, compute=Compute(attention=kernel))
    expected = plain(*(x.astype(jnp.float32) for x in (q, k, v)))
    assert out.dtype == dtype
    assert jnp.allclose(out.astype(jnp.float32), expected, rtol=0.02, atol=0.02)


def test_large_logits_do_not_overflow():
    q, k, v = arrays(1, 8, 8, 1, 8)
    out = chunked(64)(100 * q, 100 * k, v)
    assert jnp.allclose(out, plain(100 * q, 100 * k, v), atol=1e-4)


def test_chunked_works_under_vmap():
    q, k, v = (x[:, None] for x in arrays(3, 10, 7, 2, 4))
    each = jnp.stack([chunked(64)(*one) for one in zip(q, k, v, strict=True)])
    assert jnp.allclose(jax.vmap(chunked(64))(q, k, v), each, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "n", "kernel"),
    [
        ((1, 4096, 8, 40), 4096, "chunked"),
        ((1, 1024, 8, 80), 1024, "chunked"),
        ((1, 256, 8, 160), 256, "xla"),
        ((2, 4096, 8, 40), 77, "xla"),
        ((16, 64, 4, 24), 64, "xla"),
    ],
)
def test_cpu_chunks_what_outgrows_its_cache(shape, n, kernel):
    assert pick_kernel(shape, n, jnp.float32, "cpu") == kernel


@pytest.mark.parametrize(
    ("width", "dtype", "capability", "flash"),
    [
        (40, jnp.bfloat16, 8.0, True),
        (40, jnp.float16, 8.0, True),
        (40, jnp.float32, 9.0, False),
        (44, jnp.bfloat16, 9.0, False),
        (128, jnp.bfloat16, 8.9, True),
        (160, jnp.bfloat16, 8.9, False),
        (160, jnp.bfloat16, 9.0, True),
        (264, jnp.bfloat16, 10.0, False),
    ],
)
def test_cudnn_where_the_head_width_allows(width, dtype, capability, flash):
    shape = (1, 1024, 8, width)
    kernel = pick_kernel(shape, 1024, dtype, "gpu", capability=capability)
    assert (kernel == "cudnn") == flash
    assert pick_kernel(shape, 77, dtype, "gpu", capability=capability) == "xla"


def test_the_compute_entry_overrides_the_choice():
    q = jax.ShapeDtypeStruct((1, 1024, 8, 80), jnp.float32)

    def loops(kernel):
        compute = Compute(attention=kernel, platform="cpu")
        traced = jax.make_jaxpr(lambda q: attend(q, q, q, compute=compute))
        return "scan[" in str(traced(q))

    assert [loops(kernel) for kernel in ("auto", "chunked", "xla")] == [
        True,
        True,
        False,
    ]


@flax.struct.dataclass
class DoubledValues:
    def __call__(self, site, context):
        return Edit(kv=lambda k, v, text: (k, 2 * v))


@flax.struct.dataclass
class OnePlus:
    def __call__(self, site, context):
        return Edit(kv=lambda k, v, text: (k, 1 + v))


@flax.struct.dataclass
class HalvedProbs:
    def __call__(self, site, context):
        return Edit(probs=lambda probs: probs / 2)


@flax.struct.dataclass
class Keep:
    def __call__(self, site, context):
        return Edit(keep=True)


@flax.struct.dataclass
class Nothing:
    def __call__(self, site, context):
        return Edit()


@pytest.fixture(name="read")
def fixture_read():
    """`attention` on fixed inputs, with the controls given, without `to_out`'s bias."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = init_attention(keys[0], 8, 6)
    params["to_out"]["0"].pop("bias")
    x, text = (
        jax.random.normal(keys[1], (2, 12, 8)),
        jax.random.normal(keys[2], (2, 5, 6)),
    )

    def read(*controls, x=x):
        return attention(
            params,
            x,
            text,
            heads=2,
            site=SITE,
            controls=controls,
            context=Context(),
        )

    read.x = x
    return read


def test_a_control_edits_values(read):
    assert jnp.allclose(read(DoubledValues())[0], 2 * read()[0], atol=1e-5)


def test_a_control_edits_probabilities(read):
    out, captured = read(HalvedProbs())
    assert jnp.allclose(out, read()[0] / 2, atol=1e-5)
    assert captured == {}


def test_kept_probabilities_are_the_edited_ones_under_the_sites_name(read):
    out, captured = read(Keep(), HalvedProbs())
    assert list(captured) == [SITE.name]
    assert captured[SITE.name].shape == (2, 2, 12, 5)
    assert jnp.allclose(captured[SITE.name].sum(-1), 0.5, atol=1e-6)
    assert jnp.allclose(out, read()[0] / 2, atol=1e-5)


def test_controls_apply_in_order(read):
    after, before = (
        read(DoubledValues(), OnePlus())[0],
        read(OnePlus(), DoubledValues())[0],
    )
    # 2v + 1 against 2(v + 1): they differ by what a constant value of one reads.
    one = read(OnePlus())[0] - read()[0]
    assert jnp.allclose(before - after, one, atol=1e-5)
    assert not jnp.allclose(before, after, atol=1e-3)


def test_no_control_and_one_that_does_nothing_cost_nothing(read):
    def jaxpr(*controls):
        return str(jax.make_jaxpr(lambda x: read(*controls, x=x))(read.x))

    assert jaxpr() == jaxpr(Nothing())
    assert jaxpr() != jaxpr(Keep())
