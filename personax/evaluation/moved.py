"""The judges that compare a model with its base: latents, noises and words."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from personax import images
from personax.data.captioned import read_captioned
from personax.data.rendered import open_scenes
from personax.denoiser import Prompt, encode
from personax.evaluation.answer import Answer, Judge, measured
from personax.evaluation.cells import Measured
from personax.loading import Base
from personax.metrics import drift as ranks
from personax.metrics import fisher as fisher_
from personax.metrics.wasserstein import wasserstein as distance
from personax.model import Model
from personax.networks import vae
from personax.networks.clip_text import pool_text
from personax.networks.tokenizer import tokenize, where
from personax.typing import Images, Latents, Params

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
    latents = _encode(base, pixels)
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
        own = [captions[i] for i in rows]
        found = fisher_.between(
            plain.denoiser,
            model.denoiser,
            latents[np.array(rows)],
            (_prompt(plain, own), _prompt(model, own)),
            keys[np.array(rows)],
        )
        total = np.asarray(found.total, np.float64)
        return measured({"fisher": total}, rows, rounds)

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


def _prompt(model: Model, captions: Sequence[str]) -> Prompt:
    ids = jnp.asarray(tokenize(model.tokenizer, list(captions)))
    if not model.concepts:
        return _read(model.denoiser, ids, None)
    handles = [concept.handle for concept in model.concepts]
    marks = jnp.asarray(where(model.tokenizer, list(captions), handles))
    return _read(model.denoiser, ids, marks)


def _features(model: Model, texts: Sequence[str]) -> np.ndarray:
    ids = jnp.asarray(tokenize(model.tokenizer, list(texts)))
    states = _read(model.denoiser, ids, None).text
    return np.asarray(pool_text(model.denoiser.spec.text_encoder, ids, states))


def _scaled_mode(params: Params, config: vae.VAEConfig, pixels: Images) -> Latents:
    return vae.scale(config, vae.encode(params, config, pixels).mean)


_read = jax.jit(encode)
_mode = jax.jit(_scaled_mode, static_argnums=1)
