"""Corpora of captions, for statistics of the text encoder."""

import numpy as np

from personax.core.files import expand, read_lines
from personax.data import emoji

WORLD = 10_000


def read_corpus(source: str, seed: int = 0) -> list[str]:
    """The captions of "world" (10,000), of "world:N", or the lines of a .txt file.

    "world" is the distribution that the embedded base was trained on. Raises ValueError
    for any other source or an empty one, FileNotFoundError for a missing file.
    """
    kind, _, number = source.partition(":")
    if kind == "world" and (number.isdigit() or source == kind):
        return _world(int(number or WORLD), seed)
    if not source.endswith(".txt"):
        raise ValueError(
            f"Unknown corpus {source!r}; expected world, world:N or FILE.txt."
        )
    captions = read_lines(expand(source))
    if not captions:
        raise ValueError(f"The corpus {source} holds no caption.")
    return captions


def _world(count: int, seed: int) -> list[str]:
    if not count:
        raise ValueError("The corpus 'world:0' holds no caption.")
    sprites, captions = emoji.load_sprites(), []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        scene = emoji.choose(rng, sprites)
        captions.append(emoji.caption(scene, emoji.phrase(rng, scene)))
    return captions
