"""Where the words of a prompt look: found in the terms, and shown over the pictures."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from jaxtyping import Float

from personax.cli import command
from personax.concepts.bind import Model
from personax.core import images
from personax.diffusion import attention_maps
from personax.networks.tokenizer import positions
from personax.sampling.prompt_terms import TermSpec


def define_flags() -> None:
    """The flags of --attention; `find_words` and `make_look` read them."""
    text = flags.DEFINE_string
    text("attention", "", "Words, as dog,hat: where they look, in attention.png.")
    flags.DEFINE_integer(
        "attention_side", 0, "Rows of the maps. Default: see diffusion/heat.py.", 0
    )
    flags.DEFINE_list("attention_places", "down,up", "Among down, mid and up.")
    flags.DEFINE_list("attention_steps", "0,1", "First and last share of the steps.")


class Word(NamedTuple):
    """A word whose attention is asked for, and where it stands."""

    word: str
    term: int  # among the guidance terms, the unconditional one being 0
    at: tuple[int, ...]


def find_words(
    given: Any, models: Mapping[str, Model], term_specs: Sequence[TermSpec]
) -> list[Word]:
    """The words of --attention, each in the first prompt that holds it."""
    found = []
    for word in command.listed(given.attention):
        places = [
            (j, positions(models[term_spec.model].tokenizer, term_spec.prompt, word))
            for j, term_spec in enumerate(term_specs, start=1)
        ]
        places = [(j, at) for j, at in places if at]
        if not places:
            asked = " and ".join(repr(term_spec.prompt) for term_spec in term_specs)
            raise ValueError(f"--attention: {word!r} is no word of {asked}.")
        found.append(Word(word, *places[0]))
    return found


def make_look(
    given: Any, model: Model, shape: tuple[int, int, int]
) -> attention_maps.AttentionMapSpec:
    """The maps that the flags ask for; ValueError in one sentence."""
    try:
        first, last = (float(share) for share in given.attention_steps)
    except ValueError:
        asked = ",".join(given.attention_steps)
        raise ValueError(f"--attention_steps {asked!r} is not FIRST,LAST, such as 0,1.")
    return attention_maps.make_look(
        model.denoiser,
        shape,
        side=given.attention_side,
        places=given.attention_places,
        steps=(first, last),
    )


def write(
    out: pathlib.Path,
    pictures: Sequence[images.Pixels],
    maps: Float[np.ndarray, "j b y x n"],
    words: Sequence[Word],
) -> None:
    """attention.png, a row of overlays for each word, and their arrays beside it."""
    arrays = {
        each.word: attention_maps.word(maps[each.term, : len(pictures)], each.at)
        for each in words
    }
    tiles = list(pictures)
    for each in words:
        tiles += map(images.overlay, pictures, arrays[each.word])
    labels = ["", *(f"{word}, at most {x.max():.2f}" for word, x in arrays.items())]
    sheet = images.grid(tiles, columns=len(pictures), row_labels=labels)
    images.write_png(out / "attention.png", sheet)
    np.savez(out / "attention.npz", **arrays)
