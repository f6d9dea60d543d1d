"""Rare tokens: vocabulary entries with little meaning, to initialise concepts."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from personax.networks.tokenizer import Tokenizer, ids_of


class RareToken(NamedTuple):
    """A vocabulary entry and its count in the captions."""

    entry: str  # as in the vocabulary's file: "ktn", or "sks</w>"
    id: int
    count: int


def rare_tokens(
    tokenizer: Tokenizer, captions: Iterable[str], *, least: int = 5, most: int = 10
) -> list[RareToken]:
    """The entries that occur `least` to `most` times in the captions, rarest first.

    As in Custom Diffusion (Kumari et al. 2023, appendix), which counts over 200,000
    captions: only letters (a to z, apart from the "</w>" that ends a word), and no part
    of another token. Nearly every entry is part of a longer one that it was merged
    into; so only entries that occur in the captions count as another.

    Raises ValueError, with the number of entries after each criterion, when none is
    left.
    """
    counts = Counter(i for caption in captions for i in ids_of(tokenizer, caption))
    entries = {i: entry for entry, i in tokenizer.backend.get_vocab().items()}
    used = {i: entries[i].removesuffix("</w>") for i in counts if i in entries}
    few = [i for i in used if least <= counts[i] <= most]
    # Other scripts are spelled in bytes, some of which look like accented letters.
    letters = [i for i in few if used[i].isascii() and used[i].isalpha()]
    haystack = "\n".join(used.values())
    rare = [i for i in letters if _once(used[i], haystack)]
    if not rare:
        raise ValueError(
            f"The captions hold no rare token: of {len(used)} vocabulary entries that "
            f"occur, {len(few)} occur {least} to {most} times, {len(letters)} of these "
            "are only letters, and each of those is part of another."
        )
    # Of two that are as rare, the later merge was rarer in the vocabulary's own corpus.
    rare.sort(key=lambda i: (counts[i], -i))
    return [RareToken(entries[i], i, counts[i]) for i in rare]


def _once(part: str, text: str) -> bool:
    return text.find(part, text.find(part) + 1) == -1
