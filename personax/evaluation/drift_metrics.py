"""The judges that compare a model with its base: latents, noises, words, weights."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from personax.concepts.bind import Model
from personax.core import images
from personax.core.typing import Images, Latents, Params
from personax.data.captioned import read_captioned
from personax.data.rendered import open_scenes
from personax.diffusion.denoiser import Prompt, encode
from personax.evaluation.results import Measured
from personax.evaluation.samples import Answer, Judge, measured
from personax.loading import Base
from personax.metrics import drift as ranks
from personax.metrics.change import by_group, rate_of_change
from personax.metrics.fisher import divergence, noises
from personax.metrics.wasserstein import wasserstein as distance
from personax.networks import vae
from personax.networks.clip_text import pool_text
from personax.networks.tokenizer import concept_mask, tokenize

_CAPTIONS = 64
_BATCH = 16


def wasserstein(rounds: int) -> Judge:
    """How far the class's pictures have moved: W2 of latents, as the sampler has them.

    Between the model's pictures of the concept and the base's of the class, at the same
    prompts and seeds, and so of equally many (Infusion, def. 3.2).
    """

    def judge(answer: Answer) -> dict[str, Measured]:
        if answer.latents is None or answer.before is None:
            return {}
        after, before = answer.latents, answer.before

        def between(rows) -> float:
            own = rows.astype(int)
            return distance(after[own], before[own])

        rows = np.arange(len(after), dtype=np.float64)
        return measured({"w2": rows}, answer.texts, rounds, between)

    return judge


def fisher(
    source: str,
    base: Base,
    plain: Model,
    rounds: int,
    seed: int,
    count: int = _CAPTIONS,
) -> Judge:
    """The latent Fisher divergence from the base, on captions that speak of others.

    `source` is "scenes" of the emoji world, or what `read_captioned` reads. Captions
    that hold the class word are left out: they are what Infusion changes on purpose.
    """
    pixels, captions = _captioned(source, base, count)
    # Not before there is something to judge.
    latents = functools.cache(lambda: _encode(base, pixels))
    keys = jax.random.split(jax.random.key(seed), count)

    def judge(answer: Answer) -> dict[str, Measured]:
        model = answer.model
        if model is None:
            return {}
        rows = [
            i
            for i, caption in enumerate(captions)
            if not any(word in caption for word in answer.class_words)
        ]
        # All captions each time: another number of rows would be another program.
        denoisers = plain.denoiser, model.denoiser
        prompts = prompt(plain, captions), prompt(model, captions)
        eps, other, bar = noises(*denoisers, latents(), prompts, keys)
        totals = {
            name: np.asarray(divergence(eps, other, alpha_bar=weight).total, np.float64)
            for name, weight in {"fisher": None, "fisher_score": bar}.items()
        }
        own = {name: each[rows] for name, each in totals.items()}
        return measured(own, rows, rounds)

    return judge


def drift(plain: Model) -> Judge:
    """The rank of the concept's words among adjectives before the class word.

    Of one concept with a word of its own, which means the same at all times.
    """

    def judge(answer: Answer) -> dict[str, Measured]:
        model = answer.model
        if model is None or len(model.concepts) != 1 or model.denoiser.words:
            return {}
        concept = model.concepts[0]
        if not concept.placeholder:
            return {}
        class_word = concept.class_word
        others = _features(plain, [*ranks.phrases(class_word), f"a {class_word}"])
        special = _features(model, [f"a {concept.phrase}"])[0]
        found = ranks.rank_by_cosine(others[:-1], special, others[-1])
        return {"drift": Measured(found.rank, None, found.among)}

    return judge


def change(plain: Model) -> Judge:
    """The rate of change of the UNet's layers, the mean of each kind of them.

    Of whole layers, as Custom Diffusion says it (Kumari et al. 2023, sec. 3.1). What
    acts on activations and words leaves every weight where it was.
    """
    before = plain.denoiser.params["unet"]

    def judge(answer: Answer) -> dict[str, Measured]:
        if answer.model is None:
            return {}
        after = answer.model.denoiser.params["unet"]
        found = by_group(rate_of_change(before, after, per="layer"))
        return {
            f"change_{name.partition('-')[0]}": Measured(each.mean, None, each.count)
            for name, each in found.items()
        }

    return judge


def _captioned(source: str, base: Base, count: int):
    """(pictures of the base's size, their captions)."""
    if source == "scenes":
        scenes = open_scenes({"seed": "9", "count": str(count)})
        found = [
            (each.pixels, each.caption) for each in map(scenes.picture, range(count))
        ]
    else:
        listed = read_captioned(source)[:count]
        if len(listed) < count:
            raise ValueError(f"{source} has {len(listed)} pictures of {count} needed.")
        found = [(images.read_image(each.path), each.caption) for each in listed]
    pixels, captions = zip(*found, strict=True)
    return np.stack([images.fit(each, base.spec.size) for each in pixels]), captions


def _encode(base: Base, pixels: np.ndarray) -> Latents:
    """The scaled latents that the autoencoder expects of each picture."""
    return jnp.concatenate(
        [
            _mode(
                base.params["vae"], base.spec.vae, jnp.asarray(pixels[i : i + _BATCH])
            )
            for i in range(0, len(pixels), _BATCH)
        ]
    )


def prompt(model: Model, captions: Sequence[str]) -> Prompt:
    """What the model's denoiser reads of these captions."""
    ids = jnp.asarray(tokenize(model.tokenizer, list(captions)))
    if not model.concepts:
        return _read(model.denoiser, ids, None)
    handles = [concept.handle for concept in model.concepts]
    marks = jnp.asarray(concept_mask(model.tokenizer, list(captions), handles))
    return _read(model.denoiser, ids, marks)


def _features(model: Model, texts: Sequence[str]) -> np.ndarray:
    ids = jnp.asarray(tokenize(model.tokenizer, list(texts)))
    states = _read(model.denoiser, ids, None).text
    return np.asarray(pool_text(model.denoiser.spec.text_encoder, ids, states))


def _scaled_mode(params: Params, config: vae.VAEConfig, pixels: Images) -> Latents:
    return vae.scale(config, vae.encode(params, config, pixels).mean)


_read = jax.jit(encode)
_mode = jax.jit(_scaled_mode, static_argnums=1)
