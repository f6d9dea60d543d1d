"""NeTI: the initial mapper, nested dropout, and several concepts.

The formulas are compared with torch's in tests/parity/test_neti.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts
from personax.diffusion.denoiser import encode, encode_at
from personax.methods import Concept, losses
from personax.methods.losses import Batch
from personax.methods.neti import HIDDEN, encoding, init_mapper, with_nested_dropout
from personax.methods.neti import _frequencies as frequencies
from personax.networks.unet import cross_sites
from personax.networks.vae import Posterior
from personax.sampling.prompt_terms import to_prompt
from tests.methods.test_laws import small_denoiser

pytestmark = pytest.mark.quick

DOG = Concept("<v1>", "dog", (7,), (7,), "<v1>")
CAT = Concept("<v2>", "cat", (9,), (9,), "<v2>")
IDS = jnp.array([[62, 5, 7, 9, 63, 63, 63, 63, 63, 63, 63, 63]] * 2)
MASK = jnp.stack([IDS == 7, IDS == 9])
T = jnp.array([30.0, 800.0])


@pytest.fixture(scope="module")
def small():
    return small_denoiser()


def bound(small, *concepts, seed=0, **arguments):
    method = methods.make("neti", **arguments)
    key = jax.random.key(seed)
    theta = methods.init(method, key, small.params, concepts)
    return methods.bind(method, small, theta), theta["mapper"]


@jax.jit
def texts(denoiser):
    return encode_at(denoiser, encode(denoiser, IDS, MASK), T).text


def test_the_first_layer_compares_with_ten_times_of_each_layer():
    params = init_mapper(jax.random.key(0), 3, 24)
    anchors = params["input"]["kernel"]
    assert anchors.shape == (2048, 30)
    for t, layer in ((0, 0), (300, 2), (900, 1)):
        features = encoding(jnp.array([float(t)]), jnp.array([layer]))[0]
        agreement = features @ anchors
        assert int(agreement.argmax()) == 3 * (t // 100) + layer
        np.testing.assert_allclose(agreement.max(), 1, atol=1e-5)
        # Neighbours in time and layer are distinguishable.
        assert np.sort(agreement)[-2] < 0.3


def test_the_frequencies_are_the_papers_and_never_others():
    over_t, over_layers = frequencies()
    assert over_t.shape == over_layers.shape == (1024,)
    np.testing.assert_allclose(over_t.std(), 0.03, rtol=0.1)
    np.testing.assert_allclose(over_layers.std(), 2.0, rtol=0.1)
    # Concepts on disk were trained with these.
    np.testing.assert_allclose(over_t[:2], [0.03 * 1.7640524, 0.03 * 0.4001572])


def test_the_encoding_differs_by_timestep_and_layer(small):
    denoiser, _ = bound(small, DOG)
    text = texts(denoiser)
    assert text.shape[0] == len(cross_sites(small.params["unet"]))
    assert np.abs(text[0] - text[1]).max() > 1e-3
    assert np.abs(text[:, 0] - text[:, 1]).max() > 1e-3
    np.testing.assert_allclose(text[0, :, :2], text[1, :, :2], atol=1e-6)  # before it


def test_a_schedule_of_other_length_has_the_same_words_at_the_same_share(small):
    denoiser, _ = bound(small, DOG)
    (words,) = denoiser.token_conditioners
    x, layer = jnp.ones((2, 12, 24)), jnp.zeros(2, int)
    short = words.replace(steps=100)
    np.testing.assert_allclose(
        short.embed(x, MASK, T / 10, layer), words.embed(x, MASK, T, layer), atol=1e-4
    )


def test_without_bypass_the_encoders_output_stays(small):
    denoiser, _ = bound(small, DOG, bypass=0.0)
    (words,) = denoiser.token_conditioners
    states, layer = jnp.ones((2, 12, 24)), jnp.zeros(2, int)
    assert words.after(states, MASK, T, layer) is states


def test_each_of_two_concepts_has_a_mapper_of_its_own(small):
    denoiser, theta = bound(small, DOG, CAT)
    assert theta["output"]["kernel"].shape == (2, HIDDEN, 48)
    (words,) = denoiser.token_conditioners
    x = jnp.ones((2, 12, 24))
    embedded = words.embed(x, MASK, T, jnp.zeros(2, int))
    assert np.abs(embedded[:, 2] - embedded[:, 3]).max() > 0.1
    second = words.replace(params=jax.tree.map(lambda leaf: leaf[1:], theta))
    alone = second.embed(x, MASK[1:], T, jnp.zeros(2, int))
    np.testing.assert_allclose(embedded[:, 3], alone[:, 3], atol=1e-6)


def test_truncation_uses_the_first_hidden_units_only(small):
    whole, theta = bound(small, DOG)
    short, _ = bound(small, DOG, truncate=16)
    assert whole.token_conditioners[0].num_hidden is None  # sampled, nothing is dropped
    output = theta["output"]
    cut = output["kernel"].at[:, 16:].set(0)
    by_hand = whole.token_conditioners[0].replace(
        params={**theta, "output": {**output, "kernel": cut}}
    )
    want = texts(small.replace(token_conditioners=(by_hand,)))
    np.testing.assert_allclose(texts(short), want, atol=1e-5)
    assert np.abs(texts(whole) - want).max() > 1e-2


def test_each_example_has_its_own_truncation_at_every_layer(small):
    whole, _ = bound(small, DOG)
    short, _ = bound(small, DOG, truncate=16)
    own = whole.token_conditioners[0].replace(num_hidden=jnp.array([16, HIDDEN]))
    ours = texts(small.replace(token_conditioners=(own,)))
    np.testing.assert_allclose(ours[:, 0], texts(short)[:, 0], atol=1e-5)
    np.testing.assert_allclose(ours[:, 1], texts(whole)[:, 1], atol=1e-5)


def num_hidden_of(keys, probability=0.5):
    """The number of hidden units that nested dropout leaves each example."""

    def loss(denoiser, batch, keys):
        return denoiser.token_conditioners[-1].num_hidden.sum() * 0.0, {
            "num_hidden": denoiser.token_conditioners[-1].num_hidden
        }

    return lambda denoiser: with_nested_dropout(loss, probability)(
        denoiser, None, keys
    )[1]["num_hidden"]


def test_dropout_truncates_half_of_the_examples_uniformly(small):
    denoiser, _ = bound(small, DOG)
    keys = jax.random.split(jax.random.key(3), 4000)
    num_hidden = np.asarray(num_hidden_of(keys)(denoiser))
    dropped = num_hidden < HIDDEN
    assert abs(dropped.mean() - 0.5) < 0.04
    assert num_hidden[dropped].min() == 0
    assert num_hidden[dropped].max() == HIDDEN - 1
    assert abs(num_hidden[dropped].mean() - (HIDDEN - 1) / 2) < 4
    # An example's own key decides, whatever the batch.
    np.testing.assert_array_equal(num_hidden_of(keys[7:9])(denoiser), num_hidden[7:9])
    assert (np.asarray(num_hidden_of(keys, 0.0)(denoiser)) == HIDDEN).all()


def test_the_step_trains_on_what_was_kept(small):
    mean, logvar = jax.random.normal(jax.random.key(3), (2, 2, 8, 8, 4))
    batch = Batch(Posterior(mean, logvar), IDS, concept_mask=jnp.moveaxis(MASK, 0, 1))
    keys = jax.random.split(jax.random.key(0), 2)
    denoiser, _ = bound(small, DOG)
    num_hidden = num_hidden_of(keys, 1.0)(denoiser)
    assert (num_hidden < HIDDEN).all()

    @jax.jit
    def both(denoiser, batch, keys):
        dropped = methods.make("neti", dropout=1.0).loss(denoiser, batch, keys)[0]
        own = denoiser.token_conditioners[0].replace(num_hidden=num_hidden)
        cut = denoiser.replace(token_conditioners=(own,))
        return dropped, losses.denoising()(cut, batch, keys)[0]

    dropped, want = both(denoiser, batch, keys)
    np.testing.assert_allclose(dropped, want, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 2.0}, "dropout=2.0: expected a value >= 0 and <= 1"),
        ({"truncate": 129}, r"in \[0, 128\]"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        methods.make("neti", **arguments)


def save(folder, emoji, name, concept):
    method = methods.make(name)
    params = from_base(emoji).denoiser.params
    theta = methods.init(method, jax.random.key(1), params, [concept])
    rng = np.random.default_rng(0)
    theta = jax.tree.map(
        lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(np.float32), theta
    )
    about = {"method": name, "method_args": {}, "base": emoji.name}
    artifact.save(folder, theta, [concept], **about, fingerprint=emoji.fingerprint)
    return str(folder)


def test_two_concepts_trained_separately_work_in_one_prompt(emoji, tmp_path):
    plain = from_base(emoji)
    staged = save(tmp_path / "a", emoji, "prospect", DOG)
    mapped = save(tmp_path / "b", emoji, "neti", CAT)
    apart = [with_concepts(plain, emoji, [each]) for each in (staged, mapped)]
    both = with_concepts(plain, emoji, [staged, mapped])
    assert [each.concept_offset for each in both.denoiser.token_conditioners] == [0, 1]

    def text(model, prompt):
        encoded = encode_at(
            model.denoiser, to_prompt(model, prompt), jnp.float32(650)
        ).text
        layers = len(cross_sites(emoji.params["unet"]))
        return jnp.broadcast_to(encoded, (layers, *encoded.shape[-3:]))

    # The encoder is causal: up to the first concept the encoding is that of it alone.
    prompts = "a photo of a <v1> and a <v2>", "a photo of a <v2> and a <v1>"
    for i, (prompt, first) in enumerate(zip(prompts, apart, strict=True)):
        ours = text(both, prompt)
        word = prompt.split(" and ")[0]
        np.testing.assert_allclose(
            ours[:, :, :6], text(first, word)[:, :, :6], atol=1e-4
        )
        # Without its conditioner, a concept has the plain word's encoding.
        alone = both.denoiser.replace(
            token_conditioners=both.denoiser.token_conditioners[i : i + 1]
        )
        silent = both._replace(denoiser=alone)
        assert np.abs(ours - text(silent, prompt)).max() > 1e-2
