"""A denoiser: what `bind` returns, what sampling and losses consume."""

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

# The name under which a reference's maps are offered.
FROZEN = "frozen"
CONTROLNET = "controlnet"  # and a ControlNet's parameters


@runtime_checkable
class TokenConditioner(Protocol):
    """Words that mean something else at each time or layer; a frozen struct.

    `by_layer` says whether cross-attention layers read different texts. Rows are texts,
    all of a layer before the next's: of each the time and the layer's number in the
    forward pass are given.
    """

    by_layer: bool

    def embed(
        self,
        x: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        """The words' embeddings, before positions are added and the encoder reads."""
        ...

    def after(
        self,
        states: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        """What the encoder said."""
        ...


@struct.dataclass
class Denoiser:
    """Parameters, what acts on its attention and words, and what is static about it.

    With a `reference`, a prompt that marks a concept is first read by that other
    denoiser, whose cross-attention maps controls then find as `FROZEN`. `prepared` is
    what parts have computed of the parameters once. Row `first` of a prompt's `where`
    is where the marks of what is bound next begin.
    """

    params: Params
    controls: tuple[Control, ...] = ()
    # Controls that all concepts share, by name; they apply after `controls`.
    shared_controls: Mapping[str, Control] = struct.field(default_factory=dict)
    words: tuple[TokenConditioner, ...] = ()
    reference: "Denoiser | None" = None
    prepared: Mapping[str, Any] = struct.field(default_factory=dict)
    concept_offset: int = struct.field(pytree_node=False, default=0)
    spec: Spec = struct.field(pytree_node=False, default=Spec())


class Prompt(NamedTuple):
    """An encoded prompt: computed once, outside the sampler's scan.

    Where words change with time, `text` is None and `read` encodes `ids` step by step.
    Where they differ by layer, `text` has that axis in front.
    """

    text: Text | Float[Array, "l b n d"] | None
    concept_mask: ConceptMask | None = None  # which of its tokens are concept k's
    ids: Ids | None = None


class Hint(NamedTuple):
    """What a ControlNet follows: computed once, outside the sampler's scan."""

    features: Float[Array, "b h w c"]  # of a picture, by its hint encoder
    strength: Float[Array, " b"] | None = None  # of what it adds; None is 1


def encode(
    denoiser: Denoiser, ids: Ids, concept_mask: ConceptMask | None = None
) -> Prompt:
    """The prompt of token ids, read by the denoiser's own text encoder.

    A prompt that marks no concept has nothing that changes.
    """
    if denoiser.words and concept_mask is not None:
        return Prompt(None, concept_mask, ids)
    spec = denoiser.spec
    text = clip_text(
        denoiser.params["text_encoder"], spec.text_encoder, ids, compute=spec.compute
    )
    return Prompt(text, concept_mask)


def encode_at(
    denoiser: Denoiser, prompt: Prompt, t: Float[Array, ""] | Float[Array, " b"]
) -> Prompt:
    """The prompt with its text as it is at timestep `t`, one for all rows or each."""
    if prompt.text is not None:
        return prompt
    spec, (b, _) = denoiser.spec, prompt.ids.shape
    layers = 1
    if any(words.by_layer for words in denoiser.words):
        layers = len(cross_sites(denoiser.params["unet"]))
    # One call of the encoder for all layers.
    layer = jnp.repeat(jnp.arange(layers), b)
    ids = jnp.tile(prompt.ids, (layers, 1))
    concept_mask = jnp.tile(prompt.concept_mask, (1, layers, 1))
    t = jnp.tile(jnp.broadcast_to(t, b), layers)

    def rewrite(x: Text) -> Text:
        for words in denoiser.words:
            x = words.embed(x, concept_mask, t, layer)
        return x

    params = denoiser.params["text_encoder"]
    text = clip_text(
        params, spec.text_encoder, ids, rewrite=rewrite, compute=spec.compute
    )
    for words in denoiser.words:
        text = words.after(text, concept_mask, t, layer)
    if layers > 1:
        text = text.reshape(layers, b, *text.shape[1:])
    return Prompt(text, prompt.concept_mask)


def encode_hint(
    denoiser: Denoiser,
    pixels: Float[Array, "b height width c"],
    strength: Float[Array, " b"] | None = None,
) -> Hint:
    """The hint of pictures in [0, 1], as the denoiser's ControlNet reads it.

    Raises ValueError for a denoiser that has none, or a picture that does not fit it.
    """
    if CONTROLNET not in denoiser.params:
        raise ValueError("A hint is shown to a model that has no ControlNet.")
    spec = denoiser.spec
    params = denoiser.params[CONTROLNET]
    features = embed_hint(params, spec.controlnet, pixels, compute=spec.compute)
    return Hint(features, strength)


def with_controlnet(
    denoiser: Denoiser, params: Params, config: ControlNetConfig
) -> Denoiser:
    """The denoiser, and what it follows, with a ControlNet."""
    reference = denoiser.reference
    if reference is not None:
        reference = with_controlnet(reference, params, config)
    return denoiser.replace(
        params={**denoiser.params, CONTROLNET: params},
        spec=dataclasses.replace(denoiser.spec, controlnet=config),
        reference=reference,
    )


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
    """(what the UNet itself says, noise or velocity; the probabilities kept).

    `controls` follow the denoiser's own; `maps`, {stream: {site: probabilities}}, are
    what they may borrow. A `hint` is what its ControlNet follows, which reads the same
    text, but which no control acts on.
    """
    prompt = encode_at(denoiser, prompt, t)
    if uses_reference(denoiser, prompt):
        frozen, seen = denoiser.reference, (Capture(),)
        _, captured = network(frozen, x, t, prompt, controls=seen, hint=hint)
        maps = {FROZEN: jax.lax.stop_gradient(captured), **maps}
    spec, residuals = denoiser.spec, None
    text = _by_site(denoiser, prompt.text)
    if hint is not None:
        residuals = controlnet(
            denoiser.params[CONTROLNET],
            spec.controlnet,
            x,
            t,
            text,
            hint.features,
            strength=hint.strength,
            compute=spec.compute,
        )
    return unet(
        denoiser.params["unet"],
        spec.unet,
        x,
        t,
        text,
        controls=(*denoiser.controls, *denoiser.shared_controls.values(), *controls),
        context=Context(concept_mask=prompt.concept_mask, maps=maps),
        residuals=residuals,
        compute=spec.compute,
    )


def uses_reference(denoiser: Denoiser, prompt: Prompt) -> bool:
    """Whether the denoiser looks at its reference's maps to read this prompt."""
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
    """(the noise eps, whatever the network itself predicts; the probabilities kept)."""
    output, captured = network(
        denoiser, x, t, prompt, controls=controls, maps=maps, hint=hint
    )
    return to_eps(denoiser.spec.schedule, output, x, t), captured


def _by_site(denoiser: Denoiser, text: Array):
    """The text, or a function of the site where each reads its own."""
    if text.ndim == 3:
        return text
    number = {name: i for i, name in enumerate(cross_sites(denoiser.params["unet"]))}
    text = denoiser.spec.compute.cast(text)
    return lambda site: text[number[site.name]]
