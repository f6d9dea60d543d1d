"""A concept's score against the share of its singular values that is kept.

See configs/claims/compression.py for the claim and the command.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.alignment import asked, make_align
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.means import curve, each_subject
from personax.concepts.bind import from_base, with_concepts
from personax.evaluation.protocol import digest
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.loading import load_base

PANELS = {
    "clip_i": "image alignment (cosine)",
    "clip_t": "text alignment (cosine)",
    "size": "size of the file (share of the whole)",
    "error": "left out of the change (relative norm)",
}


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A point for each subject and share."""
    base = load_base("emoji")
    plain = from_base(base)
    align = make_align(config, base, plain)
    lessons = {name: _lesson(config, name, kept.out) for name in config.subjects}
    train_jobs(list(lessons.values()), together=config.together)
    points = []
    for subject, each in lessons.items():
        for share in config.shares:

            def make(subject=subject, each=each, share=share) -> Point:
                folder = _compressed(each.concept, share)
                model = with_concepts(plain, base, [str(folder)])
                size = _bytes(folder) / _bytes(each.concept)
                found = {"size": size, "bytes": _bytes(folder), **_said(folder)}
                return found | align(model, subject)

            own = {"subject": subject, "share": share}
            key = [each.config.to_dict(), share, base.fingerprint, asked(config)]
            points.append(own | kept(key, make))
    return points


def _lesson(config: ConfigDict, subject: str, out: pathlib.Path) -> TrainJob:
    given = lesson("custom_diffusion", subject)
    given.update(config.changes)
    return TrainJob(given, out / "taught" / f"{subject}-{digest(given)[:8]}")


def _compressed(concept: pathlib.Path, share: float) -> pathlib.Path:
    """What the command makes of the concept, beside it; all of it is the concept."""
    if share == 1:
        return concept
    out = concept.with_name(f"share_{share:g}")
    command = [sys.executable, "-m", "personax.compress", str(concept)]
    subprocess.run([*command, "--out", str(out), "--share", str(share)], check=True)
    return out


def _said(folder: pathlib.Path) -> Point:
    """What the command says of what it left out; of all, nothing is."""
    about = json.loads((folder / "concept.json").read_text())
    compression = about.get("compression")
    if not compression:
        return {"error": 0.0}
    ranks = list(compression["ranks"].values())
    return {
        "error": compression["error"],
        "least rank": min(ranks),
        "largest rank": max(ranks),
    }


def _bytes(concept: pathlib.Path) -> int:
    return (concept / "theta.safetensors").stat().st_size


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Alignment, size and what is left out over the share; means over the subjects."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for axis, (column, label) in zip(axes.flat, PANELS.items(), strict=True):
        each_subject(axis, points, "share", column, color="C0")
        curve(axis, points, "share", column, label="mean, each subject", color="C0")
        axis.set(xlabel="share of the sum of singular values", ylabel=label)
    for axis in axes[1]:
        axis.set_ylim(0, None)
    axes[0, 0].legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    run(measure, draw)
