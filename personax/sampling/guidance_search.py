"""A grid search of guidance weights: draw, score, resume, find the best, show all."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import personax
from personax.core import images
from personax.core.files import append_journal, read_journal, read_text, write_json
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.diffusion.guidance import Term, complete
from personax.metrics.clip import Score
from personax.sampling.hints import HintOptions
from personax.sampling.options import ModelOptions
from personax.sampling.prompt_terms import Axis, TermSpec, Weights
from personax.sampling.score_plot import write_heat_map
from personax.sampling.setup import SamplingSetup


class SearchResult(NamedTuple):
    """The scores at one combination of weights, and its pictures side by side."""

    weights: Weights
    scores: dict[str, float]
    file: str


def search(
    out: pathlib.Path,
    axes: Sequence[Axis],
    draw: Callable[[Weights], Sequence[Pixels]],
    scores: Mapping[str, Score],
    known: Mapping[Weights, SearchResult],
) -> Iterator[SearchResult]:
    """Draw and score every combination of the axes' weights that is not `known`.

    A result's pictures, in cells/, are written before its line in cells.jsonl.
    """
    combinations = list(itertools.product(*(axis.values for axis in axes)))
    for weights in Progress(combinations, unit="cell", desc="searching"):
        if weights in known:
            yield known[weights]
            continue
        pictures = draw(weights)
        values = {name: float(score(pictures)) for name, score in scores.items()}
        name = "_".join(f"{weight:g}" for weight in weights)
        result = SearchResult(weights, values, f"cells/{name}.png")
        images.write_png(out / result.file, np.concatenate(pictures, axis=1))
        append_journal(out / "cells.jsonl", result._asdict())
        yield result


def resume(out: pathlib.Path, record: Mapping[str, Any]) -> dict[Weights, SearchResult]:
    """The results that a search has written to `out`, {} in a new folder.

    `record`, saved as search.json, is everything that the results depend on apart from
    their weights. Raises ValueError if `out` holds a search with another record.
    """
    about = out / "search.json"
    if about.is_file():
        saved = json.loads(read_text(about))
        other = [key for key in record if saved.get(key) != record[key]]
        if other:
            raise ValueError(
                f"{out} holds another search (other {', '.join(other)}); choose "
                "another --out."
            )
    write_json(about, record)
    lines = read_journal(out / "cells.jsonl")
    known = {tuple(line["weights"]): line for line in lines}
    return {x: SearchResult(**{**line, "weights": x}) for x, line in known.items()}


def find_best(results: Sequence[SearchResult]) -> dict[str, SearchResult]:
    """{score: its best result}, and with several scores also "all".

    "all" has the largest mean of the scores, each scaled to [0, 1] over the results.
    """
    names = list(results[0].scores)
    best = {name: max(results, key=lambda x: x.scores[name]) for name in names}
    if len(names) > 1:
        table = np.array([[r.scores[name] for name in names] for r in results])
        low, high = table.min(axis=0, keepdims=True), table.max(axis=0, keepdims=True)
        share = (table - low) / np.maximum(high - low, 1e-12)
        best["all"] = results[int(share.mean(axis=1).argmax())]
    return best


def make_draw(
    setup: SamplingSetup, terms: Sequence[Term], searched: int
) -> Callable[[Weights], list[Pixels]]:
    """A function of the weights of the first `searched` terms, compiled ahead.

    `terms` begin with the unconditional one, which gets the remaining weight. All
    weights draw the same seeds. Raises ValueError for a UNet with distilled guidance.
    """
    null, *others = terms
    if null.prompt.guidance is not None:
        raise ValueError(
            "search varies the weights of guidance terms, which a UNet with distilled "
            "guidance (time_cond_proj_dim) does not have."
        )

    def reweigh(weights: Weights) -> list[Term]:
        varied = [
            dataclasses.replace(term, weight=jnp.asarray(weight, jnp.float32))
            for term, weight in zip(others[:searched], weights, strict=True)
        ]
        varied += others[searched:]
        rest, *weighted = complete(varied, null.prompt, null.denoiser)
        # `null` itself keeps its hint.
        rest = dataclasses.replace(null, weight=rest.weight)
        return setup.replicate([rest, *weighted])

    setup.compile(reweigh((0.0,) * searched))
    return lambda weights: list(setup.draw(reweigh(weights)))


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

    options, (height, width) = dataclasses.asdict(setup.options), setup.size
    del options["batch"]
    return {
        **options,
        "axes": [str(axis) for axis in axes],
        "terms": [str(term_spec) for term_spec in terms],
        "base": models.base,
        "model": pairs(models.models),
        "concept": list(models.concepts),
        "control": pairs(models.controls),
        "hint": pairs(hints.files),
        "preprocess": hints.preprocess or "none",
        "control_strength": pairs(hints.strengths),
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
    side_by_side = [images.read_image(out / x.file) for row in table for x in row]
    sheet = images.grid(
        [x[:, : x.shape[1] // num_images] for x in side_by_side],
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
