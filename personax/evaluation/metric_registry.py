"""The metrics of an evaluation, and the columns that they fill."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

from personax.concepts.bind import Model
from personax.core.errors import notice
from personax.evaluation import attention_metrics, drift_metrics, image_metrics
from personax.evaluation.config import EvalConfig
from personax.evaluation.results import Column, Measurement
from personax.evaluation.samples import Generations, Metric
from personax.loading import Base
from personax.metrics.features import UndefinedError

COLUMNS = (
    Column("clip_i", "CLIP-I"),
    Column("dino_i", "DINO-I"),
    Column("clip_t", "CLIP-T"),
    Column("clip_score", "CLIPScore"),
    # ClassDiffusion's release calls it BLIP2-T.
    Column("blip_itc", "BLIP ITC"),
    Column("blip_itm", "BLIP ITM"),
    Column("blip2_itc", "BLIP-2 ITC"),
    Column("tifa", "TIFA"),
    # Unranked: renders of a subject in its own style may score below the base.
    Column("class", "class accuracy", ""),
    Column("asked", "prompt-attribute accuracy"),
    Column("same", "prior similarity"),
    Column("leak", "class leakage", "lower"),
    Column("kid", "KID", "lower", 4),
    Column("fid", "FID", "lower", 1),
    Column("fisher", "Fisher", "lower"),
    Column("fisher_score", "Fisher of scores", "lower"),
    Column("w2", "W2", ""),
    Column("drift", "drift rank", "lower", 0),
    Column("activation", "activation", ""),
    # Rates of change of the weights.
    Column("change_cross", "cross-attention change", "", 4),
    Column("change_self", "self-attention change", "", 4),
    Column("change_rest", "other weights change", "", 4),
    Column("numbers", "parameters", "lower", 0),
    Column("size", "size", "lower", 0),
    Column("seconds", "seconds", "lower", 0),
)


def check_columns(keys: Sequence[str]) -> None:
    """Raise ValueError for a key without a column."""
    known = [column.key for column in COLUMNS]
    for key in keys:
        if key not in known:
            raise ValueError(
                f"Unknown column {key!r} in report.printed; expected one of "
                f"{', '.join(known)}."
            )


def make_metrics(config: EvalConfig, base: Base, plain: Model) -> list[Metric]:
    """The metrics of a config's `judges`, with their networks, and those without any.

    A metric whose weights are missing is skipped with a line on stderr that names the
    file. Raises ValueError for an unknown metric.
    """
    rounds = config.bootstrap
    makers: Mapping[str, Callable[[str], Metric]] = {
        "clip": functools.partial(image_metrics.clip, rounds=rounds),
        "dino": functools.partial(image_metrics.dino, rounds=rounds),
        "blip": functools.partial(image_metrics.blip, rounds=rounds),
        "blip2": functools.partial(image_metrics.blip2, rounds=rounds),
        "inception": lambda file: image_metrics.inception(file, config.real),
        "tifa": lambda file: image_metrics.tifa(file, config.vqa, rounds),
        "classifier": functools.partial(image_metrics.classifier, rounds=rounds),
        "captions": lambda source: drift_metrics.fisher(
            source, base, plain, rounds, config.seed
        ),
    }
    for name in config.metrics:
        if name not in makers:
            raise ValueError(
                f"Unknown metric judges.{name}; expected one of {', '.join(makers)}."
            )
    metrics = [
        drift_metrics.wasserstein(rounds),
        drift_metrics.drift(plain),
        drift_metrics.change(plain),
        attention_metrics.activation(plain, rounds, config.seed),
    ]
    for name, make in makers.items():
        if name not in config.metrics:
            continue
        try:
            metrics.append(make(config.metrics[name]))
        except FileNotFoundError as error:
            notice(f"skipping metric {name}: {error}")
    return metrics


def score(
    metrics: Sequence[Metric], generations: Generations, name: str = "These pictures"
) -> dict[str, Measurement]:
    """{column key: measurement} of all metrics that apply to the generations.

    A metric that is undefined for them, or not finite, has no measurement: that is said
    in a line on stderr, which begins with `name`.
    """
    measurements: dict[str, Measurement] = {}
    for metric in metrics:
        try:
            measurements |= metric(generations)
        except UndefinedError as error:
            notice(f"{name}: a metric is left out. {error}")
    for key, own in list(measurements.items()):
        if not math.isfinite(own.value):
            notice(f"{name}: {key} is {own.value}, which is left out.")
            del measurements[key]
        elif own.error is not None and not math.isfinite(own.error):
            measurements[key] = own._replace(error=None)
    return measurements
