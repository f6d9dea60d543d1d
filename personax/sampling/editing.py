"""Prompt-to-Prompt edits: options, streams, and the pictures that they draw."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from personax.concepts.bind import Model, from_base, with_concepts
from personax.core import images
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.core.typing import Latents
from personax.diffusion import alignment, p2p
from personax.diffusion.alignment import DEFAULT, Kind, Window
from personax.diffusion.p2p import Blend
from personax.diffusion.paired import Stream
from personax.diffusion.solvers import Grid, ddim
from personax.loading import Base, load_base
from personax.networks.compute import Compute
from personax.networks.tokenizer import (
    Tokenizer,
    concept_mask,
    positions,
    unknown_placeholders,
)
from personax.sampling import prompt_terms
from personax.sampling.inversion import InvertedImage, invert_picture
from personax.sampling.options import ModelOptions
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import decode_latents, start


@dataclasses.dataclass(frozen=True)
class EditOptions:
    """The prompts, how the edits follow the source, and how to sample.

    `factors` is {word: factor of its attention}; `cross` {word or DEFAULT: window} and
    `within` are the steps with the source's cross- and self-attention. `blend` and
    `subtract` are the words of the local blend, `threshold` is the source's and the
    edits'. `image` is a real picture to edit.
    """

    prompt: str
    edits: tuple[str, ...]
    kind: Kind = "auto"
    factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    cross: Mapping[str, Window] = dataclasses.field(
        default_factory=lambda: {DEFAULT: 0.8}
    )
    within: Window = 0.4
    self_limit: float = 0.5
    blend: tuple[str, ...] = ()
    subtract: tuple[str, ...] = ()
    threshold: tuple[float, float] = (0.3, 0.3)
    subtract_threshold: float = 0.3
    blend_start: float = 0.2
    compat: bool = False
    image: str | None = None
    inversion: Literal["null_text", "ddim"] = "null_text"
    guidance: float = 3.0
    steps: int = 50
    num_images: int = 4
    batch: int = 4
    seed: int = 0

    def __post_init__(self):
        if not all(0 <= number <= 1 for number in self.threshold):
            raise ValueError(f"The blend threshold {self.threshold} is not in [0, 1].")
        if self.subtract and not self.blend:
            raise ValueError("--subtract needs --blend, whose mask it reduces.")


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
    term_specs = _term_specs(named, options)
    prompt_terms.check(named, term_specs)
    tokenizer = named[term_specs[-1].model].tokenizer
    _check_words(tokenizer, options)
    spec = named["base"].denoiser.spec
    grid = ddim().grid(spec.schedule, options.steps)
    streams = _streams(named, term_specs, options)
    blend = _blend(tokenizer, options)
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
        streams = [stream.replace(null=inverted.null) for stream in streams]
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
            kind = alignment.pick_kind(model.tokenizer, *texts, _phrases(model))
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


def _term_specs(models: Mapping[str, Model], options: EditOptions) -> list[TermSpec]:
    """The term of each stream, the source first.

    The base draws the source unless its prompt has a concept, so that a concept can
    replace something that the base draws.
    """
    last = list(models)[-1]
    unknown = unknown_placeholders(models["base"].tokenizer, [options.prompt])
    source = TermSpec(options.prompt, options.guidance, last if unknown else "base")
    return [
        source,
        *(TermSpec(edit, options.guidance, last) for edit in options.edits),
    ]


def _check_words(tokenizer: Tokenizer, options: EditOptions) -> None:
    """Raise ValueError for a word that is in none of its prompts."""
    both = (options.prompt, *options.edits)
    for flag, words, prompts in (
        ("reweight", options.factors, options.edits),
        ("cross_replace", set(options.cross) - {DEFAULT}, options.edits),
        ("blend", options.blend, both),
        ("subtract", options.subtract, both),
    ):
        for word in words:
            if not any(positions(tokenizer, prompt, word) for prompt in prompts):
                quoted = ", ".join(map(repr, prompts))
                raise ValueError(f"The word {word!r} of --{flag} is not in {quoted}.")


def _streams(
    models: Mapping[str, Model], term_specs: Sequence[TermSpec], options: EditOptions
) -> list[Stream]:
    """The source, and the edits that follow it."""
    model = models[term_specs[-1].model]
    spec = model.denoiser.spec
    height, width, _ = spec.latent_shape(*spec.size)
    most = p2p.pixel_limit(spec.unet, height, width, options.self_limit)
    first, *others = [
        tuple(prompt_terms.to_terms(models, [term_spec], unconditional=term_spec.model))
        for term_spec in term_specs
    ]
    streams = [Stream(first)]
    for term_spec, terms in zip(term_specs[1:], others, strict=True):
        edit = term_spec.prompt
        follow = p2p.follow(
            model.tokenizer,
            options.prompt,
            edit,
            steps=options.steps,
            kind=options.kind,
            cross=_words_of(model.tokenizer, edit, options.cross),
            within=options.within,
            most=most,
            factors=_words_of(model.tokenizer, edit, options.factors),
            phrases=_phrases(model),
            compat=options.compat,
        )
        streams.append(Stream(terms, (None, follow)))
    return streams


def _words_of(
    tokenizer: Tokenizer, prompt: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of the words in this prompt; others may be in another edit's."""
    return {
        word: value
        for word, value in values.items()
        if word == DEFAULT or positions(tokenizer, prompt, word)
    }


def _phrases(model: Model) -> list[str]:
    """Phrases that count as one word: "<v1> dog" may replace "cat"."""
    return [concept.phrase for concept in model.concepts]


def _blend(tokenizer: Tokenizer, options: EditOptions) -> Blend | None:
    if not options.blend:
        return None

    def mask(words: Sequence[str]) -> Float[Array, "p 2 n"]:
        """Each stream's tokens of the words, in the prompt's term alone."""
        texts = (options.prompt, *options.edits)
        tokens = concept_mask(tokenizer, texts, words).any(0)
        return jnp.stack([jnp.zeros(tokens.shape), tokens.astype(np.float32)], 1)

    return Blend(
        words=mask(options.blend),
        threshold=jnp.asarray(options.threshold, jnp.float32),
        subtract=mask(options.subtract),
        subtract_threshold=jnp.asarray(options.subtract_threshold, jnp.float32),
        start=jnp.asarray(int(options.blend_start * options.steps)),
    )


def _starts(options: EditOptions, shape: Sequence[int]) -> Iterator[Latents]:
    """The noise of every batch, the same that `personax.sample` starts from."""
    size = min(options.batch, options.num_images)
    key = jax.random.key(options.seed)
    for first in range(0, options.num_images, size):
        yield start(key, jnp.arange(first, first + size), shape)
