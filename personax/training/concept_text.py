"""What is taught under which words: a config's concepts, checked, with their ids."""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

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

# diffusers' spelling of a concept list (its --concepts_list), and ours.
_PUBLISHED = {
    "instance_prompt": "prompt",
    "class_prompt": "prior_prompt",
    "instance_data_dir": "images",
    "class_data_dir": "prior_images",
}


class Lesson(NamedTuple):
    """A concept and what it is learned from."""

    concept: Concept
    images: str  # a folder, or a bundled subject
    captions: tuple[str, ...]  # what its pictures are called, one picked per visit
    prior_prompt: str  # what its regularisation set shows
    prior_images: str  # where that set's pictures are, if they come from a folder
    masks: str = ""  # a folder with a soft mask for each picture


def entries(concept: Mapping[str, Any], concepts_list: str = "") -> list[dict]:
    """The concepts of a config: `concept` alone, or one for each entry of a JSON list.

    `concept` says what an entry leaves out. Keys are ours or diffusers', whose lists
    name placeholder and class in the prompt alone: "photo of a <new1> cat". Initial
    tokens joined by "+" are the concepts' in turn, "ktn+pll+ucd". Raises ValueError in
    one sentence for a file that is no such list.
    """
    if not concepts_list:
        return [{**concept, "initial": _turn(concept["initial"], 0)}]
    path = pathlib.Path(concepts_list)
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}.")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{path} is no list of concepts: [{{…}}, {{…}}].")
    if not found:
        raise ValueError(f"{path} lists no concept.")
    return [
        _overlay(path, {**concept, "initial": _turn(concept["initial"], i)}, entry)
        for i, entry in enumerate(found)
    ]


def lessons(
    found: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, *, adds_words: bool
) -> tuple[list[Lesson], Tokenizer]:
    """Each entry as a lesson, and the tokenizer that knows their placeholders.

    With `adds_words` a placeholder gets ids of its own, else it is an alias of the rare
    tokens that it starts from. Raises ValueError for words that do not fit each other
    or the vocabulary.
    """
    resolved: list[Lesson] = []
    for entry in found:
        taken = {i for other in resolved for i in other.concept.initial}
        lesson, tokenizer = _lesson(entry, tokenizer, adds_words, taken)
        resolved.append(lesson)
    for lesson in resolved:
        check_prompts(tokenizer, lesson.captions)
    return resolved, tokenizer


def check_prompts(tokenizer: Tokenizer, prompts: Sequence[str]) -> None:
    """ValueError for a word in angle brackets that is no concept's."""
    for prompt in prompts:
        unknown = unknown_placeholders(tokenizer, [prompt])
        if unknown:
            known = ", ".join(other.word for other in tokenizer.placeholders)
            raise ValueError(
                f"{unknown[0]} in {prompt!r} is no concept's placeholder; "
                f"there is: {known or 'none'}."
            )


def _overlay(path: pathlib.Path, concept: Mapping[str, Any], entry: dict) -> dict:
    named = {_PUBLISHED.get(key, key): value for key, value in entry.items()}
    for key, value in named.items():
        if key not in concept:
            raise ValueError(
                f"{path} has the key {key!r}; nearest: "
                f"{nearest(key, (*concept, *_PUBLISHED))}."
            )
        kind = type(concept[key])
        if type(value) is not kind:
            raise ValueError(f"{path} has {key} {value!r}; it must be {kind.__name__}.")
    # An entry with its own words is not to inherit what is said in another's.
    said = _said(named.get("prompt", ""))
    own = {"placeholder", "class_word"} & (named.keys() | said.keys())
    fresh = {"prior_prompt": ""} if own else {}
    return {**concept, **fresh, **said, **named}


def _said(prompt: str) -> dict[str, str]:
    """Placeholder and class word of "photo of a <new1> cat", as far as they are."""
    found = re.search(r"(<[^<>\s]+>)\s*([\w \-]*)$", prompt)
    if not found:
        return {}
    said = {"placeholder": found[1], "class_word": found[2].strip()}
    return {key: value for key, value in said.items() if value}


def _turn(initial: str, i: int) -> str:
    """The i-th of "ktn+pll+ucd", diffusers' own way to write them; the last if over."""
    names = initial.split("+") if len(initial) > 1 else [initial]
    return names[min(i, len(names) - 1)]


def _lesson(
    entry: Mapping[str, Any],
    tokenizer: Tokenizer,
    adds_words: bool,
    taken: Set[int | None],
) -> tuple[Lesson, Tokenizer]:
    placeholder, class_word = entry["placeholder"], entry["class_word"]
    if not class_word:
        raise ValueError("A concept needs a class_word: what kind of thing it is.")
    phrase = entry["phrase"].replace("{placeholder}", placeholder)
    phrase = phrase.replace("{class_word}", class_word).strip()
    captions = fill(entry["prompt"], phrase)
    if placeholder and placeholder not in phrase:
        raise ValueError(f"The phrase {phrase!r} does not hold {placeholder!r}.")
    ids: tuple[int, ...] = ()
    initial: tuple[int | None, ...] = ()
    if placeholder:
        initial = _initial(entry, tokenizer, taken)
        if adds_words:
            tokenizer = add_placeholder(tokenizer, placeholder, vectors=len(initial))
        elif None in initial:
            raise ValueError(
                f"{placeholder} does not train, so it cannot start from 'vocabulary'."
            )
        else:
            tokenizer = add_alias(tokenizer, placeholder, initial)
        ids = tokenizer.placeholders[-1].ids
    concept = Concept(placeholder, class_word, ids, initial, phrase)
    prior_prompt = entry["prior_prompt"] or without(captions[0], phrase, class_word)
    lesson = Lesson(
        concept,
        entry["images"],
        captions,
        prior_prompt,
        entry["prior_images"],
        entry["masks"],
    )
    return lesson, tokenizer


def _initial(
    entry: Mapping[str, Any], tokenizer: Tokenizer, taken: Set[int | None]
) -> tuple[int | None, ...]:
    """The row that each vector starts from.

    `initial` is an entry of the vocabulary ("ktn", "dog</w>"), a word of one token, an
    id, "" for the class word (its last token), "vocabulary" for a draw from all rows'
    mean and deviation, or "rare:FILE" for the rarest token of a file of captions that
    is not `taken`; several are separated by spaces, and the last serves for the rest of
    `vectors`.
    """
    wanted = str(entry["initial"]).split() or [_last_token(entry, tokenizer)]
    count = entry["vectors"]
    if count < len(wanted):
        raise ValueError(
            f"{entry['placeholder']} has {count} vectors, but {len(wanted)} initial "
            f"tokens: {' '.join(wanted)}."
        )
    rows: list[int | None] = []
    for name in wanted:
        rows.append(_row(name, tokenizer, {*taken, *rows}))
    return (*rows, *[rows[-1]] * (count - len(rows)))


def _last_token(entry: Mapping[str, Any], tokenizer: Tokenizer) -> str:
    # As Custom Diffusion's baseline: "bear" of "teddy bear", the piece "gate" of
    # "moongate".
    return str(ids_of(tokenizer, entry["class_word"])[-1])


def _row(name: str, tokenizer: Tokenizer, taken: Set[int | None]) -> int | None:
    if name == "vocabulary":
        return None
    if name.startswith("rare:"):
        path = pathlib.Path(name.removeprefix("rare:"))
        found = rare_tokens(tokenizer, path.read_text().splitlines())
        free = [token.id for token in found if token.id not in taken]
        if not free:
            raise ValueError(f"{path} has only {len(found)} rare tokens, all taken.")
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
