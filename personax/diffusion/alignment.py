"""Token alignments of Prompt-to-Prompt (Hertz et al. 2022) and their schedules.

An alignment says which tokens of the source's prompt each token of an edited prompt
takes its attention from.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from personax.networks.tokenizer import Tokenizer, ids_of, positions

# A share of the steps: [0, f), or [a, b).
Window = float | tuple[float, float]
Kind = Literal["auto", "replace", "refine"]

DEFAULT = "default"  # all words that a mapping of windows does not name


class Alignment(NamedTuple):
    """p' = p_source @ mapper + own * p for the probabilities p of the edited prompt.

    Column j of `mapper` are the weights of the source's tokens for token j of the edit,
    `own` the weight of its own probability.
    """

    mapper: Float[np.ndarray, "n n"]
    own: Float[np.ndarray, " n"]


class Span(NamedTuple):
    """A word of a prompt and the positions of its tokens in the encoded prompt."""

    word: str
    at: list[int]


def align(
    tokenizer: Tokenizer,
    source: str,
    edit: str,
    kind: Kind = "auto",
    *,
    phrases: Sequence[str] = (),
    compat: bool = False,
) -> Alignment:
    """The alignment of `edit` with `source`.

    See `pick_kind` for "auto", and `replace` for the rest and the ValueError.
    """
    if kind == "auto":
        kind = pick_kind(tokenizer, source, edit, phrases)
    if kind == "refine":
        return refine(tokenizer, source, edit)
    return replace(tokenizer, source, edit, phrases=phrases, compat=compat)


def pick_kind(
    tokenizer: Tokenizer, source: str, edit: str, phrases: Sequence[str] = ()
) -> Literal["replace", "refine"]:
    """Replace if the prompts have the same number of words, else refine.

    Each of the `phrases`, such as "<v1> dog", counts as one word.
    """
    counts = {len(spans(tokenizer, text, phrases)) for text in (source, edit)}
    return "replace" if len(counts) == 1 else "refine"


def replace(
    tokenizer: Tokenizer,
    source: str,
    edit: str,
    *,
    phrases: Sequence[str] = (),
    compat: bool = False,
) -> Alignment:
    """Word k of the edit takes the attention of word k of the source.

    Words with as many tokens are matched token by token; otherwise each of the edit's m
    tokens takes 1/m of all the source's. End and padding are matched from each
    prompt's own end on; the remainder is matched with the last token, so that the rows
    of the mapper sum to one.

    With `compat`, tokens after the last replaced word are matched by the edit's
    position, as in the authors' release: off by the difference in tokens.

    Raises ValueError for prompts with different numbers of words.
    """
    old, new = (spans(tokenizer, text, phrases) for text in (source, edit))
    if len(old) != len(new):
        raise ValueError(
            f"kind replace needs prompts with as many words, but {source!r} has "
            f"{len(old)} and {edit!r} {len(new)}; use refine instead."
        )
    n = tokenizer.length
    mapper = np.zeros((n, n), np.float32)
    mapper[0, 0] = 1
    # The first tokens after the last word that differs.
    i = j = 0
    for before, after in zip(old, new, strict=True):
        if len(before.at) == len(after.at):
            mapper[before.at, after.at] = 1
        elif before.at and after.at:
            mapper[np.ix_(before.at, after.at)] = 1 / len(after.at)
        if before.word != after.word and before.at and after.at:
            i, j = before.at[-1] + 1, after.at[-1] + 1
    if compat:
        mapper[:, j:] = 0
        shared = np.arange(j, j + n - max(i, j))
        mapper[shared, shared] = 1
    else:
        _match_padding(
            mapper, *(len(_encoded(tokenizer, s)) - 1 for s in (source, edit))
        )
    return Alignment(mapper, np.zeros(n, np.float32))


def refine(tokenizer: Tokenizer, source: str, edit: str) -> Alignment:
    """Words of both prompts take the source's attention; others keep their own.

    The alignment of Needleman and Wunsch 1970 on token ids (gap 0, match 1, mismatch
    -1); padding is matched with itself.
    """
    n = tokenizer.length
    old, new = _encoded(tokenizer, source), _encoded(tokenizer, edit)
    taken = [*needleman_wunsch(old, new), *range(len(new), n)]
    mapper, own = np.zeros((n, n), np.float32), np.zeros(n, np.float32)
    for j, i in enumerate(taken):
        if i is None:
            own[j] = 1
        else:
            mapper[i, j] = 1
    return Alignment(mapper, own)


def reweight(alignment: Alignment, factors: Float[np.ndarray, " n"]) -> Alignment:
    """The alignment with each token's attention scaled, by a negative number too.

    The probabilities then no longer sum to one, as in the authors' release.
    """
    return Alignment(alignment.mapper * factors, alignment.own * factors)


def equalizer(
    tokenizer: Tokenizer, prompt: str, factors: Mapping[str, float]
) -> Float[np.ndarray, " n"]:
    """The factor of each token of the prompt, 1 for the words not named.

    Raises ValueError for a word that is not in the prompt.
    """
    scale = np.ones(tokenizer.length, np.float32)
    for word, factor in factors.items():
        scale[find(tokenizer, prompt, word)] = factor
    return scale


def word_schedule(
    tokenizer: Tokenizer,
    prompt: str,
    windows: Window | Mapping[str, Window],
    steps: int,
) -> Float[np.ndarray, "s n"]:
    """1 at the steps and tokens that take the source's attention, 0 elsewhere.

    A mapping has windows of words of the prompt, and under `DEFAULT` that of all others
    (all steps if absent). Bounds are shares of `steps` + 1, as in the release. Raises
    ValueError for a word that is not in the prompt.
    """
    if not isinstance(windows, Mapping):
        windows = {DEFAULT: windows}
    out = np.zeros((steps, tokenizer.length), np.float32)
    first, last = _bounds(windows.get(DEFAULT, 1.0), steps + 1)
    out[first:last] = 1
    for word, window in windows.items():
        if word == DEFAULT:
            continue
        at = find(tokenizer, prompt, word)
        first, last = _bounds(window, steps + 1)
        out[:, at] = 0
        out[first:last, at] = 1
    return out


def step_schedule(window: Window, steps: int) -> Float[np.ndarray, " s"]:
    """1 at the steps inside the window, 0 elsewhere."""
    first, last = _bounds(window, steps)
    out = np.zeros(steps, np.float32)
    out[first:last] = 1
    return out


def check_window(window: Window) -> Window:
    """The window. Raises ValueError for bounds outside [0, 1] or in the wrong order."""
    first, last = window if isinstance(window, tuple) else (0.0, window)
    if not 0 <= first <= last <= 1:
        raise ValueError(
            f"Invalid window {window}; expected a share of the steps in [0, 1], or "
            "FROM,TO with FROM <= TO."
        )
    return window


def find(tokenizer: Tokenizer, prompt: str, word: str) -> list[int]:
    """The positions of a word's tokens. Raises ValueError if it is missing."""
    at = list(positions(tokenizer, prompt, word))
    if not at:
        raise ValueError(f"The word {word!r} is not in {prompt!r}.")
    return at


def spans(tokenizer: Tokenizer, prompt: str, phrases: Sequence[str] = ()) -> list[Span]:
    """The words of the prompt, separated by blanks; each phrase is one word.

    Tokens beyond the tokenizer's length are omitted.
    """
    longest = sorted(filter(None, phrases), key=len, reverse=True)
    whole = [rf"(?<!\S){re.escape(phrase)}(?!\S)" for phrase in longest]
    out, start = [], 1
    for word in re.findall("|".join([*whole, r"\S+"]), prompt, re.IGNORECASE):
        end = start + len(ids_of(tokenizer, word))
        at = [i for i in range(start, end) if i < tokenizer.length - 1]
        out.append(Span(word.lower(), at))
        start = end
    return out


def needleman_wunsch(old: Sequence[int], new: Sequence[int]) -> list[int | None]:
    """The index in `old` that each of `new` is matched with, or None.

    Ties prefer, from the end, insertions of `new`, then deletions of `old`, then
    matches, as in the release.
    """
    score = np.zeros((len(old) + 1, len(new) + 1), int)
    for i, a in enumerate(old):
        for j, b in enumerate(new):
            matched = score[i, j] + (1 if a == b else -1)
            score[i + 1, j + 1] = max(matched, score[i, j + 1], score[i + 1, j])
    taken: list[int | None] = [None] * len(new)
    i, j = score.shape[0] - 1, score.shape[1] - 1
    while i and j:
        if score[i, j] == score[i, j - 1]:
            j -= 1
        elif score[i, j] == score[i - 1, j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            taken[j] = i
    return taken


def _match_padding(mapper: Float[np.ndarray, "n n"], i: int, j: int) -> None:
    """Match the source's end and padding, from i on, with the edit's, from j on."""
    n = mapper.shape[0]
    shared = np.arange(n - max(i, j))
    mapper[i + shared, j + shared] = 1
    if i < j:
        mapper[i + n - j :, -1] = 1
    else:
        mapper[-1, j + n - i - 1 :] = 1 / (i - j + 1)


def _encoded(tokenizer: Tokenizer, prompt: str) -> tuple[int, ...]:
    """The encoded prompt without its padding: begin, words, end."""
    ids = ids_of(tokenizer, prompt)[: tokenizer.length - 2]
    return (tokenizer.bos, *ids, tokenizer.eos)


def _bounds(window: Window, steps: int) -> tuple[int, int]:
    window = check_window(window)
    first, last = window if isinstance(window, tuple) else (0.0, window)
    return int(first * steps), int(last * steps)
