"""Pictures that ControlNets follow: read, and added to the terms."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from personax.core import images
from personax.core.images import Pixels
from personax.data.edges import canny
from personax.diffusion.guidance import Term
from personax.diffusion.guidance_schedule import Schedule, weight_values
from personax.diffusion.solvers import Grid
from personax.diffusion.solvers.grid import steps_of
from personax.sampling.grammar import parse_weight


@dataclasses.dataclass(frozen=True)
class HintOptions:
    """{model: file} and {model: strength, in the grammar of weights}."""

    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    strengths: Mapping[str, str] = dataclasses.field(default_factory=dict)
    preprocess: Literal["canny"] | None = None


class ModelHint(NamedTuple):
    """The hint of one model."""

    pixels: Float[Array, "1 height width c"]  # in [0, 1]
    strength: float | Schedule

    @property
    def picture(self) -> Pixels:
        pixels = np.round(np.asarray(self.pixels[0]) * 255).astype(np.uint8)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()


def read_hints(
    options: HintOptions, controls: Collection[str], size: tuple[int, int]
) -> dict[str, ModelHint]:
    """{model: hint}, cropped to (height, width), of the models with ControlNets.

    Raises FileNotFoundError for a missing file, and ValueError for a file that is not a
    picture, and for a hint or strength without a ControlNet or the converse.
    """
    for name in controls:
        if name not in options.files:
            raise ValueError(
                f"--control {name}=…: the ControlNet needs a picture to follow; add "
                f"--hint {name}=FILE."
            )
    named = {"hint": options.files, "control_strength": options.strengths}
    for flag, names in named.items():
        for name in names:
            if name not in controls:
                raise ValueError(
                    f"--{flag} {name}=…: the model {name!r} has no ControlNet; add one "
                    f"with --control {name}=DIR."
                )
    hints = {}
    for name, file in options.files.items():
        pixels = images.fit(images.read_image(file), size)
        if options.preprocess == "canny":
            edges = canny(images.to_uint8(pixels))
            hint = edges[..., None].astype(np.float32) / 255
        else:
            hint = (pixels + 1) / 2
        strength = parse_weight(options.strengths.get(name, "1"))
        hints[name] = ModelHint(jnp.asarray(hint)[None], strength)
    return hints


def add_hints(
    terms: Sequence[Term], hints: Mapping[str, ModelHint], grid: Grid
) -> list[Term]:
    """The terms, with the hints of their models."""
    out = []
    for term in terms:
        if term.denoiser in hints:
            hint = hints[term.denoiser]
            strength = weight_values(hint.strength, steps_of(grid))
            term = dataclasses.replace(term, hint=hint.pixels, strength=strength)
        out.append(term)
    return out
