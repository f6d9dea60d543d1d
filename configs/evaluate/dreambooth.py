"""DreamBooth's protocol (Ruiz et al. 2022, sec. 4) on Stable Diffusion 1.5.

    python -m personax.evaluate --config configs/evaluate/dreambooth.py \
        --config.subjects.source dreambooth:DIR --workdir runs/dreambooth

DIR is dataset/ of github.com/google/dreambooth: 30 subjects (21 objects, 9 live), 25
prompts per kind from its prompts_and_classes.txt, 4 pictures each: 3,000 per row. The
paper does not state the sampler for Stable Diffusion; here it is DDIM with diffusers'
defaults, 50 steps and guidance 7.5.

DreamBooth has the paper's 1,000 steps at 5e-6 and 1,000 pictures of the class; the
batch, which the paper does not state, is one subject and one class picture, as in
diffusers. Textual Inversion is diffusers' example; LoRA is not in the paper's tables.

| published | DINO | CLIP-I | CLIP-T |
|---|---|---|---|
| real pictures | .774 | .885 | |
| DreamBooth, Imagen | .696 | .812 | .306 |
| DreamBooth, Stable Diffusion | .668 | .803 | .305 |
| Textual Inversion, Stable Diffusion | .569 | .780 | .255 |

Ruiz et al., table 1; CLIP-T is the cosine; the CLIP model is not stated.
"""

from ml_collections import ConfigDict

from configs.evaluate import sd15
from configs.evaluate.sd15 import row


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.report.title = "DreamBooth's protocol"
    config.subjects.source = "dreambooth:dreambooth/dataset"
    config.rows = ConfigDict(
        {
            "dreambooth": row("sd15_dreambooth", steps=1000, prior={"count": 1000}),
            "textual_inversion": row("sd15_textual_inversion"),
            "lora": row("sd15_lora"),
        },
        sort_keys=False,
    )
    return config
