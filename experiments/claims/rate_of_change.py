"""How much fine-tuning of the whole UNet changes cross-attention, and the rest.

See configs/claims/rate_of_change.py for the claim and the command.
"""

import pathlib
import re
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.means import bars, mean, values, where
from personax.concepts import artifact
from personax.concepts.bind import from_base
from personax.core.tree import flat
from personax.core.typing import Params
from personax.evaluation.protocol import digest
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.loading import load_base
from personax.metrics.change import GROUPS, REST, by_group, rate_of_change

PANELS = {"layer": "of a layer", "tensor": "of a parameter tensor"}


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A point for each subject, way to take tensors together, and group."""
    base = load_base("emoji")
    params = from_base(base).denoiser.params
    lessons = {name: _lesson(config, name, kept.out) for name in config.subjects}
    train_jobs(list(lessons.values()), together=config.together)
    points: list[Point] = []
    for subject, each in lessons.items():

        def make(each=each) -> list[Point]:
            found = artifact.load(each.concept, params, base.fingerprint)
            after = flat(found.theta["weights"])
            before = {path: flat(params)[path] for path in after}
            return [point for per in PANELS for point in _rates(before, after, per)]

        own = kept([each.config.to_dict(), base.fingerprint], make)
        points += [{"subject": subject, **point} for point in own]
    return points


def _lesson(config: ConfigDict, subject: str, out: pathlib.Path) -> TrainJob:
    given = lesson("dreambooth", subject)
    given.update(config.changes)
    given.steps = config.steps
    return TrainJob(given, out / "taught" / f"{subject}-{digest(given)[:8]}")


def _rates(before: Params, after: Params, per: str):
    """A point for each group: its mean rate, how it is spread, and how large it is."""
    rates, sizes = rate_of_change(before, after, per=per), _sizes(after)
    points = []
    for group, change in by_group(rates).items():
        own = [rate for path, rate in rates.items() if _group(path) == group]
        low, median, high = np.nanquantile(own, (0.1, 0.5, 0.9))
        points.append(
            {
                "per": per,
                "group": group,
                "rate": change.mean,
                "tenth": float(low),
                "median": float(median),
                "ninetieth": float(high),
                "count": change.count,
                "zeros": change.zeros,
                "share of parameters": sizes[group] / sum(sizes.values()),
            }
        )
    return points


def _sizes(leaves: Params) -> dict[str, int]:
    sizes = dict.fromkeys((*GROUPS, REST), 0)
    for path, leaf in leaves.items():
        sizes[_group(path)] += leaf.size
    return sizes


def _group(path: str) -> str:
    """The first group that a path is of, as `by_group` has it."""
    kinds = (name for name in GROUPS if re.fullmatch(GROUPS[name], path))
    return next(kinds, REST)


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Bars of the means over subjects, each subject a dot, per layer and per tensor."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares = {p["group"]: p["share of parameters"] for p in points}
    shown = [
        {**p, "group": f"{p['group']}\n{shares[p['group']]:.1%} of numbers"}
        for p in points
    ]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axis, (per, label) in zip(axes, PANELS.items(), strict=True):
        own = [point for point in shown if point["per"] == per]
        bars(
            axis,
            own,
            "group",
            "rate",
            by="per",
            names={per: "mean over subjects (dots)"},
        )
        _spread(axis, own)
        axis.set_ylabel(f"rate of change {label}")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _spread(axis, points: Sequence[Point]) -> None:
    """A line beside each bar, from the mean of the subjects' tenths to ninetieths."""
    groups = values(points, "group")
    ends = [
        [mean(where(points, group=group), column).value for group in groups]
        for column in ("tenth", "ninetieth")
    ]
    places = [i + 0.45 for i in range(len(groups))]
    axis.vlines(places, *ends, color="gray", label="10 to 90 % of the group")


if __name__ == "__main__":
    run(measure, draw)
