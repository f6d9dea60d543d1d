"""Cut-Mix (Han et al. 2023): two subjects' pictures side by side, and said so."""

import numpy as np

from personax.data.augment import View

PROMPT = "a photo of a {} and a {}"


def check_cut_mix(
    chance: float, prompt: str, *, subjects: int, size: tuple[int, int], factor: int
) -> None:
    """ValueError for what cannot be mixed."""
    if not 0 <= chance <= 1:
        raise ValueError(f"cut_mix is {chance}; it is a chance, from 0 to 1.")
    if chance and subjects < 2:
        raise ValueError("cut_mix puts two concepts side by side, and here is one.")
    if chance and prompt.count("{}") != 2:
        raise ValueError(
            f"The cut_mix_prompt {prompt!r} must have a {{}} for each of two concepts, "
            f"as {PROMPT!r} has."
        )
    if chance and size[1] % (2 * factor):
        raise ValueError(
            f"Half a canvas of {size[1]} pixels is no whole number of latent cells of "
            f"{factor} pixels, as cut_mix needs."
        )


def fill_prompt(prompt: str, left: str, right: str) -> str:
    """The caption of both, the left one first.

    >>> fill_prompt("a {} and a {}", "<v1> dog", "<v2> cat")
    'a <v1> dog and a <v2> cat'
    """
    before, between, after = prompt.split("{}")
    return f"{before}{left}{between}{right}{after}"


def concatenate(left: View, right: View, caption: str) -> View:
    """Two views of half a canvas as one of the whole."""
    return View(
        np.concatenate([left.pixels, right.pixels], axis=1),
        np.concatenate([left.mask, right.mask], axis=1),
        caption,
    )
