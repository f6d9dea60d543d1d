"""TIFA (Hu et al. 2023): the share of questions about a picture answered as expected.

A language model wrote questions and answers from the prompt; a VQA model answers them
from the picture. Files have the format of the TIFA v1.0 benchmark
(github.com/Yushi-Hu/tifa, question_answers.json): a list of {"id", "caption",
"question", "choices", "answer", "element_type"}. Other keys are ignored.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from personax.core.files import read_json
from personax.core.images import Pixels

# A VQA model: `(picture, question, choices) -> one of the choices`.
Vqa = Callable[[Pixels, str, Sequence[str]], str]

_TEXTS = ("id", "caption", "question", "answer", "element_type")


class Question(NamedTuple):
    """A question about the pictures of a prompt, and its expected answer."""

    id: str  # of the prompt
    caption: str  # the prompt
    question: str
    choices: tuple[str, ...]
    answer: str  # one of the choices
    element_type: str  # animal/human, object, color, counting, …


def tifa(
    vqa: Vqa, pictures: Sequence[tuple[Pixels, Sequence[Question]]]
) -> Float[np.ndarray, " n"]:
    """The share of each picture's questions that a VQA model answers as expected.

    TIFA is the mean over pictures. Case and surrounding blanks are ignored. Raises
    ValueError for an answer that is not among the choices.
    """
    return np.array(
        [
            np.mean([_is_correct(vqa, pixels, question) for question in questions])
            for pixels, questions in pictures
        ]
    )


def read_questions(path: pathlib.Path) -> dict[str, tuple[Question, ...]]:
    """{the prompt's id: its questions} of a question file, in its order.

    Raises FileNotFoundError without the file. Raises ValueError, with the entry's
    number, for another format, an answer that is not among the choices, and an id with
    two captions.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{path} is not a list of questions: [{{"id": …}}, …].')
    questions: dict[str, tuple[Question, ...]] = {}
    for i, entry in enumerate(entries):
        question = _question(f"Entry {i} of {path}", entry)
        others = questions.get(question.id, ())
        if others and others[0].caption != question.caption:
            raise ValueError(
                f"Entry {i} of {path} has the caption {question.caption!r} for id "
                f"{question.id}, which an earlier entry captions {others[0].caption!r}."
            )
        questions[question.id] = (*others, question)
    return questions


def _is_correct(vqa: Vqa, pixels: Pixels, question: Question) -> bool:
    answer = vqa(pixels, question.question, question.choices)
    if _normalized(answer) not in map(_normalized, question.choices):
        raise ValueError(
            f"The answer {answer!r} to {question.question!r} is not among its choices: "
            f"{', '.join(question.choices)}."
        )
    return _normalized(answer) == _normalized(question.answer)


def _question(name: str, entry: Any) -> Question:
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is not a question: {entry!r}.")
    missing = [key for key in Question._fields if key not in entry]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}.")
    texts = {key: entry[key] for key in _TEXTS}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} has {key} {value!r}; expected text.")
    choices = entry["choices"]
    if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise ValueError(f"{name} has choices {choices!r}; expected a list of texts.")
    if _normalized(texts["answer"]) not in map(_normalized, choices):
        raise ValueError(
            f"{name} has the answer {texts['answer']!r}, which is not among its "
            f"choices: {', '.join(choices)}."
        )
    return Question(choices=tuple(choices), **texts)


def _normalized(text: str) -> str:
    return text.strip().casefold()
