"""Features of pictures: the input of their networks, and checks of sets of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

Features = Shaped[np.ndarray, "_ _"]  # one row per picture or text


class UndefinedError(ValueError):
    """A metric has no value for these pictures: too few, or not finite."""


def normalized(
    pictures: Sequence[np.ndarray], network: Any
) -> Float[np.ndarray, "n height width 3"]:
    """uint8 pictures of one size as a network's input, by its `mean` and `std`."""
    mean, std = (np.array(x, np.float32) for x in (network.mean, network.std))
    return (np.stack(pictures).astype(np.float32) / 255 - mean) / std


def checked(
    features: Shaped[np.ndarray, "_ ..."],
    metric: str,
    *,
    least: int = 1,
    rows: str = "pictures",
) -> Float[np.ndarray, "_ ..."]:
    """The features in float64.

    Raises UndefinedError for fewer than `least` rows, for empty rows, and for values
    that are not finite.
    """
    x = np.asarray(features, np.float64)
    if len(x) < least:
        amount = f"at least {least} {rows} of each set" if least > 1 else rows
        raise UndefinedError(f"{metric} requires {amount}, not {len(x)}.")
    if not x.size:
        raise UndefinedError(f"{metric} requires {rows} with at least one value each.")
    wrong = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))
    if len(wrong):
        raise UndefinedError(
            f"The values of {len(wrong)} of {len(x)} {rows} are not finite; the first "
            f"is number {wrong[0]}."
        )
    return x
