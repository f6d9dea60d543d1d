"""Drift from the base during training, by method and training step.

    python -m experiments.claims.infusion_steps \
        --config configs/claims/infusion_steps.py --out runs/claims/infusion_steps

Zeng et al. 2024, sec. 5.2 and fig. 9 to 11; see the config for claim and protocol.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments.claims import generation
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.generation import Setup, to_point
from experiments.claims.plots import curve, distinct, legend, panels, where
from experiments.claims.training import method_config, training_trajectory
from personax.concepts.bind import Model
from personax.evaluation import drift_metrics
from personax.evaluation.samples import Generations, Metric
from personax.training.regularization import Prior, world

_OTHER_SEEDS = 10_000  # of the base's pictures that W2 is measured from
_RENDERS = 9  # seed of the scenes that contain the class
_ROUNDING = 1e-9  # of the largest divergence: equal up to rounding
_PANELS = {
    "clip_i": "CLIP-I with the subject",
    "w2": "W2 of (scaled) latents from the base's",
    "fisher_others": "Fisher divergence, other captions",
    "fisher_class": "Fisher divergence, the class's captions",
}


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """The base, the learning rates tried, then each method's trajectory.

    Raises ArithmeticError if Infusion's frozen stream differs from the base in any bit.
    """
    setup = generation.make_setup(config, saved)
    others = _fisher(setup, "scenes")
    return [
        {**point, "subject": subject}
        for subject in config.subjects
        for point in _subject(setup, others, subject, saved)
    ]


def _subject(
    setup: Setup, others: Metric, subject: str, saved: SavedPoints
) -> Iterator[Point]:
    config = setup.config
    key = ["infusion_steps", *setup.key, config.captions, subject]
    score = _make_score(setup, others, subject, saved.out)
    stops = sorted({*config.stops, config.reference})
    early = [stop for stop in stops if stop <= config.reference]

    def trajectory(method: str, factor: float, stops: Sequence[int]) -> Iterator[Point]:
        training = _config(config, method, subject, factor)
        # Trained only if a point is missing.
        train = functools.cache(
            lambda: training_trajectory(training, stops, setup.trained)
        )
        mark = [*key, training.to_dict() | {"steps": 0}]
        rate = {"factor": factor, "rate": training.optimizer.learning_rate}
        for stop in stops:
            point = saved(
                [*mark, stop], lambda stop: score(setup.bind(train()[stop])), stop
            )
            yield {**rate, "step": stop, **point}

    base = saved(key, score, setup.plain)
    yield {"kind": "base", "method": "base", **base}
    for method in config.methods:
        # The stops before the reference are saved: the best rate resumes from there.
        tried = [list(trajectory(method, x, early))[-1] for x in config.factors]
        for point in tried:
            yield {"kind": "rate", "method": method, **point}
        best = max(tried, key=lambda point: point["clip_i"])["factor"]
        for point in trajectory(method, best, stops):
            yield {"kind": "step", "method": method, **point}


def _fisher(setup: Setup, source: str) -> Metric:
    """The Fisher divergence on the captions of a source."""
    base, config = (setup.base, setup.plain), setup.config
    settings = config.bootstrap, config.seed, config.captions
    return drift_metrics.fisher(source, *base, *settings)


def _config(config: ConfigDict, method: str, subject: str, factor: float) -> ConfigDict:
    """The method's config for the subject, all of its learning rates times `factor`."""
    own = method_config(method, subject, max(config.stops))
    own.optimizer.learning_rate *= factor
    for part in own.optimizer.learning_rates:
        own.optimizer.learning_rates[part] *= factor
    return own


def _make_score(
    setup: Setup, others: Metric, subject: str, out: pathlib.Path
) -> Callable[[Model], Point]:
    """`model -> {metric: value, metric_error: standard error}` for one subject.

    W2 is between the model's pictures and the base's of the class from other seeds, so
    that the base's own value is the distance between two sets of that size.
    """
    config, task = setup.config, generation.task([subject], setup.config.prompts)
    wasserstein = drift_metrics.wasserstein(config.bootstrap)

    @functools.cache
    def before():
        seed = config.seed + _OTHER_SEEDS
        return setup.generate(setup.plain, task, seed=seed).latents

    @functools.cache
    def of_class() -> Metric:
        prior = Prior(
            source="world",
            count=config.captions,
            seed=_RENDERS,
            cache=str(out / "captioned"),
        )
        folder = str(world(prior, task.class_words[0])[0].path.parent)
        return _fisher(setup, folder)

    def fisher(generations: Generations) -> dict[str, Any]:
        """The divergence on captions without the class word, and with it."""
        on_class = of_class()(generations._replace(class_words=()))
        return {"others": others(generations)["fisher"], "class": on_class["fisher"]}

    def score(model: Model) -> Point:
        generations = setup.generate(model, task)
        scores = setup.clip(generations)
        metrics = {name: scores[name] for name in ("clip_i", "clip_t")}
        metrics |= wasserstein(generations._replace(before=before()))
        metrics |= {f"fisher_{name}": x for name, x in fisher(generations).items()}
        frozen = {}
        if model.denoiser.reference is not None:
            stream = model._replace(denoiser=model.denoiser.reference)
            for name, x in fisher(generations._replace(model=stream)).items():
                frozen[f"frozen_{name}"] = x.value
        if any(frozen.values()):
            raise ArithmeticError(
                f"The Fisher divergence of the frozen stream is not 0: {frozen}."
            )
        return to_point(metrics) | frozen

    return score


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Each metric against the training step; bars are standard errors."""
    steps, base = where(points, kind="step"), where(points, kind="base")
    reference = max(point["step"] for point in where(points, kind="rate"))
    with panels(path, 2, 2, (10, 8)) as axes:
        for axis, (name, label) in zip(axes.flat, _PANELS.items(), strict=True):
            for method in distinct(steps, "method"):
                own, title = where(steps, method=method), method.replace("_", " ")
                curve(axis, own, "step", name, label=title, markersize=4)
            if name in ("clip_i", "w2"):
                level = sum(point[name] for point in base) / len(base)
                line = {"color": "black", "linestyle": "--"}
                axis.axhline(level, label="base, other seeds", **line)
            else:
                _symlog_from_zero(axis, [point[name] for point in steps])
                frozen = name.replace("fisher", "frozen")
                own = sorted((p["step"], p[frozen]) for p in steps if frozen in p)
                if own:
                    style = {"color": "black", "marker": "x", "linestyle": "none"}
                    axis.plot(*zip(*own, strict=True), label="frozen stream", **style)
            line = {"color": "gray", "linestyle": ":"}
            axis.axvline(reference, label="rates chosen here", **line)
            axis.set(xlabel="training step", ylabel=label)
        legend(axes)


def _symlog_from_zero(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis that also shows 0 and rounding errors."""
    least = max(values) * _ROUNDING
    least = min((value for value in values if value > least), default=1.0)
    axis.set_yscale("symlog", linthresh=least / 2)
    axis.set_ylim(bottom=-least / 10)


if __name__ == "__main__":
    run(measure, draw)
