"""CLIP: two towers projected into one space (Radford et al. 2021)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Ids, Images, Key, Params
from personax.networks.clip_text import (
    NEUTRAL,
    UNUSED,
    CLIPTextConfig,
    clip_text,
    init_clip_text,
    pool_text,
)
from personax.networks.clip_vision import (
    CLIPVisionConfig,
    clip_vision,
    init_clip_vision,
    pool_vision,
)
from personax.networks.compute import Compute
from personax.networks.config import read_config, section
from personax.networks.layers import dense, init_dense, keys_for


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """transformers' CLIPModel; the defaults are ViT-L/14's."""

    text_config: CLIPTextConfig = CLIPTextConfig()
    vision_config: CLIPVisionConfig = CLIPVisionConfig()
    projection_dim: int = 768

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CLIPConfig":
        """The config of a published config.json."""
        towers = {
            "text_config": CLIPTextConfig.from_json(_tower(values, "text_config")),
            "vision_config": CLIPVisionConfig.from_json(
                _tower(values, "vision_config")
            ),
        }
        # 512 is transformers' default.
        values = {"projection_dim": 512, **values, **towers}
        ignored = UNUSED | {
            "logit_scale_init_value",
            "text_config_dict",
            "vision_config_dict",
        }
        return read_config(
            cls, values, neutral=NEUTRAL, ignored=ignored, name="CLIPModel"
        )


def text_features(
    params: Params, config: CLIPConfig, ids: Ids, *, compute: Compute = Compute()
) -> Float[Array, "b d"]:
    """Each text's feature in the joint space, float32, not normalised."""
    states = clip_text(params, config.text_config, ids, compute=compute)
    pooled = pool_text(config.text_config, ids, states)
    return dense(params["text_projection"], pooled)


def image_features(
    params: Params, config: CLIPConfig, images: Images, *, compute: Compute = Compute()
) -> Float[Array, "b d"]:
    """Each preprocessed image's feature in the joint space, float32, not normalised."""
    states = clip_vision(params, config.vision_config, images, compute=compute)
    pooled = pool_vision(params, config.vision_config, states)
    return dense(params["visual_projection"], pooled)


def init_clip(key: Key, config: CLIPConfig) -> Params:
    """Both towers, their projections and the logarithm of the logits' scale."""
    keys = keys_for(key, "text", "vision", "text_projection", "visual_projection")
    width = config.projection_dim
    return {
        **init_clip_text(keys["text"], config.text_config),
        **init_clip_vision(keys["vision"], config.vision_config),
        "text_projection": init_dense(
            keys["text_projection"], config.text_config.hidden_size, width, bias=False
        ),
        "visual_projection": init_dense(
            keys["visual_projection"],
            config.vision_config.hidden_size,
            width,
            bias=False,
        ),
        "logit_scale": jnp.float32(math.log(1 / 0.07)),  # Sec. 2.5
    }


def _tower(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    # OpenAI's files have both; transformers lets the older `_dict` replace the other.
    older = f"{name}_dict"
    return section(values, name if values.get(older) is None else older)
