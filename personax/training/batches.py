"""From a dataset's rows to batches on devices: tokenise, place, encode."""

import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int, UInt8

from personax.core.progress import Progress
from personax.core.text import fold
from personax.core.typing import Params, Text
from personax.data.dataset import Dataset, Rows, StepIterator, iterate
from personax.diffusion.denoiser import Denoiser
from personax.diffusion.encode import encode_pictures, encode_prompts
from personax.diffusion.spec import Spec
from personax.methods.losses import Batch
from personax.networks.tokenizer import Tokenizer, concept_mask, tokenize
from personax.networks.vae import Posterior
from personax.training.distributed import is_host0
from personax.training.sharding import everywhere, over_batch, put

_REMEMBERED = 1 << 16  # captions whose ids are kept
_MAX_MESSAGES = 20  # unreadable pictures that are named before the first step


class CaptionTokenizer:
    """Token ids and concept masks of captions, kept for captions that come again."""

    def __init__(self, tokenizer: Tokenizer, handles: Sequence[str] = ()):
        self.tokenizer, self.handles = tokenizer, tuple(handles)
        self._ids: dict[str, Int[np.ndarray, " n"]] = {}
        self._mask = functools.lru_cache(_REMEMBERED)(self._concept_mask)
        self._first = [w for each in handles for w in fold(each).split()[:1]]

    def ids(
        self, captions: Iterable[str], known: Mapping[str, np.ndarray] = {}
    ) -> dict[str, Int[np.ndarray, " n"]]:
        """{caption: ids}, which of `known` captions are not computed."""
        unknown = [each for each in dict.fromkeys(captions) if each not in known]
        new = [caption for caption in unknown if caption not in self._ids]
        if len(self._ids) + len(new) > _REMEMBERED:
            self._ids.clear()
            new = unknown
        # In one call: one for each takes twice as long.
        self._ids.update(zip(new, tokenize(self.tokenizer, new), strict=True))
        return {**known, **{caption: self._ids[caption] for caption in unknown}}

    def masks(self, captions: Sequence[str]) -> Bool[np.ndarray, "b k n"]:
        """True where a token belongs to concept k."""
        return np.stack([self._mask(caption) for caption in captions])

    def _concept_mask(self, caption: str) -> Bool[np.ndarray, "k n"]:
        text = fold(caption)
        if not any(word in text for word in self._first):
            return np.zeros((len(self.handles), self.tokenizer.length), bool)
        return concept_mask(self.tokenizer, [caption], self.handles)[:, 0]


class Batcher:
    """Makes batches of a dataset's rows; what never changes is encoded once, here.

    `params` are the autoencoder's. `frozen_text` encodes captions before the step,
    where no part of the method changes the text encoder. `pairs` are those of `Batch`.
    """

    def __init__(
        self,
        dataset: Dataset,
        params: Params,
        spec: Spec,
        captions: CaptionTokenizer,
        mesh: Mesh,
        *,
        pairs: Int[np.ndarray, "k 2 n"],
        frozen_text: Denoiser | None = None,
    ):
        self.captions, self.mesh, self.count = captions, mesh, dataset.rows_per_step
        self._encode = functools.partial(
            encode_pictures, params, config=spec.vae, compute=spec.compute
        )
        self.pairs = put(pairs, everywhere(mesh))
        self.items = self._encode_items(dataset)
        self.texts = self.empty = None
        self.row_of: dict[str, int] = {}
        if frozen_text is not None and dataset.captions:
            self.row_of = {caption: i for i, caption in enumerate(dataset.captions)}
            self.texts = self._encode_captions(dataset, frozen_text)
        elif frozen_text is not None and dataset.has_text:
            ids = tokenize(captions.tokenizer, [""])
            self.empty = encode_prompts(frozen_text, ids).text

    def __call__(self, rows: Rows) -> Batch:
        return self.encode(self.place(rows))

    def place(self, rows: Rows) -> dict[str, Array]:
        """The rows as arrays on the devices of all processes, captions tokenised."""
        captions, plain = rows["caption"], rows["plain"]
        known = {}
        if self.empty is not None:
            # Cached ids are the set's own captions, also where a caption is dropped.
            known = dict(zip(captions, rows["ids"], strict=True))
            known.pop("", None)
        ids = self.captions.ids((*captions, *plain), known)
        arrays = {
            "ids": np.stack([ids[caption] for caption in captions]),
            "plain": np.stack([ids[caption] for caption in plain]),
            "concept_mask": self.captions.masks(captions),
        }
        if "marked" in rows:
            arrays["concept_mask"] &= rows["marked"][:, None, None]
        if self.texts is not None:
            arrays["row"] = np.array([self.row_of[x] for x in captions], np.int32)
        elif self.empty is not None:
            arrays["text"] = rows["text"]
            arrays["dropped"] = np.array([not caption for caption in captions])
        names = ("pixels", "item", "mean", "logvar", "mask", "weight", "hint")
        for name in (*names, "repaint", "masked"):
            if name in rows:
                arrays[name] = rows[name]
        # A process has all rows of a step, or those of its own devices.
        whole, placed = len(captions) == self.count, {}
        for name, array in arrays.items():
            shape = array.shape if whole else (self.count, *array.shape[1:])
            # A part of the rows, such as the augmented ones, may not divide by the
            # devices.
            uneven = shape[0] % self.mesh.size
            sharding = (everywhere if uneven else over_batch)(self.mesh)
            placed[name] = jax.make_array_from_process_local_data(
                sharding, array, shape
            )
        return placed

    def encode(self, placed: Mapping[str, Array]) -> Batch:
        """The batch of placed rows: posteriors, and the text where it is frozen."""
        spread = over_batch(self.mesh)
        posterior = None
        if "pixels" in placed:
            posterior = self._encode(placed["pixels"])
        elif "mean" in placed:
            posterior = _to_float32(Posterior(placed["mean"], placed["logvar"]))
        if "item" in placed:
            posterior = _take(self.items, placed["item"], posterior, sharding=spread)
        assert posterior is not None  # rows have pixels, a mean or an item
        text = None
        if self.texts is not None:
            text = _take(self.texts, placed["row"], sharding=spread)
        elif self.empty is not None:
            text = _with_empty(placed["text"], self.empty, placed["dropped"])
        own = ("ids", "plain", "concept_mask", "weight", "mask", "hint", "repaint")
        fields: dict[str, Any] = {name: placed[name] for name in own if name in placed}
        if "masked" in placed:
            fields["masked"] = self._encode(placed["masked"])
        if "hint" in fields:
            fields["hint"] = _scale_hint(fields["hint"])
        return Batch(posterior, text=text, pairs=self.pairs, **fields)

    def _encode_items(self, dataset: Dataset) -> Posterior | None:
        """The posteriors of the dataset's items, one at a time to bound the memory."""
        bar = Progress(
            dataset.items,
            "encoding",
            unit="image",
            leave=False,
            disable=not (dataset.items and is_host0()),
        )
        posteriors = [jax.block_until_ready(self._encode(read()[None])) for read in bar]
        if not posteriors:
            return None
        joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *posteriors)
        return put(joined, everywhere(self.mesh))

    def _encode_captions(self, dataset: Dataset, denoiser: Denoiser) -> Text:
        captions = dataset.captions
        chunk = dataset.caption_chunk or len(captions)
        ids = tokenize(self.captions.tokenizer, captions)
        texts = [
            encode_prompts(denoiser, ids[i : i + chunk]).text
            for i in range(0, len(ids), chunk)
        ]
        return jnp.concatenate(texts) if len(texts) > 1 else texts[0]


class Source:
    """The batches of a run by step number, read ahead from the last one requested.

    `state()` is what a checkpoint keeps of it, as JSON; `restore(state, step)` resumes
    before that step. Pictures that cannot be read are reported once each.
    """

    def __init__(self, dataset: Dataset, batcher: Batcher):
        self.dataset, self.batcher = dataset, batcher
        self._skipped = dict.fromkeys(dataset.skipped)
        self._placed: StepIterator | None = None
        for message in list(self._skipped)[:_MAX_MESSAGES]:
            print(f"skipped: {message}", file=sys.stderr)
        if self._skipped:
            print(f"{len(self._skipped)} pictures were skipped", file=sys.stderr)

    def batch(self, step: int) -> Batch:
        if self._placed is None or self._placed.next_step != step:
            self.close()
            self._placed = iterate(self.dataset, step, self._place)
        return self.batcher.encode(next(self._placed))

    def state(self) -> dict[str, Any]:
        if not self.dataset.digest:
            return {}
        step = 0 if self._placed is None else self._placed.next_step
        return {"step": step, "stream": self.dataset.digest}

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        if state.get("stream", self.dataset.digest) != self.dataset.digest:
            raise ValueError("The checkpoint was written with another stream.")
        self.close()

    def close(self) -> None:
        if self._placed is not None:
            self._placed.close()
            self._placed = None

    def _place(self, rows: Rows) -> dict[str, Array]:
        for message in rows.get("skipped", ()):
            if message not in self._skipped:
                self._skipped[message] = None
                count = f"{len(self._skipped)} so far"
                print(f"skipped ({count}): {message}", file=sys.stderr)
        return self.batcher.place(rows)


@jax.jit
def _to_float32(posterior: Posterior) -> Posterior:
    return jax.tree.map(lambda x: x.astype(jnp.float32), posterior)


@functools.partial(jax.jit, static_argnames="sharding")
def _take(
    table: Any, index: Int[Array, " s"], before: Any = None, *, sharding: NamedSharding
) -> Any:
    """Rows of a tree of tables, behind those that come `before` them."""
    rows = jax.tree.map(lambda leaf: leaf[index], table)
    if before is not None:
        rows = jax.tree.map(lambda *both: jnp.concatenate(both), before, rows)
    return jax.lax.with_sharding_constraint(rows, sharding)


@jax.jit
def _with_empty(
    text: Text, empty: Float[Array, "1 n d"], dropped: Bool[Array, " b"]
) -> Text:
    return jnp.where(dropped[:, None, None], empty, text.astype(empty.dtype))


@jax.jit
def _scale_hint(
    edges: UInt8[Array, "b height width 1"],
) -> Float[Array, "b height width 1"]:
    return edges.astype(jnp.float32) / 255
