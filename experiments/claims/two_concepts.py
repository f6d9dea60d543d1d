"""Two concepts in one picture: overlap of attention, and what is forgotten.

    python -m experiments.claims.two_concepts \
        --config configs/claims/two_concepts.py --out runs/claims/two_concepts

Kumari et al. 2023, sec. 4.2 and fig. 19; see the config for claim and protocol.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from experiments.claims import generation
from experiments.claims.attention_capture import (
    CaptureMaps,
    iou,
    make_capture,
    shared_mass,
)
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.composition import WAYS, Composition
from experiments.claims.generation import Setup, to_point
from experiments.claims.plots import bars, distinct, panels, where
from experiments.claims.training import method_config
from personax.concepts.bind import Model
from personax.evaluation.protocol import digest
from personax.evaluation.runner import to_generations
from personax.evaluation.samples import summarize

ALONE = "trained alone"


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """Pictures of both subjects and of each alone, for each way to combine them."""
    setup = generation.make_setup(config, saved)
    capture = make_capture(setup.base, config.draw, config.images)
    points: list[Point] = []
    for subjects in map(tuple, config.pairs):
        recipes = [
            method_config(method, subject).to_dict()
            for method in ("custom_diffusion", "textual_inversion")
            for subject in subjects
        ]
        how = [setup.base.fingerprint, list(subjects), config.steps, digest(recipes)]
        name = "+".join(subjects)
        folder = setup.trained / f"{name}.{digest(how)[:8]}"
        pair = Composition(setup.base, subjects, config.steps, folder)
        key = ["two_concepts", *setup.key, config.together, *how]
        for point in _points(setup, capture, pair, saved, key):
            points.append({**point, "pair": name})
    return points


def _points(
    setup: Setup, capture: CaptureMaps, pair: Composition, saved: SavedPoints, key: list
) -> Iterator[Point]:
    def both(model: Callable[[], Model]) -> Point:
        return _both(setup, capture, pair, model())

    def one(model: Callable[[], Model], subject: str) -> Point:
        return _one(setup, model(), pair.subjects, subject)

    def alone(subject: str) -> Point:
        concept = pair.separate()[pair.subjects.index(subject)]
        return _one(setup, setup.bind(concept), [subject], subject)

    for way, combine in WAYS.items():
        model = functools.cache(lambda combine=combine: setup.bind(*combine(pair)))
        point = saved([*key, way, "both"], partial(both, model))
        yield {"kind": "both", "way": way, **point}
        for subject in pair.subjects:
            point = saved([*key, way, subject], partial(one, model, subject))
            yield {"kind": "one", "way": way, "subject": subject, **point}
    for subject in pair.subjects:
        point = saved([*key, "alone", subject], partial(alone, subject))
        yield {"kind": "one", "way": ALONE, "subject": subject, **point}


def _both(setup: Setup, capture: CaptureMaps, pair: Composition, model: Model) -> Point:
    """Pictures of both subjects: overlap of their words, alignment with each."""
    config = setup.config
    task = generation.task(pair.subjects, config.together)
    words, classes = generation.phrases(model, task), task.class_words
    prompts = task.prompts(words)
    # Textual Inversion's phrases do not contain the class word.
    with_classes = all(x in phrase for x, phrase in zip(classes, words, strict=True))
    if with_classes:
        words = [*words, *classes]
    captured = [
        capture(model, prompt, words, config.seed + i)
        for i, prompt in enumerate(prompts)
    ]
    maps = [
        np.concatenate([each.maps[k] for each in captured]) for k in range(len(words))
    ]
    pixels = np.concatenate([each.pixels for each in captured])
    generations = to_generations(setup.base, task, pixels, config.images)
    overlaps = {"overlap": shared_mass(*maps[:2]), "iou": iou(*maps[:2])}
    if with_classes:
        overlaps["overlap_of_classes"] = shared_mass(*maps[2:])
    scores = setup.clip(generations)
    scores |= summarize(overlaps, generations.texts, config.bootstrap)
    for name, target in zip(("first", "second"), generations.targets, strict=True):
        one = setup.clip(generations._replace(targets=(target,)))
        scores[f"clip_i_{name}"] = one["clip_i"]
    return to_point(scores)


def _one(setup: Setup, model: Model, known: Sequence[str], subject: str) -> Point:
    """Pictures of one subject alone, by a model that knows these subjects."""
    phrases = generation.phrases(model, generation.task(known, ()))
    task = generation.task([subject], setup.config.prompts)
    word = phrases[known.index(subject)]
    return to_point(setup.clip(setup.generate(model, task, [word])))


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Overlap, both subjects in one picture, and each alone; means over pairs."""
    both, alone = where(points, kind="both"), where(points, kind="one")
    maps = {"overlap": "whole maps", "iou": "above half of maximum (IoU)"}
    images = {"clip_i_first": "first subject", "clip_i_second": "second subject"}
    turns = {"first": "first subject", "second": "second subject"}
    alone = [point | {"turn": _turn(point)} for point in alone]
    ways = [ALONE, *(way for way in distinct(alone, "way") if way != ALONE)]
    alone = [point for way in ways for point in where(alone, way=way)]
    with panels(path, 1, 3, (13, 4.3)) as axes:
        overlap, together, single = axes.flat
        bars(overlap, _long(both, maps), "way", "value", "metric", maps)
        overlap.set(ylabel="overlap of the two words' attention", ylim=(0, 1))
        bars(together, _long(both, images), "way", "value", "metric", images)
        together.set(ylabel="CLIP-I, both in the picture")
        bars(single, alone, "way", "clip_i", "turn", turns)
        single.set(ylabel="CLIP-I, alone in the picture")
        for axis in axes.flat:
            axis.tick_params(axis="x", rotation=30)
            axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def _long(points: Sequence[Point], columns: Iterable[str]) -> list[Point]:
    """A point for each of these columns of each point."""
    return [
        {
            "way": point["way"],
            "metric": column,
            "value": point[column],
            "value_error": point[f"{column}_error"],
        }
        for point in points
        for column in columns
    ]


def _turn(point: Point) -> str:
    return "first" if point["pair"].startswith(f"{point['subject']}+") else "second"


if __name__ == "__main__":
    run(measure, draw)
