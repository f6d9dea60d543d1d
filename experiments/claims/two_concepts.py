"""Two concepts in one picture: where their words look, and what is forgotten.

    python -m experiments.claims.two_concepts \
        --config configs/claims/two_concepts.py --out runs/claims/two_concepts

Kumari et al. 2023, sec. 4.2 and fig. 19; see the config for claim and protocol.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims import joining, overlap, watching
from experiments.claims.alignment import asked
from experiments.claims.asking import ask, phrases, question
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.means import bars, values, where
from personax.concepts.bind import Model, from_base, with_concepts
from personax.evaluation import image_metrics
from personax.evaluation.config import DrawConfig
from personax.evaluation.draw import Draw, make_draw
from personax.evaluation.protocol import digest
from personax.evaluation.results import Measurement
from personax.evaluation.runner import to_generations
from personax.evaluation.samples import Metric, summarize
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.loading import Base, load_base


class Bench(NamedTuple):
    """What every way is made and measured with."""

    config: ConfigDict
    base: Base
    plain: Model
    draw: Draw
    watch: watching.Watch
    clip: Metric
    out: pathlib.Path


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """Each way's pictures of both subjects, and of each of them alone."""
    base = load_base("emoji")
    bench = Bench(
        config,
        base,
        from_base(base),
        make_draw(base, DrawConfig(**config.draw)),
        watching.make_watch(base, config.draw, config.images),
        image_metrics.clip("emoji", config.bootstrap),
        kept.out / "taught",
    )
    return [point for pair in config.pairs for point in _pair(bench, tuple(pair), kept)]


def _pair(bench: Bench, pair: tuple[str, ...], kept: SavedPoints) -> Iterator[Point]:
    config = bench.config
    recipes = [lesson(method, each).to_dict() for method in APART for each in pair]
    how = [bench.base.fingerprint, list(pair), config.steps, digest(recipes)]
    key = ["two_concepts", asked(config), config.together, *how]
    # A pair's trainings lie together, those of other settings elsewhere.
    bench = bench._replace(out=bench.out / f"{'+'.join(pair)}.{digest(how)[:8]}")
    about = {"pair": "+".join(pair)}
    for way, make in WAYS.items():

        @functools.cache
        def model(make=make) -> Model:
            return with_concepts(bench.plain, bench.base, make(bench, pair))

        found = kept(
            [*key, way, "both"], lambda model=model: _both(bench, model(), pair)
        )
        yield {"kind": "both", "way": way, **about, **found}
        for i, subject in enumerate(pair):
            mark = [*key, way, subject]
            found = kept(mark, lambda model=model, i=i: _one(bench, model(), pair, i))
            yield {"kind": "one", "way": way, **about, "subject": subject, **found}
    for i, subject in enumerate(pair):

        def taught(i=i) -> Point:
            source = _apart(bench, "custom_diffusion", pair)[i]
            model = with_concepts(bench.plain, bench.base, [source])
            return _one(bench, model, pair[i : i + 1], 0)

        found = kept([*key, "alone", subject], taught)
        yield {"kind": "one", "way": ALONE, **about, "subject": subject, **found}


def _both(bench: Bench, model: Model, pair: Sequence[str]) -> Point:
    """Pictures of both: how far their words overlap, and how near both subjects are."""
    config, subjects = bench.config, question(pair, bench.config.together)
    said, classes = phrases(model, subjects), subjects.class_words
    # Textual Inversion's prompts have no class words.
    named = all(word in each for word, each in zip(classes, said, strict=True))
    words = [*said, *classes] if named else said
    seen = [
        bench.watch(model, prompt, words, config.seed + i)
        for i, prompt in enumerate(subjects.prompts(said))
    ]
    looks = [np.concatenate([each.maps[k] for each in seen]) for k in range(len(words))]
    answer = to_generations(
        bench.base,
        subjects,
        np.concatenate([each.pixels for each in seen]),
        config.images,
    )
    maps = {"overlap": overlap.shared(*looks[:2]), "iou": overlap.iou(*looks[:2])}
    if named:
        maps["overlap_of_classes"] = overlap.shared(*looks[2:])
    found = bench.clip(answer) | summarize(maps, answer.texts, config.bootstrap)
    for name, target in zip(("first", "second"), answer.targets, strict=True):
        one = bench.clip(answer._replace(targets=(target,)))
        found[f"clip_i_{name}"] = one["clip_i"]
    return _flat(found)


def _one(bench: Bench, model: Model, pair: Sequence[str], i: int) -> Point:
    """Pictures of one subject alone, by what the model calls it."""
    config = bench.config
    words = phrases(model, question(pair, ()))[i]
    answer = ask(
        bench.base,
        bench.draw,
        model,
        question(pair[i : i + 1], config.prompts),
        [words],
        images=config.images,
        seed=config.seed,
    )
    return _flat(bench.clip(answer))


def _flat(found: dict[str, Measurement]) -> Point:
    point = {}
    for name, each in found.items():
        point |= {name: each.value, f"{name}_error": each.error}
    return point


def _apart(bench: Bench, method: str, pair: Sequence[str]) -> list[str]:
    """Where each of them was taught without the other."""
    lessons = []
    for subject in pair:
        config = lesson(method, subject)
        config.steps = bench.config.steps
        lessons.append(TrainJob(config, bench.out / method / subject))
    train_jobs(lessons, together=len(lessons))
    return [str(each.concept) for each in lessons]


def _joint(bench: Bench, pair: Sequence[str]) -> list[str]:
    folder = bench.out / "joint"
    return joining.joint("custom_diffusion", pair, folder, steps=bench.config.steps)


def _sequential(bench: Bench, pair: Sequence[str]) -> list[str]:
    first = _apart(bench, "custom_diffusion", pair)[0]
    folder = bench.out / "sequential"
    return joining.sequential(pair, first, folder, steps=bench.config.steps)


def _merged(bench: Bench, pair: Sequence[str]) -> list[str]:
    apart = _apart(bench, "custom_diffusion", pair)
    return joining.merged(bench.base, apart, bench.out / "merged")


def _two_tokens(bench: Bench, pair: Sequence[str]) -> list[str]:
    return joining.renamed(_apart(bench, "textual_inversion", pair))


ALONE = "taught alone"
APART = ("custom_diffusion", "textual_inversion")
WAYS: dict[str, Callable[[Bench, Sequence[str]], list[str]]] = {
    "the base": lambda bench, pair: [],
    "joint": _joint,
    "merged": _merged,
    "sequential": _sequential,
    "two tokens": _two_tokens,
}


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Overlap, both subjects in one picture, and each alone; means over pairs."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
    both = where(points, kind="both")
    measures = {"overlap": "whole maps", "iou": "above half of maximum (IoU)"}
    rows = _long(both, measures)
    bars(axes[0], rows, "way", "value", "measure", measures)
    axes[0].set(ylabel="overlap of the two words' attention", ylim=(0, 1))
    turns = {"clip_i_first": "first subject", "clip_i_second": "second subject"}
    bars(axes[1], _long(both, turns), "way", "value", "measure", turns)
    axes[1].set(ylabel="CLIP-I, both in the picture")
    alone = [_turn(each) for each in where(points, kind="one")]
    names = {"first": "first subject", "second": "second subject"}
    ways = [way for way in values(alone, "way") if way != ALONE]
    rows = [each for way in (ALONE, *ways) for each in where(alone, way=way)]
    bars(axes[2], rows, "way", "clip_i", "turn", names)
    axes[2].set(ylabel="CLIP-I, alone in the picture")
    for axis in axes:
        axis.tick_params(axis="x", rotation=30)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.savefig(path, dpi=150)


def _long(points: Sequence[Point], columns: Iterable[str]) -> list[Point]:
    """A point for each of these columns of each point."""
    return [
        {
            "way": each["way"],
            "measure": column,
            "value": each[column],
            "value_error": each[f"{column}_error"],
        }
        for each in points
        for column in columns
    ]


def _turn(point: Point) -> Point:
    first = point["pair"].partition("+")[0] == point["subject"]
    return point | {"turn": "first" if first else "second"}


if __name__ == "__main__":
    run(measure, draw)
