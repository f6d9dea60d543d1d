"""Cut-Mix (SVDiff, Han et al. 2023): pictures of two concepts side by side."""

import numpy as np

from personax.data.augment import View
from personax.data.dataset import check_probability

PROMPT = "a photo of a {} and a {}"


def check_cut_mix(
    probability: float,
    prompt: str,
    *,
    concepts: int,
    size: tuple[int, int],
    factor: int,
) -> None:
    """Raise ValueError for options that do not fit."""
    check_probability("cut_mix", probability)
    if probability and concepts < 2:
        raise ValueError("cut_mix puts two concepts side by side; there is only one.")
    if probability and prompt.count("{}") != 2:
        raise ValueError(
            f"cut_mix_prompt={prompt!r} must have a {{}} for each of two concepts, as "
            f"{PROMPT!r} has."
        )
    if probability and size[1] % (2 * factor):
        raise ValueError(
            f"cut_mix needs half a canvas of whole latent cells: {size[1]} pixels do "
            f"not divide by 2 * {factor}."
        )


def fill_prompt(prompt: str, left: str, right: str) -> str:
    """The caption of a pair, the left one first.

    >>> fill_prompt("a {} and a {}", "<v1> dog", "<v2> cat")
    'a <v1> dog and a <v2> cat'
    """
    before, between, after = prompt.split("{}")
    return f"{before}{left}{between}{right}{after}"


def concatenate(left: View, right: View, caption: str) -> View:
    """One view of a canvas from two views of its halves."""
    return View(
        np.concatenate([left.pixels, right.pixels], axis=1),
        np.concatenate([left.mask, right.mask], axis=1),
        caption,
    )
