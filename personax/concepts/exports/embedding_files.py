"""Textual Inversion files: one per word, for diffusers and for web UIs."""

import pathlib
from collections.abc import Sequence

from personax.concepts.exports.changes import Word
from personax.core.tensor_file import write_tensors
from personax.loading.write import cast

DIFFUSERS, WEB = "diffusers", "a1111"


def write_embeddings(folder: pathlib.Path, words: Sequence[Word], dtype: str) -> None:
    """Write both kinds of file for each word into a new folder.

    diffusers/v1.safetensors has one key, the token: `load_textual_inversion` names the
    word after it, and n rows become <v1>, <v1>_1, …. a1111/v1.safetensors has the key
    emb_params: A1111, Forge and ComfyUI name the word after the file.
    """
    for name in (DIFFUSERS, WEB):
        (folder / name).mkdir(parents=True)
    for word in words:
        write_word(folder / DIFFUSERS / f"{word.name}.safetensors", word, dtype)
        rows = cast(word.token, word.rows, dtype)
        metadata = {"format": "pt", "modelspec.trigger_phrase": word.name}
        path = folder / WEB / f"{word.name}.safetensors"
        write_tensors(path, {"emb_params": rows}, metadata)


def write_word(path: pathlib.Path, word: Word, dtype: str) -> None:
    """Write one word as {token: rows}, which diffusers, A1111 and ComfyUI all read.

    A single row is written as a vector, as diffusers' scripts do.
    """
    rows = cast(word.token, word.rows, dtype)
    rows = rows[0] if len(rows) == 1 else rows
    write_tensors(path, {word.token: rows}, {"format": "pt"})


def check_names(words: Sequence[Word]) -> None:
    """ValueError for words that cannot be names of files, or share one."""
    seen: dict[str, str] = {}
    for word in words:
        if not word.name or any(mark in word.name for mark in '/\\:*?"<>|'):
            raise ValueError(
                f"The word {word.token!r} cannot be the name of a file; rename it: "
                "'<v1>=CONCEPT'."
            )
        other = seen.setdefault(word.name.lower(), word.token)
        if other != word.token:
            raise ValueError(
                f"The words {other!r} and {word.token!r} would share a file; rename "
                "one: '<v2>=CONCEPT'."
            )
