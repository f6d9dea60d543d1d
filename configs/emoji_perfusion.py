"""Perfusion (Tewel et al. 2023) on the embedded base.

    python -m personax.train --config configs/emoji_perfusion.py

One word, initialised with its class, and its values in every cross-attention; keys are
those of the class word. The covariance of text encodings is estimated from 2,000
captions of the world. Soft masks: --config.concept.masks FOLDER.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "perfusion"
    config.method_args = ConfigDict(
        {
            "beta": 0.75,
            "tau": 0.1,
            "inference_beta": 0.65,
            "inference_tau": 0.15,
            "decay": 0.99,
            "ridge": 1e-4,
            "mask_norm": "mean",
            "min_snr": 0.0,
            "offset_noise": 0.0,
        }
    )
    config.corpus = "world:2000"
    config.concept.phrase = "{placeholder}"
    config.concept.initial = ""  # the class word
    config.prior.source = ""
    config.optimizer.learning_rate = 3e-2
    config.optimizer.learning_rates.tokens = 6e-3
    config.optimizer.weight_decay = 0.0
    config.batch = 8
    return config
