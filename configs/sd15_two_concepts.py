"""Custom Diffusion of several concepts jointly, on Stable Diffusion 1.5.

    python -m personax.train --config configs/sd15_two_concepts.py \
        --config.base DIR --config.concepts_list concepts.json

The list has diffusers' keys: [{"instance_prompt": "photo of a <v1> dog",
"class_prompt", "instance_data_dir", "class_data_dir"}, …], and optionally
"placeholder", "class_word" and "initial". 500 steps, the rest as for one concept
(Kumari et al. 2023, sec. 4.2).
"""

from ml_collections import ConfigDict

from configs import sd15_custom_diffusion


def get_config() -> ConfigDict:
    config = sd15_custom_diffusion.get_config()
    config.concepts_list = "concepts.json"
    config.steps = 500
    config.preview.prompts = ("photo of a {}",)
    return config
