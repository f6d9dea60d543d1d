"""What a run streams from, opened and checked before anything is computed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax.sharding import Mesh

from personax.data.augment import CROP
from personax.data.buckets import bucket_of, bucket_sizes
from personax.data.latents import Cached, Latents
from personax.data.order import Order
from personax.data.picture import PictureSet
from personax.data.sets import open_set
from personax.data.stream import HINTS, CaptionPolicy, Pictures, Reader, Stream
from personax.training.sharding import over_batch

CAPTIONS = ("prompt", "own", "none")


class Encoders(NamedTuple):
    """What a cache must have been made by: a base's name, and its fingerprints."""

    name: str
    vae: str
    text_encoder: str
    factor: int  # of the autoencoder


class Material(NamedTuple):
    """A stream, and what a run has to know of it."""

    stream: Stream
    pictures: PictureSet | Latents
    sizes: tuple[tuple[int, int], ...]  # (height, width) of its batches
    workers: int
    digest: str  # of all that decides what a step sees
    text: bool  # whether the captions come encoded

    @property
    def rows(self) -> int:
        return self.stream.order.rows


def open_material(
    settings: Mapping[str, Any],
    *,
    encoders: Encoders,
    size: tuple[int, int],
    rows: int,
    mesh: Mesh,
    seed: int,
    prompts: Sequence[str],
    dropout: float = 0.0,
    held_out: int = 0,
) -> Material:
    """The material that a config's `stream` asks for.

    `prompts` are the concept's, of which each picture gets one where the captions are
    "prompt". Raises ValueError or FileNotFoundError in one sentence for a set, a cache
    or an option that does not exist or does not fit.
    """
    check_options(settings, encoders.factor)
    if not 0 <= dropout <= 1:
        raise ValueError(f"caption_dropout is {dropout}; it is a chance, from 0 to 1.")
    captions = settings["captions"]
    if captions not in CAPTIONS:
        raise ValueError(
            f"There are no captions {captions!r}; there are: {', '.join(CAPTIONS)}."
        )
    kind, _, folder = settings["source"].partition(":")
    if kind == "cache":
        pictures = Latents(folder)
        check_cache(pictures, settings, encoders, size)
        captioned = pictures.about.captioned
        sizes, buckets = pictures.about.sizes, pictures.buckets
        text = captions == "own" and (
            pictures.about.text_encoder == encoders.text_encoder
        )
        reader: Reader = Cached(pictures, flip=settings["flip"], text=text)
    else:
        pictures, sizes, reader = open_pictures(settings, size)
        captioned, buckets, text = pictures.captioned, reader.bucket_of, False
    if captions == "own" and not captioned:
        raise ValueError(
            f"The pictures of {settings['source']} have no captions of their own; the "
            'captions may be "prompt" or "none".'
        )
    said = {"prompt": tuple(prompts), "own": (), "none": ("",)}[captions]
    order = Order(
        len(pictures),
        rows,
        seed,
        held_out=held_out,
        buckets=buckets if len(sizes) > 1 else None,
    )
    return Material(
        stream=Stream(
            reader, order, CaptionPolicy(said, dropout), rows=local_rows(mesh, rows)
        ),
        pictures=pictures,
        sizes=sizes,
        workers=settings["workers"],
        digest=f"{pictures.digest()} {list(size)} {held_out} held out",
        text=text,
    )


def check_options(settings: Mapping[str, Any], factor: int) -> None:
    """ValueError for a value that no set could have."""
    crop, multiple, hint = (settings[key] for key in ("crop", "buckets", "hint"))
    if crop and crop not in CROP:
        raise ValueError(f"There is no crop {crop!r}; there are {', '.join(CROP)}.")
    if multiple < 0 or multiple % factor:
        raise ValueError(
            f"stream.buckets is {multiple}; it must be a multiple of {factor}, the "
            "autoencoder's factor, or 0 for one size."
        )
    if hint not in HINTS:
        raise ValueError(f'There is no hint {hint!r}; there are: canny, and "".')
    if settings["workers"] < 0:
        raise ValueError(f"stream.workers is {settings['workers']}; 0 is the least.")


def open_pictures(
    settings: Mapping[str, Any], size: tuple[int, int]
) -> tuple[PictureSet, tuple[tuple[int, int], ...], Pictures]:
    """The set, the sizes of its batches, and its reader."""
    pictures = open_set(
        settings["source"], data_dir=settings["data_dir"], split=settings["split"]
    )
    sizes, buckets = (size,), None
    if settings["buckets"]:
        sizes = bucket_sizes(size, settings["buckets"])
        buckets = bucket_of(pictures.sizes(), sizes)
    reader = Pictures(
        pictures,
        sizes,
        bucket_of=buckets,
        crop=settings["crop"] or "centre",
        flip=settings["flip"],
        hint=settings["hint"],
    )
    return pictures, sizes, reader


def check_cache(
    latents: Latents,
    settings: Mapping[str, Any],
    encoders: Encoders,
    size: tuple[int, int],
) -> None:
    """ValueError where a cache is not of this autoencoder, size and preprocessing."""
    about, folder = latents.about, latents.folder
    if about.vae != encoders.vae:
        raise ValueError(
            f"{folder} holds latents of another autoencoder than {encoders.name}'s; "
            "write another cache with python -m personax.cache."
        )
    if settings["hint"]:
        raise ValueError(
            f"{folder} holds latents and no pictures, from which the hint "
            f"{settings['hint']!r} is made; stream from the pictures themselves."
        )
    sizes = bucket_sizes(size, about.buckets) if about.buckets else (size,)
    wanted = {
        "size": (list(sizes), [tuple(each) for each in about.sizes]),
        "buckets": (settings["buckets"], about.buckets),
        "crop": (settings["crop"] or about.crop, about.crop),
        "flip": (settings["flip"], settings["flip"] and about.flip),
    }
    for name, (asked, there) in wanted.items():
        if asked != there:
            raise ValueError(
                f"{folder} was written with {name} {there}, and the config asks for "
                f"{asked}; change the config, or write another cache."
            )


def local_rows(mesh: Mesh, rows: int) -> range:
    """Which of a step's rows lie on this process's devices.

    Raises ValueError where they do not follow each other.
    """
    spans = over_batch(mesh).addressable_devices_indices_map((rows,)).values()
    edges = sorted((span.start or 0, span.stop or rows) for (span,) in spans)
    found = range(edges[0][0], edges[-1][1])
    if sum(stop - start for start, stop in edges) != len(found):
        raise ValueError(
            "The mesh deals a process's devices out over the batch; give its axes "
            "another order."
        )
    return found
