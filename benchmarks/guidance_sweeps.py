"""What weights do, as sheets: one picture for each pair of weights, one seed."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.batches import Ask, Drawer
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
    """w1 of the concept, downwards, by w2 of a control prompt, to the right.

    `models` are "concept" and "base"; Cao et al. 2023, fig. 8a.
    """
    tiles = [
        drawer(models, _asks(w1, w2, control), 1, seed)[0]
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
    """One guidance held, the other from negative to positive, and the other way."""
    rows: dict[str, list[images.Pixels]] = {}
    for name, asks in (
        (f"concept {held:g}", [_asks(held, w, control) for w in _SIGNED]),
        (f"{control} {held:g}", [_asks(w, held, control) for w in _SIGNED]),
    ):
        columns = [drawer(models, each, _SEEDS, seed) for each in asks]
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
    """A subject and a style as two guidances of the base, beside the joint prompt.

    Condition decoupling, Cao et al. 2023, fig. 5.
    """
    rows: dict[str, Sequence[images.Pixels]] = {}
    for style in _STYLES:
        joint = f"a {subject} {style}"
        rows[f'"{joint}" 4'] = _row(drawer, models, [Ask(joint, 4.0)], seed)
        for weight in (2.0, 4.0):
            asks = [Ask(f"a {subject}", 3.0), Ask(style, weight)]
            label = f'"a {subject}" 3, "{style}" {weight:g}'
            rows[label] = _row(drawer, models, asks, seed)
    return images.grid(
        [tile for row in rows.values() for tile in row],
        columns=2 * _SEEDS,
        row_labels=list(rows),
        title="One prompt, or its parts with weights of their own",
    )


def _row(drawer, models, asks: list[Ask], seed: int) -> list[images.Pixels]:
    return list(np.asarray(drawer({"base": models["base"]}, asks, 2 * _SEEDS, seed)))


def _asks(concept: float, control: float, prompt: str) -> list[Ask]:
    return [Ask("", concept, "concept"), Ask(prompt, control, "base")]
