"""How much does ClassDiffusion's loss have to weigh, and for how long?

    python -m experiments.claims.semantic_weight \
        --config configs/claims/semantic_weight.py --out runs/claims/semantic_weight

Huang et al. 2024 (ClassDiffusion), fig. 8 and the table of weights: on "a photo of a
dog wearing a headphone", of one seed, the headphone fades at small weights (0.1 and
0.01) with 750 training steps and is gone by 1,500, and at 100 it stays; over the
DreamBooth set CLIP-T rises from .299 to .301 and DINO-I falls from .677 to .661 as the
weight goes from 0.01 to 100.

Two live subjects are taught with each weight (0 is Custom Diffusion), without a
regularisation set as in the release, and drawn along the way. Heat maps over weight and
steps, means over the subjects: alignment with the subject's pictures and with the
prompt by the embedded CLIP, and the share of pictures that show what their prompt asks,
two accessories among it, by the classifier of renders.

The claim holds if, for each subject and at the most steps, text alignment and what is
shown are larger for the largest weight than for 0 and 0.01 by more than the errors in
points.csv, and image alignment smaller; and if small weights lose with steps what large
ones keep.

With four of the six weights it took 9 minutes on one core.
"""

from ml_collections import ConfigDict

from configs.claims import pictures


def get_config() -> ConfigDict:
    config = pictures.get_config()
    config.prompts = (
        "a photo of a {} wearing a headphone",
        "a photo of a {} wearing a top hat",
        "a photo of a {} at night",
        "a photo of a {} on a purple background",
        "a photo of a blue {}",
    )
    config.subjects = ("dog", "penguin")
    config.changes = ConfigDict({"prior": {"source": ""}})  # in emoji_class_diffusion
    config.weights = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
    config.steps = (100, 200, 400)
    return config
