"""From a config to a trained concept on disk, resuming where a run stopped."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from personax import methods
from personax.concepts import artifact
from personax.core import images
from personax.core.errors import RunFailedError, invalid_input
from personax.core.progress import Progress
from personax.core.stopwatch import Stopwatch
from personax.core.tree import count
from personax.core.typing import Metrics, Theta
from personax.methods.losses import Batch
from personax.training import distributed, preview, sharding, workdir
from personax.training.batches import Source
from personax.training.checkpoint import Checkpoints
from personax.training.distributed import is_host0, print_on_host0
from personax.training.inputs import make_source, training_tiles
from personax.training.setup import Run, prepare
from personax.training.state import TrainState, create
from personax.training.step import Step, make_step
from personax.training.stopping import stop_agreed
from personax.training.validation import make_validation
from personax.training.writer import Writer


class DivergedError(RunFailedError):
    """A metric of a step is not finite; `step` and `metrics` are that step's."""

    def __init__(self, message: str, step: int, metrics: Metrics):
        super().__init__(message)
        self.step, self.metrics = step, metrics


class Hook(NamedTuple):
    """An action between steps, such as a validation loss, a preview or a checkpoint.

    `run(step, state)` is called after every step at which `due(step)`, where `step`
    counts the completed steps; a run from scratch also asks at step 0. The state's
    buffers are donated to the next step, so a hook must not keep them.
    """

    due: Callable[[int], bool]
    run: Callable[[int, TrainState], None]


Records = Sequence[tuple[int, Mapping[str, Any]]]  # (completed steps, its metrics)


def fit(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    state: TrainState,
    source: Source,
    hooks: Sequence[Hook] = (),
    *,
    steps: int,
    log: Callable[[Records], None] = lambda records: None,
    log_every: int = 0,
    should_stop: Callable[[int], bool] = lambda step: False,
    progress: Progress | None = None,
) -> TrainState:
    """Train from the state's own step until `steps` are completed; the last state.

    `step` is `make_step`'s with the base bound, or any function of that form, such as
    one over an axis of several states.

    Metrics stay on the device until they are needed: `log` receives those of the steps
    since its last call, as numpy values, every `log_every` steps, before hooks run, and
    after the last step. `should_stop(i)` is called before step i and ends the loop
    early. `progress` is advanced by one for every step.

    Raises DivergedError where a metric is not finite, after logging the steps before.
    """
    start = int(np.max(np.asarray(state.step)))
    pending: list[tuple[int, Metrics]] = []
    for hook in hooks if start == 0 else ():
        if hook.due(0):
            hook.run(0, state)
    if progress is not None:
        progress.lap()  # excludes what the hooks took from the first rate
    for i in range(start, steps):
        if should_stop(i):
            break
        state, metrics = step(state, source.batch(i))
        done = i + 1
        pending.append((done, metrics))
        if progress is not None:
            progress.update()
        due = [hook for hook in hooks if hook.due(done)]
        if due or (log_every and done % log_every == 0):
            _flush(pending, log)
        for hook in due:
            hook.run(done, state)
    _flush(pending, log)
    return state


def _flush(pending: list[tuple[int, Metrics]], log: Callable[[Records], None]) -> None:
    """Pass the pending metrics to `log` and clear them; DivergedError, see `fit`."""
    finite: list[tuple[int, Metrics]] = []
    try:
        for step, metrics in jax.device_get(pending):
            if not all(np.isfinite(value).all() for value in metrics.values()):
                raise DivergedError(
                    f"Training diverged: the loss is {metrics['loss']} at step {step}.",
                    step,
                    metrics,
                )
            finite.append((step, metrics))
    finally:
        pending.clear()
        if finite:
            log(finite)


def train(config: ConfigDict, folder: pathlib.Path) -> bool:
    """Teach the config's concepts, from wherever the work directory stands.

    Returns whether that is done; False where the run was told to stop.
    """
    watch = Stopwatch()
    with watch("load"), invalid_input():
        run = prepare(config)
        _claim(config, run, folder)
    if distributed.broadcast_from_host0(lambda: _is_finished(config, folder)):
        print_on_host0(
            f"{folder} is finished after {config.steps} steps: {folder}/concept"
        )
        return True
    for part, leaves in run.theta.items():
        size = len(jax.tree.leaves(leaves))
        print_on_host0(f"training {part}: {count(leaves):,} numbers in {size} leaves")
    with watch("encode"), invalid_input():
        source, fixed = make_source(config, run)
    with watch("draw"):
        gallery = _gallery(config, run)

    state, placed = first_state(config, run)
    step = make_step(
        run.method,
        run.tx,
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
        shardings=placed,
    )
    with (
        contextlib.closing(source),
        Checkpoints(folder / "checkpoints", keep=config.keep) as checkpoints,
    ):
        state = checkpoints.restore(state, source)
        with Writer(folder, int(state.step), writes=is_host0()) as writer:
            looks = _make_look(config, run, folder, gallery, fixed, writer)
            with watch("train"):
                state = _loop(
                    config, run, step, state, source, looks, writer, checkpoints
                )
            if int(state.step) < config.steps:
                print_on_host0(
                    f"Stopped at step {state.step}; rerun the command to resume."
                )
                return False
            with watch("draw"):
                _draw_last(config, run, folder, state, gallery, writer)
    # The concept comes last: where it is, the run is finished.
    save_concept(config, run, folder, state)
    if is_host0():
        size = (folder / "concept" / "theta.safetensors").stat().st_size
        print(f"concept in {folder}/concept ({size:,} bytes), ", end="")
        print(f"pictures in {folder}/grid.png\n{watch}")
    return True


def first_state(config: ConfigDict, run: Run) -> tuple[TrainState, TrainState]:
    """The state before the first step, and the shardings that it lies in."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1)

    def with_moments(theta: Theta, opt: Any) -> TrainState:
        return create(theta, opt, key, ema=config.ema_decay > 0)

    shapes = jax.eval_shape(lambda x: with_moments(x, run.tx.init(x)), run.theta)
    placed = sharding.of_state(shapes, run.tx, run.mesh, config.mesh.theta_rules)
    theta = sharding.put(run.theta, placed.theta)
    # Made where they shall lie: one device may not hold the moments of all.
    opt = jax.jit(run.tx.init, out_shardings=placed.opt)(theta)
    return sharding.put(with_moments(theta, opt), placed), placed


def _claim(config: ConfigDict, run: Run, folder: pathlib.Path) -> None:
    data = {"base": run.base.fingerprint, **run.dataset.fingerprint()}
    for i, earlier in enumerate(config.before):
        data[f"before {i}"] = artifact.digest(pathlib.Path(earlier))
    distributed.broadcast_from_host0(
        lambda: workdir.claim(folder, config.to_dict(), data)
    )


def _is_finished(config: ConfigDict, folder: pathlib.Path) -> bool:
    about = folder / "concept" / "concept.json"
    return about.is_file() and json.loads(about.read_text())["step"] == config.steps


def _gallery(config: ConfigDict, run: Run) -> preview.Gallery | None:
    """The class as the run finds it: by theta's start, which is the base."""
    settings = config.preview
    if not settings.prompts:
        return None
    paint = preview.make_paint(
        run.base,
        run.plain.denoiser.spec,
        run.size,
        count=settings.images,
        steps=settings.steps,
        guidance=settings.guidance,
        seed=config.seed,
        unconditional=run.plain if settings.unconditional == "base" else None,
    )
    rows = preview.captions(settings.prompts, run.concepts)
    return preview.make_gallery(paint, rows, training_tiles(run), run.bind(run.theta))


class Look(NamedTuple):
    """What a run does now and then beside training."""

    due: Callable[[int], bool]
    look: Callable[[int, Theta], None]


def _make_look(
    config: ConfigDict,
    run: Run,
    folder: pathlib.Path,
    gallery: preview.Gallery | None,
    batches: Sequence[Batch],
    writer: Writer,
) -> Look:
    """The validation loss and the sheet, each at its own steps."""
    denoiser, key = run.plain.denoiser, jax.random.key(config.seed)
    validate = make_validation(run.method)

    def validates(step: int) -> bool:
        return bool(batches) and step % config.validation.every == 0

    def draws(step: int) -> bool:
        every = config.preview.every
        now = step == 0 or (every and step % every == 0)
        return bool(gallery and now and step < config.steps)  # then comes the last

    def look(step: int, theta: Theta) -> None:
        if validates(step):
            loss = validate(theta, denoiser, batches, key)
            writer.scalars(step, {"validation/loss": loss})
        if draws(step):
            title = f"{config.method}, step {step}"
            pixels = preview.sheet(gallery, run.bind(theta), title)
            if is_host0():
                images.write_png(folder / "samples" / f"step_{step:06d}.png", pixels)
            writer.image(step, "samples", pixels)

    return Look(lambda step: validates(step) or draws(step), look)


def _loop(
    config: ConfigDict,
    run: Run,
    step: Step,
    state: TrainState,
    source: Source,
    looks: Look,
    writer: Writer,
    checkpoints: Checkpoints,
) -> TrainState:
    """The state after the config's steps, or after the one at which it was stopped."""
    base, start = run.plain.denoiser, int(state.step)

    def save(done: int, state: TrainState) -> None:
        # The logs of these steps are on disk before the checkpoint is.
        writer.flush()
        checkpoints.save(state, done, source)

    hooks = (
        Hook(looks.due, lambda done, state: looks.look(done, trained(state))),
        Hook(lambda done: done > 0 and done % config.save_every == 0, save),
    )
    with (
        stop_agreed() as should_stop,
        Progress(
            total=config.steps,
            initial=start,
            unit="step",
            desc="training",
            disable=not is_host0(),
        ) as bar,
    ):
        try:
            state = fit(
                lambda state, batch: step(state, base, batch),
                state,
                source,
                hooks,
                steps=config.steps,
                log=lambda records: _log(run, records, bar, writer),
                log_every=config.log_every,
                should_stop=should_stop,
                progress=bar,
            )
        except DivergedError as error:
            raise _diverged(error, checkpoints)
        save(int(state.step), state)
    return state


def trained(state: TrainState) -> Theta:
    """What the run is to be judged by: the average, where one is kept."""
    return state.theta if state.ema is None else state.ema


def _log(run: Run, records: Records, bar: Progress, writer: Writer) -> None:
    for step, metrics in records:
        values = {name: float(value) for name, value in metrics.items()}
        rate = float(run.schedule(step - 1))
        writer.scalars(step, {**values, "learning_rate": rate})
        postfix = {"loss": f"{values['loss']:.4f}", "lr": f"{rate:.1e}"}
        bar.set_postfix(postfix, refresh=False)
    writer.curve(records[-1][0], "steps_per_second", bar.lap())
    writer.flush()


def _diverged(error: DivergedError, checkpoints: Checkpoints) -> DivergedError:
    newest = checkpoints.newest()
    last = f"{newest} in {checkpoints.folder}" if newest else "none"
    return DivergedError(
        f"Training diverged: the loss is {error.metrics['loss']} at step {error.step}, "
        f"and the norm of theta {error.metrics['theta_norm']}; the last good "
        f"checkpoint is {last}. Lower the learning rate, in another --workdir.",
        error.step,
        error.metrics,
    )


def save_concept(
    config: ConfigDict, run: Run, folder: pathlib.Path, state: TrainState
) -> None:
    theta = sharding.fetch(trained(state))  # by all processes
    prepared = sharding.fetch(methods.saved(run.method, run.plain.denoiser))
    if not is_host0():
        return
    artifact.save(
        folder / "concept",
        theta,
        run.concepts,
        method=config.method,
        method_args=config.method_args.to_dict(),
        base=run.base.name,
        fingerprint=run.base.fingerprint,
        before=[pathlib.Path(each) for each in config.before],
        prepared=prepared,
        step=int(state.step),
        prompts=[list(lesson.captions) for lesson in run.lessons],
        config=config.to_dict(),
    )


def _draw_last(
    config: ConfigDict,
    run: Run,
    folder: pathlib.Path,
    state: TrainState,
    gallery: preview.Gallery | None,
    writer: Writer,
) -> None:
    """grid.png: the last sheet; without prompts, the training pictures alone."""
    names = ", ".join(concept.phrase for concept in run.concepts)
    title = f"{config.method}: {names}, {config.steps} steps"
    if gallery is None:
        pixels = images.grid(training_tiles(run), title=title)
    else:
        pixels = preview.sheet(gallery, run.bind(trained(state)), title)
    writer.image(config.steps, "samples", pixels)
    if is_host0():
        images.write_png(folder / "grid.png", pixels)
