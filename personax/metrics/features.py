"""Validation of sets of features."""

import numpy as np
from jaxtyping import Float, Shaped

Features = Shaped[np.ndarray, "_ _"]  # one row per picture or text


def checked(
    features: Shaped[np.ndarray, "_ ..."],
    metric: str,
    *,
    least: int = 1,
    rows: str = "pictures",
) -> Float[np.ndarray, "_ ..."]:
    """The features in float64.

    Raises ValueError for fewer than `least` rows, for empty rows, and for values that
    are not finite.
    """
    x = np.asarray(features, np.float64)
    if len(x) < least:
        amount = f"at least {least} {rows} of each set" if least > 1 else rows
        raise ValueError(f"{metric} requires {amount}, not {len(x)}.")
    if not x.size:
        raise ValueError(f"{metric} requires {rows} with at least one value each.")
    wrong = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"The values of {len(wrong)} of {len(x)} {rows} are not finite; the first "
            f"is number {wrong[0]}."
        )
    return x


def check_widths(one: int, other: int) -> None:
    """Raise ValueError for features of two widths, which are of two networks."""
    if one != other:
        raise ValueError(f"The sets have features of two widths: {one} and {other}.")
