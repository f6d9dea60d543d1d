"""The models of an evaluation's rows: the base, and concepts trained for its tasks."""

import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from safetensors import safe_open

from personax.concepts.bind import Model, with_concepts
from personax.concepts.merge import merge, read_captions
from personax.evaluation.config import BASE, RENDERS
from personax.evaluation.protocol import (
    EvalTask,
    Protocol,
    joint_train_job,
    train_job,
)
from personax.evaluation.train_subjects import train_jobs
from personax.loading import Base


class Trainer(NamedTuple):
    """What models are trained and bound with."""

    protocol: Protocol
    base: Base
    plain: Model  # the base without concepts
    out: pathlib.Path


class TrainedModel(NamedTuple):
    """A model to sample from, and its costs: 0 for the base."""

    model: Model
    words: Sequence[str]  # for the task's subjects
    num_params: int = 0
    size: int = 0  # bytes
    seconds: float = 0.0
    terms: Sequence[str] = ()  # guidance terms; default: the prompt alone


def trained_models(
    trainer: Trainer, row: str, tasks: Sequence[EvalTask]
) -> Iterator[tuple[EvalTask, TrainedModel | None]]:
    """Each task with its model, None for the renders."""
    if not tasks:
        return
    pair = trainer.protocol.config.pair_rows.get(row)
    if row == RENDERS:
        yield from ((task, None) for task in tasks)
    elif row == BASE:
        for task in tasks:
            yield task, TrainedModel(trainer.plain, task.class_words)
    elif pair is None:
        yield from _singles(trainer, row, tasks)
    elif pair.way == "joint":
        yield from _joint(trainer, pair.of, tasks)
    else:
        for task in tasks:
            yield task, _combined(trainer, pair.of, task, pair.way)


def _singles(
    trainer: Trainer, name: str, tasks: Sequence[EvalTask]
) -> Iterator[tuple[EvalTask, TrainedModel]]:
    row = trainer.protocol.config.rows[name]
    together = row.together or trainer.protocol.config.together
    # Subjects trained one after the other share a program: sample after several.
    count = max(together, trainer.protocol.config.together)
    for start in range(0, len(tasks), count):
        jobs = {
            task: train_job(trainer.protocol, name, task.subjects[0], trainer.out)
            for task in tasks[start : start + count]
        }
        train_jobs(list(jobs.values()), together=together)
        for task, job in jobs.items():
            trained = _bind(trainer, [job.concept], job.seconds)
            yield task, trained._replace(terms=row.terms)


def _joint(
    trainer: Trainer, row: str, tasks: Sequence[EvalTask]
) -> Iterator[tuple[EvalTask, TrainedModel]]:
    for task in tasks:
        job = joint_train_job(trainer.protocol, row, task, trainer.out)
        train_jobs([job])
        yield task, _bind(trainer, [job.concept], job.seconds)


def _combined(trainer: Trainer, row: str, task: EvalTask, way: str) -> TrainedModel:
    """Concepts trained separately, side by side or merged in closed form."""
    jobs = [
        train_job(trainer.protocol, row, subject, trainer.out)
        for subject in task.subjects
    ]
    train_jobs(jobs)
    folders = [job.concept for job in jobs]
    seconds = sum(job.seconds for job in jobs)
    if way == "merge":
        out = trainer.out / "merged" / row / task.name
        captions = read_captions(trainer.base, trainer.protocol.config.merge_captions)
        merge(trainer.base, folders, out, captions)
        folders = [out]
    return _bind(trainer, folders, seconds)


def _bind(
    trainer: Trainer, folders: Sequence[pathlib.Path], seconds: float
) -> TrainedModel:
    weights = [folder / "theta.safetensors" for folder in folders]
    model = with_concepts(trainer.plain, trainer.base, _sources(trainer, folders))
    return TrainedModel(
        model,
        [concept.phrase for concept in model.concepts],
        sum(map(_num_params, weights)),
        sum(file.stat().st_size for file in weights),
        seconds,
    )


def _sources(trainer: Trainer, folders: Sequence[pathlib.Path]) -> list[str]:
    """Arguments of `with_concepts`, with distinct placeholders for several concepts."""
    if len(folders) == 1:
        return [str(folders[0])]
    bound = [
        with_concepts(trainer.plain, trainer.base, [str(each)]) for each in folders
    ]
    return [
        f"<v{k}>={folder}" if model.concepts[0].placeholder else str(folder)
        for k, (folder, model) in enumerate(zip(folders, bound, strict=True), 1)
    ]


def _num_params(path: pathlib.Path) -> int:
    with safe_open(path, "numpy") as file:
        return sum(
            math.prod(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118, not a dict
        )
