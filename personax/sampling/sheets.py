"""A sheet of pictures: prompts, or prompts and weights, by seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from personax.concepts.bind import Model
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.diffusion.guidance import Term
from personax.diffusion.img2img import Picture
from personax.sampling.attention import (
    AttentionOptions,
    Word,
    find_words,
    make_map_spec,
)
from personax.sampling.img2img import PictureOptions, start_from_picture
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import Decoder
from personax.sampling.setup import SamplingSetup


@dataclasses.dataclass(frozen=True)
class SheetOptions:
    """What a sheet shows.

    Each of the `rows` is a prompt of its own, which the `prompts` and the `terms` join;
    without rows the sheet is one prompt. `weights` are the columns; without them all
    prompts have the weight `guidance`.
    """

    prompts: tuple[str, ...] = ()
    guidance: float = 3.0
    rows: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    terms: tuple[TermSpec, ...] = ()
    picture: PictureOptions | None = None
    attention: AttentionOptions | None = None
    decoder: Decoder = "whole"
    own_trajectory: bool = False

    def __post_init__(self):
        if self.weights and not (self.prompts or self.rows):
            raise ValueError("--grid weights=… needs --prompt or --prompts.")


class Cell(NamedTuple):
    """The terms of one place in the sheet."""

    row: str
    column: str
    term_specs: tuple[TermSpec, ...]


class Sheet(NamedTuple):
    """A sheet that is ready to be drawn."""

    setup: SamplingSetup
    cells: list[Cell]
    terms: tuple[TermSpec, ...]  # those that all cells share
    picture: Picture | None
    words: list[Word]


class Drawn(NamedTuple):
    """The pictures of each cell, and the attention maps of a single one."""

    pictures: list[list[Pixels]]
    attention_maps: Float[np.ndarray, "j b y x n"] | None


def lay_out(options: SheetOptions) -> list[Cell]:
    """The cells, row by row."""
    cells = []
    for line in options.rows or [None]:
        prompts = [*options.prompts, *([] if line is None else [line])]
        for weight in options.weights or [options.guidance]:
            term_specs = [*(TermSpec(prompt, weight) for prompt in prompts)]
            term_specs += options.terms
            column = f"weight {weight:g}" if options.weights else ""
            row = ", ".join(prompts) if line is None else line
            cells.append(Cell(row, column, tuple(term_specs or [TermSpec("", 1.0)])))
    return cells


def make_sheet(setup: SamplingSetup, options: SheetOptions) -> Sheet:
    """Check the terms and the options against the models.

    Raises FileNotFoundError or ValueError for invalid options.
    """
    cells = lay_out(options)
    for cell in cells:
        setup.check(cell.term_specs)
    picture, words, spec = None, [], None
    if options.picture is not None:
        setup, picture = start_from_picture(setup, options.picture)
    if options.attention is not None:
        if len(cells) > 1:
            raise ValueError(
                f"--attention needs a single prompt; the sheet has {len(cells)}."
            )
        words = find_words(options.attention.words, setup.models, cells[0].term_specs)
        base, shape = setup.models["base"], setup.sampler.shape
        spec = make_map_spec(options.attention, base, shape)
    if options.own_trajectory:
        _check_own_trajectory(setup.models, picture, words)
    sampler = dataclasses.replace(
        setup.sampler,
        decoder=options.decoder,
        attention=spec,
        own_trajectory=options.own_trajectory,
    )
    setup = dataclasses.replace(setup, sampler=sampler)
    return Sheet(setup, cells, options.terms, picture, words)


def _check_own_trajectory(
    models: Mapping[str, Model], picture: Picture | None, words: Sequence[Word]
) -> None:
    if all(model.denoiser.reference is None for model in models.values()):
        raise ValueError(
            "--f_stream own_trajectory needs a concept with a frozen stream, as "
            "Infusion trains it."
        )
    if words or (picture is not None and picture.repaint is not None):
        flag = "--attention" if words else "--mask"
        raise ValueError(f"{flag} needs --f_stream shared_latent.")


def draw_sheet(sheet: Sheet, watch: Stopwatch) -> Drawn:
    """All pictures of the sheet, by programs that are compiled once."""
    setup, count = sheet.setup, sheet.setup.options.num_images
    with watch("compile"):
        first = setup.terms(sheet.cells[0].term_specs)
        setup = setup.compile(first, sheet.picture)
    pictures, maps = [], []
    total = len(sheet.cells) * count
    with Progress(total=total, unit="image", desc="sampling") as progress:
        for cell in sheet.cells:
            terms = setup.terms(cell.term_specs)
            drawn = _draw_cell(setup, terms, sheet.picture, maps, watch)
            pictures.append(drawn[:count])
            progress.update(count)
    return Drawn(pictures, np.concatenate(maps, axis=1) if maps else None)


def _draw_cell(
    setup: SamplingSetup,
    terms: Sequence[Term],
    picture: Picture | None,
    maps: list[Any],
    watch: Stopwatch,
) -> list[Pixels]:
    """The pictures of one cell; their attention maps are appended to `maps`."""
    sampler, pictures = setup.sampler, []
    for indices in setup.batches():
        with watch("sample"):
            sampled = sampler.latents(setup.models, terms, setup.key, indices, picture)
            latents, attention_maps = jax.block_until_ready(sampled)
        if attention_maps is not None:
            maps.append(np.asarray(attention_maps))
        with watch("decode"):
            pictures += list(np.asarray(sampler.decode(latents)))
    return pictures
