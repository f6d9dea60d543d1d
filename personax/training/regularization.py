"""Regularisation sets: pictures of a concept's class that the base already draws.

Prior preservation (Ruiz et al. 2023, Sec. 3.3; Kumari et al. 2023, Sec. 3.1) trains on
them beside the concept's own pictures.
"""

import atexit
import contextlib
import dataclasses
import functools
import json
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

import personax
from personax.concepts.bind import Model
from personax.core import files
from personax.core.images import Pixels, write_png
from personax.core.outputs import cache_folder
from personax.core.progress import Progress
from personax.data.captioned import Captioned, read_captioned, write_captioned
from personax.diffusion import schedule
from personax.diffusion.solvers import ddim
from personax.loading import EMBEDDED, Base, Clip, embedded_world, load_clip
from personax.networks.clip import text_features
from personax.networks.tokenizer import tokenize
from personax.sampling import prompt_terms
from personax.sampling.img2img import whole_picture
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import make_sampler
from personax.training import distributed
from personax.training.config import PRIOR_SOURCES, PriorConfig
from personax.training.sharding import fetch


@dataclasses.dataclass(frozen=True)
class Prior(PriorConfig):
    """The regularisation set of one concept.

    `source` is "generated" (`count` samples of the frozen base for `prompt`), "world"
    (`count` scenes of the emoji world with the class), "folder" (the first `count` of
    `images`; `prompt` captions those without one), "retrieved" (the `count` of `images`
    whose captions are the most similar to `prompt`), or None for no set.
    """

    prompt: str = ""
    images: str | None = None  # a captioned folder or list, see `read_captioned`


def prior_set(
    prior: Prior, base: Base, model: Model, class_word: str, size: tuple[int, int]
) -> list[Captioned]:
    """The set's pictures on disk with their captions, after creating missing ones.

    `model` is the frozen base; `size` is (height, width) of generated pictures. Raises
    what `check` raises, before any computation, and ValueError where no caption reaches
    the threshold.
    """
    check(prior, class_word)
    match prior.source:
        case "generated":
            return _generated(prior, base, model, size)
        case "world":
            return world(prior, class_word)
        case "folder":
            return _folder(prior)
        case "retrieved":
            return _retrieved(prior)
    return []


def check(prior: Prior, class_word: str) -> None:
    """Raise ValueError or FileNotFoundError for a set that cannot be made."""
    if prior.source is None:
        return
    if prior.source not in PRIOR_SOURCES:
        raise ValueError(
            f"Unknown regularisation set {prior.source!r}; expected one of "
            f"{', '.join(PRIOR_SOURCES)}."
        )
    if prior.source in ("generated", "retrieved") and not prior.prompt:
        raise ValueError(f"A {prior.source} regularisation set needs a prompt.")
    if prior.source in ("folder", "retrieved") and not prior.images:
        raise ValueError(
            f"A {prior.source} regularisation set needs concept.prior_images."
        )
    if prior.source in ("generated", "world") and prior.count < 1:
        raise ValueError(
            f"prior.count={prior.count}: a {prior.source} set needs at least 1."
        )
    if prior.source == "world":
        embedded_world.classes_called(class_word)
    elif prior.source == "folder":
        _folder(prior)
    elif prior.source == "retrieved":
        _candidates(prior)


def listed(prior: Prior) -> list[Captioned]:
    """The user's pictures that a set is, or is chosen from; [] for other sources."""
    match prior.source:
        case "folder":
            return _folder(prior)
        case "retrieved":
            return _candidates(prior)
    return []


def _generated(
    prior: Prior, base: Base, model: Model, size: tuple[int, int]
) -> list[Captioned]:
    """Samples of the frozen base for the prompt.

    Raises ValueError for a prompt with a placeholder, or an invalid size.
    """
    spec = model.denoiser.spec
    spec.latent_shape(*size)  # for its ValueError
    prompt_terms.check({"base": model}, [TermSpec(prior.prompt, prior.guidance)])
    record = {
        "source": "generated",
        "base": base.fingerprint,
        "prompt": prior.prompt,
        "solver": "ddim",
        "steps": prior.steps,
        "guidance": float(prior.guidance),
        "eta": float(prior.eta),
        "schedule": schedule.to_record(spec.schedule),
        "dtype": spec.compute.dtype,
        "size": list(size),
        "seed": prior.seed,
    }

    def draw(missing: list[int]) -> Iterator[tuple[int, Pixels]]:
        solver = ddim(prior.eta)
        sampler = make_sampler(spec, base.params["vae"], solver, prior.steps, size)
        picture = whole_picture(base.params["vae"], spec, size)
        models = {"base": model}
        terms = prompt_terms.to_terms(models, [TermSpec(prior.prompt, prior.guidance)])
        key = jax.random.key(prior.seed)
        # A picture is always in the same batch, so that drawing it again gives the same
        # bits.
        for first in sorted({index - index % prior.batch for index in missing}):
            indices = np.arange(first, first + prior.batch)
            placed = jax.device_put(indices)
            pictures = fetch(sampler.draw(models, terms, key, placed, picture))
            for index in missing:
                if index in indices:
                    yield index, pictures[index - first]

    return _kept(prior, record, draw, lambda index: prior.prompt)


def world(prior: Prior, class_word: str) -> list[Captioned]:
    """Scenes of the emoji world with the class, from the embedded base's training set.

    Every caption names the class. No scene shows a subject to personalise.
    """
    caption, render = embedded_world.class_scenes(class_word, prior.seed)
    record = {
        "source": "world",
        "class_word": class_word,
        "seed": prior.seed,
        # Another version may render other scenes for the same captions.
        "version": personax.__version__,
    }
    return _kept(
        prior, record, lambda indices: ((i, render(i)) for i in indices), caption
    )


def _folder(prior: Prior) -> list[Captioned]:
    """The first pictures of a captioned folder or list, in its order."""
    pictures = read_captioned(prior.images or "", caption=prior.prompt or None)
    return pictures[: prior.count or None]


def _retrieved(prior: Prior) -> list[Captioned]:
    """The pictures whose captions are the most similar to the prompt, in that order.

    By cosine similarity in CLIP's text space, of 0.85 and more in Kumari et al. 2023
    (Sec. 3.1), who retrieve from LAION-400M; ties keep the order of the list. Raises
    ValueError, naming the best caption, where none reaches the threshold.
    """
    pictures = _candidates(prior)
    clip = load_clip(None if prior.clip == EMBEDDED else prior.clip)
    # Each caption once, so that equal captions have bitwise equal similarities.
    captions = list(dict.fromkeys(picture.caption for picture in pictures))
    features = _encode(clip, [prior.prompt, *captions])
    similarity = dict(zip(captions, features[1:] @ features[0], strict=True))
    best = max(captions, key=lambda caption: similarity[caption])
    if similarity[best] < prior.threshold:
        raise ValueError(
            f"No caption reaches the similarity {prior.threshold:g} to "
            f"{prior.prompt!r}; the best is {best!r} with {similarity[best]:.3f}."
        )
    near = [p for p in pictures if similarity[p.caption] >= prior.threshold]
    near.sort(key=lambda picture: -similarity[picture.caption])
    return near[: prior.count or None]


def _candidates(prior: Prior) -> list[Captioned]:
    # The prompt is not a default caption here: it would be the best match.
    return read_captioned(prior.images or "")


def _kept(
    prior: Prior,
    record: dict[str, Any],
    draw: Callable[[list[int]], Iterable[tuple[int, Pixels]]],
    caption: Callable[[int], str],
) -> list[Captioned]:
    """Pictures 0 to `count` of the cache folder of `record`; `draw` makes missing ones.

    The folder is named by a digest of everything that determines the pictures, so that
    runs share them, and a larger set extends a smaller one.
    """
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    names = [f"{index:04d}.png" for index in range(prior.count)]
    place = _place(prior.cache, files.digest(text), names)
    paths = [place / name for name in names]
    # Processes draw together what any of them lacks.
    missing = distributed.union(
        index for index, path in enumerate(paths) if not _is_whole(path)
    )
    # Written last: an existing listing names every picture of the folder.
    listing = place / "metadata.jsonl"
    if missing:
        listing.unlink(missing_ok=True)
        files.write_text(place / "settings.json", text)
        with Progress(
            desc="prior set",
            total=prior.count,
            initial=prior.count - len(missing),
            disable=not distributed.is_host0(),
        ) as progress:
            for index, pixels in draw(missing):
                with files.atomic_write(paths[index]) as path:
                    write_png(path, pixels)
                progress.update()
    if not listing.is_file():
        # Also the pictures of a larger set in the same folder.
        stems = (path.stem for path in place.glob("*.png"))
        existing = sorted(int(stem) for stem in stems if stem.isdigit())
        names = {f"{index:04d}.png": caption(index) for index in existing}
        write_captioned(place, names)
    return [Captioned(path, caption(index)) for index, path in enumerate(paths)]


def _place(cache: str, name: str, pictures: Sequence[str]) -> pathlib.Path:
    """The folder `name` of a cache that can be written, or that holds all pictures.

    Without either a temporary one, which is removed when the process ends.
    """
    with contextlib.suppress(ValueError):  # "~" without a home
        place = files.expand(cache) / name
        whole = (place / "metadata.jsonl").is_file()
        if whole and all(_is_whole(place / picture) for picture in pictures):
            return place
    folder = cache_folder(cache)
    if folder is None:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="personax-prior-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / name


def _is_whole(path: pathlib.Path) -> bool:
    """Whether a PNG exists and is complete, without decoding it."""
    return path.is_file() and path.read_bytes().endswith(b"IEND\xaeB`\x82")


_TEXTS = 64  # texts per batch


def _encode(clip: Clip, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """The unit feature of each text."""
    encode = jax.jit(functools.partial(text_features, config=clip.config))
    rows = []
    for start in Progress(
        range(0, len(texts), _TEXTS), "encoding captions", unit="batch"
    ):
        batch = texts[start : start + _TEXTS]
        with warnings.catch_warnings():
            # Captions from the web are often too long; they are truncated.
            warnings.simplefilter("ignore", UserWarning)
            ids = tokenize(clip.tokenizer, [*batch, *[""] * (_TEXTS - len(batch))])
        rows.append(np.asarray(encode(clip.params, ids=ids))[: len(batch)])
    features = np.concatenate(rows)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
