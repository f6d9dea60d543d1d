"""Many subjects taught at once: one program, over an axis of theta for the subjects."""

import contextlib
import hashlib
import json
import math
import operator
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from personax.core.files import write_text
from personax.core.progress import Progress
from personax.core.tree import stack
from personax.core.typing import Metrics
from personax.training.checkpoint import Checkpoints
from personax.training.inputs import make_source
from personax.training.setup import Run, init_state, prepare
from personax.training.step import make_step
from personax.training.train import save_concept
from personax.training.writer import Writer


class TrainJob(NamedTuple):
    """A config that teaches one subject, and the folder for what it teaches."""

    config: ConfigDict
    folder: pathlib.Path

    @property
    def concept(self) -> pathlib.Path:
        return self.folder / "concept"

    @property
    def is_done(self) -> bool:
        return (self.folder / "taught.json").is_file()

    @property
    def seconds(self) -> float:
        """What its steps took, without compilation: its share where taught together."""
        return json.loads((self.folder / "taught.json").read_text())["seconds"]


def train_jobs(lessons: Sequence[TrainJob], *, together: int = 1) -> None:
    """Teaches those that are not done, `together` at a time.

    Their configs may differ in the concept alone. Those whose thetas or batches have
    other shapes, as of a class of two words, are taught apart. A concept is what
    `personax.train` makes of its config, but for the order of summation. What was
    stopped goes on from its last checkpoint. Raises what `teaching.prepare` raises.
    """
    alike: dict[str, list[tuple[TrainJob, Run]]] = {}
    run = None
    for lesson in lessons:
        if not lesson.is_done:
            run = prepare(lesson.config, like=run)
            alike.setdefault(_shapes(run), []).append((lesson, run))
    for group in alike.values():
        step = _step(*group[0])
        for start in range(0, len(group), together):
            _teach(step, *zip(*group[start : start + together], strict=True))


def _shapes(run: Run) -> str:
    theta = jax.tree.map(lambda x: (x.shape, str(x.dtype)), run.theta)
    concepts = getattr(run.dataset, "concepts", ())
    return str((theta, [len(each) for each in concepts], run.size))


def _step(lesson: TrainJob, run: Run) -> Callable:
    """The step of all lessons that are alike, over an axis of states and batches."""
    step = make_step(
        run.method,
        run.tx,
        accumulate=lesson.config.accumulate,
        ema_decay=lesson.config.ema_decay,
    )
    return jax.jit(jax.vmap(step, in_axes=(0, None, 0)), donate_argnums=0)


def _teach(step: Callable, lessons: Sequence[TrainJob], runs: Sequence[Run]) -> None:
    config, run, count = lessons[0].config, runs[0], len(lessons)
    state = stack([init_state(own)[0] for own in runs])
    for lesson in lessons:
        lesson.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        enter = opened.enter_context
        sources = [enter(contextlib.closing(make_source(own)[0])) for own in runs]
        checkpoints = enter(Checkpoints(_checkpoints(lessons), keep=1))
        state = checkpoints.restore(state)
        start = int(state.step[0])
        writers = [enter(Writer(each.folder, start)) for each in lessons]
        pending: list[tuple[int, Metrics]] = []
        began, first = time.perf_counter(), start
        for i in _bar(lessons, start):
            batch = stack([source.batch(i) for source in sources])
            state, metrics = step(state, run.plain.denoiser, batch)
            pending.append((i + 1, metrics))
            if i == start:  # it compiles
                jax.block_until_ready(state)
                began, first = time.perf_counter(), i + 1
            last = i + 1 == config.steps
            if last or (i + 1) % config.log_every == 0:
                _log(pending, writers, lessons)
            if not last and (i + 1) % config.save_every == 0:
                checkpoints.save(state, i + 1)
        spent = time.perf_counter() - began
    seconds = spent / max(config.steps - first, 1) * config.steps / count
    for k, (lesson, own) in enumerate(zip(lessons, runs, strict=True)):
        one = jax.tree.map(operator.itemgetter(k), state)
        save_concept(own, lesson.folder, one)
        write_text(
            lesson.folder / "taught.json", json.dumps({"seconds": round(seconds, 2)})
        )


def _checkpoints(lessons: Sequence[TrainJob]) -> pathlib.Path:
    """The folder for their common state; of other lessons it would be another one."""
    names = "+".join(each.folder.name for each in lessons)
    mark = hashlib.sha256(names.encode()).hexdigest()[:8]
    return lessons[0].folder / f"checkpoints.{mark}"


def _bar(lessons: Sequence[TrainJob], start: int) -> Progress:
    names = ", ".join(each.folder.name for each in lessons)
    steps = lessons[0].config.steps
    return Progress(
        range(start, steps),
        f"teaching {names}",
        total=steps,
        initial=start,
        unit="step",
        leave=False,
    )


def _log(
    pending: list[tuple[int, Metrics]],
    writers: Sequence[Writer],
    lessons: Sequence[TrainJob],
) -> None:
    """Writes what is pending; ends the run where a number is none."""
    for step, metrics in jax.device_get(pending):
        for k, (writer, lesson) in enumerate(zip(writers, lessons, strict=True)):
            values = {name: float(value[k]) for name, value in metrics.items()}
            if not all(map(math.isfinite, values.values())):
                raise SystemExit(
                    f"personax: The loss is {values['loss']} at step {step} of "
                    f"{lesson.folder}. Lower the learning rate in the row's changes."
                )
            writer.scalars(step, values)
    for writer in writers:
        writer.flush()
    pending.clear()
