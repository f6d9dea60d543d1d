"""TIFA against the result that its authors publish for their two sample pictures."""

import json

import numpy as np
import pytest

from personax.metrics.tifa import Question, read_questions, tifa

# github.com/Yushi-Hu/tifa, sample/sample_question_answers.json, and beside each what
# mPLUG-large answered in sample/sample_evaluation_result.json.
SURFER = "On a gray day a surfer carrying a white board walks on a beach."
ANIMALS = "Three cats and two dogs sitting on the grass."
YES = ["yes", "no"]
SAMPLE = [
    ("is this a surfer?", YES, "yes", "animal/human", "yes"),
    ("who is on the beach?", ["surfer", "diver"], "surfer", "animal/human", "surfer"),
    ("is the person carrying a board?", YES, "yes", "object", "yes"),
    ("is this a beach?", YES, "yes", "location", "yes"),
    ("what type of place is this?", ["beach", "park"], "beach", "location", "beach"),
    ("is the surfer carrying something?", YES, "yes", "activity", "yes"),
    ("is the surfer walking on the beach?", YES, "yes", "activity", "yes"),
    ("is the day gray?", YES, "yes", "color", "yes"),
    ("what color is the sky?", ["gray", "black"], "gray", "color", "gray"),
    ("is the board white?", YES, "yes", "color", "yes"),
    ("what color is the board?", ["white", "black"], "white", "color", "white"),
    ("are there cats?", YES, "yes", "animal/human", "yes"),
    ("are there dogs?", YES, "yes", "animal/human", "no"),
    ("is there grass?", YES, "yes", "object", "yes"),
    ("what is the animals sitting on?", ["grass", "sand"], "grass", "object", "grass"),
    ("are the animals sitting?", YES, "yes", "activity", "yes"),
    ("how many cats are in the picture?", list("1234"), "3", "counting", "3"),
    ("are there two dogs?", YES, "yes", "counting", "no"),
    ("how many dogs are in the picture?", list("1234"), "2", "counting", "1"),
]
SAID = {question: said for question, *_, said in SAMPLE}
PIXELS = np.zeros((8, 8, 3), np.uint8)


def published():
    """The file's own entries, with keys that are not read."""
    for i, (question, choices, answer, kind, _) in enumerate(SAMPLE):
        first = i < 11
        yield {
            "id": "coco_301091" if first else "drawbench_52",
            "caption": SURFER if first else ANIMALS,
            "question": question,
            "choices": choices,
            "answer": answer,
            "element_type": kind,
            "element": "…",
        }


def written(folder, entries):
    path = folder / "questions.json"
    path.write_text(json.dumps(entries))
    return path


def test_the_authors_sample_scores_as_they_publish(tmp_path):
    questions = read_questions(written(tmp_path, list(published())))
    assert list(questions) == ["coco_301091", "drawbench_52"]
    pictures = [(PIXELS, each) for each in questions.values()]
    found = tifa(lambda pixels, question, choices: SAID[question], pictures)
    assert found.tolist() == [1, 0.625]
    assert found.mean() == 0.8125


def test_the_picture_and_the_choices_are_what_is_asked_about():
    asked = []

    def answer(pixels, question, choices):
        asked.append((pixels.max(), question, choices))
        return " Red"

    question = Question("0", "a car", "what color?", ("red", "blue"), "red", "color")
    found = tifa(answer, [(PIXELS, [question]), (PIXELS + 1, [question])])
    assert found.tolist() == [1, 1]
    assert asked == [(i, "what color?", ("red", "blue")) for i in range(2)]


def test_what_has_no_score_is_said():
    question = Question("0", "a car", "what color?", ("red", "blue"), "red", "color")
    with pytest.raises(
        ValueError, match=r"'crimson' to .* not among its choices: red, blue"
    ):
        tifa(lambda *_: "crimson", [(PIXELS, [question])])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"answer": "maybe"},
            "Entry 1 .* answer 'maybe', which is not among its choices: yes, no",
        ),
        ({"choices": "yes"}, "Entry 1 .* choices 'yes'; expected a list of texts"),
        ({"choices": [1, 2]}, "Entry 1 .* expected a list of texts"),
        ({"caption": "another"}, "Entry 1 .* the caption 'another' .* earlier entry"),
        ({"question": " "}, "Entry 1 .* question ' '; expected text"),
        ({"id": 7}, "Entry 1 .* has id 7; expected text"),
    ],
)
def test_an_entry_that_is_no_question_is_named(tmp_path, change, said):
    entries = [dict(each) for each in published()][:3]
    entries[1] = {**entries[0], **change}
    with pytest.raises(ValueError, match=said):
        read_questions(written(tmp_path, entries))


def test_a_file_that_holds_no_questions_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_questions(tmp_path / "none.json")
    for entries in ([], {"id": 1}):
        with pytest.raises(ValueError, match="is not a list of questions"):
            read_questions(written(tmp_path, entries))
    with pytest.raises(ValueError, match=r"Entry 0 .* is not a question: 3"):
        read_questions(written(tmp_path, [3]))
    with pytest.raises(ValueError, match="lacks choices, answer, element_type"):
        read_questions(
            written(tmp_path, [{"id": "0", "caption": "a", "question": "b"}])
        )
    path = tmp_path / "no.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_questions(path)
