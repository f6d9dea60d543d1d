"""Alignment of pictures with texts and references: cosines of features.

Features may have any length and come from any network; computations are in float64.
Values of different networks are not comparable, nor are cosines and `clip_score`.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, check_widths, checked

_MODES = ("removed", "class")


def text_cosines(images: Features, texts: Features) -> Float[np.ndarray, " n"]:
    """The cosine of each picture and its own text, row by row, in [-1, 1].

    The mean is CLIP-T as reported by DreamBooth, ClassDiffusion and Infusion. Raises
    ValueError for sets of two sizes or widths, for empty sets, and for a feature that
    is 0 or not finite.
    """
    pictures, words = _unit(images, "pictures"), _unit(texts, "texts")
    if len(pictures) != len(words):
        raise ValueError(
            f"Each picture requires its own text: {len(pictures)} pictures, "
            f"{len(words)} texts."
        )
    check_widths(pictures.shape[1], words.shape[1])
    return (pictures * words).sum(axis=1)


def clip_score(
    images: Features, texts: Features, *, weight: float = 2.5
) -> Float[np.ndarray, " n"]:
    """CLIPScore: `weight` times each pair's cosine, 0 for a negative one.

    Hessel et al. 2021, sec. 3. The mean is Custom Diffusion's text alignment, which
    does not prepend "A photo depicts" to the text. Raises what `text_cosines` raises.
    """
    return weight * text_cosines(images, texts).clip(min=0)


def reference_cosines(
    images: Features, references: Features
) -> Float[np.ndarray, " n"]:
    """The mean cosine of each picture with all references of a concept, in [-1, 1].

    The mean over pictures is the mean over all pairs: CLIP-I for CLIP features, DINO-I
    for DINO features (Ruiz et al. 2022). Raises ValueError as `text_cosines` does.
    """
    pictures, targets = _unit(images, "pictures"), _unit(references, "references")
    check_widths(pictures.shape[1], targets.shape[1])
    return pictures @ targets.mean(axis=0)


def mean_over_targets(
    images: Features, targets: Sequence[Features]
) -> Float[np.ndarray, " n"]:
    """`reference_cosines` averaged over several concepts.

    Every concept has the same weight, whatever its number of references (Kumari et al.
    2023, table 1). Raises ValueError without a concept, and what `reference_cosines`
    raises.
    """
    if not targets:
        raise ValueError("The mean over targets requires at least one target.")
    return np.mean([reference_cosines(images, each) for each in targets], axis=0)


def without_modifier(prompt: str, placeholder: str, class_word: str, how: str) -> str:
    """The text to compare a picture of a concept with.

    `how="removed"` removes the placeholder, as in Custom Diffusion. `how="class"`
    replaces it by the class word, as in DreamBooth, ClassDiffusion and Infusion, unless
    the class word follows it. Articles are unchanged, and case is ignored, since CLIP
    reads lower case. A prompt without the placeholder is returned unchanged.

    Raises ValueError for another `how`, for an empty class word, and if no word is
    left.

    >>> without_modifier("a <v1> dog at night", "<v1>", "dog", "removed")
    'a dog at night'
    >>> without_modifier("a <v1> dog at night", "<v1>", "dog", "class")
    'a dog at night'
    >>> without_modifier("a <v1> at night", "<v1>", "dog", "class")
    'a dog at night'
    """
    if how not in _MODES:
        raise ValueError(f"Unknown how={how!r}; expected one of {', '.join(_MODES)}.")
    if how == "class" and not class_word.strip():
        raise ValueError('how="class" requires a class word.')
    modifier = re.compile(_word(placeholder), re.IGNORECASE)
    if not placeholder or not modifier.search(prompt):
        return prompt
    text = prompt
    if how == "class":
        not_followed = rf"(?!\s*{_word(class_word)})"
        alone = re.compile(_word(placeholder) + not_followed, re.IGNORECASE)
        text = alone.sub(lambda _: class_word, text)
    text = re.sub(r"\s+(?=[\s,.;:!?])", "", modifier.sub(" ", text)).strip()
    if not re.search(r"\w", text):
        raise ValueError(f"Without {placeholder}, the prompt {prompt!r} is empty.")
    return text


def _word(word: str) -> str:
    """A pattern of whole words; "<v1>" ends at its bracket."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w$", word) else ""
    return before + re.escape(word) + after


def _unit(features: Features, rows: str) -> Float[np.ndarray, "n d"]:
    x = checked(features, "An alignment", rows=rows)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    zeros = np.flatnonzero(lengths == 0)
    if len(zeros):
        raise ValueError(
            f"The features of {len(zeros)} of {len(x)} {rows} are 0, so that cosines "
            f"are undefined; the first is number {zeros[0]}."
        )
    return x / lengths
