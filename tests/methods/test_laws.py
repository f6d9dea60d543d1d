"""Laws of every method; an entry in `METHODS` adds a method to them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from personax import methods
from personax.concepts import artifact
from personax.core.tree import count, flat
from personax.diffusion.denoiser import CONTROLNET, Denoiser, encode
from personax.diffusion.guidance import cfg
from personax.diffusion.solvers import SOLVERS
from personax.methods import METHODS, Concept, Method, losses
from personax.methods.lora import TARGETS
from personax.methods.losses import Batch
from personax.methods.parts.prepared import put_prepared
from personax.methods.parts.tokens import TABLE, tokens
from personax.methods.parts.weights import lora, weights
from personax.networks.clip_text import init_clip_text
from personax.networks.unet import init_unet
from personax.networks.vae import Posterior
from personax.sampling.sampler import draw_latents
from personax.training.state import create
from personax.training.step import make_step
from tests.random_params import random_params
from tests.small_configs import ONE_BLOCK

pytestmark = pytest.mark.quick

CONCEPTS = [Concept("<v1>", "dog", (64,), (7,), phrase="<v1> dog")]
IDS = jnp.array([[62, 5, 64, 6, 63, 63, 63, 63, 63, 63, 63, 63]] * 2)
PLAIN = jnp.where(IDS == 64, 6, IDS)
# Captions, for the methods that require a corpus.
CORPUS = jax.random.randint(jax.random.key(5), (16, 12), 0, 62).at[:, -1].set(63)

# A ControlNet's input, at 8 pixels per latent cell; other methods ignore it.
HINT = jax.random.uniform(jax.random.key(6), (2, 64, 64, 3))

# Every method with its defaults, and arguments that use other parts.
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in METHODS}
CASES |= {
    "lora of everything": (
        "lora",
        {"rank": 2, "alpha": 6.0, "targets": tuple(TARGETS), "words": True},
    ),
    "controlnet": ("controlnet", {"channels": (4, 4, 4, 4)}),
    "low-rank custom_diffusion": ("custom_diffusion", {"rank": 4}),
    "custom_diffusion without words": ("custom_diffusion", {"words": False}),
    "dreambooth with text encoder": ("dreambooth", {"text_encoder": True}),
    "infusion in the text's width": ("infusion", {"delta_space": "text", "vectors": 2}),
    "infusion as released": (
        "infusion",
        {"frozen_maps": False, "train": "kv", "mask_norm": "squared"},
    ),
}
# Methods whose word does not start as the class word, and how it starts. As with all
# methods, a prompt without the word equals the base's.
STARTS_ELSEWHERE = {"neti": "a random direction with the norm of the class word's row"}
# Methods without text start near the base's prediction for the empty text.
WITHOUT_TEXT = ("concept_centric",)
every = pytest.mark.parametrize("case", CASES)

# With Adam's default epsilon, rounding errors of tiny gradients would be amplified.
TX = optax.adam(1e-2, eps=1e-3)


def small_denoiser() -> Denoiser:
    """One block down and up, whose gradient compiles in half the time of `tiny`'s."""
    key, spec = jax.random.key(0), ONE_BLOCK
    shapes = {
        "unet": jax.eval_shape(lambda: init_unet(key, spec.unet)),
        "text_encoder": jax.eval_shape(lambda: init_clip_text(key, spec.text_encoder)),
    }
    return Denoiser(random_params(shapes), spec=spec)


@pytest.fixture(scope="module")
def base():
    return small_denoiser()


class Trained(NamedTuple):
    """A method before and after three steps, and the traces of its loss."""

    method: Method
    base: Denoiser  # prepared for the method
    concepts: list[Concept]
    batch: Batch
    before: Any  # theta
    state: Any
    metrics: Any
    step: Any
    uncompiled: Any  # the same step
    traces: list


def concept_and_batch(method):
    """The concept and a batch, with the placeholder's ids as the method reads them."""
    own = (64,) if method.adds_tokens else CONCEPTS[0].initial
    ids = jnp.where(IDS == 64, own[0], IDS)
    mean, logvar = jax.random.normal(jax.random.key(3), (2, 2, 8, 8, 4))
    pairs = jnp.stack([ids[:1], PLAIN[:1]], axis=1)
    concept_mask = (ids == own[0])[:, None]
    batch = Batch(
        Posterior(mean, logvar),
        ids,
        plain=PLAIN,
        concept_mask=concept_mask,
        pairs=pairs,
        hint=HINT,
    )
    return [CONCEPTS[0]._replace(ids=own)], batch


def start(method, base, concepts, seed=1):
    theta = methods.init(method, jax.random.key(seed), base.params, concepts)
    return create(theta, TX.init(theta), jax.random.key(seed))


def train(method, base) -> Trained:
    concepts, batch = concept_and_batch(method)
    base = methods.prepare(method, base, CORPUS)
    traces = []

    def counted(denoiser, batch, keys):
        traces.append(len(traces))
        return method.loss(denoiser, batch, keys)

    state = start(method, base, concepts)
    before = jax.tree.map(np.array, state.theta)
    uncompiled = make_step(method._replace(loss=counted), TX)
    step = jax.jit(uncompiled)
    for _ in range(3):
        state, metrics = step(state, base, batch)
    return Trained(
        method, base, concepts, batch, before, state, metrics, step, uncompiled, traces
    )


@pytest.fixture(scope="module")
def trained(base):
    """A function from a case to its training, which runs once."""
    return functools.cache(
        lambda case: train(methods.make(CASES[case][0], **CASES[case][1]), base)
    )


_SOLVER = SOLVERS["ddim"]


def painted(denoiser, ids, weight):
    """Two latents sampled from a guided prompt in two steps."""
    marks = ((ids[:1] == 64) | (ids[:1] == 7))[None]
    prompt, null = encode(denoiser, ids[:1], marks), encode(denoiser, ids[1:])
    grid = _SOLVER.grid(denoiser.spec.schedule, 2)
    terms = cfg(prompt, null, weight)
    if CONTROLNET in denoiser.params:
        terms = [term.replace(hint=HINT) for term in terms]
    inputs = {"base": denoiser}, terms, grid, jax.random.key(4), jnp.arange(2)
    return draw_latents(_SOLVER, (8, 8, 4), *inputs).latents


picture = jax.jit(painted)
WEIGHT = jnp.float32(3.0)


@pytest.fixture(scope="module")
def inside(trained):
    """A function from a case to (a sampler that binds theta inside jit, its traces)."""

    @functools.cache
    def make(case):
        traces = []

        @jax.jit
        def run(theta, base, ids, weight):
            traces.append(case)
            return painted(methods.bind(trained(case).method, base, theta), ids, weight)

        return run, traces

    return make


def prompts(ids):
    """The concept's prompt and the empty one."""
    return jnp.concatenate([ids[:1], jnp.array([[62] + [63] * 11])])


@every
def test_it_starts_as_the_base(case, base, trained):
    done = trained(case)
    theta = jax.tree.map(jnp.asarray, done.before)
    bound = methods.bind(done.method, done.base, theta)
    ours = picture(bound, prompts(done.batch.ids), WEIGHT)
    plain = jnp.where(IDS == 64, 7, IDS)  # the placeholder's row starts as row 7
    want = picture(base, prompts(plain), WEIGHT)
    if case in WITHOUT_TEXT:
        empty = prompts(jnp.roll(prompts(IDS), 1, axis=0))
        np.testing.assert_array_equal(ours, picture(bound, empty, WEIGHT))
        null = picture(base, empty, jnp.float32(1.0))
        assert np.abs(ours - null).mean() < np.abs(ours - want).mean()
        return
    if case in STARTS_ELSEWHERE:
        assert np.abs(ours - want).max() > 1e-2
        wordless = prompts(jnp.where(IDS == 64, 5, IDS))
        ours = picture(bound, wordless, WEIGHT)
        want = picture(base, wordless, WEIGHT)
    np.testing.assert_allclose(ours, want, atol=1e-5)
    assert np.asarray(want).std() > 0.1


@every
def test_every_leaf_of_theta_moves(case, trained):
    done = trained(case)
    before, after = flat(done.before), flat(done.state.theta)
    still = [path for path, x in before.items() if (x == after[path]).all()]
    assert before
    assert not still


@every
def test_the_base_is_bitwise_unchanged(case, base, trained):
    trained(case)
    untouched = flat(small_denoiser().params)
    for path, leaf in flat(base.params).items():
        np.testing.assert_array_equal(leaf, untouched[path], err_msg=path)


@every
def test_the_optimiser_holds_theta_only(case, trained):
    done = trained(case)
    moments = [leaf for leaf in jax.tree.leaves(done.state.opt) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * count(done.before)


@every
def test_existing_rows_of_the_embedding_table_are_unchanged(case, base, trained):
    done = trained(case)
    table = flat(base.params)[TABLE]
    bound = flat(methods.bind(done.method, done.base, done.state.theta).params)[TABLE]
    assert bound.shape[0] == table.shape[0] + done.method.adds_tokens
    if "text_encoder" not in done.method.parts:
        np.testing.assert_array_equal(bound[: len(table)], table)


@every
def test_the_loss_and_the_gradient_norm_are_reported(case, trained):
    metrics = trained(case).metrics
    assert float(metrics["loss"]) > 0
    assert float(metrics["gradient_norm"]) > 0


@every
def test_saved_and_loaded_it_predicts_the_same(case, base, trained, tmp_path):
    done = trained(case)
    name, arguments = CASES[case]
    artifact.save(
        tmp_path / "concept",
        done.state.theta,
        done.concepts,
        method=name,
        method_args=arguments,
        base="small",
        fingerprint="f",
        prepared=methods.saved(done.method, done.base),
    )
    loaded = artifact.load(tmp_path / "concept", base.params, "f")
    assert loaded.concepts == tuple(done.concepts)
    ids = prompts(done.batch.ids)
    ready = base
    for saved, arrays in loaded.prepared.items():
        ready = put_prepared(ready, saved, arrays)
    ready = methods.prepare(loaded.method, ready)  # without a corpus
    np.testing.assert_array_equal(
        picture(methods.bind(loaded.method, ready, loaded.theta), ids, WEIGHT),
        picture(methods.bind(done.method, done.base, done.state.theta), ids, WEIGHT),
    )


@every
def test_bound_inside_jit_equals_bound_outside(case, base, trained, inside):
    done = trained(case)
    run, _ = inside(case)
    ids = prompts(done.batch.ids)
    bound = methods.bind(done.method, done.base, done.state.theta)
    outside = picture(bound, ids, WEIGHT)
    ours = run(done.state.theta, done.base, ids, WEIGHT)
    np.testing.assert_allclose(ours, outside, atol=1e-4)  # of latents of about 1


@every
def test_another_batch_prompt_or_weight_compiles_nothing(case, base, trained, inside):
    done = trained(case)
    traced = len(done.traces)
    other = jnp.roll(done.batch.ids, 1, axis=1)
    done.step(
        start(done.method, base, done.concepts, 9),
        done.base,
        done.batch._replace(ids=other),
    )
    assert len(done.traces) == traced
    run, traces = inside(case)
    first = run(done.state.theta, done.base, prompts(done.batch.ids), WEIGHT)
    again = run(done.state.theta, done.base, prompts(other), jnp.float32(7.5))
    assert len(traces) == 1
    assert (np.abs(first - again).max() > 1e-3) == (case not in WITHOUT_TEXT)


@every
def test_vmap_over_theta_equals_separate_training(case, base, trained):
    done = trained(case)
    batches = [
        done.batch,
        done.batch._replace(ids=jnp.roll(done.batch.ids, 1, axis=1)),
    ]
    states = [start(done.method, base, done.concepts, seed) for seed in (5, 6)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    both = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    together = jax.jit(jax.vmap(done.uncompiled, in_axes=(0, None, 0)))
    for _ in range(2):  # a low-rank A moves in the second
        stacked, _ = together(stacked, done.base, both)
        states = [
            done.step(state, done.base, batch)[0]
            for state, batch in zip(states, batches, strict=True)
        ]
    for i, state in enumerate(states):
        ours = flat(jax.tree.map(lambda x, i=i: x[i], stacked.theta))
        for path, leaf in flat(state.theta).items():
            # Only the order of summation differs; steps are 1e-2.
            np.testing.assert_allclose(ours[path], leaf, atol=1e-4, err_msg=path)


def test_parts_and_losses_compose_by_hand(base):
    method = Method(
        {
            "lora": weights(TARGETS["attention"], lora(2)),
            "tokens": tokens(),
        },
        losses.total(
            denoising=(1.0, losses.denoising()),
            semantic=(0.5, losses.semantic_preservation()),
        ),
    )
    done = train(method, base)
    after = flat(done.state.theta)
    assert {path.split("/")[0] for path in after} == {"lora", "tokens"}
    for path, leaf in flat(done.before).items():
        assert (leaf != after[path]).any(), path
    parts = done.metrics["loss/denoising"] + 0.5 * done.metrics["loss/semantic"]
    np.testing.assert_allclose(done.metrics["loss"], parts, rtol=1e-6)
    assert float(done.metrics["loss/semantic"]) > 0
