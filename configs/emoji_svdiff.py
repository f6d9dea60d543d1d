"""SVDiff (Han et al. 2023) on the embedded base.

    python -m personax.train --config configs/emoji_svdiff.py

A shift of every singular value of the UNet; "<v1>" is an alias of a rare token. Without
biases and norms: --config.method_args.vectors=False. Two subjects, side by side in half
of the examples: --config.concepts_list configs/emoji_two_concepts.json
--config.data.cut_mix 0.5 --config.steps 500.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "svdiff"
    config.method_args = ConfigDict(
        {
            "scale": 1.0,
            "vectors": True,
            "text_encoder": False,
            "words": False,
            "min_snr": 0.0,
            "offset_noise": 0.0,
        }
    )
    config.prior.weight = 1.0
    config.optimizer.learning_rate = 1e-2
    config.optimizer.learning_rates.vectors = 1e-5
    return config
