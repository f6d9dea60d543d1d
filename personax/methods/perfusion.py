"""Perfusion (Tewel et al. 2023): gated rank-one edits of K and V, the keys locked."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from personax.control.gate import Gate, join, make_gate
from personax.core.tree import PRESETS, select
from personax.core.typing import Ids, Key, Params, Theta
from personax.diffusion.denoiser import Denoiser, encode
from personax.methods import losses
from personax.methods.losses import Batch
from personax.methods.parts.base import Concept, Method, Part
from personax.methods.parts.prepared import keep, kept
from personax.methods.parts.tokens import tokens
from personax.networks.clip_text import pool_text

PREPARED = "inverse_covariance"


def perfusion(
    *,
    beta: float = 0.75,
    tau: float = 0.1,
    inference_beta: float = 0.65,
    inference_tau: float = 0.15,
    decay: float = 0.99,
    ridge: float = 1e-4,
    **denoising,
) -> Method:
    """A new word whose value is trained and whose key is its class's, where gated.

    h = W (e - e* sim / energy) + g o*, see `Gate`: per layer o*_V trains, starting from
    the class word's value, and o*_K is the class word's key. On SD 1.5 these are 12,480
    numbers and 768 of the word. e* is the moving average of the word's own encoding,
    `decay` its rate, updated at the end of a step: until the first one has ended, the
    method is the base. e*, C^-1 e* and the class word's encoding lie beside what
    trains, 768 numbers each.

    `beta` and `tau` hold in the loss, `inference_beta` and `inference_tau` elsewhere;
    `gated` gives a bound denoiser others. The covariance C comes from a corpus of
    captions, to which `ridge` times its mean eigenvalue is added. Weight decay would
    wear e* down: train without. `denoising` are the options of `losses.denoising`; its
    masks are the paper's soft segmentation.
    """
    if tau <= 0 or inference_tau <= 0:
        raise ValueError("tau and inference_tau must be above 0.")
    denoise = losses.denoising(**denoising)

    def loss(denoiser, batch, keys):
        return denoise(gated(denoiser, beta, tau), batch, keys)

    edit = _edit(inference_beta, inference_tau, decay, ridge)
    return Method({"tokens": tokens(), "edit": edit}, loss)


def gated(denoiser: Denoiser, beta: float, tau: float) -> Denoiser:
    """The denoiser with other thresholds and temperatures of every concept's gate."""

    def change(control):
        if not isinstance(control, Gate):
            return control
        like = jnp.ones_like(control.beta)
        return control.replace(beta=beta * like, tau=tau * like)

    return denoiser.replace(controls=tuple(map(change, denoiser.controls)))


def _edit(beta: float, tau: float, decay: float, ridge: float) -> Part:
    """{"target": e*, "direction": C^-1 e*, "word": the class word's encoding: "k d",
    and per site "unet/…/attn2/to_v": o*_V - W_V word: "k c"}; zeros at the start.

    With several of them bound, their gates become one.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        count, kernels = len(concepts), _kernels(params)
        if not all(concept.placeholder for concept in concepts):
            raise ValueError("Perfusion needs a placeholder for every concept.")
        width = next(iter(kernels.values())).shape[0]
        theta = {
            name: jnp.zeros((count, width), jnp.float32)
            for name in ("target", "direction", "word")
        }
        values = {
            f"unet/{path}": jnp.zeros((count, kernel.shape[1]), jnp.float32)
            for path, kernel in kernels.items()
            if path.endswith("to_v")
        }
        return theta | values

    def prepare(denoiser: Denoiser, corpus: Ids | None) -> Denoiser:
        if corpus is None:
            return denoiser  # a trained concept has C^-1 e*
        C = covariance(denoiser, corpus)
        C += ridge * np.trace(C) / len(C) * np.eye(len(C))
        return keep(denoiser, PREPARED, np.linalg.inv(C).astype(np.float32))

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        names = ("target", "direction", "word")
        target, direction, word = (lax.stop_gradient(theta[name]) for name in names)
        old, new = {}, {}
        for path, kernel in _kernels(denoiser.params).items():
            W = kernel.astype(jnp.float32)
            old[path] = target @ W
            new[path] = word @ W + theta.get(f"unet/{path}", 0)
        own = make_gate(target, direction, old, new, beta, tau)
        gates = [each for each in denoiser.controls if isinstance(each, Gate)]
        others = (each for each in denoiser.controls if not isinstance(each, Gate))
        return denoiser.replace(controls=(*others, join([*gates, own])))

    def after(base: Denoiser, theta: Theta, batch: Batch) -> Theta:
        if batch.concept_mask is None:
            return theta
        own = dict(theta["edit"])
        spoken = tokens().bind(base, theta["tokens"])
        e, seen = _encodings(spoken, batch, base.concept_offset, len(own["target"]))
        # The first encoding is taken whole: there is nothing to average it with.
        known = jnp.any(own["target"] != 0, axis=1)
        rate = jnp.where(known, 1 - decay, 1.0) * seen
        own["target"] += rate[:, None] * (e - own["target"])
        own["direction"] = own["target"] @ kept(base, PREPARED)
        own["word"] = _class_words(base, batch)
        return {**theta, "edit": own}

    return Part(init, bind, prepare, after, needs="captions")


def covariance(denoiser: Denoiser, corpus: Ids) -> Float[np.ndarray, "d d"]:
    """C = mean over captions of the sum over tokens of e e', float64.

    Every token that a layer reads counts, the padding too: the edit acts on it as well.
    """
    pieces = np.array_split(np.asarray(corpus), -(-len(corpus) // 64))
    return sum(np.asarray(_moment(denoiser, ids), np.float64) for ids in pieces) / len(
        corpus
    )


@jax.jit
def _moment(denoiser: Denoiser, ids: Ids) -> Float[Array, "d d"]:
    text = encode(denoiser, ids).text.astype(jnp.float32)
    return jnp.einsum("bnd,bne->de", text, text)


def _encodings(
    denoiser: Denoiser, batch: Batch, first: int, count: int
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """(the mean encoding of each concept's tokens in the batch, 1 where it has any)."""
    text = encode(denoiser, batch.ids).text.astype(jnp.float32)
    marks = batch.concept_mask[:, first : first + count].astype(jnp.float32)
    tokens_of = marks.sum(axis=(0, 2))
    sums = jnp.einsum("bkn,bnd->kd", marks, text)
    seen = (tokens_of > 0).astype(jnp.float32)
    return sums / jnp.maximum(tokens_of, 1)[:, None], seen


def _class_words(base: Denoiser, batch: Batch) -> Float[Array, "k d"]:
    """The encoding of the class word in "a photo of a dog", of its last token."""
    ids = batch.pairs[:, 1]
    text = encode(base, ids).text.astype(jnp.float32)
    # One to the right: what stands at the end of the text is the state before it.
    return pool_text(base.spec.text_encoder, ids, jnp.roll(text, 1, axis=1))


def _kernels(params: Params) -> dict[str, Array]:
    """{"…/attn2/to_k": kernel} of keys and values; sites are named within the UNet."""
    return {
        path.removeprefix("unet/").removesuffix("/kernel"): leaf
        for path, leaf in select(params, PRESETS["kv"]).items()
    }
