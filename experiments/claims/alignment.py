"""What the embedded judges say of a model's pictures of one bundled subject."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from experiments.claims.asking import ask, phrases, question
from experiments.claims.claim import Point
from personax.concepts.bind import Model
from personax.core.images import Pixels
from personax.evaluation import image_metrics
from personax.evaluation.config import DrawConfig
from personax.evaluation.draw import make_draw
from personax.evaluation.samples import Generations
from personax.loading import Base

# `(model, subject, bare=False) -> {judge's column: value, …_error: standard error}`
Align = Callable[..., Point]


def make_align(config: ConfigDict, base: Base, plain: Model) -> Align:
    """A function that draws a subject by a model, and scores it.

    "clip_i" is the mean cosine with the subject's pictures and "clip_t" that with the
    prompt, the subject's own class word in the concept's place; "asked" the share of
    pictures that show what their prompt asks beside the subject. With `bare`, of the
    class alone: "same", the cosine with what the base draws from that prompt and seed,
    and "leak", how much more than the base's it is like the subject. Errors are
    bootstraps over prompts. `config` has the keys of configs/claims/pictures.py. A
    model without a concept is asked for the class.
    """
    draw = make_draw(base, DrawConfig(**config.draw))
    judges = [
        image_metrics.clip("emoji", config.bootstrap),
        image_metrics.classifier("emoji", config.bootstrap),
    ]
    before: dict[str, tuple[Pixels, ...]] = {}

    def answer(model: Model, subject: str, *, bare: bool = False) -> Generations:
        posed = question([subject], config.prompts)
        words = posed.class_words if bare else phrases(model, posed)
        return ask(
            base, draw, model, posed, words, images=config.images, seed=config.seed
        )

    def align(model: Model, subject: str, bare: bool = False) -> Point:
        found = answer(model, subject)
        if bare:
            if subject not in before:
                before[subject] = answer(plain, subject, bare=True).pixels
            after = answer(model, subject, bare=True).pixels
            found = found._replace(bare=after, bare_before=before[subject])
        point: Point = {}
        for judge in judges:
            for name, value in judge(found).items():
                point |= {name: value.value, f"{name}_error": value.error}
        return point

    return align


def asked(config: ConfigDict) -> dict[str, Any]:
    """What a score depends on beside the model: the part of a kept point's key."""
    names = ("prompts", "images", "seed", "bootstrap")
    return {**{name: config[name] for name in names}, "draw": config.draw.to_dict()}
