"""The ten sets and five pairs of Custom Diffusion (Kumari et al. 2023, sec. 4).

Their folder is a clone of github.com/adobe-research/custom-diffusion, which holds
prompts/, with data.zip unpacked in it: data/cat, real_reg/samples_cat. The moongates
are published elsewhere (FastGAN-pytorch) and go to data/moongate.
"""

import functools
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from personax.data.subjects import (
    Kind,
    Pair,
    Readers,
    Subject,
    pictures_in,
    read_prompts,
)


class _Set(NamedTuple):
    class_word: str
    prompts: str  # its file in prompts/
    kind: Kind = "object"


# In the order of the paper's tables.
_SETS = {
    "moongate": _Set("moongate", "moongate"),
    "barn": _Set("barn", "barn"),
    "tortoise_plushy": _Set("tortoise plushy", "tortoise_plushy"),
    "teddybear": _Set("teddybear", "teddybear"),
    "wooden_pot": _Set("wooden pot", "wooden"),
    "dog": _Set("dog", "dog", "live"),
    "cat": _Set("cat", "cat", "live"),
    "flower": _Set("flower", "flower"),
    "table": _Set("table", "table"),
    "chair": _Set("chair", "chair"),
}
_PAIRS = (
    ("moongate", "dog"),
    ("cat", "chair"),
    ("wooden_pot", "cat"),
    ("wooden_pot", "flower"),
    ("table", "chair"),
)


def open_custom_diffusion(folder: pathlib.Path) -> Readers:
    """{name: reader of that subject} of the ten sets.

    The moongate is one of them; the paper trains it without a placeholder.
    """
    return {name: functools.partial(_subject, folder, name) for name in _SETS}


def read_custom_diffusion_pairs(folder: pathlib.Path) -> tuple[Pair, ...]:
    """The five pairs, each with its eight prompts.

    They name the classes alone, "the cat playing with a wooden pot": the first mention
    is the subject's place. Raises FileNotFoundError for a missing file, ValueError for
    one that does not name both.
    """
    pairs = []
    for names in _PAIRS:
        file = folder / "prompts" / f"{'_'.join(names)}.txt"
        places = {name: f"{{{i}}}" for i, name in enumerate(names)}
        pairs.append(Pair(names, _prompts(file, places)))
    return tuple(pairs)


def _subject(folder: pathlib.Path, name: str) -> Subject:
    own = _SETS[name]
    prompts = _prompts(folder / "prompts" / f"{own.prompts}.txt", {name: "{}"})
    prior = folder / "real_reg" / f"samples_{name}"
    return Subject(
        name,
        pictures_in(folder / "data" / name),
        own.class_word,
        own.kind,
        prompts,
        prior_images=str(prior) if prior.is_dir() else "",
    )


def _prompts(file: pathlib.Path, places: Mapping[str, str]) -> tuple[str, ...]:
    """The file's prompts with {name: place} for "<new1> cat", or for "cat" alone."""

    def open_places(prompt: str) -> str:
        for name, place in places.items():
            word = re.escape(_SETS[name].class_word)
            for pattern in (rf"<[^<>\s]+>\s+{word}\b", rf"\b{word}\b"):
                opened, count = re.subn(pattern, place, prompt, count=1, flags=re.I)
                if count:
                    break
            else:
                raise ValueError(f"{prompt!r} in {file} does not name the {name}.")
            prompt = opened
        return prompt

    return read_prompts(file, tuple(places.values()), open_places)
