"""Granularity of the class word that a concept is trained with.

    python -m experiments.claims.class_granularity \
        --config configs/claims/class_granularity.py \
        --out runs/claims/class_granularity

Huang et al. 2024 (ClassDiffusion), app. C: the loss pulls the concept to its class
word, so that word should be fine-grained. The paper varies the word in the prompt and
in the loss together, on "a <center word> sitting on the chair".

Three subjects are trained with their own class word, a broader one that the embedded
world uses for it ("an animal") and a wrong one, by ClassDiffusion with the paper's
weight of 1 and by Custom Diffusion, which uses the word only in its prompts; both
without a regularisation set, as in the release, because a set of animals would train
the class. They are prompted as "<v1> animal" and scored by the embedded CLIP against
the subject's pictures and against the prompt with the subject's own class word. Drift
is the rank of the phrase among 71 adjectives before the trained class word.

The claim holds if, for every subject, ClassDiffusion's image and text alignment are
best with the own word, then the broader, then the wrong one; the loss is the cause if
these differences are larger than Custom Diffusion's. Errors are of the mean over
subjects.
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
    return config
