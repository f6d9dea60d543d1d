"""What concepts change in a base: its weights and its words, and nothing else."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from personax.concepts.bind import Model
from personax.control.detach import DetachBOS
from personax.core.tree import flat
from personax.diffusion.denoiser import CONTROLNET, Denoiser
from personax.loading import Base
from personax.methods.parts.folded_null_text import reads_text, unfold
from personax.methods.parts.tokens import TABLE
from personax.networks.tokenizer import Tokenizer, ids_of, text_of

# What can leave instead of a concept that cannot.
_CAN_LEAVE = (
    "Methods whose changes are weights or words can be exported: lora, "
    "custom_diffusion, class_diffusion, dreambooth, oft, svdiff, concept_centric and "
    "textual_inversion."
)


class Word(NamedTuple):
    """A placeholder and its embeddings."""

    token: str  # "<v1>"
    rows: Float[np.ndarray, "n d"]
    trained: bool = True  # False: an alias of the vocabulary's rows
    text: str = ""  # the text that an alias stands for, where a text has its ids

    @property
    def name(self) -> str:
        """The token without angle brackets, which file systems and web UIs refuse."""
        return self.token.strip("<>") or self.token

    @property
    def tokens(self) -> tuple[str, ...]:
        """One token per row, named as diffusers does: <v1>, <v1>_1, <v1>_2."""
        more = (f"{self.token}_{i}" for i in range(1, len(self.rows)))
        return (self.token, *more)


@dataclasses.dataclass(frozen=True)
class Changes:
    """Parameters of the UNet and the text encoder by path, and the words.

    `after` has the paths and shapes of `before`, the base's; an unchanged parameter is
    the same array. The words' rows are not part of the embedding table.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    words: tuple[Word, ...] = ()

    @functools.cached_property
    def paths(self) -> list[str]:
        """The paths of the parameters whose values differ; compared once."""
        return [
            path
            for path, leaf in self.after.items()
            if leaf is not self.before[path] and self.delta(path).any()
        ]

    def delta(self, path: str) -> Float[np.ndarray, "..."]:
        """after - before, float32."""
        after, before = self.after[path], self.before[path]
        return np.asarray(after, np.float32) - np.asarray(before, np.float32)


def find_changes(model: Model, base: Base) -> Changes:
    """What the concepts bound in `model` change in the base.

    A UNet without text becomes one that ignores it. Raises ValueError for concepts that
    change anything but weights and words, and for ControlNets.
    """
    denoiser = model.denoiser
    if CONTROLNET in denoiser.params:
        raise ValueError(
            "The concept is a ControlNet, a network of its own; it has one format: "
            "--to diffusers, a folder for ControlNetModel.from_pretrained."
        )
    reason = obstacle(denoiser)
    if reason:
        raise ValueError(
            f"The concept {reason}; no file of diffusers, ComfyUI or A1111 can hold "
            f"that, it is used with personax.sample --concept. {_CAN_LEAVE}"
        )
    before = {
        path: leaf
        for path, leaf in flat(base.params).items()
        if path.startswith(("unet/", "text_encoder/"))
    }
    params = denoiser.params
    if not reads_text(params):
        plain = {name: base.params[name] for name in ("unet", "text_encoder")}
        params = unfold(params, plain)
    after = flat(params)
    table = after[TABLE]
    words = find_words(model.tokenizer, base.tokenizer, table)
    if table.shape != before[TABLE].shape:
        own = table[: len(before[TABLE])]
        same = before[TABLE] is table or np.array_equal(own, before[TABLE])
        after[TABLE] = before[TABLE] if same else own
    return Changes(before, after, words)


def find_words(
    tokenizer: Tokenizer, plain: Tokenizer, table: Float[Any, "n d"]
) -> tuple[Word, ...]:
    """The placeholders with their rows of the embedding table; aliases with theirs.

    Without the words that `plain`, the base's tokenizer, has itself, and without other
    names of a trained word.
    """
    words: list[Word] = []
    seen: set[tuple[int, ...]] = set()
    for placeholder in tokenizer.placeholders:
        ids, text = placeholder.ids, ""
        trained = max(ids) >= plain.size
        if placeholder in plain.placeholders or (trained and ids in seen):
            continue
        seen.add(ids)
        if not trained:
            text = text_of(plain, ids)
            text = text if ids_of(plain, text) == ids else ""
        rows = np.asarray(table[np.array(ids)], np.float32)
        words.append(Word(placeholder.word, rows, trained, text))
    return tuple(words)


def obstacle(denoiser: Denoiser) -> str:
    """What a denoiser does beside its weights, as a predicate; "" for nothing."""
    if denoiser.token_conditioners:
        return "has embeddings that depend on the timestep or on the layer"
    if denoiser.shared_controls:
        return (
            "edits keys and values by gates that depend on the text (activations, not "
            "weights)"
        )
    controls = [each for each in denoiser.controls if not isinstance(each, DetachBOS)]
    if denoiser.reference is not None or controls:
        return (
            "adds residuals to the values of cross-attention at its word (activations, "
            "not weights)"
        )
    return ""
