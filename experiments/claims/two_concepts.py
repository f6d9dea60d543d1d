"""Two concepts in one picture: overlap of attention, and what is forgotten.

    python -m experiments.claims.two_concepts \
        --config configs/claims/two_concepts.py --out runs/claims/two_concepts

Kumari et al. 2023, sec. 4.2 and fig. 19; see the config for claim and protocol.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from benchmarks.portrait_runs import train_to_end
from experiments.claims import generation
from experiments.claims.attention_capture import (
    CaptureMaps,
    iou,
    make_capture,
    shared_mass,
)
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.generation import Setup, to_point
from experiments.claims.plots import bars, distinct, panels, where
from experiments.claims.training import method_config, train_concept
from personax.concepts.bind import Model
from personax.concepts.merge import merge, read_captions
from personax.core.files import write_json
from personax.data import emoji
from personax.evaluation.protocol import digest
from personax.evaluation.runner import to_generations
from personax.evaluation.samples import summarize
from personax.loading import Base

ALONE = "trained alone"


class Composition(NamedTuple):
    """Bundled subjects to combine, and the folder of their trainings."""

    base: Base
    subjects: tuple[str, ...]
    steps: int  # for each subject
    folder: pathlib.Path

    def separate(self, method: str = "custom_diffusion") -> list[str]:
        """Each subject's concept, trained without the others."""
        folder = self.folder / method
        configs = [method_config(method, each, self.steps) for each in self.subjects]
        return [str(train_concept(config, folder)) for config in configs]

    def joint(self) -> list[str]:
        """All subjects in one training by Custom Diffusion."""
        folder = self.folder / "joint"
        steps = self.steps * len(self.subjects)
        config = method_config("custom_diffusion", self.subjects[0], steps)
        entries = [  # they override the config's concept
            {
                "images": subject,
                "placeholder": f"<v{i}>",
                "class_word": emoji.subject(subject).class_word,
            }
            for i, subject in enumerate(self.subjects, start=1)
        ]
        config.concepts_list = str(folder / "concepts.json")
        write_json(folder / "concepts.json", entries)
        return [_train(config, folder / "run")]

    def sequential(self) -> list[str]:
        """One subject after another, each on top of the concepts before."""
        concept = self.separate()[0]
        for i, subject in enumerate(self.subjects[1:], start=2):
            config = method_config("custom_diffusion", subject, self.steps)
            config.concept.placeholder, config.before = f"<v{i}>", (concept,)
            config.concept.initial = config.concept.initial.split("+")[i - 1]
            concept = _train(config, self.folder / "sequential" / f"run{i}")
        return [concept]

    def merged(self) -> list[str]:
        """The separate concepts, merged in closed form."""
        out = self.folder / "merged" / "concept"
        if not (out / "concept.json").is_file():
            folders = [pathlib.Path(path) for path in self.separate()]
            merge(self.base, folders, out, read_captions(self.base, None))
        return [str(out)]

    def two_tokens(self) -> list[str]:
        """Textual Inversion's separate tokens, side by side, as `<v1>`, `<v2>`, …."""
        folders = self.separate("textual_inversion")
        return [f"<v{i}>={path}" for i, path in enumerate(folders, start=1)]


def _train(config: ConfigDict, folder: pathlib.Path) -> str:
    train_to_end(config, folder)
    return str(folder / "concept")


WAYS: dict[str, Callable[[Composition], Sequence[str]]] = {
    "the base": lambda composition: (),
    "joint": Composition.joint,
    "merged": Composition.merged,
    "sequential": Composition.sequential,
    "two tokens": Composition.two_tokens,
}


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
    for way, combine in WAYS.items():
        # Trained and bound only if a point is missing.
        model = functools.cache(lambda combine=combine: setup.bind(*combine(pair)))
        point = saved([*key, way, "both"], _both, setup, capture, pair, model)
        yield {"kind": "both", "way": way, **point}
        for subject in pair.subjects:
            args = setup, model, pair.subjects, subject
            point = saved([*key, way, subject], _one, *args)
            yield {"kind": "one", "way": way, "subject": subject, **point}
    for i, subject in enumerate(pair.subjects):
        model = functools.cache(lambda i=i: setup.bind(pair.separate()[i]))
        args = setup, model, [subject], subject
        point = saved([*key, "alone", subject], _one, *args)
        yield {"kind": "one", "way": ALONE, "subject": subject, **point}


def _both(
    setup: Setup, capture: CaptureMaps, pair: Composition, make: Callable[[], Model]
) -> Point:
    """Pictures of both subjects: overlap of their words, alignment with each."""
    config, model = setup.config, make()
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


def _one(
    setup: Setup, make: Callable[[], Model], known: Sequence[str], subject: str
) -> Point:
    """Pictures of one subject alone, by a model that knows these subjects."""
    model = make()
    phrases = generation.phrases(model, generation.task(known, ()))
    task = generation.task([subject], setup.config.prompts)
    word = phrases[known.index(subject)]
    return to_point(setup.clip(setup.generate(model, task, [word])))


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Overlap, both subjects in one picture, and each alone; means over pairs."""
    both, alone = where(points, kind="both"), where(points, kind="one")
    maps = {"overlap": "whole maps", "iou": "above half of maximum (IoU)"}
    images = {"clip_i_first": "first subject", "clip_i_second": "second subject"}
    turns = {True: "first subject", False: "second subject"}
    alone = [
        point | {"turn": point["pair"].startswith(f"{point['subject']}+")}
        for point in alone
    ]
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
        {"way": x["way"], "metric": y, "value": x[y], "value_error": x[f"{y}_error"]}
        for x in points
        for y in columns
    ]


if __name__ == "__main__":
    run(measure, draw)
