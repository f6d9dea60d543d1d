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

PANELS = {
    "clip_i": "image alignment (cosine)",
    "clip_t": "text alignment (cosine)",
    "size": "file size (share of the whole concept's)",
    "error": "error of the change (relative norm)",
}


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """A point for each subject and share."""
    setup = generation.make_setup(config, saved)
    points = []
    for subject in config.subjects:
        training = method_config("custom_diffusion", subject)
        training.update(config.changes)
        task = generation.task([subject], config.prompts)
        for share in config.shares:

            def make(training=training, task=task, share=share) -> Point:
                concept = train_concept(training, setup.trained)
                folder = _compressed(setup, concept, share)
                scores = setup.clip(setup.generate(setup.bind(folder), task))
                size = {"size": _bytes(folder) / _bytes(concept)}
                size |= {"bytes": _bytes(folder)}
                return size | _ranks(folder) | generation.to_point(scores)

            key = [training.to_dict(), share, *setup.key]
            points.append({"subject": subject, "share": share} | saved(key, make))
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
    smallest, largest = min(ranks), max(ranks)
    error = compression["error"]
    return {"error": error, "least rank": smallest, "largest rank": largest}


def _bytes(concept: pathlib.Path) -> int:
    return (concept / "theta.safetensors").stat().st_size


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
