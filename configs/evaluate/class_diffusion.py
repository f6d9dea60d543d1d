"""ClassDiffusion's protocol (Huang et al. 2024, sec. 4) on Stable Diffusion 1.5.

    python -m personax.evaluate --config configs/evaluate/class_diffusion.py \
        --config.subjects.source dreambooth:DIR --workdir runs/class_diffusion

25 prompts of the DreamBooth set with 20 pictures each: 500 per subject. The paper has
20 subjects, which it does not list; the default is all 30 of the set. Select some with
--config.subjects.names '("dog","cat")'. 100 steps with guidance 6; the release passes
eta 1, which its scheduler, PLMS, ignores.

Of its pairs, cat + sunglasses and dog + backpack are in the set; bear + barn is not.
Their prompts are not published; those of prompts.py are ours. The paper trains pairs
for 800 steps; joint training here has the steps of both subjects, 1,000.

| published | CLIP-T | CLIP-I | DINO-I | BLIP2-T | TIFA |
|---|---|---|---|---|---|
| DreamBooth | .249 | .855 | .700 | .295 | .559 |
| Textual Inversion | .242 | .825 | .631 | .308 | .505 |
| Custom Diffusion | .286 | .837 | .693 | .416 | .746 |
| NeTI | .290 | .838 | .648 | .329 | .607 |
| SVDiff | .293 | .834 | .606 | .418 | .835 |
| ProSpect | .294 | .815 | .588 | | |
| ClassDiffusion | .300 | .828 | .673 | .460 | .843 |
| pairs: Custom Diffusion | .282 | .813 | .636 | .380 | |
| pairs: ClassDiffusion | .320 | .821 | .604 | .477 | |

Huang et al., tables 1 and 2. CLIP-T is the cosine with the class word in place of
the concept; "BLIP2-T" is the cosine of the first generation of BLIP
(--config.judges.blip DIR, Salesforce/blip-itm-large-coco), as the release computes it.
"""

from ml_collections import ConfigDict

from configs.evaluate import prompts, sd15
from configs.evaluate.sd15 import row


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.report.title = "ClassDiffusion's protocol"
    config.subjects.source = "dreambooth:dreambooth/dataset"
    config.pairs = (("cat", "pink_sunglasses"), ("dog", "backpack"))
    config.prompts.pair = prompts.PHOTO_PAIR
    config.images = 20
    config.draw.solver = "plms"
    config.draw.steps = 100
    config.draw.guidance = 6.0
    names = (
        "dreambooth",
        "textual_inversion",
        "custom_diffusion",
        "neti",
        "svdiff",
        "prospect",
        "class_diffusion",
    )
    config.rows = ConfigDict(
        {name: row(f"sd15_{name}") for name in names}, sort_keys=False
    )
    config.pair_rows = ConfigDict(
        {
            "custom_diffusion_joint": {"of": "custom_diffusion", "way": "joint"},
            "class_diffusion_joint": {"of": "class_diffusion", "way": "joint"},
        },
        sort_keys=False,
    )
    return config
