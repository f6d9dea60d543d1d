"""Metrics of pictures: CLIP, DINO, BLIP, FID and KID, a classifier, and TIFA."""

import importlib
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from personax.core.images import read_images
from personax.evaluation.results import Measurement
from personax.evaluation.samples import Generations, Metric, summarize
from personax.loading import EMBEDDED, Clip, load_clip
from personax.loading.blip import load_blip
from personax.loading.blip2 import load_blip2
from personax.loading.dino import load_dino
from personax.loading.embedded_world import class_word, prompt_attributes
from personax.loading.inception import load_inception
from personax.metrics import blip as blip_scores
from personax.metrics import blip2 as blip2_scores
from personax.metrics import clip as clip_features
from personax.metrics import dino as dino_features
from personax.metrics import inception as inception_features
from personax.metrics.alignment import clip_score, mean_over_targets, text_cosines
from personax.metrics.attributes import attribute_ratio
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

    def metric(generations: Generations) -> dict[str, Measurement]:
        pictures = clip_features.of_images(network, generations.pixels)
        texts = generations.texts
        words = _text_features(network, texts)
        targets = [
            clip_features.of_images(network, each) for each in generations.targets
        ]
        alignment = {
            "clip_i": mean_over_targets(pictures, targets),
            "clip_t": text_cosines(pictures, words),
            "clip_score": clip_score(pictures, words),
        }
        measurements = summarize(alignment, texts, rounds)
        if generations.bare:
            after = clip_features.of_images(network, generations.bare)
            before = clip_features.of_images(network, generations.bare_before)
            near = [mean_over_targets(x, targets) for x in (after, before)]
            prior = {"same": text_cosines(after, before), "leak": near[0] - near[1]}
            measurements |= summarize(prior, range(len(after)), rounds)
        return measurements

    return metric


def dino(folder: str, rounds: int) -> Metric:
    """DINO-I."""
    network = load_dino(folder)

    def metric(generations: Generations) -> dict[str, Measurement]:
        pictures = dino_features.of_images(network, generations.pixels)
        targets = [
            dino_features.of_images(network, each) for each in generations.targets
        ]
        cosines = {"dino_i": mean_over_targets(pictures, targets)}
        return summarize(cosines, generations.texts, rounds)

    return metric


def blip(folder: str, rounds: int) -> Metric:
    """BLIP's ITC cosine and ITM probability."""
    network = load_blip(folder)

    def metric(generations: Generations) -> dict[str, Measurement]:
        pairs = generations.pixels, generations.texts
        scores = {
            "blip_itc": blip_scores.itc(network, *pairs),
            "blip_itm": blip_scores.itm(network, *pairs),
        }
        return summarize(scores, generations.texts, rounds)

    return metric


def blip2(folder: str, rounds: int) -> Metric:
    """BLIP-2's ITC cosine."""
    network = load_blip2(folder)

    def metric(generations: Generations) -> dict[str, Measurement]:
        pairs = generations.pixels, generations.texts
        scores = {"blip2_itc": blip2_scores.itc(network, *pairs)}
        return summarize(scores, generations.texts, rounds)

    return metric


def inception(file: str, real: str | None) -> Metric:
    """KID and FID of prompts without the concept against real pictures of the class.

    Custom Diffusion's measures of forgetting (Kumari et al. 2023, tables 2 and 7; KID
    there times 1000). `real` has a folder of pictures per class word. FID is biased by
    the number of pictures: compare rows of one protocol only. Raises FileNotFoundError
    without that folder.
    """
    params, folders = load_inception(file), pathlib.Path(real or "")
    if not real or not folders.is_dir():
        raise FileNotFoundError(f"No folder {real or ''!r} of real pictures (real).")
    features: dict[str, Features] = {}

    def metric(generations: Generations) -> dict[str, Measurement]:
        word, count = generations.class_words[0], len(generations.bare)
        folder = folders / word
        if len(generations.class_words) > 1 or count < 3 or not folder.is_dir():
            return {}
        if word not in features:
            pictures = list(read_images(folder).values())
            features[word] = inception_features.of_images(params, pictures)
        own = inception_features.of_images(params, generations.bare)
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
        labels = classify(network, generations.pixels)
        accuracy = {}
        if len(generations.class_words) == 1:
            words = [class_word(name) for name in labels["class"]]
            accuracy["class"] = attribute_ratio(words, generations.class_words[0])
        measurements = summarize(accuracy, generations.texts, rounds)
        attributes = [prompt_attributes(each) for each in generations.templates]
        rows = [i for i, each in enumerate(attributes) if each]
        if rows:
            correct = [
                all(labels[head][i] == word for head, word in attributes[i].items())
                for i in rows
            ]
            texts = [generations.texts[i] for i in rows]
            values = {"asked": np.array(correct, np.float64)}
            measurements |= summarize(values, texts, rounds)
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
        rows = [i for i, text in enumerate(generations.texts) if text in by_caption]
        if not rows:
            return {}
        texts = [generations.texts[i] for i in rows]
        pictures = [
            (generations.pixels[i], by_caption[text])
            for i, text in zip(rows, texts, strict=True)
        ]
        scores = np.array(tifa_scores(answer, pictures).scores)
        return summarize({"tifa": scores}, texts, rounds)

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


def _text_features(network: Clip, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """A feature per text; each distinct text is encoded once."""
    distinct = list(dict.fromkeys(texts))
    rows = dict(zip(distinct, clip_features.of_texts(network, distinct), strict=True))
    return np.stack([rows[text] for text in texts])
