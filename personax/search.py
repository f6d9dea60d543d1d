"""The command that searches weights: `python -m personax.search --axis "0..5:a dog"`."""

import itertools
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import personax
from personax import command, drawing, generate, images, prompts
from personax.data import concepts
from personax.diffusion.guidance import Term, complete
from personax.drawing import Drawing
from personax.heat_map import check_matplotlib, write_heat_map
from personax.images import Pixels
from personax.loading import EMBEDDED, load_clip
from personax.prompts import Wish
from personax.scores import Score, make_scores

FLAGS = flags.FLAGS
_STEP = 0.25  # Cao et al. 2023


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    drawing.define_flags()
    many(
        "axis",
        [],
        "[MODEL@]FROM..TO[/STEP]:PROMPT, a --term with each weight from FROM to TO; "
        "STEP is 0.25. All combinations are drawn; --term is the same in all.",
    )
    text(
        "score_text",
        None,
        "What CLIP compares pictures with. Default: the prompts of axes and terms.",
    )
    text("reference", None, "A folder, or a bundled subject, to compare them with.")
    text("clip", EMBEDDED, "Directory of the CLIP that scores.")
    text("out", "out/search", "Folder; what is scored there is not drawn again.")


class Axis(NamedTuple):
    """A term whose weight is searched."""

    prompt: str
    model: str
    values: tuple[float, ...]

    def __str__(self) -> str:
        """The term without its weight."""
        return str(Wish(self.prompt, 0.0, self.model)).replace("0:", ":", 1)


class Cell(NamedTuple):
    """The scores at one combination of weights, and its pictures side by side."""

    weights: tuple[float, ...]
    scores: dict[str, float]
    file: str


def main(argv: Sequence[str]) -> None:
    command.start()
    watch = command.Stopwatch()
    with watch("load"), command.one_sentence():
        check_matplotlib()
        axes, others = _asked(argv)
        plan = drawing.set_up(FLAGS)
        wishes = [*(Wish(a.prompt, a.values[0], a.model) for a in axes), *others]
        drawing.check(FLAGS, plan, wishes)
        scores, judged = _scores(wishes)
        out = pathlib.Path(FLAGS.out)
        known = _resume(out, _record(plan, axes, others, judged))
    with watch("compile"):
        paint = make_paint(plan, drawing.make_terms(FLAGS, plan)(wishes), len(axes))
    with watch("search"):
        cells = list(search(out, axes, paint, scores, known))
    with watch("write"):
        best = find_best(cells)
        _write(out, axes, cells, best)
    for name, cell in best.items():
        terms = _terms(axes, cell.weights)
        print(f"best by {name}: {terms}  {_said(cell.scores)}")
    print(f"{len(cells)} cells in {out}: {watch}.")


def parse_axis(text: str) -> Axis:
    """The axis in "[MODEL@]FROM..TO[/STEP]:PROMPT"; ValueError for another form.

    >>> parse_axis("face@1..2/0.5:")
    Axis(prompt='', model='face', values=(1.0, 1.5, 2.0))
    """
    found = re.fullmatch(
        r"(?:([^@:]+)@)?([^@:]+?)\.\.([^@:/]+)(?:/([^@:]+))?:(.*)", text, re.DOTALL
    )
    try:
        model, *numbers, prompt = found.groups()  # type: ignore[union-attr]
        first, last, step = (float(x) for x in (*numbers[:2], numbers[2] or _STEP))
    except (AttributeError, ValueError):
        first, last, step = math.nan, 0.0, _STEP
    if not (first <= last and step > 0 and math.isfinite(last - first + step)):
        raise ValueError(
            f'The axis {text!r} is not of the form "[MODEL@]FROM..TO[/STEP]:PROMPT" '
            'with FROM below TO, such as "face@0.5..3:" or "0..5/0.5:a dog".'
        )
    count = int((last - first) / step + 1e-6) + 1
    values = (round(first + i * step, 6) for i in range(count))
    return Axis(prompt.strip(), model or "base", tuple(values))


def make_paint(
    plan: Drawing, terms: Sequence[Term], searched: int
) -> Callable[[Sequence[float]], list[Pixels]]:
    """From the weights of the first `searched` terms to pictures, compiled once.

    `terms` have the unconditional one first, which takes the rest of the weight. The
    same seeds are drawn for all weights.
    """
    batches = drawing.batches(FLAGS, plan.mesh)
    key = jax.random.key(FLAGS.seed)
    denoisers = drawing.denoisers(plan.models, terms)
    vae = plan.base.params["vae"]

    def reweigh(weights: Sequence[float]) -> list[Term]:
        null, *others = terms
        own = [
            term.replace(weight=jnp.asarray(weight, jnp.float32))
            for term, weight in zip(others, weights, strict=False)
        ]
        own += others[searched:]
        return jax.device_put(
            complete(own, null.prompt, null.denoiser), plan.everywhere
        )

    draw = generate.make_draw(plan.solver, plan.shape)
    inputs = denoisers, reweigh([0.0] * searched), plan.grid, key, batches[0]
    draw = draw.lower(*inputs).compile()
    latents = jax.ShapeDtypeStruct(
        (*batches[0].shape, *plan.shape), np.float32, sharding=draw.output_shardings
    )
    decode = generate.make_decode(plan.spec).lower(vae, latents).compile()

    def paint(weights: Sequence[float]) -> list[Pixels]:
        asked, pictures = reweigh(weights), []
        for indices in batches:
            latents = draw(denoisers, asked, plan.grid, key, indices)
            pictures += list(np.asarray(decode(vae, latents)))
        return pictures[: FLAGS.num_images]

    return paint


def search(
    out: pathlib.Path,
    axes: Sequence[Axis],
    paint: Callable[[Sequence[float]], list[Pixels]],
    scores: Mapping[str, Score],
    known: Mapping[tuple[float, ...], Cell],
) -> Iterator[Cell]:
    """Every combination of the axes' weights, painted, scored and written as it comes.

    Those that are `known` are not painted again. `scores` may be any functions of
    pictures.
    """
    combinations = list(itertools.product(*(axis.values for axis in axes)))
    for weights in tqdm(combinations, unit="cell", desc="searching"):
        if weights in known:
            yield known[weights]
            continue
        pictures = paint(weights)
        found = {name: score(pictures) for name, score in scores.items()}
        name = "_".join(f"{weight:g}" for weight in weights)
        cell = Cell(weights, found, f"cells/{name}.png")
        images.write_png(out / cell.file, np.concatenate(pictures, axis=1))
        # The line comes last: where it is, the pictures are.
        with (out / "cells.jsonl").open("a") as file:
            file.write(json.dumps(cell._asdict()) + "\n")
        yield cell


def find_best(cells: Sequence[Cell]) -> dict[str, Cell]:
    """{score: the cell with the most of it}, and with several "all" of them.

    That is the largest mean of the scores, each over its range among the cells.
    """
    names = list(cells[0].scores)
    best = {name: max(cells, key=lambda cell: cell.scores[name]) for name in names}
    if len(names) > 1:
        table = np.array([[cell.scores[name] for name in names] for cell in cells])
        low, high = table.min(axis=0), table.max(axis=0)
        share = (table - low[None]) / np.maximum(high - low, 1e-12)[None]
        best["all"] = cells[int(share.mean(axis=1).argmax())]
    return best


def _asked(argv: Sequence[str]) -> tuple[list[Axis], list[Wish]]:
    if argv[1:]:
        raise ValueError(f"{argv[1]!r} belongs to no flag: quote prompts with spaces.")
    if not FLAGS.axis:
        raise ValueError('Nothing is searched: give an --axis, such as "0..5:a dog".')
    axes = [parse_axis(text) for text in FLAGS.axis]
    return axes, [prompts.parse(term) for term in FLAGS.term]


def _scores(wishes: Sequence[Wish]) -> tuple[dict[str, Score], dict[str, Any]]:
    """The scores, and what search.json says of them."""
    texts = dict.fromkeys(wish.prompt for wish in wishes if wish.prompt)
    text = ", ".join(texts) if FLAGS.score_text is None else FLAGS.score_text
    reference = concepts.pictures(FLAGS.reference) if FLAGS.reference else []
    if not text and not reference:
        raise ValueError(
            "Nothing says which pictures are good: give --score_text, --reference."
        )
    clip = load_clip(None if FLAGS.clip == EMBEDDED else FLAGS.clip)
    judged = {"text": text, "reference": FLAGS.reference or "", "clip": FLAGS.clip}
    return make_scores(clip, text=text, reference=reference), judged


def _record(
    plan: Drawing,
    axes: Sequence[Axis],
    others: Sequence[Wish],
    judged: Mapping[str, Any],
) -> dict[str, Any]:
    """What made the cells of a search; its axes' ranges may grow."""
    return {
        "axes": [str(axis) for axis in axes],
        "terms": [str(wish) for wish in others],
        "negative": FLAGS.negative,
        "unconditional": FLAGS.unconditional,
        "base": plan.base.name,
        "fingerprint": plan.base.fingerprint,
        "models": list(FLAGS.model),
        "concepts": list(FLAGS.concept),
        "solver": plan.solver_name,
        "spacing": FLAGS.spacing or "",
        "eta": FLAGS.eta,
        "steps": FLAGS.steps,
        "num_images": FLAGS.num_images,
        "seed": FLAGS.seed,
        "size": [plan.width, plan.height],
        "dtype": plan.spec.compute.dtype,
        "scores": dict(judged),
        "personax": personax.__version__,
    }


def _resume(
    out: pathlib.Path, record: Mapping[str, Any]
) -> dict[tuple[float, ...], Cell]:
    """The cells of a search that was broken off; ValueError if it was another one."""
    about = out / "search.json"
    if about.is_file():
        before = json.loads(about.read_text())
        other = [key for key in record if before.get(key) != record[key]]
        if other:
            raise ValueError(
                f"{out} holds another search: its {' and '.join(other)} are others. "
                "Choose another --out."
            )
    out.mkdir(parents=True, exist_ok=True)
    about.write_text(json.dumps(record, indent=2) + "\n")
    known, journal = {}, out / "cells.jsonl"
    if journal.is_file():
        # A kill may have left the last line unfinished.
        whole, _, _ = journal.read_text().rpartition("\n")
        journal.write_text(f"{whole}\n" if whole else "")
        for line in whole.splitlines():
            values = json.loads(line)
            cell = Cell(tuple(values["weights"]), values["scores"], values["file"])
            known[cell.weights] = cell
    return known


def _write(
    out: pathlib.Path,
    axes: Sequence[Axis],
    cells: Sequence[Cell],
    best: Mapping[str, Cell],
) -> None:
    """The sheet, the heat map and best.json.

    The first axis goes down and the second across; further ones stand at their best.
    """
    by_weights = {cell.weights: cell for cell in cells}
    rest = list(best.values())[-1].weights[2:]
    rows, columns = [("", (0.0,))], (str(axes[-1]), axes[-1].values)
    if len(axes) > 1:
        rows = [(str(axes[0]), axes[0].values)]
        columns = str(axes[1]), axes[1].values
    shown = [
        [
            by_weights[(row, column, *rest) if len(axes) > 1 else (column,)]
            for column in columns[1]
        ]
        for row in rows[0][1]
    ]
    write_heat_map(
        out / "heat_map.png",
        {
            name: np.array([[cell.scores[name] for cell in row] for row in shown])
            for name in cells[0].scores
        },
        rows=rows[0],
        columns=columns,
    )
    title = f"down: {axes[0]}   across: {axes[1]}" if len(axes) > 1 else f"{axes[0]}"
    if rest:
        title += "\n" + _terms(axes[2:], rest)
    sheet = images.grid(
        [_first(out / cell.file) for row in shown for cell in row],
        row_labels=[f"{weight:g}" for weight in rows[0][1]] if len(axes) > 1 else [],
        column_labels=[f"{weight:g}" for weight in columns[1]],
        title=title,
    )
    images.write_png(out / "grid.png", sheet)
    said = {
        name: {"term": _terms(axes, cell.weights).split("  "), **cell._asdict()}
        for name, cell in best.items()
    }
    (out / "best.json").write_text(json.dumps(said, indent=2) + "\n")


def _first(path: pathlib.Path) -> Pixels:
    """The first of the pictures that stand side by side in a file."""
    pixels = images.read_image(path)
    return pixels[:, : pixels.shape[1] // FLAGS.num_images]


def _terms(axes: Sequence[Axis], weights: Sequence[float]) -> str:
    wishes = (
        Wish(axis.prompt, weight, axis.model)
        for axis, weight in zip(axes, weights, strict=True)
    )
    return "  ".join(str(wish) for wish in wishes)


def _said(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


if __name__ == "__main__":
    define_flags()
    command.run(main)
