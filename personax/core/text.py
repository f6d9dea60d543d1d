"""Words in texts, whatever their case and Unicode form, as CLIP's tokenizer reads them.

It composes characters (NFC) and takes the lower case of each, which may be two: that of
"İ" is "i" and a dot above. `str.lower` and `re.IGNORECASE` differ from it.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator


def fold(text: str) -> str:
    """The form of a text in which two that CLIP reads alike are equal."""
    return "".join(character.lower() for character in compose(text))


def compose(text: str) -> str:
    """The text with composed characters (NFC)."""
    return unicodedata.normalize("NFC", text)


def spans(
    text: str, words: Iterable[str], *, whole: bool = True
) -> Iterator[tuple[int, int]]:
    """(start, end) of the occurrences of words in a composed text, in its order.

    With `whole` one that begins or ends with a letter counts only as whole words: "hat"
    is not in "that", but "<v1>" ends at its bracket. Of overlapping ones the longest
    counts.
    """
    lowered = [character.lower() for character in text]
    starts = list(itertools.accumulate(map(len, lowered), initial=0))
    place = {start: i for i, start in enumerate(starts)}
    # re keeps what it has compiled.
    for match in re.finditer(_pattern(words, whole), "".join(lowered)):
        if match.start() in place and match.end() in place:
            yield place[match.start()], place[match.end()]


def _pattern(words: Iterable[str], whole: bool) -> str:
    bounded = (
        (r"(?<!\w)" if whole and re.match(r"\w", word) else "")
        + re.escape(word)
        + (r"(?!\w)" if whole and re.search(r"\w$", word) else "")
        for word in sorted({fold(word) for word in words if word}, key=len)[::-1]
    )
    return "|".join(bounded) or r"(?!)"  # which matches nothing
