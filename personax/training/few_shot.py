"""What each step sees: from pictures and captions to batches, by step number alone."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from personax.core.images import Mask, Pixels
from personax.core.progress import Progress
from personax.core.typing import Params, Text
from personax.data.augment import View, view
from personax.data.concepts import visit
from personax.data.cut_mix import PROMPT, check_cut_mix, said, side_by_side
from personax.data.templates import without
from personax.diffusion.denoiser import Denoiser, encode
from personax.diffusion.spec import Spec
from personax.methods.losses import Batch
from personax.networks import vae
from personax.networks.tokenizer import Tokenizer, concept_mask, tokenize
from personax.training.distributed import is_host0
from personax.training.sharding import everywhere, over_batch, put


class Example(NamedTuple):
    """A picture and what it may be called."""

    pixels: Pixels
    captions: tuple[str, ...]
    phrase: str = ""  # the concept's words in the captions, "<v1> dog"
    class_word: str = ""  # what stands there without the concept, "dog"
    mask: Mask | None = None  # how much each pixel counts


class Options(NamedTuple):
    """How a concept's pictures and captions vary; see `data.augment.view`."""

    augment: str = "none"
    crop: str | None = None
    flip: bool = False
    words: str | None = None
    shrink: tuple[float, float] | None = None
    caption_dropout: float = 0.0  # how often the caption is the empty one
    cut_mix: float = 0.0  # how often another concept stands beside
    cut_mix_prompt: str = PROMPT


def still(options: Options) -> Options:
    """The options for pictures that are to be the same each time."""
    return Options(crop=None if options.crop == "random" else options.crop)


class Data(NamedTuple):
    """What there is to see: a set of examples for each concept, and for each prior."""

    sets: tuple[tuple[Example, ...], ...]
    priors: tuple[tuple[Example, ...], ...]
    pairs: Int[np.ndarray, "k 2 n"]  # "a photo of a <v1> dog", "a photo of a dog"
    size: tuple[int, int]  # (height, width) of what the network sees, in pixels
    factor: int  # pixels per latent cell
    rows: int  # examples per step of the concepts, and as many of the priors
    seed: int
    prior_weight: float = 1.0
    options: Options = Options()
    handles: tuple[str, ...] = ()  # the words that are marked as concept k's


class Row(NamedTuple):
    """One example of one step, before anything is encoded."""

    still: tuple[int, int, bool] | None  # (set, number, mirrored) of a picture as it is
    view: View | None  # an augmented picture
    caption: str
    plain: str  # the caption without the placeholder


@struct.dataclass
class Feed:
    """The data and what of it is encoded once; `batch(feed, step)` makes batches."""

    vae: Params
    stills: vae.Posterior | None  # of every picture that is seen as it is
    masks: Float[np.ndarray, "r h w"] | None  # theirs, where pictures have masks
    texts: Text | None  # of every caption, where the text is frozen
    spec: Spec = struct.field(pytree_node=False)
    tokenizer: Tokenizer = struct.field(pytree_node=False)
    data: Data = struct.field(pytree_node=False)
    mesh: Mesh = struct.field(pytree_node=False)
    row_of_still: dict = struct.field(pytree_node=False)
    row_of_text: dict = struct.field(pytree_node=False)


def make_feed(
    data: Data,
    params: Params,
    spec: Spec,
    tokenizer: Tokenizer,
    mesh: Mesh,
    *,
    frozen_text: Denoiser | None = None,
) -> Feed:
    """A feed with all frozen work done: posteriors, and texts by `frozen_text`.

    Pictures that vary are encoded step by step instead. `params` are the autoencoder's.
    Raises what `check` raises.
    """
    check(data)
    pictures = _stills(data)
    each = []
    bar = Progress(
        pictures.values(),
        "encoding",
        unit="image",
        leave=False,
        disable=not is_host0(),
    )
    for shown in bar:
        found = _encode(params, spec.vae, shown.pixels[None], compute=spec.compute)
        # One after the other: hundreds in flight would all hold their memory.
        each.append(jax.block_until_ready(found))
    stills = (
        jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *each) if each else None
    )
    masks = [shown.mask for shown in pictures.values()]
    captions = _captions(data) if frozen_text is not None else []
    texts = [
        _encode_text(frozen_text, tokenize(tokenizer, [caption]))
        for caption in captions
    ]
    return Feed(
        vae=params,
        stills=stills,
        masks=np.stack(masks) if masks and _masked(data) else None,
        texts=jnp.concatenate(texts) if texts else None,
        spec=spec,
        tokenizer=tokenizer,
        data=data,
        mesh=mesh,
        row_of_still={still: i for i, still in enumerate(pictures)},
        row_of_text={caption: i for i, caption in enumerate(captions)},
    )


def check(data: Data) -> None:
    """ValueError for an option that does not exist or does not fit the size."""
    dropout = data.options.caption_dropout
    if not 0 <= dropout <= 1:
        raise ValueError(f"caption_dropout is {dropout}; it is a chance, from 0 to 1.")
    check_cut_mix(
        data.options.cut_mix,
        data.options.cut_mix_prompt,
        subjects=len(data.sets),
        size=data.size,
        factor=data.factor,
    )
    first = data.sets[0][0]
    _view(data, first, np.random.default_rng(0), first.captions)


def batch(feed: Feed, step: int) -> Batch:
    """The examples of one step, on their devices: the concepts', then the priors'.

    It depends on the seed and the step alone, so the position in the data is the number
    of steps taken. The concepts take turns, each with as many visits as the others,
    whatever their numbers of pictures.
    """
    rows, spread = list(rows_of(feed.data, step)), over_batch(feed.mesh)
    ids = tokenize(feed.tokenizer, [row.caption for row in rows])
    plain = tokenize(feed.tokenizer, [row.plain for row in rows])
    found = Batch(
        _posterior(feed, rows), ids, plain=plain, concept_mask=_marks(feed, rows)
    )
    if feed.texts is not None:
        found = found._replace(
            text=feed.texts[np.array([feed.row_of_text[row.caption] for row in rows])]
        )
    if feed.data.options.augment != "none" or _masked(feed.data):
        found = found._replace(mask=_masks(feed, rows))
    if feed.data.priors:
        # The concept's examples weigh 1 each, were they alone: mean + lambda * mean.
        share = len(rows) / feed.data.rows
        weight = [share] * feed.data.rows
        weight += [share * feed.data.prior_weight] * (len(rows) - feed.data.rows)
        found = found._replace(weight=np.array(weight, np.float32))
    found = put(found, spread)
    return found._replace(pairs=put(feed.data.pairs, everywhere(feed.mesh)))


def rows_of(data: Data, step: int) -> Iterator[Row]:
    """What step `step` sees, row by row; nothing is computed but pictures' geometry."""
    count = len(data.sets)
    for offset, sets in ((0, data.sets), (count, data.priors)):
        for row in range(data.rows if sets else 0):
            slot = step * data.rows + row
            which, turn = slot % len(sets), slot // len(sets)
            examples = sets[which]
            seed = [data.seed, offset + which]
            number = visit(len(examples), turn, seed)
            rng = np.random.default_rng([*seed, step, row])
            yield _row(data, offset + which, number, examples[number], rng)


def _row(data: Data, which: int, number: int, example: Example, rng) -> Row:
    options = data.options
    mixes = options.cut_mix and which < len(data.sets)
    if mixes and rng.random() < options.cut_mix:
        return _mixed(data, which, example, rng)
    mirrored = bool(options.flip and rng.random() < 0.5)
    caption = example.captions[rng.integers(len(example.captions))]
    key, shown = (which, number, mirrored), None
    if _varies(data, which):
        key, shown = None, _view(data, example, rng, (caption,), mirrored)
        caption = shown.caption
    if rng.random() < options.caption_dropout:
        caption = ""
    plain = without(caption, example.phrase, example.class_word)
    return Row(key, shown, caption, plain)


def _mixed(data: Data, which: int, example: Example, rng) -> Row:
    """The example and one of another concept, in either order."""
    others = [found for i, found in enumerate(data.sets) if i != which]
    found = others[rng.integers(len(others))]
    pair = [example, found[rng.integers(len(found))]]
    if rng.random() < 0.5:
        pair.reverse()
    (height, width), options = data.size, still(data.options)
    half = data._replace(size=(height, width // 2), options=options)
    left, right = (_view(half, each, rng, ("",)) for each in pair)
    prompt = data.options.cut_mix_prompt
    caption = said(prompt, *(each.phrase for each in pair))
    plain = said(prompt, *(each.class_word for each in pair))
    return Row(None, side_by_side(left, right, caption), caption, plain)


def _varies(data: Data, which: int) -> bool:
    """Whether a set's pictures are other ones at each visit; a prior's never are."""
    options = data.options
    return which < len(data.sets) and (
        options.augment != "none" or options.crop == "random" or options.cut_mix > 0
    )


def _view(data: Data, example: Example, rng, captions, mirrored: bool = False) -> View:
    pixels, mask, options = example.pixels, example.mask, data.options
    if mirrored:
        pixels, mask = pixels[:, ::-1], None if mask is None else mask[:, ::-1]
    return view(
        rng,
        pixels,
        captions[0],
        size=data.size,
        factor=data.factor,
        augment=options.augment,
        crop=options.crop,
        words=options.words,
        shrink=options.shrink,
        mask=mask,
    )


def _stills(data: Data) -> dict[tuple[int, int, bool], View]:
    """{(set, number, mirrored): view} of all that is seen as it is."""
    found, plain = {}, data._replace(options=still(data.options))
    for which, examples in enumerate((*data.sets, *data.priors)):
        if _varies(data, which):
            continue
        for number, example in enumerate(examples):
            for mirrored in (False, True) if data.options.flip else (False,):
                rng = np.random.default_rng(0)
                shown = _view(plain, example, rng, ("",), mirrored)
                found[which, number, mirrored] = shown
    return found


def _masked(data: Data) -> bool:
    """Whether any picture comes with a mask; the others then count everywhere."""
    return any(example.mask is not None for found in data.sets for example in found)


def _captions(data: Data) -> list[str]:
    """Every caption that a step may have, none where augmentation adds words."""
    if data.options.augment != "none":
        return []
    every = itertools.chain.from_iterable((*data.sets, *data.priors))
    empty = [""] if data.options.caption_dropout else []
    found = [caption for example in every for caption in example.captions]
    if data.options.cut_mix:
        phrases = [examples[0].phrase for examples in data.sets]
        found += [
            said(data.options.cut_mix_prompt, *pair)
            for pair in itertools.permutations(phrases, 2)
        ]
    return list(dict.fromkeys(found + empty))


def _posterior(feed: Feed, rows: Sequence[Row]) -> vae.Posterior:
    varied = [row.view.pixels for row in rows if row.view is not None]
    same = [feed.row_of_still[row.still] for row in rows if row.still is not None]
    parts = []
    if varied:
        # With a prior's examples the batch divides by the devices; alone, they may not.
        uneven = len(varied) % feed.mesh.size
        place = (everywhere if uneven else over_batch)(feed.mesh)
        images = put(np.stack(varied), place)
        parts.append(
            _encode(feed.vae, feed.spec.vae, images, compute=feed.spec.compute)
        )
    if same:
        parts.append(jax.tree.map(lambda x: x[np.array(same)], feed.stills))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _marks(feed: Feed, rows: Sequence[Row]) -> Bool[np.ndarray, "b k n"]:
    """Which tokens are concept k's; in a prior's captions its word is just a word."""
    data = feed.data
    marks = concept_mask(feed.tokenizer, [row.caption for row in rows], data.handles)
    marks[:, data.rows :] = False
    return np.moveaxis(marks, 0, 1)


def _masks(feed: Feed, rows: Sequence[Row]) -> Float[np.ndarray, "b h w"]:
    h, w, _ = feed.spec.latent_shape(*feed.data.size)
    whole = np.ones((h, w), np.float32)

    def mask(row: Row) -> Float[np.ndarray, "h w"]:
        if row.view is not None:
            return row.view.mask
        return whole if feed.masks is None else feed.masks[feed.row_of_still[row.still]]

    return np.stack([mask(row) for row in rows])


_encode = jax.jit(vae.encode, static_argnames=("config", "compute"))
_encode_text = jax.jit(lambda denoiser, ids: encode(denoiser, ids).text)
