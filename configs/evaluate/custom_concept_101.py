"""CustomConcept101 (Kumari et al. 2023): 101 single concepts.

    python -m personax.evaluate --config configs/evaluate/custom_concept_101.py \
        --config.subjects.source custom_concept_101:DIR --workdir runs/cc101

DIR is customconcept101/ of github.com/adobe-research/custom-diffusion with
benchmark_dataset.zip unpacked in it. 20 prompts per concept with 5 pictures each:
100 per concept, 10,100 per row. Stable Diffusion 1.4; "DDPM" with 50 steps (DDIM with
eta 1) or 200 (--config.draw.steps 200), guidance 6.

DreamBooth trains at 5e-6 with a batch of 2, Textual Inversion with its authors'
settings; Custom Diffusion and DreamBooth have generated regularisation.

| published | steps | CLIP-T | CLIP-I | DINO-I |
|---|---|---|---|---|
| Textual Inversion | 50 | .6117 | .7530 | .5128 |
| DreamBooth | 50 | .7514 | .7521 | .5541 |
| Custom Diffusion | 50 | .7583 | .7456 | .5335 |
| Textual Inversion | 200 | .6126 | .7524 | .5111 |
| DreamBooth | 200 | .7522 | .7520 | .5533 |
| Custom Diffusion | 200 | .7602 | .7440 | .5311 |

From the set's README; CLIP-T is CLIPScore, 2.5 times the cosine.
"""

from ml_collections import ConfigDict

from configs.evaluate import sd15
from configs.evaluate.custom_diffusion import RARE, TEXTUAL_INVERSION
from configs.evaluate.sd15 import row


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.report.title = "CustomConcept101"
    config.base = "CompVis/stable-diffusion-v1-4"
    config.subjects.source = "custom_concept_101:custom-diffusion/customconcept101"
    config.images = 5
    config.draw.guidance = 6.0
    config.draw.eta = 1.0
    config.rows = ConfigDict(
        {
            "textual_inversion": row("sd15_textual_inversion", **TEXTUAL_INVERSION),
            "dreambooth": row("sd15_dreambooth", concept=RARE),
            "custom_diffusion": row("sd15_custom_diffusion"),
        },
        sort_keys=False,
    )
    return config
