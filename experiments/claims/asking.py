"""What a model draws of subjects, as the evaluation's judges take it."""

from collections.abc import Sequence

from personax.concepts.bind import Model
from personax.data.published import read_subjects
from personax.evaluation.draw import Draw
from personax.evaluation.protocol import EvalTask
from personax.evaluation.runner import to_generations
from personax.evaluation.samples import Generations
from personax.loading import Base


def question(names: Sequence[str], templates: Sequence[str]) -> EvalTask:
    """One bundled subject, asked for by "{}", or several, by "{0}", "{1}", ….

    Raises ValueError for a subject that is not bundled.
    """
    found = tuple(read_subjects("emoji", names).values())
    kind = found[0].kind if len(found) == 1 else "pair"
    return EvalTask("+".join(names), kind, found, tuple(templates))


def ask(
    base: Base,
    draw: Draw,
    model: Model,
    asked: EvalTask,
    words: Sequence[str],
    *,
    images: int,
    seed: int,
) -> Generations:
    """`images` pictures of each prompt, the i-th prompt's by the seed `seed` + i.

    `words` are what the model's prompts say for the subjects; what the answer is held
    against speaks of their classes.
    """
    prompts = asked.prompts(words)
    seeds = range(seed, seed + len(prompts))
    drawn = draw(model, list(zip(prompts, seeds, strict=True)), images)
    answer = to_generations(base, asked, drawn.pixels, images)
    return answer._replace(latents=drawn.latents, model=model)


def phrases(model: Model, asked: EvalTask) -> list[str]:
    """How prompts speak of the subjects: as the concepts say, or by class."""
    if model.concepts:
        return [concept.phrase for concept in model.concepts]
    return asked.class_words
