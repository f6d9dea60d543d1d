"""How near pictures are to what was asked for: cosines with texts and references.

Features are what any two towers, or one network, say of pictures and texts, of whatever
length; all is computed in float64. Values of two networks, or of the raw cosine and of
`clip_score`, are not to be compared.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, check_widths, checked

_HOW = ("removed", "class")


def text_cosines(images: Features, texts: Features) -> Float[np.ndarray, " n"]:
    """Each picture's cosine with its own text, row by row, -1 to 1.

    Their mean is CLIP-T as DreamBooth, ClassDiffusion and Infusion report it. Raises
    ValueError for sets of two sizes or widths, for none, and for a feature that is not
    finite or 0.
    """
    pictures, words = _unit(images, "pictures"), _unit(texts, "texts")
    if len(pictures) != len(words):
        raise ValueError(
            f"Each picture needs its own text: {len(pictures)} pictures, "
            f"{len(words)} texts."
        )
    check_widths(pictures.shape[1], words.shape[1])
    return (pictures * words).sum(axis=1)


def clip_score(
    images: Features, texts: Features, *, weight: float = 2.5
) -> Float[np.ndarray, " n"]:
    """`weight` times each pair's cosine, and 0 for a negative one: CLIPScore.

    Hessel et al. 2021, sec. 3; their mean is what Custom Diffusion reports as text
    alignment, without the words "A photo depicts" before the text. Raises what
    `text_cosines` raises.
    """
    return weight * text_cosines(images, texts).clip(min=0)


def reference_cosines(
    images: Features, references: Features
) -> Float[np.ndarray, " n"]:
    """Each picture's mean cosine with all pictures of a concept, -1 to 1.

    Their mean is the mean over all pairs: CLIP-I of CLIP's features, DINO-I of DINO's
    (Ruiz et al. 2022). Raises ValueError as `text_cosines` does.
    """
    pictures, wanted = _unit(images, "pictures"), _unit(references, "references")
    check_widths(pictures.shape[1], wanted.shape[1])
    return pictures @ wanted.mean(axis=0)


def mean_over_targets(
    images: Features, targets: Sequence[Features]
) -> Float[np.ndarray, " n"]:
    """Each picture's `reference_cosines` with each of several concepts, averaged.

    Every concept counts the same, however many references it has (Kumari et al. 2023,
    table 1). Raises ValueError without a concept, and what `reference_cosines` raises.
    """
    if not targets:
        raise ValueError("The mean over targets needs a target, and there is none.")
    return np.mean([reference_cosines(images, each) for each in targets], axis=0)


def without_modifier(prompt: str, placeholder: str, class_word: str, how: str) -> str:
    """The text that a picture of a concept is compared with.

    `how="removed"` leaves the placeholder out, as Custom Diffusion does; "class" puts
    the class word in its place, as DreamBooth, ClassDiffusion and Infusion do, unless
    it follows anyway. Articles stay as they are, case does not matter, for CLIP reads
    lower case, and a prompt without the placeholder comes back unchanged. Raises
    ValueError for another `how`, for no class word, and where no word is left.

    >>> without_modifier("a <v1> dog at night", "<v1>", "dog", "removed")
    'a dog at night'
    >>> without_modifier("a <v1> dog at night", "<v1>", "dog", "class")
    'a dog at night'
    >>> without_modifier("a <v1> at night", "<v1>", "dog", "class")
    'a dog at night'
    """
    if how not in _HOW:
        raise ValueError(f"There is no how {how!r}; there are: {', '.join(_HOW)}.")
    if how == "class" and not class_word.strip():
        raise ValueError('how="class" needs a class word, and it is empty.')
    found = re.compile(_word(placeholder), re.IGNORECASE)
    if not placeholder or not found.search(prompt):
        return prompt
    text = prompt
    if how == "class":
        ahead = rf"(?!\s*{_word(class_word)})"
        alone = re.compile(_word(placeholder) + ahead, re.IGNORECASE)
        text = alone.sub(lambda _: class_word, text)
    text = re.sub(r"\s+(?=[\s,.;:!?])", "", found.sub(" ", text)).strip()
    if not re.search(r"\w", text):
        raise ValueError(f"Without {placeholder} the prompt {prompt!r} has no word.")
    return text


def _word(word: str) -> str:
    """A pattern: "sks" is not in "asks", but "<v1>" ends at its bracket."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w$", word) else ""
    return before + re.escape(word) + after


def _unit(features: Features, rows: str) -> Float[np.ndarray, "n d"]:
    x = checked(features, "An alignment", rows=rows)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    zeros = np.flatnonzero(lengths == 0)
    if len(zeros):
        raise ValueError(
            f"The features of {len(zeros)} of {len(x)} {rows} are 0 and have no "
            f"direction, the first of them number {zeros[0]}."
        )
    return x / lengths
