"""Defaults of the protocols on Stable Diffusion; common.py documents every key.

The metrics' networks are local folders: --config.judges.clip DIR
(openai/clip-vit-base-patch32 in all of these papers that state it) and
--config.judges.dino DIR (facebook/dino-vits16). The protocols have not been run by us;
the values in their docstrings are the papers'.
"""

from ml_collections import ConfigDict

from configs.evaluate import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.base = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.draw.steps = 50
    config.draw.guidance = 7.5
    config.draw.batch = 4
    config.together = 1  # gradients of several UNets rarely fit one device
    config.judges.clip = config.judges.classifier = ""
    return config


def row(name: str, **changes) -> dict:
    """A row that trains configs/NAME.py with these changes."""
    return {"config": f"configs/{name}.py", "changes": changes}
