"""The judges that look at pictures: CLIP, DINO, BLIP, a classifier and a VQA model."""

import importlib
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from personax.core.images import read_images
from personax.data.emoji import class_word
from personax.evaluation.prompt_attributes import asked
from personax.evaluation.results import Measured
from personax.evaluation.samples import Answer, Judge, measured
from personax.loading import Clip, load_clip
from personax.loading.blip import load_blip
from personax.loading.blip2 import load_blip2
from personax.loading.dino import load_dino
from personax.loading.inception import load_inception
from personax.metrics import blip as see_blip
from personax.metrics import blip2 as see_blip2
from personax.metrics import clip as see_clip
from personax.metrics import dino as see_dino
from personax.metrics import inception as see_inception
from personax.metrics.alignment import (
    clip_score,
    mean_over_targets,
    text_cosines,
)
from personax.metrics.attributes import attribute_ratio
from personax.metrics.classifier import classify, load_classifier
from personax.metrics.features import Features
from personax.metrics.frechet import frechet
from personax.metrics.kernel import kid
from personax.metrics.tifa import Answer as Vqa
from personax.metrics.tifa import read_questions
from personax.metrics.tifa import tifa as ask


def clip(folder: str, rounds: int) -> Judge:
    eye = load_clip(None if folder == "emoji" else folder)

    def judge(answer: Answer) -> dict[str, Measured]:
        pictures, texts = see_clip.of_images(eye, answer.pixels), answer.texts
        words = _of_texts(eye, texts)
        targets = [see_clip.of_images(eye, each) for each in answer.targets]
        found = {
            "clip_i": mean_over_targets(pictures, targets),
            "clip_t": text_cosines(pictures, words),
            "clip_score": clip_score(pictures, words),
        }
        said = measured(found, texts, rounds)
        if answer.bare:
            after = see_clip.of_images(eye, answer.bare)
            before = see_clip.of_images(eye, answer.bare_before)
            near = [mean_over_targets(x, targets) for x in (after, before)]
            forgotten = {"same": text_cosines(after, before), "leak": near[0] - near[1]}
            said |= measured(forgotten, range(len(after)), rounds)
        return said

    return judge


def dino(folder: str, rounds: int) -> Judge:
    eye = load_dino(folder)

    def judge(answer: Answer) -> dict[str, Measured]:
        pictures = see_dino.of_images(eye, answer.pixels)
        targets = [see_dino.of_images(eye, each) for each in answer.targets]
        found = {"dino_i": mean_over_targets(pictures, targets)}
        return measured(found, answer.texts, rounds)

    return judge


def blip(folder: str, rounds: int) -> Judge:
    eye = load_blip(folder)

    def judge(answer: Answer) -> dict[str, Measured]:
        found = {
            "blip_itc": see_blip.itc(eye, answer.pixels, answer.texts),
            "blip_itm": see_blip.itm(eye, answer.pixels, answer.texts),
        }
        return measured(found, answer.texts, rounds)

    return judge


def blip2(folder: str, rounds: int) -> Judge:
    eye = load_blip2(folder)

    def judge(answer: Answer) -> dict[str, Measured]:
        found = {"blip2_itc": see_blip2.itc(eye, answer.pixels, answer.texts)}
        return measured(found, answer.texts, rounds)

    return judge


def inception(file: str, real: str) -> Judge:
    """KID and FID of the class without the concept, against real pictures of it.

    What Custom Diffusion reports of forgetting (tables 2 and 7), KID there 1000 times
    as much: `real` holds a folder of pictures for each class word. FID is biased by the
    number of pictures, so compare rows and not protocols.
    """
    params, folders = load_inception(file), pathlib.Path(real)
    if not folders.is_dir():
        raise FileNotFoundError(f"There is no folder {real} of real pictures.")
    features: dict[str, Features] = {}

    def judge(answer: Answer) -> dict[str, Measured]:
        word, count = answer.class_words[0], len(answer.bare)
        folder = folders / word
        if len(answer.class_words) > 1 or count < 3 or not folder.is_dir():
            return {}
        if word not in features:
            pictures = list(read_images(folder).values())
            features[word] = see_inception.of_images(params, pictures, mode="clean")
        own = see_inception.of_images(params, answer.bare, mode="clean")
        near = kid(own, features[word])
        return {
            "kid": Measured(near.value, near.error, count),
            "fid": Measured(frechet(own, features[word]), None, count),
        }

    return judge


def classifier(folder: str, rounds: int) -> Judge:
    """The class that is shown, of one subject, and what the prompts ask beside it."""
    network = load_classifier(None if folder == "emoji" else folder)

    def judge(answer: Answer) -> dict[str, Measured]:
        seen = classify(network, answer.pixels)
        found = {}
        if len(answer.class_words) == 1:
            words = [class_word(name) for name in seen["class"]]
            found["class"] = attribute_ratio(
                lambda _: words, answer.pixels, answer.class_words[0]
            )
        wanted = [asked(template) for template in answer.templates]
        rows = [i for i, each in enumerate(wanted) if each]
        shown = [
            all(seen[head][i] == word for head, word in wanted[i].items()) for i in rows
        ]
        said = measured(found, answer.texts, rounds)
        if rows:
            own = {"asked": np.array(shown, np.float64)}
            said |= measured(own, [answer.texts[i] for i in rows], rounds)
        return said

    return judge


def tifa(file: str, vqa: str, rounds: int) -> Judge:
    """The share of stored questions about each prompt that are answered as expected.

    `vqa` names the function that answers, "package.module:function", as
    `metrics.tifa.Answer` has it. A prompt is found by its caption; those that the file
    does not ask about are left out. Raises ValueError where there is no such function.
    """
    questions = read_questions(pathlib.Path(file)).values()
    asked_about = {each[0].caption: each for each in questions}
    answers = _function(vqa)

    def judge(answer: Answer) -> dict[str, Measured]:
        rows = [i for i, text in enumerate(answer.texts) if text in asked_about]
        if not rows:
            return {}
        texts = [answer.texts[i] for i in rows]
        shown = [
            (answer.pixels[i], asked_about[text])
            for i, text in zip(rows, texts, strict=True)
        ]
        scores = np.array(ask(answers, shown).scores)
        return measured({"tifa": scores}, texts, rounds)

    return judge


def _function(name: str) -> Vqa:
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise ValueError(
            f"judges.tifa needs who answers: vqa is {name!r}, not module:function."
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"vqa {name!r} cannot be imported: {error}.")


def _of_texts(eye: Clip, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """A feature for each picture's text, each text read once."""
    once = list(dict.fromkeys(texts))
    rows = dict(zip(once, see_clip.of_texts(eye, once), strict=True))
    return np.stack([rows[text] for text in texts])
