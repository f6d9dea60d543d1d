"""Accuracy of a base's pictures for the words of their prompts.

    python -m benchmarks.base_quality
    python -m benchmarks.base_quality --base DIR
    python -m benchmarks.base_quality --concept runs/base/concept

Samples 500 fixed prompts, one picture each, at each guidance weight, and classifies
them with the classifier trained on renders: class (147), place (19), accessory (7 or
none), colour (7 or none) and style (7), each over the prompts that mention it. Styles
are split into the three of the first base and the four others. Renders of the same
scenes are the upper bound of the classifier, and encoded and decoded renders that of
the autoencoder. Prints a JSON line per row, then the table.
"""

import collections
import dataclasses
import json
import pathlib

import numpy as np
from absl import app, flags

from benchmarks.batch_sampling import BatchTerm, make_drawer
from benchmarks.train_classifier import soften
from personax.cli import command
from personax.concepts.bind import from_base, with_concepts
from personax.core import images
from personax.data import emoji
from personax.loading import load_base
from personax.metrics.classifier import Classifier, classify, load_classifier

FLAGS = flags.FLAGS
COLUMNS = ("class", "place", "accessory", "colour", "style", "other style")
# Number of prompts by what they mention beside the class.
_KINDS = {"place": 175, "accessory": 125, "colour": 75, "style": 75, "other style": 50}
_OTHERS = tuple(each for each in emoji.STYLES if each not in emoji.BASE_STYLES)


def define_flags() -> None:
    command.define_base_flags()
    flags.DEFINE_multi_string("concept", [], "A trained UNet: a concept's folder.")
    flags.DEFINE_list("guidance", "3,5", "Weights of the prompt.")
    flags.DEFINE_integer("steps", 30, "DDIM steps.")
    flags.DEFINE_integer("count", 500, "Number of prompts, taken evenly.")
    flags.DEFINE_integer("seed", 1, "Of the pictures.")
    flags.DEFINE_string("out", None, "Folder for table.md and a sheet of pictures.")


def main(_):
    command.start()
    base, classifier = load_base(FLAGS.base), load_classifier()
    sprites = emoji.load_sprites()
    model = with_concepts(from_base(base), base, FLAGS.concept)
    every = scenes(sprites)
    captioned = [every[i * len(every) // FLAGS.count] for i in range(FLAGS.count)]
    prompts = [words for _, words in captioned]
    drawer = make_drawer(base, steps=FLAGS.steps, solver="ddim")
    pixels = np.stack(
        [
            emoji.render(np.random.default_rng((FLAGS.seed, i)), sprites, scene)
            for i, (scene, _) in enumerate(captioned)
        ]
    )
    drawn = {"renders": pixels, "renders, autoencoder": soften(base, pixels)}
    rows = {name: score(classifier, each, captioned) for name, each in drawn.items()}
    for name, row in rows.items():
        print(json.dumps({"pictures": name, **row}), flush=True)
    for weight in map(float, FLAGS.guidance):
        name = f"guidance {weight:g}"
        terms = [BatchTerm(prompts, weight)]
        drawn[name] = drawer({"base": model}, terms, len(prompts), FLAGS.seed)
        rows[name] = score(classifier, drawn[name], captioned)
        print(json.dumps({"pictures": name, **rows[name]}), flush=True)
    print(table(rows))
    if FLAGS.out:
        out = pathlib.Path(FLAGS.out)
        selected = np.linspace(0, len(prompts) - 1, 10).astype(int)
        tiles = [each[i] for each in drawn.values() for i in selected]
        labels = [prompts[i] for i in selected]
        sheet = images.grid(tiles, row_labels=list(drawn), column_labels=labels)
        images.write_png(out / "pictures.png", sheet)
        (out / "table.md").write_text(table(rows) + "\n")


def scenes(sprites: emoji.Sprites) -> list[tuple[emoji.Scene, str]]:
    """The 500 fixed scenes with their captions."""
    rng, captioned = np.random.default_rng(2026), []
    for kind, count in _KINDS.items():
        own = []
        while len(own) < count:
            scene = _scene(rng, sprites, kind)
            if scene is not None:
                wording = emoji.Wording(style=kind in ("style", "other style"))
                own.append((scene, emoji.caption(scene, wording)))
        captioned += own
    return captioned


def _scene(rng, sprites, kind: str) -> emoji.Scene | None:
    styles = _OTHERS if kind == "other style" else emoji.BASE_STYLES
    scene = emoji.choose(rng, sprites, styles=styles)
    worn = bool(scene.accessory) == (kind == "accessory")
    if scene.other or scene.distance or not worn:
        return None
    tint = emoji.TINTS[rng.integers(len(emoji.TINTS))] if kind == "colour" else None
    return dataclasses.replace(scene, colour=tint)


def score(classifier: Classifier, pixels, captioned) -> dict[str, float]:
    """{column: accuracy over the prompts that mention it}."""
    predicted, right = classify(classifier, pixels), collections.defaultdict(list)
    for i, (scene, words) in enumerate(captioned):
        name, style = scene.subject
        right["class"].append(predicted["class"][i] == name)
        right["place"].append(predicted["place"][i] == scene.place)
        if scene.accessory:
            right["accessory"].append(predicted["accessory"][i] == scene.accessory[0])
        if scene.colour:
            right["colour"].append(predicted["tint"][i] == scene.colour)
        if f" in {emoji.STYLES[style]} style" in words:
            column = "other style" if style in _OTHERS else "style"
            right[column].append(predicted["style"][i] == style)
    return {
        each: round(float(np.mean(right[each])), 3) for each in COLUMNS if right[each]
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    lines = [f"| pictures | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for name, row in rows.items():
        cells = [f"{row[each]:.2f}" if each in row else "" for each in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
