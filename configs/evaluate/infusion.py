"""Infusion's protocol (Zeng et al. 2024, sec. 5.1) on Stable Diffusion 1.5.

    python -m personax.evaluate --config configs/evaluate/infusion.py \
        --config.subjects.source dreambooth:DIR --workdir runs/infusion

25 prompts of the DreamBooth set with 5 pictures each: 125 per subject. The paper has 20
concepts of that set and of Custom Diffusion's, which it does not list; the default is
all 30 of the former. DDIM with 50 steps, guidance 8, eta 0.

| published | CLIP-T | CLIP-I | DINO | on disk |
|---|---|---|---|---|
| DreamBooth | .255 | .838 | .721 | 3.3 GB |
| DreamBooth by LoRA | .264 | .791 | .615 | 3.29 MB |
| Textual Inversion | .240 | .780 | .584 | 3 KB |
| Custom Diffusion | .256 | .800 | .643 | 57.1 MB |
| Perfusion | .242 | .729 | .505 | 100 KB |
| Infusion | .267 | .816 | .697 | 11 KB |

Zeng et al., table 1; the release's residuals take 97.5 KB in float32, ours 49 KB. The
drift of the model (Fisher divergence on captions, Wasserstein distance; sec. 5.2) is
published as curves only.
"""

from ml_collections import ConfigDict

from configs.evaluate import sd15
from configs.evaluate.sd15 import row


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.report.title = "Infusion's protocol"
    config.subjects.source = "dreambooth:dreambooth/dataset"
    config.images = 5
    config.draw.guidance = 8.0
    names = (
        "dreambooth",
        "lora",
        "textual_inversion",
        "custom_diffusion",
        "perfusion",
        "infusion",
    )
    config.rows = ConfigDict(
        {name: row(f"sd15_{name}") for name in names}, sort_keys=False
    )
    return config
