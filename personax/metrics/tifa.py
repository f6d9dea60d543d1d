"""TIFA (Hu et al. 2023): the share of questions about a picture answered as expected.

Questions and answers were made from the prompt beforehand, by a language model; what
answers them of a picture is any function. The file is that of the TIFA v1.0 benchmark
(github.com/Yushi-Hu/tifa, question_answers.json): a list of {"id", "caption",
"question", "choices", "answer", "element_type"}; other keys, "element" and
"coco_val_id", are not read.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from personax.core.images import Pixels

Answer = Callable[[Pixels, str, Sequence[str]], str]

_TEXTS = ("id", "caption", "question", "answer", "element_type")


class Question(NamedTuple):
    """One question about the pictures of a prompt."""

    id: str  # of the prompt
    caption: str  # the prompt
    question: str
    choices: tuple[str, ...]
    answer: str  # one of the choices
    element_type: str  # animal/human, object, color, counting, …


class Tifa(NamedTuple):
    """The share of right answers, 0 to 1, of each picture and of each kind of element.

    A picture's score is the mean over its questions, and TIFA the mean over pictures; a
    kind's share is over all questions of that kind.
    """

    scores: tuple[float, ...]
    by_type: Mapping[str, float]


def tifa(answer: Answer, pictures: Sequence[tuple[Pixels, Sequence[Question]]]) -> Tifa:
    """How many of each picture's questions `answer` answers as expected.

    It is given a picture, a question and its choices, and says one of them; what a free
    answer is nearest to is for it to find. Case and outer blanks do not matter. Raises
    ValueError for no picture, one without questions, and an answer that is no choice.
    """
    if not pictures:
        raise ValueError("TIFA needs pictures, and there are none.")
    scores: list[float] = []
    kinds: dict[str, list[bool]] = {}
    for i, (pixels, questions) in enumerate(pictures):
        if not questions:
            raise ValueError(f"Picture {i} has no questions.")
        right = [_right(answer, pixels, each) for each in questions]
        scores.append(float(np.mean(right)))
        for each, is_right in zip(questions, right, strict=True):
            kinds.setdefault(each.element_type, []).append(is_right)
    by_type = {kind: float(np.mean(each)) for kind, each in kinds.items()}
    return Tifa(tuple(scores), by_type)


def read_questions(path: pathlib.Path) -> dict[str, tuple[Question, ...]]:
    """{the prompt's id: its questions} of a published file, in its order.

    Raises FileNotFoundError for a path without a file, and ValueError, with the entry's
    number, for a file that is not of this form, an answer that is none of the choices,
    and an id with two captions.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of questions {path}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}.")
    if not isinstance(found, list) or not found:
        raise ValueError(f'{path} is no list of questions: [{{"id": …}}, …].')
    questions: dict[str, tuple[Question, ...]] = {}
    for i, entry in enumerate(found):
        each = _question(f"Entry {i} of {path}", entry)
        others = questions.get(each.id, ())
        if others and others[0].caption != each.caption:
            raise ValueError(
                f"Entry {i} of {path} gives {each.id} the caption {each.caption!r}, "
                f"and an earlier one {others[0].caption!r}."
            )
        questions[each.id] = (*others, each)
    return questions


def _right(answer: Answer, pixels: Pixels, question: Question) -> bool:
    said = answer(pixels, question.question, question.choices)
    if _plain(said) not in map(_plain, question.choices):
        raise ValueError(
            f"{question.question!r} was answered {said!r}, which is none of: "
            f"{', '.join(question.choices)}."
        )
    return _plain(said) == _plain(question.answer)


def _question(name: str, entry) -> Question:
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is no question: {entry!r}.")
    lacks = [key for key in Question._fields if key not in entry]
    if lacks:
        raise ValueError(f"{name} lacks {', '.join(lacks)}.")
    texts = {key: entry[key] for key in _TEXTS}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} has {key} {value!r}; it must be a text.")
    choices = entry["choices"]
    if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise ValueError(f"{name} has choices {choices!r}; it must be a list of texts.")
    if _plain(texts["answer"]) not in map(_plain, choices):
        raise ValueError(
            f"{name} has the answer {texts['answer']!r}, none of its choices: "
            f"{', '.join(choices)}."
        )
    return Question(choices=tuple(choices), **texts)


def _plain(text: str) -> str:
    return text.strip().casefold()
