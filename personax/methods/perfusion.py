"""Perfusion (Tewel et al. 2023): gated rank-one edits of K and V with locked keys."""

import dataclasses
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from personax.control.gate import Gate, join, make_gate
from personax.core.tree import PRESETS, select
from personax.core.typing import Ids, Key, Params, Text, Theta
from personax.diffusion.denoiser import Denoiser, encode
from personax.methods import losses
from personax.methods.arguments import Number, Positive, Share, Weight
from personax.methods.losses import Batch
from personax.methods.parts.base import Concept, Method, Part, forwards
from personax.methods.parts.prepared import get_prepared, put_prepared
from personax.methods.parts.tokens import tokens
from personax.networks.clip_text import pool_text

PREPARED = "inverse_covariance"
GATE = "gate"  # the control's name in `Denoiser.shared_controls`


@forwards(losses.denoising)
def perfusion(
    *,
    beta: Number = 0.75,
    tau: Positive = 0.1,
    inference_beta: Number = 0.65,
    inference_tau: Positive = 0.15,
    decay: Share = 0.99,
    ridge: Weight = 1e-4,
    **denoising,
) -> Method:
    """A new token with trained values and its class word's keys, applied by a gate.

    h = W (e - e* sim / energy) + g o*, see `Gate`. Per layer o*_V is trained, starting
    from the class word's value, and o*_K is the class word's key: on SD 1.5 12,480
    parameters, and 768 of the token. e* is the moving average of the token's encoding
    with rate `decay`, updated after each step; until the first update the method equals
    the base. e*, C^-1 e* and the class word's encoding, of width 768 each, are stored
    with theta.

    `beta` and `tau` are used in the loss, `inference_beta` and `inference_tau`
    otherwise; see `with_gate`. C is the covariance of a corpus of captions, plus
    `ridge` times its mean eigenvalue. Train without weight decay, which would shrink
    e*. `denoising` are the options of `losses.denoising`; its masks are the paper's
    soft segmentation.
    """
    if tau <= 0 or inference_tau <= 0:
        raise ValueError("tau and inference_tau must be above 0.")
    denoise = losses.denoising(**denoising)

    def loss(denoiser, batch, keys):
        return denoise(with_gate(denoiser, beta, tau), batch, keys)

    edit = _edit(inference_beta, inference_tau, decay, ridge)
    return Method({"tokens": tokens(), "edit": edit}, loss)


def with_gate(denoiser: Denoiser, beta: float, tau: float) -> Denoiser:
    """A bound denoiser with this threshold and temperature for every concept."""
    gate = _gate(denoiser)
    ones = jnp.ones_like(gate.beta)
    return _replace_gate(
        denoiser, dataclasses.replace(gate, beta=beta * ones, tau=tau * ones)
    )


def _gate(denoiser: Denoiser) -> Gate:
    return cast(Gate, denoiser.shared_controls[GATE])


def _replace_gate(denoiser: Denoiser, gate: Gate) -> Denoiser:
    return dataclasses.replace(
        denoiser, shared_controls={**denoiser.shared_controls, GATE: gate}
    )


def _edit(beta: float, tau: float, decay: float, ridge: float) -> Part:
    """{"target": e*, "direction": C^-1 e*, "word": the class word's encoding: "k d",
    and per site "unet/…/attn2/to_v": o*_V - W_V word: "k c"}; zeros at the start.

    The gates of concepts that are bound together are joined.
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
            return denoiser  # a trained concept's theta contains C^-1 e*
        C = covariance(denoiser, corpus)
        C += ridge * np.trace(C) / len(C) * np.eye(len(C))
        return put_prepared(denoiser, PREPARED, np.linalg.inv(C).astype(np.float32))

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        names = ("target", "direction", "word")
        target, direction, word = (lax.stop_gradient(theta[name]) for name in names)
        old, new = {}, {}
        for path, kernel in _kernels(denoiser.params).items():
            W = kernel.astype(jnp.float32)
            old[path] = target @ W
            new[path] = word @ W + theta.get(f"unet/{path}", 0)
        own = make_gate(target, direction, old, new, beta, tau)
        if GATE in denoiser.shared_controls:
            own = join([_gate(denoiser), own])
        return _replace_gate(denoiser, own)

    def after(denoiser: Denoiser, theta: Theta, batch: Batch) -> Theta:
        if batch.concept_mask is None:
            return theta
        target, offset = theta["target"], denoiser.concept_offset
        e, seen = _encodings(denoiser, batch, offset, len(target))
        # The first encoding initialises the average.
        initialised = jnp.any(target != 0, axis=1)
        rate = jnp.where(initialised, 1 - decay, 1.0) * seen
        target = target + rate[:, None] * (e - target)
        direction = target @ get_prepared(denoiser, PREPARED)
        word = _class_words(denoiser, batch)
        return {**theta, "target": target, "direction": direction, "word": word}

    return Part(init, bind, prepare, after, requires=frozenset({"captions"}))


def covariance(denoiser: Denoiser, corpus: Ids) -> Float[np.ndarray, "d d"]:
    """C = mean over captions of the sum over tokens of e e', float64.

    Padding tokens are included: attention layers read them, so the edit applies to them
    as well.
    """
    batches = np.array_split(np.asarray(corpus), -(-len(corpus) // 64))
    moments = [np.asarray(_moment(denoiser, ids), np.float64) for ids in batches]
    return sum(moments, np.zeros_like(moments[0])) / len(corpus)


@jax.jit
def _moment(denoiser: Denoiser, ids: Ids) -> Float[Array, "d d"]:
    text = _encode(denoiser, ids)
    return jnp.einsum("bnd,bne->de", text, text)


def _encode(denoiser: Denoiser, ids: Ids) -> Text:
    """The text encoder's float32 output for `ids`."""
    text = encode(denoiser, ids).text
    assert text is not None
    return text.astype(jnp.float32)


def _encodings(
    denoiser: Denoiser, batch: Batch, first: int, count: int
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """(the mean encoding of each concept's tokens in the batch, 1 where it has any)."""
    text = _encode(denoiser, batch.ids)
    assert batch.concept_mask is not None
    mask = batch.concept_mask[:, first : first + count].astype(jnp.float32)
    num_tokens = mask.sum(axis=(0, 2))
    sums = jnp.einsum("bkn,bnd->kd", mask, text)
    seen = (num_tokens > 0).astype(jnp.float32)
    return sums / jnp.maximum(num_tokens, 1)[:, None], seen


def _class_words(denoiser: Denoiser, batch: Batch) -> Float[Array, "k d"]:
    """The encoding of the class word's last token in "a photo of a dog"."""
    assert batch.pairs is not None
    ids = batch.pairs[:, 1]
    text = _encode(denoiser, ids)
    # `pool_text` reads the end token; shifted right, the token before it.
    return pool_text(denoiser.spec.text_encoder, ids, jnp.roll(text, 1, axis=1))


def _kernels(params: Params) -> dict[str, Array]:
    """{"…/attn2/to_k": kernel} of keys and values; paths are relative to the UNet."""
    return {
        path.removeprefix("unet/").removesuffix("/kernel"): leaf
        for path, leaf in select(params, PRESETS["kv"]).items()
    }
