"""Run an evaluation: train, sample and score every task of every row."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from personax.concepts.bind import Model, from_base
from personax.core import files, images, locks
from personax.core.errors import notice
from personax.core.outputs import (
    check_folder,
    make_folder,
    refuse_among,
    refuse_foreign,
)
from personax.core.progress import Progress
from personax.data import concepts
from personax.evaluation import results
from personax.evaluation.checks import check_pictures, check_rows, inputs
from personax.evaluation.config import BASE, EvalConfig
from personax.evaluation.draw import Drawn, make_draw
from personax.evaluation.metric_registry import check_columns, make_metrics, score
from personax.evaluation.outputs import WRITTEN
from personax.evaluation.page import tiles
from personax.evaluation.protocol import (
    EvalTask,
    Runner,
    fingerprint,
    make_protocol,
)
from personax.evaluation.results import EvalResult, Sample
from personax.evaluation.samples import Generations
from personax.evaluation.trained_models import TrainedModel, trained_models
from personax.loading import Base, embedded_world, load_base
from personax.sampling.img2img import require_text_to_image

_BARE = 5  # prompts without the concept, for prior similarity, class leakage and KID


def open_runner(
    config: EvalConfig, out: pathlib.Path, only: Collection[str] = ()
) -> Runner:
    """Check a config, claim its folder, and load its base and metrics.

    Every picture is read, and every row prepared with every subject that has no result
    yet. Raises ValueError, TypeError or FileNotFoundError for invalid input; what needs
    no network is checked before `out` is created.
    """
    check_columns(config.report.printed)
    protocol = make_protocol(config)
    for name in only:
        if name not in protocol.tasks:
            raise ValueError(
                f"Unknown row {name!r}; expected one of {', '.join(protocol.tasks)}."
            )
    check_pictures(protocol)
    out = check_folder(out)
    refuse_foreign(out, WRITTEN, results.JOURNAL)
    refuse_among([out / name for name in WRITTEN], inputs(protocol))
    results.read(out / results.JOURNAL)  # raises for a damaged one
    base = load_base(config.base, **config.loading)
    require_text_to_image(base, "the evaluation")
    plain = from_base(base)
    draw = make_draw(base, config.draw)
    metrics = make_metrics(config, base, plain)
    runner = Runner(protocol, base, plain, draw, metrics, out, tuple(only))
    _, done = _known(runner)
    missing = {
        row: [task for task in protocol.tasks[row] if (row, task.name) not in done]
        for row in _rows(runner)
    }
    make_folder(out)
    check_rows(runner, missing)
    return runner


@contextlib.contextmanager
def claimed(runner: Runner) -> Iterator[None]:
    """Hold the rows that are run, and those that they train, against other processes.

    Processes with other rows share the folder. Raises ValueError for a row in use.
    """
    pairs = runner.config.pair_rows
    rows = _rows(runner)
    rows += [pairs[row].of for row in rows if row in pairs]
    with contextlib.ExitStack() as held:
        for row in dict.fromkeys(rows):
            folder = make_folder(runner.out / "sheets" / row)
            held.enter_context(locks.locked(folder))
        yield


def evaluate(runner: Runner) -> list[EvalResult]:
    """All results of the protocol, in its order; those in the journal are reused.

    A result is appended to the journal as soon as its pictures are written. Rows that
    are not in `runner.only` contribute the results that the journal has.
    """
    tasks, rows = runner.protocol.tasks, _rows(runner)
    journal = runner.out / results.JOURNAL
    marks, done = _known(runner)
    total = sum(len(tasks[row]) for row in rows)
    initial = sum(row in rows for row, _ in done)
    with Progress(total=total, initial=initial, desc="evaluating", unit="task") as bar:
        for row in rows:
            missing = [task for task in tasks[row] if (row, task.name) not in done]
            for task, trained in trained_models(runner, row, missing):
                bar.set_postfix_str(f"{row}, {task.name}", refresh=False)
                mark = marks[row, task.name]
                result = _evaluate(runner, row, task, trained, mark)
                results.append(journal, result)
                done[result.name] = result
                bar.update()
    return [done[name] for name in marks if name in done]


def _rows(runner: Runner) -> list[str]:
    return list(dict.fromkeys(runner.only or runner.protocol.tasks))


def _known(
    runner: Runner,
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], EvalResult]]:
    """The fingerprint of every (row, task), and the results that the journal has."""
    tasks = runner.protocol.tasks
    stored = results.read(runner.out / results.JOURNAL)
    marks = {
        (row, task.name): fingerprint(runner.protocol, runner.base, row, task)
        for row in tasks
        for task in tasks[row]
    }
    done = {
        name: stored[name]
        for name, mark in marks.items()
        if name in stored
        and stored[name].fingerprint == mark
        and _has_sheet(runner.out, stored[name])
    }
    return marks, done


def _has_sheet(out: pathlib.Path, result: EvalResult) -> bool:
    """Whether the pictures of a result are there and whole, for the report."""
    try:
        return len(tiles(out, result)) == len(result.samples)
    except (FileNotFoundError, ValueError):
        return False


def to_generations(
    base: Base, task: EvalTask, pixels: Iterable[images.Pixels], count: int
) -> Generations:
    """The record of pictures of a task, `count` of each prompt, for metrics."""
    texts = task.prompts(task.class_words)
    targets = (concepts.pictures(subject.images) for subject in task.subjects)
    return Generations(
        pixels=tuple(pixels),
        texts=tuple(text for text in texts for _ in range(count)),
        templates=tuple(each for each in task.templates for _ in range(count)),
        class_words=tuple(task.class_words),
        targets=tuple(
            [images.to_uint8(images.fit(x, base.spec.size)) for x in own]
            for own in targets
        ),
    )


def _evaluate(
    runner: Runner, row: str, task: EvalTask, trained: TrainedModel, mark: str
) -> EvalResult:
    config, model = runner.config, trained.model
    if model is None:
        drawn = _renders(task, config.images, config.seed)
    else:
        drawn = _draw(runner, model, task.prompts(trained.words), trained.terms)
    generations = to_generations(runner.base, task, drawn.pixels, config.images)
    if model is not None and model is not runner.plain:
        generations = generations._replace(latents=drawn.latents)
        generations = _with_base(runner, task, model, generations, trained.terms)
    # Before any score of pictures that are no pictures.
    metrics = () if _failed(row, task, drawn) else runner.metrics
    sheet = f"sheets/{row}/{task.name}.png"
    images.write_png(runner.out / sheet, _sheet(drawn.pixels, config.images))
    height, width = drawn.pixels.shape[1:3]
    return EvalResult(
        method=row,
        subject=task.name,
        kind=task.kind,
        fingerprint=mark,
        num_params=trained.num_params,
        size=trained.size,
        seconds=trained.seconds,
        metrics=score(metrics, generations, f"Row {row}, {task.name}"),
        sheet=sheet,
        tile=(width, height),
        columns=config.images,
        samples=tuple(
            Sample(text, config.seed + i // config.images, i % config.images)
            for i, text in enumerate(generations.texts)
        ),
        words=tuple(trained.words),
    )


def _failed(row: str, task: EvalTask, drawn: Drawn) -> bool:
    """Whether a picture is not finite; says so."""
    if drawn.failed:
        numbers = ", ".join(str(number) for number in drawn.failed[:8])
        notice(
            f"Row {row}, {task.name}: {len(drawn.failed)} of {len(drawn.pixels)} "
            f"pictures are not finite (numbers {numbers}); it has no scores."
        )
    return bool(drawn.failed)


def _draw(
    runner: Runner, model: Model, prompts: Sequence[str], terms: Sequence[str] = ()
) -> Drawn:
    seeded = [(text, runner.config.seed + i) for i, text in enumerate(prompts)]
    return runner.draw(model, seeded, runner.config.images, terms)


def _renders(task: EvalTask, images: int, seed: int) -> Drawn:
    """Renders of the subjects of the embedded world, with the seeds of the models.

    Raises ValueError for a subject that is not bundled.
    """
    names = [subject.name for subject in task.subjects]
    pixels = [
        embedded_world.render_prompt(text, names, np.random.default_rng((seed + i, k)))
        for i, text in enumerate(task.templates)
        for k in range(images)
    ]
    return Drawn(np.stack(pixels), None)


def _with_base(
    runner: Runner,
    task: EvalTask,
    model: Model,
    generations: Generations,
    terms: Sequence[str],
) -> Generations:
    """The generations with the model, and pictures of the class of model and base."""
    before = _base_samples(runner, task)
    generations = generations._replace(before=before.latents)
    if terms:
        return generations  # the model is not used without the base
    generations = generations._replace(model=model)
    if not all(concept.placeholder for concept in model.concepts):
        return generations  # the class word is the concept: no prompt lacks it
    texts = task.prompts(task.class_words)
    bare = _draw(runner, model, texts[:_BARE]).pixels
    return generations._replace(
        bare=tuple(bare), bare_before=tuple(before.pixels[: len(bare)])
    )


def _base_samples(runner: Runner, task: EvalTask) -> Drawn:
    """The base's pictures of the class, cached in the work directory."""
    path = runner.out / "base" / f"{task.name}.npz"
    mark = fingerprint(runner.protocol, runner.base, BASE, task)
    try:
        with path.open("rb") as file, np.load(file) as cached:
            if str(cached["mark"]) == mark:
                return Drawn(cached["pixels"], cached["latents"])
    # Missing, or damaged, which its checksums tell.
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        pass
    drawn = _draw(runner, runner.plain, task.prompts(task.class_words))
    with files.atomic_write(path) as temporary:
        arrays = {"pixels": drawn.pixels, "latents": drawn.latents}
        np.savez(temporary, mark=np.array(mark), **arrays)
    return drawn


def _sheet(pixels: np.ndarray, columns: int) -> images.Pixels:
    """The pictures as one image, `columns` per row."""
    n, height, width, _ = pixels.shape
    rows = pixels.reshape(n // columns, columns, height, width, 3)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, 3)
