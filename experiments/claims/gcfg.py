"""Fidelity against control, and rectification by the base's unconditional term.

    python -m experiments.claims.gcfg \
        --config configs/claims/gcfg.py --out runs/claims/gcfg

Cao et al. 2023, sec. 5, fig. 8, 9 and 10; see the config for claim and protocol.
"""

import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks import attributes, portrait_runs
from benchmarks.batch_sampling import BatchTerm, make_drawer
from experiments.claims.claim import Point, SavedPoints, run
from experiments.claims.plots import curve, distinct, heat_map, panels, where
from personax.concepts.bind import Model, from_base
from personax.data import emoji
from personax.loading import load_base, load_clip
from personax.metrics import clip
from personax.metrics.bootstrap import standard_error
from personax.metrics.features import Features
from personax.metrics.frechet import frechet

_SAMPLED, _OTHERS, _REAL = 1, 2, 100  # seeds
BASE = "base"
_BOTH = "shows the attribute and a member of the set"


def measure(config: ConfigDict, saved: SavedPoints) -> list[Point]:
    """A run's rows and weights, then drift and rectification of ordinary models."""
    rows = list(_rows(config)) if config.run else []
    return rows + list(_drift_and_rectification(config, saved))


def _rows(config: ConfigDict) -> Iterator[Point]:
    """The results of `benchmarks.concept_centric` in the folder `config.run`."""
    folder = pathlib.Path(config.run)
    files = sorted(folder.glob("*/*/row.json"))
    if not files:
        raise FileNotFoundError(
            f"{folder} has no SET/ROW/row.json; benchmarks.concept_centric --out "
            "writes them."
        )
    for path in files:
        about, row = {"set": path.parts[-3]}, json.loads(path.read_text())
        names = ("row", "title", "trains", "fd", "fd_asked")
        own = {name: row.get(name) for name in names}
        yield {"kind": "row", **about, **own, **row["all"]}
        if row["row"] == "null_text":
            for (w1, w2), both in row["searched"]["asked"]:
                yield {"kind": "weights", **about, "w1": w1, "w2": w2, "both": both}
            for (w1,), fd in row["searched"]["plain"]:
                yield {"kind": "weights", **about, "w1": w1, "w2": 0.0, "fd": fd}


def _drift_and_rectification(config: ConfigDict, saved: SavedPoints) -> Iterator[Point]:
    """Fréchet distances of pictures without a text, then of guided pictures.

    Drift is to portraits and to the base's pictures from other seeds, so that the
    base's own distance is that of two such sets. Rectification samples the concept's
    text at each weight over both models' unconditional terms.
    """
    base, network = load_base("emoji"), load_clip()
    plain = from_base(base)
    drawer = make_drawer(base, steps=config.steps, batch=min(50, config.count))
    names = ("set", "count", "steps", "train_steps", "trained", "bootstrap")
    key = ["gcfg", base.fingerprint, *(config[name] for name in names)]

    def model(name: str) -> Model:
        own = saved.out / f"taught_{config.train_steps}"
        trained = pathlib.Path(config.trained) if config.trained else own
        steps = config.train_steps
        return portrait_runs.model(base, name, config.set, trained, steps)

    def features(models: dict[str, Model], ask: BatchTerm, seed: int) -> Features:
        pixels = drawer(models, [ask], config.count, seed)
        return clip.of_images(network, pixels, unit=False)

    @functools.cache
    def real() -> Features:
        sprites = emoji.load_sprites()
        pixels = attributes.renders(sprites, config.set, config.count, _REAL)
        return clip.of_images(network, pixels, unit=False)

    @functools.cache
    def of_base() -> Features:
        return features({"own": plain}, BatchTerm("", 1.0, "own"), _OTHERS)

    def distance(one: Features, other: Features, name: str) -> Point:
        """The Fréchet distance, and its error over pictures of `one`."""
        rounds = config.bootstrap
        error = standard_error(one, lambda rows: frechet(rows, other), rounds=rounds)
        return {name: frechet(one, other), f"{name}_error": error}

    def drift(name: str) -> Point:
        own = {"own": plain if name == BASE else model(name)}
        pictures = features(own, BatchTerm("", 1.0, "own"), _SAMPLED)
        to_portraits = distance(pictures, real(), "fd_portraits")
        return to_portraits | distance(pictures, of_base(), "fd_base")

    def guided(name: str, unconditional: str, weight: float) -> Point:
        own = model(name)
        models = {"concept": own} | ({BASE: plain} if unconditional == BASE else {})
        ask = BatchTerm(f"a photo of a {own.concepts[0].phrase}", weight, "concept")
        return distance(features(models, ask, _SAMPLED), real(), "fd")

    about = {"set": config.set}
    for name in (BASE, *config.models):
        point = saved([*key, "drift", name], drift, name)
        yield {"kind": "drift", **about, "model": name, **point}
    for name in config.models:
        for weight in config.weights:
            for term in ("own", BASE):
                # At weight 1 the unconditional term has weight 0.
                used = "own" if weight == 1 else term
                mark = [*key, "guided", name, used, weight]
                point = saved(mark, guided, name, used, weight)
                own = {"model": name, "weight": weight, "term": term}
                yield {"kind": "guided", **about, **own, **point}


def draw(points: Sequence[Point], path: pathlib.Path) -> None:
    """Drift and rectification; above them the run's fidelity and control."""
    sets = distinct(where(points, kind="row"), "set")
    with panels(path, len(sets) + 1, 2, (11, 4.2 * (len(sets) + 1))) as grid:
        for axes, name in zip(grid, sets, strict=False):
            _fidelity_and_control(axes[0], where(points, kind="row", set=name))
            weights = where(points, kind="weights", set=name)
            weights = [point for point in weights if "both" in point]
            heat_map(axes[1], weights, "w2", "w1", "both", _BOTH)
            labels = {"xlabel": "weight of the control, w2"}
            axes[1].set(ylabel="weight of the concept, w1", **labels)
            for axis in axes:
                axis.set_title(name)
        drift, guided = where(points, kind="drift"), where(points, kind="guided")
        _drift_bars(grid[-1, 0], drift)
        axis = grid[-1, 1]
        for k, model in enumerate(distinct(guided, "model")):
            for term, line in (("own", "-"), (BASE, "--")):
                own = where(guided, model=model, term=term)
                label = f"{_name(model)}, {term} unconditional term"
                curve(axis, own, "weight", "fd", color=f"C{k}", ls=line, label=label)
        axis.set(xlabel="guidance weight", ylabel="Fréchet distance to portraits")
        axis.legend(fontsize=8)
        for axis in grid[-1]:
            axis.set_title(drift[0]["set"])


def _fidelity_and_control(axis: Any, rows: Sequence[Point]) -> None:
    """One circle per row; its area grows with the number of trained parameters."""
    for k, row in enumerate(rows):
        style = {"color": f"C{k}", "alpha": 0.6, "label": row["title"]}
        if row["trains"] is None:
            style |= {"marker": "x", "s": 40}
        else:
            style |= {"s": 30 + 60 * np.log10(1 + row["trains"])}
        axis.scatter(row["fd"], row["both"], **style)
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.set(xlabel="Fréchet distance to portraits (reversed)", ylabel=_BOTH)
    title = "area: logarithm of the trained parameters"
    legend = axis.legend(fontsize=7, title=title, title_fontsize=7)
    for handle in legend.legend_handles:
        handle.set_sizes([30])


def _drift_bars(axis: Any, points: Sequence[Point]) -> None:
    columns = {"fd_portraits": "to portraits", "fd_base": "to the base's, other seeds"}
    for k, (column, label) in enumerate(columns.items()):
        axis.bar(
            [i + 0.4 * k for i in range(len(points))],
            [point[column] for point in points],
            0.36,
            yerr=[point[f"{column}_error"] for point in points],
            capsize=3,
            label=label,
        )
    names = [_name(point["model"]) for point in points]
    axis.set_xticks([i + 0.2 for i in range(len(points))], names, rotation=15)
    axis.set(ylabel="Fréchet distance of pictures without a text")
    axis.margins(y=0.3)
    axis.legend()


def _name(model: str) -> str:
    return model.removeprefix("emoji_").replace("_", " ")


if __name__ == "__main__":
    run(measure, draw)
