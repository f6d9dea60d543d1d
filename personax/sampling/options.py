"""What to load and how to sample, as typed options."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from personax.loading import EMBEDDED

SPACINGS = ("leading", "trailing", "linspace", "karras")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """A base with concepts, and further models by name; see `load_models`.

    `dtype` None is float32 on a CPU and bfloat16 elsewhere. `config` is where a
    single-file checkpoint finds its configs.
    """

    base: str = EMBEDDED
    concepts: Sequence[str] = ()
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    controls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dtype: str | None = None
    variant: str | None = None
    allow_pickle: bool = False
    config: str | None = None

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `load_base` that say how files are read."""
        config = {} if self.config is None else {"config": self.config}
        return {"variant": self.variant, "allow_pickle": self.allow_pickle, **config}


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
        for name in ("steps", "num_images", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1; it is {getattr(self, name)}."
                )
        if self.spacing not in (None, *SPACINGS):
            raise ValueError(
                f"Unknown spacing {self.spacing!r}; expected one of "
                f"{', '.join(SPACINGS)}."
            )
