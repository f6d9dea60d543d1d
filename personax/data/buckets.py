"""Aspect-ratio buckets: sizes of about equally many pixels, and the nearest one."""

import numpy as np
from jaxtyping import Float, Int

_LONGEST = 2.5  # times the shorter side


def bucket_sizes(size: tuple[int, int], multiple: int) -> tuple[tuple[int, int], ...]:
    """Every (height, width) with at most the pixels of `size`, widest first.

    Sides are multiples of `multiple`, the longer at most 2.5 times the shorter, and
    each as long as the other one allows. Raises ValueError where none fits.

    >>> bucket_sizes((512, 512), 128)
    ((384, 640), (512, 512), (640, 384))
    """
    budget = size[0] * size[1]
    sides = range(multiple, budget // multiple + 1, multiple)
    longest = {side: budget // side // multiple * multiple for side in sides}
    fitting = [
        (height, width)
        for height, width in longest.items()
        if width
        and longest[width] == height
        and max(height, width) <= _LONGEST * min(height, width)
    ]
    if not fitting:
        raise ValueError(
            f"No bucket of {size[1]}x{size[0]} pixels has sides in multiples of "
            f"{multiple}."
        )
    return tuple(sorted(fitting, key=lambda pair: pair[0] / pair[1]))


def bucket_of(
    sizes: Int[np.ndarray, "n 2"], buckets: tuple[tuple[int, int], ...]
) -> Int[np.ndarray, " n"]:
    """The index of the bucket whose aspect is nearest to each picture's."""
    distance = _aspect(sizes)[:, None] - _aspect(np.array(buckets))[None]
    return np.argmin(np.abs(distance), axis=1)


def _aspect(sizes: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    return np.log(sizes[:, 0] / sizes[:, 1])
