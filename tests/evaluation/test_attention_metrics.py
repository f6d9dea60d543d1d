"""The metric of attention against maps that are taken and summed up by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.concepts.bind import from_base
from personax.control.maps import Capture
from personax.core.tree import flat, nest
from personax.diffusion import schedule
from personax.diffusion.denoiser import encode, predict
from personax.evaluation.attention_metrics import activation
from personax.evaluation.samples import Generations
from personax.loading import load_base
from personax.methods import Concept
from personax.networks.tokenizer import tokenize
from tests.small_models import write_smaller

TEMPLATES = ("a photo of a {}", "a {} at night")
TIMES = (125, 375, 625, 875)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A base with attention maps that are not uniform."""
    model = from_base(load_base(write_smaller(tmp_path_factory.mktemp("base"))))
    unet = flat(model.denoiser.params["unet"])
    sharp = {k: 30 * x if "attn2/to_q" in k else x for k, x in unet.items()}
    params = model.denoiser.params | {"unet": nest(sharp)}
    return model._replace(denoiser=model.denoiser.replace(params=params))


def generations(model, phrase="big dog", word="dog"):
    """Two pictures of each prompt, of which the metric uses the first."""
    before = np.random.default_rng(0).normal(size=(4, 8, 8, 4)).astype(np.float32)
    templates = tuple(each for each in TEMPLATES for _ in range(2))
    return Generations(
        pixels=(),
        texts=tuple(each.replace("{}", word) for each in templates),
        templates=templates,
        class_words=(word,),
        targets=(),
        before=before,
        model=model._replace(concepts=(Concept("", word, (), (), phrase),)),
    )


@jax.jit
def captured_maps(*args):
    return predict(*args, controls=(Capture(places=("down", "up")),))[1]


def maps_by_hand(model, texts, at, x0):
    """The map of token `at[i]` of text i: the mean over times, sites and heads."""
    keys = jax.random.split(jax.random.key(3), len(TIMES))
    prompt = encode(model.denoiser, jnp.asarray(tokenize(model.tokenizer, texts)))
    maps = []
    for t, key in zip(TIMES, keys, strict=True):
        times = jnp.full(len(x0), t)
        eps = jax.random.normal(key, x0.shape)
        x = schedule.noise(model.denoiser.spec.schedule, x0, eps, times)
        captured = captured_maps(model.denoiser, x, times.astype(jnp.float32), prompt)
        maps += [
            np.stack([np.asarray(probs)[i, :, :, n].mean(0) for i, n in enumerate(at)])
            for probs in captured.values()
            if probs.shape[2] == 64
        ]
    return np.mean(maps, axis=0)


def test_it_is_the_mean_probability_where_the_base_s_map_is_above_half(plain):
    own = generations(plain)
    value = activation(plain, 20, seed=3)(own)["activation"]
    x0 = jnp.asarray(own.before[::2])
    # After the start: "a photo of a dog" and "a dog at night".
    base = maps_by_hand(plain, ["a photo of a dog", "a dog at night"], [5, 2], x0)
    prompts = ["a photo of a big dog", "a big dog at night"]
    own = maps_by_hand(plain, prompts, [6, 3], x0)
    assert all(0 < (x > x.max() / 2).mean() < 0.9 for x in base)
    inside = [y[x > x.max() / 2].mean() for x, y in zip(base, own, strict=True)]
    assert value.value == pytest.approx(np.mean(inside), rel=1e-4)
    assert (value.count, value.error > 0) == (2, True)


def test_it_does_not_apply_without_the_class_word_or_the_base_s_latents(plain):
    metric = activation(plain, 20, seed=3)
    assert metric(generations(plain, phrase="big one")) == {}
    assert metric(generations(plain)._replace(model=None)) == {}
    assert metric(generations(plain)._replace(before=None)) == {}
