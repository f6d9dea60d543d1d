"""Denoisers: what `bind` returns, and what sampling and losses use."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from personax.control.maps import Capture
from personax.core.typing import AttentionMaps, ConceptMask, Ids, Latents, Params, Text
from personax.diffusion.schedule import to_eps
from personax.diffusion.spec import Spec
from personax.networks.attention import Context, Control
from personax.networks.clip_text import clip_text
from personax.networks.controlnet import ControlNetConfig, controlnet, embed_hint
from personax.networks.unet import cross_sites, unet

FROZEN = "frozen"  # the name of a reference's attention maps
CONTROLNET = "controlnet"  # the name of a ControlNet's parameters


@runtime_checkable
class TokenConditioner(Protocol):
    """Token embeddings that depend on the timestep or layer; a frozen struct.

    With `by_layer` each cross-attention layer has its own text. Rows are texts, all of
    one layer before those of the next; `t` and `layer`, the layer's index in the
    forward pass, have one entry per row.
    """

    by_layer: bool

    def embed(
        self,
        x: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        """The token embeddings, before position embeddings and the text encoder."""
        ...

    def after(
        self,
        states: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        """The text encoder's output."""
        ...


@struct.dataclass
class Denoiser:
    """Parameters, attention controls, token conditioners, and a static spec.

    With a `reference`, a prompt with a concept mask is first evaluated by that
    denoiser, and its cross-attention maps are available to the controls as `FROZEN`.
    `prepared` holds what parts compute once from the parameters. The concepts that are
    bound next have the rows of a prompt's concept mask from `concept_offset` on.

    `extra` are the channels that an inpainting UNet reads behind the noisy latents, a
    row per image or one for all: a mask, 1 where the picture is repainted, and the
    latents of the picture without what is masked (Rombach et al. 2022, sec. 4.5).
    """

    params: Params
    controls: tuple[Control, ...] = ()
    # Controls that all concepts share, by name; they apply after `controls`.
    shared_controls: Mapping[str, Control] = struct.field(default_factory=dict)
    token_conditioners: tuple[TokenConditioner, ...] = ()
    reference: "Denoiser | None" = None
    prepared: Mapping[str, Any] = struct.field(default_factory=dict)
    extra: Float[Array, "_ h w e"] | None = None
    concept_offset: int = struct.field(pytree_node=False, default=0)
    spec: Spec = struct.field(pytree_node=False, default=Spec())


class Prompt(NamedTuple):
    """An encoded prompt, computed once outside the sampler's scan.

    With token conditioners `text` is None, and `encode_at` encodes `ids` at each step.
    If layers have different texts, `text` has a leading axis of layers. `guidance` is
    the guidance weight that a distilled UNet is conditioned on (Meng et al. 2023).
    """

    text: Text | Float[Array, "l b n d"] | None
    concept_mask: ConceptMask | None = None  # row k: the tokens of concept k
    ids: Ids | None = None
    guidance: Float[Array, " b"] | None = None


class Hint(NamedTuple):
    """The encoded picture that a ControlNet follows, computed once."""

    features: Float[Array, "b h w c"]  # from the hint encoder
    strength: Float[Array, " b"] | None = None  # of the residuals; None is 1


def encode(
    denoiser: Denoiser, ids: Ids, concept_mask: ConceptMask | None = None
) -> Prompt:
    """The prompt of token ids, encoded by the denoiser's text encoder.

    Token conditioners apply only to prompts with a concept mask.
    """
    if denoiser.token_conditioners and concept_mask is not None:
        return Prompt(None, concept_mask, ids)
    spec = denoiser.spec
    text = clip_text(
        denoiser.params["text_encoder"], spec.text_encoder, ids, compute=spec.compute
    )
    return Prompt(text, concept_mask)


def encode_at(
    denoiser: Denoiser, prompt: Prompt, t: Float[Array, ""] | Float[Array, " b"]
) -> Prompt:
    """The prompt with its text at timestep `t`, a scalar or one per row."""
    if prompt.text is not None:
        return prompt
    assert prompt.ids is not None
    assert prompt.concept_mask is not None
    spec, (b, _) = denoiser.spec, prompt.ids.shape
    layers = 1
    if any(each.by_layer for each in denoiser.token_conditioners):
        layers = len(cross_sites(denoiser.params["unet"]))
    # One call of the text encoder for all layers.
    layer = jnp.repeat(jnp.arange(layers), b)
    ids = jnp.tile(prompt.ids, (layers, 1))
    concept_mask = jnp.tile(prompt.concept_mask, (1, layers, 1))
    t = jnp.tile(jnp.broadcast_to(t, b), layers)

    def rewrite(x: Text) -> Text:
        for conditioner in denoiser.token_conditioners:
            x = conditioner.embed(x, concept_mask, t, layer)
        return x

    params = denoiser.params["text_encoder"]
    text = clip_text(
        params, spec.text_encoder, ids, rewrite=rewrite, compute=spec.compute
    )
    for conditioner in denoiser.token_conditioners:
        text = conditioner.after(text, concept_mask, t, layer)
    if layers > 1:
        text = text.reshape(layers, b, *text.shape[1:])
    return Prompt(text, prompt.concept_mask, guidance=prompt.guidance)


def encode_hint(
    denoiser: Denoiser,
    pixels: Float[Array, "b height width c"],
    strength: Float[Array, " b"] | None = None,
) -> Hint:
    """The hint of pictures in [0, 1], encoded by the denoiser's ControlNet.

    Raises ValueError for a denoiser without a ControlNet, or pictures of another size.
    """
    if CONTROLNET not in denoiser.params:
        raise ValueError("A hint needs a model with a ControlNet; this one has none.")
    spec = denoiser.spec
    params = denoiser.params[CONTROLNET]
    assert spec.controlnet is not None
    features = embed_hint(params, spec.controlnet, pixels, compute=spec.compute)
    return Hint(features, strength)


def with_controlnet(
    denoiser: Denoiser, params: Params, config: ControlNetConfig
) -> Denoiser:
    """The denoiser and its reference with a ControlNet."""
    reference = denoiser.reference
    if reference is not None:
        reference = with_controlnet(reference, params, config)
    return dataclasses.replace(
        denoiser,
        params={**denoiser.params, CONTROLNET: params},
        spec=dataclasses.replace(denoiser.spec, controlnet=config),
        reference=reference,
    )


def with_extra(denoiser: Denoiser, extra: Float[Array, "_ h w e"]) -> Denoiser:
    """The denoiser and its reference with `extra` channels to read."""
    reference = denoiser.reference
    if reference is not None:
        reference = with_extra(reference, extra)
    return dataclasses.replace(denoiser, extra=extra, reference=reference)


def network(
    denoiser: Denoiser,
    x: Latents,
    t: Float[Array, " b"],
    prompt: Prompt,
    *,
    controls: tuple[Control, ...] = (),
    maps: Mapping[str, AttentionMaps] = {},
    hint: Hint | None = None,
) -> tuple[Latents, AttentionMaps]:
    """(the UNet's own output, noise or velocity; the captured probabilities).

    `controls` apply after the denoiser's own and may borrow from `maps`, {stream:
    {site: probabilities}}. The ControlNet follows the `hint` and reads the same text;
    controls do not act on it. Raises ValueError for an inpainting UNet without `extra`.
    """
    prompt = encode_at(denoiser, prompt, t)
    if uses_reference(denoiser, prompt):
        frozen, capture = denoiser.reference, (Capture(),)
        assert frozen is not None
        _, captured = network(frozen, x, t, prompt, controls=capture, hint=hint)
        maps = {FROZEN: jax.lax.stop_gradient(captured), **maps}
    spec, residuals = denoiser.spec, None
    assert prompt.text is not None
    text, inputs = _by_site(denoiser, prompt.text), _inputs(denoiser, x)
    if hint is not None:
        assert spec.controlnet is not None
        residuals = controlnet(
            denoiser.params[CONTROLNET],
            spec.controlnet,
            # One of an ordinary base reads the latents alone.
            inputs[..., : spec.controlnet.in_channels],
            t,
            text,
            hint.features,
            strength=hint.strength,
            compute=spec.compute,
        )
    return unet(
        denoiser.params["unet"],
        spec.unet,
        inputs,
        t,
        text,
        controls=(*denoiser.controls, *denoiser.shared_controls.values(), *controls),
        context=Context(concept_mask=prompt.concept_mask, maps=maps),
        residuals=residuals,
        guidance=prompt.guidance,
        compute=spec.compute,
    )


def uses_reference(denoiser: Denoiser, prompt: Prompt) -> bool:
    """Whether the denoiser needs its reference's maps for this prompt."""
    return denoiser.reference is not None and prompt.concept_mask is not None


def predict(
    denoiser: Denoiser,
    x: Latents,
    t: Float[Array, " b"],
    prompt: Prompt,
    *,
    controls: tuple[Control, ...] = (),
    maps: Mapping[str, AttentionMaps] = {},
    hint: Hint | None = None,
) -> tuple[Latents, AttentionMaps]:
    """(the noise eps, for any prediction type; the captured probabilities)."""
    output, captured = network(
        denoiser, x, t, prompt, controls=controls, maps=maps, hint=hint
    )
    return to_eps(denoiser.spec.schedule, output, x, t), captured


def _inputs(denoiser: Denoiser, x: Latents) -> Float[Array, "b h w i"]:
    """What the UNet reads: the latents, which are variance preserving, and `extra`."""
    extra = denoiser.extra
    if extra is not None:
        extra = jnp.broadcast_to(extra, (*x.shape[:-1], extra.shape[-1]))
        return jnp.concatenate([x, extra.astype(x.dtype)], axis=-1)
    if denoiser.spec.inpaints:
        raise ValueError(
            "The base is an inpainting model, which needs a picture and a mask; there "
            "are none here. Use a text-to-image base."
        )
    return x


def _by_site(denoiser: Denoiser, text: Array):
    """The text, or a function of the site if each has its own."""
    if text.ndim == 3:
        return text
    number = {name: i for i, name in enumerate(cross_sites(denoiser.params["unet"]))}
    text = denoiser.spec.compute.cast(text)
    return lambda site: text[number[site.name]]
