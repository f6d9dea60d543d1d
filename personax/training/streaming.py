"""A run's batches out of a large set: read ahead, told in words, placed, encoded."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8

from personax.core.images import Pixels, to_uint8
from personax.core.typing import Params, Text
from personax.data.latents import Latents
from personax.data.stream import Batches, Rows, fit, next_good
from personax.data.templates import without
from personax.diffusion.denoiser import Denoiser, encode
from personax.diffusion.spec import Spec
from personax.methods.losses import Batch
from personax.networks import vae
from personax.networks.compute import Compute
from personax.networks.tokenizer import Tokenizer, concept_mask, tokenize
from personax.networks.vae import Posterior, VAEConfig
from personax.training.sharding import everywhere, over_batch
from personax.training.source import Source
from personax.training.stream_setup import Material

_MEMORY = 1 << 16  # captions whose ids are remembered
_SAID = 20  # bad pictures that are named before the first step


class Language(NamedTuple):
    """How a run speaks of its concept."""

    tokenizer: Tokenizer
    handles: tuple[str, ...]  # the words that are marked as concept k's
    phrase: str  # the concept's words in its prompts
    class_word: str  # what stands there without the concept
    pairs: Int[np.ndarray, "k 2 n"]  # see Batch


@struct.dataclass
class Flow:
    """A material and what encodes it; `make_source(flow)` is a run's source."""

    vae: Params
    texts: Text | None  # of every caption, where they are few and the text is frozen
    empty: Text | None  # of the empty caption, where captions come encoded
    pairs: Int[Array, "k 2 n"]
    spec: Spec = struct.field(pytree_node=False)
    mesh: Mesh = struct.field(pytree_node=False)
    material: Material = struct.field(pytree_node=False)
    words: Callable[[Rows], dict[str, Any]] = struct.field(pytree_node=False)


def make_flow(
    material: Material,
    params: Params,
    spec: Spec,
    language: Language,
    mesh: Mesh,
    *,
    frozen_text: Denoiser | None = None,
) -> Flow:
    """A flow with the text done that is always the same, by `frozen_text`.

    `params` are the autoencoder's.
    """
    texts = empty = None
    few: tuple[str, ...] = ()
    if frozen_text is not None:
        said = material.stream.words
        few = tuple(dict.fromkeys((*said.prompts, *([""] if said.dropout else []))))
        read = functools.partial(_read, frozen_text)
        if said.prompts:
            texts = read(tokenize(language.tokenizer, few))
        elif material.text:
            empty = read(tokenize(language.tokenizer, [""]))
    return Flow(
        vae=params,
        texts=texts,
        empty=empty,
        pairs=_whole(mesh, language.pairs),
        spec=spec,
        mesh=mesh,
        material=material,
        words=_make_words(
            language,
            few=few if texts is not None else (),
            encoded=empty is not None,
        ),
    )


def make_source(flow: Flow) -> Source:
    """The flow's batches from any step on; what it leaves out is said once.

    A batch depends on the seed and on the step alone, however many processes there are
    and wherever a run was stopped.
    """
    running = _Running(flow)
    return Source(running.batch, running.state, running.restore, running.close)


def held_out(flow: Flow) -> list[Batch]:
    """The pictures that no step sees, mirrored never and called by the first prompt."""
    found = flow.material.stream.held_out()
    return [encoded(flow, place(flow, rows)) for rows in found]


def tiles(flow: Flow, count: int) -> list[Pixels]:
    """The first pictures of the stream, as the network sees them."""
    pictures, size = flow.material.pictures, flow.material.sizes[0]
    order = flow.material.stream.order
    steps = [order.step(i) for i in range(-(-count // order.rows))]
    numbers = [int(i) for i in np.concatenate(steps)[:count]]
    if isinstance(pictures, Latents):
        records = pictures.records(numbers)
        return [_decoded(flow, record.posteriors[0, 0]) for record in records]
    rng, crop = np.random.default_rng(0), flow.material.stream.reader.crop
    return [
        fit(rng, next_good(pictures, number, []).pixels, size, crop)
        for number in numbers
    ]


class _Running:
    """Where a source stands; batches are read ahead from there."""

    def __init__(self, flow: Flow):
        self.flow, self.skipped = flow, dict.fromkeys(flow.material.pictures.skipped)
        self.prefetch: Batches | None = None
        for sentence in list(self.skipped)[:_SAID]:
            print(f"skipped: {sentence}", file=sys.stderr)
        if self.skipped:
            print(f"{len(self.skipped)} pictures were skipped", file=sys.stderr)

    def batch(self, step: int) -> Batch:
        if self.prefetch is None or self.prefetch.next_step != step:
            self.close()
            self.prefetch = self.flow.material.stream.batches(
                step, workers=self.flow.material.workers, then=self._ready
            )
        return encoded(self.flow, next(self.prefetch))

    def state(self) -> dict[str, Any]:
        step = 0 if self.prefetch is None else self.prefetch.next_step
        return {"step": step, "stream": self.flow.material.digest}

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        known = state.get("stream", self.flow.material.digest)
        if known != self.flow.material.digest:
            raise ValueError("The checkpoint's stream is not the config's.")
        # Whatever number of processes wrote it, the step says where they were.
        self.close()

    def close(self) -> None:
        if self.prefetch is not None:
            self.prefetch.close()
            self.prefetch = None

    def _ready(self, rows: Rows) -> dict[str, Array]:
        for sentence in rows["skipped"]:
            if sentence not in self.skipped:
                self.skipped[sentence] = None
                said = f"skipped ({len(self.skipped)} so far): {sentence}"
                print(said, file=sys.stderr)
        return place(self.flow, rows)


def place(flow: Flow, rows: Rows) -> dict[str, Array]:
    """A batch's arrays, words read, on the devices of all processes."""
    host = {**flow.words(rows)}
    for name in ("pixels", "mean", "logvar", "hint", "text"):
        if name in rows and (name != "text" or flow.empty is not None):
            host[name] = rows[name]
    spread, count = over_batch(flow.mesh), flow.material.rows
    return {
        name: jax.make_array_from_process_local_data(
            spread, np.asarray(value), (count, *value.shape[1:])
        )
        for name, value in host.items()
    }


def encoded(flow: Flow, placed: Mapping[str, Array]) -> Batch:
    """The batch of a step: what the frozen networks say of its pictures and words."""
    spec = flow.spec
    if "pixels" in placed:
        posterior = _encode(
            flow.vae, placed["pixels"], config=spec.vae, compute=spec.compute
        )
    else:
        posterior = _floats(Posterior(placed["mean"], placed["logvar"]))
    text = None
    if flow.texts is not None:
        text = _take(flow.texts, placed["row"])
    elif flow.empty is not None:
        text = _or_empty(placed["text"], flow.empty, placed["silent"])
    found = Batch(
        posterior,
        placed["ids"],
        text=text,
        plain=placed["plain"],
        concept_mask=placed["where"],
        pairs=flow.pairs,
    )
    if "hint" in placed:
        found = found._replace(hint=_share(placed["hint"]))
    return found


def _make_words(
    language: Language, *, few: tuple[str, ...], encoded: bool
) -> Callable[[Rows], dict[str, Any]]:
    """A function from a batch's captions to its arrays of words.

    They are "ids", "plain" and "where" of `Batch`, of `few` captions their "row" in
    them, and of captions that come `encoded` whether one is "silent".
    """
    tokenizer, handles = language.tokenizer, language.handles
    row_of = {caption: i for i, caption in enumerate(few)}
    first = [handle.lower().split()[0] for handle in handles]
    none = np.zeros((len(handles), tokenizer.length), bool)

    remembered: dict[str, Int[np.ndarray, " n"]] = {}

    def ids(captions: Sequence[str]) -> dict[str, Int[np.ndarray, " n"]]:
        """{caption: its ids} of captions that differ from each other."""
        new = [caption for caption in captions if caption not in remembered]
        if len(remembered) + len(new) > _MEMORY:
            remembered.clear()
            new = captions
        # In one call: one for each takes twice as long.
        remembered.update(zip(new, tokenize(tokenizer, new), strict=True))
        return {caption: remembered[caption] for caption in captions}

    @functools.lru_cache(_MEMORY)
    def marks(caption: str) -> Bool[np.ndarray, "k n"]:
        said = caption.lower()
        if not any(word in said for word in first):
            return none
        return concept_mask(tokenizer, [caption], handles)[:, 0]

    def words(rows: Rows) -> dict[str, Any]:
        captions = rows["caption"]
        plain = [without(c, language.phrase, language.class_word) for c in captions]
        # What a cache has read needs no tokenizer, which is slower than the cache; it
        # reads the set's own caption, also where the row's is dropped.
        known = dict(zip(captions, rows["ids"], strict=True)) if encoded else {}
        known.pop("", None)
        said = dict.fromkeys((*captions, *plain))
        known |= ids([caption for caption in said if caption not in known])
        found = {
            "ids": np.stack([known[caption] for caption in captions]),
            "plain": np.stack([known[caption] for caption in plain]),
            "where": np.stack([marks(caption) for caption in captions]),
        }
        if few:
            found["row"] = np.array([row_of[c] for c in captions], np.int32)
        if encoded:
            found["silent"] = np.array([not caption for caption in captions])
        return found

    return words


def _whole(mesh: Mesh, array: np.ndarray) -> Array:
    return jax.make_array_from_process_local_data(everywhere(mesh), array, array.shape)


def _decoded(flow: Flow, mean: Float[np.ndarray, "h w c"]) -> Pixels:
    latents = vae.scale(flow.spec.vae, jnp.asarray(mean, jnp.float32)[None])
    shown = _decode(
        flow.vae, latents=latents, config=flow.spec.vae, compute=flow.spec.compute
    )
    return to_uint8(np.asarray(shown)[0])


@functools.partial(jax.jit, static_argnames=("config", "compute"))
def _encode(
    params: Params,
    pixels: UInt8[Array, "b height width 3"],
    *,
    config: VAEConfig,
    compute: Compute,
) -> Posterior:
    images = pixels.astype(jnp.float32) / 127.5 - 1
    return vae.encode(params, config, images, compute=compute)


@jax.jit
def _floats(posterior: Posterior) -> Posterior:
    return jax.tree.map(lambda x: x.astype(jnp.float32), posterior)


@jax.jit
def _take(texts: Float[Array, "r n d"], row: Int[Array, " b"]) -> Text:
    return texts[row]


@jax.jit
def _or_empty(
    text: Text, empty: Float[Array, "1 n d"], silent: Bool[Array, " b"]
) -> Text:
    return jnp.where(silent[:, None, None], empty, text.astype(empty.dtype))


@jax.jit
def _share(edges: UInt8[Array, "b height width 1"]) -> Float[Array, "b height width 1"]:
    return edges.astype(jnp.float32) / 255


_decode = jax.jit(vae.decode, static_argnames=("config", "compute"))
_read = jax.jit(lambda denoiser, ids: encode(denoiser, ids).text)
