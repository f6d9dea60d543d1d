"""The judge of attention: whether the class word is still looked at by its object."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from personax.concepts.bind import Model
from personax.core.typing import Latents
from personax.diffusion import attention_maps, schedule
from personax.diffusion.denoiser import Denoiser, Prompt, predict
from personax.evaluation.drift_metrics import prompt
from personax.evaluation.protocol import said
from personax.evaluation.results import Measured
from personax.evaluation.samples import Answer, Judge, measured
from personax.networks.tokenizer import concept_mask

_TIMES = (0.125, 0.375, 0.625, 0.875)  # of the schedule's training times


def activation(plain: Model, rounds: int, seed: int) -> Judge:
    """The class word's mean probability where the base sees the object.

    ClassDiffusion's cross-attention activation (Huang et al. 2024, sec. 3; see
    `heat.strength`), of each prompt's first picture. The paper's maps are those of a
    sampling; here base and model look at the same latents, the base's pictures of the
    class under noise, at four times, so that what each draws has no part in it. Nothing
    is said of a concept whose phrase lacks the class.
    """

    def judge(answer: Answer) -> dict[str, Measured]:
        model = answer.model
        if model is None or answer.before is None:
            return {}
        phrases = [concept.phrase for concept in model.concepts]
        # `texts` has a line for each picture: the first of each prompt.
        first = [answer.texts.index(text) for text in dict.fromkeys(answer.texts)]
        own = said([answer.templates[i] for i in first], phrases)
        asked = [answer.texts[i] for i in first]
        at = [
            concept_mask(each.tokenizer, texts, answer.class_words)
            for each, texts in ((plain, asked), (model, own))
        ]
        if not all(marks.any(axis=-1).all() for marks in at):
            return {}
        x0 = jnp.asarray(answer.before[np.array(first)])
        before, after = (
            _words(each, texts, marks, x0, jax.random.key(seed))
            for each, texts, marks in zip((plain, model), (asked, own), at, strict=True)
        )
        found = [
            attention_maps.strength(y, attention_maps.object_region(x))
            for x, y in zip(before, after, strict=True)
        ]
        mean = np.mean(np.asarray(found, np.float64), axis=0)
        return measured({"activation": mean}, asked, rounds)

    return judge


def _words(
    model: Model,
    texts: Sequence[str],
    marks: Bool[np.ndarray, "k b n"],
    x0: Latents,
    key: Key[Array, ""],
) -> list[Float[Array, "b y x"]]:
    """Each word's own map, the mean over its tokens and over the times."""
    shape = x0.shape[1:]
    look = attention_maps.make_look(model.denoiser, shape)
    capture, read = attention_maps.capture(model.denoiser, look), prompt(model, texts)
    steps = model.denoiser.spec.schedule.num_train_timesteps
    maps = sum(
        _map(capture, look, x0, jnp.full(len(x0), int(share * steps)), read, each)
        for share, each in zip(_TIMES, jax.random.split(key, len(_TIMES)), strict=True)
    )
    mean = maps / len(_TIMES)
    return [
        (mean * each[:, None, None, :]).sum(-1) / each.sum(-1)[:, None, None]
        for each in jnp.asarray(marks)
    ]


def _mean_map(
    capture: Denoiser,
    look: attention_maps.AttentionMapSpec,
    x0: Latents,
    t: Int[Array, " b"],
    read: Prompt,
    key: Key[Array, ""],
) -> Float[Array, "b y x n"]:
    eps = jax.random.normal(key, x0.shape)
    x = schedule.noise(capture.spec.schedule, x0, eps, t)
    _, kept = predict(capture, x, t.astype(jnp.float32), read)
    return attention_maps.mean_map(kept, look)


_map = jax.jit(_mean_map)
