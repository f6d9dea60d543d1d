"""A sheet of pictures: prompts, or prompts and weights, by seeds.

Its files: pictures with metadata, a labelled grid, and samples.json.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from personax.concepts.bind import Model
from personax.core import images
from personax.core.files import write_json
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.diffusion.attention_maps import make_map_spec
from personax.diffusion.guidance_schedule import to_json
from personax.diffusion.img2img import Picture
from personax.sampling.attention import (
    AttentionOptions,
    Word,
    find_words,
    write_attention,
)
from personax.sampling.concept_words import filled, remark
from personax.sampling.img2img import PictureOptions, start_from_picture
from personax.sampling.options import COUNT, check_finite, check_range
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import Decoder
from personax.sampling.setup import SamplingSetup, finite_or_none, not_finite

# A cell's pictures, None for those that are not finite.
Drawn = Sequence[Pixels | None]


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
        check_finite("guidance", self.guidance)
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


def lay_out(options: SheetOptions) -> list[Cell]:
    """The cells, row by row."""
    cells = []
    for line in options.rows or [None]:
        prompts = [*options.prompts, *([] if line is None else [line])]
        for weight in options.weights or [options.guidance]:
            term_specs = [*(TermSpec(x, weight) for x in prompts), *options.terms]
            column = f"weight {weight:g}" if options.weights else ""
            row = ", ".join(prompts) if line is None else line
            cells.append(Cell(row, column, tuple(term_specs or [TermSpec("", 1.0)])))
    return cells


def make_sheet(setup: SamplingSetup, options: SheetOptions) -> Sheet:
    """Check the terms and the options against the models.

    Raises FileNotFoundError or ValueError for invalid options.
    """
    _check_count(options, setup.options.num_images)
    options = _filled(setup.models["base"], options)
    cells = lay_out(options)
    prompts: dict[str, list[str]] = {}
    for cell in cells:
        setup.check(cell.term_specs)
        for term_spec in cell.term_specs:
            prompts.setdefault(term_spec.model, []).append(term_spec.prompt)
    remark(setup.models, prompts)
    words, spec = [], None
    setup, picture = start_from_picture(setup, options.picture)
    sampler, models = setup.sampler, setup.models
    if options.attention is not None:
        if len(cells) > 1:
            raise ValueError(
                f"--attention needs a single prompt; the sheet has {len(cells)}."
            )
        named, base = options.attention, models["base"].denoiser
        words = find_words(named.words, models, cells[0].term_specs)
        which = {"side": named.side, "places": named.places, "steps": named.steps}
        spec = make_map_spec(base, sampler.shape, **which)
    if options.own_trajectory:
        if all(model.denoiser.reference is None for model in models.values()):
            raise ValueError(
                "--f_stream own_trajectory needs a concept with a frozen stream, as "
                "Infusion trains it."
            )
        restores = picture is not None and picture.repaint is not None
        if words or (restores and not setup.sampler.spec.inpaints):
            flag = "--attention" if words else "--mask"
            raise ValueError(f"{flag} needs --f_stream shared_latent.")
    sampler = dataclasses.replace(
        sampler,
        decoder=options.decoder,
        attention=spec,
        own_trajectory=options.own_trajectory,
    )
    setup = dataclasses.replace(setup, sampler=sampler)
    return Sheet(setup, cells, options.terms, picture, words)


def _check_count(options: SheetOptions, num_images: int) -> None:
    """ValueError for a sheet of more pictures than COUNT allows."""
    cells = len(options.rows or [""]) * len(options.weights or [options.guidance])
    check_range("The number of pictures", cells * num_images, *COUNT)


def _filled(model: Model, options: SheetOptions) -> SheetOptions:
    """The options with their prompts `filled`."""
    count = len(options.prompts)
    prompts = filled(model, (*options.prompts, *(options.rows or ())))
    rows = None if options.rows is None else prompts[count:]
    return dataclasses.replace(options, prompts=prompts[:count], rows=rows)


def draw_sheet(
    sheet: Sheet, watch: Stopwatch
) -> tuple[list[Drawn], Float[np.ndarray, "j b y x n"] | None]:
    """The pictures of each cell, and the attention maps of a single one.

    The programs are compiled once. Raises RunFailedError if no picture is finite.
    """
    setup, picture = sheet.setup, sheet.picture
    sampler, count = setup.sampler, setup.options.num_images
    with watch("compile"):
        setup.compile(setup.terms(sheet.cells[0].term_specs), picture)
    drawn, maps = [], []
    total = len(sheet.cells) * count
    with Progress(total=total, unit="image", desc="sampling") as progress:
        for cell in sheet.cells:
            terms, pictures = setup.terms(cell.term_specs), []
            for indices in setup.batches():
                with watch("sample"):
                    arguments = setup.models, terms, setup.key, indices, picture
                    latents, captured = jax.block_until_ready(
                        sampler.latents(*arguments)
                    )
                if captured is not None:
                    maps.append(np.asarray(captured))
                with watch("decode"):
                    pictures += finite_or_none(sampler.decode_checked(latents))
            drawn.append(pictures[:count])
            progress.update(count)
    if len(failed := not_drawn(drawn)) == total:
        raise not_finite(failed)
    return drawn, np.concatenate(maps, axis=1) if maps else None


def not_drawn(drawn: Sequence[Drawn]) -> list[str]:
    """The files of the pictures that are not finite, which are not written."""
    pictures = (pixels for cell in drawn for pixels in cell)
    return [_file(i) for i, pixels in enumerate(pictures) if pixels is None]


def _file(number: int) -> str:
    return f"{number:04d}.png"


def write_sheet(
    out: pathlib.Path,
    sheet: Sheet,
    drawn: Sequence[Drawn],
    attention_maps: Float[np.ndarray, "j b y x n"] | None,
    metadata: Mapping[str, Any],
) -> None:
    """Write the pictures, grid.png, samples.json, hints and attention maps.

    Pictures that are None, not finite, are empty places of the grid. samples.json names
    the other files, which a later run may replace.
    """
    options, cells, records = sheet.setup.options, sheet.cells, []
    numbers = itertools.count()
    for cell, pictures in zip(cells, drawn, strict=True):
        prompt = " AND ".join(term_spec.prompt for term_spec in cell.term_specs)
        weight = {"CFG scale": cell.term_specs[0].weight} if cell.column else {}
        terms = {"terms": _described(cell.term_specs)}
        for index, pixels in enumerate(pictures):
            name = _file(next(numbers))
            if pixels is None:
                continue
            more = {**metadata, **weight, "Image index": index}
            text = images.parameters(prompt, options.negative, **more)
            images.write_png(out / name, pixels, {"parameters": text})
            record = {"file": name, "seed": options.seed, "index": index}
            records.append(record | (terms if len(cells) > 1 else {}))
    files = [each["file"] for each in records]
    for name, pixels in {
        "grid.png": _grid(sheet, drawn, metadata),
        **{f"hint_{name}.png": x.picture for name, x in sheet.setup.hints.items()},
    }.items():
        images.write_png(out / name, pixels)
        files.append(name)
    if attention_maps is not None:
        files += write_attention(out, drawn[0], attention_maps, sheet.words)
    record = {
        **({"terms": _described(cells[0].term_specs)} if len(cells) == 1 else {}),
        "negative": options.negative,
        "unconditional": options.unconditional,
        "settings": dict(metadata),
        "samples": records,
        "files": files,
    }
    write_json(out / "samples.json", record)


def _described(term_specs: Sequence[TermSpec]) -> list[dict[str, Any]]:
    return [{**each._asdict(), "weight": to_json(each.weight)} for each in term_specs]


def _grid(sheet: Sheet, drawn: Sequence[Drawn], metadata: Mapping[str, Any]) -> Pixels:
    """Rows are prompts, columns seeds or weights; a single prompt is about a square."""
    cells, names = sheet.cells, [f"image {index}" for index in range(len(drawn[0]))]
    details = ("Sampler", "Steps", "Seed", "Model", "Concept")
    given = [name for name in details if name in metadata]
    line = ", ".join(f"{name}: {metadata[name]}" for name in given)
    terms = cells[0].term_specs if len(cells) == 1 else sheet.terms
    title = "\n".join(filter(None, [" + ".join(map(str, terms)), line]))
    if len(cells) == 1:
        return images.grid(drawn[0], captions=names, title=title)
    columns = list(dict.fromkeys(cell.column for cell in cells))
    if columns == [""]:
        tiles, columns = [picture for pictures in drawn for picture in pictures], names
        rows = [cell.row for cell in cells]
    else:
        tiles, rows = [], []
        for start in range(0, len(cells), len(columns)):
            row = drawn[start : start + len(columns)]
            tiles += [tile for seed in zip(*row, strict=True) for tile in seed]
            rows += [f"{cells[start].row}\n{name}" for name in names]
    return images.grid(tiles, row_labels=rows, column_labels=columns, title=title)
