"""Picture sets that are drawn when they are looked at: portraits and scenes."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from personax.data import emoji
from personax.data.emoji import Scene, Sprites
from personax.data.picture import Picture

# How many there are unless a source says otherwise; both go on for ever.
PORTRAITS, SCENES = 20_000, 120_000


@dataclasses.dataclass(frozen=True)
class Rendered:
    """Portraits of "people" or "animals", or the "scenes" that the base saw.

    Picture i depends on the seed and on i alone. Portraits are called "a photo of a boy
    on the beach", scenes as the base learned to call them.
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
        # Without the sprites, which each process reads for itself.
        return type(self), dataclasses.astuple(self)

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """What portrait `index` shows."""
        return self._chosen(index)[1]

    def picture(self, index: int) -> Picture:
        if self.which == "scenes":
            options = {"styles": self.styles, "held_out": self.held_out}
            return Picture(*emoji.scene(self.seed, index, self._sprites, **options))
        rng, scene = self._chosen(index)
        pixels = emoji.portrait(rng, self._sprites, scene)
        return Picture(pixels, emoji.caption(scene))

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        return np.full((self.count, 2), 32)

    def digest(self) -> str:
        return repr(self)

    def _chosen(self, index: int) -> tuple[np.random.Generator, Scene]:
        rng = np.random.default_rng((self.seed, index))
        classes = emoji.PORTRAITS[self.which]
        return rng, emoji.portrait_scene(
            rng, self._sprites, classes=classes, styles=self.styles
        )

    @functools.cached_property
    def _sprites(self) -> Sprites:
        return emoji.load_sprites()


def open_portraits(which: str, options: Mapping[str, str]) -> Rendered:
    """The portraits of a set, in all styles unless `options` name some."""
    if which not in emoji.PORTRAITS:
        sets = ", ".join(f"portraits:{name}" for name in emoji.PORTRAITS)
        raise ValueError(f"There is no set 'portraits:{which}'; there are {sets}.")
    return _open(which, options, count=PORTRAITS, styles=tuple(emoji.STYLES))


def open_scenes(options: Mapping[str, str]) -> Rendered:
    """Scenes in the styles of the base's first version, or in those `options` name."""
    return _open("scenes", options, count=SCENES, styles=emoji.BASE_STYLES)


def _open(which, options, *, count, styles) -> Rendered:
    named = options.get("styles")
    if named is not None:
        styles = tuple(emoji.STYLES) if named == "all" else tuple(named.split("+"))
    return Rendered(
        which,
        int(options.get("count", count)),
        styles,
        held_out="held_out" in options,
        seed=int(options.get("seed", 0)),
    )
