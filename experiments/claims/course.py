"""Concepts at several steps of one training, each in a folder of its own."""

import contextlib
import math
import pathlib
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from personax.core.progress import Progress
from personax.evaluation.protocol import digest
from personax.training.checkpoint import Checkpoints
from personax.training.inputs import make_source
from personax.training.setup import init_state, prepare
from personax.training.step import make_step
from personax.training.train import save_concept


def course(
    config: ConfigDict, stops: Sequence[int], out: pathlib.Path
) -> dict[int, pathlib.Path]:
    """{step: the concept's folder}, taught where it is not there.

    A course under `out` is one config's but for its steps: asked for later stops, it
    goes on from the last one that it has. Raises ValueError where the learning rate
    depends on the number of steps, and what `teaching.prepare` raises; a loss that is
    no number ends the command.
    """
    if config.optimizer.schedule != "constant":
        raise ValueError(
            "A training that is prolonged has a constant rate, not optimizer.schedule "
            f"{config.optimizer.schedule!r}."
        )
    folder = out / digest(config.to_dict() | {"steps": 0})
    places = {stop: folder / f"step_{stop}" for stop in sorted(stops)}
    missing = [stop for stop, place in places.items() if not _is_done(place)]
    if missing:
        done = [stop for stop in places if stop < missing[0]]
        start = places[done[-1]] if done else None
        _teach(config, {stop: places[stop] for stop in missing}, start)
    return {stop: place / "concept" for stop, place in places.items()}


def _is_done(place: pathlib.Path) -> bool:
    return (place / "concept" / "concept.json").is_file()


def _teach(
    config: ConfigDict,
    places: dict[int, pathlib.Path],
    before: pathlib.Path | None,
) -> None:
    """On from the state in `before`; what each place gets is there with its concept."""
    run = prepare(config)
    state, placed = init_state(run)
    step = make_step(
        run.method,
        run.tx,
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
        shardings=placed,
    )
    source, _ = make_source(run)
    with contextlib.closing(source):
        if before is not None:
            with Checkpoints(before / "state") as saved:
                state = saved.restore(state)
        steps = range(int(state.step), max(places))
        for i in Progress(steps, f"teaching {config.method}", leave=False):
            state, metrics = step(state, run.plain.denoiser, source.batch(i))
            if i + 1 in places:
                place = places[i + 1]
                place.mkdir(parents=True, exist_ok=True)
                _check(config, i + 1, metrics)
                with Checkpoints(place / "state") as saves:
                    saves.save(state, i + 1)
                save_concept(run, place, state)


def _check(config: ConfigDict, step: int, metrics) -> None:
    loss = float(jax.device_get(metrics["loss"]))
    if not math.isfinite(loss):
        raise SystemExit(
            f"personax: The loss of {config.method} is {loss} at step {step} with the "
            f"learning rate {config.optimizer.learning_rate:g}; give lower ones."
        )
