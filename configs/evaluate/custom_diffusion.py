"""Custom Diffusion's ten sets and five pairs (Kumari et al. 2023, sec. 4).

    python -m personax.evaluate --config configs/evaluate/custom_diffusion.py \
        --config.subjects.source custom_diffusion:DIR --workdir runs/custom_diffusion

DIR is a clone of github.com/adobe-research/custom-diffusion with data.zip unpacked in
it. 20 prompts with 50 pictures each: 1,000 per set; 8 prompts with 50 pictures each:
400 per pair. Stable Diffusion 1.4; "DDPM" with 50 steps, which is DDIM with eta 1, and
guidance 6. Merging preserves the captions of data/regularization_captions.txt in
data.zip (--config.merge_captions FILE).

The baselines are the paper's: Textual Inversion from the class word at 5e-3 times a
batch of 8 for 5,000 steps; DreamBooth with Custom Diffusion's rare token, batch 8 at
1e-6 (its steps are not stated; 800 here); all weights with V*, 500 steps at 1e-5. The
paper retrieves its regularisation set from LAION-400M; ours is generated, as in its
ablation (.791, .768, 34.70). It trains the moongate without V*, and also trains pairs
sequentially, which is not implemented here.

| published | text | image | KID x 1,000 |
|---|---|---|---|
| Textual Inversion | .670 | .827 | 22.27 |
| DreamBooth | .781 | .776 | 32.53 |
| all weights | .795 | .748 | 19.27 |
| Custom Diffusion | .795 | .775 | 20.96 |
| pairs: Textual Inversion | .544 | .630 | |
| pairs: DreamBooth | .783 | .695 | |
| pairs: all weights | .787 | .691 | |
| pairs: Custom Diffusion, sequential | .797 | .700 | |
| pairs: Custom Diffusion, merged | .800 | .695 | |
| pairs: Custom Diffusion, joint | .801 | .706 | |

Kumari et al., table 1. "text" is CLIPScore, 2.5 times the cosine of ViT-B/32 with the
prompt without V*. "image" is the mean cosine over all pairs of a picture and one of the
set; for pairs, the mean of the two. KID is clean-fid's, of
prompts without V*, against 500 retrieved pictures.
"""

from ml_collections import ConfigDict

from configs.evaluate import sd15
from configs.evaluate.sd15 import row

# Captions of data.zip that a merge preserves.
CAPTIONS = "custom-diffusion/data/regularization_captions.txt"
# V* in DreamBooth's prompts, "photo of V* dog", is the rare token itself.
RARE = {
    "placeholder": "<v1>",
    "phrase": "{placeholder} {class_word}",
    "prompt": "photo of {}",
}


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.report.title = "Custom Diffusion's ten sets"
    config.base = "CompVis/stable-diffusion-v1-4"
    config.subjects.source = "custom_diffusion:custom-diffusion"
    config.images = 50
    config.draw.guidance = 6.0
    config.draw.eta = 1.0
    config.merge_captions = CAPTIONS
    config.rows = ConfigDict(
        {
            "textual_inversion": row("sd15_textual_inversion", **TEXTUAL_INVERSION),
            "dreambooth": row(
                "sd15_dreambooth",
                concept=RARE,
                optimizer={"learning_rate": 1e-6},
                batch=4,
            ),
            "all_weights": row(
                "sd15_custom_diffusion",
                method_args={"train": "unet"},
                optimizer={"learning_rate": 1e-5, "scale_by_batch": False},
                steps=500,
            ),
            "custom_diffusion": row("sd15_custom_diffusion"),
        },
        sort_keys=False,
    )
    config.pair_rows = ConfigDict(
        {
            "textual_inversion_added": {"of": "textual_inversion", "way": "add"},
            "dreambooth_joint": {"of": "dreambooth", "way": "joint"},
            "all_weights_joint": {"of": "all_weights", "way": "joint"},
            "custom_diffusion_merged": {"of": "custom_diffusion", "way": "merge"},
            "custom_diffusion_joint": {"of": "custom_diffusion", "way": "joint"},
        },
        sort_keys=False,
    )
    return config


# Gal et al. 2022: 5e-3 times the batch.
TEXTUAL_INVERSION = {
    "optimizer": {"learning_rate": 5e-3, "scale_by_batch": True},
    "batch": 8,
    "accumulate": 1,
    "steps": 5000,
}
