"""What a method could draw at best: renders of the emoji world's own subjects."""

import numpy as np

from personax.data import emoji
from personax.data.emoji import Scene, Sprites
from personax.evaluation.draw import Drawn
from personax.evaluation.prompt_attributes import asked
from personax.evaluation.protocol import Question
from personax.evaluation.results import Shot


def renders(question: Question, sprites: Sprites, images: int, seed: int) -> Drawn:
    """As many renders of each prompt, where the prompts' words are the world's.

    A prompt that asks for another style gets the subject's class in that style, if a
    sprite of it exists; a place that is not said is any. Raises ValueError for a
    subject that is not bundled.
    """
    shots, pixels = [], []
    words = question.prompts(question.class_words)
    for i, template in enumerate(question.templates):
        for k in range(images):
            rng = np.random.default_rng((seed + i, k))
            scene = _scene(question, template, sprites, rng)
            pixels.append(emoji.render(rng, sprites, scene))
            shots.append(Shot(words[i], seed + i, k))
    return Drawn(tuple(shots), np.stack(pixels), None)


def _scene(
    question: Question, template: str, sprites: Sprites, rng: np.random.Generator
) -> Scene:
    subjects = [emoji.subject(each.name).sprite for each in question.subjects]
    wanted, name = asked(template), subjects[0][0]
    subject, other = subjects[0], None
    if (name, wanted.get("style")) in sprites:
        subject = (name, wanted["style"])
    if len(subjects) > 1:
        other = subjects[1]
    elif " next to a " in template:
        other = _named(template.partition(" next to a ")[2], sprites, rng)
    places = (*emoji.COLOURS, *emoji.SCENES)
    worn = wanted.get("accessory")
    return Scene(
        subject,
        wanted.get("place") or str(rng.choice(places)),
        accessory=_drawn(worn, sprites, rng) if worn else None,
        other=other,
        colour=wanted.get("tint"),
        distance=_distance(template) if other is None and not worn else None,
    )


def _named(words: str, sprites: Sprites, rng: np.random.Generator):
    """A sprite of the class that the words begin with, the longest that does."""
    known = sorted({name for name, _ in sprites}, key=len, reverse=True)
    for name in known:
        if f"{words} ".startswith(f"{emoji.class_word(name)} "):
            return _drawn(name, sprites, rng)
    raise ValueError(f"The emoji world draws no {words!r}.")


def _drawn(name: str, sprites: Sprites, rng: np.random.Generator):
    """The class in a style that the base's first version knew, where there is one."""
    styles = [style for style in emoji.BASE_STYLES if (name, style) in sprites]
    styles = styles or [style for own, style in sprites if own == name]
    return (name, str(rng.choice(styles)))


def _distance(template: str) -> str | None:
    for name, leads in emoji.DISTANCES.items():
        if any(template.startswith(lead) for lead in leads):
            return name
    return None
