"""Export concepts to the files that diffusers, ComfyUI, A1111 and Forge read."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from personax.concepts.bind import Model
from personax.concepts.exports import custom_diffusion, embedding, single_file
from personax.concepts.exports.changes import (
    Changes,
    Word,
    find_changes,
    find_words,
    obstacle,
)
from personax.concepts.exports.diff import diff_tensors, unread_by_comfyui
from personax.concepts.exports.factors import LowRank, low_rank, trained_factors
from personax.concepts.exports.kohya import metadata
from personax.concepts.exports.lora import kohya_metadata, kohya_tensors, peft_tensors
from personax.core.files import atomic_folder, atomic_write
from personax.core.tensor_file import write_tensors
from personax.core.tree import count, flat, nest
from personax.core.typing import Params
from personax.diffusion.denoiser import CONTROLNET
from personax.loading import Base
from personax.loading.write import (
    VARIANTS,
    check_dtype,
    write_controlnet,
    write_pipeline,
)
from personax.loading.write_tokenizer import vocabulary_size
from personax.methods.parts.tokens import TABLE


class Request(NamedTuple):
    """What to write, and where; see `check_request`."""

    out: pathlib.Path
    to: str = "diffusers"
    sources: Sequence[str] = ()  # the concepts, as in `with_concepts`
    dtype: str = "float32"
    rank: int | None = None  # of changes that no LoRA trained
    variant: str | None = None  # of the base's files


class Exported(NamedTuple):
    """What was written, and what its user should know, in sentences."""

    what: str
    notes: tuple[str, ...] = ()


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
    if request.rank is not None and request.rank < 1:
        raise ValueError(f"--rank {request.rank} must be at least 1.")
    if to in FILES and out.suffix != ".safetensors":
        raise ValueError(
            f"--to {to} writes one file; --out {out} must end in .safetensors."
        )
    for path in (out, embeddings_folder(out)) if to in FILES else (out,):
        if path.exists():
            raise ValueError(f"--out {path} exists; choose another path.")


def export(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None = None
) -> Exported:
    """Write the concepts bound in `model` as `request` asks; see `check_request`.

    `configs` is the folder with the base's config files, for --to diffusers. Files
    appear whole or not at all. Raises ValueError for concepts that the format cannot
    hold, with the nearest one that can.
    """
    if CONTROLNET in model.denoiser.params and request.to == "diffusers":
        return _controlnet(model, request)
    return FORMATS[request.to](model, base, request, configs)


def embeddings_folder(out: pathlib.Path) -> pathlib.Path:
    """The folder beside a file that holds its concepts' words."""
    return out.with_name(f"{out.stem}_embeddings")


def plain_unet(model: Model, base: Base) -> Params:
    """The model's UNet as an ordinary UNet; see `find_changes` for errors."""
    return _params(find_changes(model, base), base)["unet"]


def _controlnet(model: Model, request: Request) -> Exported:
    added, config = model.denoiser.params[CONTROLNET], model.denoiser.spec.controlnet
    assert config is not None  # a denoiser with a ControlNet has its config
    write_controlnet(request.out, added, config, dtype=request.dtype)
    use = f'ControlNetModel.from_pretrained("{request.out}").'
    return Exported(f"A ControlNet of {count(added):,} parameters", (use,))


def _diffusers(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None
) -> Exported:
    assert configs is not None  # the command finds them
    changes = find_changes(model, base)
    params = _params(changes, base)
    words = [token for word in changes.words for token in word.tokens]
    rows = [word.rows for word in changes.words]
    if rows:
        leaves, first = flat(params), vocabulary_size(base.tokenizer)
        table = np.asarray(leaves[TABLE], np.float32)
        # The table may have rows after the vocabulary's last token: those are replaced.
        leaves[TABLE] = np.concatenate(
            [table[:first], *rows, table[first + len(words) :]]
        )
        params = nest(leaves)
    variant = request.variant
    variant = variant if VARIANTS.get(variant or "") == request.dtype else None
    write_pipeline(
        request.out,
        configs,
        params,
        base.tokenizer,
        added=words,
        dtype=request.dtype,
        variant=variant,
    )
    more = f', variant="{variant}"' if variant else ""
    notes = [f'StableDiffusionPipeline.from_pretrained("{request.out}"{more}).']
    notes += [_in_pipeline(word) for word in changes.words]
    return Exported(f"A pipeline of {count(params):,} parameters", tuple(notes))


def _single_file(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None
) -> Exported:
    single_file.check(base.spec)
    changes = find_changes(model, base)
    params = _params(changes, base)
    tensors = single_file.ldm_tensors(params, base.spec, request.dtype)
    values = {"format": "pt", "modelspec.sai_model_spec": "1.0.0"}
    values["modelspec.architecture"] = "stable-diffusion-v1"
    values["modelspec.title"] = request.out.stem
    notes = _write_file(request, tensors, values, changes.words)
    return Exported(f"A checkpoint of {len(tensors)} tensors", notes)


def _lora(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None
) -> Exported:
    changes, low = _low_rank(model, base, request)
    tensors = kohya_tensors(low.factors, request.dtype)
    args = (base.spec, request.out, base.name, changes.words)
    notes = _write_file(request, tensors, kohya_metadata(low, *args), changes.words)
    use = f'pipe.load_lora_weights("{request.out}"), or a folder of LoRAs of a web UI.'
    what = f"A LoRA of {len(low.factors)} kernels"
    return Exported(what, (use, *_about(low), *notes))


def _lora_peft(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None
) -> Exported:
    changes, low = _low_rank(model, base, request)
    tensors = peft_tensors(low.factors, request.dtype)
    notes = _write_file(request, tensors, {"format": "pt"}, changes.words)
    use = f'pipe.load_lora_weights("{request.out}").'
    what = f"A LoRA of {len(low.factors)} kernels"
    return Exported(what, (use, *_about(low), *notes))


def _diff(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None
) -> Exported:
    changes = find_changes(model, base)
    tensors = diff_tensors(changes, request.dtype)
    if not tensors:
        raise ValueError(_no_weights(changes, request.to))
    values = metadata(
        base.spec,
        request.out,
        module="lycoris.kohya",
        rank="Dynamic",
        alpha="Dynamic",
        base=base.name,
        words=changes.words,
    )
    values["ss_network_args"] = '{"algo": "full"}'
    notes = list(_write_file(request, tensors, values, changes.words))
    unread = unread_by_comfyui(changes)
    if unread:
        notes.append(
            f"ComfyUI reads no norms and embeddings of the text encoder: {len(unread)} "
            "of these; --to single-file holds all."
        )
    return Exported(f"Differences of {len(tensors)} parameters", tuple(notes))


def _embedding(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None
) -> Exported:
    table = flat(model.denoiser.params)[TABLE]
    words = find_words(model.tokenizer, base.tokenizer, table)
    words = [word for word in words if word.trained]
    reason = obstacle(model.denoiser)
    if not words:
        nearest = (
            "personax.sample --concept uses it."
            if reason or CONTROLNET in model.denoiser.params
            else "--to lora and --to diff hold its weights."
        )
        raise ValueError(f"The concept has no trained word to export; {nearest}")
    embedding.check_names(words)
    with atomic_folder(request.out) as temporary:
        embedding.write_embeddings(temporary, words, request.dtype)
    notes = [_said(word) for word in words]
    if reason:
        notes.append(
            f"Not exact: the concept also {reason}, which no file of other programs "
            "holds. Only its word was written."
        )
    elif find_changes(model, base).paths():
        notes.append(
            "Not exact: the concept also changes weights, which are not in these "
            "files; --to diffusers, single-file, diff and lora hold them as well."
        )
    return Exported(f"Embeddings of {_listed(words)}", tuple(notes))


def _custom_diffusion(
    model: Model, base: Base, request: Request, configs: pathlib.Path | None
) -> Exported:
    changes = find_changes(model, base)
    if not changes.paths():
        raise ValueError(_no_weights(changes, request.to))
    custom_diffusion.check(changes)
    embedding.check_names(changes.words)
    with atomic_folder(request.out) as temporary:
        custom_diffusion.write(temporary, changes, request.dtype)
    notes = [
        f'pipe.unet.load_attn_procs("{request.out}", weight_name='
        f'"{custom_diffusion.WEIGHTS}", _pipeline=pipe); without _pipeline diffusers '
        "ignores the file."
    ]
    notes += [
        f'pipe.load_textual_inversion("{request.out}", weight_name='
        f'"{word.token}.safetensors").'
        for word in changes.words
    ]
    number = len(custom_diffusion.trained(changes))
    return Exported(f"Custom Diffusion of {number} parameters", tuple(notes))


Writer = Callable[[Model, Base, Request, pathlib.Path | None], Exported]

FORMATS: Mapping[str, Writer] = {
    "diffusers": _diffusers,
    "single-file": _single_file,
    "lora": _lora,
    "lora-peft": _lora_peft,
    "diff": _diff,
    "embedding": _embedding,
    "custom-diffusion": _custom_diffusion,
}
# Those that are one file; the others are folders.
FILES = ("single-file", "lora", "lora-peft", "diff")


def _params(changes: Changes, base: Base) -> Params:
    """{"unet", "vae", "text_encoder"} with the changes, the words apart."""
    return {**nest(changes.after), "vae": base.params["vae"]}


def _low_rank(model: Model, base: Base, request: Request) -> tuple[Changes, LowRank]:
    changes = find_changes(model, base)
    plain = {name: base.params[name] for name in ("unet", "text_encoder")}
    trained = trained_factors(plain, base.fingerprint, request.sources)
    low = low_rank(changes, trained, request.rank)
    if not low.factors:
        raise ValueError(_no_weights(changes, request.to))
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


def _write_file(
    request: Request,
    tensors: Mapping[str, np.ndarray],
    values: Mapping[str, str],
    words: Sequence[Word],
) -> tuple[str, ...]:
    """Write one file, and its words into a folder beside it; returns what to say."""
    files = [word for word in words if not word.text]
    embedding.check_names(files)
    notes = [_said(word) for word in words if word.text]
    if files:
        folder = embeddings_folder(request.out)
        with atomic_folder(folder) as temporary:
            for word in files:
                path = temporary / f"{word.name}.safetensors"
                embedding.write_word(path, word, request.dtype)
        notes.append(f"The words are in {folder}, for a folder of embeddings.")
        notes += [_said(word) for word in files]
    with atomic_write(request.out) as temporary:
        write_tensors(temporary, tensors, values)
    return tuple(notes)


def _said(word: Word) -> str:
    """How prompts of other programs write a word."""
    if word.text:
        return f"{word.token} stands for {word.text!r}, which prompts may say as well."
    said = f"diffusers: {word.token}"
    if len(word.rows) > 1:
        bare = " ".join(word.tokens)
        said += f" (pipelines expand it; the bare tokenizer reads {bare!r})"
    return f"{said}; A1111: {word.name}; ComfyUI: embedding:{word.name}."


def _in_pipeline(word: Word) -> str:
    """How prompts of an exported pipeline write a word."""
    said = f"Its tokenizer knows {word.token}"
    if len(word.rows) > 1:
        bare = " ".join(word.tokens)
        said += f": pipelines expand it, the bare tokenizer has to read {bare!r}"
    return f"{said}."


def _no_weights(changes: Changes, to: str) -> str:
    nearest = (
        "--to embedding holds its words."
        if changes.words
        else "it equals the base, and has no words either."
    )
    return f"The concept changes no weights that --to {to} could hold; {nearest}"


def _listed(words: Sequence[Word]) -> str:
    return ", ".join(word.token for word in words)
