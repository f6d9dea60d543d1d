"""Metrics that compare a model with its base: latents, noise, embeddings, weights."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from personax.concepts.bind import Model
from personax.core import images
from personax.core.typing import Latents
from personax.data.captioned import read_captioned
from personax.data.rendered import open_scenes
from personax.diffusion.denoiser import Prompt
from personax.diffusion.encode import encode_pictures, encode_prompts
from personax.evaluation.results import Measurement
from personax.evaluation.samples import Generations, Metric, summarize
from personax.loading import Base
from personax.metrics import drift as drift_rank
from personax.metrics import wasserstein as w2
from personax.metrics.change import by_group, rate_of_change
from personax.metrics.fisher import divergence, noises
from personax.networks import vae
from personax.networks.clip_text import pool_text
from personax.networks.compute import Compute
from personax.networks.tokenizer import concept_mask, tokenize

_CAPTIONS = 64
_BATCH = 16


def wasserstein(rounds: int) -> Metric:
    """W2 between the model's latents of the concept and the base's of the class.

    Both have the same prompts and seeds, and so the same number of pictures (Infusion,
    Zeng et al. 2024, def. 3.2). Latents are scaled, as the sampler returns them.
    """

    def metric(generations: Generations) -> dict[str, Measurement]:
        if generations.latents is None or generations.before is None:
            return {}
        after, before = generations.latents, generations.before

        def distance(rows: Shaped[np.ndarray, " _"]) -> float:
            rows = rows.astype(int)
            return w2.wasserstein(after[rows], before[rows])

        rows = np.arange(len(after), dtype=np.float64)
        return summarize({"w2": rows}, generations.texts, rounds, distance)

    return metric


def fisher(
    source: str,
    base: Base,
    plain: Model,
    rounds: int,
    seed: int,
    count: int = _CAPTIONS,
) -> Metric:
    """The latent Fisher divergence from the base, on captions without the concept.

    `source` is "scenes" for scenes of the emoji world, or a source of `read_captioned`.
    Captions with the class word are left out: Infusion changes those on purpose.
    """
    pixels, captions = _captioned(source, base, count)
    latents = functools.cache(lambda: _encode(base, pixels))  # computed on first use
    keys = jax.random.split(jax.random.key(seed), count)

    def metric(generations: Generations) -> dict[str, Measurement]:
        model = generations.model
        if model is None:
            return {}
        rows = [
            i
            for i, caption in enumerate(captions)
            if not any(word in caption for word in generations.class_words)
        ]
        # All captions: another number of rows would compile another program.
        denoisers = plain.denoiser, model.denoiser
        prompts = prompt(plain, captions), prompt(model, captions)
        eps, other, alpha_bar = noises(*denoisers, latents(), prompts, keys)
        weights = {"fisher": None, "fisher_score": alpha_bar}
        totals = {
            name: np.asarray(divergence(eps, other, alpha_bar=weight), np.float64)
            for name, weight in weights.items()
        }
        selected = {name: total[rows] for name, total in totals.items()}
        return summarize(selected, rows, rounds)

    return metric


def drift(plain: Model) -> Metric:
    """The rank of the concept's phrase among adjectives before the class word.

    Applies to one concept with a placeholder and the same embedding at all times.
    """

    def metric(generations: Generations) -> dict[str, Measurement]:
        model = generations.model
        if model is None or len(model.concepts) != 1:
            return {}
        if model.denoiser.token_conditioners:
            return {}
        concept = model.concepts[0]
        if not concept.placeholder:
            return {}
        class_word = concept.class_word
        phrases = [*drift_rank.phrases(class_word), f"a {class_word}"]
        features = _text_features(plain, phrases)
        special = _text_features(model, [f"a {concept.phrase}"])[0]
        rank = drift_rank.rank_by_cosine(features[:-1], special, features[-1])
        return {"drift": Measurement(rank.rank, None, rank.among)}

    return metric


def change(plain: Model) -> Metric:
    """The mean rate of change of the UNet's layers, per kind of layer.

    Of whole layers, as in Custom Diffusion (Kumari et al. 2023, sec. 3.1). Methods that
    act on embeddings and activations only have a rate of 0.
    """
    before = plain.denoiser.params["unet"]

    def metric(generations: Generations) -> dict[str, Measurement]:
        if generations.model is None:
            return {}
        after = generations.model.denoiser.params["unet"]
        groups = by_group(rate_of_change(before, after, per="layer"))
        return {
            f"change_{name.partition('-')[0]}": Measurement(rate.mean, None, rate.count)
            for name, rate in groups.items()
        }

    return metric


def prompt(model: Model, captions: Sequence[str]) -> Prompt:
    """The encoded captions, with the model's concepts marked."""
    ids = jnp.asarray(tokenize(model.tokenizer, list(captions)))
    if not model.concepts:
        return encode_prompts(model.denoiser, ids, None)
    handles = [concept.handle for concept in model.concepts]
    mask = jnp.asarray(concept_mask(model.tokenizer, list(captions), handles))
    return encode_prompts(model.denoiser, ids, mask)


def _captioned(
    source: str, base: Base, count: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`count` pictures of the base's size, and their captions."""
    if source == "scenes":
        scenes = open_scenes({"seed": "9", "count": str(count)})
        pairs = [
            (each.pixels, each.caption) for each in map(scenes.picture, range(count))
        ]
    else:
        records = read_captioned(source)[:count]
        if len(records) < count:
            raise ValueError(f"{source} has {len(records)} pictures; {count} needed.")
        pairs = [(images.read_image(each.path), each.caption) for each in records]
    pixels, captions = zip(*pairs, strict=True)
    return np.stack([images.fit(each, base.spec.size) for each in pixels]), captions


def _encode(base: Base, pixels: np.ndarray) -> Latents:
    """The mean of the autoencoder's posterior of each picture, scaled."""
    config, means = base.spec.vae, []
    for i in range(0, len(pixels), _BATCH):
        posterior = encode_pictures(
            base.params["vae"],
            jnp.asarray(pixels[i : i + _BATCH]),
            config=config,
            compute=Compute(),
        )
        means.append(posterior.mean)
    return vae.scale(config, jnp.concatenate(means))


def _text_features(model: Model, texts: Sequence[str]) -> np.ndarray:
    ids = jnp.asarray(tokenize(model.tokenizer, list(texts)))
    states = encode_prompts(model.denoiser, ids, None).text
    return np.asarray(pool_text(model.denoiser.spec.text_encoder, ids, states))
