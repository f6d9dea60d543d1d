"""What a concept costs the base while it is taught, by method and training step.

    python -m experiments.claims.infusion_steps \
        --config configs/claims/infusion_steps.py --out runs/claims/infusion_steps

Zeng et al. 2024, sec. 5.2 and fig. 9 to 11; see the config for claim and protocol.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import matplotlib
from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.alignment import asked
from experiments.claims.asking import ask, phrases, question
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.course import course
from experiments.claims.means import curve, values, where
from personax.concepts.bind import Model, from_base, with_concepts
from personax.evaluation import drift_metrics, image_metrics
from personax.evaluation.config import DrawConfig
from personax.evaluation.draw import Draw, make_draw
from personax.evaluation.protocol import EvalTask, digest
from personax.evaluation.samples import Generations, Metric
from personax.loading import Base, load_base
from personax.training.regularization import Prior, world

# The base that the class moves away from is drawn by seeds of its own.
_OTHER_SEEDS = 10_000
_RENDERS = 9  # seed of the scenes with the class
_ROUNDING = 1e-9  # of the largest divergence: no change


class Bench(NamedTuple):
    """What every point is measured with."""

    config: ConfigDict
    base: Base
    plain: Model
    draw: Draw
    clip: Metric
    fisher: Metric  # on captions of others


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """The control, the rates that were tried, then each method's course.

    Raises ArithmeticError where Infusion's frozen stream is not the base to the bit.
    """
    base = load_base("emoji")
    plain = from_base(base)
    rounds, seed = config.bootstrap, config.seed
    bench = Bench(
        config,
        base,
        plain,
        make_draw(base, DrawConfig(**config.draw)),
        image_metrics.clip("emoji", rounds),
        drift_metrics.fisher("scenes", base, plain, rounds, seed, config.captions),
    )
    return [
        point for subject in config.subjects for point in _subject(bench, subject, kept)
    ]


def _subject(bench: Bench, subject: str, kept: SavedPoints) -> Iterator[Point]:
    config, about = bench.config, {"subject": subject}
    how = [asked(config), config.captions, subject]
    key = ["infusion_steps", bench.base.fingerprint, *how]
    judge = _make_judge(bench, question([subject], config.prompts), kept.out)

    def seen(method: str, factor: float, stops: Sequence[int], at: Sequence[int]):
        own = _config(config, method, subject, factor)
        taught = functools.cache(lambda: course(own, stops, kept.out / "taught"))

        def measured(stop: int) -> Point:
            source = str(taught()[stop])
            return judge(with_concepts(bench.plain, bench.base, [source]))

        mark = [*key, digest(own.to_dict() | {"steps": 0})]
        rate = {"factor": factor, "rate": own.optimizer.learning_rate}
        return [
            {**rate, "step": stop, **kept([*mark, stop], partial(measured, stop))}
            for stop in at
        ]

    stops = sorted({*config.stops, config.reference})
    early = [stop for stop in stops if stop <= config.reference]
    found = kept(key, partial(judge, bench.plain))
    yield {"kind": "base", "method": "base", **about, **found}
    for method in config.methods:
        # Stops before the reference are kept on the way: the best goes on from there.
        tried = [seen(method, each, early, early[-1:])[0] for each in config.factors]
        for point in tried:
            yield {"kind": "rate", "method": method, **about, **point}
        best = max(tried, key=lambda point: point["clip_i"])["factor"]
        for point in seen(method, best, stops, stops):
            yield {"kind": "step", "method": method, **about, **point}


def _config(config: ConfigDict, method: str, subject: str, factor: float) -> ConfigDict:
    """The method's config for the subject, all of its learning rates times `factor`."""
    own = lesson(method, subject)
    own.steps = max(config.stops)
    own.optimizer.learning_rate *= factor
    for part in own.optimizer.learning_rates:
        own.optimizer.learning_rates[part] *= factor
    return own


def _make_judge(
    bench: Bench, subject: EvalTask, out: pathlib.Path
) -> Callable[[Model], Point]:
    """`model -> values and their errors`, all of one subject.

    W2 is between the model's pictures and the base's of the class by other seeds, so
    that the base's own value says what two sets of that size differ by anyway.
    """
    config = bench.config
    how = {"images": config.images}
    w2 = drift_metrics.wasserstein(config.bootstrap)

    @functools.cache
    def before():
        seed = config.seed + _OTHER_SEEDS
        words = subject.class_words
        drawn = ask(
            bench.base, bench.draw, bench.plain, subject, words, seed=seed, **how
        )
        return drawn.latents

    @functools.cache
    def of_the_class() -> Metric:
        cache, word = str(out / "captioned"), subject.class_words[0]
        prior = Prior("world", count=config.captions, seed=_RENDERS, cache=cache)
        folder = str(world(prior, word)[0].path.parent)
        settings = (bench.plain, config.bootstrap, config.seed, config.captions)
        return drift_metrics.fisher(folder, bench.base, *settings)

    def judge(model: Model) -> Point:
        words = phrases(model, subject)
        answer = ask(
            bench.base, bench.draw, model, subject, words, seed=config.seed, **how
        )
        found = bench.clip(answer)
        found |= w2(answer._replace(before=before()))
        found |= _renamed(bench.fisher(answer), "others")
        found |= _renamed(of_the_class()(answer._replace(class_words=())), "class")
        point = {}
        for name in ("clip_i", "clip_t", "w2", "fisher_others", "fisher_class"):
            point |= {name: found[name].value, f"{name}_error": found[name].error}
        return point | _frozen(bench, answer, of_the_class())

    return judge


def _renamed(found, which: str):
    return {f"{name}_{which}": each for name, each in found.items()}


def _frozen(bench: Bench, answer: Generations, of_the_class: Metric) -> Point:
    """The Fisher divergences of a model's frozen stream, {} where it has none."""
    model = answer.model
    if model is None or model.denoiser.reference is None:
        return {}
    frozen = answer._replace(model=model._replace(denoiser=model.denoiser.reference))
    others = bench.fisher(frozen)["fisher"].value
    own = of_the_class(frozen._replace(class_words=()))["fisher"].value
    if others or own:
        raise ArithmeticError(
            f"The frozen stream differs from the base: its Fisher divergence is "
            f"{others:g} on captions of others and {own:g} on those of the class."
        )
    return {"frozen_others": others, "frozen_class": own}


_PANELS = (
    ("clip_i", "CLIP-I with the subject"),
    ("w2", "W2 of (scaled) latents from the base's"),
    ("fisher_others", "Fisher divergence, others' captions"),
    ("fisher_class", "Fisher divergence, the class's captions"),
)


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Each measure against the training step; bars are standard errors."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 2, figsize=(10, 8), layout="constrained")
    courses, base = where(points, kind="step"), where(points, kind="base")
    reference = max(each["step"] for each in where(points, kind="rate"))
    for axis, (name, label) in zip(grid.flat, _PANELS, strict=True):
        for method in values(courses, "method"):
            own = where(courses, method=method)
            curve(axis, own, "step", name, label=method.replace("_", " "), markersize=4)
        if name in ("clip_i", "w2"):
            level = sum(each[name] for each in base) / len(base)
            axis.axhline(
                level, color="black", linestyle="--", label="base, other seeds"
            )
        else:
            _with_zero(axis, [each[name] for each in courses])
            _frozen_stream(axis, courses, name.replace("fisher", "frozen"))
        axis.axvline(reference, color="gray", linestyle=":", label="rates chosen here")
        axis.set(xlabel="training step", ylabel=label)
    found = {}
    for axis in grid.flat:
        found |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=150)


def _with_zero(axis, values: Sequence[float]) -> None:
    """A logarithmic axis that has a place for 0, and for what float32 makes of it."""
    least = max(values) * _ROUNDING
    least = min((value for value in values if value > least), default=1.0)
    axis.set_yscale("symlog", linthresh=least / 2)
    axis.set_ylim(bottom=-least / 10)


def _frozen_stream(axis, courses: Sequence[Point], name: str) -> None:
    own = sorted((each["step"], each[name]) for each in courses if name in each)
    if own:
        steps, values = zip(*own, strict=True)
        style = {"color": "black", "marker": "x", "linestyle": "none"}
        axis.plot(steps, values, label="infusion, frozen stream", **style)


if __name__ == "__main__":
    run(measure, draw)
