"""Captions alone, as a sample of what words are like."""

import pathlib

import numpy as np

from personax.data import emoji

WORLD = 10_000


def read_corpus(source: str, seed: int = 0) -> list[str]:
    """The captions of "world" (10,000), of "world:N", or the lines of a .txt file.

    "world" is what the embedded base was trained on. Raises ValueError for anything
    else, and FileNotFoundError.
    """
    kind, _, number = source.partition(":")
    if kind == "world" and (number.isdigit() or source == kind):
        return _world(int(number or WORLD), seed)
    if not source.endswith(".txt"):
        raise ValueError(
            f"There is no corpus {source!r}; there are: world, world:N, FILE.txt."
        )
    lines = pathlib.Path(source).read_text(encoding="utf-8-sig").splitlines()
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"The corpus {source} holds no caption.")
    return found


def _world(count: int, seed: int) -> list[str]:
    if not count:
        raise ValueError("The corpus 'world:0' holds no caption.")
    sprites, found = emoji.load_sprites(), []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        scene = emoji.choose(rng, sprites)
        found.append(emoji.caption(scene, emoji.phrase(rng, scene)))
    return found
