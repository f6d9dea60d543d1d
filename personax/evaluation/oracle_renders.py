"""Upper bound of the embedded world: renders of the subjects themselves."""

import numpy as np

from personax.evaluation.draw import Drawn
from personax.evaluation.protocol import EvalTask
from personax.evaluation.results import Sample
from personax.loading import embedded_world


def renders(task: EvalTask, images: int, seed: int) -> Drawn:
    """`images` renders of each prompt, with the seeds that models are sampled with.

    Raises ValueError for a subject that is not bundled.
    """
    samples, pixels = [], []
    names = [subject.name for subject in task.subjects]
    texts = task.prompts(task.class_words)
    for i, (template, text) in enumerate(zip(task.templates, texts, strict=True)):
        for k in range(images):
            rng = np.random.default_rng((seed + i, k))
            pixels.append(embedded_world.render_prompt(template, names, rng))
            samples.append(Sample(text, seed + i, k))
    return Drawn(tuple(samples), np.stack(pixels), None)
