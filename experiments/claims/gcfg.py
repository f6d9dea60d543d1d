"""Fidelity against control, and what the original's unconditional guidance mends.

    python -m experiments.claims.gcfg \
        --config configs/claims/gcfg.py --out runs/claims/gcfg

Cao et al. 2023, sec. 5, fig. 8, 9 and 10; see the config for claim and protocol.
"""

import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from ml_collections import ConfigDict

from benchmarks import attributes, portrait_runs
from benchmarks.attributes import Pictures
from benchmarks.batches import Ask, Drawer, make_drawer
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.means import curve, values, where
from personax.concepts.bind import Model, from_base
from personax.data import emoji
from personax.loading import Base, Clip, load_base, load_clip
from personax.metrics import clip
from personax.metrics.bootstrap import standard_error
from personax.metrics.features import Features
from personax.metrics.frechet import frechet

_DRAWN, _OTHERS, _REAL = 1, 2, 100  # seeds
BASE = "base"


class Bench(NamedTuple):
    """What drift and rectification are measured with, on one set of portraits."""

    config: ConfigDict
    base: Base
    plain: Model
    drawer: Drawer
    eye: Clip
    trained: pathlib.Path
    real: Callable[[], Features]
    unmoved: Callable[
        [], Features
    ]  # the base's pictures without a text, by other seeds


def measure(config: ConfigDict, kept: SavedPoints) -> list[Point]:
    """A run's rows and weights, then drift and rectification of ordinary models."""
    points = list(_rows(config)) if config.run else []
    base = load_base("emoji")
    names = ("set", "count", "steps", "train_steps", "trained", "bootstrap")
    key = ["gcfg", base.fingerprint, *(config[name] for name in names)]
    own = kept.out / f"taught_{config.train_steps}"
    bench = Bench(
        config,
        base,
        from_base(base),
        make_drawer(base, steps=config.steps, batch=min(50, config.count)),
        load_clip(),
        pathlib.Path(config.trained) if config.trained else own,
        functools.cache(lambda: _seen(bench, _portraits(config))),
        functools.cache(lambda: _seen(bench, _free(bench, bench.plain, _OTHERS))),
    )
    points += _drift(bench, kept, key)
    points += _rectified(bench, kept, key)
    return points


def _rows(config: ConfigDict) -> Iterator[Point]:
    """What `benchmarks.concept_centric` has measured in the folder `config.run`."""
    folder = pathlib.Path(config.run)
    found = sorted(folder.glob("*/*/row.json"))
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no SET/ROW/row.json; benchmarks.concept_centric --out "
            "writes them."
        )
    for path in found:
        about, row = {"set": path.parts[-3]}, json.loads(path.read_text())
        yield {
            "kind": "row",
            **about,
            "row": row["row"],
            "title": row["title"],
            "trains": row.get("trains"),
            "fd": row["fd"],
            "fd_asked": row["fd_asked"],
            **row["all"],
        }
        if row["row"] == "null_text":
            for (w1, w2), both in row["searched"]["asked"]:
                yield {"kind": "weights", **about, "w1": w1, "w2": w2, "both": both}
            for (w1,), fd in row["searched"]["plain"]:
                yield {"kind": "weights", **about, "w1": w1, "w2": 0.0, "fd": fd}


def _drift(bench: Bench, kept: SavedPoints, key: list[Any]) -> Iterator[Point]:
    """Pictures without a text: how far they are from portraits and from the base's.

    The base's are those of other seeds, so that its own distance says what two such
    sets differ by anyway.
    """

    def drifted(name: str) -> Point:
        features = _seen(bench, _free(bench, _model(bench, name), _DRAWN))
        return {
            **_distance(bench, features, bench.real(), "fd_portraits"),
            **_distance(bench, features, bench.unmoved(), "fd_base"),
        }

    for name in (BASE, *bench.config.models):
        found = kept([*key, "drift", name], partial(drifted, name))
        yield {"kind": "drift", "set": bench.config.set, "model": name, **found}


def _rectified(bench: Bench, kept: SavedPoints, key: list[Any]) -> Iterator[Point]:
    """The concept's text at each weight, over both models' unconditional terms."""

    def guided(name: str, unconditional: str, weight: float) -> Point:
        own = _model(bench, name)
        models = {"concept": own}
        if unconditional == BASE:
            models[BASE] = bench.plain
        said = f"a photo of a {own.concepts[0].phrase}"
        asks = [Ask(said, weight, "concept")]
        pixels = bench.drawer(models, asks, bench.config.count, _DRAWN)
        return _distance(bench, _seen(bench, pixels), bench.real(), "fd")

    for name in bench.config.models:
        for weight in bench.config.weights:
            for unconditional in ("own", BASE):
                # At 1 nothing is left for the unconditional term.
                term = "own" if weight == 1 else unconditional
                mark = [*key, "guided", name, term, weight]
                about = {"set": bench.config.set, "model": name, "weight": weight}
                found = kept(mark, partial(guided, name, term, weight))
                yield {"kind": "guided", **about, "term": unconditional, **found}


def _model(bench: Bench, name: str) -> Model:
    if name == BASE:
        return bench.plain
    config = bench.config
    return portrait_runs.model(
        bench.base, name, config.set, bench.trained, config.train_steps
    )


def _free(bench: Bench, model: Model, seed: int) -> Pictures:
    return bench.drawer({"own": model}, [Ask("", 1.0, "own")], bench.config.count, seed)


def _portraits(config: ConfigDict) -> Pictures:
    return attributes.renders(emoji.load_sprites(), config.set, config.count, _REAL)


def _seen(bench: Bench, pixels: Pictures) -> Features:
    return clip.of_images(bench.eye, pixels, unit=False)


def _distance(bench: Bench, one: Features, other: Features, name: str) -> Point:
    """The Fréchet distance, and its error over pictures of `one`."""
    rounds = bench.config.bootstrap
    error = standard_error(one, lambda rows: frechet(rows, other), rounds=rounds)
    return {name: frechet(one, other), f"{name}_error": error}


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Drift and rectification; above them what a run of the table has measured."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    sets = values(where(points, kind="row"), "set")
    size = {"figsize": (11, 4.2 * (len(sets) + 1)), "layout": "constrained"}
    figure, grid = pyplot.subplots(len(sets) + 1, 2, squeeze=False, **size)
    for axes, which in zip(grid, sets, strict=False):
        _fidelity_and_control(axes[0], where(points, kind="row", set=which))
        axes[0].set_title(which)
        found = where(points, kind="weights", set=which)
        _weights(figure, axes[1], [each for each in found if "both" in each])
        axes[1].set_title(which)
    _drift_bars(grid[-1, 0], where(points, kind="drift"))
    guided = where(points, kind="guided")
    for k, model in enumerate(values(guided, "model")):
        for term, line in (("own", "-"), (BASE, "--")):
            own = where(guided, model=model, term=term)
            label = f"{_name(model)}, {term} unconditional term"
            curve(grid[-1, 1], own, "weight", "fd", color=f"C{k}", ls=line, label=label)
    grid[-1, 1].set(xlabel="guidance weight", ylabel="Fréchet distance to portraits")
    grid[-1, 1].set_title(values(guided, "set")[0])
    grid[-1, 1].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def _fidelity_and_control(axis: Any, rows: Sequence[Point]) -> None:
    """One circle a row, its area by how many numbers it has trained."""
    for k, row in enumerate(rows):
        if row["trains"] is None:
            mark = {"marker": "x", "s": 40}
        else:
            mark = {"s": 30 + 60 * np.log10(1 + row["trains"])}
        label = row["title"]
        axis.scatter(
            row["fd"], row["both"], alpha=0.6, color=f"C{k}", label=label, **mark
        )
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.set(
        xlabel="Fréchet distance to portraits (nearer to the right)",
        ylabel="shows the wish and someone of the set",
    )
    title = "area: logarithm of the numbers trained"
    legend = axis.legend(fontsize=7, title=title, title_fontsize=7)
    for handle in legend.legend_handles:
        handle.set_sizes([30])


def _weights(figure: Any, axis: Any, found: Sequence[Point]) -> None:
    rows, columns = values(found, "w1"), values(found, "w2")
    table = np.full((len(rows), len(columns)), np.nan)
    for each in found:
        table[rows.index(each["w1"]), columns.index(each["w2"])] = each["both"]
    shown = axis.imshow(table, cmap="viridis", vmin=0)
    axis.set_xticks(range(len(columns)), [f"{each:g}" for each in columns])
    axis.set_yticks(range(len(rows)), [f"{each:g}" for each in rows])
    axis.set(xlabel="weight of the control, w2", ylabel="weight of the concept, w1")
    figure.colorbar(shown, ax=axis, label="shows the wish and someone of the set")


def _drift_bars(axis: Any, found: Sequence[Point]) -> None:
    columns = {"fd_portraits": "to portraits", "fd_base": "to the base's, other seeds"}
    for k, (column, label) in enumerate(columns.items()):
        axis.bar(
            [i + 0.4 * k for i in range(len(found))],
            [each[column] for each in found],
            0.36,
            yerr=[each[f"{column}_error"] for each in found],
            capsize=3,
            label=label,
        )
    names = [_name(each["model"]) for each in found]
    axis.set_xticks([i + 0.2 for i in range(len(found))], names, rotation=15)
    axis.set(ylabel="Fréchet distance of pictures without a text")
    axis.set_title(values(found, "set")[0])
    axis.margins(y=0.3)
    axis.legend()


def _name(model: str) -> str:
    return model.removeprefix("emoji_").replace("_", " ")


if __name__ == "__main__":
    run(measure, draw)
