"""From a config to its dataset, checked before anything is computed."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from jax.sharding import Mesh

from personax.core import images
from personax.core.text import fold
from personax.data import concepts
from personax.data.augment import Augmentation
from personax.data.buckets import bucket_of, bucket_sizes
from personax.data.captioned import Captioned
from personax.data.dataset import Dataset
from personax.data.few_shot import Example, FewShot
from personax.data.latents import LatentReader, Latents
from personax.data.order import Order
from personax.data.sets import open_set
from personax.data.stream import CaptionPolicy, HeldOut, PictureReader, Stream
from personax.loading import Base
from personax.training.concept_text import ConceptSpec
from personax.training.config import StreamConfig, TrainConfig
from personax.training.sharding import over_batch

# Options of few pictures; a large set has its own, or none.
_FEW_SHOT = ("augment", "crop", "flip", "words", "shrink", "cut_mix")


def make_dataset(
    config: TrainConfig,
    base: Base,
    size: tuple[int, int],
    mesh: Mesh,
    specs: Sequence[ConceptSpec],
) -> Dataset:
    """The dataset of a config: a large set, or the pictures of its concepts.

    Regularisation sets are added later, see `with_priors`. Raises ValueError or
    FileNotFoundError for a set, a cache or an option that does not exist or does not
    fit.
    """
    if not config.stream.source:
        return FewShot(
            tuple(_examples(spec) for spec in specs),
            size=size,
            factor=base.spec.vae.factor,
            batch=config.batch * config.accumulate,
            seed=config.seed,
            prior_weight=config.prior.weight,
            options=config.data,
            own_captions=any(spec.own for spec in specs),
        )
    for name in _FEW_SHOT:
        if getattr(config.data, name) != getattr(Augmentation, name):
            raise ValueError(
                f"data.{name} applies to few pictures; a stream has stream.crop and "
                "stream.flip, and no augmentation."
            )
    if config.prior.source:
        raise ValueError(
            "stream.source and prior.source are mutually exclusive; set "
            '--config.prior.source "".'
        )
    if len(specs) > 1:
        raise ValueError("A stream trains one concept; concepts_list has more.")
    if config.validation.every and config.validation.images:
        raise ValueError(
            "A stream holds out validation.count of its own pictures; leave "
            "validation.images empty."
        )
    concept = specs[0].concept
    dropout, words = config.data.caption_dropout, (concept.phrase, concept.class_word)
    policy = CaptionPolicy(specs[0].captions, dropout, *words)
    encoders = Encoders(
        base.name, base.vae_fingerprint, base.text_fingerprint, base.spec.vae.factor
    )
    return open_stream(config, encoders, size, mesh, policy)


def make_validation(config: TrainConfig, dataset: Dataset) -> Dataset | None:
    """Pictures without augmentation for the validation loss, if the config has one.

    Of a stream those that it holds out; of few pictures the same ones, or those of a
    folder.
    """
    if not config.validation.every:
        return None
    if isinstance(dataset, Stream):
        return HeldOut(dataset)
    assert isinstance(dataset, FewShot)
    examples = dataset.concepts
    if config.validation.images:
        pixels = concepts.pictures(config.validation.images)
        first = examples[0][0]
        examples = (tuple(first._replace(pixels=each) for each in pixels),)
    # As many rows as a training step has, which divide by the devices.
    batch = dataset.batch * (2 if config.prior.source else 1)
    return dataclasses.replace(
        dataset,
        concepts=examples,
        priors=(),
        batch=batch,
        options=dataset.options.off(),
        steps=math.ceil(config.validation.count / batch),
    )


def with_priors(dataset: Dataset, priors: Sequence[Sequence[Captioned]]) -> Dataset:
    """The dataset with the regularisation sets, whose pictures are read here."""
    sets = tuple(
        tuple(Example(images.read_image(each.path), (each.caption,)) for each in prior)
        for prior in priors
        if prior
    )
    if not sets:
        return dataset
    assert isinstance(dataset, FewShot)
    return dataclasses.replace(dataset, priors=sets)


def _examples(spec: ConceptSpec) -> tuple[Example, ...]:
    concept = spec.concept
    if spec.own:
        paths = [each.path for each in spec.own]
        read = images.read_images(list(dict.fromkeys(paths)))
        pictures = [read[path] for path in paths]
        masks = [None] * len(paths)
        if spec.masks:
            masks = concepts.masks_of(spec.masks, paths, pictures)
        return tuple(
            Example(
                pixels,
                (each.caption,),
                # What the class word replaces: a caption may have the word alone.
                concept.phrase
                if fold(concept.phrase) in fold(each.caption)
                else concept.placeholder or concept.phrase,
                concept.class_word,
                mask,
                each.repeats,
            )
            for pixels, each, mask in zip(pictures, spec.own, masks, strict=True)
        )
    pictures = concepts.pictures(spec.images)
    masks: Sequence[images.Mask | None] = [None] * len(pictures)
    if spec.masks:
        masks = concepts.masks(spec.masks, spec.images)
    return tuple(
        Example(pixels, spec.captions, concept.phrase, concept.class_word, mask)
        for pixels, mask in zip(pictures, masks, strict=True)
    )


class Encoders(NamedTuple):
    """What a cache must have been written with: a base's name and fingerprints."""

    name: str
    vae: str
    text_encoder: str
    factor: int  # of the autoencoder


def open_stream(
    config: TrainConfig,
    encoders: Encoders,
    size: tuple[int, int],
    mesh: Mesh,
    policy: CaptionPolicy,
) -> Stream:
    """The dataset of a config's `stream`.

    `policy` holds the concept's prompts, of which each picture gets one where the
    captions are "prompt". Raises ValueError or FileNotFoundError for a set, a cache or
    an option that does not exist or does not fit.
    """
    settings, captions = config.stream, config.stream.captions
    check_buckets(settings, encoders.factor)
    source = settings.source or ""
    kind, _, folder = source.partition(":")
    if kind == "cache":
        pictures = Latents(folder)
        check_cache(pictures, settings, encoders, size)
        about, buckets = pictures.about, pictures.buckets
        captioned, sizes = about.captioned, about.sizes
        text = captions == "own" and about.text_encoder == encoders.text_encoder
        reader = LatentReader(pictures, settings.flip, text)
    else:
        reader = open_pictures(settings, size)
        sizes, pictures, buckets = reader.sizes, reader.pictures, reader.bucket_of
        captioned = pictures.captioned
    if captions == "own" and not captioned:
        raise ValueError(
            f"The pictures of {source} have no captions of their own; the "
            'captions may be "prompt" or "none", and stream.caption_column names '
            "another column than text or caption."
        )
    prompts = {"prompt": policy.prompts, "own": (), "none": ("",)}[captions]
    held_out = config.validation.count if config.validation.every else 0
    rows, seed = config.batch * config.accumulate, config.seed
    buckets = buckets if len(sizes) > 1 else None
    order = Order(len(pictures), rows, seed, held_out=held_out, buckets=buckets)
    return Stream(
        reader,
        order,
        policy._replace(prompts=tuple(prompts)),
        local=local_rows(mesh, order.rows),
        workers=settings.workers,
        digest=f"{pictures.digest()} {list(size)} {held_out} held out",
    )


def check_buckets(settings: StreamConfig, factor: int) -> None:
    """Raise ValueError for buckets that are no multiple of the autoencoder's factor."""
    if settings.buckets and settings.buckets % factor:
        raise ValueError(
            f"stream.buckets={settings.buckets}: expected a multiple of {factor}, the "
            "autoencoder's factor, or 0 for one size."
        )


def open_pictures(settings: StreamConfig, size: tuple[int, int]) -> PictureReader:
    """A reader of the set that a config's `stream` names, with its batch sizes."""
    pictures = open_set(
        settings.source or "",
        data_dir=settings.data_dir or "",
        split=settings.split,
        caption_column=settings.caption_column,
        image_column=settings.image_column,
    )
    sizes, buckets = (size,), None
    if settings.buckets:
        sizes = bucket_sizes(size, settings.buckets)
        buckets = bucket_of(pictures.sizes(), sizes)
    return PictureReader(
        pictures,
        sizes,
        bucket_of=buckets,
        crop=settings.crop or "centre",
        flip=settings.flip,
        hint=settings.hint or "",
    )


def check_cache(
    latents: Latents,
    settings: StreamConfig,
    encoders: Encoders,
    size: tuple[int, int],
) -> None:
    """Raise ValueError for a cache of another autoencoder, size or preprocessing."""
    about, folder = latents.about, latents.folder
    if about.vae != encoders.vae:
        raise ValueError(
            f"{folder} holds latents of another autoencoder than {encoders.name}'s; "
            "write a cache for this one with python -m personax.cache."
        )
    if settings.hint:
        raise ValueError(
            f"{folder} holds latents, and the hint {settings.hint!r} is computed "
            "from pictures; stream from the pictures themselves."
        )
    sizes = bucket_sizes(size, about.buckets) if about.buckets else (size,)
    options = {
        "size": (list(sizes), [tuple(each) for each in about.sizes]),
        "buckets": (settings.buckets or 0, about.buckets),
        "crop": (settings.crop or about.crop, about.crop),
        "flip": (settings.flip, settings.flip and about.flip),
    }
    for name, (expected, cached) in options.items():
        if expected != cached:
            raise ValueError(
                f"{folder} was written with {name} {cached}, and the config has "
                f"{expected}; change the config, or write another cache."
            )


def local_rows(mesh: Mesh, rows: int) -> range:
    """The rows of a step that lie on this process's devices.

    Raises ValueError where they are not contiguous.
    """
    spans = over_batch(mesh).addressable_devices_indices_map((rows,)).values()
    edges = sorted((x.start or 0, x.stop or rows) for (x,) in filter(None, spans))
    rows_here = range(edges[0][0], edges[-1][1])
    if sum(stop - start for start, stop in edges) != len(rows_here):
        raise ValueError(
            "The rows of a process are not contiguous on this mesh; reorder its axes."
        )
    return rows_here
