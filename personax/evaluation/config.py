"""The typed config of an evaluation; configs/evaluate/common.py documents its keys."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from personax.core.config import LARGEST_SEED, option, parse
from personax.diffusion.solvers import SOLVERS

WAYS = ("joint", "merge", "add")
# Reference rows without training: the lower and the upper bound.
BASE, RENDERS = "base", "renders"


@dataclasses.dataclass(frozen=True)
class SubjectsConfig:
    """The evaluated subjects; see `data.published.read_subjects`."""

    source: str
    names: tuple[str, ...] = ()  # all if empty


@dataclasses.dataclass(frozen=True)
class PromptsConfig:
    """Templates by kind of subject, the set's own where empty."""

    live: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    pair: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DrawConfig:
    """Sampler settings."""

    solver: str = option("ddim", choices=tuple(SOLVERS))
    steps: int = option(25, least=1, most=1000)
    guidance: float = 3.0
    eta: float = option(0.0, least=0, most=1)  # DDIM's
    batch: int = option(8, least=1, most=10_000)  # pictures

    def __post_init__(self) -> None:
        if self.eta and self.solver != "ddim":
            raise ValueError(f"draw.eta requires solver ddim, not {self.solver}.")


@dataclasses.dataclass(frozen=True)
class RowConfig:
    """A method: its training config, and how its models are sampled."""

    config: str  # a Python file
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # Default: EvalConfig.together.
    together: int | None = option(None, least=1, most=1000)
    terms: tuple[str, ...] = ()  # guidance terms; default: the prompt alone


@dataclasses.dataclass(frozen=True)
class PairRowConfig:
    """How the concepts of a row are combined for pairs of subjects."""

    of: str
    way: str = option(choices=WAYS)


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What the report and the LaTeX table show."""

    title: str | None = None
    images: int = option(4, least=1)  # of each prompt
    lossless: bool = True
    printed: tuple[str, ...] = ()  # columns of table.tex, all if empty


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """An evaluation. Raises ValueError for rows that do not fit each other."""

    base: str
    subjects: SubjectsConfig
    rows: Mapping[str, RowConfig]
    loading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    singles: bool = True
    pairs: tuple[tuple[str, str], ...] = ()  # the set's own if empty
    pair_rows: Mapping[str, PairRowConfig] = dataclasses.field(default_factory=dict)
    prompts: PromptsConfig = PromptsConfig()
    images: int = option(4, least=1, most=10_000)  # of each prompt
    seed: int = option(0, least=0, most=LARGEST_SEED)
    draw: DrawConfig = DrawConfig()
    together: int = option(4, least=1, most=1000)  # subjects trained by one program
    judges: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    real: str | None = None
    vqa: str | None = None
    merge_captions: str | None = None
    bootstrap: int = option(200, least=2, most=100_000)
    report: ReportConfig = ReportConfig()

    def __post_init__(self) -> None:
        for name in (BASE, RENDERS):
            if name in self.rows or name in self.pair_rows:
                raise ValueError(f"The row name {name} is reserved.")
        for name, pair in self.pair_rows.items():
            if pair.of not in self.rows:
                raise ValueError(
                    f"pair_rows.{name}.of={pair.of!r}: expected one of "
                    f"{', '.join(self.rows)}."
                )
            if self.rows[pair.of].terms:
                raise ValueError(
                    f"pair_rows.{name}.of={pair.of!r}: the row has terms, which apply "
                    f"to single subjects only."
                )

    @property
    def metrics(self) -> dict[str, str]:
        """{metric: the source of its network or data} of those that are set."""
        return {name: source for name, source in self.judges.items() if source}


def read_config(config: ConfigDict) -> EvalConfig:
    """A config file's typed form. Raises ValueError for invalid keys and values."""
    for key in ("loading", "rows", "pair_rows"):
        if not isinstance(config.get(key), ConfigDict):
            raise ValueError(f"The config of an evaluation needs the mapping '{key}'.")
    values = config.to_dict()
    values["loading"] = {name: own for name, own in config.loading.items() if own}
    for key in ("rows", "pair_rows"):  # in the file's order, which to_dict() sorts
        values[key] = {name: row.to_dict() for name, row in config[key].items()}
    return parse(EvalConfig, values)
