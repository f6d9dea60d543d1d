"""A whole training run: from a config to a concept on disk, resuming by itself."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from personax import methods
from personax.concepts import artifact
from personax.core.errors import RunFailedError, invalid_input, one_line
from personax.core.files import expand
from personax.core.locks import locked
from personax.core.outputs import check_folder, is_disk_full, make_folder
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.core.tree import count
from personax.training import digests, hooks, sharding, workdir
from personax.training.checkpoint import Checkpoints
from personax.training.config import TrainConfig, train_config
from personax.training.distributed import (
    broadcast_from_host0,
    is_host0,
    print_on_host0,
)
from personax.training.inputs import make_source
from personax.training.loop import DivergedError, fit
from personax.training.setup import Run, init_state, prepare
from personax.training.state import TrainState
from personax.training.step import make_step
from personax.training.stopping import stop_agreed
from personax.training.writer import Writer


def train(
    config: TrainConfig | ConfigDict | Mapping[str, Any], folder: pathlib.Path
) -> bool:
    """Train the concepts of a config in the work directory `folder`.

    Resumes from the newest checkpoint there. Returns True when the run is complete, and
    False when it was stopped by a signal. Raises InputError before any computation for
    an invalid config, and for a directory of another run or one in which a run is at
    work; DivergedError; and RunFailedError for a disk that is full.
    """
    watch = Stopwatch()
    with watch("load"), invalid_input():
        config = train_config(config)
        folder = expand(folder)
        broadcast_from_host0(lambda: str(check_folder(folder)))
        run = prepare(config)
    with _claimed(folder, run), _disk_advice(folder):
        return _train(run, folder, watch)


@contextlib.contextmanager
def _claimed(folder: pathlib.Path, run: Run) -> Iterator[None]:
    """Hold the work directory, for this run alone."""

    def claim() -> None:
        data = digests.of_run(run)
        # Before anything is written: it may be another run's.
        workdir.check(folder, run.config, data)
        make_folder(folder)
        holding.enter_context(locked(folder))
        workdir.claim(folder, run.config, data)

    with contextlib.ExitStack() as holding:
        with invalid_input():
            broadcast_from_host0(claim)
        yield


def _train(run: Run, folder: pathlib.Path, watch: Stopwatch) -> bool:
    settings, base, on_host0 = run.config, run.plain.denoiser, is_host0()
    if broadcast_from_host0(lambda: workdir.is_finished(folder, settings.steps)):
        print_on_host0(
            f"{folder} is finished after {settings.steps} steps: {folder}/concept"
        )
        return True
    with invalid_input():
        broadcast_from_host0(lambda: artifact.check_replaceable(folder / "concept"))
    for part, leaves in run.theta.items():
        arrays = len(jax.tree.leaves(leaves))
        print_on_host0(
            f"training {part}: {count(leaves):,} parameters in {arrays} arrays"
        )
    with watch("encode"), invalid_input():
        source, validation = make_source(run)
    with watch("draw"):
        gallery = hooks.make_gallery(run)
    state, shardings = init_state(run)
    step = make_step(
        run.method,
        run.tx,
        accumulate=settings.accumulate,
        ema_decay=settings.ema_decay,
        shardings=shardings,
    )
    with (
        contextlib.closing(source),
        _open_checkpoints(folder, settings.keep) as checkpoints,
    ):
        with invalid_input():
            state = checkpoints.restore(state, source)
        start = int(state.step)
        with Writer(folder, start, writes=on_host0) as writer:
            save = hooks.checkpoint_hook(
                settings.save_every, checkpoints, source, writer
            )
            bar = Progress(
                desc="training",
                total=settings.steps,
                initial=start,
                unit="step",
                disable=not on_host0,
            )
            with watch("train"), _advice(checkpoints), stop_agreed() as stop, bar:
                state = fit(
                    lambda state, batch: step(state, base, batch),
                    state,
                    source,
                    (
                        hooks.validation_hook(run, validation, writer),
                        hooks.preview_hook(run, gallery, folder, writer),
                        save,
                    ),
                    steps=settings.steps,
                    log=hooks.metrics_log(run, writer, bar),
                    log_every=settings.log_every,
                    should_stop=stop,
                    progress=bar,
                )
                save.run(int(state.step), state)
            if int(state.step) < settings.steps:
                print_on_host0(
                    f"Stopped at step {state.step}; rerun the command to resume."
                )
                return False
            with watch("draw"):
                hooks.draw_grid(run, gallery, state, folder, writer)
    # Last, since an existing concept marks a complete run.
    save_concept(run, folder, state)
    if on_host0:
        size = (folder / "concept" / "theta.safetensors").stat().st_size
        print_on_host0(
            f"concept in {folder}/concept ({size:,} bytes), "
            f"pictures in {folder}/grid.png\n{watch}"
        )
    return True


def save_concept(run: Run, folder: pathlib.Path, state: TrainState) -> None:
    """Write `folder`/concept; all processes must call it."""
    theta = sharding.fetch(state.trained)
    prepared = sharding.fetch(methods.saved(run.method, run.plain.denoiser))
    if not is_host0():
        return
    artifact.save(
        folder / "concept",
        theta,
        run.concepts,
        method=run.config.method,
        method_args=run.config.method_args,
        base=run.base.name,
        fingerprint=run.base.fingerprint,
        copies=run.base.copies(),
        before=run.config.before,
        prepared=prepared,
        step=int(state.step),
        prompts=[list(spec.captions) for spec in run.specs],
        config=workdir.record(run.config),
    )


def _open_checkpoints(folder: pathlib.Path, keep: int) -> Checkpoints:
    with invalid_input():
        return Checkpoints(folder / "checkpoints", keep=keep)


@contextlib.contextmanager
def _disk_advice(folder: pathlib.Path) -> Iterator[None]:
    """Raise RunFailedError, with what its user can do, for a full disk."""
    try:
        yield
    except Exception as error:  # tensorstore's and orbax's have any type
        if not is_disk_full(error):
            raise
        raise RunFailedError(
            f"The disk of {folder} is full. Make room and rerun the command: it "
            f"resumes from its last checkpoint. ({one_line(error)[:200]})"
        ) from error


@contextlib.contextmanager
def _advice(checkpoints: Checkpoints) -> Iterator[None]:
    """Add to a DivergedError what its user can do."""
    try:
        yield
    except DivergedError as error:
        newest = checkpoints.newest()
        last = f"{newest} in {checkpoints.folder}" if newest else "none"
        raise DivergedError(
            f"{error} The norm of theta is {error.metrics['theta_norm']}, the last "
            f"good checkpoint is {last}. Lower the learning rate, in another "
            "--workdir.",
            error.step,
            error.metrics,
        )
