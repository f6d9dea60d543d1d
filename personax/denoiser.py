"""A denoiser: what `bind` returns, what sampling and losses consume."""

from typing import NamedTuple

from flax import struct
from jaxtyping import Array, Float

from personax.diffusion.schedule import to_eps
from personax.networks.attention import Context, Control
from personax.networks.clip_text import clip_text
from personax.networks.unet import unet
from personax.spec import Spec
from personax.typing import Ids, Latents, Params, Probs, Text, Where


@struct.dataclass
class Denoiser:
    """Parameters, the controls in their attention, and what is static about both."""

    params: Params
    controls: tuple[Control, ...] = ()
    spec: Spec = struct.field(pytree_node=False, default=Spec())


class Prompt(NamedTuple):
    """An encoded prompt: computed once, outside the sampler's scan."""

    text: Text
    where: Where | None = None  # which of its tokens are concept k's


def encode(denoiser: Denoiser, ids: Ids, where: Where | None = None) -> Prompt:
    """The prompt of token ids, read by the denoiser's own text encoder."""
    spec = denoiser.spec
    text = clip_text(
        denoiser.params["text_encoder"], spec.text_encoder, ids, compute=spec.compute
    )
    return Prompt(text, where)


def network(
    denoiser: Denoiser, x: Latents, t: Float[Array, " b"], prompt: Prompt
) -> tuple[Latents, dict[str, Probs]]:
    """(what the UNet itself says, noise or velocity; the probabilities kept)."""
    return unet(
        denoiser.params["unet"],
        denoiser.spec.unet,
        x,
        t,
        prompt.text,
        controls=denoiser.controls,
        context=Context(where=prompt.where),
        compute=denoiser.spec.compute,
    )


def predict(
    denoiser: Denoiser, x: Latents, t: Float[Array, " b"], prompt: Prompt
) -> tuple[Latents, dict[str, Probs]]:
    """(the noise eps, whatever the network itself predicts; the probabilities kept)."""
    output, maps = network(denoiser, x, t, prompt)
    return to_eps(denoiser.spec.schedule, output, x, t), maps
