"""The regularisation set of a concept: pictures that keep its class what it was.

Prior preservation (Ruiz et al. 2023, Sec. 3.3; Kumari et al. 2023, Sec. 3.1) trains on
them beside the concept's own pictures.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Float

import personax
from personax.concepts.bind import Model
from personax.core.images import Pixels, write_png
from personax.core.progress import Progress
from personax.data.captioned import Captioned, read_captioned, write_captioned
from personax.diffusion.solvers import ddim
from personax.loading import EMBEDDED, Base, Clip, embedded_world, load_clip
from personax.networks.clip import text_features
from personax.networks.tokenizer import tokenize
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import make_sampler
from personax.training import distributed
from personax.training.sharding import fetch

SOURCES = ("generated", "world", "folder", "retrieved")


@dataclasses.dataclass(frozen=True)
class Prior:
    """Which pictures, and from where; the numbers are Custom Diffusion's.

    `source` is "generated" (`count` pictures of the frozen base for `prompt`), "world"
    (`count` scenes of the emoji world with the class), "folder" (the first `count` of
    `images`, `prompt` where one has no caption), "retrieved" (the `count` of `images`
    whose captions are most like `prompt`) or "" for no set. `count` 0 is all that a
    folder has, or that are similar enough.
    """

    source: str = ""
    prompt: str = ""
    count: int = 200  # DreamBooth's own is 1000
    images: str = ""  # a captioned folder or list, see `read_captioned`
    threshold: float = 0.85  # of the captions' similarity, in CLIP's text space
    clip: str = EMBEDDED  # or a directory
    seed: int = 0  # picture i depends on the seed and i alone
    # The release's sample.py: 50 steps of DDIM with all of DDPM's noise.
    steps: int = 50
    guidance: float = 6.0
    eta: float = 1.0
    batch: int = 8
    cache: str = "~/.cache/personax/prior"


def prior_set(
    prior: Prior,
    base: Base,
    model: Model,
    class_word: str,
    size: tuple[int, int],
    *,
    sharding: Sharding | None = None,
) -> list[Captioned]:
    """The pictures on disk with their captions, drawn first where they are missing.

    `model` is the frozen base; `size` is (height, width) of generated pictures, and
    `sharding` spreads a batch of them over devices. Raises what `check` raises, before
    any computation, and ValueError where no caption is similar enough.
    """
    check(prior, class_word)
    match prior.source:
        case "generated":
            return generated(prior, base, model, size, sharding)
        case "world":
            return world(prior, class_word)
        case "folder":
            return folder(prior)
        case "retrieved":
            return retrieved(prior)
    return []


def check(prior: Prior, class_word: str) -> None:
    """ValueError or FileNotFoundError in one sentence for a set that cannot be had."""
    if prior.source and prior.source not in SOURCES:
        raise ValueError(
            f"There is no regularisation source {prior.source!r}; there are "
            f'{", ".join(SOURCES)}, and "" for none.'
        )
    if prior.source in ("generated", "retrieved") and not prior.prompt:
        raise ValueError(f"A {prior.source} regularisation set needs a prompt.")
    if prior.source in ("folder", "retrieved") and not prior.images:
        raise ValueError(f"A {prior.source} regularisation set needs images.")
    drawn = prior.source in ("generated", "world")
    for name, least in (("count", 1 if drawn else 0), ("steps", 1), ("batch", 1)):
        value = getattr(prior, name)
        if value < least:
            raise ValueError(
                f"The {name} of a {prior.source} regularisation set is {value}; "
                f"it must be at least {least}."
            )
    if prior.source == "world":
        embedded_world.classes_called(class_word)
    elif prior.source == "folder":
        folder(prior)
    elif prior.source == "retrieved":
        _candidates(prior)


def generated(
    prior: Prior,
    base: Base,
    model: Model,
    size: tuple[int, int],
    sharding: Sharding | None = None,
) -> list[Captioned]:
    """What the frozen base makes of the prompt: it teaches the base its own mind.

    Raises ValueError for a prompt with a placeholder or a size that the base cannot
    have.
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
        "schedule": dataclasses.asdict(spec.schedule),
        "dtype": spec.compute.dtype,
        "size": list(size),
        "seed": prior.seed,
    }
    return _kept(
        prior,
        record,
        draw=lambda indices: _sampled(prior, base, model, size, sharding, indices),
        caption=lambda index: prior.prompt,
    )


def world(prior: Prior, class_word: str) -> list[Captioned]:
    """Scenes of the emoji world with the class, as the embedded base was trained on.

    Every caption names the class. The subjects to personalise are in none of them.
    """
    caption, render = embedded_world.class_scenes(class_word, prior.seed)
    record = {
        "source": "world",
        "class_word": class_word,
        "seed": prior.seed,
        # Another version may draw other scenes, which the captions would not describe.
        "version": personax.__version__,
    }

    def draw(indices: Iterable[int]) -> Iterator[tuple[int, Pixels]]:
        for index in indices:
            yield index, render(index)

    return _kept(prior, record, draw=draw, caption=caption)


def folder(prior: Prior) -> list[Captioned]:
    """The first pictures of a captioned folder or list, in its order."""
    found = read_captioned(prior.images, caption=prior.prompt or None)
    return found[: prior.count or None]


def retrieved(prior: Prior) -> list[Captioned]:
    """The pictures whose captions are most like the prompt, the most similar first.

    Cosine similarity in CLIP's text space above 0.85, as Kumari et al. 2023 (Sec. 3.1)
    retrieve from LAION-400M; ties keep the list's order. Raises ValueError, naming the
    best, where no caption reaches the threshold.
    """
    found = _candidates(prior)
    clip = load_clip(None if prior.clip == EMBEDDED else prior.clip)
    # Each caption once: what is said in the same words is equally similar to the bit.
    captions = list(dict.fromkeys(picture.caption for picture in found))
    features = _encode(clip, [prior.prompt, *captions])
    similarity = dict(zip(captions, features[1:] @ features[0], strict=True))
    best = max(captions, key=lambda caption: similarity[caption])
    if similarity[best] < prior.threshold:
        raise ValueError(
            f"No caption is as similar to {prior.prompt!r} as {prior.threshold:g}; the "
            f"best is {best!r} with {similarity[best]:.3f}."
        )
    near = [p for p in found if similarity[p.caption] >= prior.threshold]
    near.sort(key=lambda picture: -similarity[picture.caption])
    return near[: prior.count or None]


def _candidates(prior: Prior) -> list[Captioned]:
    # The prompt must not stand in for a missing caption: it would be the best match.
    return read_captioned(prior.images)


def _kept(
    prior: Prior,
    record: dict[str, Any],
    *,
    draw: Callable[[list[int]], Iterable[tuple[int, Pixels]]],
    caption: Callable[[int], str],
) -> list[Captioned]:
    """Pictures 0 … count of the cache's folder for `record`; `draw` makes missing ones.

    The folder's name is a digest of what made the pictures, so they are found again by
    whoever asks for the same, and a larger set goes on from a smaller one.
    """
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    place = pathlib.Path(prior.cache).expanduser() / digest
    paths = [place / f"{index:04d}.png" for index in range(prior.count)]
    # Processes draw together: what any of them misses.
    missing = distributed.union(
        index for index, path in enumerate(paths) if not _is_whole(path)
    )
    # The listing comes last: where it is, it names every picture that is there.
    listing = place / "metadata.jsonl"
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        listing.unlink(missing_ok=True)
        (place / "settings.json").write_text(text)
        with Progress(
            desc="prior set",
            total=prior.count,
            initial=prior.count - len(missing),
            disable=not distributed.is_host0(),
        ) as progress:
            for index, pixels in draw(missing):
                _write(paths[index], pixels)
                progress.update()
    if not listing.is_file():
        # A smaller set leaves none of a larger one's pictures without its caption.
        stems = (path.stem for path in place.glob("*.png"))
        there = sorted(int(stem) for stem in stems if stem.isdigit())
        write_captioned(place, {f"{index:04d}.png": caption(index) for index in there})
    return [Captioned(path, caption(index)) for index, path in enumerate(paths)]


def _is_whole(path: pathlib.Path) -> bool:
    """Whether a PNG is there to its end, without decoding it."""
    return path.is_file() and path.read_bytes().endswith(b"IEND\xaeB`\x82")


def _write(path: pathlib.Path, pixels: Pixels) -> None:
    # A kill leaves either no picture or a whole one, and of two runs that draw the same
    # each writes its own file; readers of folders pass over a leading dot.
    own = f"{jax.process_index()}.{os.getpid()}"
    unfinished = path.with_name(f".{path.name}.{own}")
    write_png(unfinished, pixels)
    unfinished.replace(path)


def _sampled(
    prior: Prior,
    base: Base,
    model: Model,
    size: tuple[int, int],
    sharding: Sharding | None,
    wanted: Sequence[int],
) -> Iterator[tuple[int, Pixels]]:
    """(index, picture) of the wanted indices.

    A batch always holds the same neighbours, so that a picture drawn again comes out of
    the same program at the same place, and equal to the bit.
    """
    sampler = make_sampler(
        *(model.denoiser.spec, base.params["vae"]), ddim(prior.eta), prior.steps, size
    )
    models = {"base": model}
    terms = prompt_terms.to_terms(models, [TermSpec(prior.prompt, prior.guidance)])
    key = jax.random.key(prior.seed)
    for first in sorted({index - index % prior.batch for index in wanted}):
        indices = np.arange(first, first + prior.batch)
        placed = jax.device_put(indices, sharding)
        pictures = fetch(sampler.draw(models, terms, key, placed))
        for index in wanted:
            if index in indices:
                yield index, pictures[index - first]


_TEXTS = 64  # at a time


def _encode(clip: Clip, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """Each text's feature, of length one."""
    encode = jax.jit(functools.partial(text_features, config=clip.config))
    rows = []
    for start in Progress(
        range(0, len(texts), _TEXTS), "reading captions", unit="batch"
    ):
        some = texts[start : start + _TEXTS]
        with warnings.catch_warnings():
            # Captions from the web are often too long; their start says what they show.
            warnings.simplefilter("ignore", UserWarning)
            ids = tokenize(clip.tokenizer, [*some, *[""] * (_TEXTS - len(some))])
        rows.append(np.asarray(encode(clip.params, ids=ids))[: len(some)])
    features = np.concatenate(rows)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
