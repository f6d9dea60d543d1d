"""A grid search of guidance weights: axes, results on disk, and the best of them."""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from personax.core import images
from personax.core.files import append_journal, read_journal, read_text, write_json
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.metrics.scores import Score
from personax.sampling.prompt_terms import TermSpec

Weights = tuple[float, ...]  # one for each axis


class Axis(NamedTuple):
    """A term, and the weights to try; see `grammar.parse_axis`."""

    prompt: str
    model: str
    values: Weights

    def term_spec(self, weight: float) -> TermSpec:
        return TermSpec(self.prompt, weight, self.model)

    def __str__(self) -> str:
        """The term without its weight."""
        return self.prompt if self.model == "base" else f"{self.model}@:{self.prompt}"


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
    results = [SearchResult(**line) for line in read_journal(out / "cells.jsonl")]
    return {
        tuple(result.weights): result._replace(weights=tuple(result.weights))
        for result in results
    }


def find_best(results: Sequence[SearchResult]) -> dict[str, SearchResult]:
    """{score: its best result}, and with several scores also "all".

    "all" has the largest mean of the scores, each scaled to [0, 1] over the results.
    """
    names = list(results[0].scores)
    best = {
        name: max(results, key=lambda result: result.scores[name]) for name in names
    }
    if len(names) > 1:
        table = np.array([[r.scores[name] for name in names] for r in results])
        low, high = table.min(axis=0, keepdims=True), table.max(axis=0, keepdims=True)
        share = (table - low) / np.maximum(high - low, 1e-12)
        best["all"] = results[int(share.mean(axis=1).argmax())]
    return best
