"""Metrics that compare a model with its base: latents, noise, embeddings, weights."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from personax.concepts.bind import Model
from personax.core import images
from personax.core.typing import Latents
from personax.data.captioned import read_captioned
from personax.data.sets import open_set
from personax.diffusion.encode import encode_pictures
from personax.evaluation.results import Measurement
from personax.evaluation.samples import Generations, Metric, summarize
from personax.loading import Base
from personax.metrics import drift as drift_rank
from personax.metrics import wasserstein as w2
from personax.metrics.change import by_group, rate_of_change
from personax.metrics.features import Features
from personax.metrics.fisher import divergences
from personax.networks import vae
from personax.networks.clip_text import pool_text
from personax.networks.compute import Compute
from personax.networks.tokenizer import tokenize
from personax.sampling.prompt_terms import to_prompt

_CAPTIONS = 64


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
        # All captions: another number of rows would compile another program.
        denoisers = plain.denoiser, model.denoiser
        prompts = to_prompt(plain, *captions), to_prompt(model, *captions)
        values = divergences(*denoisers, latents(), prompts, keys)
        rows = [
            i
            for i, caption in enumerate(captions)
            if not any(word in caption for word in generations.class_words)
        ]
        selected = [np.asarray(each, np.float64)[rows] for each in values]
        names = "fisher", "fisher_score"
        return summarize(dict(zip(names, selected, strict=True)), rows, rounds)

    return metric


def drift(plain: Model) -> Metric:
    """The rank of the concept's phrase among adjectives before the class word.

    Applies to one concept with a placeholder and the same embedding at all times.
    """

    def metric(generations: Generations) -> dict[str, Measurement]:
        model = generations.model
        if model is None or model.denoiser.token_conditioners:
            return {}
        if len(model.concepts) != 1 or not model.concepts[0].placeholder:
            return {}
        rank = drift_rank.rank_by_cosine(*phrase_features(plain, model))
        return {"drift": Measurement(rank.rank, None, rank.among)}

    return metric


def phrase_features(
    plain: Model, model: Model
) -> tuple[Features, Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Text features of the phrases with adjectives, the concept's, and the class."""
    concept = model.concepts[0]
    phrases = [*drift_rank.phrases(concept.class_word), f"a {concept.class_word}"]
    features = _text_features(plain, phrases)
    special = _text_features(model, [f"a {concept.phrase}"])[0]
    return features[:-1], special, features[-1]


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
        groups = by_group(rate_of_change(before, after))
        return {
            f"change_{name.partition('-')[0]}": Measurement(rate.mean, None, rate.count)
            for name, rate in groups.items()
        }

    return metric


def _captioned(
    source: str, base: Base, count: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`count` pictures of the base's size, and their captions."""
    if source == "scenes":
        pairs = list(map(open_set("scenes:seed=9").picture, range(count)))
    else:
        records = read_captioned(source)[:count]
        if len(records) < count:
            raise ValueError(f"{source} has {len(records)} pictures; {count} needed.")
        pairs = [(images.read_image(each.path), each.caption) for each in records]
    pixels, captions = zip(*pairs, strict=True)
    return np.stack([images.fit(each, base.spec.size) for each in pixels]), captions


def _encode(base: Base, pixels: np.ndarray) -> Latents:
    """The mean of the autoencoder's posterior of each picture, scaled."""
    config = base.spec.vae
    encode = functools.partial(encode_pictures, config=config, compute=Compute())
    batches = [jnp.asarray(x) for x in np.split(pixels, range(16, len(pixels), 16))]
    means = [encode(base.params["vae"], batch).mean for batch in batches]
    return vae.scale(config, jnp.concatenate(means))


def _text_features(model: Model, texts: Sequence[str]) -> np.ndarray:
    ids = jnp.asarray(tokenize(model.tokenizer, list(texts)))
    states = to_prompt(model, *texts, marked=False).text
    assert states is not None  # the model reads text
    return np.asarray(pool_text(model.denoiser.spec.text_encoder, ids, states))
