"""Export concepts to the files that diffusers, ComfyUI, A1111 and Forge read."""

from collections.abc import Callable, Mapping

from personax.concepts.bind import Model
from personax.concepts.exports.custom_diffusion import export_custom_diffusion
from personax.concepts.exports.diff import export_diff
from personax.concepts.exports.embedding import export_embedding
from personax.concepts.exports.lora import export_lora, export_peft
from personax.concepts.exports.pipeline import export_pipeline
from personax.concepts.exports.request import Exported, Request, embeddings_folder
from personax.concepts.exports.single_file import export_single_file
from personax.core.outputs import check_folder
from personax.loading import Base
from personax.loading.write import check_dtype

Writer = Callable[[Model, Base, Request], Exported]

FORMATS: Mapping[str, Writer] = {
    "diffusers": export_pipeline,
    "single-file": export_single_file,
    "lora": export_lora,
    "lora-peft": export_peft,
    "diff": export_diff,
    "embedding": export_embedding,
    "custom-diffusion": export_custom_diffusion,
}
MAX_RANK = 2**15
# Those that are one file; the others are folders.
FILES = ("single-file", "lora", "lora-peft", "diff")


def check_request(request: Request) -> None:
    """ValueError for a request that cannot be met, before anything is loaded."""
    to, out = request.to, request.out
    if to not in FORMATS:
        raise ValueError(
            f"Unknown format {to!r}; expected one of {', '.join(FORMATS)}."
        )
    check_dtype(request.dtype)
    if not request.sources and to not in ("diffusers", "single-file"):
        raise ValueError(
            f"--to {to} writes what concepts change; name one: personax.export CONCEPT "
            f"--to {to} --out PATH. Without concepts, --to diffusers and single-file "
            "write the base."
        )
    if request.rank is not None and to not in ("lora", "lora-peft"):
        raise ValueError(f"--rank is for --to lora and lora-peft, not --to {to}.")
    if request.rank is not None and not 1 <= request.rank <= MAX_RANK:
        raise ValueError(f"--rank {request.rank} must be in [1, {MAX_RANK}].")
    if to in FILES and out.suffix != ".safetensors":
        raise ValueError(
            f"--to {to} writes one file; --out {out} must end in .safetensors."
        )
    for path in (out, embeddings_folder(out)) if to in FILES else (out,):
        if path.is_symlink() or path.exists():
            raise ValueError(f"--out {path} exists; choose another path.")
    check_folder(out.absolute().parent)


def export(model: Model, base: Base, request: Request) -> Exported:
    """Write the concepts bound in `model` as `request` asks; see `check_request`.

    Files appear whole or not at all. Raises ValueError for concepts that the format
    cannot hold, with the nearest one that can.
    """
    return FORMATS[request.to](model, base, request)
