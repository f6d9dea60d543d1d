"""Attention maps of the words of a prompt: options, lookup and overlays."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from personax.concepts.bind import Model
from personax.core import images
from personax.diffusion.attention_maps import of_word
from personax.networks.tokenizer import positions
from personax.sampling.prompt_terms import TermSpec


@dataclasses.dataclass(frozen=True)
class AttentionOptions:
    """Whose maps, and which ones; see `diffusion.attention_maps.make_map_spec`."""

    words: tuple[str, ...]
    side: int | None = None
    places: tuple[str, ...] = ("down", "up")
    steps: tuple[float, float] = (0.0, 1.0)


class Word(NamedTuple):
    """A word of a term's prompt."""

    word: str
    term: int  # among the guidance terms; the unconditional one is 0
    positions: tuple[int, ...]


def find_words(
    words: Sequence[str], models: Mapping[str, Model], term_specs: Sequence[TermSpec]
) -> list[Word]:
    """Each word in the first prompt that contains it. Raises ValueError without one."""
    out = []
    for word in words:
        for term, term_spec in enumerate(term_specs, start=1):
            tokenizer = models[term_spec.model].tokenizer
            at = positions(tokenizer, term_spec.prompt, word)
            if at:
                out.append(Word(word, term, at))
                break
        else:
            prompts = " and ".join(repr(term_spec.prompt) for term_spec in term_specs)
            raise ValueError(f"--attention: the word {word!r} is not in {prompts}.")
    return out


def write_attention(
    out: pathlib.Path,
    pictures: Sequence[images.Pixels | None],
    maps: Float[np.ndarray, "j b y x n"],
    words: Sequence[Word],
) -> list[str]:
    """attention.png, a row of overlays for each word, and attention.npz: their names.

    Pictures that are None are left out.
    """
    maps = maps[:, [i for i, each in enumerate(pictures) if each is not None]]
    pictures = [each for each in pictures if each is not None]
    arrays = {x.word: of_word(maps[x.term], x.positions) for x in words}
    tiles = list(pictures)
    for word in words:
        tiles += map(images.overlay, pictures, arrays[word.word])
    labels = ["", *(f"{word}, at most {x.max():.2f}" for word, x in arrays.items())]
    sheet = images.grid(tiles, columns=len(pictures), row_labels=labels)
    images.write_png(out / "attention.png", sheet)
    np.savez(out / "attention.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return ["attention.png", "attention.npz"]
