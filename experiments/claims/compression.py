"""Scores of a concept over the share of its singular values that is kept.

See configs/claims/compression.py for the claim and the command.
"""

import json
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from experiments.claims import generation
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.generation import Setup
from experiments.claims.plots import curve, panels, subject_curves
from experiments.claims.training import method_config, train_concept
from personax.concepts.compress import compress
from personax.evaluation.protocol import EvalTask

PANELS = {
    "clip_i": "image alignment (cosine)",
    "clip_t": "text alignment (cosine)",
    "size": "file size (share of the whole concept's)",
    "error": "error of the change (relative norm)",
}


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """A point for each subject and share."""
    setup = generation.make_setup(config, saved)

    def scores(training: ConfigDict, task: EvalTask, share: float) -> Point:
        concept = train_concept(training, setup.trained)
        folder = _compressed(setup, concept, share)
        metrics = setup.clip(setup.generate(setup.bind(folder), task))
        bytes_of = [
            (each / "theta.safetensors").stat().st_size for each in (folder, concept)
        ]
        size = {"size": bytes_of[0] / bytes_of[1], "bytes": bytes_of[0]}
        return size | _ranks(folder) | generation.to_point(metrics)

    points = []
    for subject in config.subjects:
        training = method_config("custom_diffusion", subject, changes=config.changes)
        task = generation.task([subject], config.prompts)
        for share in config.shares:
            key = [training.to_dict(), share, *setup.key]
            point = saved(key, scores, training, task, share)
            points.append({"subject": subject, "share": share} | point)
    return points


def _compressed(setup: Setup, concept: pathlib.Path, share: float) -> pathlib.Path:
    """The concept in low rank, written beside it; with a share of 1 the concept."""
    if share == 1:
        return concept
    out = concept.with_name(f"share_{share:g}")
    params = setup.plain.denoiser.params
    compress(concept, out, params, setup.base.fingerprint, share=share)
    return out


def _ranks(folder: pathlib.Path) -> Point:
    """The compression's relative error and its ranks, as concept.json has them."""
    compression = json.loads((folder / "concept.json").read_text()).get("compression")
    if not compression:
        return {"error": 0.0}
    ranks = compression["ranks"].values()
    extremes = {"least rank": min(ranks), "largest rank": max(ranks)}
    return {"error": compression["error"], **extremes}


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Alignment, size and error over the share: subjects and their means."""
    with panels(path, 2, 2, (9, 6.5)) as axes:
        for axis, (column, label) in zip(axes.flat, PANELS.items(), strict=True):
            subject_curves(axis, points, "share", column, color="C0")
            curve(axis, points, "share", column, label="mean over subjects", color="C0")
            axis.set(xlabel="share of the sum of singular values", ylabel=label)
        for axis in axes[1]:
            axis.set_ylim(0, None)
        axes[0, 0].legend()


if __name__ == "__main__":
    run(measure, draw)
