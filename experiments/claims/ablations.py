"""Custom Diffusion without its parts, one at a time.

See configs/claims/ablations.py for the claim and the command.
"""

import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.alignment import asked, make_align
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.means import mean, values, where
from personax.concepts.bind import from_base, with_concepts
from personax.evaluation.protocol import digest
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.loading import load_base

PANELS = {
    "clip_i": "image alignment (cosine)",
    "clip_t": "text alignment (cosine)",
    "same": "class as before (cosine)",
    "leak": "class nearer to the subject (cosine)",
}


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A point for each row and subject."""
    base = load_base("emoji")
    plain = from_base(base)
    align = make_align(config, base, plain)
    points = []
    for row, changes in config.rows.items():
        lessons = {
            subject: _lesson(config, row, changes, subject, kept.out)
            for subject in config.subjects
        }
        train_jobs(list(lessons.values()), together=config.together)
        for subject, each in lessons.items():

            def make(subject=subject, each=each) -> Point:
                model = with_concepts(plain, base, [str(each.concept)])
                return align(model, subject, bare=True)

            key = [each.config.to_dict(), base.fingerprint, asked(config)]
            points.append({"row": row, "subject": subject} | kept(key, make))
    return points


def _lesson(config: ConfigDict, row, changes, subject, out: pathlib.Path) -> TrainJob:
    given = lesson("custom_diffusion", subject)
    given.update(config.changes)
    given.update(changes)
    name = f"{row.replace(' ', '_').replace('*', '')}-{subject}-{digest(given)[:8]}"
    return TrainJob(given, out / "taught" / name)


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """A row for each ablation: means over subjects, each subject a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = values(points, "row")
    figure, axes = pyplot.subplots(
        1, len(PANELS), figsize=(13, 3.6), sharey=True, layout="constrained"
    )
    for axis, (column, label) in zip(axes, PANELS.items(), strict=True):
        for y, row in enumerate(rows):
            own = where(points, row=row)
            found = mean(own, column)
            axis.errorbar(
                found.value, y, xerr=found.error, fmt="o", color="C0", capsize=3
            )
            axis.plot([p[column] for p in own], [y] * len(own), "k.", markersize=4)
        whole = mean(where(points, row=rows[0]), column).value
        axis.axvline(whole, color="gray", linestyle="--", linewidth=1)
        axis.set_xlabel(label)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    run(measure, draw)
