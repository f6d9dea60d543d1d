"""Null-text inversion: the published loop, and what it gives back of a picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.concepts.bind import from_base
from personax.core import images
from personax.data import emoji as world
from personax.diffusion import null_text_inversion, p2p
from personax.diffusion.denoiser import Prompt, predict
from personax.diffusion.guidance import Term, cfg, complete, guide
from personax.diffusion.paired import Stream
from personax.diffusion.sampling import invert_path, start_noise
from personax.diffusion.solvers import ddim
from personax.networks import vae
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import decode_latents
from tests.fast import USUAL

STEPS, IMAGES = 4, 2
GUIDANCE = 3.0


@jax.jit
def eps(denoiser, x, t, text):
    return predict(denoiser, x, t[None], Prompt(text))[0]


@pytest.fixture(scope="module")
def prompt_pair():
    keys = jax.random.split(jax.random.key(1), 2)
    return [Prompt(jax.random.normal(key, (1, 12, 24))) for key in keys]


@pytest.fixture(scope="module")
def grid(tiny_spec):
    return ddim().grid(tiny_spec.schedule, STEPS)


@pytest.fixture(scope="module")
def path(tiny, grid, prompt_pair):
    z0 = start_noise(jax.random.key(0), jnp.arange(IMAGES), (8, 8, 4))
    alone = [Term(prompt_pair[1], jnp.ones(()))]
    return jax.jit(lambda z: invert_path(guide({"base": tiny}, alone), grid, z))(z0)


def test_the_path_leads_from_noise_to_the_picture(tiny, grid, prompt_pair, path):
    assert path.shape == (STEPS + 1, IMAGES, 8, 8, 4)
    z0 = start_noise(jax.random.key(0), jnp.arange(IMAGES), (8, 8, 4))
    np.testing.assert_array_equal(path[-1], z0)
    # Step i undone from z_i+1: the row's own DDIM equation with eps taken there.
    row = jax.tree.map(lambda column: column[1], grid)
    noise = eps(tiny, path[2, :1], row.t, prompt_pair[1].text)
    z = (path[2, :1] - row.next_noise * noise) / row.next_signal
    expected = row.signal * z + row.noise * noise
    np.testing.assert_allclose(path[1, :1], expected, atol=1e-5)


def test_each_step_is_the_published_loop(tiny, grid, prompt_pair, path):
    """Written out, with Adam's own equations; tolerance 1e-4 on the text."""
    null, prompt = prompt_pair

    def advance(x, row, text, conditional):
        guided = eps(tiny, x, row.t, text)
        guided = guided + GUIDANCE * (conditional - guided)
        z0 = (x - row.noise * guided) / row.signal
        return row.next_signal * z0 + row.next_noise * guided

    @jax.jit
    def slope(text, x, row, conditional, goal):
        def loss(text):
            return ((advance(x, row, text, conditional) - goal) ** 2).mean()

        return jax.value_and_grad(loss)(text)

    x, text, counts, texts, losses = path[0, :1], null.text, [], [], []
    for i in range(STEPS):
        row = jax.tree.map(lambda column: column[i], grid)  # noqa: B023
        conditional = eps(tiny, x, row.t, prompt.text)
        of_fifty = i * 50 / STEPS
        first = second = jnp.zeros_like(text)
        for j in range(1, 11):
            loss, gradient = slope(text, x, row, conditional, path[i + 1, :1])
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            change = first / (1 - 0.9**j)
            change /= jnp.sqrt(second / (1 - 0.999**j)) + 1e-8
            text = text - 1e-2 * (1 - of_fifty / 100) * change
            if loss < 1e-5 + of_fifty * 2e-5:
                break
        counts.append(j)
        texts.append(text)
        losses.append(loss)
        x = advance(x, row, text, conditional)

    terms = cfg(prompt, null, jnp.float32(GUIDANCE))
    optimise = jax.jit(null_text_inversion.optimise)
    result = optimise({"base": tiny}, terms, grid, path)
    assert result.text.shape == (STEPS, IMAGES, 12, 24)
    np.testing.assert_array_equal(result.updates[:, 0], counts)
    np.testing.assert_allclose(result.text[:, :1], jnp.stack(texts), rtol=0, atol=1e-4)
    np.testing.assert_allclose(result.loss[:, 0], losses, rtol=1e-2)
    assert jnp.abs(result.text[-1, 0] - null.text[0]).max() > 0.05
    # Another picture is apart.
    swapped = optimise({"base": tiny}, terms, grid, path[:, ::-1])
    np.testing.assert_allclose(result.loss[:, 0], swapped.loss[:, 1], rtol=1e-2)


def test_it_stops_where_nothing_is_to_be_gained(tiny, grid, prompt_pair):
    """Guided with weight 1 the null text has no say, and the path is met at once."""
    null, prompt = prompt_pair
    terms = complete([Term(prompt, jnp.ones(()))], null)
    x = start_noise(jax.random.key(2), jnp.arange(1), (8, 8, 4))
    path = [x]
    for i in range(STEPS):
        row = jax.tree.map(lambda column: column[i], grid)  # noqa: B023
        noise = eps(tiny, path[-1], row.t, prompt.text)
        z = (path[-1] - row.noise * noise) / row.signal
        path.append(row.next_signal * z + row.next_noise * noise)
    result = jax.jit(null_text_inversion.optimise)(
        {"base": tiny}, terms, grid, jnp.stack(path)
    )
    np.testing.assert_array_equal(result.updates, 1)
    np.testing.assert_array_less(result.loss, 1e-5)


def test_a_rendered_scene_returns_within_half_a_decibel(emoji):
    """Guided null-text replay, against the autoencoder's own reconstruction."""
    model, steps = from_base(emoji), 25
    spec, params = model.denoiser.spec, emoji.params["vae"]
    scene = world.Scene(("cat-face", "noto"), "on the beach")
    picture = world.render(np.random.default_rng(1), world.load_sprites(), scene)
    grid = ddim().grid(spec.schedule, steps)
    term_spec = TermSpec(world.caption(scene), GUIDANCE)
    terms = tuple(prompt_terms.to_terms({"base": model}, [term_spec]))
    denoisers = {"base": model.denoiser}

    @jax.jit(compiler_options=USUAL)
    def run(params, denoisers, terms, picture):
        z0 = vae.scale(spec.vae, vae.encode(params, spec.vae, picture).mean)
        alone = [terms[1].replace(weight=jnp.ones(()))]
        path = invert_path(guide(denoisers, alone), grid, z0)
        null = null_text_inversion.optimise(denoisers, terms, grid, path).text
        streams = [Stream(terms), Stream(terms, null=null)]
        replays = p2p.draw(denoisers, streams, ddim(), grid, path[0])
        return jnp.concatenate([z0, *replays])

    latents = run(params, denoisers, terms, images.to_float(picture)[None])
    decoded = np.asarray(decode_latents(spec, params, latents))
    autoencoder, guided, replayed = (
        null_text_inversion.psnr(picture, x) for x in decoded
    )
    print(f"autoencoder {autoencoder:.2f}, DDIM {guided:.2f}, null {replayed:.2f} dB")
    assert abs(autoencoder - replayed) < 0.5
    assert guided < autoencoder - 1.0  # what the null text is there to mend


def test_psnr_is_that_of_bytes():
    black = np.zeros((4, 4, 3), np.uint8)
    assert null_text_inversion.psnr(black, black) == float("inf")
    assert null_text_inversion.psnr(black, black + 255) == 0
    assert null_text_inversion.psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
