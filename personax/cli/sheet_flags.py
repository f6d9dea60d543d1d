"""The flags of a sheet of pictures."""

import pathlib
from typing import Any

from absl import flags

from personax.cli import command
from personax.core.files import read_lines
from personax.sampling.attention import AttentionOptions
from personax.sampling.grammar import parse_term
from personax.sampling.img2img import PictureOptions
from personax.sampling.options import finite
from personax.sampling.sheets import SheetOptions


def define_flags() -> None:
    """Define the flags that `sheet_options` reads, beside `sampling_flags`."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    path = command.define_path
    many("prompt", [], "A term with the weight --guidance.")
    flags.DEFINE_float("guidance", 3.0, "The weight of every --prompt.")
    path("prompts", None, "A file with one prompt per line, for a sheet.")
    text(
        "grid",
        "seeds",
        "The columns of the sheet: seeds, or weights=1,3,5 of every prompt, with a row "
        "for each prompt and picture.",
    )
    path("image", None, "A picture to start from: it is noised and denoised again.")
    path("mask", None, "Where to repaint --image: white is repainted, black is kept.")
    flags.DEFINE_float(
        "strength",
        None,
        "The share of the steps taken from the noised --image. Default: 0.6, and 1 "
        "with --mask.",
        0.0,
        1.0,
    )
    flags.DEFINE_enum(
        "decode",
        "whole",
        ["whole", "sliced", "tiled"],
        "How the autoencoder decodes; sliced and tiled need less memory.",
    )
    flags.DEFINE_enum(
        "f_stream",
        "shared_latent",
        ["shared_latent", "own_trajectory"],
        "Infusion's frozen stream: at the sampled latents, or on its own trajectory.",
    )
    text("attention", "", "Words, as in dog,hat: write their maps to attention.png.")
    flags.DEFINE_integer(
        "attention_side",
        0,
        "Rows of the maps. Default: a quarter of the latents' side, at least 8.",
        0,
    )
    flags.DEFINE_list("attention_places", "down,up", "Some of down, mid and up.")
    flags.DEFINE_list("attention_steps", "0,1", "First and last share of the steps.")


def inputs(given: Any) -> list[tuple[str, str | pathlib.Path]]:
    """(flag, path) of all that these flags read."""
    names = ("image", "mask", "prompts")
    return [(name, getattr(given, name)) for name in names if getattr(given, name)]


def sheet_options(given: Any) -> SheetOptions:
    """The flags as options. Raises ValueError or FileNotFoundError."""
    return SheetOptions(
        prompts=tuple(given.prompt),
        guidance=given.guidance,
        rows=_read_prompts(given.prompts) if given.prompts else None,
        weights=_parse_grid(given.grid),
        terms=tuple(map(parse_term, given.term)),
        picture=_picture_options(given),
        attention=_attention_options(given),
        decoder=given.decode,
        own_trajectory=given.f_stream == "own_trajectory",
    )


def _picture_options(given: Any) -> PictureOptions | None:
    if given.image is not None:
        return PictureOptions(given.image, given.mask, given.strength)
    for name in ("mask", "strength"):
        if getattr(given, name) is not None:
            raise ValueError(f"--{name} needs an --image.")


def _attention_options(given: Any) -> AttentionOptions | None:
    words = command.listed(given.attention)
    if not words:
        return None
    try:
        first, last = (float(share) for share in given.attention_steps)
    except ValueError:
        steps = ",".join(given.attention_steps)
        raise ValueError(f"--attention_steps {steps!r} is not FIRST,LAST, such as 0,1.")
    places = tuple(given.attention_places)
    return AttentionOptions(words, given.attention_side or None, places, (first, last))


def _parse_grid(text: str) -> tuple[float, ...] | None:
    """The weights of --grid, None for seeds."""
    if text == "seeds":
        return None
    name, _, values = text.partition("=")
    try:
        weights = tuple(float(part) for part in command.listed(values))
    except ValueError:
        weights = ()
    if name != "weights" or not weights or not finite(*weights):
        raise ValueError(f"--grid {text!r} is not seeds or weights=1,3,5.")
    return weights


def _read_prompts(path: str) -> tuple[str, ...]:
    """The lines of a file; lines that begin with # are comments."""
    lines = read_lines(pathlib.Path(path))
    prompts = tuple(line for line in lines if not line.startswith("#"))
    if not prompts:
        raise ValueError(f"{path} has no line with a prompt.")
    return prompts
