"""Custom Diffusion (Kumari et al. 2023) on the embedded base.

    python -m personax.train --config configs/emoji_custom_diffusion.py

K/V of every cross-attention and <v1>, with a regularisation set of rendered scenes.
Size augmentation: --config.data.augment paper --config.data.words prefix
--config.concept.prompt "photo of a {}", the form of distance in the world's captions
("a far away photo of a dog"); at 8x8 latents the paper's range of sizes, 0.4 to 1,
leaves every mask its margin.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "custom_diffusion"
    config.method_args = ConfigDict(
        {
            "train": "kv",
            "rank": 0,
            "words": True,
            "mask_norm": "mean",
            "min_snr": 0.0,
            "offset_noise": 0.0,
        }
    )
    return config
