"""What an export is asked to write, how it is written, and what it tells its user."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from personax.concepts.exports import embedding_files
from personax.concepts.exports.changes import Changes, Word
from personax.core.files import atomic_folder, atomic_write
from personax.core.tensor_file import write_tensors
from personax.core.tree import nest
from personax.core.typing import Params
from personax.loading import Base


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


def embeddings_folder(out: pathlib.Path) -> pathlib.Path:
    """The folder beside a file that holds its concepts' words."""
    return out.with_name(f"{out.stem}_embeddings")


def all_params(changes: Changes, base: Base) -> Params:
    """{"unet", "vae", "text_encoder"} with the changes, the words apart."""
    return {**nest(changes.after), "vae": base.params["vae"]}


def write_file(
    request: Request,
    tensors: Mapping[str, np.ndarray],
    values: Mapping[str, str],
    words: Sequence[Word],
) -> tuple[str, ...]:
    """Write one file, and its words into a folder beside it; returns what to say."""
    files = [word for word in words if not word.text]
    embedding_files.check_names(files)
    notes = [said(word) for word in words if word.text]
    if files:
        folder = embeddings_folder(request.out)
        with atomic_folder(folder) as temporary:
            for word in files:
                path = temporary / f"{word.name}.safetensors"
                embedding_files.write_word(path, word, request.dtype)
        notes.append(f"The words are in {folder}, for a folder of embeddings.")
        notes += [said(word) for word in files]
    with atomic_write(request.out) as temporary:
        write_tensors(temporary, tensors, values)
    return tuple(notes)


def said(word: Word) -> str:
    """How prompts of other programs write a word."""
    if word.text:
        return f"{word.token} stands for {word.text!r}, which prompts may say as well."
    said = f"diffusers: {word.token}"
    if len(word.rows) > 1:
        bare = " ".join(word.tokens)
        said += f" (pipelines expand it; the bare tokenizer reads {bare!r})"
    return f"{said}; A1111: {word.name}; ComfyUI: embedding:{word.name}."


def no_weights(changes: Changes, to: str) -> str:
    nearest = (
        "--to embedding holds its words."
        if changes.words
        else "it equals the base, and has no words either."
    )
    return f"The concept changes no weights that --to {to} could hold; {nearest}"
