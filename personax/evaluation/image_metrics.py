"""Metrics of pictures: CLIP, DINO, BLIP, FID and KID, a classifier, and TIFA."""

import importlib
import pathlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from personax.core.images import read_images
from personax.evaluation.results import Measurement
from personax.evaluation.samples import Generations, Metric, summarize
from personax.loading import EMBEDDED, load_clip
from personax.loading.blip import load_blip
from personax.loading.blip2 import load_blip2
from personax.loading.dino import load_dino
from personax.loading.embedded_world import class_word, prompt_attributes
from personax.loading.inception import load_inception
from personax.metrics import blip as blip_scores
from personax.metrics import clip as clip_features
from personax.metrics import dino as dino_features
from personax.metrics import inception as inception_features
from personax.metrics.alignment import clip_score, mean_over_targets, text_cosines
from personax.metrics.classifier import classify, load_classifier
from personax.metrics.features import Features
from personax.metrics.frechet import frechet
from personax.metrics.kernel import kid
from personax.metrics.tifa import Vqa, read_questions
from personax.metrics.tifa import tifa as tifa_scores


def clip(folder: str, rounds: int) -> Metric:
    """CLIP-I, CLIP-T and CLIPScore; prior similarity and class leakage.

    Prior similarity is the CLIP cosine of the model's and the base's pictures of the
    class, at the same prompts and seeds. Class leakage is by how much the model's
    pictures of the class are closer to the subject than the base's. `folder` is a CLIP
    directory, or "emoji" for the embedded one.
    """
    network = load_clip(None if folder == EMBEDDED else folder)
    of_images = partial(clip_features.of_images, network)

    def metric(generations: Generations) -> dict[str, Measurement]:
        pictures, texts = of_images(generations.pixels), generations.texts
        # Each distinct text is encoded once.
        distinct, rows = np.unique(texts, return_inverse=True)
        words = clip_features.of_texts(network, distinct.tolist())[rows]
        targets = [of_images(each) for each in generations.targets]
        alignment = {
            "clip_i": mean_over_targets(pictures, targets),
            "clip_t": text_cosines(pictures, words),
            "clip_score": clip_score(pictures, words),
        }
        measurements = summarize(alignment, texts, rounds)
        if generations.bare:
            after = of_images(generations.bare)
            before = of_images(generations.bare_before)
            near = [mean_over_targets(x, targets) for x in (after, before)]
            prior = {"same": text_cosines(after, before), "leak": near[0] - near[1]}
            measurements |= summarize(prior, range(len(after)), rounds)
        return measurements

    return metric


def dino(folder: str, rounds: int) -> Metric:
    """DINO-I."""
    of_images = partial(dino_features.of_images, load_dino(folder))

    def metric(generations: Generations) -> dict[str, Measurement]:
        targets = [of_images(each) for each in generations.targets]
        cosines = {"dino_i": mean_over_targets(of_images(generations.pixels), targets)}
        return summarize(cosines, generations.texts, rounds)

    return metric


def blip(folder: str, rounds: int) -> Metric:
    """BLIP's ITC cosine and ITM probability."""
    scores = {"blip_itc": blip_scores.itc, "blip_itm": blip_scores.itm}
    return _text_scores(load_blip(folder), scores, rounds)


def blip2(folder: str, rounds: int) -> Metric:
    """BLIP-2's ITC cosine."""
    return _text_scores(load_blip2(folder), {"blip2_itc": blip_scores.itc}, rounds)


def _text_scores(
    network: Any, scores: Mapping[str, Callable[..., np.ndarray]], rounds: int
) -> Metric:
    def metric(generations: Generations) -> dict[str, Measurement]:
        pairs = generations.pixels, generations.texts
        values = {name: score(network, *pairs) for name, score in scores.items()}
        return summarize(values, generations.texts, rounds)

    return metric


def inception(file: str, real: str | None) -> Metric:
    """KID and FID of prompts without the concept against real pictures of the class.

    Custom Diffusion's measures of forgetting (Kumari et al. 2023, tables 2 and 7; KID
    there times 1000). `real` has a folder of pictures per class word. FID is biased by
    the number of pictures: compare rows of one protocol only. Raises FileNotFoundError
    without that folder.
    """
    of_images = partial(inception_features.of_images, load_inception(file))
    folders = pathlib.Path(real or "")
    if not real or not folders.is_dir():
        raise FileNotFoundError(f"No folder {real or ''!r} of real pictures (real).")
    features: dict[str, Features] = {}

    def metric(generations: Generations) -> dict[str, Measurement]:
        word, count = generations.class_words[0], len(generations.bare)
        folder = folders / word
        if len(generations.class_words) > 1 or count < 3 or not folder.is_dir():
            return {}
        if word not in features:
            features[word] = of_images(list(read_images(folder).values()))
        own = of_images(generations.bare)
        distance = kid(own, features[word])
        return {
            "kid": Measurement(distance.value, distance.error, count),
            "fid": Measurement(frechet(own, features[word]), None, count),
        }

    return metric


def classifier(folder: str, rounds: int) -> Metric:
    """Class accuracy of single subjects, and prompt-attribute accuracy.

    A picture counts for the latter if the classifier finds all attributes that its
    prompt names.
    """
    network = load_classifier(None if folder == EMBEDDED else pathlib.Path(folder))

    def metric(generations: Generations) -> dict[str, Measurement]:
        labels, texts = classify(network, generations.pixels), generations.texts
        measurements = {}
        if len(generations.class_words) == 1:
            words = np.array([class_word(name) for name in labels["class"]])
            accuracy = {"class": words == generations.class_words[0]}
            measurements |= summarize(accuracy, texts, rounds)
        attributes = [prompt_attributes(each) for each in generations.templates]
        correct = {
            i: all(labels[head][i] == word for head, word in own.items())
            for i, own in enumerate(attributes)
            if own
        }
        if correct:
            own = {"asked": np.array(list(correct.values()))}
            measurements |= summarize(own, [texts[i] for i in correct], rounds)
        return measurements

    return metric


def tifa(file: str, vqa: str | None, rounds: int) -> Metric:
    """TIFA: the share of stored questions about each prompt answered as expected.

    `vqa` names a function "package.module:function" with the signature of
    `metrics.tifa.Vqa`. Questions are matched to prompts by their caption; prompts
    without questions are left out. Raises ValueError if the function does not exist.
    """
    by_caption = {
        questions[0].caption: questions
        for questions in read_questions(pathlib.Path(file)).values()
    }
    answer = _import_function(vqa)

    def metric(generations: Generations) -> dict[str, Measurement]:
        pairs = zip(generations.pixels, generations.texts, strict=True)
        own = [(pixels, text) for pixels, text in pairs if text in by_caption]
        if not own:
            return {}
        scores = tifa_scores(
            answer, [(pixels, by_caption[text]) for pixels, text in own]
        )
        return summarize({"tifa": scores}, [text for _, text in own], rounds)

    return metric


def _import_function(name: str | None) -> Vqa:
    module, _, attribute = (name or "").partition(":")
    if not (module and attribute):
        raise ValueError(
            f"judges.tifa requires vqa=package.module:function, not {name or ''!r}."
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"Cannot import vqa {name!r}: {error}.")
