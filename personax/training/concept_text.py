"""The concepts of a config: captions, placeholders and initial tokens, as token ids."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from personax.core import files
from personax.core.config import parse, plain
from personax.core.tree import nearest
from personax.data.rare import rare_tokens
from personax.data.templates import fill, without
from personax.methods import Concept
from personax.networks.tokenizer import (
    Tokenizer,
    add_alias,
    add_placeholder,
    ids_of,
    unknown_placeholders,
    vocabulary_id,
)
from personax.training.config import ConceptConfig

# The keys of diffusers' concept lists (its --concepts_list), and ours.
_PUBLISHED = {
    "instance_prompt": "prompt",
    "class_prompt": "prior_prompt",
    "instance_data_dir": "images",
    "class_data_dir": "prior_images",
}


class ConceptSpec(NamedTuple):
    """A concept and its training data."""

    concept: Concept
    images: str  # a folder, or a bundled subject
    captions: tuple[str, ...]  # one is drawn for each visit of a picture
    prior_prompt: str  # the prompt of its regularisation set
    prior_images: str | None  # that set's folder or list, if it has one
    masks: str | None = None  # a folder with a soft mask for each picture


def concept_configs(
    concept: ConceptConfig, concepts_list: str | None = None
) -> list[ConceptConfig]:
    """One config per concept: `concept`, or one for each entry of a JSON list.

    `concept` provides the keys that an entry leaves out. Keys are ours or diffusers',
    whose lists give placeholder and class in the prompt alone: "photo of a <new1> cat".
    Initial tokens joined by "+" belong to the concepts in turn: "ktn+pll+ucd". Raises
    FileNotFoundError for a missing list, ValueError for an invalid one.
    """
    if concepts_list is None:
        return [_with_initial(concept, 0)]
    path = pathlib.Path(concepts_list)
    try:
        entries = json.loads(files.read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.")
    if not isinstance(entries, list) or not all(isinstance(x, dict) for x in entries):
        raise ValueError(f"{path} is not a list of concepts: [{{…}}, {{…}}].")
    if not entries:
        raise ValueError(f"{path} is empty.")
    return [
        _overlay(path, _with_initial(concept, i), entry)
        for i, entry in enumerate(entries)
    ]


def make_specs(
    configs: Sequence[ConceptConfig], tokenizer: Tokenizer, *, adds_words: bool
) -> tuple[list[ConceptSpec], Tokenizer]:
    """The concepts of `configs`, and the tokenizer with their placeholders.

    With `adds_words` a placeholder gets ids of its own, otherwise it is an alias of its
    initial tokens. Raises ValueError for words that do not fit each other or the
    vocabulary.
    """
    resolved: list[ConceptSpec] = []
    for config in configs:
        taken = {i for other in resolved for i in other.concept.initial}
        spec, tokenizer = _make_spec(config, tokenizer, adds_words, taken)
        resolved.append(spec)
    for spec in resolved:
        check_prompts(tokenizer, spec.captions)
    return resolved, tokenizer


def check_prompts(tokenizer: Tokenizer, prompts: Sequence[str]) -> None:
    """Raise ValueError for a word in angle brackets that is not a placeholder."""
    for prompt in prompts:
        unknown = unknown_placeholders(tokenizer, [prompt])
        if unknown:
            known = ", ".join(other.word for other in tokenizer.placeholders)
            raise ValueError(
                f"Unknown placeholder {unknown[0]} in {prompt!r}; the concepts have: "
                f"{known or 'none'}."
            )


def _overlay(
    path: pathlib.Path, concept: ConceptConfig, entry: Mapping[str, Any]
) -> ConceptConfig:
    """The concept with the keys of a list's entry."""
    defaults = plain(concept)
    values = {_PUBLISHED.get(key, key): value for key, value in entry.items()}
    for key in values:
        if key not in defaults:
            near = nearest(key, (*defaults, *_PUBLISHED))
            raise ValueError(f"{path}: unknown key {key!r}; nearest: {near}.")
    words = _words_of(str(values.get("prompt", "")))
    if {"placeholder", "class_word"} & (values.keys() | words.keys()):
        # The default's prompt names another placeholder or class.
        defaults["prior_prompt"] = ""
    try:
        return parse(ConceptConfig, {**defaults, **words, **values})
    except ValueError as error:
        raise ValueError(f"{path}: {error}")


def _words_of(prompt: str) -> dict[str, str]:
    """Placeholder and class word of "photo of a <new1> cat", as far as it has them."""
    match = re.search(r"(<[^<>\s]+>)\s*([\w \-]*)$", prompt)
    if not match:
        return {}
    words = {"placeholder": match[1], "class_word": match[2].strip()}
    return {key: word for key, word in words.items() if word}


def _with_initial(concept: ConceptConfig, i: int) -> ConceptConfig:
    """The concept with the i-th token of "ktn+pll+ucd", diffusers' spelling.

    Past its end the last is repeated.
    """
    initial = concept.initial
    if initial is None or len(initial) == 1:  # the token "+" itself
        return concept
    tokens = initial.split("+")
    return dataclasses.replace(concept, initial=tokens[min(i, len(tokens) - 1)])


def _make_spec(
    config: ConceptConfig,
    tokenizer: Tokenizer,
    adds_words: bool,
    taken: Set[int | None],
) -> tuple[ConceptSpec, Tokenizer]:
    placeholder, class_word = config.placeholder or "", config.class_word
    if not class_word:
        raise ValueError("A concept needs a class_word, such as dog.")
    phrase = config.phrase.replace("{placeholder}", placeholder)
    phrase = phrase.replace("{class_word}", class_word).strip()
    captions = fill(config.prompt, phrase)
    if placeholder and placeholder not in phrase:
        raise ValueError(f"The phrase {phrase!r} does not contain {placeholder!r}.")
    ids, initial = (), ()
    if placeholder:
        initial = _initial(config, tokenizer, taken)
        rows = tuple(row for row in initial if row is not None)
        if adds_words:
            tokenizer = add_placeholder(tokenizer, placeholder, vectors=len(initial))
        elif len(rows) < len(initial):
            raise ValueError(
                f"{placeholder} is not trained, so its initial token cannot be "
                "'vocabulary'."
            )
        else:
            tokenizer = add_alias(tokenizer, placeholder, rows)
        ids = tokenizer.placeholders[-1].ids
    spec = ConceptSpec(
        Concept(placeholder, class_word, ids, initial, phrase),
        images=config.images,
        captions=captions,
        prior_prompt=config.prior_prompt or without(captions[0], phrase, class_word),
        prior_images=config.prior_images,
        masks=config.masks,
    )
    return spec, tokenizer


def _initial(
    config: ConceptConfig, tokenizer: Tokenizer, taken: Set[int | None]
) -> tuple[int | None, ...]:
    """The row of the embedding table that each vector starts from.

    `config.initial` is an entry of the vocabulary ("ktn", "dog</w>"), a word of one
    token, an id, None for the last token of the class word, "vocabulary" for a draw
    from the rows' mean and deviation (None in the result), or "rare:FILE" for the
    rarest token of a file of captions that is not `taken`. Several are separated by
    spaces; the last is repeated for the rest of `config.vectors`.
    """
    # As Custom Diffusion's baseline: "bear" of "teddy bear".
    last_token = str(ids_of(tokenizer, config.class_word)[-1])
    names = (config.initial or "").split() or [last_token]
    if config.vectors < len(names):
        raise ValueError(
            f"{config.placeholder} has {config.vectors} vectors, but {len(names)} "
            f"initial tokens: {' '.join(names)}."
        )
    rows: list[int | None] = []
    for name in names:
        rows.append(_row(name, tokenizer, {*taken, *rows}))
    return (*rows, *[rows[-1]] * (config.vectors - len(rows)))


def _row(name: str, tokenizer: Tokenizer, taken: Set[int | None]) -> int | None:
    if name == "vocabulary":
        return None
    if name.startswith("rare:"):
        path = pathlib.Path(name.removeprefix("rare:"))
        rare = rare_tokens(tokenizer, files.read_lines(path))
        free = [token.id for token in rare if token.id not in taken]
        if not free:
            raise ValueError(f"All of the {len(rare)} rare tokens of {path} are taken.")
        return free[0]
    if name.isdigit():
        return vocabulary_id(tokenizer, int(name))
    try:
        return vocabulary_id(tokenizer, name)
    except ValueError:
        ids = ids_of(tokenizer, name)
        if len(ids) == 1 and not unknown_placeholders(tokenizer, [name]):
            return ids[0]
        raise
