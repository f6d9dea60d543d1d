"""Pictures of bundled subjects and their metrics, as an evaluation computes them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.claims.claim import Point, SavedPoints
from personax.concepts.bind import Model, from_base, with_concepts
from personax.data.published import read_subjects
from personax.evaluation import image_metrics
from personax.evaluation.config import DrawConfig
from personax.evaluation.draw import Draw, make_draw
from personax.evaluation.drift_metrics import phrase_features
from personax.evaluation.protocol import EvalTask
from personax.evaluation.results import Measurement
from personax.evaluation.runner import to_generations
from personax.evaluation.samples import Generations, Metric
from personax.loading import Base, load_base
from personax.metrics import drift


class Setup(NamedTuple):
    """The base, a batched sampler and the CLIP metrics of a claim's config."""

    config: ConfigDict
    base: Base
    plain: Model  # the base without concepts
    draw: Draw
    clip: Metric
    trained: pathlib.Path  # folder of trainings

    @property
    def key(self) -> list[Any]:
        """Everything that a score depends on beside the model and the subject."""
        names = ("prompts", "images", "seed", "bootstrap")
        sampling = {name: self.config[name] for name in names if name in self.config}
        return [self.base.fingerprint, self.config.draw.to_dict(), sampling]

    def bind(self, *sources: str | pathlib.Path) -> Model:
        """The base with the concepts in these folders."""
        return with_concepts(self.plain, self.base, list(map(str, sources)))

    def generate(
        self,
        model: Model,
        task: EvalTask,
        words: Sequence[str] | None = None,
        seed: int | None = None,
    ) -> Generations:
        """`images` pictures of each prompt, the i-th prompt's from the seed `seed` + i.

        `words` stand for the subjects in the prompts, by default the model's phrases.
        """
        prompts = task.prompts(words or phrases(model, task))
        first = self.config.seed if seed is None else seed
        seeds = range(first, first + len(prompts))
        drawn = self.draw(
            model, list(zip(prompts, seeds, strict=True)), self.config.images
        )
        generations = to_generations(self.base, task, drawn.pixels, self.config.images)
        return generations._replace(latents=drawn.latents, model=model)


def make_setup(config: ConfigDict, saved: SavedPoints) -> Setup:
    """The setup of a config with the keys of configs/claims/pictures.py."""
    base = load_base("emoji")
    return Setup(
        config,
        base,
        from_base(base),
        make_draw(base, DrawConfig(**config.draw)),
        image_metrics.clip("emoji", config.bootstrap),
        saved.out / "taught",
    )


def task(names: Sequence[str], templates: Sequence[str]) -> EvalTask:
    """One bundled subject, {} in the prompts, or several, {0}, {1}, ….

    Raises ValueError for a subject that is not bundled.
    """
    subjects = tuple(read_subjects("emoji", names).values())
    kind = subjects[0].kind if len(subjects) == 1 else "pair"
    return EvalTask("+".join(names), kind, subjects, tuple(templates))


def phrases(model: Model, task: EvalTask) -> list[str]:
    """The subjects in a model's prompts: its concepts' phrases, or the class words."""
    if model.concepts:
        return [concept.phrase for concept in model.concepts]
    return task.class_words


def to_point(metrics: Mapping[str, Measurement]) -> Point:
    """{name: value, name_error: standard error} of an evaluation's metrics."""
    point: Point = {}
    for name, measured in metrics.items():
        point |= {name: measured.value, f"{name}_error": measured.error}
    return point


def phrase_drift(plain: Model, model: Model, seeds: Sequence[int] = ()) -> Point:
    """{cosine_distance, rank_cosine, rank_tsne, among} of "a <v1> dog" from "a dog".

    Ranks are among the 71 adjectives of Huang et al. 2024 (app. D), 1 the nearest.
    `rank_tsne` is the mean over t-SNE `seeds`, omitted without any.
    """
    features = _, special, bare = phrase_features(plain, model)
    cosine = special @ bare / np.linalg.norm(special) / np.linalg.norm(bare)
    rank = drift.rank_by_cosine(*features)
    point = {
        "cosine_distance": float(1 - cosine),
        "rank_cosine": rank.rank,
        "among": rank.among,
    }
    if seeds:
        point["rank_tsne"] = drift.rank_by_tsne(*features, seeds=seeds).rank
    return point
