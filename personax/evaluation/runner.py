"""Run an evaluation: train, sample and score every task of every row."""

import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from personax.concepts.bind import Model, from_base
from personax.core import files, images
from personax.core.progress import Progress
from personax.data import concepts
from personax.evaluation import results
from personax.evaluation.config import BASE, EvalConfig
from personax.evaluation.draw import Draw, Drawn, make_draw
from personax.evaluation.metric_registry import check_columns, make_metrics, score
from personax.evaluation.oracle_renders import renders
from personax.evaluation.protocol import (
    EvalTask,
    Protocol,
    fingerprint,
    make_protocol,
)
from personax.evaluation.results import EvalResult
from personax.evaluation.samples import Generations, Metric
from personax.evaluation.trained_models import TrainedModel, Trainer, trained_models
from personax.loading import Base, load_base

_BARE = 5  # prompts without the concept, for prior similarity, class leakage and KID


class Runner(NamedTuple):
    """A loaded evaluation."""

    protocol: Protocol
    base: Base
    plain: Model  # the base without concepts
    draw: Draw
    metrics: Sequence[Metric]
    out: pathlib.Path
    only: Collection[str] = ()  # the rows to run, all if empty

    @property
    def config(self) -> EvalConfig:
        return self.protocol.config


def open_runner(
    config: EvalConfig, out: pathlib.Path, only: Collection[str] = ()
) -> Runner:
    """Check a config and load its base and metrics.

    Raises ValueError, TypeError or FileNotFoundError for invalid input, before `out` is
    created.
    """
    check_columns(config.report.printed)
    protocol = make_protocol(config)
    for name in only:
        if name not in protocol.tasks:
            raise ValueError(
                f"Unknown row {name!r}; expected one of {', '.join(protocol.tasks)}."
            )
    base = load_base(config.base, **config.loading)
    plain = from_base(base)
    draw = make_draw(base, config.draw)
    metrics = make_metrics(config, base, plain)
    out.mkdir(parents=True, exist_ok=True)
    return Runner(protocol, base, plain, draw, metrics, out, tuple(only))


def evaluate(runner: Runner) -> list[EvalResult]:
    """All results of the protocol, in its order; those in the journal are reused.

    A result is appended to the journal as soon as its pictures are written. Rows that
    are not in `runner.only` contribute the results that the journal has.
    """
    tasks = runner.protocol.tasks
    journal = runner.out / results.JOURNAL
    stored = results.read(journal)
    marks = {
        (row, task.name): fingerprint(runner.protocol, runner.base, row, task)
        for row in tasks
        for task in tasks[row]
    }
    done = {
        name: stored[name]
        for name, mark in marks.items()
        if name in stored and stored[name].fingerprint == mark
    }
    rows = list(dict.fromkeys(runner.only or tasks))
    trainer = Trainer(runner.protocol, runner.base, runner.plain, runner.out)
    total = sum(len(tasks[row]) for row in rows)
    initial = sum(row in rows for row, _ in done)
    with Progress(total=total, initial=initial, desc="evaluating", unit="task") as bar:
        for row in rows:
            missing = [task for task in tasks[row] if (row, task.name) not in done]
            for task, trained in trained_models(trainer, row, missing):
                bar.set_postfix_str(f"{row}, {task.name}", refresh=False)
                mark = marks[row, task.name]
                result = _evaluate(runner, row, task, trained, mark)
                results.append(journal, result)
                done[result.name] = result
                bar.update()
    return [done[name] for name in marks if name in done]


def to_generations(
    base: Base, task: EvalTask, pixels: Iterable[images.Pixels], count: int
) -> Generations:
    """The record of pictures of a task, `count` of each prompt, for metrics."""
    texts = task.prompts(task.class_words)
    return Generations(
        pixels=tuple(pixels),
        texts=tuple(text for text in texts for _ in range(count)),
        templates=tuple(each for each in task.templates for _ in range(count)),
        class_words=tuple(task.class_words),
        targets=tuple(_targets(base, each.images) for each in task.subjects),
    )


def _targets(base: Base, source: str) -> list[images.Pixels]:
    fitted = (images.fit(each, base.spec.size) for each in concepts.pictures(source))
    return [images.to_uint8(each) for each in fitted]


def _evaluate(
    runner: Runner, row: str, task: EvalTask, trained: TrainedModel | None, mark: str
) -> EvalResult:
    config, before = runner.config, None
    if trained is None:
        drawn = renders(task, config.images, config.seed)
    else:
        prompts = task.prompts(trained.words)
        drawn = _draw(runner, trained.model, prompts, trained.terms)
        if trained.model is not runner.plain:
            before = _base_samples(runner, task)
    generations = _generations(runner, task, trained, drawn, before)
    sheet = f"sheets/{row}/{task.name}.png"
    images.write_png(runner.out / sheet, _sheet(drawn.pixels, config.images))
    height, width = drawn.pixels.shape[1:3]
    costs = trained or TrainedModel(runner.plain, task.class_words)
    return EvalResult(
        method=row,
        subject=task.name,
        kind=task.kind,
        fingerprint=mark,
        num_params=costs.num_params,
        size=costs.size,
        seconds=costs.seconds,
        metrics=score(runner.metrics, generations),
        sheet=sheet,
        tile=(width, height),
        columns=config.images,
        samples=tuple(
            sample._replace(prompt=text)
            for sample, text in zip(drawn.samples, generations.texts, strict=True)
        ),
        words=tuple(costs.words),
    )


def _draw(
    runner: Runner, model: Model, prompts: Sequence[str], terms: Sequence[str] = ()
) -> Drawn:
    seeds = range(runner.config.seed, runner.config.seed + len(prompts))
    seeded = list(zip(prompts, seeds, strict=True))
    return runner.draw(model, seeded, runner.config.images, terms)


def _generations(
    runner: Runner,
    task: EvalTask,
    trained: TrainedModel | None,
    drawn: Drawn,
    before: Drawn | None,
) -> Generations:
    generations = to_generations(runner.base, task, drawn.pixels, runner.config.images)
    if before is None or trained is None:
        return generations
    generations = generations._replace(latents=drawn.latents, before=before.latents)
    if trained.terms:
        return generations  # the model is not used without the base
    generations = generations._replace(model=trained.model)
    if not all(concept.placeholder for concept in trained.model.concepts):
        return generations  # the class word is the concept: no prompt lacks it
    texts = task.prompts(task.class_words)
    bare = _draw(runner, trained.model, texts[:_BARE])
    return generations._replace(
        bare=tuple(bare.pixels), bare_before=tuple(before.pixels[: len(bare.pixels)])
    )


def _base_samples(runner: Runner, task: EvalTask) -> Drawn:
    """The base's pictures of the class, cached in the work directory."""
    path = runner.out / "base" / f"{task.name}.npz"
    mark = fingerprint(runner.protocol, runner.base, BASE, task)
    if path.is_file():
        with np.load(path) as cached:
            if str(cached["mark"]) == mark:
                return Drawn((), cached["pixels"], cached["latents"])
    drawn = _draw(runner, runner.plain, task.prompts(task.class_words))
    arrays: Mapping[str, Any] = {"pixels": drawn.pixels, "latents": drawn.latents}
    with files.atomic_write(path) as temporary:
        np.savez(temporary, mark=mark, **arrays)
    return drawn


def _sheet(pixels: np.ndarray, columns: int) -> images.Pixels:
    """The pictures as one image, `columns` per row."""
    n, height, width, _ = pixels.shape
    rows = pixels.reshape(n // columns, columns, height, width, 3)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, 3)
