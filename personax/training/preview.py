"""The sheets that a run shows of itself: its pictures, the class, the concept."""

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
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import make_sampler
from personax.training.sharding import fetch

_MOST = 8  # training pictures shown

# (model, prompts) to a row of pictures for each prompt.
Paint = Callable[[Model, Sequence[str]], list[list[images.Pixels]]]


class Caption(NamedTuple):
    """What one row of a sheet says, and which model draws it."""

    text: str
    taught: bool  # by the model that knows the concepts, or by the one before


def captions(templates: Sequence[str], concepts: Sequence[Concept]) -> list[Caption]:
    """Each template with the class words, then with the concepts.

    One with "{}" speaks of every concept in turn; others stand as they are.

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
    return list(dict.fromkeys(rows))  # two concepts of one class share its row


def make_paint(
    base: Base,
    spec: Spec,
    size: tuple[int, int],
    *,
    count: int,
    steps: int,
    guidance: float,
    seed: int,
    unconditional: Model | None = None,
) -> Paint:
    """A function that draws `count` pictures of each prompt by DDIM, of that size.

    It draws the same seeds every time, by one compiled program for all prompts. The
    unconditional term is the painted model's own, or another's.
    """
    sampler = make_sampler(spec, base.params["vae"], SOLVERS["ddim"], steps, size)
    key, indices = jax.random.key(seed), jnp.arange(count)

    def paint(model: Model, wanted: Sequence[str]) -> list[list[images.Pixels]]:
        rows = []
        for prompt in wanted:
            models = {"base": model}
            if unconditional is not None:
                models["unconditional"] = unconditional
            terms = prompt_terms.to_terms(
                models, [TermSpec(prompt, guidance)], unconditional=[*models][-1]
            )
            rows.append(list(fetch(sampler.draw(models, terms, key, indices))))
        return rows

    return paint


class Gallery(NamedTuple):
    """What the sheets of a run have in common."""

    paint: Paint
    captions: list[Caption]
    pictures: tuple[images.Pixels, ...]  # what it is trained on
    before: Mapping[str, list[images.Pixels]]  # the class, as the run found it


def make_gallery(
    paint: Paint,
    rows: list[Caption],
    pictures: Sequence[images.Pixels],
    before: Model,
) -> Gallery:
    """A gallery whose rows without the concepts are drawn by `before`."""
    texts = [row.text for row in rows if not row.taught]
    drawn = dict(zip(texts, paint(before, texts), strict=True))
    return Gallery(paint, rows, tuple(pictures), drawn)


def sheet(gallery: Gallery, model: Model, title: str) -> images.Pixels:
    """The training pictures, then each caption without the concepts and with them."""
    texts = [row.text for row in gallery.captions if row.taught]
    after = dict(zip(texts, gallery.paint(model, texts), strict=True))
    rows = [("training pictures", gallery.pictures[:_MOST])]
    for text, taught in gallery.captions:
        rows.append((text, (after if taught else gallery.before)[text]))
    columns = max(len(row) for _, row in rows)
    tiles: list[images.Pixels | None] = []
    for _, row in rows:
        tiles += [*row, *[None] * (columns - len(row))]
    labels = [label for label, _ in rows]
    return images.grid(tiles, columns=columns, row_labels=labels, title=title)
