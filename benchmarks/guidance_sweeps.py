"""Sheets over guidance weights: one picture per pair of weights, from one seed."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.batch_sampling import BatchTerm, Drawer
from personax.concepts.bind import Model
from personax.core import images

_CONCEPT = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
_CONTROL = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
_SIGNED = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0)
_SEEDS = 4
_STYLES = ("in tweet style", "in noto style", "in joy style")


def grid_of_weights(
    drawer: Drawer, models: Mapping[str, Model], control: str, seed: int
) -> images.Pixels:
    """Rows: the concept's weight w1; columns: the weight w2 of a control prompt.

    `models` are "concept" and "base"; Cao et al. 2023, fig. 8a.
    """
    tiles = [
        drawer(models, _terms(w1, w2, control), 1, seed)[0]
        for w1 in _CONCEPT
        for w2 in _CONTROL
    ]
    return images.grid(
        tiles,
        columns=len(_CONTROL),
        row_labels=[f"concept {w:g}" for w in _CONCEPT],
        column_labels=[f"{control} {w:g}" for w in _CONTROL],
        title="The weight of each guidance",
    )


def one_held(
    drawer: Drawer, models: Mapping[str, Model], control: str, held: float, seed: int
) -> images.Pixels:
    """One weight fixed, the other varied from negative to positive, for both."""
    rows: dict[str, list[images.Pixels]] = {}
    for name, weights in (
        (f"concept {held:g}", [_terms(held, w, control) for w in _SIGNED]),
        (f"{control} {held:g}", [_terms(w, held, control) for w in _SIGNED]),
    ):
        columns = [drawer(models, each, _SEEDS, seed) for each in weights]
        for i in range(_SEEDS):
            rows[f"{name}, seed {i}"] = [column[i] for column in columns]
    return images.grid(
        [tile for row in rows.values() for tile in row],
        columns=len(_SIGNED),
        row_labels=list(rows),
        column_labels=[f"the other {w:g}" for w in _SIGNED],
        title="One guidance held, the other from negative to positive",
    )


def split_prompt(
    drawer: Drawer, models: Mapping[str, Model], seed: int, subject: str = "sunflower"
) -> images.Pixels:
    """A subject and a style as two guidance terms of the base, beside one prompt.

    Condition decoupling, Cao et al. 2023, fig. 5.
    """
    rows: dict[str, Sequence[images.Pixels]] = {}
    for style in _STYLES:
        joint = f"a {subject} {style}"
        rows[f'"{joint}" 4'] = _row(drawer, models, [BatchTerm(joint, 4.0)], seed)
        for weight in (2.0, 4.0):
            terms = [BatchTerm(f"a {subject}", 3.0), BatchTerm(style, weight)]
            label = f'"a {subject}" 3, "{style}" {weight:g}'
            rows[label] = _row(drawer, models, terms, seed)
    return images.grid(
        [tile for row in rows.values() for tile in row],
        columns=2 * _SEEDS,
        row_labels=list(rows),
        title="One prompt, or its parts with weights of their own",
    )


def _row(drawer, models, terms: list[BatchTerm], seed: int) -> list[images.Pixels]:
    return list(np.asarray(drawer({"base": models["base"]}, terms, 2 * _SEEDS, seed)))


def _terms(concept: float, control: float, prompt: str) -> list[BatchTerm]:
    return [BatchTerm("", concept, "concept"), BatchTerm(prompt, control, "base")]
