"""transformers' CLIP tokenizer without torch: placeholder words, words' positions."""

import dataclasses
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from transformers import CLIPTokenizer

from personax.core.tree import nearest

# What a placeholder looks like: one word in angle brackets, "<v1>".
_PLACEHOLDER = re.compile(r"<[^<>|\s]+>")
# How a text's own ids are asked for.
_PLAIN = {
    "add_special_tokens": False,
    "padding": False,
    "truncation": False,
    "verbose": False,
}


class Placeholder(NamedTuple):
    """A word that is in no vocabulary, and the rows of the table that it stands for.

    Those are rows of its own, or, of an alias, ones that the vocabulary has.
    """

    word: str
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A byte-pair vocabulary, its placeholders and how long an encoded prompt is."""

    source: str  # the directory that it was read from
    size: int  # rows of the text encoder's embedding table, placeholders apart
    length: int  # tokens of an encoded prompt, begin and end included
    bos: int
    eos: int
    pad: int
    placeholders: tuple[Placeholder, ...] = ()
    backend: Any = dataclasses.field(default=None, repr=False, compare=False)


def load_tokenizer(
    directory: str | Path, *, size: int | None = None, length: int | None = None
) -> Tokenizer:
    """The tokenizer in a directory with tokenizer.json, or vocab.json and merges.txt.

    `size` and `length` are the text encoder's `vocab_size` and
    `max_position_embeddings`; without them, the files must say. Raises ValueError in
    one sentence for a directory without a tokenizer or with one that does not fit.
    """
    directory = Path(directory)
    wanted = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    if not any(all((directory / name).is_file() for name in names) for names in wanted):
        raise ValueError(
            f"{directory} has no CLIP tokenizer: expected tokenizer.json, or "
            "vocab.json and merges.txt."
        )
    try:
        backend = CLIPTokenizer.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise ValueError(f"{directory} has no readable CLIP tokenizer: {error}.")
    if size is None:
        size = len(backend)
    if len(backend) > size:
        raise ValueError(
            f"The tokenizer in {directory} has {len(backend)} tokens but the text "
            f"encoder only {size} embeddings."
        )
    limits = [n for n in (backend.model_max_length, length) if n and n < 10**9]
    if not limits:
        raise ValueError(
            f"{directory}/tokenizer_config.json does not say model_max_length, and no "
            "length was given."
        )
    return Tokenizer(
        source=str(directory),
        size=size,
        length=min(limits),
        bos=backend.bos_token_id,
        eos=backend.eos_token_id,
        pad=backend.pad_token_id,
        backend=backend,
    )


def add_placeholder(tokenizer: Tokenizer, word: str, *, vectors: int = 1) -> Tokenizer:
    """The tokenizer that also knows `word`, as `vectors` new ids from its size on.

    Raises ValueError where the word is one already.
    """
    _check_placeholder(tokenizer, word)
    if vectors < 1:
        raise ValueError(f"The placeholder {word!r} needs at least one vector.")
    own = [i for other in tokenizer.placeholders for i in other.ids]
    first = tokenizer.size + sum(i >= tokenizer.size for i in own)
    return _with(tokenizer, Placeholder(word, tuple(range(first, first + vectors))))


def add_alias(tokenizer: Tokenizer, word: str, ids: Sequence[int]) -> Tokenizer:
    """The tokenizer that reads `word` as ids which the vocabulary has.

    So a rare token is reached that no text encodes to, such as "ktn". Raises ValueError
    where the word is one already, or an id is not there.
    """
    _check_placeholder(tokenizer, word)
    return _with(
        tokenizer, Placeholder(word, tuple(vocabulary_id(tokenizer, i) for i in ids))
    )


def tokenize(tokenizer: Tokenizer, prompts: Sequence[str]) -> Int[np.ndarray, "b n"]:
    """The prompts' int32 ids: begin, words, end, padding, to the tokenizer's length.

    Like diffusers, a prompt that is too long loses its last words, with a warning that
    names them.
    """
    rows = np.full((len(prompts), tokenizer.length), tokenizer.pad, np.int32)
    room = tokenizer.length - 2
    for row, prompt, ids in zip(rows, prompts, _ids(tokenizer, prompts), strict=True):
        if len(ids) > room:
            warnings.warn(
                f"The prompt {prompt!r} has {len(ids)} tokens, the text encoder reads "
                f"{room}; cut off: {text_of(tokenizer, ids[room:])!r}.",
                stacklevel=2,
            )
        ids = (tokenizer.bos, *ids[:room], tokenizer.eos)
        row[: len(ids)] = ids
    return rows


def ids_of(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The ids of a text alone, without begin, end or padding."""
    return tuple(i for word in _words(tokenizer, text) for i in word.ids)


def text_of(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of ids, a placeholder of several vectors written once."""
    placeholders = {other.ids[0]: other.word for other in tokenizer.placeholders}
    pieces, plain = [], []
    for i in (*ids, None):
        if i is not None and i < tokenizer.size:
            plain.append(int(i))
            continue
        if plain:
            pieces.append(tokenizer.backend.decode(plain).strip())
            plain = []
        if i in placeholders:
            pieces.append(placeholders[i])
    return " ".join(pieces)


def positions(tokenizer: Tokenizer, prompt: str, word: str) -> tuple[int, ...]:
    """Where in the encoded prompt the tokens of a word or phrase stand, begin being 0.

    Every occurrence as whole words counts, with all its pieces: "hat" is not found in
    "that", and a placeholder that is read as "dog" is no "dog". Occurrences past the
    tokenizer's length are left out; () if there is none.
    """
    found = _stretches(_words(tokenizer, prompt), _words(tokenizer, word))
    return tuple(sorted({i for i in found if i < tokenizer.length - 1}))


def concept_mask(
    tokenizer: Tokenizer, prompts: Sequence[str], words: Sequence[str]
) -> Bool[np.ndarray, "k b n"]:
    """True where token n of encoded prompt b belongs to word k."""
    mask = np.zeros((len(words), len(prompts), tokenizer.length), bool)
    wanted = [_words(tokenizer, word) for word in words]
    for b, prompt in enumerate(prompts):
        there = _words(tokenizer, prompt)
        for k, each in enumerate(wanted):
            at = [i for i in _stretches(there, each) if i < tokenizer.length - 1]
            mask[k, b, at] = True
    return mask


def unknown_placeholders(
    tokenizer: Tokenizer, prompts: Sequence[str]
) -> tuple[str, ...]:
    """The words in angle brackets, such as "<v2>", that the tokenizer does not know."""
    known = {other.word.lower() for other in tokenizer.placeholders}
    seen = (word for prompt in prompts for word in _PLACEHOLDER.findall(prompt))
    return tuple(dict.fromkeys(word for word in seen if word.lower() not in known))


def vocabulary_id(tokenizer: Tokenizer, entry: str | int) -> int:
    """The id of a vocabulary entry as the files spell it: "ktn", or "dog</w>".

    Looked up, not encoded: a rare token in the middle of words, such as "ktn", is not
    what its text encodes to. An id is returned as it is. Raises ValueError for an entry
    or an id that is not there.
    """
    vocabulary = tokenizer.backend.get_vocab()
    if isinstance(entry, int):
        if 0 <= entry < tokenizer.size:
            return entry
        raise ValueError(f"There is no id {entry}; they go up to {tokenizer.size - 1}.")
    if entry not in vocabulary:
        raise ValueError(
            f"The vocabulary has no entry {entry!r}; nearest: "
            f"{nearest(entry, vocabulary)}."
        )
    return vocabulary[entry]


def _check_placeholder(tokenizer: Tokenizer, word: str) -> None:
    if not word or re.search(r"\s", word):
        raise ValueError(f"The placeholder {word!r} must be one word, such as '<v1>'.")
    taken = [other.word for other in tokenizer.placeholders]
    if word.lower() in (other.lower() for other in taken):
        raise ValueError(f"The placeholder {word!r} exists; taken: {', '.join(taken)}.")
    if len(ids_of(tokenizer, word)) == 1:
        raise ValueError(
            f"The placeholder {word!r} is a word of the vocabulary (id "
            f"{ids_of(tokenizer, word)[0]}); choose one that is not, such as '<v1>'."
        )


def _with(tokenizer: Tokenizer, added: Placeholder) -> Tokenizer:
    return dataclasses.replace(tokenizer, placeholders=(*tokenizer.placeholders, added))


class _Word(NamedTuple):
    """What byte-pair merges do not cross."""

    ids: tuple[int, ...]
    placeholder: str = ""  # an alias has the ids of other words, and is none of them


def _stretches(words: list[_Word], wanted: list[_Word]) -> Iterator[int]:
    """The tokens, counted from 1, of each place where the `wanted` words follow."""
    start = 1
    for k, current in enumerate(words):
        if wanted and words[k : k + len(wanted)] == wanted:
            yield from range(start, start + sum(len(each.ids) for each in wanted))
        start += len(current.ids)


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """`ids_of` each text, in one call where no placeholder cuts them up."""
    if tokenizer.placeholders or not texts:
        return [ids_of(tokenizer, text) for text in texts]
    return tokenizer.backend(list(texts), **_PLAIN).input_ids


def _words(tokenizer: Tokenizer, text: str) -> list[_Word]:
    if not tokenizer.placeholders:
        return _plain_words(tokenizer, text)
    placeholders = {other.word.lower(): other.ids for other in tokenizer.placeholders}
    words = []
    for piece in _splitter(placeholders).split(text):
        ids = placeholders.get(piece.lower())
        if ids:
            words.append(_Word(ids, piece.lower()))
        else:
            words.extend(_plain_words(tokenizer, piece))
    return words


def _plain_words(tokenizer: Tokenizer, text: str) -> list[_Word]:
    encoded = tokenizer.backend(text, **_PLAIN)
    words: list[tuple[int, ...]] = []
    previous = None
    for i, number in zip(encoded.input_ids, encoded.word_ids(), strict=True):
        if words and number == previous:
            words[-1] += (i,)
        else:
            words.append((i,))
        previous = number
    return [_Word(ids) for ids in words]


def _splitter(placeholders: Iterable[str]) -> re.Pattern[str]:
    # Longest first, and a placeholder without brackets only as a whole word.
    longest = sorted(placeholders, key=len, reverse=True)
    bounded = (
        (r"(?<!\w)" if re.match(r"\w", word) else "")
        + re.escape(word)
        + (r"(?!\w)" if re.search(r"\w$", word) else "")
        for word in longest
    )
    return re.compile(f"({'|'.join(bounded)})", re.IGNORECASE)
