"""A subject that is taught with its own class word, a broader one and a wrong one.

See configs/claims/class_granularity.py for the claim and the command.
"""

import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.alignment import asked, make_align
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.means import bars
from experiments.claims.phrase_drift import phrase_drift
from personax.concepts.bind import from_base, with_concepts
from personax.data import emoji
from personax.evaluation.protocol import digest
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.loading import load_base

NAMES = {"custom_diffusion": "Custom Diffusion", "class_diffusion": "ClassDiffusion"}
PANELS = {
    "clip_i": "image alignment (cosine)",
    "clip_t": "text alignment (cosine)",
    "rank_cosine": "drift: rank by cosine, of 72",
}


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A point for each method, subject and class word."""
    base = load_base("emoji")
    plain = from_base(base)
    align = make_align(config, base, plain)
    points = []
    for method, arguments in config.methods.items():
        lessons = {
            (subject, which): _lesson(config, method, arguments, subject, word, kept)
            for subject, wrong in config.wrong.items()
            for which, word in _words(subject, wrong).items()
        }
        train_jobs(list(lessons.values()), together=config.together)
        for (subject, which), each in lessons.items():

            def make(subject=subject, each=each) -> Point:
                model = with_concepts(plain, base, [str(each.concept)])
                return align(model, subject) | phrase_drift(plain, model)

            own = {
                "method": method,
                "subject": subject,
                "class word": which,
                "word": each.config.concept.class_word,
            }
            key = [each.config.to_dict(), base.fingerprint, asked(config)]
            points.append(own | kept(key, make))
    return points


def _words(subject: str, wrong: str) -> dict[str, str]:
    known = emoji.subject(subject)
    return {
        "own": known.class_word,
        "broader": emoji.GROUPS[known.sprite[0]],
        "wrong": wrong,
    }


def _lesson(config: ConfigDict, method, arguments, subject, word, kept) -> TrainJob:
    given = lesson(method, subject)
    given.update(config.changes)
    given.method_args.update(arguments)
    given.concept.class_word, given.steps = word, config.steps
    name = f"{method}-{subject}-{word.replace(' ', '_')}-{digest(given)[:8]}"
    return TrainJob(given, kept.out / "taught" / name)


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Bars of the means over subjects for each word, the methods side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(PANELS), figsize=(11, 3.8), layout="constrained"
    )
    for axis, (column, label) in zip(axes, PANELS.items(), strict=True):
        bars(axis, points, "class word", column, by="method", names=NAMES)
        axis.set(xlabel="class word in training and prompt", ylabel=label)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(NAMES))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    run(measure, draw)
