"""Pictures that ControlNets follow: their flags, read and given to the terms."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array, Float

from personax.cli.command import named_values
from personax.core import images
from personax.core.images import Pixels
from personax.data.edges import canny
from personax.diffusion.guidance import Term
from personax.diffusion.guidance_schedule import Schedule, parse_weight, weight_values
from personax.diffusion.solvers import Grid
from personax.diffusion.solvers.grid import steps_of


class Shown(NamedTuple):
    """What one model is shown."""

    pixels: Float[Array, "1 height width c"]  # in [0, 1]
    strength: float | Schedule

    @property
    def picture(self) -> Pixels:
        grey_or_colour = np.round(np.asarray(self.pixels[0]) * 255).astype(np.uint8)
        return np.broadcast_to(grey_or_colour, (*grey_or_colour.shape[:2], 3)).copy()


def define_flags() -> None:
    """The flags of ControlNets and what they follow; `read_hints` reads them."""
    many = flags.DEFINE_multi_string
    many(
        "control",
        [],
        "NAME=DIR: model NAME gets the ControlNet in DIR, in diffusers' layout or "
        "trained by personax. All terms of NAME follow the hint, its unconditional one "
        "too: --model edges=emoji --control edges=DIR leaves the base without.",
    )
    many("hint", [], "NAME=FILE: the picture that model NAME's ControlNet follows.")
    flags.DEFINE_enum(
        "preprocess", "none", ["none", "canny"], "What becomes of every --hint first."
    )
    many("control_strength", [], "NAME=1: of a ControlNet; as a --term's WEIGHT is.")


def read_hints(given: Any, size: tuple[int, int]) -> dict[str, Shown]:
    """{model: what it is shown}, cut to that (height, width).

    Raises FileNotFoundError or ValueError in one sentence.
    """
    controlled = named_values("control", given.control)
    files = named_values("hint", given.hint)
    strengths = named_values("control_strength", given.control_strength)
    _check_same(controlled, files, strengths)
    out = {}
    for name, file in files.items():
        pixels = images.read_image(file)
        if given.preprocess == "canny":
            cut = images.to_uint8(images.fit(pixels, size))
            shown = canny(cut)[..., None].astype(np.float32) / 255
        else:
            shown = (images.fit(pixels, size) + 1) / 2
        strength = parse_weight(strengths.get(name, "1"))
        out[name] = Shown(jnp.asarray(shown)[None], strength)
    return out


def give(terms: Sequence[Term], shown: Mapping[str, Shown], grid: Grid) -> list[Term]:
    """The terms, those of a model that is shown something with it."""
    out = []
    for term in terms:
        if term.denoiser in shown:
            hint = shown[term.denoiser]
            strength = weight_values(hint.strength, steps_of(grid))
            term = term.replace(hint=hint.pixels, strength=strength)
        out.append(term)
    return out


def _check_same(
    controlled: Collection[str], files: Collection[str], strengths: Collection[str]
) -> None:
    for name in controlled:
        if name not in files:
            raise ValueError(
                f"--control {name}=…: its ControlNet follows a picture: --hint "
                f"{name}=FILE."
            )
    for flag, names in (("hint", files), ("control_strength", strengths)):
        for name in names:
            if name not in controlled:
                raise ValueError(
                    f"--{flag} {name}=…: the model {name!r} has no ControlNet; give "
                    f"it one with --control {name}=DIR."
                )
