"""Fidelity and control of concept-centric personalization, in one table.

    python -m benchmarks.concept_centric --out runs/concept_centric

For people and for animals that the base never saw: trains what a row needs, looks for
its guidances on a few pictures, draws and judges (Cao et al. 2023, sec. 5). Hours of
work: what is done is kept, and the same command goes on. OUT/SET/ROW holds a row's
pictures and row.json, OUT/SET/trained its training; OUT/table.md says it all.

FD is the Fréchet distance in the embedded CLIP's features between pictures without a
wish and as many renders. Then ten attributes are asked for ("wearing glasses", "on a
blue background", "red", ...): the share of pictures that show them, by the classifier
that was trained on renders alone and by the embedded CLIP's zero-shot choice; the share
that shows someone of the set; and both at once. "FD, asked" is the distance to renders
that have those attributes.

Every row gets the same search: the weight of least FD for pictures without a wish, the
weights of the largest share of "both" for those with one, on other seeds.
"""

import itertools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import attributes, portrait_runs
from benchmarks.attributes import ATTRIBUTES, HEADS, NOUNS, Pictures
from benchmarks.batches import Ask, Drawer, make_drawer
from benchmarks.train_classifier import soften
from personax import command, images
from personax.data import emoji
from personax.loading import Base, Clip, load_base, load_clip
from personax.metrics import clip
from personax.metrics.classifier import Classifier, load_classifier
from personax.metrics.frechet import frechet
from personax.training.workdir import write

FLAGS = flags.FLAGS
_DRAWN, _ASKED, _SEARCHED, _REAL, _FLOOR = 1, 2, 3, 4, 5  # seeds of pictures
_TEXT_PLAIN = ((1.0,), (1.5,), (2.0,), (3.0,), (5.0,))
_TEXT_ASKED = ((2.0,), (3.0,), (5.0,), (7.0,))
_OWN_PLAIN = ((1.0,), (1.25,), (1.5,), (1.75,), (2.0,), (2.5,))
_OWN_ASKED = tuple(itertools.product((1.0, 1.5, 2.0, 2.5), (1.5, 2.5, 3.5, 5.0)))


class Row(NamedTuple):
    """What a row of the table draws with, and how it asks."""

    title: str
    config: str | None  # of configs/, what it trains
    # (its phrase, weights, attribute or None) to the terms
    asks: Callable[[str, Sequence[float], attributes.Attribute | None], list[Ask]]
    plain: Sequence[Sequence[float]]  # weights to choose from without a wish
    asked: Sequence[Sequence[float]]  # and with one
    over: bool = False  # whether the unconditional term is the base's


def _joint(phrase, weights, asked):
    """One guidance by one text."""
    text = (asked.joint if asked else "a photo of a {}").format(phrase)
    return [Ask(text, weights[0], "concept")]


def _decoupled(phrase, weights, asked):
    """Generalised Classifier-free Guidance, eq. 7: (1 - w1 - w2), w1, w2."""
    own = [Ask("", weights[0], "concept")]
    return own + ([Ask(asked.control, weights[1], "base")] if asked else [])


ROWS = {
    "base": Row("base, nearest text", None, _joint, _TEXT_PLAIN, _TEXT_ASKED),
    "dreambooth": Row(
        "full fine-tune, text", "emoji_dreambooth", _joint, _TEXT_PLAIN, _TEXT_ASKED
    ),
    "rectified": Row(
        "the same, the base unconditional",
        "emoji_dreambooth",
        _joint,
        _TEXT_PLAIN,
        _TEXT_ASKED,
        over=True,
    ),
    "custom_diffusion": Row(
        "Custom Diffusion",
        "emoji_custom_diffusion",
        _joint,
        _TEXT_PLAIN,
        _TEXT_ASKED,
    ),
    "textual_inversion": Row(
        "Textual Inversion",
        "emoji_textual_inversion",
        _joint,
        _TEXT_PLAIN,
        _TEXT_ASKED,
    ),
    "oft": Row("OFT", "emoji_oft", _joint, _TEXT_PLAIN, _TEXT_ASKED),
    "null_text": Row(
        "null text, GCFG",
        "emoji_{}",
        _decoupled,
        _OWN_PLAIN,
        _OWN_ASKED,
        over=True,
    ),
}
FLOORS = {"renders": "other renders", "autoencoder": "renders, through the autoencoder"}


class Bench(NamedTuple):
    """What every row is drawn and judged with."""

    out: pathlib.Path
    base: Base
    drawer: Drawer
    judge: Classifier
    eye: Clip
    sprites: emoji.Sprites


def define_flags() -> None:
    flags.DEFINE_string("out", "runs/concept_centric", "Folder for the whole work.")
    flags.DEFINE_list("sets", "people,animals", "Of portraits.")
    flags.DEFINE_list("rows", ",".join((*FLOORS, *ROWS)), "Of the table.")
    flags.DEFINE_integer("count", 2000, "Pictures without a wish, and renders.")
    flags.DEFINE_integer("asked", 100, "Pictures of each attribute.")
    flags.DEFINE_integer("searched", 256, "Pictures that choose each weight.")
    flags.DEFINE_integer("steps", 25, "Of DPM-Solver++(2M).")
    flags.DEFINE_integer("batch", 50, "Pictures at once.")
    flags.DEFINE_integer("train_steps", 0, "0: as configs/emoji_people.py says.")


def main(_):
    command.start()
    base = load_base("emoji")
    drawer = make_drawer(base, steps=FLAGS.steps, batch=FLAGS.batch)
    bench = Bench(
        pathlib.Path(FLAGS.out),
        base,
        drawer,
        load_classifier(),
        load_clip(),
        emoji.load_sprites(),
    )
    for which in FLAGS.sets:
        for name in FLAGS.rows:
            folder = bench.out / which / name
            if not (folder / "row.json").is_file():
                folder.mkdir(parents=True, exist_ok=True)
                row = (_floor if name in FLOORS else _row)(bench, which, name)
                write(folder / "row.json", json.dumps({"row": name, **row}))
            print(which, (folder / "row.json").read_text(), flush=True)
            write(bench.out / "table.md", _table(bench.out))


def _floor(bench: Bench, which: str, name: str) -> dict:
    """Renders in the place of generations."""
    real = attributes.renders(bench.sprites, which, FLAGS.count, _FLOOR)
    asked = [
        attributes.renders(bench.sprites, which, FLAGS.asked, _FLOOR + i, each)
        for i, each in enumerate(ATTRIBUTES, 1)
    ]
    if name == "autoencoder":
        real = soften(bench.base, real)
        asked = [soften(bench.base, each) for each in asked]
    return {"title": FLOORS[name], **_judged(bench, which, real, asked)}


def _row(bench: Bench, which: str, name: str) -> dict:
    row, folder = ROWS[name], bench.out / which / name
    model = portrait_runs.model(
        bench.base, row.config, which, bench.out, FLAGS.train_steps
    )
    models = {"concept": model}
    if row.over:
        models["base"] = portrait_runs.plain(bench.base)
    phrase = model.concepts[0].phrase if model.concepts else NOUNS[which]

    def drawn(weights, asked, count, seed) -> Pictures:
        return bench.drawer(models, row.asks(phrase, weights, asked), count, seed)

    chosen = _kept(folder / "weights.json", lambda: _search(bench, which, row, drawn))
    plain = _pictures(
        folder / "plain.npy", lambda: drawn(chosen["plain"], None, FLAGS.count, _DRAWN)
    )
    asked = [
        _pictures(
            folder / f"asked_{i}.npy",
            lambda each=each: drawn(chosen["asked"], each, FLAGS.asked, _ASKED),
        )
        for i, each in enumerate(ATTRIBUTES)
    ]
    tiles = [picture for each in (plain, *asked) for picture in each[:10]]
    labels = [row.title, *(each.control for each in ATTRIBUTES)]
    sheet = images.grid(tiles, columns=len(tiles) // len(labels), row_labels=labels)
    images.write_png(folder / "pictures.png", sheet)
    known = {
        "title": row.title,
        "trains": portrait_runs.numbers(bench.out, row.config, which),
    }
    return {**known, **chosen, **_judged(bench, which, plain, asked)}


def _search(bench: Bench, which: str, row: Row, drawn) -> dict:
    """The weights that serve a row best, and what all of them reach."""
    real = attributes.renders(bench.sprites, which, FLAGS.searched, _SEARCHED)
    wanted = _features(bench, real)
    distances = [
        frechet(_features(bench, drawn(w, None, FLAGS.searched, _SEARCHED)), wanted)
        for w in row.plain
    ]
    each, shares = max(FLAGS.searched // 4 // len(ATTRIBUTES), 2), []
    for w in row.asked:
        own = [
            attributes.share(
                bench.judge, bench.eye, which, asked, drawn(w, asked, each, _SEARCHED)
            )
            for asked in ATTRIBUTES
        ]
        shares.append(attributes.mean(own).both)
    return {
        "plain": row.plain[int(np.argmin(distances))],
        "asked": row.asked[int(np.argmax(shares))],
        "searched": {
            "plain": [
                [w, round(d, 3)] for w, d in zip(row.plain, distances, strict=True)
            ],
            "asked": [[w, s] for w, s in zip(row.asked, shares, strict=True)],
        },
    }


def _judged(bench: Bench, which: str, plain: Pictures, asked: list[Pictures]) -> dict:
    real = attributes.renders(bench.sprites, which, len(plain), _REAL)
    wished = np.concatenate(
        [
            attributes.renders(bench.sprites, which, len(pixels), _REAL + i, each)
            for i, (each, pixels) in enumerate(zip(ATTRIBUTES, asked, strict=True), 100)
        ]
    )
    shares = [
        attributes.share(bench.judge, bench.eye, which, each, pixels)
        for each, pixels in zip(ATTRIBUTES, asked, strict=True)
    ]
    by_head = {
        head: attributes.mean(
            [s for each, s in zip(ATTRIBUTES, shares, strict=True) if each.head == head]
        )._asdict()
        for head in HEADS
    }
    drawn = np.concatenate(asked)
    return {
        "fd": round(frechet(_features(bench, plain), _features(bench, real)), 3),
        "fd_asked": round(
            frechet(_features(bench, drawn), _features(bench, wished)), 3
        ),
        "shares": {
            f"{each.head} {each.word}": s._asdict()
            for each, s in zip(ATTRIBUTES, shares, strict=True)
        },
        **by_head,
        "all": attributes.mean(shares)._asdict(),
    }


def _features(bench: Bench, pixels: Pictures) -> np.ndarray:
    return clip.of_images(bench.eye, pixels, unit=False)


def _kept(path: pathlib.Path, make: Callable[[], dict]) -> dict:
    if not path.is_file():
        write(path, json.dumps(make()))
    return json.loads(path.read_text())


def _pictures(path: pathlib.Path, make: Callable[[], Pictures]) -> Pictures:
    if not path.is_file():
        unfinished = path.with_suffix(".tmp.npy")
        np.save(unfinished, make())
        unfinished.rename(path)
    return np.load(path)


_COLUMNS = ("row", "trains", "w", "FD", "w, asked", "FD, asked")
_SHARES = ("worn", "place", "colour", "all", "of the set", "both")


def _table(out: pathlib.Path) -> str:
    """The table of what is there, a part for each set."""
    parts = []
    for which in FLAGS.sets:
        lines = [f"**{which}**", "", f"| {' | '.join((*_COLUMNS, *_SHARES))} |"]
        lines.append("|---" * len((*_COLUMNS, *_SHARES)) + "|")
        for name in FLAGS.rows:
            path = out / which / name / "row.json"
            if path.is_file():
                lines.append(f"| {' | '.join(_cells(json.loads(path.read_text())))} |")
        parts.append("\n".join(lines))
    note = "Shares: by the classifier / by CLIP zero-shot."
    return "\n\n".join([*parts, note]) + "\n"


def _cells(row: dict) -> list[str]:
    def weights(key: str) -> str:
        return ", ".join(f"{w:g}" for w in row.get(key, ()))

    def both(share: dict) -> str:
        return f"{share['shown']:.2f} / {share['clip']:.2f}"

    trains = f"{row['trains']:,}" if row.get("trains") else ""
    found = [row["title"], trains, weights("plain"), f"{row['fd']:.2f}"]
    found += [weights("asked"), f"{row['fd_asked']:.2f}"]
    found += [both(row[each]) for each in (*HEADS, "all")]
    return [*found, f"{row['all']['member']:.2f}", f"{row['all']['both']:.2f}"]


if __name__ == "__main__":
    define_flags()
    app.run(main)
