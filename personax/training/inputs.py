"""A run's input: the batches of its steps and of its validation loss."""

import math

import jax
from ml_collections import ConfigDict

from personax import methods
from personax.core import images
from personax.diffusion.denoiser import Denoiser
from personax.methods.losses import Batch
from personax.training import streaming
from personax.training.few_shot import Feed, batch, make_feed
from personax.training.regularization import prior_set
from personax.training.setup import Run, fixed_data, language, make_data
from personax.training.source import Source, few_shot


def make_source(config: ConfigDict, run: Run) -> tuple[Source, list[Batch]]:
    """What the steps see and what the validation loss sees, frozen work done."""
    if run.material is not None:
        flow = _flow(run, frozen_text=_frozen_text(run))
        return streaming.make_source(flow), streaming.held_out(flow)
    priors = [
        prior_set(prior, run.base, run.plain, lesson.concept.class_word, run.size)
        for prior, lesson in zip(run.priors, run.lessons, strict=True)
    ]

    def make(data) -> Feed:
        return make_feed(
            data,
            run.base.params["vae"],
            run.plain.denoiser.spec,
            run.tokenizer,
            run.mesh,
            frozen_text=_frozen_text(run),
        )

    data, batches = make_data(config, run, priors), []
    if config.validation.every:
        fixed = make(fixed_data(config, run, data))
        number = math.ceil(config.validation.count / fixed.data.rows)
        batches = [batch(fixed, i) for i in range(number)]
    return few_shot(make(data)), batches


def _flow(run: Run, frozen_text: Denoiser | None = None) -> streaming.Flow:
    return streaming.make_flow(
        run.material,
        run.base.params["vae"],
        run.plain.denoiser.spec,
        language(run),
        run.mesh,
        frozen_text=frozen_text,
    )


def _frozen_text(run: Run) -> Denoiser | None:
    """What reads the captions once and for all, where no part changes how."""
    denoiser = run.plain.denoiser
    bound = methods.bind(run.method, denoiser, run.theta)
    same = jax.tree.map(
        lambda a, b: a is b,
        bound.params["text_encoder"],
        denoiser.params["text_encoder"],
    )
    return denoiser if all(jax.tree.leaves(same)) and not bound.words else None


def training_tiles(run: Run) -> list[images.Pixels]:
    """The training pictures as the network sees them, without augmentation."""
    if run.material is not None:
        return streaming.tiles(_flow(run), count=8)
    return [
        images.to_uint8(images.fit(pixels, run.size))
        for each in run.pictures
        for pixels in each
    ]
