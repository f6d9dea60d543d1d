"""The concepts of a config: captions, placeholders and initial tokens, as token ids."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from personax.core import files
from personax.core.config import parse, plain
from personax.core.errors import notice
from personax.core.text import fold
from personax.core.tree import nearest
from personax.data.concepts import OwnPicture, class_of, own_pictures
from personax.data.kohya import subsets
from personax.data.rare import rare_tokens
from personax.data.templates import fill, without
from personax.methods import Concept
from personax.networks.tokenizer import (
    Tokenizer,
    add_alias,
    add_placeholder,
    ids_of,
    positions,
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
    own: tuple[OwnPicture, ...] = ()  # pictures with captions of their own


# Words that end the class in a prompt: "photo of a sks dog in the snow".
_AFTER_CLASS = {"in", "on", "at", "with", "by", "near", "from", "wearing", "and"}
_ARTICLES = {"a", "an", "the"}


def concept_configs(
    concept: ConceptConfig, concepts_list: str | None = None
) -> list[ConceptConfig]:
    """One config per concept: `concept`, or one for each entry of a JSON list.

    `concept` provides the keys that an entry leaves out. Keys are ours or diffusers',
    whose lists give placeholder and class in the prompts alone: "photo of a <new1>
    cat", or the rare word of "photo of a sks dog" beside "photo of a dog", which is
    then trained from its own ids. Initial tokens joined by "+" belong to the concepts
    in turn: "ktn+pll+ucd". With captions "own" kohya's folders give the words, and a
    folder of several is as many concepts. Raises FileNotFoundError for a missing list,
    ValueError for an invalid one.
    """
    if concepts_list is None:
        return _by_folder(_with_initial(concept, 0))
    path = files.expand(concepts_list)
    entries = files.read_json(path)
    if not isinstance(entries, list) or not all(isinstance(x, dict) for x in entries):
        raise ValueError(f"{path} is not a list of concepts: [{{…}}, {{…}}].")
    if not entries:
        raise ValueError(f"{path} is empty.")
    return [
        each
        for i, entry in enumerate(entries)
        for each in _by_folder(_overlay(path, _with_initial(concept, i), entry))
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
        _check_read(tokenizer, spec)
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


def _check_read(tokenizer: Tokenizer, spec: ConceptSpec) -> None:
    """Raise ValueError for captions in which the text encoder does not read the word.

    Such captions teach nothing. Of pictures' own captions some may lack the word; those
    that are too long for it are reported on stderr.
    """
    concept = spec.concept
    if not concept.placeholder:
        return
    unread = [
        caption
        for caption in spec.captions
        if len(positions(tokenizer, caption, concept.placeholder)) < len(concept.ids)
    ]
    whole = dataclasses.replace(tokenizer, length=1 << 20)
    cut = [x for x in unread if positions(whole, x, concept.placeholder)]
    if not unread or (spec.own and not cut):
        return
    caption, room = (cut or unread)[0], tokenizer.length - 2
    text = f"{caption[:200]!r} is not read as holding {concept.placeholder}"
    if cut:
        count = len(ids_of(tokenizer, caption))
        text = (
            f"{concept.placeholder} is cut off in {caption[:200]!r}: the caption has "
            f"{count} tokens, and the text encoder reads {room}"
        )
    if len(unread) == len(spec.captions) or not spec.own:
        raise ValueError(f"{text}. Shorten it, or write the word earlier.")
    notice(f"{text}; so in {len(cut)} of {len(spec.captions)} captions.")


def _check_visible(words: str) -> None:
    """Raise ValueError for characters that are not seen, and for "{" and "}".

    Zero-width spaces are not seen; braces mark what a template is filled with.
    """
    if "{" in words or "}" in words:
        raise ValueError(
            f"The concept's words {words!r} have a brace; a phrase is filled with "
            "{placeholder} and {class_word} alone."
        )
    # Some scripts need the two joiners, and so do emoji.
    hidden = [x for x in words if not x.isprintable() and x not in "\u200c\u200d"]
    if hidden:
        raise ValueError(
            f"The concept's words {words!r} have a character that is not seen "
            f"(U+{ord(hidden[0]):04X}); type them again."
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
    prompt, prior = str(values.get("prompt", "")), str(values.get("prior_prompt", ""))
    words = _words_of(prompt)
    if not words and "placeholder" not in values:
        words = _rare_words(prompt, prior or str(values.get("class_word", "")))
    if {"placeholder", "class_word"} & (values.keys() | words.keys()):
        # The default's prompt names another placeholder or class.
        defaults["prior_prompt"] = ""
    if values.get("images", concept.images) != concept.images:
        defaults["class_word"] = ""  # what other pictures show
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


def _rare_words(prompt: str, plain: str) -> dict[str, str]:
    """Placeholder and class word of "photo of a sks dog", {} where it has none.

    `plain` is the prompt without the rare word, "photo of a dog", or the class alone;
    articles do not matter. The rare word is trained from its own ids.
    """
    words = prompt.split()
    for i, rare in enumerate(words):
        after = words[i + 1 :]
        rests = (_significant([*words[:i], *after]), _significant(after))
        if not rare.isalnum() or _significant(plain.split()) not in rests:
            continue
        ends = (k for k, word in enumerate(after) if word.lower() in _AFTER_CLASS)
        class_word = " ".join(after[: next(ends, None)]).rstrip(",.")
        if class_word and rare.lower() not in _ARTICLES:
            return {"placeholder": rare, "class_word": class_word, "initial": rare}
    return {}


def _significant(words: Sequence[str]) -> list[str]:
    return [word.lower() for word in words if word.lower() not in _ARTICLES]


def _by_folder(concept: ConceptConfig) -> list[ConceptConfig]:
    """The concept with the words of kohya's folder, or one for each such folder in it.

    Raises ValueError for several folders of one concept beside those of another.
    """
    folder = pathlib.Path(concept.images)
    if concept.captions != "own" or not folder.is_dir():
        return [concept]
    found = subsets(folder)
    words = dict.fromkeys(each.words for each in found)
    if len(words) < 2:
        return [_with_folder_words(concept, text) for text in words] or [concept]
    if len(words) < len(found):
        raise ValueError(
            f"{folder} holds several concepts ({', '.join(words)}), and one of them in "
            "several folders; name one folder, or several in concepts_list."
        )
    return [
        _with_folder_words(
            dataclasses.replace(concept, images=str(each.folder)), each.words
        )
        for each in found
    ]


def _with_folder_words(concept: ConceptConfig, words: str) -> ConceptConfig:
    """The concept "sks dog" of a folder's name: its word, then its class."""
    placeholder, _, class_word = words.partition(" ")
    class_word = class_word.strip()
    phrase = "{placeholder} {class_word}" if class_word else "{placeholder}"
    known = placeholder.startswith("<") or placeholder == concept.placeholder
    word = class_word or concept.class_word
    same = word is not None and word in (concept.prior_prompt or "")
    return dataclasses.replace(
        concept,
        placeholder=placeholder,
        class_word=word,
        phrase=phrase,
        initial=concept.initial if known else placeholder,
        # The config's own may name another class.
        prior_prompt=concept.prior_prompt if same else None,
    )


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
    placeholder = config.placeholder or ""
    # Without pictures: of a stream whose own captions, or none, are trained.
    class_word = config.class_word or class_of(config.images or ConceptConfig.images)
    class_word = (class_word or "").strip()
    if not class_word:
        raise ValueError(
            f"What do the pictures of {config.images} show? Set concept.class_word, "
            "such as dog."
        )
    phrase = config.phrase.replace("{placeholder}", placeholder)
    phrase = phrase.replace("{class_word}", class_word).strip()
    captions = fill(config.prompt, phrase)
    _check_visible(phrase)
    if placeholder and placeholder not in phrase:
        raise ValueError(f"The phrase {phrase!r} does not contain {placeholder!r}.")
    prior_prompt = config.prior_prompt or without(captions[0], phrase, class_word)
    own: tuple[OwnPicture, ...] = ()
    if config.captions == "own":
        own = _own(config, phrase)
        captions = tuple(dict.fromkeys(each.caption for each in own))
    ids, initial = (), ()
    if placeholder:
        initial = _initial(config, class_word, tokenizer, taken)
        rows = tuple(row for row in initial if row is not None)
        if adds_words:
            tokenizer = add_placeholder(
                tokenizer,
                placeholder,
                vectors=len(initial),
                replaces=_from_itself(config),
            )
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
        prior_prompt=prior_prompt,
        prior_images=config.prior_images,
        masks=config.masks,
        own=own,
    )
    return spec, tokenizer


def _own(config: ConceptConfig, phrase: str) -> tuple[OwnPicture, ...]:
    """The pictures with their captions, "{}" in which stands for the phrase.

    Raises ValueError where no caption has the word that is trained.
    """
    pictures = tuple(
        each._replace(caption=each.caption.replace("{}", phrase))
        for each in own_pictures(config.images, config.caption_column)
    )
    word = config.placeholder or ""
    if not any(fold(word) in fold(each.caption) for each in pictures):
        raise ValueError(
            f"None of the {len(pictures)} captions of {config.images} has {word!r}; "
            f'write {phrase!r} or "{{}}" in them, or set concept.placeholder "" to '
            "train without a new word."
        )
    return pictures


def _from_itself(config: ConceptConfig) -> bool:
    """Whether the placeholder is a word such as "sks" that starts from its own ids."""
    return fold(config.placeholder or "") == fold(config.initial or "")


def _initial(
    config: ConceptConfig,
    class_word: str,
    tokenizer: Tokenizer,
    taken: Set[int | None],
) -> tuple[int | None, ...]:
    """The row of the embedding table that each vector starts from.

    `config.initial` is an entry of the vocabulary ("ktn", "dog</w>"), a word of one
    token, the placeholder itself ("sks", of any number of tokens), an id, None for the
    last token of the class word, "vocabulary" for a draw from the rows' mean and
    deviation (None in the result), or "rare:FILE" for the rarest token of a file of
    captions that is not `taken`. Several are separated by spaces; the last is repeated
    for the rest of `config.vectors`.
    """
    if _from_itself(config):
        own = ids_of(tokenizer, config.placeholder or "")
        return (*own, *[own[-1]] * (config.vectors - len(own)))
    # As Custom Diffusion's baseline: "bear" of "teddy bear".
    last_token = str(ids_of(tokenizer, class_word)[-1])
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
        path = files.expand(name.removeprefix("rare:"))
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
