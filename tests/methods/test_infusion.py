"""Infusion: both streams against eq. 7, identities, and sums of concepts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.control.maps import Capture
from personax.control.residual import Residual
from personax.core.tree import count, flat, nest
from personax.diffusion.denoiser import (
    FROZEN,
    Denoiser,
    Prompt,
    encode,
    network,
    predict,
)
from personax.diffusion.guidance import cfg, guide
from personax.diffusion.solvers import SOLVERS
from personax.methods import Concept, losses
from personax.methods.infusion import infusion
from personax.methods.parts.activations import frozen_stream, residual
from personax.methods.parts.base import Method
from personax.methods.parts.tokens import tokens
from personax.methods.parts.weights import lora, weights
from personax.networks.attention import Context, Site, attention, attention_probs
from personax.networks.layers import dense
from personax.networks.unet import UNetConfig, cross_sites, init_unet
from personax.sampling.sampler import draw_latents
from tests.methods.test_laws import small_denoiser

pytestmark = pytest.mark.quick

DOG = Concept("", "dog", (), (), "dog")
CAT = Concept("", "cat", (), (), "cat")
IDS = jnp.array([[62, 5, 7, 6, 9, 63, 63, 63, 63, 63, 63, 63]] * 2)
DOG_AT, CAT_AT = (IDS == 7)[None], (IDS == 9)[None]
X = jax.random.normal(jax.random.key(2), (2, 8, 8, 4))
T = jnp.array([100.0, 700.0])


@pytest.fixture(scope="module")
def base():
    return small_denoiser()


def random_theta(method, base, concepts, seed=0):
    theta = methods.init(method, jax.random.key(seed), base.params, concepts)
    leaves, structure = jax.tree.flatten(theta)
    keys = jax.random.split(jax.random.key(seed + 7), len(leaves))
    drawn = [
        jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def predicted(denoiser, concept_mask, x=X):
    return predict(denoiser, x, T, encode(denoiser, IDS, concept_mask))[0]


def test_a_site_computes_equation_7(base):
    params = flat(base.params["unet"])
    name = cross_sites(base.params["unet"])[0]
    site = Site(name, "cross", "down", 64)
    start = f"{name}/"
    attn = nest({p[len(start) :]: x for p, x in params.items() if p.startswith(start)})
    keys = jax.random.split(jax.random.key(0), 4)
    h_c, h_f = jax.random.normal(keys[0], (2, 2, 64, 16))
    text = jax.random.normal(keys[1], (2, 12, 24))
    delta = jax.random.normal(keys[2], (1, 1, 16))
    theta = {"residual": {f"unet/{name}/v": delta}}
    bound = methods.bind(Method(infusion().parts, losses.denoising()), base, theta)

    def split(z):
        return z.reshape(2, -1, 2, 8)

    M_F = attention_probs(
        split(dense(attn["to_q"], h_f)), split(dense(attn["to_k"], text))
    )
    out, _ = attention(
        attn,
        h_c,
        text,
        heads=2,
        site=site,
        controls=bound.controls,
        context=Context(concept_mask=DOG_AT, maps={FROZEN: {name: M_F}}),
    )
    V = split(dense(attn["to_v"], text))
    M_V = jnp.einsum("bmqn,bnme->bqme", M_F, V).reshape(2, 64, 16)
    m_obj = M_F[:, :, :, 2]  # b m q
    outer = jnp.einsum("bmq,me->bqme", m_obj, delta[0, 0].reshape(2, 8))
    want = dense(attn["to_out"]["0"], M_V + outer.reshape(2, 64, 16))
    np.testing.assert_allclose(out, want, atol=1e-5)


def test_without_a_residual_it_is_the_base_exactly(base):
    method = infusion()
    theta = methods.init(method, jax.random.key(0), base.params, [DOG])
    bound = methods.bind(method, base, theta)
    np.testing.assert_array_equal(predicted(bound, DOG_AT), predicted(base, DOG_AT))


def test_a_prompt_without_the_word_equals_the_base(base):
    method = infusion()
    bound = methods.bind(method, base, random_theta(method, base, [DOG]))
    np.testing.assert_array_equal(predicted(bound, None), predicted(base, None))
    assert np.abs(predicted(bound, DOG_AT) - predicted(base, None)).max() > 0.1


def test_the_frozen_stream_equals_the_base(base):
    method = infusion()
    bound = methods.bind(method, base, random_theta(method, base, [DOG]))
    np.testing.assert_array_equal(
        predicted(bound.reference, DOG_AT), predicted(base, DOG_AT)
    )


def test_the_customised_stream_uses_the_frozen_maps(base):
    method = infusion()
    bound = methods.bind(method, base, random_theta(method, base, [DOG]))
    prompt = encode(base, IDS, DOG_AT)
    _, want = network(base, X, T, prompt, controls=(Capture(),))
    _, got = network(bound, X, T, prompt, controls=(Capture(),))
    assert got.keys() == want.keys() == set(cross_sites(base.params["unet"]))
    for site, maps in want.items():
        np.testing.assert_array_equal(got[site], maps)


def test_without_frozen_maps_the_maps_differ(base):
    theta = random_theta(infusion(), base, [DOG])
    with_maps = methods.bind(infusion(), base, theta)
    without = methods.bind(infusion(frozen_maps=False), base, theta)
    difference = predicted(with_maps, DOG_AT) - predicted(without, DOG_AT)
    assert np.abs(difference).max() > 1e-3


def test_concepts_trained_separately_are_summed(base):
    method = infusion()
    dog, cat = (random_theta(method, base, [DOG], seed) for seed in (1, 2))
    once = methods.bind(method, base, dog)
    both = methods.bind(method, once.replace(concept_offset=1), cat)
    together = methods.bind(
        method, base, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), dog, cat)
    )
    marks = jnp.concatenate([DOG_AT, CAT_AT])
    np.testing.assert_allclose(
        predicted(both, marks), predicted(together, marks), atol=1e-5
    )
    none = jnp.zeros_like(CAT_AT)
    np.testing.assert_allclose(
        predicted(both, jnp.concatenate([DOG_AT, none])),
        predicted(once, DOG_AT),
        atol=1e-5,
    )
    np.testing.assert_array_equal(
        both.reference.params["unet"]["conv_in"]["kernel"],
        base.params["unet"]["conv_in"]["kernel"],
    )
    assert both.reference.controls == base.controls


def test_the_reference_has_the_parts_bound_before_and_not_after(base):
    def bound(*parts):
        method = Method(dict(parts), losses.denoising())
        theta = random_theta(method, base, [DOG])
        return methods.bind(method, base, theta)

    change = ("lora", weights(r"unet/.*/attn2/to_[qk]/kernel", lora(2)))
    first = bound(change, ("maps", frozen_stream()), ("residual", residual()))
    last = bound(("maps", frozen_stream()), ("residual", residual()), change)
    difference = predicted(first, DOG_AT) - predicted(last, DOG_AT)
    assert np.abs(difference).max() > 1e-3
    # After it, keys and queries have no effect: the maps are the frozen stream's.
    gradient = jax.jit(
        jax.grad(lambda b: predicted(last.replace(params=b), DOG_AT).sum())
    )(last.params)
    keys = {p: g for p, g in flat(gradient["unet"]).items() if "attn2/to_k" in p}
    assert all((np.asarray(g) == 0).all() for g in keys.values())


def test_guidance_needs_three_evaluations(base):
    method = infusion()
    bound = methods.bind(method, base, random_theta(method, base, [DOG]))
    prompt = encode(bound, IDS[:1], DOG_AT[:, :1])
    null = encode(bound, jnp.full((1, 12), 63))

    def images(denoiser, prompt):
        eps = guide({"base": denoiser}, cfg(prompt, null, jnp.float32(3.0)))
        traced = jax.make_jaxpr(lambda x: eps(x, jnp.float32(500.0), jnp.int32(0)))(
            X[:1]
        )
        # Each evaluation of a picture passes through one first convolution.
        return sum(
            equation.outvars[0].aval.shape[0]
            for equation in traced.jaxpr.eqns
            if equation.primitive.name == "conv_general_dilated"
            and equation.invars[0].aval.shape[-1] == 4
        )

    assert images(base, Prompt(prompt.text)) == 2
    assert images(bound, prompt) == 3


def test_the_released_variant_is_one_stream_with_its_own_row(base):
    method = infusion(frozen_maps=False, train="kv", mask_norm="squared")
    theta = random_theta(method, base, [DOG])
    assert count(theta) == 2 * count(random_theta(infusion(), base, [DOG]))
    bound = methods.bind(method, base, theta)
    assert bound.reference is None
    # Its formula: k and v of the word's row, each with a residual of its own.
    name = cross_sites(base.params["unet"])[0]
    (rule,) = bound.controls
    edit = rule(Site(name, "cross", "down", 64), Context(concept_mask=DOG_AT))
    k = v = jnp.zeros((2, 12, 2, 8))
    new_k, new_v = edit.kv(k, v, jnp.zeros((2, 12, 24)))
    for new, kind in ((new_k, "k"), (new_v, "v")):
        want = np.zeros((2, 12, 16), np.float32)
        want[:, 2] = theta["residual"][f"unet/{name}/{kind}"][0, 0]
        np.testing.assert_allclose(new.reshape(2, 12, 16), want)


def test_keys_under_frozen_maps_are_refused():
    with pytest.raises(ValueError, match="has no effect on the keys"):
        infusion(train="kv")


def rows(concept_mask, vectors, pieces):
    """Which multiple of which vector lands on each token, of vectors 1, 10, 100."""
    values = {"s": jnp.array([[[10.0**j] for j in range(vectors)]])}
    rule = Residual(values, {}, pieces=pieces)
    edit = rule(
        Site("s", "cross", "mid", 4), Context(concept_mask=jnp.array([[concept_mask]]))
    )
    zero = jnp.zeros((1, len(concept_mask), 1, 1))
    return [int(v) for v in edit.kv(zero, zero, zero[..., 0])[1].ravel()]


@pytest.mark.parametrize(
    ("vectors", "pieces", "want"),
    [
        (1, "all", [0, 1, 1, 0, 0, 1, 0]),
        (1, "last", [0, 0, 1, 0, 0, 1, 0]),
        (2, "all", [0, 1, 1, 10, 0, 1, 10]),
        (3, "last", [0, 0, 1, 10, 100, 1, 10]),
    ],
)
def test_where_residuals_sit(vectors, pieces, want):
    assert rows([False, True, True, False, False, True, False], vectors, pieces) == want


def test_the_text_space_goes_through_the_sites_own_projection(base):
    method = infusion(delta_space="text")
    theta = random_theta(method, base, [DOG])
    other = infusion()
    kernels = flat(base.params)
    same = {
        path: x @ kernels[path.removesuffix("/v") + "/to_v/kernel"]
        for path, x in theta["residual"].items()
    }
    np.testing.assert_allclose(
        predicted(methods.bind(method, base, theta), DOG_AT),
        predicted(methods.bind(other, base, {"residual": same}), DOG_AT),
        atol=1e-5,
    )


@pytest.mark.parametrize(("space", "numbers"), [("value", 12_480), ("text", 12_288)])
def test_the_number_of_parameters_on_sd15(space, numbers):
    params = {
        "unet": jax.eval_shape(lambda: init_unet(jax.random.key(0), UNetConfig()))
    }
    theta = jax.eval_shape(
        lambda: methods.init(
            infusion(delta_space=space), jax.random.key(0), params, [DOG]
        )
    )
    assert count(theta) == numbers


def test_it_composes_with_words_and_low_rank(base):
    method = Method(
        {
            "lora": weights("kv", lora(2)),
            "tokens": tokens(),
            "maps": frozen_stream(),
            "residual": residual(),
        },
        losses.denoising(),
    )
    concept = Concept("<v1>", "dog", (64,), (7,), "<v1> dog")
    theta = random_theta(method, base, [concept])
    bound = methods.bind(method, base, theta)
    assert isinstance(bound, Denoiser)
    assert theta.keys() == {"lora", "tokens", "residual"}
    assert np.isfinite(predicted(bound, DOG_AT)).all()


def drawing(own_trajectory):
    """A function of a denoiser: the latents of two guided pictures."""
    solver = SOLVERS["ddim"]

    @jax.jit
    def drawn(denoiser):
        prompt = encode(denoiser, IDS[:1], DOG_AT[:, :1])
        terms = cfg(prompt, encode(denoiser, jnp.full((1, 12), 63)), jnp.float32(3.0))
        grid = solver.grid(denoiser.spec.schedule, 3)
        inputs = {"base": denoiser}, terms, grid, jax.random.key(4), jnp.arange(2)
        return draw_latents(
            solver, (8, 8, 4), *inputs, own_trajectory=own_trajectory
        ).latents

    return drawn


def test_both_trajectories_start_as_the_base_and_then_differ(base):
    method = infusion()
    zero = methods.init(method, jax.random.key(0), base.params, [DOG])
    theta = random_theta(method, base, [DOG])
    want = drawing(False)(base)
    pictures = {}
    for own in (False, True):
        draw = drawing(own)
        still = draw(methods.bind(method, base, zero))
        # Latents of order one, through programs that sum in other orders.
        np.testing.assert_allclose(still, want, atol=1e-4)
        pictures[own] = draw(methods.bind(method, base, theta))
        assert np.abs(pictures[own] - want).max() > 0.1
    assert np.abs(pictures[True] - pictures[False]).max() > 1e-2
