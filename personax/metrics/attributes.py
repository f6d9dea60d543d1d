"""In how many pictures the attribute is there that was asked for."""

from collections.abc import Callable, Collection, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from personax.core.images import Pixels

Pictures = Sequence[Pixels] | UInt8[np.ndarray, "_ _ _ 3"]
# Says of each picture one word, or all words that hold.
Judge = Callable[[Pictures], Sequence[str | Collection[str]]]


def attribute_ratio(
    judge: Judge, pixels: Pictures, wanted: str | Sequence[str]
) -> Int[np.ndarray, " n"]:
    """1 for each picture in which the judge sees what was wanted, else 0.

    Their mean is the attribute ratio, 0 to 1, of concept-centric personalisation, whose
    paper does not name its judge. `wanted` is one word for all pictures, or one for
    each, in the judge's own vocabulary: one that it never says is never seen. Raises
    ValueError for no pictures, and where words are not one for each picture.
    """
    if not len(pixels):
        raise ValueError("An attribute ratio needs pictures, and there are none.")
    words = [wanted] * len(pixels) if isinstance(wanted, str) else list(wanted)
    if len(words) != len(pixels):
        raise ValueError(f"{len(words)} words are wanted in {len(pixels)} pictures.")
    seen = judge(pixels)
    if len(seen) != len(pixels):
        raise ValueError(f"The judge says {len(seen)} words of {len(pixels)} pictures.")
    return np.array([_says(each, word) for each, word in zip(seen, words, strict=True)])


def _says(seen: str | Collection[str], word: str) -> int:
    # "hat" is in the string "top-hat", but not what it says.
    return int(word == seen if isinstance(seen, str) else word in seen)
