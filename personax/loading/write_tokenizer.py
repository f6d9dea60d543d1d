"""Write a CLIP tokenizer in the files that every version of transformers reads."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personax.core.files import read_json, write_json, write_text
from personax.networks.tokenizer import Tokenizer

# What an earlier version of transformers would take for options of its own.
_DROPPED = ("backend", "is_local", "local_files_only", "name_or_path")


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """The id that transformers gives to the first token added to the vocabulary.

    The embedding table may have more rows than the vocabulary has tokens.
    """
    return len(tokenizer.backend)


def write_tokenizer(
    folder: Path, tokenizer: Tokenizer, added: Sequence[str] = ()
) -> None:
    """Write a tokenizer with `added` tokens after its vocabulary, into a new folder.

    tokenizer.json is for transformers 5 and for the fast tokenizers of 4; vocab.json,
    merges.txt and added_tokens.json for the slow ones, which pipelines use there, and
    for older programs. tokenizer_config.json has the added tokens as well. A token that
    begins or ends with a letter is matched as a whole word. Capitals: transformers 5
    ignores them, the slow tokenizers do not.
    """
    whole = json.loads(tokenizer.backend.backend_tokenizer.to_str())
    first = vocabulary_size(tokenizer)
    whole["added_tokens"] += [_entry(first + i, word) for i, word in enumerate(added)]
    # The length of a call of ours, not part of the tokenizer.
    whole["truncation"] = whole["padding"] = None
    folder.mkdir(parents=True)
    write_json(folder / "tokenizer.json", whole)
    vocabulary = whole["model"]["vocab"]
    write_json(folder / "vocab.json", vocabulary)
    merges = whole["model"]["merges"]
    lines = (pair if isinstance(pair, str) else " ".join(pair) for pair in merges)
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *lines, ""]))
    outside = {
        entry["content"]: entry["id"]
        for entry in whole["added_tokens"]
        if entry["content"] not in vocabulary
    }
    if outside:
        write_json(folder / "added_tokens.json", outside)
    special = _special(tokenizer)
    write_json(folder / "special_tokens_map.json", special)
    values = {**_config(tokenizer), **special}
    values["added_tokens_decoder"] = {
        str(entry["id"]): {name: x for name, x in entry.items() if name != "id"}
        for entry in whole["added_tokens"]
    }
    write_json(folder / "tokenizer_config.json", values)


def _config(tokenizer: Tokenizer) -> dict[str, Any]:
    path = Path(tokenizer.source) / "tokenizer_config.json"
    given = read_json(path) if path.is_file() else {}
    values = {name: x for name, x in given.items() if name not in _DROPPED}
    values["model_max_length"] = tokenizer.length
    values["tokenizer_class"] = "CLIPTokenizer"
    return values


def _special(tokenizer: Tokenizer) -> dict[str, str]:
    backend = tokenizer.backend
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {name: str(getattr(backend, name)) for name in names}


def _entry(number: int, word: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": word,
        "single_word": bool(re.match(r"\w", word) and re.search(r"\w$", word)),
        "lstrip": False,
        "rstrip": False,
        # Matched after lower-casing, as our tokenizer does.
        "normalized": True,
        "special": False,
    }
