"""Change of the class, prompted without the concept, by method.

    python -m experiments.claims.category_drift \
        --config configs/claims/category_drift.py --out runs/claims/category_drift

Kumari et al. 2023, table 7 and fig. 18; see the config for the claim and the protocol.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from experiments.claims import generation
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.generation import Setup, to_point
from experiments.claims.plots import distinct, legend, mean, panels, where
from experiments.claims.training import method_config, train_concept
from personax.concepts.bind import Model
from personax.core import images
from personax.data import concepts, emoji
from personax.evaluation.samples import summarize
from personax.loading import Clip, load_clip
from personax.metrics import clip
from personax.metrics.alignment import reference_cosines, text_cosines
from personax.metrics.kernel import kid

# Seeds of scenes: of the captions, of the reference renders, of other renders.
_CAPTIONS, _REAL, _OTHER_RENDERS = 1, 2, 3
_OTHER_SEEDS = 10_000
# Levels without a concept, with their line styles.
LEVELS = {"renders": ":", "base": "-", "base, other seeds": "--"}
_PANELS = {
    "kid": "KID to renders of the class",
    "same": "similarity to the base's picture (cosine)",
    "leak": "nearer to the subject than the base's (cosine)",
}

Pictures = UInt8[np.ndarray, "n height width 3"]


class Scenes(NamedTuple):
    """A subject's class: captions, renders, the base's pictures, the subject's own."""

    captions: list[str]
    real: Pictures
    before: Pictures
    subject: list[images.Pixels]


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """The levels without a concept and each method, on each subject's class."""
    setup = generation.make_setup(config, saved)
    network, sprites = load_clip(), emoji.load_sprites()
    names = ("count", "real", "seed", "bootstrap")
    key = ["category_drift", *setup.key, *(config[name] for name in names)]

    @functools.cache
    def scenes(subject: str) -> Scenes:
        size = setup.base.spec.size
        captions = [
            emoji.caption(_scene(sprites, subject, _CAPTIONS, i)[1])
            for i in range(config.count)
        ]
        real = _renders(sprites, subject, _REAL, config.real)
        own = [images.to_uint8(images.fit(x, size)) for x in concepts.pictures(subject)]
        return Scenes(captions, real, _sample(setup, setup.plain, captions), own)

    def level(subject: str, kind: str) -> Point:
        own = scenes(subject)
        if kind == "renders":
            pixels = _renders(sprites, subject, _OTHER_RENDERS, config.count)
            point = _scores(setup, network, pixels, own)
            return {name: point[name] for name in ("kid", "kid_error")}
        pixels = own.before
        if kind == "base, other seeds":
            pixels = _sample(setup, setup.plain, own.captions, _OTHER_SEEDS)
        return _scores(setup, network, pixels, own)

    def trained(subject: str, training: ConfigDict) -> Point:
        model = setup.bind(train_concept(training, setup.trained))
        pixels = _sample(setup, model, scenes(subject).captions)
        # Infusion has no placeholder: it changes the class word on purpose.
        own_word = bool(model.concepts[0].placeholder)
        scores = _scores(setup, network, pixels, scenes(subject))
        return {"own_word": own_word, **scores}

    points = []
    for subject in config.subjects:
        for kind in LEVELS:
            point = saved([*key, kind, subject], level, subject, kind)
            points.append({"kind": kind, "subject": subject, **point})
    for method in config.methods:
        for subject in config.subjects:
            training = method_config(method, subject, config.steps)
            mark = [*key, training.to_dict(), subject]
            point = saved(mark, trained, subject, training)
            about = {"kind": "method", "method": method, "subject": subject}
            points.append(about | point)
    return points


def _scene(
    sprites: emoji.Sprites, subject: str, seed: int, i: int
) -> tuple[np.random.Generator, emoji.Scene]:
    """(generator to render with, scene i of the subject's class), in all styles."""
    word = emoji.subject(subject).class_word
    classes = [name for name in emoji.CLASSES if emoji.class_word(name) == word]
    rng = np.random.default_rng((seed, i))
    styles = tuple(emoji.STYLES)
    return rng, emoji.choose(rng, sprites, classes=classes, styles=styles)


def _renders(sprites: emoji.Sprites, subject: str, seed: int, count: int) -> Pictures:
    scenes = (_scene(sprites, subject, seed, i) for i in range(count))
    return np.stack([emoji.render(rng, sprites, scene) for rng, scene in scenes])


def _sample(
    setup: Setup, model: Model, captions: Sequence[str], seed: int = 0
) -> Pictures:
    """One picture per caption, each from its own seed."""
    first = setup.config.seed + seed
    prompts = [(text, first + i) for i, text in enumerate(captions)]
    return setup.draw(model, prompts, 1).pixels


def _scores(setup: Setup, network: Clip, pixels: Pictures, scenes: Scenes) -> Point:
    """KID to renders of the class, similarity to the base's and the subject's pictures.

    "same" is the cosine with the base's picture of the same caption and seed, "leak"
    how much nearer than that one the picture is to the subject's.
    """
    sets = (pixels, scenes.real, scenes.before, scenes.subject)
    after, real, before, subject = (
        clip.of_images(network, each, unit=False) for each in sets
    )
    distance = kid(after, real)
    near = [reference_cosines(each, subject) for each in (after, before)]
    of_pairs = {"same": text_cosines(after, before), "leak": near[0] - near[1]}
    scores = summarize(of_pairs, range(len(after)), setup.config.bootstrap)
    return {"kid": distance.value, "kid_error": distance.error} | to_point(scores)


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """A row per method; lines are the levels without a concept."""
    rows = where(points, kind="method")
    methods = distinct(rows, "method")
    size = 12, 1.5 + 0.32 * len(methods)
    with panels(path, 1, 3, size, sharey=True) as axes:
        for axis, (column, label) in zip(axes.flat, _PANELS.items(), strict=True):
            for i, method in enumerate(methods):
                own = where(rows, method=method)
                style = {"color": "C0", "fmt": "o", "capsize": 3}
                if not own[0]["own_word"]:
                    style["markerfacecolor"] = "white"
                value, error = mean(own, column)
                axis.errorbar(value, i, xerr=error, **style)
            for kind, line in LEVELS.items():
                level = mean(where(points, kind=kind), column).value
                if np.isfinite(level):
                    axis.axvline(level, color="gray", linestyle=line, label=kind)
            axis.set(xlabel=label)
            axis.locator_params(axis="x", nbins=5)
        first = axes[0, 0]
        first.plot([], [], "o", color="C0", label="trains a new word")
        hollow = {"color": "C0", "markerfacecolor": "white"}
        first.plot([], [], "o", label="trains the class word", **hollow)
        first.set_yticks(range(len(methods)), [m.replace("_", " ") for m in methods])
        first.invert_yaxis()
        legend(axes, columns=5)


if __name__ == "__main__":
    run(measure, draw)
