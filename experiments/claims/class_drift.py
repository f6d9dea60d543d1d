"""Drift of a concept's phrase from its class during training.

See configs/claims/class_drift.py for the claim and the command.
"""

import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.claims.attention_capture import Maps, make_capture
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.generation import phrase_drift
from experiments.claims.plots import (
    curve,
    distinct,
    legend,
    mean,
    panels,
    subject_curves,
    where,
)
from experiments.claims.training import method_config, training_trajectory
from personax.concepts.bind import Model, from_base, with_concepts
from personax.data import emoji
from personax.diffusion import attention_maps
from personax.loading import Base, load_base
from personax.training.setup import prepare

BASE = "base"
NAMES = {"custom_diffusion": "Custom Diffusion", "class_diffusion": "ClassDiffusion"}
PANELS = {
    "rank_cosine": "rank by cosine, of 72",
    "rank_tsne": "rank by t-SNE, of 72",
    "cosine_distance": "cosine distance to the class",
    "activation": "activation of the class word",
}
_LINES = ("-", "--", ":", "-.")  # one per learning rate


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """A point for each subject's base, and for each training at each step."""
    base, look = load_base("emoji"), config.look
    plain = from_base(base)
    settings = ConfigDict({"solver": "ddim", **look.to_dict()})
    capture = make_capture(base, settings, look.images)

    def maps(model: Model, phrase: str, word: str) -> list[Maps]:
        """The maps of a word, for each prompt with the phrase."""
        prompts = [text.replace("{}", phrase) for text in config.prompts]
        return [capture(model, text, [word], look.seed).maps[0] for text in prompts]

    def measured(model: Callable[[], Model], word: str, regions: Sequence) -> Point:
        bound = model()
        after = maps(bound, bound.concepts[0].phrase, word)
        drift = phrase_drift(plain, bound, range(config.tsne_seeds))
        return {**drift, "activation": _activation(after, regions)}

    points = []
    for subject in config.subjects:
        word = emoji.subject(subject).class_word
        before = maps(plain, word, word)
        regions = [np.asarray(attention_maps.object_region(each)) for each in before]
        own = {"method": BASE, "subject": subject}
        points.append({**own, "activation": _activation(before, regions)})
        for training in _configs(config, subject):
            rate = training.optimizer.learning_rate
            own = {"method": training.method, "subject": subject, "rate": rate}
            key = [training.to_dict(), base.fingerprint, config.prompts]
            key += [look.to_dict(), config.tsne_seeds]
            models = _models(training, config.steps, plain, base, saved.out)
            for steps, model in models.items():
                point = saved([*key, steps], measured, model, word, regions)
                points.append(own | {"steps": steps} | point)
    return points


def _configs(config: ConfigDict, subject: str) -> Iterator[ConfigDict]:
    """The trainings of a subject: each method at each learning rate."""
    for method, arguments in config.methods.items():
        for rate in config.rates:
            own = method_config(method, subject, changes=config.changes, **arguments)
            own.optimizer.learning_rate = float(rate)
            yield own


def _models(
    training: ConfigDict,
    steps: Sequence[int],
    plain: Model,
    base: Base,
    out: pathlib.Path,
) -> dict[int, Callable[[], Model]]:
    """{steps: function that returns the model}; an untrained V* is its rare token."""

    def untrained() -> Model:
        run = prepare(training)
        return run.bind(run.theta)

    folders = training_trajectory(training, [n for n in steps if n], out / "taught")
    models = {
        stop: functools.partial(with_concepts, plain, base, [str(folder)])
        for stop, folder in folders.items()
    }
    return {0: untrained, **models} if 0 in steps else models


def _activation(maps: Sequence[Maps], regions: Sequence[np.ndarray]) -> float:
    """The word's mean probability inside its regions, over prompts and pictures."""
    pairs = zip(maps, regions, strict=True)
    each = [attention_maps.strength(jnp.asarray(x), y) for x, y in pairs]
    return round(float(np.mean(each)), 4)


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Ranks, distance and activation over training steps: subjects and their means."""
    trained = [point for point in points if point["method"] != BASE]
    rates = distinct(trained, "rate")
    with panels(path, 2, 2, (9, 7)) as axes:
        for axis, (column, label) in zip(axes.flat, PANELS.items(), strict=True):
            for k, method in enumerate(distinct(trained, "method")):
                for line, rate in zip(itertools.cycle(_LINES), rates, strict=False):
                    name = NAMES.get(method, method)
                    name += f", rate {rate:g}" if len(rates) > 1 else ""
                    own = where(trained, method=method, rate=rate)
                    style = {"color": f"C{k}", "linestyle": line}
                    subject_curves(axis, own, "steps", column, **style)
                    curve(axis, own, "steps", column, label=name, **style)
            axis.set(xlabel="training steps", ylabel=label)
        level = mean(where(points, method=BASE), "activation").value
        line = {"color": "gray", "linestyle": "--", "label": "base, without V*"}
        axes[1, 1].axhline(level, **line)
        axes[1, 1].set_ylim(0, None)
        legend(axes, columns=3)


if __name__ == "__main__":
    run(measure, draw)
