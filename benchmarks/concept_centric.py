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
that have those attributes. "edges" is the mean IoU of Canny maps of pictures drawn by
ControlNet along the edges of renders; OUT/*.png are the sweeps over weights.

Every row gets the same search: the weight of least FD for pictures without a wish, the
weights of the largest share of "both" for those with one, of the largest IoU times the
share of the set for those along edges, on other seeds.
"""

import itertools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import attributes, edge_control, guidance_sweeps, portrait_runs
from benchmarks.attributes import ATTRIBUTES, HEADS, NOUNS, Attribute, Pictures, Share
from benchmarks.batches import Ask, Drawer, make_drawer
from benchmarks.concept_table import table
from benchmarks.train_classifier import soften
from personax.cli import command
from personax.concepts.bind import Model, from_base
from personax.core import images
from personax.core.files import write_text
from personax.data import emoji
from personax.loading import Base, Clip, load_base, load_clip
from personax.metrics import clip
from personax.metrics.classifier import Classifier, load_classifier
from personax.metrics.frechet import frechet

FLAGS = flags.FLAGS
_DRAWN, _ASKED, _SEARCHED, _EDGES, _REAL, _FLOOR = 1, 2, 3, 4, 100, 300  # seeds
_TEXT_PLAIN = ((1.0,), (1.5,), (2.0,), (3.0,), (5.0,))
_TEXT_ASKED = ((2.0,), (3.0,), (5.0,), (7.0,))
_OWN_PLAIN = ((1.0,), (1.25,), (1.5,), (1.75,), (2.0,), (2.5,))
_OWN_ASKED = tuple(itertools.product((1.0, 1.5, 2.0, 2.5), (1.5, 2.5, 3.5, 5.0)))


def _joint(phrase, weights, asked):
    """One guidance by one text."""
    texts = [each.joint for each in asked] if asked else ["a photo of a {}"]
    return [Ask([text.format(phrase) for text in texts], weights[0], "concept")]


def _decoupled(phrase, weights, asked):
    """Generalised Classifier-free Guidance, eq. 7: (1 - w1 - w2), w1, w2."""
    asks = [Ask("", weights[0], "concept")]
    if asked:
        asks.append(Ask([each.control for each in asked], weights[1], "base"))
    return asks


class Row(NamedTuple):
    """What a row of the table draws with, and how it asks."""

    title: str
    config: str | None  # of configs/, what it trains
    over: bool = False  # whether the unconditional term is the base's
    # (its phrase, weights, attributes of the pictures or none) to the terms
    asks: Callable[[str, Sequence[float], Sequence[Attribute]], list[Ask]] = _joint
    # (phrase, weights, edges) to the terms
    along: Callable[..., list[Ask]] = edge_control.joint_ask
    plain: Sequence[Sequence[float]] = _TEXT_PLAIN  # weights to choose from
    asked: Sequence[Sequence[float]] = _TEXT_ASKED


ROWS = {
    "base": Row("base, nearest text", None),
    "dreambooth": Row("full fine-tune, text", "emoji_dreambooth"),
    "rectified": Row("the same, guided by the base", "emoji_dreambooth", over=True),
    "custom_diffusion": Row("Custom Diffusion", "emoji_custom_diffusion"),
    "textual_inversion": Row("Textual Inversion", "emoji_textual_inversion"),
    "oft": Row("OFT", "emoji_oft"),
    "null_text": Row(
        "null text, GCFG",
        "emoji_{}",
        over=True,
        asks=_decoupled,
        along=edge_control.decoupled_ask,
        plain=_OWN_PLAIN,
        asked=_OWN_ASKED,
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
    control: Model | None  # the base with a ControlNet


def define_flags() -> None:
    flags.DEFINE_string("out", "runs/concept_centric", "Folder for the whole work.")
    flags.DEFINE_list("sets", "people,animals", "Of portraits.")
    flags.DEFINE_list("rows", ",".join((*FLOORS, *ROWS)), "Of the table.")
    flags.DEFINE_integer("count", 2000, "Pictures without a wish, and renders.")
    flags.DEFINE_integer("asked", 100, "Pictures of each attribute.")
    flags.DEFINE_integer("edges", 200, "Pictures along edges; 0: no ControlNet.")
    flags.DEFINE_integer("searched", 250, "Pictures that choose each weight.")
    flags.DEFINE_integer("steps", 25, "Of DPM-Solver++(2M).")
    flags.DEFINE_integer("batch", 50, "Pictures at once.")
    flags.DEFINE_integer("train_steps", 0, "Of each training; 0: as configs say.")
    flags.DEFINE_bool("sweeps", True, "Also the sheets over weights.")


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
        _control(base),
    )
    for which in FLAGS.sets:
        for name in FLAGS.rows:
            folder = bench.out / which / name
            if not (folder / "row.json").is_file():
                folder.mkdir(parents=True, exist_ok=True)
                row = (_floor if name in FLOORS else _row)(bench, which, name)
                write_text(folder / "row.json", json.dumps({"row": name, **row}))
            print(which, (folder / "row.json").read_text(), flush=True)
            write_text(bench.out / "table.md", table(bench.out, FLAGS.sets, FLAGS.rows))
        if FLAGS.sweeps and "null_text" in FLAGS.rows:
            _sweep(bench, which)


def _control(base: Base) -> Model | None:
    if not FLAGS.edges:
        return None
    return edge_control.control(base, pathlib.Path(FLAGS.out), FLAGS.train_steps)


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
    row = {"title": FLOORS[name], **_judged(bench, which, real, asked)}
    if FLAGS.edges:
        # Of themselves through the autoencoder, or of others by chance.
        wanted = attributes.renders(bench.sprites, which, FLAGS.edges, _EDGES)
        drawn = attributes.renders(bench.sprites, which, FLAGS.edges, _FLOOR)
        if name == "autoencoder":
            drawn = soften(bench.base, wanted)
        row["edges"] = edge_control.edge_agreement(drawn, wanted)
    return row


def _row(bench: Bench, which: str, name: str) -> dict:
    row, folder = ROWS[name], bench.out / which / name
    models = _models(bench, row, which)
    model = models["concept"]
    phrase = model.concepts[0].phrase if model.concepts else NOUNS[which]

    def drawn(weights, asked, count, seed) -> Pictures:
        return bench.drawer(models, row.asks(phrase, weights, asked), count, seed)

    chosen = _kept(folder / "weights.json", lambda: _search(bench, which, row, drawn))
    plain = _pictures(
        folder / "plain.npy", lambda: drawn(chosen["plain"], (), FLAGS.count, _DRAWN)
    )
    term_specs = _wishes(FLAGS.asked)
    asked = _pictures(
        folder / "asked.npy",
        lambda: drawn(chosen["asked"], term_specs, len(term_specs), _ASKED),
    )
    asked = np.split(asked, len(ATTRIBUTES))
    shown = min(10, FLAGS.count, FLAGS.asked)
    tiles = [picture for each in (plain, *asked) for picture in each[:shown]]
    labels = [row.title, *(each.control for each in ATTRIBUTES)]
    sheet = images.grid(tiles, columns=shown, row_labels=labels)
    images.write_png(folder / "pictures.png", sheet)
    trains = portrait_runs.numbers(bench.out, row.config, which)
    judged = _judged(bench, which, plain, asked)
    edges = _along(bench, which, row, models, folder) if bench.control else {}
    return {"title": row.title, "trains": trains, **chosen, **judged, **edges}


def _models(bench: Bench, row: Row, which: str) -> dict[str, Model]:
    """The row's own model as "concept", and the base where it is guided by it."""
    steps = FLAGS.train_steps
    own = portrait_runs.model(bench.base, row.config, which, bench.out, steps)
    return {"concept": own, **({"base": from_base(bench.base)} if row.over else {})}


def _along(bench: Bench, which: str, row: Row, models, folder: pathlib.Path) -> dict:
    """What a row reaches along edges, and by which weights."""
    own = models["concept"]
    phrase = own.concepts[0].phrase if own.concepts else NOUNS[which]
    # Where the concept reads no text, the control is the base's.
    decoupled = row.along is edge_control.decoupled_ask
    spoken = models["base"] if decoupled else own
    models = {**models, "control": edge_control.with_control(spoken, bench.control)}

    def drawn(weights, wanted: Pictures, seed: int) -> Pictures:
        hint = edge_control.hints(wanted, bench.control)
        return bench.drawer(models, row.along(phrase, weights, hint), len(wanted), seed)

    def search() -> dict:
        few = max(FLAGS.searched // 5, 2)
        wanted = attributes.renders(bench.sprites, which, few, _SEARCHED)

        def score(pixels: Pictures) -> float:
            inside = attributes.members(bench.judge, which, pixels)
            return edge_control.edge_agreement(pixels, wanted) * float(inside.mean())

        weights, found = edge_control.best(
            row.asked, lambda w: drawn(w, wanted, _SEARCHED), score
        )
        return {"along": weights, "searched_along": found}

    chosen = _kept(folder / "edge_weights.json", search)
    wanted = attributes.renders(bench.sprites, which, FLAGS.edges, _EDGES)
    pixels = _pictures(
        folder / "along.npy", lambda: drawn(chosen["along"], wanted, _EDGES)
    )
    shown = min(10, FLAGS.edges)
    tiles = [*wanted[:shown], *pixels[:shown]]
    sheet = images.grid(tiles, columns=shown, row_labels=["edges of", row.title])
    images.write_png(folder / "along.png", sheet)
    inside = attributes.members(bench.judge, which, pixels)
    found = edge_control.edge_agreement(pixels, wanted)
    return {**chosen, "edges": found, "edges_member": round(float(inside.mean()), 4)}


def _sweep(bench: Bench, which: str) -> None:
    models = _models(bench, ROWS["null_text"], which)
    draw = bench.drawer
    sheets = {
        f"{which}_weights": lambda: guidance_sweeps.grid_of_weights(
            draw, models, "wearing a crown", 0
        ),
        f"{which}_one_held": lambda: guidance_sweeps.one_held(
            draw, models, "wearing glasses", 2.0, 0
        ),
        "split_prompt": lambda: guidance_sweeps.split_prompt(draw, models, 0),
    }
    for name, make in sheets.items():
        path = bench.out / f"{name}.png"
        if not path.is_file():
            images.write_png(path, make())


def _search(bench: Bench, which: str, row: Row, drawn) -> dict:
    """The weights that serve a row best, and what all of them reach."""
    real = attributes.renders(bench.sprites, which, FLAGS.searched, _SEARCHED)
    wanted = _features(bench, real)
    distances = [
        frechet(_features(bench, drawn(w, (), FLAGS.searched, _SEARCHED)), wanted)
        for w in row.plain
    ]
    shares, term_specs = [], _wishes(max(FLAGS.searched // 50, 1))
    for w in row.asked:
        pixels = drawn(w, term_specs, len(term_specs), _SEARCHED)
        parts = np.split(pixels, len(ATTRIBUTES))
        shares.append(attributes.mean(_shares(bench, which, parts)).both)
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
    shares = _shares(bench, which, asked)
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


def _wishes(each: int) -> list[Attribute]:
    """Every attribute that many times: what each picture is asked for."""
    return [asked for asked in ATTRIBUTES for _ in range(each)]


def _shares(bench: Bench, which: str, asked: Sequence[Pictures]) -> list[Share]:
    """Of each attribute's pictures."""
    return [
        attributes.share(bench.judge, bench.eye, which, each, pixels)
        for each, pixels in zip(ATTRIBUTES, asked, strict=True)
    ]


def _features(bench: Bench, pixels: Pictures) -> np.ndarray:
    return clip.of_images(bench.eye, pixels, unit=False)


def _kept(path: pathlib.Path, make: Callable[[], dict]) -> dict:
    if not path.is_file():
        write_text(path, json.dumps(make()))
    return json.loads(path.read_text())


def _pictures(path: pathlib.Path, make: Callable[[], Pictures]) -> Pictures:
    if not path.is_file():
        unfinished = path.with_suffix(".tmp.npy")
        np.save(unfinished, make())
        unfinished.rename(path)
    return np.load(path)


if __name__ == "__main__":
    define_flags()
    app.run(main)
