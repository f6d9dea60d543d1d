"""PNG metadata of a picture beside its prompt, under the names that tools use."""

from collections.abc import Sequence
from typing import Any

import personax
from personax.loading import Base
from personax.sampling.options import EditOptions, SamplingOptions


def picture_metadata(
    base: Base,
    options: SamplingOptions | EditOptions,
    *,
    sampler: str,
    guidance: float,
    size: tuple[int, int] | None = None,
    concepts: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """{name: value} without None; `size` is (height, width)."""
    settings = {
        "Steps": options.steps,
        "Sampler": sampler,
        "CFG scale": guidance,
        "Seed": options.seed,
        "Size": size and f"{size[1]}x{size[0]}",
        "Model": base.name,
        "Model hash": base.fingerprint[:10],
        "Version": f"personax {personax.__version__}",
        **more,
        "Concept": " ".join(concepts) or None,
    }
    return {name: value for name, value in settings.items() if value is not None}
