"""What a run does between steps: previews, the validation loss, checkpoints, logs."""

import pathlib
from collections.abc import Callable, Sequence

import jax

from personax.core import images
from personax.core.errors import notice
from personax.core.files import atomic_write
from personax.core.progress import Progress
from personax.methods.losses import Batch
from personax.training import preview
from personax.training.batches import Source
from personax.training.checkpoint import Checkpoints
from personax.training.distributed import is_host0
from personax.training.inputs import training_tiles
from personax.training.loop import Hook, Records
from personax.training.preview import Gallery
from personax.training.setup import Run
from personax.training.state import TrainState
from personax.training.validation import make_validation
from personax.training.writer import Writer


def validation_hook(run: Run, batches: Sequence[Batch], writer: Writer) -> Hook:
    """Log the validation loss every `validation.every` steps."""
    denoiser, key = run.plain.denoiser, jax.random.key(run.config.seed)
    validate, every = make_validation(run.method), run.config.validation.every

    def due(step: int) -> bool:
        return every is not None and bool(batches) and step % every == 0

    def log(step: int, state: TrainState) -> None:
        loss = validate(state.trained, denoiser, batches, key)
        writer.scalars(step, {"validation/loss": loss})

    return Hook(due, log)


def make_gallery(run: Run) -> Gallery | None:
    """The gallery of a run, with samples of the class before training."""
    config = run.config.preview
    if not config.prompts:
        return None
    draw = preview.make_draw(
        run.base,
        run.plain.denoiser.spec,
        run.size,
        config,
        run.config.seed,
        unconditional=run.plain if config.unconditional == "base" else None,
    )
    rows = preview.captions(config.prompts, run.concepts)
    before = run.bind(run.theta)  # the initial theta is the base
    return preview.make_gallery(draw, rows, training_tiles(run), before)


def preview_hook(
    run: Run, gallery: Gallery | None, folder: pathlib.Path, writer: Writer
) -> Hook:
    """Draw a sheet at step 0 and every `preview.every` steps.

    The sheet of the last step is grid.png, see `draw_grid`.
    """
    config, every = run.config, run.config.preview.every

    def due(step: int) -> bool:
        regular = step == 0 or (every is not None and step % every == 0)
        return gallery is not None and regular and step < config.steps

    def draw(step: int, state: TrainState) -> None:
        assert gallery is not None  # see `due`
        title = f"{config.method}, step {step}"
        pixels = preview.sheet(gallery, run.bind(state.trained), title)
        if is_host0():
            _write_sheet(folder / "samples" / f"step_{step:06d}.png", pixels)
        writer.image(step, "samples", pixels)

    return Hook(due, draw)


def draw_grid(
    run: Run,
    gallery: Gallery | None,
    state: TrainState,
    folder: pathlib.Path,
    writer: Writer,
) -> None:
    """Write grid.png: the last sheet, or the training pictures without a gallery."""
    names = ", ".join(concept.phrase for concept in run.concepts)
    title = f"{run.config.method}: {names}, {run.config.steps} steps"
    if gallery is None:
        pixels = images.grid(training_tiles(run), title=title)
    else:
        pixels = preview.sheet(gallery, run.bind(state.trained), title)
    writer.image(run.config.steps, "samples", pixels)
    if is_host0():
        _write_sheet(folder / "grid.png", pixels)


def _write_sheet(path: pathlib.Path, pixels: images.Pixels) -> None:
    with atomic_write(path) as temporary:
        images.write_png(temporary, pixels)


def checkpoint_hook(
    every: int, checkpoints: Checkpoints, source: Source, writer: Writer
) -> Hook:
    """Save the state every `every` steps, and whenever it is run."""

    def save(step: int, state: TrainState) -> None:
        # A checkpoint must not be ahead of the logs.
        writer.flush()
        checkpoints.save(state, step, source)

    return Hook(lambda step: step > 0 and step % every == 0, save)


def metrics_log(run: Run, writer: Writer, bar: Progress) -> Callable[[Records], None]:
    """A function that writes the metrics of some steps, the last beside the bar."""
    check = zero_gradient_check()

    def log(records: Records) -> None:
        check(records)
        _log_metrics(run, records, writer, bar)

    return log


def zero_gradient_check() -> Callable[[Records], None]:
    """A function of records; one line on stderr if the first have a gradient of 0."""
    waiting = [True]  # for the first records

    def check(records: Records) -> None:
        norms = [float(values["gradient_norm"]) for _, values in records]
        if waiting and not any(norms) and is_host0():
            notice(
                f"The gradient of the first {len(norms)} steps is exactly 0: nothing "
                "is learned. Is the concept's word in the captions, and does the loss "
                "count anywhere (masks)?"
            )
        waiting.clear()

    return check


def _log_metrics(run: Run, records: Records, writer: Writer, bar: Progress) -> None:
    for step, metrics in records:
        values = {name: float(value) for name, value in metrics.items()}
        rate = float(run.schedule(step - 1))
        writer.scalars(step, {**values, "learning_rate": rate})
        postfix = {"loss": f"{values['loss']:.4f}", "lr": f"{rate:.1e}"}
        bar.set_postfix(postfix, refresh=False)
    writer.curve(records[-1][0], "steps_per_second", bar.lap())
    writer.flush()
