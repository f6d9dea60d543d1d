"""Perfusion: the gated edit against a dense formula, its target, several concepts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.control.gate import make_gate
from personax.core.tree import count, flat, overwrite
from personax.diffusion.denoiser import encode
from personax.methods.losses import Batch
from personax.methods.parts.base import Concept
from personax.methods.parts.tokens import TABLE
from personax.methods.perfusion import covariance, with_gate
from personax.networks.attention import Context, Site
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.unet import UNetConfig, init_unet
from personax.networks.vae import Posterior

pytestmark = pytest.mark.quick

CONCEPTS = [Concept("<v1>", "dog", (64,), (7,), phrase="<v1>")]
IDS = jnp.array([[62, 5, 64] + [63] * 9, [62, 64, 9] + [63] * 9])
PLAIN = jnp.where(IDS == 64, 6, IDS)
PAIRS = jnp.array([[[62, 5, 64] + [63] * 9, [62, 5, 6] + [63] * 9]])
CORPUS = jax.random.randint(jax.random.key(5), (40, 12), 0, 62).at[:, -1].set(63)
SITE = "down_blocks/0/attentions/0/transformer_blocks/0/attn2"
D, HEADS, WIDTH = 24, 8, 16


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def metric(seed=0):
    """The inverse of a covariance."""
    x = random(200, D, seed=seed)
    return np.linalg.inv(x.T @ x / 200)


def gate(targets, inverse, *, beta=0.6, tau=0.15):
    """(a gate, its W_K, W_V, o*_K and o*_V) of random layers."""
    W = {f"{SITE}/{name}": random(D, WIDTH, seed=i) for i, name in enumerate(NAMES)}
    new = {path: random(len(targets), WIDTH, seed=9 + i) for i, path in enumerate(W)}
    old = {path: jnp.asarray(targets @ kernel) for path, kernel in W.items()}
    directions = jnp.asarray(targets @ inverse)
    rows = jax.tree.map(jnp.asarray, new)
    control = make_gate(jnp.asarray(targets), directions, old, rows, beta, tau)
    return control, W, new


NAMES = ("to_k", "to_v")


def edited(control, W, text):
    """Keys and values "b n c" of a text, as the site has them after the edit."""
    edit = control(Site(SITE, "cross", "down", 64), Context()).kv
    k, v = (text @ W[f"{SITE}/{name}"] for name in NAMES)
    rows = edit(*(jnp.asarray(x).reshape(2, 5, HEADS, -1) for x in (k, v)), text)
    return [np.asarray(x).reshape(2, 5, WIDTH) for x in rows]


def test_the_edit_of_one_concept_matches_the_formula():
    text, e_star, inverse = random(2, 5, D), random(D, seed=1), metric()
    text[0, 1] = e_star
    text[1, 2] = 0.8 * e_star + 0.3 * random(D, seed=2)
    control, W, new = gate(e_star[None], inverse)
    ours = edited(control, W, jnp.asarray(text))
    for name, rows in zip(NAMES, ours, strict=True):
        kernel, o = W[f"{SITE}/{name}"], new[f"{SITE}/{name}"][0]
        for b in range(2):
            for n in range(5):
                e = text[b, n].astype(np.float64)
                sim, energy = e @ inverse @ e_star, e_star @ inverse @ e_star
                g = sigmoid((sim / energy - 0.6) / 0.15)
                want = (e - e_star * sim / energy) @ kernel + g * o
                np.testing.assert_allclose(rows[b, n], want, rtol=1e-4, atol=1e-4)


def test_at_its_target_an_open_gate_gives_the_new_key_and_value_exactly():
    e_star, inverse = random(D, seed=1), metric()
    control, W, new = gate(e_star[None], inverse, beta=-9.0)
    text = jnp.asarray(np.broadcast_to(e_star, (2, 5, D)))
    for name, rows in zip(NAMES, edited(control, W, text), strict=True):
        want = np.broadcast_to(new[f"{SITE}/{name}"][0], (2, 5, WIDTH))
        np.testing.assert_allclose(rows, want, rtol=1e-4, atol=1e-4)


def test_several_concepts_do_not_interfere():
    targets, inverse = random(3, D), metric()
    targets[1] = targets[0] + 0.3 * targets[1]  # two dogs
    control, _, _ = gate(targets, inverse)
    shares, gates = control.coordinates(jnp.asarray(targets[None]))
    np.testing.assert_allclose(shares[0], np.eye(3), atol=1e-3)
    opened = sigmoid((np.eye(3) - 0.6) / 0.15)
    np.testing.assert_allclose(gates[0], opened, atol=1e-2)
    # The remainder of any encoding is orthogonal to every target in the metric C^-1.
    e = random(1, 4, D, seed=3)
    rest = e - np.asarray(control.coordinates(jnp.asarray(e))[0]) @ targets
    np.testing.assert_allclose(rest[0] @ inverse @ targets.T, 0, atol=1e-3)


def test_concepts_of_the_same_target_share_it():
    targets = np.repeat(random(1, D), 2, axis=0)
    shares, _ = gate(targets, metric())[0].coordinates(jnp.asarray(targets[None]))
    np.testing.assert_allclose(shares, 0.5, atol=1e-3)


def test_a_target_of_zeros_changes_nothing():
    targets = np.stack([random(D), np.zeros(D, np.float32)])
    both, W, _ = gate(targets, metric())
    alone, _, _ = gate(targets[:1], metric())
    alone = alone.replace(new=jax.tree.map(lambda x: x[:1], both.new))
    text = jnp.asarray(random(2, 5, D, seed=4))
    for ours, want in zip(edited(both, W, text), edited(alone, W, text), strict=True):
        np.testing.assert_allclose(ours, want, atol=1e-5)
    # Its gradient is zero as well.
    grad = jax.grad(lambda gate: sum(x.sum() for x in kv(gate, text)))(both)
    assert not np.asarray(grad.new[f"{SITE}/to_v"][1]).any()


def kv(control, text):
    zeros = jnp.zeros((2, 5, HEADS, WIDTH // HEADS))
    return control(Site(SITE, "cross", "down", 64), Context()).kv(zeros, zeros, text)


def test_other_sites_are_unchanged():
    control, _, _ = gate(random(1, D), metric())
    site = Site(SITE.replace("attn2", "attn1"), "self", "down", 64)
    assert control(site, Context()).kv is None


@pytest.fixture(scope="module")
def method():
    return methods.make("perfusion", decay=0.9)


@pytest.fixture(scope="module")
def ready(method, tiny):
    return methods.prepare(method, tiny, CORPUS)


@pytest.fixture
def theta(method, tiny):
    return methods.init(method, jax.random.key(0), tiny.params, CONCEPTS)


def make_batch(ids=IDS):
    x = jnp.zeros((2, 8, 8, 4))
    concept_mask = (ids == 64)[:, None]
    return Batch(
        Posterior(x, x), ids, plain=PLAIN, concept_mask=concept_mask, pairs=PAIRS
    )


def encoded(tiny, theta, ids):
    """The text of the ids, with the concept's own row."""
    table = flat(tiny.params)[TABLE]
    table = jnp.concatenate([table, theta["tokens"]["embedding"]])
    params = overwrite(tiny.params, {TABLE: table}, resize=True)
    return np.asarray(encode(tiny.replace(params=params), ids).text)


def test_the_covariance_is_of_every_token_of_the_corpus(tiny):
    text = np.asarray(encode(tiny, CORPUS).text, np.float64)
    want = np.einsum("bnd,bne->de", text, text) / len(CORPUS)
    np.testing.assert_allclose(covariance(tiny, CORPUS), want, rtol=1e-4, atol=1e-3)


def test_what_is_prepared_is_the_inverse_with_its_ridge(tiny, ready):
    C = covariance(tiny, CORPUS)
    C += 1e-4 * np.trace(C) / D * np.eye(D)
    inverse = np.asarray(ready.prepared["inverse_covariance"], np.float64)
    np.testing.assert_allclose(inverse @ C, np.eye(D), atol=1e-2)


def test_the_target_starts_at_the_first_encoding_and_follows_slowly(
    method, tiny, ready, theta
):
    first = methods.after(method, ready, theta, make_batch())
    text = encoded(tiny, theta, IDS)
    e = (text[0, 2] + text[1, 1]) / 2
    np.testing.assert_allclose(first["edit"]["target"][0], e, atol=1e-4)
    moved = dict(first, tokens={"embedding": jnp.asarray(random(1, D, seed=7))})
    second = methods.after(method, ready, moved, make_batch())
    text = encoded(tiny, moved, IDS)
    want = 0.9 * e + 0.1 * (text[0, 2] + text[1, 1]) / 2
    np.testing.assert_allclose(second["edit"]["target"][0], want, atol=1e-4)
    inverse = ready.prepared["inverse_covariance"]
    direction = np.asarray(inverse) @ want
    np.testing.assert_allclose(second["edit"]["direction"][0], direction, rtol=1e-3)


def test_a_batch_without_the_concept_leaves_the_target(method, ready, theta):
    known = methods.after(method, ready, theta, make_batch())
    again = methods.after(method, ready, known, make_batch(PLAIN))
    for name in ("target", "direction"):
        ours, want = again["edit"][name], known["edit"][name]
        np.testing.assert_allclose(ours, want, rtol=1e-6)


def test_the_key_is_locked_to_the_class_word(method, tiny, ready, theta):
    known = methods.after(method, ready, theta, make_batch())
    control = methods.bind(method, ready, known).shared_controls["gate"]
    word = np.asarray(encode(tiny, PAIRS[:, 1]).text)[0, 2]
    kernels = flat(tiny.params["unet"])
    for path, row in control.new.items():
        want = word @ np.asarray(kernels[f"{path}/kernel"])
        np.testing.assert_allclose(row[0], want, rtol=1e-3, atol=1e-4)
    known["edit"] = {
        path: leaf + 1 if path.endswith("to_v") else leaf
        for path, leaf in known["edit"].items()
    }
    trained = methods.bind(method, ready, known).shared_controls["gate"]
    for path, row in control.new.items():
        change = trained.new[path] - row
        np.testing.assert_allclose(change, float(path.endswith("to_v")), atol=1e-4)


def test_only_the_word_and_the_values_get_a_gradient(method, ready, theta):
    known = methods.after(method, ready, theta, make_batch())
    keys = jax.random.split(jax.random.key(0), 2)

    def loss(theta):
        return method.loss(methods.bind(method, ready, theta), make_batch(), keys)[0]

    gradient = flat(jax.jit(jax.grad(loss))(known))
    fixed = {f"edit/{name}" for name in ("target", "direction", "word")}
    assert {path for path, leaf in gradient.items() if not leaf.any()} == fixed


def test_the_loss_uses_a_gate_of_its_own(method, ready, theta):
    bound = methods.bind(method, ready, theta)
    assert float(bound.shared_controls["gate"].beta[0]) == pytest.approx(0.65)
    assert float(bound.shared_controls["gate"].tau[0]) == pytest.approx(0.15)
    training = with_gate(bound, 0.75, 0.1).shared_controls["gate"]
    assert float(training.beta[0]) == pytest.approx(0.75)
    assert float(training.tau[0]) == pytest.approx(0.1)


def test_concepts_bound_in_turn_are_joined_in_one_gate(method, ready, theta):
    other = dict(theta, tokens={"embedding": jnp.asarray(random(1, D, seed=7))})
    thetas = [
        methods.after(method, ready, each, make_batch()) for each in (theta, other)
    ]
    both = methods.bind(method, methods.bind(method, ready, thetas[0]), thetas[1])
    (control,) = both.shared_controls.values()
    targets = jnp.stack([each["edit"]["target"][0] for each in thetas])
    np.testing.assert_array_equal(control.targets, targets)
    assert control.new.keys() == control.old.keys()
    shares, _ = control.coordinates(targets[None])
    np.testing.assert_allclose(shares[0], np.eye(2), atol=1e-2)


def test_training_without_a_corpus_is_refused(method, tiny, theta):
    assert methods.prepare(method, tiny) is tiny
    with pytest.raises(ValueError, match="no prepared 'inverse_covariance'"):
        methods.after(method, tiny, theta, make_batch())


def test_a_concept_without_a_placeholder_is_refused(method, tiny):
    unnamed = [CONCEPTS[0]._replace(placeholder="", ids=(), initial=())]
    with pytest.raises(ValueError, match="needs a placeholder"):
        methods.init(method, jax.random.key(0), tiny.params, unnamed)


def test_the_number_of_parameters_on_sd15(method):
    def start():
        key = jax.random.key(0)
        params = {
            "unet": init_unet(key, UNetConfig()),
            "text_encoder": init_clip_text(key, CLIPTextConfig()),
        }
        concepts = [CONCEPTS[0]._replace(ids=(49408,), initial=(1929,))]
        return methods.init(method, key, params, concepts)

    theta = jax.eval_shape(start)
    assert count(theta["tokens"]) == 768
    known = {name: theta["edit"].pop(name) for name in ("target", "direction", "word")}
    assert count(theta["edit"]) == 12_480
    assert count(known) == 3 * 768
