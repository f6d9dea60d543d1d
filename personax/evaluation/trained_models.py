"""The models of an evaluation's rows: the base, and concepts trained for its tasks."""

import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from safetensors import safe_open

from personax.concepts.bind import Model, with_concepts
from personax.concepts.merge import merge, read_captions
from personax.evaluation.config import BASE, RENDERS
from personax.evaluation.protocol import EvalTask, Runner, jobs
from personax.evaluation.train_subjects import train_jobs


class TrainedModel(NamedTuple):
    """A model to sample from, and its costs: 0 for the base."""

    model: Model | None  # None for renders
    words: Sequence[str]  # for the task's subjects
    num_params: int = 0
    size: int = 0  # bytes
    seconds: float = 0.0
    terms: Sequence[str] = ()  # guidance terms; default: the prompt alone


def trained_models(
    runner: Runner, row: str, tasks: Sequence[EvalTask]
) -> Iterator[tuple[EvalTask, TrainedModel]]:
    """Each task with its model."""
    config = runner.config
    if row in (BASE, RENDERS):
        model = runner.plain if row == BASE else None
        yield from ((task, TrainedModel(model, task.class_words)) for task in tasks)
    elif row in config.rows:
        yield from _singles(runner, row, tasks)
    else:
        yield from ((task, _combined(runner, row, task)) for task in tasks)


def _singles(
    runner: Runner, name: str, tasks: Sequence[EvalTask]
) -> Iterator[tuple[EvalTask, TrainedModel]]:
    config = runner.config
    row = config.rows[name]
    together = row.together or config.together
    # Subjects trained one after the other share a program: sample after several.
    count = max(together, config.together)
    for start in range(0, len(tasks), count):
        own = tasks[start : start + count]
        each = [jobs(runner.protocol, name, task, runner.out)[0] for task in own]
        train_jobs(each, together=together)
        for task, job in zip(own, each, strict=True):
            trained = _bind(runner, [job.concept], job.seconds)
            yield task, trained._replace(terms=row.terms)


def _combined(runner: Runner, row: str, task: EvalTask) -> TrainedModel:
    """A pair, trained jointly, or separately and then side by side or merged."""
    pair = runner.config.pair_rows[row]
    trained = jobs(runner.protocol, row, task, runner.out)
    train_jobs(trained)
    folders = [job.concept for job in trained]
    if pair.way == "merge":
        out = runner.out / "merged" / pair.of / task.name
        captions = read_captions(runner.base, runner.config.merge_captions)
        merge(runner.base, folders, out, captions)
        folders = [out]
    return _bind(runner, folders, sum(job.seconds for job in trained))


def _bind(
    runner: Runner, folders: Sequence[pathlib.Path], seconds: float
) -> TrainedModel:
    weights = [folder / "theta.safetensors" for folder in folders]
    model = with_concepts(runner.plain, runner.base, _sources(runner, folders))
    return TrainedModel(
        model,
        [concept.phrase for concept in model.concepts],
        sum(map(_num_params, weights)),
        sum(file.stat().st_size for file in weights),
        seconds,
    )


def _sources(runner: Runner, folders: Sequence[pathlib.Path]) -> list[str]:
    """Arguments of `with_concepts`, with distinct placeholders for several concepts."""
    if len(folders) == 1:
        return [str(folders[0])]
    bound = [with_concepts(runner.plain, runner.base, [str(each)]) for each in folders]
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
