"""What a guidance search draws, and the files that show its results."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import personax
from personax.core import images
from personax.core.files import write_json
from personax.core.images import Pixels
from personax.diffusion.guidance import Term, complete
from personax.sampling.guidance_search import Axis, SearchResult, Weights
from personax.sampling.hints import HintOptions
from personax.sampling.options import ModelOptions
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.score_plot import write_heat_map
from personax.sampling.setup import SamplingSetup


def make_draw(
    setup: SamplingSetup, terms: Sequence[Term], searched: int
) -> Callable[[Weights], list[Pixels]]:
    """A function of the weights of the first `searched` terms, compiled ahead.

    `terms` begin with the unconditional one, which gets the remaining weight. All
    weights draw the same seeds.
    """
    null, *others = terms

    def reweigh(weights: Weights) -> list[Term]:
        varied = [
            dataclasses.replace(term, weight=jnp.asarray(weight, jnp.float32))
            for term, weight in zip(others[:searched], weights, strict=True)
        ]
        rest, *weighted = complete(
            [*varied, *others[searched:]], null.prompt, null.denoiser
        )
        # `null` itself keeps its hint.
        return setup.replicate(
            [dataclasses.replace(null, weight=rest.weight), *weighted]
        )

    compiled = setup.compile(reweigh((0.0,) * searched))
    return lambda weights: list(compiled.draw(reweigh(weights)))


def search_record(
    setup: SamplingSetup,
    models: ModelOptions,
    hints: HintOptions,
    axes: Sequence[Axis],
    terms: Sequence[TermSpec],
    scores: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that the results depend on, apart from the axes' values."""

    def pairs(named: Mapping[str, str]) -> list[str]:
        return [f"{name}={value}" for name, value in named.items()]

    options, (height, width) = setup.options, setup.size
    return {
        "axes": [str(axis) for axis in axes],
        "terms": [str(term_spec) for term_spec in terms],
        "base": models.base,
        "model": pairs(models.models),
        "concept": list(models.concepts),
        "unconditional": options.unconditional,
        "negative": options.negative,
        "control": pairs(models.controls),
        "hint": pairs(hints.files),
        "preprocess": hints.preprocess or "none",
        "control_strength": pairs(hints.strengths),
        "spacing": options.spacing,
        "eta": options.eta,
        "steps": options.steps,
        "num_images": options.num_images,
        "seed": options.seed,
        "weights": setup.loaded.digests,
        "solver": setup.solver,
        "size": [width, height],
        "dtype": setup.sampler.spec.compute.dtype,
        "scores": dict(scores),
        "personax": personax.__version__,
    }


def write_search(
    out: pathlib.Path,
    axes: Sequence[Axis],
    terms: Sequence[TermSpec],
    results: Sequence[SearchResult],
    best: Mapping[str, SearchResult],
    num_images: int,
) -> None:
    """Write grid.png, heat_map.png and best.json.

    The first axis is vertical and the second horizontal; others are at their best.
    """
    by_weights = {result.weights: result for result in results}
    rest = list(best.values())[-1].weights[2:]
    *above, across = axes[:2]
    down = [(weight,) for weight in above[0].values] if above else [()]
    table = [
        [by_weights[*row, column, *rest] for column in across.values] for row in down
    ]
    write_heat_map(
        out / "heat_map.png",
        {
            name: np.array([[result.scores[name] for result in row] for row in table])
            for name in results[0].scores
        },
        rows=(str(axes[0]), above[0].values if above else (0.0,)),
        columns=(str(across), across.values),
    )
    titles = [f"down: {above[0]}"] if above else []
    titles += [f"across: {across}", *term_texts(axes[2:], rest), *map(str, terms)]
    sheet = images.grid(
        [_first(out / result.file, num_images) for row in table for result in row],
        row_labels=[f"{weight:g}" for row in down for weight in row],
        column_labels=[f"{weight:g}" for weight in across.values],
        title="\n".join(titles),
    )
    images.write_png(out / "grid.png", sheet)
    record = {
        name: {"terms": term_texts(axes, result.weights), **result._asdict()}
        for name, result in best.items()
    }
    write_json(out / "best.json", record)


def term_texts(axes: Sequence[Axis], weights: Sequence[float]) -> list[str]:
    """The axes' terms at these weights."""
    return [str(axis.term_spec(w)) for axis, w in zip(axes, weights, strict=True)]


def _first(path: pathlib.Path, num_images: int) -> Pixels:
    """The first of the pictures that are side by side in a file."""
    pixels = images.read_image(path)
    return pixels[:, : pixels.shape[1] // num_images]
