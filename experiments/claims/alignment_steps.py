"""Image and text alignment against training steps, method by method.

See configs/claims/alignment_steps.py for the claim and the command.
"""

import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.alignment import asked, make_align
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.course import course
from experiments.claims.means import curve, each_subject, mean, values, where
from personax.concepts.bind import from_base, with_concepts
from personax.loading import load_base

BASE = "base"
NAMES = {
    "custom_diffusion": "Custom Diffusion",
    "dreambooth": "DreamBooth",
    "textual_inversion": "Textual Inversion",
}
PANELS = {"clip_i": "image alignment (cosine)", "clip_t": "text alignment (cosine)"}


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A point for each subject's base, and for each training at each step."""
    base = load_base("emoji")
    plain, how = from_base(base), asked(config)
    align = make_align(config, base, plain)
    points = []
    for subject in config.subjects:
        own = {"method": BASE, "subject": subject}

        def make_base(subject=subject) -> Point:
            return align(plain, subject)

        points.append(own | kept([BASE, subject, base.fingerprint, how], make_base))
        for method in config.methods:
            given = lesson(method, subject)
            given.update(config.changes)
            taught = course(given, config.steps, kept.out / "taught")
            for steps, folder in taught.items():

                def make(subject=subject, folder=folder) -> Point:
                    return align(with_concepts(plain, base, [str(folder)]), subject)

                own = {"method": method, "subject": subject, "steps": steps}
                key = [given.to_dict(), steps, base.fingerprint, how]
                points.append(own | kept(key, make))
    return points


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Both over steps, and one against the other along the training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    taught = [point for point in points if point["method"] != BASE]
    floor = {column: mean(where(points, method=BASE), column) for column in PANELS}
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for k, method in enumerate(values(taught, "method")):
        own, name = where(taught, method=method), NAMES.get(method, method)
        for axis, column in zip(axes, PANELS, strict=False):
            each_subject(axis, own, "steps", column, color=f"C{k}")
            curve(axis, own, "steps", column, label=name, color=f"C{k}")
        _trade(axes[2], own, label=name, color=f"C{k}")
    for axis, (column, label) in zip(axes, PANELS.items(), strict=False):
        axis.axhline(
            floor[column].value, color="gray", linestyle="--", label="base, its class"
        )
        axis.set(xlabel="training steps", ylabel=label)
    image, text = PANELS
    axes[2].plot(floor[text].value, floor[image].value, "s", color="gray")
    axes[2].set(xlabel=PANELS[text], ylabel=PANELS[image])
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _trade(axis, points: Sequence[Point], *, color: str, label: str) -> None:
    """Image over text alignment, each mean with its number of steps beside it."""
    image, text = PANELS
    steps = values(points, "steps")
    x, y = (
        [mean(where(points, steps=n), column).value for n in steps]
        for column in (text, image)
    )
    axis.plot(x, y, marker="o", color=color, label=label)
    for n, *at in zip(steps, x, y, strict=True):
        axis.annotate(f"{n}", at, xytext=(3, 3), textcoords="offset points", size=7)


if __name__ == "__main__":
    run(measure, draw)
