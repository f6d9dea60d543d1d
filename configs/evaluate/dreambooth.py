"""DreamBooth's protocol (Ruiz et al. 2022, sec. 4) on Stable Diffusion 1.5.

    python -m personax.evaluate --config configs/evaluate/dreambooth.py \
        --config.subjects.source dreambooth:DIR --workdir runs/dreambooth

DIR is dataset/ of github.com/google/dreambooth: 30 subjects (21 objects, 9 live), 25
prompts for each kind from its own prompts_and_classes.txt, 4 pictures: 3,000 a row.
The paper does not say how Stable Diffusion was sampled; here it is diffusers' 50 steps
with guidance 7.5, DDIM.

DreamBooth has the paper's 1,000 steps at 5e-6 and 1,000 pictures of the class; it does
not give its batch, which here is one and one, as diffusers'. Textual Inversion is
diffusers' example, LoRA is in no table of the paper.

| published | DINO | CLIP-I | CLIP-T |
|---|---|---|---|
| real pictures | .774 | .885 | |
| DreamBooth, Imagen | .696 | .812 | .306 |
| DreamBooth, Stable Diffusion | .668 | .803 | .305 |
| Textual Inversion, Stable Diffusion | .569 | .780 | .255 |

Ruiz et al., table 1; CLIP-T is the plain cosine, and which CLIP is not said.
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
