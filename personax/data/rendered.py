"""Picture sets rendered on access: portraits and scenes."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from personax.data import emoji
from personax.data.emoji import Scene, Sprites
from personax.data.picture import Picture

# Default sizes; both sets are unlimited.
PORTRAITS, SCENES = 20_000, 120_000


@dataclasses.dataclass(frozen=True)
class Rendered:
    """Portraits of "people" or "animals", or the base's training distribution "scenes".

    Picture i depends on the seed and on i alone. Captions of portraits are of the form
    "a photo of a boy on the beach", those of scenes the base's training captions.
    """

    which: str
    count: int
    styles: tuple[str, ...]
    held_out: bool = False
    seed: int = 0

    skipped, captioned = (), True

    def __post_init__(self):
        self.picture(0)

    def __reduce__(self):
        # Without the sprites: each process reads them itself.
        return type(self), dataclasses.astuple(self)

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """The scene of portrait `index`."""
        return self._sample(index)[1]

    def picture(self, index: int) -> Picture:
        if self.which == "scenes":
            options = {"styles": self.styles, "held_out": self.held_out}
            return Picture(*emoji.scene(self.seed, index, self._sprites, **options))
        rng, scene = self._sample(index)
        pixels = emoji.portrait(rng, self._sprites, scene)
        return Picture(pixels, emoji.caption(scene))

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        return np.full((self.count, 2), 32)

    def digest(self) -> str:
        return repr(self)

    def contents(self) -> str:
        return ""

    def _sample(self, index: int) -> tuple[np.random.Generator, Scene]:
        rng = np.random.default_rng((self.seed, index))
        classes = emoji.PORTRAITS[self.which]
        return rng, emoji.portrait_scene(
            rng, self._sprites, classes=classes, styles=self.styles
        )

    @functools.cached_property
    def _sprites(self) -> Sprites:
        return emoji.load_sprites()


def open_portraits(which: str, options: Mapping[str, str]) -> Rendered:
    """The portraits of a set, by default in all styles."""
    if which not in emoji.PORTRAITS:
        sets = ", ".join(f"portraits:{name}" for name in emoji.PORTRAITS)
        raise ValueError(f"Unknown set 'portraits:{which}'; expected one of {sets}.")
    return _open(which, options, PORTRAITS, tuple(emoji.STYLES))


def open_scenes(options: Mapping[str, str]) -> Rendered:
    """Scenes, by default in the styles of the base's first version."""
    return _open("scenes", options, SCENES, emoji.BASE_STYLES)


def _open(which, options, count, styles) -> Rendered:
    named = options.get("styles")
    if named is not None:
        styles = tuple(emoji.STYLES) if named == "all" else tuple(named.split("+"))
    count, seed = (int(options.get(*each)) for each in (("count", count), ("seed", 0)))
    return Rendered(which, count, styles, "held_out" in options, seed)
