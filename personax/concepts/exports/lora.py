"""LoRA files: kohya's dialect for web UIs and diffusers, and PEFT's."""

import json
import pathlib
from collections import Counter
from collections.abc import Mapping

import numpy as np

from personax.concepts.bind import Model
from personax.concepts.exports.changes import Changes, Word, find_changes
from personax.concepts.exports.factors import (
    Factors,
    LowRank,
    low_rank,
    trained_factors,
)
from personax.concepts.exports.kohya import kohya_name, metadata
from personax.concepts.exports.request import (
    Exported,
    Request,
    no_weights,
    write_file,
)
from personax.diffusion.spec import Spec
from personax.loading import Base
from personax.loading.names import from_layout, torch_name
from personax.loading.write import cast

Tensors = dict[str, np.ndarray]


def kohya_tensors(factors: Mapping[str, Factors], dtype: str) -> Tensors:
    """{"MODULE.lora_down.weight", "MODULE.lora_up.weight", "MODULE.alpha"}.

    A convolution's down has the kernel's shape, its up is 1x1. Two limits of diffusers
    0.42 are met: it applies the text encoder's q, k and v only if there is an out_proj,
    for which zeros are added; and it loses the alphas of attention layers if those of
    all modules are not equal, so they are.
    """
    tensors = {}
    for path, own in with_one_alpha(with_outputs(factors)).items():
        name = kohya_name(path)
        down, up = torch_factors(own)
        tensors[f"{name}.lora_down.weight"] = cast(name, down, dtype)
        tensors[f"{name}.lora_up.weight"] = cast(name, up, dtype)
        # In float32: the pair alpha, rank must not be rounded.
        tensors[f"{name}.alpha"] = np.asarray(own.alpha, np.float32)
    return tensors


def peft_tensors(factors: Mapping[str, Factors], dtype: str) -> Tensors:
    """{"unet.MODULE.lora_A.weight", "….lora_B.weight"}; alpha / r is part of B."""
    tensors = {}
    for path, own in factors.items():
        name = torch_name(path).removesuffix(".weight")
        down, up = torch_factors(own)
        up = np.float32(own.alpha / own.rank) * up
        tensors[f"{name}.lora_A.weight"] = cast(name, down, dtype)
        tensors[f"{name}.lora_B.weight"] = cast(name, up, dtype)
    return tensors


def torch_factors(factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """(down "r i" or "r i h w", up "o r" or "o r 1 1"), float32 in torch's layout."""
    down = from_layout("kernel", np.asarray(factors.A, np.float32))
    up = np.asarray(factors.B, np.float32).T
    up = up[:, :, None, None] if down.ndim == 4 else up
    return np.ascontiguousarray(down), np.ascontiguousarray(up)


def with_one_alpha(factors: Mapping[str, Factors]) -> dict[str, Factors]:
    """`factors` with the most frequent alpha; in the others B makes up for it."""
    alphas = Counter(own.alpha for own in factors.values())
    alpha = max(alphas, key=lambda each: (alphas[each], each))
    return {
        path: own
        if own.alpha == alpha
        else Factors(own.A, np.float32(own.alpha / alpha) * own.B, alpha)
        for path, own in factors.items()
    }


def with_outputs(factors: Mapping[str, Factors]) -> dict[str, Factors]:
    """`factors`, with zeros for the text encoder's outputs that it lacks."""
    out = dict(factors)
    for path, own in factors.items():
        module, _, projection = path.removesuffix("/kernel").rpartition("/")
        output = f"{module}/out_proj/kernel"
        if projection in ("q_proj", "k_proj", "v_proj") and output not in out:
            width = own.A.shape[0]
            zeros = np.zeros((width, 1), np.float32), np.zeros((1, width), np.float32)
            out[output] = Factors(*zeros, 1.0)
    return out


def kohya_metadata(
    low: LowRank, spec: Spec, out: pathlib.Path, base: str, words: tuple[Word, ...]
) -> dict[str, str]:
    """The file's metadata; dim and alpha are the largest module's."""
    factors = with_one_alpha(low.factors).values()
    largest = max(factors, key=lambda own: own.rank)
    values = metadata(
        spec,
        out,
        module="networks.lora",
        rank=largest.rank,
        alpha=float(largest.alpha),
        base=base,
        words=words,
    )
    conv = [own for own in factors if own.A.ndim == 4]
    if conv:
        widest = max(conv, key=lambda own: own.rank)
        arguments = {"conv_dim": str(widest.rank), "conv_alpha": f"{widest.alpha:g}"}
        values["ss_network_args"] = json.dumps(arguments)
    return values


def export_lora(model: Model, base: Base, request: Request) -> Exported:
    """Write kohya's dialect."""
    changes, low = _low_rank(model, base, request)
    tensors = kohya_tensors(low.factors, request.dtype)
    args = (base.spec, request.out, base.name, changes.words)
    notes = write_file(request, tensors, kohya_metadata(low, *args), changes.words)
    use = f'pipe.load_lora_weights("{request.out}"), or a folder of LoRAs of a web UI.'
    what = f"A LoRA of {len(low.factors)} kernels"
    return Exported(what, (use, *_about(low), *notes))


def export_peft(model: Model, base: Base, request: Request) -> Exported:
    """Write PEFT's dialect."""
    changes, low = _low_rank(model, base, request)
    tensors = peft_tensors(low.factors, request.dtype)
    notes = write_file(request, tensors, {"format": "pt"}, changes.words)
    use = f'pipe.load_lora_weights("{request.out}").'
    what = f"A LoRA of {len(low.factors)} kernels"
    return Exported(what, (use, *_about(low), *notes))


def _low_rank(model: Model, base: Base, request: Request) -> tuple[Changes, LowRank]:
    changes = find_changes(model, base)
    plain = {name: base.params[name] for name in ("unet", "text_encoder")}
    trained = trained_factors(plain, base.fingerprint, request.sources)
    low = low_rank(changes, trained, request.rank)
    if not low.factors:
        raise ValueError(no_weights(changes, request.to))
    return changes, low


def _about(low: LowRank) -> list[str]:
    """How exact the factors are."""
    notes = []
    trained = len(low.factors) - len(low.approximate)
    if trained:
        notes.append(f"{trained} kernels have the factors that were trained.")
    if low.approximate:
        rank = max(own.rank for own in low.approximate.values())
        notes.append(
            f"{len(low.approximate)} kernels are the nearest of rank {rank} by SVD, "
            f"relative residual {low.residual:.2e}."
        )
    if low.left_out:
        notes.append(
            f"{len(low.left_out)} biases, norms and embeddings are left out: a LoRA "
            f"cannot hold them, --to diff can. With them the residual is {low.lost:.2e}"
            " of all changes."
        )
    return notes
