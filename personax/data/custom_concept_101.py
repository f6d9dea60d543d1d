"""CustomConcept101 (Kumari et al. 2023), as it is published.

Its folder is customconcept101/ of github.com/adobe-research/custom-diffusion, which
holds dataset.json, dataset_multiconcept.json and prompts/, with benchmark_dataset.zip
unpacked in it. A subject has the name of its folder of pictures, "pet_dog1".
"""

import functools
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from personax.data.subjects import (
    Kind,
    Pair,
    Readers,
    Subject,
    pictures_in,
    read_list,
    read_prompts,
)


def open_custom_concept_101(folder: pathlib.Path) -> Readers:
    """{name: reader of that subject} of dataset.json, 101 of them.

    Raises FileNotFoundError or ValueError for any other folder.
    """
    file = folder / "dataset.json"
    readers = {}
    for number, entry in enumerate(read_list(file), 1):
        place = f"Entry {number} of {file}"
        concept = _concept(entry, place)
        readers[_name(concept)] = functools.partial(_subject, folder, concept, place)
    return readers


def read_custom_concept_101_pairs(folder: pathlib.Path) -> tuple[Pair, ...]:
    """The pairs of dataset_multiconcept.json, 101 of them, each with its prompts.

    As published: some prompts for a pet {0} and a person {1} exchange the two, and
    furniture_chair3, once a sofa there, is the chair of dataset.json.
    """
    file = folder / "dataset_multiconcept.json"
    pairs = []
    for number, entry in enumerate(read_list(file), 1):
        place = f"Entry {number} of {file}"
        if not isinstance(entry, list) or len(entry) != 3:
            raise ValueError(
                f"{place} is not of the form [concept, concept, "
                '{"prompt_filename_compose": "prompts/pet_pet.txt"}].'
            )
        first, second = (_name(_concept(each, place)) for each in entry[:2])
        compose = _value(entry[2], "prompt_filename_compose", place)
        prompts = read_prompts(folder / compose, ("{0}", "{1}"))
        pairs.append(Pair((first, second), prompts))
    return tuple(pairs)


_KEYS = (
    "instance_prompt",
    "class_prompt",
    "instance_data_dir",
    "class_data_dir",
    "prompt_filename",
)


def _concept(entry: Any, place: str) -> Mapping[str, str]:
    return {key: _value(entry, key, place) for key in _KEYS}


def _value(entry: Any, key: str, place: str) -> str:
    if not isinstance(entry, dict):
        raise ValueError(f"{place} is not an object with {key!r}.")
    if not isinstance(entry.get(key), str):
        raise ValueError(f"{place} has no {key!r}; it has: {', '.join(entry)}.")
    return entry[key]


def _name(concept: Mapping[str, str]) -> str:
    return pathlib.PurePosixPath(concept["instance_data_dir"]).name


def _subject(folder: pathlib.Path, concept: Mapping[str, str], place: str) -> Subject:
    name = _name(concept)
    # "photo of a <new1> dice plushie" has the class prompt "dice": the former is the
    # class word.
    match = re.search(r"<[^<>\s]+>\s+(.+)$", concept["instance_prompt"])
    if not match:
        raise ValueError(
            f"{place} has the instance_prompt {concept['instance_prompt']!r}, which is "
            "not of the form 'photo of a <new1> barn'."
        )
    kind: Kind = "live" if name.startswith(("pet_", "person_")) else "object"
    prior = folder / concept["class_data_dir"]
    return Subject(
        name,
        pictures_in(folder / concept["instance_data_dir"]),
        match[1].strip(),
        kind,
        read_prompts(folder / concept["prompt_filename"]),
        prior_prompt=concept["class_prompt"],
        prior_images=str(prior) if os.path.isdir(prior) else "",
    )
