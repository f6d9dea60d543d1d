"""Models of torch diffusers and of personax with the same weights."""

import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from personax.core.tree import flat, nest
from personax.core.typing import Params
from personax.loading import Base, embedded, load_base
from personax.networks.unet import UNetConfig, init_unet


class Pair(NamedTuple):
    """A UNet in torch and in JAX."""

    torch_model: UNet2DConditionModel
    params: Params
    config: UNetConfig


def unets(model: str, seed: int = 0) -> Pair:
    """The pair named "sd15" (random weights, full size) or "emoji" (trained, small)."""
    torch.manual_seed(seed)
    if model == "emoji":
        network = UNet2DConditionModel.from_pretrained(embedded("pipeline") / "unet")
        network = network.float()
    else:
        network = _sd15_unet()
    config = UNetConfig.from_json(dict(network.config))
    return Pair(network.eval(), to_params(network, config), config)


def pipelines(model: str, seed: int = 0) -> tuple[StableDiffusionPipeline, Base]:
    """Complete models in float32: torch's pipeline and personax's base.

    "sd15" has random weights and the embedded base's tokenizer, padded to 77 tokens.
    """
    torch.manual_seed(seed)
    if model == "emoji":
        pipeline = StableDiffusionPipeline.from_pretrained(
            embedded("pipeline"), dtype=torch.float32
        )
        base = load_base("emoji")
    else:
        pipeline = sd15_pipeline()
        with tempfile.TemporaryDirectory() as folder:
            pipeline.save_pretrained(folder)
            base = load_base(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, base


def to_params(network: UNet2DConditionModel, config: UNetConfig) -> Params:
    """The torch network's weights as personax's parameter tree."""
    state, leaves = network.state_dict(), {}
    for path in flat(jax.eval_shape(lambda: init_unet(jax.random.key(0), config))):
        *module, leaf = path.split("/")
        name = "weight" if leaf in ("kernel", "scale") else leaf
        array = state[".".join([*module, name])].numpy()
        if leaf == "kernel":
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        leaves[path] = jnp.asarray(np.ascontiguousarray(array))
    return nest(leaves)


def _sd15_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        attention_head_dim=8, cross_attention_dim=768, sample_size=64
    )


def sd15_pipeline() -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 with random weights from torch's current random state."""
    text_encoder = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    tokenizer = CLIPTokenizer.from_pretrained(
        embedded("pipeline") / "tokenizer", model_max_length=77
    )
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=CLIPTextModel(text_encoder).eval(),
        tokenizer=tokenizer,
        unet=_sd15_unet().eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
