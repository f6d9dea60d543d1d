"""Train several subjects with one program, vectorised over an axis of subjects."""

import contextlib
import json
import math
import operator
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from personax.core import files
from personax.core.progress import Progress
from personax.core.tree import stack
from personax.methods.losses import Batch
from personax.training.batches import Source
from personax.training.checkpoint import Checkpoints
from personax.training.inputs import make_source
from personax.training.loop import DivergedError, Hook, Records, fit
from personax.training.setup import Run, init_state, prepare
from personax.training.state import TrainState
from personax.training.step import make_step
from personax.training.train import save_concept
from personax.training.writer import Writer

_DONE = "taught.json"  # its content is the training time


class TrainJob(NamedTuple):
    """The training config of a subject, and the folder for its concept."""

    config: ConfigDict
    folder: pathlib.Path

    @property
    def concept(self) -> pathlib.Path:
        return self.folder / "concept"

    @property
    def is_done(self) -> bool:
        """Whether it was trained; one whose files are damaged is trained again."""
        whole = (self.concept / "theta.safetensors").is_file()
        return whole and self._recorded is not None

    @property
    def seconds(self) -> float:
        """Training time without compilation; the share of jobs trained together."""
        return self._recorded or 0.0

    @property
    def _recorded(self) -> float | None:
        try:
            seconds = files.read_json(self.folder / _DONE)["seconds"]
        except (OSError, ValueError, TypeError, KeyError, IndexError):
            return None
        is_number = isinstance(seconds, int | float) and math.isfinite(seconds)
        return float(seconds) if is_number else None


def train_jobs(jobs: Sequence[TrainJob], *, together: int = 1) -> None:
    """Train the jobs that are not done, `together` at a time.

    Their configs may differ in the concept only. Jobs with other shapes of theta or
    batches, such as a class of two words, are trained separately. A concept equals that
    of `personax.train` up to the order of summation. Interrupted jobs resume from their
    last checkpoint.

    Raises what `training.setup.prepare` raises, and DivergedError for a loss that is
    not finite.
    """
    by_shape: dict[str, list[tuple[TrainJob, Run]]] = {}
    run = None
    for job in jobs:
        if not job.is_done:
            run = prepare(job.config, like=run)
            by_shape.setdefault(_shapes(run), []).append((job, run))
    for group in by_shape.values():
        first, run = group[0]
        options = {name: first.config[name] for name in ("accumulate", "ema_decay")}
        step = make_step(run.method, run.tx, **options)
        # Over an axis of states and batches.
        step = jax.jit(jax.vmap(step, in_axes=(0, None, 0)), donate_argnums=0)
        for start in range(0, len(group), together):
            _train(step, *zip(*group[start : start + together], strict=True))


def _shapes(run: Run) -> str:
    theta = jax.tree.map(lambda x: (x.shape, str(x.dtype)), run.theta)
    concepts = getattr(run.dataset, "concepts", ())
    return str((theta, [len(each) for each in concepts], run.size))


def _train(step: Callable, jobs: Sequence[TrainJob], runs: Sequence[Run]) -> None:
    config, base = runs[0].config, runs[0].plain.denoiser
    state = stack([init_state(run)[0] for run in runs])
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as contexts:
        enter = contexts.enter_context
        sources = [enter(contextlib.closing(make_source(run)[0])) for run in runs]
        checkpoints = enter(Checkpoints(_checkpoints(jobs), keep=1))
        state = checkpoints.restore(state)
        start = int(state.step[0])
        writers = [enter(Writer(job.folder, start)) for job in jobs]
        clock = _Clock(start)
        save = Hook(
            lambda done: done % config.save_every == 0 and 0 < done < config.steps,
            lambda done, state: checkpoints.save(state, done),
        )
        names = ", ".join(job.folder.name for job in jobs)
        bar = enter(
            Progress(
                desc=f"training {names}",
                total=config.steps,
                initial=start,
                unit="step",
                leave=False,
            )
        )
        try:
            state = fit(
                lambda state, batch: step(state, base, batch),
                state,
                _Stacked(sources),
                [clock.hook, save],
                steps=config.steps,
                log=lambda records: _log(records, writers),
                log_every=config.log_every,
                progress=bar,
            )
        except DivergedError as error:
            raise _diverged(error, jobs)
        seconds = clock.seconds(config.steps) / len(jobs)
    for k, (job, run) in enumerate(zip(jobs, runs, strict=True)):
        save_concept(run, job.folder, jax.tree.map(operator.itemgetter(k), state))
        text = json.dumps({"seconds": round(seconds, 2)})
        files.write_text(job.folder / _DONE, text)


class _Stacked(NamedTuple):
    """The batches of several sources, stacked along the axis of subjects."""

    sources: Sequence[Source]

    def batch(self, step: int) -> Batch:
        return stack([source.batch(step) for source in self.sources])


class _Clock:
    """Times the steps after the first, which compiles."""

    def __init__(self, start: int):
        self._first, self._began = start + 1, time.perf_counter()
        self.hook = Hook(lambda done: done == self._first, self._begin)

    def _begin(self, done: int, state: TrainState) -> None:
        jax.block_until_ready(state)
        self._began = time.perf_counter()

    def seconds(self, steps: int) -> float:
        """The time of `steps` steps."""
        spent = time.perf_counter() - self._began
        return spent / max(steps - self._first, 1) * steps


def _checkpoints(jobs: Sequence[TrainJob]) -> pathlib.Path:
    """The folder of the jobs' joint state, which no other set of jobs shares."""
    names = "+".join(job.folder.name for job in jobs)
    return jobs[0].folder / f"checkpoints.{files.digest(names, length=8)}"


def _log(records: Records, writers: Sequence[Writer]) -> None:
    for step, metrics in records:
        for k, writer in enumerate(writers):
            writer.scalars(step, {name: float(x[k]) for name, x in metrics.items()})
    for writer in writers:
        writer.flush()


def _diverged(error: DivergedError, jobs: Sequence[TrainJob]) -> DivergedError:
    """The error with the folder of the job that diverged."""
    finite = np.all([np.isfinite(x) for x in error.metrics.values()], axis=0)
    k = int(np.argmin(finite))
    return DivergedError(
        f"Training diverged: the loss is {error.metrics['loss'][k]} at step "
        f"{error.step} of {jobs[k].folder}. Lower the learning rate in the row's "
        f"changes.",
        error.step,
        error.metrics,
    )
