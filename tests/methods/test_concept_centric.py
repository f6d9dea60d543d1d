"""The concept-centric model: a UNet with a folded null text."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.core.tree import count, flat, select
from personax.diffusion.denoiser import encode, network
from personax.methods.parts.folded_null_text import NAME, fold, reads_text
from personax.networks.unet import UNetConfig, cross_sites, init_unet, unet
from tests.methods.test_laws import IDS, small_denoiser

pytestmark = pytest.mark.quick
NULL = jnp.array([[62] + [63] * 11])


@pytest.fixture(scope="module")
def base():
    return small_denoiser()


def bound(base, **arguments):
    method = methods.make("concept_centric", **arguments)
    ready = methods.prepare(method, base, NULL)
    theta = methods.init(method, jax.random.key(0), base.params, [])
    return methods.bind(method, ready, theta)


def test_815_533_444_parameters_train_on_sd15():
    params = {
        "unet": jax.eval_shape(lambda: init_unet(jax.random.key(0), UNetConfig()))
    }
    method = methods.make("concept_centric")
    theta = jax.eval_shape(
        lambda params: methods.init(method, jax.random.key(0), params, []), params
    )
    assert count(theta) == 815_533_444
    vectors = {site: jnp.zeros(8) for site in cross_sites(params["unet"])}
    left = select(fold(params, vectors), r"unet/(?!.*/attn2/).*")
    assert left.keys() == theta["weights"].keys()


def test_token_mean_is_the_mean_value_row_through_the_output(base):
    denoiser = bound(base, null_norm="token_mean")
    text = np.asarray(encode(base, NULL).text[0])
    leaves = flat(base.params)
    for site in cross_sites(base.params["unet"]):
        values = text @ np.asarray(leaves[f"unet/{site}/to_v/kernel"])
        want = values.mean(0) @ leaves[f"unet/{site}/to_out/0/kernel"]
        want = want + leaves[f"unet/{site}/to_out/0/bias"]
        ours = flat(denoiser.params)[f"unet/{site}/null"]
        np.testing.assert_allclose(ours, want, atol=1e-6)


def test_the_vectors_depend_on_the_seed_only(base):
    def vectors(**arguments):
        method = methods.make("concept_centric", latents=1, steps=1, **arguments)
        return methods.prepare(method, base, NULL).prepared[NAME]

    first, again, other = vectors(), vectors(), vectors(seed=1)
    for site, vector in first.items():
        np.testing.assert_array_equal(vector, again[site])
        assert np.abs(vector - other[site]).max() > 1e-6


def test_no_text_is_read(base):
    denoiser = bound(base, null_norm="token_mean")
    assert reads_text(base.params)
    assert not reads_text(denoiser.params)
    x, t = jnp.ones((2, 8, 8, 4)), jnp.array([3.0, 700.0])
    first, _ = network(denoiser, x, t, encode(base, IDS))
    other, _ = network(denoiser, x, t, encode(base, jnp.roll(IDS, 1)))
    np.testing.assert_array_equal(first, other)


def test_the_compiled_program_has_no_cross_attention(base):
    config, b, n = base.spec.unet, 2, 12
    params = {"unet": base.params["unet"]}
    vectors = {site: jnp.zeros(16) for site in cross_sites(params["unet"])}
    folded = fold(params, vectors)
    x, t, text = jnp.ones((b, 8, 8, 4)), jnp.ones(b), jnp.ones((b, n, 24))

    def lowered(params):
        def forward(params, x, t, text):
            return unet(params["unet"], config, x, t, text)[0]

        return jax.jit(forward).lower(params, x, t, text)

    plain, without = lowered(params), lowered(folded)
    flops = plain.cost_analysis()["flops"] - without.cost_analysis()["flops"]
    # Of each site: q and out over all pixels, k and v over the tokens, logits and sums.
    width, pixels = 16, 64
    site = 2 * b * (2 * pixels * width**2 + 2 * n * 24 * width + 2 * pixels * n * width)
    sites = len(vectors)
    # What is not a product (norm2, the softmax's exponentials) is less than a fifth.
    assert sites * site <= flops <= 1.2 * sites * site
    # Each site has one softmax, that of self-attention.
    exponentials = re.compile(r"stablehlo\.exponential ")
    softmaxes = [len(exponentials.findall(each.as_text())) for each in (plain, without)]
    assert softmaxes[0] - softmaxes[1] == sites
    assert f"{b}x{n}x24" in plain.as_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"null_norm": "mean"},
            "null_norm 'mean'; expected one of attn_mean, token_mean",
        ),
        ({"latents": 0}, "latents=0: expected a value >= 1"),
        ({"steps": 0}, "steps=0: expected a value >= 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        methods.make("concept_centric", **arguments)


def test_binding_without_prepared_vectors_is_refused(base):
    method = methods.make("concept_centric")
    with pytest.raises(ValueError, match="no prepared 'null_text'"):
        methods.bind(method, base, {"weights": {}})
