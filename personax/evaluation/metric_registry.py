"""Who says how good pictures are, and the columns that they fill."""

import functools
import sys
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from personax.concepts.bind import Model
from personax.evaluation import attention_metrics, drift_metrics, image_metrics
from personax.evaluation.results import Column, Measured
from personax.evaluation.samples import Answer, Judge
from personax.loading import Base

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
    # The classifier knows the class in other styles than the subjects' own: renders of
    # these score below the base's pictures.
    Column("class", "class", ""),
    Column("asked", "asked"),
    Column("same", "class as before"),
    Column("leak", "class like subject", "lower"),
    Column("kid", "KID", "lower", 4),
    Column("fid", "FID", "lower", 1),
    Column("fisher", "Fisher", "lower"),
    Column("fisher_score", "Fisher of scores", "lower"),
    Column("w2", "W2", ""),
    Column("drift", "drift rank", "lower", 0),
    Column("activation", "activation", ""),
    # The rate of change of a layer's weights, by its kind.
    Column("change_cross", "cross-attention moved", "", 4),
    Column("change_self", "self-attention moved", "", 4),
    Column("change_rest", "rest moved", "", 4),
    Column("numbers", "numbers", "lower", 0),
    Column("size", "bytes", "lower", 0),
    Column("seconds", "seconds", "lower", 0),
)


def make_judges(config: ConfigDict, base: Base, plain: Model) -> list[Judge]:
    """The judges that a config's `judges` name, their networks loaded.

    Where one's weights are not there, a line on stderr says which file is missing, and
    its columns stay empty. Raises ValueError for a judge that does not exist.
    """
    rounds = config.bootstrap
    makers: dict[str, Callable[[str], Judge]] = {
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
    unknown = config.judges.keys() - makers.keys()
    if unknown:
        raise ValueError(
            f"There is no judge {min(unknown)!r}; there are {', '.join(makers)}."
        )
    judges = [
        drift_metrics.wasserstein(rounds),
        drift_metrics.drift(plain),
        drift_metrics.change(plain),
        attention_metrics.activation(plain, rounds, config.seed),
    ]
    for name, make in makers.items():
        source = config.judges.get(name, "")
        try:
            judges += [make(source)] if source else []
        except FileNotFoundError as error:
            print(f"personax: no {name}: {error}", file=sys.stderr)
    return judges


def measure(judges: Sequence[Judge], answer: Answer) -> dict[str, Measured]:
    """{column: what the judges say}; a judge leaves out what it cannot tell."""
    found: dict[str, Measured] = {}
    for judge in judges:
        found |= judge(answer)
    return found
