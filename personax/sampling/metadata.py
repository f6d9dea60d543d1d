"""PNG metadata of a picture beside its prompt, under the names that tools use."""

from collections.abc import Sequence
from typing import Any

import personax
from personax.loading import Base


def picture_metadata(
    base: Base,
    *,
    steps: int,
    sampler: str,
    guidance: float,
    seed: int,
    size: tuple[int, int] | None = None,
    concepts: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """{name: value}; `size` is (height, width)."""
    sides = {} if size is None else {"Size": f"{size[1]}x{size[0]}"}
    concept = {"Concept": " ".join(concepts)} if concepts else {}
    return {
        "Steps": steps,
        "Sampler": sampler,
        "CFG scale": guidance,
        "Seed": seed,
        **sides,
        "Model": base.name,
        "Model hash": base.fingerprint[:10],
        "Version": f"personax {personax.__version__}",
        **more,
        **concept,
    }
