"""Alignment of pictures with texts and references: cosines of features.

Features may have any length and come from any network; computations are in float64.
Values of different networks are not comparable, nor are cosines and `clip_score`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, UndefinedError, checked


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
    return (pictures * words).sum(axis=1)


def clip_score(images: Features, texts: Features) -> Float[np.ndarray, " n"]:
    """CLIPScore: 2.5 times each pair's cosine, 0 for a negative one.

    Hessel et al. 2021, sec. 3. The mean is Custom Diffusion's text alignment, which
    does not prepend "A photo depicts" to the text. Raises what `text_cosines` raises.
    """
    return 2.5 * text_cosines(images, texts).clip(min=0)


def reference_cosines(
    images: Features, references: Features
) -> Float[np.ndarray, " n"]:
    """The mean cosine of each picture with all references of a concept, in [-1, 1].

    The mean over pictures is the mean over all pairs: CLIP-I for CLIP features, DINO-I
    for DINO features (Ruiz et al. 2022). Raises ValueError as `text_cosines` does.
    """
    pictures, targets = _unit(images, "pictures"), _unit(references, "references")
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


def _unit(features: Features, rows: str) -> Float[np.ndarray, "n d"]:
    x = checked(features, "An alignment", rows=rows)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    zeros = np.flatnonzero(lengths == 0)
    if len(zeros):
        raise UndefinedError(
            f"The features of {len(zeros)} of {len(x)} {rows} are 0, so that cosines "
            f"are undefined; the first is number {zeros[0]}."
        )
    return x / lengths
