"""Merge concepts trained by Custom Diffusion into one concept, in closed form."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from personax.concepts import artifact, formats
from personax.concepts.artifact import Artifact
from personax.concepts.bind import Model, from_base, with_concepts
from personax.concepts.merge_kernels import (
    MergedKernels,
    TargetPrompt,
    merge_kernels,
    target_prompts,
    token_rows,
)
from personax.core.files import read_lines
from personax.core.text import fold
from personax.core.tree import flat, select
from personax.diffusion.encode import encode_prompts
from personax.loading import EMBEDDED, Base, embedded_world
from personax.methods import Concept
from personax.methods.parts.tokens import TABLE
from personax.networks.tokenizer import tokenize

RIDGE = 1e-6
_NUM_CAPTIONS = 1000  # as in the paper
_BATCH = 16


class SourceConcept(NamedTuple):
    """A concept to merge, as stored in its own folder."""

    folder: pathlib.Path
    concept: Concept
    phrase: str
    prompts: list[str]  # the prompts it was trained with


class Source(NamedTuple):
    """One of the folders to merge."""

    artifact: Artifact
    model: Model  # the base with the artifact bound
    concepts: list[SourceConcept]


class MergeResult(NamedTuple):
    """The merged kernels and the concepts, before and after the merge."""

    kernels: MergedKernels
    sources: list[SourceConcept]
    concepts: list[Concept]  # the same ones, with their new placeholders and ids
    num_tokens: int  # of the regularisation text


def merge(
    base: Base,
    folders: Sequence[pathlib.Path],
    out: pathlib.Path,
    captions: Sequence[str],
    *,
    ridge: float = RIDGE,
    allow_pickle: bool = False,
) -> MergeResult:
    """Write the concepts of these folders to `out` as one concept.

    A folder may also be a Custom Diffusion file of another program, see `formats`; its
    words stand for the concepts' phrases, in "photo of a <new1>".

    Raises ValueError for concepts that cannot be merged and for captions that do not
    have full rank; see `merge_kernels`.
    """
    plain = from_base(base)
    sources = [_read(base, plain, folder, allow_pickle) for folder in folders]
    before = [concept for source in sources for concept in source.concepts]
    concepts = with_unique_words(before, base.tokenizer.size)
    regularisation = _rows(plain, [TargetPrompt(caption, 1) for caption in captions])
    merged = merge_kernels(
        _kernels(select(plain.denoiser.params, "kv")),
        [_kernels(select(source.model.denoiser.params, "kv")) for source in sources],
        regularisation,
        [_target_rows(source) for source in sources],
        ridge=ridge,
    )
    rows = [flat(source.artifact.theta["tokens"])["embedding"] for source in sources]
    theta = {
        "weights": {path: W.astype(np.float32) for path, W in merged.kernels.items()},
        "tokens": {"embedding": np.concatenate(rows)},
    }
    artifact.save(
        out,
        theta,
        concepts,
        method="custom_diffusion",
        method_args={},
        base=base.name,
        fingerprint=base.fingerprint,
        prompts=[
            [x.replace(old.concept.placeholder, new.placeholder) for x in old.prompts]
            for old, new in zip(before, concepts, strict=True)
        ],
        merged_from=[str(folder) for folder in folders],
        ridge=ridge,
        captions=len(captions),
        residual_targets=merged.residual_targets,
        residual_regularisation=merged.residual_regularisation,
        growth=merged.growth,
    )
    return MergeResult(merged, before, concepts, len(regularisation))


def check_folders(folders: Sequence[pathlib.Path]) -> None:
    """ValueError for fewer than two folders, and for one that is given twice."""
    if len(folders) < 2:
        raise ValueError("A merge takes two concepts or more: personax.merge A B ….")
    resolved = [folder.resolve() for folder in folders]
    for folder, real in zip(folders, resolved, strict=True):
        if resolved.count(real) > 1:
            raise ValueError(f"The concept {folder} is given twice.")


def read_captions(base: Base, file: str | None) -> list[str]:
    """The captions on which the merged kernels should stay close to the base's.

    The lines of a file; without one, captions of the emoji world if the base is the
    embedded one. Raises ValueError for another base, and for a file without captions.
    """
    if file:
        captions = read_lines(pathlib.Path(file))
        if not captions:
            raise ValueError(f"{file} holds no captions.")
        return captions
    if base.name != EMBEDDED:
        raise ValueError(
            f"The base {base.name!r} needs --captions FILE, a few hundred image "
            f"captions, one a line; only the embedded base has captions of its own."
        )
    return embedded_world.captions(_NUM_CAPTIONS)


def with_unique_words(sources: Sequence[SourceConcept], size: int) -> list[Concept]:
    """All concepts in order, with ids from `size` on and distinct placeholders."""
    names = [source.concept.placeholder for source in sources]
    if len(set(map(fold, names))) < len(names):
        names = [f"<v{k}>" for k in range(1, len(names) + 1)]
    concepts = []
    for (_, concept, phrase, _), name in zip(sources, names, strict=True):
        ids = tuple(range(size, size + len(concept.ids)))
        phrase = phrase.replace(concept.placeholder, name)
        concepts.append(concept._replace(placeholder=name, ids=ids, phrase=phrase))
        size += len(ids)
    return concepts


def _read(base: Base, plain: Model, folder: pathlib.Path, allow_pickle: bool) -> Source:
    """The concept in `folder`; ValueError if it trains other than K, V and V*."""
    params = plain.denoiser.params
    kernels = select(params, "kv").keys()
    if formats.find(folder):
        size = base.tokenizer.size
        unet = base.spec.unet
        loaded = formats.read(
            folder, params, unet, size=size, allow_pickle=allow_pickle
        )
        every = [[f"photo of a {concept.phrase}"] for concept in loaded.concepts]
        whole = set(loaded.method.parts) == {"adapter", "tokens"}
        method = loaded.about["method"]
    else:
        loaded = artifact.load(folder, params, base.fingerprint, copies=base.copies)
        # Older files hold one concept with one "prompt".
        old = [[loaded.about["prompt"]]] if "prompt" in loaded.about else []
        every = loaded.about.get("prompts", old)
        trained = flat(loaded.theta.get("weights", {})).keys()
        whole = set(loaded.theta) == {"weights", "tokens"} and trained == kernels
        method = f"a concept of {loaded.about['method']}"
    if len(every) != len(loaded.concepts):
        raise ValueError(
            f"{folder / 'concept.json'} lacks the prompts of its concepts, which a "
            "merge preserves."
        )
    refusal = (
        f"{folder} is {method}; only concepts that train tokens and whole "
        "cross-attention keys and values can be merged (custom_diffusion's default)."
    )
    if not whole:
        raise ValueError(refusal)
    if artifact.earlier(folder):
        raise ValueError(
            f"{folder} was trained on top of another concept; only concepts that were "
            f"trained on the base can be merged."
        )
    model = with_concepts(plain, base, [str(folder)], allow_pickle=allow_pickle)
    before, after = flat(params), flat(model.denoiser.params)
    if {path for path in before if after[path] is not before[path]} - {
        TABLE
    } != kernels:
        raise ValueError(refusal)
    concepts = []
    for concept, prompts in zip(loaded.concepts, every, strict=True):
        phrase = concept.phrase or f"{concept.placeholder} {concept.class_word}"
        concepts.append(SourceConcept(folder, concept, phrase, prompts))
    return Source(loaded, model, concepts)


def _target_rows(source: Source) -> Float[np.ndarray, "m d"]:
    """The text encoder's outputs for what a merge preserves of a source."""
    tokenizer, targets = source.model.tokenizer, []
    for concept in source.concepts:
        targets += target_prompts(tokenizer, concept.phrase, concept.prompts)
    return _rows(source.model, targets)


def _rows(model: Model, targets: Sequence[TargetPrompt]) -> Float[np.ndarray, "m d"]:
    """The text encoder's outputs for the targets' tokens."""
    prompts, starts = zip(*targets, strict=True)
    ids = tokenize(model.tokenizer, prompts)
    # Batches of one size, so that the encoder compiles once.
    padded = np.pad(ids, ((0, -len(ids) % _BATCH), (0, 0)), mode="edge")
    batches = np.split(padded, len(padded) // _BATCH)
    text = [np.asarray(encode_prompts(model.denoiser, batch).text) for batch in batches]
    whole = np.concatenate(text)[: len(ids)]
    return token_rows(whole, ids, starts, eos=model.tokenizer.eos)


def _kernels(leaves: dict[str, Any]) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flat(leaves).items()}
