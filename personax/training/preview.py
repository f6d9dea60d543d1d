"""Preview sheets of a run: training pictures, and samples before and after."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from personax.concepts.bind import Model
from personax.core import images
from personax.data.templates import without
from personax.diffusion.solvers import SOLVERS
from personax.diffusion.spec import Spec
from personax.loading import Base
from personax.methods import Concept
from personax.sampling import prompt_terms
from personax.sampling.img2img import whole_picture
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import make_sampler
from personax.training.config import PreviewConfig
from personax.training.sharding import fetch

_MAX_PICTURES = 8  # training pictures of a sheet

# (model, prompts) -> a row of pictures for each prompt.
Draw = Callable[[Model, Sequence[str]], list[list[images.Pixels]]]


class Caption(NamedTuple):
    """The prompt of one row of a sheet, and the model that draws it."""

    text: str
    trained: bool  # drawn by the trained model, or by the model before training


def captions(templates: Sequence[str], concepts: Sequence[Concept]) -> list[Caption]:
    """Each template with the class words, then with the concepts.

    "{}" is replaced by every concept in turn; templates without it are kept.

    >>> concept = Concept("<v1>", "dog", (), (), "<v1> dog")
    >>> [row.text for row in captions(["{} at night"], [concept])]
    ['dog at night', '<v1> dog at night']
    """
    rows = []
    for template in templates:
        for concept in concepts if "{}" in template else concepts[:1]:
            text = template.replace("{}", concept.phrase)
            plain = text
            for each in concepts:
                plain = without(plain, each.phrase, each.class_word)
            rows += [Caption(plain, False), Caption(text, True)]
    return list(dict.fromkeys(rows))  # concepts of one class share its row


def make_draw(
    base: Base,
    spec: Spec,
    size: tuple[int, int],
    config: PreviewConfig,
    seed: int,
    unconditional: Model | None = None,
) -> Draw:
    """A function that draws `images` pictures of each prompt by DDIM.

    Every call uses the same seeds, and one compiled program serves all prompts. The
    unconditional term is that of `unconditional`, by default of the drawn model. An
    inpainting model repaints the whole picture.
    """
    solver, vae = SOLVERS["ddim"], base.params["vae"]
    sampler = make_sampler(spec, vae, solver, config.steps, size)
    picture = whole_picture(vae, spec, size)
    key, indices = jax.random.key(seed), jnp.arange(config.images)

    def draw(model: Model, prompts: Sequence[str]) -> list[list[images.Pixels]]:
        models, rows = {"base": model}, []
        if unconditional is not None:
            models["unconditional"] = unconditional
        for prompt in prompts:
            terms = prompt_terms.to_terms(
                models, [TermSpec(prompt, config.guidance)], unconditional=[*models][-1]
            )
            rows.append(list(fetch(sampler.draw(models, terms, key, indices, picture))))
        return rows

    return draw


class Gallery(NamedTuple):
    """What the sheets of a run have in common."""

    draw: Draw
    captions: list[Caption]
    pictures: tuple[images.Pixels, ...]  # training pictures
    before: Mapping[str, list[images.Pixels]]  # samples before training, by prompt


def make_gallery(
    draw: Draw, rows: list[Caption], pictures: Sequence[images.Pixels], before: Model
) -> Gallery:
    """A gallery whose rows of the class are drawn by the model `before`."""
    texts = [row.text for row in rows if not row.trained]
    samples = dict(zip(texts, draw(before, texts), strict=True))
    return Gallery(draw, rows, tuple(pictures), samples)


def _labels(rows: Sequence[Caption]) -> list[str]:
    """The rows' texts, and which model drew it where two have the same.

    A method that trains no word draws the concept with the class word.
    """
    texts = [row.text for row in rows]
    drawn = {True: "trained", False: "before training"}
    return [
        row.text if texts.count(row.text) == 1 else f"{row.text} ({drawn[row.trained]})"
        for row in rows
    ]


def sheet(gallery: Gallery, model: Model, title: str) -> images.Pixels:
    """Training pictures, then each caption of the class and of the concepts.

    The class is drawn before training, the concepts by `model`.
    """
    texts = [row.text for row in gallery.captions if row.trained]
    after = dict(zip(texts, gallery.draw(model, texts), strict=True))
    labels = ["training pictures", *_labels(gallery.captions)]
    rows: list[Sequence[images.Pixels]] = [gallery.pictures[:_MAX_PICTURES]]
    for text, trained in gallery.captions:
        rows.append((after if trained else gallery.before)[text])
    columns = max(len(row) for row in rows)
    tiles = [x for row in rows for x in (*row, *[None] * (columns - len(row)))]
    return images.grid(tiles, columns=columns, row_labels=labels, title=title)
