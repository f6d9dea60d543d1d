"""What to load, how to sample and how to edit, as typed options."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from personax.core.config import LARGEST_SEED, LARGEST_SIDE
from personax.diffusion.alignment import DEFAULT, Kind, Window
from personax.loading import EMBEDDED

SPACINGS = ("leading", "trailing", "linspace", "karras")
# Inclusive ranges.
STEPS = (1, 1000)
COUNT = (1, 10**6)  # of pictures
SEEDS = (0, LARGEST_SEED)
SIDES = (1, LARGEST_SIDE)  # in pixels
LARGEST = 1e38  # of weights and factors, which are computed in float32


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """A base with concepts, and further models by name; see `load_models`.

    `base` None is the one that the concepts name. `dtype` None is float32 on a CPU and
    bfloat16 elsewhere. `reading` are the arguments of `load_base` that say how files
    are read, `any_base` is explained at `with_concepts`.
    """

    base: str | None = EMBEDDED
    concepts: Sequence[str] = ()
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    controls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dtype: str | None = None
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    any_base: bool = False


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """Solver, steps, size in pixels (height, width), and how many pictures.

    `solver`, `spacing` and `size` None are the base's own. Picture i depends on the
    seed and i alone. `eta` is the share of DDPM's noise in DDIM.
    """

    solver: str | None = None
    eta: float = 0.0
    spacing: str | None = None
    steps: int = 25
    size: tuple[int, int] | None = None
    negative: str = ""
    unconditional: str = "base"
    num_images: int = 4
    batch: int = 8
    seed: int = 0

    def __post_init__(self):
        _check_counts(self)
        check_range("eta", self.eta, 0, 1)
        for side in self.size or ():
            check_range("size", side, *SIDES)
        if self.spacing not in (None, *SPACINGS):
            raise ValueError(
                f"Unknown spacing {self.spacing!r}; expected one of "
                f"{', '.join(SPACINGS)}."
            )


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
        _check_counts(self)
        check_finite("guidance", self.guidance)
        for name in ("self_limit", "subtract_threshold", "blend_start"):
            check_range(name, getattr(self, name), 0, 1)
        if not all(0 <= number <= 1 for number in self.threshold):
            raise ValueError(f"The blend threshold {self.threshold} is not in [0, 1].")
        if self.subtract and not self.blend:
            raise ValueError("--subtract needs --blend, whose mask it reduces.")


def check_range(
    name: str, value: int | float, least: int | float, most: int | float
) -> None:
    """ValueError, with the option's name, for a value outside [least, most]."""
    if not least <= value <= most:
        raise ValueError(f"{name} must be in [{least:,}, {most:,}]; it is {value}.")


def check_finite(name: str, value: int | float) -> None:
    """ValueError, with the option's name, for a value that is not `finite`."""
    if not finite(value):
        raise ValueError(
            f"{name} must be a finite number of at most {LARGEST:g}; it is {value}."
        )


def finite(*values: int | float) -> bool:
    """Whether none is NaN, infinite, or too large for float32."""
    return all(abs(value) <= LARGEST for value in values)


def _check_counts(options: SamplingOptions | EditOptions) -> None:
    check_range("steps", options.steps, *STEPS)
    check_range("num_images", options.num_images, *COUNT)
    check_range("batch", options.batch, *COUNT)
    check_range("seed", options.seed, *SEEDS)
