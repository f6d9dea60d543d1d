"""SVDiff (Han et al. 2023): trained shifts of the singular values of every weight."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from personax.core.tree import overwrite, select
from personax.core.typing import Ids, Key, Params, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods import losses
from personax.methods.arguments import Positive, Weight
from personax.methods.parts.base import Concept, Method, Part, forwards
from personax.methods.parts.prepared import get_prepared, put_prepared
from personax.methods.parts.tokens import tokens
from personax.methods.parts.weights import Leaf
from personax.methods.unmix import unmix

PREPARED = "svd"
MATRICES, VECTORS = r"/.*(kernel|embedding)", r"/.*(?<!kernel)(?<!embedding)"

Shift = Float[Array, " r"]


class Svd(NamedTuple):
    """A weight as a matrix u diag(s) vh, whose columns are the outputs."""

    u: Float[Array | np.ndarray, "i r"]
    s: Float[Array | np.ndarray, " r"]
    vh: Float[Array | np.ndarray, "r o"]


@forwards(losses.denoising)
def svdiff(
    *,
    scale: Positive = 1.0,
    vectors: bool = True,
    text_encoder: bool = False,
    words: bool = False,
    unmix_weight: Weight = 0.0,
    **denoising,
) -> Method:
    """W' = U diag(relu(sigma + scale * delta)) V' for every weight of the UNet; eq. 2.

    One delta per singular value, 0 at the start. A convolution is reshaped to a matrix
    with its outputs as columns; `vectors` adds biases and norms, 1 x n matrices with
    one singular value each. The parts "weights" and "vectors" can have learning rates
    of their own, `optimizer.learning_rates`; `text_encoder` adds the text encoder's
    weights, `words` a trained token. `unmix_weight` weights the `unmix` loss, which
    goes with `data.cut_mix`.

    Concepts trained separately are combined by adding their changes of each weight,
    U diag(relu(sigma + d_1) + relu(sigma + d_2) - sigma) V'. The paper adds the shifts,
    relu(sigma + d_1 + d_2), which is the same wherever no relu clamps. `denoising` are
    the options of `losses.denoising`.
    """
    parts = {"weights": spectral("unet" + MATRICES, scale)}
    if vectors:
        parts["vectors"] = spectral("unet" + VECTORS, scale)
    if text_encoder:
        parts["text_encoder"] = spectral("text_encoder/.*", scale)
    if words:
        parts["tokens"] = tokens()
    loss = losses.denoising(**denoising)
    if unmix_weight:
        loss = losses.total(denoising=(1.0, loss), unmix=(unmix_weight, unmix()))
    return Method(parts, loss)


def spectral(pattern: str, scale: float = 1.0) -> Part:
    """A shift for each singular value of the selected parameters.

    `prepare` factorises them on the host in float32, into `prepared["svd"]`; for SD 1.5
    this takes minutes and more memory than the UNet itself. Theta is {path: shifts}.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        return {
            path: jnp.zeros(min(_as_matrix(leaf.shape)), jnp.float32)
            for path, leaf in select(params, pattern).items()
        }

    def prepare(denoiser: Denoiser, corpus: Ids | None) -> Denoiser:
        factors = dict(denoiser.prepared.get(PREPARED, {}))
        for path, leaf in select(denoiser.params, pattern).items():
            factors[path] = factor(np.asarray(leaf))
        return put_prepared(denoiser, PREPARED, factors)

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        factors = get_prepared(denoiser, PREPARED)
        leaves = {
            path: shift(leaf, factors[path], scale * theta[path])
            for path, leaf in select(denoiser.params, pattern).items()
        }
        return dataclasses.replace(denoiser, params=overwrite(denoiser.params, leaves))

    return Part(init, bind, prepare)


def factor(leaf: Float[np.ndarray, "..."]) -> Svd:
    """The singular value decomposition of a parameter, float32."""
    matrix = np.asarray(leaf, np.float32).reshape(_as_matrix(leaf.shape))
    if leaf.ndim > 1:
        return Svd(*np.linalg.svd(matrix, full_matrices=False))
    length = np.linalg.norm(matrix)
    # A zero vector has no direction; a shift leaves it unchanged.
    direction = matrix / length if length else matrix
    return Svd(np.ones((1, 1), np.float32), np.reshape(length, 1), direction)


def shift(leaf: Leaf, svd: Svd, delta: Shift) -> Leaf:
    """U diag(relu(s + delta)) V', computed as a change of the parameter.

    A zero shift is then exact, whatever the rounding error of the factorisation.
    """
    u, s, vh = svd
    change = (u * (jax.nn.relu(s + delta) - s)[None]) @ vh
    return (leaf.astype(jnp.float32) + change.reshape(leaf.shape)).astype(leaf.dtype)


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """(inputs, outputs) of a parameter as a matrix; a vector is one row."""
    return math.prod(shape[:-1]), shape[-1]
