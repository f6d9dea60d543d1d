"""What the protocols on Stable Diffusion share; see common.py for every key.

The networks that judge are folders of one's own:
--config.judges.clip DIR (openai/clip-vit-base-patch32 in all of these papers, as far as
they say) --config.judges.dino DIR (facebook/dino-vits16). None of these tables was
filled by us, who have no pretrained weights at hand; the numbers that their docstrings
quote are the papers'.
"""

from ml_collections import ConfigDict

from configs.evaluate import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.base = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.draw.steps = 50
    config.draw.guidance = 7.5
    config.draw.batch = 4
    config.together = 1  # several of these UNets' gradients seldom fit one device
    config.judges.clip = config.judges.classifier = ""
    return config


def row(name: str, **changes) -> dict:
    """A row that is taught by configs/NAME.py, with what differs in it."""
    return {"config": f"configs/{name}.py", "changes": changes}
