"""A grid search of guidance weights: draw, score, resume, find the best, show all."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import personax
from personax.core import images
from personax.core.errors import RunFailedError, notice
from personax.core.files import (
    append_journal,
    digest_tree,
    expand,
    read_json,
    write_json,
)
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.records import expected, read_records
from personax.diffusion.guidance import Term, complete
from personax.loading import EMBEDDED
from personax.metrics.clip import Score
from personax.sampling.hints import HintOptions
from personax.sampling.options import ModelOptions
from personax.sampling.prompt_terms import Axis, TermSpec, Weights
from personax.sampling.score_plot import write_heat_map
from personax.sampling.setup import SamplingSetup


class SearchResult(NamedTuple):
    """The scores at one combination of weights, and its pictures side by side.

    A score that is not finite is None; where pictures are not, `file` is "" as well.
    """

    weights: Weights
    scores: dict[str, float | None]
    file: str


# What a search writes beside search.json.
WRITTEN = ("cells.jsonl", "cells", "grid.png", "heat_map.png", "best.json")


def search(
    out: pathlib.Path,
    axes: Sequence[Axis],
    draw: Callable[[Weights], Sequence[Pixels]],
    scores: Mapping[str, Score],
    known: Mapping[Weights, SearchResult],
) -> Iterator[SearchResult]:
    """Draw and score every combination of the axes' weights that is not `known`.

    A result's pictures, in cells/, are written before its line in cells.jsonl. Weights
    whose pictures or scores are not finite are reported on stderr.
    """
    combinations = list(itertools.product(*(axis.values for axis in axes)))
    for weights in Progress(combinations, unit="cell", desc="searching"):
        if weights in known and known[weights].scores.keys() == scores.keys():
            yield known[weights]
            continue
        listed = ", ".join(f"{weight:g}" for weight in weights)
        try:
            pictures = draw(weights)
        except RunFailedError as error:
            notice(f"The weights {listed} have no score: {error}")
            result = SearchResult(weights, dict.fromkeys(scores), "")
        else:
            values = {name: _finite(score(pictures)) for name, score in scores.items()}
            result = SearchResult(weights, values, _file(weights))
            images.write_png(out / result.file, np.concatenate(pictures, axis=1))
            if None in values.values():
                notice(f"The weights {listed} have a score that is not finite.")
        append_journal(out / "cells.jsonl", result._asdict())
        yield result


def resume(out: pathlib.Path, record: Mapping[str, Any]) -> dict[Weights, SearchResult]:
    """The results that a search has written to `out`, {} in a new folder.

    `record`, saved as search.json, is everything that the results depend on apart from
    their weights. Raises ValueError if `out` holds a search with another record.
    """
    about = out / "search.json"
    if about.is_file():
        saved = read_json(about)
        if not isinstance(saved, dict):
            raise ValueError(f"{about} is damaged: it holds no search.")
        keys = dict.fromkeys((*record, "contents"))
        other = [key for key in keys if saved.get(key) != record.get(key)]
        if other:
            raise ValueError(
                f"{out} holds another search (other {', '.join(other)}); choose "
                "another --out."
            )
    results = read_records(
        out / "cells.jsonl", _from_record, again="its weights are drawn again"
    )
    write_json(about, record)
    # A result whose pictures are damaged is drawn again.
    return {each.weights: each for each in results if _has_pictures(out, each)}


def _from_record(line: Mapping[str, Any]) -> SearchResult:
    """Raises KeyError, TypeError or ValueError for a line of another form."""
    weights = tuple(float(expected(weight, int | float)) for weight in line["weights"])
    scores = {
        str(name): None if value is None else _finite(expected(value, int | float))
        for name, value in line["scores"].items()
    }
    if line["file"] not in ("", _file(weights)):
        raise ValueError
    return SearchResult(weights, scores, line["file"])


def _file(weights: Weights) -> str:
    name = "_".join(f"{weight:.9g}" for weight in weights)  # of any two float32
    return f"cells/{name}.png"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _has_pictures(out: pathlib.Path, result: SearchResult) -> bool:
    """Whether the pictures are there and whole, or there are none to have."""
    try:
        return not result.file or _pictures(out, result).size > 0
    except (FileNotFoundError, ValueError):
        return False


def _pictures(out: pathlib.Path, result: SearchResult) -> Pixels:
    return images.read_image(out / result.file, smallest=1)


def find_best(results: Sequence[SearchResult]) -> dict[str, SearchResult]:
    """{score: its best result}, and with several scores also "all".

    "all" has the largest mean of the scores, each scaled to [0, 1] over the results.
    Results without a score are never the best. Raises RunFailedError if no result has
    scores.
    """
    results = [each for each in results if None not in each.scores.values()]
    if not results:
        raise RunFailedError("No weights have scores that are finite numbers.")
    names = list(results[0].scores)
    table = np.array([[r.scores[name] for name in names] for r in results], float)
    columns = zip(names, table.T, strict=True)
    best = {name: results[int(values.argmax())] for name, values in columns}
    if len(names) > 1:
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
    """Everything that the results depend on, apart from the axes' values.

    "contents" are digests of the files beside the models, whose weights are digested.
    """

    def pairs(named: Mapping[str, str]) -> list[str]:
        return [f"{name}={value}" for name, value in named.items()]

    options, (height, width) = dataclasses.asdict(setup.options), setup.size
    del options["batch"]
    given = [*hints.files.values(), scores.get("reference"), scores.get("clip")]
    paths = {path: expand(path) for path in given if path and path != EMBEDDED}
    read = {path: digest_tree(file) for path, file in paths.items() if file.exists()}
    return {
        **({"contents": read} if read else {}),
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
            name: np.array([[x.scores[name] for x in row] for row in table], float)
            for name in results[0].scores
        },
        rows=(str(axes[0]), above[0].values if above else (0.0,)),
        columns=(str(across), across.values),
    )
    titles = [f"down: {above[0]}"] if above else []
    titles += [f"across: {across}", *term_texts(axes[2:], rest), *map(str, terms)]
    sheet = images.grid(
        [_first(out, x, num_images) for row in table for x in row],
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


def _first(out: pathlib.Path, result: SearchResult, num_images: int) -> Pixels | None:
    """The first of a result's pictures, None where they are not finite."""
    if not result.file:
        return None
    side_by_side = _pictures(out, result)
    return side_by_side[:, : side_by_side.shape[1] // num_images]


def term_texts(axes: Sequence[Axis], weights: Sequence[float]) -> list[str]:
    """The axes' terms at these weights."""
    return [str(axis.term_spec(w)) for axis, w in zip(axes, weights, strict=True)]
