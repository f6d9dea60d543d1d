"""ClassDiffusion over the weight of its loss and the number of training steps.

See configs/claims/semantic_weight.py for the claim and the command.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.alignment import asked, make_align
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.course import course
from experiments.claims.means import mean, values, where
from personax.concepts.bind import from_base, with_concepts
from personax.loading import load_base

PANELS = {
    "clip_i": "image alignment (cosine)",
    "clip_t": "text alignment (cosine)",
    "asked": "share that shows what is asked",
}


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A point for each subject, weight and number of steps."""
    base = load_base("emoji")
    plain = from_base(base)
    align = make_align(config, base, plain)
    points = []
    for subject in config.subjects:
        for weight in config.weights:
            given = lesson("class_diffusion", subject)
            given.update(config.changes)
            given.method_args.semantic_weight = float(weight)
            taught = course(given, config.steps, kept.out / "taught")
            for steps, folder in taught.items():

                def make(subject=subject, folder=folder) -> Point:
                    return align(with_concepts(plain, base, [str(folder)]), subject)

                key = [given.to_dict(), steps, base.fingerprint, asked(config)]
                own = {"subject": subject, "weight": weight, "steps": steps}
                points.append(own | kept(key, make))
    return points


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Heat maps of the means over subjects, a row for each weight."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    weights, steps = values(points, "weight"), values(points, "steps")
    figure, axes = pyplot.subplots(
        1, len(PANELS), figsize=(11, 4), sharey=True, layout="constrained"
    )
    for axis, (column, label) in zip(axes, PANELS.items(), strict=True):
        cells = [
            [mean(where(points, weight=w, steps=n), column).value for n in steps]
            for w in weights
        ]
        shown = axis.imshow(cells, aspect="auto", origin="lower", cmap="viridis")
        _write_cells(axis, np.array(cells))
        axis.set_xticks(range(len(steps)), steps)
        axis.set_yticks(range(len(weights)), [f"{w:g}" for w in weights])
        axis.set_xlabel("training steps")
        axis.set_title(label, size="medium")
        figure.colorbar(shown, ax=axis)
    axes[0].set_ylabel("weight of the semantic preservation loss")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _write_cells(axis, cells: np.ndarray) -> None:
    """Each cell's number, light on dark and dark on light."""
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
    for (y, x), value in np.ndenumerate(cells):
        colour = "black" if value > middle else "white"
        axis.text(x, y, f"{value:.3f}", ha="center", va="center", color=colour)


if __name__ == "__main__":
    run(measure, draw)
