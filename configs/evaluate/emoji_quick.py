"""A short version of the emoji protocol, which tests every part of an evaluation.

    python -m personax.evaluate --config configs/evaluate/emoji_quick.py \
        --workdir runs/quick

6 min 13 s on two cores, compilation included. Three subjects, one pair, five of the
prompts, two pictures each, 10 steps of DDIM; five methods with 50 training steps, and
every way to combine concepts. Its values are not meaningful: training is too short, and
there are only 30 pictures per row.
"""

from ml_collections import ConfigDict

from configs.evaluate import emoji, prompts

METHODS = (
    "custom_diffusion",
    "class_diffusion",
    "textual_inversion",
    "lora",
    "infusion",
)


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.report.title = "Three subjects, short version"
    config.subjects.names = ("dog", "penguin", "backpack")
    config.pairs = (("dog", "penguin"),)
    # Plain, a place, a colour, a second object; for live subjects an accessory.
    config.prompts.live = tuple(prompts.EMOJI_LIVE[i] for i in (0, 1, 7, 11, 15))
    config.prompts.object = tuple(prompts.EMOJI_OBJECT[i] for i in (0, 1, 7, 11, 15))
    config.prompts.pair = prompts.EMOJI_PAIR[:2]
    config.images = config.report.images = 2
    config.draw.steps = 10
    config.together = 3
    config.bootstrap = 50
    config.rows = ConfigDict(
        {name: config.rows[name] for name in METHODS}, sort_keys=False
    )
    for row in config.rows.values():
        row.changes.steps = 50
    return config
