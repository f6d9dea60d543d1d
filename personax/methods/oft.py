"""OFT and COFT (Qiu et al. 2023): orthogonal rotations of attention kernels."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from personax.core.typing import Key
from personax.diffusion.denoiser import Denoiser
from personax.methods import losses
from personax.methods.arguments import Size, Weight
from personax.methods.lora import TARGETS
from personax.methods.losses import Batch
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.weights import Form, Leaf, weights

Blocks = Float[Array, "r s s"]


@forwards(losses.denoising)
def oft(*, blocks: Size = 4, eps: Weight = 0.0, **denoising) -> Method:
    """R W on the queries, keys, values and outputs of every attention layer.

    R is orthogonal and block-diagonal and acts on a kernel's inputs; 4 blocks are
    23,304,192 parameters on SD 1.5. With `eps` > 0 it is COFT: after each step every R
    is projected to |R - I| <= eps in the Frobenius norm of the whole R. The projection
    enforces |Q| <= eps / 2, which implies it and is equivalent up to eps^3.

    The released code bounds X instead of R - I, which is twice as loose, and each block
    separately by eps / sqrt(blocks). `denoising` are the options of `losses.denoising`.
    """
    if blocks < 1:
        raise ValueError(f"blocks is {blocks}; it must be at least 1.")
    if eps < 0:
        raise ValueError(f"eps is {eps}; it must not be negative; 0 sets no bound.")
    part = weights(TARGETS["attention"], rotation(blocks))

    def after(
        denoiser: Denoiser, theta: dict[str, Blocks], batch: Batch
    ) -> dict[str, Blocks]:
        return {path: bound(X, eps) for path, X in theta.items()}

    parts = {"oft": part._replace(after=after) if eps else part}
    return Method(parts, losses.denoising(**denoising))


def rotation(blocks: int) -> Form:
    """R W with R = diag(R_1 … R_r) orthogonal, acting on a linear kernel's inputs.

    Theta is X "r s s" with s = inputs / r, 0 at the start. The lengths of a kernel's
    columns (its neurons) and the angles between them are preserved.
    """

    def init(key: Key, leaf: Leaf) -> Blocks:
        inputs = leaf.shape[0]
        if inputs % blocks:
            raise ValueError(f"{inputs} inputs are not divisible into {blocks} blocks.")
        side = inputs // blocks
        return jnp.zeros((blocks, side, side), jnp.float32)

    def apply(leaf: Leaf, theta: Blocks) -> Leaf:
        W = leaf.astype(jnp.float32).reshape(blocks, -1, leaf.shape[1])
        turned = jnp.einsum("rij,rjo->rio", cayley(theta), W)
        return turned.reshape(leaf.shape).astype(leaf.dtype)

    return Form(init, apply)


def cayley(X: Blocks) -> Blocks:
    """R = (I + Q) (I - Q)^-1 with Q = (X - X') / 2, Qiu et al. 2023; float32, exact."""
    Q = skew(X)
    return (jnp.eye(X.shape[-1])[None] + Q) @ _inverse(Q)


@jax.custom_vjp
def _inverse(Q: Blocks) -> Blocks:
    """(I - Q)^-1 of skew Q, by Newton's iteration Y <- Y (2 - (I - Q) Y).

    Only matrix products: the factorisations behind `solve` are slow on TPUs, and a
    hundred at once have deadlocked the threads of a two-core CPU.
    """
    I = jnp.eye(Q.shape[-1])[None]  # noqa: E741
    # The eigenvalues of Q are pairs +-is, so s^2 <= |Q|^2 / 2, and those of (I - Q)'
    # (I - Q) lie in [1, 1 + s^2]: the best start divides by the middle of that range.
    largest = jnp.square(Q).sum(axis=(1, 2), keepdims=True) / 2
    start = (I + Q) / (1 + largest / 2)

    def error(Y: Blocks) -> Blocks:
        return I - (Y - Q @ Y)

    def unconverged(Y: Blocks) -> Bool[Array, ""]:
        return (jnp.square(error(Y)).sum(axis=(1, 2)) > 1e-6).any()

    def newton(Y: Blocks) -> Blocks:
        return Y + Y @ error(Y)

    # Each step squares the error, so one more step takes 1e-3 to rounding error.
    return newton(lax.while_loop(unconverged, newton, start))


def _inverse_fwd(Q: Blocks) -> tuple[Blocks, Blocks]:
    inverse = _inverse(Q)
    return inverse, inverse


def _inverse_bwd(inverse: Blocks, gradient: Blocks) -> tuple[Blocks]:
    turned = jnp.swapaxes(inverse, 1, 2)
    return (turned @ gradient @ turned,)


_inverse.defvjp(_inverse_fwd, _inverse_bwd)


def bound(X: Blocks, eps: float) -> Blocks:
    """X, scaled down where its R may be further than `eps` from the identity.

    R - I = 2 Q (I - Q)^-1, and the norm of (I - Q)^-1 is at most 1 for a skew Q.
    """
    distance = 2 * jnp.linalg.norm(skew(X))
    return X * (eps / jnp.maximum(distance, eps))


def skew(X: Blocks) -> Blocks:
    """The skew-symmetric part of X."""
    return (X - jnp.swapaxes(X, 1, 2)) / 2
