"""A subject trained with its own class word, a broader one and a wrong one.

See configs/claims/class_granularity.py for the claim and the command.
"""

import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from experiments.claims import generation
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.plots import bars, legend, panels
from experiments.claims.training import method_config, train_concept
from personax.data import emoji

NAMES = {"custom_diffusion": "Custom Diffusion", "class_diffusion": "ClassDiffusion"}
PANELS = {
    "clip_i": "image alignment (cosine)",
    "clip_t": "text alignment (cosine)",
    "rank_cosine": "drift: rank by cosine, of 72",
}


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """A point for each method, subject and class word."""
    setup = generation.make_setup(config, saved)

    def scores(training: ConfigDict, subject: str) -> Point:
        model = setup.bind(train_concept(training, setup.trained))
        task = generation.task([subject], config.prompts)
        point = generation.to_point(setup.clip(setup.generate(model, task)))
        return point | generation.phrase_drift(setup.plain, model)

    points = []
    for method, arguments in config.methods.items():
        for subject, wrong in config.wrong.items():
            for kind, word in _words(subject, wrong).items():
                settings = config.steps, config.changes
                training = method_config(method, subject, *settings, **arguments)
                training.concept.class_word = word
                key = [training.to_dict(), *setup.key]
                own = {"method": method, "subject": subject}
                own |= {"class word": kind, "word": word}
                points.append(own | saved(key, scores, training, subject))
    return points


def _words(subject: str, wrong: str) -> dict[str, str]:
    known = emoji.subject(subject)
    broader = emoji.GROUPS[known.sprite[0]]
    return {"own": known.class_word, "broader": broader, "wrong": wrong}


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Bars of the means over subjects for each word, the methods side by side."""
    with panels(path, 1, len(PANELS), (11, 3.8)) as axes:
        for axis, (column, label) in zip(axes.flat, PANELS.items(), strict=True):
            bars(axis, points, "class word", column, by="method", names=NAMES)
            axis.set(xlabel="class word in training and prompt", ylabel=label)
        legend(axes)


if __name__ == "__main__":
    run(measure, draw)
