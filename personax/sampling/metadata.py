"""PNG metadata of a picture beside its prompt, in the terms of AUTOMATIC1111's web UI.

Programs that read those terms restore the prompt, the steps, the sampler, the seed and
the size of a picture that is dropped on them.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import personax
from personax.core.files import digest_file
from personax.loading import Base
from personax.sampling.options import EditOptions, SamplingOptions

# The web UIs' names of our solvers; ddpm and deis are known to some of them only.
SAMPLERS = {
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "plms": "PLMS",
    "lms": "LMS",
    "deis": "DEIS",
    "unipc": "UniPC",
    "lcm": "LCM",
}


def picture_metadata(
    base: Base,
    options: SamplingOptions | EditOptions,
    *,
    solver: str,
    guidance: float,
    karras: bool = False,
    size: tuple[int, int] | None = None,
    concepts: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """{name: value} without None; `size` is (height, width).

    The model of a single file has the file's stem as its name and the first ten digits
    of the file's SHA256 as its hash, as in the web UI; that of a directory its own name
    and the first digits of its fingerprint.
    """
    file = pathlib.Path(base.name)
    is_file = file.is_file()
    settings = {
        "Steps": options.steps,
        "Sampler": SAMPLERS[solver] + (" Karras" if karras else ""),
        "Schedule type": "Karras" if karras else None,
        "CFG scale": guidance,
        "Seed": options.seed,
        "Size": size and f"{size[1]}x{size[0]}",
        "Model": file.stem if is_file else base.name,
        "Model hash": (digest_file(file) if is_file else base.fingerprint)[:10],
        "Version": f"personax {personax.__version__}",
        **more,
        "Concept": " ".join(concepts) or None,
    }
    return {name: value for name, value in settings.items() if value is not None}
