"""Captions, prompts, lists and questions."""

import functools
import json
import pathlib
import shutil

from benchmarks.fuzz_readers.reader import Reader, text, written
from personax.core.files import read_lines
from personax.data import concepts
from personax.data.captioned import read_captioned
from personax.data.corpus import read_corpus
from personax.data.published import read_pairs, read_subjects
from personax.data.subjects import read_prompts
from personax.metrics.tifa import read_questions
from personax.training.concept_text import concept_configs
from personax.training.config import (
    ConceptConfig,
)

_JSONL = (
    '{"file_name": "dog.png", "text": "a dog"}\n'
    '{"file_name": "cat.png", "text": "a cat"}\n'
)
_captioned_folders = functools.cache(
    lambda: [
        {"_dog.png": b"", "_cat.png": b"", **texts}
        for texts in (
            {"metadata.jsonl": _JSONL.encode()},
            {"metadata.csv": b'file_name,caption\ndog.png,"a dog, red"\ncat.png,x\n'},
            {"images.txt": b"dog.png\ncat.png\n", "caption.txt": b"a dog\na cat\n"},
            {"dog.txt": b"a dog\n", "cat.caption": b"a cat\n"},
        )
    ]
)


def _read_captions(folder: pathlib.Path) -> None:
    for name in ("dog.png", "cat.png"):
        folder.joinpath(f"_{name}").rename(folder / name)
    read_captioned(folder, caption="")
    concepts.own_pictures(str(folder))


def _read_caption_list(folder: pathlib.Path) -> None:
    (folder / "dog.png").touch()
    for name in ("list.tsv", "list.csv", "list.jsonl"):
        if (folder / name).is_file():
            read_captioned(folder / name, caption="")


_caption_lists = functools.cache(
    lambda: [
        {"list.tsv": b"dog.png\ta dog\n./dog.png\tit\n"},
        {"list.csv": b"file_name,text\ndog.png,a dog\n"},
        {"list.jsonl": b'{"file_name": "dog.png", "caption": ["a dog"]}\n'},
    ]
)


def _write_subjects(folder: pathlib.Path) -> None:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "live.txt").write_text("photo of a {}\na {} in snow\n")
    (folder / "prompts" / "two.txt").write_text("{0} and {1}\n")
    entry = {
        "instance_prompt": "photo of a <new1> dog",
        "class_prompt": "dog",
        "instance_data_dir": "_pictures/pet_dog1",
        "class_data_dir": "_pictures/none",
        "prompt_filename": "prompts/live.txt",
    }
    (folder / "dataset.json").write_text(json.dumps([entry]))
    pair = [[entry, entry, {"prompt_filename_compose": "prompts/two.txt"}]]
    (folder / "dataset_multiconcept.json").write_text(json.dumps(pair))
    listing = (
        "Classes\n\nsubject_name,class\ndog6,dog\n\nPrompts\n\nObject Prompts\n\n"
        "prompt_list = [\n'a {0} {1} in it'.format(unique_token, class_token),\n]\n\n"
        "Live Subject Prompts\n\nprompt_list = [\n"
        "'a {0} {1} there'.format(unique_token, class_token)\n]\n"
    )
    (folder / "prompts_and_classes.txt").write_text(listing)
    (folder / "classes.csv").write_text("dog6,dog,live\n")
    for name in ("_pictures/pet_dog1", "_dog6"):
        (folder / name).mkdir(parents=True)
        (folder / name / "_dog.png").touch()


def _read_subjects(folder: pathlib.Path) -> None:
    shutil.move(folder / "_dog6", folder / "dog6")
    for inner in ("dog6", "_pictures/pet_dog1"):
        (folder / inner / "_dog.png").rename(folder / inner / "dog.png")
    read_subjects(f"dreambooth:{folder}")
    read_subjects(f"custom_concept_101:{folder}")
    read_pairs(f"custom_concept_101:{folder}")
    read_subjects(f"folders:{folder}", ["dog6"])


_QUESTIONS = [
    {
        **{"id": "0", "caption": "a dog", "question": "a dog?", "answer": "yes"},
        **{"choices": ["yes", "no"], "element_type": "animal/human"},
    }
]
_LIST = [
    {
        "instance_prompt": "photo of a <new1> cat",
        "class_prompt": "cat",
        "instance_data_dir": "cat",
        "class_data_dir": "cats",
    },
    {"prompt": "photo of a {}", "placeholder": "<v2>", "class_word": "dog"},
]


READERS: dict[str, Reader] = {
    "captions": Reader(_captioned_folders, _read_captions),
    "caption_lists": Reader(_caption_lists, _read_caption_list),
    "subjects": Reader(written(_write_subjects), _read_subjects),
    "corpora": Reader(
        text("corpus.txt", "a dog\na cat\n", "\ufeffa dog\r\na cat\r\n"),
        lambda folder: read_corpus(str(folder / "corpus.txt")),
    ),
    "prompts": Reader(
        text("prompts.txt", "photo of a {}\na {} in snow\n"),
        lambda folder: (
            read_lines(folder / "prompts.txt"),
            read_prompts(folder / "prompts.txt"),
        ),
    ),
    "questions": Reader(
        text("questions.json", json.dumps(_QUESTIONS)),
        lambda folder: read_questions(folder / "questions.json"),
    ),
    "concept_lists": Reader(
        text("list.json", json.dumps(_LIST)),
        lambda folder: concept_configs(ConceptConfig(), str(folder / "list.json")),
    ),
}
