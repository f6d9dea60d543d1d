"""The interface of large picture sets: random access by index."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from personax.core.images import Pixels


class Picture(NamedTuple):
    """A picture in its own size, and its caption, which may be empty."""

    pixels: Pixels
    caption: str


@runtime_checkable
class PictureSet(Protocol):
    """Pictures by index, the same in every process and run.

    `skipped` holds a message for each file that was left out when the set was opened;
    `captioned` is whether any picture has a caption.
    """

    @property
    def skipped(self) -> tuple[str, ...]: ...

    @property
    def captioned(self) -> bool: ...

    def __len__(self) -> int: ...

    def picture(self, index: int) -> Picture:
        """Raises ValueError, with its name, for one that cannot be read."""
        ...

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        """(height, width) of every picture, from its header."""
        ...

    def digest(self) -> str:
        """Changes with the pictures' names, sizes, captions, order or number."""
        ...

    def contents(self) -> str:
        """A digest of the pictures' files, see `digest_contents`; "" without any."""
        ...
