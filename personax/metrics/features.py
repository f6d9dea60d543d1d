"""Sets of features, a row for each picture or text, and what makes one unfit."""

import numpy as np
from jaxtyping import Float, Shaped

Features = Shaped[np.ndarray, "_ _"]  # a row for each picture or text


def checked(
    features: Shaped[np.ndarray, "_ ..."],
    metric: str,
    *,
    least: int = 1,
    rows: str = "pictures",
) -> Float[np.ndarray, "_ ..."]:
    """The rows in float64.

    Raises ValueError for fewer than `least`, for rows of no number, and for numbers
    that are not finite.
    """
    x = np.asarray(features, np.float64)
    if len(x) < least:
        amount = f"at least {least} {rows} of each set" if least > 1 else rows
        raise ValueError(f"{metric} needs {amount}, not {len(x)}.")
    if not x.size:
        raise ValueError(f"{metric} needs {rows} of at least one number each.")
    wrong = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"The numbers of {len(wrong)} of {len(x)} {rows} are not finite, the "
            f"first of them number {wrong[0]}."
        )
    return x


def check_widths(one: int, other: int) -> None:
    """ValueError for features of two widths: they are of two networks."""
    if one != other:
        raise ValueError(
            f"The features have {one} numbers in one set and {other} in the other."
        )
