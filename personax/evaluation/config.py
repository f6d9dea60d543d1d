"""The typed config of an evaluation; see configs/evaluate/common.py for every key."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from personax.diffusion.solvers import SOLVERS

WAYS = ("joint", "merge", "add")
# Reference rows without training: the lower and the upper bound.
BASE, RENDERS = "base", "renders"


@dataclasses.dataclass(frozen=True)
class SubjectsConfig:
    """Which subjects are evaluated."""

    source: str
    names: tuple[str, ...] = ()  # all if empty


@dataclasses.dataclass(frozen=True)
class PromptsConfig:
    """Templates by kind of subject; the set's own where empty."""

    live: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    pair: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DrawConfig:
    """Sampler settings. Raises ValueError for values out of range."""

    solver: str = "ddim"
    steps: int = 25
    guidance: float = 3.0
    eta: float = 0.0  # DDIM's
    batch: int = 8  # pictures

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(
                f"Unknown draw.solver {self.solver!r}; expected one of "
                f"{', '.join(SOLVERS)}."
            )
        if self.eta and self.solver != "ddim":
            raise ValueError(f"draw.eta requires solver ddim, not {self.solver}.")
        _check_range("draw.eta", self.eta, 0, 1)
        _check_range("draw.steps", self.steps, 1)
        _check_range("draw.batch", self.batch, 1)


@dataclasses.dataclass(frozen=True)
class Row:
    """A training config to evaluate, and how its model is sampled."""

    config: str  # a Python file
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    together: int | None = None  # subjects per training program; default: the config's
    terms: tuple[str, ...] = ()  # guidance terms; default: the prompt alone


@dataclasses.dataclass(frozen=True)
class PairRow:
    """How the concepts of a row are combined for pairs of subjects."""

    of: str
    way: str


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What the report and the LaTeX table show."""

    title: str | None = None
    images: int = 4  # of each prompt
    lossless: bool = True
    printed: tuple[str, ...] = ()  # columns of table.tex, all if empty

    def __post_init__(self) -> None:
        _check_range("report.images", self.images, 1)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """An evaluation's config. Raises ValueError for values out of range."""

    base: str
    subjects: SubjectsConfig
    rows: Mapping[str, Row]
    loading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    singles: bool = True
    pairs: tuple[tuple[str, str], ...] = ()  # the set's own if empty
    pair_rows: Mapping[str, PairRow] = dataclasses.field(default_factory=dict)
    prompts: PromptsConfig = PromptsConfig()
    images: int = 4  # of each prompt
    seed: int = 0
    draw: DrawConfig = DrawConfig()
    together: int = 4  # subjects per training program
    metrics: Mapping[str, str] = dataclasses.field(default_factory=dict)
    real: str | None = None
    vqa: str | None = None
    merge_captions: str | None = None
    bootstrap: int = 200
    report: ReportConfig = ReportConfig()

    def __post_init__(self) -> None:
        for key, least in {"images": 1, "together": 1, "bootstrap": 2}.items():
            _check_range(key, getattr(self, key), least)
        for name in (BASE, RENDERS):
            if name in self.rows or name in self.pair_rows:
                raise ValueError(f"The row name {name} is reserved.")
        for name, row in self.pair_rows.items():
            self._check_pair_row(name, row)

    def _check_pair_row(self, name: str, row: PairRow) -> None:
        if row.of not in self.rows:
            raise ValueError(
                f"pair_rows.{name}.of is {row.of!r}; expected one of the rows "
                f"{', '.join(self.rows)}."
            )
        if self.rows[row.of].terms:
            raise ValueError(
                f"pair_rows.{name}.of is {row.of}, whose terms are for one subject."
            )
        if row.way not in WAYS:
            raise ValueError(
                f"Unknown pair_rows.{name}.way {row.way!r}; expected one of "
                f"{', '.join(WAYS)}."
            )


def _check_range(
    key: str, value: float, least: float, most: float | None = None
) -> None:
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"in [{least}, {most}]"
        raise ValueError(f"{key}={value} must be {bounds}.")


def read_config(config: ConfigDict) -> EvalConfig:
    """The typed form of a config file, with None for unset values.

    Raises ValueError for values out of range and for unknown keys.
    """
    return EvalConfig(
        base=config.base,
        loading=_set(config.loading),
        subjects=SubjectsConfig(config.subjects.source, tuple(config.subjects.names)),
        singles=config.singles,
        pairs=tuple(tuple(pair) for pair in config.pairs),
        prompts=PromptsConfig(
            **{kind: tuple(own) for kind, own in config.prompts.items()}
        ),
        images=config.images,
        seed=config.seed,
        draw=DrawConfig(**config.draw.to_dict()),
        rows={name: _row(name, row) for name, row in config.rows.items()},
        pair_rows={name: PairRow(**row) for name, row in config.pair_rows.items()},
        together=config.together,
        metrics=_set(config.judges),
        real=config.real or None,
        vqa=config.vqa or None,
        merge_captions=config.merge_captions or None,
        bootstrap=config.bootstrap,
        report=ReportConfig(
            config.report.title or None,
            config.report.images,
            config.report.lossless,
            tuple(config.report.printed),
        ),
    )


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _row(name: str, row: ConfigDict) -> Row:
    keys = [field.name for field in dataclasses.fields(Row)]
    for key in row:
        if key not in keys:
            raise ValueError(
                f"Unknown key rows.{name}.{key}; expected one of {', '.join(keys)}."
            )
    return Row(
        row.config,
        row.get("changes", ConfigDict()).to_dict(),
        row.get("together"),
        tuple(row.get("terms", ())),
    )
