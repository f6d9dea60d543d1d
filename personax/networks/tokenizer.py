"""transformers' CLIP tokenizer, with placeholder words and word positions."""

import dataclasses
import itertools
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from transformers import CLIPTokenizer

from personax.core.text import compose, fold, spans
from personax.core.tree import nearest

# What a placeholder looks like: one word in angle brackets, "<v1>".
_PLACEHOLDER = re.compile(r"<[^<>|\s]+>")
# Options for a text's own ids.
_PLAIN = {
    "add_special_tokens": False,
    "padding": False,
    "truncation": False,
    "verbose": False,
}


class Placeholder(NamedTuple):
    """A word outside the vocabulary, and its rows of the embedding table.

    The rows are new; those of an alias are the vocabulary's.
    """

    word: str
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A byte-pair vocabulary, its placeholders and the length of an encoded prompt."""

    source: str  # the directory that it was read from
    size: int  # rows of the text encoder's embedding table, placeholders apart
    length: int  # tokens of an encoded prompt, begin and end included
    bos: int
    eos: int
    pad: int
    placeholders: tuple[Placeholder, ...] = ()
    backend: Any = dataclasses.field(default=None, repr=False, compare=False)


def load_tokenizer(
    directory: str | Path,
    *,
    size: int | None = None,
    length: int | None = None,
    vocabulary: Path | None = None,
) -> Tokenizer:
    """The tokenizer in a directory with tokenizer.json, or vocab.json and merges.txt.

    `size` and `length` are the text encoder's `vocab_size` and
    `max_position_embeddings`, by default the files'. `vocabulary` is the directory of
    vocab.json and merges.txt for a `directory` of tokenizer_config.json alone. Raises
    ValueError for a directory without a tokenizer or with one that does not fit.
    """
    directory = Path(directory)
    layouts = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    source, options = vocabulary or directory, {}
    if not any(all((source / name).is_file() for name in names) for names in layouts):
        raise ValueError(
            f"{source} has no CLIP tokenizer: expected tokenizer.json, or "
            "vocab.json and merges.txt."
        )
    try:
        if vocabulary is not None:
            text = (directory / "tokenizer_config.json").read_text(encoding="utf-8")
            settings = json.loads(text)
            options = {k: settings[k] for k in ("pad_token", "model_max_length")}
        backend = CLIPTokenizer.from_pretrained(
            str(source), local_files_only=True, **options
        )
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise ValueError(f"{directory} has no readable CLIP tokenizer: {error}.")
    if size is None:
        size = len(backend)
    if len(backend) > size:
        raise ValueError(
            f"The tokenizer in {directory} has {len(backend)} tokens but the text "
            f"encoder only {size} embeddings."
        )
    own = backend.model_max_length
    if not isinstance(own, int | float) or isinstance(own, bool):
        raise ValueError(
            f"{directory}/tokenizer_config.json has model_max_length {own!r}; expected "
            "a number."
        )
    limits = [int(n) for n in (own, length) if n and n < 10**9]
    if not limits:
        raise ValueError(
            f"{directory}/tokenizer_config.json has no model_max_length, and "
            "`length` is not set."
        )
    if min(limits) < 3:
        raise ValueError(
            f"The tokenizer in {directory} has {min(limits)} tokens of length; begin, "
            "a word and end need 3."
        )
    return Tokenizer(
        source=str(directory),
        size=size,
        length=min(limits),
        bos=backend.bos_token_id,
        eos=backend.eos_token_id,
        pad=backend.pad_token_id,
        placeholders=_added_words(backend),
        backend=backend,
    )


def _added_words(backend: Any) -> tuple[Placeholder, ...]:
    """The words that were added to the vocabulary, as in an exported pipeline.

    As diffusers' pipelines do, "<v1>" stands for "<v1> <v1>_1 <v1>_2" if all exist.
    """
    special = backend.all_special_tokens
    added = {w: i for w, i in backend.get_added_vocab().items() if w not in special}
    words = []
    for word in added:
        names = itertools.chain([word], (f"{word}_{k}" for k in itertools.count(1)))
        vectors = itertools.takewhile(added.__contains__, names)
        words.append(Placeholder(word, tuple(added[name] for name in vectors)))
    return tuple(words)


def add_placeholder(
    tokenizer: Tokenizer,
    word: str,
    *,
    vectors: int = 1,
    replaces: bool = False,
    spaces: bool = False,
) -> Tokenizer:
    """Add `word` as `vectors` new ids after the existing ones.

    With `replaces` it may be a word of the vocabulary, such as the rare "sks", which
    then has the new ids in every text; with `spaces` it may have blanks. Raises
    ValueError if the word is taken, or in the vocabulary.
    """
    _check_placeholder(tokenizer, word, replaces, spaces)
    if vectors < 1:
        raise ValueError(f"The placeholder {word!r} needs at least one vector.")
    own = {i for other in tokenizer.placeholders for i in other.ids}
    first = tokenizer.size + sum(i >= tokenizer.size for i in own)
    return _with(tokenizer, Placeholder(word, tuple(range(first, first + vectors))))


def add_alias(tokenizer: Tokenizer, word: str, ids: Sequence[int]) -> Tokenizer:
    """Add `word` as an alias of ids of the vocabulary.

    This reaches rare tokens that no text encodes to, such as "ktn". A word of the
    vocabulary may be the alias of its own ids. Raises ValueError if the word is
    otherwise in the vocabulary or taken, or an id does not exist.
    """
    _check_placeholder(tokenizer, word, tuple(ids) == ids_of(tokenizer, word))
    return _with(
        tokenizer, Placeholder(word, tuple(vocabulary_id(tokenizer, i) for i in ids))
    )


def add_name(tokenizer: Tokenizer, word: str, of: str) -> Tokenizer:
    """Add `word` as another name of the placeholder `of`, with its ids.

    Raises ValueError if the word is in the vocabulary or taken.
    """
    _check_placeholder(tokenizer, word, replaces=False, spaces=True)
    ids = next(each.ids for each in tokenizer.placeholders if each.word == of)
    return _with(tokenizer, Placeholder(word, ids))


def tokenize(tokenizer: Tokenizer, prompts: Sequence[str]) -> Int[np.ndarray, "b n"]:
    """The prompts' int32 ids: begin, words, end, padding, to the tokenizer's length.

    As in diffusers, a prompt that is too long is truncated, with a warning that names
    the words cut off.
    """
    rows = np.full((len(prompts), tokenizer.length), tokenizer.pad, np.int32)
    room = tokenizer.length - 2
    for row, prompt, ids in zip(rows, prompts, _ids(tokenizer, prompts), strict=True):
        if len(ids) > room:
            warnings.warn(
                f"The prompt {_shown(prompt)} has {len(ids)} tokens, the text encoder "
                f"reads {room}; cut off: {_shown(text_of(tokenizer, ids[room:]))}.",
                stacklevel=2,
            )
        ids = (tokenizer.bos, *ids[:room], tokenizer.eos)
        row[: len(ids)] = ids
    return rows


def _shown(text: str) -> str:
    """A text in a message, in quotes; of a very long one the beginning."""
    return repr(text) if len(text) <= 500 else f"{text[:500]!r}…"


def ids_of(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The ids of a text, without begin, end or padding."""
    return tuple(i for word in _words(tokenizer, text) for i in word.ids)


def text_of(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of ids; a placeholder of several vectors appears once."""
    # The first name of a placeholder with several.
    names = reversed(tokenizer.placeholders)
    placeholders = {other.ids[0]: other.word for other in names}
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
    """The positions of a word or phrase in the encoded prompt, where begin is 0.

    All tokens of every occurrence as whole words count: "hat" does not match "that",
    nor an alias of "dog" the word "dog". Occurrences past the tokenizer's length do not
    count; () without any.
    """
    matches = _occurrences(_words(tokenizer, prompt), _words(tokenizer, word))
    return tuple(sorted({i for i in matches if i < tokenizer.length - 1}))


def concept_mask(
    tokenizer: Tokenizer, prompts: Sequence[str], words: Sequence[str]
) -> Bool[np.ndarray, "k b n"]:
    """True where token n of encoded prompt b belongs to word k."""
    mask = np.zeros((len(words), len(prompts), tokenizer.length), bool)
    phrases = [_words(tokenizer, word) for word in words]
    for b, prompt in enumerate(prompts):
        prompt_words = _words(tokenizer, prompt)
        for k, phrase in enumerate(phrases):
            at = [
                i
                for i in _occurrences(prompt_words, phrase)
                if i < tokenizer.length - 1
            ]
            mask[k, b, at] = True
    return mask


def unknown_placeholders(
    tokenizer: Tokenizer, prompts: Sequence[str]
) -> tuple[str, ...]:
    """The words in angle brackets, such as "<v2>", unknown to the tokenizer."""
    known = {fold(other.word) for other in tokenizer.placeholders}
    seen = (word for prompt in prompts for word in _PLACEHOLDER.findall(prompt))
    return tuple(dict.fromkeys(word for word in seen if fold(word) not in known))


def vocabulary_id(tokenizer: Tokenizer, entry: str | int) -> int:
    """The id of a vocabulary entry as the files spell it: "ktn", or "dog</w>".

    The entry is looked up, not encoded: a rare token from inside words, such as "ktn",
    differs from its text's encoding. An id is returned unchanged. Raises ValueError for
    an unknown entry or id.
    """
    vocabulary = tokenizer.backend.get_vocab()
    if isinstance(entry, int):
        if 0 <= entry < tokenizer.size:
            return entry
        raise ValueError(f"Unknown id {entry}; the last is {tokenizer.size - 1}.")
    if entry not in vocabulary:
        raise ValueError(
            f"The vocabulary has no entry {entry!r}; nearest: "
            f"{nearest(entry, vocabulary)}."
        )
    return vocabulary[entry]


def _check_placeholder(
    tokenizer: Tokenizer, word: str, replaces: bool, spaces: bool = False
) -> None:
    if word != word.strip() or not word or (re.search(r"\s", word) and not spaces):
        raise ValueError(f"The placeholder {word!r} must be one word, such as '<v1>'.")
    taken = [other.word for other in tokenizer.placeholders]
    if fold(word) in map(fold, taken):
        raise ValueError(f"The placeholder {word!r} exists; taken: {', '.join(taken)}.")
    if not replaces and len(ids_of(tokenizer, word)) == 1:
        raise ValueError(
            f"The placeholder {word!r} is a word of the vocabulary (id "
            f"{ids_of(tokenizer, word)[0]}); choose one that is not, such as '<v1>'."
        )


def _with(tokenizer: Tokenizer, added: Placeholder) -> Tokenizer:
    return dataclasses.replace(tokenizer, placeholders=(*tokenizer.placeholders, added))


class _Word(NamedTuple):
    """A unit that byte-pair merges do not cross."""

    ids: tuple[int, ...]
    placeholder: str = ""  # tells an alias from the vocabulary's words of its ids


def _occurrences(words: list[_Word], phrase: list[_Word]) -> Iterator[int]:
    """The positions, counted from 1, of all tokens of each occurrence of `phrase`."""
    start = 1
    for k, current in enumerate(words):
        if phrase and words[k : k + len(phrase)] == phrase:
            yield from range(start, start + sum(len(word.ids) for word in phrase))
        start += len(current.ids)


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """`ids_of` each text, in one call without placeholders."""
    if tokenizer.placeholders or not texts:
        return [ids_of(tokenizer, text) for text in texts]
    return tokenizer.backend(list(texts), **_PLAIN).input_ids


def _words(tokenizer: Tokenizer, text: str) -> list[_Word]:
    if not tokenizer.placeholders:
        return _plain_words(tokenizer, text)
    placeholders = {fold(other.word): other.ids for other in tokenizer.placeholders}
    text, at, words = compose(text), 0, []
    for start, end in spans(text, placeholders):
        words += _plain_words(tokenizer, text[at:start])
        word, at = fold(text[start:end]), end
        ids = placeholders[word]
        words.append(_Word(ids, word if ids[0] < tokenizer.size else ""))
    return words + _plain_words(tokenizer, text[at:])


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
