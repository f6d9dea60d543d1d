"""Does a concept's phrase drift away from its class while it is taught?

See configs/claims/class_drift.py for the claim and the command.
"""

import functools
import itertools
import pathlib
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from experiments.claims.activation import See, make_see, strength
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.course import course
from experiments.claims.means import curve, each_subject, mean, values, where
from experiments.claims.phrase_drift import phrase_drift
from personax.concepts.bind import Model, from_base, with_concepts
from personax.data import emoji
from personax.diffusion.attention_maps import object_region
from personax.loading import load_base
from personax.training.setup import prepare

BASE = "base"
NAMES = {"custom_diffusion": "Custom Diffusion", "class_diffusion": "ClassDiffusion"}
PANELS = {
    "rank_cosine": "rank by cosine, of 72",
    "rank_tsne": "rank by t-SNE, of 72",
    "cosine_distance": "cosine distance to the class",
    "activation": "activation of the class word",
}
_LINES = ("-", "--", ":", "-.")  # of the learning rates


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A point for each subject's base, and for each training at each step."""
    base = load_base("emoji")
    plain, look = from_base(base), config.look.to_dict()
    see = make_see(base, **look)
    points = []
    for subject in config.subjects:
        word = emoji.subject(subject).class_word
        before = [see(plain, each.replace("{}", word), word) for each in config.prompts]
        regions = [object_region(maps) for maps in before]
        own = {"method": BASE, "subject": subject}
        points.append({**own, "activation": strength(before, regions)})
        for given in _lessons(config, subject):
            own = {
                "method": given.method,
                "subject": subject,
                "rate": given.optimizer.learning_rate,
            }
            key = [given.to_dict(), base.fingerprint, config.prompts, look]
            key.append(config.tsne_seeds)
            for steps, model in _course(given, config.steps, plain, base, kept.out):

                def make(model=model, regions=regions) -> Point:
                    return _measured(config, plain, model(), see, regions)

                points.append(own | {"steps": steps} | kept([*key, steps], make))
    return points


def _lessons(config: ConfigDict, subject: str) -> Iterator[ConfigDict]:
    """What is taught of a subject: each method at each learning rate."""
    for method, arguments in config.methods.items():
        for rate in config.rates:
            given = lesson(method, subject)
            given.update(config.changes)
            given.method_args.update(arguments)
            given.optimizer.learning_rate = float(rate)
            yield given


def _course(given: ConfigDict, steps: Sequence[int], plain, base, out: pathlib.Path):
    """(steps, what makes the model after so many); V* untaught is its rare token."""
    if 0 in steps:

        def untaught() -> Model:
            run = prepare(given)
            return run.bind(run.theta)

        yield 0, untaught
    stops = [each for each in steps if each]
    for stop, folder in course(given, stops, out / "taught").items():
        yield stop, functools.partial(with_concepts, plain, base, [str(folder)])


def _measured(config: ConfigDict, plain: Model, model: Model, see: See, regions):
    """A concept's drift, and its class word's activation in the base's regions."""
    concept = model.concepts[0]
    texts = [each.replace("{}", concept.phrase) for each in config.prompts]
    maps = [see(model, text, concept.class_word) for text in texts]
    found = phrase_drift(plain, model, range(config.tsne_seeds))
    return {**found, "activation": strength(maps, regions)}


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Ranks, distance and activation over training steps: subjects and their means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    taught = [point for point in points if point["method"] != BASE]
    rates = values(taught, "rate")
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for axis, (column, label) in zip(axes.flat, PANELS.items(), strict=True):
        for k, method in enumerate(values(taught, "method")):
            for line, rate in zip(itertools.cycle(_LINES), rates, strict=False):
                name = NAMES.get(method, method)
                name += f", rate {rate:g}" if len(rates) > 1 else ""
                own = where(taught, method=method, rate=rate)
                style = {"color": f"C{k}", "linestyle": line}
                each_subject(axis, own, "steps", column, **style)
                curve(axis, own, "steps", column, label=name, **style)
        axis.set(xlabel="training steps", ylabel=label)
    level = mean(where(points, method=BASE), "activation").value
    axes[1, 1].axhline(level, color="gray", linestyle="--", label="base, without V*")
    axes[1, 1].set_ylim(0, None)
    handles = axes[1, 1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    run(measure, draw)
