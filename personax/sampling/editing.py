"""Prompt-to-Prompt edits: prepared from options, and drawn."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from personax.concepts.bind import Model, from_base, with_concepts
from personax.core import images
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.core.typing import Latents
from personax.diffusion import alignment, p2p
from personax.diffusion.p2p import Blend
from personax.diffusion.paired import Stream
from personax.diffusion.solvers import Grid, ddim
from personax.loading import Base, load_base
from personax.networks.compute import Compute
from personax.sampling import prompt_terms
from personax.sampling.edit_streams import (
    check_words,
    edit_term_specs,
    make_blend,
    make_streams,
    phrases_of,
)
from personax.sampling.inversion import InvertedImage, invert_picture
from personax.sampling.options import EditOptions, ModelOptions
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import decode_latents, start


class Edit(NamedTuple):
    """An edit that is ready to be drawn."""

    options: EditOptions
    base: Base
    models: dict[str, Model]  # "base", and "concept" with concepts
    term_specs: list[TermSpec]  # of the streams, the source first
    streams: list[Stream]
    blend: Blend | None
    grid: Grid
    pixels: Pixels | None  # the real picture

    @property
    def model(self) -> Model:
        """The model of the edits."""
        return self.models[self.term_specs[-1].model]

    @property
    def shape(self) -> tuple[int, int, int]:
        spec = self.model.denoiser.spec
        return spec.latent_shape(*spec.size)


class Edited(NamedTuple):
    """A row of pictures for each start, the source first."""

    rows: list[list[Pixels]]
    inverted: InvertedImage | None


def make_edit(models: ModelOptions, options: EditOptions) -> Edit:
    """Load the models and check the options against them.

    Raises FileNotFoundError or ValueError for invalid options.
    """
    pixels = images.read_image(options.image) if options.image else None
    base, named = _load(models, exact=pixels is not None)
    term_specs = edit_term_specs(named, options)
    prompt_terms.check(named, term_specs)
    tokenizer = named[term_specs[-1].model].tokenizer
    check_words(tokenizer, options)
    spec = named["base"].denoiser.spec
    grid = ddim().grid(spec.schedule, options.steps)
    streams = make_streams(named, term_specs, options)
    blend = make_blend(tokenizer, options)
    edit = Edit(options, base, named, term_specs, streams, blend, grid, pixels)
    if blend is not None:  # for its ValueError
        p2p.blend_side(spec.unet, (1, *edit.shape))
    return edit


def draw_edit(edit: Edit, watch: Stopwatch) -> Edited:
    """The source and its edits, from noise or from the inverted picture."""
    options, base = edit.options, edit.base
    denoisers = {name: model.denoiser for name, model in edit.models.items()}
    spec, vae = edit.models["base"].denoiser.spec, base.params["vae"]
    streams, inverted = edit.streams, None
    starts, count = _starts(options, edit.shape), options.num_images
    if edit.pixels is not None:
        with watch("invert"):
            inverted = invert_picture(
                vae,
                denoisers,
                streams[0],
                edit.grid,
                images.fit(edit.pixels, spec.size),
                null_text=options.inversion == "null_text",
            )
        streams = [
            dataclasses.replace(stream, null=inverted.null) for stream in streams
        ]
        starts, count = iter([inverted.start]), 1

    draw = jax.jit(functools.partial(p2p.draw, solver=ddim()))
    rows: list[list[Pixels]] = []
    with Progress(total=count, unit="image", desc="editing") as progress:
        for x in starts:
            with watch("edit"):
                latents = draw(
                    denoisers, streams, grid=edit.grid, x=x, blend=edit.blend
                )
                together = latents.reshape(-1, *edit.shape)
                pixels = np.asarray(decode_latents(spec, vae, together))
            pixels = pixels.reshape(*latents.shape[:2], *pixels.shape[1:])
            rows += [list(row) for row in pixels.swapaxes(0, 1)]
            progress.update(min(len(rows), count) - progress.n)
    return Edited(rows[:count], inverted)


def describe_streams(edit: Edit) -> list[dict[str, str]]:
    """The prompt and model of each stream, and the kind of each edit."""
    source, *edits = edit.term_specs
    out = [{"prompt": source.prompt, "model": source.model}]
    for term_spec in edits:
        kind = edit.options.kind
        if kind == "auto":
            texts = source.prompt, term_spec.prompt
            model = edit.models[term_spec.model]
            kind = alignment.pick_kind(model.tokenizer, *texts, phrases_of(model))
        prompt, name = term_spec.prompt, term_spec.model
        out.append({"prompt": prompt, "model": name, "kind": kind})
    return out


def _load(options: ModelOptions, *, exact: bool) -> tuple[Base, dict[str, Model]]:
    """The base and its models; an inversion needs float32."""
    exact = exact or jax.default_backend() == "cpu"
    compute = Compute(options.dtype or ("float32" if exact else "bfloat16"))
    base = load_base(options.base, param_dtype=compute.dtype, **options.reading)
    models = {"base": from_base(base, compute)}
    if options.concepts:
        models["concept"] = with_concepts(models["base"], base, options.concepts)
    return base, models


def _starts(options: EditOptions, shape: Sequence[int]) -> Iterator[Latents]:
    """The noise of every batch, the same that `personax.sample` starts from."""
    size = min(options.batch, options.num_images)
    key = jax.random.key(options.seed)
    for first in range(0, options.num_images, size):
        yield start(key, jnp.arange(first, first + size), shape)
