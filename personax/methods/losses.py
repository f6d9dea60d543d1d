"""Losses: a denoiser, a batch and a key per example to (scalar, metrics)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from personax.core.tree import flat, overwrite
from personax.core.typing import Ids, Latents, Metrics, Text
from personax.diffusion import schedule
from personax.diffusion.denoiser import (
    CONTROLNET,
    Denoiser,
    Hint,
    Prompt,
    encode,
    encode_hint,
    network,
)
from personax.diffusion.spec import Spec
from personax.methods.parts.tokens import TABLE
from personax.networks.clip_text import clip_text, pool_text
from personax.networks.vae import Posterior, draw, scale


class Batch(NamedTuple):
    """What a step trains on; what is None does not apply.

    Row i belongs to one example, of the concept or of its regularisation set.
    """

    posterior: Posterior  # of the pictures: each visit draws its own latents
    ids: Ids  # the captions
    text: Text | None = None  # the captions encoded, where the text is frozen
    weight: Float[Array, " b"] | None = None  # of each example's loss
    mask: Float[Array, "b h w"] | None = None  # 1 where the loss counts
    plain: Ids | None = None  # the captions without the placeholders
    concept_mask: Bool[Array, "b k n"] | None = (
        None  # their tokens that are concept k's
    )
    pairs: Int[Array, "k 2 n"] | None = None  # "a photo of a <v1> dog", "… of a dog"
    hint: Float[Array, "b height width c"] | None = None  # what a ControlNet follows


Loss = Callable[[Denoiser, Batch, Key[Array, " b"]], tuple[Float[Array, ""], Metrics]]


MASK_NORMS = ("mean", "sum_over_mask", "squared")


class Draws(NamedTuple):
    """What chance decides about each example."""

    x0: Latents
    eps: Latents
    t: Int[Array, " b"]


def denoising(
    *,
    mask_norm: str = "mean",
    min_snr: float = 0.0,
    offset_noise: float = 0.0,
) -> Loss:
    """mean_i w_i L_i, where L_i is the squared error of the network's prediction.

    Ho et al. 2020, eq. 14 (L_simple), t ~ U{0 … T-1}; the target is the noise or the
    velocity, whichever the base predicts (Salimans & Ho 2022, sec. 4). With weights
    from the batch it is DreamBooth's loss with prior preservation (Ruiz et al. 2022,
    eq. 2).

    With a mask m, L_i is the mean over the valid latent cells, or with
    `mask_norm="sum_over_mask"` what Custom Diffusion's released code computes: a sum
    over the latents' channels over a sum over the mask's one, 4 times as much in SD
    1.5; `mask_norm="squared"` is Infusion's release, the mean over all cells of the
    square of m times the error. `min_snr` is gamma of Hang et al. 2023, eq. 5 (0: off);
    unlike diffusers' DreamBooth script, which leaves the prior's examples out, it
    weighs every one. `offset_noise` adds that many times one more draw per image and
    channel to the noise (Guttenberg 2023).
    """
    if mask_norm not in MASK_NORMS:
        norms = ", ".join(MASK_NORMS)
        raise ValueError(f"There is no mask_norm {mask_norm!r}; there are: {norms}.")

    def loss(denoiser, batch, keys):
        spec = denoiser.spec
        x0, eps, t = draws(spec, batch.posterior, keys, offset_noise=offset_noise)
        x = schedule.noise(spec.schedule, x0, eps, t)
        prompt = prompt_of(denoiser, batch)
        predicted, _ = network(
            denoiser, x, t.astype(jnp.float32), prompt, hint=hint_of(denoiser, batch)
        )
        target = schedule.target(spec.schedule, x0, eps, t)
        each = _over_pixels(jnp.square(predicted - target), batch.mask, mask_norm)
        if min_snr:
            each = each * snr_weight(spec, t, min_snr)
        if batch.weight is not None:
            each = each * batch.weight
        value = each.mean()
        return value, {"loss": value}

    return loss


def semantic_preservation(
    *,
    pool: str = "eos",
    keep_position: bool = True,
    reduce: str = "mean",
    prompt: str = "fixed",
) -> Loss:
    """How far the words "a photo of a V* dog" have moved from "a photo of a dog".

    Huang et al. 2024, eq. 10: the cosine distance of both phrases' features in the text
    encoder, over concepts. Only the words train, so only they get a gradient.

    The paper takes the feature at the end of the text, sums over concepts and batch,
    and calls the first phrase the training prompt. The released code takes a fixed
    phrase and the mean, which are the defaults here. `prompt="caption"` compares the
    batch's own captions with and without the placeholder. Two more things the release
    does by accident: transformers' pooling picks the largest id, which is the
    placeholder and not the end, so that the class word is never seen
    (`pool="modifier"`); and the placeholder's position embedding is overwritten
    (`keep_position=False`).
    """
    if pool not in ("eos", "modifier"):
        raise ValueError(f"There is no pool {pool!r}; there are: eos, modifier.")
    if reduce not in ("mean", "sum"):
        raise ValueError(f"There is no reduce {reduce!r}; there are: mean, sum.")
    if prompt not in ("fixed", "caption"):
        raise ValueError(f"There is no prompt {prompt!r}; there are: fixed, caption.")
    if not keep_position and prompt == "caption":
        raise ValueError('keep_position=False goes with prompt="fixed" alone.')

    def loss(denoiser, batch, keys):
        if prompt == "fixed":
            concept, word = batch.pairs[:, 0], batch.pairs[:, 1]
        else:
            concept, word = batch.ids, batch.plain
        features = _features(denoiser, concept, pool=pool, keep_position=keep_position)
        # The class has no gradient: it is where the concept is to be, not the reverse.
        anchor = jax.lax.stop_gradient(
            _features(denoiser, word, pool="eos", keep_position=True)
        )
        distance = 1 - _cosine(features, anchor)
        # A caption of the regularisation set has no placeholder: it counts for nothing.
        counts = (concept != word).any(axis=1).astype(distance.dtype)
        value = jnp.sum(distance * counts)
        if reduce == "mean":
            value = value / jnp.maximum(counts.sum(), 1)
        return value, {"loss": value}

    return loss


def total(**terms: tuple[float, Loss]) -> Loss:
    """The weighted sum of named losses, `total(denoising=(1, a), semantic=(1, b))`.

    Each term's own value is among the metrics, as "loss/NAME".
    """

    def loss(denoiser, batch, keys):
        value, metrics = jnp.zeros(()), {}
        for name, (weight, term) in terms.items():
            part, _ = term(denoiser, batch, keys)
            value = value + weight * part
            metrics[f"loss/{name}"] = part
        return value, {"loss": value, **metrics}

    return loss


def draws(
    spec: Spec,
    posterior: Posterior,
    keys: Key[Array, " b"],
    *,
    offset_noise: float = 0.0,
) -> Draws:
    """Latents, noise and times: each example's from its own key, whatever the batch."""
    split = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
    x0 = scale(spec.vae, draw(posterior, split[:, 0]))
    h, w, c = x0.shape[1:]
    eps = jax.vmap(lambda key: jax.random.normal(key, (h, w, c)))(split[:, 1])
    if offset_noise:
        shift = jax.vmap(lambda key: jax.random.normal(key, (1, 1, c)))(split[:, 3])
        eps = eps + offset_noise * jnp.broadcast_to(shift, eps.shape)
    steps = spec.schedule.num_train_timesteps
    t = jax.vmap(lambda key: jax.random.randint(key, (), 0, steps))(split[:, 2])
    return Draws(x0, eps, t)


def prompt_of(denoiser: Denoiser, batch: Batch) -> Prompt:
    """The batch's captions, encoded here where their text is not frozen."""
    concept_mask = (
        None if batch.concept_mask is None else jnp.moveaxis(batch.concept_mask, 1, 0)
    )
    if batch.text is None:
        return encode(denoiser, batch.ids, concept_mask)
    return Prompt(batch.text, concept_mask)


def hint_of(denoiser: Denoiser, batch: Batch) -> Hint | None:
    """The batch's hints, where there are some and a ControlNet to read them."""
    if batch.hint is None or CONTROLNET not in denoiser.params:
        return None
    return encode_hint(denoiser, batch.hint)


def snr_weight(spec: Spec, t: Int[Array, " b"], gamma: float) -> Float[Array, " b"]:
    """Hang et al. 2023, eq. 5: min(SNR, gamma) / SNR, for the velocity / (SNR + 1)."""
    signal, noise = schedule.rates(spec.schedule, t)
    snr = jnp.square(signal / noise)
    velocity = spec.schedule.prediction_type == "v_prediction"
    return jnp.minimum(snr, gamma) / (snr + 1 if velocity else snr)


def _over_pixels(
    squares: Latents, mask: Float[Array, "b h w"] | None, norm: str
) -> Float[Array, " b"]:
    if mask is None:
        return squares.mean(axis=(1, 2, 3))
    if norm == "squared":
        return (squares * jnp.square(mask)[..., None]).mean(axis=(1, 2, 3))
    summed = (squares * mask[..., None]).sum(axis=(1, 2, 3))
    channels = 1 if norm == "sum_over_mask" else squares.shape[-1]
    # A mask that leaves nothing leaves no loss, and no NaN.
    return summed / (channels * jnp.maximum(mask.sum(axis=(1, 2)), 1))


def _features(
    denoiser: Denoiser, ids: Ids, *, pool: str, keep_position: bool
) -> Float[Array, "b d"]:
    """The final-norm state at the end of the text, or at the placeholder."""
    spec, params = denoiser.spec, denoiser.params
    at = jnp.argmax(ids, axis=1)  # placeholders have the largest ids
    if not keep_position:
        # The encoder adds the position; taking it from the row beforehand leaves the
        # bare word in that place.
        table = flat(params)[TABLE]
        positions = flat(params)[TABLE.replace("token_embedding", "position_embedding")]
        rows = jnp.take_along_axis(ids, at[:, None], axis=1)[:, 0]
        bare = table.at[rows].add(-positions[at].astype(table.dtype))
        params = overwrite(params, {TABLE: bare})
    states = clip_text(
        params["text_encoder"], spec.text_encoder, ids, compute=spec.compute
    )
    if pool == "modifier":
        return jnp.take_along_axis(states, at[:, None, None], axis=1)[:, 0]
    return pool_text(spec.text_encoder, ids, states)


def _cosine(a: Float[Array, "b d"], b: Float[Array, "b d"]) -> Float[Array, " b"]:
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.sum(a * b, axis=1) / norms
