"""Losses: functions of a denoiser, a batch and a key per example."""

from collections.abc import Callable, Sequence
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
    with_extra,
)
from personax.diffusion.spec import Spec
from personax.methods.arguments import Weight
from personax.methods.parts.tokens import TABLE
from personax.networks.clip_text import clip_text, pool_text
from personax.networks.vae import Posterior, draw, scale


class Batch(NamedTuple):
    """A training batch; optional fields are None where they do not apply.

    Row i is one example, of the concept or of its regularisation set.
    """

    posterior: Posterior  # of the pictures; latents are sampled from it in every step
    ids: Ids  # the captions
    text: Text | None = None  # the encoded captions, if the text encoder is frozen
    weight: Float[Array, " b"] | None = None  # of each example's loss
    mask: Float[Array, "b h w"] | None = None  # weights of the loss over latent cells
    plain: Ids | None = None  # the captions without the placeholders
    # The captions' tokens that belong to concept k.
    concept_mask: Bool[Array, "b k n"] | None = None
    pairs: Int[Array, "k 2 n"] | None = None  # "a photo of a <v1> dog", "… of a dog"
    hint: Float[Array, "b height width c"] | None = None  # a ControlNet's input
    # What an inpainting UNet reads: 1 in the latent cells that are repainted, and the
    # posterior of the pictures without these; see `with_masks`.
    repaint: Float[Array, "b h w"] | None = None
    masked: Posterior | None = None


Loss = Callable[[Denoiser, Batch, Key[Array, " b"]], tuple[Float[Array, ""], Metrics]]


_MASKED = 4  # the key of the masked pictures' latents

MASK_NORMS = ("mean", "sum_over_mask", "squared")


class Draws(NamedTuple):
    """The random variables of each example."""

    x0: Latents
    eps: Latents
    t: Int[Array, " b"]


def denoising(
    *,
    mask_norm: str = "mean",
    min_snr: Weight = 0.0,
    offset_noise: Weight = 0.0,
) -> Loss:
    """mean_i w_i L_i, where L_i is the squared error of the network's prediction.

    Ho et al. 2020, eq. 14 (L_simple), t ~ U{0 … T-1}; the target is the noise or the
    velocity, whichever the base predicts (Salimans & Ho 2022, sec. 4). With weights
    from the batch it is DreamBooth's loss with prior preservation (Ruiz et al. 2022,
    eq. 2).

    With a mask m, L_i is the mean over the valid latent cells. With
    `mask_norm="sum_over_mask"` it is what Custom Diffusion's released code computes,
    the sum over the latents' channels divided by the sum over the mask's single
    channel, 4 times as much in SD 1.5. `mask_norm="squared"` is Infusion's released
    loss, the mean over all cells of (m error)^2. `min_snr` is gamma of Hang et al.
    2023, eq. 5 (0: off); it applies to all examples, whereas diffusers' DreamBooth
    script excludes the prior's. `offset_noise` is the scale of additional noise that is
    constant over each image and channel (Guttenberg 2023).
    """
    _check("mask_norm", mask_norm, MASK_NORMS)

    def loss(denoiser, batch, keys):
        spec = denoiser.spec
        x0, eps, t = draws(spec, batch.posterior, keys, offset_noise=offset_noise)
        x = schedule.noise(spec.schedule, x0, eps, t)
        prompt = prompt_of(denoiser, batch)
        predicted, _ = network(
            denoiser, x, t.astype(jnp.float32), prompt, hint=hint_of(denoiser, batch)
        )
        target = schedule.target(spec.schedule, x0, eps, t)
        losses = _over_pixels(jnp.square(predicted - target), batch.mask, mask_norm)
        if min_snr:
            losses = losses * snr_weight(spec, t, min_snr)
        if batch.weight is not None:
            losses = losses * batch.weight
        value = losses.mean()
        return value, {"loss": value}

    return loss


def semantic_preservation(
    *,
    pool: str = "eos",
    keep_position: bool = True,
    reduce: str = "mean",
    prompt: str = "fixed",
) -> Loss:
    """The cosine distance of "a photo of a V* dog" from "a photo of a dog".

    Huang et al. 2024, eq. 10: the distance of both phrases' features in the text
    encoder, over concepts. Only the placeholder's rows receive a gradient.

    The paper uses the feature at the end of the text, sums over concepts and batch, and
    calls the first phrase the training prompt. The released code uses a fixed phrase
    and the mean, which are the defaults here. `prompt="caption"` compares the batch's
    own captions with and without the placeholder. Two options reproduce accidents of
    the released code: transformers' pooling picks the largest id, which is the
    placeholder and not the end of the text, so that the class word is never read
    (`pool="modifier"`); and the placeholder's position embedding is overwritten
    (`keep_position=False`).
    """
    _check("pool", pool, ("eos", "modifier"))
    _check("reduce", reduce, ("mean", "sum"))
    _check("prompt", prompt, ("fixed", "caption"))
    if not keep_position and prompt == "caption":
        raise ValueError('keep_position=False requires prompt="fixed".')

    def loss(denoiser, batch, keys):
        if prompt == "fixed":
            concept, word = batch.pairs[:, 0], batch.pairs[:, 1]
        else:
            concept, word = batch.ids, batch.plain
        features = _features(denoiser, concept, pool=pool, keep_position=keep_position)
        # Only the concept moves towards its class, not the class towards the concept.
        anchor = jax.lax.stop_gradient(
            _features(denoiser, word, pool="eos", keep_position=True)
        )
        distance = 1 - _cosine(features, anchor)
        # Captions of the regularisation set have no placeholder and are excluded.
        included = (concept != word).any(axis=1).astype(distance.dtype)
        value = jnp.sum(distance * included)
        if reduce == "mean":
            value = value / jnp.maximum(included.sum(), 1)
        return value, {"loss": value}

    return loss


def total(**terms: tuple[float, Loss]) -> Loss:
    """The weighted sum of named losses, `total(denoising=(1, a), semantic=(1, b))`.

    The metrics contain each term's value as "loss/NAME".
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
    """Latents, noise and timesteps, each example's from its own key alone."""
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
    """The batch's captions, encoded unless the batch holds their encodings."""
    concept_mask = None
    if batch.concept_mask is not None:
        concept_mask = jnp.moveaxis(batch.concept_mask, 1, 0)
    if batch.text is None:
        return encode(denoiser, batch.ids, concept_mask)
    return Prompt(batch.text, concept_mask)


def hint_of(denoiser: Denoiser, batch: Batch) -> Hint | None:
    """The batch's encoded hints; None without hints or without a ControlNet."""
    if batch.hint is None or CONTROLNET not in denoiser.params:
        return None
    return encode_hint(denoiser, batch.hint)


def with_masks(denoiser: Denoiser, batch: Batch, keys: Key[Array, " b"]) -> Denoiser:
    """The denoiser with the batch's masks and masked pictures, if it has any.

    Latents of the masked pictures are sampled from their posterior in every step, as in
    diffusers' train_dreambooth_inpaint; the loss is over all latent cells.
    """
    if batch.masked is None:
        return denoiser
    assert batch.repaint is not None
    # Apart from the keys of `draws`.
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, _MASKED)
    latents = scale(denoiser.spec.vae, draw(batch.masked, keys))
    extra = jnp.concatenate([batch.repaint[..., None], latents], axis=-1)
    return with_extra(denoiser, extra)


def snr_weight(spec: Spec, t: Int[Array, " b"], gamma: float) -> Float[Array, " b"]:
    """Hang et al. 2023, eq. 5: min(SNR, gamma) / SNR; / (SNR + 1) for the velocity."""
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
    total = (squares * mask[..., None]).sum(axis=(1, 2, 3))
    channels = 1 if norm == "sum_over_mask" else squares.shape[-1]
    # An empty mask gives 0 instead of NaN.
    return total / (channels * jnp.maximum(mask.sum(axis=(1, 2)), 1))


def _features(
    denoiser: Denoiser, ids: Ids, *, pool: str, keep_position: bool
) -> Float[Array, "b d"]:
    """The encoder's output at the end of the text, or at the placeholder."""
    spec, params = denoiser.spec, denoiser.params
    index = jnp.argmax(ids, axis=1)  # placeholders have the largest ids
    if not keep_position:
        # Subtracted beforehand, since the encoder adds it.
        table = flat(params)[TABLE]
        positions = flat(params)[TABLE.replace("token_embedding", "position_embedding")]
        rows = jnp.take_along_axis(ids, index[:, None], axis=1)[:, 0]
        table = table.at[rows].add(-positions[index].astype(table.dtype))
        params = overwrite(params, {TABLE: table})
    states = clip_text(
        params["text_encoder"], spec.text_encoder, ids, compute=spec.compute
    )
    if pool == "modifier":
        return jnp.take_along_axis(states, index[:, None, None], axis=1)[:, 0]
    return pool_text(spec.text_encoder, ids, states)


def _check(name: str, value: str, options: Sequence[str]) -> None:
    if value not in options:
        raise ValueError(
            f"Unknown {name} {value!r}; expected one of {', '.join(options)}."
        )


def _cosine(a: Float[Array, "b d"], b: Float[Array, "b d"]) -> Float[Array, " b"]:
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.sum(a * b, axis=1) / norms
