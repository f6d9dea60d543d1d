"""Prompt-to-Prompt edits: prepared from options, drawn, and written.

The files: pictures with metadata, a labelled sheet, and edit.json.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from personax.concepts.bind import Model, from_base, with_concepts
from personax.concepts.load_models import load_named_base
from personax.core import images
from personax.core.files import write_json
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.diffusion import alignment, p2p
from personax.diffusion.p2p import Blend
from personax.diffusion.paired import Stream
from personax.diffusion.solvers import Grid, ddim
from personax.loading import Base
from personax.networks.compute import Compute
from personax.sampling import prompt_terms
from personax.sampling.concept_words import filled, remark
from personax.sampling.edit_streams import (
    check_words,
    edit_term_specs,
    make_blend,
    make_streams,
    phrases_of,
)
from personax.sampling.img2img import require_text_to_image
from personax.sampling.inversion import (
    InvertedImage,
    invert_picture,
    reconstruction_psnr,
)
from personax.sampling.metadata import picture_metadata
from personax.sampling.options import EditOptions, ModelOptions
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import decode_checked, start
from personax.sampling.setup import dtype_of, finite_or_none, not_finite

_WORDS = [
    "prompt",
    "edits",
    "factors",
    "cross",
    "within",
    "blend",
    "subtract",
    "threshold",
]


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


def make_edit(models: ModelOptions, options: EditOptions) -> Edit:
    """Load the models and check the options against them.

    Raises FileNotFoundError or ValueError for invalid options.
    """
    pixels = images.read_image(options.image) if options.image else None
    # An inversion needs float32.
    compute = Compute(dtype_of(models, exact=pixels is not None))
    reading = {"param_dtype": compute.dtype, **models.reading}
    base = load_named_base(models.base, models.concepts, reading)
    require_text_to_image(base, "editing")
    named = {"base": from_base(base, compute)}
    if models.concepts:
        named["concept"] = with_concepts(
            named["base"],
            base,
            models.concepts,
            any_base=models.any_base,
            allow_pickle=models.reading.get("allow_pickle", False),
        )
    model = list(named.values())[-1]
    prompt, *edits = filled(model, (options.prompt, *options.edits))
    options = dataclasses.replace(options, prompt=prompt, edits=tuple(edits))
    term_specs = edit_term_specs(named, options)
    prompt_terms.check(named, term_specs)
    remark({"base": model}, {"base": [prompt, *edits]})
    tokenizer = model.tokenizer
    check_words(tokenizer, options)
    spec = named["base"].denoiser.spec
    grid = ddim().grid(spec.schedule, options.steps)
    streams = make_streams(named, term_specs, options)
    blend = make_blend(tokenizer, options)
    edit = Edit(options, base, named, term_specs, streams, blend, grid, pixels)
    if blend is not None:  # for its ValueError
        p2p.blend_side(spec.unet, (1, *edit.shape))
    return edit


def draw_edit(
    edit: Edit, watch: Stopwatch
) -> tuple[list[list[Pixels | None]], InvertedImage | None]:
    """A row of pictures for each start, the source first, and a picture's inversion.

    A picture that is not finite is None. Raises RunFailedError if all are.
    """
    options, vae, streams = edit.options, edit.base.params["vae"], edit.streams
    denoisers = {name: model.denoiser for name, model in edit.models.items()}
    spec = denoisers["base"].spec
    inverted, count = None, options.num_images
    size, key = min(options.batch, count), jax.random.key(options.seed)
    # The same noise that `personax.sample` starts from.
    batches = (jnp.arange(i, i + size) for i in range(0, count, size))
    starts = (start(key, batch, edit.shape) for batch in batches)
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
        streams = [dataclasses.replace(x, null=inverted.null) for x in streams]
        starts, count = [inverted.start], 1

    draw = jax.jit(functools.partial(p2p.draw, solver=ddim()))
    rows: list[list[Pixels | None]] = []
    with Progress(total=count, unit="image", desc="editing") as progress:
        for x in starts:
            with watch("edit"):
                latents = draw(
                    denoisers, streams, grid=edit.grid, x=x, blend=edit.blend
                )
                together = latents.reshape(-1, *edit.shape)
                pixels = finite_or_none(decode_checked(spec, vae, together))
            n = latents.shape[1]  # latents are by stream, then by start
            by_stream = (pixels[i : i + n] for i in range(0, len(pixels), n))
            rows += [list(row) for row in zip(*by_stream, strict=True)]
            progress.update(min(len(rows), count) - progress.n)
    rows = rows[:count]
    if len(failed := not_drawn(rows)) == count * len(streams):
        raise not_finite(failed)
    return rows, inverted


def not_drawn(rows: Sequence[Sequence[Pixels | None]]) -> list[str]:
    """The files of the pictures that are not finite, which are not written."""
    return [
        name
        for index, row in enumerate(rows)
        for name, pixels in zip(_files(index, len(row)), row, strict=True)
        if pixels is None
    ]


def _files(index: int, count: int) -> list[str]:
    """The source's picture and its edits'."""
    return [
        f"{index:04d}.png",
        *(f"{index:04d}_edit{k}.png" for k in range(1, count)),
    ]


def write_edit(
    out: pathlib.Path,
    edit: Edit,
    rows: Sequence[Sequence[Pixels | None]],
    inverted: InvertedImage | None,
    concepts: Sequence[str] = (),
) -> dict[str, float]:
    """Write all pictures, grid.png and edit.json; {method: PSNR} of an inversion.

    Pictures that are None are left out. edit.json names the other files, which a later
    run may replace.
    """
    options, weight = edit.options, edit.options.guidance
    first = rows[0][0]
    psnr = {}
    if inverted and first is not None:
        psnr = reconstruction_psnr(inverted, first)
    settings = picture_metadata(
        edit.base, options, solver="ddim", guidance=weight, concepts=concepts
    )
    streams, records, files = describe_streams(edit), [], ["grid.png"]
    for index, row in enumerate(rows):
        names = _files(index, len(row))
        for name, picture, stream in zip(names, row, streams, strict=True):
            if picture is None:
                continue
            files.append(name)
            text = images.parameters(stream["prompt"], **settings)
            images.write_png(out / name, picture, {"parameters": text})
        records.append({"source": names[0], "edits": names[1:], "index": index})
    before = {}
    if inverted:
        before = {"the picture": inverted.pixels, **inverted.reconstructions}
    for name, picture in before.items():
        files.append(f"{name.replace(' ', '_')}.png")
        images.write_png(out / files[-1], picture)
    labels = [*before, *(stream["prompt"] for stream in streams)]
    tiles = [tile for row in rows for tile in (*before.values(), *row)]
    given = [x for x in ("Steps", "Seed", "Model", "Concept") if x in settings]
    details = ", ".join(f"{x}: {settings[x]}" for x in given)
    title = f"{options.prompt}\n{details}"
    sheet = images.grid(tiles, column_labels=labels, title=title)
    images.write_png(out / "grid.png", sheet)
    record = {
        "streams": streams,
        "words": {name: getattr(options, name) for name in _WORDS},
        "self_limit": options.self_limit,
        "compat": options.compat,
        "image": options.image,
        "inversion": options.inversion if inverted else None,
        "psnr": psnr,
        "settings": settings,
        "pictures": records,
        "files": files,
    }
    write_json(out / "edit.json", record)
    return psnr


def describe_streams(edit: Edit) -> list[dict[str, str]]:
    """The prompt and model of each stream, and the kind of each edit."""
    options, model = edit.options, edit.model
    streams = [{"prompt": x.prompt, "model": x.model} for x in edit.term_specs]
    for stream in streams[1:]:
        texts = options.prompt, stream["prompt"]
        stream["kind"] = options.kind
        if options.kind == "auto":
            phrases = phrases_of(model)
            stream["kind"] = alignment.pick_kind(model.tokenizer, *texts, phrases)
    return streams
