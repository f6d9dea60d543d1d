"""What becomes of the class without the concept, by method.

    python -m experiments.claims.category_drift \
        --config configs/claims/category_drift.py --out runs/claims/category_drift

Kumari et al. 2023, table 7 and fig. 18; see the config for claim and protocol.
"""

import functools
import pathlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.means import mean, values, where
from personax.concepts.bind import Model, from_base, with_concepts
from personax.core import images
from personax.data import concepts, emoji
from personax.evaluation.config import DrawConfig
from personax.evaluation.draw import Draw, make_draw
from personax.evaluation.protocol import digest
from personax.evaluation.samples import summarize
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.loading import Base, Clip, load_base, load_clip
from personax.metrics import clip
from personax.metrics.alignment import reference_cosines, text_cosines
from personax.metrics.kernel import kid

# Seeds of scenes: what is asked for, the renders it is held against, other renders.
_ASKED, _REAL, _FLOOR = 1, 2, 3
_OTHER_SEEDS = 10_000

Pictures = UInt8[np.ndarray, "n height width 3"]


class Bench(NamedTuple):
    """What every point is measured with."""

    config: ConfigDict
    base: Base
    plain: Model
    draw: Draw
    eye: Clip
    sprites: emoji.Sprites


class Scenes(NamedTuple):
    """The class as it is asked for, as it looks, and as the base draws it."""

    captions: list[str]
    real: Pictures
    before: Pictures
    subject: list[images.Pixels]


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """The floors, the base, and each method, on each subject's class."""
    base = load_base("emoji")
    bench = Bench(
        config,
        base,
        from_base(base),
        make_draw(base, DrawConfig(**config.draw)),
        load_clip(),
        emoji.load_sprites(),
    )
    names = ("count", "real", "seed", "bootstrap")
    asked = [config.draw.to_dict(), *(config[name] for name in names)]
    key = ["category_drift", base.fingerprint, *asked]
    scenes = functools.cache(partial(_scenes, bench))
    points = []
    for subject in config.subjects:
        for name, make in FLOORS.items():

            def floor(make=make, subject=subject) -> Point:
                return make(bench, subject, scenes(subject))

            point = kept([*key, name, subject], floor)
            points.append({"kind": name, "subject": subject, **point})
    for method in config.methods:
        points += _method(bench, method, scenes, kept, key)
    return points


def _method(bench: Bench, method: str, scenes, kept: SavedPoints, key) -> list[Point]:
    """A point for each subject; they are taught at once, when the first is asked."""
    lessons = {
        each: _lesson(bench, method, each, kept.out) for each in bench.config.subjects
    }

    def judged(subject: str) -> Point:
        train_jobs(list(lessons.values()), together=len(lessons))
        source = str(lessons[subject].concept)
        model = with_concepts(bench.plain, bench.base, [source])
        pixels = _drawn(bench, model, scenes(subject).captions)
        # Infusion has no word of its own: the class word is what it teaches.
        spoken = bool(model.concepts[0].placeholder)
        return {"own_word": spoken, **_judged(bench, pixels, scenes(subject))}

    points = []
    for subject, each in lessons.items():
        about = {"kind": "method", "method": method, "subject": subject}
        mark = [*key, each.config.to_dict(), subject]
        points.append(about | kept(mark, partial(judged, subject)))
    return points


def _lesson(bench: Bench, method: str, subject: str, out: pathlib.Path) -> TrainJob:
    config = lesson(method, subject)
    config.steps = bench.config.steps or config.steps
    folder = out / "taught" / method / f"{subject}.{digest(config.to_dict())[:8]}"
    return TrainJob(config, folder)


def _scenes(bench: Bench, subject: str) -> Scenes:
    count, real = bench.config.count, bench.config.real
    asked = [_scene(bench, subject, _ASKED, i) for i in range(count)]
    captions = [emoji.caption(scene) for _, scene in asked]
    size = bench.base.spec.size
    own = [
        images.to_uint8(images.fit(each, size)) for each in concepts.pictures(subject)
    ]
    before = _drawn(bench, bench.plain, captions)
    return Scenes(captions, _renders(bench, subject, _REAL, real), before, own)


def _scene(
    bench: Bench, subject: str, seed: int, i: int
) -> tuple[np.random.Generator, emoji.Scene]:
    """(what renders it, scene i of the subject's class), in all the world's styles."""
    word = emoji.subject(subject).class_word
    classes = [name for name in emoji.CLASSES if emoji.class_word(name) == word]
    rng = np.random.default_rng((seed, i))
    styles = tuple(emoji.STYLES)
    return rng, emoji.choose(rng, bench.sprites, classes=classes, styles=styles)


def _renders(bench: Bench, subject: str, seed: int, count: int) -> Pictures:
    scenes = (_scene(bench, subject, seed, i) for i in range(count))
    return np.stack([emoji.render(rng, bench.sprites, scene) for rng, scene in scenes])


def _drawn(
    bench: Bench, model: Model, captions: Sequence[str], seed: int = 0
) -> Pictures:
    """One picture of each caption, each by a seed of its own."""
    first = bench.config.seed + seed
    asked = [(text, first + i) for i, text in enumerate(captions)]
    return bench.draw(model, asked, 1).pixels


def _judged(bench: Bench, pixels: Pictures, scenes: Scenes) -> Point:
    """KID to renders of the class, likeness to the base's pictures and the subject's.

    "same" is the cosine with what the base draws of that caption by that seed, "leak"
    how much nearer to the subject's pictures than that the picture is.
    """
    sets = (pixels, scenes.real, scenes.before, scenes.subject)
    after, real, before, subject = (
        clip.of_images(bench.eye, each, unit=False) for each in sets
    )
    far = kid(after, real)
    near = [reference_cosines(each, subject) for each in (after, before)]
    of_pairs = {"same": text_cosines(after, before), "leak": near[0] - near[1]}
    found = summarize(of_pairs, range(len(after)), bench.config.bootstrap)
    point = {"kid": far.value, "kid_error": far.error}
    for name, each in found.items():
        point |= {name: each.value, f"{name}_error": each.error}
    return point


def _floor(bench: Bench, subject: str, scenes: Scenes) -> Point:
    """Other renders of the class in the place of pictures: KID alone says something."""
    pixels = _renders(bench, subject, _FLOOR, bench.config.count)
    point = _judged(bench, pixels, scenes)
    return {name: point[name] for name in ("kid", "kid_error")}


def _before(bench: Bench, subject: str, scenes: Scenes) -> Point:
    return _judged(bench, scenes.before, scenes)


def _others(bench: Bench, subject: str, scenes: Scenes) -> Point:
    """The base's own by other seeds: how alike two pictures of one caption are."""
    pixels = _drawn(bench, bench.plain, scenes.captions, _OTHER_SEEDS)
    return _judged(bench, pixels, scenes)


FLOORS = {"renders": _floor, "base": _before, "base, other seeds": _others}
_PANELS = {
    "kid": "KID to renders of the class",
    "same": "likeness to the base's picture (cosine)",
    "leak": "nearer to the subject than the base's (cosine)",
}


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """A row for each method; lines are the base and what it is measured against."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = where(points, kind="method")
    methods = values(found, "method")
    figure, axes = pyplot.subplots(
        1, 3, sharey=True, figsize=(12, 1.5 + 0.32 * len(methods)), layout="constrained"
    )
    for axis, (column, label) in zip(axes, _PANELS.items(), strict=True):
        for i, method in enumerate(methods):
            own = where(found, method=method)
            one = mean(own, column)
            filled = own[0]["own_word"]
            axis.errorbar(
                one.value,
                i,
                xerr=one.error,
                fmt="o",
                color="C0",
                markerfacecolor="C0" if filled else "white",
                capsize=3,
            )
        for kind, style in zip(FLOORS, (":", "-", "--"), strict=True):
            level = mean(where(points, kind=kind), column).value
            if np.isfinite(level):
                line = {"color": "gray", "linestyle": style, "label": kind}
                axis.axvline(level, **line)
        axis.set(xlabel=label)
        axis.locator_params(axis="x", nbins=5)
    # Where the class word itself is taught, it is changed on purpose.
    axes[0].plot([], [], "o", color="C0", label="has a word of its own")
    style = {"color": "C0", "markerfacecolor": "white"}
    axes[0].plot([], [], "o", label="teaches the class word", **style)
    axes[0].set_yticks(range(len(methods)), [m.replace("_", " ") for m in methods])
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    run(measure, draw)
