"""A pretrained ControlNet, from a directory or the Hub to a `ControlNet`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import struct

from personax.core.tree import nest
from personax.core.typing import Params
from personax.loading import files, names
from personax.loading.place import Shardings, place
from personax.networks.controlnet import ControlNetConfig, init_controlnet

_STEM = "diffusion_pytorch_model"


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
) -> ControlNet:
    """The ControlNet at `source`, in `param_dtype` and `sharding` on device.

    `source` is a directory with config.json and diffusion_pytorch_model.safetensors, as
    diffusers writes it, or a Hugging Face id. The other arguments are `load_base`'s.
    Raises FileNotFoundError for missing files, and ValueError for an unsupported option
    or tensors that are missing, extra or misshapen.
    """
    path = files.find_network(source, _STEM, variant=variant, allow_pickle=allow_pickle)
    config = _read_config(path)
    template: Mapping[str, Any] = names.template(init_controlnet, config)
    stored = files.open_weights(path, _STEM, variant=variant, allow_pickle=allow_pickle)
    stored_names = names.diffusers_names("controlnet", template, stored)
    match = names.match(template, stored_names, stored)
    names.report(str(source), [match])
    arrays = place(match.tensors, template, dtype=param_dtype, sharding=sharding)
    return ControlNet(nest(arrays), config)


def _read_config(folder: Path) -> ControlNetConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json; a ControlNet in diffusers' layout is a "
            f"directory with that and {_STEM}.safetensors."
        )
    values = files.read_json(path)
    kind = values.get("_class_name", "ControlNetModel")
    if kind != "ControlNetModel":
        raise ValueError(f"{path} describes a {kind}, not a ControlNetModel.")
    return ControlNetConfig.from_json(values)
