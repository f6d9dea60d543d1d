"""The embedded base itself: a text-conditional UNet on rendered scenes.

    python -m personax.train --config configs/emoji_base.py --workdir runs/base

Continues from the shipped weights with the shipped autoencoder and text encoder, both
frozen, in all seven styles of the world, without the pairs of the bundled subjects. A
cache of latents and encoded captions makes the steps faster:

    python -m personax.cache --config configs/emoji_base.py --text --out runs/scenes
    ... --config.stream.source cache:runs/scenes

To train from scratch: --config.method_args.fresh True
--config.optimizer.learning_rate 7e-4 --config.steps 12000 (1.5 million samples; on a
GPU ten times as many, in --config.dtype bfloat16). `python -m benchmarks.base_quality
--concept runs/base/concept` measures its quality, and `python -m personax.export
runs/base/concept --out DIR --dtype float16` writes it as a pipeline.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "dreambooth"
    config.method_args = ConfigDict(
        {
            "train": "unet",
            "text_encoder": False,
            "words": False,
            "fresh": False,
            "min_snr": 5.0,
            "offset_noise": 0.0,
        }
    )
    config.stream.source = "scenes:240000:styles=all"
    config.stream.captions = "own"
    config.data.caption_dropout = 0.1
    # The captions' own words; there is no concept to name.
    config.concept.images = config.concept.placeholder = config.concept.initial = ""
    config.concept.class_word = "dog"  # unused
    config.prior.source = ""
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = 100
    config.batch = 128
    config.steps = 6000
    config.ema_decay = 0.999
    config.log_every = 50
    config.save_every = 500
    config.preview.prompts = (
        "a photo of a dog wearing a crown on the beach",
        "a photo of a cat wearing glasses at night",
        "a photo of a red automobile in the snow",
        "a photo of a panda in glossy style on a purple background",
        "a photo of a strawberry next to a rocket in the jungle",
    )
    return config
