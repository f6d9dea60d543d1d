"""CustomConcept101 (Kumari et al. 2023): its 101 pairs of concepts.

    python -m personax.evaluate --config configs/evaluate/custom_concept_101_pairs.py \
        --config.subjects.source custom_concept_101:DIR --workdir runs/cc101_pairs

As custom_concept_101.py, for the pairs of dataset_multiconcept.json, all of them by
default: 12 prompts per pair. The paper does not give the number of pictures; it is 5
here, as for single concepts: 60 per pair, 6,060 per row. Merging requires the single
concepts of custom_concept_101.py's rows.

| published | steps | CLIP-T | CLIP-I | DINO-I |
|---|---|---|---|---|
| DreamBooth, joint | 50 | .7366 | .6636 | .3849 |
| Custom Diffusion, merged | 50 | .7599 | .6595 | .3684 |
| Custom Diffusion, joint | 50 | .7534 | .6704 | .3799 |
| DreamBooth, joint | 200 | .7383 | .6625 | .3816 |
| Custom Diffusion, merged | 200 | .7627 | .6577 | .3650 |
| Custom Diffusion, joint | 200 | .7567 | .6680 | .3760 |

From the set's README; CLIP-T is CLIPScore, 2.5 times the cosine; CLIP-I and DINO-I are
means over the two concepts.
"""

from ml_collections import ConfigDict

from configs.evaluate import custom_concept_101
from configs.evaluate.custom_diffusion import CAPTIONS


def get_config() -> ConfigDict:
    config = custom_concept_101.get_config()
    config.report.title = "CustomConcept101, pairs"
    config.singles = False
    config.merge_captions = CAPTIONS
    del config.rows["textual_inversion"]
    config.pair_rows = ConfigDict(
        {
            "dreambooth_joint": {"of": "dreambooth", "way": "joint"},
            "custom_diffusion_merged": {"of": "custom_diffusion", "way": "merge"},
            "custom_diffusion_joint": {"of": "custom_diffusion", "way": "joint"},
        },
        sort_keys=False,
    )
    return config
