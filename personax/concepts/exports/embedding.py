"""`--to embedding`: the words, for diffusers and for web UIs."""

from personax.concepts.bind import Model
from personax.concepts.exports import embedding_files
from personax.concepts.exports.changes import find_changes, find_words, obstacle
from personax.concepts.exports.request import Exported, Request, said
from personax.core.files import atomic_folder
from personax.core.tree import flat
from personax.diffusion.denoiser import CONTROLNET
from personax.loading import Base
from personax.methods.parts.tokens import TABLE


def export_embedding(model: Model, base: Base, request: Request) -> Exported:
    """Write both kinds of file for each trained word; ValueError without one."""
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
    embedding_files.check_names(words)
    with atomic_folder(request.out) as temporary:
        embedding_files.write_embeddings(temporary, words, request.dtype)
    notes = [said(word) for word in words]
    if reason:
        notes.append(
            f"Not exact: the concept also {reason}, which no file of other programs "
            "holds. Only its word was written."
        )
    elif find_changes(model, base).paths:
        notes.append(
            "Not exact: the concept also changes weights, which are not in these "
            "files; --to diffusers, single-file, diff and lora hold them as well."
        )
    names = ", ".join(word.token for word in words)
    return Exported(f"Embeddings of {names}", tuple(notes))
