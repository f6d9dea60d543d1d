"""What a large set of pictures is: random access, by number."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from personax.core.images import Pixels


class Picture(NamedTuple):
    """A picture as large as it is, and what it is called; "" where nothing is said."""

    pixels: Pixels
    caption: str


@runtime_checkable
class PictureSet(Protocol):
    """Picture `index` of `len(set)` is the same one in every process and at any time.

    `skipped` says, a sentence each, which files were left out when the set was opened;
    `captioned` whether anything is called anything.
    """

    @property
    def skipped(self) -> tuple[str, ...]: ...

    @property
    def captioned(self) -> bool: ...

    def __len__(self) -> int: ...

    def picture(self, index: int) -> Picture:
        """Raises ValueError, naming the picture, where it cannot be read."""
        ...

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        """(height, width) of every picture, from its header."""
        ...

    def digest(self) -> str:
        """What changes when the pictures, their order or their number do."""
        ...
