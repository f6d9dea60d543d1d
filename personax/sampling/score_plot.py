"""Plots of scores over guidance weights: a heat map of two weights, a line of one."""

import importlib.util
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float


def check_matplotlib() -> None:
    """Raise ValueError if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "The heat map needs matplotlib, which is not installed: pip install "
            "'personax[plot]'."
        )


def write_heat_map(
    path: pathlib.Path,
    scores: Mapping[str, Float[np.ndarray, "rows columns"]],
    *,
    rows: tuple[str, Sequence[float]],
    columns: tuple[str, Sequence[float]],
) -> None:
    """A PNG with a panel per score; `rows` and `columns` are (label, weights).

    The best cell is ringed and NaN is white. With one row a panel is a line over the
    columns.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(scores), 4.6), layout="constrained")
    panels = figure.subplots(1, len(scores), squeeze=False)[0]
    for panel, (name, values) in zip(panels, scores.items(), strict=True):
        panel.set_title(name)
        panel.set_xlabel(columns[0])
        if len(rows[1]) == 1:
            panel.plot(columns[1], values[0], marker=".")
            panel.set_ylabel(name)
            continue
        panel.set_ylabel(rows[0])
        mesh = panel.pcolormesh(
            columns[1], rows[1], np.ma.masked_invalid(values), shading="nearest"
        )
        panel.invert_yaxis()  # as in the sheet of pictures
        figure.colorbar(mesh, ax=panel)
        row, column = divmod(int(np.nanargmax(values)), values.shape[1])
        at = columns[1][column], rows[1][row]
        ring = {"markerfacecolor": "none", "markeredgecolor": "red", "markersize": 12}
        panel.plot(*at, "o", **ring)
        text = {"xytext": (0, 9), "textcoords": "offset points"}
        best = f"{values[row, column]:.3f}"
        panel.annotate(best, at, color="red", ha="center", **text)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
