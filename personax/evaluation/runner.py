"""The work of an evaluation: teach, draw, measure, cell by cell."""

import math
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from safetensors import safe_open

from personax.concepts.bind import Model, with_concepts
from personax.core import images
from personax.core.progress import Progress
from personax.data import concepts, emoji
from personax.evaluation import results
from personax.evaluation.draw import Draw, Drawn
from personax.evaluation.metric_registry import measure
from personax.evaluation.oracle_renders import renders
from personax.evaluation.protocol import (
    BASE,
    RENDERS,
    Protocol,
    Question,
    fingerprint,
    joint_lesson,
    lesson,
)
from personax.evaluation.results import Cell
from personax.evaluation.samples import Answer, Judge
from personax.evaluation.train_subjects import teach
from personax.loading import EMBEDDED, Base
from personax.merge import merge, read_captions

_BARE = 5  # prompts with the class alone, to see what was forgotten


class Bench(NamedTuple):
    """All that there is to work with."""

    protocol: Protocol
    base: Base
    plain: Model
    draw: Draw
    judges: Sequence[Judge]
    out: pathlib.Path
    only: Collection[str] = ()  # the rows to be done here; () are all

    @property
    def config(self) -> ConfigDict:
        return self.protocol.config


class Taught(NamedTuple):
    """A model that can be asked, and what it cost; the base cost nothing."""

    model: Model
    words: Sequence[str]  # for the question's subjects
    numbers: int = 0
    size: int = 0
    seconds: float = 0.0
    terms: Sequence[str] = ()  # how it is asked, if not by its own prompt alone


def evaluate(bench: Bench) -> list[Cell]:
    """Every cell of the protocol in its order; those in the journal are not done again.

    A cell is written as soon as it is there, with its pictures before it. Of rows that
    are not to be done here, those that the journal has.
    """
    rows = rows_of(bench.protocol)
    journal = bench.out / "cells.jsonl"
    results.mend(journal)
    known = results.read(journal)
    marks = {
        (row, question.name): _fingerprint(bench, row, question)
        for row, questions in rows.items()
        for question in questions
    }
    done = {
        name: known[name]
        for name, mark in marks.items()
        if name in known and known[name].fingerprint == mark
    }
    wanted = {row: rows[row] for row in bench.only or rows}
    total = sum(map(len, wanted.values()))
    initial = sum(row in wanted for row, _ in done)
    with Progress(total=total, initial=initial, desc="evaluating", unit="cell") as bar:
        for row, questions in wanted.items():
            todo = [each for each in questions if (row, each.name) not in done]
            for question, taught in _taught(bench, row, todo):
                bar.set_postfix_str(f"{row}, {question.name}", refresh=False)
                mark = marks[row, question.name]
                cell = _cell(bench, row, question, taught, mark)
                results.append(journal, cell)
                done[cell.name] = cell
                bar.update()
    return [done[name] for name in marks if name in done]


def to_answer(
    base: Base, question: Question, pixels: Iterable[images.Pixels], count: int
) -> Answer:
    """These pictures, `count` of each of the question's prompts, and its subjects'."""
    texts = question.prompts(question.class_words)
    return Answer(
        pixels=tuple(pixels),
        texts=tuple(text for text in texts for _ in range(count)),
        templates=tuple(each for each in question.templates for _ in range(count)),
        class_words=tuple(question.class_words),
        targets=tuple(_targets(base, each.images) for each in question.subjects),
    )


def _targets(base: Base, source: str) -> list[images.Pixels]:
    fitted = (images.fit(each, base.spec.size) for each in concepts.pictures(source))
    return [images.to_uint8(each) for each in fitted]


def rows_of(protocol: Protocol) -> dict[str, tuple[Question, ...]]:
    """{row: what it is asked}, the floor and the ceiling first."""
    everything = protocol.singles + protocol.pairs
    rows = {BASE: everything}
    if protocol.config.subjects.source == EMBEDDED:
        rows[RENDERS] = everything
    rows |= dict.fromkeys(protocol.rows, protocol.singles)
    return rows | dict.fromkeys(protocol.config.pair_rows, protocol.pairs)


def _fingerprint(bench: Bench, row: str, question: Question) -> str:
    protocol = bench.protocol
    pair = protocol.config.pair_rows.get(row)
    teacher = pair.of if pair else row
    parts = [row, question, protocol.rows.get(teacher), pair]
    if terms := protocol.config.rows.get(teacher, {}).get("terms", ()):
        parts.append(terms)
    return fingerprint(protocol, bench.base, *parts)


def _taught(
    bench: Bench, row: str, questions: Sequence[Question]
) -> Iterator[tuple[Question, Taught | None]]:
    """Each question with the model that is to answer it, None for the ceiling."""
    if not questions:
        return
    pair = bench.config.pair_rows.get(row)
    if row == RENDERS:
        yield from ((question, None) for question in questions)
    elif row == BASE:
        for question in questions:
            yield question, Taught(bench.plain, question.class_words)
    elif pair is None:
        yield from _singles(bench, row, questions)
    elif pair.way == "joint":
        yield from _joint(bench, pair.of, questions)
    else:
        for question in questions:
            yield question, _together(bench, pair.of, question, pair.way)


def _singles(bench: Bench, row: str, questions: Sequence[Question]):
    given = bench.config.rows[row]
    at_once = given.get("together", bench.config.together)
    terms = given.get("terms", ())
    # Those that are taught in turn share a program, and are drawn in between.
    count = max(at_once, bench.config.together)
    for start in range(0, len(questions), count):
        lessons = {
            question: lesson(bench.protocol, row, question.subjects[0], bench.out)
            for question in questions[start : start + count]
        }
        teach(list(lessons.values()), together=at_once)
        for question, each in lessons.items():
            taught = _bound(bench, [each.concept], each.seconds)
            yield question, taught._replace(terms=terms)


def _joint(bench: Bench, row: str, questions: Sequence[Question]):
    for question in questions:
        each = joint_lesson(bench.protocol, row, question, bench.out)
        teach([each])
        yield question, _bound(bench, [each.concept], each.seconds)


def _together(bench: Bench, row: str, question: Question, way: str) -> Taught:
    """Concepts that were taught apart: side by side, or merged in closed form."""
    lessons = [
        lesson(bench.protocol, row, each, bench.out) for each in question.subjects
    ]
    teach(lessons)
    folders = [each.concept for each in lessons]
    seconds = sum(each.seconds for each in lessons)
    if way == "merge":
        out = bench.out / "merged" / row / question.name
        captions = read_captions(bench.base, bench.config.merge_captions or None)
        merge(bench.base, folders, out, captions)
        folders = [out]
    return _bound(bench, folders, seconds)


def _bound(bench: Bench, folders: Sequence[pathlib.Path], seconds: float) -> Taught:
    files = [folder / "theta.safetensors" for folder in folders]
    model = with_concepts(bench.plain, bench.base, _named(bench, folders))
    return Taught(
        model,
        [concept.phrase for concept in model.concepts],
        sum(map(_numbers, files)),
        sum(file.stat().st_size for file in files),
        seconds,
    )


def _named(bench: Bench, folders: Sequence[pathlib.Path]) -> list[str]:
    """Sources for `with_concepts`: of several, each word of its own has a new name."""
    if len(folders) == 1:
        return [str(folders[0])]
    alone = [with_concepts(bench.plain, bench.base, [str(each)]) for each in folders]
    return [
        f"<v{k}>={folder}" if model.concepts[0].placeholder else str(folder)
        for k, (folder, model) in enumerate(zip(folders, alone, strict=True), 1)
    ]


def _numbers(path: pathlib.Path) -> int:
    with safe_open(path, "numpy") as file:
        return sum(
            math.prod(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118, it is no dict
        )


def _cell(
    bench: Bench, row: str, question: Question, taught: Taught | None, mark: str
) -> Cell:
    config, before = bench.config, None
    if taught is None:
        drawn = renders(question, emoji.load_sprites(), config.images, config.seed)
    else:
        asked = question.prompts(taught.words)
        drawn = _ask(bench, taught.model, asked, taught.terms)
        if taught.model is not bench.plain:
            before = _before(bench, question)
    answer = _answer(bench, question, taught, drawn, before)
    sheet = f"sheets/{row}/{question.name}.png"
    images.write_png(bench.out / sheet, _sheet(drawn.pixels, config.images))
    height, width = drawn.pixels.shape[1:3]
    cost = taught or Taught(bench.plain, question.class_words)
    return Cell(
        method=row,
        subject=question.name,
        kind=question.kind,
        fingerprint=mark,
        numbers=cost.numbers,
        size=cost.size,
        seconds=cost.seconds,
        metrics=measure(bench.judges, answer),
        sheet=sheet,
        tile=(width, height),
        columns=config.images,
        shots=tuple(
            shot._replace(prompt=text)
            for shot, text in zip(drawn.shots, answer.texts, strict=True)
        ),
        words=tuple(cost.words),
    )


def _ask(
    bench: Bench, model: Model, prompts: Sequence[str], terms: Sequence[str] = ()
) -> Drawn:
    seeds = range(bench.config.seed, bench.config.seed + len(prompts))
    asked = list(zip(prompts, seeds, strict=True))
    return bench.draw(model, asked, bench.config.images, terms)


def _answer(
    bench: Bench,
    question: Question,
    taught: Taught | None,
    drawn: Drawn,
    before: Drawn | None,
) -> Answer:
    answer = to_answer(bench.base, question, drawn.pixels, bench.config.images)
    if before is None or taught is None:
        return answer
    answer = answer._replace(latents=drawn.latents, before=before.latents)
    if taught.terms:
        return answer  # what its model alone says of others is never drawn
    answer = answer._replace(model=taught.model)
    if not all(concept.placeholder for concept in taught.model.concepts):
        return answer  # the class word is the concept's: it is changed on purpose
    texts = question.prompts(question.class_words)
    bare = _ask(bench, taught.model, texts[:_BARE])
    return answer._replace(
        bare=tuple(bare.pixels), bare_before=tuple(before.pixels[: len(bare.pixels)])
    )


def _before(bench: Bench, question: Question) -> Drawn:
    """What the base draws of the class, kept beside the journal."""
    path = bench.out / "base" / f"{question.name}.npz"
    mark = _fingerprint(bench, BASE, question)
    if path.is_file():
        with np.load(path) as found:
            if str(found["mark"]) == mark:
                return Drawn((), found["pixels"], found["latents"])
    drawn = _ask(bench, bench.plain, question.prompts(question.class_words))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    np.savez(unfinished, mark=mark, pixels=drawn.pixels, latents=drawn.latents)
    unfinished.rename(path)
    return drawn


def _sheet(pixels: np.ndarray, columns: int) -> images.Pixels:
    """The pictures as they are, `columns` to a row."""
    n, height, width, _ = pixels.shape
    rows = pixels.reshape(n // columns, columns, height, width, 3)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, 3)
