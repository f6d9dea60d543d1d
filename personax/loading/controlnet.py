"""A pretrained ControlNet, from a directory or the Hub to a `ControlNet`."""

from pathlib import Path

from flax import struct

from personax.core.tree import nest
from personax.core.typing import Params
from personax.loading.part_file import controlnet_config, open_part
from personax.loading.place import Shardings, place
from personax.networks.controlnet import ControlNetConfig
from personax.networks.unet import UNetConfig


@struct.dataclass
class ControlNet:
    """A ControlNet's parameters and config."""

    params: Params
    config: ControlNetConfig = struct.field(pytree_node=False)


def load_controlnet(
    source: str | Path,
    *,
    param_dtype: str = "float32",
    sharding: Shardings = None,
    variant: str | None = None,
    allow_pickle: bool = False,
    unet: UNetConfig = UNetConfig(),
) -> ControlNet:
    """The ControlNet at `source`, in `param_dtype` and `sharding` on device.

    `source` is a directory with config.json and diffusion_pytorch_model.safetensors, as
    diffusers writes it, a Hugging Face id, or one file, whose encoder is that of the
    config `unet`; see `part_file`. The other arguments are `load_base`'s.
    Raises FileNotFoundError for missing files, and ValueError for an unsupported option
    or tensors that are missing, extra or misshapen.
    """
    config, template, tensors = open_part(
        "controlnet",
        source,
        controlnet_config(unet),
        variant=variant,
        allow_pickle=allow_pickle,
    )
    arrays = place(tensors, template, dtype=param_dtype, sharding=sharding)
    return ControlNet(nest(arrays), config)
