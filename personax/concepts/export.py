"""Export a concept as an ordinary UNet or ControlNet, in diffusers' layout."""

import pathlib

from personax.concepts.bind import Model
from personax.core.tree import count, flat
from personax.core.typing import Params
from personax.diffusion.denoiser import CONTROLNET
from personax.loading import Base
from personax.loading.write import write_controlnet, write_pipeline
from personax.methods.parts.folded_null_text import reads_text, unfold


def export(
    model: Model, base: Base, pipeline: pathlib.Path, out: pathlib.Path, *, dtype: str
) -> tuple[str, int]:
    """Write a bound concept to `out`: its ControlNet, or a pipeline with its UNet.

    The other components are copied from the base's `pipeline`. Returns (what was
    written, its number of parameters). Raises ValueError for a concept that is more
    than a UNet; see `plain_unet`.
    """
    added = model.denoiser.params.get(CONTROLNET)
    if added:
        config = model.denoiser.spec.controlnet
        assert config is not None
        write_controlnet(out, added, config, dtype=dtype)
        return "ControlNet", count(added)
    unet = plain_unet(model, base)
    write_pipeline(out, pipeline, unet, dtype=dtype)
    return "UNet", count(unet)


def plain_unet(model: Model, base: Base) -> Params:
    """The model's UNet as an ordinary UNet.

    A UNet without text becomes one that ignores it. Raises ValueError for a concept
    that changes the text encoder or has attention controls or token conditioners.
    """
    denoiser = model.denoiser
    text, own = (flat(each.params["text_encoder"]) for each in (denoiser, base))
    changed = any(leaf is not own.get(path) for path, leaf in text.items())
    controls = (*denoiser.controls, *denoiser.shared_controls.values())
    if changed or denoiser.token_conditioners or controls or denoiser.reference:
        raise ValueError(
            "The concept is more than a UNet: a pipeline's UNet cannot hold its tokens "
            "or attention controls."
        )
    if reads_text(denoiser.params):
        return denoiser.params["unet"]
    return unfold(denoiser.params, base.params)["unet"]
