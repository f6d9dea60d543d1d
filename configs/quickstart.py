"""Custom Diffusion on the embedded base: the bundled dog, which it has never seen.

    python -m personax.train --config configs/quickstart.py

About two minutes on two CPU cores. Pictures: runs/quickstart/grid.png. Then:

    python -m personax.sample --concept runs/quickstart/concept \
        --prompt "a photo of a <v1> dog at night" --out out/dog
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.base = "emoji"
    config.seed = 0
    config.size = 0  # side of the training pictures; 0 is the base's own

    config.method = "custom_diffusion"
    config.method_args = ConfigDict({"train": "kv"})
    config.concept = ConfigDict(
        {
            "images": "dog",  # a bundled subject, or a folder of pictures
            "placeholder": "<v1>",
            "class_word": "dog",
            "prompt": "a photo of a <v1> dog",
            # A byte pair that no word of the embedded vocabulary ends in: the part that
            # the rare token "ktn" plays in Stable Diffusion's.
            "initial": "fores",
        }
    )

    config.optimizer = ConfigDict({"learning_rate": 2e-4, "weight_decay": 1e-2})
    config.batch = 8
    config.steps = 250
    config.save_every = 100
    config.log_every = 10
    config.dtype = "float32"
    config.remat = "none"

    config.preview = ConfigDict(
        {
            "prompts": (
                "a photo of a {}",
                "a photo of a {} at night",
                "a photo of a {} on a purple background",
                "a photo of a {} wearing a top hat on the beach",
            ),
            "images": 4,
            "steps": 25,
            "guidance": 3.0,
        }
    )
    return config
