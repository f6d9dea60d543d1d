"""The command that searches weights: `python -m personax.search --axis "0..5:a"`."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import personax
from personax.cli import command, sampling_flags
from personax.cli.sampling_flags import Drawing
from personax.core import images
from personax.core.images import Pixels
from personax.data import concepts
from personax.diffusion.guidance import Term, complete
from personax.loading import EMBEDDED, load_clip
from personax.metrics.scores import Score, make_scores
from personax.sampling import guidance_search, prompt_terms
from personax.sampling.guidance_search import Axis, Cell, Weights
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.score_plot import check_matplotlib, write_heat_map

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    sampling_flags.define_flags()
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


def main(argv: Sequence[str]) -> None:
    command.start()
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        check_matplotlib()
        axes, others = _asked(argv)
        plan = sampling_flags.set_up(FLAGS)
        term_specs = [*(axis.term_spec(axis.values[0]) for axis in axes), *others]
        sampling_flags.check(FLAGS, plan, term_specs)
        scores, judged = _scores(term_specs)
        out = pathlib.Path(FLAGS.out)
        known = guidance_search.resume(out, _record(plan, axes, others, judged))
        terms = sampling_flags.make_terms(FLAGS, plan)(term_specs)
    with watch("compile"):
        paint = make_paint(plan, terms, len(axes))
    with watch("search"):
        cells = list(guidance_search.search(out, axes, paint, scores, known))
    with watch("write"):
        best = guidance_search.find_best(cells)
        _write(out, axes, cells, best)
    for name, cell in best.items():
        found = ", ".join(f"{each} {value:.3f}" for each, value in cell.scores.items())
        said = " ".join(f'--term "{term}"' for term in _terms(axes, cell.weights))
        print(f"best by {name}: {said} ({found})")
    print(f"{len(cells)} cells in {out}: {watch}.")


def make_paint(
    plan: Drawing, terms: Sequence[Term], searched: int
) -> Callable[[Weights], list[Pixels]]:
    """From the weights of the first `searched` terms to pictures, compiled once.

    `terms` have the unconditional one first, which takes the rest of the weight. The
    same seeds are drawn for all weights.
    """
    null, *others = terms

    def reweigh(weights: Weights) -> list[Term]:
        own = [
            term.replace(weight=jnp.asarray(weight, jnp.float32))
            for term, weight in zip(others[:searched], weights, strict=True)
        ]
        rest, *own = complete([*own, *others[searched:]], null.prompt, null.denoiser)
        own = [null.replace(weight=rest.weight), *own]  # with its hint
        return jax.device_put(own, plan.everywhere)

    batches = sampling_flags.batches(FLAGS, plan.mesh)
    key, first = jax.random.key(FLAGS.seed), reweigh((0.0,) * searched)
    sampler = plan.sampler.compile(plan.models, first, key, batches[0])

    def paint(weights: Weights) -> list[Pixels]:
        asked, pictures = reweigh(weights), []
        for indices in batches:
            drawn = sampler.draw(plan.models, asked, key, indices)
            pictures += list(np.asarray(drawn))
        return pictures[: FLAGS.num_images]

    return paint


def _asked(argv: Sequence[str]) -> tuple[list[Axis], list[TermSpec]]:
    if argv[1:]:
        raise ValueError(f"{argv[1]!r} belongs to no flag: quote prompts with spaces.")
    if not FLAGS.axis:
        raise ValueError('Nothing is searched: give an --axis, such as "0..5:a dog".')
    axes = [guidance_search.parse_axis(text) for text in FLAGS.axis]
    return axes, [prompt_terms.parse(term) for term in FLAGS.term]


def _scores(term_specs: Sequence[TermSpec]) -> tuple[dict[str, Score], dict[str, str]]:
    """The scores, and what search.json says of them."""
    texts = dict.fromkeys(
        term_spec.prompt for term_spec in term_specs if term_spec.prompt
    )
    text = ", ".join(texts) if FLAGS.score_text is None else FLAGS.score_text
    reference = concepts.pictures(FLAGS.reference) if FLAGS.reference else []
    if not text and not reference:
        raise ValueError(
            "Nothing says which pictures are good: give --score_text, or --reference."
        )
    clip = load_clip(None if FLAGS.clip == EMBEDDED else FLAGS.clip)
    judged = {"text": text, "reference": FLAGS.reference or "", "clip": FLAGS.clip}
    return make_scores(clip, text=text, reference=reference), judged


def _record(
    plan: Drawing,
    axes: Sequence[Axis],
    others: Sequence[TermSpec],
    judged: Mapping[str, str],
) -> dict[str, Any]:
    """What makes the cells of a search; its axes' ranges may grow."""
    return {
        "axes": [str(axis) for axis in axes],
        "terms": [str(term_spec) for term_spec in others],
        **{name: getattr(FLAGS, name) for name in _RECORDED},
        "weights": plan.marks,
        "solver": plan.solver_name,
        "size": [plan.width, plan.height],
        "dtype": plan.spec.compute.dtype,
        "scores": dict(judged),
        "personax": personax.__version__,
    }


_RECORDED = (
    *("base", "model", "concept", "unconditional", "negative"),
    *("control", "hint", "preprocess", "control_strength"),
    *("spacing", "eta", "steps", "num_images", "seed"),
)


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
    *above, across = axes[:2]
    down = [(weight,) for weight in above[0].values] if above else [()]
    table = [
        [by_weights[*row, column, *rest] for column in across.values] for row in down
    ]
    write_heat_map(
        out / "heat_map.png",
        {
            name: np.array([[cell.scores[name] for cell in row] for row in table])
            for name in cells[0].scores
        },
        rows=(str(axes[0]), above[0].values if above else (0.0,)),
        columns=(str(across), across.values),
    )
    titles = [f"down: {above[0]}"] if above else []
    titles += [f"across: {across}", *_terms(axes[2:], rest), *FLAGS.term]
    sheet = images.grid(
        [_first(out / cell.file) for row in table for cell in row],
        row_labels=[f"{weight:g}" for row in down for weight in row],
        column_labels=[f"{weight:g}" for weight in across.values],
        title="\n".join(titles),
    )
    images.write_png(out / "grid.png", sheet)
    said = {
        name: {"terms": _terms(axes, cell.weights), **cell._asdict()}
        for name, cell in best.items()
    }
    (out / "best.json").write_text(json.dumps(said, indent=2) + "\n")


def _first(path: pathlib.Path) -> Pixels:
    """The first of the pictures that stand side by side in a file."""
    pixels = images.read_image(path)
    return pixels[:, : pixels.shape[1] // FLAGS.num_images]


def _terms(axes: Sequence[Axis], weights: Sequence[float]) -> list[str]:
    return [str(axis.term_spec(w)) for axis, w in zip(axes, weights, strict=True)]


if __name__ == "__main__":
    define_flags()
    command.run(main)
