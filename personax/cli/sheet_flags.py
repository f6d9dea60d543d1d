"""The flags of a sheet of pictures."""

import math
import pathlib
from typing import Any

from absl import flags

from personax.cli import attention_flags, command, img2img_flags
from personax.core.files import read_lines
from personax.sampling.grammar import parse_term
from personax.sampling.sheets import SheetOptions


def define_flags() -> None:
    """Define the flags that `sheet_options` reads, beside `sampling_flags`."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    many("prompt", [], "A term with the weight --guidance.")
    flags.DEFINE_float("guidance", 3.0, "The weight of every --prompt.")
    text("prompts", None, "A file with one prompt per line, for a sheet.")
    text(
        "grid",
        "seeds",
        "The columns of the sheet: seeds, or weights=1,3,5 of every prompt, with a row "
        "for each prompt and picture.",
    )
    img2img_flags.define_flags()
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
    attention_flags.define_flags()


def sheet_options(given: Any) -> SheetOptions:
    """The flags as options. Raises ValueError or FileNotFoundError."""
    return SheetOptions(
        prompts=tuple(given.prompt),
        guidance=given.guidance,
        rows=_read_prompts(given.prompts) if given.prompts else None,
        weights=_parse_grid(given.grid),
        terms=tuple(map(parse_term, given.term)),
        picture=img2img_flags.picture_options(given),
        attention=attention_flags.attention_options(given),
        decoder=given.decode,
        own_trajectory=given.f_stream == "own_trajectory",
    )


def _parse_grid(text: str) -> tuple[float, ...] | None:
    """The weights of --grid, None for seeds."""
    if text == "seeds":
        return None
    name, _, values = text.partition("=")
    try:
        weights = tuple(float(part) for part in command.listed(values))
    except ValueError:
        weights = ()
    if name != "weights" or not weights or not all(map(math.isfinite, weights)):
        raise ValueError(f"--grid {text!r} is not seeds or weights=1,3,5.")
    return weights


def _read_prompts(path: str) -> tuple[str, ...]:
    """The lines of a file; lines that begin with # are comments."""
    lines = read_lines(pathlib.Path(path))
    prompts = tuple(line for line in lines if not line.startswith("#"))
    if not prompts:
        raise ValueError(f"{path} has no line with a prompt.")
    return prompts
