"""How fine must the class word be that a concept is taught with?

    python -m experiments.claims.class_granularity \
        --config configs/claims/class_granularity.py \
        --out runs/claims/class_granularity

Huang et al. 2024 (ClassDiffusion), app. C: the loss pulls the concept to the class word
that it is given, so that word should be fine-grained; there the word varies in the
prompt and in the loss at once, on "a <center word> sitting on the chair".

Three subjects are taught with their own class word, a broader one that the embedded
world uses for it ("an animal") and a wrong one, by ClassDiffusion with the paper's
weight of 1 and by Custom Diffusion, which has the word in its prompts alone; both
without a regularisation set, as in the release, for one of animals would teach the
class by itself. They are drawn as "<v1> animal" and judged by the embedded CLIP against
the subject's pictures and, with the subject's own class word in its place, the prompt.
The drift is the rank of the phrase among 71 adjectives before the word that was taught.

The claim holds if, for every subject, ClassDiffusion's alignment, image and text, is
best with the own word, then the broader, then the wrong one; and it is the loss's doing
if these differences are larger than Custom Diffusion's. Errors are of the subjects'
mean.

Estimated, from a step of eight pictures in 0.14 s and a UNet evaluation of sixteen
pictures in 0.2 s, at eight minutes on two idle cores.
"""

from ml_collections import ConfigDict

from configs.claims import pictures

METHODS = {"custom_diffusion": {}, "class_diffusion": {"semantic_weight": 1.0}}


def get_config() -> ConfigDict:
    config = pictures.get_config()
    config.methods = ConfigDict(METHODS, sort_keys=False)  # {method: its arguments}
    # {subject: a class word of another kind}
    config.wrong = ConfigDict(
        {"dog": "backpack", "backpack": "frog", "teddy_bear": "pizza"}, sort_keys=False
    )
    config.changes = ConfigDict({"prior": {"source": ""}})  # in configs/emoji_*.py
    config.steps = 250
    config.together = 3  # subjects that are taught at once
    return config
