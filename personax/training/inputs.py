"""A run's input: the batches of its steps and of its validation loss."""

import jax
import jax.numpy as jnp
import numpy as np

from personax import methods
from personax.core import images
from personax.data.dataset import Dataset
from personax.data.masked import Masked
from personax.diffusion.denoiser import Denoiser
from personax.methods.losses import Batch
from personax.networks import vae
from personax.sampling.sampler import decode_latents
from personax.training.batches import Batcher, CaptionTokenizer, Source
from personax.training.datasets import with_priors
from personax.training.regularization import prior_set
from personax.training.setup import Run


def make_source(run: Run) -> tuple[Source, list[Batch]]:
    """The source of a run's batches, and the batches of its validation loss.

    Creates the regularisation sets that are missing, and encodes what stays the same.
    """
    priors = [
        prior_set(prior, run.base, run.plain, spec.concept.class_word, run.size)
        for prior, spec in zip(run.priors, run.specs, strict=True)
    ]
    dataset, held_out, batches = with_priors(run.dataset, priors), run.validation, []
    if run.base.spec.inpaints:
        factor, seed = run.base.spec.vae.factor, run.config.seed
        dataset = Masked(dataset, factor, seed)
        held_out = None if held_out is None else Masked(held_out, factor, seed)
    if held_out is not None:
        batcher = make_batcher(run, held_out)
        batches = [batcher(held_out.step(i)) for i in range(held_out.steps or 0)]
    return Source(dataset, make_batcher(run, dataset)), batches


def make_batcher(run: Run, dataset: Dataset) -> Batcher:
    """The batcher of a run's dataset."""
    return Batcher(
        dataset,
        run.base.params["vae"],
        run.plain.denoiser.spec,
        CaptionTokenizer(run.tokenizer, [each.handle for each in run.known]),
        run.mesh,
        pairs=run.pairs,
        frozen_text=_frozen_text(run),
    )


def training_tiles(run: Run) -> list[images.Pixels]:
    """Training pictures as the network sees them, without augmentation."""
    spec, params = run.plain.denoiser.spec, run.base.params["vae"]
    tiles = run.dataset.preview(8)
    for i, tile in enumerate(tiles):
        if tile.dtype != np.uint8:  # the mean of a picture's latents
            latents = vae.scale(spec.vae, jnp.asarray(tile, jnp.float32)[None])
            tiles[i] = np.asarray(decode_latents(spec, params, latents))[0]
    return tiles


def _frozen_text(run: Run) -> Denoiser | None:
    """The denoiser that encodes captions, where no part changes its text encoder."""
    denoiser = run.plain.denoiser
    bound = methods.bind(run.method, denoiser, run.theta)
    same = jax.tree.map(
        lambda a, b: a is b,
        bound.params["text_encoder"],
        denoiser.params["text_encoder"],
    )
    fixed = all(jax.tree.leaves(same)) and not bound.token_conditioners
    return denoiser if fixed else None
