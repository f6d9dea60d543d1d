"""A whole training run: from a config to a concept on disk, resuming by itself."""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from personax import methods
from personax.concepts import artifact
from personax.concepts.source import parse_source
from personax.core.errors import invalid_input
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.core.tree import count
from personax.training import sharding, workdir
from personax.training.batches import Source
from personax.training.checkpoint import Checkpoints
from personax.training.config import TrainConfig
from personax.training.distributed import (
    broadcast_from_host0,
    is_host0,
    print_on_host0,
)
from personax.training.hooks import (
    checkpoint_hook,
    draw_grid,
    log_metrics,
    make_gallery,
    preview_hook,
    validation_hook,
)
from personax.training.inputs import make_source
from personax.training.loop import DivergedError, Hook, fit
from personax.training.setup import Run, init_state, prepare
from personax.training.state import TrainState
from personax.training.step import Step, make_step
from personax.training.stopping import stop_agreed
from personax.training.writer import Writer


def train(
    config: TrainConfig | ConfigDict | Mapping[str, Any], folder: pathlib.Path
) -> bool:
    """Train the concepts of a config in the work directory `folder`.

    Resumes from the newest checkpoint there. Returns True when the run is complete, and
    False when it was stopped by a signal. Raises InputError before any computation for
    an invalid config or a directory of another run, and DivergedError.
    """
    watch = Stopwatch()
    with watch("load"), invalid_input():
        run = prepare(config)
        _claim(run, folder)
    steps = run.config.steps
    if broadcast_from_host0(lambda: workdir.is_finished(folder, steps)):
        print_on_host0(f"{folder} is finished after {steps} steps: {folder}/concept")
        return True
    for part, leaves in run.theta.items():
        arrays = len(jax.tree.leaves(leaves))
        print_on_host0(
            f"training {part}: {count(leaves):,} parameters in {arrays} arrays"
        )
    with watch("encode"), invalid_input():
        source, validation = make_source(run)
    with watch("draw"):
        gallery = make_gallery(run)
    state, shardings = init_state(run)
    step = make_step(
        run.method,
        run.tx,
        accumulate=run.config.accumulate,
        ema_decay=run.config.ema_decay,
        shardings=shardings,
    )
    with (
        contextlib.closing(source),
        Checkpoints(folder / "checkpoints", keep=run.config.keep) as checkpoints,
    ):
        state = checkpoints.restore(state, source)
        with Writer(folder, int(state.step), writes=is_host0()) as writer:
            hooks = (
                validation_hook(run, validation, writer),
                preview_hook(run, gallery, folder, writer),
            )
            with watch("train"):
                state = _fit(run, step, state, source, hooks, writer, checkpoints)
            if int(state.step) < steps:
                print_on_host0(
                    f"Stopped at step {state.step}; rerun the command to resume."
                )
                return False
            with watch("draw"):
                draw_grid(run, gallery, state, folder, writer)
    # Last, since an existing concept marks a complete run.
    save_concept(run, folder, state)
    if is_host0():
        size = (folder / "concept" / "theta.safetensors").stat().st_size
        print(f"concept in {folder}/concept ({size:,} bytes), ", end="")
        print(f"pictures in {folder}/grid.png\n{watch}")
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
        before=run.config.before,
        prepared=prepared,
        step=int(state.step),
        prompts=[list(spec.captions) for spec in run.specs],
        config=workdir.record(run.config),
    )


def _claim(run: Run, folder: pathlib.Path) -> None:
    data = {"base": run.base.fingerprint, **run.dataset.fingerprint()}
    for i, source in enumerate(run.config.before):
        data[f"before {i}"] = artifact.digest(parse_source(source).path)
    broadcast_from_host0(lambda: workdir.claim(folder, run.config, data))


def _fit(
    run: Run,
    step: Step,
    state: TrainState,
    source: Source,
    hooks: tuple[Hook, ...],
    writer: Writer,
    checkpoints: Checkpoints,
) -> TrainState:
    """`fit` until the last step or a signal, with a checkpoint at the end."""
    base = run.plain.denoiser
    save = checkpoint_hook(run.config.save_every, checkpoints, source, writer)
    bar = Progress(
        total=run.config.steps,
        initial=int(state.step),
        unit="step",
        desc="training",
        disable=not is_host0(),
    )
    with stop_agreed() as should_stop, bar:
        try:
            state = fit(
                lambda state, batch: step(state, base, batch),
                state,
                source,
                (*hooks, save),
                steps=run.config.steps,
                log=lambda records: log_metrics(run, records, writer, bar),
                log_every=run.config.log_every,
                should_stop=should_stop,
                progress=bar,
            )
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
        save.run(int(state.step), state)
    return state
