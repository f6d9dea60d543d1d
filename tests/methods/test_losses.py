"""Each loss against its formula in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.core.tree import flat, overwrite
from personax.diffusion.denoiser import encode
from personax.diffusion.schedule import alphas_cumprod
from personax.methods import losses
from personax.methods.losses import (
    Batch,
    denoising,
    draws,
    semantic_preservation,
    snr_weight,
    total,
)
from personax.methods.parts.tokens import TABLE
from personax.networks.attention import Site, attention, init_attention
from personax.networks.clip_text import transformer
from personax.networks.layers import layer_norm
from personax.networks.vae import Posterior
from tests.methods.test_laws import CONCEPTS, IDS, small_denoiser

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def base():
    return small_denoiser()


@pytest.fixture(scope="module")
def bound(base):
    """Custom Diffusion's denoiser, with a random row for V*, and its theta."""
    method = methods.make("custom_diffusion")
    theta = methods.init(method, jax.random.key(1), base.params, CONCEPTS)
    row = 0.1 * jax.random.normal(jax.random.key(5), (1, 24))
    theta = {**theta, "tokens": {"embedding": row}}
    return method, theta, methods.bind(method, base, theta)


@pytest.fixture
def network(monkeypatch):
    """A UNet replaced by a formula of its text and input."""

    def predict(denoiser, x, t, prompt, hint=None):
        gain = prompt.text.mean(axis=(1, 2))
        return x * gain[:, None, None, None], {}

    monkeypatch.setattr(losses, "network", predict)


def posterior(count, seed=3):
    mean, logvar = jax.random.normal(jax.random.key(seed), (2, count, 8, 8, 4))
    return Posterior(mean, logvar)


def batch_of(count, **more):
    text = jax.random.normal(jax.random.key(8), (count, 12, 24))
    ids = jnp.broadcast_to(IDS[:1], (count, 12))
    return Batch(posterior(count), ids, text=text, **more)


KEYS = jax.random.split(jax.random.key(6), 6)


def squares(spec, batch, keys=KEYS, offset_noise=0.0):
    """(eps - prediction)^2 of the formula's network, in numpy."""
    x0, eps, t = draws(spec, batch.posterior, keys, offset_noise=offset_noise)
    bar = alphas_cumprod(spec.schedule)[np.asarray(t)][:, None, None, None]
    x = np.sqrt(bar) * x0 + np.sqrt(1 - bar) * eps
    gain = np.asarray(batch.text).mean(axis=(1, 2))[:, None, None, None]
    return np.square(eps - x * gain), np.asarray(t)


@pytest.fixture(scope="module")
def mask():
    """Some cells of each example, all of the last one's."""
    cells = np.random.default_rng(0).random((6, 8, 8)) < 0.3
    cells[-1] = True
    return cells.astype(np.float32)


def test_without_a_mask_it_is_the_mean_of_squares(base, network):
    batch = batch_of(6)
    value, metrics = denoising()(base, batch, KEYS)
    want = squares(base.spec, batch)[0].mean()
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert metrics["loss"] == value


def test_a_mask_leaves_the_mean_over_the_valid_cells(base, network, mask):
    batch = batch_of(6, mask=jnp.asarray(mask))
    ours = denoising()(base, batch, KEYS)[0]
    each = squares(base.spec, batch)[0]
    want = np.mean([x[m > 0].mean() for x, m in zip(each, mask, strict=True)])
    np.testing.assert_allclose(ours, want, rtol=1e-5)


def test_the_releases_norm_is_channels_times_the_masked_mean(base, network, mask):
    batch = batch_of(6, mask=jnp.asarray(mask))
    ours = denoising(mask_norm="sum_over_mask")(base, batch, KEYS)[0]
    each = squares(base.spec, batch)[0]
    summed = (each * mask[..., None]).sum(axis=(1, 2, 3)) / mask.sum(axis=(1, 2))
    np.testing.assert_allclose(ours, summed.mean(), rtol=1e-5)
    np.testing.assert_allclose(ours, 4 * denoising()(base, batch, KEYS)[0], rtol=1e-6)


@pytest.mark.parametrize("norm", ["mean", "sum_over_mask"])
def test_an_empty_mask_leaves_no_loss_and_a_finite_gradient(base, network, norm):
    batch = batch_of(6, mask=jnp.zeros((6, 8, 8)))

    def value(text):
        loss = denoising(mask_norm=norm)
        return loss(base, batch._replace(text=text), KEYS)[0]

    loss, gradient = jax.value_and_grad(value)(batch.text)
    assert float(loss) == 0
    assert not np.asarray(gradient).any()


def test_weights_give_prior_preservation(base, network):
    # Two rows of the concept and four of its prior, weighted as in training.
    prior_weight, share = 0.7, 6 / 2
    weight = jnp.array([share] * 2 + [share * prior_weight * 2 / 4] * 4)
    batch = batch_of(6, weight=weight)
    each = squares(base.spec, batch)[0].mean(axis=(1, 2, 3))
    want = each[:2].mean() + prior_weight * each[2:].mean()
    np.testing.assert_allclose(denoising()(base, batch, KEYS)[0], want, rtol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_the_papers(base, kind):
    schedule = dataclasses.replace(base.spec.schedule, prediction_type=kind)
    spec = dataclasses.replace(base.spec, schedule=schedule)
    t = np.array([0, 10, 200, 500, 999])
    bar = alphas_cumprod(schedule)[t]
    snr = bar / (1 - bar)
    want = np.minimum(snr, 5.0) / (snr if kind == "epsilon" else snr + 1)
    ours = snr_weight(spec, jnp.asarray(t), 5.0)
    np.testing.assert_allclose(ours, want, rtol=2e-4)
    assert ours[0] < 0.1


def test_min_snr_applies_to_every_example(base, network):
    batch = batch_of(6)
    each, t = squares(base.spec, batch)
    weight = np.asarray(snr_weight(base.spec, jnp.asarray(t), 1.0))
    assert weight.std() > 0
    ours = denoising(min_snr=1.0)(base, batch, KEYS)[0]
    want = (each.mean(axis=(1, 2, 3)) * weight).mean()
    np.testing.assert_allclose(ours, want, rtol=1e-5)


def test_velocity_is_the_target_where_the_base_predicts_it(base, monkeypatch):
    schedule = dataclasses.replace(base.spec.schedule, prediction_type="v_prediction")
    spec = dataclasses.replace(base.spec, schedule=schedule)
    batch = batch_of(6)
    x0, eps, t = draws(spec, batch.posterior, KEYS, offset_noise=0.0)
    bar = alphas_cumprod(schedule)[np.asarray(t)][:, None, None, None]
    velocity = jnp.asarray(np.sqrt(bar) * eps - np.sqrt(1 - bar) * x0, jnp.float32)
    monkeypatch.setattr(losses, "network", lambda *_, hint: (velocity, {}))
    assert float(denoising()(base.replace(spec=spec), batch, KEYS)[0]) < 1e-8


def test_offset_noise_is_one_more_draw_per_image_and_channel(base):
    keys = jax.random.split(jax.random.key(0), 512)
    means = posterior(512)
    plain = draws(base.spec, means, keys, offset_noise=0.0)
    moved = draws(base.spec, means, keys, offset_noise=0.1)
    shift = np.asarray(moved.eps - plain.eps)
    assert np.abs(shift - shift[:, :1, :1]).max() < 1e-6  # one over all pixels
    drawn = shift[:, 0, 0]  # (image, channel)
    assert abs(drawn.mean()) < 0.01
    assert drawn.std() == pytest.approx(0.1, rel=0.05)
    correlation = np.corrcoef(drawn.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.2
    np.testing.assert_array_equal(plain.x0, moved.x0)
    np.testing.assert_array_equal(plain.t, moved.t)


def test_noise_and_times_are_a_unit_normal_and_uniform(base):
    keys = jax.random.split(jax.random.key(0), 512)
    _, eps, t = draws(base.spec, posterior(512), keys, offset_noise=0.0)
    assert abs(float(eps.mean())) < 0.01
    assert float(eps.std()) == pytest.approx(1, rel=0.01)
    assert (int(t.min()), int(t.max())) >= (0, 950)
    assert float(t.mean()) == pytest.approx(499.5, rel=0.1)


def test_draws_of_an_example_do_not_depend_on_the_batch(base):
    six = posterior(6)
    together = draws(base.spec, six, KEYS, offset_noise=0.1)
    alone = jax.tree.map(lambda x: x[4:5], six)
    single = draws(base.spec, alone, KEYS[4:5], offset_noise=0.1)
    for ours, want in zip(single, together, strict=True):
        np.testing.assert_allclose(ours[0], want[4], rtol=1e-6)


def test_encoded_text_equals_the_captions(base, network):
    batch = batch_of(6)._replace(ids=jnp.concatenate([IDS] * 3).at[:, 2].set(7))
    encoded = batch._replace(text=encode(base, batch.ids).text)
    by_ids = denoising()(base, batch._replace(text=None), KEYS)[0]
    np.testing.assert_allclose(by_ids, denoising()(base, encoded, KEYS)[0], rtol=1e-6)
    assert by_ids != denoising()(base, batch, KEYS)[0]


# Semantic preservation. Two phrases "<v1> dog" and "dog", the concepts' rows 64 …


def pairs_of(*rows):
    """[k, 2, n] of pairs of words between begin and end."""

    def encoded(words):
        return [62, *words, *[63] * (11 - len(words))]

    return jnp.array([[encoded(words) for words in pair] for pair in rows])


PAIRS = pairs_of(([5, 64, 6], [5, 6]))


def semantic(denoiser, pairs, **options):
    batch = Batch(posterior(2), IDS, pairs=pairs)
    return semantic_preservation(**options)(denoiser, batch, KEYS[:2])[0]


def distance(a, b):
    return 1 - np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize(("pool", "at"), [("eos", 4), ("modifier", 2)])
@pytest.mark.parametrize("eos", [63, 2])
def test_the_feature_is_the_state_at_the_end_or_at_the_modifier(bound, pool, at, eos):
    denoiser = bound[2]
    text = dataclasses.replace(denoiser.spec.text_encoder, eos_token_id=eos)
    spec = dataclasses.replace(denoiser.spec, text_encoder=text)
    concept, word = np.asarray(encode(denoiser, PAIRS[0]).text)
    ours = semantic(denoiser.replace(spec=spec), PAIRS, pool=pool)
    np.testing.assert_allclose(ours, distance(concept[at], word[3]), rtol=1e-4)


def test_the_modifier_does_not_depend_on_the_class_word(bound):
    other = pairs_of(([5, 64, 20], [5, 6]))
    by_pool = {
        pool: [float(semantic(bound[2], p, pool=pool)) for p in (PAIRS, other)]
        for pool in ("eos", "modifier")
    }
    first, second = by_pool["modifier"]
    assert first == pytest.approx(second, rel=1e-6)
    first, second = by_pool["eos"]
    assert abs(first - second) > 1e-3


@pytest.mark.parametrize(("pool", "at"), [("eos", 4), ("modifier", 2)])
def test_without_its_position_the_modifier_is_the_bare_word(bound, pool, at):
    denoiser = bound[2]
    config = denoiser.spec.text_encoder
    model = denoiser.params["text_encoder"]["text_model"]
    table = model["embeddings"]["token_embedding"]["embedding"]
    x = table[PAIRS[0, 0]] + model["embeddings"]["position_embedding"]["embedding"]
    x = x.at[2].set(table[64])[None]
    states = transformer(
        model["encoder"],
        config,
        x,
        depth=config.num_hidden_layers,
        causal=True,
        compute=denoiser.spec.compute,
    )
    by_hand = layer_norm(model["final_layer_norm"], states)[0, at]
    word = encode(denoiser, PAIRS[:, 1]).text[0, 3]
    ours = semantic(denoiser, PAIRS, pool=pool, keep_position=False)
    np.testing.assert_allclose(ours, distance(by_hand, word), rtol=1e-4)
    assert abs(ours - semantic(denoiser, PAIRS, pool=pool)) > 1e-4


def two_concepts(base):
    rows = 0.1 * jax.random.normal(jax.random.key(7), (2, 24))
    table = jnp.concatenate([flat(base.params)[TABLE], rows])
    return base.replace(params=overwrite(base.params, {TABLE: table}, resize=True))


def test_concepts_are_averaged_or_summed(base):
    denoiser = two_concepts(base)
    pairs = pairs_of(([5, 64, 6], [5, 6]), ([5, 65, 9], [5, 9]))
    each = [float(semantic(denoiser, pair[None])) for pair in pairs]
    assert semantic(denoiser, pairs) == pytest.approx(np.mean(each), rel=1e-5)
    summed = semantic(denoiser, pairs, reduce="sum")
    assert summed == pytest.approx(np.sum(each), rel=1e-5)


def test_captions_without_the_placeholder_are_excluded(base):
    denoiser = two_concepts(base)
    pairs = pairs_of(([5, 64, 6], [5, 6]), ([8, 5, 65, 9], [8, 5, 9]), ([7], [7]))
    loss = semantic_preservation(prompt="caption")
    ids, plain = pairs[:, 0], pairs[:, 1]
    value = loss(denoiser, Batch(posterior(3), ids, plain=plain), KEYS[:3])[0]
    assert value == pytest.approx(float(semantic(denoiser, pairs[:2])), rel=1e-5)
    prior = Batch(posterior(1), ids[2:], plain=plain[2:])
    assert loss(denoiser, prior, KEYS[:1])[0] == 0


def test_equal_phrases_have_no_distance(base):
    table = flat(base.params)[TABLE]
    leaves = {TABLE: jnp.concatenate([table, table[6:7]])}
    same = base.replace(params=overwrite(base.params, leaves, resize=True))
    pairs = pairs_of(([5, 64], [5, 6]))
    assert semantic(same, pairs) == pytest.approx(0, abs=1e-6)
    assert semantic(same, pairs_of(([5, 64, 9], [5, 9]))) > 1e-3


def test_semantic_preservation_trains_the_tokens_only(bound, base):
    method, theta, _ = bound

    def value(theta):
        return semantic(methods.bind(method, base, theta), PAIRS)

    gradient = jax.grad(value)(theta)
    assert np.abs(gradient["tokens"]["embedding"]).max() > 1e-4
    for path, leaf in gradient["weights"].items():
        assert not np.asarray(leaf).any(), path


def test_the_class_is_an_anchor_without_gradient(bound):
    """Rows that occur only in the class phrase have no gradient."""
    denoiser = bound[2]
    pairs = pairs_of(([5, 64, 6], [5, 9]))

    def value(table):
        params = overwrite(denoiser.params, {TABLE: table})
        return semantic(denoiser.replace(params=params), pairs)

    gradient = np.asarray(jax.grad(value)(flat(denoiser.params)[TABLE]))
    assert np.abs(gradient[64]).max() > 1e-4
    assert not gradient[9].any()


def test_the_total_is_the_weighted_sum_and_reports_its_terms(base):
    def constant(value):
        return lambda denoiser, batch, keys: (jnp.float32(value), {})

    loss = total(denoising=(1.0, constant(2)), semantic=(0.5, constant(3)))
    value, metrics = loss(base, None, None)
    assert {name: float(x) for name, x in metrics.items()} == {
        "loss": 3.5,
        "loss/denoising": 2,
        "loss/semantic": 3,
    }
    assert value == 3.5


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (denoising, {"mask_norm": "sum"}, "mask_norm 'sum'"),
        (semantic_preservation, {"pool": "max"}, "pool 'max'"),
        (semantic_preservation, {"reduce": "max"}, "reduce 'max'"),
        (semantic_preservation, {"prompt": "own"}, "prompt 'own'"),
        (
            semantic_preservation,
            {"prompt": "caption", "keep_position": False},
            "keep_position=False",
        ),
    ],
)
def test_an_unknown_option_is_refused_by_name(make, options, named):
    with pytest.raises(ValueError, match=named):
        make(**options)


# Custom Diffusion's detached start token.


def test_the_first_token_s_keys_and_values_give_no_gradient(bound, base):
    _, _, denoiser = bound
    batch = batch_of(2)

    @jax.jit
    def gradient(denoiser, text):
        def value(text):
            return denoising()(denoiser, batch._replace(text=text), KEYS[:2])[0]

        return jax.value_and_grad(value)(text)

    # Text enters the UNet only through keys and values.
    value, stopped = gradient(denoiser, batch.text)
    same, free = gradient(denoiser.replace(controls=()), batch.text)
    assert value == pytest.approx(float(same), rel=1e-6)
    assert not np.asarray(stopped[:, 0]).any()
    assert np.abs(stopped[:, 1:]).max() > 0
    assert np.abs(free[:, 0]).max() > 0


@pytest.mark.parametrize("name", ["to_k", "to_v"])
def test_the_kernels_gradient_is_the_one_with_constants_there(bound, name):
    controls = bound[2].controls
    params = init_attention(jax.random.key(0), 16, 24)
    x = jax.random.normal(jax.random.key(1), (2, 5, 16))
    text = jax.random.normal(jax.random.key(2), (2, 3, 24))
    site = Site("mid_block/attn2", "cross", "mid", 5)

    def ours(kernel):
        own = {**params, name: {"kernel": kernel}}
        out, _ = attention(own, x, text, heads=2, site=site, controls=controls)
        return jnp.square(out).sum()

    def explicit(kernel):
        k, v = (
            text @ (kernel if p == name else params[p]["kernel"])
            for p in ("to_k", "to_v")
        )
        k, v = (
            jnp.concatenate([jax.lax.stop_gradient(y[:, :1]), y[:, 1:]], axis=1)
            for y in (k, v)
        )
        q, k, v = (y.reshape(2, -1, 2, 8) for y in (x @ params["to_q"]["kernel"], k, v))
        weights = jax.nn.softmax(jnp.einsum("bqme,bnme->bmqn", q, k) / 8**0.5)
        out = jnp.einsum("bmqn,bnme->bqme", weights, v).reshape(2, 5, 16)
        last = params["to_out"]["0"]
        out = out @ last["kernel"] + last["bias"][None, None]
        return jnp.square(out).sum()

    kernel = params[name]["kernel"]
    value, gradient = jax.value_and_grad(ours)(kernel)
    want, by_hand = jax.value_and_grad(explicit)(kernel)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4, atol=1e-5)
    assert np.abs(gradient).max() > 1e-3
