"""Attention metric: whether the class word still attends to its object."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from personax.concepts.bind import Model
from personax.core.typing import Latents
from personax.diffusion import attention_maps, schedule
from personax.diffusion.denoiser import Denoiser, Prompt, predict
from personax.evaluation.protocol import with_words
from personax.evaluation.results import Measurement
from personax.evaluation.samples import Generations, Metric, summarize
from personax.networks.tokenizer import concept_mask
from personax.sampling.prompt_terms import to_prompt

_TIMES = (0.125, 0.375, 0.625, 0.875)  # as fractions of the training timesteps


def activation(plain: Model, rounds: int, seed: int) -> Metric:
    """The class word's mean attention probability in the object's region.

    ClassDiffusion's cross-attention activation (Huang et al. 2024, sec. 3; see
    `attention_maps.strength`), of each prompt's first picture. The paper takes the maps
    while sampling. Here base and model attend to the same latents, the base's pictures
    of the class under noise at four timesteps, so that differences of their pictures do
    not contribute. Does not apply to concepts whose phrase lacks the class word.
    """

    def metric(generations: Generations) -> dict[str, Measurement]:
        model = generations.model
        if model is None or generations.before is None:
            return {}
        phrases = [concept.phrase for concept in model.concepts]
        # The first picture of each prompt.
        texts, templates = generations.texts, generations.templates
        first = [texts.index(text) for text in dict.fromkeys(texts)]
        own = [texts[i] for i in first]
        phrased = with_words([templates[i] for i in first], phrases)
        pairs = (plain, own), (model, phrased)
        masks = [
            concept_mask(each.tokenizer, prompts, generations.class_words)
            for each, prompts in pairs
        ]
        if not all(mask.any(axis=-1).all() for mask in masks):
            return {}
        x0 = jnp.asarray(generations.before[np.array(first)])
        before, after = (
            _word_maps(*pair, mask, x0, jax.random.key(seed))
            for pair, mask in zip(pairs, masks, strict=True)
        )
        strengths = [
            attention_maps.strength(y, attention_maps.object_region(x))
            for x, y in zip(before, after, strict=True)
        ]
        mean = np.mean(np.asarray(strengths, np.float64), axis=0)
        return summarize({"activation": mean}, own, rounds)

    return metric


def _word_maps(
    model: Model,
    texts: Sequence[str],
    mask: Bool[np.ndarray, "k b n"],
    x0: Latents,
    key: Key[Array, ""],
) -> list[Float[Array, "b y x"]]:
    """Each word's attention map, averaged over its tokens and the timesteps."""
    _, height, width, channels = x0.shape
    spec = attention_maps.make_map_spec(model.denoiser, (height, width, channels))
    capture = attention_maps.capture(model.denoiser, spec)
    encoded = to_prompt(model, *texts)
    steps = model.denoiser.spec.schedule.num_train_timesteps
    maps = sum(
        _map(capture, spec, x0, jnp.full(len(x0), int(share * steps)), encoded, own)
        for share, own in zip(_TIMES, jax.random.split(key, len(_TIMES)), strict=True)
    )
    mean = maps / len(_TIMES)
    return [
        (mean * tokens[:, None, None, :]).sum(-1) / tokens.sum(-1)[:, None, None]
        for tokens in jnp.asarray(mask)
    ]


def _mean_map(
    capture: Denoiser,
    spec: attention_maps.AttentionMapSpec,
    x0: Latents,
    t: Int[Array, " b"],
    encoded: Prompt,
    key: Key[Array, ""],
) -> Float[Array, "b y x n"]:
    eps = jax.random.normal(key, x0.shape)
    x = schedule.noise(capture.spec.schedule, x0, eps, t)
    _, captured = predict(capture, x, t.astype(jnp.float32), encoded)
    return attention_maps.mean_map(captured, spec)


_map = jax.jit(_mean_map)
